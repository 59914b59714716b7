import { ApiError, claimedBytes, STORAGE_PROVISIONER } from '../../../api/index.ts'
import {
  type EventRecorder,
  type Informer,
  isAlreadyExists,
  isConflict,
  isNotFound,
  keyOf,
  type ReconcileResult,
} from '../../../client/index.ts'
import type { ClaimedVolume, ClaimId, Engine } from '../../../jail/index.ts'
import { claimsOf, usesClaim } from '../../claims.ts'
import { semanticEqual } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import {
  type PersistentVolume,
  type PersistentVolumeClaim,
  persistentVolumeClaimKind,
  persistentVolumeKind,
  type Pod,
  podKind,
  type StorageClass,
  storageClassKind,
} from '../../kinds.ts'
import { CLAIM_IN_USE_RETRY_MS, CLAIM_REFUSED_RETRY_MS } from '../../limits.ts'
import { mergePatch, messageOf, refOfObject, writeStatus } from '../../writes.ts'
import {
  BINDING_ANNOTATIONS,
  CLAIM_FINALIZER,
  hasItsSize,
  planStatus,
  planVolume,
  planWaiting,
  volumeDiffers,
  volumeNameOf,
} from './plan.ts'

/** The key that stands for every volume the machine has. */
const ALL_VOLUMES = ''

/**
 * Gets a volume for every claim, lets it grow, and takes it away with the claim once no pod uses it. Keys are uids: a
 * claim and the next of its name never share a volume.
 */
export class ClaimController extends QueueController {
  private readonly engine: Engine
  private readonly claims: Informer<PersistentVolumeClaim>
  private readonly volumes: Informer<PersistentVolume>
  private readonly classes: Informer<StorageClass>
  private readonly pods: Informer<Pod>
  private readonly events: EventRecorder
  private readonly protection: EventRecorder

  constructor(context: ControllerContext, { engine }: { engine: Engine }) {
    super('persistentvolumeclaim', context)
    this.engine = engine
    this.events = context.events('persistentvolume-controller')
    this.protection = context.events(STORAGE_PROVISIONER)
    this.claims = this.follow(persistentVolumeClaimKind, ({ old, object }) =>
      [old, object].flatMap((claim) => (claim ? [claim.metadata.uid] : [])),
    )
    this.claims.byUid('')
    this.volumes = this.follow(persistentVolumeKind, ({ old, object }) => {
      const uid = (object ?? old)?.spec?.claimRef?.uid
      return uid === undefined ? [] : [uid]
    })
    this.pods = this.follow(podKind, ({ old, object }) => this.claimsUsedBy(object ?? old))
    this.classes = this.follow(storageClassKind, () => this.claims.list().map(({ metadata }) => metadata.uid))
  }

  override start(): void {
    super.start()
    this.queue.add(ALL_VOLUMES)
  }

  protected async reconcile(uid: string): Promise<ReconcileResult> {
    if (uid === ALL_VOLUMES) {
      // Claims may have gone while nobody looked.
      for (const { id } of await this.engine.volumes(this.stopping.signal)) this.queue.add(id)
      return undefined
    }
    const claim = this.claims.byUid(uid)
    if (!claim) return this.removeVolume(uid as ClaimId) // our keys are uids
    return claim.metadata.deletionTimestamp ? this.end(claim) : this.converge(claim)
  }

  private async converge(claim: PersistentVolumeClaim): Promise<ReconcileResult> {
    const isBound = claim.status?.phase === 'Bound'
    if (!isBound) {
      const waiting = planWaiting(claim, (name) => this.classes.find({ name }))
      if (waiting) {
        this.events.record(claim, waiting)
        return undefined
      }
    } else if (hasItsSize(claim) && this.isShown(claim)) return undefined
    const volume = await this.ensureVolume(claim)
    if (!volume) return { requeueAfterMs: CLAIM_REFUSED_RETRY_MS }
    await this.show(claim, volume)
    return undefined
  }

  private isShown({ metadata }: PersistentVolumeClaim): boolean {
    return this.volumes.find({ name: volumeNameOf(metadata.uid) }) !== undefined
  }

  /** Undefined when it is refused for now; the claim's events say why. */
  private async ensureVolume(claim: PersistentVolumeClaim): Promise<ClaimedVolume | undefined> {
    const id = claim.metadata.uid as ClaimId // the API server gives every object a uid in this form
    const isBound = claim.status?.phase === 'Bound'
    const { signal } = this.stopping
    try {
      if (isBound && !(await this.engine.volumes(signal)).some((volume) => volume.id === id)) {
        // Another one in its place would be empty, and nobody would be told.
        await writeStatus(this.context.client, persistentVolumeClaimKind, claim, {
          ...claim.status,
          phase: 'Lost',
        })
        this.events.record(claim, {
          type: 'Warning',
          reason: 'ClaimLost',
          message: 'Bound claim has lost its PersistentVolume. Data on the volume is lost!',
        })
        return undefined
      }
      if (claim.status?.phase === 'Lost') return undefined
      return await this.engine.ensureVolume({ id, sizeBytes: claimedBytes(claim.spec) }, signal)
    } catch (error) {
      const refused = isRefusal(error)
      const why = refused ? messageOf(error) : 'the machine could not do it and tries again'
      this.protection.record(claim, {
        type: 'Warning',
        reason: isBound ? 'VolumeResizeFailed' : 'ProvisioningFailed',
        message: isBound
          ? `resize volume ${JSON.stringify(volumeNameOf(id))} failed: ${why}`
          : `failed to provision volume with StorageClass ${JSON.stringify(claim.spec.storageClassName)}: ${why}`,
      })
      if (!refused) throw error
      return undefined
    }
  }

  private async show(claim: PersistentVolumeClaim, volume: ClaimedVolume): Promise<void> {
    const { client, clock } = this.context
    const name = volumeNameOf(claim.metadata.uid)
    const spec = planVolume(claim, volume.sizeBytes)
    const shown = this.volumes.find({ name })
    if (!shown) {
      const annotations = { 'pv.kubernetes.io/provisioned-by': STORAGE_PROVISIONER }
      try {
        const made = await client.create<PersistentVolume>(persistentVolumeKind, {
          apiVersion: 'v1',
          kind: 'PersistentVolume',
          metadata: { name, annotations },
          spec,
        })
        await writeStatus(client, persistentVolumeKind, made, { phase: 'Bound' })
      } catch (error) {
        if (!isAlreadyExists(error)) throw error
      }
    } else if (volumeDiffers(shown, spec))
      await mergePatch(client, persistentVolumeKind, shown, { spec: { capacity: spec.capacity ?? {} } })
    const isNew = claim.spec.volumeName !== name
    const named = isNew
      ? await mergePatch(client, persistentVolumeClaimKind, claim, {
          metadata: { annotations: { ...BINDING_ANNOTATIONS } },
          spec: { volumeName: name },
        })
      : claim
    const status = planStatus(named, volume, clock.nowMs())
    if (!semanticEqual(named.status, status))
      await writeStatus(client, persistentVolumeClaimKind, named, status)
    if (isNew)
      this.protection.record(claim, {
        type: 'Normal',
        reason: 'ProvisioningSucceeded',
        message: `Successfully provisioned volume ${name}`,
      })
    else if (hasItsSize({ ...named, status }) && !hasItsSize(named))
      this.protection.record(claim, {
        type: 'Normal',
        reason: 'FileSystemResizeSuccessful',
        message: 'MountVolume.NodeExpandVolume succeeded for volume',
      })
  }

  private async end(claim: PersistentVolumeClaim): Promise<ReconcileResult> {
    if (this.pods.list(claim.metadata.namespace).some((pod) => usesClaim(pod, claim))) return undefined
    const { finalizers = [], uid } = claim.metadata
    const again = await this.removeVolume(uid as ClaimId)
    if (again) return again
    if (finalizers.includes(CLAIM_FINALIZER))
      await mergePatch(this.context.client, persistentVolumeClaimKind, claim, {
        metadata: { finalizers: finalizers.filter((finalizer) => finalizer !== CLAIM_FINALIZER) },
      })
    return undefined
  }

  private async removeVolume(id: ClaimId): Promise<ReconcileResult> {
    try {
      await this.engine.removeVolume(id, this.stopping.signal)
    } catch (error) {
      // The machine has not quite ended the last pod.
      if (isConflict(error)) return { requeueAfterMs: CLAIM_IN_USE_RETRY_MS }
      throw error
    }
    const shown = this.volumes.find({ name: volumeNameOf(id) })
    if (!shown) return undefined
    try {
      await this.context.client.delete(persistentVolumeKind, refOfObject(shown))
    } catch (error) {
      if (!isNotFound(error)) throw error
    }
    return undefined
  }

  private claimsUsedBy(pod: Pod | undefined): string[] {
    if (!pod) return []
    const claims = this.context.informers.of(persistentVolumeClaimKind)
    return claimsOf(pod).flatMap(({ claim: name }) => {
      const claim = claims.get(keyOf({ metadata: { name, namespace: pod.metadata.namespace ?? '' } }))
      return claim ? [claim.metadata.uid] : []
    })
  }
}

/** The machine will not have it now; what is said is for the tenant. */
function isRefusal(error: unknown): error is ApiError {
  return error instanceof ApiError && [403, 409, 422, 429].includes(error.code)
}
