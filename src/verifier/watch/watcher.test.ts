import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { observeFailedLoads } from './watcher.ts'

const dir = mkdtempSync(join(tmpdir(), 'watcher-'))
after(() => rmSync(dir, { recursive: true }))

function kindsOf(content: string | undefined): string[] {
  const path = join(dir, 'failed.json')
  rmSync(path, { force: true })
  if (content !== undefined) writeFileSync(path, content)
  return observeFailedLoads(path).map(({ kind, tenant = '' }) => `${kind} ${tenant}`.trim())
}

test('rules that were refused are an alarm each, and a list that nobody can read is one too', () => {
  assert.deepEqual(kindsOf(undefined), [])
  const red = { what: 'its services', tenant: 'red', since: '', why: 'no' }
  assert.deepEqual(kindsOf(JSON.stringify({ a: red, b: { what: 'all', why: '' } })), ['load red', 'load'])
  for (const broken of [
    '',
    '{',
    'null',
    '7',
    '{"a":null}',
    '{"a":{"what":1,"why":""}}',
    `"${'x'.repeat(5e6)}"`,
  ])
    assert.deepEqual(kindsOf(broken), ['blind'], broken.slice(0, 20))
  assert.deepEqual(kindsOf('{"a":{"what":1}}'), ['blind'])
})
