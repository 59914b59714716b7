import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { coreEventOf, type KubeObject, reportedEventOf } from '../api/index.ts'
import { ControlPlane, type Json } from '../../tests/conformance/control-plane.ts'

const CORE = '/api/v1/namespaces/default/events'
const REPORTED = '/apis/events.k8s.io/v1/namespaces/default/events'
const reported = (name: string, more: Json = {}): Json => ({
  metadata: { name },
  eventTime: '2026-01-01T00:00:00.000000Z',
  regarding: { kind: 'Pod', namespace: 'default', name: 'web' },
  reason: 'Started',
  action: 'Starting',
  note: 'it runs',
  type: 'Normal',
  reportingController: 'example.com/tester',
  reportingInstance: 'one',
  ...more,
})

test('an event is the same object in both groups, whichever it was written in', async () => {
  await using plane = await ControlPlane.start()
  const { code, body: made } = await plane.ask('POST', REPORTED, { body: reported('new') })
  assert.equal(code, 201)
  assert.deepEqual([made.apiVersion, made.note], ['events.k8s.io/v1', 'it runs'])
  const { body: core } = await plane.ask('GET', `${CORE}/new`)
  assert.deepEqual(
    [core.apiVersion, core.message, core.involvedObject.name, core.reportingComponent, core.metadata.uid],
    ['v1', 'it runs', 'web', 'example.com/tester', made.metadata.uid],
  )
  const old = { metadata: { name: 'old' }, involvedObject: { namespace: 'default', name: 'web' }, count: 3 }
  assert.equal((await plane.ask('POST', CORE, { body: old })).code, 201)
  assert.equal((await plane.ask('POST', REPORTED, { body: reported('old') })).code, 409)
  const { body: shown } = await plane.ask('GET', `${REPORTED}/old`)
  assert.deepEqual(
    [shown.apiVersion, shown.deprecatedCount, shown.regarding.name],
    ['events.k8s.io/v1', 3, 'web'],
  )
  const { body: list } = await plane.ask('GET', `${REPORTED}?fieldSelector=regarding.name%3Dweb`)
  assert.deepEqual(
    [list.kind, list.items.map((event: Json) => event.metadata.name)],
    ['EventList', ['new', 'old']],
  )
  const { body: table } = await plane.ask('GET', REPORTED, {
    accept: 'application/json;as=Table;g=meta.k8s.io;v=v1',
  })
  assert.deepEqual(table.rows[0].cells.slice(1, 4), ['Normal', 'Started', 'pod/web'])
  assert.equal((await plane.ask('DELETE', `${REPORTED}/old`)).code, 200)
  assert.equal((await plane.ask('GET', `${CORE}/old`)).code, 404)
})

test('an event of events.k8s.io says who reports what, and may be changed later', async () => {
  await using plane = await ControlPlane.start()
  const wrong: [Json, string][] = [
    [{ action: '' }, 'action'],
    [{ reportingController: 'a b' }, 'reportingController'],
    [{ type: 'Loud' }, 'type'],
    [{ note: 'x'.repeat(1_025) }, 'note'],
    [{ deprecatedCount: 2 }, 'deprecatedCount'],
    [{ regarding: { namespace: 'other' } }, 'regarding.namespace'],
    [{ series: { count: 1, lastObservedTime: '2026-01-01T00:00:00.000000Z' } }, 'series.count'],
  ]
  for (const [more, field] of wrong) {
    const { code, body } = await plane.ask('POST', REPORTED, { body: reported('bad', more) })
    assert.deepEqual([code, body.details.causes[0].field], [422, field])
  }
  await plane.ask('POST', REPORTED, { body: reported('seen') })
  const patch = async (body: Json) =>
    plane.ask('PATCH', `${REPORTED}/seen`, { body, type: 'application/merge-patch+json' })
  const series = { count: 2, lastObservedTime: '2026-01-01T00:01:00.000000Z' }
  const { code, body } = await patch({ series })
  assert.deepEqual([code, body.series.count], [200, 2])
  assert.equal((await patch({ series: { ...series, count: 1 } })).code, 422)
  const changed = await patch({ note: 'something else' })
  assert.deepEqual([changed.code, changed.body.note], [200, 'something else'])
})

test('a watch of one group hears what is written in the other, in its own form', async () => {
  await using plane = await ControlPlane.start()
  const watch = plane.ask('GET', `${REPORTED}?watch=true&timeoutSeconds=1`)
  await plane.ask('POST', CORE, {
    body: { metadata: { name: 'old' }, involvedObject: { namespace: 'default' }, message: 'hello' },
  })
  const { text } = await watch
  const [event] = text.split('\n').map((line) => (line ? (JSON.parse(line) as Json) : undefined))
  assert.deepEqual(
    [event.type, event.object.apiVersion, event.object.note],
    ['ADDED', 'events.k8s.io/v1', 'hello'],
  )
})

test('turning an event into its other form and back changes nothing', () => {
  const value = fc.oneof(
    fc.string(),
    fc.integer(),
    fc.constant(null),
    fc.dictionary(fc.string(), fc.string()),
  )
  const fields = ['message', 'count', 'source', 'series', 'reason', 'reportingComponent', 'firstTimestamp']
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...fields), value, { noNullPrototype: true }), (more) => {
      const event = {
        kind: 'Event',
        apiVersion: 'v1',
        metadata: { name: 'e' },
        involvedObject: {},
        ...more,
      } as unknown as KubeObject
      assert.deepEqual(coreEventOf(reportedEventOf(event)), event)
    }),
  )
})
