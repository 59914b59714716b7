import type { WriteContext } from '../kind.ts'
import { RBAC_RULES_MAX, RBAC_SUBJECTS_MAX } from '../limits.ts'
import type { FieldError } from '../status.ts'
import { forbiddenField, invalidValue, requiredValue, tooMany, unsupportedValue } from './field-errors.ts'
import { dnsLabelProblem, dnsSubdomainProblem, pathSegmentProblem } from './names.ts'
import type { ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding } from './rbac.ts'
import { immutableError, labelSelectorErrors } from './rules.ts'

const GROUP = 'rbac.authorization.k8s.io'

export function applyBindingDefaults<T extends RoleBinding | ClusterRoleBinding>(binding: T): T {
  if (binding.roleRef) binding.roleRef.apiGroup ||= GROUP
  for (const subject of binding.subjects ?? []) {
    if (subject.apiGroup) continue
    // Service accounts are of the core group, whose name is empty and is left out.
    if (subject.kind === 'ServiceAccount') delete subject.apiGroup
    else subject.apiGroup = GROUP
  }
  return binding
}

function ruleErrors(
  rules: readonly PolicyRule[] | undefined,
  { namespaced }: { namespaced: boolean },
): FieldError[] {
  const errors: FieldError[] = []
  if (rules && rules.length > RBAC_RULES_MAX) errors.push(tooMany('rules', rules.length, RBAC_RULES_MAX))
  rules?.forEach((rule, index) => {
    const path = `rules[${index}]`
    const { verbs, apiGroups = [], resources = [], nonResourceURLs = [], resourceNames = [] } = rule
    if (verbs.length === 0)
      errors.push(requiredValue(`${path}.verbs`, 'verbs must contain at least one value'))
    if (nonResourceURLs.length > 0) {
      if (namespaced)
        errors.push(
          invalidValue(
            `${path}.nonResourceURLs`,
            nonResourceURLs,
            'namespaced rules cannot apply to non-resource URLs',
          ),
        )
      if (apiGroups.length > 0 || resources.length > 0 || resourceNames.length > 0)
        errors.push(
          invalidValue(
            `${path}.nonResourceURLs`,
            nonResourceURLs,
            'rules cannot apply to both regular resources and non-resource URLs',
          ),
        )
      return
    }
    if (apiGroups.length === 0)
      errors.push(requiredValue(`${path}.apiGroups`, 'resource rules must supply at least one api group'))
    if (resources.length === 0)
      errors.push(requiredValue(`${path}.resources`, 'resource rules must supply at least one resource'))
  })
  return errors
}

export function validateRole(role: Role, _context: WriteContext, _old?: Role): FieldError[] {
  return ruleErrors(role.rules, { namespaced: true })
}

export function validateClusterRole(
  role: ClusterRole,
  _context: WriteContext,
  _old?: ClusterRole,
): FieldError[] {
  const errors = ruleErrors(role.rules, { namespaced: false })
  if (role.aggregationRule) {
    const selectors = role.aggregationRule.clusterRoleSelectors ?? []
    if (selectors.length === 0)
      errors.push(
        requiredValue(
          'aggregationRule.clusterRoleSelectors',
          'at least one clusterRoleSelector required if aggregationRule is non-nil',
        ),
      )
    selectors.forEach((selector, index) =>
      errors.push(...labelSelectorErrors(selector, `aggregationRule.clusterRoleSelectors[${index}]`)),
    )
  }
  return errors
}

export function validateRoleBinding(
  binding: RoleBinding,
  _context: WriteContext,
  old?: RoleBinding,
): FieldError[] {
  return bindingErrors(binding, ['Role', 'ClusterRole'], old)
}

export function validateClusterRoleBinding(
  binding: ClusterRoleBinding,
  _context: WriteContext,
  old?: ClusterRoleBinding,
): FieldError[] {
  return bindingErrors(binding, ['ClusterRole'], old)
}

function bindingErrors(
  binding: RoleBinding | ClusterRoleBinding,
  roleKinds: readonly string[],
  old: RoleBinding | ClusterRoleBinding | undefined,
): FieldError[] {
  const errors: FieldError[] = []
  const { roleRef, subjects = [] } = binding
  if (roleRef.apiGroup !== GROUP) errors.push(unsupportedValue('roleRef.apiGroup', roleRef.apiGroup, [GROUP]))
  if (!roleKinds.includes(roleRef.kind))
    errors.push(unsupportedValue('roleRef.kind', roleRef.kind, roleKinds))
  if (!roleRef.name) errors.push(requiredValue('roleRef.name'))
  else {
    const problem = pathSegmentProblem(roleRef.name)
    if (problem) errors.push(invalidValue('roleRef.name', roleRef.name, problem))
  }
  if (subjects.length > RBAC_SUBJECTS_MAX)
    errors.push(tooMany('subjects', subjects.length, RBAC_SUBJECTS_MAX))
  subjects.forEach((subject, index) => {
    const path = `subjects[${index}]`
    if (!subject.name) errors.push(requiredValue(`${path}.name`))
    switch (subject.kind) {
      case 'ServiceAccount': {
        const problem = subject.name ? dnsSubdomainProblem(subject.name) : undefined
        if (problem) errors.push(invalidValue(`${path}.name`, subject.name, problem))
        if (subject.apiGroup) errors.push(unsupportedValue(`${path}.apiGroup`, subject.apiGroup, ['']))
        // In a RoleBinding it is that of the binding when it is absent.
        if (!subject.namespace) {
          if (!binding.metadata.namespace) errors.push(requiredValue(`${path}.namespace`))
        } else {
          const namespaceProblem = dnsLabelProblem(subject.namespace)
          if (namespaceProblem)
            errors.push(invalidValue(`${path}.namespace`, subject.namespace, namespaceProblem))
        }
        break
      }
      case 'User':
      case 'Group':
        if (subject.apiGroup !== GROUP)
          errors.push(unsupportedValue(`${path}.apiGroup`, subject.apiGroup, [GROUP]))
        if (subject.namespace)
          errors.push(forbiddenField(`${path}.namespace`, 'users and groups have no namespace'))
        break
      default:
        errors.push(unsupportedValue(`${path}.kind`, subject.kind, ['ServiceAccount', 'User', 'Group']))
    }
  })
  if (old) {
    const changed = immutableError('roleRef', roleRef, old.roleRef).map((error) => ({
      ...error,
      message: error.message.replace('field is immutable', 'cannot change roleRef'),
    }))
    errors.push(...changed)
  }
  return errors
}
