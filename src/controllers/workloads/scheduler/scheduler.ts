import { type EventRecorder, type Informer, isNotFound, type ReconcileResult } from '../../../client/index.ts'
import { findCondition, withCondition } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import { type Pod, podKind } from '../../kinds.ts'
import { mergePatch, writeStatus } from '../../writes.ts'

/** Puts every pod onto the virtual node. Which machine that is, only the engine knows. */
export class Scheduler extends QueueController {
  private readonly pods: Informer<Pod>
  private readonly events: EventRecorder
  private readonly nodeName: string

  constructor(context: ControllerContext, { nodeName }: { nodeName: string }) {
    super('scheduler', context)
    this.nodeName = nodeName
    this.events = context.events('default-scheduler')
    this.pods = this.follow(podKind, ({ key, object }) => (object && needsNode(object) ? [key] : []))
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    let pod = this.pods.get(key)
    if (!pod || !needsNode(pod)) return undefined
    const { client, clock } = this.context
    try {
      if (!pod.spec.nodeName) {
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
}

function needsNode(pod: Pod): boolean {
  if (pod.metadata.deletionTimestamp) return false
  return !pod.spec.nodeName || findCondition(pod.status?.conditions, 'PodScheduled')?.status !== 'True'
}
