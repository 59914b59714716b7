import type { DaemonSet, DaemonSetStatus, Pod, PodSpec } from '../../kinds.ts'
import { REVISION_LABEL } from '../history.ts'
import { availableAtMs, isReady } from '../pods.ts'

export type DaemonSetPlan = {
  /** True to make a pod of the newest template. */
  create: boolean
  remove: Pod[]
  /** Pods of `remove` that have ended. */
  ended: Pod[]
}

type Context = {
  nowMs: number
  isGoing: (pod: Pod) => boolean
  hash: string
  /** False when the template asks for another node than there is. */
  fits: boolean
}

/**
 * What to do next for the one node that there is. `hash` names the newest template. With `maxSurge` a new pod is there
 * before the old one goes, otherwise the old one goes first.
 */
export function planNode(
  set: DaemonSet,
  pods: readonly Pod[],
  { nowMs, isGoing, hash, fits }: Context,
): DaemonSetPlan {
  const plan: DaemonSetPlan = { create: false, remove: [], ended: [] }
  if (set.metadata.deletionTimestamp) return plan
  const staying = byAge(pods).filter((pod) => !isGoing(pod))
  plan.ended = staying.filter(({ status }) => status?.phase === 'Failed' || status?.phase === 'Succeeded')
  const running = staying.filter((pod) => !plan.ended.includes(pod))
  const isAvailable = (pod: Pod): boolean => {
    const atMs = availableAtMs(pod, set.spec.minReadySeconds ?? 0)
    return atMs !== undefined && atMs <= nowMs
  }
  plan.remove.push(...plan.ended)
  if (!fits) {
    plan.remove.push(...running)
    return plan
  }
  // A pod that is going, or has just been told to, keeps its place until it is gone.
  if (pods.length === 0) return { ...plan, create: true }

  const rolling =
    set.spec.updateStrategy?.type === 'OnDelete' ? undefined : set.spec.updateStrategy?.rollingUpdate
  const fresh = running.filter((pod) => pod.metadata.labels?.[REVISION_LABEL] === hash)
  const stale = running.filter((pod) => pod.metadata.labels?.[REVISION_LABEL] !== hash)
  if (!rolling || !allows(rolling.maxSurge)) {
    const [oldest, ...others] = running
    plan.remove.push(...others)
    // A pod that is unavailable anyway may go; on one node any allowance above zero lets an available one go too.
    if (rolling && oldest && stale.includes(oldest) && pods.every((pod) => !isGoing(pod)))
      plan.remove.push(oldest)
    return plan
  }
  const [newest, ...spareFresh] = fresh
  const [old, ...spareStale] = stale
  plan.remove.push(...spareFresh, ...spareStale)
  if (!old) return plan
  if (!newest) plan.create = pods.every((pod) => pod.metadata.labels?.[REVISION_LABEL] !== hash)
  else if (!isAvailable(old) || isAvailable(newest)) plan.remove.push(old)
  return plan
}

/** Whether a bound lets one node differ: percentages of one node are rounded up. */
function allows(bound: number | string | undefined): boolean {
  return typeof bound === 'string' ? Number.parseInt(bound, 10) > 0 : (bound ?? 0) > 0
}

/** Those that have a node before those that have none, then the oldest first. */
function byAge(pods: readonly Pod[]): Pod[] {
  return pods.toSorted(
    (a, b) =>
      Number(Boolean(b.spec.nodeName)) - Number(Boolean(a.spec.nodeName)) ||
      Date.parse(a.metadata.creationTimestamp) - Date.parse(b.metadata.creationTimestamp) ||
      (a.metadata.name < b.metadata.name ? -1 : 1),
  )
}

/** The status as it should be. */
export function planStatus(
  set: DaemonSet,
  pods: readonly Pod[],
  { nowMs, hash, fits, collisionCount }: Omit<Context, 'isGoing'> & { collisionCount?: number | undefined },
): { status: DaemonSetStatus; availableInMs?: number } {
  const [pod] = byAge(pods)
  const availableMs = pod && availableAtMs(pod, set.spec.minReadySeconds ?? 0)
  const available = fits && availableMs !== undefined && availableMs <= nowMs
  const status: DaemonSetStatus = {
    currentNumberScheduled: fits && pod ? 1 : 0,
    desiredNumberScheduled: fits ? 1 : 0,
    numberMisscheduled: !fits && pod ? 1 : 0,
    numberReady: fits && pod && isReady(pod) ? 1 : 0,
    updatedNumberScheduled: fits && pod?.metadata.labels?.[REVISION_LABEL] === hash ? 1 : 0,
    numberAvailable: available ? 1 : 0,
    numberUnavailable: available || !fits ? 0 : 1,
    observedGeneration: Math.max(set.metadata.generation ?? 0, set.status?.observedGeneration ?? 0),
    ...(collisionCount === undefined ? {} : { collisionCount }),
    ...(set.status?.conditions ? { conditions: set.status.conditions } : {}),
  }
  return {
    status,
    ...(fits && availableMs !== undefined && availableMs > nowMs
      ? { availableInMs: availableMs - nowMs }
      : {}),
  }
}

type Toleration = NonNullable<PodSpec['tolerations']>[number]

/** What upstream lets every daemon put up with: it belongs to the node, however the node is. */
const TOLERATED: readonly Toleration[] = [
  ['not-ready', 'NoExecute'],
  ['unreachable', 'NoExecute'],
  ['disk-pressure', 'NoSchedule'],
  ['memory-pressure', 'NoSchedule'],
  ['pid-pressure', 'NoSchedule'],
  ['unschedulable', 'NoSchedule'],
].map(([taint, effect]) => ({ key: `node.kubernetes.io/${taint}`, operator: 'Exists', effect }) as Toleration) // of the effects that there are

export function planTolerations(given: readonly Toleration[] = []): Toleration[] {
  const isKnown = ({ key, effect }: Toleration) =>
    given.some((own) => own.key === key && own.operator === 'Exists' && own.effect === effect)
  return [...given, ...TOLERATED.filter((toleration) => !isKnown(toleration))]
}
