import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeClock, TimerClock, silentLogger } from '../stdx/index.ts'
import { WorkQueue, type WorkQueueOptions } from './work-queue.ts'

function queueOf(options: Partial<WorkQueueOptions> = {}) {
  const clock = new FakeClock()
  const done: string[] = []
  const queue = new WorkQueue({
    name: 'test',
    clock,
    log: silentLogger,
    reconcile: async (key) => void done.push(key),
    ...options,
  })
  return { clock, done, queue }
}

test('a key that waits is worked on once, however often it was added', async () => {
  const { queue, done } = queueOf()
  for (const key of ['a', 'b', 'a', 'a']) queue.add(key)
  assert.deepEqual(done, [], 'nothing happens before the start')
  queue.start()
  await queue.whenIdle()
  assert.deepEqual(done, ['a', 'b'])
})

test('a key that is added while it is worked on is worked on once more, and never twice at a time', async () => {
  let running = 0
  let most = 0
  const gate = Promise.withResolvers<void>()
  const done: string[] = []
  const { queue } = queueOf({
    reconcile: async (key) => {
      most = Math.max(most, ++running)
      await gate.promise
      running -= 1
      done.push(key)
    },
  })
  queue.start()
  queue.add('a')
  queue.add('a')
  queue.add('a')
  gate.resolve()
  await queue.whenIdle()
  assert.deepEqual(done, ['a', 'a'])
  assert.equal(most, 1)
})

test('no more keys than the concurrency are worked on at a time', async () => {
  const gates: PromiseWithResolvers<void>[] = []
  const { queue } = queueOf({
    concurrency: 2,
    reconcile: async () => {
      const gate = Promise.withResolvers<void>()
      gates.push(gate)
      await gate.promise
    },
  })
  queue.start()
  for (const key of ['a', 'b', 'c']) queue.add(key)
  assert.equal(gates.length, 2)
  gates[0]?.resolve()
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(gates.length, 3)
  gates[1]?.resolve()
  gates[2]?.resolve()
  await queue.whenIdle()
})

test('a failure is retried after a time that doubles up to a bound, and is forgotten by a success', async () => {
  const attempts: number[] = []
  let fails = 6
  const { queue, clock } = queueOf({
    retryFirstMs: 100,
    retryLastMs: 1_000,
    reconcile: async () => {
      attempts.push(clock.nowMs())
      if (fails-- > 0) throw new Error('not yet')
    },
  })
  const startMs = clock.nowMs()
  queue.start()
  queue.add('a')
  for (let step = 0; step < 60; step += 1) {
    await queue.whenIdle()
    clock.advance(100)
  }
  const times = attempts.map((ms) => ms - startMs)
  assert.deepEqual(times, [0, 100, 300, 700, 1_500, 2_500, 3_500])
  assert.equal(queue.delayed, 0, 'idle, it has no timer')
})

test('a key comes back when it asked to, and the earliest time asked for wins', async () => {
  const { queue, clock, done } = queueOf()
  queue.start()
  queue.addAfter('a', 1_000)
  queue.addAfter('a', 500)
  queue.addAfter('a', 2_000)
  assert.equal(queue.delayed, 1)
  clock.advance(500)
  await queue.whenIdle()
  clock.advance(5_000)
  await queue.whenIdle()
  assert.deepEqual(done, ['a'])
})

test('what is asked for patiently comes back as well, on a clock of its own, until somebody cannot wait', async () => {
  const [clock, patientClock] = [new TimerClock(new FakeClock()), new FakeClock()]
  const done: string[] = []
  const queue = new WorkQueue({
    name: 'test',
    clock,
    patientClock,
    log: silentLogger,
    reconcile: async (key) => {
      done.push(key)
      return done.length < 3 ? { requeueAfterMs: 1_000, patient: true } : undefined
    },
  })
  queue.start()
  queue.add('a')
  await queue.whenIdle()
  assert.deepEqual([queue.delayed, clock.nextMs], [1, Infinity])
  patientClock.advance(1_000)
  await queue.whenIdle()
  assert.deepEqual(done, ['a', 'a'])

  const dueMs = clock.nowMs() + 1_000
  queue.addAfter('a', 5_000)
  assert.deepEqual([queue.delayed, clock.nextMs], [1, dueMs], 'no later than either, and not forgotten')
  queue.addAfter('a', 500, { patient: true })
  assert.deepEqual([queue.delayed, clock.nextMs], [1, dueMs - 500])
  await queue.stop()
})

test('a key that always wants to come back at once lets time pass in between', async () => {
  const clock = new FakeClock()
  let times = 0
  const queue = new WorkQueue({
    name: 'test',
    clock,
    log: silentLogger,
    reconcile: async () => {
      times += 1
      return { requeueAfterMs: [0, -5, Number.NaN][times % 3] ?? 0 }
    },
  })
  queue.add('a')
  queue.start()
  for (let passed = 0; passed < 1_000; passed += 10) {
    await new Promise((resolve) => setImmediate(resolve))
    clock.advance(10)
  }
  assert.ok(times > 2 && times <= 21, `${times} times in a second`)
  await queue.stop()
})

test('a full queue drops keys, says so when it is empty, and can be filled again', async () => {
  let overflows = 0
  const { queue, done } = queueOf({ keysMax: 2, onOverflow: () => void (overflows += 1) })
  for (const key of ['a', 'b', 'c', 'd']) queue.add(key)
  queue.start()
  await queue.whenIdle()
  assert.deepEqual(done, ['a', 'b'])
  assert.equal(overflows, 1)
})

test('stopping waits for what is being worked on and starts nothing more', async () => {
  const gate = Promise.withResolvers<void>()
  const done: string[] = []
  const { queue, clock } = queueOf({
    concurrency: 1,
    reconcile: async (key) => {
      await gate.promise
      done.push(key)
    },
  })
  queue.start()
  queue.add('a')
  queue.add('b')
  queue.addAfter('c', 100)
  const stopped = queue.stop()
  queue.add('d')
  clock.advance(1_000)
  gate.resolve()
  await stopped
  assert.deepEqual(done, ['a'])
  assert.equal(queue.delayed, 0)
})
