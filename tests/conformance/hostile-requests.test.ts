import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { RbacAuthorizer } from '../../src/policy/index.ts'
import { ADMIN, type Ask, ControlPlane } from './control-plane.ts'
import { mutate, NOT_OURS, tree } from './hostile-values.ts'

/** Whatever a request deletes, the next one gets past the door. */
class AllowEverything extends RbacAuthorizer {
  override authorize() {
    return { allowed: true, reason: 'test' }
  }
}

const segment = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom(
      'api',
      'apis',
      'v1',
      'namespaces',
      'default',
      'pods',
      'configmaps',
      'services',
      'apps',
      'deployments',
      'c1',
      'status',
      'scale',
      'log',
      'finalize',
      'token',
      'serviceaccounts',
      'events',
      'secrets',
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '',
      '.',
      '..',
      '%2e%2e',
      '%2F',
      '%00',
      '%',
      '__proto__',
      'constructor',
      'toString',
      'hasOwnProperty',
    ),
  },
  { weight: 1, arbitrary: fc.string({ maxLength: 12 }).map((s) => encodeURIComponent(s.toWellFormed())) },
)
const JSON_TYPE = 'application/json'
const PATCHES = ['merge-patch+json', 'strategic-merge-patch+json', 'json-patch+json', 'apply-patch+yaml'].map(
  (t) => `application/${t}`,
)
const CORE = '/api/v1/namespaces/default'
const APPS = '/apis/apps/v1/namespaces/default'
const RBAC = '/apis/rbac.authorization.k8s.io/v1'
const collections = [
  `${CORE}/configmaps`,
  `${CORE}/pods`,
  `${CORE}/services`,
  `${APPS}/deployments`,
  `${RBAC}/clusterroles`,
  `${RBAC}/namespaces/default/rolebindings`,
]
const objects = [
  `${CORE}/configmaps/c1`,
  `${CORE}/pods/p1`,
  `${CORE}/pods/p1/status`,
  `${CORE}/services/s1`,
  `${APPS}/deployments/d1`,
  `${APPS}/deployments/d1/scale`,
  '/api/v1/namespaces/n1',
]
const creations = [
  ...collections,
  '/api/v1/namespaces',
  `${CORE}/pods/p1/eviction`,
  `${CORE}/serviceaccounts/default/token`,
  '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
  '/apis/authorization.k8s.io/v1/subjectaccessreviews',
  '/apis/authorization.k8s.io/v1/selfsubjectrulesreviews',
  '/apis/authentication.k8s.io/v1/tokenreviews',
]

type Shape = { method: string; path: string; type: string }
/** Requests that fit together, so that what is wrong with them is found deep inside. */
const fitting: fc.Arbitrary<Shape> = fc.oneof(
  fc.constantFrom(...creations).map((path) => ({ method: 'POST', path, type: JSON_TYPE })),
  fc
    .constantFrom(...objects, '/api/v1/namespaces/n1/finalize')
    .map((path) => ({ method: 'PUT', path, type: JSON_TYPE })),
  fc
    .tuple(fc.constantFrom(...objects), fc.constantFrom(...PATCHES))
    .map(([path, type]) => ({ method: 'PATCH', path, type })),
  fc.constantFrom(...collections, ...objects).map((path) => ({ method: 'GET', path, type: JSON_TYPE })),
  fc.constantFrom(...objects.slice(0, 5)).map((path) => ({ method: 'DELETE', path, type: JSON_TYPE })),
)
const anything: fc.Arbitrary<Shape> = fc.record({
  method: fc.constantFrom('GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'),
  path: fc.array(segment, { maxLength: 8 }).map((parts) => `/${parts.join('/')}`),
  type: fc.constantFrom(
    JSON_TYPE,
    'application/yaml',
    'application/vnd.kubernetes.protobuf',
    'text/plain',
    ';;;',
  ),
})
const shape = fc.oneof({ weight: 5, arbitrary: fitting }, { weight: 1, arbitrary: anything })

const word = fc.oneof(
  fc.constantFrom(
    '',
    '0',
    '1',
    '-1',
    'true',
    'false',
    'All',
    'Strict',
    'Exact',
    'NotOlderThan',
    '9'.repeat(30),
    'a=b',
    'a in (b',
    '!a',
    'metadata.name=x',
    'metadata.name',
    'Foreground',
    'x',
    'eyJ',
    '\u0000',
  ),
  fc.string({ maxLength: 20 }),
)
const option = fc.constantFrom(
  'limit',
  'continue',
  'resourceVersion',
  'resourceVersionMatch',
  'labelSelector',
  'fieldSelector',
  'dryRun',
  'fieldManager',
  'fieldValidation',
  'force',
  'propagationPolicy',
  'gracePeriodSeconds',
  'includeObject',
  'pretty',
  'sendInitialEvents',
  'container',
  'tailLines',
)
const query = fc.array(fc.tuple(option, word), { maxLength: 4 }).map((pairs) => {
  const all = new URLSearchParams(pairs.map(([k, v]): [string, string] => [k, v.toWellFormed()]))
  return all.size === 0 ? '' : `?${all.toString()}`
})

/** A body that is right but for one place. */
const seeds: unknown[] = [
  {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      name: 'c1',
      labels: { a: 'b' },
      finalizers: ['a.b/c'],
      ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'p', uid: 'u' }],
      managedFields: [
        { manager: 'm', operation: 'Apply', fieldsType: 'FieldsV1', fieldsV1: { 'f:data': { 'f:a': {} } } },
      ],
    },
    data: { a: '1' },
  },
  {
    metadata: { name: 'p1' },
    spec: {
      containers: [
        {
          name: 'c',
          image: 'x',
          ports: [{ containerPort: 80 }],
          env: [{ name: 'A', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
          resources: { limits: { cpu: '1' } },
        },
      ],
      volumes: [{ name: 'v', emptyDir: {} }],
    },
  },
  { metadata: { name: 's1' }, spec: { ports: [{ port: 80 }], clusterIP: '10.96.0.20' } },
  {
    metadata: { name: 'd1' },
    spec: {
      replicas: 1,
      selector: { matchLabels: { a: 'b' } },
      template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'x' }] } },
    },
  },
  {
    metadata: { name: 'r' },
    rules: [{ verbs: ['get'], apiGroups: [''], resources: ['pods'] }],
    aggregationRule: { clusterRoleSelectors: [{ matchLabels: { a: 'b' } }] },
  },
  {
    metadata: { name: 'b' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'view' },
    subjects: [{ kind: 'User', name: 'x' }],
  },
  {
    spec: {
      resourceAttributes: { verb: 'get', resource: 'pods' },
      user: 'x',
      token: 'x',
      replicas: 2,
      expirationSeconds: 700,
    },
  },
  [
    { op: 'add', path: '/data/a', value: 'x' },
    { op: 'move', from: '/data', path: '/metadata/labels' },
  ],
  { kind: 'DeleteOptions', gracePeriodSeconds: 3, preconditions: { uid: 'x' }, propagationPolicy: 'Orphan' },
]
const almost = fc
  .tuple(fc.constantFrom(...seeds), fc.array(fc.nat(), { maxLength: 6 }), tree)
  .map(([seed, steps, value]) => mutate(structuredClone(seed), steps, value))

const accept = fc.oneof(
  { weight: 6, arbitrary: fc.constant('application/json') },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '*/*',
      'application/json;as=Table;v=v1;g=meta.k8s.io',
      'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io',
      'application/yaml',
      'application/vnd.kubernetes.protobuf',
      ',;=q',
      'text/html',
    ),
  },
)
const body = fc.oneof(
  {
    weight: 4,
    arbitrary: almost.map((value): Pick<Ask, 'raw'> => ({ raw: JSON.stringify(value) ?? 'null' })),
  },
  { weight: 2, arbitrary: tree.map((value): Pick<Ask, 'raw'> => ({ raw: JSON.stringify(value) ?? 'null' })) },
  { weight: 1, arbitrary: fc.string({ maxLength: 40 }).map((raw): Pick<Ask, 'raw'> => ({ raw })) },
  {
    weight: 1,
    arbitrary: fc
      .uint8Array({ maxLength: 60 })
      .map((bytes): Pick<Ask, 'raw'> => ({ raw: Buffer.concat([Buffer.from('k8s\0'), bytes]) })),
  },
)

test('no request makes the server fail, hang or forget what it is', async () => {
  await using plane = await ControlPlane.start({ authorizer: new AllowEverything() })
  await plane.ask('POST', '/api/v1/namespaces', { body: { metadata: { name: 'n1' } } })
  for (const [at, resource] of [
    [0, '/api/v1/namespaces/default/configmaps'],
    [1, '/api/v1/namespaces/default/pods'],
    [2, '/api/v1/namespaces/default/services'],
    [3, '/apis/apps/v1/namespaces/default/deployments'],
  ] as const)
    assert.equal((await plane.ask('POST', resource, { body: seeds[at] })).code, 201)
  await fc.assert(
    fc.asyncProperty(
      shape,
      query,
      fc.option(body, { nil: undefined, freq: 9 }),
      accept,
      async ({ method, path, type }, query, body, accept) => {
        const bodied = body !== undefined && method !== 'GET' && method !== 'HEAD'
        const answer = await plane.ask(method, path + query, {
          ...(bodied ? body : {}),
          type: bodied && String(body.raw).startsWith('k8s') ? 'application/vnd.kubernetes.protobuf' : type,
          accept,
          user: ADMIN,
        })
        assert.ok(answer.code < 500 || NOT_OURS.includes(answer.code), `${answer.code} ${answer.text}`)
      },
    ),
    { numRuns: 3_000 },
  )
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined)
  assert.deepEqual(Object.keys(Object.prototype), [])
  assert.equal((await plane.ask('GET', '/healthz')).text, 'ok')
})
