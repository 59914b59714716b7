/** What one tenant may keep in its control plane; the platform's limits, which no object of the tenant can lift. */
export type TenantLimits = {
  objectsMax: number
  /** Of all objects together, as the store counts them. */
  bytesMax: number
  podsMax: number
  namespacesMax: number
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

function exceeded(what: string, used: number, limit: number): string {
  return `exceeded quota: the tenant uses ${used} of ${limit} ${what}; delete some, or ask the operator to raise the limit`
}
