import { ageColumn, column, nameColumn } from './columns.ts'
import type { TypedKind } from './define-kind.ts'
import { objectFields } from './meta.ts'
import { podTemplateSpecSchema } from './pod-schema.ts'
import {
  boolean,
  int32,
  intOrString,
  listByKey,
  object,
  oneOf,
  optional,
  required,
  string,
  time,
  type TypeOf,
} from './schema-builders.ts'
import {
  conditionFields,
  conditionsField,
  defineWorkload,
  minReadySecondsField,
  observedGenerationField,
  scaleSubresource,
  selectorColumn,
  selectorField,
  type Templated,
  templateColumns,
  templateField,
} from './templated.ts'
import {
  applyDeploymentDefaults,
  applyReplicaSetDefaults,
  validateDeployment,
  validateReplicaSet,
} from './workload-rules.ts'

/** Kinds that keep a number of equal pods: Deployment and ReplicaSet. */

const APPS = 'io.k8s.api.apps.v1'

const deploymentSpecSchema = object(
  `${APPS}.DeploymentSpec`,
  'How many pods of what kind, and how they change.',
  {
    minReadySeconds: minReadySecondsField,
    paused: optional(boolean, 'Changes of the template wait.'),
    progressDeadlineSeconds: optional(
      int32,
      'A rollout without progress for so long is reported as failed.',
      {
        default: 600,
      },
    ),
    replicas: optional(int32, 'How many pods.', { default: 1 }),
    revisionHistoryLimit: optional(int32, 'How many old ReplicaSets are kept for a rollback.', {
      default: 10,
    }),
    selector: selectorField,
    strategy: optional(
      object(`${APPS}.DeploymentStrategy`, 'How pods are replaced.', {
        rollingUpdate: optional(
          object(`${APPS}.RollingUpdateDeployment`, 'Bounds of a rolling update.', {
            maxSurge: optional(intOrString, 'So many pods more than wanted, as a number or a percentage.'),
            maxUnavailable: optional(
              intOrString,
              'So many pods fewer than wanted, as a number or a percentage.',
            ),
          }),
          'Bounds of a rolling update.',
        ),
        type: optional(oneOf('RollingUpdate', 'Recreate'), 'Recreate stops all old pods first.'),
      }),
      'How pods are replaced.',
      { patchStrategy: 'retainKeys', default: {} },
    ),
    template: templateField,
  },
)
const deploymentStatusSchema = object(`${APPS}.DeploymentStatus`, 'How a Deployment is.', {
  availableReplicas: optional(int32, 'Pods ready for minReadySeconds.'),
  collisionCount: optional(int32, 'How often a ReplicaSet’s name was taken.'),
  conditions: optional(
    listByKey(
      object(`${APPS}.DeploymentCondition`, 'One thing known about it.', {
        ...conditionFields,
        lastUpdateTime: optional(time, 'When it was confirmed last.'),
        type: required(string, 'Available, Progressing or ReplicaFailure.'),
      }),
      ['type'],
    ),
    'What is known about it.',
  ),
  observedGeneration: observedGenerationField,
  readyReplicas: optional(int32, 'Pods that are ready.'),
  replicas: optional(int32, 'Pods that exist.'),
  terminatingReplicas: optional(int32, 'Pods that are ending.'),
  unavailableReplicas: optional(int32, 'Pods still needed.'),
  updatedReplicas: optional(int32, 'Pods of the newest template.'),
})
export const deploymentSchema = object(
  `${APPS}.Deployment`,
  'Keeps a number of equal pods, and rolls out changes.',
  {
    ...objectFields,
    spec: optional(deploymentSpecSchema, 'What is wanted.', { default: {} }),
    status: optional(deploymentStatusSchema, 'How it is. Kept by the platform.'),
  },
)
export type DeploymentStatus = TypeOf<typeof deploymentStatusSchema>
export type Deployment = Templated<
  'apps/v1',
  'Deployment',
  TypeOf<typeof deploymentSpecSchema>,
  DeploymentStatus
>
export type DeploymentSpec = Deployment['spec']
export const deploymentKind: TypedKind<Deployment> = {
  group: 'apps',
  version: 'v1',
  kind: 'Deployment',
  plural: 'deployments',
  namespaced: true,
}
export const deploymentDefinition = defineWorkload(deploymentKind, {
  singular: 'deployment',
  shortNames: ['deploy'],
  schema: deploymentSchema,
  subresources: [scaleSubresource],
  columns: [
    nameColumn,
    column(
      'Ready',
      'Ready pods of those wanted.',
      ({ spec, status }) => `${status?.readyReplicas ?? 0}/${spec.replicas ?? 1}`,
    ),
    column('Up-to-date', 'Pods of the newest template.', ({ status }) => status?.updatedReplicas ?? 0),
    column('Available', 'Pods ready for long enough.', ({ status }) => status?.availableReplicas ?? 0),
    ageColumn,
    ...templateColumns<Deployment>(({ spec }) => spec),
    selectorColumn(({ spec }) => spec.selector),
  ],
  applyDefaults: applyDeploymentDefaults,
  validate: validateDeployment,
  prepareForCreate: (deployment) => ({ ...deployment, status: {} }),
})

const replicaSetSpecSchema = object(`${APPS}.ReplicaSetSpec`, 'How many pods of what kind.', {
  minReadySeconds: minReadySecondsField,
  replicas: optional(int32, 'How many pods.', { default: 1 }),
  selector: selectorField,
  template: optional(podTemplateSpecSchema, 'What its pods look like.'),
})
const replicaSetStatusSchema = object(`${APPS}.ReplicaSetStatus`, 'How a ReplicaSet is.', {
  availableReplicas: optional(int32, 'Pods ready for minReadySeconds.'),
  conditions: conditionsField(`${APPS}.ReplicaSetCondition`, 'ReplicaFailure.'),
  fullyLabeledReplicas: optional(int32, 'Pods with all labels of the template.'),
  observedGeneration: observedGenerationField,
  readyReplicas: optional(int32, 'Pods that are ready.'),
  replicas: required(int32, 'Pods that exist.'),
  terminatingReplicas: optional(int32, 'Pods that are ending.'),
})
export const replicaSetSchema = object(
  `${APPS}.ReplicaSet`,
  'Keeps a number of equal pods. Made by Deployments.',
  {
    ...objectFields,
    spec: optional(replicaSetSpecSchema, 'What is wanted.', { default: {} }),
    status: optional(replicaSetStatusSchema, 'How it is. Kept by the platform.'),
  },
)
export type ReplicaSetStatus = TypeOf<typeof replicaSetStatusSchema>
export type ReplicaSet = Templated<
  'apps/v1',
  'ReplicaSet',
  TypeOf<typeof replicaSetSpecSchema>,
  ReplicaSetStatus
>
export type ReplicaSetSpec = ReplicaSet['spec']
export const replicaSetKind: TypedKind<ReplicaSet> = {
  group: 'apps',
  version: 'v1',
  kind: 'ReplicaSet',
  plural: 'replicasets',
  namespaced: true,
}
export const replicaSetDefinition = defineWorkload(replicaSetKind, {
  singular: 'replicaset',
  shortNames: ['rs'],
  schema: replicaSetSchema,
  subresources: [scaleSubresource],
  fieldSelectors: { 'status.replicas': (set) => String(set.status?.replicas ?? 0) },
  columns: [
    nameColumn,
    column('Desired', 'Pods wanted.', ({ spec }) => spec.replicas ?? 1, { type: 'integer' }),
    column('Current', 'Pods that exist.', ({ status }) => status?.replicas ?? 0, { type: 'integer' }),
    column('Ready', 'Pods that are ready.', ({ status }) => status?.readyReplicas ?? 0, { type: 'integer' }),
    ageColumn,
    ...templateColumns<ReplicaSet>(({ spec }) => spec),
    selectorColumn(({ spec }) => spec.selector),
  ],
  applyDefaults: applyReplicaSetDefaults,
  validate: validateReplicaSet,
  prepareForCreate: (set) => ({ ...set, status: { replicas: 0 } }),
})
