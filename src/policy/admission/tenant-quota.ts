import { claimedBytes, forbidden, type KubeObject, type PersistentVolumeClaim } from '../../api/index.ts'
import { podLimitsOf, usesNothing, withoutLimit } from '../pod-limits.ts'
import { podResourcesExceeded, storageExceeded, type TenantLimits, tenantQuotaExceeded } from '../quota.ts'
import type { AdmissionPlugin, ClusterView } from './admission.ts'

const CLAIMS = { group: '', resource: 'persistentvolumeclaims' }
const PODS = { group: '', resource: 'pods' }

/**
 * The platform's own limits. They count dry runs too, which therefore say what the real request would. `limits` is
 * asked each time, because the operator can change a quota while the control plane runs.
 */
export function tenantQuota(limits: () => TenantLimits): AdmissionPlugin {
  return {
    name: 'TenantQuota',
    refuse({ operation, group, resource, subresource, name, object }, cluster) {
      if (group === CLAIMS.group && resource === CLAIMS.resource && operation !== 'DELETE') {
        const why = subresource === undefined ? tooMuchStorage(limits(), object, cluster) : undefined
        if (why !== undefined) return forbidden({ group, resource, name }, { tell: why })
      }
      // Components are counted as well: what they create is what a tenant's Deployment or CronJob told them to.
      if (operation !== 'CREATE' || subresource !== undefined) return undefined
      const isPod = group === '' && resource === 'pods'
      const usage = {
        objects: cluster.objectCount,
        bytes: cluster.bytes,
        pods: isPod ? cluster.count(PODS) : 0,
        namespaces: resource === 'namespaces' ? cluster.count({ group: '', resource: 'namespaces' }) : 0,
      }
      const why =
        tenantQuotaExceeded(limits(), usage, { resource: group === '' ? resource : '' }) ??
        (isPod ? podTooLarge(limits(), object, cluster) : undefined)
      return why === undefined ? undefined : forbidden({ group, resource, name }, { tell: why })
    },
  }
}

/** A pod's limits cannot change while it lives, so it is enough to look when it is created. */
function podTooLarge(limits: TenantLimits, pod: KubeObject, cluster: ClusterView): string | undefined {
  if (limits.memoryBytesMax === undefined && limits.cpuMillisMax === undefined) return undefined
  // By uid, because what has just become durable is for a moment in both.
  const others = new Map(
    [...cluster.creating(PODS), ...cluster.list(PODS)].map((other) => [other.metadata.uid, other]),
  )
  const running = [...others.values()].filter((other) => !usesNothing(other))
  return podResourcesExceeded(limits, running.map(podLimitsOf), {
    ...podLimitsOf(pod),
    unlimited: { cpu: withoutLimit(pod, 'cpu'), memory: withoutLimit(pod, 'memory') },
  })
}

function tooMuchStorage(limits: TenantLimits, claim: KubeObject, cluster: ClusterView): string | undefined {
  if (limits.storageBytesMax === undefined) return undefined
  const others = new Map(
    [...cluster.creating(CLAIMS), ...cluster.list(CLAIMS)].map((other) => [other.metadata.uid, other]),
  )
  others.delete(claim.metadata.uid)
  const bytesOf = (object: KubeObject) => claimedBytes((object as PersistentVolumeClaim).spec) // of that kind
  const used = [...others.values()].reduce((sum, other) => sum + bytesOf(other), 0)
  return storageExceeded(limits, used, bytesOf(claim))
}
