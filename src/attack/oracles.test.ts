import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { rankTest } from './catalogue/oracles.ts'

const times = fc.array(fc.double({ min: 0, max: 1_000, noNaN: true }), { minLength: 20, maxLength: 60 })

test('two samples that are shifted against each other differ, and the sign says which is larger', () => {
  fc.assert(
    fc.property(times, (sample) => {
      const later = sample.map((value) => value + 2_000)
      assert.ok(rankTest(later, sample) > 5)
      assert.ok(rankTest(sample, later) < -5)
    }),
  )
})

test('the order within a sample does not matter, and exchanging distinct samples changes only the sign', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer(), { minLength: 40, maxLength: 40 }), (values) => {
      const [a, b] = [values.slice(0, 20), values.slice(20)]
      assert.ok(Math.abs(rankTest(a, b) + rankTest(b, a)) < 1e-9)
      assert.equal(rankTest(a.toReversed(), b), rankTest(a, b))
    }),
  )
})

test('samples of the same values do not differ', () => {
  const values = Array.from({ length: 150 }, (_, i) => i)
  const shuffled = values.map((value) => value + 0.5)
  assert.ok(Math.abs(rankTest(values, shuffled)) < 1)
})
