import type { Jail, JailContainer, JailResources, TenantQuota } from '../../../../jail/index.ts'
import type { OciResources } from './config-types.ts'
import { ContainerError } from './container-error.ts'

const CPU_PERIOD_US = 100_000
const CPU_QUOTA_MIN_US = 1_000
/** Ten thousand cores: no limit at all, and the kernel still takes the number. */
const CPU_QUOTA_MAX_US = 10_000 * CPU_PERIOD_US
const CPU_SHARES_MIN = 2
const CPU_SHARES_MAX = 262_144
/** Below this not even the runtime's own first steps fit. */
const MEMORY_BYTES_MIN = 4 * 1024 * 1024
const SANDBOX_MEMORY_BYTES_MIN = 32 * 1024 * 1024

/** What a gVisor sandbox takes besides its workload: a sentry and gofers (measured: 12.6 MB and 33 tasks when idle). */
export const GVISOR_MEMORY_OVERHEAD_BYTES = 48 * 1024 * 1024
export const GVISOR_PIDS_OVERHEAD = 512
export const PIDS_PER_CONTAINER_MAX = 1_024
export const PIDS_PER_POD_MAX = 2_048
export const PIDS_PER_TENANT_MAX = 16_384
/** Of one user of the machine in a sandbox's own user namespace, where the kernel counts without cgroups. */
export const PIDS_PER_SANDBOX_USER_MAX = PIDS_PER_POD_MAX + GVISOR_PIDS_OVERHEAD

/** A cgroup's limits in units both cgroup versions can express. Absent means the parent's. */
export type CgroupLimits = {
  cpuShares: number
  cpuQuotaUs?: number
  memoryBytesMax?: number
  pidsMax: number
}

export function cpuShares(millis: number): number {
  return Math.min(CPU_SHARES_MAX, Math.max(CPU_SHARES_MIN, Math.floor((millis * 1_024) / 1_000)))
}

export function cpuQuotaUs(millis: number): number {
  return Math.min(CPU_QUOTA_MAX_US, Math.max(CPU_QUOTA_MIN_US, Math.floor((millis * CPU_PERIOD_US) / 1_000)))
}

/** Limits of one container in a cgroup of its own (not gVisor, where the sandbox is one cgroup). */
export function renderResources(resources: JailResources, { swap }: { swap: boolean }): OciResources {
  checkNumbers(resources)
  const memory = resources.memoryBytesLimit
  return {
    devices: [{ allow: false, access: 'rwm' }],
    ...(memory === undefined
      ? {}
      : {
          memory: {
            limit: Math.max(memory, MEMORY_BYTES_MIN),
            // Equal to the limit means: no swap, so that the limit is the limit.
            ...(swap ? { swap: Math.max(memory, MEMORY_BYTES_MIN) } : {}),
          },
        }),
    cpu: {
      shares: cpuShares(resources.cpuMillisRequest),
      ...(resources.cpuMillisLimit === undefined
        ? {}
        : { quota: cpuQuotaUs(resources.cpuMillisLimit), period: CPU_PERIOD_US }),
    },
    pids: { limit: PIDS_PER_CONTAINER_MAX },
  }
}

/**
 * Limits of the whole pod. Memory and cpu are limited only if every container is; an init container runs before the
 * others, so the pod needs the larger of both.
 */
export function podLimits(jail: Jail, { gvisor }: { gvisor: boolean }): CgroupLimits {
  for (const container of [...jail.initContainers, ...jail.containers]) checkNumbers(container.resources)
  const sidecars = jail.initContainers.filter((c) => c.restartPolicy === 'Always')
  const together = [...jail.containers, ...sidecars]
  const cpu = largerLimit(jail.initContainers, together, (r) => r.cpuMillisLimit)
  const memory = largerLimit(jail.initContainers, together, (r) => r.memoryBytesLimit)
  const request = sum(together.map((c) => c.resources.cpuMillisRequest))
  return {
    cpuShares: cpuShares(request),
    ...(cpu === undefined ? {} : { cpuQuotaUs: cpuQuotaUs(cpu) }),
    ...(memory === undefined
      ? {}
      : {
          memoryBytesMax: gvisor
            ? Math.max(memory, SANDBOX_MEMORY_BYTES_MIN) + GVISOR_MEMORY_OVERHEAD_BYTES
            : Math.max(memory, MEMORY_BYTES_MIN),
        }),
    pidsMax: PIDS_PER_POD_MAX + (gvisor ? GVISOR_PIDS_OVERHEAD : 0),
  }
}

/**
 * Limits of all pods of a tenant together; no quota of processors means the machine's. What gVisor needs for itself is not the
 * tenant's to pay for, so it comes on top for each of `pods`.
 */
export function tenantLimits(
  { pods: podsMax, cpuMillis, memoryBytes }: TenantQuota,
  { gvisor, pods, memoryBytesDefault }: { gvisor: boolean; pods: number; memoryBytesDefault: number },
): { cpuQuotaUs: number | undefined; memoryBytesMax: number; pidsMax: number } {
  const overhead = gvisor ? GVISOR_MEMORY_OVERHEAD_BYTES + SANDBOX_MEMORY_BYTES_MIN : MEMORY_BYTES_MIN
  const pidsPerPod = PIDS_PER_POD_MAX + (gvisor ? GVISOR_PIDS_OVERHEAD : 0)
  return {
    cpuQuotaUs: cpuMillis === undefined ? undefined : cpuQuotaUs(cpuMillis),
    memoryBytesMax: memoryBytes === undefined ? memoryBytesDefault : memoryBytes + pods * overhead,
    pidsMax: Math.min(PIDS_PER_TENANT_MAX, Math.max(1, podsMax ?? Infinity) * pidsPerPod),
  }
}

function largerLimit(
  init: readonly JailContainer[],
  together: readonly JailContainer[],
  read: (resources: JailResources) => number | undefined,
): number | undefined {
  const main = together.map((c) => read(c.resources))
  const first = init.map((c) => read(c.resources))
  if ([...main, ...first].includes(undefined)) return undefined
  // `filter` only tells the compiler what the line above made sure of.
  const known = (values: readonly (number | undefined)[]) => values.filter((v) => v !== undefined)
  return Math.max(sum(known(main)), ...known(first))
}

/**
 * How readily the kernel kills the container when the machine is short of memory, as the kubelet computes it.
 * Never below our own: the platform's daemons go last, and lowering it needs CAP_SYS_RESOURCE.
 */
export function oomScoreAdj(
  resources: JailResources,
  { own, memoryBytesTotal }: { own: number; memoryBytesTotal: number },
): number {
  checkNumbers(resources)
  const { memoryBytesRequest: request, memoryBytesLimit: limit } = resources
  const guaranteed =
    limit !== undefined && limit === request && resources.cpuMillisLimit === resources.cpuMillisRequest
  const wanted = guaranteed
    ? 0
    : request === 0
      ? 1_000
      : Math.min(999, Math.max(2, 1_000 - Math.floor((1_000 * request) / memoryBytesTotal)))
  return Math.min(1_000, Math.max(wanted, own))
}

function checkNumbers(resources: JailResources): void {
  for (const [field, value] of Object.entries(resources))
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 0))
      throw new ContainerError(
        'CreateContainerConfigError',
        `resources.${field} is not a whole number of at least 0`,
      )
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, n) => total + n, 0)
}
