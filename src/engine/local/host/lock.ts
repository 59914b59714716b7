import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import koffi from 'koffi'

const LOCK_EX = 2
const LOCK_NB = 4
const flock = koffi.load('libc.so.6').func('int flock(int fd, int operation)')

/** Held until released or until this process ends, however it ends (flock(2)). */
export type Lock = { release(): void }

/** Takes the lock of a file for this process, or says what its holder wrote into it. Never waits. */
export function tryLock(path: string, holder: string): Lock | { heldBy: string } {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
  if (Number(flock(fd, LOCK_EX | LOCK_NB)) !== 0) {
    closeSync(fd)
    return { heldBy: readFileSync(path, 'utf8') }
  }
  ftruncateSync(fd)
  writeSync(fd, holder)
  return { release: () => closeSync(fd) }
}
