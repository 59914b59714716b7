import {
  type ConfigMap,
  configMapKind,
  groupVersion,
  type KubeObject,
  matchesLabelSelector,
  type RegoPolicy,
  type Tenant,
  type ValidatingAdmissionPolicy,
  type ValidatingAdmissionPolicyBinding,
  type ValidatingAdmissionPolicySpec,
} from '../../api/index.ts'
import type { TenantPolicy, TenantRegoPolicy } from '../../jail/index.ts'

/** The operator's policies that hold in a tenant's API: the bindings whose selector finds the Tenant object decide. */
export function planPolicies(
  tenant: Tenant,
  policies: readonly ValidatingAdmissionPolicy[],
  bindings: readonly ValidatingAdmissionPolicyBinding[],
  configMaps: readonly ConfigMap[],
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
      const bindings = own.map(({ metadata, spec: { tenantSelector: _whom, ...rest } }) => {
        const params = planParams(spec.paramKind, rest.paramRef, configMaps)
        return { name: metadata.name, spec: rest, ...(params ? { params } : {}) }
      })
      return [{ name, spec, bindings: bindings.sort(byName) }]
    })
    .sort(byName)
}

/**
 * What a binding's parameters are: ConfigMaps of the platform, which travel with the policy, because a tenant's objects must not decide
 * what the operator's rules mean. Undefined when it has none, or wants them of a kind that cannot be had.
 */
function planParams(
  paramKind: ValidatingAdmissionPolicySpec['paramKind'],
  paramRef: ValidatingAdmissionPolicyBinding['spec']['paramRef'],
  configMaps: readonly ConfigMap[],
): KubeObject[] | undefined {
  if (!paramRef || paramKind?.apiVersion !== groupVersion(configMapKind)) return undefined
  if (paramKind.kind !== configMapKind.kind) return undefined
  const { name, namespace, selector } = paramRef
  return configMaps
    .filter(({ metadata }) => metadata.namespace === namespace)
    .filter(({ metadata }) =>
      name ? metadata.name === name : matchesLabelSelector(selector, metadata.labels ?? {}),
    )
    .map(({ metadata: { managedFields: _fields, ...metadata }, ...rest }) => ({ ...rest, metadata }))
    .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
}

/** The same for policies in Rego, which choose their tenants themselves. */
export function planRegoPolicies(tenant: Tenant, policies: readonly RegoPolicy[]): TenantRegoPolicy[] {
  const labels = tenant.metadata.labels ?? {}
  return policies
    .filter(({ spec }) => matchesLabelSelector(spec.tenantSelector, labels))
    .map(({ metadata: { name }, spec: { tenantSelector: _whom, ...rest } }) => ({ name, ...rest }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}
