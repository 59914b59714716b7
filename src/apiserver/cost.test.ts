import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Cost } from './cost.ts'

/** Keeps this thread busy for so many milliseconds of its own time, however loaded the machine is. */
function work(ms: number): void {
  const micros = () => {
    const { user, system } = process.threadCpuUsage()
    return user + system
  }
  const until = micros() + ms * 1_000
  while (micros() < until);
}

test('what a request does counts, and what others do while it waits does not', async () => {
  const cost = new Cost()
  cost.go()
  work(20)
  const waiting = cost.waiting(new Promise<void>((resolve) => setImmediate(resolve)))
  work(200)
  await waiting
  cost.stop()
  work(200)
  cost.stop()
  assert.ok(cost.ms >= 20, String(cost.ms))
  assert.ok(cost.ms < 200, String(cost.ms))
})
