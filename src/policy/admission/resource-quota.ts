import { forbidden, type KubeObject, parseQuantity, type Pod, type ResourceQuota } from '../../api/index.ts'
import { QUOTAS_PER_NAMESPACE_MAX } from '../limits.ts'
import { amountOf } from '../pod-amounts.ts'
import { amountBy, inScope, quotaDelta, quotaUsageNanos, renderLike } from '../resource-quota.ts'
import type { AdmissionPlugin, AdmissionRequest, ClusterView, ResourceName } from './admission.ts'

/** Kinds whose objects can come to count for more: claims are enlarged, services become load balancers. */
const GROWING: readonly string[] = ['persistentvolumeclaims', 'services']
const QUOTAS: ResourceName = { group: '', resource: 'resourcequotas' }

/**
 * The tenant's own quotas, for each namespace. Of kinds whose objects do not grow in place creations alone are looked
 * at. What is on its way is counted too, or many at once would slip past.
 */
export const resourceQuota: AdmissionPlugin = {
  name: 'ResourceQuota',
  refuse(request, cluster) {
    const { operation, group, resource, subresource, namespace, name } = request
    const grows = operation === 'UPDATE' && group === '' && GROWING.includes(resource)
    if (operation !== 'CREATE' && !grows) return undefined
    if (subresource !== undefined || namespace === undefined) return undefined
    const quotas = cluster.list({ ...QUOTAS, namespace }) as readonly ResourceQuota[] // of that kind
    const refuse = (tell: string) => forbidden({ group, resource, name }, { tell })
    if (
      operation === 'CREATE' &&
      group === QUOTAS.group &&
      resource === QUOTAS.resource &&
      quotas.length >= QUOTAS_PER_NAMESPACE_MAX
    )
      return refuse(`a namespace has at most ${QUOTAS_PER_NAMESPACE_MAX} of them`)
    for (const quota of quotas) {
      const why = exceeded(quota, request, namespace, cluster)
      if (why !== undefined) return refuse(why)
    }
    return undefined
  },
}

function exceeded(
  quota: ResourceQuota,
  { operation, group, resource, object, old }: AdmissionRequest,
  namespace: string,
  cluster: ClusterView,
): string | undefined {
  const { name } = quota.metadata
  const delta = quotaDelta(quota, { group, resource }, object)
  if (operation === 'UPDATE' && old)
    for (const [key, before] of quotaDelta(quota, { group, resource }, old))
      delta.set(key, (delta.get(key) ?? 0n) - before)
  if (delta.size === 0) return undefined
  if (group === '' && resource === 'pods' && inScope(quota, object as Pod)) {
    const unsaid = unsaidAmounts(quota, object as Pod)
    if (unsaid !== '') return `failed quota: ${name}: must specify ${unsaid}`
  }
  const used = quotaUsageNanos(quota, (kind) => objectsOf(kind, namespace, cluster))
  const over = [...delta.keys()]
    .filter((key) => {
      const added = delta.get(key) ?? 0n
      return added > 0n && (used.get(key) ?? 0n) + added > parseQuantity(quota.spec.hard?.[key] ?? '0').nanos
    })
    .sort()
  if (over.length === 0) return undefined
  const show = (amount: (key: string) => string) => over.map((key) => `${key}=${amount(key)}`).join(',')
  return (
    `exceeded quota: ${name}, requested: ${show((key) => renderLike(quota, key, delta.get(key) ?? 0n))}, ` +
    `used: ${show((key) => renderLike(quota, key, used.get(key) ?? 0n))}, ` +
    `limited: ${show((key) => quota.spec.hard?.[key] ?? '0')}`
  )
}

function objectsOf(of: ResourceName, namespace: string, cluster: ClusterView): KubeObject[] {
  const coming = cluster.creating(of).filter(({ metadata }) => metadata.namespace === namespace)
  const stored = cluster.list({ ...of, namespace })
  if (coming.length === 0) return [...stored]
  // For a moment an object is both stored and on its way.
  const uids = new Set(coming.map(({ metadata }) => metadata.uid))
  return [...stored.filter(({ metadata }) => !uids.has(metadata.uid)), ...coming]
}

/** Which bounded amounts containers leave open: such a pod could take any amount. */
function unsaidAmounts(quota: ResourceQuota, { spec }: Pod): string {
  const containers = [...spec.containers, ...(spec.initContainers ?? [])]
  return Object.keys(quota.spec.hard ?? {})
    .sort()
    .flatMap((key) => {
      const amount = amountBy(key)
      if (!amount || amount.resource === 'ephemeral-storage') return []
      const open = containers.filter(
        ({ resources }) => amountOf(resources, amount.side, amount.resource) === undefined,
      )
      return open.length === 0 ? [] : [`${key} for: ${open.map((container) => container.name).join(',')}`]
    })
    .join('; ')
}
