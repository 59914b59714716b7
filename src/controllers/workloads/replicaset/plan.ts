import { findCondition, semanticEqual, timestamp, withoutCondition } from '../../conditions.ts'
import { PODS_PER_RECONCILE_MAX } from '../../limits.ts'
import type { Pod, ReplicaSet, ReplicaSetStatus, ReplicationController } from '../../kinds.ts'
import { availableAtMs, compareForDeletion, isFinished, isReady } from '../pods.ts'

export type ReplicaSetPlan = { create: number; remove: Pod[] }

/** How many pods to make and which to delete. `isGoing` knows of pods that are being deleted. */
export function planReplicas(
  replicaSet: ReplicaSet | ReplicationController,
  pods: readonly Pod[],
  { nowMs, isGoing }: { nowMs: number; isGoing: (pod: Pod) => boolean },
): ReplicaSetPlan {
  if (replicaSet.metadata.deletionTimestamp) return { create: 0, remove: [] }
  const active = pods.filter((pod) => !isFinished(pod) && !isGoing(pod))
  const missing = (replicaSet.spec.replicas ?? 1) - active.length
  if (missing >= 0) return { create: Math.min(missing, PODS_PER_RECONCILE_MAX), remove: [] }
  const order = active.toSorted((a, b) => compareForDeletion(a, b, nowMs))
  return { create: 0, remove: order.slice(0, Math.min(-missing, PODS_PER_RECONCILE_MAX)) }
}

export type ReplicaFailure = { reason: 'FailedCreate' | 'FailedDelete'; message: string }

/** The status as it should be, and when it may change by time alone. */
export function planStatus(
  replicaSet: ReplicaSet | ReplicationController,
  pods: readonly Pod[],
  {
    nowMs,
    isGoing,
    failure,
  }: { nowMs: number; isGoing: (pod: Pod) => boolean; failure?: ReplicaFailure | undefined },
): { status: ReplicaSetStatus; availableInMs?: number } {
  const minReadySeconds = replicaSet.spec.minReadySeconds ?? 0
  const wanted = replicaSet.spec.template.metadata?.labels ?? {}
  const active = pods.filter((pod) => !isFinished(pod) && !isGoing(pod))
  let availableReplicas = 0
  let availableInMs = Infinity
  for (const pod of active) {
    const atMs = availableAtMs(pod, minReadySeconds)
    if (atMs === undefined) continue
    if (atMs <= nowMs) availableReplicas += 1
    else availableInMs = Math.min(availableInMs, atMs - nowMs)
  }
  const current = replicaSet.status
  let conditions = current?.conditions ?? []
  if (!failure) conditions = withoutCondition(conditions, 'ReplicaFailure')
  else if (!findCondition(conditions, 'ReplicaFailure'))
    conditions = [
      ...conditions,
      { type: 'ReplicaFailure', status: 'True', ...failure, lastTransitionTime: timestamp(nowMs) },
    ]
  const status: ReplicaSetStatus = {
    replicas: active.length,
    fullyLabeledReplicas: active.filter((pod) =>
      Object.entries(wanted).every(([key, value]) => pod.metadata.labels?.[key] === value),
    ).length,
    readyReplicas: active.filter(isReady).length,
    availableReplicas,
    observedGeneration: Math.max(replicaSet.metadata.generation ?? 0, current?.observedGeneration ?? 0),
    ...(conditions.length > 0 ? { conditions } : {}),
  }
  return { status, ...(Number.isFinite(availableInMs) ? { availableInMs } : {}) }
}

/** Zero and absent mean the same in a status. */
export function sameStatus(a: object | undefined, b: object): boolean {
  const withoutZeros = (status: object | undefined) =>
    Object.fromEntries(Object.entries(status ?? {}).filter(([, value]) => value !== 0))
  return semanticEqual(withoutZeros(a), withoutZeros(b))
}
