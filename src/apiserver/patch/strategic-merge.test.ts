import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError, type JsonValue, type ObjectSchema, tenantRegistry } from '../../api/index.ts'
import { applyStrategicMergePatch } from './strategic-merge.ts'

const string = { type: 'string' } as const
const items: ObjectSchema = {
  type: 'object',
  name: 'test.Item',
  fields: { name: { schema: string }, value: { schema: string }, other: { schema: string } },
}
const schema: ObjectSchema = {
  type: 'object',
  name: 'test.Object',
  fields: {
    merged: {
      schema: {
        type: 'list',
        items,
        listType: 'map',
        listMapKeys: ['name'],
        patchMergeKey: 'name',
        patchStrategy: 'merge',
      },
    },
    scalars: { schema: { type: 'list', items: string, listType: 'set', patchStrategy: 'merge' } },
    atomic: { schema: { type: 'list', items, listType: 'atomic' } },
    union: { schema: items, patchStrategy: 'retainKeys' },
  },
}
const apply = (document: JsonValue, patch: JsonValue) => applyStrategicMergePatch(document, patch, schema)

test('items of a list merge by their key, others are replaced', () => {
  const before = { merged: [{ name: 'a', value: '1' }, { name: 'b' }], atomic: [{ name: 'a' }] }
  assert.deepEqual(apply(before, { merged: [{ name: 'b', value: '2' }], atomic: [{ name: 'c' }] }), {
    merged: [
      { name: 'a', value: '1' },
      { name: 'b', value: '2' },
    ],
    atomic: [{ name: 'c' }],
  })
})

test('a new item comes before those that were there, and the patch decides the order of its own', () => {
  const before = { merged: [{ name: 'a' }, { name: 'b' }, { name: 'c' }] }
  assert.deepEqual(apply(before, { merged: [{ name: 'x' }] }), { merged: [{ name: 'x' }, ...before.merged] })
  assert.deepEqual(
    apply(before, {
      '$setElementOrder/merged': [{ name: 'c' }, { name: 'x' }, { name: 'a' }],
      merged: [{ name: 'x' }],
    }),
    {
      merged: [{ name: 'b' }, { name: 'c' }, { name: 'x' }, { name: 'a' }],
    },
  )
})

test('directives delete, replace and retain', () => {
  const before = { merged: [{ name: 'a', value: '1' }, { name: 'b' }], union: { name: 'n', value: 'v' } }
  const cases: [JsonValue, JsonValue][] = [
    [{ merged: [{ $patch: 'delete', name: 'a' }] }, { ...before, merged: [{ name: 'b' }] }],
    [{ merged: [{ $patch: 'replace' }, { name: 'z' }] }, { ...before, merged: [{ name: 'z' }] }],
    [
      { merged: [{ $patch: 'merge', name: 'a', value: '2' }] },
      { ...before, merged: [{ name: 'a', value: '2' }, { name: 'b' }] },
    ],
    [{ union: { $patch: 'replace', other: 'o' } }, { ...before, union: { other: 'o' } }],
    [{ union: { $patch: 'delete' } }, { ...before, union: {} }],
    [
      { union: { $retainKeys: ['name', 'other'], other: 'o' } },
      { ...before, union: { name: 'n', other: 'o' } },
    ],
    [{ union: { value: null } }, { ...before, union: { name: 'n' } }],
    [{ union: null }, { merged: before.merged }],
    [{ $patch: 'replace', union: { name: 'only' } }, { union: { name: 'only' } }],
  ]
  for (const [patch, after] of cases) assert.deepEqual(apply(before, patch), after, JSON.stringify(patch))
})

test('lists of plain values merge without duplicates and can lose values', () => {
  const before = { scalars: ['a', 'b', 'c'] }
  assert.deepEqual(apply(before, { scalars: ['c', 'd'] }), { scalars: ['a', 'b', 'c', 'd'] })
  assert.deepEqual(apply(before, { '$deleteFromPrimitiveList/scalars': ['b'] }), { scalars: ['a', 'c'] })
  assert.deepEqual(
    apply(before, {
      '$deleteFromPrimitiveList/scalars': ['b'],
      '$setElementOrder/scalars': ['c', 'x', 'a'],
      scalars: ['x'],
    }),
    {
      scalars: ['c', 'x', 'a'],
    },
  )
})

test('nulls and directives never reach the object', () => {
  assert.deepEqual(
    apply(
      {},
      {
        union: { name: null, value: 'v' },
        merged: [
          { name: 'a', value: null },
          { $patch: 'delete', name: 'z' },
        ],
      },
    ),
    {
      union: { value: 'v' },
      merged: [{ name: 'a' }],
    },
  )
})

test('a field without a schema merges, so that its refusal is found in the result', () => {
  assert.deepEqual(apply({ unknown: { a: 1 } }, { unknown: { b: 2, c: [{ x: 1 }] } }), {
    unknown: { a: 1, b: 2, c: [{ x: 1 }] },
  })
})

test('a patch that makes no sense is a bad request', () => {
  for (const patch of [
    [],
    'x',
    { merged: [{ value: '1' }] },
    { merged: ['a'] },
    { merged: [{ $patch: 'explode', name: 'a' }] },
    { union: { $patch: 1 } },
    { union: { $retainKeys: 'name' } },
    { union: { $retainKeys: ['name'], value: 'v' } },
    { '$setElementOrder/merged': 'x' },
    { scalars: [{}] },
  ] as JsonValue[])
    assert.throws(
      () => apply({ merged: [{ name: 'a' }] }, patch),
      (error) => error instanceof ApiError && error.code === 400,
      JSON.stringify(patch),
    )
})

test('kubectl set image changes one container of a Deployment and keeps the rest', () => {
  const deployment = tenantRegistry.findKind({ group: 'apps', kind: 'Deployment' })
  assert.ok(deployment)
  const pod = (image: string) => ({
    spec: {
      template: {
        spec: {
          containers: [
            { name: 'side', image: 's' },
            { name: 'web', image, ports: [{ containerPort: 80, protocol: 'TCP' }] },
          ],
        },
      },
    },
  })
  const patch = {
    spec: {
      template: {
        spec: {
          '$setElementOrder/containers': [{ name: 'side' }, { name: 'web' }],
          containers: [{ name: 'web', image: 'b' }],
        },
      },
    },
  }
  assert.deepEqual(applyStrategicMergePatch(pod('a'), patch, deployment.schema), pod('b'))
})

test('any patch of any document is applied or refused', () => {
  const key = fc.constantFrom(
    'merged',
    'scalars',
    'atomic',
    'union',
    'name',
    '$patch',
    '$retainKeys',
    '$setElementOrder/merged',
    '$deleteFromPrimitiveList/scalars',
    'constructor',
  )
  const value = fc.letrec<{ any: unknown }>((tie) => ({
    any: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom(null, 'a', 'delete', 'replace', 'merge', 1, true),
      fc.array(tie('any'), { maxLength: 3 }),
      fc.dictionary(key, tie('any'), { maxKeys: 3 }),
    ),
  })).any
  fc.assert(
    fc.property(value, value, (document, patch) => {
      const plain = (v: unknown) => JSON.parse(JSON.stringify(v)) as JsonValue
      try {
        apply(plain(document), plain(patch))
      } catch (error) {
        assert.ok(error instanceof ApiError && error.code === 400, String(error))
      }
    }),
    { numRuns: 500 },
  )
})
