import { chmodSync, closeSync, constants, fstatSync, readSync } from 'node:fs'
import { mkdirAt, O_PATH, openat2, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, SyscallError } from './syscalls.ts'

/**
 * Paths inside directories that tenants write to. The kernel resolves each as if the directory were "/", in one call,
 * so neither a symlink nor a rename at the right moment leads outside (openat2(2), RESOLVE_IN_ROOT).
 */
const INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS

/** Opens a path for naming it only. Afterwards: close it. */
export function openInside(root: number, path: string): number {
  return openat2(root, path, O_PATH, INSIDE)
}

/** Text of a regular file of at most `bytesMax`, or "" when there is none: a fifo, a device or a giant is no answer. */
export function readFileInside(root: number, path: string, bytesMax: number): string {
  let fd: number
  try {
    fd = openat2(root, path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY, INSIDE)
  } catch {
    return ''
  }
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile() || stat.size > bytesMax) return ''
    const buffer = Buffer.alloc(bytesMax)
    let length = 0
    for (;;) {
      const read = readSync(fd, buffer, length, bytesMax - length, length)
      length += read
      if (read === 0 || length === bytesMax) return buffer.toString('utf8', 0, length)
    }
  } finally {
    closeSync(fd)
  }
}

/** Makes a directory and its parents inside `root`, and opens it. What is there already stays as it is. */
export function ensureDirectoryInside(
  root: number,
  path: string,
  { mode, owner }: { mode: number; owner: { uid: number; gid: number } },
): number {
  let current = openat2(root, '.', O_PATH | constants.O_DIRECTORY, INSIDE)
  let walked = ''
  try {
    for (const segment of path.split('/').filter((s) => s !== '' && s !== '.')) {
      if (segment === '..') throw new Error(`The path ${JSON.stringify(path)} climbs`)
      walked += `/${segment}`
      let next: number
      try {
        // From the root each time, so that an absolute or climbing symlink stays inside.
        next = openat2(root, walked, O_PATH | constants.O_DIRECTORY, INSIDE)
      } catch (error) {
        if (!(error instanceof SyscallError) || error.code !== 'ENOENT') throw error
        mkdirAt(current, segment, 0o700, owner)
        next = openat2(root, walked, O_PATH | constants.O_DIRECTORY, INSIDE)
        // By the descriptor, which is inside whatever its name has become, and without what the umask would take away.
        chmodSync(`/proc/self/fd/${next}`, mode)
      }
      closeSync(current)
      current = next
    }
    return current
  } catch (error) {
    closeSync(current)
    throw error
  }
}
