import type { KindRegistry, TenantName } from '../../api/index.ts'
import type { TenantLimits } from '../quota.ts'
import type { Authorizer } from '../rbac.ts'
import type { AdmissionPlugin } from './admission.ts'
import { defaultTolerations } from './default-tolerations.ts'
import { imageRegistries } from './image-registries.ts'
import { ingressGrants } from './ingress-grants.ts'
import { limitRanger } from './limit-ranger.ts'
import { namespaceLifecycle } from './namespace-lifecycle.ts'
import { platformKinds } from './platform-kinds.ts'
import { podPriority } from './pod-priority.ts'
import { podSecurity } from './pod-security.ts'
import { type OperatorPolicies, validatingPolicies } from './policies/validating-policies.ts'
import { rbacEscalation } from './rbac-escalation.ts'
import { type RegoPolicies, regoPolicies as regoPoliciesPlugin } from './rego-policies.ts'
import { resourceQuota } from './resource-quota.ts'
import { serviceAccount } from './service-account.ts'
import { storageClaims } from './storage.ts'
import { tenantQuota } from './tenant-quota.ts'

/** The policy of a control plane, in order. */
export function admissionPlugins({
  authorizer,
  registry,
  tenant,
  limits,
  operatorPolicies,
  regoPolicies,
}: {
  authorizer: Authorizer
  registry: () => KindRegistry
  tenant: TenantName
  /** Asked at each request: a quota can change. */
  limits: () => TenantLimits
  /** Rules that the operator laid upon this control plane; they can change as well. */
  operatorPolicies: () => OperatorPolicies
  regoPolicies: () => RegoPolicies
}): AdmissionPlugin[] {
  return [
    namespaceLifecycle,
    limitRanger,
    serviceAccount,
    podPriority,
    defaultTolerations,
    imageRegistries(() => limits().registries),
    podSecurity(() => limits().podSecurity ?? 'privileged'),
    ingressGrants(() => limits().ingress),
    storageClaims,
    platformKinds,
    rbacEscalation(authorizer),
    validatingPolicies({ authorizer, registry, tenant, operatorPolicies }),
    regoPoliciesPlugin({ authorizer, registry, tenant, policies: regoPolicies }),
    tenantQuota(limits),
    // Last, as upstream: it counts only what everybody else let in.
    resourceQuota,
  ]
}
