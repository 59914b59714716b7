import { parseQuantity, renderQuantity } from '../../../api/index.ts'
import type { Jail } from '../../../jail/index.ts'
import { POD_BYTES_PER_FILE, POD_DISK_BYTES_MAX, POD_FILES_MIN, TENANT_DISK_PARTS } from '../limits.ts'

export type DiskRoom = { bytes: number; bytesFree: number; files: number; filesFree: number }

/** What a pod occupies on disk, in bytes of blocks: a file with holes counts what it really takes. */
export type DiskUsage = {
  total: number
  /** Files, directories and links, of which each takes an inode. */
  files: number
  /** By the name of the volume. */
  volumes: ReadonlyMap<string, number>
  /** Writable layers, by the id of the container. */
  layers: ReadonlyMap<string, number>
  /** By the name of the container. */
  logs: ReadonlyMap<string, number>
  /** What nothing more can be written to. */
  full: readonly FullFileSystem[]
}

export type FullFileSystem = {
  of: { kind: 'volume'; name: string } | { kind: 'pod' } | { kind: 'tenant' }
  what: 'bytes' | 'files'
}

/** What a tenant is told of a file system that is full: writes fail, and nobody is evicted for it. Pure. */
export function tellOfFull({ of, what }: FullFileSystem): string {
  const whose =
    of.kind === 'volume'
      ? `The volume "${of.name}" has`
      : of.kind === 'pod'
        ? 'The pod has'
        : 'All pods of the tenant together have'
  const limit = what === 'bytes' ? 'all the ephemeral storage' : 'as many files in ephemeral storage as'
  return `${whose} ${limit} ${of.kind === 'tenant' ? 'they' : 'it'} may have: writes fail with "no space left on device".`
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
  const filesMax = podFilesMax(limit)
  if (usage.files > filesMax)
    return `Pod ephemeral local storage has ${usage.files} files, which exceeds the limit of ${filesMax}. `
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
export function podLimit(jail: Jail): number {
  const limitOf = (c: Jail['containers'][number]) => c.resources.ephemeralStorageBytesLimit ?? 0
  const sidecars = jail.initContainers.filter((c) => c.restartPolicy === 'Always')
  const together = [...jail.containers, ...sidecars].reduce((sum, c) => sum + limitOf(c), 0)
  return Math.max(together, ...jail.initContainers.map(limitOf)) || POD_DISK_BYTES_MAX
}

/** Of a pod that may occupy so many bytes. */
export function podFilesMax(bytesMax: number): number {
  return Math.max(POD_FILES_MIN, Math.floor(bytesMax / POD_BYTES_PER_FILE))
}

/**
 * Why the largest pod of a tenant must go: its file system is nearly full, by what its pods were measured to have or by
 * what the kernel says is gone, as of files that are open and have no name. Pure.
 */
export function planTenantEviction(
  usages: readonly Pick<DiskUsage, 'total' | 'files'>[],
  { bytes, bytesFree, files, filesFree }: DiskRoom,
): { index: number; message: string } | undefined {
  const over = (
    sizeOf: (usage: Pick<DiskUsage, 'total' | 'files'>) => number,
    most: number,
    gone: number,
  ) => {
    const used = Math.max(
      gone,
      usages.reduce((total, usage) => total + sizeOf(usage), 0),
    )
    if (usages.length === 0 || used <= most) return undefined
    return usages.reduce((best, usage, at) => (sizeOf(usage) > sizeOf(usages[best] ?? usage) ? at : best), 0)
  }
  const part = (of: number) => Math.floor((of / TENANT_DISK_PARTS) * (TENANT_DISK_PARTS - 1))
  const byBytes = over(({ total }) => total, part(bytes), bytes - bytesFree)
  if (byBytes !== undefined)
    return {
      index: byBytes,
      message: `Pods of this tenant together occupy more than ${renderBytes(part(bytes))} of its ${renderBytes(bytes)} of ephemeral storage, and this is the largest. `,
    }
  const byFiles = files === 0 ? undefined : over((usage) => usage.files, part(files), files - filesFree)
  if (byFiles !== undefined)
    return {
      index: byFiles,
      message: `Pods of this tenant together have more than ${part(files)} files in its ephemeral storage, and this one has most. `,
    }
  return undefined
}

/** As a tenant would write it. */
function renderBytes(bytes: number): string {
  return renderQuantity({ ...parseQuantity(bytes), notation: bytes % 1_024 === 0 ? 'binary' : 'decimal' })
}
