import {
  matchesLabelSelector,
  type RegoPolicy,
  type Tenant,
  type ValidatingAdmissionPolicy,
  type ValidatingAdmissionPolicyBinding,
} from '../../api/index.ts'
import type { TenantPolicy, TenantRegoPolicy } from '../../jail/index.ts'

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

/** The same for policies in Rego, which choose their tenants themselves. */
export function planRegoPolicies(tenant: Tenant, policies: readonly RegoPolicy[]): TenantRegoPolicy[] {
  const labels = tenant.metadata.labels ?? {}
  return policies
    .filter(({ spec }) => matchesLabelSelector(spec.tenantSelector, labels))
    .map(({ metadata: { name }, spec: { tenantSelector: _whom, ...rest } }) => ({ name, ...rest }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}
