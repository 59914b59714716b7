import assert from 'node:assert/strict'
import { test } from 'node:test'
import { confinedControlPlaneLayer, ownControlPlaneLayer } from './platform-layers.ts'
import { syntheticWorld } from './synthetic-world.testkit.ts'

test('a control plane that sleeps is judged by whose partition it is, and one that is merely gone is not', () => {
  const { tenants, machine } = syntheticWorld([{ sandboxed: true }, { sandboxed: true }])
  const [first, second] = tenants
  assert.ok(first?.controlPlane && second?.controlPlane)
  assert.equal(ownControlPlaneLayer(first, second).holds, true)
  const gone = { ...second, controlPlane: undefined }
  const sleeper = { ...gone, asleep: { uid: second.controlPlane.process.uid } }
  const sameUser = { ...gone, asleep: { uid: first.controlPlane.process.uid } }
  for (const [victim, holds] of [
    [gone, false],
    [sleeper, true],
    [sameUser, false],
  ] as const) {
    assert.equal(ownControlPlaneLayer(first, victim).holds, holds)
    assert.equal(ownControlPlaneLayer(victim, first).holds, holds)
  }
  assert.equal(confinedControlPlaneLayer(gone, machine).holds, false)
  assert.deepEqual(confinedControlPlaneLayer(sleeper, machine), {
    layer: 'confined control plane',
    holds: true,
    evidence: [`the control plane of ${second.name} sleeps: there is no process`],
  })
})
