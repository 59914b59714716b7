import { forbidden } from '../../api/index.ts'
import { type TenantLimits, tenantQuotaExceeded } from '../quota.ts'
import type { AdmissionPlugin } from './admission.ts'

/** The platform's own limits. They count dry runs too, which therefore say what the real request would. */
export function tenantQuota(limits: TenantLimits): AdmissionPlugin {
  return {
    name: 'TenantQuota',
    refuse({ operation, group, resource, subresource, name }, cluster) {
      // Components are counted as well: what they create is what a tenant's Deployment or CronJob told them to.
      if (operation !== 'CREATE' || subresource !== undefined) return undefined
      const usage = {
        objects: cluster.objectCount,
        bytes: cluster.bytes,
        pods: resource === 'pods' ? cluster.count({ group: '', resource: 'pods' }) : 0,
        namespaces: resource === 'namespaces' ? cluster.count({ group: '', resource: 'namespaces' }) : 0,
      }
      const why = tenantQuotaExceeded(limits, usage, { resource: group === '' ? resource : '' })
      return why === undefined ? undefined : forbidden({ group, resource, name }, { tell: why })
    },
  }
}
