import type { KubeObject } from '../meta.ts'
import {
  ageColumn,
  column,
  nameColumn,
  renderContainerImages,
  renderContainerNames,
  renderDuration,
  renderSelector,
} from './columns.ts'
import { ALL_VERBS, defineKind, statusSubresource, type TypedKind } from './define-kind.ts'
import { labelSelectorSchema, objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { podTemplateSpecSchema, type PodTemplateSpec } from './pod-schema.ts'
import { scaleSchema } from './scale.ts'
import {
  boolean,
  int32,
  int64,
  intOrString,
  listByKey,
  object,
  oneOf,
  optional,
  required,
  setOf,
  string,
  time,
  type TypeOf,
} from './schema-builders.ts'
import {
  applyDeploymentDefaults,
  applyJobDefaults,
  applyReplicaSetDefaults,
  prepareJob,
  validateDeployment,
  validateJob,
  validateReplicaSet,
} from './workload-rules.ts'

/** Kinds that make pods: Deployment, ReplicaSet, Job. */

const APPS = 'io.k8s.api.apps.v1'
const BATCH = 'io.k8s.api.batch.v1'

/** `/scale` of a workload. */
export const scaleSubresource = {
  name: 'scale',
  verbs: ['get', 'patch', 'update'],
  kind: { group: 'autoscaling', version: 'v1', kind: 'Scale' },
  schema: scaleSchema,
} as const

/** What conditions of workloads have besides their type. */
export const conditionFields = {
  lastTransitionTime: optional(time, 'When the status changed last.'),
  message: optional(string, 'A sentence for people.'),
  reason: optional(string, 'A word for programs.'),
  status: required(string, 'True, False or Unknown.'),
} as const

const deploymentSpecSchema = object(
  `${APPS}.DeploymentSpec`,
  'How many pods of what kind, and how they change.',
  {
    minReadySeconds: optional(int32, 'A pod counts as available when it was ready for so long.'),
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
    selector: required(
      labelSelectorSchema,
      'Which pods are its own; must fit the template’s labels; cannot change.',
    ),
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
    template: required(podTemplateSpecSchema, 'What its pods look like.'),
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
  observedGeneration: optional(int64, 'The generation of spec that the status shows.'),
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
export type DeploymentSpec = Omit<TypeOf<typeof deploymentSpecSchema>, 'template'> & {
  template: PodTemplateSpec
}
export type DeploymentStatus = TypeOf<typeof deploymentStatusSchema>
export type Deployment = KubeObject & {
  apiVersion: 'apps/v1'
  kind: 'Deployment'
  spec: DeploymentSpec
  status?: DeploymentStatus
}
export const deploymentKind: TypedKind<Deployment> = {
  group: 'apps',
  version: 'v1',
  kind: 'Deployment',
  plural: 'deployments',
  namespaced: true,
}
export const deploymentDefinition = defineKind(deploymentKind, {
  singular: 'deployment',
  shortNames: ['deploy'],
  categories: ['all'],
  verbs: ALL_VERBS,
  schema: deploymentSchema,
  subresources: [scaleSubresource, statusSubresource],
  hasGeneration: true,
  hasStatus: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column(
      'Ready',
      'Ready pods of those wanted.',
      ({ spec, status }) => `${status?.readyReplicas ?? 0}/${spec.replicas ?? 1}`,
    ),
    column('Up-to-date', 'Pods of the newest template.', ({ status }) =>
      String(status?.updatedReplicas ?? 0),
    ),
    column('Available', 'Pods ready for long enough.', ({ status }) =>
      String(status?.availableReplicas ?? 0),
    ),
    ageColumn,
    column(
      'Containers',
      'Names of the containers.',
      ({ spec }) => renderContainerNames(spec.template.spec.containers),
      {
        priority: 1,
      },
    ),
    column(
      'Images',
      'Images of the containers.',
      ({ spec }) => renderContainerImages(spec.template.spec.containers),
      {
        priority: 1,
      },
    ),
    column('Selector', 'Which pods are its own.', ({ spec }) => renderSelector(spec.selector), {
      priority: 1,
    }),
  ],
  applyDefaults: applyDeploymentDefaults,
  validate: validateDeployment,
  prepareForCreate: (deployment) => ({ ...deployment, status: {} }),
})

const replicaSetSpecSchema = object(`${APPS}.ReplicaSetSpec`, 'How many pods of what kind.', {
  minReadySeconds: optional(int32, 'A pod counts as available when it was ready for so long.'),
  replicas: optional(int32, 'How many pods.', { default: 1 }),
  selector: required(
    labelSelectorSchema,
    'Which pods are its own; must fit the template’s labels; cannot change.',
  ),
  template: optional(podTemplateSpecSchema, 'What its pods look like.'),
})
const replicaSetStatusSchema = object(`${APPS}.ReplicaSetStatus`, 'How a ReplicaSet is.', {
  availableReplicas: optional(int32, 'Pods ready for minReadySeconds.'),
  conditions: optional(
    listByKey(
      object(`${APPS}.ReplicaSetCondition`, 'One thing known about it.', {
        ...conditionFields,
        type: required(string, 'ReplicaFailure.'),
      }),
      ['type'],
    ),
    'What is known about it.',
  ),
  fullyLabeledReplicas: optional(int32, 'Pods with all labels of the template.'),
  observedGeneration: optional(int64, 'The generation of spec that the status shows.'),
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
export type ReplicaSetSpec = Omit<TypeOf<typeof replicaSetSpecSchema>, 'template'> & {
  template: PodTemplateSpec
}
export type ReplicaSetStatus = TypeOf<typeof replicaSetStatusSchema>
export type ReplicaSet = KubeObject & {
  apiVersion: 'apps/v1'
  kind: 'ReplicaSet'
  spec: ReplicaSetSpec
  status?: ReplicaSetStatus
}
export const replicaSetKind: TypedKind<ReplicaSet> = {
  group: 'apps',
  version: 'v1',
  kind: 'ReplicaSet',
  plural: 'replicasets',
  namespaced: true,
}
export const replicaSetDefinition = defineKind(replicaSetKind, {
  singular: 'replicaset',
  shortNames: ['rs'],
  categories: ['all'],
  verbs: ALL_VERBS,
  schema: replicaSetSchema,
  subresources: [scaleSubresource, statusSubresource],
  hasGeneration: true,
  hasStatus: true,
  nameProblem: dnsSubdomainProblem,
  fieldSelectors: { 'status.replicas': (set) => String(set.status?.replicas ?? 0) },
  columns: [
    nameColumn,
    column('Desired', 'Pods wanted.', ({ spec }) => spec.replicas ?? 1, { type: 'integer' }),
    column('Current', 'Pods that exist.', ({ status }) => status?.replicas ?? 0, { type: 'integer' }),
    column('Ready', 'Pods that are ready.', ({ status }) => status?.readyReplicas ?? 0, { type: 'integer' }),
    ageColumn,
    column(
      'Containers',
      'Names of the containers.',
      ({ spec }) => renderContainerNames(spec.template.spec.containers),
      {
        priority: 1,
      },
    ),
    column(
      'Images',
      'Images of the containers.',
      ({ spec }) => renderContainerImages(spec.template.spec.containers),
      {
        priority: 1,
      },
    ),
    column('Selector', 'Which pods are its own.', ({ spec }) => renderSelector(spec.selector), {
      priority: 1,
    }),
  ],
  applyDefaults: applyReplicaSetDefaults,
  validate: validateReplicaSet,
  prepareForCreate: (set) => ({ ...set, status: { replicas: 0 } }),
})

export const jobSpecSchema = object(
  `${BATCH}.JobSpec`,
  'What is to be done, how often and how many at a time.',
  {
    activeDeadlineSeconds: optional(int64, 'The job fails when it runs longer.'),
    backoffLimit: optional(int32, 'So many failures, then the job has failed.'),
    completionMode: optional(
      oneOf('NonIndexed', 'Indexed'),
      'Whether all pods are alike, or each index from 0 to completions - 1 must succeed once.',
    ),
    completions: optional(int32, 'How many pods must succeed; any one when absent.'),
    manualSelector: optional(boolean, 'Trust the selector as written, instead of making one.'),
    parallelism: optional(int32, 'How many pods at a time.'),
    podReplacementPolicy: optional(
      oneOf('TerminatingOrFailed'),
      'A pod is replaced as soon as it is being deleted or has failed.',
    ),
    selector: optional(labelSelectorSchema, 'Which pods are its own; made by the server.'),
    suspend: optional(boolean, 'Stop its pods and start no new ones.'),
    template: required(podTemplateSpecSchema, 'What its pods look like.'),
    ttlSecondsAfterFinished: optional(int32, 'Delete the job so long after it has ended.'),
  },
)
const jobStatusSchema = object(`${BATCH}.JobStatus`, 'How a Job is.', {
  active: optional(int32, 'Pods that have not ended.'),
  completedIndexes: optional(string, 'Indexes that have succeeded, such as 0,2-4.'),
  completionTime: optional(time, 'When it was done.'),
  conditions: optional(
    {
      type: 'list',
      items: object(`${BATCH}.JobCondition`, 'One thing known about it.', {
        ...conditionFields,
        lastProbeTime: optional(time, 'When it was checked last.'),
        type: required(string, 'Complete, Failed, Suspended, SuccessCriteriaMet or FailureTarget.'),
      }),
      listType: 'atomic',
      patchMergeKey: 'type',
      patchStrategy: 'merge',
    },
    'What is known about it.',
  ),
  failed: optional(int32, 'Pods that failed.'),
  ready: optional(int32, 'Active pods that are ready.'),
  startTime: optional(time, 'When it was begun.'),
  succeeded: optional(int32, 'Pods that succeeded.'),
  terminating: optional(int32, 'Pods that are ending.'),
  uncountedTerminatedPods: optional(
    object(`${BATCH}.UncountedTerminatedPods`, 'Pods that have ended and are not counted yet.', {
      failed: optional(setOf(string), 'uids of failed pods.'),
      succeeded: optional(setOf(string), 'uids of succeeded pods.'),
    }),
    'Pods that have ended and are not counted yet.',
  ),
})
export const jobSchema = object(`${BATCH}.Job`, 'Runs pods until enough of them have succeeded.', {
  ...objectFields,
  spec: optional(jobSpecSchema, 'What is wanted.', { default: {} }),
  status: optional(jobStatusSchema, 'How it is. Kept by the platform.'),
})
export type JobSpec = Omit<TypeOf<typeof jobSpecSchema>, 'template'> & { template: PodTemplateSpec }
export type JobStatus = TypeOf<typeof jobStatusSchema>
export type Job = KubeObject & { apiVersion: 'batch/v1'; kind: 'Job'; spec: JobSpec; status?: JobStatus }
export const jobKind: TypedKind<Job> = {
  group: 'batch',
  version: 'v1',
  kind: 'Job',
  plural: 'jobs',
  namespaced: true,
}
export const jobDefinition = defineKind(jobKind, {
  singular: 'job',
  categories: ['all'],
  verbs: ALL_VERBS,
  schema: jobSchema,
  subresources: [statusSubresource],
  hasGeneration: true,
  hasStatus: true,
  nameProblem: dnsSubdomainProblem,
  fieldSelectors: { 'status.successful': (job) => String(job.status?.succeeded ?? 0) },
  columns: [
    nameColumn,
    column('Status', 'How it is.', renderJobStatus),
    column('Completions', 'Pods that succeeded of those wanted.', ({ spec, status }) => {
      const succeeded = status?.succeeded ?? 0
      if (spec.completions !== undefined) return `${succeeded}/${spec.completions}`
      const parallelism = spec.parallelism ?? 0
      return parallelism > 1 ? `${succeeded}/1 of ${parallelism}` : `${succeeded}/1`
    }),
    column('Duration', 'How long it took or takes.', ({ status }, nowMs) => {
      if (!status?.startTime) return ''
      const endMs = status.completionTime ? Date.parse(status.completionTime) : nowMs
      return renderDuration(endMs - Date.parse(status.startTime))
    }),
    ageColumn,
    column(
      'Containers',
      'Names of the containers.',
      ({ spec }) => renderContainerNames(spec.template.spec.containers),
      {
        priority: 1,
      },
    ),
    column(
      'Images',
      'Images of the containers.',
      ({ spec }) => renderContainerImages(spec.template.spec.containers),
      {
        priority: 1,
      },
    ),
    column('Selector', 'Which pods are its own.', ({ spec }) => renderSelector(spec.selector), {
      priority: 1,
    }),
  ],
  applyDefaults: applyJobDefaults,
  validate: validateJob,
  prepareForCreate: (job) => ({ ...prepareJob(job), status: {} }),
})

function renderJobStatus(job: Job): string {
  const is = (type: string) =>
    job.status?.conditions?.some((c) => c.type === type && c.status === 'True') ?? false
  if (is('Complete')) return 'Complete'
  if (is('Failed')) return 'Failed'
  if (job.metadata.deletionTimestamp) return 'Terminating'
  if (is('Suspended')) return 'Suspended'
  if (is('FailureTarget')) return 'FailureTarget'
  if (is('SuccessCriteriaMet')) return 'SuccessCriteriaMet'
  return 'Running'
}
