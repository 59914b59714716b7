import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError, type KubeObject, type ManagedFieldsEntry, tenantRegistry } from '../../api/index.ts'
import { APPLY_MANAGERS_MAX } from './limits.ts'
import { trackUpdate } from './managed-fields.ts'
import { serverSideApply } from './server-side-apply.ts'

const NOW = Date.parse('2026-11-21T08:39:33Z')
const configMaps = tenantRegistry.findKind({ group: '', kind: 'ConfigMap' })
const deployments = tenantRegistry.findKind({ group: 'apps', kind: 'Deployment' })
assert.ok(configMaps && deployments)

type Applied = {
  apiVersion: string
  kind: string
  metadata: Partial<KubeObject['metadata']>
  [field: string]: unknown
}

function apply(
  live: KubeObject | undefined,
  applied: Applied,
  manager: string,
  { force = false, at = 0, subresource }: { force?: boolean; at?: number; subresource?: string } = {},
): KubeObject {
  const { schema } = applied.kind === 'Deployment' ? deployments! : configMaps! // asserted above
  return serverSideApply({
    schema,
    live,
    applied: applied as KubeObject, // a configuration has no uid or resourceVersion
    manager,
    force,
    subresource,
    apiVersion: applied.apiVersion,
    nowMs: NOW + at * 1_000,
    hasStatus: applied.kind === 'Deployment',
  })
}

function refusal(run: () => unknown): ApiError {
  try {
    run()
  } catch (error) {
    assert.ok(error instanceof ApiError, String(error))
    return error
  }
  throw new Error('It was accepted')
}

const configMap = (data?: Record<string, string | null>): Applied => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: 's1' },
  ...(data ? { data } : {}),
})

const owners = (object: KubeObject) =>
  Object.fromEntries((object.metadata.managedFields ?? []).map((entry) => [entry.manager, entry.fieldsV1]))

test('apply answers as kube-apiserver 1.32 answered', () => {
  const lines = readFileSync(new URL('testdata/recorded-1.32.jsonl', import.meta.url), 'utf8')
    .trim()
    .split('\n')
  let live: KubeObject | undefined
  let applies = 0
  for (const line of lines) {
    const { name, path, body, status, answer } = JSON.parse(line) as {
      name: string
      path: string
      body: Applied
      status: number
      answer: KubeObject & { message?: string; details?: unknown }
    }
    if (!name.startsWith('ssa-')) continue
    applies++
    const query = new URL(path, 'http://localhost').searchParams
    const run = () =>
      apply(live, body, query.get('fieldManager') ?? '', { force: query.get('force') === 'true' })
    if (status >= 400) {
      const error = refusal(run)
      assert.deepEqual(
        { code: error.code, message: error.message, reason: error.reason, details: error.details },
        { code: status, message: answer.message, reason: answer['reason'], details: answer.details },
        name,
      )
      continue
    }
    live = run()
    const masked = (object: KubeObject) => ({
      ...object,
      metadata: {
        name: object.metadata.name,
        managedFields: object.metadata.managedFields?.map(({ time: _time, ...entry }) => entry),
      },
    })
    assert.deepEqual(masked(live), masked(answer), name)
  }
  assert.equal(applies, 5)
})

const container = (name: string, more: object = {}) => ({ name, image: name, ...more })
const deployment = (spec: object): Applied => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web' },
  spec,
})
const withContainers = (...containers: object[]) => deployment({ template: { spec: { containers } } })
const containersOf = (object: KubeObject) =>
  (object['spec'] as { template?: { spec?: { containers?: unknown } } } | undefined)?.template?.spec
    ?.containers

test('what an applier no longer applies goes away, and what others own stays', () => {
  const one = apply(undefined, withContainers(container('a'), container('b')), 'one')
  const two = apply(one, withContainers(container('c')), 'two')
  assert.deepEqual(containersOf(two), [container('a'), container('b'), container('c')])
  const three = apply(two, withContainers(container('b')), 'one')
  assert.deepEqual(containersOf(three), [container('b'), container('c')])
  const four = apply(three, deployment({ replicas: 1 }), 'two')
  assert.deepEqual(containersOf(four), [container('b')])
})

test('a field that two own is shared: it stays until both have let go, and neither can change it alone', () => {
  const one = apply(undefined, configMap({ a: '1' }), 'one')
  const both = apply(one, configMap({ a: '1' }), 'two', { at: 5 })
  assert.deepEqual(owners(both), { one: { 'f:data': { 'f:a': {} } }, two: { 'f:data': { 'f:a': {} } } })
  // The object is as it was, so its time is that of the first.
  assert.deepEqual(
    both.metadata.managedFields?.map(({ manager, time }) => [manager, time]),
    [
      ['two', undefined],
      ['one', '2026-11-21T08:39:33Z'],
    ],
  )
  assert.equal(
    refusal(() => apply(both, configMap({ a: '2' }), 'one')).message,
    'Apply failed with 1 conflict: conflict with "two": .data.a',
  )
  const left = apply(both, configMap(), 'one')
  assert.deepEqual(left['data'], { a: '1' })
  assert.equal(apply(left, configMap(), 'two')['data'], undefined)
})

test('applying the same again changes nothing, not even a time', () => {
  const one = apply(undefined, withContainers(container('a', { ports: [{ containerPort: 80 }] })), 'one')
  assert.equal(
    apply(one, withContainers(container('a', { ports: [{ containerPort: 80 }] })), 'one', { at: 9 }),
    one,
  )
})

test('a port without a protocol is the TCP port, and a null takes a field away', () => {
  const live = apply(
    undefined,
    withContainers(container('a', { ports: [{ containerPort: 80, protocol: 'TCP', name: 'x' }] })),
    'one',
  )
  const next = apply(
    live,
    withContainers(container('a', { ports: [{ containerPort: 80, hostIP: '1' }] })),
    'two',
  )
  assert.deepEqual(containersOf(next), [
    container('a', { ports: [{ containerPort: 80, protocol: 'TCP', name: 'x', hostIP: '1' }] }),
  ])
  const gone = apply(apply(undefined, configMap({ a: '1', b: '2' }), 'one'), configMap({ a: null }), 'two', {
    force: true,
  })
  assert.deepEqual(gone['data'], { b: '2' })
})

test('every conflict is listed with its manager and path', () => {
  const created = withContainers(container('a')) as KubeObject
  created.metadata.managedFields =
    trackUpdate({
      schema: deployments.schema,
      live: undefined,
      next: created,
      manager: 'kubectl-create',
      apiVersion: 'apps/v1',
      nowMs: NOW,
    }) ?? []
  const scaled = apply(created, deployment({ replicas: 3 }), 'scaler', { subresource: 'scale' })
  const error = refusal(() =>
    apply(
      scaled,
      deployment({ replicas: 4, template: { spec: { containers: [{ name: 'a', image: 'b' }] } } }),
      'me',
    ),
  )
  assert.equal(
    error.message,
    'Apply failed with 2 conflicts: conflicts with "kubectl-create" using apps/v1:\n' +
      '- .spec.template.spec.containers[name="a"].image\n' +
      'conflicts with "scaler" with subresource "scale":\n- .spec.replicas',
  )
  assert.deepEqual(error.details?.causes, [
    {
      reason: 'FieldManagerConflict',
      message: 'conflict with "scaler" with subresource "scale"',
      field: '.spec.replicas',
    },
    {
      reason: 'FieldManagerConflict',
      message: 'conflict with "kubectl-create" using apps/v1',
      field: '.spec.template.spec.containers[name="a"].image',
    },
  ])
})

test('an object that nobody tracked belongs to before-first-apply as it stands', () => {
  const live = configMap({ a: '1', b: '1' }) as KubeObject
  assert.match(
    refusal(() => apply(live, configMap({ a: '2' }), 'me')).message,
    /conflict with "before-first-apply" using v1: .data.a/,
  )
  assert.deepEqual(owners(apply(live, configMap({ a: '2' }), 'me', { force: true })), {
    'before-first-apply': { 'f:data': { '.': {}, 'f:b': {} } },
    me: { 'f:data': { 'f:a': {} } },
  })
})

test('who moves from client-side to server-side apply has no conflicts with himself', () => {
  const annotation = 'kubectl.kubernetes.io/last-applied-configuration'
  const live = configMap({ a: '1', b: '1' }) as KubeObject
  live.metadata.annotations = { [annotation]: JSON.stringify(configMap({ a: '1' })) }
  live.metadata.managedFields =
    trackUpdate({
      schema: configMaps.schema,
      live: undefined,
      next: live,
      manager: 'kubectl-client-side-apply',
      apiVersion: 'v1',
      nowMs: NOW,
    }) ?? []
  const next = apply(live, configMap({ a: '2' }), 'kubectl')
  assert.deepEqual(next['data'], { a: '2', b: '1' })
  assert.deepEqual(JSON.parse(next.metadata.annotations?.[annotation] ?? ''), configMap({ a: '2' }))
  assert.match(
    refusal(() => apply(live, configMap({ b: '2' }), 'kubectl')).message,
    /1 conflict: .*: .data.b$/,
  )
  assert.match(refusal(() => apply(live, configMap({ a: '2' }), 'other')).message, /1 conflict: .*: .data.a$/)
})

test('appliers under ever new names cannot grow an object', () => {
  let live = apply(undefined, configMap({ a: '1' }), 'manager-0')
  for (let at = 1; at < APPLY_MANAGERS_MAX; at++) live = apply(live, configMap({ a: '1' }), `manager-${at}`)
  const error = refusal(() => apply(live, configMap({ a: '1' }), 'one-more'))
  assert.equal(error.code, 422)
  assert.match(error.message, /ConfigMap "s1" is invalid: metadata.managedFields: Too many: "one-more"/)
})

test('after any sequence of forced applies each field has the value its last applier gave it', () => {
  const data = fc.dictionary(fc.constantFrom('a', 'b', 'c', 'constructor'), fc.constantFrom('1', '2'))
  const step = fc.record({ manager: fc.constantFrom('x', 'y', 'z'), data })
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), (steps) => {
      let live: KubeObject | undefined
      let model: Record<string, string> = {}
      const wants = new Map<string, Record<string, string>>()
      for (const { manager, data } of steps) {
        live = apply(live, configMap({ ...data }), manager, { force: true })
        const before = wants.get(manager) ?? {}
        wants.set(manager, { ...data })
        for (const [other, theirs] of wants)
          if (other !== manager)
            wants.set(
              other,
              Object.fromEntries(
                Object.entries(theirs).filter(
                  ([key, value]) =>
                    !Object.hasOwn(data, key) || data[key] === value || model[key] === data[key],
                ),
              ),
            )
        const owned = (key: string) => [...wants.values()].some((theirs) => Object.hasOwn(theirs, key))
        model = Object.fromEntries(
          Object.entries({ ...model, ...data }).filter(([key]) => !Object.hasOwn(before, key) || owned(key)),
        )
        assert.deepEqual({ ...(live['data'] as object | undefined) }, model)
        const entries: ManagedFieldsEntry[] = live.metadata.managedFields ?? []
        for (const entry of entries) {
          const fields = Object.keys((entry.fieldsV1 as { 'f:data'?: object })['f:data'] ?? {}).map((f) =>
            f.slice(2),
          )
          assert.deepEqual(
            fields.filter((f) => f !== '').sort(),
            Object.keys(wants.get(entry.manager ?? '') ?? {}).sort(),
          )
        }
      }
    }),
  )
})

test('whoever applies no labels any more loses those, and the object keeps its name', () => {
  const one = apply(
    undefined,
    { ...configMap({ a: '1' }), metadata: { name: 's1', labels: { a: '1' } } },
    'one',
  )
  const left = apply(one, configMap(), 'one')
  assert.deepEqual([left.metadata.name, left.metadata.labels, left['data']], ['s1', undefined, undefined])
})
