import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { parseLayout } from '../api/index.ts'
import { AttackRecords, isOurs, RUN_LABEL } from './attack-records.ts'

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-attack-'))
after(() => rmSync(directory, { recursive: true, force: true }))
const layout = parseLayout({ BULKHEAD_STATE_DIR: directory })

test('a run that was killed leaves what it made to the next one, and one that ended leaves nothing', () => {
  const killed = new AttackRecords(layout)
  killed.record('one')
  killed.record('two')
  killed.record('two', 'uid-2')
  const ended = new AttackRecords(layout)
  ended.record('three', 'uid-3')
  ended.forget('three')
  const next = new AttackRecords(layout)
  next.record('four')
  assert.deepEqual(
    next.leftovers().toSorted((a, b) => a.name.localeCompare(b.name)),
    [
      { name: 'one', run: killed.run },
      { name: 'two', run: killed.run, uid: 'uid-2' },
    ],
  )
  next.forgetOthers()
  assert.deepEqual(next.leftovers(), [])
  assert.deepEqual(
    next.mine().map(({ name }) => name),
    ['four'],
  )
})

test('a tenant is the recorded one by the word of its run and by its uid, never by its name', () => {
  const recorded = { name: 'one', run: 'a'.repeat(32), uid: 'uid-1' }
  const seen = (run: string | undefined, uid: string) => ({
    metadata: { name: 'one', uid, labels: run === undefined ? {} : { [RUN_LABEL]: run } },
  })
  assert.equal(isOurs(recorded, seen(recorded.run, 'uid-1')), true)
  assert.equal(isOurs(recorded, seen(recorded.run, 'uid-2')), false)
  assert.equal(isOurs(recorded, seen('b'.repeat(32), 'uid-1')), false)
  assert.equal(isOurs(recorded, seen(undefined, 'uid-1')), false)
  const { uid: _unknown, ...early } = recorded
  assert.equal(isOurs(early, seen(recorded.run, 'uid-9')), true)
  assert.equal(isOurs(early, seen(undefined, 'uid-9')), false)
})
