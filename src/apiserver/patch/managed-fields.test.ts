import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import {
  type JsonValue,
  type KindDefinition,
  type KubeObject,
  type ManagedFieldsEntry,
  tenantRegistry,
} from '../../api/index.ts'
import { PATCH_TYPES, applyPatch } from './apply-patch.ts'
import { UPDATE_MANAGERS_MAX } from './limits.ts'
import { trackUpdate } from './managed-fields.ts'

type Recorded = {
  name: string
  method: string
  path: string
  contentType: string
  body: JsonValue
  status: number
  answer: KubeObject
}

const recorded = new Map(
  readFileSync(new URL('testdata/recorded-1.32.jsonl', import.meta.url), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Recorded)
    .map((exchange) => [exchange.name, exchange]),
)

function kind(name: string, group = ''): KindDefinition {
  const definition = tenantRegistry.findKind({ group, kind: name })
  assert.ok(definition)
  return definition
}

const withoutTimes = (entries: ManagedFieldsEntry[] | undefined) =>
  entries?.map(({ time: _time, ...entry }) => entry)

const NOW = Date.parse('2026-11-21T08:39:33Z')

test('creates and patches are tracked as kube-apiserver 1.32 tracked them', () => {
  const live = new Map<string, KubeObject>()
  for (const name of [
    'cm-create',
    'patch-merge',
    'patch-json',
    'patch-noop',
    'cm-generateName',
    'pod-create-defaults',
    'patch-strategic-list',
  ]) {
    const exchange = recorded.get(name)
    assert.ok(exchange, name)
    const { answer } = exchange
    const { schema, hasStatus } = kind(answer.kind)
    const key = `${answer.kind}/${answer.metadata.name}`
    const before = live.get(key)
    const manager = new URL(exchange.path, 'http://localhost').searchParams.get('fieldManager') ?? 'unknown'
    // Tolerations, priority and preemption come from upstream's admission, after it has recorded the fields.
    const {
      tolerations: _t,
      priority: _p,
      preemptionPolicy: _q,
      ...spec
    } = (answer['spec'] ?? {}) as Record<string, unknown>
    const next = { ...answer, ...(answer['spec'] ? { spec } : {}) }
    const { managedFields: _sent, ...metadata } = next.metadata
    const patchType = (['json', 'merge', 'strategic'] as const).find(
      (type) => PATCH_TYPES[type] === exchange.contentType,
    )
    if (patchType && before) {
      const patched = applyPatch(patchType, {
        live: before,
        patch: exchange.body,
        schema,
      }) as unknown as KubeObject
      const { managedFields: _patched, ...patchedMetadata } = patched.metadata
      const resourceVersion = answer.metadata.resourceVersion
      assert.deepEqual(
        { ...patched, metadata: { ...patchedMetadata, resourceVersion } },
        { ...next, metadata },
        name,
      )
    }
    const managedFields = trackUpdate({
      schema,
      live: before,
      next: { ...next, metadata },
      manager,
      apiVersion: answer.apiVersion,
      nowMs: NOW,
      hasStatus,
    })
    assert.deepEqual(withoutTimes(managedFields), withoutTimes(answer.metadata.managedFields), name)
    live.set(key, { ...next, metadata: { ...metadata, ...(managedFields ? { managedFields } : {}) } })
  }
})

const { schema } = kind('ConfigMap')

function configMap(data: Record<string, string>, managedFields?: unknown): KubeObject {
  const metadata = {
    name: 'c',
    namespace: 'n',
    uid: 'u',
    resourceVersion: '1',
    creationTimestamp: '2026-01-01T00:00:00Z',
  }
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      ...metadata,
      ...(managedFields === undefined ? {} : { managedFields: managedFields as ManagedFieldsEntry[] }),
    },
    data,
  }
}

function update(
  live: KubeObject | undefined,
  next: KubeObject,
  manager: string,
  at = 0,
  subresource?: string,
) {
  return trackUpdate({ schema, live, next, manager, apiVersion: 'v1', nowMs: NOW + at * 1_000, subresource })
}

test('who changes a field owns it alone, and who changes nothing leaves every entry and time as it was', () => {
  const first = configMap({ a: '1', b: '1' }, update(undefined, configMap({ a: '1', b: '1' }), 'one'))
  const second = update(first, configMap({ a: '1', b: '2' }), 'two', 5)
  assert.deepEqual(
    second?.map(({ manager, time, fieldsV1 }) => ({ manager, time, fieldsV1 })),
    [
      { manager: 'one', time: '2026-11-21T08:39:33Z', fieldsV1: { 'f:data': { '.': {}, 'f:a': {} } } },
      { manager: 'two', time: '2026-11-21T08:39:38Z', fieldsV1: { 'f:data': { 'f:b': {} } } },
    ],
  )
  assert.deepEqual(
    update(configMap({ a: '1', b: '2' }, second), configMap({ a: '1', b: '2' }), 'three', 9),
    second,
  )
})

test('a key that every object inherits is tracked like any other', () => {
  const live = configMap({ a: '1' }, update(undefined, configMap({ a: '1' }), 'one'))
  const entries = update(live, configMap({ a: '1', constructor: 'x' }), 'two')
  assert.deepEqual(entries?.at(-1)?.fieldsV1, { 'f:data': { 'f:constructor': {} } })
})

test('managedFields that a client sends count if they make sense, and one empty entry wipes them', () => {
  const live = configMap({ a: '1' }, update(undefined, configMap({ a: '1' }), 'one'))
  const renamed = live.metadata.managedFields?.map((entry) => ({ ...entry, manager: 'renamed' }))
  const same = (sent: unknown) => update(live, configMap({ a: '1' }, sent), 'x')
  assert.deepEqual(same(renamed), renamed)
  assert.equal(same([{}]), undefined)
  for (const nonsense of [
    undefined,
    [],
    'x',
    [1],
    [{}, {}],
    [{ ...renamed?.[0], operation: 'Eat' }],
    [{ ...renamed?.[0], fieldsV1: { x: 1 } }],
    [{ ...renamed?.[0], fieldsType: 'FieldsV2' }],
  ])
    assert.deepEqual(same(nonsense), live.metadata.managedFields, JSON.stringify(nonsense))
  assert.deepEqual(update(live, configMap({ a: '1' }, [{}]), 'x', 0, 'status'), live.metadata.managedFields)
  assert.equal(update(configMap({ a: '1' }), configMap({ a: '2' }), 'x'), undefined, 'wiped stays wiped')
})

test('writers under ever new names cannot grow an object: the oldest are joined', () => {
  let live = configMap({}, update(undefined, configMap({ start: '1' }), 'first'))
  const data: Record<string, string> = { start: '1' }
  for (let at = 0; at < 40; at++) {
    data[`k${at}`] = '1'
    live = configMap(
      { ...data },
      update(live, configMap({ ...data }), `writer-${String(at).padStart(2, '0')}`, at),
    )
  }
  const entries = live.metadata.managedFields ?? []
  assert.equal(entries.length, UPDATE_MANAGERS_MAX)
  const ancient = entries.find(({ manager }) => manager === 'ancient-changes')
  assert.equal(
    Object.keys((ancient?.fieldsV1 as { 'f:data': object } | undefined)?.['f:data'] ?? {}).length,
    41 - UPDATE_MANAGERS_MAX + 2,
  )
  assert.equal(entries.at(-1)?.manager, 'writer-39')
})

test('status belongs to who writes it at /status, and nothing else does', () => {
  const deployment = kind('Deployment', 'apps')
  const object = (replicas: number, ready: number): KubeObject => ({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'd', uid: 'u', resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: { replicas, selector: { matchLabels: { a: 'b' } }, template: {} },
    status: { readyReplicas: ready },
  })
  const track = (live: KubeObject | undefined, next: KubeObject, manager: string, subresource?: string) =>
    trackUpdate({
      schema: deployment.schema,
      live,
      next,
      manager,
      apiVersion: 'apps/v1',
      nowMs: NOW,
      subresource,
      hasStatus: true,
    })
  const created = object(1, 0)
  created.metadata.managedFields = track(undefined, created, 'user') ?? []
  const entries = track(created, object(2, 1), 'controller', 'status')
  const by = (manager: string) => entries?.find((entry) => entry.manager === manager)
  assert.deepEqual(by('controller'), {
    manager: 'controller',
    operation: 'Update',
    apiVersion: 'apps/v1',
    time: '2026-11-21T08:39:33Z',
    fieldsType: 'FieldsV1',
    fieldsV1: { 'f:status': { 'f:readyReplicas': {} } },
    subresource: 'status',
  })
  assert.equal(JSON.stringify(by('user')).includes('f:status'), false)
})

test('an annotation that is written with the status belongs to who wrote it there', () => {
  const object = (annotations: Record<string, string>): KubeObject => ({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: {
      name: 'n',
      uid: 'u',
      resourceVersion: '1',
      creationTimestamp: '2026-01-01T00:00:00Z',
      labels: { a: 'b' },
      annotations,
    },
    status: { phase: 'Active' },
  })
  const { schema } = kind('Namespace', '')
  const more = { schema, apiVersion: 'v1', nowMs: NOW, hasStatus: true }
  const live = object({ first: '1' })
  live.metadata.managedFields = trackUpdate({ ...more, live: undefined, next: live, manager: 'user' }) ?? []
  const next = object({ first: '2', second: '1' })
  const entries = trackUpdate({ ...more, live, next, manager: 'user', subresource: 'status' })
  assert.deepEqual(
    entries?.map(({ subresource, fieldsV1 }) => [subresource, fieldsV1]),
    [
      [undefined, { 'f:metadata': { 'f:annotations': {}, 'f:labels': { '.': {}, 'f:a': {} } } }],
      ['status', { 'f:metadata': { 'f:annotations': { 'f:first': {}, 'f:second': {} } } }],
    ],
  )
})
