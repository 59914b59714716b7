import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { until } from '../../../stdx/index.ts'
import { signalProcess } from '../host/processes.ts'
import { renderElf } from '../host/tiny-program.ts'
import { isAlive, observeProcess } from './processes.ts'
import { FIRST_THREAD_ENDS } from './processes.testkit.ts'

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

test(
  'a process whose first thread has ended is alive for as long as another runs',
  { skip: process.arch !== 'x64' && 'the program is for x86-64' },
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'bulkhead-processes-'))
    try {
      const program = join(directory, 'program')
      writeFileSync(program, renderElf('x64', FIRST_THREAD_ENDS), { mode: 0o700 })
      const child = spawn(program)
      assert.ok(child.pid)
      const { pid } = child
      const isZombie = () => readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z ')
      await until(isZombie, { timeoutMs: 5_000, what: 'The end of the first thread' })
      const seen = observeProcess(pid)
      assert.ok(seen)
      const ended = once(child, 'exit')
      assert.ok(signalProcess(seen, 9))
      await ended
      assert.equal(observeProcess(pid), undefined)
    } finally {
      rmSync(directory, { recursive: true })
    }
  },
)
