import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { FairPlaces } from './index.ts'

test('sixteen, or a hundred, who take all they can leave places for whoever comes next', () => {
  for (const greedy of [1, 16, 100]) {
    const places = new FairPlaces<string>({ placesMax: 512, perHolderMax: 32 })
    for (let round = 0; round < 64; round++)
      for (let holder = 0; holder < greedy; holder++) places.take(`greedy ${holder}`)
    assert.ok(places.take('another'), `beside ${greedy}`)
    assert.ok(places.take('a third'), `beside ${greedy}`)
  }
})

test('never more than there are, never more than one may have, and everything comes back', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ holder: fc.nat(40), gives: fc.boolean() }), { maxLength: 400 }),
      (steps) => {
        const places = new FairPlaces<number>({ placesMax: 64, perHolderMax: 8 })
        const held: { holder: number; give: () => void }[] = []
        for (const { holder, gives } of steps) {
          const at = held.findIndex((each) => each.holder === holder)
          if (gives && at >= 0) {
            const [given] = held.splice(at, 1)
            given?.give()
            given?.give()
            continue
          }
          const give = places.take(holder)
          if (give) held.push({ holder, give })
          assert.ok(held.length <= 64)
          assert.ok(held.filter((each) => each.holder === holder).length <= 8)
        }
        for (const { give } of held) give()
        for (let taken = 0; taken < 7; taken++) assert.ok(places.take(99))
      },
    ),
  )
})
