import type { TenantName } from '../../../api/index.ts'
import type { JailId } from '../../../jail/index.ts'
import type { Clock, Logger } from '../../../stdx/index.ts'
import type { PodDisk } from '../host/pod-disk.ts'
import { DISK_MEASURE_EVERY_MS, DISK_MEASURE_FAILURES_MAX, DISK_MEASURE_REST_FACTOR } from '../limits.ts'
import { type DiskUsage, planTenantEviction } from '../plan/disk.ts'
import type { Gate } from './gate.ts'
import { later } from './timers.ts'
import type { MeasuredDisk } from './use-watch.ts'

type MeasuredPod = { pod: WatchedPod; usage: DiskUsage }

type WatchedPod = {
  readonly id: JailId
  readonly occupiesDisk: boolean
  checkDisk(usage: DiskUsage): void
  evict(message: string): void
}

/**
 * Looks again and again at what one tenant's pods occupy, beside the hard ends of the file systems they are in: a limit of
 * what stays, where those do not say anything, or not what they should.
 */
export class DiskWatch {
  private readonly options: DiskWatchOptions
  private readonly failures = new Map<JailId, number>()

  constructor(options: DiskWatchOptions) {
    this.options = options
  }

  /** Until `closing`. */
  start(): void {
    this.later(DISK_MEASURE_EVERY_MS)
  }

  private later(delayMs: number): void {
    const { clock, closing } = this.options
    later(clock, delayMs, closing, () => void this.sweep())
  }

  private async sweep(): Promise<void> {
    const { clock, pods, closing } = this.options
    const startedMs = clock.nowMs()
    const left = new Set(this.failures.keys())
    const measured: MeasuredPod[] = []
    for (const pod of [...pods()]) {
      left.delete(pod.id)
      if (closing.aborted) return
      if (!pod.occupiesDisk) continue
      const usage = await this.look(pod)
      if (usage && pod.occupiesDisk) measured.push({ pod, usage })
    }
    const sum = (read: (usage: DiskUsage) => number) =>
      measured.reduce((total, { usage }) => total + read(usage), 0)
    this.options.onMeasured?.({
      bytes: sum(({ total }) => total),
      files: sum(({ files }) => files),
      pods: measured.length,
      at: new Date(clock.nowMs()).toISOString(),
    })
    await this.holdToShare(measured)
    for (const gone of left) this.failures.delete(gone)
    const tookMs = clock.nowMs() - startedMs
    this.later(Math.max(DISK_MEASURE_EVERY_MS, tookMs * DISK_MEASURE_REST_FACTOR))
  }

  /** One pod at a time: the next look tells whether that was enough. */
  private async holdToShare(measured: readonly MeasuredPod[]): Promise<void> {
    const { disk, log, tenant } = this.options
    try {
      const room = await disk.tenantRoom(tenant)
      if (!room) return
      const found = planTenantEviction(
        measured.map(({ usage }) => usage),
        room,
      )
      if (!found) return
      measured[found.index]?.pod.evict(found.message)
      this.options.onEvicted?.()
    } catch (error) {
      log.warn('cannot hold a tenant to its share of the disk', { error })
    }
  }

  private async look(pod: WatchedPod): Promise<DiskUsage | undefined> {
    const { disk, gate, log, closing } = this.options
    let usage: DiskUsage
    try {
      usage = await gate.run(() => disk.measure(pod.id), closing)
      this.failures.delete(pod.id)
    } catch (error) {
      if (closing.aborted) return
      const failures = (this.failures.get(pod.id) ?? 0) + 1
      this.failures.set(pod.id, failures)
      log.warn('cannot measure what a pod occupies on disk', { jail: pod.id, failures, error })
      if (failures >= DISK_MEASURE_FAILURES_MAX)
        pod.evict('Pod ephemeral local storage usage has too many files to be measured. ')
      return undefined
    }
    pod.checkDisk(usage)
    return usage
  }
}

export type DiskWatchOptions = {
  clock: Clock
  log: Logger
  disk: PodDisk
  tenant: TenantName
  onMeasured?: (disk: MeasuredDisk) => void
  /** For the tenant's disk being short, and not for a pod's own limit. */
  onEvicted?: () => void
  /** Shared with the other tenants of the machine. */
  gate: Gate
  pods: () => Iterable<WatchedPod>
  closing: AbortSignal
}
