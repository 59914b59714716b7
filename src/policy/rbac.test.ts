import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { KubeObject, TenantName, UserInfo } from '../api/index.ts'
import { type AccessAttributes, type PolicyRule, RBAC_GROUP, RbacAuthorizer, describeDenial } from './rbac.ts'

const tenant = 'red' as TenantName
const user = (name: string, ...groups: string[]): UserInfo => ({ kind: 'tenantUser', tenant, name, groups })
const account = (namespace: string, name: string): UserInfo => ({
  kind: 'serviceAccount',
  tenant,
  namespace,
  name,
  uid: 'u',
})

let revision = 1
function object(
  kind: string,
  name: string,
  namespace: string | undefined,
  fields: Record<string, unknown>,
): KubeObject {
  return {
    apiVersion: `${RBAC_GROUP}/v1`,
    kind,
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      uid: name,
      resourceVersion: String(++revision),
      creationTimestamp: '',
    },
    ...fields,
  }
}
const clusterRole = (name: string, rules: PolicyRule[], more = {}) =>
  object('ClusterRole', name, undefined, { rules, ...more })
const role = (namespace: string, name: string, rules: PolicyRule[]) =>
  object('Role', name, namespace, { rules })
const binding = (
  namespace: string | undefined,
  name: string,
  [kind, ref]: [string, string],
  subject: Record<string, string>,
) =>
  object(namespace === undefined ? 'ClusterRoleBinding' : 'RoleBinding', name, namespace, {
    roleRef: { apiGroup: RBAC_GROUP, kind, name: ref },
    subjects: [subject],
  })
function authorizer(...objects: KubeObject[]): RbacAuthorizer {
  const made = new RbacAuthorizer()
  for (const o of objects) made.observe(o)
  return made
}
const on = (
  verb: string,
  resource: string,
  more: Partial<Extract<AccessAttributes, { kind: 'resource' }>> = {},
): AccessAttributes => {
  const [name = '', subresource] = resource.split('/')
  return { kind: 'resource', verb, group: '', resource: name, subresource, namespace: 'a', ...more }
}
const pods: PolicyRule = { verbs: ['get', 'list'], apiGroups: [''], resources: ['pods'] }

test('without a binding the answer is no', () => {
  fc.assert(
    fc.property(
      fc.string(),
      fc.array(fc.string()),
      fc.string(),
      fc.string(),
      (name, groups, verb, resource) => {
        const made = authorizer(clusterRole('all', [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }]))
        assert.equal(made.authorize(user(name, ...groups), on(verb, resource)).allowed, false)
      },
    ),
  )
})

test('a role binding reaches no other namespace, no cluster-scoped request and no path', () => {
  const made = authorizer(
    clusterRole('all', [
      { verbs: ['*'], apiGroups: ['*'], resources: ['*'] },
      { verbs: ['*'], nonResourceURLs: ['*'] },
    ]),
    binding('a', 'b', ['ClusterRole', 'all'], { kind: 'User', name: 'ann' }),
  )
  assert.deepEqual(made.authorize(user('ann'), on('get', 'pods')), {
    allowed: true,
    reason: 'RBAC: allowed by RoleBinding "b/a" of ClusterRole "all" to User "ann"',
  })
  assert.equal(made.authorize(user('ann'), on('get', 'pods', { namespace: 'b' })).allowed, false)
  assert.equal(made.authorize(user('ann'), on('list', 'pods', { namespace: undefined })).allowed, false)
  assert.equal(made.authorize(user('ann'), { kind: 'path', verb: 'get', path: '/version' }).allowed, false)
})

test('a name that claims to be one of the system gets nothing of it', () => {
  const everything = clusterRole('all', [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }])
  const made = authorizer(
    everything,
    binding(undefined, 'sa', ['ClusterRole', 'all'], {
      kind: 'ServiceAccount',
      name: 'robot',
      namespace: 'a',
    }),
    binding(undefined, 'masters', ['ClusterRole', 'all'], { kind: 'Group', name: 'system:masters' }),
    binding(undefined, 'accounts', ['ClusterRole', 'all'], { kind: 'Group', name: 'system:serviceaccounts' }),
  )
  assert.equal(made.authorize(user('system:serviceaccount:a:robot'), on('get', 'pods')).allowed, false)
  assert.equal(
    made.authorize(user('eve', 'system:masters', 'system:serviceaccounts'), on('get', 'pods')).allowed,
    false,
  )
  assert.equal(made.authorize(account('a', 'robot'), on('get', 'pods')).allowed, true)
})

test('resource names, sub-resources and their wildcards mean what upstream means', () => {
  const rules: PolicyRule[] = [
    { verbs: ['get'], apiGroups: [''], resources: ['secrets'], resourceNames: ['one'] },
    { verbs: ['create'], apiGroups: [''], resources: ['pods/exec'] },
    { verbs: ['patch'], apiGroups: ['apps'], resources: ['*/scale'] },
  ]
  const made = authorizer(
    clusterRole('r', rules),
    binding(undefined, 'b', ['ClusterRole', 'r'], { kind: 'User', name: 'ann' }),
  )
  const may = (attributes: AccessAttributes) => made.authorize(user('ann'), attributes).allowed
  assert.deepEqual(
    [
      may(on('get', 'secrets', { name: 'one' })),
      may(on('get', 'secrets', { name: 'two' })),
      may(on('list', 'secrets')),
      may(on('create', 'pods/exec')),
      may(on('create', 'pods')),
      may(on('create', 'pods/attach')),
      may(on('patch', 'deployments/scale', { group: 'apps' })),
      may(on('patch', 'deployments', { group: 'apps' })),
    ],
    [true, false, false, true, false, false, true, false],
  )
})

test('a binding that is deleted or changed stops to count at once, and an older state never comes back', () => {
  const first = binding(undefined, 'b', ['ClusterRole', 'r'], { kind: 'User', name: 'ann' })
  const made = authorizer(clusterRole('r', [pods]), first)
  const second = binding(undefined, 'b', ['ClusterRole', 'r'], { kind: 'User', name: 'bob' })
  made.observe(second)
  made.observe(first)
  assert.equal(made.authorize(user('ann'), on('get', 'pods')).allowed, false)
  assert.equal(made.authorize(user('bob'), on('get', 'pods')).allowed, true)
  made.observe(second, true)
  assert.equal(made.authorize(user('bob'), on('get', 'pods')).allowed, false)
})

test('aggregated roles collect what carries their label, through each other, and loops end', () => {
  const aggregate = (label: string) => ({
    aggregationRule: { clusterRoleSelectors: [{ matchLabels: { [label]: 'true' } }] },
  })
  const labelled = (o: KubeObject, labels: Record<string, string>) => ({
    ...o,
    metadata: { ...o.metadata, labels },
  })
  const made = authorizer(
    labelled(clusterRole('admin', [], aggregate('to-admin')), { 'to-edit': 'true' }),
    labelled(clusterRole('edit', [], aggregate('to-edit')), { 'to-admin': 'true' }),
    labelled(clusterRole('part', [pods]), { 'to-edit': 'true' }),
    binding('a', 'b', ['ClusterRole', 'admin'], { kind: 'User', name: 'ann' }),
  )
  assert.equal(made.authorize(user('ann'), on('get', 'pods')).allowed, true)
  made.observe(labelled(clusterRole('part', [pods]), {}))
  assert.equal(made.authorize(user('ann'), on('get', 'pods')).allowed, false)
})

test('nobody grants what they have not, by roles, aggregation, labels or bindings', () => {
  const rbac: PolicyRule = {
    verbs: ['*'],
    apiGroups: [RBAC_GROUP],
    resources: ['roles', 'rolebindings', 'clusterroles'],
  }
  const manage = { ...rbac, verbs: ['create', 'update', 'patch'] }
  const made = authorizer(
    clusterRole('manage', [manage, pods]),
    clusterRole('strong', [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }]),
    binding(undefined, 'b', ['ClusterRole', 'manage'], { kind: 'User', name: 'eve' }),
  )
  const eve = user('eve')
  const secrets: PolicyRule = { verbs: ['get'], apiGroups: [''], resources: ['secrets'] }
  const refused = (o: KubeObject, old?: KubeObject) => made.escalation(eve, o, old)
  assert.equal(refused(role('a', 'mine', [pods])), undefined)
  assert.equal(
    refused(role('a', 'mine', [secrets])),
    'user "eve" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:\n' +
      '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}',
  )
  assert.ok(
    refused(
      clusterRole('x', [], { aggregationRule: { clusterRoleSelectors: [{ matchLabels: { a: 'b' } }] } }),
    ),
  )
  const strong = clusterRole('strong', [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }])
  assert.ok(refused({ ...strong, metadata: { ...strong.metadata, labels: { 'to-view': 'true' } } }, strong))
  assert.ok(refused(binding('a', 'x', ['ClusterRole', 'strong'], { kind: 'User', name: 'eve' })))
  assert.equal(
    refused(binding('a', 'x', ['ClusterRole', 'manage'], { kind: 'User', name: 'bob' })),
    undefined,
  )
  assert.ok(refused(binding('a', 'x', ['ClusterRole', 'nothing'], { kind: 'User', name: 'eve' })))
  made.observe(clusterRole('manage', [rbac]))
  assert.equal(
    refused(binding('a', 'x', ['ClusterRole', 'strong'], { kind: 'User', name: 'eve' })),
    undefined,
    '`bind` allows',
  )
})

test('whatever escalation lets through, the user could do before', () => {
  const word = fc.constantFrom('*', 'get', 'list', 'pods', 'secrets', 'pods/log', '*/log', '', 'apps')
  const words = fc.array(word, { minLength: 1, maxLength: 2 })
  const rule = fc.record({ verbs: words, apiGroups: words, resources: words }) as fc.Arbitrary<PolicyRule>
  fc.assert(
    fc.property(
      fc.array(rule, { maxLength: 3 }),
      rule,
      words,
      words,
      words,
      (held, wanted, verbs, groups, resources) => {
        const made = authorizer(
          clusterRole('held', held),
          binding('a', 'b', ['ClusterRole', 'held'], { kind: 'User', name: 'eve' }),
        )
        fc.pre(made.escalation(user('eve'), role('a', 'new', [wanted])) === undefined)
        const after = authorizer(
          role('a', 'new', [wanted]),
          binding('a', 'c', ['Role', 'new'], { kind: 'User', name: 'eve' }),
        )
        for (const verb of verbs)
          for (const group of groups)
            for (const resource of resources) {
              const attributes = on(verb, resource, { group })
              if (after.authorize(user('eve'), attributes).allowed)
                assert.equal(made.authorize(user('eve'), attributes).allowed, true)
            }
      },
    ),
    { numRuns: 2_000 },
  )
})

test('a denial names who and what, and never whether it exists', () => {
  assert.equal(
    describeDenial(user('tenant-a'), on('list', 'secrets', { namespace: 'kube-system' })),
    'User "tenant-a" cannot list resource "secrets" in API group "" in the namespace "kube-system"',
  )
  assert.equal(
    describeDenial({ kind: 'anonymous' }, on('list', 'namespaces', { namespace: undefined })),
    'User "system:anonymous" cannot list resource "namespaces" in API group "" at the cluster scope',
  )
})

test('a role that collects others by very many selectors costs little, adds nothing and cannot be bound unseen', () => {
  const few = (i: number) => ({ verbs: ['get'], apiGroups: [''], resources: [`thing-${i}`] })
  const made = authorizer(
    ...Array.from({ length: 1_000 }, (_, i) => {
      const role = clusterRole(`role-${i}`, [few(i)])
      return { ...role, metadata: { ...role.metadata, labels: { collected: 'true' } } }
    }),
    {
      ...clusterRole('greedy', []),
      aggregationRule: {
        clusterRoleSelectors: [
          ...Array.from({ length: 4_000 }, (_, i) => ({ matchLabels: { [`label-${i}`]: 'x' } })),
          { matchLabels: { collected: 'true' } },
        ],
      },
    },
    binding('a', 'greedy', ['ClusterRole', 'greedy'], { kind: 'User', name: 'eve' }),
  )
  assert.equal(made.authorize(user('eve'), on('get', 'thing-999')).allowed, false)
  assert.match(
    made.escalation(
      user('eve'),
      binding('a', 'more', ['ClusterRole', 'greedy'], { kind: 'User', name: 'eve' }),
    ) ?? '',
    /too many selectors/,
  )
})

test('a decision looks at so many rules and no more, and those of the whole cluster first', () => {
  const useless = {
    verbs: Array.from({ length: 5_000 }, (_, i) => `v${i}`),
    apiGroups: [''],
    resources: ['pods'],
  }
  const made = authorizer(
    role(
      'a',
      'long',
      Array.from({ length: 50 }, () => useless),
    ),
    role('a', 'short', [{ verbs: ['get'], apiGroups: [''], resources: ['pods'] }]),
    clusterRole('all', [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }]),
    ...['eve', 'ann'].map((name) => binding('a', `long-${name}`, ['Role', 'long'], { kind: 'User', name })),
    binding('a', 'short', ['Role', 'short'], { kind: 'User', name: 'eve' }),
    binding(undefined, 'all', ['ClusterRole', 'all'], { kind: 'User', name: 'ann' }),
  )
  assert.equal(made.authorize(user('eve'), on('get', 'pods')).allowed, false)
  assert.equal(made.authorize(user('ann'), on('get', 'pods')).allowed, true)
})

test("what is known of a user who asks again changes with the bindings, and is nobody else's", () => {
  const editor = binding('team', 'edit', ['ClusterRole', 'edit'], { kind: 'Group', name: 'editors' })
  const rules = [{ verbs: ['get'], apiGroups: [''], resources: ['pods'] }]
  const rbac = authorizer(clusterRole('edit', rules))
  const [alice, another, nobody] = [user('alice', 'editors'), user('alice', 'editors'), user('alice')]
  const may = (who: UserInfo) => rbac.authorize(who, on('get', 'pods', { namespace: 'team' })).allowed
  assert.deepEqual([alice, another, nobody].map(may), [false, false, false])
  rbac.observe(editor)
  assert.deepEqual([alice, another, nobody].map(may), [true, true, false])
  rbac.observe(clusterRole('edit', []))
  assert.deepEqual([alice, another, nobody].map(may), [false, false, false])
  rbac.observe(clusterRole('edit', rules))
  rbac.observe(editor, true)
  assert.deepEqual([alice, another, nobody].map(may), [false, false, false])
})
