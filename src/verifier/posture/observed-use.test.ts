import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { TenantPosture } from '../layers.ts'
import { watchedUseLayer } from '../platform-layers.ts'
import { syntheticWorld } from '../synthetic-world.testkit.ts'
import { parseObservedUses } from './observed-use.ts'

const entry = {
  tenant: 't0',
  cpus: 0.5,
  memoryBytes: 1_000,
  tasks: 3,
  limits: { memoryBytes: 1e9, tasks: 500 },
}
const text = (tenants: unknown, at: unknown = '2026-11-21T12:00:00.000Z') => JSON.stringify({ at, tenants })

test('what the node agent says is read, and what it does not say is not made up', () => {
  assert.deepEqual(parseObservedUses(text([entry]))?.tenants.get('t0'), {
    ...{ cpus: 0.5, memoryBytes: 1_000, tasks: 3, yields: false },
    limits: { memoryBytes: 1e9, tasks: 500 },
  })
  for (const odd of ['', '{', '[]', text([], 'never'), text({}), text(null)])
    assert.equal(parseObservedUses(odd), undefined, odd)
  for (const odd of [
    { ...entry, tasks: 'many' },
    { ...entry, limits: {} },
    { ...entry, memoryBytes: -1 },
    null,
    7,
  ])
    assert.equal(parseObservedUses(text([odd]))?.tenants.size, 0, JSON.stringify(odd))
  fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (any) => void parseObservedUses(any)))
})

test('a watch that is old, blind for a tenant, or sees something else than there is, is none', () => {
  const { tenants, machine } = syntheticWorld([{}, {}])
  const [red] = tenants as [TenantPosture]
  const [own] = red.processes
  assert.ok(own)
  const seen = (tasks: number, ageMs = 5_000, name = red.name) =>
    watchedUseLayer(
      { ...red, processes: Array.from({ length: 1_000 }, () => own) },
      {
        ...machine,
        observedAtMs: ageMs,
        observedUses: {
          atMs: 0,
          tenants: new Map([
            [
              name,
              { ...entry, limits: { memoryBytes: 1e9, tasks: 5_000 }, memoryBytes: 0, tasks, yields: false },
            ],
          ]),
        },
      },
    ).holds
  assert.equal(seen(1_000), true)
  assert.equal(seen(0), false)
  assert.equal(seen(10_000), false)
  assert.equal(seen(1_000, 120_000), false)
  assert.equal(seen(1_000, Number.NaN), false)
  assert.equal(seen(1_000, 5_000, 'somebody'), false)
  assert.equal(watchedUseLayer(red, { ...machine, observedUses: undefined }).holds, false)
  const none = { ...machine, observedAtMs: 5_000, observedUses: { atMs: 0, tenants: new Map() } }
  const aged = (ageMs: number) => ({ ...red, processes: [{ ...own, ageMs }] })
  assert.equal(watchedUseLayer(aged(4_000), none).holds, true, 'it started after the last look')
  assert.equal(watchedUseLayer(aged(6_000), none).holds, false)
  assert.equal(watchedUseLayer(aged(4_000), { ...none, observedAtMs: 120_000 }).holds, false)
})
