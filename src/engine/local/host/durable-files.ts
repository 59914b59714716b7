import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'

/** Puts a root-only file in the place of another at once; it is on the disk when this returns. */
export function writeDurably(path: string, bytes: Uint8Array): void {
  const temporary = `${path}.new`
  rmSync(temporary, { force: true })
  const fd = openSync(temporary, 'wx', 0o600)
  try {
    // All of it: `writeSync` may write less than it was given.
    writeFileSync(fd, bytes)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, path)
  syncDirectory(dirname(path))
}

/** Overwrites before unlinking; the key's bytes matter more than a disk that may keep copies, for they are wrapped too. */
export function destroyFile(path: string): void {
  if (!existsSync(path)) return
  const fd = openSync(path, 'r+')
  try {
    writeSync(fd, Buffer.alloc(statSync(path).size))
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  rmSync(path)
  syncDirectory(dirname(path))
}

/** Makes what was made, renamed or removed in a directory stay so. */
export function syncDirectory(path: string): void {
  const directory = openSync(path, 'r')
  try {
    fsyncSync(directory)
  } finally {
    closeSync(directory)
  }
}
