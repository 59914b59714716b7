import type { WriteContext } from '../kind.ts'
import {
  FAILURE_CONDITIONS_MAX,
  FAILURE_EXIT_CODES_MAX,
  FAILURE_RULES_MAX,
  INDEXED_COMPLETIONS_MAX,
  INDEXES_CHARS_MAX,
  JOB_MANAGER_CHARS_MAX,
  REPLICAS_MAX,
  SUCCESS_RULES_MAX,
} from '../limits.ts'
import { matchesLabelSelector } from '../selectors.ts'
import type { FieldError } from '../status.ts'
import { duplicateValue, invalidValue, requiredValue, tooLong, tooMany } from './field-errors.ts'
import type { Job, JobSpec } from './job.ts'
import { dnsLabelProblem, dnsSubdomainProblem, qualifiedNameProblem } from './names.ts'
import { equalField, immutableError, labelSelectorErrors, nonNegative } from './rules.ts'
import { applyTemplateDefaults, templateErrors } from './workload-rules.ts'

/** Who carries a job out when `managedBy` names nobody else. */
export const JOB_CONTROLLER = 'kubernetes.io/job-controller'
/** As upstream: with a limit for each index there is none for all of them together. */
const NO_BACKOFF_LIMIT = 2_147_483_647

export function applyJobDefaults(job: Job): Job {
  const { spec } = job
  if (!spec) return job
  if (spec.completions === undefined && spec.parallelism === undefined) spec.completions = 1
  spec.parallelism ??= 1
  spec.backoffLimit ??= spec.backoffLimitPerIndex === undefined ? 6 : NO_BACKOFF_LIMIT
  // Upstream's empty string is what others call absent.
  spec.completionMode ||= 'NonIndexed'
  spec.podReplacementPolicy ||= spec.podFailurePolicy ? 'Failed' : 'TerminatingOrFailed'
  spec.manualSelector ??= false
  spec.suspend ??= false
  const labels = spec.template?.metadata?.labels
  if (labels && Object.keys(labels).length > 0 && Object.keys(job.metadata.labels ?? {}).length === 0)
    job.metadata.labels = { ...labels }
  applyJobSpecDefaults(spec)
  return job
}

/** Defaults that hold for the jobs of a CronJob as well. */
export function applyJobSpecDefaults(spec: JobSpec | undefined): void {
  for (const { onPodConditions = [] } of spec?.podFailurePolicy?.rules ?? [])
    for (const pattern of onPodConditions) pattern.status ||= 'True'
  applyTemplateDefaults(spec?.template)
}

const UID_LABELS = ['batch.kubernetes.io/controller-uid', 'controller-uid'] as const
const NAME_LABELS = ['batch.kubernetes.io/job-name', 'job-name'] as const

/**
 * Gives a job a selector of its own, so that no two jobs can count each other's pods.
 * Requires: metadata.uid is set.
 */
export function prepareJob(job: Job): Job {
  // A job without a template is refused when it is validated, which comes after.
  // So is one without a name, which its type says it has.
  if (job.spec.manualSelector || !job.spec.template || !job.metadata.name) return job
  const { uid, name } = job.metadata
  const labels: Record<string, string> = { ...job.spec.template.metadata?.labels }
  for (const label of UID_LABELS) labels[label] = uid
  for (const label of NAME_LABELS) labels[label] = name
  const own = { [UID_LABELS[0]]: uid }
  return {
    ...job,
    spec: {
      ...job.spec,
      // A selector that somebody wrote is kept, so that validation can say why it is refused.
      selector: job.spec.selector ?? { matchLabels: own },
      template: { ...job.spec.template, metadata: { ...job.spec.template.metadata, labels } },
    },
  }
}

/** What of a job is decided when it is made, because its pods are counted by it. */
const FIXED = [
  'selector',
  'template',
  'completionMode',
  'podReplacementPolicy',
  'podFailurePolicy',
  'backoffLimitPerIndex',
  'managedBy',
  'successPolicy',
] as const satisfies (keyof JobSpec)[]

export function validateJob(job: Job, _context: WriteContext, old?: Job): FieldError[] {
  const { spec } = job
  if (!spec) return [requiredValue('spec.template')]
  const errors = [...jobSpecErrors(spec, 'spec'), ...labelSelectorErrors(spec.selector, 'spec.selector')]
  const { selector, template } = spec
  if (!selector) errors.push(requiredValue('spec.selector'))
  if (!old && selector && !spec.manualSelector) {
    const own = { matchLabels: { [UID_LABELS[0]]: job.metadata.uid } }
    if (!equalField(selector, own))
      errors.push(invalidValue('spec.selector', selector, '`selector` not auto-generated'))
  }
  if (selector && template && !matchesLabelSelector(selector, template.metadata?.labels ?? {}))
    errors.push(
      invalidValue(
        'spec.template.metadata.labels',
        template.metadata?.labels ?? null,
        '`selector` does not match template `labels`',
      ),
    )
  errors.push(...indexedNameErrors(job))
  if (old) {
    errors.push(
      ...completionsErrors(spec, old.spec),
      ...FIXED.flatMap((field) => immutableError(`spec.${field}`, spec[field], old.spec[field])),
    )
  }
  return errors
}

/** The hostnames of an Indexed Job's pods end in their index. */
function indexedNameErrors({
  metadata: { name },
  spec: { completionMode, completions = 0 },
}: Job): FieldError[] {
  if (completionMode !== 'Indexed' || completions === 0) return []
  const hostname = `${name}-${completions - 1}`
  return dnsLabelProblem(hostname)
    ? [invalidValue('metadata.name', name, `will not able to create pod with invalid DNS label: ${hostname}`)]
    : []
}

function completionsErrors(spec: Job['spec'], old: Job['spec']): FieldError[] {
  const at = 'spec.completions'
  if (spec.completionMode !== 'Indexed')
    return immutableError(at, spec.completions ?? null, old.completions ?? null)
  return spec.completions === old.completions || spec.completions === spec.parallelism
    ? []
    : [invalidValue(at, spec.completions, 'can only be modified in tandem with spec.parallelism')]
}

/** What is wrong with a job's spec, wherever it is written. */
export function jobSpecErrors(spec: Job['spec'], path: string): FieldError[] {
  const errors: FieldError[] = [
    ...nonNegative(`${path}.parallelism`, spec.parallelism),
    ...nonNegative(`${path}.completions`, spec.completions),
    ...nonNegative(`${path}.activeDeadlineSeconds`, spec.activeDeadlineSeconds),
    ...nonNegative(`${path}.backoffLimit`, spec.backoffLimit),
    ...nonNegative(`${path}.backoffLimitPerIndex`, spec.backoffLimitPerIndex),
    ...nonNegative(`${path}.maxFailedIndexes`, spec.maxFailedIndexes),
    ...nonNegative(`${path}.ttlSecondsAfterFinished`, spec.ttlSecondsAfterFinished),
    ...managerErrors(spec.managedBy, `${path}.managedBy`),
    ...perIndexErrors(spec, path),
    ...failurePolicyErrors(spec, path),
    ...successPolicyErrors(spec, path),
    ...templateErrors(spec.template, `${path}.template`),
  ]
  if (spec.parallelism !== undefined && spec.parallelism > REPLICAS_MAX)
    errors.push(tooMany(`${path}.parallelism`, spec.parallelism, REPLICAS_MAX))
  if (spec.completionMode === 'Indexed') {
    if (spec.completions === undefined)
      errors.push(requiredValue(`${path}.completions`, 'when completion mode is Indexed'))
    else if (spec.completions > INDEXED_COMPLETIONS_MAX)
      errors.push(tooMany(`${path}.completions`, spec.completions, INDEXED_COMPLETIONS_MAX))
  }
  const policy = spec.template?.spec?.restartPolicy
  if (policy !== undefined && policy !== 'OnFailure' && policy !== 'Never')
    errors.push(requiredValue(`${path}.template.spec.restartPolicy`, 'valid values: "OnFailure", "Never"'))
  return errors
}

/** Somebody of the tenant's own, named like a finalizer: `example.com/controller`. */
function managerErrors(manager: string | undefined, path: string): FieldError[] {
  if (manager === undefined) return []
  const [prefix, name, ...rest] = manager.split('/')
  const wellFormed =
    prefix !== undefined &&
    name !== undefined &&
    rest.length === 0 &&
    !dnsSubdomainProblem(prefix) &&
    !qualifiedNameProblem(name)
  const errors = wellFormed
    ? []
    : [invalidValue(path, manager, 'must be a domain-prefixed path (such as "acme.io/foo")')]
  if (manager.length > JOB_MANAGER_CHARS_MAX) errors.push(tooLong(path, JOB_MANAGER_CHARS_MAX))
  return errors
}

function perIndexErrors(spec: JobSpec, path: string): FieldError[] {
  const { backoffLimitPerIndex, maxFailedIndexes, completionMode, completions } = spec
  const errors: FieldError[] = []
  if (completionMode !== 'Indexed')
    for (const field of ['backoffLimitPerIndex', 'maxFailedIndexes'] as const)
      if (spec[field] !== undefined)
        errors.push(invalidValue(`${path}.${field}`, spec[field], 'requires indexed completion mode'))
  if (maxFailedIndexes === undefined) return errors
  if (backoffLimitPerIndex === undefined)
    errors.push(requiredValue(`${path}.backoffLimitPerIndex`, 'when maxFailedIndexes is specified'))
  if (completions !== undefined && maxFailedIndexes > completions)
    errors.push(
      invalidValue(`${path}.maxFailedIndexes`, maxFailedIndexes, 'must be less than or equal to completions'),
    )
  return errors
}

type FailureRule = NonNullable<JobSpec['podFailurePolicy']>['rules'][number]

function failurePolicyErrors(spec: JobSpec, path: string): FieldError[] {
  const { podFailurePolicy: policy, podReplacementPolicy, template } = spec
  if (!policy) return []
  const errors: FieldError[] = []
  const restartPolicy = template?.spec?.restartPolicy
  if (restartPolicy !== 'Never')
    errors.push(
      invalidValue(
        `${path}.template.spec.restartPolicy`,
        restartPolicy ?? '',
        'only "Never" is supported when podFailurePolicy is specified',
      ),
    )
  if (podReplacementPolicy === 'TerminatingOrFailed')
    errors.push(
      invalidValue(
        `${path}.podReplacementPolicy`,
        podReplacementPolicy,
        'only "Failed" is supported when podFailurePolicy is specified',
      ),
    )
  const at = `${path}.podFailurePolicy.rules`
  if (policy.rules.length > FAILURE_RULES_MAX)
    return [...errors, tooMany(at, policy.rules.length, FAILURE_RULES_MAX)]
  const names = new Set(
    [...(template?.spec?.containers ?? []), ...(template?.spec?.initContainers ?? [])].map((c) => c.name),
  )
  for (const [index, rule] of policy.rules.entries())
    errors.push(...failureRuleErrors(rule, `${at}[${index}]`, spec, names))
  return errors
}

function failureRuleErrors(
  rule: FailureRule,
  at: string,
  spec: JobSpec,
  names: ReadonlySet<string>,
): FieldError[] {
  const errors: FieldError[] = []
  const { action, onExitCodes, onPodConditions = [] } = rule
  if (action === 'FailIndex' && spec.backoffLimitPerIndex === undefined)
    errors.push(invalidValue(`${at}.action`, action, 'requires the backoffLimitPerIndex to be set'))
  if (onExitCodes && onPodConditions.length > 0)
    errors.push(invalidValue(at, rule, 'specifying both OnExitCodes and OnPodConditions is not supported'))
  else if (!onExitCodes && onPodConditions.length === 0)
    errors.push(invalidValue(at, rule, 'specifying one of OnExitCodes and OnPodConditions is required'))
  if (onPodConditions.length > FAILURE_CONDITIONS_MAX)
    errors.push(tooMany(`${at}.onPodConditions`, onPodConditions.length, FAILURE_CONDITIONS_MAX))
  for (const [index, { type, status }] of onPodConditions.entries()) {
    const problem = qualifiedNameProblem(type)
    if (problem) errors.push(invalidValue(`${at}.onPodConditions[${index}].type`, type, problem))
    if (status !== undefined && !['True', 'False', 'Unknown'].includes(status))
      errors.push(
        invalidValue(`${at}.onPodConditions[${index}].status`, status, 'must be True, False or Unknown'),
      )
  }
  if (!onExitCodes) return errors
  const { containerName, operator, values } = onExitCodes
  if (containerName !== undefined && !names.has(containerName))
    errors.push(
      invalidValue(
        `${at}.onExitCodes.containerName`,
        containerName,
        'must be one of the container or initContainer names in the pod template',
      ),
    )
  const path = `${at}.onExitCodes.values`
  if (values.length === 0) errors.push(invalidValue(path, values, 'at least one value is required'))
  if (values.length > FAILURE_EXIT_CODES_MAX)
    return [...errors, tooMany(path, values.length, FAILURE_EXIT_CODES_MAX)]
  const seen = new Set<number>()
  for (const [index, value] of values.entries()) {
    if (operator === 'In' && value === 0)
      errors.push(invalidValue(`${path}[${index}]`, value, 'must not be 0 for the In operator'))
    if (seen.has(value)) errors.push(duplicateValue(`${path}[${index}]`, value))
    seen.add(value)
  }
  if (values.some((value, index) => index > 0 && value < (values[index - 1] ?? value)))
    errors.push(invalidValue(path, values, 'must be ordered'))
  return errors
}

function successPolicyErrors(spec: JobSpec, path: string): FieldError[] {
  const { successPolicy: policy, completionMode, completions = 0 } = spec
  if (!policy) return []
  const errors: FieldError[] = []
  if (completionMode !== 'Indexed')
    errors.push(invalidValue(`${path}.successPolicy`, policy, 'requires indexed completion mode'))
  const at = `${path}.successPolicy.rules`
  if (policy.rules.length === 0)
    errors.push(requiredValue(at, 'at least one rules must be specified when the successPolicy is specified'))
  if (policy.rules.length > SUCCESS_RULES_MAX)
    return [...errors, tooMany(at, policy.rules.length, SUCCESS_RULES_MAX)]
  for (const [index, { succeededCount, succeededIndexes }] of policy.rules.entries()) {
    const rule = `${at}[${index}]`
    if (succeededCount === undefined && succeededIndexes === undefined)
      errors.push(requiredValue(rule, 'at least one of succeededCount or succeededIndexes must be specified'))
    let enough = completions
    if (succeededIndexes !== undefined) {
      const problem = indexesProblem(succeededIndexes, completions)
      if (problem) errors.push(invalidValue(`${rule}.succeededIndexes`, succeededIndexes, problem))
      else enough = countOfIndexes(succeededIndexes)
    }
    if (succeededCount !== undefined && (succeededCount < 1 || succeededCount > enough))
      errors.push(
        invalidValue(
          `${rule}.succeededCount`,
          succeededCount,
          succeededCount < 1
            ? 'must be greater than 0'
            : `must be less than or equal to ${enough}, the number of indexes to choose from`,
        ),
      )
  }
  return errors
}

/** One part of `0,2-4`: the first and the last index, or undefined when it is something else. */
export function parseIndexRange(part: string): { first: number; last: number } | undefined {
  const [, first, last = first] = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(part) ?? []
  return first === undefined || Number(last) < Number(first)
    ? undefined
    : { first: Number(first), last: Number(last) }
}

function indexesProblem(text: string, completions: number): string | undefined {
  if (text.length > INDEXES_CHARS_MAX) return `may not be more than ${INDEXES_CHARS_MAX} characters`
  if (text === '') return undefined
  let before = -1
  for (const part of text.split(',')) {
    const range = parseIndexRange(part)
    if (!range) return `cannot read ${JSON.stringify(part)}; write numbers and ranges, such as 0,2-4`
    if (range.first <= before) return `non-increasing order, previous: ${before}, current: ${range.first}`
    if (range.last >= completions)
      return `too large index, current: ${range.last}, must be less than ${completions}`
    before = range.last
  }
  return undefined
}

function countOfIndexes(text: string): number {
  let count = 0
  for (const part of text.split(',')) {
    const range = parseIndexRange(part)
    if (range) count += range.last - range.first + 1
  }
  return count
}
