import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { LayerResult } from './layers.ts'
import { judge, prove } from './proof.ts'
import { syntheticWorld } from './synthetic-world.testkit.ts'
import { type LayerName, LAYERS, VECTOR_NAMES, VECTORS } from './vectors.ts'

const seen = (layer: LayerName, holds: boolean): LayerResult => ({ layer, holds, evidence: [''] })

test('layers of one failure domain count once', () => {
  for (const vector of VECTOR_NAMES) {
    const { layers } = VECTORS[vector]
    fc.assert(
      fc.property(fc.subarray([...layers]), (holding) => {
        const report = judge(
          vector,
          layers.map((layer) => seen(layer, holding.includes(layer))),
        )
        assert.equal(report.independent, new Set(holding.map((layer) => LAYERS[layer].domain)).size)
        if (report.independent < 2) assert.notEqual(report.state, 'holds')
      }),
      { numRuns: 30 },
    )
  }
})

test('a vector that should have two layers fails with one, and one that is known to have one fails with none', () => {
  assert.equal(judge('pod network', [seen('router rules', true), seen('link filter', false)]).state, 'fails')
  assert.equal(judge('control-plane saturation', [seen('gateway shares', true)]).state, 'open')
  assert.equal(judge('control-plane saturation', [seen('gateway shares', false)]).state, 'fails')
  assert.equal(
    judge('control-plane saturation', [seen('gateway shares', true), seen('own control plane', false)]).state,
    'fails',
  )
  assert.equal(judge('pids', [seen('tenant limit', true), seen('task limit', true)]).state, 'holds')
  assert.equal(judge('data bus', []).state, 'absent')
  // Without a way outside there must be two layers; where the operator opened one, one is left.
  assert.equal(
    judge('egress', [seen('no path to the machine', false), seen('router rules', true)]).state,
    'fails',
  )
  assert.equal(judge('egress', [seen('router rules', true)]).state, 'open')
  assert.equal(judge('egress', [seen('router rules', true), seen('link filter', false)]).state, 'fails')
  assert.equal(judge('egress', [seen('router rules', true), seen('link filter', true)]).state, 'holds')
})

test('every pair is in exactly one group, with its own layers', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ sandboxed: fc.boolean(), mapsMachine: fc.boolean(), filtered: fc.boolean() }), {
        minLength: 2,
        maxLength: 7,
      }),
      (kinds) => {
        const world = syntheticWorld(kinds)
        const told = new Map<string, string>()
        for (const { attackers, victims, pairs, vectors } of prove(world)) {
          const own = attackers.flatMap((attacker) =>
            victims.filter((victim) => victim !== attacker).map((victim) => `${attacker} ${victim}`),
          )
          assert.equal(own.length, pairs)
          for (const pair of own) {
            assert.ok(!told.has(pair), `${pair} is told twice`)
            told.set(pair, vectors.find(({ vector }) => vector === 'kernel')?.state ?? '')
          }
        }
        assert.equal(told.size, kinds.length * (kinds.length - 1))
        kinds.forEach(({ sandboxed, mapsMachine }, at) => {
          for (const [pair, state] of told)
            if (pair.startsWith(`t${at} `))
              assert.equal(state, mapsMachine && !sandboxed ? 'fails' : 'holds', pair)
        })
      },
    ),
    { numRuns: 100 },
  )
})

test('a tenant whose ids another tenant maps too fails against that one only', () => {
  const world = syntheticWorld([{}, {}, {}, { idsOf: 0 }])
  const failing = prove(world).filter(({ vectors }) =>
    vectors.some(({ vector, state }) => vector === 'kernel' && state === 'fails'),
  )
  const pairs = failing.flatMap(({ attackers, victims }) =>
    attackers.flatMap((a) => victims.filter((v) => v !== a).map((v) => `${a} ${v}`)),
  )
  assert.deepEqual(pairs.sort(), ['t0 t3', 't3 t0'])
})
