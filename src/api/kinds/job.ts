import { ageColumn, column, nameColumn, renderDuration } from './columns.ts'
import type { TypedKind } from './define-kind.ts'
import { applyJobDefaults, prepareJob, validateJob } from './job-rules.ts'
import { labelSelectorSchema, objectFields } from './meta.ts'
import {
  boolean,
  int32,
  int64,
  list,
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
  conditionFields,
  defineWorkload,
  selectorColumn,
  type Templated,
  templateColumns,
  templateField,
} from './templated.ts'

const BATCH = 'io.k8s.api.batch.v1'

const podFailurePolicySchema = object(
  `${BATCH}.PodFailurePolicy`,
  'What the failure of a pod means for the job.',
  {
    rules: required(
      list(
        object(`${BATCH}.PodFailurePolicyRule`, 'The first rule that fits a failed pod decides.', {
          action: required(
            oneOf('Count', 'FailIndex', 'FailJob', 'Ignore'),
            'FailJob and FailIndex give up at once, Ignore starts another pod without counting, Count counts as usual.',
          ),
          onExitCodes: optional(
            object(
              `${BATCH}.PodFailurePolicyOnExitCodesRequirement`,
              'Fits by the exit codes of containers.',
              {
                containerName: optional(string, 'Only this container; all when absent.'),
                operator: required(oneOf('In', 'NotIn'), 'Whether the exit code must be one of the values.'),
                values: required(setOf(int32), 'Exit codes in rising order.'),
              },
            ),
            'Fits by the exit codes of containers. Not together with onPodConditions.',
          ),
          onPodConditions: optional(
            list(
              object(`${BATCH}.PodFailurePolicyOnPodConditionsPattern`, 'A condition of the pod.', {
                status: optional(string, 'Its status; True when absent.'),
                type: required(string, 'Its type, such as DisruptionTarget.'),
              }),
            ),
            'Fits when the pod has one of these conditions.',
          ),
        }),
      ),
      'The first rule that fits a failed pod decides; what none fits is counted.',
    ),
  },
)
const successPolicySchema = object(`${BATCH}.SuccessPolicy`, 'When an Indexed Job has done enough.', {
  rules: required(
    list(
      object(`${BATCH}.SuccessPolicyRule`, 'Indexes that are enough.', {
        succeededCount: optional(
          int32,
          'So many of succeededIndexes, or of all indexes, must have succeeded.',
        ),
        succeededIndexes: optional(string, 'These indexes must have succeeded, such as 0,2-4.'),
      }),
    ),
    'One rule that is met is enough.',
  ),
})

export const jobSpecSchema = object(
  `${BATCH}.JobSpec`,
  'What is to be done, how often and how many at a time.',
  {
    activeDeadlineSeconds: optional(int64, 'The job fails when it runs longer.'),
    backoffLimit: optional(int32, 'So many failures, then the job has failed.'),
    backoffLimitPerIndex: optional(int32, 'So many failures of one index, then that index has failed.'),
    completionMode: optional(
      oneOf('NonIndexed', 'Indexed'),
      'Whether all pods are alike, or each index from 0 to completions - 1 must succeed once.',
    ),
    completions: optional(int32, 'How many pods must succeed; any one when absent.'),
    managedBy: optional(
      string,
      'Who carries the job out, when it is not the platform: a controller of your own. Cannot change.',
    ),
    manualSelector: optional(boolean, 'Trust the selector as written, instead of making one.'),
    maxFailedIndexes: optional(int32, 'When more indexes than this have failed, the job has failed.'),
    parallelism: optional(int32, 'How many pods at a time.'),
    podFailurePolicy: optional(podFailurePolicySchema, 'What the failure of a pod means for the job.'),
    podReplacementPolicy: optional(
      oneOf('TerminatingOrFailed', 'Failed'),
      'Whether a pod is replaced as soon as it is being deleted, or when it has ended.',
    ),
    selector: optional(labelSelectorSchema, 'Which pods are its own; made by the server.'),
    successPolicy: optional(
      successPolicySchema,
      'When an Indexed Job has done enough; all indexes when absent.',
    ),
    suspend: optional(boolean, 'Stop its pods and start no new ones.'),
    template: templateField,
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
  failedIndexes: optional(string, 'Indexes that have failed for good, such as 0,2-4.'),
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
export type JobStatus = TypeOf<typeof jobStatusSchema>
export type Job = Templated<'batch/v1', 'Job', TypeOf<typeof jobSpecSchema>, JobStatus>
export type JobSpec = Job['spec']
export const jobKind: TypedKind<Job> = {
  group: 'batch',
  version: 'v1',
  kind: 'Job',
  plural: 'jobs',
  namespaced: true,
}
export const jobDefinition = defineWorkload(jobKind, {
  singular: 'job',
  orphansByDefault: true,
  schema: jobSchema,
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
    ...templateColumns<Job>(({ spec }) => spec),
    selectorColumn<Job>(({ spec }) => spec.selector),
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
