import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { deployment } from '../../controllers.testkit.ts'
import {
  planNewReplicas,
  planOldReplicas,
  planProportions,
  type RollingBounds,
  rollingBounds,
  scaledValue,
  type Shard,
} from './rolling-update.ts'

test('percentages round up for surge and down for unavailability', () => {
  assert.equal(scaledValue('25%', 10, 'up'), 3)
  assert.equal(scaledValue('25%', 10, 'down'), 2)
  assert.equal(scaledValue('100%', 3, 'up'), 3)
  assert.equal(scaledValue(4, 3, 'up'), 4)
  assert.equal(scaledValue('4', 3, 'up'), 4)
  assert.equal(scaledValue('no', 3, 'up'), 0)
  assert.equal(scaledValue(undefined, 3, 'up'), 0)
})

test('the bounds are those of upstream', () => {
  const bounds = (replicas: number, maxSurge?: number | string, maxUnavailable?: number | string) => {
    const rollingUpdate = {
      ...(maxSurge === undefined ? {} : { maxSurge }),
      ...(maxUnavailable === undefined ? {} : { maxUnavailable }),
    }
    const found = rollingBounds(
      deployment('web', { replicas, strategy: { type: 'RollingUpdate', rollingUpdate } }),
    )
    return [found.maxSurge, found.maxUnavailable]
  }
  assert.deepEqual(bounds(10), [3, 2])
  assert.deepEqual(bounds(1), [1, 0])
  assert.deepEqual(bounds(1, 0, '25%'), [0, 1], 'both zero would never move')
  assert.deepEqual(bounds(3, 0, 0), [0, 1])
  assert.deepEqual(bounds(3, 1, 0), [1, 0])
  assert.deepEqual(bounds(3, 0, 10), [0, 3], 'no more than all can be missing')
  assert.deepEqual(bounds(0, '25%', '25%'), [0, 0])
})

const rollout = fc
  .record({
    replicas: fc.integer({ min: 0, max: 20 }),
    maxSurge: fc.integer({ min: 0, max: 10 }),
    maxUnavailable: fc.integer({ min: 0, max: 10 }),
    old: fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 3 }),
    choices: fc.infiniteStream(fc.integer({ min: 0, max: 99 })),
  })
  .map((input) => {
    const maxUnavailable = input.maxSurge + input.maxUnavailable === 0 ? 1 : input.maxUnavailable
    const bounds = { ...input, maxUnavailable: Math.min(maxUnavailable, input.replicas) }
    return { ...input, bounds }
  })

test('a rolling update never has more pods than maxSurge allows, never fewer available than maxUnavailable allows, and ends', () => {
  fc.assert(
    fc.property(rollout, ({ bounds, old: sizes, choices }) => {
      // It begins in order: no more pods than allowed, and all of them available.
      let budget = bounds.replicas + bounds.maxSurge
      const old: Shard[] = sizes.map((size) => {
        const replicas = Math.min(size, budget)
        budget -= replicas
        return { replicas, available: replicas }
      })
      const fresh: Shard = { replicas: 0, available: 0 }
      const total = () => [fresh, ...old].reduce((sum, s) => sum + s.replicas, 0)
      const available = () => [fresh, ...old].reduce((sum, s) => sum + s.available, 0)
      const least = Math.min(bounds.replicas - bounds.maxUnavailable, available())

      for (let round = 0; round < 400; round += 1) {
        const before = total()
        const replicas = planNewReplicas(fresh, old, bounds)
        if (replicas === fresh.replicas)
          planOldReplicas(fresh, old, bounds).forEach((keep, index) => {
            const shard = old[index]
            if (!shard) return
            assert.ok(keep >= 0 && keep <= shard.replicas)
            shard.replicas = keep
            // The pods that do not work are deleted first, as the ReplicaSet does.
            shard.available = Math.min(shard.available, keep)
          })
        else fresh.replicas = replicas
        assert.ok(total() <= Math.max(before, bounds.replicas + bounds.maxSurge), 'maxSurge')
        assert.ok(available() >= least, `maxUnavailable: ${available()} of ${least}`)
        assert.ok(fresh.replicas <= bounds.replicas)

        // Something happens in the world: a new pod becomes available.
        const choice = choices.next().value ?? 0
        if (choice < 60 && fresh.available < fresh.replicas) fresh.available += 1
        if (fresh.replicas === bounds.replicas && old.every((s) => s.replicas === 0)) return
      }
      assert.fail(`it did not end: ${JSON.stringify({ bounds, fresh, old })}`)
    }),
    { numRuns: 500 },
  )
})

test('old pods that do not work go before any that does', () => {
  const bounds: RollingBounds = { replicas: 4, maxSurge: 1, maxUnavailable: 1 }
  const old = [
    { replicas: 2, available: 2 },
    { replicas: 2, available: 0 },
  ]
  assert.deepEqual(planOldReplicas({ replicas: 1, available: 1 }, old, bounds), [2, 0])
})

test('a resize in the middle of a rollout is spread in proportion and adds up exactly', () => {
  const bounds: RollingBounds = { replicas: 15, maxSurge: 3, maxUnavailable: 2 }
  // From the documentation: 10 replicas with maxSurge 3, of which 8 are old and 5 new, become 15.
  assert.deepEqual(
    planProportions(
      [
        { replicas: 8, maxReplicas: 13 },
        { replicas: 5, maxReplicas: 13 },
      ],
      bounds,
    ),
    [11, 7],
  )
  const shards = fc.array(
    fc.record({ replicas: fc.integer({ min: 1, max: 50 }), maxReplicas: fc.integer({ min: 0, max: 80 }) }),
    { minLength: 2, maxLength: 5 },
  )
  const size = fc.record({
    replicas: fc.integer({ min: 1, max: 80 }),
    maxSurge: fc.integer({ min: 0, max: 20 }),
  })
  fc.assert(
    fc.property(shards, size, (given, { replicas, maxSurge }) => {
      const ordered = given.toSorted((a, b) => b.replicas - a.replicas)
      const sizes = planProportions(ordered, { replicas, maxSurge, maxUnavailable: 0 })
      assert.ok(sizes.every((s) => s >= 0))
      const before = ordered.reduce((sum, s) => sum + s.replicas, 0)
      const after = sizes.reduce((sum, s) => sum + s, 0)
      // Growing lands exactly on what is allowed; shrinking may need another round when the first has too few to give.
      if (before <= replicas + maxSurge) assert.equal(after, replicas + maxSurge)
      else assert.ok(after <= before && after >= replicas + maxSurge)
    }),
  )
  assert.deepEqual(
    planProportions(
      [
        { replicas: 8, maxReplicas: 13 },
        { replicas: 5, maxReplicas: 13 },
      ],
      { replicas: 0, maxSurge: 3, maxUnavailable: 0 },
    ),
    [0, 0],
  )
})
