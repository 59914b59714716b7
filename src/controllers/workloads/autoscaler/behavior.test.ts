import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { HorizontalPodAutoscaler } from '../../kinds.ts'
import { type Memory, planBehavior } from './behavior.ts'

type Behavior = HorizontalPodAutoscaler['spec']['behavior']

function autoscaler(behavior?: Behavior, minReplicas = 1, maxReplicas = 100): HorizontalPodAutoscaler {
  return {
    spec: { minReplicas, maxReplicas, ...(behavior ? { behavior } : {}) },
  } as HorizontalPodAutoscaler
}
const fresh = (): Memory => ({ recommendations: [], changes: [] })

test('without words about it, pods double or grow by four, and shrink only after five minutes', () => {
  const up = planBehavior(autoscaler(), { current: 3, wanted: 50, memory: fresh(), nowMs: 0 })
  assert.equal(up.replicas, 7)
  assert.equal(up.limited.reason, 'ScaleUpLimit')
  const memory = fresh()
  const shrink = (nowMs: number) => planBehavior(autoscaler(), { current: 10, wanted: 2, memory, nowMs })
  assert.deepEqual([shrink(0).replicas, shrink(0).able.reason], [10, 'ScaleDownStabilized'])
  assert.equal(shrink(299_000).replicas, 10)
  assert.equal(shrink(300_000).replicas, 2)
})

test('the bounds of the autoscaler are the last word, and it is said which one', () => {
  const over = planBehavior(autoscaler(undefined, 2, 5), {
    current: 4,
    wanted: 50,
    memory: fresh(),
    nowMs: 0,
  })
  assert.deepEqual([over.replicas, over.limited.reason], [5, 'TooManyReplicas'])
  const at = { current: 4, wanted: 0, memory: fresh(), nowMs: 0 }
  const under = planBehavior(autoscaler({ scaleDown: { stabilizationWindowSeconds: 0 } }, 2, 5), at)
  assert.deepEqual([under.replicas, under.limited.reason], [2, 'TooFewReplicas'])
})

test('policies bound the change of a period, of which earlier changes are a part', () => {
  const policies = [
    { type: 'Pods', value: 2, periodSeconds: 60 },
    { type: 'Percent', value: 50, periodSeconds: 60 },
  ]
  const memory: Memory = { recommendations: [], changes: [{ atMs: 30_000, by: 1 }] }
  const up = (selectPolicy: string, nowMs: number) =>
    planBehavior(autoscaler({ scaleUp: { policies, selectPolicy } }), {
      current: 11,
      wanted: 50,
      memory: structuredClone(memory),
      nowMs,
    }).replicas
  assert.equal(up('Max', 60_000), 15)
  assert.equal(up('Min', 60_000), 12)
  assert.equal(up('Min', 90_001), 13, 'what was long ago does not count')
  assert.equal(up('Disabled', 60_000), 11)
  const down = (selectPolicy: string) =>
    planBehavior(autoscaler({ scaleDown: { policies, selectPolicy, stabilizationWindowSeconds: 0 } }), {
      current: 10,
      wanted: 1,
      memory: fresh(),
      nowMs: 0,
    }).replicas
  assert.deepEqual([down('Max'), down('Min'), down('Disabled')], [5, 8, 10])
})

test('a number is never beyond the bounds, and never goes against what was asked for', () => {
  const rules = fc.record(
    {
      stabilizationWindowSeconds: fc.nat(3_600),
      selectPolicy: fc.constantFrom('Max', 'Min', 'Disabled'),
      policies: fc.array(
        fc.record({
          type: fc.constantFrom('Pods', 'Percent'),
          value: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
          periodSeconds: fc.integer({ min: 1, max: 1_800 }),
        }),
        { minLength: 1, maxLength: 3 },
      ),
    },
    { requiredKeys: [] },
  )
  const behavior = fc.record({ scaleUp: rules, scaleDown: rules }, { requiredKeys: [] })
  const steps = fc.array(fc.tuple(fc.nat(40), fc.nat(600_000)), { minLength: 1, maxLength: 20 })
  fc.assert(
    fc.property(behavior, steps, (how, wanted) => {
      const memory = fresh()
      let current = 5
      let nowMs = 0
      for (const [each, laterMs] of wanted) {
        nowMs += laterMs
        const { replicas } = planBehavior(autoscaler(how, 1, 20), { current, wanted: each, memory, nowMs })
        assert.ok(replicas >= 1 && replicas <= 20)
        if (replicas !== current) memory.changes.push({ atMs: nowMs, by: replicas - current })
        current = replicas
      }
      assert.ok(memory.changes.length <= 21 && memory.recommendations.length <= 22)
    }),
  )
})
