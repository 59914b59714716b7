import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { KubeObject } from '../api/index.ts'
import { FakeClock, silentLogger } from '../stdx/index.ts'
import type { KindRef } from './api-client.ts'
import { EventRecorder } from './event-recorder.ts'
import { FakeApiClient } from './fake-api-client.ts'
import { EVENT_BURST, EVENT_REFILL_MS } from './limits.ts'

const eventKind: KindRef = { group: '', version: 'v1', kind: 'Event', plural: 'events', namespaced: true }

function recorder() {
  const clock = new FakeClock()
  const client = new FakeApiClient({ clock })
  const events = new EventRecorder({ client, clock, log: silentLogger, component: 'test-controller' })
  const all = async () => {
    await events.flush()
    return client.all(eventKind)
  }
  return { clock, client, events, all }
}

const about = (uid: string, namespace?: string): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name: 'web',
    uid,
    resourceVersion: '7',
    creationTimestamp: '',
    ...(namespace ? { namespace } : {}),
  },
})

test('an event is as kubectl describe wants it', async () => {
  const { events, all } = recorder()
  events.record(about('u', 'shop'), {
    type: 'Normal',
    reason: 'Pulled',
    message: 'Pulled it',
    fieldPath: 'spec.containers{web}',
  })
  const [event] = await all()
  const { metadata, ...rest } = event ?? about('')
  assert.match(metadata.name, /^web\.[0-9a-f]{16}$/)
  assert.deepEqual(rest, {
    apiVersion: 'v1',
    kind: 'Event',
    involvedObject: {
      apiVersion: 'v1',
      kind: 'Pod',
      namespace: 'shop',
      name: 'web',
      uid: 'u',
      resourceVersion: '7',
      fieldPath: 'spec.containers{web}',
    },
    reason: 'Pulled',
    message: 'Pulled it',
    source: { component: 'test-controller' },
    type: 'Normal',
    firstTimestamp: '2026-01-01T00:00:00Z',
    lastTimestamp: '2026-01-01T00:00:00Z',
    count: 1,
    reportingComponent: 'test-controller',
    reportingInstance: '',
  })
})

test('the same thing again raises the count, also when somebody deleted the event', async () => {
  const { events, all, clock, client } = recorder()
  const again = () => events.record(about('u', 'shop'), { type: 'Warning', reason: 'BackOff', message: 'm' })
  again()
  clock.advance(5_000)
  again()
  const [event] = await all()
  assert.deepEqual(
    [event?.['count'], event?.['firstTimestamp'], event?.['lastTimestamp']],
    [2, '2026-01-01T00:00:00Z', '2026-01-01T00:00:05Z'],
  )
  await client.delete(eventKind, { namespace: 'shop', name: event?.metadata.name ?? '' })
  again()
  assert.deepEqual(
    (await all()).map((e) => e['count']),
    [1],
  )
})

test('events of cluster-scoped objects go into the namespace default', async () => {
  const { events, all } = recorder()
  events.record(about('u'), { type: 'Normal', reason: 'R', message: 'm' })
  assert.deepEqual(
    (await all()).map((e) => e.metadata.namespace),
    ['default'],
  )
})

test('many different messages with one reason are combined', async () => {
  const { events, all } = recorder()
  for (let i = 0; i < 15; i += 1)
    events.record(about('u', 'shop'), { type: 'Normal', reason: 'R', message: `m${i}` })
  const messages = (await all()).map((e) => String(e['message']))
  assert.equal(messages.filter((message) => !message.startsWith('(combined')).length, 10)
  assert.ok(messages.some((message) => message.startsWith('(combined from similar events): ')))
})

test('who says too much about one object is not heard for a while; other objects are', async () => {
  const { events, clock } = recorder()
  const say = (uid: string) =>
    events.record(about(uid, 'shop'), { type: 'Normal', reason: 'R', message: 'm' })
  for (let i = 0; i < EVENT_BURST; i += 1) assert.equal(say('a'), true)
  assert.equal(say('a'), false)
  assert.equal(say('b'), true)
  clock.advance(EVENT_REFILL_MS)
  assert.equal(say('a'), true)
  assert.equal(say('a'), false)
  await events.flush()
})

test('a message as long as a tenant can make it is cut', async () => {
  const { events, all } = recorder()
  events.record(about('u', 'shop'), { type: 'Normal', reason: 'R', message: 'x'.repeat(100_000) })
  assert.equal(String((await all())[0]?.['message']).length, 1_024)
})

test('an API server that refuses events stops nobody', async () => {
  const { events, client, all } = recorder()
  client.intercept = () => {
    throw new Error('no')
  }
  events.record(about('u', 'shop'), { type: 'Normal', reason: 'R', message: 'm' })
  await events.flush()
  client.intercept = undefined
  events.record(about('u', 'shop'), { type: 'Normal', reason: 'R', message: 'm' })
  assert.equal((await all()).length, 1)
})

test('two recorders that tell of one object in the same moment do not take each other’s names', async () => {
  const clock = new FakeClock()
  const client = new FakeApiClient({ clock })
  const recorders = ['a', 'b', 'c'].map(
    (component) => new EventRecorder({ client, clock, log: silentLogger, component }),
  )
  for (const events of recorders)
    events.record(about('u', 'shop'), { type: 'Normal', reason: 'R', message: 'm' })
  await Promise.all(recorders.map((events) => events.flush()))
  assert.equal(client.all(eventKind).length, 3)
})
