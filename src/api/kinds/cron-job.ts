import type { WriteContext } from '../kind.ts'
import type { KubeObject } from '../meta.ts'
import type { FieldError } from '../status.ts'
import { ageColumn, column, nameColumn, renderSelector, renderSince } from './columns.ts'
import { parseCronSchedule, timeZoneProblem } from './cron-schedule.ts'
import type { TypedKind } from './define-kind.ts'
import { invalidValue, requiredValue, unsupportedValue } from './field-errors.ts'
import { objectFields, objectMetaSchema } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import { objectReferenceSchema } from './pod-schema.ts'
import { labelErrors, nonNegative } from './rules.ts'
import {
  boolean,
  int32,
  int64,
  list,
  object,
  oneOf,
  optional,
  required,
  string,
  time,
  type TypeOf,
} from './schema-builders.ts'
import { jobSpecSchema, type JobSpec } from './job.ts'
import { applyJobSpecDefaults, jobSpecErrors } from './job-rules.ts'
import { defineWorkload, templateColumns } from './templated.ts'

const BATCH = 'io.k8s.api.batch.v1'

const jobTemplateSpecSchema = object(`${BATCH}.JobTemplateSpec`, 'What the jobs look like.', {
  metadata: optional(objectMetaSchema, 'Labels and annotations of the jobs.', { default: {} }),
  spec: optional(jobSpecSchema, 'What the jobs do.', { default: {} }),
})
const cronJobSpecSchema = object(`${BATCH}.CronJobSpec`, 'What is to be done, and when.', {
  concurrencyPolicy: optional(
    oneOf('Allow', 'Forbid', 'Replace'),
    'What happens when the job before is not done: start anyway, skip this one, or stop the other.',
    { default: 'Allow' },
  ),
  failedJobsHistoryLimit: optional(int32, 'How many failed jobs are kept.', { default: 1 }),
  jobTemplate: required(jobTemplateSpecSchema, 'What the jobs look like.'),
  schedule: required(string, 'When: five fields as in crontab, or @daily and its like.'),
  startingDeadlineSeconds: optional(int64, 'A job that could not start so long after its time is skipped.'),
  successfulJobsHistoryLimit: optional(int32, 'How many jobs that are complete are kept.', { default: 3 }),
  suspend: optional(boolean, 'Start no more jobs.', { default: false }),
  timeZone: optional(string, 'The IANA time zone of the schedule; UTC when absent.'),
})
const cronJobStatusSchema = object(`${BATCH}.CronJobStatus`, 'How a CronJob is.', {
  active: optional(list(objectReferenceSchema), 'Jobs that run.'),
  lastScheduleTime: optional(time, 'The last time for which a job was started.'),
  lastSuccessfulTime: optional(time, 'When a job was complete last.'),
})
export const cronJobSchema = object(`${BATCH}.CronJob`, 'Starts a Job at certain times.', {
  ...objectFields,
  spec: required(cronJobSpecSchema, 'What is wanted.'),
  status: optional(cronJobStatusSchema, 'How it is. Kept by the platform.'),
})
export type CronJobSpec = Omit<TypeOf<typeof cronJobSpecSchema>, 'jobTemplate'> & {
  jobTemplate: { metadata?: TypeOf<typeof objectMetaSchema>; spec: JobSpec }
}
export type CronJobStatus = TypeOf<typeof cronJobStatusSchema>
export type CronJob = KubeObject & {
  apiVersion: 'batch/v1'
  kind: 'CronJob'
  spec: CronJobSpec
  status?: CronJobStatus
}
export const cronJobKind: TypedKind<CronJob> = {
  group: 'batch',
  version: 'v1',
  kind: 'CronJob',
  plural: 'cronjobs',
  namespaced: true,
}
/** The names of its jobs have 11 characters more, and are labels of their pods. */
const NAME_CHARS_MAX = 52

export const cronJobDefinition = defineWorkload(cronJobKind, {
  singular: 'cronjob',
  shortNames: ['cj'],
  schema: cronJobSchema,
  nameProblem: (name) =>
    dnsSubdomainProblem(name) ??
    (name.length > NAME_CHARS_MAX ? `must be no more than ${NAME_CHARS_MAX} characters` : undefined),
  columns: [
    nameColumn,
    column('Schedule', 'When.', ({ spec }) => spec.schedule),
    column('Timezone', 'The time zone of the schedule.', ({ spec }) => spec.timeZone ?? '<none>'),
    {
      name: 'Suspend',
      type: 'boolean',
      description: 'Whether no more jobs are started.',
      // As upstream: the words, although the column calls itself a boolean.
      cell: ({ spec }) => (spec.suspend === undefined ? '<unset>' : spec.suspend ? 'True' : 'False'),
    },
    column('Active', 'Jobs that run.', ({ status }) => status?.active?.length ?? 0, { type: 'integer' }),
    column('Last Schedule', 'How long ago the last job was due.', ({ status }, nowMs) =>
      status?.lastScheduleTime ? renderSince(status.lastScheduleTime, nowMs) : '<none>',
    ),
    ageColumn,
    ...templateColumns<CronJob>(({ spec }) => spec.jobTemplate.spec),
    column('Selector', 'Made for each job.', ({ spec }) => renderSelector(spec.jobTemplate.spec.selector), {
      priority: 1,
    }),
  ],
  applyDefaults: (cronJob) => {
    applyJobSpecDefaults(cronJob.spec?.jobTemplate?.spec)
    return cronJob
  },
  validate: validateCronJob,
  prepareForCreate: (cronJob) => ({ ...cronJob, status: {} }),
})

function validateCronJob({ spec }: CronJob, _context: WriteContext, old?: CronJob): FieldError[] {
  const { jobTemplate } = spec
  const errors: FieldError[] = [
    ...scheduleErrors(spec, old?.spec),
    ...nonNegative('spec.startingDeadlineSeconds', spec.startingDeadlineSeconds),
    ...nonNegative('spec.successfulJobsHistoryLimit', spec.successfulJobsHistoryLimit),
    ...nonNegative('spec.failedJobsHistoryLimit', spec.failedJobsHistoryLimit),
    ...labelErrors(jobTemplate.metadata?.labels, 'spec.jobTemplate.metadata.labels'),
    ...jobSpecErrors(jobTemplate.spec, 'spec.jobTemplate.spec'),
  ]
  const { selector, manualSelector } = jobTemplate.spec
  if (selector)
    errors.push(invalidValue('spec.jobTemplate.spec.selector', selector, '`selector` will be auto-generated'))
  if (manualSelector)
    errors.push(unsupportedValue('spec.jobTemplate.spec.manualSelector', true, ['nil', 'false']))
  return errors
}

function scheduleErrors({ schedule, timeZone }: CronJobSpec, old: CronJobSpec | undefined): FieldError[] {
  const errors: FieldError[] = []
  const at = 'spec.schedule'
  if (schedule === '') errors.push(requiredValue(at))
  else if (schedule.includes('TZ'))
    errors.push(
      invalidValue(at, schedule, 'cannot use TZ or CRON_TZ in schedule, use timeZone field instead'),
    )
  else {
    try {
      parseCronSchedule(schedule)
    } catch (error) {
      errors.push(invalidValue(at, schedule, (error as Error).message))
    }
  }
  if (timeZone !== undefined && timeZone !== old?.timeZone) {
    const problem = timeZoneProblem(timeZone)
    if (problem !== undefined) errors.push(invalidValue('spec.timeZone', timeZone, problem))
  }
  return errors
}
