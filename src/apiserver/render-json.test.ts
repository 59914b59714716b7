import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { LIST_ITEMS_RENDERED_AT_ONCE } from './limits.ts'
import { renderJson } from './render-json.ts'

async function rendered(value: unknown): Promise<string> {
  const pieces: Buffer[] = []
  for await (const piece of renderJson(value)) pieces.push(piece)
  return Buffer.concat(pieces).toString()
}

test('whatever the number of items, the bytes say what JSON.stringify would', () =>
  fc.assert(
    fc.asyncProperty(
      fc.constantFrom('items', 'rows', 'data'),
      fc.jsonValue(),
      fc.array(fc.jsonValue(), { maxLength: 5 }),
      fc.integer({ min: 0, max: 2 * LIST_ITEMS_RENDERED_AT_ONCE + 1 }),
      async (key, metadata, some, length) => {
        const entries = Array.from({ length }, (_, n) => some[n % (some.length || 1)] ?? n)
        for (const value of [{ kind: 'List', metadata, [key]: entries }, { [key]: entries }, metadata])
          assert.deepEqual(JSON.parse(await rendered(value)), JSON.parse(JSON.stringify(value)))
      },
    ),
    { numRuns: 50 },
  ))

test('other work has its turn while a long list is rendered', async () => {
  const items = Array.from({ length: 10 * LIST_ITEMS_RENDERED_AT_ONCE }, (_, n) => n)
  let turns = 0
  let done = false
  const other = () => {
    turns++
    if (!done) setImmediate(other)
  }
  setImmediate(other)
  await rendered({ kind: 'List', items })
  done = true
  assert.ok(turns >= 9, `${turns} turns`)
})
