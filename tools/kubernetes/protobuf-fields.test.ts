import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { TABLE, renderTable } from './protobuf-fields.ts'

test('the table of protobuf fields is what its generator writes', () => {
  assert.equal(readFileSync(TABLE, 'utf8'), renderTable())
})
