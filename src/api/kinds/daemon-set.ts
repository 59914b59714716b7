import type { WriteContext } from '../kind.ts'
import type { FieldError } from '../status.ts'
import { ageColumn, column, nameColumn, renderMap } from './columns.ts'
import type { TypedKind } from './define-kind.ts'
import { invalidValue, requiredValue } from './field-errors.ts'
import { objectFields } from './meta.ts'
import { immutableError, intOrPercentErrors, nonNegative } from './rules.ts'
import { int32, intOrString, object, oneOf, optional, required, type TypeOf } from './schema-builders.ts'
import {
  alwaysRestarts,
  applyTemplateDefaults,
  isNothing,
  selectorErrors,
  templateErrors,
} from './workload-rules.ts'
import {
  conditionsField,
  defineWorkload,
  minReadySecondsField,
  observedGenerationField,
  revisionHistoryLimitField,
  selectorColumn,
  selectorField,
  type Templated,
  templateColumns,
  templateField,
} from './templated.ts'

const APPS = 'io.k8s.api.apps.v1'

const daemonSetSpecSchema = object(`${APPS}.DaemonSetSpec`, 'What runs on the node, and how it changes.', {
  minReadySeconds: minReadySecondsField,
  revisionHistoryLimit: revisionHistoryLimitField,
  selector: selectorField,
  template: templateField,
  updateStrategy: optional(
    object(`${APPS}.DaemonSetUpdateStrategy`, 'How pods are replaced.', {
      rollingUpdate: optional(
        object(`${APPS}.RollingUpdateDaemonSet`, 'Bounds of a rolling update.', {
          maxSurge: optional(
            intOrString,
            'On so many nodes the new pod starts before the old one ends, as a number or a percentage.',
          ),
          maxUnavailable: optional(
            intOrString,
            'On so many nodes the pod may be away, as a number or a percentage.',
          ),
        }),
        'Bounds of a rolling update.',
      ),
      type: optional(oneOf('RollingUpdate', 'OnDelete'), 'OnDelete waits until somebody deletes the pod.'),
    }),
    'How pods are replaced.',
    { default: {} },
  ),
})
const daemonSetStatusSchema = object(`${APPS}.DaemonSetStatus`, 'How a DaemonSet is.', {
  collisionCount: optional(int32, 'How often a ControllerRevision’s name was taken.'),
  conditions: conditionsField(`${APPS}.DaemonSetCondition`, 'What is known.'),
  currentNumberScheduled: required(int32, 'Nodes that have its pod, and should.'),
  desiredNumberScheduled: required(int32, 'Nodes that should have its pod: there is one.'),
  numberAvailable: optional(int32, 'Nodes whose pod was ready for minReadySeconds.'),
  numberMisscheduled: required(int32, 'Nodes that have its pod, and should not.'),
  numberReady: required(int32, 'Nodes whose pod is ready.'),
  numberUnavailable: optional(int32, 'Nodes whose pod is not available.'),
  observedGeneration: observedGenerationField,
  updatedNumberScheduled: optional(int32, 'Nodes that have the pod of the newest template.'),
})
export const daemonSetSchema = object(`${APPS}.DaemonSet`, 'Keeps one pod on the node.', {
  ...objectFields,
  spec: optional(daemonSetSpecSchema, 'What is wanted.', { default: {} }),
  status: optional(daemonSetStatusSchema, 'How it is. Kept by the platform.'),
})
export type DaemonSetStatus = TypeOf<typeof daemonSetStatusSchema>
export type DaemonSet = Templated<'apps/v1', 'DaemonSet', TypeOf<typeof daemonSetSpecSchema>, DaemonSetStatus>
export type DaemonSetSpec = DaemonSet['spec']
export const daemonSetKind: TypedKind<DaemonSet> = {
  group: 'apps',
  version: 'v1',
  kind: 'DaemonSet',
  plural: 'daemonsets',
  namespaced: true,
}
const integer = (name: string, description: string, cell: (status: DaemonSetStatus) => number | undefined) =>
  column<DaemonSet>(name, description, ({ status }) => (status && cell(status)) ?? 0, { type: 'integer' })

export const daemonSetDefinition = defineWorkload(daemonSetKind, {
  singular: 'daemonset',
  shortNames: ['ds'],
  schema: daemonSetSchema,
  columns: [
    nameColumn,
    integer('Desired', 'Nodes that should have its pod.', (status) => status.desiredNumberScheduled),
    integer('Current', 'Nodes that have its pod.', (status) => status.currentNumberScheduled),
    integer('Ready', 'Nodes whose pod is ready.', (status) => status.numberReady),
    integer(
      'Up-to-date',
      'Nodes that have the pod of the newest template.',
      (status) => status.updatedNumberScheduled,
    ),
    integer('Available', 'Nodes whose pod is available.', (status) => status.numberAvailable),
    column('Node Selector', 'Without effect here.', ({ spec }) => renderMap(spec.template.spec.nodeSelector)),
    ageColumn,
    ...templateColumns<DaemonSet>(({ spec }) => spec),
    selectorColumn(({ spec }) => spec.selector),
  ],
  applyDefaults: applyDaemonSetDefaults,
  validate: validateDaemonSet,
  prepareForCreate: (set) => ({
    ...set,
    status: { currentNumberScheduled: 0, desiredNumberScheduled: 0, numberMisscheduled: 0, numberReady: 0 },
  }),
})

function applyDaemonSetDefaults(set: DaemonSet): DaemonSet {
  const { spec } = set
  if (!spec) return set
  const strategy = (spec.updateStrategy ??= {})
  strategy.type ??= 'RollingUpdate'
  if (strategy.type === 'RollingUpdate') {
    const rollingUpdate = (strategy.rollingUpdate ??= {})
    rollingUpdate.maxUnavailable ??= 1
    rollingUpdate.maxSurge ??= 0
  }
  applyTemplateDefaults(spec.template)
  return set
}

function validateDaemonSet({ spec }: DaemonSet, _context: WriteContext, old?: DaemonSet): FieldError[] {
  if (!spec) return [requiredValue('spec.selector'), requiredValue('spec.template')]
  const errors = [
    ...selectorErrors(spec.selector, spec.template, 'daemonset'),
    ...templateErrors(spec.template, 'spec.template'),
    ...alwaysRestarts(spec.template),
    ...nonNegative('spec.minReadySeconds', spec.minReadySeconds),
    ...strategyErrors(spec.updateStrategy),
    ...nonNegative('spec.revisionHistoryLimit', spec.revisionHistoryLimit),
  ]
  if (old) errors.push(...immutableError('spec.selector', spec.selector, old.spec.selector))
  return errors
}

function strategyErrors(strategy: DaemonSetSpec['updateStrategy']): FieldError[] {
  const path = 'spec.updateStrategy.rollingUpdate'
  if (strategy?.type !== 'RollingUpdate') return []
  const { maxUnavailable, maxSurge } = strategy.rollingUpdate ?? {}
  const bounds = { maxUnavailable, maxSurge }
  const errors = Object.entries(bounds).flatMap(([field, value]) => [
    ...intOrPercentErrors(`${path}.${field}`, value),
    ...(typeof value === 'string' && Number.parseInt(value, 10) > 100
      ? [invalidValue(`${path}.${field}`, value, 'must not be greater than 100%')]
      : []),
  ])
  const noneAway = maxUnavailable === undefined || isNothing(maxUnavailable)
  const noneMore = maxSurge === undefined || isNothing(maxSurge)
  if (!noneAway && !noneMore)
    errors.push(invalidValue(`${path}.maxSurge`, maxSurge, 'may not be set when maxUnavailable is non-zero'))
  if (noneAway && noneMore)
    errors.push(requiredValue(`${path}.maxUnavailable`, 'cannot be 0 when maxSurge is 0'))
  return errors
}
