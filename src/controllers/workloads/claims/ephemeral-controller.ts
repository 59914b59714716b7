import {
  type EventRecorder,
  type Informer,
  isAlreadyExists,
  type ReconcileResult,
} from '../../../client/index.ts'
import { isClaimOfPod } from '../../claims.ts'
import { controllerReference } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import { type PersistentVolumeClaim, persistentVolumeClaimKind, type Pod, podKind } from '../../kinds.ts'
import { messageOf } from '../../writes.ts'

type ClaimTemplate = {
  metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> }
  spec: PersistentVolumeClaim['spec']
}

/** Makes the claims of pods' ephemeral volumes. They belong to their pods, so the garbage collector takes them away. */
export class EphemeralVolumeController extends QueueController {
  private readonly pods: Informer<Pod>
  private readonly claims: Informer<PersistentVolumeClaim>
  private readonly events: EventRecorder

  constructor(context: ControllerContext) {
    super('ephemeral-volume', context)
    this.events = context.events('ephemeral_volume')
    this.claims = context.informers.of(persistentVolumeClaimKind)
    this.pods = this.follow(podKind, ({ key, object }) =>
      object?.spec.volumes?.some(({ ephemeral }) => ephemeral) ? [key] : [],
    )
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const pod = this.pods.get(key)
    if (!pod || pod.metadata.deletionTimestamp) return undefined
    const { phase } = pod.status ?? {}
    if (phase === 'Succeeded' || phase === 'Failed') return undefined
    for (const { name: volume, ephemeral } of pod.spec.volumes ?? []) {
      const template = ephemeral?.volumeClaimTemplate
      if (template) await this.ensureClaim(pod, `${pod.metadata.name}-${volume}`, template)
    }
    return undefined
  }

  private async ensureClaim(pod: Pod, name: string, { metadata, spec }: ClaimTemplate): Promise<void> {
    const { namespace = '' } = pod.metadata
    const found = this.claims.find({ namespace, name })
    if (found && isClaimOfPod(found, pod)) return
    const { labels, annotations } = metadata ?? {}
    try {
      if (!found)
        await this.context.client.create<PersistentVolumeClaim>(persistentVolumeClaimKind, {
          apiVersion: 'v1',
          kind: 'PersistentVolumeClaim',
          metadata: {
            name,
            namespace,
            ...(labels ? { labels } : {}),
            ...(annotations ? { annotations } : {}),
            ownerReferences: [controllerReference(pod)],
          },
          spec,
        })
    } catch (error) {
      if (!isAlreadyExists(error)) {
        this.tell(pod, `ephemeral volume: creating claim ${JSON.stringify(name)} failed: ${messageOf(error)}`)
        throw error
      }
    }
    if (found)
      this.tell(
        pod,
        `PVC ${JSON.stringify(`${namespace}/${name}`)} was not created for pod ${JSON.stringify(`${namespace}/${pod.metadata.name}`)} (pod is not owner)`,
      )
  }

  private tell(pod: Pod, message: string): void {
    this.events.record(pod, { type: 'Warning', reason: 'FailedBinding', message })
  }
}
