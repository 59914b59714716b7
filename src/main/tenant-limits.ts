import { DEFAULT_TENANT_LIMITS } from '../apiserver/index.ts'
import type { TenantQuota } from '../jail/index.ts'
import type { TenantLimits } from '../policy/index.ts'

/** What a control plane lets its tenant have: the operator's quota, which can only tighten the platform's own limits. */
export function tenantLimitsOf({ pods, objects, cpuMillis, memoryBytes }: TenantQuota = {}): TenantLimits {
  const { podsMax, objectsMax } = DEFAULT_TENANT_LIMITS
  return {
    ...DEFAULT_TENANT_LIMITS,
    podsMax: Math.min(pods ?? podsMax, podsMax),
    objectsMax: Math.min(objects ?? objectsMax, objectsMax),
    ...(cpuMillis === undefined ? {} : { cpuMillisMax: cpuMillis }),
    ...(memoryBytes === undefined ? {} : { memoryBytesMax: memoryBytes }),
  }
}
