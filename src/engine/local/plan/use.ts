import type { TenantName } from '../../../api/index.ts'

/** What a tenant's pods may use together, and what they were seen to use, without asking any cgroup. */
export type TenantUse = {
  tenant: TenantName
  limits: { cpus: number | undefined; memoryBytes: number; tasks: number }
  cpus: number
  memoryBytes: number
  tasks: number
  /** `undefined` is what belongs to no pod that we know. */
  pods: readonly { pod: string | undefined; memoryBytes: number; tasks: number }[]
}

export type UseStep =
  /** Its largest pod ends, because the kernel did not hold the tenant to what it may have. */
  | { kind: 'end'; tenant: TenantName; pod: string | undefined; what: 'memory' | 'tasks' }
  /** It goes behind all others until it uses no more than its part. */
  | { kind: 'yield' | 'return'; tenant: TenantName }

/** The cgroups hold tenants to their limits exactly; so far beyond them something is broken. */
const TOLERANCE = 1.1
const MEMORY_TOLERANCE_BYTES = 64 * 1024 * 1024
const TASKS_TOLERANCE = 64
const CPU_TOLERANCE = 1.25
const CPU_IDLE = 0.05
/** So much of all processors is a machine on which somebody waits. */
const BUSY_PART = 0.9

export function isBeyond({ limits, memoryBytes, tasks }: TenantUse): 'memory' | 'tasks' | undefined {
  if (tasks > limits.tasks * TOLERANCE + TASKS_TOLERANCE) return 'tasks'
  if (memoryBytes > limits.memoryBytes * TOLERANCE + MEMORY_TOLERANCE_BYTES) return 'memory'
  return undefined
}

/** What to do about tenants that use more than they may. `yielding` are those that go behind others already. */
export function planUse(
  uses: readonly TenantUse[],
  { cpus, yielding }: { cpus: number; yielding: ReadonlySet<TenantName> },
): UseStep[] {
  const busy = uses.reduce((sum, use) => sum + use.cpus, 0) >= cpus * BUSY_PART
  const wanting = uses.filter((use) => use.cpus > CPU_IDLE).length
  return uses.flatMap((use): UseStep[] => {
    const { tenant, limits } = use
    const steps: UseStep[] = []
    const beyond = isBeyond(use)
    if (beyond !== undefined) {
      const size = (pod: TenantUse['pods'][number]) => (beyond === 'memory' ? pod.memoryBytes : pod.tasks)
      const largest = [...use.pods].sort((a, b) => size(b) - size(a))[0]
      steps.push({ kind: 'end', tenant, pod: largest?.pod, what: beyond })
    }
    const equalPart = cpus / Math.max(1, wanting)
    const takesMore =
      use.cpus > Math.min(limits.cpus ?? Infinity, busy && wanting > 1 ? equalPart : Infinity) * CPU_TOLERANCE
    if (takesMore !== yielding.has(tenant)) steps.push({ kind: takesMore ? 'yield' : 'return', tenant })
    return steps
  })
}
