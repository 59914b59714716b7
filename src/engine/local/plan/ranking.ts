import type { TenantName } from '../../../api/index.ts'
import type { JailId, TenantRank } from '../../../jail/index.ts'
import { addLoad, type Load, NO_LOAD, planShortage } from './room.ts'

/** A pod that has a place. Its priority is its own tenant's writing and counts among that tenant's pods only. */
export type PlacedPod = { id: JailId; load: Load; priority: number; sinceMs: number }

/** A tenant with what it has been promised by now. */
export type Standing = {
  tenant: TenantName
  rank: TenantRank
  used: Load
  pods: readonly PlacedPod[]
}

const RESOURCES = ['cpuMillis', 'memoryBytes'] as const
type Resource = (typeof RESOURCES)[number]

/**
 * Whose pods go so that another tenant's pod has room. What a tenant is guaranteed nobody takes; what it has beyond that
 * is borrowed, and goes to a tenant that comes for its guarantee, and to one that the operator put higher. Undefined
 * when all that may go would not be enough: then nobody goes. Pure.
 */
export function planReclaim(
  wanted: Load,
  mine: Pick<Standing, 'rank' | 'used'>,
  others: readonly Standing[],
  room: Load,
): readonly { tenant: TenantName; pod: PlacedPod }[] | undefined {
  const total = others.reduce((sum, { used }) => addLoad(sum, used), mine.used)
  if (planShortage(wanted, total, room).length === 0) return []
  const returning = isGuaranteed(addLoad(mine.used, wanted), wanted, mine.rank)
  const victims: { tenant: TenantName; pod: PlacedPod }[] = []
  let freed = NO_LOAD
  const enough = (without: Load) => planShortage(wanted, minus(total, without), room).length === 0
  for (const { tenant, rank, used, pods } of [...others].sort(whoGoesFirst)) {
    if (!returning && priorityOf(rank) >= priorityOf(mine.rank)) continue
    let left = used
    for (const pod of [...pods].sort(whichGoesFirst)) {
      if (enough(freed)) break
      if (!hasBorrowed(left, pod.load, rank)) continue
      left = minus(left, pod.load)
      freed = addLoad(freed, pod.load)
      victims.push({ tenant, pod })
    }
  }
  if (!enough(freed)) return undefined
  // The last ones may have been large enough to spare earlier ones, who have the best claim of those to stay.
  for (const victim of [...victims].reverse()) {
    const spared = minus(freed, victim.pod.load)
    if (!enough(spared)) continue
    freed = spared
    victims.splice(victims.indexOf(victim), 1)
  }
  return victims
}

/** Whether so much is within the guarantee in everything that a pod asks for. */
function isGuaranteed(together: Load, wanted: Load, { guaranteed = {} }: TenantRank): boolean {
  const asked = RESOURCES.filter((resource) => wanted[resource] > 0)
  return asked.length > 0 && asked.every((resource) => together[resource] <= (guaranteed[resource] ?? 0))
}

/** Whether a pod has something of what its tenant uses beyond its guarantee. Who asked for nothing was promised nothing. */
function hasBorrowed(used: Load, pod: Load, { guaranteed = {} }: TenantRank): boolean {
  const beyond = (resource: Resource) => pod[resource] > 0 && used[resource] > (guaranteed[resource] ?? 0)
  return RESOURCES.every((resource) => pod[resource] === 0) || RESOURCES.some(beyond)
}

function whoGoesFirst(a: Standing, b: Standing): number {
  const borrowed = ({ used, rank }: Standing) => used.memoryBytes - (rank.guaranteed?.memoryBytes ?? 0)
  return (
    priorityOf(a.rank) - priorityOf(b.rank) || borrowed(b) - borrowed(a) || (a.tenant < b.tenant ? -1 : 1)
  )
}

/** The least important of its tenant, and of those the youngest. */
function whichGoesFirst(a: PlacedPod, b: PlacedPod): number {
  return a.priority - b.priority || b.sinceMs - a.sinceMs || (a.id < b.id ? -1 : 1)
}

export function priorityOf({ priority = 0 }: TenantRank): number {
  return priority
}

function minus(a: Load, b: Load): Load {
  return {
    cpuMillis: a.cpuMillis - b.cpuMillis,
    memoryBytes: a.memoryBytes - b.memoryBytes,
    pods: a.pods - b.pods,
  }
}
