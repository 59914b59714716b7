import { chmodSync, chownSync, closeSync, constants, fstatSync, opendirSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { FS_GROUP_DEPTH_MAX, FS_GROUP_FILES_AT_ONCE, FS_GROUP_FILES_MAX } from './limits.ts'
import { O_PATH, openat2, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV, SyscallError } from './syscalls.ts'

const SET_GROUP_ID = 0o2000
const DIRECTORY_BITS = 0o770 | SET_GROUP_ID
const FILE_BITS = 0o660

/**
 * Gives a volume's files to a group, as a kubelet does for `fsGroup`, unless the volume's root belongs to it already.
 * The root goes last, so that what was cut off begins again. Every file is opened before it is looked at and changed
 * through that descriptor: a pod that swaps it for a link meanwhile changes nothing about which file that is.
 */
export async function ensureFsGroup(root: number, group: number): Promise<void> {
  const before = fstatSync(root)
  if (before.gid === group && (before.mode & DIRECTORY_BITS) === DIRECTORY_BITS) return
  await walk(root, group, { files: 0 }, 0)
  give(root, group)
}

async function walk(directory: number, group: number, seen: { files: number }, depth: number): Promise<void> {
  if (depth > FS_GROUP_DEPTH_MAX) return
  const entries = opendirSync(`/proc/self/fd/${directory}`)
  try {
    for (let entry = entries.readSync(); entry; entry = entries.readSync()) {
      if (++seen.files > FS_GROUP_FILES_MAX) return
      if (seen.files % FS_GROUP_FILES_AT_ONCE === 0) await setImmediate()
      const fd = openEntry(directory, entry.name)
      if (fd === undefined) continue
      try {
        if (fstatSync(fd).isDirectory()) await walk(fd, group, seen, depth + 1)
        give(fd, group)
      } finally {
        closeSync(fd)
      }
    }
  } finally {
    entries.closeSync()
  }
}

/** Undefined for what went away meanwhile. A link is opened itself and leads nowhere. */
function openEntry(directory: number, name: string): number | undefined {
  try {
    return openat2(directory, name, O_PATH | constants.O_NOFOLLOW, RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)
  } catch (error) {
    if (error instanceof SyscallError) return undefined
    throw error
  }
}

function give(fd: number, group: number): void {
  const stat = fstatSync(fd)
  if (!stat.isDirectory() && !stat.isFile()) return
  const self = `/proc/self/fd/${fd}`
  // Owner first, because giving a file away takes its set-id bits.
  chownSync(self, stat.uid, group)
  chmodSync(self, (stat.mode & 0o7777) | (stat.isDirectory() ? DIRECTORY_BITS : FILE_BITS))
}
