import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { STATUS_CODES } from '../src/api/index.ts'

test('docs/status-codes.md lists every reason with its code, and no other', () => {
  const text = readFileSync(new URL('../docs/status-codes.md', import.meta.url), 'utf8')
  const listed = [...text.matchAll(/^\| `(\w+)` \| (\d{3}) \|/gm)].map(([, reason, code]) => [
    reason,
    Number(code),
  ])
  assert.deepEqual(listed, Object.entries(STATUS_CODES))
})
