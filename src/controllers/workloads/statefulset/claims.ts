import type { OwnerReference } from '../../../api/index.ts'
import { controllerReference } from '../../conditions.ts'
import type { PersistentVolumeClaim, Pod, PodSpec, StatefulSet } from '../../kinds.ts'

/** A claim that a set makes for one of its pods, without what the server adds. */
export type WantedClaim = Omit<PersistentVolumeClaim, 'metadata'> & {
  metadata: {
    name: string
    namespace: string
    labels: Record<string, string>
    annotations?: Record<string, string>
  }
}

function claimName(set: StatefulSet, template: string, ordinal: number): string {
  return `${template}-${set.metadata.name}-${ordinal}`
}

/** The claims that the pod with a number has for itself. They outlive it, so the next one of its number finds them. */
export function claimsOfPod(set: StatefulSet, ordinal: number): WantedClaim[] {
  return (set.spec.volumeClaimTemplates ?? []).map(({ metadata, spec }) => ({
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: {
      name: claimName(set, metadata.name, ordinal),
      namespace: set.metadata.namespace ?? '',
      labels: { ...metadata.labels, ...set.spec.selector.matchLabels },
      ...(metadata.annotations ? { annotations: metadata.annotations } : {}),
    },
    spec,
  }))
}

/** The volumes of a pod, with those of its claims in the place of any of the same name. */
export function volumesWithClaims(
  set: StatefulSet,
  ordinal: number,
  volumes: PodSpec['volumes'] = [],
): NonNullable<PodSpec['volumes']> {
  const templates = (set.spec.volumeClaimTemplates ?? []).map(({ metadata }) => metadata.name)
  return [
    ...templates.map((name) => ({
      name,
      persistentVolumeClaim: { claimName: claimName(set, name, ordinal), readOnly: false },
    })),
    ...volumes.filter(({ name }) => !templates.includes(name)),
  ]
}

/** Whose claim it is: the number, the pod that has it now, and whether that goes because the set became smaller. */
export type ClaimPlace = { ordinal: number; pod: Pod | undefined; isCondemned: boolean }

/**
 * Whom a claim goes with, after the set's retention policy: with the set, with the pod that is scaled away, or with
 * nobody. References of others stay. Undefined when nothing changes.
 */
export function planClaimOwners(
  set: StatefulSet,
  claim: PersistentVolumeClaim,
  { ordinal, pod, isCondemned }: ClaimPlace,
): OwnerReference[] | undefined {
  const { whenDeleted, whenScaled } = set.spec.persistentVolumeClaimRetentionPolicy ?? {}
  const withPod = whenScaled === 'Delete' && isCondemned && pod !== undefined
  const withSet = whenDeleted === 'Delete' && !withPod
  const before = claim.metadata.ownerReferences ?? []
  const isOurs = ({ kind, name, uid }: OwnerReference) =>
    uid === set.metadata.uid || (kind === 'Pod' && name === `${set.metadata.name}-${ordinal}`)
  const wanted = [
    ...before.filter((owner) => !isOurs(owner)),
    ...(withSet ? [controllerReference(set)] : []),
    ...(withPod ? [{ ...controllerReference(pod), controller: false, blockOwnerDeletion: false }] : []),
  ]
  const uids = (owners: readonly OwnerReference[]) => owners.map(({ uid }) => uid).join()
  return uids(before) === uids(wanted) ? undefined : wanted
}
