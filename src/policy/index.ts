// Decisions, all pure: authorization, admission, quota, network reachability, isolation class.
export {
  type AccessAttributes,
  type AccessDecision,
  type Authorizer,
  type PolicyRule,
  RBAC_GROUP,
  RbacAuthorizer,
  describeDenial,
  ruleAllows,
} from './rbac.ts'
export {
  type EngineOffer,
  ISOLATION_CLASSES,
  type IsolationClass,
  type IsolationDecision,
  type PlacementDecision,
  type TenantRisk,
  decideIsolation,
  decidePlacement,
} from './isolation-class.ts'
export {
  type Flow,
  type FlowEnd,
  flowAllowed,
  isAbout,
  type IsolatingPolicy,
  type NetworkRules,
  peerSelects,
  type PolicyDirection,
  type ReachablePod,
  selectsPod,
} from './network-reachability.ts'
export { podAmount } from './pod-amounts.ts'
export { quotaUsage } from './resource-quota.ts'
export { podResourcesExceeded, type TenantLimits, type TenantUsage, tenantQuotaExceeded } from './quota.ts'
export { POD_SECURITY_LEVELS, type PodSecurityLevel } from './pod-security/checks.ts'
export { type PodLimits, podLimitsOf } from './pod-limits.ts'
export type { AdmissionPlugin, AdmissionRequest, ClusterView, ResourceName } from './admission/admission.ts'
export { compileOperatorPolicies, type OperatorPolicies } from './admission/policies/validating-policies.ts'
export {
  bundleOf,
  type HeldRegoPolicy,
  type RegoPolicies,
  regoPolicyChecks,
} from './admission/rego-policies.ts'
export { admissionPlugins } from './admission/plugins.ts'
export { PROTECTED_NAMESPACES } from './admission/namespace-lifecycle.ts'
