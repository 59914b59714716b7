import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DiskRates } from '../../../jail/index.ts'
import { type Cgroups, createCgroups } from './cgroups.ts'
import { UNWRITTEN_BYTES_MAX } from './limits.ts'
import { isIdleLoop } from './loop-devices.ts'

/**
 * What is written through the cache reaches the disk later, by the kernel's own hand, and cgroups of version 1 count it as
 * nobody's. On a device of a tenant's own, numbered as in "7:0", it can be limited all the same.
 */
export function limitDevice(
  device: string,
  rates: Required<DiskRates>,
  cgroups: Cgroups = createCgroups(),
): void {
  limitUnwritten(device)
  cgroups.setCachedWrites(device, rates)
}

/** Writers wait when so much of theirs is not on the disk yet, whatever others have in memory. */
export function limitUnwritten(device: string): void {
  const directory = join('/sys/class/bdi', device)
  const file = join(directory, 'max_bytes')
  // Linux 6.2 and later; before, only what all devices have together is limited.
  if (!existsSync(file)) return
  writeFileSync(join(directory, 'strict_limit'), '1')
  writeFileSync(file, String(UNWRITTEN_BYTES_MAX))
}

/** Before somebody else gets the device. */
export function releaseDevice(device: string): void {
  createCgroups().setCachedWrites(device, undefined)
  const directory = join('/sys/class/bdi', device)
  if (!existsSync(join(directory, 'max_bytes'))) return
  writeFileSync(join(directory, 'strict_limit'), '0')
  writeFileSync(join(directory, 'max_ratio'), '100')
}

/** Of devices that nobody has any more, as after a crash. */
export function releaseIdleDevices(): void {
  for (const device of createCgroups().cachedWrites()) if (isIdleLoop(device)) releaseDevice(device)
}
