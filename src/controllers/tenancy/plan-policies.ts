import {
  matchesLabelSelector,
  type Tenant,
  type ValidatingAdmissionPolicy,
  type ValidatingAdmissionPolicyBinding,
} from '../../api/index.ts'
import type { TenantPolicy } from '../../jail/index.ts'

/** The operator's policies that hold in a tenant's API: the bindings whose selector finds the Tenant object decide. */
export function planPolicies(
  tenant: Tenant,
  policies: readonly ValidatingAdmissionPolicy[],
  bindings: readonly ValidatingAdmissionPolicyBinding[],
): TenantPolicy[] {
  const labels = tenant.metadata.labels ?? {}
  // One that is going away still holds until it is gone.
  const chosen = bindings.filter(
    ({ spec: { tenantSelector } }) =>
      tenantSelector !== undefined && matchesLabelSelector(tenantSelector, labels),
  )
  const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1)
  return policies
    .flatMap(({ metadata: { name }, spec }): TenantPolicy[] => {
      const own = chosen.filter(({ spec: { policyName } }) => policyName === name)
      if (!spec || own.length === 0) return []
      const bindings = own.map(({ metadata, spec: { tenantSelector: _whom, ...rest } }) => ({
        name: metadata.name,
        spec: rest,
      }))
      return [{ name, spec, bindings: bindings.sort(byName) }]
    })
    .sort(byName)
}
