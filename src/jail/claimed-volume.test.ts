import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError, parseTenantName } from '../api/index.ts'
import { parseClaimedVolume } from './claimed-volume.ts'
import { parseJail } from './parse-jail.ts'

const ID = '0b5b7c1e-6d0f-4c39-9d1e-2f8f6f3c9a10'

test('a volume is an id and a size, and nothing else', () => {
  assert.deepEqual(parseClaimedVolume({ id: ID, sizeBytes: 1 }), { id: ID, sizeBytes: 1 })
  for (const odd of [
    { id: `../../${ID}`, sizeBytes: 1 },
    { id: ID.toUpperCase(), sizeBytes: 1 },
    { id: `${ID}\n`, sizeBytes: 1 },
    { id: `${ID}.new`, sizeBytes: 1 },
    { id: ID, sizeBytes: 0 },
    { id: ID, sizeBytes: 1.5 },
    { id: ID, sizeBytes: 2 ** 51 },
    { id: ID, sizeBytes: '1' },
    { id: ID, sizeBytes: 1, path: '/etc' },
    { id: ID, sizeBytes: 1, tenant: 'blue' },
    { id: ID },
  ])
    assert.throws(() => parseClaimedVolume(odd), ApiError, JSON.stringify(odd))
})

test('whatever comes, a volume or a refusal is the answer', () => {
  const field = fc.oneof(fc.constantFrom('id', 'sizeBytes', 'constructor'), fc.string())
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), fc.dictionary(field, fc.jsonValue())), (value) => {
      try {
        const volume = parseClaimedVolume(value)
        assert.deepEqual(Object.keys(volume), ['id', 'sizeBytes'])
      } catch (error) {
        assert.ok(error instanceof ApiError && error.code === 422, String(error))
      }
    }),
  )
})

test('a jail names a claim by its id only', () => {
  const volumes = (volume: object) => {
    try {
      parseJail({ volumes: [volume] }, { tenant: parseTenantName('red') })
      return []
    } catch (error) {
      assert.ok(error instanceof ApiError)
      return (error.details?.causes ?? []).flatMap(({ field = '' }) =>
        field.startsWith('volumes') ? [field] : [],
      )
    }
  }
  const good = { name: 'data', kind: 'claim', claim: ID, readOnly: false }
  assert.deepEqual(volumes(good), [])
  assert.deepEqual(volumes({ ...good, claim: '/dev/sda' }), ['volumes[0].claim'])
  assert.deepEqual(volumes({ ...good, claim: `../blue/${ID}` }), ['volumes[0].claim'])
  assert.deepEqual(volumes({ ...good, path: '/' }), ['volumes[0].path'])
  assert.deepEqual(volumes({ ...good, tenant: 'blue' }), ['volumes[0].tenant'])
})
