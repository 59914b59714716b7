import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  type KindDefinition,
  type UserInfo,
  type Verb,
  type VirtualKind,
  tenantRegistry,
} from '../../src/api/index.ts'
import { RbacAuthorizer } from '../../src/policy/index.ts'
import { ControlPlane, type Json, TENANT } from './control-plane.ts'

/** Letters of the table: what somebody may do with a resource in namespace `a`, where their roles are. */
const VERBS: readonly [string, Verb][] = [
  ['g', 'get'],
  ['l', 'list'],
  ['w', 'watch'],
  ['c', 'create'],
  ['u', 'update'],
  ['p', 'patch'],
  ['d', 'delete'],
  ['D', 'deletecollection'],
]
const PATHS = ['/version', '/healthz', '/apis', '/openapi/v3', '/openid/v1/jwks']

const user = (name: string, ...groups: string[]): UserInfo => ({
  kind: 'tenantUser',
  tenant: TENANT,
  name,
  groups,
})
const PEOPLE: readonly [string, UserInfo][] = [
  ['anonymous', { kind: 'anonymous' }],
  ['no roles', user('nobody')],
  ['account', { kind: 'serviceAccount', tenant: TENANT, namespace: 'a', name: 'default', uid: 'u' }],
  ['view in a', user('viewer')],
  ['edit in a', user('editor')],
  ['admin in a', user('owner')],
  ['tenant admin', user('ann', 'bulkhead:tenant-admins')],
]

type Row = { group: string; resource: string; subresource?: string; namespaced: boolean }
const ROWS: readonly Row[] = [...tenantRegistry.kinds, ...tenantRegistry.virtualKinds].flatMap((kind) => [
  { group: kind.group, resource: kind.plural, namespaced: kind.namespaced },
  ...subresourcesOf(kind).map((name) => ({
    group: kind.group,
    resource: kind.plural,
    subresource: name,
    namespaced: kind.namespaced,
  })),
])

function subresourcesOf(kind: KindDefinition | VirtualKind): string[] {
  return 'columns' in kind ? ((kind as KindDefinition).subresources ?? []).map(({ name }) => name) : []
}

function nameOf({ group, resource, subresource }: Row): string {
  return `${resource}${group ? `.${group}` : ''}${subresource ? `/${subresource}` : ''}`
}

async function start(authorizer: RbacAuthorizer): Promise<ControlPlane> {
  const plane = await ControlPlane.start({ authorizer })
  const create = async (path: string, body: Json) =>
    assert.equal((await plane.ask('POST', path, { body })).code, 201)
  await create('/api/v1/namespaces', { metadata: { name: 'a' } })
  for (const [name, role] of [
    ['viewer', 'view'],
    ['editor', 'edit'],
    ['owner', 'admin'],
  ])
    await create('/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings', {
      metadata: { name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
      subjects: [{ kind: 'User', name }],
    })
  return plane
}

test('who may do what is exactly what the table says', async () => {
  const authorizer = new RbacAuthorizer()
  await using _plane = await start(authorizer)
  const head = ['', ...PEOPLE.map(([who]) => who)]
  const cells = ROWS.map((row) => [
    nameOf(row),
    ...PEOPLE.map(([, who]) =>
      VERBS.map(([letter, verb]) => {
        const namespace = row.namespaced ? 'a' : undefined
        const { group, resource, subresource } = row
        return authorizer.authorize(who, { kind: 'resource', verb, group, resource, subresource, namespace })
          .allowed
          ? letter
          : '-'
      }).join(''),
    ),
  ])
  const paths = PATHS.map((path) => [
    path,
    ...PEOPLE.map(([, who]) =>
      authorizer.authorize(who, { kind: 'path', verb: 'get', path }).allowed ? 'g' : '-',
    ),
  ])
  const table = [head, ...cells, ...paths]
  const widths = head.map((_, column) => Math.max(...table.map((row) => row[column]!.length)))
  const text = table
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
  const golden = readFileSync(join(import.meta.dirname, 'testdata/authorization-table.txt'), 'utf8')
  assert.equal(`${text}\n`, golden)
})

test('somebody with rights in one namespace has none in another, whatever the resource', async () => {
  const authorizer = new RbacAuthorizer()
  await using _plane = await start(authorizer)
  for (const [who, info] of PEOPLE.slice(3, 6))
    for (const { group, resource, subresource, namespaced } of ROWS)
      for (const [, verb] of VERBS)
        if (namespaced)
          for (const namespace of ['b', undefined])
            assert.equal(
              authorizer.authorize(info, { kind: 'resource', verb, group, resource, subresource, namespace })
                .allowed,
              false,
              `${who} ${verb} ${resource}`,
            )
})

test('every route refuses who has no roles, before anything else', async () => {
  await using plane = await start(new RbacAuthorizer())
  const [, nobody] = PEOPLE[1]!
  const open = ['selfsubjectaccessreviews', 'selfsubjectrulesreviews', 'selfsubjectreviews']
  for (const { group, resource, subresource, namespaced } of ROWS) {
    if (open.includes(resource)) continue
    const version = tenantRegistry.find({ group, resource })?.version ?? 'v1'
    const base = `${group ? `/apis/${group}` : '/api'}/${version}${namespaced ? '/namespaces/a' : ''}/${resource}`
    const routes: [string, string][] = subresource
      ? ['GET', 'POST', 'PUT', 'PATCH'].map((method) => [method, `${base}/x/${subresource}`])
      : [
          ['GET', base],
          ['GET', `${base}?watch=true`],
          ['POST', base],
          ['DELETE', base],
          ...['GET', 'PUT', 'PATCH', 'DELETE'].map((method): [string, string] => [method, `${base}/x`]),
        ]
    for (const [method, path] of routes) {
      const { code } = await plane.ask(method, path, {
        user: nobody,
        ...(method === 'GET' ? {} : { raw: '{not json' }),
      })
      assert.equal(code, 403, `${method} ${path}`)
    }
  }
})
