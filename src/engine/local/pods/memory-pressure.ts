import { renderQuantity, type TenantName } from '../../../api/index.ts'
import type { ContainerUsage, JailId } from '../../../jail/index.ts'
import type { Clock, Logger } from '../../../stdx/index.ts'
import { MEMORY_FREE_BYTES_MIN, MEMORY_PRESSURE_EVERY_MS, MEMORY_PRESSURE_REST_MS } from '../limits.ts'
import { later } from './timers.ts'

export type HungryPod = {
  readonly id: JailId
  readonly occupiesDisk: boolean
  evict(message: string): void
}

/** A pod with what it was promised and what it uses. */
export type Eater = {
  tenant: TenantName
  /** The operator's: higher ones come later. */
  tenantPriority: number
  /** The tenant's own, which counts among its own pods. */
  priority: number
  memoryBytesRequest: number
  containers: readonly (Pick<ContainerUsage, 'name' | 'workingSetBytes'> & { requestBytes: number })[]
}

/**
 * When the machine is short of memory, one pod after another goes, before the kernel has to choose: of the tenant that
 * has taken most beyond what its pods asked for, the pod that has.
 */
export class MemoryPressure<P extends HungryPod> {
  private readonly options: MemoryPressureOptions<P>

  constructor(options: MemoryPressureOptions<P>) {
    this.options = options
  }

  /** Until `closing`. */
  start(): void {
    this.later(MEMORY_PRESSURE_EVERY_MS)
  }

  private later(delayMs: number): void {
    const { clock, closing } = this.options
    later(clock, delayMs, closing, () => void this.look())
  }

  private async look(): Promise<void> {
    const { log, available } = this.options
    let evicted = false
    try {
      if ((await available()) < MEMORY_FREE_BYTES_MIN) evicted = await this.relieve()
    } catch (error) {
      log.error('cannot see how much memory is left', { error })
    }
    this.later(evicted ? MEMORY_PRESSURE_REST_MS : MEMORY_PRESSURE_EVERY_MS)
  }

  private async relieve(): Promise<boolean> {
    const { log, closing, pods, measure, onEvicted } = this.options
    const measured = await Promise.all(
      [...pods()].filter((pod) => pod.occupiesDisk).map(async (pod) => ({ pod, ...(await measure(pod)) })),
    )
    const worst = planMemoryRelief(measured)
    if (closing.aborted || !worst?.pod.occupiesDisk) return false
    log.warn('memory is nearly used up, a pod goes', { tenant: worst.tenant, jail: worst.pod.id })
    onEvicted?.(worst.tenant)
    worst.pod.evict(renderEviction(worst))
    return true
  }
}

export type MemoryPressureOptions<P extends HungryPod> = {
  clock: Clock
  log: Logger
  /** Bytes that programs can still get, without swapping. */
  available: () => Promise<number>
  onEvicted?: (tenant: TenantName) => void
  pods: () => Iterable<P>
  measure: (pod: P) => Promise<Eater>
  closing: AbortSignal
}

/**
 * Who goes next. As with the kubelet, pods that use more than they asked for come before all others, then the less
 * important ones, then those that use most beyond it. Whose pods, is decided before: first those of tenants that took
 * more than they asked for, of these the ones that the operator put lower, of these the one that took most. So nobody
 * loses a pod because another tenant of its rank is greedy, and what a tenant says of its pods counts among them alone.
 */
export function planMemoryRelief<E extends Eater>(pods: readonly E[]): E | undefined {
  const excess = (pod: E) => usedBy(pod) - pod.memoryBytesRequest
  const beyond = new Map<TenantName, number>()
  for (const pod of pods) beyond.set(pod.tenant, (beyond.get(pod.tenant) ?? 0) + Math.max(0, excess(pod)))
  const tookMore = ({ tenant }: E) => Number((beyond.get(tenant) ?? 0) > 0)
  const amongTenants = (a: E, b: E) =>
    tookMore(b) - tookMore(a) ||
    a.tenantPriority - b.tenantPriority ||
    (beyond.get(b.tenant) ?? 0) - (beyond.get(a.tenant) ?? 0) ||
    (a.tenant < b.tenant ? -1 : a.tenant > b.tenant ? 1 : 0)
  const order = (a: E, b: E) =>
    amongTenants(a, b) ||
    Number(excess(b) > 0) - Number(excess(a) > 0) ||
    a.priority - b.priority ||
    excess(b) - excess(a)
  return pods.filter((pod) => usedBy(pod) > 0).sort(order)[0]
}

function usedBy({ containers }: Eater): number {
  return containers.reduce((sum, { workingSetBytes }) => sum + workingSetBytes, 0)
}

/** In the kubelet's words, without what would tell about the machine and its other tenants. */
function renderEviction({ containers }: Eater): string {
  const greedy = containers
    .filter(({ workingSetBytes, requestBytes }) => workingSetBytes > requestBytes)
    .map(
      ({ name, workingSetBytes, requestBytes }) =>
        `Container ${name} was using ${Math.floor(workingSetBytes / 1_024)}Ki, request is ${renderQuantity({ nanos: BigInt(requestBytes) * 1_000_000_000n, notation: 'binary' })}, has larger consumption of memory. `,
    )
  return `The node was low on resource: memory. ${greedy.join('')}`
}
