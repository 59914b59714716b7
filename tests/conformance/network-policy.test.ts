import assert from 'node:assert/strict'
import { test } from 'node:test'
import { flowAllowed } from '../../src/policy/index.ts'
import { tableOf, truthTables, UNREADABLE_STEPS, worldOf } from '../testkit/network-policy-tables.ts'

test('there are 230 sets of policies with 256 steps, of which one cannot be read', () => {
  assert.equal(truthTables.length, 230)
  assert.equal(truthTables.flatMap(({ steps }) => steps).length, 256)
  assert.equal(UNREADABLE_STEPS.length, 1)
})

for (const { case: name, steps } of truthTables)
  test(`the evaluator agrees with the table: ${name}`, () => {
    for (const step of steps) {
      if (UNREADABLE_STEPS.includes(`${name} ${step.step}`)) continue
      const world = worldOf(name, step)
      const seen = tableOf(world, (from, to, port) => {
        const [sender, receiver] = [world.ends.get(from), world.ends.get(to)]
        assert.ok(sender && receiver)
        return flowAllowed(world.rules, { from: sender, to: receiver, ...port })
      })
      assert.deepEqual(seen, step.expected, `step ${step.step}`)
    }
  })
