import { readFileSync } from 'node:fs'
import { type Layout, paths, type TenantName } from '../api/index.ts'

/** Reads which Tenant has a name now, as the node agent wrote it for the gateways; undefined when there is none. */
export function tenantUidOf(layout: Layout): (tenant: TenantName) => string | undefined {
  return (tenant) => {
    try {
      return readFileSync(paths.tenantUid(layout, tenant), 'utf8')
    } catch {
      return undefined
    }
  }
}
