import type { WriteContext } from '../kind.ts'
import type { FieldError } from '../status.ts'
import { ageColumn, column, nameColumn, renderMap } from './columns.ts'
import type { TypedKind } from './define-kind.ts'
import { invalidValue, requiredValue } from './field-errors.ts'
import { objectFields } from './meta.ts'
import { podTemplateSpecSchema } from './pod-schema.ts'
import { labelErrors, nonNegative } from './rules.ts'
import { int32, map, object, optional, required, string, type TypeOf } from './schema-builders.ts'
import {
  conditionsField,
  defineWorkload,
  minReadySecondsField,
  observedGenerationField,
  scaleSubresource,
  type Templated,
  templateColumns,
} from './templated.ts'
import { alwaysRestarts, applyTemplateDefaults, replicasErrors, templateErrors } from './workload-rules.ts'

const CORE = 'io.k8s.api.core.v1'

const replicationControllerSpecSchema = object(
  `${CORE}.ReplicationControllerSpec`,
  'How many pods of what kind.',
  {
    minReadySeconds: minReadySecondsField,
    replicas: optional(int32, 'How many pods.', { default: 1 }),
    selector: optional(
      map(string, { atomic: true }),
      'Which pods are its own, by labels; those of the template when absent.',
    ),
    template: optional(podTemplateSpecSchema, 'What its pods look like.'),
  },
)
const replicationControllerStatusSchema = object(
  `${CORE}.ReplicationControllerStatus`,
  'How a ReplicationController is.',
  {
    availableReplicas: optional(int32, 'Pods ready for minReadySeconds.'),
    conditions: conditionsField(`${CORE}.ReplicationControllerCondition`, 'ReplicaFailure.'),
    fullyLabeledReplicas: optional(int32, 'Pods with all labels of the template.'),
    observedGeneration: observedGenerationField,
    readyReplicas: optional(int32, 'Pods that are ready.'),
    replicas: required(int32, 'Pods that exist.'),
  },
)
export const replicationControllerSchema = object(
  `${CORE}.ReplicationController`,
  'Keeps a number of equal pods. Older than Deployments, which roll out changes as well.',
  {
    ...objectFields,
    spec: optional(replicationControllerSpecSchema, 'What is wanted.', { default: {} }),
    status: optional(replicationControllerStatusSchema, 'How it is. Kept by the platform.'),
  },
)
export type ReplicationControllerStatus = TypeOf<typeof replicationControllerStatusSchema>
export type ReplicationController = Templated<
  'v1',
  'ReplicationController',
  TypeOf<typeof replicationControllerSpecSchema>,
  ReplicationControllerStatus
>
export const replicationControllerKind: TypedKind<ReplicationController> = {
  group: '',
  version: 'v1',
  kind: 'ReplicationController',
  plural: 'replicationcontrollers',
  namespaced: true,
}
export const replicationControllerDefinition = defineWorkload(replicationControllerKind, {
  singular: 'replicationcontroller',
  orphansByDefault: true,
  shortNames: ['rc'],
  schema: replicationControllerSchema,
  subresources: [scaleSubresource],
  fieldSelectors: { 'status.replicas': (controller) => String(controller.status?.replicas ?? 0) },
  columns: [
    nameColumn,
    column('Desired', 'Pods wanted.', ({ spec }) => spec.replicas ?? 1, { type: 'integer' }),
    column('Current', 'Pods that exist.', ({ status }) => status?.replicas ?? 0, { type: 'integer' }),
    column('Ready', 'Pods that are ready.', ({ status }) => status?.readyReplicas ?? 0, { type: 'integer' }),
    ageColumn,
    ...templateColumns<ReplicationController>(({ spec }) => spec),
    column('Selector', 'Which pods are its own.', ({ spec }) => renderMap(spec.selector), { priority: 1 }),
  ],
  applyDefaults: applyReplicationControllerDefaults,
  validate: validateReplicationController,
  prepareForCreate: (controller) => ({ ...controller, status: { replicas: 0 } }),
})

function applyReplicationControllerDefaults(controller: ReplicationController): ReplicationController {
  const { spec, metadata } = controller
  const labels = spec?.template?.metadata?.labels
  if (labels && Object.keys(labels).length > 0) {
    if (Object.keys(spec.selector ?? {}).length === 0) spec.selector = { ...labels }
    if (Object.keys(metadata.labels ?? {}).length === 0) metadata.labels = { ...labels }
  }
  applyTemplateDefaults(spec?.template)
  return controller
}

function validateReplicationController(
  { spec }: ReplicationController,
  _context: WriteContext,
): FieldError[] {
  if (!spec) return [requiredValue('spec.selector'), requiredValue('spec.template')]
  const { selector = {}, template } = spec
  const labels = template?.metadata?.labels ?? {}
  const selects = Object.entries(selector).every(([key, value]) => labels[key] === value)
  return [
    ...nonNegative('spec.minReadySeconds', spec.minReadySeconds),
    ...(Object.keys(selector).length === 0
      ? [requiredValue('spec.selector')]
      : labelErrors(selector, 'spec.selector')),
    ...replicasErrors(spec.replicas),
    ...(template && !selects
      ? [invalidValue('spec.template.metadata.labels', labels, '`selector` does not match template `labels`')]
      : []),
    ...templateErrors(template, 'spec.template'),
    ...alwaysRestarts(template),
  ]
}
