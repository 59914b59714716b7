import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, fchownSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { ReadStream } from 'node:tty'
import type { Clock } from '../../../stdx/index.ts'
import type { OciProcess } from '../plan/oci/config-types.ts'
import { renderExecProcess } from '../plan/oci/render-config.ts'
import { tellOfRuntime } from '../plan/oci/runtime-message.ts'
import { EXEC_DRAIN_MS, EXEC_REAP_MS, TOOL_OUTPUT_BYTES_MAX } from './limits.ts'
import type { TerminalSize } from './remote-stream.ts'
import type { Runtime } from './runtime.ts'
import { pipe, resizeTerminal } from './syscalls.ts'
import { openTerminal, TerminalSocket } from './terminal.ts'

export type ExecEnd =
  | { kind: 'exited'; exitCode: number }
  /** It never ran; `message` is fit for the tenant. */
  | { kind: 'refused'; message: string }

export type ExecWish = {
  /** Goes before the runtime's command: entering the cgroup it runs in. */
  enter: readonly string[]
  runtime: Runtime
  id: string
  bundle: string
  podUidBase: number
  /** Where runtimes hand terminals over. */
  terminals: string
  command: readonly string[]
  tty: boolean
  stdin: boolean
  clock: Clock
}

type Output = (stream: 'stdout' | 'stderr', chunk: Buffer) => Promise<void>

/**
 * A process started inside a running container. Its standard streams are real pipes, because a program that opens
 * /dev/stdout gets an error when that is a socket, or a terminal.
 */
export class Exec {
  readonly stdin: Writable | undefined
  /** Never rejects for what happens inside. */
  readonly ended: Promise<ExecEnd>
  private readonly wish: ExecWish
  private readonly child: ChildProcess
  private readonly exit: Promise<number>
  private readonly terminal: number | undefined
  private readonly files: ExecFileNames
  private alive = true

  /** `output` gets every chunk and tells when it wants the next. */
  static async start(wish: ExecWish, output: Output): Promise<Exec> {
    const name = join(wish.bundle, `exec-${randomBytes(6).toString('hex')}`)
    const files = { process: `${name}.json`, pid: `${name}.pid`, log: `${name}.log` }
    try {
      const config = JSON.parse(readFileSync(join(wish.bundle, 'config.json'), 'utf8')) as {
        process: OciProcess
      } // Ours.
      const process = renderExecProcess(config.process, wish.command, { tty: wish.tty })
      // Only a process given as a whole keeps no_new_privs and the capabilities (`exec CONTAINER COMMAND` does not).
      writeFileSync(files.process, JSON.stringify(process), { mode: 0o600 })
      const owner = { uid: wish.podUidBase + process.user.uid, gid: wish.podUidBase + process.user.gid }
      const start = !wish.tty
        ? startWithPipes
        : wish.runtime.terminals === 'handed-over'
          ? startWithTheirTerminal
          : startWithOurTerminal
      return new Exec(wish, files, await start(wish, files, owner), output)
    } catch (error) {
      removeFiles(files)
      throw error
    }
  }

  private constructor(wish: ExecWish, files: ExecFileNames, started: Started, output: Output) {
    this.wish = wish
    this.files = files
    this.child = started.child
    this.exit = started.exit
    this.stdin = started.stdin
    this.terminal = started.terminal
    this.stdin?.on('error', () => {}) // The process has ended without reading everything.
    this.ended = this.finish(started.outputs, output)
  }

  resize(size: TerminalSize): void {
    if (this.terminal === undefined || !this.alive) return
    resizeTerminal(this.terminal, size)
    // A terminal of ours is nobody's controlling terminal, so the kernel tells nobody.
    if (this.wish.runtime.terminals === 'passed-on') this.child.kill('SIGWINCH')
  }

  /** Kills the process; `ended` tells when it is gone. */
  async kill(): Promise<void> {
    if (!this.alive) return
    const pid = this.processId()
    if (pid !== undefined) {
      await this.wish.runtime.killProcess(this.wish.id, pid).catch(() => {})
      // The runtime reaps what it started and ends; killed before, it would leave a zombie behind.
      await Promise.race([this.exit.catch(() => {}), pause(this.wish.clock, EXEC_REAP_MS)])
    }
    if (this.alive) this.child.kill('SIGKILL')
  }

  /** Trustworthy while the runtime's own process lives: it has not reaped what it started. */
  private processId(): number | undefined {
    try {
      const pid = Number(readFileSync(this.files.pid, 'utf8'))
      return Number.isSafeInteger(pid) && pid > 1 ? pid : undefined
    } catch {
      return undefined
    }
  }

  private async finish(outputs: Started['outputs'], output: Output): Promise<ExecEnd> {
    const activity = new Activity(this.wish.clock, EXEC_DRAIN_MS)
    const drained = outputs.map(async ([name, stream]) => {
      try {
        for await (const chunk of stream)
          await activity.during(output(name, Buffer.from(chunk as Uint8Array)))
      } catch {
        // EIO: the last process has closed the terminal.
      }
    })
    try {
      const exitCode = await this.exit
      this.alive = false
      // A process left behind may keep the pipes open for ever; wait for what was written, not for that.
      await Promise.race([Promise.all(drained), activity.quiet()])
      const complaint = exitCode === 0 ? '' : readComplaint(this.files.log)
      return complaint === ''
        ? { kind: 'exited', exitCode }
        : { kind: 'refused', message: tellOfRuntime(complaint) }
    } finally {
      this.alive = false
      activity.stop()
      for (const [, stream] of outputs) stream.destroy()
      this.stdin?.destroy()
      removeFiles(this.files)
    }
  }
}

type ExecFileNames = { process: string; pid: string; log: string }

type Owner = { uid: number; gid: number }

type Started = {
  child: ChildProcess
  exit: Promise<number>
  stdin: Writable | undefined
  outputs: ['stdout' | 'stderr', Readable][]
  terminal: number | undefined
}

function spawnRuntime(
  { enter, runtime, id }: ExecWish,
  files: ExecFileNames,
  stdio: (number | 'ignore')[],
  consoleSocket?: string,
): { child: ChildProcess; exit: Promise<number> } {
  const names = {
    processFile: files.process,
    pidFile: files.pid,
    log: files.log,
    ...(consoleSocket === undefined ? {} : { consoleSocket }),
  }
  const [command = '', ...args] = [...enter, ...runtime.execCommand(id, names)]
  const child = spawn(command, args, {
    stdio,
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    cwd: '/',
    // A session of its own, so that no signal to ours reaches it.
    detached: true,
  })
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  child.once('error', reject)
  child.once('exit', (code, signal) => resolve(code ?? (signal ? 137 : -1)))
  promise.catch(() => {})
  return { child, exit: promise }
}

async function startWithPipes(wish: ExecWish, files: ExecFileNames, owner: Owner): Promise<Started> {
  const pipes = { in: wish.stdin ? pipe() : undefined, out: pipe(), err: pipe() }
  const theirs = [pipes.in?.read, pipes.out.write, pipes.err.write]
  try {
    // A program opens /dev/stderr anew, which the kernel allows to the pipe's owner only.
    for (const fd of theirs) if (fd !== undefined) fchownSync(fd, owner.uid, owner.gid)
    const started = spawnRuntime(
      wish,
      files,
      theirs.map((fd) => fd ?? 'ignore'),
    )
    const read = (fd: number) => new Socket({ fd, readable: true, writable: false })
    return {
      ...started,
      stdin: pipes.in && new Socket({ fd: pipes.in.write, readable: false, writable: true }),
      outputs: [
        ['stdout', read(pipes.out.read)],
        ['stderr', read(pipes.err.read)],
      ],
      terminal: undefined,
    }
  } finally {
    for (const fd of theirs) if (fd !== undefined) closeSync(fd)
  }
}

async function startWithOurTerminal(wish: ExecWish, files: ExecFileNames, owner: Owner): Promise<Started> {
  const { master, peer } = openTerminal(owner)
  try {
    return { ...spawnRuntime(wish, files, [peer, peer, peer]), ...streamsOf(master) }
  } finally {
    closeSync(peer)
  }
}

async function startWithTheirTerminal(wish: ExecWish, files: ExecFileNames): Promise<Started> {
  await using socket = new TerminalSocket(wish.terminals, wish.clock)
  await socket.listen()
  const started = spawnRuntime(wish, files, ['ignore', 'ignore', 'ignore'], socket.path)
  // It may end without ever handing one over.
  const over = new AbortController()
  const ended = started.exit.then(
    () => over.abort(),
    () => over.abort(),
  )
  const master = await Promise.race([
    socket.receive(over.signal).catch(() => undefined),
    ended.then(() => undefined),
  ])
  over.abort()
  if (master === undefined) {
    started.child.kill('SIGKILL')
    return { ...started, stdin: undefined, outputs: [], terminal: undefined }
  }
  return { ...started, ...streamsOf(master) }
}

function streamsOf(master: number): Pick<Started, 'stdin' | 'outputs' | 'terminal'> {
  const stream = new ReadStream(master)
  return { stdin: stream, outputs: [['stdout', stream]], terminal: master }
}

function removeFiles(files: ExecFileNames): void {
  for (const file of Object.values(files)) rmSync(file, { force: true })
}

function pause(clock: Clock, ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  clock.after(ms, resolve)
  return promise
}

/** What the runtime itself had to say, which is nothing when the command ran. */
function readComplaint(file: string): string {
  try {
    return readFileSync(file, 'utf8').slice(0, TOOL_OUTPUT_BYTES_MAX).trim()
  } catch {
    return ''
  }
}

/** Tells when nothing has been delivered for a while; a slow reader is not silence. */
class Activity {
  private readonly clock: Clock
  private readonly quietMs: number
  private readonly silence = Promise.withResolvers<void>()
  private busy = 0
  private waiting = false
  private cancel: () => void = () => {}

  constructor(clock: Clock, quietMs: number) {
    this.clock = clock
    this.quietMs = quietMs
  }

  async during(work: Promise<void>): Promise<void> {
    this.busy++
    this.cancel()
    try {
      await work
    } finally {
      this.busy--
      this.arm()
    }
  }

  quiet(): Promise<void> {
    this.waiting = true
    this.arm()
    return this.silence.promise
  }

  stop(): void {
    this.cancel()
  }

  private arm(): void {
    this.cancel()
    if (this.waiting && this.busy === 0)
      this.cancel = this.clock.after(this.quietMs, () => this.silence.resolve())
  }
}
