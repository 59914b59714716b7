import { type CronSchedule, parseCronSchedule, renderLocalTime } from '../../../api/index.ts'
import { controllerReference, timestamp } from '../../conditions.ts'
import type { CronJob, CronJobStatus, Job } from '../../kinds.ts'
import { MISSED_TIMES_TOLD, SCHEDULE_DELTA_MS } from '../../limits.ts'

export type Told = { type: 'Normal' | 'Warning'; reason: string; message: string }

export type CronJobPlan = {
  /** Without the job that is to be created. */
  status: CronJobStatus
  told: Told[]
  /** Jobs to delete before one is created: those that it replaces. */
  replace: Job[]
  /** The time for which a job is to be created. */
  startMs?: number
  /** Jobs that have ended and are no longer kept. */
  forget: Job[]
  requeueAfterMs?: number
}

type Reference = NonNullable<CronJobStatus['active']>[number]

/**
 * What to do next for a CronJob; `jobs` are those it controls. Of the times that were missed only the last is made up
 * for, and not even that one when it is longer ago than `startingDeadlineSeconds`. Pure.
 */
export function planCronJob(cronJob: CronJob, jobs: readonly Job[], nowMs: number): CronJobPlan {
  const plan: CronJobPlan = { status: { ...cronJob.status }, told: [], replace: [], forget: [] }
  const { spec, status = {} } = cronJob
  const byUid = new Map(jobs.map((job) => [job.metadata.uid, job]))
  const known = new Set((status.active ?? []).map((reference) => reference.uid))
  const active: Reference[] = []
  for (const reference of status.active ?? []) {
    const job = byUid.get(reference.uid ?? '')
    const ended = job && endOf(job)
    if (!job) plan.told.push(normal('MissingJob', `Active job went missing: ${reference.name ?? ''}`))
    else if (ended)
      plan.told.push(
        normal('SawCompletedJob', `Saw completed job: ${job.metadata.name}, condition: ${ended}`),
      )
    else active.push(reference)
  }
  for (const job of jobs) {
    const ended = endOf(job)
    const { completionTime } = job.status ?? {}
    if (!ended && !known.has(job.metadata.uid))
      plan.told.push(
        warning(
          'UnexpectedJob',
          `Saw a job that the controller did not create or forgot: ${job.metadata.name}`,
        ),
      )
    if (ended === 'Complete' && completionTime && isLater(completionTime, plan.status.lastSuccessfulTime))
      plan.status.lastSuccessfulTime = completionTime
  }
  if (active.length > 0) plan.status.active = active
  else delete plan.status.active
  plan.forget = planForgetting(cronJob, jobs)
  if (cronJob.metadata.deletionTimestamp || spec.suspend) return plan

  let schedule: CronSchedule
  try {
    schedule = parseCronSchedule(spec.schedule, spec.timeZone)
  } catch (error) {
    // Refused by the API; it could only come from a store that an older version wrote.
    const why = `unparseable schedule: ${JSON.stringify(spec.schedule)} : ${(error as Error).message}`
    plan.told.push(warning('UnparseableSchedule', why))
    return plan
  }
  planStart(plan, cronJob, { schedule, active, byUid, nowMs })
  return plan
}

function planStart(
  plan: CronJobPlan,
  { spec, status = {}, metadata }: CronJob,
  {
    schedule,
    active,
    byUid,
    nowMs,
  }: { schedule: CronSchedule; active: readonly Reference[]; byUid: Map<string, Job>; nowMs: number },
): void {
  const sinceMs = Date.parse(status.lastScheduleTime ?? metadata.creationTimestamp)
  const deadline = spec.startingDeadlineSeconds
  const earliestMs = deadline === undefined ? sinceMs : Math.max(sinceMs, nowMs - deadline * 1_000)
  const lastMs = schedule.lastMs(earliestMs, nowMs)
  const missedMs = lastMs ?? schedule.lastMs(sinceMs, nowMs)
  const nextMs = schedule.nextMs(Math.max(missedMs ?? sinceMs, sinceMs))
  const upcomingMs = nextMs !== undefined && nextMs <= nowMs ? schedule.nextMs(nowMs) : nextMs
  if (upcomingMs !== undefined) plan.requeueAfterMs = upcomingMs - nowMs + SCHEDULE_DELTA_MS
  else if (missedMs === undefined)
    plan.told.push(
      warning('InvalidSchedule', `invalid schedule: ${spec.schedule} : it names no time within five years`),
    )
  if (lastMs === undefined) {
    if (missedMs !== undefined) {
      const when = new Date(missedMs).toUTCString().replace('GMT', '+0000')
      plan.told.push(warning('MissSchedule', `Missed scheduled time to start a job: ${when}`))
    }
    return
  }
  if (hasMissedMany(schedule, earliestMs, nowMs))
    plan.told.push(
      warning(
        'TooManyMissedTimes',
        'too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew',
      ),
    )
  if (active.length > 0 && spec.concurrencyPolicy === 'Forbid') {
    plan.told.push(
      normal(
        'JobAlreadyActive',
        'Not starting job because prior execution is running and concurrency policy is Forbid',
      ),
    )
    return
  }
  if (spec.concurrencyPolicy === 'Replace') {
    plan.replace = active.flatMap(({ uid }) => byUid.get(uid ?? '') ?? [])
    delete plan.status.active
  }
  plan.startMs = lastMs
}

function hasMissedMany(schedule: CronSchedule, earliestMs: number, nowMs: number): boolean {
  let atMs: number | undefined = earliestMs
  for (let missed = 0; missed <= MISSED_TIMES_TOLD; missed += 1) {
    atMs = schedule.nextMs(atMs)
    if (atMs === undefined || atMs > nowMs) return false
  }
  return true
}

/** The oldest jobs of each end beyond what is to be kept. */
function planForgetting({ spec }: CronJob, jobs: readonly Job[]): Job[] {
  const limits = { Complete: spec.successfulJobsHistoryLimit, Failed: spec.failedJobsHistoryLimit }
  return Object.entries(limits).flatMap(([end, limit]) => {
    if (limit === undefined) return []
    const ended = jobs
      .filter((job) => endOf(job) === end && !job.metadata.deletionTimestamp)
      .toSorted((a, b) => startedMs(a) - startedMs(b) || (a.metadata.name < b.metadata.name ? -1 : 1))
    return ended.slice(0, Math.max(0, ended.length - limit))
  })
}

function startedMs(job: Job): number {
  return Date.parse(job.status?.startTime ?? job.metadata.creationTimestamp)
}

/** How a job ended, if it has. */
function endOf(job: Job): 'Complete' | 'Failed' | undefined {
  for (const end of ['Complete', 'Failed'] as const)
    if (job.status?.conditions?.some(({ type, status }) => type === end && status === 'True')) return end
  return undefined
}

function isLater(time: string, than: string | undefined): boolean {
  return than === undefined || Date.parse(time) > Date.parse(than)
}

/** The name says for which minute a job is, so that no minute has two. */
export function jobName(cronJob: CronJob, scheduledMs: number): string {
  return `${cronJob.metadata.name}-${Math.floor(scheduledMs / 60_000)}`
}

/** The job for a time. */
export function jobOf(cronJob: CronJob, scheduledMs: number): Record<string, unknown> {
  const { metadata, spec } = cronJob.spec.jobTemplate
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {
      name: jobName(cronJob, scheduledMs),
      namespace: cronJob.metadata.namespace,
      ...(metadata?.labels ? { labels: metadata.labels } : {}),
      annotations: {
        ...metadata?.annotations,
        'batch.kubernetes.io/cronjob-scheduled-timestamp': renderLocalTime(
          scheduledMs,
          cronJob.spec.timeZone,
        ),
      },
      ownerReferences: [controllerReference(cronJob)],
    },
    spec,
  }
}

/** The status once the job for a time is there. */
export function withStarted(status: CronJobStatus, job: Job, scheduledMs: number): CronJobStatus {
  const { apiVersion, kind } = job
  const { namespace = '', name, uid, resourceVersion } = job.metadata
  const others = (status.active ?? []).filter((reference) => reference.uid !== uid)
  return {
    ...status,
    active: [...others, { apiVersion, kind, namespace, name, uid, resourceVersion }],
    lastScheduleTime: timestamp(scheduledMs),
  }
}

function normal(reason: string, message: string): Told {
  return { type: 'Normal', reason, message }
}

function warning(reason: string, message: string): Told {
  return { type: 'Warning', reason, message }
}
