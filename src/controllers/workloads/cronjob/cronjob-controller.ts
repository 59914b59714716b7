import {
  ensureDeleted,
  type EventRecorder,
  type Informer,
  isAlreadyExists,
  keyOf,
  type ReconcileResult,
} from '../../../client/index.ts'
import { controllerOf, semanticEqual } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import { type CronJob, cronJobKind, type Job, jobKind } from '../../kinds.ts'
import { messageOf, writeStatus } from '../../writes.ts'
import { jobName, jobOf, planCronJob, withStarted } from './plan.ts'

/** Starts jobs at their times. Between two times it holds one timer for each CronJob. */
export class CronJobController extends QueueController {
  private readonly cronJobs: Informer<CronJob>
  private readonly jobs: Informer<Job>
  private readonly events: EventRecorder

  constructor(context: ControllerContext) {
    super('cronjob', context)
    this.events = context.events('cronjob-controller')
    this.cronJobs = this.follow(cronJobKind, ({ key }) => [key])
    this.jobs = this.follow(jobKind, ({ old, object }) => {
      const job = object ?? old
      const owner = job && controllerOf(job)
      return owner?.kind === 'CronJob'
        ? [keyOf({ metadata: { namespace: job?.metadata.namespace ?? '', name: owner.name } })]
        : []
    })
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const cronJob = this.cronJobs.get(key)
    // Jobs of a CronJob that is gone are the garbage collector's.
    if (!cronJob) return undefined
    const { client, clock } = this.context
    const { uid, namespace } = cronJob.metadata
    const jobs = this.jobs
      .byOwner(uid)
      .filter((job) => controllerOf(job)?.uid === uid && job.metadata.namespace === namespace)
    const plan = planCronJob(cronJob, jobs, clock.nowMs())
    for (const told of plan.told) this.events.record(cronJob, told)
    for (const job of plan.replace) await this.remove(cronJob, job)
    let { status } = plan
    if (plan.startMs !== undefined) {
      const job = await this.startJob(cronJob, plan.startMs)
      // A job of that name that is not ours was made by somebody who knows why.
      if (job) status = withStarted(status, job, plan.startMs)
    }
    if (!semanticEqual(cronJob.status, status)) await writeStatus(client, cronJobKind, cronJob, status)
    for (const job of plan.forget) await this.remove(cronJob, job)
    return plan.requeueAfterMs === undefined ? undefined : { requeueAfterMs: plan.requeueAfterMs }
  }

  /** The job for a time, whether it is made now or was made before we could write that down. */
  private async startJob(cronJob: CronJob, scheduledMs: number): Promise<Job | undefined> {
    const { client } = this.context
    try {
      const job = await client.create<Job>(jobKind, jobOf(cronJob, scheduledMs))
      const message = `Created job ${job.metadata.name}`
      this.events.record(cronJob, { type: 'Normal', reason: 'SuccessfulCreate', message })
      return job
    } catch (error) {
      if (isAlreadyExists(error)) {
        const { namespace = '', uid } = cronJob.metadata
        const job = await client.get<Job>(jobKind, { namespace, name: jobName(cronJob, scheduledMs) })
        return controllerOf(job)?.uid === uid ? job : undefined
      }
      const message = `Error creating job: ${messageOf(error)}`
      this.events.record(cronJob, { type: 'Warning', reason: 'FailedCreate', message })
      throw error
    }
  }

  private async remove(cronJob: CronJob, job: Job): Promise<void> {
    try {
      await ensureDeleted(this.context.client, jobKind, job, { propagationPolicy: 'Background' })
    } catch (error) {
      const message = `Deleted job: ${messageOf(error)}`
      this.events.record(cronJob, { type: 'Warning', reason: 'FailedDelete', message })
      throw error
    }
    const message = `Deleted job ${job.metadata.name}`
    this.events.record(cronJob, { type: 'Normal', reason: 'SuccessfulDelete', message })
  }
}
