import type { EgressPort } from '../api/index.ts'
import type { PodLimits } from './pod-limits.ts'
import type { PodSecurityLevel } from './pod-security/checks.ts'

/** What one tenant may keep in its control plane; the platform's limits, which no object of the tenant can lift. */
export type TenantLimits = {
  objectsMax: number
  /** Of all objects together, as the store counts them. */
  bytesMax: number
  podsMax: number
  namespacesMax: number
  /** Of the limits of all pods that have not ended, together. Absent: not counted, and pods need state no limit. */
  memoryBytesMax?: number
  /** Thousandths of a core; otherwise as `memoryBytesMax`. */
  cpuMillisMax?: number
  /** Where images may come from, as `host[:port]` or `host[:port]/path`. Absent: the control plane does not ask. */
  registries?: readonly string[]
  /** The least that the Pod Security Standards must give in every namespace; `privileged` when absent. */
  podSecurity?: PodSecurityLevel
  /** Hosts and ports that it may publish. Absent: the control plane does not ask. */
  ingress?: { hosts: readonly string[]; ports: readonly EgressPort[] }
  /** Of the sizes of all claims, together. */
  storageBytesMax?: number
}

export type TenantUsage = { objects: number; bytes: number; pods: number; namespaces: number }

/** Why one more object does not fit, or undefined. `bytes` is the new object's size as far as it is known. */
export function tenantQuotaExceeded(
  limits: TenantLimits,
  usage: TenantUsage,
  adding: { resource: string; bytes?: number },
): string | undefined {
  if (usage.objects >= limits.objectsMax) return exceeded('objects', usage.objects, limits.objectsMax)
  if (usage.bytes + (adding.bytes ?? 0) > limits.bytesMax)
    return exceeded('bytes of objects', usage.bytes, limits.bytesMax)
  if (adding.resource === 'pods' && usage.pods >= limits.podsMax)
    return exceeded('pods', usage.pods, limits.podsMax)
  if (adding.resource === 'namespaces' && usage.namespaces >= limits.namespacesMax)
    return exceeded('namespaces', usage.namespaces, limits.namespacesMax)
  return undefined
}

/** Why one more pod asks for too much of the machine, or undefined. `others` are the pods that have not ended. */
export function podResourcesExceeded(
  { memoryBytesMax, cpuMillisMax }: Pick<TenantLimits, 'memoryBytesMax' | 'cpuMillisMax'>,
  others: Iterable<PodLimits>,
  adding: PodLimits & { unlimited: Record<'cpu' | 'memory', readonly string[]> },
): string | undefined {
  for (const [resource, max] of [
    ['memory', memoryBytesMax],
    ['cpu', cpuMillisMax],
  ] as const)
    if (max !== undefined && adding.unlimited[resource].length > 0)
      return `failed quota: must specify limits.${resource} for: ${adding.unlimited[resource].join(', ')}; the operator limits the ${resource} of all pods of this tenant together`
  let [memoryBytes, cpuMillis] = [0, 0]
  for (const pod of others) {
    memoryBytes += pod.memoryBytes
    cpuMillis += pod.cpuMillis
  }
  if (memoryBytesMax !== undefined && memoryBytes + adding.memoryBytes > memoryBytesMax)
    return tooMuch('limits.memory', {
      requested: adding.memoryBytes,
      used: memoryBytes,
      limited: memoryBytesMax,
    })
  if (cpuMillisMax !== undefined && cpuMillis + adding.cpuMillis > cpuMillisMax)
    return tooMuch('limits.cpu', {
      requested: `${adding.cpuMillis}m`,
      used: `${cpuMillis}m`,
      limited: `${cpuMillisMax}m`,
    })
  return undefined
}

/** Why claims ask for too much storage together, or undefined. */
export function storageExceeded(
  { storageBytesMax }: Pick<TenantLimits, 'storageBytesMax'>,
  used: number,
  adding: number,
): string | undefined {
  if (storageBytesMax === undefined || used + adding <= storageBytesMax) return undefined
  return `exceeded quota: requested: requests.storage=${adding}, used: requests.storage=${used}, limited: requests.storage=${storageBytesMax}; delete claims, or ask the operator to raise the quota`
}

function exceeded(what: string, used: number, limit: number): string {
  return `exceeded quota: the tenant uses ${used} of ${limit} ${what}; delete some, or ask the operator to raise the limit`
}

function tooMuch(
  what: string,
  { requested, used, limited }: Record<'requested' | 'used' | 'limited', number | string>,
): string {
  return `exceeded quota: requested: ${what}=${requested}, used: ${what}=${used}, limited: ${what}=${limited}; lower the limits of pods, delete some, or ask the operator to raise the quota`
}
