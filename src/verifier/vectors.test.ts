import assert from 'node:assert/strict'
import { test } from 'node:test'
import { STANDARDS } from './standards.ts'
import { LAYERS, LAYERS_REQUIRED, parseVector, VECTOR_NAMES, VECTORS } from './vectors.ts'

test('every vector can have enough independent layers, or says why it has not', () => {
  for (const vector of VECTOR_NAMES) {
    const { layers, open, absent } = VECTORS[vector]
    const domains = new Set(layers.map((layer) => LAYERS[layer].domain))
    assert.ok(
      domains.size >= LAYERS_REQUIRED || open !== undefined || absent !== undefined,
      `${vector} has the failure domains ${[...domains].join(', ')}`,
    )
  }
})

test('every layer and every standard is of some vector', () => {
  const all = VECTOR_NAMES.map((vector) => VECTORS[vector])
  const layers = new Set(all.flatMap((vector) => vector.layers))
  const standards = new Set(all.flatMap((vector) => vector.standards))
  assert.deepEqual(
    Object.keys(LAYERS).filter((layer) => !(layers as Set<string>).has(layer)),
    [],
  )
  assert.deepEqual(
    Object.keys(STANDARDS).filter((id) => !(standards as Set<string>).has(id)),
    [],
  )
})

test('a vector is found as people write it', () => {
  assert.equal(parseVector('Pod-Network'), 'pod network')
  assert.equal(parseVector('control plane_saturation'), 'control-plane saturation')
  assert.equal(parseVector('dns'), 'DNS')
  for (const nothing of ['', 'podnetwork', '__proto__', 'kernel '.repeat(100)])
    assert.equal(parseVector(nothing), undefined, nothing)
})
