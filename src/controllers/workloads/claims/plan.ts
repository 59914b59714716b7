import {
  claimedBytes,
  type ClaimStatus,
  type PersistentVolumeSpec,
  parseQuantity,
  renderQuantity,
  STORAGE_PROVISIONER,
} from '../../../api/index.ts'
import type { ClaimedVolume } from '../../../jail/index.ts'
import { withCondition, withoutCondition } from '../../conditions.ts'
import type { PersistentVolume, PersistentVolumeClaim, StorageClass } from '../../kinds.ts'

export const CLAIM_FINALIZER = 'kubernetes.io/pvc-protection'
export const BINDING_ANNOTATIONS = {
  'pv.kubernetes.io/bind-completed': 'yes',
  'pv.kubernetes.io/bound-by-controller': 'yes',
  'volume.kubernetes.io/storage-provisioner': STORAGE_PROVISIONER,
} as const
const RESIZE_PENDING = 'FileSystemResizePending'
const NANOS_PER_BYTE = 1_000_000_000n

type Told = { type: 'Normal' | 'Warning'; reason: string; message: string }

/** Why a claim gets no volume, in upstream's words; undefined when it gets one. */
export function planWaiting(
  { spec }: PersistentVolumeClaim,
  findClass: (name: string) => StorageClass | undefined,
): Told | undefined {
  if (!spec.storageClassName)
    return {
      type: 'Normal',
      reason: 'FailedBinding',
      message: 'no persistent volumes available for this claim and no storage class is set',
    }
  if (findClass(spec.storageClassName)) return undefined
  return {
    type: 'Warning',
    reason: 'ProvisioningFailed',
    message: `storageclass.storage.k8s.io ${JSON.stringify(spec.storageClassName)} not found`,
  }
}

export function volumeNameOf(uid: string): string {
  return `pvc-${uid}`
}

export function renderBytes(bytes: number): string {
  return renderQuantity({ nanos: BigInt(bytes) * NANOS_PER_BYTE, notation: 'binary' })
}

/** True when the volume that the claim has is as large as it asks for. */
export function hasItsSize({ spec, status }: PersistentVolumeClaim): boolean {
  const capacity = status?.capacity?.['storage']
  if (status?.phase !== 'Bound' || capacity === undefined) return false
  return (
    parseQuantity(capacity).nanos >=
    BigInt(Math.min(claimedBytes(spec), Number.MAX_SAFE_INTEGER)) * NANOS_PER_BYTE
  )
}

/** The status of a claim that has this volume. */
export function planStatus(claim: PersistentVolumeClaim, volume: ClaimedVolume, nowMs: number): ClaimStatus {
  const { accessModes } = claim.spec
  const waits = volume.sizeBytes < claimedBytes(claim.spec)
  const before = claim.status?.conditions
  const conditions = waits
    ? withCondition(
        before,
        {
          type: RESIZE_PENDING,
          status: 'True',
          message: 'Waiting for user to (re-)start a pod to finish file system resize of volume on node.',
        },
        nowMs,
      )
    : withoutCondition(before, RESIZE_PENDING)
  return {
    phase: 'Bound',
    ...(accessModes ? { accessModes } : {}),
    capacity: { storage: renderBytes(volume.sizeBytes) },
    ...(conditions.length > 0 ? { conditions } : {}),
  }
}

/** What a tenant sees of the volume of its claim. */
export function planVolume(claim: PersistentVolumeClaim, sizeBytes: number): PersistentVolumeSpec {
  const { name, namespace, uid } = claim.metadata
  const { accessModes, storageClassName, volumeMode } = claim.spec
  return {
    ...(accessModes ? { accessModes } : {}),
    capacity: { storage: renderBytes(sizeBytes) },
    claimRef: {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      name,
      ...(namespace === undefined ? {} : { namespace }),
      uid,
    },
    persistentVolumeReclaimPolicy: 'Delete',
    ...(storageClassName === undefined ? {} : { storageClassName }),
    ...(volumeMode === undefined ? {} : { volumeMode }),
  }
}

/** True when what is shown of a volume is not what it is. */
export function volumeDiffers(shown: PersistentVolume, { capacity }: PersistentVolumeSpec): boolean {
  return shown.spec?.capacity?.['storage'] !== capacity?.['storage']
}
