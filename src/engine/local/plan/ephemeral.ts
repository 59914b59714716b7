import type { Jail, JailVolume } from '../../../jail/index.ts'
import { KiB, MiB } from '../../../stdx/index.ts'
import { POD_DISK_BYTES_MAX } from '../limits.ts'
import { podFilesMax, podLimit } from './disk.ts'

/** How large a file system is to be inside: what can be written to it, and how many files there can be. */
export type FileSystemSize = { bytes: number; files: number }

export const EPHEMERAL_BLOCK_BYTES = 4 * KiB
const INODE_BYTES = 256
const INODES_PER_BLOCK = EPHEMERAL_BLOCK_BYTES / INODE_BYTES
/** As many as one block of a bitmap has bits for. */
const GROUP_BLOCKS = 8 * EPHEMERAL_BLOCK_BYTES
const DESCRIPTOR_BYTES = 64
/** ext4 keeps the first ones for itself. */
const INODES_OF_EXT4 = 11
/** mkfs makes no group that is smaller. */
const BYTES_MIN = 256 * KiB
/** The root directory and "lost+found". */
const FIRST_BLOCKS = 5

/** A file system of the pod's own, where its containers have limits; otherwise its tenant's is its end. */
export function podFileSystem(jail: Jail): FileSystemSize | undefined {
  return sized(podLimit(jail))
}

/** A file system of the volume's own, where it has a limit. No volume has more than its pod. */
export function volumeFileSystem(jail: Jail, volume: JailVolume): FileSystemSize | undefined {
  if (volume.kind !== 'scratch' || volume.medium !== 'disk') return undefined
  return sized(Math.min(volume.sizeBytesMax, podLimit(jail)))
}

function sized(bytes: number): FileSystemSize | undefined {
  return bytes < POD_DISK_BYTES_MAX ? { bytes, files: podFilesMax(bytes) } : undefined
}

/** The size of a file that has room for such a file system, with what ext4 takes for itself beside it. Pure. */
export function imageOf({ bytes, files }: FileSystemSize): { imageBytes: number; inodes: number } {
  const data = Math.ceil(Math.max(bytes, BYTES_MIN) / EPHEMERAL_BLOCK_BYTES)
  const inodes = files + INODES_OF_EXT4
  let blocks = data
  // What describes the groups is in groups itself; two rounds are enough to find the end.
  for (let round = 0; round < 3; round++) {
    const groups = Math.ceil(blocks / GROUP_BLOCKS)
    const perGroup = Math.ceil(Math.ceil(inodes / groups) / INODES_PER_BLOCK)
    const descriptors = Math.ceil((groups * DESCRIPTOR_BYTES) / EPHEMERAL_BLOCK_BYTES)
    blocks = data + 1 + descriptors + groups * (2 + perGroup) + FIRST_BLOCKS
  }
  return { imageBytes: blocks * EPHEMERAL_BLOCK_BYTES, inodes }
}

/** What of a disk a tenant gets for what is ephemeral when the operator says nothing; undefined when it is too little. */
export function shareOfDisk({
  diskBytes,
  freeBytes,
}: {
  diskBytes: number
  freeBytes: number
}): number | undefined {
  const wanted = Math.max(diskBytes / EPHEMERAL_SHARE_OF_DISK, EPHEMERAL_BYTES_WANTED)
  const share = Math.max(EPHEMERAL_BYTES_MIN, Math.min(wanted, freeBytes / EPHEMERAL_SHARE_OF_FREE))
  return share > freeBytes ? undefined : Math.floor(share / MiB) * MiB
}

/** A tenant's part of the disk, while there is plenty. */
const EPHEMERAL_SHARE_OF_DISK = 16
/** Of a small disk it is more. */
const EPHEMERAL_BYTES_WANTED = 2_048 * MiB
/** Nobody takes more than a part of what is left, so that many more can come. */
const EPHEMERAL_SHARE_OF_FREE = 8
/** With less than this pods of many images do not start. */
const EPHEMERAL_BYTES_MIN = 256 * MiB
