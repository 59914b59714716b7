import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, test } from 'node:test'
import * as fc from 'fast-check'
import { type KubeObject, parseTenantName } from '../api/index.ts'
import { FakeClock, silentLogger } from '../stdx/index.ts'
import { SqliteStore } from './sqlite-store.ts'
import { RevisionCompacted, RevisionConflict, type StoreEvent, type StoreKey } from './store.ts'

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-store-model-'))
after(() => rmSync(directory, { recursive: true, force: true }))

const tenant = parseTenantName('red')
const dataKey = new Uint8Array(randomBytes(32))
const HISTORY_EVENTS_MAX = 8
let files = 0

/** What a store is: a map for each revision. */
class Model {
  states: Map<StoreKey, { revision: number; value: string }>[] = [new Map(), new Map()]
  get revision() {
    return this.states.length - 1
  }
  get now() {
    return this.states[this.revision]!
  }
  change(write: (next: Map<StoreKey, { revision: number; value: string }>, revision: number) => void) {
    const next = new Map(this.now)
    write(next, this.revision + 1)
    this.states.push(next)
  }
  list(prefix: string, atRevision: number) {
    return [...this.states[atRevision]!]
      .filter(([key]) => key.startsWith(prefix))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, { revision, value }]) => `${key} ${revision} ${value}`)
  }
}

/** A reader that follows events from the start must arrive at the same state. */
class Follower {
  private readonly stop = new AbortController()
  private readonly events: AsyncIterator<StoreEvent>
  readonly state = new Map<StoreKey, number>()
  revision: number
  constructor(store: SqliteStore, after: number, state: Iterable<[StoreKey, number]>) {
    this.revision = after
    this.state = new Map(state)
    this.events = store.watch('', { after, signal: this.stop.signal })[Symbol.asyncIterator]()
  }
  async catchUp(revision: number) {
    while (this.revision < revision) {
      const { value: event } = await this.events.next()
      if (event.type === 'PROGRESS') continue
      assert.equal(event.revision, this.revision + 1, 'a gap between events')
      this.revision = event.revision
      assert.equal(event.previous !== undefined, this.state.has(event.key))
      if (event.type === 'PUT') this.state.set(event.key, event.revision)
      else this.state.delete(event.key)
    }
  }
  end() {
    this.stop.abort()
  }
}

type Real = { store: SqliteStore; follower: Follower; reopen: () => Promise<SqliteStore> }

const objectOf = (value: string): KubeObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: 'x', uid: '', resourceVersion: '', creationTimestamp: '' },
  value,
})

const stateOf = (model: Model) =>
  [...model.now].map(([key, { revision }]): [StoreKey, number] => [key, revision])

async function check(model: Model, { store, follower }: Real) {
  assert.equal(store.revision, model.revision)
  assert.equal(store.objectCount, model.now.size)
  await follower.catchUp(model.revision)
  assert.deepEqual([...follower.state].sort(), stateOf(model).sort())
}

class Put implements fc.AsyncCommand<Model, Real> {
  readonly key: StoreKey
  readonly value: string
  readonly stale: boolean
  constructor(key: StoreKey, value: string, stale: boolean) {
    this.key = key
    this.value = value
    this.stale = stale
  }
  check = () => true
  async run(model: Model, real: Real) {
    const actual = model.now.get(this.key)?.revision ?? 0
    const write = real.store.put(this.key, objectOf(this.value), this.stale ? actual + 1 : actual)
    if (this.stale) return assert.rejects(write, RevisionConflict)
    const { revision } = await write
    assert.equal(revision, model.revision + 1)
    model.change((next) => next.set(this.key, { revision, value: this.value }))
    await check(model, real)
  }
  toString = () => `put ${this.key} ${this.stale ? 'stale' : ''}`
}

class Delete implements fc.AsyncCommand<Model, Real> {
  readonly key: StoreKey
  constructor(key: StoreKey) {
    this.key = key
  }
  check = (model: Readonly<Model>) => model.now.has(this.key)
  async run(model: Model, real: Real) {
    await real.store.delete(this.key, model.now.get(this.key)!.revision)
    model.change((next) => next.delete(this.key))
    await check(model, real)
  }
  toString = () => `delete ${this.key}`
}

class Burst implements fc.AsyncCommand<Model, Real> {
  readonly keys: StoreKey[]
  constructor(keys: StoreKey[]) {
    this.keys = keys
  }
  check = () => true
  async run(model: Model, real: Real) {
    const writes = this.keys.map((key) =>
      real.store.put(key, objectOf('burst'), model.now.get(key)?.revision ?? 0),
    )
    const settled = await Promise.allSettled(writes)
    const seen = new Set<StoreKey>()
    for (const [i, result] of settled.entries()) {
      const key = this.keys[i]!
      assert.equal(result.status, seen.has(key) ? 'rejected' : 'fulfilled')
      seen.add(key)
      if (result.status === 'fulfilled')
        model.change((next, revision) => next.set(key, { revision, value: 'burst' }))
    }
    await check(model, real)
  }
  toString = () => `burst ${this.keys.join(' ')}`
}

class List implements fc.AsyncCommand<Model, Real> {
  readonly prefix: string
  readonly limit: number
  readonly back: number
  constructor(prefix: string, limit: number, back: number) {
    this.prefix = prefix
    this.limit = limit
    this.back = back
  }
  check = () => true
  async run(model: Model, { store }: Real) {
    const atRevision = Math.max(1, model.revision - this.back)
    const found: string[] = []
    let startAfter: StoreKey | undefined
    try {
      for (let more = true; more;) {
        const page = store.list(this.prefix, {
          limit: this.limit,
          atRevision,
          ...(startAfter ? { startAfter } : {}),
        })
        for (const { key, revision, object } of page.items)
          found.push(`${key} ${revision} ${String(object['value'])}`)
        startAfter = page.items.at(-1)?.key
        ;({ more } = page)
        assert.equal(page.revision, atRevision)
      }
    } catch (error) {
      assert.ok(error instanceof RevisionCompacted && this.back > HISTORY_EVENTS_MAX / 2, String(error))
      return
    }
    assert.deepEqual(found, model.list(this.prefix, atRevision))
    assert.equal(store.count(this.prefix), model.list(this.prefix, model.revision).length)
  }
  toString = () => `list ${this.prefix} limit ${this.limit} back ${this.back}`
}

class Reopen implements fc.AsyncCommand<Model, Real> {
  check = () => true
  async run(model: Model, real: Real) {
    await real.store.close()
    real.store = await real.reopen()
    // The follower resumes where it was, as a client would.
    real.follower = new Follower(real.store, real.follower.revision, real.follower.state)
    await check(model, real)
    assert.deepEqual(
      real.store
        .list('')
        .items.map(({ key, revision, object }) => `${key} ${revision} ${String(object['value'])}`),
      model.list('', model.revision),
    )
  }
  toString = () => 'reopen'
}

test('a store behaves like a map with revisions, whatever is done to it in whatever order', async () => {
  const key = fc
    .tuple(
      fc.constantFrom('pods.', 'pods.x', 'secrets.'),
      fc.constantFrom('', 'a', 'b'),
      fc.constantFrom('x', 'y', 'é', '\u{1F600}'),
    )
    .map((parts) => parts.join('/') as StoreKey)
  const commands = fc.commands<Model, Real, false>(
    [
      fc.tuple(key, fc.string(), fc.boolean()).map(([k, value, stale]) => new Put(k, value, stale)),
      fc.tuple(key, fc.string()).map(([k, value]) => new Put(k, value, false)),
      key.map((k) => new Delete(k)),
      fc.array(key, { minLength: 1, maxLength: 12 }).map((keys) => new Burst(keys)),
      fc
        .tuple(
          fc.constantFrom('', 'pods./', 'pods', 'secrets./a/'),
          fc.integer({ min: 1, max: 5 }),
          fc.nat(12),
        )
        .map(([prefix, limit, back]) => new List(prefix, limit, back)),
      fc.constant(new Reopen()),
    ],
    { maxCommands: 60 },
  )
  await fc.assert(
    fc.asyncProperty(commands, async (run) => {
      const path = join(directory, `${files++}`, 'store.sqlite')
      const reopen = () =>
        SqliteStore.open({
          path,
          tenant,
          dataKey,
          clock: new FakeClock(),
          log: silentLogger,
          limits: { historyEventsMax: HISTORY_EVENTS_MAX },
        })
      const store = await reopen()
      const real = { store, reopen, follower: new Follower(store, 1, []) }
      try {
        await fc.asyncModelRun(() => ({ model: new Model(), real }), run)
      } finally {
        real.follower.end()
        await real.store.close()
      }
    }),
    { numRuns: 25 },
  )
})

const children: ChildProcess[] = []
after(() => children.forEach((child) => child.kill('SIGKILL')))

test('a writer that is killed loses nothing that it acknowledged, and leaves nothing half done', async () => {
  const path = join(directory, 'killed', 'store.sqlite')
  const acknowledged = new Map<string, number>()
  for (const killAfter of [1, 40, 200]) {
    const program = new URL('./testdata/write-until-killed.ts', import.meta.url).pathname
    const child = spawn(
      process.execPath,
      [program, path, Buffer.from(dataKey).toString('hex'), `${killAfter}`],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    children.push(child)
    let lines = 0
    for await (const line of createInterface({ input: child.stdout })) {
      const [name, revision] = line.split(' ')
      acknowledged.set(name!, Number(revision))
      if (++lines === killAfter) child.kill('SIGKILL')
    }
    if (child.signalCode === null && child.exitCode === null) await once(child, 'exit')
    assert.equal(child.signalCode, 'SIGKILL')
    await using store = await SqliteStore.open({
      path,
      tenant,
      dataKey,
      clock: new FakeClock(),
      log: silentLogger,
      mustExist: true,
    })
    const newest = Math.max(...acknowledged.values())
    assert.ok(store.revision >= newest)
    for (const [name, revision] of acknowledged) {
      const found = store.get(`configmaps./default/${name}`)
      assert.ok(found, `${name} was acknowledged at revision ${revision} and is gone`)
      assert.ok(found.revision >= revision)
    }
    for (const { object, revision } of store.list('').items) {
      assert.equal(object.metadata.resourceVersion, String(revision))
      assert.equal((object['data'] as { padding: string }).padding.length, 2_000)
    }
  }
})
