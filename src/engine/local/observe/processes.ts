import { readFileSync } from 'node:fs'

/** A process named so that a later one with the same pid is not taken for it. */
export type ProcessIdentity = {
  pid: number
  /** Clock ticks since boot at which it started; field 22 of /proc/PID/stat. */
  startTicks: string
}

/**
 * Reads who has this pid now; undefined when nobody, or only a zombie that nobody has reaped yet. A process whose first
 * thread has ended is called a zombie too, but the others run on: that one is alive.
 */
export function observeProcess(pid: number): ProcessIdentity | undefined {
  if (!Number.isSafeInteger(pid) || pid <= 0) return undefined
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return undefined
  }
  // The second field is the program's name in parentheses, and a program can have ") S 1" in its name.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const state = fields[0]
  const startTicks = fields[19]
  const threads = Number(fields[17])
  if (state === undefined || startTicks === undefined || state === 'X') return undefined
  if (state === 'Z' && threads <= 1) return undefined
  return { pid, startTicks }
}

export function isAlive(process: ProcessIdentity): boolean {
  return observeProcess(process.pid)?.startTicks === process.startTicks
}
