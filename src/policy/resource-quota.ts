import {
  type KubeObject,
  parseQuantity,
  type PersistentVolumeClaim,
  type Pod,
  qosClass,
  QUOTA_COMPUTE_RESOURCES,
  QUOTA_LOAD_BALANCERS,
  QUOTA_OBJECT_RESOURCES,
  QUOTA_STORAGE,
  QUOTA_STORAGE_CLASS_SUFFIX,
  renderQuantity,
  type ResourceQuota,
  type Service,
} from '../api/index.ts'
import type { ResourceName } from './admission/admission.ts'
import { podAmount, type Side } from './pod-amounts.ts'

const UNIT = 1_000_000_000n
const PODS: ResourceName = { group: '', resource: 'pods' }
const CLAIMS: ResourceName = { group: '', resource: 'persistentvolumeclaims' }
const SERVICES: ResourceName = { group: '', resource: 'services' }

/** Which objects a bound of a quota counts; undefined for amounts of pods and for what does not exist here. */
function countedBy(key: string): ResourceName | undefined {
  if (QUOTA_OBJECT_RESOURCES.includes(key)) return { group: '', resource: key }
  if (key === QUOTA_LOAD_BALANCERS) return SERVICES
  if (!key.startsWith('count/')) return undefined
  const name = key.slice('count/'.length)
  const dot = name.indexOf('.')
  return dot < 0
    ? { group: '', resource: name }
    : { group: name.slice(dot + 1), resource: name.slice(0, dot) }
}

/** The resource and side of a pod that a bound is about: `cpu` is short for `requests.cpu`. */
export function amountBy(key: string): { side: Side; resource: string } | undefined {
  if (!QUOTA_COMPUTE_RESOURCES.includes(key)) return undefined
  const dot = key.indexOf('.')
  return dot < 0
    ? { side: 'requests', resource: key }
    : { side: key.slice(0, dot) as Side, resource: key.slice(dot + 1) } // the list has no others
}

/** What of claims a bound is about, and of which class if not of all. */
function claimsBy(key: string): { what: 'storage' | 'number'; storageClass?: string } | undefined {
  if (key === QUOTA_STORAGE) return { what: 'storage' }
  const [prefix = '', name = ''] = key.split('/', 2)
  if (!prefix.endsWith(QUOTA_STORAGE_CLASS_SUFFIX)) return undefined
  const what = name === QUOTA_STORAGE ? 'storage' : 'number'
  return { what, storageClass: prefix.slice(0, -QUOTA_STORAGE_CLASS_SUFFIX.length) }
}

function claimAmount(key: string, { spec }: PersistentVolumeClaim): bigint | undefined {
  const by = claimsBy(key)
  if (!by || (by.storageClass !== undefined && by.storageClass !== spec.storageClassName)) return undefined
  return by.what === 'number' ? UNIT : parseQuantity(spec.resources?.requests?.['storage'] ?? '0').nanos
}

type Requirement = NonNullable<
  NonNullable<ResourceQuota['spec']['scopeSelector']>['matchExpressions']
>[number]

/** True when all scopes of the quota are those of the pod. */
export function inScope({ spec }: ResourceQuota, pod: Pod): boolean {
  const scopes: readonly Requirement[] = [
    ...(spec.scopes ?? []).map((scopeName) => ({ scopeName, operator: 'Exists' as const })),
    ...(spec.scopeSelector?.matchExpressions ?? []),
  ]
  return scopes.every((scope) => {
    switch (scope.scopeName) {
      case 'BestEffort':
        return qosClass(pod.spec) === 'BestEffort'
      case 'NotBestEffort':
        return qosClass(pod.spec) !== 'BestEffort'
      case 'Terminating':
        return pod.spec.activeDeadlineSeconds !== undefined
      case 'NotTerminating':
        return pod.spec.activeDeadlineSeconds === undefined
      case 'PriorityClass':
        return ofClass(scope, pod.spec.priorityClassName || undefined)
      default:
        scope.scopeName satisfies never
        return false
    }
  })
}

function ofClass({ operator, values = [] }: Requirement, name: string | undefined): boolean {
  switch (operator) {
    case 'Exists':
      return name !== undefined
    case 'DoesNotExist':
      return name === undefined
    case 'In':
      return name !== undefined && values.includes(name)
    case 'NotIn':
      return name === undefined || !values.includes(name)
    default:
      operator satisfies never
      return false
  }
}

/** A pod that has ended uses nothing any more, but it is still an object. */
function hasEnded({ status }: Pod): boolean {
  return status?.phase === 'Succeeded' || status?.phase === 'Failed'
}

/** What one object adds to each bound of a quota, in billionths. Bounds that it does not touch are left out. */
export function quotaDelta(quota: ResourceQuota, of: ResourceName, object: KubeObject): Map<string, bigint> {
  const delta = new Map<string, bigint>()
  const isPod = of.group === PODS.group && of.resource === PODS.resource
  const pod = object as Pod // read as one only where it is
  const counts = !isPod || (inScope(quota, pod) && !hasEnded(pod))
  const isClaim = of.group === CLAIMS.group && of.resource === CLAIMS.resource
  for (const key of Object.keys(quota.spec.hard ?? {})) {
    const claimed = isClaim ? claimAmount(key, object as PersistentVolumeClaim) : undefined // of that kind
    if (claimed !== undefined) delta.set(key, claimed)
    const amount = isPod && counts ? amountBy(key) : undefined
    if (amount) delta.set(key, podAmount(pod, amount.side, amount.resource))
    const counted = countedBy(key)
    if (key === QUOTA_LOAD_BALANCERS && (object as Service).spec?.type !== 'LoadBalancer') continue // of any kind
    if (counted?.group === of.group && counted.resource === of.resource && (counts || key === 'count/pods'))
      delta.set(key, UNIT)
  }
  return delta
}

type ListObjects = (of: ResourceName) => readonly KubeObject[]

/** How much of each bound is used, in billionths. `list` gives the objects of the quota's namespace. Pure. */
export function quotaUsageNanos(quota: ResourceQuota, list: ListObjects): Map<string, bigint> {
  const used = new Map<string, bigint>()
  const kinds = new Map<string, ResourceName>()
  for (const key of Object.keys(quota.spec.hard ?? {})) {
    used.set(key, 0n)
    const of = amountBy(key) ? PODS : claimsBy(key) ? CLAIMS : countedBy(key)
    if (of) kinds.set(`${of.resource}.${of.group}`, of)
  }
  for (const of of kinds.values())
    for (const object of list(of))
      for (const [key, amount] of quotaDelta(quota, of, object)) used.set(key, (used.get(key) ?? 0n) + amount)
  return used
}

/** The same as a status shows it. */
export function quotaUsage(quota: ResourceQuota, list: ListObjects): Record<string, string> {
  const used = quotaUsageNanos(quota, list)
  return Object.fromEntries([...used].map(([key, nanos]) => [key, renderLike(quota, key, nanos)]))
}

/** An amount in the notation of its bound. */
export function renderLike(quota: ResourceQuota, key: string, nanos: bigint): string {
  const { notation } = parseQuantity(quota.spec.hard?.[key] ?? '0')
  return renderQuantity({ nanos, notation })
}
