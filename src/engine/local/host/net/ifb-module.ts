import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { HELPER_TIMEOUT_MS } from './limits.ts'

export type IfbModuleOptions = {
  proc?: string
  sys?: string
  run?: (program: string, args: readonly string[]) => void
}

/**
 * Loads the module of the links on which packets wait, where the kernel has it as one. Left to the kernel, which loads it
 * for the first such link, it makes two of its own in the machine's namespace, `ifb0` and `ifb1`, that nobody asked for.
 * Where it is built in or loaded already, those that are there are somebody else's. Safe to repeat.
 */
export function ensureIfbModule({
  proc = '/proc',
  sys = '/sys',
  run = (program, args) =>
    void execFileSync(program, args, { stdio: 'ignore', timeout: HELPER_TIMEOUT_MS, killSignal: 'SIGKILL' }),
}: IfbModuleOptions = {}): void {
  if (existsSync(`${sys}/module/ifb`) || !existsSync(`${proc}/modules`)) return
  try {
    // What the kernel itself would start.
    const program = readFileSync(`${proc}/sys/kernel/modprobe`, 'utf8').trim()
    if (program.startsWith('/')) run(program, ['-q', 'ifb', 'numifbs=0'])
  } catch {
    // No such module, or none may be loaded: whoever makes the link hears it from the kernel.
  }
}
