import type { TenantLimits } from '../quota.ts'
import type { Authorizer } from '../rbac.ts'
import type { AdmissionPlugin } from './admission.ts'
import { imageRegistries } from './image-registries.ts'
import { limitRanger } from './limit-ranger.ts'
import { namespaceLifecycle } from './namespace-lifecycle.ts'
import { podSecurity } from './pod-security.ts'
import { rbacEscalation } from './rbac-escalation.ts'
import { resourceQuota } from './resource-quota.ts'
import { serviceAccount } from './service-account.ts'
import { tenantQuota } from './tenant-quota.ts'

/** The policy of a control plane, in order. */
export function admissionPlugins({
  authorizer,
  limits,
}: {
  authorizer: Authorizer
  /** Asked at each request: a quota can change. */
  limits: () => TenantLimits
}): AdmissionPlugin[] {
  return [
    namespaceLifecycle,
    limitRanger,
    serviceAccount,
    imageRegistries(() => limits().registries),
    podSecurity(() => limits().podSecurity ?? 'privileged'),
    rbacEscalation(authorizer),
    tenantQuota(limits),
    // Last, as upstream: it counts only what everybody else let in.
    resourceQuota,
  ]
}
