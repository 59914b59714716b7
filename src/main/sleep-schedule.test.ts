import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseTenantName, type TenantName } from '../api/index.ts'
import { FakeClock, MINUTE_MS, SECOND_MS, silentLogger } from '../stdx/index.ts'
import type { Resting } from './control-channel.ts'
import { parseSleepLimits, SleepSchedule } from './sleep-schedule.ts'

const red = parseTenantName('red')
const blue = parseTenantName('blue')

class World {
  readonly clock = new FakeClock()
  readonly sleeping = new Map<TenantName, { dueAtMs?: number }>()
  readonly woken: string[] = []
  readonly hung: string[] = []
  readonly limits = parseSleepLimits({})
  /** What the worker says of those who rest. */
  says: Resting[] | Error = []
  busy = false
  fallingAsleep: () => void = () => {}
  dueAtMs: number | undefined
  waking = 0
  wakingMax = 0
  /** Wakes end when these do. */
  slow: Promise<void> | undefined
  fails = false
  readonly schedule: SleepSchedule

  constructor() {
    this.schedule = new SleepSchedule({
      hosts: {
        sleeping: this.sleeping,
        fallAsleep: async (tenant) => {
          this.fallingAsleep()
          if (this.busy) return false
          this.sleeping.set(tenant, this.dueAtMs === undefined ? {} : { dueAtMs: this.dueAtMs })
          return true
        },
        wake: async (tenant) => {
          this.waking++
          this.wakingMax = Math.max(this.wakingMax, this.waking)
          try {
            await this.slow
            if (this.fails) throw new Error('no')
            this.woken.push(tenant)
            this.sleeping.delete(tenant)
            return true
          } finally {
            this.waking--
          }
        },
      },
      resting: async () => {
        if (this.says instanceof Error) throw this.says
        return this.says
      },
      workerOf: (tenant) => (tenant === 'blue' ? 'blue' : 'shared'),
      onHung: (worker) => void this.hung.push(worker),
      limits: this.limits,
      clock: this.clock,
      log: silentLogger,
    })
  }

  async look(worker = 'shared'): Promise<string[]> {
    await this.schedule.look(worker)
    return [...this.sleeping.keys()]
  }

  async pass(seconds: number): Promise<void> {
    for (let at = 0; at < seconds * 10; at++) {
      this.clock.advance(100)
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  async due(): Promise<string[]> {
    this.schedule.wakeDue()
    await new Promise((resolve) => setImmediate(resolve))
    return this.woken.splice(0)
  }
}

const RESTED = { tenant: red, unusedMs: 6 * MINUTE_MS }

test('a control plane sleeps when nobody used it, nothing is due, and its pods did not change', async () => {
  const world = new World()
  world.says = [{ tenant: red, unusedMs: 4 * MINUTE_MS }]
  assert.deepEqual(await world.look(), [])
  world.says = [{ ...RESTED, dueAtMs: world.clock.nowMs() + 50 * SECOND_MS }]
  assert.deepEqual(await world.look(), [])
  world.says = [RESTED]
  world.schedule.changed(red)
  assert.deepEqual(await world.look(), [])
  world.clock.advance(31 * SECOND_MS)
  world.busy = true
  assert.deepEqual(await world.look(), [])
  world.busy = false
  assert.deepEqual(await world.look(), ['red'])
})

test('a process puts nobody to sleep but its own tenants', async () => {
  const world = new World()
  world.says = [{ ...RESTED, tenant: blue }]
  assert.deepEqual(await world.look('shared'), [])
  assert.deepEqual(await world.look('red'), [])
  assert.deepEqual(await world.look('blue'), ['blue'])
})

test('a control plane wakes when something is due, and when its pods change, even while it fell asleep', async () => {
  const world = new World()
  world.says = [RESTED]
  world.dueAtMs = world.clock.nowMs() + 10 * MINUTE_MS
  await world.look()
  assert.deepEqual(await world.due(), [])
  world.clock.advance(10 * MINUTE_MS)
  assert.deepEqual(await world.due(), ['red'])

  world.dueAtMs = undefined
  await world.look()
  world.clock.advance(60 * MINUTE_MS)
  assert.deepEqual(await world.due(), [])
  world.schedule.changed(red)
  assert.deepEqual(await world.due(), ['red'])

  world.clock.advance(MINUTE_MS)
  world.fallingAsleep = () => world.schedule.changed(red)
  assert.deepEqual(await world.look(), ['red'])
  assert.deepEqual(await world.due(), ['red'])
})

test('one that woke by itself sleeps again soon, unless somebody asks it something', async () => {
  const world = new World()
  world.sleeping.set(red, { dueAtMs: world.clock.nowMs() })
  assert.deepEqual(await world.due(), ['red'])
  world.clock.advance(35 * SECOND_MS)
  world.says = [{ tenant: red, unusedMs: 5 * SECOND_MS }]
  assert.deepEqual(await world.look(), [])
  world.says = [{ tenant: red, unusedMs: 35 * SECOND_MS }]
  assert.deepEqual(await world.look(), ['red'])
})

test('few wake at a time, those first for whom somebody waits, and each once', async () => {
  const world = new World()
  const slow = Promise.withResolvers<void>()
  world.slow = slow.promise
  const names = Array.from({ length: 40 }, (_, n) => parseTenantName(`t${n}`))
  for (const name of names) world.sleeping.set(name, { dueAtMs: world.clock.nowMs() })
  world.schedule.wakeDue()
  world.schedule.wakeDue()
  world.sleeping.set(red, {})
  const asked = [world.schedule.wake(red), world.schedule.wake(red)]
  slow.resolve()
  assert.deepEqual(await Promise.all(asked), [true, true])
  const at = world.woken.indexOf('red')
  assert.ok(at >= 0 && at <= world.limits.wakesAtOnceMax, `after ${at} others`)
  while (world.sleeping.size > 0) await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual([...world.woken].sort(), [...names, red].sort())
  assert.equal(world.wakingMax, world.limits.wakesAtOnceMax)
})

test('one that does not wake is tried again, and whoever waited is told', async () => {
  const world = new World()
  world.sleeping.set(red, { dueAtMs: world.clock.nowMs() })
  world.fails = true
  assert.deepEqual(await world.due(), [])
  const refused = assert.rejects(world.schedule.wake(red))
  await world.pass(5)
  await refused
  const asked = world.schedule.wake(red)
  world.fails = false
  await world.pass(1)
  assert.equal(await asked, true)
  world.woken.length = 0
  world.sleeping.set(red, {})
  world.fails = true
  world.schedule.changed(red)
  assert.deepEqual(await world.due(), [])
  await world.pass(5)
  world.fails = false
  assert.deepEqual(await world.due(), [])
  world.clock.advance(11 * SECOND_MS)
  assert.deepEqual(await world.due(), ['red'])
})

test('control planes that no longer answer are ended once, and not those that are slow', async () => {
  const world = new World()
  await world.look()
  world.says = new Error('nothing in time')
  for (let at = 0; at < 50; at += 10) {
    world.clock.advance(10 * SECOND_MS)
    await world.look()
  }
  assert.deepEqual(world.hung, [])
  world.clock.advance(10 * SECOND_MS)
  await world.look()
  assert.deepEqual(world.hung, ['shared'])
  await world.look()
  assert.deepEqual(world.hung, ['shared'])
})

test('how long nobody must ask is a whole number of seconds', () => {
  assert.equal(parseSleepLimits({}).unusedMsMin, 300_000)
  assert.equal(parseSleepLimits({ BULKHEAD_SLEEP_AFTER_SECONDS: '5' }).unaskedMsMin, 5_000)
  for (const bad of ['', '-1', '1.5', 'never', '1e9'])
    assert.throws(() => parseSleepLimits({ BULKHEAD_SLEEP_AFTER_SECONDS: bad }), TypeError)
})
