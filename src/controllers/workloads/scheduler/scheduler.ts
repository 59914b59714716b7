import {
  type EventRecorder,
  type Informer,
  isNotFound,
  keyOf,
  type ReconcileResult,
} from '../../../client/index.ts'
import { findCondition, withCondition } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import { claimsOf } from '../../claims.ts'
import { type PersistentVolumeClaim, persistentVolumeClaimKind, type Pod, podKind } from '../../kinds.ts'
import { mergePatch, writeStatus } from '../../writes.ts'
import { whyUnschedulable } from './plan.ts'

/** Puts every pod onto the virtual node. Which machine that is, only the engine knows. */
export class Scheduler extends QueueController {
  private readonly pods: Informer<Pod>
  private readonly claims: Informer<PersistentVolumeClaim>
  private readonly events: EventRecorder
  private readonly nodeName: string

  constructor(context: ControllerContext, { nodeName }: { nodeName: string }) {
    super('scheduler', context)
    this.nodeName = nodeName
    this.events = context.events('default-scheduler')
    this.pods = this.follow(podKind, ({ key, old, object }) => {
      if (object && needsNode(object)) return [key]
      // What a pod had may be free now.
      const before = object ?? old
      return before && claimsOf(before).length > 0 ? this.podsWaiting(before.metadata.namespace) : []
    })
    this.claims = this.follow(persistentVolumeClaimKind, ({ old, object }) =>
      this.podsWaiting((object ?? old)?.metadata.namespace),
    )
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    let pod = this.pods.get(key)
    if (!pod || !needsNode(pod)) return undefined
    const { client, clock } = this.context
    try {
      if (!pod.spec.nodeName) {
        const why = this.whyNot(pod)
        if (why !== undefined) return await this.tellWhy(pod, why)
        pod = await mergePatch(client, podKind, pod, { spec: { nodeName: this.nodeName } })
        const name = `${pod.metadata.namespace ?? ''}/${pod.metadata.name}`
        this.events.record(pod, {
          type: 'Normal',
          reason: 'Scheduled',
          message: `Successfully assigned ${name} to ${this.nodeName}`,
        })
      }
      const conditions = withCondition(
        pod.status?.conditions,
        { type: 'PodScheduled', status: 'True' },
        clock.nowMs(),
      )
      await writeStatus(client, podKind, pod, {
        ...pod.status,
        phase: pod.status?.phase ?? 'Pending',
        conditions,
      })
    } catch (error) {
      if (!isNotFound(error)) throw error
    }
    return undefined
  }

  private whyNot(pod: Pod): string | undefined {
    const { namespace = '' } = pod.metadata
    return whyUnschedulable(pod, (name) => this.claims.find({ namespace, name }), this.pods.list(namespace))
  }

  private async tellWhy(pod: Pod, message: string): Promise<undefined> {
    const { client, clock } = this.context
    const before = findCondition(pod.status?.conditions, 'PodScheduled')
    if (before?.message === message) return undefined
    this.events.record(pod, { type: 'Warning', reason: 'FailedScheduling', message })
    const wanted = { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }
    const conditions = withCondition(pod.status?.conditions, wanted, clock.nowMs())
    await writeStatus(client, podKind, pod, {
      ...pod.status,
      phase: pod.status?.phase ?? 'Pending',
      conditions,
    })
    return undefined
  }

  private podsWaiting(namespace: string | undefined): string[] {
    return this.context.informers
      .of(podKind)
      .list(namespace)
      .filter((pod) => needsNode(pod) && claimsOf(pod).length > 0)
      .map(keyOf)
  }
}

function needsNode(pod: Pod): boolean {
  if (pod.metadata.deletionTimestamp) return false
  return !pod.spec.nodeName || findCondition(pod.status?.conditions, 'PodScheduled')?.status !== 'True'
}
