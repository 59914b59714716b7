import type { KubeObject } from '../meta.ts'
import type { FieldError } from '../status.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, statusSubresource, type TypedKind } from './define-kind.ts'
import { invalidValue } from './field-errors.ts'
import { conditionSchema, labelSelectorSchema, objectFields } from './meta.ts'
import { pathSegmentProblem } from './names.ts'
import { intOrPercentErrors, labelSelectorErrors } from './rules.ts'
import {
  int32,
  int64,
  intOrString,
  listByKey,
  map,
  object,
  oneOf,
  optional,
  time,
  type TypeOf,
} from './schema-builders.ts'

const POLICY = 'io.k8s.api.policy.v1'

const podDisruptionBudgetSpecSchema = object(
  `${POLICY}.PodDisruptionBudgetSpec`,
  'How many pods may be evicted at a time.',
  {
    maxUnavailable: optional(
      intOrString,
      'So many of the pods may be away, as a number or a percentage. Not together with minAvailable.',
    ),
    minAvailable: optional(
      intOrString,
      'So many of the pods must stay, as a number or a percentage. Not together with maxUnavailable.',
    ),
    selector: optional(labelSelectorSchema, 'Which pods. Empty selects all of the namespace, absent none.', {
      patchStrategy: 'replace',
    }),
    unhealthyPodEvictionPolicy: optional(
      oneOf('IfHealthyBudget', 'AlwaysAllow'),
      'Whether a pod that is not ready may always be evicted, or only while enough others are.',
    ),
  },
)
const podDisruptionBudgetStatusSchema = object(
  `${POLICY}.PodDisruptionBudgetStatus`,
  'How many pods may be evicted now.',
  {
    conditions: optional(listByKey(conditionSchema, ['type']), 'What is known about it.'),
    currentHealthy: optional(int32, 'Pods that are ready.'),
    desiredHealthy: optional(int32, 'So many must be ready.'),
    disruptedPods: optional(map(time), 'Pods that were evicted and are not seen to end yet, and when.'),
    disruptionsAllowed: optional(int32, 'So many may be evicted now.'),
    expectedPods: optional(int32, 'Pods that it counts.'),
    observedGeneration: optional(int64, 'The generation of spec that the status shows.'),
  },
)
export const podDisruptionBudgetSchema = object(
  `${POLICY}.PodDisruptionBudget`,
  'Keeps evictions from taking too many pods of an application at a time.',
  {
    ...objectFields,
    spec: optional(podDisruptionBudgetSpecSchema, 'What is wanted.', { default: {} }),
    status: optional(podDisruptionBudgetStatusSchema, 'How it is. Kept by the platform.'),
  },
)
export type PodDisruptionBudgetSpec = TypeOf<typeof podDisruptionBudgetSpecSchema>
export type PodDisruptionBudgetStatus = TypeOf<typeof podDisruptionBudgetStatusSchema>
export type PodDisruptionBudget = KubeObject & {
  apiVersion: 'policy/v1'
  kind: 'PodDisruptionBudget'
  spec: PodDisruptionBudgetSpec
  status?: PodDisruptionBudgetStatus
}
export const podDisruptionBudgetKind: TypedKind<PodDisruptionBudget> = {
  group: 'policy',
  version: 'v1',
  kind: 'PodDisruptionBudget',
  plural: 'poddisruptionbudgets',
  namespaced: true,
}
export const podDisruptionBudgetDefinition = defineKind(podDisruptionBudgetKind, {
  singular: 'poddisruptionbudget',
  shortNames: ['pdb'],
  verbs: ALL_VERBS,
  schema: podDisruptionBudgetSchema,
  subresources: [statusSubresource],
  hasGeneration: true,
  hasStatus: true,
  nameProblem: pathSegmentProblem,
  columns: [
    nameColumn,
    column('Min Available', 'So many must stay.', ({ spec }) => String(spec.minAvailable ?? 'N/A')),
    column('Max Unavailable', 'So many may be away.', ({ spec }) => String(spec.maxUnavailable ?? 'N/A')),
    column(
      'Allowed Disruptions',
      'So many may be evicted now.',
      ({ status }) => status?.disruptionsAllowed ?? 0,
      {
        type: 'integer',
      },
    ),
    ageColumn,
  ],
  validate: validatePodDisruptionBudget,
  prepareForCreate: (budget) => ({
    ...budget,
    status: { currentHealthy: 0, desiredHealthy: 0, disruptionsAllowed: 0, expectedPods: 0 },
  }),
})

function validatePodDisruptionBudget({ spec }: PodDisruptionBudget): FieldError[] {
  const { minAvailable, maxUnavailable, selector } = spec
  const errors: FieldError[] = []
  if (minAvailable !== undefined && maxUnavailable !== undefined)
    errors.push(invalidValue('spec', spec, 'minAvailable and maxUnavailable cannot be both set'))
  for (const [field, value] of Object.entries({ minAvailable, maxUnavailable })) {
    errors.push(...intOrPercentErrors(`spec.${field}`, value))
    if (typeof value === 'string' && Number.parseInt(value, 10) > 100)
      errors.push(invalidValue(`spec.${field}`, value, 'must not be greater than 100%'))
  }
  errors.push(...labelSelectorErrors(selector, 'spec.selector'))
  return errors
}
