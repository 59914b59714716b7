import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'

/**
 * The number of the device that a file lies on, such as "254:0", as cgroups know it: the whole disk, not a partition.
 * Undefined for file systems that are on no device of their own, such as btrfs and overlayfs.
 */
export function observeDisk(path: string, sys = '/sys/dev/block'): string | undefined {
  const { dev } = statSync(path, { bigint: true })
  // makedev(3) of glibc.
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn)
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffff_ff00n)
  const link = join(sys, `${major}:${minor}`)
  if (!existsSync(link)) return undefined
  const device = realpathSync(link)
  const disk = existsSync(join(device, 'partition')) ? dirname(device) : device
  return readFileSync(join(disk, 'dev'), 'utf8').trim()
}

/**
 * Whether the kernel divides a disk, numbered as in "254:0", by weights of cgroups: its scheduler does (bfq), or io.cost of
 * version 2. `scheduler` is the one that is on.
 */
export function observeDiskWeights(
  device: string,
  { sys = '/sys/dev/block', cgroups = '/sys/fs/cgroup' } = {},
): { weighs: boolean; scheduler: string } {
  const read = (path: string) => {
    try {
      return readFileSync(path, 'utf8')
    } catch {
      return ''
    }
  }
  const scheduler = /\[([\w-]+)\]/.exec(read(join(sys, device, 'queue/scheduler')))?.[1] ?? 'unknown'
  const costs = read(join(cgroups, 'io.cost.qos')).split('\n')
  const byCost = costs.some((line) => line.startsWith(`${device} `) && line.includes('enable=1'))
  return { weighs: scheduler === 'bfq' || byCost, scheduler }
}
