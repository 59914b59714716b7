import { parseQuantity, renderQuantity } from '../../../api/index.ts'
import type { Jail } from '../../../jail/index.ts'
import { POD_DISK_BYTES_MAX } from '../limits.ts'

/** What a pod occupies on disk, in bytes of blocks: a file with holes counts what it really takes. */
export type DiskUsage = {
  total: number
  /** By the name of the volume. */
  volumes: ReadonlyMap<string, number>
  /** Writable layers, by the id of the container. */
  layers: ReadonlyMap<string, number>
  /** By the name of the container. */
  logs: ReadonlyMap<string, number>
}

/**
 * Why a pod must go for what it occupies, in the kubelet's order and words; undefined when all is within its limits.
 * `containerIds` says which writable layer is whose. Pure.
 * https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#resource-emphemeralstorage-consumption
 */
export function planEviction(
  jail: Jail,
  usage: DiskUsage,
  containerIds: ReadonlyMap<string, string>,
): string | undefined {
  for (const volume of jail.volumes) {
    if (volume.kind !== 'scratch' || volume.medium !== 'disk') continue
    if ((usage.volumes.get(volume.name) ?? 0) > volume.sizeBytesMax)
      return `Usage of EmptyDir volume "${volume.name}" exceeds the limit "${renderBytes(volume.sizeBytesMax)}". `
  }
  const limit = podLimit(jail)
  if (usage.total > limit)
    return `Pod ephemeral local storage usage exceeds the total limit of containers ${renderBytes(limit)}. `
  for (const { name, resources } of [...jail.initContainers, ...jail.containers]) {
    const own = resources.ephemeralStorageBytesLimit
    if (own === undefined) continue
    const used = (usage.layers.get(containerIds.get(name) ?? '') ?? 0) + (usage.logs.get(name) ?? 0)
    if (used > own)
      return `Container ${name} exceeded its local ephemeral storage limit "${renderBytes(own)}". `
  }
  return undefined
}

/** The limits that containers have, added up, or that of an init container where it is larger; never without one. */
function podLimit(jail: Jail): number {
  const limitOf = (c: Jail['containers'][number]) => c.resources.ephemeralStorageBytesLimit ?? 0
  const sidecars = jail.initContainers.filter((c) => c.restartPolicy === 'Always')
  const together = [...jail.containers, ...sidecars].reduce((sum, c) => sum + limitOf(c), 0)
  return Math.max(together, ...jail.initContainers.map(limitOf)) || POD_DISK_BYTES_MAX
}

/** As a tenant would write it. */
function renderBytes(bytes: number): string {
  return renderQuantity({ ...parseQuantity(bytes), notation: bytes % 1_024 === 0 ? 'binary' : 'decimal' })
}
