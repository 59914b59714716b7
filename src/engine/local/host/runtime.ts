import type { Tool } from './places.ts'

export type ExecFiles = { processFile: string; pidFile: string; log: string; consoleSocket?: string }

/** One OCI runtime as this host uses it. `conmon` calls it to create; the rest is here. */
export interface Runtime {
  readonly tool: Tool
  /** For status: what the program says of itself. */
  readonly version: string
  /**
   * Goes before every call of the program that makes a process inside, conmon's included: entering the mount namespace
   * it works in, and giving up what no container may have.
   */
  readonly prefix: readonly string[]
  /** What conmon calls; understands `create` and `exec`. */
  readonly program: string
  readonly programArgs: readonly string[]
  /**
   * How a process inside gets a terminal: from the runtime, which hands us the other side on a socket, or by passing
   * ours on.
   */
  readonly terminals: 'handed-over' | 'passed-on'
  /** A whole command that runs a process inside. */
  execCommand(id: string, files: ExecFiles): string[]
  /** Lets the created process run. */
  begin(id: string, signal: AbortSignal): Promise<void>
  /** Kills a process that exec started; `pid` is what the runtime wrote into the pid file. */
  killProcess(id: string, pid: number): Promise<void>
  /** Makes the runtime forget a container whose processes are gone; safe to repeat. */
  forget(id: string): Promise<void>
}

/** What conmon should call for a container that joins a sandbox, where that differs. */
export interface SandboxRuntime extends Runtime {
  readonly memberProgram: string
  signal(id: string, signal: string): Promise<void>
  /** False once the container has ended and nothing of it is left. */
  exists(id: string): boolean
}
