import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { isAlive, observeProcess } from './processes.ts'

test('a process is alive until it ends, and a pid alone does not make it the same one', async () => {
  const child = spawn('sleep', ['60'])
  assert.ok(child.pid)
  const seen = observeProcess(child.pid)
  assert.ok(seen)
  assert.ok(isAlive(seen))
  assert.ok(!isAlive({ ...seen, startTicks: '1' }))
  child.kill('SIGKILL')
  await once(child, 'exit')
  assert.ok(!isAlive(seen))
})

test('no pid that cannot be is looked up', () => {
  for (const pid of [0, -1, Number.NaN, 1.5, 2 ** 40]) assert.equal(observeProcess(pid), undefined)
})
