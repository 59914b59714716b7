import type { Jail, Shortage } from '../../../jail/index.ts'

/** What pods together have been promised. */
export type Load = { cpuMillis: number; memoryBytes: number; pods: number }

export const NO_LOAD: Load = { cpuMillis: 0, memoryBytes: 0, pods: 0 }

/**
 * What a pod is promised: its containers and sidecars together, or an init container with the sidecars that were started
 * before it, whichever is more (KEP-753).
 */
export function loadOf({ initContainers, containers }: Pick<Jail, 'initContainers' | 'containers'>): Load {
  const most = (read: (resources: Jail['containers'][number]['resources']) => number): number => {
    let sidecars = 0
    let starting = 0
    for (const { restartPolicy, resources } of initContainers) {
      const own = read(resources)
      if (restartPolicy === 'Always') sidecars += own
      starting = Math.max(starting, restartPolicy === 'Always' ? sidecars : sidecars + own)
    }
    return Math.max(
      starting,
      containers.reduce((sum, { resources }) => sum + read(resources), sidecars),
    )
  }
  return {
    cpuMillis: most((resources) => resources.cpuMillisRequest),
    memoryBytes: most((resources) => resources.memoryBytesRequest),
    pods: 1,
  }
}

export function addLoad(a: Load, b: Load): Load {
  return {
    cpuMillis: a.cpuMillis + b.cpuMillis,
    memoryBytes: a.memoryBytes + b.memoryBytes,
    pods: a.pods + b.pods,
  }
}

/** Of what there is not enough. As upstream: who asks for nothing of a resource does not lack it. */
export function planShortage(wanted: Load, used: Load, room: Load): Shortage[] {
  const missing: Shortage[] = []
  if (used.pods + wanted.pods > room.pods) missing.push('pods')
  if (wanted.cpuMillis > 0 && used.cpuMillis + wanted.cpuMillis > room.cpuMillis) missing.push('cpu')
  if (wanted.memoryBytes > 0 && used.memoryBytes + wanted.memoryBytes > room.memoryBytes)
    missing.push('memory')
  return missing
}
