import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Gate } from './gate.ts'

test('never more at once than allowed, in the order in which they came, whatever fails or gives up', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.array(fc.constantFrom('works', 'fails', 'gives up'), { maxLength: 30 }),
      async (max, kinds) => {
        const gate = new Gate(max)
        let running = 0
        const entered: number[] = []
        const work = kinds.map((kind, index) => {
          const controller = new AbortController()
          const done = gate.run(async () => {
            entered.push(index)
            assert(++running <= max)
            await new Promise((resolve) => setImmediate(resolve))
            running--
            if (kind === 'fails') throw new Error('failed')
          }, controller.signal)
          if (kind === 'gives up') controller.abort(new Error('gave up'))
          return done
        })
        await Promise.allSettled(work)
        assert.deepEqual(
          entered,
          [...entered].sort((a, b) => a - b),
        )
        assert(kinds.every((kind, index) => kind === 'gives up' || entered.includes(index)))
        await gate.run(async () => {})
      },
    ),
  )
})
