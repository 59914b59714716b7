import { mkdirSync, openSync, closeSync, readFileSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { assert } from '../../../stdx/index.ts'
import { LAYERS_MAX, OVERLAY_OPTIONS_BYTES_MAX } from './limits.ts'
import { mount, mountTree, MS_NODEV, MS_NOEXEC, MS_NOSUID, umount } from './syscalls.ts'

/** Every mount point at or below a directory, deepest first, as /proc/self/mountinfo has it. */
export function mountsBelow(directory: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .flatMap((line) => {
      const point = line.split(' ')[4]
      return point === undefined ? [] : [unescape(point)]
    })
    .filter((point) => point === directory || point.startsWith(`${directory}/`))
    .reverse()
}

/** What is mounted uppermost at a directory: its device ("major:minor"), and which part of the file system. */
export function mountedAt(directory: string): { device: string; root: string } | undefined {
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((each) => each.split(' '))
    .findLast(([, , , , point]) => point !== undefined && unescape(point) === directory)
  const [, , device, root] = line ?? []
  return device === undefined || root === undefined ? undefined : { device, root }
}

/** mountinfo writes space, tab, line feed and backslash in octal. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}

/** Takes everything at or below a directory out of the mount tree; safe when there is nothing. */
export function unmountBelow(directory: string): void {
  for (const point of mountsBelow(directory)) umount(point)
}

/**
 * Mounts a container's root: the image's layers with their ids shifted into the tenant's range, below a writable
 * directory of the container's own. The overlay keeps its own copy of the shifted layers, so nothing but the one
 * mount is left to remove.
 */
export function mountRootfs({
  layers,
  usernsPath,
  upper,
  work,
  target,
  workshop,
}: {
  /** Uppermost first. */
  layers: readonly string[]
  usernsPath: string
  upper: string
  work: string
  target: string
  /** An empty directory on a private mount, for this call alone. */
  workshop: string
}): void {
  assert(
    layers.length > 0 && layers.length <= LAYERS_MAX,
    `An image has ${layers.length} layers, not 1 to ${LAYERS_MAX}`,
  )
  const userns = openSync(usernsPath, 'r')
  const before = process.cwd()
  const shifted: string[] = []
  try {
    for (const [index, layer] of layers.entries()) {
      const point = join(workshop, String(index))
      mkdirSync(point)
      shifted.push(point)
      mountTree({ source: layer, target: point, usernsFd: userns })
    }
    const options = [
      // Relative, because the options of a mount must fit into one page.
      `lowerdir=${layers.map((_, index) => index).join(':')}`,
      `upperdir=${upper}`,
      `workdir=${work}`,
      'redirect_dir=off',
      'metacopy=off',
      'index=off',
      'xino=off',
      // The layer dies with the container, so a tenant's fsync need not reach the machine's disk.
      'volatile',
    ].join(',')
    assert(options.length <= OVERLAY_OPTIONS_BYTES_MAX, 'The options of an overlay do not fit into one page')
    process.chdir(workshop)
    mount('overlay', target, 'overlay', MS_NODEV | MS_NOSUID, options)
  } finally {
    process.chdir(before)
    closeSync(userns)
    for (const point of shifted.reverse()) {
      try {
        umount(point)
      } catch {
        // The step before it failed; rmdir tells if that was not the reason.
      }
      rmdirSync(point)
    }
  }
}

/** A directory in memory with a hard limit, owned by the tenant's root. */
export function mountMemory(
  target: string,
  {
    bytesMax,
    inodesMax,
    mode,
    uid,
    gid,
    noexec = false,
  }: {
    bytesMax: number | string
    inodesMax: number
    mode: string
    uid: number
    gid: number
    noexec?: boolean
  },
): void {
  const options = `size=${bytesMax},nr_inodes=${inodesMax},mode=${mode},uid=${uid},gid=${gid}`
  mount('tmpfs', target, 'tmpfs', MS_NODEV | MS_NOSUID | (noexec ? MS_NOEXEC : 0), options)
}
