import { parseQuantity } from '../quantity.ts'
import type { FieldError } from '../status.ts'
import { forbiddenField, invalidValue, requiredValue, unsupportedValue } from './field-errors.ts'
import type { HorizontalPodAutoscaler, HPAScalingRules, MetricSpec } from './horizontal-pod-autoscaler.ts'

const RESOURCES = ['cpu', 'memory']
const STABILIZATION_SECONDS_MAX = 3_600
const PERIOD_SECONDS_MAX = 1_800
const METRICS_MAX = 16
const POLICIES_MAX = 16

export function validateAutoscaler(
  { spec }: HorizontalPodAutoscaler,
  _context?: unknown,
  _old?: HorizontalPodAutoscaler,
): FieldError[] {
  const errors: FieldError[] = []
  const { minReplicas = 1, maxReplicas, scaleTargetRef, metrics = [], behavior = {} } = spec
  if (minReplicas < 1)
    errors.push(invalidValue('spec.minReplicas', minReplicas, 'must be greater than or equal to 1'))
  if (maxReplicas < 1) errors.push(invalidValue('spec.maxReplicas', maxReplicas, 'must be greater than 0'))
  else if (maxReplicas < minReplicas)
    errors.push(
      invalidValue('spec.maxReplicas', maxReplicas, 'must be greater than or equal to `minReplicas`'),
    )
  for (const field of ['kind', 'name'] as const)
    if (scaleTargetRef[field] === '') errors.push(requiredValue(`spec.scaleTargetRef.${field}`))
    else if (scaleTargetRef[field].includes('/') || ['.', '..'].includes(scaleTargetRef[field]))
      errors.push(invalidValue(`spec.scaleTargetRef.${field}`, scaleTargetRef[field], "may not contain '/'"))
  if (metrics.length > METRICS_MAX)
    errors.push(forbiddenField('spec.metrics', `at most ${METRICS_MAX} metrics are followed`))
  else metrics.forEach((metric, index) => metricErrors(metric, `spec.metrics[${index}]`, errors))
  for (const field of ['scaleUp', 'scaleDown'] as const)
    if (behavior[field]) rulesErrors(behavior[field], `spec.behavior.${field}`, errors)
  return errors
}

function metricErrors({ type, ...sources }: MetricSpec, path: string, errors: FieldError[]): void {
  const field = type === 'Resource' ? 'resource' : 'containerResource'
  const other = type === 'Resource' ? 'containerResource' : 'resource'
  const source = sources[field]
  if (sources[other])
    errors.push(forbiddenField(`${path}.${other}`, 'must populate the given metric source only'))
  if (!source) {
    errors.push(requiredValue(`${path}.${field}`, 'must populate information for the given metric source'))
    return
  }
  if (!RESOURCES.includes(source.name))
    errors.push(unsupportedValue(`${path}.${field}.name`, source.name, RESOURCES))
  if ('container' in source && source.container === '')
    errors.push(requiredValue(`${path}.${field}.container`, 'must specify a container'))
  const { target } = source
  const at = `${path}.${field}.target`
  const { averageUtilization, averageValue } = target
  if (target.type === 'Utilization') {
    if (averageUtilization === undefined)
      errors.push(
        requiredValue(`${at}.averageUtilization`, 'must specify a positive target averageUtilization'),
      )
    if (averageValue !== undefined)
      errors.push(forbiddenField(`${at}.averageValue`, 'may not be set when the type is Utilization'))
  } else {
    if (averageValue === undefined)
      errors.push(requiredValue(`${at}.averageValue`, 'must specify a positive target averageValue'))
    if (averageUtilization !== undefined)
      errors.push(forbiddenField(`${at}.averageUtilization`, 'may not be set when the type is AverageValue'))
  }
  if (averageUtilization !== undefined && averageUtilization < 1)
    errors.push(invalidValue(`${at}.averageUtilization`, averageUtilization, 'must be greater than 0'))
  if (averageValue !== undefined && parseQuantity(averageValue).nanos <= 0n)
    errors.push(invalidValue(`${at}.averageValue`, averageValue, 'must be positive'))
}

function rulesErrors(rules: HPAScalingRules, path: string, errors: FieldError[]): void {
  const { policies, selectPolicy, stabilizationWindowSeconds: seconds, tolerance } = rules
  if (seconds !== undefined && (seconds < 0 || seconds > STABILIZATION_SECONDS_MAX))
    errors.push(
      invalidValue(
        `${path}.stabilizationWindowSeconds`,
        seconds,
        seconds < 0
          ? 'must be greater than or equal to zero'
          : `must be less than or equal to ${STABILIZATION_SECONDS_MAX}`,
      ),
    )
  if (selectPolicy !== undefined && !['Max', 'Min', 'Disabled'].includes(selectPolicy))
    errors.push(unsupportedValue(`${path}.selectPolicy`, selectPolicy, ['Max', 'Min', 'Disabled']))
  if (tolerance !== undefined && parseQuantity(tolerance).nanos < 0n)
    errors.push(invalidValue(`${path}.tolerance`, tolerance, 'must be greater than or equal to 0'))
  if (policies?.length === 0)
    errors.push(requiredValue(`${path}.policies`, 'must specify at least one Policy'))
  if (policies && policies.length > POLICIES_MAX)
    return void errors.push(forbiddenField(`${path}.policies`, `at most ${POLICIES_MAX} policies are heeded`))
  policies?.forEach(({ type, value, periodSeconds }, index) => {
    const at = `${path}.policies[${index}]`
    if (type !== 'Pods' && type !== 'Percent')
      errors.push(unsupportedValue(`${at}.type`, type, ['Pods', 'Percent']))
    if (value <= 0) errors.push(invalidValue(`${at}.value`, value, 'must be greater than zero'))
    if (periodSeconds <= 0 || periodSeconds > PERIOD_SECONDS_MAX)
      errors.push(
        invalidValue(
          `${at}.periodSeconds`,
          periodSeconds,
          periodSeconds <= 0
            ? 'must be greater than zero'
            : `must be less than or equal to ${PERIOD_SECONDS_MAX}`,
        ),
      )
  })
}
