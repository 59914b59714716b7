import { claimsOf, isClaimOfPod, usesClaim } from '../../claims.ts'
import type { PersistentVolumeClaim, Pod } from '../../kinds.ts'

/** Why a pod cannot be placed yet, in upstream's words for one node; undefined when nothing keeps it. Pure. */
export function whyUnschedulable(
  pod: Pod,
  findClaim: (name: string) => PersistentVolumeClaim | undefined,
  others: readonly Pod[],
): string | undefined {
  for (const { claim: name, isEphemeral, volume } of claimsOf(pod)) {
    const claim = findClaim(name)
    if (!claim)
      return unavailable(
        isEphemeral
          ? `waiting for ephemeral volume controller to create the persistentvolumeclaim ${JSON.stringify(name)}`
          : `persistentvolumeclaim ${JSON.stringify(name)} not found`,
      )
    if (isEphemeral && !isClaimOfPod(claim, pod))
      return unavailable(
        `PVC ${JSON.stringify(name)} was not created for the pod's volume ${JSON.stringify(volume)} (pod is not owner)`,
      )
    if (claim.metadata.deletionTimestamp)
      return unavailable(`persistentvolumeclaim ${JSON.stringify(name)} is being deleted`)
    if (claim.status?.phase === 'Lost')
      return unavailable(
        `persistentvolumeclaim ${JSON.stringify(name)} bound to non-existent persistentvolume ${JSON.stringify(claim.spec.volumeName ?? '')}`,
      )
    if (claim.status?.phase !== 'Bound')
      return unavailable('pod has unbound immediate PersistentVolumeClaims')
    if (
      claim.spec.accessModes?.includes('ReadWriteOncePod') &&
      others.some((other) => other.metadata.uid !== pod.metadata.uid && usesClaim(other, claim))
    )
      return unavailable(
        '1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode',
      )
  }
  return undefined
}

function unavailable(why: string): string {
  return `0/1 nodes are available: ${why}. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.`
}
