import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { observeProcess } from '../observe/processes.ts'
import { signalProcess } from './processes.ts'
import type { ExecFiles, Runtime } from './runtime.ts'
import { runTool } from './tool.ts'

const SIGKILL = 9

/** https://github.com/opencontainers/runc */
export class Runc implements Runtime {
  readonly tool = 'runc'
  readonly terminals = 'passed-on'
  readonly version: string
  readonly prefix: readonly string[]
  readonly program = '/usr/sbin/runc'
  readonly programArgs: readonly string[]
  private readonly root: string

  constructor({ root, prefix, version }: { root: string; prefix: readonly string[]; version: string }) {
    this.root = root
    this.prefix = prefix
    this.version = version
    this.programArgs = [`--root=${root}`]
  }

  execCommand(id: string, { processFile, pidFile, log }: ExecFiles): string[] {
    return [
      ...this.prefix,
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

  async killProcess(_id: string, pid: number): Promise<void> {
    const process = observeProcess(pid)
    if (process) signalProcess(process, SIGKILL)
  }

  async forget(id: string): Promise<void> {
    if (existsSync(join(this.root, id)))
      await runTool([this.program, ...this.programArgs, 'delete', '--force', id])
  }
}
