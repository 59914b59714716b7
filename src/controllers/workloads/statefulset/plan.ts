import { PODS_PER_RECONCILE_MAX } from '../../limits.ts'
import type { Pod, PodTemplateSpec, StatefulSet, StatefulSetStatus } from '../../kinds.ts'
import { REVISION_LABEL } from '../history.ts'
import { availableAtMs, isFinished, isReady, podOf } from '../pods.ts'
import { volumesWithClaims } from './claims.ts'

export const POD_NAME_LABEL = 'statefulset.kubernetes.io/pod-name'
export const POD_INDEX_LABEL = 'apps.kubernetes.io/pod-index'

/** Names of the ControllerRevisions that a set goes from and to. */
export type Revisions = { current: string; update: string }

export type StatefulSetPlan = {
  create: { ordinal: number; revision: keyof Revisions }[]
  remove: Pod[]
  /** Pods whose labels do not say who they are. */
  relabel: Pod[]
}

type Context = { nowMs: number; isGoing: (pod: Pod) => boolean }

const ORDINAL = /^(.+)-(0|[1-9]\d{0,9})$/

/** The number of a pod of this set; undefined for a pod that has another name. */
export function ordinalOf(set: StatefulSet, pod: Pod): number | undefined {
  const [, parent, ordinal] = ORDINAL.exec(pod.metadata.name) ?? []
  return parent === set.metadata.name ? Number(ordinal) : undefined
}

export function podName(set: StatefulSet, ordinal: number): string {
  return `${set.metadata.name}-${ordinal}`
}

function identityLabels(pod: { name: string; ordinal: number }): Record<string, string> {
  return { [POD_NAME_LABEL]: pod.name, [POD_INDEX_LABEL]: String(pod.ordinal) }
}

/** The pod with a number: its name, hostname and labels say which it is. */
export function podOfSet(
  set: StatefulSet,
  template: PodTemplateSpec,
  ordinal: number,
  revision: string,
): Record<string, unknown> {
  const pod = podOf(template, set)
  const { generateName: _none, labels, ...metadata } = pod['metadata'] as Record<string, unknown>
  const name = podName(set, ordinal)
  const { serviceName } = set.spec
  const volumes = volumesWithClaims(set, ordinal, template.spec.volumes)
  return {
    ...pod,
    metadata: {
      name,
      ...metadata,
      labels: { ...(labels as object), ...identityLabels({ name, ordinal }), [REVISION_LABEL]: revision },
    },
    spec: {
      ...template.spec,
      ...(volumes.length > 0 ? { volumes } : {}),
      hostname: name,
      ...(serviceName ? { subdomain: serviceName } : {}),
    },
  }
}

/** The labels that a pod lacks to say who it is. */
export function missingLabels(set: StatefulSet, pod: Pod): Record<string, string> {
  const ordinal = ordinalOf(set, pod)
  if (ordinal === undefined) return {}
  const wanted = identityLabels({ name: pod.metadata.name, ordinal })
  return Object.fromEntries(
    Object.entries(wanted).filter(([label, value]) => pod.metadata.labels?.[label] !== value),
  )
}

/**
 * What to do next with a set's pods. OrderedReady takes one step and waits for it; Parallel takes all that there are.
 * A rolling update goes from the largest number down, and never on while one it has passed is not available.
 */
export function planPods(
  set: StatefulSet,
  pods: readonly Pod[],
  revisions: Revisions,
  { nowMs, isGoing }: Context,
): StatefulSetPlan {
  const plan: StatefulSetPlan = { create: [], remove: [], relabel: [] }
  if (set.metadata.deletionTimestamp) return plan
  const { spec } = set
  const start = spec.ordinals?.start ?? 0
  const replicas: (Pod | undefined)[] = Array.from({ length: spec.replicas ?? 1 })
  const condemned: { ordinal: number; pod: Pod }[] = []
  for (const pod of pods) {
    const ordinal = ordinalOf(set, pod)
    if (ordinal === undefined) continue
    if (ordinal >= start && ordinal < start + replicas.length) replicas[ordinal - start] = pod
    else condemned.push({ ordinal, pod })
  }
  // From the largest number down: that is the order in which they go.
  condemned.sort((a, b) => b.ordinal - a.ordinal)

  const ordered = spec.podManagementPolicy !== 'Parallel'
  const isHealthy = (pod: Pod) => pod.status?.phase === 'Running' && isReady(pod) && !isGoing(pod)
  const isAvailable = (pod: Pod): boolean => {
    if (!isHealthy(pod)) return false
    const atMs = availableAtMs(pod, spec.minReadySeconds ?? 0)
    return atMs !== undefined && atMs <= nowMs
  }
  const partition =
    spec.updateStrategy?.type === 'OnDelete' ? 0 : (spec.updateStrategy?.rollingUpdate?.partition ?? 0)

  for (const [index, pod] of replicas.entries()) {
    if (!pod) {
      if (plan.create.length < PODS_PER_RECONCILE_MAX)
        plan.create.push({ ordinal: start + index, revision: index < partition ? 'current' : 'update' })
      if (ordered) return plan
      continue
    }
    if (isFinished(pod)) {
      // Its successor has the same name, so it can only come once this one is gone.
      if (!isGoing(pod)) plan.remove.push(pod)
      if (ordered) return plan
      continue
    }
    if (ordered && !isAvailable(pod)) return plan
    if (!isGoing(pod) && Object.keys(missingLabels(set, pod)).length > 0) plan.relabel.push(pod)
  }

  const everyone = [
    ...replicas.filter((pod) => pod !== undefined),
    ...condemned.map(({ pod }) => pod).reverse(),
  ]
  const firstUnhealthy = everyone.find((pod) => !isHealthy(pod))
  for (const { pod } of condemned) {
    if (isGoing(pod)) {
      if (ordered) return plan
      continue
    }
    if (ordered && pod !== firstUnhealthy && !isAvailable(pod)) return plan
    plan.remove.push(pod)
    if (ordered) return plan
  }

  if (spec.updateStrategy?.type !== 'OnDelete')
    plan.remove.push(...planUpdate(set, replicas, partition, { revisions, isAvailable, isGoing }))
  return plan
}

function planUpdate(
  set: StatefulSet,
  replicas: readonly (Pod | undefined)[],
  partition: number,
  {
    revisions,
    isAvailable,
    isGoing,
  }: { revisions: Revisions; isAvailable: (pod: Pod) => boolean; isGoing: (pod: Pod) => boolean },
): Pod[] {
  const isOld = (pod: Pod) => pod.metadata.labels?.[REVISION_LABEL] !== revisions.update && !isFinished(pod)
  const maxUnavailable = set.spec.updateStrategy?.rollingUpdate?.maxUnavailable
  if (maxUnavailable === undefined) {
    for (let index = replicas.length - 1; index >= partition; index -= 1) {
      const pod = replicas[index]
      if (pod && isOld(pod) && !isGoing(pod)) return [pod]
      if (!pod || !isAvailable(pod)) return []
    }
    return []
  }
  const away = replicas.filter((pod) => !pod || !isAvailable(pod)).length
  const allowed = Math.max(1, scaled(maxUnavailable, replicas.length)) - away
  return replicas
    .slice(partition)
    .reverse()
    .filter((pod) => pod !== undefined && isOld(pod) && !isGoing(pod))
    .slice(0, Math.max(0, allowed)) as Pod[] // the filter leaves no hole
}

/** A number, or a percentage of `total` rounded down. */
function scaled(value: number | string, total: number): number {
  return typeof value === 'number' ? value : Math.floor((Number.parseInt(value, 10) * total) / 100)
}

/** The status as it should be, and when it may change by time alone. */
export function planStatus(
  set: StatefulSet,
  pods: readonly Pod[],
  revisions: Revisions,
  { nowMs, isGoing, collisionCount }: Context & { collisionCount?: number | undefined },
): { status: StatefulSetStatus; availableInMs?: number } {
  const ready = pods.filter((pod) => pod.status?.phase === 'Running' && isReady(pod))
  const waitsMs = ready.map((pod) => (availableAtMs(pod, set.spec.minReadySeconds ?? 0) ?? Infinity) - nowMs)
  const nextMs = Math.min(...waitsMs.filter((waitMs) => waitMs > 0))
  const staying = pods.filter((pod) => !isGoing(pod))
  const ofRevision = (name: string) =>
    staying.filter((pod) => pod.metadata.labels?.[REVISION_LABEL] === name).length
  const status: StatefulSetStatus = {
    observedGeneration: Math.max(set.metadata.generation ?? 0, set.status?.observedGeneration ?? 0),
    replicas: pods.length,
    readyReplicas: ready.length,
    availableReplicas: waitsMs.filter((waitMs) => waitMs <= 0).length,
    currentReplicas: ofRevision(revisions.current),
    updatedReplicas: ofRevision(revisions.update),
    currentRevision: revisions.current,
    updateRevision: revisions.update,
    ...(collisionCount === undefined ? {} : { collisionCount }),
    ...(set.status?.conditions ? { conditions: set.status.conditions } : {}),
  }
  const wanted = set.spec.replicas ?? 1
  const done = [status.updatedReplicas, status.readyReplicas, status.replicas].every((n) => n === wanted)
  if (set.spec.updateStrategy?.type !== 'OnDelete' && done) {
    status.currentRevision = revisions.update
    status.currentReplicas = wanted
  }
  return { status, ...(Number.isFinite(nextMs) ? { availableInMs: nextMs } : {}) }
}
