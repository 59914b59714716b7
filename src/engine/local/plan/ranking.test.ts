import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseTenantName } from '../../../api/index.ts'
import type { JailId, TenantRank } from '../../../jail/index.ts'
import { planReclaim, type Standing } from './ranking.ts'
import { addLoad, type Load, NO_LOAD, planShortage } from './room.ts'

const load = (cpuMillis: number, memoryBytes = 0): Load => ({ cpuMillis, memoryBytes, pods: 1 })
const standing = (
  name: string,
  rank: TenantRank,
  pods: readonly (Partial<Load> & { priority?: number; sinceMs?: number })[],
): Standing => {
  const placed = pods.map(({ priority = 0, sinceMs = 0, ...wanted }, at) => ({
    id: `${name}-${at}` as JailId,
    load: { ...NO_LOAD, pods: 1, ...wanted },
    priority,
    sinceMs,
  }))
  return {
    tenant: parseTenantName(name),
    rank,
    used: placed.reduce((sum, pod) => addLoad(sum, pod.load), NO_LOAD),
    pods: placed,
  }
}
const mine = (rank: TenantRank, used = NO_LOAD) => ({ rank, used })
const ROOM: Load = { cpuMillis: 1_000, memoryBytes: 1_000, pods: 20 }
const going = (...args: Parameters<typeof planReclaim>) => planReclaim(...args)?.map(({ pod }) => pod.id)

test('nobody goes for a tenant of the same rank or a lower one', () => {
  const full = [standing('blue', { priority: 5 }, [{ cpuMillis: 1_000 }])]
  assert.deepEqual(going(load(100), mine({ priority: 5 }), full, ROOM), undefined)
  assert.deepEqual(going(load(100), mine({ priority: 4 }), full, ROOM), undefined)
  assert.deepEqual(going(load(100), mine({ priority: 6 }), full, ROOM), ['blue-0'])
})

test('the lowest tenant is asked first, of it the least important and youngest pods, and no more than needed', () => {
  const others = [
    standing('green', { priority: 1 }, [{ cpuMillis: 300, priority: -10 }]),
    standing('blue', {}, [
      { cpuMillis: 300, priority: 2_000_000, sinceMs: 1 },
      { cpuMillis: 100, sinceMs: 1 },
      { cpuMillis: 300, sinceMs: 0 },
    ]),
  ]
  // The youngest would be 100, which the next one makes unnecessary.
  assert.deepEqual(going(load(300), mine({ priority: 9 }), others, ROOM), ['blue-2'])
  assert.deepEqual(going(load(400), mine({ priority: 9 }), others, ROOM), ['blue-1', 'blue-2'])
  assert.deepEqual(going(load(750), mine({ priority: 9 }), others, ROOM), ['blue-2', 'blue-0', 'green-0'])
  assert.deepEqual(going(load(1_001), mine({ priority: 9 }), others, ROOM), undefined, 'then nobody goes')
})

test('who comes for its guarantee gets what others borrowed, whatever their rank', () => {
  const rank = { guaranteed: { cpuMillis: 400 } }
  const others = [standing('blue', { priority: 1_000 }, [{ cpuMillis: 500 }, { cpuMillis: 500, sinceMs: 9 }])]
  assert.deepEqual(going(load(400), mine(rank), others, ROOM), ['blue-1'])
  assert.deepEqual(
    going(load(400), mine(rank, load(100)), others, ROOM),
    undefined,
    'that is more than its guarantee',
  )
})

const pods = fc.array(
  fc.record({ cpuMillis: fc.nat(400), memoryBytes: fc.nat(400), priority: fc.integer(), sinceMs: fc.nat() }),
  { maxLength: 6 },
)
const rank = fc.record({
  priority: fc.nat(3),
  guaranteed: fc.record({ cpuMillis: fc.nat(600), memoryBytes: fc.nat(600) }),
})

test('whoever goes was not guaranteed what goes, and what is left is enough', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(rank, pods), { minLength: 1, maxLength: 4 }),
      rank,
      fc.nat(500),
      fc.nat(500),
      (tenants, own, cpuMillis, memoryBytes) => {
        const others = tenants.map(([theirs, each], at) => standing(`t${at}`, theirs, each))
        const wanted = load(cpuMillis, memoryBytes)
        const victims = planReclaim(wanted, mine(own), others, ROOM)
        if (!victims) return
        const freed = victims.reduce((sum, { pod }) => addLoad(sum, pod.load), NO_LOAD)
        const total = others.reduce((sum, { used }) => addLoad(sum, used), NO_LOAD)
        const left = {
          cpuMillis: total.cpuMillis - freed.cpuMillis,
          memoryBytes: total.memoryBytes - freed.memoryBytes,
          pods: total.pods - freed.pods,
        }
        assert.deepEqual(planShortage(wanted, left, ROOM), [])
        for (const { tenant } of victims) {
          const owner = others.find((other) => other.tenant === tenant)
          assert.ok(owner)
          const { guaranteed = {} } = owner.rank
          const gone = victims.filter((v) => v.tenant === tenant).map(({ pod }) => pod)
          const beyond = (resource: 'cpuMillis' | 'memoryBytes') =>
            owner.used[resource] > (guaranteed[resource] ?? 0) ||
            gone.every((pod) => pod.load[resource] === 0)
          assert.ok(beyond('cpuMillis') || beyond('memoryBytes'))
          const returning = cpuMillis <= own.guaranteed.cpuMillis && memoryBytes <= own.guaranteed.memoryBytes
          assert.ok(returning || (owner.rank.priority ?? 0) < own.priority)
        }
        for (const victim of victims) {
          const without = victims.filter((each) => each !== victim)
          const less = without.reduce((sum, { pod }) => addLoad(sum, pod.load), NO_LOAD)
          const rest = {
            cpuMillis: total.cpuMillis - less.cpuMillis,
            memoryBytes: total.memoryBytes - less.memoryBytes,
            pods: total.pods - less.pods,
          }
          assert.notDeepEqual(planShortage(wanted, rest, ROOM), [], 'everybody who goes is needed')
        }
      },
    ),
    { numRuns: 500 },
  )
})
