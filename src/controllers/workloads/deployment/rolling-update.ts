import type { Deployment } from '../../kinds.ts'

/**
 * The arithmetic of a rolling update. Everything is in numbers of pods.
 * https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment
 */

/** The one ReplicaSet's part that the arithmetic needs. */
export type Shard = { replicas: number; available: number }

/** A number, or a percentage of `total`; anything else counts as 0. */
export function scaledValue(value: number | string | undefined, total: number, round: 'up' | 'down'): number {
  if (typeof value === 'number') return value
  const percent = /^(\d{1,9})%$/.exec(value ?? '')?.[1]
  if (percent === undefined) return /^\d{1,9}$/.test(value ?? '') ? Number(value) : 0
  const scaled = (Number(percent) * total) / 100
  return round === 'up' ? Math.ceil(scaled) : Math.floor(scaled)
}

export type RollingBounds = { replicas: number; maxSurge: number; maxUnavailable: number }

/** What the deployment's strategy allows. Both zero would never move, so then one pod may be missing. */
export function rollingBounds({ spec }: Deployment): RollingBounds {
  const replicas = spec.replicas ?? 1
  if (spec.strategy?.type === 'Recreate') return { replicas, maxSurge: 0, maxUnavailable: 0 }
  const maxSurge = scaledValue(spec.strategy?.rollingUpdate?.maxSurge ?? '25%', replicas, 'up')
  let maxUnavailable = scaledValue(spec.strategy?.rollingUpdate?.maxUnavailable ?? '25%', replicas, 'down')
  if (maxSurge === 0 && maxUnavailable === 0) maxUnavailable = 1
  return { replicas, maxSurge, maxUnavailable: Math.min(maxUnavailable, replicas) }
}

function sum(shards: readonly Shard[], of: (shard: Shard) => number): number {
  return shards.reduce((total, shard) => total + of(shard), 0)
}

/** How many replicas the new ReplicaSet gets now. */
export function planNewReplicas(fresh: Shard, old: readonly Shard[], bounds: RollingBounds): number {
  if (fresh.replicas >= bounds.replicas) return bounds.replicas
  const room = bounds.replicas + bounds.maxSurge - fresh.replicas - sum(old, (s) => s.replicas)
  if (room <= 0) return fresh.replicas
  return fresh.replicas + Math.min(room, bounds.replicas - fresh.replicas)
}

/**
 * How many replicas each old ReplicaSet keeps now; `old` is in the order of creation. Pods that do not work go first,
 * because deleting them makes nothing worse; then as many as are available beyond the least allowed.
 */
export function planOldReplicas(fresh: Shard, old: readonly Shard[], bounds: RollingBounds): number[] {
  const minAvailable = bounds.replicas - bounds.maxUnavailable
  const keep = old.map((shard) => shard.replicas)
  const all = fresh.replicas + sum(old, (s) => s.replicas)
  const freshUnavailable = fresh.replicas - fresh.available
  let removable = all - minAvailable - freshUnavailable
  if (removable <= 0) return keep

  old.forEach((shard, index) => {
    const broken = Math.min(Math.max(0, removable), Math.max(0, shard.replicas - shard.available))
    keep[index] = shard.replicas - broken
    removable -= broken
  })

  let surplus = fresh.available + sum(old, (s) => s.available) - minAvailable
  keep.forEach((replicas, index) => {
    if (surplus <= 0) return
    const removed = Math.min(replicas, surplus)
    keep[index] = replicas - removed
    surplus -= removed
  })
  return keep
}

/** A ReplicaSet that takes part in proportional scaling. */
export type ScalableShard = {
  replicas: number
  /** `replicas + maxSurge` of the deployment when it was scaled the last time. */
  maxReplicas: number
}

/**
 * Spreads a change of the deployment's size over the ReplicaSets of a rollout that is under way, in proportion to
 * their sizes. `shards` come in order: the largest first, of equals the newest first when growing, the oldest when
 * shrinking. What rounding leaves over goes to the first.
 */
export function planProportions(shards: readonly ScalableShard[], bounds: RollingBounds): number[] {
  const allowed = bounds.replicas > 0 ? bounds.replicas + bounds.maxSurge : 0
  const toAdd = allowed - shards.reduce((total, shard) => total + shard.replicas, 0)
  if (toAdd === 0) return shards.map((shard) => shard.replicas)
  let added = 0
  const sizes = shards.map((shard) => {
    const proportion = proportionOf(shard, bounds, toAdd, added)
    added += proportion
    return shard.replicas + proportion
  })
  if (sizes[0] !== undefined) sizes[0] = Math.max(0, sizes[0] + toAdd - added)
  return sizes
}

function proportionOf(shard: ScalableShard, bounds: RollingBounds, toAdd: number, added: number): number {
  if (shard.replicas === 0 || toAdd === added) return 0
  const left = toAdd - added
  const fraction =
    bounds.replicas === 0
      ? -shard.replicas
      : roundHalfAway(
          (shard.replicas * (bounds.replicas + bounds.maxSurge)) / Math.max(1, shard.maxReplicas),
        ) - shard.replicas
  // Whatever somebody wrote into the annotations, growing shrinks none and shrinking grows none.
  return toAdd > 0 ? Math.max(0, Math.min(fraction, left)) : Math.min(0, Math.max(fraction, left))
}

/** Go's math.Round, which upstream uses; Math.round differs for negative halves. */
function roundHalfAway(value: number): number {
  return Math.sign(value) * Math.round(Math.abs(value))
}
