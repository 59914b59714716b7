import type { KubeObject } from '../meta.ts'
import { parseQuantity } from '../quantity.ts'
import type { FieldError } from '../status.ts'
import { createdAtColumn, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { duplicateValue, forbiddenField, invalidValue, requiredValue } from './field-errors.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { list, map, object, oneOf, optional, quantity, required, type TypeOf } from './schema-builders.ts'

const CORE = 'io.k8s.api.core.v1'

const limitRangeItemSchema = object(`${CORE}.LimitRangeItem`, 'Bounds for pods or containers.', {
  default: optional(map(quantity), 'Limits of containers that name none.'),
  defaultRequest: optional(map(quantity), 'Requests of containers that name none.'),
  max: optional(map(quantity), 'At most so much.'),
  maxLimitRequestRatio: optional(map(quantity), 'A limit is at most so many times its request.'),
  min: optional(map(quantity), 'At least so much.'),
  type: required(oneOf('Container', 'PersistentVolumeClaim', 'Pod'), 'What is bounded.'),
})
export const limitRangeSchema = object(
  `${CORE}.LimitRange`,
  'Defaults and bounds for the resources of each pod and container in a namespace.',
  {
    ...objectFields,
    spec: optional(
      object(`${CORE}.LimitRangeSpec`, 'The bounds.', {
        limits: required(list(limitRangeItemSchema), 'The bounds.'),
      }),
      'The bounds.',
      { default: {} },
    ),
  },
)
export type LimitRangeItem = TypeOf<typeof limitRangeItemSchema>
export type LimitRange = KubeObject & {
  apiVersion: 'v1'
  kind: 'LimitRange'
  spec: { limits: LimitRangeItem[] }
}
export const limitRangeKind: TypedKind<LimitRange> = {
  group: '',
  version: 'v1',
  kind: 'LimitRange',
  plural: 'limitranges',
  namespaced: true,
}
export const limitRangeDefinition = defineKind(limitRangeKind, {
  singular: 'limitrange',
  shortNames: ['limits'],
  verbs: ALL_VERBS,
  schema: limitRangeSchema,
  nameProblem: dnsSubdomainProblem,
  columns: [nameColumn, createdAtColumn],
  applyDefaults: applyLimitRangeDefaults,
  validate: validateLimitRange,
})

/** As upstream: what is not said follows from what is, the strictest first. */
function applyLimitRangeDefaults(range: LimitRange): LimitRange {
  for (const item of range.spec?.limits ?? []) {
    if (item.type !== 'Container') continue
    item.default = { ...item.max, ...item.default }
    item.defaultRequest = { ...item.min, ...item.default, ...item.defaultRequest }
    if (Object.keys(item.default).length === 0) delete item.default
    if (Object.keys(item.defaultRequest).length === 0) delete item.defaultRequest
  }
  return range
}

const LIMITED: readonly string[] = ['cpu', 'memory', 'ephemeral-storage']
const LIMITED_OF_CLAIMS: readonly string[] = ['storage']

function validateLimitRange({ spec }: LimitRange): FieldError[] {
  if (!spec?.limits) return [requiredValue('spec.limits')]
  const errors: FieldError[] = []
  const types = new Set<string>()
  spec.limits.forEach((item, index) => {
    const at = `spec.limits[${index}]`
    if (types.has(item.type)) errors.push(duplicateValue(`${at}.type`, item.type))
    types.add(item.type)
    if (item.type === 'Pod')
      for (const field of ['default', 'defaultRequest'] as const)
        if (item[field])
          errors.push(forbiddenField(`${at}.${field}`, "may not be specified when `type` is 'Pod'"))
    if (item.type === 'PersistentVolumeClaim' && !item.min?.['storage'] && !item.max?.['storage'])
      errors.push(
        requiredValue(at, 'either minimum or maximum storage value is required, but neither was provided'),
      )
    errors.push(...itemErrors(item, at))
  })
  return errors
}

function itemErrors(item: LimitRangeItem, at: string): FieldError[] {
  const errors: FieldError[] = []
  const resources = new Set(
    [item.min, item.max, item.default, item.defaultRequest, item.maxLimitRequestRatio].flatMap((amounts) =>
      Object.keys(amounts ?? {}),
    ),
  )
  for (const resource of resources) {
    const known = item.type === 'PersistentVolumeClaim' ? LIMITED_OF_CLAIMS : LIMITED
    if (!known.includes(resource)) {
      errors.push(invalidValue(at, resource, `does not exist here; bounds are for ${known.join(', ')}`))
      continue
    }
    const of = (amounts: Record<string, string> | undefined) =>
      amounts && Object.hasOwn(amounts, resource) ? parseQuantity(amounts[resource] ?? '0').nanos : undefined
    const notAbove = (
      low: 'min' | 'defaultRequest' | 'default',
      high: 'defaultRequest' | 'default' | 'max',
      words: [string, string],
    ) => {
      const [a, b] = [of(item[low]), of(item[high])]
      if (a !== undefined && b !== undefined && a > b)
        errors.push(
          invalidValue(
            `${at}.${low}[${resource}]`,
            item[low]?.[resource],
            `${words[0]} value ${item[low]?.[resource]} is greater than ${words[1]} value ${item[high]?.[resource]}`,
          ),
        )
    }
    notAbove('min', 'max', ['min', 'max'])
    notAbove('min', 'defaultRequest', ['min', 'default request'])
    notAbove('defaultRequest', 'max', ['default request', 'max'])
    notAbove('defaultRequest', 'default', ['default request', 'default limit'])
    notAbove('min', 'default', ['min', 'default'])
    notAbove('default', 'max', ['default', 'max'])
    const ratio = of(item.maxLimitRequestRatio)
    if (ratio !== undefined && ratio < 1_000_000_000n)
      errors.push(
        invalidValue(
          `${at}.maxLimitRequestRatio[${resource}]`,
          item.maxLimitRequestRatio?.[resource],
          `ratio ${item.maxLimitRequestRatio?.[resource]} is less than 1`,
        ),
      )
  }
  return errors
}
