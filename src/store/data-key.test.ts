import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseTenantName } from '../api/index.ts'
import { createDataKey, KEY_BYTES, KeyUnwrapError, unwrapKey, wrapKey } from './data-key.ts'

const red = parseTenantName('red')
const kek = createDataKey()

test('a wrapped data key comes back', () => {
  const dataKey = createDataKey()
  assert.deepEqual(unwrapKey({ kek, wrapped: wrapKey({ kek, dataKey, tenant: red }), tenant: red }), dataKey)
})

test('a wrapped data key shows nothing of itself and differs each time', () => {
  const dataKey = createDataKey()
  const wrapped = wrapKey({ kek, dataKey, tenant: red })
  assert.equal(Buffer.from(wrapped).indexOf(dataKey), -1)
  assert.notDeepEqual(wrapped, wrapKey({ kek, dataKey, tenant: red }))
})

test('a data key of another tenant or under another key is refused', () => {
  const wrapped = wrapKey({ kek, dataKey: createDataKey(), tenant: red })
  assert.throws(() => unwrapKey({ kek, wrapped, tenant: parseTenantName('blue') }), KeyUnwrapError)
  assert.throws(() => unwrapKey({ kek: createDataKey(), wrapped, tenant: red }), KeyUnwrapError)
})

test('any changed byte is refused', () => {
  const wrapped = wrapKey({ kek, dataKey: createDataKey(), tenant: red })
  fc.assert(
    fc.property(fc.nat(wrapped.length - 1), fc.integer({ min: 1, max: 255 }), (at, by) => {
      const changed = Uint8Array.from(wrapped)
      changed[at]! ^= by
      assert.throws(() => unwrapKey({ kek, wrapped: changed, tenant: red }), KeyUnwrapError)
    }),
  )
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 128 }), (bytes) => {
      assert.throws(() => unwrapKey({ kek, wrapped: bytes, tenant: red }), KeyUnwrapError)
    }),
  )
})

test('keys of a wrong size are refused', () => {
  const short = new Uint8Array(KEY_BYTES - 1)
  assert.throws(() => wrapKey({ kek, dataKey: short, tenant: red }), TypeError)
  assert.throws(() => wrapKey({ kek: short, dataKey: createDataKey(), tenant: red }), TypeError)
})
