import { type AttackContext, blocked, escaped, type Party, untried } from '../attack.ts'
import type { ApiAnswer, RequestOptions, TenantApi } from '../tenant-api.ts'
import { allRefused, said, worked } from './expect.ts'
import { family, refusedAll, secretOf } from './own-and-other.ts'

const GROUP = 'rbac.authorization.k8s.io'
const RBAC = `/apis/${GROUP}/v1`
const EVERYTHING = { apiGroups: ['*'], resources: ['*'], verbs: ['*'] }

type Rule = {
  apiGroups?: string[]
  resources?: string[]
  verbs: string[]
  resourceNames?: string[]
  nonResourceURLs?: string[]
}

/** A user of the attacker's own tenant who has these rights in the whole tenant, and no others. */
async function userWith({ attacker, mark }: AttackContext, rules: readonly Rule[]): Promise<TenantApi> {
  const user = `user-${mark}`
  const found = await attacker.own(`${RBAC}/clusterroles/${mark}`)
  if (found.code === 404) {
    await attacker.create(`${RBAC}/clusterroles`, role('ClusterRole', mark, rules))
    await attacker.create(
      `${RBAC}/clusterrolebindings`,
      binding('ClusterRoleBinding', mark, mark, { kind: 'User', name: user, apiGroup: GROUP }),
    )
  }
  return attacker.as({ certificate: await attacker.issue({ user, groups: [] }) })
}

const role = (kind: 'ClusterRole' | 'Role', name: string, rules: readonly Rule[], extra: object = {}) => ({
  apiVersion: `${GROUP}/v1`,
  kind,
  metadata: { name },
  rules,
  ...extra,
})
const binding = (kind: 'ClusterRoleBinding' | 'RoleBinding', name: string, to: string, subject: object) => ({
  apiVersion: `${GROUP}/v1`,
  kind,
  metadata: { name },
  roleRef: { apiGroup: GROUP, kind: 'ClusterRole', name: to },
  subjects: [subject],
})

async function tryAll(
  api: TenantApi,
  { root }: Party,
  requests: readonly ({ path: string } & RequestOptions)[],
): Promise<[string, ApiAnswer][]> {
  const answers: [string, ApiAnswer][] = []
  for (const { path, ...options } of requests)
    answers.push([`${options.method ?? 'GET'} ${path}`, await api.request(root + path, options)])
  return answers
}

type Escalation = {
  id: string
  title: string
  replays?: string
  standards?: readonly string[]
  always?: true
  /** What the user has. */
  rules: readonly Rule[]
  /** What it may do with that, to show that its rights are real. */
  allowed: (context: AttackContext) => { path: string } & RequestOptions
  /** What it may not. */
  tries: (context: AttackContext) => readonly ({ path: string } & RequestOptions)[]
}

function escalation({ rules, allowed, tries, ...attack }: Escalation) {
  return {
    ...attack,
    async control(context: AttackContext) {
      const { path, ...options } = allowed(context)
      const api = await userWith(context, rules)
      return worked(
        await api.request(context.attacker.root + path, options),
        `what the user may do (${options.method ?? 'GET'} ${path})`,
      )
    },
    async attempt(context: AttackContext) {
      const api = await userWith(context, rules)
      const outcome = allRefused(await tryAll(api, context.attacker, tries(context)))
      const read = await api.request(context.attacker.root + secretOf(context.attacker))
      const may = rules.some(({ resources }) => resources?.includes('secrets'))
      return !may && read.code < 400 ? escaped(`afterwards the user reads secrets: ${said(read)}`) : outcome
    },
  }
}

const rbac = (...verbs: string[]): Rule => ({
  apiGroups: [GROUP],
  resources: ['roles', 'rolebindings', 'clusterroles', 'clusterrolebindings'],
  verbs,
})
const me = ({ mark }: AttackContext) => ({ kind: 'User', name: `user-${mark}`, apiGroup: GROUP })

export const rightsAttacks = family('rights', 'identities and tokens', [
  escalation({
    id: 'rights-escalate',
    title: 'makes and changes roles that can do more than their maker',
    standards: ['CIS-K8S-5.1.8'],
    always: true,
    rules: [rbac('get', 'list', 'create', 'update', 'patch', 'delete')],
    allowed: () => ({ path: `${RBAC}/clusterroles` }),
    tries: ({ mark }) => [
      { path: `${RBAC}/clusterroles`, method: 'POST', body: role('ClusterRole', `${mark}-1`, [EVERYTHING]) },
      {
        path: `${RBAC}/namespaces/default/roles`,
        method: 'POST',
        body: role('Role', `${mark}-1`, [{ apiGroups: [''], resources: ['secrets'], verbs: ['get'] }]),
      },
      {
        path: `${RBAC}/clusterroles/${mark}`,
        method: 'PATCH',
        type: 'application/merge-patch+json',
        body: { rules: [EVERYTHING] },
      },
      {
        path: `${RBAC}/clusterroles/${mark}`,
        method: 'PATCH',
        type: 'application/json-patch+json',
        body: [{ op: 'add', path: '/rules/-', value: EVERYTHING }],
      },
      {
        path: `${RBAC}/clusterroles/view`,
        method: 'PATCH',
        type: 'application/merge-patch+json',
        body: { rules: [EVERYTHING] },
      },
      {
        path: `${RBAC}/clusterroles`,
        method: 'POST',
        body: role('ClusterRole', `${mark}-2`, [{ nonResourceURLs: ['*'], verbs: ['*'] }]),
      },
      {
        path: `${RBAC}/clusterroles`,
        method: 'POST',
        body: role('ClusterRole', `${mark}-3`, [
          { apiGroups: [GROUP], resources: ['clusterroles'], verbs: ['escalate', 'bind'] },
        ]),
      },
    ],
  }),
  escalation({
    id: 'rights-bind',
    title: 'binds itself, its group and a service account to roles that it does not have',
    standards: ['CIS-K8S-5.1.8'],
    rules: [rbac('get', 'list', 'create', 'update', 'patch', 'delete')],
    allowed: () => ({ path: `${RBAC}/clusterrolebindings` }),
    tries: (context) => [
      {
        path: `${RBAC}/clusterrolebindings`,
        method: 'POST',
        body: binding('ClusterRoleBinding', `${context.mark}-1`, 'cluster-admin', me(context)),
      },
      {
        path: `${RBAC}/namespaces/default/rolebindings`,
        method: 'POST',
        body: binding('RoleBinding', `${context.mark}-1`, 'admin', me(context)),
      },
      {
        path: `${RBAC}/clusterrolebindings`,
        method: 'POST',
        body: binding('ClusterRoleBinding', `${context.mark}-2`, 'cluster-admin', {
          kind: 'Group',
          name: 'system:authenticated',
          apiGroup: GROUP,
        }),
      },
      {
        path: `${RBAC}/clusterrolebindings/${context.mark}`,
        method: 'PATCH',
        type: 'application/merge-patch+json',
        body: {
          subjects: [{ kind: 'Group', name: 'system:masters', apiGroup: GROUP }],
          roleRef: { apiGroup: GROUP, kind: 'ClusterRole', name: 'cluster-admin' },
        },
      },
      // A role that does not exist yet, to be made later by somebody with more rights.
      {
        path: `${RBAC}/clusterrolebindings`,
        method: 'POST',
        body: binding('ClusterRoleBinding', `${context.mark}-3`, 'not-there-yet', me(context)),
      },
    ],
  }),
  escalation({
    id: 'rights-aggregate',
    title: 'adds rights to an aggregated role by a label on a role of its own',
    rules: [rbac('get', 'list', 'create', 'update', 'patch')],
    allowed: () => ({ path: `${RBAC}/clusterroles/view` }),
    tries: ({ mark }) =>
      ['view', 'edit', 'admin'].flatMap((name) => [
        {
          path: `${RBAC}/clusterroles`,
          method: 'POST',
          body: {
            ...role('ClusterRole', `${mark}-${name}`, [EVERYTHING]),
            metadata: { name: `${mark}-${name}`, labels: { [`${GROUP}/aggregate-to-${name}`]: 'true' } },
          },
        },
        {
          path: `${RBAC}/clusterroles`,
          method: 'POST',
          body: role('ClusterRole', `${mark}-a-${name}`, [], {
            aggregationRule: { clusterRoleSelectors: [{}] },
          }),
        },
      ]),
  }),
  escalation({
    id: 'rights-token-of-account',
    title: 'makes tokens for service accounts that can do more, with rights on accounts but not on tokens',

    standards: ['MS-TA9016', 'T1528'],
    rules: [
      {
        apiGroups: [''],
        resources: ['serviceaccounts'],
        verbs: ['get', 'list', 'create', 'update', 'patch'],
      },
    ],
    allowed: () => ({ path: '/api/v1/namespaces/default/serviceaccounts/default' }),
    tries: ({ mark }) => [
      {
        path: '/api/v1/namespaces/default/serviceaccounts/default/token',
        method: 'POST',
        body: {
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenRequest',
          metadata: {},
          spec: { audiences: [] },
        },
      },
      {
        path: '/api/v1/namespaces/kube-system/serviceaccounts/default/token',
        method: 'POST',
        body: {
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenRequest',
          metadata: {},
          spec: { audiences: [] },
        },
      },
      {
        path: '/api/v1/namespaces/default/secrets',
        method: 'POST',
        body: {
          apiVersion: 'v1',
          kind: 'Secret',
          type: 'kubernetes.io/service-account-token',
          metadata: { name: mark, annotations: { 'kubernetes.io/service-account.name': 'default' } },
        },
      },
      {
        path: '/api/v1/namespaces/default/pods',
        method: 'POST',
        body: {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name: mark },
          spec: { serviceAccountName: 'default', containers: [{ name: 'c', image: 'x' }] },
        },
      },
    ],
  }),
  escalation({
    id: 'rights-exec-by-get',
    title: 'opens exec over a WebSocket, which is a GET, with the right to get only',
    replays:
      'an API server that asks for "get" on pods/exec when a WebSocket is opened, and for "create" otherwise',
    standards: ['T1609'],
    always: true,
    rules: [
      {
        apiGroups: [''],
        resources: ['pods', 'pods/exec', 'pods/attach', 'pods/portforward', 'pods/log'],
        verbs: ['get', 'list', 'watch'],
      },
    ],
    allowed: () => ({ path: '/api/v1/namespaces/default/pods' }),
    tries: () => [
      { path: '/api/v1/namespaces/default/pods/intruder/exec?command=id&stdout=true' },
      { path: '/api/v1/namespaces/default/pods/intruder/exec?command=id&stdout=true', method: 'POST' },
      { path: '/api/v1/namespaces/default/pods/intruder/attach?stdout=true' },
      { path: '/api/v1/namespaces/default/pods/intruder/portforward?ports=80' },
    ],
  }),
  escalation({
    id: 'rights-neighbouring-resources',
    title:
      'reaches one resource with the rights on another: sub-resources, names, lists, collections, other groups',
    standards: ['CIS-K8S-5.1.2', 'MS-TA9025'],
    rules: [
      { apiGroups: [''], resources: ['pods/log', 'configmaps'], verbs: ['get'] },
      { apiGroups: ['apps'], resources: ['*'], verbs: ['get'] },
    ],
    allowed: () => ({ path: '/api/v1/namespaces/default/configmaps/kube-root-ca.crt' }),
    tries: ({ attacker }) => [
      { path: secretOf(attacker) },
      { path: '/api/v1/secrets' },
      { path: '/api/v1/namespaces/default/pods' },
      { path: '/api/v1/namespaces/default/configmaps' },
      { path: '/api/v1/namespaces/default/configmaps?watch=true' },
      { path: '/api/v1/watch/namespaces/default/configmaps' },
      { path: '/api/v1/namespaces/default/configmaps', method: 'DELETE' },
      { path: '/apis/apps/v1/namespaces/default/deployments' },
      { path: '/apis/apps/v1/namespaces/default/deployments/x/scale', method: 'PUT', body: {} },
      {
        path: '/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt',
        method: 'DELETE',
      },
    ],
  }),
  escalation({
    id: 'rights-impersonate-verb',
    title: 'has the verb impersonate, and uses it',
    replays: 'a right that a role may hold everywhere, and that opens every other',
    standards: ['CIS-K8S-5.1.8'],
    rules: [
      {
        apiGroups: ['', 'authentication.k8s.io'],
        resources: ['users', 'groups', 'serviceaccounts', 'uids', 'userextras/x'],
        verbs: ['impersonate'],
      },
      { apiGroups: [''], resources: ['configmaps'], verbs: ['list'] },
    ],
    allowed: () => ({ path: '/api/v1/configmaps' }),
    tries: ({ attacker }) =>
      [
        { 'Impersonate-User': 'admin' },
        { 'Impersonate-User': 'x', 'Impersonate-Group': 'system:masters' },
        {
          'Impersonate-User': 'admin',
          'Impersonate-Group': 'bulkhead:tenant-admins',
          'Impersonate-Uid': '1',
        },
      ].map((headers) => ({ path: secretOf(attacker), headers: headers as Record<string, string> })),
  }),
  {
    id: 'rights-masters-group',
    title: 'is in system:masters and every other powerful group, by certificate, without a binding',
    replays: 'a group whose members no authorizer is ever asked about',
    async control({ attacker, mark }) {
      await attacker.create(
        `${RBAC}/clusterrolebindings`,
        binding('ClusterRoleBinding', mark, 'view', {
          kind: 'Group',
          name: `group-${mark}`,
          apiGroup: GROUP,
        }),
      )
      const member = attacker.as({
        certificate: await attacker.issue({ user: 'member', groups: [`group-${mark}`] }),
      })
      return worked(
        await member.request(`${attacker.root}/api/v1/namespaces`),
        'a member of a bound group lists namespaces',
      )
    },
    async attempt({ attacker, victim }) {
      const answers: [string, ApiAnswer][] = []
      for (const group of [
        'system:masters',
        'system:nodes',
        'system:serviceaccounts',
        'system:kube-controller-manager',
        'bulkhead:operators',
      ]) {
        let certificate
        try {
          certificate = await attacker.issue({ user: 'odd-one', groups: [group] })
        } catch (error) {
          answers.push([
            group,
            {
              code: 422,
              body: `the platform does not sign it: ${error instanceof Error ? error.message : ''}`,
              headers: {},
            },
          ])
          continue
        }
        const member = attacker.as({ certificate })
        answers.push([group, await member.request(attacker.root + secretOf(attacker))])
        answers.push([`${group} at the victim`, await member.request(victim.root + secretOf(victim))])
      }
      return allRefused(answers)
    },
  },
  {
    id: 'rights-own-limits',
    title:
      'an administrator of a tenant lifts its own limits: quota, registries, class, network of the platform',
    standards: ['MTB-PL1-BC-CPI-2', 'MTB-PL1-CC-TI-1'],
    vector: 'platform components',
    always: true,
    async attempt(context) {
      const { attacker } = context
      const tenants = '/apis/tenancy.bulkhead.dev/v1alpha1/tenants'
      return refusedAll(
        context,
        ['/platform', attacker.root].flatMap((root) => [
          { path: `${root}${tenants}/${attacker.name}` },
          {
            path: `${root}${tenants}/${attacker.name}`,
            method: 'PATCH',
            type: 'application/merge-patch+json',
            body: { spec: { trust: 'trusted', quota: null } },
          },
          {
            path: `${root}${tenants}`,
            method: 'POST',
            body: {
              apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
              kind: 'Tenant',
              metadata: { name: context.mark },
              spec: { trust: 'trusted', code: 'own', registries: [] },
            },
          },
          { path: `${root}${tenants}/${attacker.name}/credentials`, method: 'POST', body: {} },
          { path: `${root}${tenants}/${attacker.name}/status`, method: 'PUT', body: {} },
          {
            path: `${root}/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tenants.tenancy.bulkhead.dev`,
          },
        ]),
      )
    },
  },
  {
    id: 'rights-admit-strangers',
    title: "gives the victim's users rights in its own tenant, to have them act there",
    async attempt({ attacker, victim, mark }) {
      await attacker.create(
        `${RBAC}/clusterrolebindings`,
        binding('ClusterRoleBinding', mark, 'cluster-admin', {
          kind: 'User',
          name: 'admin',
          apiGroup: GROUP,
        }),
      )
      await attacker.create(
        `${RBAC}/clusterrolebindings`,
        binding('ClusterRoleBinding', `${mark}-g`, 'cluster-admin', {
          kind: 'Group',
          name: 'bulkhead:tenant-admins',
          apiGroup: GROUP,
        }),
      )
      const lured = await victim.admin.request(attacker.root + secretOf(attacker))
      return lured.code === 403
        ? blocked('gateway binds to one tenant', `the victim's administrator gets ${said(lured)}`)
        : lured.code < 400
          ? escaped(`the victim's administrator acts in the attacker's tenant: ${said(lured)}`)
          : untried(said(lured))
    },
  },
])
