import { assert } from '../stdx/index.ts'

/** ResourceQuotas of one namespace, and LimitRanges: each is looked at for every pod. */
export const QUOTAS_PER_NAMESPACE_MAX = 32
/** Pods of a namespace that a change of its Pod Security labels looks at, as upstream. */
export const PODS_CHECKED_MAX = 3_000
/** Admission policies and their bindings in one control plane: each is looked at for every write. */
export const ADMISSION_POLICIES_MAX = 256
export const ADMISSION_BINDINGS_MAX = 512
/** Objects that one binding's selector of parameters may find. */
export const POLICY_PARAMS_MAX = 64
/** Compiled policies of the operator: each awake one is a thread in the processes of control planes. */
export const REGO_POLICIES_MAX = 32
/**
 * What all expressions of a tenant's policies may cost for one request, in steps of the evaluator. The operator's have
 * the same once more, so that a tenant cannot use theirs up. Lower than upstream's, because a worker serves others too.
 */
export const POLICY_REQUEST_COST_MAX = 3_000_000
/** Kinds against whose schemas one policy is checked, as upstream. */
export const TYPE_CHECKED_KINDS_MAX = 10
/** Rules of one role. */
export const RULES_PER_ROLE_MAX = 1_000
/** How deep aggregated cluster roles may aggregate others; deeper ones add nothing. */
export const AGGREGATION_DEPTH_MAX = 8
/** Cluster roles that one aggregation may collect. */
export const AGGREGATED_ROLES_MAX = 1_000
/**
 * Comparisons of a selector with a cluster role between two changes of roles; what is not found by then adds nothing.
 * Ordinary control planes need some hundreds.
 */
export const AGGREGATION_COMPARISONS_MAX = 50_000
/** Verbs, groups, resources, names and paths in rules that one decision looks at; who has more is told no. */
export const DECISION_ITEMS_MAX = 200_000
/** Single permissions (verb × group × resource × name) that an escalation check looks at before it refuses. */
export const ESCALATION_PERMISSIONS_MAX = 10_000
/** These times what is in the rules that the user has; beyond it the check refuses as well. */
export const ESCALATION_COMPARISONS_MAX = 10_000_000
/** Rules that a SelfSubjectRulesReview answers with. */
export const REVIEW_RULES_MAX = 5_000

assert(AGGREGATION_DEPTH_MAX < AGGREGATED_ROLES_MAX)
