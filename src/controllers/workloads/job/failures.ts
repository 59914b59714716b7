import type { Job, Pod } from '../../kinds.ts'

/** What the end of a pod means for its job. Pure. */

/** Of a pod whose index may fail a number of times: how often that index had failed before it, counted and not. */
export const FAILURE_COUNT_ANNOTATION = 'batch.kubernetes.io/job-index-failure-count'
export const IGNORED_COUNT_ANNOTATION = 'batch.kubernetes.io/job-index-ignored-failure-count'

export type Attempts = { failures: number; ignored: number }

type Rule = NonNullable<Job['spec']['podFailurePolicy']>['rules'][number]
export type Verdict = { action: Rule['action']; message: string }

/** Whether new pods wait until those that are being deleted have ended. */
export function waitsForEnd(job: Job): boolean {
  return job.spec.podReplacementPolicy === 'Failed'
}

/** Ended badly, or never will: a pod that is deleted counts as failed unless its end is waited for. */
export function hasFailed(job: Job, pod: Pod): boolean {
  const phase = pod.status?.phase ?? 'Pending'
  if (phase === 'Succeeded' || phase === 'Failed') return phase === 'Failed'
  if (!pod.metadata.deletionTimestamp) return false
  return waitsForEnd(job) ? phase === 'Pending' : true
}

const COUNTED: Verdict = { action: 'Count', message: '' }

/** What the first rule that fits says. Requires: the pod has failed. */
export function judgeFailure(job: Job, pod: Pod): Verdict {
  for (const [index, rule] of (job.spec.podFailurePolicy?.rules ?? []).entries()) {
    const why = rule.onExitCodes ? exitCodeFits(rule.onExitCodes, pod) : conditionFits(rule, pod)
    if (why !== undefined)
      return { action: rule.action, message: `${why} matching ${rule.action} rule at index ${index}` }
  }
  return COUNTED
}

function exitCodeFits(
  { containerName, operator, values }: NonNullable<Rule['onExitCodes']>,
  pod: Pod,
): string | undefined {
  const { containerStatuses = [], initContainerStatuses = [] } = pod.status ?? {}
  for (const { name, state } of [...containerStatuses, ...initContainerStatuses]) {
    const exitCode = state?.terminated?.exitCode
    // A container that ended well says nothing about a failure.
    if (!exitCode || (containerName !== undefined && containerName !== name)) continue
    if (values.includes(exitCode) === (operator === 'In'))
      return `Container ${name} for pod ${nameOf(pod)} failed with exit code ${exitCode}`
  }
  return undefined
}

function conditionFits({ onPodConditions = [] }: Rule, pod: Pod): string | undefined {
  const found = pod.status?.conditions?.find((condition) =>
    onPodConditions.some(
      ({ type, status = 'True' }) => condition.type === type && condition.status === status,
    ),
  )
  return found && `Pod ${nameOf(pod)} has condition ${found.type}`
}

function nameOf({ metadata: { namespace, name } }: Pod): string {
  return `${namespace}/${name}`
}

export function attemptsOf(pod: Pod): Attempts {
  return {
    failures: numberIn(pod, FAILURE_COUNT_ANNOTATION),
    ignored: numberIn(pod, IGNORED_COUNT_ANNOTATION),
  }
}

/** What is written on the pod that replaces one that has failed. */
export function attemptsAfter(job: Job, pod: Pod): Attempts {
  const { failures, ignored } = attemptsOf(pod)
  return judgeFailure(job, pod).action === 'Ignore'
    ? { failures, ignored: ignored + 1 }
    : { failures: failures + 1, ignored }
}

export function attemptsTotal(pod: Pod): number {
  const { failures, ignored } = attemptsOf(pod)
  return failures + ignored
}

/** Tenants may write what they like there. */
function numberIn(pod: Pod, annotation: string): number {
  const text = pod.metadata.annotations?.[annotation] ?? ''
  return /^\d{1,9}$/.test(text) ? Number(text) : 0
}
