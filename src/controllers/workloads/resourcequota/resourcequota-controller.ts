import type { KubeObject } from '../../../api/index.ts'
import {
  type Informer,
  keyOf,
  type KindRef,
  type ReconcileResult,
  resourceOf,
} from '../../../client/index.ts'
import { quotaUsage } from '../../../policy/index.ts'
import { semanticEqual } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import {
  eventKind,
  type PersistentVolumeClaim,
  persistentVolumeClaimKind,
  type Pod,
  podKind,
  type ResourceQuota,
  resourceQuotaKind,
} from '../../kinds.ts'
import { writeStatus } from '../../writes.ts'
import type { KindFollower } from '../customresourcedefinition/customresourcedefinition-controller.ts'

/** Counts what each ResourceQuota bounds. Admission counts for itself: this is what people see. */
export class ResourceQuotaController extends QueueController implements KindFollower {
  private readonly quotas: Informer<ResourceQuota>
  private readonly informers = new Map<string, Informer<KubeObject>>()

  constructor(context: ControllerContext, { kinds }: { kinds: readonly KindRef[] }) {
    super('resourcequota', context)
    this.quotas = this.follow(resourceQuotaKind, ({ key }) => [key])
    for (const kind of kinds) this.addKind(kind)
  }

  addKind(kind: KindRef): void {
    if (!kind.namespaced || resourceOf(kind) === resourceOf(eventKind)) return
    const isPod = resourceOf(kind) === resourceOf(podKind)
    const isClaim = resourceOf(kind) === resourceOf(persistentVolumeClaimKind)
    const useOf = (object: KubeObject) => (isPod ? phaseOf(object) : isClaim ? storageOf(object) : undefined)
    const informer = this.follow<KubeObject>(kind, ({ old, object }) => {
      // Of what exists only pods and claims change what they use: pods end, claims grow.
      const same = old && object && useOf(old) === useOf(object)
      return same ? [] : this.quotasNear(object ?? old)
    })
    this.informers.set(resourceOf(kind), informer)
  }

  removeKind(kind: KindRef): void {
    this.informers.delete(resourceOf(kind))
    this.unfollow(kind)
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const quota = this.quotas.get(key)
    if (!quota || quota.metadata.deletionTimestamp) return undefined
    const { namespace } = quota.metadata
    const used = quotaUsage(
      quota,
      ({ group, resource }) => this.informers.get(`${resource}.${group}`)?.list(namespace) ?? [],
    )
    const status = { hard: quota.spec.hard ?? {}, used }
    if (!semanticEqual(quota.status, status))
      await writeStatus(this.context.client, resourceQuotaKind, quota, status)
    return undefined
  }

  private quotasNear(object: KubeObject | undefined): string[] {
    return this.context.informers.of(resourceQuotaKind).list(object?.metadata.namespace).map(keyOf)
  }
}

function storageOf(object: KubeObject): string | undefined {
  return (object as PersistentVolumeClaim).spec.resources?.requests?.['storage']
}

function phaseOf(object: KubeObject): string | undefined {
  return (object as Pod).status?.phase
}
