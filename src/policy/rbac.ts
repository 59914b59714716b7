import {
  type KubeObject,
  type LabelSelector,
  type UserInfo,
  labelSelectorRequirements,
  matchesLabels,
  userNames,
} from '../api/index.ts'
import {
  AGGREGATED_ROLES_MAX,
  AGGREGATION_COMPARISONS_MAX,
  AGGREGATION_DEPTH_MAX,
  DECISION_ITEMS_MAX,
  ESCALATION_COMPARISONS_MAX,
  ESCALATION_PERMISSIONS_MAX,
  REVIEW_RULES_MAX,
} from './limits.ts'

export const RBAC_GROUP = 'rbac.authorization.k8s.io'

/** rbac/v1 PolicyRule. */
export type PolicyRule = {
  verbs: readonly string[]
  apiGroups?: readonly string[]
  resources?: readonly string[]
  resourceNames?: readonly string[]
  nonResourceURLs?: readonly string[]
}

/** What somebody wants to do: with a resource, or with a path that is none. */
export type AccessAttributes =
  | {
      kind: 'resource'
      verb: string
      group: string
      resource: string
      subresource?: string | undefined
      /** Absent for cluster-scoped resources and for requests over all namespaces. */
      namespace?: string | undefined
      name?: string | undefined
    }
  | { kind: 'path'; verb: string; path: string }

/** `reason` names the binding that allows, and is "" for a refusal: silence means no. */
export type AccessDecision = { readonly allowed: boolean; readonly reason: string }

/** Who may do what in one control plane. Pure: it knows only the objects it was told of. */
export interface Authorizer {
  authorize(user: UserInfo, attributes: AccessAttributes): AccessDecision
  /** The rules that apply to a user in a namespace, for SelfSubjectRulesReview. */
  rulesFor(user: UserInfo, namespace: string): { rules: readonly PolicyRule[]; incomplete: boolean }
  /**
   * Why the user may not write this Role, ClusterRole, RoleBinding or ClusterRoleBinding, because it would give away
   * more than the user has; undefined when there is no reason. `old` is the object that it replaces.
   */
  escalation(user: UserInfo, object: KubeObject, old?: KubeObject): string | undefined
  /** Tells of an object that was written (or, with `gone`, removed). Other kinds than RBAC's are ignored. */
  observe(object: KubeObject, gone?: boolean): void
}

type RoleRef = { kind: string; name: string }
type Binding = {
  name: string
  namespace: string
  roleRef: RoleRef
  subjects: readonly string[]
  revision: number
}
type Role = {
  rules: readonly PolicyRule[]
  labels: Readonly<Record<string, string>>
  selectors: readonly LabelSelector[]
  revision: number
}
type Subject = { key: string; described: string }

/** Kubernetes' RBAC over an index of roles and bindings that is kept up to date object by object. */
export class RbacAuthorizer implements Authorizer {
  private readonly roles = new Map<string, Role>()
  private readonly bindings = new Map<string, Binding>()
  /** `NAMESPACE/SUBJECT` (namespace "" for cluster role bindings) → binding keys. */
  private readonly bySubject = new Map<string, Set<string>>()
  private effective = new Map<string, readonly PolicyRule[]>()
  private comparisonsLeft = AGGREGATION_COMPARISONS_MAX

  authorize(user: UserInfo, attributes: AccessAttributes): AccessDecision {
    if (user.kind === 'component') return { allowed: true, reason: 'a component of this control plane' }
    // Bindings of the whole cluster come first, so nobody can use up the look at them with bindings in a namespace.
    let left = DECISION_ITEMS_MAX
    for (const { binding, subject } of this.bindingsOf(user, namespaceOf(attributes)))
      for (const rule of this.rulesOf(binding)) {
        if ((left -= itemsOf(rule)) < 0) return { allowed: false, reason: '' }
        if (ruleAllows(rule, attributes, binding.namespace !== '')) return grantOf(binding, subject)
      }
    return { allowed: false, reason: '' }
  }

  rulesFor(user: UserInfo, namespace: string): { rules: readonly PolicyRule[]; incomplete: boolean } {
    if (user.kind === 'component') return { rules: EVERYTHING, incomplete: false }
    const rules: PolicyRule[] = []
    const seen = new Set<PolicyRule>()
    for (const { binding } of this.bindingsOf(user, namespace))
      for (const rule of this.rulesOf(binding)) {
        if (seen.has(rule)) continue
        if (rules.length >= REVIEW_RULES_MAX) return { rules, incomplete: true }
        seen.add(rule)
        rules.push(rule)
      }
    return { rules, incomplete: false }
  }

  escalation(user: UserInfo, object: KubeObject, old?: KubeObject): string | undefined {
    if (user.kind === 'component') return undefined
    const namespace = object.metadata.namespace ?? ''
    switch (object.kind) {
      case 'Role':
      case 'ClusterRole': {
        const resource = object.kind === 'Role' ? 'roles' : 'clusterroles'
        const rules = rulesIn(object)
        const selectors = selectorsIn(object)
        // Labels decide who aggregates this role, so a change of labels on unchanged rules is looked at as well.
        if (
          old &&
          same(
            [rulesIn(old), selectorsIn(old), old.metadata.labels],
            [rules, selectors, object.metadata.labels],
          )
        )
          return undefined
        if (this.allows(user, 'escalate', resource, object.metadata.name, namespace)) return undefined
        // An aggregation collects whatever carries its labels, now and later: that is everything.
        return this.missing(user, selectors.length > 0 ? EVERYTHING : rules, namespace)
      }
      case 'RoleBinding':
      case 'ClusterRoleBinding': {
        const ref = roleRefIn(object)
        if (old && same([old['roleRef'], old['subjects']], [object['roleRef'], object['subjects']]))
          return undefined
        const resource = ref.kind === 'Role' ? 'roles' : 'clusterroles'
        if (this.allows(user, 'bind', resource, ref.name, namespace)) return undefined
        const key = roleKey(ref, namespace)
        if (!this.roles.has(key))
          return `the role ${ref.kind} "${ref.name}" does not exist, so it takes the verb "bind" to refer to it`
        const rules = this.effectiveRules(key)
        // What the role collects is not known whole, and after the next change of roles it could be more.
        if (this.comparisonsLeft < 0)
          return 'the cluster roles that aggregate others have too many selectors to be compared with all cluster roles'
        return this.missing(user, rules, namespace)
      }
      default:
        return undefined
    }
  }

  observe(object: KubeObject, gone = false): void {
    if (!object.apiVersion.startsWith(`${RBAC_GROUP}/`)) return
    const { name, namespace = '' } = object.metadata
    const revision = Number(object.metadata.resourceVersion)
    const key = `${object.kind}/${namespace}/${name}`
    if (object.kind === 'Role' || object.kind === 'ClusterRole') {
      if ((this.roles.get(key)?.revision ?? -1) > revision) return
      this.effective = new Map()
      this.comparisonsLeft = AGGREGATION_COMPARISONS_MAX
      if (gone) this.roles.delete(key)
      else
        this.roles.set(key, {
          rules: rulesIn(object),
          labels: object.metadata.labels ?? {},
          selectors: selectorsIn(object),
          revision,
        })
    } else if (object.kind === 'RoleBinding' || object.kind === 'ClusterRoleBinding') {
      const known = this.bindings.get(key)
      if ((known?.revision ?? -1) > revision) return
      for (const subject of known?.subjects ?? []) {
        const index = `${namespace}/${subject}`
        const keys = this.bySubject.get(index)
        keys?.delete(key)
        if (keys?.size === 0) this.bySubject.delete(index)
      }
      this.bindings.delete(key)
      if (gone) return
      const binding = { name, namespace, roleRef: roleRefIn(object), subjects: subjectsIn(object), revision }
      this.bindings.set(key, binding)
      for (const subject of binding.subjects) {
        const index = `${namespace}/${subject}`
        const keys = this.bySubject.get(index) ?? new Set()
        keys.add(key)
        this.bySubject.set(index, keys)
      }
    }
  }

  private *bindingsOf(user: UserInfo, namespace: string): Iterable<{ binding: Binding; subject: Subject }> {
    const subjects = subjectsOf(user)
    for (const scope of namespace === '' ? [''] : ['', namespace])
      for (const subject of subjects)
        for (const key of this.bySubject.get(`${scope}/${subject.key}`) ?? []) {
          const binding = this.bindings.get(key)
          if (binding) yield { binding, subject }
        }
  }

  private rulesOf(binding: Binding): readonly PolicyRule[] {
    return this.effectiveRules(roleKey(binding.roleRef, binding.namespace))
  }

  /** A role's own rules, with those of every cluster role that its aggregation selects. */
  private effectiveRules(key: string): readonly PolicyRule[] {
    const known = this.effective.get(key)
    if (known) return known
    const seen = new Set<string>()
    const rules: PolicyRule[] = []
    const collect = (key: string, depth: number) => {
      const role = this.roles.get(key)
      if (!role || seen.has(key) || depth > AGGREGATION_DEPTH_MAX || seen.size >= AGGREGATED_ROLES_MAX) return
      seen.add(key)
      rules.push(...role.rules)
      if (role.selectors.length === 0) return
      const selected = (labels: Role['labels']) =>
        role.selectors.some(
          (s) =>
            this.comparisonsLeft >= 0 && (this.comparisonsLeft -= conditionsOf(s)) >= 0 && selects(s, labels),
        )
      for (const [other, { labels }] of this.roles) {
        if (this.comparisonsLeft < 0) return
        if (other.startsWith('ClusterRole/') && selected(labels)) collect(other, depth + 1)
      }
    }
    collect(key, 0)
    this.effective.set(key, rules)
    return rules
  }

  private allows(user: UserInfo, verb: string, resource: string, name: string, namespace: string): boolean {
    return this.authorize(user, { kind: 'resource', verb, group: RBAC_GROUP, resource, name, namespace })
      .allowed
  }

  /** What `rules` would give in `namespace` and the user has not, in upstream's words. */
  private missing(user: UserInfo, rules: readonly PolicyRule[], namespace: string): string | undefined {
    const held = this.rulesFor(user, namespace).rules
    let permissionsLeft = ESCALATION_PERMISSIONS_MAX
    const heldItems = held.reduce((sum, rule) => sum + itemsOf(rule), 0)
    let comparisonsLeft = ESCALATION_COMPARISONS_MAX
    const missing: PolicyRule[] = []
    for (const rule of rules)
      for (const single of singlePermissions(rule)) {
        comparisonsLeft -= heldItems
        if (permissionsLeft-- <= 0 || comparisonsLeft < 0)
          return 'the role lists too many single permissions to be compared with your own'
        if (!held.some((h) => covers(h, single))) missing.push(single)
      }
    if (missing.length === 0) return undefined
    const { name, groups } = userNames(user)
    return (
      `user ${JSON.stringify(name)} (groups=[${groups.map((g) => JSON.stringify(g)).join(' ')}]) is attempting to grant ` +
      `RBAC permissions not currently held:\n${[...new Set(missing.map(describeRule))].slice(0, 100).join('\n')}`
    )
  }
}

const EVERYTHING: readonly PolicyRule[] = [
  { verbs: ['*'], apiGroups: ['*'], resources: ['*'] },
  { verbs: ['*'], nonResourceURLs: ['*'] },
]

/** What we answer to somebody who may not: the same words for a name that exists and one that does not. */
export function describeDenial(user: UserInfo, attributes: AccessAttributes): string {
  const name = JSON.stringify(userNames(user).name)
  if (attributes.kind === 'path')
    return `User ${name} cannot ${attributes.verb} path ${JSON.stringify(attributes.path)}`
  const { verb, group, resource, subresource, namespace } = attributes
  const what = JSON.stringify(subresource ? `${resource}/${subresource}` : resource)
  const where = namespace ? `in the namespace ${JSON.stringify(namespace)}` : 'at the cluster scope'
  return `User ${name} cannot ${verb} resource ${what} in API group ${JSON.stringify(group)} ${where}`
}

/** Whether one rule allows a request. Rules of a RoleBinding never speak about paths that are no resource. */
export function ruleAllows(rule: PolicyRule, wanted: AccessAttributes, namespaced = false): boolean {
  if (!has(rule.verbs, wanted.verb)) return false
  if (wanted.kind === 'path')
    return !namespaced && (rule.nonResourceURLs ?? []).some((pattern) => pathMatches(pattern, wanted.path))
  const { group, resource, subresource, name } = wanted
  if (!has(rule.apiGroups, group)) return false
  const matchesResource = (rule.resources ?? []).some(
    (r) =>
      r === '*' ||
      (subresource ? r === `${resource}/${subresource}` || r === `*/${subresource}` : r === resource),
  )
  if (!matchesResource) return false
  return !rule.resourceNames?.length || (name !== undefined && rule.resourceNames.includes(name))
}

function pathMatches(pattern: string, path: string): boolean {
  if (pattern === '*' || pattern === path) return true
  return pattern.endsWith('*') && path.startsWith(pattern.slice(0, -1))
}

function has(list: readonly string[] | undefined, value: string): boolean {
  return list !== undefined && (list.includes('*') || list.includes(value))
}

function namespaceOf(attributes: AccessAttributes): string {
  return attributes.kind === 'resource' ? (attributes.namespace ?? '') : ''
}

/** Users are never changed, and what they are called follows from nothing else. */
const knownSubjects = new WeakMap<UserInfo, readonly Subject[]>()

function subjectsOf(user: UserInfo): readonly Subject[] {
  let subjects = knownSubjects.get(user)
  if (!subjects) knownSubjects.set(user, (subjects = readSubjects(user)))
  return subjects
}

/**
 * A user's names as they appear in bindings. Names and groups under `system:` belong to Kubernetes itself: somebody
 * whose certificate or token claims one is not given what is bound to it.
 */
function readSubjects(user: UserInfo): Subject[] {
  const { name, groups } = userNames(user)
  const fromOutside = user.kind === 'tenantUser' || user.kind === 'operator'
  const subjects: Subject[] = []
  if (!(fromOutside && name.startsWith('system:'))) {
    const described =
      user.kind === 'serviceAccount'
        ? `ServiceAccount "${user.name}/${user.namespace}"`
        : `User ${JSON.stringify(name)}`
    subjects.push({ key: `U:${name}`, described })
  }
  for (const group of groups)
    if (!fromOutside || !group.startsWith('system:') || group === 'system:authenticated')
      subjects.push({ key: `G:${group}`, described: `Group ${JSON.stringify(group)}` })
  return subjects
}

/** Reads objects that a schema has checked, and yet gives nothing for a shape it does not know. */
function subjectsIn(binding: KubeObject): string[] {
  const subjects = Array.isArray(binding['subjects']) ? (binding['subjects'] as unknown[]) : []
  return [
    ...new Set(
      subjects.flatMap((subject): string[] => {
        const { kind, name, namespace } = (subject ?? {}) as Record<string, unknown>
        if (typeof name !== 'string' || name === '') return []
        if (kind === 'User') return [`U:${name}`]
        if (kind === 'Group') return [`G:${name}`]
        if (kind !== 'ServiceAccount') return []
        const home =
          typeof namespace === 'string' && namespace !== '' ? namespace : binding.metadata.namespace
        return home ? [`U:system:serviceaccount:${home}:${name}`] : []
      }),
    ),
  ]
}

function roleRefIn(binding: KubeObject): RoleRef {
  const ref = (binding['roleRef'] ?? {}) as Record<string, unknown>
  return { kind: String(ref['kind'] ?? ''), name: String(ref['name'] ?? '') }
}

function roleKey(ref: RoleRef, namespace: string): string {
  return ref.kind === 'Role' ? `Role/${namespace}/${ref.name}` : `ClusterRole//${ref.name}`
}

function rulesIn(role: KubeObject): readonly PolicyRule[] {
  return Array.isArray(role['rules']) ? (role['rules'] as PolicyRule[]) : []
}

function selectorsIn(role: KubeObject): readonly LabelSelector[] {
  const rule = role['aggregationRule'] as { clusterRoleSelectors?: LabelSelector[] } | undefined
  return rule?.clusterRoleSelectors ?? []
}

/** How much there is to compare in a selector: conditions, and the values of each. */
function conditionsOf({ matchLabels, matchExpressions = [] }: LabelSelector): number {
  const values = matchExpressions.reduce((sum, { values = [] }) => sum + 1 + values.length, 0)
  return 1 + Object.keys(matchLabels ?? {}).length + values
}

/** How much there is to look at in a rule. */
function itemsOf(rule: PolicyRule): number {
  return (
    1 +
    rule.verbs.length +
    (rule.apiGroups?.length ?? 0) +
    (rule.resources?.length ?? 0) +
    (rule.resourceNames?.length ?? 0) +
    (rule.nonResourceURLs?.length ?? 0)
  )
}

/** An empty selector selects nothing here: a role that aggregates everything by accident is too dangerous. */
function selects(selector: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  const requirements = labelSelectorRequirements(selector)
  return requirements.length > 0 && matchesLabels(requirements, labels)
}

/** Splits a rule into rules of one verb, group, resource and name each. */
function* singlePermissions(rule: PolicyRule): Iterable<PolicyRule> {
  for (const verb of rule.verbs) {
    for (const url of rule.nonResourceURLs ?? []) yield { verbs: [verb], nonResourceURLs: [url] }
    for (const group of rule.apiGroups ?? [])
      for (const resource of rule.resources ?? []) {
        const one = { verbs: [verb], apiGroups: [group], resources: [resource] }
        if (!rule.resourceNames?.length) yield one
        else for (const name of rule.resourceNames) yield { ...one, resourceNames: [name] }
      }
  }
}

/** Whether somebody who has `held` has the single permission `wanted`. */
function covers(held: PolicyRule, wanted: PolicyRule): boolean {
  if (!has(held.verbs, wanted.verbs[0]!)) return false // singlePermissions gives exactly one verb
  const url = wanted.nonResourceURLs?.[0]
  if (url !== undefined) return (held.nonResourceURLs ?? []).some((pattern) => pathMatches(pattern, url))
  const group = wanted.apiGroups?.[0]
  const resource = wanted.resources?.[0]
  if (group === undefined || resource === undefined || !has(held.apiGroups, group)) return false
  const [, subresource] = resource.split('/')
  const resourceCovered = (held.resources ?? []).some(
    (r) => r === '*' || r === resource || (subresource !== undefined && r === `*/${subresource}`),
  )
  if (!resourceCovered) return false
  const name = wanted.resourceNames?.[0]
  return !held.resourceNames?.length || (name !== undefined && held.resourceNames.includes(name))
}

/** Most who may do something never ask why. */
function grantOf({ name, namespace, roleRef }: Binding, { described }: Subject): AccessDecision {
  return {
    allowed: true,
    get reason() {
      const kind = namespace ? 'RoleBinding' : 'ClusterRoleBinding'
      const where = namespace ? `${name}/${namespace}` : name
      return `RBAC: allowed by ${kind} "${where}" of ${roleRef.kind} "${roleRef.name}" to ${described}`
    },
  }
}

function describeRule(rule: PolicyRule): string {
  const part = (title: string, values: readonly string[] | undefined) =>
    values ? [`${title}:[${values.map((v) => JSON.stringify(v)).join(' ')}]`] : []
  return `{${[
    ...part('APIGroups', rule.apiGroups),
    ...part('Resources', rule.resources),
    ...part('ResourceNames', rule.resourceNames),
    ...part('NonResourceURLs', rule.nonResourceURLs),
    ...part('Verbs', rule.verbs),
  ].join(', ')}}`
}

/** Equality of plain JSON that our own schema has already put in order. */
function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
