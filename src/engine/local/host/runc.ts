import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Runtime } from './runtime.ts'
import { runTool } from './tool.ts'

/** https://github.com/opencontainers/runc */
export class Runc implements Runtime {
  readonly tool = 'runc'
  readonly version: string
  readonly prefix: readonly string[] = []
  readonly program = '/usr/sbin/runc'
  readonly programArgs: readonly string[]
  private readonly root: string

  constructor({ root, version }: { root: string; version: string }) {
    this.root = root
    this.version = version
    this.programArgs = [`--root=${root}`]
  }

  execCommand(
    id: string,
    { processFile, pidFile, log }: { processFile: string; pidFile: string; log: string },
  ): string[] {
    return [
      this.program,
      ...this.programArgs,
      `--log=${log}`,
      'exec',
      '--process',
      processFile,
      '--pid-file',
      pidFile,
      id,
    ]
  }

  async begin(id: string): Promise<void> {
    await runTool([this.program, ...this.programArgs, 'start', id])
  }

  async forget(id: string): Promise<void> {
    if (existsSync(join(this.root, id)))
      await runTool([this.program, ...this.programArgs, 'delete', '--force', id])
  }
}
