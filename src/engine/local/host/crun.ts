import { closeSync, constants, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { sleep, withDeadline } from '../../../stdx/index.ts'
import { BEGIN_TIMEOUT_MS } from './limits.ts'
import { observeProcess } from '../observe/processes.ts'
import { signalProcess } from './processes.ts'
import type { ExecFiles, Runtime } from './runtime.ts'

const BEGIN_RETRY_MS = 1

const SIGKILL = 9

/** https://github.com/containers/crun */
export class Crun implements Runtime {
  readonly tool = 'crun'
  readonly terminals = 'handed-over'
  readonly version: string
  readonly prefix: readonly string[]
  readonly program = '/usr/bin/crun'
  readonly programArgs: readonly string[]
  private readonly root: string

  constructor({ root, prefix, version }: { root: string; prefix: readonly string[]; version: string }) {
    this.root = root
    this.prefix = prefix
    this.version = version
    this.programArgs = [`--root=${root}`]
  }

  execCommand(id: string, { processFile, pidFile, log, consoleSocket }: ExecFiles): string[] {
    return [
      ...this.prefix,
      this.program,
      ...this.programArgs,
      `--log=${log}`,
      'exec',
      `--process=${processFile}`,
      `--pid-file=${pidFile}`,
      ...(consoleSocket === undefined ? [] : [`--console-socket=${consoleSocket}`]),
      id,
    ]
  }

  /** What `crun start` does, without a process: the container's first process waits for a byte on a fifo. */
  async begin(id: string, signal: AbortSignal): Promise<void> {
    const fifo = join(this.root, id, 'exec.fifo')
    await withDeadline(
      `Starting the container ${id}`,
      BEGIN_TIMEOUT_MS,
      async (deadline) => {
        for (;;) {
          deadline.throwIfAborted()
          const fd = openForReader(fifo)
          if (fd !== undefined) {
            writeSync(fd, '0')
            closeSync(fd)
            break
          }
          await sleep(BEGIN_RETRY_MS, deadline)
        }
      },
      signal,
    )
    rmSync(fifo, { force: true })
  }

  async killProcess(_id: string, pid: number): Promise<void> {
    const process = observeProcess(pid)
    if (process) signalProcess(process, SIGKILL)
  }

  async forget(id: string): Promise<void> {
    rmSync(join(this.root, id), { recursive: true, force: true })
  }

  /** The filter that crun compiled for a container that exists now. */
  seccompProgramFile(id: string): string {
    return join(this.root, id, 'seccomp.bpf')
  }
}

/** Undefined while nobody reads from the fifo yet. */
function openForReader(fifo: string): number | undefined {
  try {
    return openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENXIO') return undefined
    throw error
  }
}
