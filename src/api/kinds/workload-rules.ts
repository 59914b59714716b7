import type { WriteContext } from '../kind.ts'
import { INDEXED_COMPLETIONS_MAX, REPLICAS_MAX } from '../limits.ts'
import type { LabelSelector } from '../meta.ts'
import { matchesLabelSelector } from '../selectors.ts'
import type { FieldError } from '../status.ts'
import { forbiddenField, invalidValue, requiredValue, tooMany, unsupportedValue } from './field-errors.ts'
import { dnsLabelProblem } from './names.ts'
import { applyPodSpecDefaults } from './pod-defaults.ts'
import { nodeNameErrors, validatePodSpec } from './pod-rules.ts'
import type { PodTemplateSpec } from './pod-schema.ts'
import {
  equalField,
  immutableError,
  intOrPercentErrors,
  isEmptySelector,
  labelErrors,
  labelSelectorErrors,
  nonNegative,
} from './rules.ts'
import type { Deployment, Job, ReplicaSet } from './workloads.ts'

export function applyTemplateDefaults(template: PodTemplateSpec | undefined): void {
  if (template?.spec) applyPodSpecDefaults(template.spec)
}

export function applyDeploymentDefaults(deployment: Deployment): Deployment {
  const { spec } = deployment
  if (!spec) return deployment
  const strategy = (spec.strategy ??= {})
  strategy.type ??= 'RollingUpdate'
  if (strategy.type === 'RollingUpdate') {
    const rollingUpdate = (strategy.rollingUpdate ??= {})
    rollingUpdate.maxUnavailable ??= '25%'
    rollingUpdate.maxSurge ??= '25%'
  }
  applyTemplateDefaults(spec.template)
  return deployment
}

export function applyReplicaSetDefaults(set: ReplicaSet): ReplicaSet {
  applyTemplateDefaults(set.spec?.template)
  return set
}

export function applyJobDefaults(job: Job): Job {
  const { spec } = job
  if (!spec) return job
  if (spec.completions === undefined && spec.parallelism === undefined) spec.completions = 1
  spec.parallelism ??= 1
  spec.backoffLimit ??= 6
  // Upstream's empty string is what others call absent.
  spec.completionMode ||= 'NonIndexed'
  spec.podReplacementPolicy ||= 'TerminatingOrFailed'
  spec.suspend ??= false
  const labels = spec.template?.metadata?.labels
  if (labels && Object.keys(labels).length > 0 && Object.keys(job.metadata.labels ?? {}).length === 0)
    job.metadata.labels = { ...labels }
  applyTemplateDefaults(spec.template)
  return job
}

const UID_LABELS = ['batch.kubernetes.io/controller-uid', 'controller-uid'] as const
const NAME_LABELS = ['batch.kubernetes.io/job-name', 'job-name'] as const

/**
 * Gives a job a selector of its own, so that no two jobs can count each other's pods.
 * Requires: metadata.uid and metadata.name are set.
 */
export function prepareJob(job: Job): Job {
  // A job without a template is refused when it is validated, which comes after.
  if (job.spec.manualSelector || !job.spec.template) return job
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

export function templateErrors(template: PodTemplateSpec | undefined, path: string): FieldError[] {
  if (!template) return [requiredValue(path)]
  return [
    ...labelErrors(template.metadata?.labels, `${path}.metadata.labels`),
    ...validatePodSpec(template.spec, `${path}.spec`),
    ...nodeNameErrors(template.spec, `${path}.spec`),
  ]
}

/** `owner` is what upstream's message calls it, which for a ReplicaSet is a deployment too. */
export function selectorErrors(
  selector: LabelSelector | undefined,
  template: PodTemplateSpec | undefined,
  owner: 'deployment' | 'statefulset' | 'daemonset' = 'deployment',
): FieldError[] {
  if (!selector) return [requiredValue('spec.selector')]
  const errors = labelSelectorErrors(selector, 'spec.selector')
  if (isEmptySelector(selector))
    errors.push(invalidValue('spec.selector', selector, `empty selector is invalid for ${owner}`))
  else if (
    errors.length === 0 &&
    template &&
    !matchesLabelSelector(selector, template.metadata?.labels ?? {})
  )
    errors.push(
      invalidValue(
        'spec.template.metadata.labels',
        template.metadata?.labels ?? null,
        '`selector` does not match template `labels`',
      ),
    )
  return errors
}

export function alwaysRestarts(template: PodTemplateSpec | undefined): FieldError[] {
  const policy = template?.spec?.restartPolicy
  return policy === undefined || policy === 'Always'
    ? []
    : [unsupportedValue('spec.template.spec.restartPolicy', policy, ['Always'])]
}

export function replicasErrors(replicas: number | undefined): FieldError[] {
  if (replicas !== undefined && replicas > REPLICAS_MAX)
    return [tooMany('spec.replicas', replicas, REPLICAS_MAX)]
  return nonNegative('spec.replicas', replicas)
}

export function validateDeployment(
  { spec }: Deployment,
  _context: WriteContext,
  old?: Deployment,
): FieldError[] {
  if (!spec) return [requiredValue('spec.selector'), requiredValue('spec.template')]
  const errors = [
    ...replicasErrors(spec.replicas),
    ...nonNegative('spec.minReadySeconds', spec.minReadySeconds),
    ...nonNegative('spec.revisionHistoryLimit', spec.revisionHistoryLimit),
    ...nonNegative('spec.progressDeadlineSeconds', spec.progressDeadlineSeconds),
    ...selectorErrors(spec.selector, spec.template),
    ...templateErrors(spec.template, 'spec.template'),
    ...alwaysRestarts(spec.template),
    ...strategyErrors(spec.strategy),
  ]
  const deadline = spec.progressDeadlineSeconds
  if (deadline !== undefined && deadline <= (spec.minReadySeconds ?? 0))
    errors.push(
      invalidValue('spec.progressDeadlineSeconds', deadline, 'must be greater than minReadySeconds'),
    )
  if (old) errors.push(...immutableError('spec.selector', spec.selector, old.spec.selector))
  return errors
}

function strategyErrors(strategy: Deployment['spec']['strategy']): FieldError[] {
  const path = 'spec.strategy'
  const rolling = strategy?.rollingUpdate
  if (!strategy || !rolling) return []
  if (strategy.type === 'Recreate')
    return [
      forbiddenField(`${path}.rollingUpdate`, "may not be specified when strategy `type` is 'Recreate'"),
    ]
  const errors = [
    ...intOrPercentErrors(`${path}.rollingUpdate.maxUnavailable`, rolling.maxUnavailable),
    ...intOrPercentErrors(`${path}.rollingUpdate.maxSurge`, rolling.maxSurge),
  ]
  if (isNothing(rolling.maxUnavailable) && isNothing(rolling.maxSurge))
    errors.push(
      invalidValue(
        `${path}.rollingUpdate.maxUnavailable`,
        rolling.maxUnavailable,
        'may not be 0 when `maxSurge` is 0',
      ),
    )
  if (typeof rolling.maxUnavailable === 'string' && Number.parseInt(rolling.maxUnavailable, 10) > 100)
    errors.push(
      invalidValue(
        `${path}.rollingUpdate.maxUnavailable`,
        rolling.maxUnavailable,
        'must not be greater than 100%',
      ),
    )
  return errors
}

export function isNothing(value: number | string | undefined): boolean {
  return value === 0 || (typeof value === 'string' && /^0+%$/.test(value))
}

export function validateReplicaSet(
  { spec }: ReplicaSet,
  _context: WriteContext,
  old?: ReplicaSet,
): FieldError[] {
  if (!spec) return [requiredValue('spec.selector'), requiredValue('spec.template')]
  const errors = [
    ...replicasErrors(spec.replicas),
    ...nonNegative('spec.minReadySeconds', spec.minReadySeconds),
    ...selectorErrors(spec.selector, spec.template),
    ...templateErrors(spec.template, 'spec.template'),
    ...alwaysRestarts(spec.template),
  ]
  if (old) errors.push(...immutableError('spec.selector', spec.selector, old.spec.selector))
  return errors
}

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
      ...immutableError('spec.selector', spec.selector, old.spec.selector),
      ...immutableError('spec.template', spec.template, old.spec.template),
      ...immutableError('spec.completionMode', spec.completionMode, old.spec.completionMode),
      ...immutableError(
        'spec.podReplacementPolicy',
        spec.podReplacementPolicy,
        old.spec.podReplacementPolicy,
      ),
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
    ...nonNegative(`${path}.ttlSecondsAfterFinished`, spec.ttlSecondsAfterFinished),
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
