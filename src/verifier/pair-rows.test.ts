import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { numbersIn } from './bits.ts'
import { observerOf, type Row } from './observers.ts'
import { Ruleset } from './posture/ruleset.ts'
import { prove } from './proof.ts'
import { type SyntheticTenant, syntheticWorld } from './synthetic-world.testkit.ts'
import { VECTOR_NAMES, VECTORS } from './vectors.ts'
import { type ApiProbes, probeAll } from './verify.ts'

const PAIR_OBSERVERS = VECTOR_NAMES.flatMap((vector) =>
  VECTORS[vector].layers.map((layer) => ({ vector, layer, observer: observerOf(vector, layer) })),
).filter(({ observer }) => observer.of === 'pair')

const kind: fc.Arbitrary<SyntheticTenant> = fc.record(
  {
    sandboxed: fc.boolean(),
    mapsMachine: fc.boolean(),
    filtered: fc.boolean(),
    idsOf: fc.nat(5),
    markOf: fc.nat(5),
    addressSeenAs: fc.nat(5),
    controlPlaneOf: fc.nat(5),
    namespacesOf: fc.nat(5),
  },
  { requiredKeys: [] },
)

test('all pairs at once get the answers that each pair gets', () => {
  fc.assert(
    fc.property(fc.array(kind, { minLength: 2, maxLength: 6 }), fc.boolean(), (kinds, uplink) => {
      const world = syntheticWorld(kinds, { uplink })
      for (const { vector, layer, observer } of PAIR_OBSERVERS) {
        const row = observer.rows?.(world)
        assert.ok(row, `${layer} of ${vector} is looked at pair by pair`)
        for (const attacker of world.tenants) {
          const { holds, unpromised = 0n }: Row = row(attacker)
          for (const [at, victim] of world.tenants.entries()) {
            if (victim === attacker) continue
            const seen = observer.look(world, attacker, victim)?.holds
            const told: boolean | undefined =
              (unpromised >> BigInt(at)) & 1n ? undefined : ((holds >> BigInt(at)) & 1n) === 1n
            assert.equal(told, seen, `${layer} of ${vector} from ${attacker.name} to ${victim.name}`)
          }
        }
      }
    }),
    { numRuns: 150 },
  )
})

test('half a million pairs take work for each tenant and not for each pair', (t) => {
  const count = 708
  const world = syntheticWorld(Array.from({ length: count }, (_, at) => ({ sandboxed: at % 3 === 0 })))
  const single = t.mock.method(Ruleset.prototype, 'evaluate')
  const many = t.mock.method(Ruleset.prototype, 'dropped')
  const asked = t.mock.method(world.probed, 'gatewayBinding')
  const groups = prove(world)
  const pairs = groups.reduce((sum, group) => sum + group.pairs, 0)
  assert.equal(pairs, count * (count - 1))
  assert.ok(pairs > 500_000)
  assert.ok(many.mock.callCount() <= 10 * count, `${many.mock.callCount()} questions to the rules at once`)
  // Those are of single tenants, and of the examples that explain the groups.
  assert.ok(single.mock.callCount() <= 100 * count, `${single.mock.callCount()} single packets`)
  assert.ok(asked.mock.callCount() <= groups.length)
})

test('what the API answered counts for all pairs as it does for each', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 2, max: 16 }),
      fc.array(fc.tuple(fc.nat(15), fc.nat(15)), { maxLength: 6 }),
      fc.array(fc.array(fc.nat(6), { maxLength: 2 }), { minLength: 16, maxLength: 16 }),
      async (count, bad, keys) => {
        const names = Array.from({ length: count }, (_, at) => `t${at}`)
        const good = (layer: 'gateway shares') => ({ layer, holds: true, evidence: [] })
        const pair = (a: string, v: string) => ({
          ...good('gateway shares'),
          holds: !bad.some(([x, y]) => a === `t${x}` && v === `t${y}`),
        })
        const probes: ApiProbes = {
          gatewayBinding: async (a, v) => pair(a, v),
          controlPlane: async (a, v) => pair(a.name, v.name),
          gatewayShares: async () => good('gateway shares'),
          gatewayBounds: async () => good('gateway shares'),
          controlPlaneBounds: async () => good('gateway shares'),
          signingKeys: async (tenant) => {
            const own = keys[Number((typeof tenant === 'string' ? tenant : '').slice(1))] ?? []
            return own.length === 0 ? { problem: 'none' } : own.map(String)
          },
        }
        const probed = await probeAll(
          names.map((name) => ({ name, uid: name })),
          probes,
          { restMs: 0 },
        )
        const everybody = names.map((name) => ({ name, isolationClass: '', processes: [], links: [] }))
        for (const which of ['gatewayBinding', 'controlPlane', 'signingKeys'] as const)
          for (const attacker of everybody) {
            const told = new Set(numbersIn(probed.rows[which](attacker).holds))
            for (const [at, victim] of everybody.entries())
              if (victim !== attacker)
                assert.equal(
                  told.has(at),
                  probed[which](attacker.name, victim.name).holds,
                  `${which} ${attacker.name} ${victim.name}`,
                )
          }
      },
    ),
    { numRuns: 60 },
  )
})
