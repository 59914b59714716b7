import assert from 'node:assert/strict'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { FakeClock, silentLogger, until } from '../stdx/index.ts'
import { AuditFile } from './audit-file.ts'
import { AUDIT_FILES_KEPT, AUDIT_GATHER_MS, AUDIT_LINES_WAITING_MAX, AUDIT_RETRY_MS } from './limits.ts'

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-audit-'))
after(() => rmSync(directory, { recursive: true, force: true }))
let files = 0

function setUp(bytesMax?: number) {
  const path = join(directory, `${files++}`, 'audit.log')
  mkdirSync(join(path, '..'))
  const clock = new FakeClock()
  return {
    path,
    clock,
    open: () => AuditFile.open({ path, clock, log: silentLogger, ...(bytesMax ? { bytesMax } : {}) }),
  }
}

test('an audit log is appended to in order, for its user alone', async () => {
  const { path, open } = setUp()
  for (const run of [1, 2]) {
    await using audit = await open()
    for (let i = 0; i < 1_000; i++) audit.write(`${run}.${i}\n`)
  }
  const expected = [1, 2].flatMap((run) => Array.from({ length: 1_000 }, (_, i) => `${run}.${i}\n`)).join('')
  assert.equal(readFileSync(path, 'utf8'), expected)
  assert.equal(statSync(path).mode & 0o777, 0o600)
})

test('a full audit log makes room for another, up to a number', async () => {
  const { path, open } = setUp(100)
  for (let i = 0; i < 30; i++) {
    await using audit = await open()
    audit.write(`${i}`.padEnd(59) + '\n')
  }
  assert.equal(readFileSync(path, 'utf8').trim(), '29')
  assert.equal(readFileSync(`${path}.1`, 'utf8').trim(), '28')
  assert.ok(existsSync(`${path}.${AUDIT_FILES_KEPT}`))
  assert.ok(!existsSync(`${path}.${AUDIT_FILES_KEPT + 1}`))
})

test('an audit log that cannot be written says so, keeps what waits, and goes on when it can', async () => {
  const { path, clock, open } = setUp(60)
  await using audit = await open()
  audit.write('one'.padEnd(59) + '\n')
  await until(() => (clock.advance(AUDIT_GATHER_MS), readFileSync(path, 'utf8').includes('one')))
  const folder = join(path, '..')
  renameSync(folder, `${folder}-away`)
  audit.write('two'.padEnd(59) + '\n')
  await until(() => (clock.advance(AUDIT_GATHER_MS), !audit.ready))
  renameSync(`${folder}-away`, folder)
  clock.advance(AUDIT_RETRY_MS)
  await until(() => (clock.advance(AUDIT_GATHER_MS), audit.ready))
  assert.match(readFileSync(path, 'utf8'), /^two/)
})

test('an audit log that falls behind lets nothing more through long before it loses a line', async () => {
  const { open } = setUp()
  await using audit = await open()
  for (let i = 0; i < AUDIT_LINES_WAITING_MAX / 2; i++) audit.write('x\n')
  assert.equal(audit.ready, false)
  await until(() => audit.ready)
})

test('lines that come together are written together, the last ones when it closes', async () => {
  const { path, clock, open } = setUp()
  {
    await using audit = await open()
    audit.write('one\n')
    audit.write('two\n')
    assert.equal(readFileSync(path, 'utf8'), '')
    clock.advance(AUDIT_GATHER_MS)
    await until(() => readFileSync(path, 'utf8') === 'one\ntwo\n')
    audit.write('three\n')
  }
  assert.equal(readFileSync(path, 'utf8'), 'one\ntwo\nthree\n')
})

test('an audit log that cannot be opened stops whoever needs it', async () => {
  const { path, open } = setUp()
  mkdirSync(path)
  await assert.rejects(open())
  chmodSync(path, 0o700)
})
