import type { TenantName } from '../../../api/index.ts'
import type { JailId } from '../../../jail/index.ts'
import type { Clock, Logger } from '../../../stdx/index.ts'
import type { PodDisk } from '../host/pod-disk.ts'
import {
  DISK_FREE_PARTS_MIN,
  DISK_PRESSURE_EVERY_MS,
  DISK_PRESSURE_REST_MS,
  MEASURED_PODS_MAX,
} from '../limits.ts'
import type { DiskRoom, DiskUsage } from '../plan/disk.ts'
import type { Gate } from './gate.ts'
import { later } from './timers.ts'

export type PressedPod = {
  readonly id: JailId
  readonly occupiesDisk: boolean
  evict(message: string): void
}

/**
 * When the machine's disk is nearly full, the tenant that occupies most of it loses its largest pod, and so on until
 * there is room again: whoever fills the disk pays for it, and the tenants' stores on the same disk go on.
 */
export class DiskPressure {
  private readonly options: DiskPressureOptions

  constructor(options: DiskPressureOptions) {
    this.options = options
  }

  /** Until `closing`. */
  start(): void {
    this.later(DISK_PRESSURE_EVERY_MS)
  }

  private later(delayMs: number): void {
    const { clock, closing } = this.options
    later(clock, delayMs, closing, () => void this.look())
  }

  private async look(): Promise<void> {
    const { log, disk } = this.options
    let evicted = false
    try {
      if (isShort(await disk.room())) evicted = await this.relieve()
    } catch (error) {
      log.error('cannot see how full the disk is', { error })
    }
    // What an evicted pod held comes back only when it has ended and its files are gone.
    this.later(evicted ? DISK_PRESSURE_REST_MS : DISK_PRESSURE_EVERY_MS)
  }

  private async relieve(): Promise<boolean> {
    const { disk, gate, log, closing } = this.options
    const measured = await Promise.all(
      [...this.options.pods()]
        .filter(([, pod]) => pod.occupiesDisk)
        .slice(0, MEASURED_PODS_MAX)
        .map(async ([tenant, pod]) => {
          const usage = await gate
            .run(() => disk.measure(pod.id), closing)
            .catch((error: unknown) => {
              log.warn('cannot measure what a pod occupies on disk', { jail: pod.id, error })
              return undefined
            })
          return { tenant, pod, usage }
        }),
    )
    const worst = planRelief(measured)
    if (closing.aborted || !worst?.pod.occupiesDisk) return false
    log.warn('the disk is nearly full, the largest pod of the largest tenant goes', {
      tenant: worst.tenant,
      jail: worst.pod.id,
    })
    this.options.onEvicted?.(worst.tenant)
    worst.pod.evict('The node was low on resource: ephemeral-storage. ')
    return true
  }
}

/** The largest pod of the tenant with the most. A pod that cannot be measured has more than could be counted. */
export function planRelief<T extends { tenant: TenantName; usage: DiskUsage | undefined }>(
  pods: readonly T[],
): T | undefined {
  const sizeOf = ({ usage }: T) => usage?.total ?? Number.MAX_SAFE_INTEGER
  const totals = new Map<TenantName, number>()
  for (const pod of pods) totals.set(pod.tenant, (totals.get(pod.tenant) ?? 0) + sizeOf(pod))
  const order = (a: T, b: T) =>
    (totals.get(b.tenant) ?? 0) - (totals.get(a.tenant) ?? 0) ||
    (a.tenant < b.tenant ? -1 : a.tenant > b.tenant ? 1 : sizeOf(b) - sizeOf(a))
  return [...pods].sort(order)[0]
}

/** Blocks or inodes, whichever ends first. Some file systems know no number of inodes. */
export function isShort({ bytes, bytesFree, files, filesFree }: DiskRoom): boolean {
  return bytesFree * DISK_FREE_PARTS_MIN < bytes || (files > 0 && filesFree * DISK_FREE_PARTS_MIN < files)
}

export type DiskPressureOptions = {
  clock: Clock
  log: Logger
  disk: PodDisk
  gate: Gate
  pods: () => Iterable<readonly [TenantName, PressedPod]>
  onEvicted?: (tenant: TenantName) => void
  closing: AbortSignal
}
