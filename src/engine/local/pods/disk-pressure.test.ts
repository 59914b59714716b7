import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseTenantName } from '../../../api/index.ts'
import { isShort, planRelief } from './disk-pressure.ts'

const usage = (total: number) => ({
  total,
  files: 0,
  volumes: new Map(),
  layers: new Map(),
  logs: new Map(),
  full: [],
})
const pod = (tenant: string, name: string, total?: number) => ({
  tenant: parseTenantName(tenant),
  name,
  usage: total === undefined ? undefined : usage(total),
})

test('the largest pod of the tenant with the most goes, not the largest pod', () => {
  assert.equal(planRelief([]), undefined)
  const pods = [pod('red', 'r1', 70), pod('blue', 'b1', 40), pod('blue', 'b2', 50), pod('green', 'g1', 80)]
  assert.equal(planRelief(pods)?.name, 'b2')
  assert.equal(planRelief([...pods, pod('red', 'uncountable')])?.name, 'uncountable')
})

test('a disk is short of blocks or of inodes, and some count no inodes', () => {
  const room = { bytes: 2_500, bytesFree: 100, files: 2_500, filesFree: 100 }
  assert.equal(isShort(room), false)
  assert.equal(isShort({ ...room, bytesFree: 99 }), true)
  assert.equal(isShort({ ...room, filesFree: 99 }), true)
  assert.equal(isShort({ ...room, files: 0, filesFree: 0 }), false)
})
