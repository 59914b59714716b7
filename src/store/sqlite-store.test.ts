import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, describe, test } from 'node:test'
import * as fc from 'fast-check'
import { type KubeObject, parseTenantName } from '../api/index.ts'
import { FakeClock, silentLogger } from '../stdx/index.ts'
import { CONNECTION_IDLE_MS, PROGRESS_EVERY_MS, type StoreLimits } from './limits.ts'
import { SqliteStore } from './sqlite-store.ts'
import {
  RevisionCompacted,
  RevisionConflict,
  StoreCorrupt,
  type StoreEvent,
  StoreFull,
  type StoreKey,
  StoreUnavailable,
} from './store.ts'
import { sharedWriter, type Writer, WriterError } from './writer.ts'

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-store-'))
after(() => rmSync(directory, { recursive: true, force: true }))

const red = parseTenantName('red')
const blue = parseTenantName('blue')
const dataKey = new Uint8Array(randomBytes(32))
let files = 0

function setUp(limits: Partial<StoreLimits> = {}) {
  const path = join(directory, `${files++}`, 'store.sqlite')
  const clock = new FakeClock()
  const open = (changes: Partial<Parameters<typeof SqliteStore.open>[0]> = {}, writer?: Writer) =>
    SqliteStore.open({ path, tenant: red, dataKey, clock, log: silentLogger, limits, ...changes }, writer)
  return { path, clock, open }
}

function configMap(name: string, data: Record<string, string> = {}): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace: 'default', uid: '', resourceVersion: '', creationTimestamp: '' },
    data,
  }
}

const keyOf = (name: string): StoreKey => `configmaps./default/${name}`

async function take(events: AsyncIterable<StoreEvent>, count: number): Promise<StoreEvent[]> {
  const taken: StoreEvent[] = []
  for await (const event of events) {
    taken.push(event)
    if (taken.length === count) break
  }
  return taken
}

/** A comparable form of an event. */
const brief = (event: StoreEvent) =>
  event.type === 'PROGRESS' ? `PROGRESS ${event.revision}` : `${event.type} ${event.key} ${event.revision}`

describe('a store', () => {
  test('gives back what was put, frozen and with its resourceVersion', async () => {
    const { open } = setUp()
    await using store = await open()
    assert.equal(store.revision, 1)
    const put = await store.put(keyOf('a'), configMap('a', { x: '1' }), 0)
    assert.equal(put.revision, 2)
    assert.equal(put.object.metadata.resourceVersion, '2')
    assert.equal(put.json(), JSON.stringify(put.object))
    assert.throws(() => ((put.object['data'] as Record<string, string>)['x'] = '2'), TypeError)
    assert.equal(store.get(keyOf('a')), put)
    assert.equal(store.get(keyOf('b')), undefined)
  })

  test('refuses a write whose expectation is not met', async () => {
    const { open } = setUp()
    await using store = await open()
    await store.put(keyOf('a'), configMap('a'), 0)
    await assert.rejects(store.put(keyOf('a'), configMap('a'), 0), new RevisionConflict(keyOf('a'), 2))
    await assert.rejects(store.put(keyOf('a'), configMap('a'), 3), RevisionConflict)
    await assert.rejects(store.put(keyOf('b'), configMap('b'), 1), RevisionConflict)
    await assert.rejects(store.delete(keyOf('b'), 0), RevisionConflict)
    await assert.rejects(store.delete(keyOf('a'), 1), RevisionConflict)
    assert.equal(store.revision, 2)
  })

  test('refuses a second write of a key while the first is on its way', async () => {
    const { open } = setUp()
    await using store = await open()
    const first = store.put(keyOf('a'), configMap('a'), 0)
    const second = store.put(keyOf('a'), configMap('a'), 0)
    await assert.rejects(second, RevisionConflict)
    await store.settled(keyOf('a'))
    assert.equal(store.get(keyOf('a'))?.revision, 2)
    await first
  })

  test('shows a write to nobody before it is durable', async () => {
    const { open } = setUp()
    const gate = Promise.withResolvers<void>()
    const writer: Writer = {
      async ask(request) {
        if (request.op === 'commit') await gate.promise
        return sharedWriter.ask(request)
      },
    }
    await using store = await open({}, writer)
    const put = store.put(keyOf('a'), configMap('a'), 0)
    await Promise.resolve()
    assert.equal(store.get(keyOf('a')), undefined)
    assert.equal(store.revision, 1)
    gate.resolve()
    await put
    assert.equal(store.revision, 2)
  })

  test('lists in key order, in pages, and as of an older revision', async () => {
    const { open } = setUp()
    await using store = await open()
    for (const name of ['c', 'a', 'b']) await store.put(keyOf(name), configMap(name), 0)
    await store.put('secrets./default/a', configMap('a'), 0)
    const names = (list: ReturnType<typeof store.list>) => list.items.map((item) => item.object.metadata.name)
    const first = store.list('configmaps./', { limit: 2 })
    assert.deepEqual([names(first), first.revision, first.more], [['a', 'b'], 5, true])
    await store.delete(keyOf('c'), 2)
    await store.put(keyOf('b2'), configMap('b2'), 0)
    const second = store.list('configmaps./', {
      limit: 2,
      startAfter: keyOf('b'),
      atRevision: first.revision,
    })
    assert.deepEqual([names(second), second.revision, second.more], [['c'], 5, false])
    assert.deepEqual(names(store.list('configmaps./')), ['a', 'b', 'b2'])
    assert.equal(store.count('configmaps./', keyOf('a')), 2)
    assert.equal(store.count(''), 4)
    assert.throws(() => store.list('', { atRevision: 99 }), RevisionCompacted)
  })

  test('is the same after it was opened again, revision and history included', async () => {
    const { open } = setUp()
    {
      await using store = await open()
      await store.put(keyOf('a'), configMap('a', { v: '1' }), 0)
      await store.put(keyOf('a'), configMap('a', { v: '2' }), 2)
      await store.put(keyOf('b'), configMap('b'), 0)
      await store.delete(keyOf('b'), 4)
    }
    await using store = await open()
    assert.equal(store.revision, 5)
    assert.equal(store.objectCount, 1)
    assert.deepEqual(store.get(keyOf('a'))?.object['data'], { v: '2' })
    const events = await take(store.watch('', { after: 2, signal: new AbortController().signal }), 4)
    assert.deepEqual(events.map(brief), [
      'PUT configmaps./default/a 3',
      'PUT configmaps./default/b 4',
      'DELETE configmaps./default/b 5',
      'PROGRESS 5',
    ])
    assert.equal((await store.put(keyOf('b'), configMap('b'), 0)).revision, 6)
  })

  test('opens its file again after it was idle', async () => {
    const { open, clock, path } = setUp()
    await using store = await open()
    await store.put(keyOf('a'), configMap('a'), 0)
    assert.ok(statSync(`${path}-wal`).size > 0)
    clock.advance(CONNECTION_IDLE_MS)
    await sharedWriter.ask({ op: 'release', path })
    assert.throws(() => statSync(`${path}-wal`))
    await store.put(keyOf('b'), configMap('b'), 0)
    assert.equal(store.revision, 3)
  })

  test('refuses to be opened twice', async () => {
    const { open } = setUp()
    await using _store = await open()
    await assert.rejects(open(), StoreUnavailable)
  })

  test('refuses to write after another process wrote to its file', async () => {
    const { open, path, clock } = setUp()
    await using store = await open()
    await store.put(keyOf('a'), configMap('a'), 0)
    clock.advance(CONNECTION_IDLE_MS)
    await sharedWriter.ask({ op: 'release', path })
    const database = new DatabaseSync(path)
    database.exec(`UPDATE head SET sealed = x'00'`)
    database.close()
    await assert.rejects(store.put(keyOf('b'), configMap('b'), 0), StoreUnavailable)
    await assert.rejects(store.put(keyOf('c'), configMap('c'), 0), StoreUnavailable)
    assert.throws(() => store.watch('', { after: 2, signal: new AbortController().signal }), StoreUnavailable)
  })

  test('goes on with the same revisions after a commit failed', async () => {
    const { open } = setUp()
    let full = false
    const writer: Writer = {
      async ask(request) {
        if (full && request.op === 'commit')
          throw new WriterError({ message: 'database or disk is full', sqliteCode: 13 })
        return sharedWriter.ask(request)
      },
    }
    await using store = await open({}, writer)
    await store.put(keyOf('a'), configMap('a'), 0)
    full = true
    const failed = [
      store.put(keyOf('b'), configMap('b'), 0),
      store.delete(keyOf('a'), 2),
      store.put(keyOf('c'), configMap('c'), 0),
    ]
    for (const write of failed) await assert.rejects(write, StoreUnavailable)
    assert.equal(store.revision, 2)
    full = false
    assert.equal((await store.put(keyOf('b'), configMap('b'), 0)).revision, 3)
    assert.equal(store.objectCount, 2)
  })

  test('writes that arrive together share a commit', async () => {
    const { open } = setUp()
    let commits = 0
    const writer: Writer = {
      ask(request) {
        if (request.op === 'commit') commits++
        return sharedWriter.ask(request)
      },
    }
    await using store = await open({}, writer)
    const writes = Array.from({ length: 100 }, (_, i) => store.put(keyOf(`n${i}`), configMap(`n${i}`), 0))
    const revisions = (await Promise.all(writes)).map((write) => write.revision)
    assert.deepEqual(
      revisions,
      revisions.map((_, i) => i + 2),
    )
    assert.equal(commits, 1)
  })

  test('closing waits for writes on their way', async () => {
    const { open } = setUp()
    const store = await open()
    const put = store.put(keyOf('a'), configMap('a'), 0)
    await Promise.resolve()
    await store.close()
    await put
    await assert.rejects(store.put(keyOf('b'), configMap('b'), 0), StoreUnavailable)
    await using again = await open()
    assert.equal(again.objectCount, 1)
  })

  test('keeps a field named __proto__ as data', async () => {
    const { open } = setUp()
    {
      await using store = await open()
      const object = JSON.parse('{"metadata":{},"data":{"__proto__":{"polluted":"yes"}}}') as KubeObject
      await store.put(keyOf('a'), object, 0)
    }
    await using store = await open()
    assert.match(store.get(keyOf('a'))!.json(), /"__proto__":\{"polluted":"yes"\}/)
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined)
    assert.ok(Object.hasOwn(store.get(keyOf('a'))!.object['data'] as object, '__proto__'))
  })
})

describe('limits of a store', () => {
  test('objects, bytes and the size of an object are bounded, and deleting makes room', async () => {
    const { open } = setUp({ objectsMax: 2, bytesMax: 1_000, objectBytesMax: 600 })
    await using store = await open()
    await store.put(keyOf('a'), configMap('a'), 0)
    await assert.rejects(store.put(keyOf('big'), configMap('big', { x: 'x'.repeat(600) }), 0), StoreFull)
    await store.put(keyOf('b'), configMap('b', { x: 'x'.repeat(400) }), 0)
    await assert.rejects(store.put(keyOf('c'), configMap('c'), 0), StoreFull)
    await assert.rejects(store.put(keyOf('a'), configMap('a', { x: 'x'.repeat(400) }), 2), StoreFull)
    await store.put(keyOf('b'), configMap('b'), 3)
    await store.delete(keyOf('a'), 2)
    await store.put(keyOf('c'), configMap('c'), 0)
    assert.equal(store.objectCount, 2)
  })

  test('writes on their way count already', async () => {
    const { open } = setUp({ objectsMax: 1 })
    await using store = await open()
    const results = await Promise.allSettled(['a', 'b'].map((n) => store.put(keyOf(n), configMap(n), 0)))
    assert.deepEqual(
      results.map((r) => r.status),
      ['fulfilled', 'rejected'],
    )
  })

  test('the history is bounded, and what fell out of it is told as compacted', async () => {
    const { open } = setUp({ historyEventsMax: 10 })
    {
      await using store = await open()
      await store.put(keyOf('kept'), configMap('kept'), 0)
      for (let i = 0; i < 50; i++) {
        const { revision } = await store.put(keyOf('a'), configMap('a', { i: `${i}` }), 0)
        await store.delete(keyOf('a'), revision)
      }
      assert.throws(
        () => store.watch('', { after: 1, signal: new AbortController().signal }),
        RevisionCompacted,
      )
      assert.throws(() => store.list('', { atRevision: 50 }), RevisionCompacted)
      assert.equal(store.list('', { atRevision: store.revision - 5 }).items.length, 2)
    }
    await using store = await open()
    assert.deepEqual([store.revision, store.objectCount], [102, 1])
    assert.throws(
      () => store.watch('', { after: 50, signal: new AbortController().signal }),
      RevisionCompacted,
    )
    const events = await take(store.watch('', { after: 97, signal: new AbortController().signal }), 5)
    assert.deepEqual(
      events.map((event) => event.revision),
      [98, 99, 100, 101, 102],
    )
  })

  test('a watcher that is too slow is told so and the others are not disturbed', async () => {
    const { open } = setUp({ historyEventsMax: 4 })
    await using store = await open()
    const slow = store.watch('', { after: 1, signal: new AbortController().signal })[Symbol.asyncIterator]()
    await slow.next()
    for (let i = 0; i < 20; i++) await store.put(keyOf(`n${i}`), configMap(`n${i}`), 0)
    await assert.rejects(slow.next(), RevisionCompacted)
    assert.equal(
      (await take(store.watch('', { after: 21, signal: new AbortController().signal }), 1)).length,
      1,
    )
  })

  test('the number of watches is bounded, and an ended one makes room', async () => {
    const { open } = setUp({ watchersMax: 1 })
    await using store = await open()
    const stop = new AbortController()
    const watch = store.watch('', { after: 1, signal: stop.signal })
    assert.throws(() => store.watch('', { after: 1, signal: stop.signal }), StoreFull)
    stop.abort()
    assert.deepEqual(await take(watch, 1), [])
    store.watch('', { after: 1, signal: AbortSignal.abort() })
    store.watch('', { after: 1, signal: new AbortController().signal })
  })
})

describe('a watch', () => {
  test('gets only changes under its prefix, and learns of the others as progress', async () => {
    const { open, clock } = setUp()
    await using store = await open()
    const stop = new AbortController()
    const watch = store.watch('pods./', { after: 1, signal: stop.signal })[Symbol.asyncIterator]()
    assert.equal(brief((await watch.next()).value), 'PROGRESS 1')
    const next = watch.next()
    await store.put(keyOf('a'), configMap('a'), 0)
    clock.advance(PROGRESS_EVERY_MS)
    assert.equal(brief((await next).value), 'PROGRESS 2')
    const then = watch.next()
    await store.put('pods./default/p', configMap('p'), 0)
    assert.equal(brief((await then).value), 'PUT pods./default/p 3')
    stop.abort()
    assert.equal((await watch.next()).done, true)
  })

  test('ends when the store closes', async () => {
    const { open } = setUp()
    const store = await open()
    const watch = store.watch('', { after: 1, signal: new AbortController().signal })[Symbol.asyncIterator]()
    await watch.next()
    const next = watch.next()
    await store.close()
    assert.equal((await next).done, true)
  })

  test('carries the state before', async () => {
    const { open } = setUp()
    await using store = await open()
    await store.put(keyOf('a'), configMap('a', { v: '1' }), 0)
    await store.put(keyOf('a'), configMap('a', { v: '2' }), 2)
    await store.delete(keyOf('a'), 3)
    const events = await take(store.watch('', { after: 1, signal: new AbortController().signal }), 3)
    const states = events.map((event) => event.type !== 'PROGRESS' && event.previous?.['data'])
    assert.deepEqual(states, [undefined, { v: '1' }, { v: '2' }])
  })
})

describe('a partition on disk', () => {
  const secret = 'correct-horse-battery-staple'

  async function written() {
    const setup = setUp()
    await using store = await setup.open()
    for (const name of ['a', 'b', 'c']) await store.put(keyOf(name), configMap(name, { secret }), 0)
    await store.delete(keyOf('b'), 3)
    return setup
  }

  function edit(path: string, sql: string): void {
    const database = new DatabaseSync(path)
    database.exec(sql)
    database.close()
  }

  test('shows neither contents nor names, to nobody but its user', async () => {
    const { path } = await written()
    const bytes = readFileSync(path).toString('latin1')
    for (const text of [secret, 'configmaps', 'default', 'ConfigMap', 'red'])
      assert.ok(!bytes.includes(text), text)
    assert.equal(statSync(path).mode & 0o777, 0o600)
  })

  test('does not open with another key or for another tenant', async () => {
    const { open } = await written()
    await assert.rejects(open({ dataKey: new Uint8Array(32) }), { name: 'Error', message: /does not fit/ })
    await assert.rejects(open({ tenant: blue }), StoreCorrupt)
    await using store = await open()
    assert.equal(store.objectCount, 2)
  })

  for (const [attack, sql] of Object.entries({
    'a changed row': `UPDATE changes SET sealed = zeroblob(length(sealed)) WHERE revision = 3`,
    'a removed row': `DELETE FROM changes WHERE revision = 3`,
    'the newest row removed': `DELETE FROM changes WHERE revision = 5`,
    'swapped rows': `UPDATE changes SET sealed = (SELECT sealed FROM changes WHERE revision = 4) WHERE revision = 2`,
    'a row at another revision': `UPDATE changes SET revision = 6 WHERE revision = 5`,
    'a copied row': `INSERT INTO changes SELECT 6, sealed FROM changes WHERE revision = 5`,
    'all rows removed': `DELETE FROM changes`,
    'a changed head': `UPDATE head SET revision = 4`,
    'a removed head': `DELETE FROM head`,
    'a changed salt': `UPDATE header SET salt = zeroblob(32)`,
    'another format': `UPDATE header SET format = 2`,
    'a trigger': `CREATE TRIGGER t AFTER INSERT ON changes BEGIN DELETE FROM changes; END`,
  }))
    test(`does not open with ${attack}`, async () => {
      const { open, path } = await written()
      edit(path, sql)
      await assert.rejects(open(), StoreCorrupt)
    })

  test('does not open with rows of its own past put back', async () => {
    const { open, path } = setUp({ historyEventsMax: 1 })
    {
      await using store = await open()
      await store.put(keyOf('role'), configMap('role', { may: 'everything' }), 0)
    }
    copyFileSync(path, `${path}.old`)
    {
      await using store = await open()
      await store.delete(keyOf('role'), 2)
      for (const name of ['a', 'b', 'c', 'd']) await store.put(keyOf(name), configMap(name), 0)
    }
    edit(
      path,
      `ATTACH '${path}.old' AS old; INSERT INTO changes SELECT * FROM old.changes WHERE revision = 2`,
    )
    await assert.rejects(open(), StoreCorrupt)
  })

  test('does not open when torn, emptied, or not a database', async () => {
    for (const damage of [
      (path: string) => truncateSync(path, 0),
      (path: string) => truncateSync(path, 4096),
      (path: string) => truncateSync(path, statSync(path).size - 4096),
      (path: string) => writeFileSync(path, 'not a database at all'.repeat(1000)),
    ]) {
      const { open, path } = await written()
      damage(path)
      await assert.rejects(open(), StoreCorrupt)
      // A refused file is left as it is, for whoever has to look at it.
      assert.ok(statSync(path))
    }
  })

  test('is not made anew where it must exist', async () => {
    const { open } = setUp()
    await assert.rejects(open({ mustExist: true }), StoreCorrupt)
    await assert.rejects(open({ mustExist: true }), StoreCorrupt)
  })

  test('never opens with a flipped bit that changes what it holds', async () => {
    const { open, path } = await written()
    const intact = readFileSync(path)
    const states = new Set<string>()
    await fc.assert(
      fc.asyncProperty(fc.nat(intact.length * 8 - 1), async (bit) => {
        const bytes = Buffer.from(intact)
        bytes[bit >> 3]! ^= 1 << (bit & 7)
        writeFileSync(path, bytes)
        try {
          await using store = await open()
          states.add(
            `${store.revision} ${store
              .list('')
              .items.map((item) => item.json())
              .join()}`,
          )
        } catch (error) {
          assert.ok(error instanceof StoreCorrupt || error instanceof StoreUnavailable, String(error))
        }
        rmSync(`${path}-wal`, { force: true })
      }),
      { numRuns: 60 },
    )
    assert.ok(states.size <= 1, [...states].join('\n'))
  })
})
