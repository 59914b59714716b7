import { stringify } from 'yaml'
import { type KindDefinition, groupVersion, tenantRegistry } from '../../src/api/index.ts'
import { encodeProtobuf } from '../../src/apiserver/wire/index.ts'
import { EXAMPLES, NAMES, exampleKey, writableKinds } from '../../tests/conformance/requests-of-kinds.ts'
import { clone, mutate } from './mutate.ts'
import { Random } from './random.ts'

/** Requests by number, as `fuzz.ts` makes documents: whatever an API server can be asked, mostly almost right. */

export type FuzzRequest = {
  method: string
  path: string
  headers: Record<string, string>
  body: Buffer | undefined
}

type Json = { [key: string]: unknown }

const NAMESPACE = 'fuzz'
const KINDS = writableKinds()
const BOATS = '/apis/example.com/v1/namespaces/fuzz/boats'

/** A kind of a tenant's own with every sort of rule, so that requests reach them. Its name is `boats.example.com`. */
export const BOAT_DEFINITION: Json = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'boats.example.com' },
  spec: {
    group: 'example.com',
    scope: 'Namespaced',
    names: { plural: 'boats', singular: 'boat', kind: 'Boat', listKind: 'BoatList' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        subresources: {
          status: {},
          scale: { specReplicasPath: '.spec.crew', statusReplicasPath: '.status.crew' },
        },
        selectableFields: [{ jsonPath: '.spec.flag' }],
        additionalPrinterColumns: [{ name: 'Flag', type: 'string', jsonPath: '.spec.flag' }],
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: {
                type: 'object',
                'x-kubernetes-validations': [
                  { rule: '!has(self.crew) || self.crew < 10 || self.flag != "white"', message: 'too many' },
                  { rule: 'self.sails.all(s, s.name.matches("^[a-z]+$"))', optionalOldSelf: false },
                ],
                required: ['sails'],
                properties: {
                  flag: { type: 'string', default: 'red', maxLength: 20, pattern: '^[a-z]*$' },
                  crew: { type: 'integer', minimum: 0, maximum: 100 },
                  port: { 'x-kubernetes-int-or-string': true },
                  cargo: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
                  tags: { type: 'array', 'x-kubernetes-list-type': 'set', items: { type: 'string' } },
                  sails: {
                    type: 'array',
                    maxItems: 10,
                    default: [],
                    'x-kubernetes-list-type': 'map',
                    'x-kubernetes-list-map-keys': ['name', 'side'],
                    items: {
                      type: 'object',
                      required: ['name'],
                      properties: {
                        name: { type: 'string', maxLength: 20 },
                        side: { type: 'string', default: 'left' },
                        area: { type: 'number', nullable: true },
                      },
                    },
                  },
                },
              },
              status: { type: 'object', properties: { crew: { type: 'integer' } } },
            },
          },
        },
      },
    ],
  },
}
const BOAT: Json = {
  apiVersion: 'example.com/v1',
  kind: 'Boat',
  metadata: { name: 'x-one', labels: { a: 'b' } },
  spec: {
    flag: 'red',
    crew: 3,
    port: '80',
    cargo: { a: [1, { b: null }] },
    tags: ['x', 'y'],
    sails: [{ name: 'main', area: 1.5 }, { name: 'jib' }],
  },
}

const EXPRESSIONS: readonly string[] = [
  'true',
  'self.metadata.name.size() < 5',
  'object.metadata.labels.all(k, k.startsWith("a"))',
  'object.spec.replicas <= params.data["max"]',
  'has(object.metadata.annotations) && object.metadata.annotations["a"] == "b"',
  'quantity("1Gi").isGreaterThan(quantity(object.spec.x))',
  '"a".matches("(a|a)*b") || [1,2,3].map(x, x * 2).sum() > 3',
  'cel.bind(x, object, x.x.x)',
  'request.userInfo.groups.exists(g, g == "x") || authorizer.group("").resource("pods").check("get").allowed()',
  '[[[[[[[[[[1]]]]]]]]]]',
  '"\\ud800" + \'\\x00\'',
  'oldSelf == self',
  '1/0 == 1',
  '9223372036854775807 + 1 > 0',
  '[1,2,3].map(x, [1,2,3].map(y, [1,2,3].map(z, x+y+z))).size() == 3',
  'dyn(1) == dyn("1")',
  'a.b.c(',
  '((((((((((((((((((((((((1))))))))))))))))))))))))',
  '',
]
const TEXTS: readonly string[] = [
  '',
  'a',
  'a=b',
  'a==b,c!=d',
  'a in (b,c),!d',
  'a notin (',
  'a>1,b<x',
  '=',
  '==',
  '!',
  ',',
  'x'.repeat(300),
  'metadata.name=x-one',
  'metadata.namespace!=x,spec.nodeName=a',
  'status.phase=Running',
  'spec.flag=red',
  'a\\,b=c\\=d',
  '%',
  '\u0000',
  '-1',
  '0',
  '1',
  '9007199254740993',
  '99999999999999999999',
  '1e3',
  'true',
  'false',
  'True',
  'All',
  'Strict',
  'Warn',
  'Ignore',
  'NotOlderThan',
  'Exact',
  'Orphan',
  'Foreground',
  'Object',
  'None',
  '__proto__',
  'constructor',
  'eyJ2IjoxfQ',
  '../..',
  '🚢',
]
const PARAMETERS: readonly string[] = [
  'labelSelector',
  'fieldSelector',
  'limit',
  'continue',
  'resourceVersion',
  'resourceVersionMatch',
  'sendInitialEvents',
  'allowWatchBookmarks',
  'dryRun',
  'fieldManager',
  'fieldValidation',
  'force',
  'gracePeriodSeconds',
  'propagationPolicy',
  'orphanDependents',
  'includeObject',
  'pretty',
  'container',
  'tailLines',
  'sinceTime',
  'command',
  'ports',
  'hash',
  'timeout',
  '__proto__',
]
const RANGES: readonly string[] = [
  'application/json',
  'application/yaml',
  'application/vnd.kubernetes.protobuf',
  'application/json;as=Table;v=v1;g=meta.k8s.io',
  'application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io',
  'application/json;as=PartialObjectMetadata;v=v1beta1;g=meta.k8s.io',
  'application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io',
  'application/vnd.kubernetes.protobuf;as=APIGroupDiscoveryList;v=v2beta1;g=apidiscovery.k8s.io',
  'application/vnd.kubernetes.protobuf;stream=watch',
  'application/com.github.proto-openapi.spec.v2@v1.0+protobuf',
  'application/*;q=0.3',
  '*/*',
  '*',
  'text/html',
  ';;;q=x',
  'application/json;as=constructor;v=v1;g=meta.k8s.io',
]
const BODY_TYPES: readonly string[] = [
  'application/json',
  'application/yaml',
  'application/vnd.kubernetes.protobuf',
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
  'application/apply-patch+yaml',
  'application/apply-patch+cbor',
  'text/plain',
]
const PATHS: readonly string[] = [
  '/',
  '/api',
  '/apis',
  '/api/v1',
  '/apis/apps/v1',
  '/apis/example.com',
  '/apis/example.com/v1',
  '/openapi/v2',
  '/openapi/v3',
  '/openapi/v3/api/v1',
  '/openapi/v3/apis/example.com/v1',
  '/version',
  '/healthz',
  '/readyz',
  '/metrics',
  '/openid/v1/jwks',
  '/.well-known/openid-configuration',
  '/apis/metrics.k8s.io/v1beta1/nodes',
  '/apis/constructor/v1/__proto__',
  '/api/v1/namespaces/fuzz/pods/x-one/log',
  '/api/v1/namespaces/fuzz/pods/x-one/exec',
  '/api/v1/namespaces/fuzz/pods/x-one/eviction',
  '/api/v1/namespaces/fuzz/serviceaccounts/default/token',
  '/api/v1/nodes',
  '//',
  '/%',
  '/%2e%2e/%2f',
]
const REVIEWS = tenantRegistry.virtualKinds.map((kind) => ({
  path: `/apis/${groupVersion(kind)}${kind.namespaced ? `/namespaces/${NAMESPACE}` : ''}/${kind.plural}`,
  document: {
    apiVersion: groupVersion(kind),
    kind: kind.kind,
    spec: {
      namespace: NAMESPACE,
      user: 'ann',
      token: 'a.b.c',
      audiences: ['x'],
      resourceAttributes: { verb: 'get', resource: 'pods', namespace: NAMESPACE },
    },
  } as Json,
}))

/** The same seed and number give the same request. */
export function requestOf(seed: number, number: number): FuzzRequest {
  const random = new Random(Math.imul(seed, 0x2545_f491) ^ number)
  const headers: Record<string, string> = { accept: acceptOf(random) }
  if (random.once(8)) headers['accept-encoding'] = random.pick(['gzip', 'gzip;q=0', 'br'])
  if (random.once(10)) headers['if-none-match'] = random.pick(['*', '"x"', 'W/"x", "y"'])
  if (random.once(40)) headers['content-encoding'] = random.pick(['gzip', 'identity', 'x'])
  if (random.once(6)) headers['user-agent'] = random.pick(TEXTS).replace(/[^\x20-\x7e]/g, '') || 'kubectl/v1'
  if (random.once(12))
    return { method: 'GET', path: random.pick(PATHS) + queryOf(random, 'GET'), headers, body: undefined }
  const { path, document, kind } = target(random)
  const named = random.once(2)
  const chosen = random.pick(named ? NAMED : COLLECTIVE)
  // Who has deleted all rights, or the kind itself, is refused everything from then on.
  const method = chosen === 'DELETE' && !named && !path.includes(`/namespaces/${NAMESPACE}/`) ? 'GET' : chosen
  const at = mangled(`${path}${named ? `/${nameOf(document)}` : ''}${subresource(random, kind)}`, random)
  const { type, body } =
    method === 'GET' ? { type: undefined, body: undefined } : bodyOf(document, method, random)
  if (type !== undefined) headers['content-type'] = type
  return { method, path: at + queryOf(random, method), headers, body }
}

const NAMED: readonly string[] = ['GET', 'PUT', 'PATCH', 'PATCH', 'PATCH', 'DELETE']
const COLLECTIVE: readonly string[] = ['GET', 'GET', 'POST', 'POST', 'POST', 'POST', 'DELETE', 'OPTIONS']

function target(random: Random): { path: string; document: Json; kind: KindDefinition | undefined } {
  if (random.once(12)) return { ...random.pick(REVIEWS), kind: undefined }
  if (random.once(6)) return { path: BOATS, document: clone(BOAT) as Json, kind: undefined }
  if (random.once(10))
    return {
      path: '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
      document: otherDefinition(random),
      kind: undefined,
    }
  const kind = random.pick(KINDS)
  const key = exampleKey(kind)
  const gv = groupVersion(kind)
  const root = `/${kind.group ? 'apis' : 'api'}/${gv}`
  return {
    path: `${root}${kind.namespaced ? `/namespaces/${NAMESPACE}` : ''}/${kind.plural}`,
    document: withExpressions(
      {
        apiVersion: gv,
        kind: kind.kind,
        ...clone(EXAMPLES[key] as Json),
        metadata: { name: NAMES[key] ?? 'x-one', labels: { set: 'one' }, annotations: { a: 'b' } },
      },
      random,
    ),
    kind,
  }
}

/** A definition of another kind, so that the one that requests are about stays. */
function otherDefinition(random: Random): Json {
  const definition = clone(BOAT_DEFINITION) as { metadata: Json; spec: Json & { names: Json } }
  const plural = random.pick(['ships', 'rafts'])
  definition.metadata['name'] = `${plural}.example.com`
  Object.assign(definition.spec.names, {
    plural,
    singular: plural.slice(0, -1),
    kind: plural.toUpperCase(),
    listKind: `${plural}List`,
  })
  return withExpressions(definition, random)
}

/** Other expressions wherever there are some. */
function withExpressions(document: Json, random: Random): Json {
  return JSON.parse(JSON.stringify(document), (key, value: unknown) =>
    (key === 'rule' || key === 'expression') && random.once(2) ? random.pick(EXPRESSIONS) : value,
  ) as Json
}

function nameOf(document: Json): string {
  const { name } = (document['metadata'] ?? {}) as { name?: unknown }
  return typeof name === 'string' ? encodeURIComponent(name.toWellFormed()) : 'x-one'
}

function subresource(random: Random, kind: KindDefinition | undefined): string {
  if (!random.once(5)) return ''
  return `/${random.pick([...(kind?.subresources ?? []).map(({ name }) => name), 'status', 'scale', 'log', 'nothing'])}`
}

function mangled(path: string, random: Random): string {
  if (!random.once(15)) return path
  const at = random.below(path.length)
  return `/${(path.slice(0, at) + random.pick(['/', '%2f', '%00', '..', '%', '\u00e9', 'a'.repeat(300), '?']) + path.slice(at + 1)).slice(1)}`
}

function queryOf(random: Random, method: string): string {
  const query = new URLSearchParams()
  for (let left = random.once(2) ? random.below(5) : 0; left > 0; left--)
    query.append(random.pick(PARAMETERS), random.pick(TEXTS).toWellFormed())
  if (method === 'PATCH' && !random.once(4)) query.set('fieldManager', random.pick(['a', 'b', 'kubectl']))
  if (method === 'GET' && random.once(25)) {
    query.set('watch', 'true')
    query.set('timeoutSeconds', '1')
  }
  const text = query.toString()
  return text === '' ? '' : `?${text}`
}

function acceptOf(random: Random): string {
  const ranges = Array.from({ length: 1 + random.below(3) }, () => random.pick(RANGES))
  return random.once(2) ? 'application/json' : ranges.join(',')
}

function bodyOf(document: Json, method: string, random: Random): { type: string; body: Buffer } {
  const changed = clone(document) as Json
  for (let left = random.once(3) ? 0 : 1 + random.below(3); left > 0; left--) mutate(changed as never, random)
  const patch = method === 'PATCH'
  const type = random.once(12)
    ? random.pick(BODY_TYPES)
    : patch
      ? random.pick(BODY_TYPES.slice(3, 7))
      : random.pick(BODY_TYPES.slice(0, 3))
  const value =
    patch && type === 'application/json-patch+json'
      ? operations(changed, random)
      : patch
        ? directed(changed, random)
        : changed
  const body = rendered(value, type)
  return {
    type: random.once(10) ? `${type}; charset=utf-8` : type,
    body: random.once(8) ? damaged(body, random) : body,
  }
}

function rendered(value: unknown, type: string): Buffer {
  try {
    if (type === 'application/vnd.kubernetes.protobuf')
      return Buffer.from(encodeProtobuf(value as { apiVersion: string; kind: string }) ?? 'k8s\0')
    if (type.endsWith('yaml')) return Buffer.from(stringify(value))
  } catch {
    // What has lost its shape is sent as JSON under the wrong name.
  }
  return Buffer.from(JSON.stringify(value))
}

/** Directives of strategic merges, and owners that a client makes up. */
function directed(document: Json, random: Random): Json {
  const directives: Json = {
    $patch: random.pick(['replace', 'delete', 'merge', 'x']),
    $retainKeys: ['a', 1],
    $setElementOrder: [{ name: 'a' }, 'b'],
    '$deleteFromPrimitiveList/finalizers': ['a'],
    '$setElementOrder/containers': [{ name: 'x' }, {}],
  }
  const name = random.pick(Object.keys(directives))
  if (random.once(3)) {
    const part = random.pick<unknown>([document, document['spec'] ?? null, document['metadata'] ?? null])
    if (typeof part === 'object' && part !== null) (part as Json)[name] = directives[name]
  }
  if (random.once(6) && typeof document['metadata'] === 'object' && document['metadata'] !== null)
    (document['metadata'] as Json)['managedFields'] = random.pick<unknown>([
      [],
      [{}],
      [
        {
          manager: 'x',
          operation: 'Apply',
          fieldsType: 'FieldsV1',
          fieldsV1: { 'f:spec': { 'k:{"a":': {} } },
        },
      ],
      [{ manager: 'x', operation: 'Update', apiVersion: 'v9', fieldsV1: { '.': 1, 'v:"': {}, 'i:-1': {} } }],
    ])
  return document
}

function operations(document: Json, random: Random): unknown {
  const pointers = [
    '',
    '/metadata/labels',
    '/spec',
    '/metadata/name',
    '/metadata/labels/a~1b',
    '/spec/-',
    '/a~2',
    '/spec/containers/0',
    '/metadata/managedFields',
    'x',
  ]
  return Array.from({ length: random.below(6) }, () => ({
    op: random.pick(['add', 'remove', 'replace', 'move', 'copy', 'test', 'jump']),
    path: random.pick(pointers),
    from: random.pick(pointers),
    value: random.pick<unknown>([document, document['spec'] ?? 'y', 'x', 1, null, [], {}]),
  }))
}

function damaged(body: Buffer, random: Random): Buffer {
  const copy = Buffer.from(body)
  for (let left = 1 + random.below(3); left > 0 && copy.length > 0; left--)
    copy[random.below(copy.length)] = random.below(256)
  return random.once(3) ? copy.subarray(0, random.below(copy.length + 1)) : copy
}
