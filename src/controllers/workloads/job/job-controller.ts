import { JOB_CONTROLLER, type LabelSelector, matchesLabelSelector } from '../../../api/index.ts'
import {
  ensureDeleted,
  type EventRecorder,
  type Informer,
  isNotFound,
  keyOf,
  type ReconcileResult,
} from '../../../client/index.ts'
import { controllerOf } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import { type Job, jobKind, type Pod, podKind } from '../../kinds.ts'
import { SLOW_START_PODS } from '../../limits.ts'
import { mergePatch, messageOf, writeStatus } from '../../writes.ts'
import { createInBatches, ensureClaims, podCandidates, podOf } from '../pods.ts'
import { sameStatus } from '../replicaset/plan.ts'
import { INDEX_LABEL } from './indexes.ts'
import { type Attempts, FAILURE_COUNT_ANNOTATION, IGNORED_COUNT_ANNOTATION } from './failures.ts'
import { isTracked, type JobPlan, planExpiry, planJob, TRACKING_FINALIZER } from './plan.ts'

const LABELS = {
  uid: ['batch.kubernetes.io/controller-uid', 'controller-uid'],
  name: ['batch.kubernetes.io/job-name', 'job-name'],
} as const

/** Runs pods to completion, and counts each exactly once. */
export class JobController extends QueueController {
  private readonly jobs: Informer<Job>
  private readonly pods: Informer<Pod>
  private readonly events: EventRecorder

  constructor(context: ControllerContext) {
    super('job', context)
    this.events = context.events('job-controller')
    this.jobs = this.follow(jobKind, ({ key }) => [key])
    this.pods = this.follow(podKind, ({ old, object }) => this.jobsOf([old, object]))
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const job = this.jobs.get(key)
    await this.releaseStrays(key, job)
    if (!job) return undefined
    const { client, clock } = this.context
    if (job.spec.managedBy !== undefined && job.spec.managedBy !== JOB_CONTROLLER) {
      // Its pods and its status are somebody else's.
      const { expired, requeueAfterMs } = planExpiry(job, clock.nowMs())
      if (expired) await this.expire(job)
      return requeueAfterMs === undefined ? undefined : { requeueAfterMs }
    }
    const selector = selectorOf(job)
    const pods = await ensureClaims({
      client,
      ownerKind: jobKind,
      owner: job,
      kind: podKind,
      selector,
      candidates: podCandidates(this.pods, job, selector),
      finalizer: TRACKING_FINALIZER,
    })
    if (job.metadata.deletionTimestamp) {
      await this.release(pods)
      return undefined
    }
    const plan = planJob(job, pods, { nowMs: clock.nowMs(), isGoing: (pod) => this.pods.isGoing(pod) })
    if (plan.expired) {
      await this.expire(job)
      return undefined
    }
    const changed = !sameStatus(job.status, plan.status)
    // Stored before any finalizer goes: a pod that vanishes is by then written down as to be counted.
    const current = changed ? await writeStatus(client, jobKind, job, plan.status) : job
    if (changed && plan.told) this.events.record(current, plan.told)
    await this.release(plan.unfinalize)
    // Without the finalizer nobody counts them.
    if (plan.spare) await this.release(plan.remove)
    for (const pod of plan.remove) {
      await ensureDeleted(client, podKind, pod)
      this.events.record(job, {
        type: 'Normal',
        reason: 'SuccessfulDelete',
        message: `Deleted pod: ${pod.metadata.name}`,
      })
    }
    await this.create(current, plan)
    // Counting goes on with the events of the pods; what has none of its own is asked for here.
    if (plan.unfinalize.length > 0) this.queue.add(key)
    return plan.requeueAfterMs === undefined ? undefined : { requeueAfterMs: plan.requeueAfterMs }
  }

  private async expire(job: Job): Promise<void> {
    await ensureDeleted(this.context.client, jobKind, job, {
      propagationPolicy: 'Foreground',
      preconditions: { resourceVersion: job.metadata.resourceVersion },
    })
  }

  private async create(
    job: Job,
    { create: count, indexes = [], attempts }: Pick<JobPlan, 'create' | 'indexes' | 'attempts'>,
  ): Promise<void> {
    const { template } = job.spec
    const own = Object.fromEntries([
      ...LABELS.uid.map((label) => [label, job.metadata.uid]),
      ...LABELS.name.map((label) => [label, job.metadata.name]),
    ])
    const labels = job.spec.manualSelector
      ? template.metadata?.labels
      : { ...template.metadata?.labels, ...own }
    const finalizers = [...(template.metadata?.finalizers ?? []), TRACKING_FINALIZER]
    const metadata = { ...template.metadata, ...(labels ? { labels } : {}), finalizers }
    const next = indexes.values()
    const { error } = await createInBatches(count, SLOW_START_PODS, async () => {
      const { value: index } = next.next()
      const wanted = podOf({ ...template, metadata }, job)
      const pod = await this.context.client.create<Pod>(
        podKind,
        index === undefined ? wanted : withIndex(wanted, job, index, attempts?.get(index)),
      )
      this.events.record(job, {
        type: 'Normal',
        reason: 'SuccessfulCreate',
        message: `Created pod: ${pod.metadata.name}`,
      })
    })
    if (error === undefined) return
    this.events.record(job, {
      type: 'Warning',
      reason: 'FailedCreate',
      message: `Error creating: ${messageOf(error)}`,
    })
    throw error
  }

  private async release(pods: readonly Pod[]): Promise<void> {
    for (const pod of pods) {
      if (!isTracked(pod)) continue
      const finalizers = (pod.metadata.finalizers ?? []).filter((name) => name !== TRACKING_FINALIZER)
      await ignoreGone(() => mergePatch(this.context.client, podKind, pod, { metadata: { finalizers } }))
    }
  }

  /** Pods of a job that is gone must not wait for it for ever, even when another has its name. */
  private async releaseStrays(key: string, job: Job | undefined): Promise<void> {
    const strays = this.pods
      .list(key.slice(0, key.indexOf('/')))
      .filter((pod) => isTracked(pod) && this.jobKeyOf(pod) === key)
      .filter((pod) => !job || (controllerOf(pod) && controllerOf(pod)?.uid !== job.metadata.uid))
    await this.release(strays)
  }

  private jobKeyOf(pod: Pod): string | undefined {
    const owner = controllerOf(pod)
    const name = owner?.kind === 'Job' ? owner.name : pod.metadata.labels?.[LABELS.name[0]]
    return name === undefined
      ? undefined
      : keyOf({ metadata: { namespace: pod.metadata.namespace ?? '', name } })
  }

  private jobsOf(pods: readonly (Pod | undefined)[]): Set<string> {
    const keys = new Set<string>()
    for (const pod of pods) {
      if (!pod) continue
      const owner = controllerOf(pod)
      const key = owner?.kind === 'Job' || isTracked(pod) ? this.jobKeyOf(pod) : undefined
      if (key !== undefined) keys.add(key)
      else if (!owner)
        // Nobody's pod: a job of its namespace may want it.
        for (const job of this.context.informers.of(jobKind).list(pod.metadata.namespace))
          if (matchesLabelSelector(selectorOf(job), pod.metadata.labels)) keys.add(keyOf(job))
    }
    return keys
  }
}

function selectorOf({ metadata, spec }: Job): LabelSelector {
  return spec.selector ?? { matchLabels: { [LABELS.uid[0]]: metadata.uid } }
}

/** The pod of an index: its name, hostname, label, annotation and environment say which. */
function withIndex(
  pod: Record<string, unknown>,
  job: Job,
  index: number,
  attempts: Attempts | undefined,
): Record<string, unknown> {
  const { labels, annotations, ...metadata } = pod['metadata'] as Partial<Pod['metadata']>
  const spec = pod['spec'] as Pod['spec']
  const variable = {
    name: 'JOB_COMPLETION_INDEX',
    valueFrom: { fieldRef: { fieldPath: `metadata.labels['${INDEX_LABEL}']` } },
  }
  const told = <C extends { env?: { name: string }[] }>(containers: readonly C[]) =>
    containers.map((container) =>
      container.env?.some(({ name }) => name === variable.name)
        ? container
        : { ...container, env: [...(container.env ?? []), variable] },
    )
  return {
    ...pod,
    metadata: {
      ...metadata,
      generateName: `${job.metadata.name.slice(0, 46)}-${index}-`,
      labels: { ...labels, [INDEX_LABEL]: String(index) },
      annotations: {
        ...annotations,
        [INDEX_LABEL]: String(index),
        ...(attempts ? { [FAILURE_COUNT_ANNOTATION]: String(attempts.failures) } : {}),
        ...(attempts && attempts.ignored > 0 ? { [IGNORED_COUNT_ANNOTATION]: String(attempts.ignored) } : {}),
      },
    },
    spec: {
      ...spec,
      hostname: `${job.metadata.name}-${index}`,
      containers: told(spec.containers),
      ...(spec.initContainers ? { initContainers: told(spec.initContainers) } : {}),
    },
  }
}

async function ignoreGone(change: () => Promise<unknown>): Promise<void> {
  try {
    await change()
  } catch (error) {
    if (!isNotFound(error)) throw error
  }
}
