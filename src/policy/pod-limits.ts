import { type KubeObject, parseQuantity } from '../api/index.ts'

type Container = {
  name: string
  restartPolicy?: string
  resources?: { limits?: Record<string, string | number> }
}
type PodParts = {
  spec?: { containers?: Container[]; initContainers?: Container[] }
  status?: { phase?: string }
}

const NANOS_PER_MILLI = 1_000_000n
const NANOS_PER_BYTE = 1_000_000_000n

/** What a pod may use at most: cpu in thousandths of a core, memory in bytes. */
export type PodLimits = { cpuMillis: number; memoryBytes: number }

/** A pod that has ended uses nothing any more, however long its object is kept. */
export function usesNothing(pod: KubeObject): boolean {
  const { phase } = (pod as PodParts).status ?? {}
  return phase === 'Succeeded' || phase === 'Failed'
}

/** Names of the containers that may use as much as there is of a resource, because they state no limit. */
export function withoutLimit(pod: KubeObject, resource: 'cpu' | 'memory'): string[] {
  const { containers = [], initContainers = [] } = (pod as PodParts).spec ?? {}
  return [...initContainers, ...containers].filter((c) => amount(c, resource) === 0n).map((c) => c.name)
}

/**
 * The sum of the limits of all containers that run together; an init container runs before them, beside the sidecars
 * that were started earlier (KEP-753). As ResourceQuota counts `limits.cpu` and `limits.memory`.
 */
export function podLimitsOf(pod: KubeObject): PodLimits {
  return {
    cpuMillis: Number(atMost(pod, 'cpu') / NANOS_PER_MILLI),
    memoryBytes: Number(atMost(pod, 'memory') / NANOS_PER_BYTE),
  }
}

function atMost(pod: KubeObject, resource: 'cpu' | 'memory'): bigint {
  const { containers = [], initContainers = [] } = (pod as PodParts).spec ?? {}
  let sidecars = 0n
  let starting = 0n
  for (const container of initContainers) {
    const each = amount(container, resource)
    if (container.restartPolicy === 'Always') sidecars += each
    const now = container.restartPolicy === 'Always' ? sidecars : sidecars + each
    if (now > starting) starting = now
  }
  const together = containers.reduce((sum, container) => sum + amount(container, resource), sidecars)
  return together > starting ? together : starting
}

function amount({ resources }: Container, resource: 'cpu' | 'memory'): bigint {
  const limit = resources?.limits?.[resource]
  return limit === undefined ? 0n : parseQuantity(limit).nanos
}
