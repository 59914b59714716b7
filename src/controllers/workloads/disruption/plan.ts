import { matchesLabelSelector } from '../../../api/index.ts'
import { controllerOf, withCondition } from '../../conditions.ts'
import type { Pod, PodDisruptionBudget, PodDisruptionBudgetStatus } from '../../kinds.ts'
import { DISRUPTED_POD_MS } from '../../limits.ts'
import { isReady } from '../pods.ts'

/** How many pods a controller wants; `undefined` when nobody can say. */
export type ScaleOf = (owner: {
  kind: string
  uid: string
  name: string
}) => { uid: string; replicas: number } | undefined

export type BudgetPlan = {
  status: PodDisruptionBudgetStatus
  told?: { type: 'Normal' | 'Warning'; reason: string; message: string }
  /** When a pod that was evicted ought to have ended. */
  recheckInMs?: number
}

/** Whether a budget is about a pod: an empty selector is about all, none about none. */
export function selects({ spec, metadata }: PodDisruptionBudget, pod: Pod): boolean {
  return (
    pod.metadata.namespace === metadata.namespace &&
    spec.selector !== undefined &&
    matchesLabelSelector(spec.selector, pod.metadata.labels)
  )
}

/** The status of a budget. When it cannot be computed nothing may be evicted. Pure. */
export function planBudget(
  budget: PodDisruptionBudget,
  pods: readonly Pod[],
  { nowMs, scaleOf }: { nowMs: number; scaleOf: ScaleOf },
): BudgetPlan {
  const { spec, status: current = {}, metadata } = budget
  const observedGeneration = metadata.generation ?? 0
  const condition = (allowed: boolean, reason: string, message: string) =>
    withCondition(
      current.conditions,
      {
        type: 'DisruptionAllowed',
        status: allowed ? 'True' : 'False',
        reason,
        message,
        observedGeneration,
        lastTransitionTime: '',
      },
      nowMs,
    )
  const expected = expectedPods(spec, pods, scaleOf)
  if ('problem' in expected)
    return {
      status: {
        ...current,
        disruptionsAllowed: 0,
        observedGeneration,
        conditions: condition(false, 'SyncFailed', expected.problem),
      },
      told: {
        type: 'Warning',
        reason: 'CalculateExpectedPodCountFailed',
        message: `Failed to calculate the number of expected pods: ${expected.problem}`,
      },
    }

  const { disruptedPods, recheckInMs } = stillDisrupted(current, pods, nowMs)
  const currentHealthy = pods.filter(
    (pod) =>
      !pod.metadata.deletionTimestamp && !Object.hasOwn(disruptedPods, pod.metadata.name) && isReady(pod),
  ).length
  const spare = currentHealthy - expected.desired
  const disruptionsAllowed = expected.count <= 0 || spare <= 0 ? 0 : spare
  const allowed = disruptionsAllowed > 0
  return {
    status: {
      currentHealthy,
      desiredHealthy: expected.desired,
      expectedPods: expected.count,
      disruptionsAllowed,
      ...(Object.keys(disruptedPods).length > 0 ? { disruptedPods } : {}),
      observedGeneration,
      conditions: condition(allowed, allowed ? 'SufficientPods' : 'InsufficientPods', ''),
    },
    ...(pods.length === 0
      ? { told: { type: 'Normal', reason: 'NoPods', message: 'No matching pods found' } as const }
      : {}),
    ...(recheckInMs === undefined ? {} : { recheckInMs }),
  }
}

/** Pods there should be, and how many of them must be ready. */
function expectedPods(
  { minAvailable, maxUnavailable }: PodDisruptionBudget['spec'],
  pods: readonly Pod[],
  scaleOf: ScaleOf,
): { count: number; desired: number } | { problem: string } {
  if (typeof minAvailable === 'number') return { count: pods.length, desired: minAvailable }
  if (minAvailable === undefined && maxUnavailable === undefined) return { count: 0, desired: 0 }
  const scales = new Map<string, number>()
  for (const pod of pods) {
    const owner = controllerOf(pod)
    // Nobody can say how many pods there should be of a kind that nobody controls.
    if (!owner) continue
    const scale = scaleOf(owner)
    if (!scale)
      return {
        problem: `${owner.kind} ${JSON.stringify(owner.name)} does not implement the scale subresource`,
      }
    scales.set(scale.uid, scale.replicas)
  }
  const count = [...scales.values()].reduce((sum, replicas) => sum + replicas, 0)
  const desired =
    maxUnavailable === undefined
      ? roundedUp(minAvailable ?? 0, count)
      : Math.max(0, count - roundedUp(maxUnavailable, count))
  return { count, desired }
}

/** A number, or a percentage of `total` rounded up. */
function roundedUp(value: number | string, total: number): number {
  return typeof value === 'number' ? value : Math.ceil((Number.parseInt(value, 10) * total) / 100)
}

/** Of the pods that were evicted, those that are neither ending nor long overdue. */
function stillDisrupted(
  { disruptedPods = {} }: PodDisruptionBudgetStatus,
  pods: readonly Pod[],
  nowMs: number,
): { disruptedPods: Record<string, string>; recheckInMs: number | undefined } {
  const kept: [string, string][] = []
  let recheckInMs: number | undefined
  for (const { metadata } of pods) {
    const since = Object.hasOwn(disruptedPods, metadata.name) ? disruptedPods[metadata.name] : undefined
    if (since === undefined || metadata.deletionTimestamp) continue
    const waitMs = Date.parse(since) + DISRUPTED_POD_MS - nowMs
    if (!(waitMs > 0)) continue
    kept.push([metadata.name, since])
    recheckInMs = Math.min(recheckInMs ?? Infinity, waitMs)
  }
  return { disruptedPods: Object.fromEntries(kept), recheckInMs }
}
