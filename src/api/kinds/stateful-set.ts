import type { WriteContext } from '../kind.ts'
import type { KubeObject } from '../meta.ts'
import type { FieldError } from '../status.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import type { TypedKind } from './define-kind.ts'
import {
  duplicateValue,
  forbiddenField,
  invalidValue,
  requiredValue,
  unsupportedValue,
} from './field-errors.ts'
import { objectFields } from './meta.ts'
import { dnsLabelProblem } from './names.ts'
import {
  claimSpecErrors,
  type PersistentVolumeClaim,
  persistentVolumeClaimSchema,
} from './persistent-volume-claim.ts'
import type { PodTemplateSpec } from './pod-schema.ts'
import { equalField, intOrPercentErrors, nonNegative } from './rules.ts'
import {
  int32,
  intOrString,
  list,
  object,
  oneOf,
  optional,
  required,
  string,
  type TypeOf,
} from './schema-builders.ts'
import {
  alwaysRestarts,
  applyTemplateDefaults,
  isNothing,
  replicasErrors,
  selectorErrors,
  templateErrors,
} from './workload-rules.ts'
import {
  conditionsField,
  defineWorkload,
  minReadySecondsField,
  observedGenerationField,
  revisionHistoryLimitField,
  scaleSubresource,
  selectorField,
  templateColumns,
  templateField,
} from './templated.ts'

const APPS = 'io.k8s.api.apps.v1'

const statefulSetSpecSchema = object(
  `${APPS}.StatefulSetSpec`,
  'How many pods with names of their own, and how they change.',
  {
    minReadySeconds: minReadySecondsField,
    ordinals: optional(
      object(`${APPS}.StatefulSetOrdinals`, 'How pods are numbered.', {
        start: optional(int32, 'The first number; 0 when absent.'),
      }),
      'How pods are numbered.',
    ),
    persistentVolumeClaimRetentionPolicy: optional(
      object(
        `${APPS}.StatefulSetPersistentVolumeClaimRetentionPolicy`,
        'What becomes of the claims made from volumeClaimTemplates: Retain or Delete.',
        {
          whenDeleted: optional(string, 'When the set is deleted; Retain when absent.'),
          whenScaled: optional(string, 'When the set gets fewer replicas; Retain when absent.'),
        },
      ),
      'What becomes of the claims made from volumeClaimTemplates.',
    ),
    podManagementPolicy: optional(
      oneOf('OrderedReady', 'Parallel'),
      'OrderedReady starts and stops one pod after another; Parallel all at once.',
      { default: 'OrderedReady' },
    ),
    replicas: optional(int32, 'How many pods.', { default: 1 }),
    revisionHistoryLimit: revisionHistoryLimitField,
    selector: selectorField,
    serviceName: optional(
      string,
      'The headless Service under which each pod has a name of its own in DNS; cannot change.',
    ),
    template: templateField,
    updateStrategy: optional(
      object(`${APPS}.StatefulSetUpdateStrategy`, 'How pods are replaced.', {
        rollingUpdate: optional(
          object(`${APPS}.RollingUpdateStatefulSetStrategy`, 'Bounds of a rolling update.', {
            maxUnavailable: optional(
              intOrString,
              'So many pods may be away at a time, as a number or a percentage; 1 when absent.',
            ),
            partition: optional(int32, 'Pods with smaller numbers keep the old template.'),
          }),
          'Bounds of a rolling update.',
        ),
        type: optional(oneOf('RollingUpdate', 'OnDelete'), 'OnDelete waits until somebody deletes the pod.'),
      }),
      'How pods are replaced.',
      { default: {} },
    ),
    volumeClaimTemplates: optional(
      list(persistentVolumeClaimSchema),
      'Claims that each pod gets for itself, named TEMPLATE-POD; they replace volumes of their name and cannot change.',
    ),
  },
)
const statefulSetStatusSchema = object(`${APPS}.StatefulSetStatus`, 'How a StatefulSet is.', {
  availableReplicas: optional(int32, 'Pods ready for minReadySeconds.'),
  collisionCount: optional(int32, 'How often a ControllerRevision’s name was taken.'),
  conditions: conditionsField(`${APPS}.StatefulSetCondition`, 'What is known.'),
  currentReplicas: optional(int32, 'Pods of the current revision.'),
  currentRevision: optional(string, 'The revision that pods below the partition have.'),
  observedGeneration: observedGenerationField,
  readyReplicas: optional(int32, 'Pods that are ready.'),
  replicas: required(int32, 'Pods that exist.'),
  updateRevision: optional(string, 'The revision that pods are brought to.'),
  updatedReplicas: optional(int32, 'Pods of the update revision.'),
})
export const statefulSetSchema = object(
  `${APPS}.StatefulSet`,
  'Keeps pods that have stable names and an order.',
  {
    ...objectFields,
    spec: optional(statefulSetSpecSchema, 'What is wanted.', { default: {} }),
    status: optional(statefulSetStatusSchema, 'How it is. Kept by the platform.'),
  },
)
export type StatefulSetSpec = Omit<
  TypeOf<typeof statefulSetSpecSchema>,
  'template' | 'volumeClaimTemplates'
> & {
  template: PodTemplateSpec
  volumeClaimTemplates?: PersistentVolumeClaim[]
}
export type StatefulSetStatus = TypeOf<typeof statefulSetStatusSchema>
export type StatefulSet = KubeObject & {
  apiVersion: 'apps/v1'
  kind: 'StatefulSet'
  spec: StatefulSetSpec
  status?: StatefulSetStatus
}
export const statefulSetKind: TypedKind<StatefulSet> = {
  group: 'apps',
  version: 'v1',
  kind: 'StatefulSet',
  plural: 'statefulsets',
  namespaced: true,
}
export const statefulSetDefinition = defineWorkload(statefulSetKind, {
  singular: 'statefulset',
  shortNames: ['sts'],
  schema: statefulSetSchema,
  subresources: [scaleSubresource],
  // Its name begins its pods' hostnames.
  nameProblem: dnsLabelProblem,
  columns: [
    nameColumn,
    column(
      'Ready',
      'Ready pods of those wanted.',
      ({ spec, status }) => `${status?.readyReplicas ?? 0}/${spec.replicas ?? 1}`,
    ),
    ageColumn,
    ...templateColumns<StatefulSet>(({ spec }) => spec),
  ],
  applyDefaults: applyStatefulSetDefaults,
  validate: validateStatefulSet,
  prepareForCreate: (set) => ({ ...set, status: { replicas: 0, availableReplicas: 0 } }),
})

function applyStatefulSetDefaults(set: StatefulSet): StatefulSet {
  const { spec } = set
  if (!spec) return set
  const strategy = (spec.updateStrategy ??= {})
  // Who names the type alone gets no partition, as upstream.
  if (strategy.type === undefined) {
    strategy.type = 'RollingUpdate'
    strategy.rollingUpdate ??= {}
  }
  if (strategy.type === 'RollingUpdate' && strategy.rollingUpdate) strategy.rollingUpdate.partition ??= 0
  const retention = (spec.persistentVolumeClaimRetentionPolicy ??= {})
  retention.whenDeleted ??= 'Retain'
  retention.whenScaled ??= 'Retain'
  for (const claim of spec.volumeClaimTemplates ?? []) {
    claim.apiVersion ??= 'v1'
    claim.kind ??= 'PersistentVolumeClaim'
    claim.status ??= { phase: 'Pending' }
  }
  applyTemplateDefaults(spec.template)
  return set
}

/** Everything else of a spec is decided when the set is made, because its pods could not be told apart otherwise. */
const MUTABLE = [
  'replicas',
  'ordinals',
  'template',
  'updateStrategy',
  'revisionHistoryLimit',
  'minReadySeconds',
  'persistentVolumeClaimRetentionPolicy',
] as const satisfies (keyof StatefulSetSpec)[]

function validateStatefulSet({ spec }: StatefulSet, _context: WriteContext, old?: StatefulSet): FieldError[] {
  if (!spec) return [requiredValue('spec.selector'), requiredValue('spec.template')]
  const errors = [
    ...strategyErrors(spec.updateStrategy),
    ...replicasErrors(spec.replicas),
    ...nonNegative('spec.minReadySeconds', spec.minReadySeconds),
    ...nonNegative('spec.revisionHistoryLimit', spec.revisionHistoryLimit),
    ...nonNegative('spec.ordinals.start', spec.ordinals?.start),
    ...selectorErrors(spec.selector, spec.template, 'statefulset'),
    ...claimErrors(spec),
    ...templateErrors(withClaims(spec), 'spec.template'),
    ...alwaysRestarts(spec.template),
  ]
  if (spec.template?.spec?.activeDeadlineSeconds !== undefined)
    errors.push(
      forbiddenField(
        'spec.template.spec.activeDeadlineSeconds',
        'activeDeadlineSeconds in StatefulSet is not Supported',
      ),
    )
  if (old && !equalField(fixedPart(spec), fixedPart(old.spec)))
    errors.push(
      forbiddenField(
        'spec',
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
      ),
    )
  return errors
}

const RETENTIONS = ['Delete', 'Retain']

function claimErrors({
  volumeClaimTemplates = [],
  persistentVolumeClaimRetentionPolicy: retention = {},
}: StatefulSetSpec): FieldError[] {
  const errors = volumeClaimTemplates.flatMap(({ metadata, spec }, index) => {
    const at = `spec.volumeClaimTemplates[${index}]`
    const name = metadata?.name
    const problem = name ? dnsLabelProblem(name) : undefined
    return [
      ...(name ? [] : [requiredValue(`${at}.metadata.name`)]),
      ...(problem ? [invalidValue(`${at}.metadata.name`, name, problem)] : []),
      ...(name && volumeClaimTemplates.findIndex((other) => other.metadata?.name === name) < index
        ? [duplicateValue(`${at}.metadata.name`, name)]
        : []),
      ...(spec?.volumeName
        ? [
            forbiddenField(
              `${at}.spec.volumeName`,
              'every claim gets a volume of its own. Instead: leave it out',
            ),
          ]
        : []),
      ...claimSpecErrors(spec, `${at}.spec`),
    ]
  })
  for (const field of ['whenDeleted', 'whenScaled'] as const) {
    const value = retention[field]
    if (value !== undefined && !RETENTIONS.includes(value))
      errors.push(unsupportedValue(`spec.persistentVolumeClaimRetentionPolicy.${field}`, value, RETENTIONS))
  }
  return errors
}

/** The template with the volumes that its claims will be: containers may mount those too. */
function withClaims({ template, volumeClaimTemplates = [] }: StatefulSetSpec): PodTemplateSpec {
  if (volumeClaimTemplates.length === 0 || !template?.spec) return template
  const known = template.spec.volumes ?? []
  const claims = volumeClaimTemplates.flatMap(({ metadata }) =>
    metadata?.name && !known.some(({ name }) => name === metadata.name)
      ? [{ name: metadata.name, persistentVolumeClaim: { claimName: metadata.name } }]
      : [],
  )
  return { ...template, spec: { ...template.spec, volumes: [...known, ...claims] } }
}

function fixedPart(spec: StatefulSetSpec): object {
  const fixed: Record<string, unknown> = { ...spec }
  for (const field of MUTABLE) delete fixed[field]
  return fixed
}

function strategyErrors(strategy: StatefulSetSpec['updateStrategy']): FieldError[] {
  const path = 'spec.updateStrategy.rollingUpdate'
  const rolling = strategy?.rollingUpdate
  if (!rolling) return []
  if (strategy.type === 'OnDelete')
    return [invalidValue(path, rolling, "only allowed for updateStrategy 'RollingUpdate'")]
  const { maxUnavailable, partition } = rolling
  const errors = [
    ...nonNegative(`${path}.partition`, partition),
    ...intOrPercentErrors(`${path}.maxUnavailable`, maxUnavailable),
  ]
  if (isNothing(maxUnavailable))
    errors.push(invalidValue(`${path}.maxUnavailable`, maxUnavailable, 'cannot be 0'))
  if (typeof maxUnavailable === 'string' && Number.parseInt(maxUnavailable, 10) > 100)
    errors.push(invalidValue(`${path}.maxUnavailable`, maxUnavailable, 'must not be greater than 100%'))
  return errors
}
