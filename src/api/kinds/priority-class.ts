import type { KubeObject } from '../meta.ts'
import type { FieldError } from '../status.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { forbiddenField, invalidValue } from './field-errors.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { boolean, int32, object, oneOf, optional, string, type TypeOf } from './schema-builders.ts'

export const priorityClassSchema = object(
  'io.k8s.api.scheduling.v1.PriorityClass',
  'How important pods are, among the pods of this cluster. It means nothing to other tenants.',
  {
    ...objectFields,
    description: optional(string, 'When to use it, for people.'),
    globalDefault: optional(boolean, 'Pods that name no class get this one. At most one class says so.'),
    preemptionPolicy: optional(
      oneOf('Never', 'PreemptLowerPriority'),
      'Whether its pods make less important ones go when there is no room.',
      { default: 'PreemptLowerPriority' },
    ),
    value: optional(int32, 'The higher, the more important; at most 1000000000.'),
  },
)
export type PriorityClass = KubeObject & { apiVersion: 'scheduling.k8s.io/v1'; kind: 'PriorityClass' } & Omit<
    TypeOf<typeof priorityClassSchema>,
    'apiVersion' | 'kind' | 'metadata'
  >
export const priorityClassKind: TypedKind<PriorityClass> = {
  group: 'scheduling.k8s.io',
  version: 'v1',
  kind: 'PriorityClass',
  plural: 'priorityclasses',
  namespaced: false,
}

const SYSTEM_PREFIX = 'system-'
const USER_VALUE_MAX = 1_000_000_000

/** The two that every cluster has. Here they rank pods of one tenant, as every other class does. */
export const SYSTEM_PRIORITY_CLASSES = [
  {
    metadata: { name: 'system-cluster-critical' },
    value: 2_000_000_000,
    globalDefault: false,
    description:
      'Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.',
    preemptionPolicy: 'PreemptLowerPriority',
  },
  {
    metadata: { name: 'system-node-critical' },
    value: 2_000_001_000,
    globalDefault: false,
    description: 'Used for system critical pods that must not be moved from their current node.',
    preemptionPolicy: 'PreemptLowerPriority',
  },
] as const

export const priorityClassDefinition = defineKind(priorityClassKind, {
  singular: 'priorityclass',
  shortNames: ['pc'],
  verbs: ALL_VERBS,
  schema: priorityClassSchema,
  hasGeneration: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column('Value', 'How important.', ({ value }) => value ?? 0, { type: 'integer' }),
    {
      ...column<PriorityClass>('Global-Default', 'For pods that name none.', () => ''),
      type: 'boolean',
      cell: ({ globalDefault }) => globalDefault ?? false,
    },
    ageColumn,
    column(
      'PreemptionPolicy',
      'Whether its pods make others go.',
      ({ preemptionPolicy }) => preemptionPolicy ?? 'PreemptLowerPriority',
    ),
  ],
  validate: validatePriorityClass,
})

function validatePriorityClass(
  { metadata: { name }, value = 0, preemptionPolicy }: PriorityClass,
  _context: unknown,
  old?: PriorityClass,
): FieldError[] {
  const errors: FieldError[] = []
  const system = SYSTEM_PRIORITY_CLASSES.find(({ metadata }) => metadata.name === name)
  if (name.startsWith(SYSTEM_PREFIX) && system?.value !== value)
    errors.push(
      forbiddenField(
        'metadata.name',
        "priority class names with 'system-' prefix are reserved for system use only. error: the class is not one of the two that every cluster has",
      ),
    )
  else if (!system && value > USER_VALUE_MAX)
    errors.push(
      forbiddenField('value', `maximum allowed value of a user defined priority is ${USER_VALUE_MAX}`),
    )
  if (old && (old.value ?? 0) !== value)
    errors.push(forbiddenField('value', 'may not be changed in an update.'))
  if (old && old.preemptionPolicy !== preemptionPolicy)
    errors.push(invalidValue('preemptionPolicy', preemptionPolicy, 'field is immutable'))
  return errors
}
