import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { EngineEvent, JailId, JailStatus } from '../../../jail/index.ts'
import { FakeClock } from '../../../stdx/index.ts'
import { JAIL_ID } from '../fakes/sample-jail.ts'
import { WATCHER_PODS_MAX } from '../limits.ts'
import { TenantEvents } from './tenant-events.ts'

function status(message: string, id: JailId = JAIL_ID): JailStatus {
  return {
    id,
    phase: 'Running',
    message,
    initContainers: [],
    containers: [],
    initialized: true,
    terminating: false,
  }
}

async function take(events: AsyncIterator<EngineEvent>, count: number): Promise<EngineEvent[]> {
  const taken: EngineEvent[] = []
  while (taken.length < count) {
    const next = await events.next()
    if (next.done) break
    taken.push(next.value)
  }
  return taken
}

test('a slow watcher gets the latest status of each pod and the end of each that is gone', async () => {
  const tenant = new TenantEvents(new FakeClock())
  const watch = tenant.watch(new AbortController().signal)[Symbol.asyncIterator]()
  assert.deepEqual(await take(watch, 1), [{ type: 'SYNCED' }])
  for (let i = 0; i < 100_000; i++) tenant.publish(status(String(i)))
  assert.deepEqual(await take(watch, 1), [{ type: 'STATUS', status: status('99999') }])
  tenant.publish(status('x'))
  tenant.removed(JAIL_ID)
  assert.deepEqual(await take(watch, 1), [{ type: 'REMOVED', id: JAIL_ID }])
})

test('the same event again replaces the one before, and a pod cannot flood', async () => {
  const clock = new FakeClock()
  const tenant = new TenantEvents(clock)
  const event = (message: string) => tenant.event({ id: JAIL_ID, type: 'Normal', reason: 'R', message })
  const seen = async () => {
    const watch = tenant.watch(new AbortController().signal)[Symbol.asyncIterator]()
    const all: EngineEvent[] = []
    for (;;) {
      const next = await watch.next()
      if (next.done || next.value.type === 'SYNCED')
        return all.flatMap((e) => (e.type === 'EVENT' ? [e.event] : []))
      all.push(next.value)
    }
  }
  event('a')
  event('b')
  event('a')
  assert.deepEqual(
    (await seen()).map((e) => e.message),
    ['b', 'a'],
  )
  for (let i = 0; i < 10_000; i++) event(`flood ${i}`)
  assert.equal((await seen()).length, 49)
  clock.advance(60_000)
  event('later')
  const all = await seen()
  assert.equal(all.at(-1)?.message, 'later')
  const sequences = all.map((e) => e.sequence)
  assert.deepEqual(
    sequences,
    [...sequences].sort((a, b) => a - b),
  )
})

test('watches are bounded, and one that ends makes room', async () => {
  const tenant = new TenantEvents(new FakeClock())
  const watches = Array.from({ length: 16 }, () =>
    tenant.watch(new AbortController().signal)[Symbol.asyncIterator](),
  )
  for (const watch of watches) await take(watch, 1)
  await assert.rejects(take(tenant.watch(new AbortController().signal)[Symbol.asyncIterator](), 1), {
    reason: 'TooManyRequests',
  })
  await watches[0]?.return?.()
  assert.equal((await take(tenant.watch(new AbortController().signal)[Symbol.asyncIterator](), 1)).length, 1)
})

test('a watcher that does not read cannot fill the memory with ids that never were', async () => {
  const tenant = new TenantEvents(new FakeClock())
  const watch = tenant.watch(new AbortController().signal)[Symbol.asyncIterator]()
  assert.deepEqual(await take(watch, 1), [{ type: 'SYNCED' }])
  for (let i = 0; i <= WATCHER_PODS_MAX; i++) tenant.removed(randomUUID() as JailId)
  assert.deepEqual(await take(watch, 1), [])
})
