import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { JsonValue } from '../../api/index.ts'
import { applyMergePatch } from './merge-patch.ts'

test('the examples of RFC 7386 hold', () => {
  const examples: [JsonValue, JsonValue, JsonValue][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ a: 'b' }, ['c'], ['c']],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ]
  for (const [document, patch, result] of examples) assert.deepEqual(applyMergePatch(document, patch), result)
})

test('a key that every object inherits is an ordinary key', () => {
  assert.deepEqual(applyMergePatch({ a: 1 }, { constructor: { name: 'x' } }), {
    a: 1,
    constructor: { name: 'x' },
  })
})

/** Documents as the wire lets them in: it refuses the key `__proto__` wherever it stands. */
const document = fc.jsonValue().filter((value) => !JSON.stringify(value).includes('__proto__'))

test('merging twice is merging once, and the document stays as it was', () => {
  fc.assert(
    fc.property(document, document, (document, patch) => {
      const before = JSON.stringify(document)
      const once = applyMergePatch(document as JsonValue, patch as JsonValue)
      assert.deepEqual(applyMergePatch(once, patch as JsonValue), once)
      assert.equal(JSON.stringify(document), before)
    }),
  )
})
