import assert from 'node:assert/strict'
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type Layout, parseLayout, paths } from '../../../api/index.ts'
import { FakeClock, silentLogger } from '../../../stdx/index.ts'
import { Daemons } from './daemons.ts'

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-daemons-'))
after(() => rmSync(directory, { recursive: true, force: true }))

const layout: Layout = { ...parseLayout({ BULKHEAD_STATE_DIR: directory }), runDir: join(directory, 'run') }
const daemons = new Daemons({ layout, clock: new FakeClock(0), log: silentLogger })

test('a log that has grown too large starts anew, and the last part before that is kept', () => {
  mkdirSync(join(directory, 'logs'))
  const log = paths.daemonLog(layout, 'gateway')
  appendFileSync(log, 'first\n')
  daemons.boundLogs(10)
  assert.equal(readFileSync(log, 'utf8'), 'first\n')
  appendFileSync(log, 'second\n')
  daemons.boundLogs(10)
  appendFileSync(log, 'third\n')
  daemons.boundLogs(10)
  const kept = paths.daemonLog(layout, 'gateway.old')
  assert.match(readFileSync(kept, 'utf8'), /second\n$/)
  assert.equal(readFileSync(log, 'utf8'), 'third\n')
  appendFileSync(log, 'fourth\n')
  daemons.boundLogs(10)
  assert.match(readFileSync(kept, 'utf8'), /fourth\n$/)
  assert.doesNotMatch(readFileSync(kept, 'utf8'), /second/)
})

test('a daemon that something else has started is found by its name', () => {
  assert.deepEqual([daemons.names(), daemons.pid('node')], [[], undefined])
  daemons.registerSelf('node')
  assert.deepEqual([daemons.names(), daemons.pid('node')], [['node'], process.pid])
})

test('a daemon that is removed leaves no record and no log', async () => {
  appendFileSync(paths.daemonLog(layout, 'worker-red'), 'x')
  appendFileSync(paths.daemonLog(layout, 'worker-red.old'), 'x')
  // A uid that nobody on the machine has.
  await daemons.remove('worker-red', 4_294_000_000)
  for (const log of ['worker-red', 'worker-red.old'])
    assert.equal(existsSync(paths.daemonLog(layout, log)), false)
  await assert.rejects(daemons.remove('worker-red', 0), /Root is not a user/)
})
