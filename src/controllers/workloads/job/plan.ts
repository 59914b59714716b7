import { findCondition, timestamp, withCondition } from '../../conditions.ts'
import { JOB_BACKOFF_FIRST_MS, JOB_BACKOFF_LAST_MS, PODS_PER_RECONCILE_MAX } from '../../limits.ts'
import type { Job, JobStatus, Pod } from '../../kinds.ts'
import { compareForDeletion, isReady } from '../pods.ts'
import {
  type Attempts,
  attemptsAfter,
  attemptsOf,
  attemptsTotal,
  hasFailed,
  judgeFailure,
  waitsForEnd,
} from './failures.ts'
import { indexOf, parseIndexes, pendingIndexes, renderIndexes } from './indexes.ts'

/**
 * Keeps a pod from vanishing before it is counted. A pod is counted in three durable steps: its uid goes into
 * `uncountedTerminatedPods`, the finalizer is taken away, the uid becomes part of a number. A crash between any two
 * of them counts it neither twice nor never.
 * https://kubernetes.io/docs/concepts/workloads/controllers/job/#job-tracking-with-finalizers
 */
export const TRACKING_FINALIZER = 'batch.kubernetes.io/job-tracking'

type Conditions = NonNullable<JobStatus['conditions']>
type Uncounted = Record<'succeeded' | 'failed', Set<string>>

export type JobPlan = {
  status: JobStatus
  /** Finalizers to take away once `status` is stored. */
  unfinalize: Pod[]
  /** Pods to delete. */
  remove: Pod[]
  /** They go because the job has no need of them now, so their end says nothing about it. */
  spare: boolean
  create: number
  /** Of an Indexed Job: which indexes to create pods for, as many as `create`. */
  indexes?: number[]
  /** Of a job whose indexes may fail a number of times: how often those of `indexes` did that have. */
  attempts?: ReadonlyMap<number, Attempts>
  /** The job is over: what to say about it, once. */
  told?: { type: 'Normal' | 'Warning'; reason: string; message: string }
  /** Delete the job itself. */
  expired: boolean
  requeueAfterMs?: number
}

type Context = { nowMs: number; isGoing: (pod: Pod) => boolean }

/** What to do next for a job. `pods` are all of its own, also those that have ended. Pure. */
export function planJob(job: Job, pods: readonly Pod[], { nowMs, isGoing }: Context): JobPlan {
  const status: JobStatus = { ...job.status }
  const conditions: Conditions = [...(status.conditions ?? [])]
  const uncounted = {
    succeeded: new Set(status.uncountedTerminatedPods?.succeeded),
    failed: new Set(status.uncountedTerminatedPods?.failed),
  }
  count(status, uncounted, pods)
  const completions = job.spec.completions ?? 0
  const completed = job.spec.completionMode === 'Indexed' ? completedOf(status, pods, completions) : undefined
  if (completed) {
    status.succeeded = completed.size
    if (completed.size > 0) status.completedIndexes = renderIndexes(completed)
  }
  const perIndex = completed && failuresPerIndex(job, status, pods, uncounted, completed)
  if (perIndex) status.failedIndexes = renderIndexes(perIndex.failed)

  const over = isTrue(conditions, 'Complete') || isTrue(conditions, 'Failed')
  // A job that is over keeps its conditions; all that is left is to count and to expire.
  const outcome = over
    ? undefined
    : (targetOf(conditions) ??
      outcomeOf({ job, status, uncounted, pods, nowMs, isGoing, completed, perIndex }))
  const stopping = over || outcome !== undefined || (job.spec.suspend ?? false)

  const unfinalize: Pod[] = []
  for (const pod of pods) {
    if (!isTracked(pod)) continue
    const { uid } = pod.metadata
    if (uncounted.succeeded.has(uid) || uncounted.failed.has(uid)) unfinalize.push(pod)
    else if (pod.status?.phase === 'Succeeded') {
      // An index succeeds once, however often it is looked at, so it needs no uid to be counted right.
      if (!completed) uncounted.succeeded.add(uid)
      unfinalize.push(pod)
    } else if (hasFailed(job, pod)) {
      // The pod that replaces it learns from it how often its index has failed, so until then it has to stay.
      if (!over && !outcome && perIndex?.unreplaced.get(indexOf(pod, completions) ?? -1) === pod) continue
      if (judgeFailure(job, pod).action !== 'Ignore') uncounted.failed.add(uid)
      unfinalize.push(pod)
    }
  }

  const running = pods.filter((pod) => !hasEnded(pod) && !isGoing(pod))
  const terminating = pods.filter((pod) => !hasEnded(pod) && isGoing(pod))
  const waitedFor = waitsForEnd(job) ? terminating.filter((pod) => !hasFailed(job, pod)) : []
  const spare = !over && outcome === undefined
  const plan: JobPlan = { status, unfinalize, remove: [], spare, create: 0, expired: false }
  if (stopping) plan.remove = running
  else if (completed) planIndexed(plan, job, { completed, perIndex, running, waitedFor, pods, nowMs })
  else planPods(plan, job, { status, uncounted, running, waitedFor, pods, nowMs })

  const now = timestamp(nowMs)
  status.active = running.length - plan.remove.length
  status.terminating = terminating.length + plan.remove.length
  status.ready = running.filter(isReady).length - plan.remove.filter(isReady).length
  if (job.spec.suspend && !over) {
    if (!isTrue(conditions, 'Suspended')) {
      set(conditions, 'Suspended', 'True', 'JobSuspended', 'Job suspended', nowMs)
      plan.told = { type: 'Normal', reason: 'Suspended', message: 'Job suspended' }
    }
    delete status.startTime
  } else if (!over) {
    if (isTrue(conditions, 'Suspended')) {
      set(conditions, 'Suspended', 'False', 'JobResumed', 'Job resumed', nowMs)
      plan.told = { type: 'Normal', reason: 'Resumed', message: 'Job resumed' }
    }
    status.startTime ??= now
  }

  if (outcome) {
    set(conditions, outcome.target, 'True', outcome.reason, outcome.message, nowMs)
    const allEnded = running.length === 0 && terminating.length === 0
    const counted = uncounted.succeeded.size === 0 && uncounted.failed.size === 0
    if (allEnded && counted) {
      const complete = outcome.target === 'SuccessCriteriaMet'
      set(conditions, complete ? 'Complete' : 'Failed', 'True', outcome.reason, outcome.message, nowMs)
      if (complete) status.completionTime = now
      plan.told = complete
        ? { type: 'Normal', reason: 'Completed', message: 'Job completed' }
        : { type: 'Warning', reason: outcome.reason, message: outcome.message }
    }
  }
  if (conditions.length > 0) status.conditions = conditions
  if (uncounted.succeeded.size + uncounted.failed.size > 0)
    status.uncountedTerminatedPods = {
      ...(uncounted.succeeded.size > 0 ? { succeeded: [...uncounted.succeeded] } : {}),
      ...(uncounted.failed.size > 0 ? { failed: [...uncounted.failed] } : {}),
    }
  else delete status.uncountedTerminatedPods
  planTime(plan, job, status, conditions, nowMs)
  return plan
}

/** Turns uids whose finalizers are gone into numbers. */
function count(status: JobStatus, uncounted: Uncounted, pods: readonly Pod[]): void {
  const tracked = new Set(pods.filter(isTracked).map((pod) => pod.metadata.uid))
  for (const result of ['succeeded', 'failed'] as const)
    for (const uid of uncounted[result]) {
      if (tracked.has(uid)) continue
      uncounted[result].delete(uid)
      status[result] = (status[result] ?? 0) + 1
    }
}

type Outcome = { target: 'SuccessCriteriaMet' | 'FailureTarget'; reason: string; message: string }

/** What was already decided, which nothing that happens later can change. */
function targetOf(conditions: Conditions): Outcome | undefined {
  for (const target of ['FailureTarget', 'SuccessCriteriaMet'] as const) {
    const found = findCondition(conditions, target)
    if (found?.status === 'True') return { target, reason: found.reason ?? '', message: found.message ?? '' }
  }
  return undefined
}

type PerIndex = {
  /** Indexes that will not be tried again. */
  failed: Set<number>
  /** Of indexes that will: the pod that failed last, while no other is there for it. */
  unreplaced: Map<number, Pod>
}

/** Of a job whose indexes fail one by one; undefined for others. */
function failuresPerIndex(
  job: Job,
  status: JobStatus,
  pods: readonly Pod[],
  uncounted: Uncounted,
  completed: ReadonlySet<number>,
): PerIndex | undefined {
  const { backoffLimitPerIndex: limit, completions = 0 } = job.spec
  if (limit === undefined) return undefined
  const failed = parseIndexes(status.failedIndexes ?? '', completions)
  const last = new Map<number, Pod>()
  for (const pod of pods) {
    const index = indexOf(pod, completions)
    if (index === undefined) continue
    const known = last.get(index)
    if (!known || attemptsTotal(pod) > attemptsTotal(known)) last.set(index, pod)
  }
  const unreplaced = new Map<number, Pod>()
  for (const [index, pod] of last) {
    if (!isTracked(pod) || !hasFailed(job, pod) || uncounted.failed.has(pod.metadata.uid)) continue
    if (completed.has(index) || failed.has(index)) continue
    const { action } = judgeFailure(job, pod)
    const spent = action !== 'Ignore' && attemptsOf(pod).failures >= limit
    if (action === 'FailIndex' || spent) failed.add(index)
    else unreplaced.set(index, pod)
  }
  return { failed, unreplaced }
}

/** Says why a job has done enough, when one of its own rules does. */
function successOf(job: Job, completed: ReadonlySet<number>): Outcome | undefined {
  const { successPolicy, completions = 0 } = job.spec
  const index = (successPolicy?.rules ?? []).findIndex(({ succeededIndexes, succeededCount }) => {
    if (succeededIndexes === undefined) return completed.size >= (succeededCount ?? completions)
    const wanted = parseIndexes(succeededIndexes, completions)
    return wanted.intersection(completed).size >= (succeededCount ?? wanted.size)
  })
  return index < 0
    ? undefined
    : {
        target: 'SuccessCriteriaMet',
        reason: 'SuccessPolicy',
        message: `Matched rules at index ${index}`,
      }
}

function outcomeOf({
  job,
  status,
  uncounted,
  pods,
  nowMs,
  isGoing,
  completed,
  perIndex,
}: {
  job: Job
  status: JobStatus
  uncounted: Uncounted
  pods: readonly Pod[]
  nowMs: number
  isGoing: (pod: Pod) => boolean
  completed: ReadonlySet<number> | undefined
  perIndex: PerIndex | undefined
}): Outcome | undefined {
  const uncountedYet = pods.filter(
    (pod) =>
      isTracked(pod) && !uncounted.succeeded.has(pod.metadata.uid) && !uncounted.failed.has(pod.metadata.uid),
  )
  const verdicts = uncountedYet.filter((pod) => hasFailed(job, pod)).map((pod) => judgeFailure(job, pod))
  const fatal = verdicts.find(({ action }) => action === 'FailJob')
  if (fatal) return { target: 'FailureTarget', reason: 'PodFailurePolicy', message: fatal.message }
  const fresh = {
    Succeeded: uncountedYet.filter((pod) => pod.status?.phase === 'Succeeded').length,
    Failed: verdicts.filter(({ action }) => action !== 'Ignore').length,
  }
  const succeeded = completed?.size ?? (status.succeeded ?? 0) + uncounted.succeeded.size + fresh.Succeeded
  const failed = (status.failed ?? 0) + uncounted.failed.size + fresh.Failed
  const limit = job.spec.backoffLimit ?? 6
  const restarts =
    job.spec.template.spec.restartPolicy === 'OnFailure'
      ? pods
          .filter((pod) => pod.status?.phase === 'Running' || pod.status?.phase === 'Pending')
          .flatMap((pod) => [
            ...(pod.status?.initContainerStatuses ?? []),
            ...(pod.status?.containerStatuses ?? []),
          ])
          .reduce((sum, container) => sum + container.restartCount, 0)
      : 0
  if (failed > limit || (restarts > 0 && restarts >= Math.max(1, limit)))
    return {
      target: 'FailureTarget',
      reason: 'BackoffLimitExceeded',
      message: 'Job has reached the specified backoff limit',
    }
  const deadlineMs = deadlineOf(job, status)
  if (deadlineMs !== undefined && nowMs >= deadlineMs)
    return {
      target: 'FailureTarget',
      reason: 'DeadlineExceeded',
      message: 'Job was active longer than specified deadline',
    }
  if (perIndex && perIndex.failed.size > (job.spec.maxFailedIndexes ?? Infinity))
    return {
      target: 'FailureTarget',
      reason: 'MaxFailedIndexesExceeded',
      message: 'Job has exceeded the specified maximal number of failed indexes',
    }
  const enoughByRule = completed && successOf(job, completed)
  if (enoughByRule) return enoughByRule
  if (job.spec.suspend) return undefined
  if (completed && perIndex && perIndex.failed.size > 0) {
    const tried = perIndex.failed.union(completed).size
    if (tried >= (job.spec.completions ?? 0))
      return { target: 'FailureTarget', reason: 'FailedIndexes', message: 'Job has failed indexes' }
  }
  const active = pods.filter((pod) => !hasEnded(pod) && !isGoing(pod)).length
  const enough =
    job.spec.completions === undefined ? succeeded > 0 && active === 0 : succeeded >= job.spec.completions
  return enough
    ? {
        target: 'SuccessCriteriaMet',
        reason: 'CompletionsReached',
        message: 'Reached expected number of succeeded pods',
      }
    : undefined
}

function planPods(
  plan: JobPlan,
  job: Job,
  {
    status,
    uncounted,
    running,
    waitedFor,
    pods,
    nowMs,
  }: {
    status: JobStatus
    uncounted: Uncounted
    running: readonly Pod[]
    waitedFor: readonly Pod[]
    pods: readonly Pod[]
    nowMs: number
  },
): void {
  const parallelism = job.spec.parallelism ?? 1
  const succeeded = (status.succeeded ?? 0) + uncounted.succeeded.size
  let wanted: number
  if (job.spec.completions === undefined)
    wanted = succeeded > 0 ? Math.min(running.length, parallelism) : parallelism
  else wanted = Math.max(0, Math.min(job.spec.completions - succeeded, parallelism))
  if (running.length > wanted) {
    plan.remove = running
      .toSorted((a, b) => compareForDeletion(a, b, nowMs))
      .slice(0, running.length - wanted)
    return
  }
  const missing = Math.min(wanted - running.length - waitedFor.length, PODS_PER_RECONCILE_MAX)
  if (missing <= 0) return
  const waitMs = backoffMs(pods, nowMs)
  if (waitMs > 0) plan.requeueAfterMs = waitMs
  else plan.create = missing
}

/** Indexes that have succeeded, those of pods that nobody has counted yet included. */
function completedOf(status: JobStatus, pods: readonly Pod[], completions: number): Set<number> {
  const completed = parseIndexes(status.completedIndexes ?? '', completions)
  for (const pod of pods) {
    const index = isTracked(pod) && pod.status?.phase === 'Succeeded' ? indexOf(pod, completions) : undefined
    if (index !== undefined) completed.add(index)
  }
  return completed
}

/** As `planPods`, with at most one pod for each index. */
function planIndexed(
  plan: JobPlan,
  job: Job,
  {
    completed,
    perIndex,
    running,
    waitedFor,
    pods,
    nowMs,
  }: {
    completed: ReadonlySet<number>
    perIndex: PerIndex | undefined
    running: readonly Pod[]
    waitedFor: readonly Pod[]
    pods: readonly Pod[]
    nowMs: number
  },
): void {
  const { completions = 0, parallelism = 1 } = job.spec
  const done = perIndex ? perIndex.failed.union(completed) : completed
  const byIndex = new Map<number, Pod>()
  // The one that is furthest stays.
  for (const pod of running.toSorted((a, b) => compareForDeletion(b, a, nowMs))) {
    const index = indexOf(pod, completions)
    if (index === undefined || done.has(index) || byIndex.has(index)) plan.remove.push(pod)
    else byIndex.set(index, pod)
  }
  const wanted = Math.max(0, Math.min(completions - done.size, parallelism))
  const surplus = [...byIndex.values()].toSorted((a, b) => compareForDeletion(a, b, nowMs))
  plan.remove.push(...surplus.slice(0, Math.max(0, surplus.length - wanted)))
  const missing = Math.min(wanted - byIndex.size - waitedFor.length, PODS_PER_RECONCILE_MAX)
  if (missing <= 0) return
  const going = new Set(waitedFor.map((pod) => indexOf(pod, completions)))
  const taken = (index: number) => done.has(index) || byIndex.has(index) || going.has(index)
  if (!perIndex) {
    const waitMs = backoffMs(pods, nowMs)
    if (waitMs > 0) plan.requeueAfterMs = waitMs
    else plan.indexes = pendingIndexes(missing, completions, taken)
  } else {
    // An index that fails again and again does not hold up the others.
    const waits = new Map([...perIndex.unreplaced].map(([index, pod]) => [index, retryInMs(pod, nowMs)]))
    plan.indexes = pendingIndexes(missing, completions, (i) => taken(i) || (waits.get(i) ?? 0) > 0)
    plan.attempts = new Map(
      plan.indexes.map((index) => {
        const last = perIndex.unreplaced.get(index)
        return [index, last ? attemptsAfter(job, last) : { failures: 0, ignored: 0 }]
      }),
    )
    const later = [...waits.values()].filter((waitMs) => waitMs > 0)
    if (later.length > 0) plan.requeueAfterMs = Math.min(...later)
  }
  plan.create = plan.indexes?.length ?? 0
}

/** How long to wait before the index of a pod that has failed is tried again. */
function retryInMs(pod: Pod, nowMs: number): number {
  return Math.max(0, endedAtMs(pod) + delayMs(attemptsTotal(pod) + 1) - nowMs)
}

function delayMs(failures: number): number {
  return Math.min(JOB_BACKOFF_FIRST_MS * 2 ** (failures - 1), JOB_BACKOFF_LAST_MS)
}

/** How long to wait before the next pod: doubles with every failure since the last success. */
export function backoffMs(pods: readonly Pod[], nowMs: number): number {
  const ends = pods
    .filter((pod) => hasEnded(pod) || pod.metadata.deletionTimestamp)
    .map((pod) => ({ failed: pod.status?.phase !== 'Succeeded', atMs: endedAtMs(pod) }))
  const successMs = Math.max(-Infinity, ...ends.filter((end) => !end.failed).map((end) => end.atMs))
  const failures = ends.filter((end) => end.failed && end.atMs > successMs)
  if (failures.length === 0) return 0
  const lastMs = Math.max(...failures.map((end) => end.atMs))
  return Math.max(0, lastMs + delayMs(failures.length) - nowMs)
}

function endedAtMs(pod: Pod): number {
  const ends = (pod.status?.containerStatuses ?? []).map((container) =>
    Date.parse(container.state?.terminated?.finishedAt ?? ''),
  )
  const known = ends.filter((end) => Number.isFinite(end))
  if (known.length > 0) return Math.max(...known)
  return Date.parse(pod.metadata.deletionTimestamp ?? pod.metadata.creationTimestamp)
}

/** Whether the time to live of a job is over, whoever carries it out. */
export function planExpiry(job: Job, nowMs: number): Pick<JobPlan, 'expired' | 'requeueAfterMs'> {
  const plan: JobPlan = { status: {}, unfinalize: [], remove: [], spare: false, create: 0, expired: false }
  planTime(plan, job, {}, job.status?.conditions ?? [], nowMs)
  return plan
}

/** When it is over for good, when its deadline passes. */
function planTime(plan: JobPlan, job: Job, status: JobStatus, conditions: Conditions, nowMs: number): void {
  const end = findCondition(conditions, 'Complete') ?? findCondition(conditions, 'Failed')
  if (end?.status === 'True') {
    const ttl = job.spec.ttlSecondsAfterFinished
    if (ttl === undefined || job.metadata.deletionTimestamp) return
    const expiresMs = Date.parse(end.lastTransitionTime ?? '') + ttl * 1_000
    if (nowMs >= expiresMs) plan.expired = true
    // Whoever wrote the condition without a time has no job that expires.
    else if (Number.isFinite(expiresMs)) plan.requeueAfterMs = expiresMs - nowMs
    return
  }
  const deadlineMs = deadlineOf(job, status)
  // Once it has passed, the ends of its pods are waited for.
  if (deadlineMs === undefined || deadlineMs <= nowMs) return
  plan.requeueAfterMs = Math.min(plan.requeueAfterMs ?? Infinity, deadlineMs - nowMs)
}

function deadlineOf(job: Job, status: JobStatus): number | undefined {
  const seconds = job.spec.activeDeadlineSeconds
  if (seconds === undefined || status.startTime === undefined || job.spec.suspend) return undefined
  return Date.parse(status.startTime) + seconds * 1_000
}

function hasEnded(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed'
}

export function isTracked(pod: Pod): boolean {
  return pod.metadata.finalizers?.includes(TRACKING_FINALIZER) ?? false
}

function isTrue(conditions: Conditions, type: string): boolean {
  return findCondition(conditions, type)?.status === 'True'
}

function set(
  conditions: Conditions,
  type: string,
  status: 'True' | 'False',
  reason: string,
  message: string,
  nowMs: number,
): void {
  const current = findCondition(conditions, type)
  if (current?.status === status && current.reason === reason) return
  const next = withCondition(
    conditions,
    { type, status, reason, message, lastProbeTime: timestamp(nowMs) },
    nowMs,
  )
  conditions.splice(0, conditions.length, ...next)
}
