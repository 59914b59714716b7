import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  type FieldSet,
  FieldSetBuilder,
  difference,
  insertPath,
  intersection,
  isEmpty,
  parseFieldSet,
  pathsOf,
  renderFieldSet,
  renderPath,
  union,
} from './field-set.ts'

function setOf(paths: readonly (readonly string[])[]): FieldSet {
  const set = new FieldSetBuilder()
  for (const path of paths) insertPath(set, path)
  return set
}

const keysOf = (set: FieldSet) => new Set([...pathsOf(set)].map((path) => JSON.stringify(path)))

const element = fc.constantFrom('f:a', 'f:b', 'f:constructor', 'k:{"name":"c"}', 'v:"x"', 'v:1', 'i:0')
const paths = fc.array(fc.array(element, { minLength: 1, maxLength: 4 }), { maxLength: 8 })

test('sets of paths obey the algebra of sets', () => {
  fc.assert(
    fc.property(paths, paths, (left, right) => {
      const [a, b] = [setOf(left), setOf(right)]
      const [inA, inB] = [keysOf(a), keysOf(b)]
      assert.deepEqual(keysOf(union(a, b)), inA.union(inB))
      assert.deepEqual(keysOf(intersection(a, b)), inA.intersection(inB))
      assert.deepEqual(keysOf(difference(a, b)), inA.difference(inB))
      assert.equal(isEmpty(difference(a, a)), true)
    }),
  )
})

test('a set comes back as it was written', () => {
  fc.assert(
    fc.property(paths, (list) => {
      const set = setOf(list)
      const json: unknown = JSON.parse(JSON.stringify(renderFieldSet(set)))
      const parsed = parseFieldSet(json)
      assert.ok(parsed)
      assert.deepEqual(keysOf(parsed), keysOf(set))
      assert.deepEqual(renderFieldSet(parsed), json)
    }),
  )
})

test('a set is written as upstream writes it, in upstream order', () => {
  const set = setOf([
    ['f:spec', 'f:ports'],
    ['f:spec', 'f:ports', 'k:{"port":8080}', 'f:name'],
    ['f:spec', 'f:ports', 'k:{"port":443}'],
    ['f:metadata', 'f:finalizers', 'v:"b"'],
    ['f:metadata', 'f:finalizers', 'v:"a"'],
  ])
  assert.equal(
    JSON.stringify(renderFieldSet(set)),
    '{"f:metadata":{"f:finalizers":{"v:\\"a\\"":{},"v:\\"b\\"":{}}},' +
      '"f:spec":{"f:ports":{".":{},"k:{\\"port\\":443}":{},"k:{\\"port\\":8080}":{"f:name":{}}}}}',
  )
  assert.deepEqual(
    [...pathsOf(set)].map((path) => renderPath(path)),
    [
      '.metadata.finalizers[="a"]',
      '.metadata.finalizers[="b"]',
      '.spec.ports',
      '.spec.ports[port=443]',
      '.spec.ports[port=8080].name',
    ],
  )
})

test('equal keys are one key, however a client spells them', () => {
  const parsed = parseFieldSet({ 'f:ports': { 'k:{"protocol":"TCP", "containerPort":80}': { '.': {} } } })
  assert.ok(parsed)
  assert.deepEqual(keysOf(parsed), keysOf(setOf([['f:ports', 'k:{"containerPort":80,"protocol":"TCP"}']])))
})

test('what is not a set is not taken for one', () => {
  for (const json of [
    1,
    null,
    [],
    { a: {} },
    { 'f:a': 1 },
    { 'k:{': {} },
    { 'k:[]': {} },
    { 'k:{"a":{}}': {} },
    { 'v:{}': {} },
    { 'i:x': {} },
    { 'f:a': { '.': 1 } },
  ])
    assert.equal(parseFieldSet(json), undefined, JSON.stringify(json))
  let deep: object = {}
  for (let depth = 0; depth < 1_000; depth++) deep = { 'f:a': deep }
  assert.equal(parseFieldSet(deep), undefined)
})
