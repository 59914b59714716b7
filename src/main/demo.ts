import type { MachineContext } from './machine.ts'
import { up } from './machine.ts'
export async function demo(context: MachineContext, _options: { wait: boolean }): Promise<number> {
  await up(context)
  return 0
}
