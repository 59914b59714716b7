import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import * as fc from 'fast-check'
import {
  ApiError,
  type KubeObject,
  type ObjectSchema,
  type Schema,
  groupVersion,
  NETWORK_GROUP,
  schemaOf,
  tenantRegistry,
} from '../../api/index.ts'
import { decodeProtobuf } from './protobuf.ts'
import { type Field, type Leaf, type Message, hasProtobuf, messageOf } from './protobuf-messages.ts'
import { encodeProtobuf, encodeProtobufList } from './render-protobuf.ts'
import { dropZeros } from './zeros.ts'
import table from './protobuf-fields.json' with { type: 'json' }

type AnyObject = { apiVersion: string; kind: string }

function roundTrip(object: AnyObject): unknown {
  const bytes = encodeProtobuf(object)
  assert.ok(bytes)
  const { value, unknownFields } = decodeProtobuf(bytes)
  assert.deepEqual(unknownFields, [])
  return value
}

function refusal(bytes: Uint8Array): string {
  try {
    decodeProtobuf(bytes)
  } catch (error) {
    assert.ok(error instanceof ApiError, String(error))
    assert.ok(error.code === 400 || error.code === 415, String(error.code))
    return error.message
  }
  return 'accepted'
}

const text = fc.string({ unit: 'binary', maxLength: 50 })
const key = text.filter((t) => t !== '__proto__')
const int32 = fc.oneof(fc.constantFrom(0, 1, 127, 128, 16_383, 16_384), fc.integer())
const int64 = fc.oneof(int32, fc.maxSafeInteger())
/** Whole seconds: what JSON says of a time. */
const seconds = fc.integer({ min: -62_135_596_799, max: 253_402_300_799 }).filter((s) => s !== 0)
const toSeconds = (s: number) => new Date(s * 1000).toISOString().replace(/\.\d+Z$/, '')

/** Values of a leaf as they are in JSON. */
const LEAVES: Readonly<Record<Leaf, fc.Arbitrary<unknown>>> = {
  string: text,
  bool: fc.boolean(),
  int32,
  int64,
  double: fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => (n === 0 ? 0 : n)),
  bytes: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('base64')),
  time: seconds.map((s) => `${toSeconds(s)}Z`),
  microTime: fc
    .tuple(seconds, fc.nat(999_999))
    .map(([s, micros]) => `${toSeconds(s)}.${String(micros).padStart(6, '0')}Z`),
  quantity: fc.constantFrom('0', '1', '100m', '1.5Gi', '1e3', '-2'),
  intOrString: fc.oneof(int32, text),
  json: fc.dictionary(key, fc.oneof(text, int32, fc.dictionary(key, fc.boolean(), { maxKeys: 2 })), {
    maxKeys: 3,
  }),
  strings: fc.array(text, { maxLength: 4 }),
}

/** Any value that a field of the type can have in JSON after it has passed its schema. */
function arbitraryOf(type: Leaf | Message, depth: number): fc.Arbitrary<unknown> {
  if (typeof type === 'string') return LEAVES[type]
  if (!type.either) return objectOf(type, depth)
  const [first, second] = type.fields
  assert.ok(first && second)
  const schema = first.name === 'schema' ? first : second
  const other = schema === first ? second : first
  // An empty list says as much as none.
  const items = fc.array(arbitraryOf(other.type, depth), { minLength: 1, maxLength: 2 })
  return depth > DEPTH_MAX
    ? fc.constant({})
    : fc.oneof(arbitraryOf(schema.type, depth), other.repeated ? items : arbitraryOf(other.type, depth))
}

const DEPTH_MAX = 5

function objectOf(message: Message, depth: number): fc.Arbitrary<Record<string, unknown>> {
  if (depth > DEPTH_MAX) return fc.constant({})
  const model: Record<string, fc.Arbitrary<unknown>> = {}
  const embedded: fc.Arbitrary<Record<string, unknown>>[] = []
  for (const field of message.fields) {
    if (field.embedded && typeof field.type === 'object') embedded.push(objectOf(field.type, depth))
    else model[field.name] = fc.option(valueOf(field, depth), { nil: undefined, freq: 2 })
  }
  return fc
    .tuple(fc.record(model), ...embedded)
    .map((parts) =>
      Object.fromEntries(parts.flatMap((part) => Object.entries(part)).filter(([, v]) => v !== undefined)),
    )
}

function valueOf(field: Field, depth: number): fc.Arbitrary<unknown> {
  const { type, map, repeated, keepsZero } = field
  const value = fc.constant(undefined).chain(() => arbitraryOf(type, depth + 1))
  // Nothing is as much as an empty list or map in protobuf, and, but for pointers, as a zero.
  if (map) return fc.dictionary(key, value, { minKeys: 1, maxKeys: 3 })
  if (repeated) return fc.array(value, { minLength: 1, maxLength: 3 })
  return keepsZero || typeof type === 'object' || type === 'intOrString'
    ? value
    : value.filter((v) => v !== '' && v !== 0 && v !== false)
}

test('whatever an object of any kind holds is the same after it was protobuf', () => {
  for (const name of Object.keys(table.kinds)) {
    const slash = name.lastIndexOf('/')
    const [apiVersion, kind] = [name.slice(0, slash), name.slice(slash + 1)]
    const message = messageOf(apiVersion, kind)
    assert.ok(message, name)
    fc.assert(
      fc.property(objectOf(message, 0), (content) => {
        // Text may hold half a surrogate pair, which UTF-8 cannot.
        const object = JSON.parse(
          JSON.stringify({ apiVersion, kind, ...content }).toWellFormed(),
        ) as AnyObject
        assert.deepEqual(roundTrip(object), object)
      }),
      { numRuns: 10 },
    )
  }
})

/** The value with an empty list, map or zero in every field that has none, where that says nothing. */
function padded(message: Message, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => padded(message, item))
  if (typeof value !== 'object' || value === null) return value
  const inner = message.fields.find(({ type }) => typeof type === 'object')?.type
  if (message.either) return typeof inner === 'object' ? padded(inner, value) : value
  let result: Record<string, unknown> = { ...value }
  for (const { name, type, map, repeated, embedded, keepsZero } of message.fields) {
    const given = result[name]
    if (embedded && typeof type === 'object') result = padded(type, result) as Record<string, unknown>
    else if (given === undefined) {
      const zero = map ? {} : repeated ? [] : ZEROS[String(type)]
      if (!keepsZero && zero !== undefined) result[name] = zero
    } else if (typeof type === 'object')
      result[name] = map
        ? Object.fromEntries(Object.entries(given ?? {}).map(([k, v]) => [k, padded(type, v)]))
        : padded(type, given)
  }
  return result
}

const ZEROS: Readonly<Record<string, unknown>> = {
  string: '',
  bytes: '',
  bool: false,
  int32: 0,
  int64: 0,
  double: 0,
}

test('what says nothing is taken out of an object of any kind, and nothing else', () => {
  for (const name of Object.keys(table.kinds)) {
    const slash = name.lastIndexOf('/')
    const [apiVersion, kind] = [name.slice(0, slash), name.slice(slash + 1)]
    const message = messageOf(apiVersion, kind)
    assert.ok(message, name)
    fc.assert(
      fc.property(objectOf(message, 0), (content) => {
        const object = JSON.parse(JSON.stringify({ apiVersion, kind, ...content })) as KubeObject
        const more = padded(message, structuredClone(object)) as KubeObject
        dropZeros(more)
        assert.deepEqual(more, object)
      }),
      { numRuns: 5 },
    )
  }
})

test('of a custom kind only the metadata is looked at, and what a schema requires stays', () => {
  const custom = {
    apiVersion: 'example.com/v1',
    kind: 'Widget',
    metadata: { name: 'one', labels: {}, annotations: {}, finalizers: [], generation: 0 },
    spec: { list: [], map: {}, text: '', number: 0, flag: false },
  }
  dropZeros(custom as unknown as KubeObject)
  assert.deepEqual(custom.metadata, { name: 'one' })
  assert.deepEqual(custom.spec, { list: [], map: {}, text: '', number: 0, flag: false })
  const role = {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'Role',
    metadata: { name: 'none' },
    rules: [],
  }
  const set = {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { name: 'none' },
    spec: { replicas: 0, minReadySeconds: 0 },
  }
  for (const object of [role, set]) dropZeros(object as unknown as KubeObject)
  assert.deepEqual([role.rules, set.spec], [[], { replicas: 0 }])
})

test('the same content is the same bytes, in whatever order it stands', () => {
  const map = (...keys: string[]) => Object.fromEntries(keys.map((k) => [k, 'v']))
  const ordered = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    data: map('a', 'b'),
    metadata: { name: 'x', labels: map('c', 'd') },
  }
  const other = {
    kind: 'ConfigMap',
    metadata: { labels: map('d', 'c'), name: 'x' },
    data: map('b', 'a'),
    apiVersion: 'v1',
  }
  assert.deepEqual(encodeProtobuf(ordered), encodeProtobuf(other))
})

test('a list in pieces is the list at once', async () => {
  const items = Array.from({ length: 250 }, (_, at) => ({ ...POD, metadata: { name: `p${at}` } }))
  const list = { apiVersion: 'v1', kind: 'PodList', metadata: { resourceVersion: '7' }, items }
  for (const atOnce of [1, 100, 250, 1_000]) {
    const pieces: Buffer[] = []
    for await (const piece of encodeProtobufList(list, atOnce)) pieces.push(piece)
    assert.deepEqual(Buffer.concat(pieces.reverse()), encodeProtobuf(list))
  }
})

test('what kubectl 1.32 sends as protobuf is what it would have sent as JSON', () => {
  const recorded = readFileSync(new URL('testdata/kubectl-1.32-bodies.jsonl', import.meta.url), 'utf8')
  for (const line of recorded.trim().split('\n')) {
    const { body, value } = JSON.parse(line) as { body: string; value: unknown }
    assert.deepEqual(decodeProtobuf(Buffer.from(body, 'base64')), { value, unknownFields: [] })
  }
})

const POD = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name: 'x',
    annotations: { 'a/b': 'ü' },
    creationTimestamp: '2026-01-01T00:00:00Z',
    ownerReferences: [{ apiVersion: 'v1', kind: 'K', name: 'n', uid: 'u', controller: false }],
    managedFields: [
      { manager: 'm', operation: 'Update', time: '2026-01-01T00:00:01Z', fieldsV1: { 'f:spec': {} } },
    ],
  },
  spec: {
    hostNetwork: true,
    hostPID: true,
    automountServiceAccountToken: false,
    volumes: [
      { name: 'root', hostPath: { path: '/', type: '' } },
      { name: 'tmp', emptyDir: { sizeLimit: '1Gi' } },
      { name: 'p', projected: { sources: [{ configMap: { name: 'cm', optional: false } }] } },
    ],
    containers: [
      {
        name: 'c',
        image: 'i',
        env: [{ name: 'E', valueFrom: { secretKeyRef: { name: 's', key: 'k' } } }],
        ports: [{ containerPort: 80, hostPort: 80 }],
        resources: { limits: { cpu: '1', memory: '1Gi' } },
        livenessProbe: { httpGet: { path: '/', port: 'http' }, periodSeconds: 3 },
        readinessProbe: { tcpSocket: { port: 0 } },
        securityContext: {
          privileged: true,
          runAsUser: 0,
          runAsGroup: -1,
          capabilities: { add: ['SYS_ADMIN'] },
        },
      },
    ],
    ephemeralContainers: [{ name: 'e', image: 'j', targetContainerName: 'c' }],
    securityContext: { supplementalGroups: [1, 2], runAsNonRoot: false },
    terminationGracePeriodSeconds: 0,
  },
}

test('a field that we refuse is decoded, so that it meets the same refusal as in JSON', () => {
  assert.deepEqual(roundTrip(POD), POD)
})

test('times, bytes, numbers and the options of a delete keep their JSON form', () => {
  for (const object of [
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, data: { a: 'Z2VoZWlt', empty: '' } },
    {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: {},
      spec: { acquireTime: '2026-01-01T00:00:00.123456Z', leaseTransitions: 0 },
    },
    { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0, propagationPolicy: 'Background' },
    {
      apiVersion: 'v1',
      kind: 'Status',
      metadata: {},
      status: 'Failure',
      reason: 'NotFound',
      code: 404,
      details: { name: 'x', causes: [{ field: 'f' }] },
    },
    { apiVersion: 'autoscaling/v1', kind: 'Scale', metadata: {}, spec: { replicas: 3 } },
    {
      apiVersion: 'v1',
      kind: 'ConfigMapList',
      metadata: { resourceVersion: '7', remainingItemCount: 0 },
      items: [{ metadata: { name: 'a' } }, { metadata: {} }],
    },
    {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'SelfSubjectReview',
      metadata: {},
      status: { userInfo: { username: 'u', groups: ['g'], extra: { scopes: ['a', 'b'] } } },
    },
  ])
    assert.deepEqual(roundTrip(object), object)
})

function openApiName(message: string): string {
  return message.replace('k8s.io.', 'io.k8s.').replace('_apiserver', '-apiserver')
}

test('every kind that a tenant is served, and every field of its schema, can be sent as protobuf', () => {
  const messages = new Map(table.messages.map((row) => [openApiName(String(row[0])), row]))
  const fieldNames = (row: readonly (string | number)[]): string[] => {
    const names: string[] = []
    for (let at = 1; at < row.length; at += 4) {
      const inner = row[at + 2]
      const embedded =
        String(row[at + 3]).includes('e') && typeof inner === 'number' ? table.messages[inner] : undefined
      names.push(...(embedded ? fieldNames(embedded) : [String(row[at + 1])]))
    }
    return names
  }
  const seen = new Set<Schema>()
  const missing: string[] = []
  const visit = (schema: Schema, root: boolean): void => {
    if (seen.has(schema)) return
    seen.add(schema)
    if (schema.type === 'list') visit(schema.items, false)
    if (schema.type === 'map') visit(schema.values, false)
    if (schema.type === 'object') visitObject(schema, root)
  }
  const visitObject = (schema: ObjectSchema, root: boolean): void => {
    const row = messages.get(schema.name)
    const names = row ? fieldNames(row) : []
    // Protobuf carries the type of an object around it, and leaves it away within another object.
    const named = root || schema.name.endsWith('.DeleteOptions')
    for (const [name, field] of Object.entries(schema.fields)) {
      if (!names.includes(name) && !(named && (name === 'apiVersion' || name === 'kind')))
        missing.push(`${schema.name}.${name}`)
      visit(schemaOf(field), false)
    }
  }
  for (const kind of [...tenantRegistry.kinds, ...tenantRegistry.virtualKinds]) {
    // Nobody sends what is only measured, and clients know no protobuf of the platform's own kinds.
    if (('measured' in kind && kind.measured) || kind.group === NETWORK_GROUP) continue
    assert.ok(hasProtobuf(groupVersion(kind), kind.kind), `${groupVersion(kind)}/${kind.kind}`)
    visit(kind.schema, true)
    for (const sub of tenantRegistry.find({ group: kind.group, resource: kind.plural })?.subresources ?? [])
      if (sub.schema) visit(sub.schema, true)
  }
  assert.deepEqual(missing, [])
})

test('a field number that upstream does not have is reported and skipped', () => {
  const spec = new BinaryWriter()
    .tag(999, WireType.Varint)
    .int32(1)
    .tag(16, WireType.LengthDelimited)
    .string('h')
  const pod = new BinaryWriter().tag(2, WireType.LengthDelimited).bytes(spec.finish()).finish()
  assert.deepEqual(decodeProtobuf(unknown('v1', 'Pod', pod)), {
    value: { apiVersion: 'v1', kind: 'Pod', spec: { hostname: 'h' } },
    unknownFields: ['spec.(protobuf field 999)'],
  })
})

test('an older client’s field that has gone is not reported when it is empty, as metadata.clusterName always was', () => {
  const metadata = (clusterName: string) =>
    new BinaryWriter()
      .tag(1, WireType.LengthDelimited)
      .string('web')
      .tag(15, WireType.LengthDelimited)
      .string(clusterName)
      .finish()
  const pod = (clusterName: string) =>
    new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(metadata(clusterName)).finish()
  const value = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web' } }
  assert.deepEqual(decodeProtobuf(unknown('v1', 'Pod', pod(''))), { value, unknownFields: [] })
  assert.deepEqual(decodeProtobuf(unknown('v1', 'Pod', pod('c'))), {
    value,
    unknownFields: ['metadata.(protobuf field 15)'],
  })
})

function unknown(apiVersion: string, kind: string, raw: Uint8Array): Uint8Array {
  const meta = new BinaryWriter().tag(1, WireType.LengthDelimited).string(apiVersion)
  meta.tag(2, WireType.LengthDelimited).string(kind)
  const body = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(meta.finish())
  body.tag(2, WireType.LengthDelimited).bytes(raw)
  return Buffer.concat([Buffer.from('k8s\0'), body.finish()])
}

test('what is not an object of a known kind is refused', () => {
  assert.match(refusal(Buffer.from('{"a":1}')), /does not appear to be a protobuf message/)
  assert.match(refusal(Buffer.from('k8s\0')), /Object 'Kind' is missing/)
  assert.match(refusal(unknown('v9', 'Pod', new Uint8Array())), /has no protobuf encoding/)
  assert.match(refusal(unknown('constructor', 'prototype', new Uint8Array())), /has no protobuf encoding/)
})

test('hostile messages are refused: groups, double fields, huge numbers, endless nesting, prototypes', () => {
  const field = (number: number, bytes: Uint8Array) =>
    new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(bytes).finish()
  const groups = new Uint8Array(100_000).fill((100 << 3) | WireType.StartGroup)
  assert.match(refusal(unknown('v1', 'Pod', groups)), /illegal|wireType/)
  const twice = Buffer.concat([field(1, field(1, Buffer.from('a'))), field(1, field(1, Buffer.from('b')))])
  assert.match(refusal(unknown('v1', 'Pod', twice)), /"metadata" appears twice/)
  const generation = new BinaryWriter()
    .tag(7, WireType.Varint)
    .int64(2n ** 60n)
    .finish()
  assert.match(refusal(unknown('v1', 'Pod', field(1, generation))), /whole numbers beyond/)
  const prototype = field(2, Buffer.concat([field(1, Buffer.from('__proto__')), field(2, Buffer.from('x'))]))
  assert.match(refusal(unknown('v1', 'ConfigMap', prototype)), /__proto__/)
  const containers = new Uint8Array(500_000).map((_, at) =>
    at % 2 === 0 ? (2 << 3) | WireType.LengthDelimited : 0,
  )
  assert.match(refusal(unknown('v1', 'Pod', field(2, containers))), /more than 200000 values/)
  const notUtf8 = field(1, field(1, Uint8Array.of(0xff)))
  assert.match(refusal(unknown('v1', 'Pod', notUtf8)), /proto/)
})

test('any bytes give a value or a refusal', () => {
  const good = Buffer.from(encodeProtobuf(POD) ?? [])
  const flips = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 })
  const damaged = fc.tuple(flips, fc.nat(good.length)).map(([changes, length]) => {
    const bytes = Buffer.from(good)
    for (const [at, value] of changes) bytes[at] = value
    return bytes.subarray(0, Math.max(length, 40))
  })
  const random = fc.uint8Array({ maxLength: 200 }).map((raw) => unknown('v1', 'Pod', raw))
  fc.assert(
    fc.property(
      fc.oneof(
        damaged,
        random,
        fc.uint8Array().map((raw) => Buffer.concat([Buffer.from('k8s\0'), raw])),
      ),
      (bytes) => {
        refusal(bytes)
      },
    ),
    { numRuns: 3_000 },
  )
})
