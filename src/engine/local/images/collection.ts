import type { TenantName } from '../../../api/index.ts'

/** An image that a tenant has pulled, as one candidate for going. */
export type PinnedImage = {
  tenant: TenantName | string
  name: string
  /** Digests of what it consists of, with their sizes in bytes. */
  parts: ReadonlyMap<string, number>
  /** When the tenant last started something of it; 0 when that was in an earlier life. */
  usedAtMs: number
  /** A container has it, or is about to. */
  inUse: boolean
}

/**
 * Which images go so that `bytes` become free: those of the tenant that has most, the longest unused first, and none
 * that is in use. What two images share goes with the last of them only. Pure.
 */
export function planCollection(images: readonly PinnedImage[], bytes: number): PinnedImage[] {
  const left = new Set(images)
  const holders = new Map<string, number>()
  for (const { parts } of images)
    for (const digest of parts.keys()) holders.set(digest, (holders.get(digest) ?? 0) + 1)
  const sizes = new Map<string, number>()
  for (const image of images) sizes.set(image.tenant, (sizes.get(image.tenant) ?? 0) + sizeOf(image))
  const gone: PinnedImage[] = []
  for (let freed = 0; freed < bytes;) {
    const next = [...left]
      .filter(({ inUse }) => !inUse)
      .sort(
        (a, b) =>
          (sizes.get(b.tenant) ?? 0) - (sizes.get(a.tenant) ?? 0) ||
          (a.tenant < b.tenant ? -1 : a.tenant > b.tenant ? 1 : a.usedAtMs - b.usedAtMs),
      )[0]
    if (!next) break
    left.delete(next)
    gone.push(next)
    sizes.set(next.tenant, (sizes.get(next.tenant) ?? 0) - sizeOf(next))
    for (const [digest, size] of next.parts) {
      const holding = (holders.get(digest) ?? 1) - 1
      holders.set(digest, holding)
      if (holding === 0) freed += size
    }
  }
  return gone
}

function sizeOf({ parts }: PinnedImage): number {
  return [...parts.values()].reduce((sum, size) => sum + size, 0)
}
