import { isAlive, type ProcessIdentity } from '../observe/processes.ts'
import { constants } from 'node:os'
import { closeFd, pidfdOpen, pidfdSendSignal } from './syscalls.ts'

/** The number of a signal named `SIGTERM` or `TERM` or `15`; undefined when there is none. */
export function signalNumber(name: string): number | undefined {
  if (/^\d{1,2}$/.test(name)) {
    const number = Number(name)
    return number >= 1 && number <= 64 ? number : undefined
  }
  const full = name.startsWith('SIG') ? name : `SIG${name}`
  const realTime = /^SIGRT(MIN|MAX)([+-]\d{1,2})?$/.exec(full)
  if (realTime) {
    const number = (realTime[1] === 'MIN' ? 34 : 64) + Number(realTime[2] ?? 0)
    return number >= 34 && number <= 64 ? number : undefined
  }
  return Object.hasOwn(constants.signals, full) ? constants.signals[full as NodeJS.Signals] : undefined
}

/** Signals exactly this process: a later one that got its pid is not touched. Returns whether it was there. */
export function signalProcess(target: ProcessIdentity, signal: number): boolean {
  const fd = pidfdOpen(target.pid)
  if (fd === undefined) return false
  try {
    // Looked at after opening: from here on the descriptor is the process, whatever happens to its pid.
    return isAlive(target) && pidfdSendSignal(fd, signal)
  } finally {
    closeFd(fd)
  }
}
