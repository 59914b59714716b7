import { findCondition, semanticEqual, timestamp, withoutCondition } from '../../conditions.ts'
import { REVISION_HISTORY_CHARS_MAX } from '../../limits.ts'
import type { Deployment, DeploymentStatus, Pod, PodTemplateSpec, ReplicaSet } from '../../kinds.ts'
import { contentHash } from '../content-hash.ts'
import { isFinished } from '../pods.ts'
import {
  planNewReplicas,
  planOldReplicas,
  planProportions,
  type RollingBounds,
  rollingBounds,
  type Shard,
} from './rolling-update.ts'

export const TEMPLATE_HASH_LABEL = 'pod-template-hash'
export const REVISION = 'deployment.kubernetes.io/revision'
export const REVISION_HISTORY = 'deployment.kubernetes.io/revision-history'
export const DESIRED_REPLICAS = 'deployment.kubernetes.io/desired-replicas'
export const MAX_REPLICAS = 'deployment.kubernetes.io/max-replicas'

/** Annotations of a deployment that are about itself and not about its ReplicaSets. */
const NOT_COPIED: readonly string[] = [
  'kubectl.kubernetes.io/last-applied-configuration',
  REVISION,
  REVISION_HISTORY,
  DESIRED_REPLICAS,
  MAX_REPLICAS,
  'deprecated.deployment.rollback.to',
]

const NO_DEADLINE = 2 ** 31 - 1
/** Revisions are an int64 elsewhere, and a ReplicaSet that is adopted may come with a high one. */
const REVISION_MAX = 2n ** 63n - 1n

export type Annotations = Record<string, string>

export type DeploymentStep =
  | { step: 'create'; name: string; hash: string; replicas: number; annotations: Annotations }
  /** Sets size, annotations and minReadySeconds of a ReplicaSet; only what differs is written. */
  | {
      step: 'update'
      replicaSet: ReplicaSet
      replicas: number
      annotations: Annotations
      minReadySeconds: number
      told: boolean
    }
  | { step: 'delete'; replicaSet: ReplicaSet }
  /** The deployment itself gets the revision of its newest ReplicaSet. */
  | { step: 'revision'; revision: string }

export type DeploymentPlan = {
  steps: DeploymentStep[]
  status: DeploymentStatus
  /** When the rollout will have taken too long if nothing happens until then. */
  deadlineInMs?: number
}

type Conditions = NonNullable<DeploymentStatus['conditions']>
type ProgressCondition = Conditions[number]

/** What to do next for a deployment, given everything that is its own. Pure; one call is one step of a rollout. */
export function planDeployment(
  deployment: Deployment,
  replicaSets: readonly ReplicaSet[],
  pods: readonly Pod[],
  nowMs: number,
): DeploymentPlan {
  const sets = replicaSets.toSorted(byCreation)
  const fresh = sets.find((set) => sameTemplate(set.spec.template, deployment.spec.template))
  const old = sets.filter((set) => set !== fresh)
  if (deployment.metadata.deletionTimestamp)
    return { steps: [], status: calculateStatus(deployment, sets, fresh, conditionsOf(deployment), nowMs) }

  const bounds = rollingBounds(deployment)
  const paused = pauseCondition(deployment, nowMs)
  const conditions = paused
    ? replaceCondition(conditionsOf(deployment), paused, nowMs)
    : conditionsOf(deployment)
  const state: State = { deployment, bounds, sets, fresh, old, conditions, nowMs, steps: [] }

  const rolling = !deployment.spec.paused && !isScaling(state)
  planRevision(state, rolling)
  if (!rolling) {
    planScale(state)
    if (deployment.spec.paused) planCleanUp(state)
    return { steps: state.steps, status: calculate(state) }
  }
  if (deployment.spec.strategy?.type === 'Recreate') planRecreate(state, pods)
  else planRolling(state)
  return planRollout(state)
}

type State = {
  deployment: Deployment
  bounds: RollingBounds
  /** All ReplicaSets, oldest first. */
  sets: ReplicaSet[]
  fresh: ReplicaSet | undefined
  old: ReplicaSet[]
  conditions: Conditions
  nowMs: number
  steps: DeploymentStep[]
}

function planRolling(state: State): void {
  const { fresh, old, bounds } = state
  const oldShards = old.map(shardOf)
  if (!fresh) {
    create(state, planNewReplicas({ replicas: 0, available: 0 }, oldShards, bounds))
    return
  }
  const replicas = planNewReplicas(shardOf(fresh), oldShards, bounds)
  if (replicas !== replicasOf(fresh)) {
    resize(state, fresh, replicas)
    return
  }
  planOldReplicas(shardOf(fresh), oldShards, bounds).forEach((keep, index) => {
    const set = old[index]
    if (set && keep !== replicasOf(set)) resize(state, set, keep)
  })
  if (state.steps.length === 0 && isComplete(state.deployment, calculate(state))) planCleanUp(state)
}

function planRecreate(state: State, pods: readonly Pod[]): void {
  const { fresh, old, bounds } = state
  const busy = old.filter((set) => replicasOf(set) > 0)
  for (const set of busy) resize(state, set, 0)
  if (busy.length > 0) return
  const oldUids = new Set(old.map((set) => set.metadata.uid))
  const running = pods.some(
    (pod) =>
      !isFinished(pod) && pod.metadata.ownerReferences?.some((o) => o.controller && oldUids.has(o.uid)),
  )
  if (running || old.some((set) => (set.status?.replicas ?? 0) > 0)) return
  if (!fresh) create(state, bounds.replicas)
  else if (replicasOf(fresh) !== bounds.replicas) resize(state, fresh, bounds.replicas)
  else if (isComplete(state.deployment, calculate(state))) planCleanUp(state)
}

/** True when the deployment's size changed since its ReplicaSets were scaled. */
function isScaling({ sets, bounds, deployment }: State): boolean {
  // Recreate gets to one active ReplicaSet by itself, and only then there is one to scale.
  if (deployment.spec.strategy?.type === 'Recreate' && sets.filter((set) => replicasOf(set) > 0).length > 1)
    return false
  return sets.some((set) => {
    if (replicasOf(set) === 0) return false
    const desired = annotationNumber(set, DESIRED_REPLICAS)
    return desired !== undefined && desired !== bounds.replicas
  })
}

function planScale(state: State): void {
  const { fresh, old, bounds, sets } = state
  const active = sets.filter((set) => replicasOf(set) > 0)
  const only = active.length === 0 ? (fresh ?? old.at(-1)) : active.length === 1 ? active[0] : undefined
  if (only) {
    resize(state, only, bounds.replicas)
    return
  }
  if (
    fresh &&
    replicasOf(fresh) === bounds.replicas &&
    annotationNumber(fresh, DESIRED_REPLICAS) === bounds.replicas &&
    (fresh.status?.availableReplicas ?? 0) === bounds.replicas
  ) {
    for (const set of old) if (replicasOf(set) > 0) resize(state, set, 0)
    return
  }
  const total = active.reduce((sum, set) => sum + replicasOf(set), 0)
  const growing = (bounds.replicas > 0 ? bounds.replicas + bounds.maxSurge : 0) > total
  const ordered = active.toSorted(
    (a, b) => replicasOf(b) - replicasOf(a) || (growing ? byCreation(b, a) : byCreation(a, b)),
  )
  const sizes = planProportions(
    ordered.map((set) => ({
      replicas: replicasOf(set),
      maxReplicas: annotationNumber(set, MAX_REPLICAS) ?? state.deployment.status?.replicas ?? 0,
    })),
    bounds,
  )
  ordered.forEach((set, index) => resize(state, set, sizes[index] ?? replicasOf(set)))
}

/** The newest ReplicaSet carries the highest revision, and the deployment the same. */
function planRevision(state: State, mayCreate: boolean): void {
  const { deployment, fresh, old } = state
  if (!fresh && !mayCreate) return
  const newest = revisionAfter(old)
  let revision = String(newest)
  if (fresh) {
    const annotations = freshAnnotations(deployment, fresh, newest)
    revision = annotations[REVISION] ?? revision
    const minReadySeconds = deployment.spec.minReadySeconds ?? 0
    if (
      !sameAnnotations(fresh.metadata.annotations, annotations) ||
      (fresh.spec.minReadySeconds ?? 0) !== minReadySeconds
    ) {
      state.steps.push({
        step: 'update',
        replicaSet: fresh,
        replicas: replicasOf(fresh),
        annotations,
        minReadySeconds,
        told: false,
      })
      // Everything below looks at the annotations as they will be.
      replaceFresh(state, { ...fresh, metadata: { ...fresh.metadata, annotations } })
    }
    if (findCondition(state.conditions, 'Progressing') === undefined && hasDeadline(deployment))
      progress(state, 'True', 'FoundNewReplicaSet', `Found new replica set "${fresh.metadata.name}"`)
  }
  if (deployment.metadata.annotations?.[REVISION] !== revision && fresh)
    state.steps.push({ step: 'revision', revision })
}

function replaceFresh(state: State, fresh: ReplicaSet): void {
  state.sets = state.sets.map((set) => (set === state.fresh ? fresh : set))
  state.fresh = fresh
}

function create(state: State, replicas: number): void {
  const { deployment, old, bounds } = state
  const hash = templateHash(deployment)
  const revision = String(revisionAfter(old))
  const name = `${deployment.metadata.name}-${hash}`
  state.steps.push({
    step: 'create',
    name,
    hash,
    replicas,
    annotations: { ...copiedAnnotations(deployment), [REVISION]: revision, ...sizeAnnotations(bounds) },
  })
  if (deployment.metadata.annotations?.[REVISION] !== revision)
    state.steps.push({ step: 'revision', revision })
  if (hasDeadline(deployment))
    progress(state, 'True', 'NewReplicaSetCreated', `Created new replica set "${name}"`)
}

function resize(state: State, set: ReplicaSet, replicas: number): void {
  const annotations = { ...set.metadata.annotations, ...sizeAnnotations(state.bounds) }
  if (replicas === replicasOf(set) && sameAnnotations(set.metadata.annotations, annotations)) return
  const planned = state.steps.find(
    (step) => step.step === 'update' && step.replicaSet.metadata.uid === set.metadata.uid,
  )
  if (planned?.step === 'update') {
    planned.told = replicas !== replicasOf(set)
    planned.replicas = replicas
    planned.annotations = annotations
    return
  }
  state.steps.push({
    step: 'update',
    replicaSet: set,
    replicas,
    annotations,
    minReadySeconds: set.spec.minReadySeconds ?? 0,
    told: replicas !== replicasOf(set),
  })
}

function planCleanUp(state: State): void {
  const limit = state.deployment.spec.revisionHistoryLimit ?? 10
  if (limit === NO_DEADLINE) return
  const cleanable = state.old.filter((set) => !set.metadata.deletionTimestamp)
  const surplus = cleanable.length - limit
  if (surplus <= 0) return
  for (const set of cleanable.toSorted(byRevision).slice(0, surplus)) {
    const observed = (set.status?.observedGeneration ?? 0) >= (set.metadata.generation ?? 0)
    if ((set.status?.replicas ?? 0) === 0 && replicasOf(set) === 0 && observed)
      state.steps.push({ step: 'delete', replicaSet: set })
  }
}

/** The status during a rollout: has it progressed, is it complete, did it take too long. */
function planRollout(state: State): DeploymentPlan {
  const { deployment, steps, nowMs } = state
  if (!hasDeadline(deployment)) state.conditions = withoutCondition(state.conditions, 'Progressing')
  // Compared with what is stored, because a change counts as progress only once.
  const current = findCondition(deployment.status?.conditions, 'Progressing')
  let status = calculate(state)
  const finished = status.replicas === status.updatedReplicas && current?.reason === 'NewReplicaSetAvailable'
  if (hasDeadline(deployment) && !finished) {
    const subject = state.fresh
      ? `ReplicaSet "${state.fresh.metadata.name}"`
      : `Deployment "${deployment.metadata.name}"`
    if (isComplete(deployment, status) && steps.length === 0)
      progress(state, 'True', 'NewReplicaSetAvailable', `${subject} has successfully progressed.`)
    else if (hasProgressed(deployment.status, status)) {
      const since = current?.status === 'True' ? current.lastTransitionTime : undefined
      state.conditions = [
        ...withoutCondition(state.conditions, 'Progressing'),
        {
          type: 'Progressing',
          status: 'True',
          reason: 'ReplicaSetUpdated',
          message: `${subject} is progressing.`,
          lastUpdateTime: timestamp(nowMs),
          lastTransitionTime: since ?? timestamp(nowMs),
        },
      ]
    } else if (hasTimedOut(deployment, findCondition(state.conditions, 'Progressing'), nowMs))
      progress(state, 'False', 'ProgressDeadlineExceeded', `${subject} has timed out progressing.`)
  }
  const failure = state.sets
    .flatMap((set) => set.status?.conditions ?? [])
    .find((condition) => condition.type === 'ReplicaFailure')
  const without = withoutCondition(state.conditions, 'ReplicaFailure')
  state.conditions = failure
    ? replaceCondition(
        state.conditions,
        {
          type: 'ReplicaFailure',
          status: failure.status,
          reason: failure.reason ?? '',
          message: failure.message ?? '',
          lastUpdateTime: timestamp(nowMs),
        },
        nowMs,
      )
    : without
  status = calculate(state)
  const deadlineInMs = untilDeadline(deployment, status, nowMs)
  return { steps, status, ...(deadlineInMs === undefined ? {} : { deadlineInMs }) }
}

function calculate({ deployment, sets, fresh, conditions, nowMs }: State): DeploymentStatus {
  return calculateStatus(deployment, sets, fresh, conditions, nowMs)
}

function calculateStatus(
  deployment: Deployment,
  sets: readonly ReplicaSet[],
  fresh: ReplicaSet | undefined,
  conditions: Conditions,
  nowMs: number,
): DeploymentStatus {
  const total = (of: (set: ReplicaSet) => number | undefined) =>
    sets.reduce((sum, set) => sum + (of(set) ?? 0), 0)
  const availableReplicas = total((set) => set.status?.availableReplicas)
  const bounds = rollingBounds(deployment)
  const enough = availableReplicas >= bounds.replicas - bounds.maxUnavailable
  const { collisionCount } = deployment.status ?? {}
  return {
    observedGeneration: deployment.metadata.generation ?? 0,
    replicas: total((set) => set.status?.replicas),
    updatedReplicas: fresh?.status?.replicas ?? 0,
    readyReplicas: total((set) => set.status?.readyReplicas),
    availableReplicas,
    unavailableReplicas: Math.max(0, total(replicasOf) - availableReplicas),
    ...(collisionCount === undefined ? {} : { collisionCount }),
    conditions: replaceCondition(
      conditions,
      {
        type: 'Available',
        status: enough ? 'True' : 'False',
        reason: enough ? 'MinimumReplicasAvailable' : 'MinimumReplicasUnavailable',
        message: enough
          ? 'Deployment has minimum availability.'
          : 'Deployment does not have minimum availability.',
        lastUpdateTime: timestamp(nowMs),
      },
      nowMs,
    ),
  }
}

function progress(state: State, status: 'True' | 'False' | 'Unknown', reason: string, message: string): void {
  const condition = { type: 'Progressing', status, reason, message, lastUpdateTime: timestamp(state.nowMs) }
  state.conditions = replaceCondition(state.conditions, condition, state.nowMs)
}

/** A condition with the same status and reason stays as it is, so that times mean something. */
function replaceCondition(conditions: Conditions, wanted: ProgressCondition, nowMs: number): Conditions {
  const current = findCondition(conditions, wanted.type)
  if (current?.status === wanted.status && current.reason === wanted.reason) return conditions
  const since = current?.status === wanted.status ? current.lastTransitionTime : undefined
  return [
    ...withoutCondition(conditions, wanted.type),
    { ...wanted, lastTransitionTime: since ?? timestamp(nowMs) },
  ]
}

function pauseCondition(deployment: Deployment, nowMs: number): ProgressCondition | undefined {
  if (!hasDeadline(deployment)) return undefined
  const current = findCondition(deployment.status?.conditions, 'Progressing')
  if (current?.reason === 'ProgressDeadlineExceeded') return undefined
  const known = current?.reason === 'DeploymentPaused'
  const paused = deployment.spec.paused ?? false
  if (paused === known) return undefined
  return {
    type: 'Progressing',
    status: 'Unknown',
    reason: paused ? 'DeploymentPaused' : 'DeploymentResumed',
    message: paused ? 'Deployment is paused' : 'Deployment is resumed',
    lastUpdateTime: timestamp(nowMs),
  }
}

function hasDeadline({ spec }: Deployment): boolean {
  return (spec.progressDeadlineSeconds ?? 600) !== NO_DEADLINE
}

function isComplete({ spec, metadata }: Deployment, status: DeploymentStatus): boolean {
  const replicas = spec.replicas ?? 1
  return (
    status.updatedReplicas === replicas &&
    status.replicas === replicas &&
    status.availableReplicas === replicas &&
    (status.observedGeneration ?? 0) >= (metadata.generation ?? 0)
  )
}

function hasProgressed(before: DeploymentStatus | undefined, after: DeploymentStatus): boolean {
  const count = (
    status: DeploymentStatus | undefined,
    field: 'replicas' | 'updatedReplicas' | 'readyReplicas' | 'availableReplicas',
  ) => status?.[field] ?? 0
  const oldReplicas = (status: DeploymentStatus | undefined) =>
    count(status, 'replicas') - count(status, 'updatedReplicas')
  return (
    count(after, 'updatedReplicas') > count(before, 'updatedReplicas') ||
    oldReplicas(after) < oldReplicas(before) ||
    count(after, 'readyReplicas') > count(before, 'readyReplicas') ||
    count(after, 'availableReplicas') > count(before, 'availableReplicas')
  )
}

function hasTimedOut(
  deployment: Deployment,
  condition: ProgressCondition | undefined,
  nowMs: number,
): boolean {
  if (!condition || condition.reason === 'NewReplicaSetAvailable') return false
  if (condition.reason === 'ProgressDeadlineExceeded') return true
  return nowMs > deadlineMs(deployment, condition)
}

function deadlineMs({ spec }: Deployment, condition: ProgressCondition): number {
  return Date.parse(condition.lastUpdateTime ?? '') + (spec.progressDeadlineSeconds ?? 600) * 1_000
}

function untilDeadline(deployment: Deployment, status: DeploymentStatus, nowMs: number): number | undefined {
  const condition = findCondition(status.conditions, 'Progressing')
  if (!condition || !hasDeadline(deployment) || isComplete(deployment, status)) return undefined
  if (condition.reason === 'ProgressDeadlineExceeded' || condition.reason === 'NewReplicaSetAvailable')
    return undefined
  // A second more, because the stored times have no fractions.
  return Math.max(0, deadlineMs(deployment, condition) - nowMs) + 1_000
}

function conditionsOf(deployment: Deployment): Conditions {
  return deployment.status?.conditions ?? []
}

function replicasOf(set: ReplicaSet): number {
  return set.spec.replicas ?? 1
}

function shardOf(set: ReplicaSet): Shard {
  // More pods than wanted are being deleted, so their availability does not count.
  return {
    replicas: replicasOf(set),
    available: Math.min(set.status?.availableReplicas ?? 0, replicasOf(set)),
  }
}

function byCreation(a: ReplicaSet, b: ReplicaSet): number {
  return (
    Date.parse(a.metadata.creationTimestamp) - Date.parse(b.metadata.creationTimestamp) ||
    byRevision(a, b) ||
    (a.metadata.name < b.metadata.name ? -1 : 1)
  )
}

function byRevision(a: ReplicaSet, b: ReplicaSet): number {
  const [of, than] = [revisionOf(a), revisionOf(b)]
  return of < than ? -1 : of > than ? 1 : 0
}

/** 0 for none, and for what is no int64. */
function revisionOf(set: { metadata: { annotations?: Annotations } }): bigint {
  const text = set.metadata.annotations?.[REVISION]
  const revision = text !== undefined && /^\d{1,19}$/.test(text) ? BigInt(text) : 0n
  return revision <= REVISION_MAX ? revision : 0n
}

/** Higher than those of all that were there before. */
function revisionAfter(old: readonly ReplicaSet[]): bigint {
  const highest = old.map(revisionOf).reduce((max, revision) => (revision > max ? revision : max), 0n)
  return highest < REVISION_MAX ? highest + 1n : highest
}

function annotationNumber(set: ReplicaSet, name: string): number | undefined {
  const value = set.metadata.annotations?.[name]
  return value !== undefined && /^\d{1,10}$/.test(value) ? Number(value) : undefined
}

function sizeAnnotations({ replicas, maxSurge }: RollingBounds): Annotations {
  return { [DESIRED_REPLICAS]: String(replicas), [MAX_REPLICAS]: String(replicas + maxSurge) }
}

function copiedAnnotations(deployment: Deployment): Annotations {
  return Object.fromEntries(
    Object.entries(deployment.metadata.annotations ?? {}).filter(([name]) => !NOT_COPIED.includes(name)),
  )
}

function freshAnnotations(deployment: Deployment, set: ReplicaSet, newest: bigint): Annotations {
  const annotations = { ...set.metadata.annotations, ...copiedAnnotations(deployment) }
  const revision = revisionOf(set)
  if (revision < newest) {
    annotations[REVISION] = String(newest)
    if (revision > 0n) {
      const history = [annotations[REVISION_HISTORY], String(revision)].filter(Boolean).join(',')
      annotations[REVISION_HISTORY] =
        history.length > REVISION_HISTORY_CHARS_MAX
          ? history.slice(history.indexOf(',', history.length - REVISION_HISTORY_CHARS_MAX) + 1)
          : history
    }
  }
  if (annotations[DESIRED_REPLICAS] === undefined)
    Object.assign(annotations, sizeAnnotations(rollingBounds(deployment)))
  return annotations
}

function sameAnnotations(a: Annotations | undefined, b: Annotations): boolean {
  return semanticEqual(a, b)
}

/** Equal but for the label by which ReplicaSets tell their pods apart. */
export function sameTemplate(a: PodTemplateSpec, b: PodTemplateSpec): boolean {
  return semanticEqual(withoutHash(a), withoutHash(b))
}

function withoutHash(template: PodTemplateSpec): PodTemplateSpec {
  const { [TEMPLATE_HASH_LABEL]: _, ...labels } = template.metadata?.labels ?? {}
  return { ...template, metadata: { ...template.metadata, labels } }
}

/** Names a template. The same template gets another name after a collision. */
export function templateHash(deployment: Deployment): string {
  return contentHash(withoutHash(deployment.spec.template), deployment.status?.collisionCount)
}
