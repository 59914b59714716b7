import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { isJailId, type JailId } from '../../../jail/index.ts'
import type { ObservedContainer } from '../parts.ts'
import { isAlive, observeProcess, type ProcessIdentity } from './processes.ts'

/** What the host writes beside a bundle. It holds nothing that a tenant wrote except the container's name. */
export type ContainerRecord = {
  jail: JailId
  name: string
  attempt: number
  id: string
  tool: 'crun' | 'runc' | 'runsc'
  /** `sandbox` is the empty process that holds a gVisor pod; it is none of the jail's containers. */
  role: 'container' | 'member' | 'sandbox'
  cgroup: string
  /** Where the kernel counts processes that it killed for lack of memory; the sandbox's for a member of one. */
  oomCgroup: string
  createdAt: string
  /** Of a sandbox: the network namespace that it used up. */
  network?: string
  /** Absent until the container's process was let go. */
  started?: { process: ProcessIdentity; monitor: ProcessIdentity; startedAt: string }
}

export const RECORD_FILE = 'container.json'

/** Jails that have a directory below `run`, which holds one per jail, and the bundles in each. */
export function observeBundles(run: string): Map<JailId, string[]> {
  const found = new Map<JailId, string[]>()
  for (const name of list(run)) if (isJailId(name)) found.set(name, list(join(run, name, 'c')))
  return found
}

export function readRecord(bundle: string): ContainerRecord | undefined {
  try {
    // Written by us, atomically, into a directory that only root may change.
    return JSON.parse(readFileSync(join(bundle, RECORD_FILE), 'utf8')) as ContainerRecord
  } catch {
    return undefined
  }
}

/**
 * What is known of a container from files and processes alone. The exit file wins: conmon writes it after the last
 * byte of output, when the process is gone.
 */
export function observeContainer(
  bundle: string,
  exitFile: string,
  { oomKills }: { oomKills: (cgroup: string) => number },
): ObservedContainer | undefined {
  const record = readRecord(bundle)
  if (!record || record.role === 'sandbox') return undefined
  return {
    jail: record.jail,
    name: record.name,
    attempt: record.attempt,
    containerID: `${record.tool}://${record.id}`,
    state: observeState(record, bundle, exitFile, oomKills),
  }
}

function observeState(
  record: ContainerRecord,
  bundle: string,
  exitFile: string,
  oomKills: (cgroup: string) => number,
): ObservedContainer['state'] {
  const exit = readExit(exitFile)
  if (!record.started) return { kind: 'lost' }
  const { startedAt } = record.started
  if (exit) {
    const killed = existsSync(join(bundle, 'oom')) || oomKills(record.oomCgroup) > 0
    return {
      kind: 'exited',
      exitCode: exit.exitCode,
      oomKilled: killed && exit.exitCode !== 0,
      startedAt,
      finishedAt: exit.finishedAt,
    }
  }
  // While the monitor lives, it is about to say how the process ended.
  if (isAlive(record.started.process) || isAlive(record.started.monitor))
    return { kind: 'running', pid: record.started.process.pid, startedAt }
  // It may have said so between the two looks.
  return readExit(exitFile) ? observeState(record, bundle, exitFile, oomKills) : { kind: 'lost' }
}

function readExit(path: string): { exitCode: number; finishedAt: string } | undefined {
  try {
    const text = readFileSync(path, 'utf8').trim()
    if (!/^\d{1,3}$/.test(text)) return undefined
    return { exitCode: Number(text), finishedAt: statSync(path).mtime.toISOString() }
  } catch {
    return undefined
  }
}

/** The process whose pid a runtime or conmon wrote down. */
export function readPidFile(path: string): ProcessIdentity | undefined {
  try {
    return observeProcess(Number(readFileSync(path, 'utf8')))
  } catch {
    return undefined
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}
