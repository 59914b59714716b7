import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readSync,
  readFileSync,
  rmSync,
  writeFileSync,
  statSync,
  truncateSync,
  mkdirSync,
  renameSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { type Layout, paths } from '../../../api/index.ts'
import { type DaemonLimits, DAEMONS_CPU_SHARES } from '../plan/daemon-limits.ts'
import { type Cgroups, createCgroups, enterCgroup } from './cgroups.ts'
import { assert, type Clock, type Logger, MiB, until } from '../../../stdx/index.ts'

/** One daemon of the platform: a program of ours under a Linux user of its own, without any capability. */
export type DaemonSpec = {
  name: string
  /** Program and arguments, absolute. */
  command: readonly string[]
  uid: number
  gid: number
  env: Readonly<Record<string, string>>
  cwd: string
  /** Path of a network namespace to start it in. */
  netns?: string
  /** It speaks on unix sockets only, so it gets a network namespace with nothing in it. */
  offline?: true
  /** Capabilities that it keeps, by their names in lower case; none otherwise (capabilities(7)). */
  capabilities?: readonly string[]
  /** Only for the node agent itself. */
  privileged?: true
  /** Its own cgroup's. Without it, it shares the one of whoever starts it. */
  limits?: DaemonLimits
}

type DaemonRecord = { pid: number; startTicks: string; fingerprint: string }

const RESTART_DELAY_FIRST_MS = 200
const RESTART_DELAY_MAX_MS = 10_000
/** A daemon that lived this long was well; its next failure starts over with a short delay. */
const STABLE_MS = 30_000
const ADOPTED_CHECK_MS = 500
const STOP_TIMEOUT_MS = 10_000
/** A program of ours has about 15 threads; instances of the platform side by side have users in common. */
const TASKS_PER_USER_MAX = 1_024
/** Of one daemon's log; as much again is kept of what was before. */
const LOG_BYTES_MAX = 16 * MiB

/**
 * Keeps daemons running. They are detached: when the agent dies they go on, and the next agent adopts them by process
 * id and start time, so a recycled id cannot be mistaken for one of ours.
 */
export class Daemons {
  private readonly layout: Layout
  private readonly clock: Clock
  private readonly log: Logger
  private cgroupsMade: Cgroups | undefined
  private readonly wanted = new Map<string, { spec: DaemonSpec; delayMs: number; cancel: (() => void)[] }>()

  constructor({ layout, clock, log }: { layout: Layout; clock: Clock; log: Logger }) {
    this.layout = layout
    this.clock = clock
    this.log = log
  }

  /** Starts it, or adopts it when exactly this is running already. */
  async ensure(spec: DaemonSpec): Promise<void> {
    const previous = this.wanted.get(spec.name)
    for (const cancel of previous?.cancel ?? []) cancel()
    this.wanted.set(spec.name, { spec, delayMs: RESTART_DELAY_FIRST_MS, cancel: [] })
    const record = this.record(spec.name)
    if (record && isAlive(record)) {
      if (record.fingerprint === fingerprint(spec)) return this.adopt(spec, record)
      await this.kill(record, spec.name)
    }
    this.start(spec)
  }

  /** Ends it the hard way; it starts again as after any other end. For one that no longer answers. */
  async restart(name: string): Promise<void> {
    const record = this.record(name)
    if (!record || !isAlive(record)) return
    this.log.warn('daemon is ended because it does not answer', { daemon: name, pid: record.pid })
    signal(record.pid, 'SIGKILL')
    await until(() => !isAlive(record), {
      timeoutMs: STOP_TIMEOUT_MS,
      what: `The end of the killed daemon "${name}"`,
    })
  }

  async stop(name: string): Promise<void> {
    for (const cancel of this.wanted.get(name)?.cancel ?? []) cancel()
    this.wanted.delete(name)
    const record = this.record(name)
    if (record && isAlive(record)) await this.kill(record, name)
    rmSync(paths.daemonRecord(this.layout, name), { force: true })
    this.cgroups().removeEmpty(this.cgroupOf(name))
  }

  /** Stops it for good, with its log and with whatever else a user that only it had has left running. */
  async remove(name: string, uid: number): Promise<void> {
    assert(uid > 0, 'Root is not a user that only one daemon has')
    await this.stop(name)
    // What it has left behind keeps its cgroup; gone with that, so is the group.
    await until(
      () => {
        if (processesOf(uid).length === 0) return true
        killAllOf(uid)
        return false
      },
      { timeoutMs: STOP_TIMEOUT_MS, what: `The end of all processes of the daemon "${name}"` },
    )
    this.cgroups().removeEmpty(this.cgroupOf(name))
    for (const log of [name, `${name}.old`]) rmSync(paths.daemonLog(this.layout, log), { force: true })
  }

  /** Stops caring for a daemon without stopping it. */
  release(name: string): void {
    for (const cancel of this.wanted.get(name)?.cancel ?? []) cancel()
    this.wanted.delete(name)
  }

  /** Stops every daemon that was ever started for this layout and is still there. */
  async stopAll(): Promise<void> {
    await Promise.all(this.names().map((name) => this.stop(name)))
  }

  /** Of every daemon that was started and not stopped, whether it runs or not. */
  names(): string[] {
    const directory = join(this.layout.runDir, 'daemons')
    if (!existsSync(directory)) return []
    return readdirSync(directory).flatMap((file) =>
      file.endsWith('.json') ? [file.slice(0, -'.json'.length)] : [],
    )
  }

  /** Lets the commands find this very process as a daemon, also when something else has started it. */
  registerSelf(name: string): void {
    if (this.record(name)?.pid !== process.pid)
      this.write(name, {
        pid: process.pid,
        startTicks: startTicks(process.pid) ?? '',
        fingerprint: 'started by another',
      })
  }

  /** Keeps the last part of logs that have grown too large, as `NAME.old.log`. What is written meanwhile may be lost. */
  boundLogs(bytesMax = LOG_BYTES_MAX): void {
    const directory = dirname(paths.daemonLog(this.layout, 'any'))
    for (const file of readdirSync(directory)) {
      if (!file.endsWith('.log') || file.endsWith('.old.log')) continue
      const path = join(directory, file)
      if (statSync(path).size <= bytesMax) continue
      keepEnd(path, path.replace(/\.log$/, '.old.log'), 2 * bytesMax)
      // Daemons append, so the next line comes at the new end.
      truncateSync(path)
    }
  }

  pid(name: string): number | undefined {
    const record = this.record(name)
    return record && isAlive(record) ? record.pid : undefined
  }

  private start(spec: DaemonSpec): void {
    const logPath = paths.daemonLog(this.layout, spec.name)
    mkdirSync(dirname(logPath), { recursive: true, mode: 0o700 })
    const log = openSync(logPath, 'a', 0o600)
    const kept = (spec.capabilities ?? []).map((name) => `,+${name}`).join('')
    const drop = [
      'setpriv',
      `--reuid=${spec.uid}`,
      `--regid=${spec.gid}`,
      '--clear-groups',
      '--no-new-privs',
      `--inh-caps=-all${kept}`,
      ...(kept === '' ? [] : [`--ambient-caps=${kept.slice(1)}`]),
      `--bounding-set=-all${kept}`,
      '--',
    ]
    const enter =
      spec.netns !== undefined
        ? ['nsenter', `--net=${spec.netns}`, '--']
        : spec.offline
          ? ['unshare', '--net', '--ipc', '--']
          : []
    // The keys of tenants are in its memory, so it leaves none behind when it crashes: 1 and not 0, because only 1 also
    // keeps the machine's handler from starting (core(5)). And it cannot fill the machine with processes.
    const limit = ['prlimit', '--core=1', ...(spec.privileged ? [] : [`--nproc=${TASKS_PER_USER_MAX}`]), '--']
    const [program = 'false', ...args] = [
      ...(spec.limits === undefined ? [] : this.enterGroup(spec.name, spec.limits)),
      ...enter,
      ...limit,
      ...(spec.privileged ? [] : drop),
      ...spec.command,
    ]
    const child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', log, log],
      env: spec.env,
      cwd: spec.cwd,
    })
    closeSync(log)
    child.unref()
    const startedMs = this.clock.nowMs()
    child.once('error', (error) => this.ended(spec, startedMs, error.message))
    child.once('exit', (code, signal) => this.ended(spec, startedMs, signal ?? `exit code ${code}`))
    if (child.pid === undefined) return
    const record: DaemonRecord = {
      pid: child.pid,
      startTicks: startTicks(child.pid) ?? '',
      fingerprint: fingerprint(spec),
    }
    this.write(spec.name, record)
    this.log.info('daemon started', { daemon: spec.name, pid: child.pid, uid: spec.uid })
  }

  /** It is no child of ours, so its end is noticed by looking. */
  private adopt(spec: DaemonSpec, record: DaemonRecord): void {
    const startedMs = this.clock.nowMs()
    this.log.info('daemon adopted', { daemon: spec.name, pid: record.pid })
    const check = () => {
      if (!isAlive(record)) return this.ended(spec, startedMs, 'it is gone')
      this.wanted.get(spec.name)?.cancel.splice(0, Infinity, this.clock.after(ADOPTED_CHECK_MS, check))
    }
    check()
  }

  private ended(spec: DaemonSpec, startedMs: number, why: string): void {
    const wanted = this.wanted.get(spec.name)
    if (wanted?.spec !== spec) return
    if (this.clock.nowMs() - startedMs > STABLE_MS) wanted.delayMs = RESTART_DELAY_FIRST_MS
    this.log.warn('daemon ended, will start again', { daemon: spec.name, why, inMs: wanted.delayMs })
    wanted.cancel.splice(
      0,
      Infinity,
      this.clock.after(wanted.delayMs, () => this.start(spec)),
    )
    wanted.delayMs = Math.min(wanted.delayMs * 2, RESTART_DELAY_MAX_MS)
  }

  private enterGroup(name: string, { oomScoreAdj, ...limits }: DaemonLimits): string[] {
    const path = this.cgroupOf(name)
    const cgroups = this.cgroups()
    cgroups.ensure(dirname(path), { cpuShares: DAEMONS_CPU_SHARES })
    cgroups.ensure(path, limits)
    return enterCgroup(cgroups.entrances(path), oomScoreAdj)
  }

  private cgroupOf(name: string): string {
    return `${paths.daemonCgroups(this.layout)}/${name}`
  }

  private cgroups(): Cgroups {
    return (this.cgroupsMade ??= createCgroups())
  }

  private async kill(record: DaemonRecord, name: string): Promise<void> {
    const gone = () => !isAlive(record)
    signal(record.pid, 'SIGTERM')
    try {
      await until(gone, { timeoutMs: STOP_TIMEOUT_MS, what: `The end of the daemon "${name}"` })
    } catch {
      this.log.warn('daemon does not stop, killing it', { daemon: name, pid: record.pid })
      signal(record.pid, 'SIGKILL')
      await until(gone, { timeoutMs: STOP_TIMEOUT_MS, what: `The end of the killed daemon "${name}"` })
    }
  }

  private write(name: string, record: DaemonRecord): void {
    const path = paths.daemonRecord(this.layout, name)
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 })
    renameSync(`${path}.new`, path)
  }

  private record(name: string): DaemonRecord | undefined {
    try {
      return JSON.parse(readFileSync(paths.daemonRecord(this.layout, name), 'utf8')) as DaemonRecord // our own file, root only
    } catch {
      return undefined
    }
  }
}

function signal(pid: number, name: 'SIGTERM' | 'SIGKILL'): void {
  try {
    process.kill(pid, name)
  } catch {
    // It ended by itself between our look and the signal.
  }
}

/** Zombies do not count: they hold nothing. */
/**
 * Everything that may be signalled by this user and by no other is what runs as it. The kernel kills all of it in one
 * step, so that a process that forks faster than we look cannot get away, and no pid can have become somebody else's.
 */
function killAllOf(uid: number): void {
  const as = ['--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--inh-caps=-all']
  // It ends itself too, or complains that nobody is left.
  spawnSync('setpriv', [...as, '--', '/bin/sh', '-c', 'kill -KILL -1'], {
    stdio: 'ignore',
    timeout: STOP_TIMEOUT_MS,
  })
}

function processesOf(uid: number): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      const owner = /^Uid:\t(\d+)\t(\d+)/m.exec(readFileSync(`/proc/${name}/status`, 'utf8'))
      const isTheirs = owner?.slice(1).some((id) => Number(id) === uid) ?? false
      return isTheirs && startTicks(Number(name)) !== undefined ? [Number(name)] : []
    } catch {
      return []
    }
  })
}

function fingerprint(spec: DaemonSpec): string {
  return createHash('sha256').update(JSON.stringify(spec)).digest('hex')
}

function isAlive(record: DaemonRecord): boolean {
  return startTicks(record.pid) === record.startTicks
}

/** Field 22 of /proc/PID/stat (proc(5)): when the process started. Absent for a zombie, which is as good as gone. */
export function startTicks(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    // A process whose first thread has ended is called a zombie too, but the others run on.
    const isGone = state === 'X' || (state === 'Z' && Number(fields[16]) <= 1)
    return isGone ? undefined : fields[18]
  } catch {
    return undefined
  }
}

/** Of a file that somebody else writes and that may be of any length, no more than this much is ever read. */
function keepEnd(from: string, to: string, bytesMax: number): void {
  const fd = openSync(from, 'r')
  try {
    const bytes = Buffer.alloc(bytesMax)
    const length = readSync(fd, bytes, 0, bytesMax, Math.max(0, statSync(from).size - bytesMax))
    writeFileSync(to, bytes.subarray(0, length), { mode: 0o600 })
  } finally {
    closeSync(fd)
  }
}
