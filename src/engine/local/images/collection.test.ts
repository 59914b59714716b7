import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { type PinnedImage, planCollection } from './collection.ts'

const image = (
  tenant: string,
  name: string,
  usedAtMs: number,
  parts: Record<string, number>,
  inUse = false,
): PinnedImage => ({ tenant, name, usedAtMs, inUse, parts: new Map(Object.entries(parts)) })
const names = (images: readonly PinnedImage[]) => images.map(({ name }) => name)

test('the tenant with most gives first, what it has not used for longest, and nothing that is in use', () => {
  const images = [
    image('blue', 'b-old', 1, { b1: 10 }),
    image('red', 'r-new', 9, { r1: 50 }),
    image('red', 'r-old', 2, { r2: 50 }),
    image('red', 'r-running', 0, { r3: 50 }, true),
  ]
  assert.deepEqual(names(planCollection(images, 0)), [])
  assert.deepEqual(names(planCollection(images, 1)), ['r-old'])
  assert.deepEqual(names(planCollection(images, 60)), ['r-old', 'r-new'])
  assert.deepEqual(names(planCollection(images, 10_000)), ['r-old', 'r-new', 'b-old'])
})

test('what two images share frees nothing before both are gone', () => {
  const images = [image('red', 'a', 1, { base: 100 }), image('red', 'b', 2, { base: 100, top: 1 })]
  assert.deepEqual(names(planCollection(images, 50)), ['a', 'b'])
  assert.deepEqual(names(planCollection([...images, image('red', 'c', 0, { x: 60 })], 50)), ['c'])
})

test('whatever there is, the plan ends, frees enough or all it may, and takes nothing in use', () => {
  const anyImage = fc.record({
    tenant: fc.constantFrom('red', 'blue', 'green'),
    name: fc.uuid(),
    usedAtMs: fc.nat(10),
    inUse: fc.boolean(),
    parts: fc
      .uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e'))
      .map((all) => new Map(all.map((d) => [d, 10]))),
  })
  fc.assert(
    fc.property(fc.array(anyImage, { maxLength: 12 }), fc.nat(60), (images, bytes) => {
      const gone = planCollection(images, bytes)
      assert.ok(gone.every(({ inUse }) => !inUse))
      assert.equal(new Set(gone).size, gone.length)
      const left = images.filter((each) => !gone.includes(each))
      const parts = (of: readonly PinnedImage[]) => new Set(of.flatMap((each) => [...each.parts.keys()])).size
      const freed = (parts(images) - parts(left)) * 10
      assert.ok(freed >= bytes || left.every(({ inUse }) => inUse))
    }),
  )
})
