import type { WriteContext } from '../kind.ts'
import { REPLICAS_MAX } from '../limits.ts'
import type { LabelSelector } from '../meta.ts'
import { matchesLabelSelector } from '../selectors.ts'
import type { FieldError } from '../status.ts'
import { forbiddenField, invalidValue, requiredValue, tooMany, unsupportedValue } from './field-errors.ts'
import { applyPodSpecDefaults } from './pod-defaults.ts'
import { nodeNameErrors, validatePodSpec } from './pod-rules.ts'
import type { PodTemplateSpec } from './pod-schema.ts'
import {
  immutableError,
  intOrPercentErrors,
  isEmptySelector,
  labelErrors,
  labelSelectorErrors,
  nonNegative,
} from './rules.ts'
import type { Deployment, ReplicaSet } from './workloads.ts'

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
