import type { KubeObject } from '../meta.ts'
import { ageColumn, column, createdAtColumn, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, type TypedKind } from './define-kind.ts'
import { labelSelectorSchema, objectFields } from './meta.ts'
import { pathSegmentProblem } from './names.ts'
import {
  applyBindingDefaults,
  validateClusterRole,
  validateClusterRoleBinding,
  validateRole,
  validateRoleBinding,
} from './rbac-rules.ts'
import { list, object, optional, required, string, type TypeOf } from './schema-builders.ts'

/** Who may do what: Role, ClusterRole and their bindings. */

const RBAC = 'io.k8s.api.rbac.v1'
const GROUP = 'rbac.authorization.k8s.io'

const policyRule = object(`${RBAC}.PolicyRule`, 'Verbs on resources or paths. Rules only ever allow.', {
  apiGroups: optional(list(string), 'Groups of the resources; "" is the core group, * all.'),
  nonResourceURLs: optional(list(string), 'Paths that are not resources; only in ClusterRoles.'),
  resourceNames: optional(list(string), 'Names of objects; all when absent.'),
  resources: optional(list(string), 'Resources, such as pods or pods/log; * all.'),
  verbs: required(list(string), 'get, list, watch, create, update, patch, delete, deletecollection; * all.'),
})
const roleRef = object(
  `${RBAC}.RoleRef`,
  'The role that is given; cannot change.',
  {
    apiGroup: optional(string, 'rbac.authorization.k8s.io.'),
    kind: required(string, 'Role or ClusterRole.'),
    name: required(string, 'Its name.'),
  },
  { atomic: true },
)
const subject = object(
  `${RBAC}.Subject`,
  'Somebody who is given a role.',
  {
    apiGroup: optional(string, 'rbac.authorization.k8s.io for users and groups, "" for service accounts.'),
    kind: required(string, 'User, Group or ServiceAccount.'),
    name: required(string, 'Name of the user, group or service account.'),
    namespace: optional(string, 'Namespace of the service account; in a RoleBinding its own when absent.'),
  },
  { atomic: true },
)

export const roleSchema = object(`${RBAC}.Role`, 'Rules for one namespace.', {
  ...objectFields,
  rules: optional(list(policyRule), 'What it allows.'),
})
export const clusterRoleSchema = object(`${RBAC}.ClusterRole`, 'Rules for all namespaces of the tenant.', {
  ...objectFields,
  aggregationRule: optional(
    object(`${RBAC}.AggregationRule`, 'Collects the rules of other ClusterRoles.', {
      clusterRoleSelectors: optional(list(labelSelectorSchema), 'Which ones; one of the selectors must fit.'),
    }),
    'Collects the rules of other ClusterRoles.',
  ),
  rules: optional(list(policyRule), 'What it allows.'),
})
const bindingFields = {
  ...objectFields,
  roleRef: required(roleRef, 'The role that is given; cannot change.'),
  subjects: optional(list(subject), 'Who gets it.'),
} as const
export const roleBindingSchema = object(
  `${RBAC}.RoleBinding`,
  'Gives a role in one namespace.',
  bindingFields,
)
export const clusterRoleBindingSchema = object(
  `${RBAC}.ClusterRoleBinding`,
  'Gives a role in all namespaces of the tenant.',
  bindingFields,
)

export type PolicyRule = TypeOf<typeof policyRule>
export type RoleRef = TypeOf<typeof roleRef>
export type Subject = TypeOf<typeof subject>
type RbacObject<K extends string> = KubeObject & { apiVersion: 'rbac.authorization.k8s.io/v1'; kind: K }
export type Role = RbacObject<'Role'> & { rules?: PolicyRule[] }
export type ClusterRole = RbacObject<'ClusterRole'> &
  Pick<TypeOf<typeof clusterRoleSchema>, 'aggregationRule'> & { rules?: PolicyRule[] }
export type RoleBinding = RbacObject<'RoleBinding'> & { roleRef: RoleRef; subjects?: Subject[] }
export type ClusterRoleBinding = RbacObject<'ClusterRoleBinding'> & { roleRef: RoleRef; subjects?: Subject[] }

export const roleKind: TypedKind<Role> = {
  group: GROUP,
  version: 'v1',
  kind: 'Role',
  plural: 'roles',
  namespaced: true,
}
export const clusterRoleKind: TypedKind<ClusterRole> = {
  group: GROUP,
  version: 'v1',
  kind: 'ClusterRole',
  plural: 'clusterroles',
  namespaced: false,
}
export const roleBindingKind: TypedKind<RoleBinding> = {
  group: GROUP,
  version: 'v1',
  kind: 'RoleBinding',
  plural: 'rolebindings',
  namespaced: true,
}
export const clusterRoleBindingKind: TypedKind<ClusterRoleBinding> = {
  group: GROUP,
  version: 'v1',
  kind: 'ClusterRoleBinding',
  plural: 'clusterrolebindings',
  namespaced: false,
}

export const roleDefinition = defineKind(roleKind, {
  singular: 'role',
  verbs: ALL_VERBS,
  schema: roleSchema,
  nameProblem: pathSegmentProblem,
  columns: [nameColumn, createdAtColumn],
  validate: validateRole,
})
export const clusterRoleDefinition = defineKind(clusterRoleKind, {
  singular: 'clusterrole',
  verbs: ALL_VERBS,
  schema: clusterRoleSchema,
  nameProblem: pathSegmentProblem,
  columns: [nameColumn, createdAtColumn],
  validate: validateClusterRole,
})

const bindingColumns = [
  nameColumn,
  column<RoleBinding | ClusterRoleBinding>(
    'Role',
    'The role that is given.',
    ({ roleRef: r }) => `${r.kind}/${r.name}`,
  ),
  ageColumn,
  column<RoleBinding | ClusterRoleBinding>('Users', 'Users who get it.', (b) => subjectsOf(b, 'User'), {
    priority: 1,
  }),
  column<RoleBinding | ClusterRoleBinding>('Groups', 'Groups that get it.', (b) => subjectsOf(b, 'Group'), {
    priority: 1,
  }),
  column<RoleBinding | ClusterRoleBinding>(
    'ServiceAccounts',
    'Service accounts that get it.',
    (b) => subjectsOf(b, 'ServiceAccount'),
    { priority: 1 },
  ),
]

export const roleBindingDefinition = defineKind(roleBindingKind, {
  singular: 'rolebinding',
  verbs: ALL_VERBS,
  schema: roleBindingSchema,
  nameProblem: pathSegmentProblem,
  columns: bindingColumns,
  applyDefaults: applyBindingDefaults,
  validate: validateRoleBinding,
})
export const clusterRoleBindingDefinition = defineKind(clusterRoleBindingKind, {
  singular: 'clusterrolebinding',
  verbs: ALL_VERBS,
  schema: clusterRoleBindingSchema,
  nameProblem: pathSegmentProblem,
  columns: bindingColumns,
  applyDefaults: applyBindingDefaults,
  validate: validateClusterRoleBinding,
})

function subjectsOf(binding: RoleBinding | ClusterRoleBinding, kind: string): string {
  return (binding.subjects ?? [])
    .filter((s) => s.kind === kind)
    .map((s) => (kind === 'ServiceAccount' ? `${s.namespace ?? ''}/${s.name}` : s.name))
    .join(', ')
}
