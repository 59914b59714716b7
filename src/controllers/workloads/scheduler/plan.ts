import { parseQuantity } from '../../../api/index.ts'
import { claimsOf, isClaimOfPod, usesClaim } from '../../claims.ts'
import { ROOM_REQUESTS_MAX, type RoomRequest, type Shortage } from '../../../jail/index.ts'
import { podAmount } from '../../../policy/index.ts'
import type { Node, PersistentVolumeClaim, Pod } from '../../kinds.ts'
import { fitsNode } from '../node/plan.ts'

/** Why a pod cannot be placed yet, in upstream's words for one node; undefined when nothing keeps it. Pure. */
export function whyUnschedulable(
  pod: Pod,
  node: Node | undefined,
  findClaim: (name: string) => PersistentVolumeClaim | undefined,
  others: readonly Pod[],
): string | undefined {
  if (!node) return 'no nodes available to schedule pods'
  if (node.spec?.unschedulable && !toleratesCordon(pod)) return unavailable('1 node(s) were unschedulable')
  if (!fitsNode(pod.spec, node)) return unavailable("1 node(s) didn't match Pod's node affinity/selector")
  for (const { claim: name, isEphemeral, volume } of claimsOf(pod)) {
    const claim = findClaim(name)
    if (!claim)
      return unavailable(
        isEphemeral
          ? `waiting for ephemeral volume controller to create the persistentvolumeclaim ${JSON.stringify(name)}`
          : `persistentvolumeclaim ${JSON.stringify(name)} not found`,
      )
    if (isEphemeral && !isClaimOfPod(claim, pod))
      return unavailable(
        `PVC ${JSON.stringify(name)} was not created for the pod's volume ${JSON.stringify(volume)} (pod is not owner)`,
      )
    if (claim.metadata.deletionTimestamp)
      return unavailable(`persistentvolumeclaim ${JSON.stringify(name)} is being deleted`)
    if (claim.status?.phase === 'Lost')
      return unavailable(
        `persistentvolumeclaim ${JSON.stringify(name)} bound to non-existent persistentvolume ${JSON.stringify(claim.spec.volumeName ?? '')}`,
      )
    if (claim.status?.phase !== 'Bound')
      return unavailable('pod has unbound immediate PersistentVolumeClaims')
    if (
      claim.spec.accessModes?.includes('ReadWriteOncePod') &&
      others.some((other) => other.metadata.uid !== pod.metadata.uid && usesClaim(other, claim))
    )
      return unavailable(
        '1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode',
      )
  }
  return undefined
}

/** The taint that stands for a node which takes no new pods; pods of DaemonSets come nonetheless. */
const CORDONED = 'node.kubernetes.io/unschedulable'

function toleratesCordon({ spec: { tolerations = [] } }: Pod): boolean {
  return tolerations.some(
    ({ key = '', operator = 'Equal', value = '', effect = '' }) =>
      (effect === '' || effect === 'NoSchedule') &&
      (operator === 'Exists' ? key === '' || key === CORDONED : key === CORDONED && value === ''),
  )
}

const NOT_HELPFUL = '0/1 nodes are available: 1 Preemption is not helpful for scheduling.'

function unavailable(why: string): string {
  return `0/1 nodes are available: ${why}. preemption: ${NOT_HELPFUL}`
}

/** Upstream's words for what is missing. */
const WORDS = {
  cpu: '1 Insufficient cpu',
  memory: '1 Insufficient memory',
  'ephemeral-storage': '1 Insufficient ephemeral-storage',
  pods: '1 Too many pods',
} as const satisfies Record<Shortage | 'ephemeral-storage', string>
export type Missing = keyof typeof WORDS

/** Why there is no room, and why making less important pods go is no way out. */
export function noRoom(pod: Pod, missing: readonly Missing[]): string {
  const why = [...new Set(missing.map((what) => WORDS[what]))].sort().join(', ')
  const preemption =
    pod.spec.preemptionPolicy === 'Never'
      ? 'not eligible due to preemptionPolicy=Never.'
      : '0/1 nodes are available: 1 No preemption victims found for incoming pod.'
  return `0/1 nodes are available: ${why}. preemption: ${preemption}`
}

/** What the machine is asked to keep for a pod. More than any machine has is asked for as just that. */
export function roomFor(pod: Pod): RoomRequest {
  const asNumber = (nanos: bigint, unit: bigint, most: number): number => {
    const units = (nanos + unit - 1n) / unit
    return units > BigInt(most) ? most : Number(units)
  }
  return {
    cpuMillis: asNumber(podAmount(pod, 'requests', 'cpu'), 1_000_000n, ROOM_REQUESTS_MAX.cpuMillis),
    memoryBytes: asNumber(
      podAmount(pod, 'requests', 'memory'),
      1_000_000_000n,
      ROOM_REQUESTS_MAX.memoryBytes,
    ),
  }
}

const SHARED = ['cpu', 'memory', 'ephemeral-storage'] as const

/** Of what the tenant's share has not enough for a pod, beside pods that have their place in it. */
export function lackingIn(node: Node, pod: Pod, placed: readonly Pod[]): Missing[] {
  const room = node.status?.allocatable ?? {}
  const amount = (what: string): bigint | undefined => {
    const text = Object.hasOwn(room, what) ? room[what] : undefined
    return text === undefined ? undefined : parseQuantity(text).nanos
  }
  const missing: Missing[] = []
  const podsMax = amount('pods')
  if (podsMax !== undefined && BigInt(placed.length + 1) * 1_000_000_000n > podsMax) missing.push('pods')
  for (const what of SHARED) {
    const most = amount(what)
    const wanted = podAmount(pod, 'requests', what)
    if (most === undefined || wanted === 0n) continue
    const used = placed.reduce((sum, other) => sum + podAmount(other, 'requests', what), 0n)
    if (used + wanted > most) missing.push(what)
  }
  return missing
}

export function priorityOf(pod: Pod): number {
  return pod.spec.priority ?? 0
}

/** More important pods first, those that wait longer before others. */
export function byImportance(a: Pod, b: Pod): number {
  return (
    priorityOf(b) - priorityOf(a) ||
    Date.parse(a.metadata.creationTimestamp) - Date.parse(b.metadata.creationTimestamp) ||
    (a.metadata.name < b.metadata.name ? -1 : 1)
  )
}

/** Whether a pod has a place on the node, or is about to take the one that others had to leave for it. */
export function hasPlace(other: Pod, pod: Pod): boolean {
  if (other.metadata.uid === pod.metadata.uid || isOver(other)) return false
  if (other.spec.nodeName) return true
  return (
    other.status?.nominatedNodeName !== undefined &&
    other.metadata.deletionTimestamp === undefined &&
    priorityOf(other) >= priorityOf(pod)
  )
}

export function isOver({ status }: Pod): boolean {
  return status?.phase === 'Succeeded' || status?.phase === 'Failed'
}

/**
 * Pods that shall go so that a more important one has room, as upstream chooses them: all that are less important could
 * go; as many as possible stay, first those whose going a disruption budget forbids, then the more important ones.
 * Undefined when not even all of them are enough. `fits` tells whether there is room without some pods.
 */
export async function planVictims(
  pod: Pod,
  placed: readonly Pod[],
  {
    protectedByBudget,
    fits,
  }: {
    protectedByBudget: (victims: readonly Pod[]) => ReadonlySet<Pod>
    fits: (without: readonly Pod[]) => Promise<boolean>
  },
): Promise<Pod[] | undefined> {
  const lower = placed
    .filter((other) => other.spec.nodeName && priorityOf(other) < priorityOf(pod))
    .sort(byImportance)
  if (lower.length === 0 || !(await fits(lower))) return undefined
  const kept = protectedByBudget(lower)
  const spare = [...lower.filter((other) => kept.has(other)), ...lower.filter((other) => !kept.has(other))]
  let victims = lower
  for (const candidate of spare) {
    const fewer = victims.filter((other) => other !== candidate)
    if (await fits(fewer)) victims = fewer
  }
  return victims
}
