import type { PersistentVolumeClaim, Pod } from './kinds.ts'

/** A volume of a pod that comes from a claim. */
export type PodClaim = {
  volume: string
  /** Name of the claim, in the pod's namespace. */
  claim: string
  readOnly: boolean
  /** The claim is made for the pod and goes with it. */
  isEphemeral: boolean
}

/** The volumes of a pod that outlive its containers, in their order. */
export function claimsOf({ metadata, spec }: Pod): PodClaim[] {
  return (spec.volumes ?? []).flatMap(({ name, persistentVolumeClaim, ephemeral }) => {
    if (persistentVolumeClaim)
      return {
        volume: name,
        claim: persistentVolumeClaim.claimName,
        readOnly: persistentVolumeClaim.readOnly ?? false,
        isEphemeral: false,
      }
    return ephemeral
      ? { volume: name, claim: `${metadata.name}-${name}`, readOnly: false, isEphemeral: true }
      : []
  })
}

/** True while the pod has, or may get, the claim's volume mounted. */
export function usesClaim(pod: Pod, claim: PersistentVolumeClaim): boolean {
  const { phase } = pod.status ?? {}
  if (!pod.spec.nodeName || phase === 'Succeeded' || phase === 'Failed') return false
  return (
    pod.metadata.namespace === claim.metadata.namespace &&
    claimsOf(pod).some((used) => used.claim === claim.metadata.name)
  )
}

/** A claim of the name of an ephemeral volume that somebody else made is not the pod's: it would get foreign data. */
export function isClaimOfPod(claim: PersistentVolumeClaim, pod: Pod): boolean {
  return (claim.metadata.ownerReferences ?? []).some(
    ({ uid, controller }) => controller === true && uid === pod.metadata.uid,
  )
}
