import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../stdx/index.ts'
import type { Answering } from '../link/index.ts'
import { ControlPlane, ADMIN, type Json } from '../../tests/conformance/control-plane.ts'
import { RENDERED_BYTES_MAX, RENDERED_OBJECTS_MAX } from './limits.ts'
import { EventEmitter } from 'node:events'
import { RenderedEvents } from './rendered-events.ts'

/** An answer that keeps what it is given. */
class Kept extends EventEmitter implements Answering {
  headersSent = false
  destroyed = false
  writableFinished = false
  writableLength = 0
  readonly pieces: (string | Buffer)[] = []
  setHeader() {}
  writeHead() {
    this.headersSent = true
  }
  flushHeaders() {}
  write(piece: string | Buffer) {
    this.pieces.push(piece)
    return true
  }
  end() {
    this.emit('close')
  }
  destroy() {
    this.destroyed = true
    this.emit('close')
  }
}

test('watchers of the same form are given the very same bytes, and those of another form others', async () => {
  await using plane = await ControlPlane.start()
  const path = '/api/v1/namespaces/default/configmaps'
  const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io'
  const METADATA = 'application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io'
  const PROTOBUF = 'application/vnd.kubernetes.protobuf'
  const watch = (accept: string, query = '') => {
    const kept = new Kept()
    const asked = {
      method: 'GET',
      url: `${path}?watch=1&resourceVersion=${plane.store.revision}${query}`,
      headers: { accept },
      readBody: () => Promise.resolve(Buffer.alloc(0)),
      discardBody: () => {},
    }
    void plane.server.handle(asked, kept, ADMIN)
    return kept
  }
  const selected = '&labelSelector=team%3Dred'
  const all = [
    ...['application/json', TABLE, METADATA, PROTOBUF].flatMap((accept) => [watch(accept), watch(accept)]),
    watch('application/json', selected),
    watch('application/json', selected),
    watch(`${TABLE}`, '&includeObject=None'),
  ]
  await until(() => all.every(({ headersSent }) => headersSent))
  const body = (labels: Json) => ({ metadata: { name: 'shared', labels }, data: { a: 'b' } })
  await plane.ask('POST', path, { body: body({ team: 'red' }) })
  await plane.ask('PUT', `${path}/shared`, { body: body({ team: 'red', change: '1' }) })
  await plane.ask('PUT', `${path}/shared`, { body: body({ team: 'blue' }) })
  await plane.ask('DELETE', `${path}/shared`)
  await until(() => all.every(({ pieces }, n) => pieces.length === (n === 8 || n === 9 ? 3 : 4)))
  const [
    json,
    again,
    table,
    tableAgain,
    metadata,
    metadataAgain,
    protobuf,
    protobufAgain,
    red,
    redAgain,
    bare,
  ] = all
  const typesOf = ({ pieces }: Kept) =>
    pieces.map((piece) => (JSON.parse(String(piece)) as { type: string }).type)
  for (const [one, other] of [
    [json, again],
    [metadata, metadataAgain],
    [protobuf, protobufAgain],
    [red, redAgain],
  ])
    for (const [n, piece] of (one?.pieces ?? []).entries()) assert.equal(piece, other?.pieces[n])
  assert.equal(String(table?.pieces[0]), String(tableAgain?.pieces[0]))
  assert.notEqual(String(table?.pieces[0]), String(bare?.pieces[0]))
  assert.deepEqual(typesOf(json!), ['ADDED', 'MODIFIED', 'MODIFIED', 'DELETED'])
  // Who sees what stops to match is told so, whoever else goes on seeing it.
  assert.deepEqual(typesOf(red!), ['ADDED', 'MODIFIED', 'DELETED'])
  assert.notEqual(red?.pieces[2], json?.pieces[2])
  assert.match(String(table?.pieces[0]), /"kind":"Table"/)
  assert.match(String(metadata?.pieces[0]), /"kind":"PartialObjectMetadata"/)
})

test('what is kept for others is bounded, in number and in bytes', () => {
  const events = new RenderedEvents()
  const objects = Array.from({ length: RENDERED_OBJECTS_MAX + 5 }, () => ({}))
  for (const object of objects) events.keep(object, 'json', Buffer.from('x'))
  assert.deepEqual(
    objects.map((object) => events.find(object, 'json') !== undefined),
    objects.map((_, n) => n >= 5),
  )
  const large = Buffer.alloc(RENDERED_BYTES_MAX / 2)
  const some = [{}, {}, {}] as const
  for (const object of some) for (const form of ['json', 'protobuf']) events.keep(object, form, large)
  assert.deepEqual(
    some.map((object) => events.find(object, 'json') !== undefined),
    [false, false, true],
  )
  assert.equal(events.find(objects.at(-1)!, 'json'), undefined)
})
