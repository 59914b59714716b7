import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { DAY_MS, FakeClock, systemClock, TimerClock } from './index.ts'

test('a timer of a year waits a year, though setTimeout counts to 25 days only', () => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] })
  try {
    let ran = 0
    systemClock.after(365 * DAY_MS, () => ran++)
    const cancel = systemClock.after(40 * DAY_MS, () => ran++)
    for (let day = 0; day < 30; day++) mock.timers.tick(DAY_MS)
    cancel()
    for (let day = 30; day < 364; day++) mock.timers.tick(DAY_MS)
    assert.equal(ran, 0)
    mock.timers.tick(DAY_MS)
    assert.equal(ran, 1)
  } finally {
    mock.timers.reset()
  }
})

test('the next of all timers is known, and those that ran or were cancelled are not', () => {
  const clock = new FakeClock()
  const timers = new TimerClock(clock)
  const startMs = clock.nowMs()
  assert.equal(timers.nextMs, Infinity)
  const cancel = timers.after(1_000, () => {})
  timers.after(2_000, () => {})
  timers.after(9_000, () => {})
  assert.equal(timers.nextMs, startMs + 1_000)
  cancel()
  assert.equal(timers.nextMs, startMs + 2_000)
  clock.advance(3_000)
  assert.equal(timers.nextMs, startMs + 9_000)
  clock.advance(7_000)
  assert.equal(timers.nextMs, Infinity)
})
