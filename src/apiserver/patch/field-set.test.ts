import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  type FieldSet,
  FieldSetBuilder,
  difference,
  intersection,
  isEmpty,
  keyElement,
  parseFieldSet,
  pathsOf,
  renderFieldSet,
  renderPath,
  union,
} from './field-set.ts'

function setOf(paths: readonly (readonly string[])[]): FieldSet {
  const set = new FieldSetBuilder()
  for (const path of paths) {
    for (const element of path) set.begin(element)
    set.insert()
    for (const _element of path) set.end()
  }
  return set.set
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

test('an item is known by its keys, however these were written', () => {
  const name = fc.oneof(fc.constantFrom('name', 'port', 'protocol', 'constructor', 'a b', 'é'), fc.string())
  const value = fc.oneof(
    fc.string(),
    fc.constantFrom('web', '10.0.0.1/24', '"', '\\', 0, 8080, 1e21, 0.5, -1, true, null),
    fc.nat(),
  )
  const entries = fc.uniqueArray(fc.tuple(name, value), {
    minLength: 1,
    maxLength: 3,
    selector: ([key]) => key,
  })
  const spelled = fc.constantFrom(JSON.stringify, (json: unknown) => JSON.stringify(json, undefined, 1))
  fc.assert(
    fc.property(entries, spelled, (keys, spell) => {
      fc.pre(keys.every(([key]) => key !== '__proto__'))
      const parsed = parseFieldSet({ [`k:${spell(Object.fromEntries(keys))}`]: {} })
      assert.ok(parsed)
      const sorted = Object.entries(Object.fromEntries(keys)).sort(([a], [b]) => (a < b ? -1 : 1))
      assert.deepEqual([...parsed.children.keys()], [keyElement(sorted)])
    }),
    { numRuns: 300 },
  )
  assert.equal(parseFieldSet({ 'k:{"port":080}': {} }), undefined)
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
