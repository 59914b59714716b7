import assert from 'node:assert/strict'
import { test } from 'node:test'
import { emptyTally, fuzzOne } from './fuzz.ts'
import { realManifests } from './manifests.ts'

/** A small share of tools/fuzz-jail.ts, with other documents in every run. */

const DOCUMENTS = 1_500

test('no document becomes a container outside of the posture', () => {
  const seed = Date.now() % 2 ** 31
  const tally = emptyTally()
  for (let number = 0; number < DOCUMENTS; number++) {
    try {
      fuzzOne(seed, number, tally)
    } catch (cause) {
      throw new Error(`document ${number} of seed ${seed}`, { cause })
    }
  }
  const reached = (form: string, stage: string) => tally.stages[form]?.[stage] ?? 0
  // Documents that are all refused at once would prove nothing.
  assert.ok(reached('json', 'accepted') > 100 && reached('jail', 'accepted') > 30, JSON.stringify(tally))
  assert.ok(reached('protobuf', 'accepted') > 5 && reached('json', 'bytes and schema') > 100)
  assert.deepEqual(
    [...new Set(realManifests().map(({ kind }) => kind))].filter((kind) => !tally.accepted[kind]),
    [],
    'every kind with pods is accepted sometimes',
  )
  assert.ok(tally.configurations > 1_000)
})

test('a seed and a number always make the same document', () => {
  const tallies = [emptyTally(), emptyTally()]
  for (const tally of tallies) for (let number = 0; number < 100; number++) fuzzOne(42, number, tally)
  assert.deepEqual(tallies[0], tallies[1])
})
