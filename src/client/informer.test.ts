import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError, type KubeObject } from '../api/index.ts'
import { FakeClock, silentLogger, until } from '../stdx/index.ts'
import type { KindRef } from './api-client.ts'
import { FakeApiClient } from './fake-api-client.ts'
import { Informer, keyOf, refOf } from './informer.ts'
import { ensureDeleted, Informers } from './informers.ts'

const kind: KindRef = { group: '', version: 'v1', kind: 'ConfigMap', plural: 'configmaps', namespaced: true }

function configMap(name: string, { namespace = 'default', ...metadata }: Record<string, unknown> = {}) {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace, ...metadata }, data: {} }
}

class World implements AsyncDisposable {
  readonly clock = new FakeClock()
  readonly client = new FakeApiClient({ clock: this.clock })
  readonly informer = new Informer({ client: this.client, kind, clock: this.clock, log: silentLogger })

  async until<T>(condition: () => T): Promise<NonNullable<T>> {
    return until(
      () => {
        const value = condition()
        if (!value) this.clock.advance(1_000)
        return value
      },
      { everyMs: 1, timeoutMs: 20_000 },
    )
  }

  names(): string[] {
    return this.informer
      .list()
      .map((object) => object.metadata.name)
      .toSorted()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.informer.stop()
  }
}

test('keys and references are two forms of the same', () => {
  assert.deepEqual(refOf('default/web'), { namespace: 'default', name: 'web' })
  assert.deepEqual(refOf('/web'), { name: 'web' })
  assert.equal(keyOf({ metadata: { name: 'web' } }), '/web')
})

test('an informer has what there was and what comes, and tells each change once', async () => {
  await using world = new World()
  await world.client.create(kind, configMap('a'))
  const told: string[] = []
  world.informer.subscribe(({ key, old, object }) =>
    told.push(`${key} ${old ? 'old' : 'new'} ${object ? 'there' : 'gone'}`),
  )
  world.informer.start()
  await world.informer.synced
  assert.deepEqual(world.names(), ['a'])
  await world.client.create(kind, configMap('b'))
  await world.client.patch(
    kind,
    { namespace: 'default', name: 'a' },
    { data: { x: '1' } },
    { type: 'application/merge-patch+json' },
  )
  await world.client.delete(kind, { namespace: 'default', name: 'a' })
  await world.until(() => told.length === 4)
  assert.deepEqual(told, [
    'default/a new there',
    'default/b new there',
    'default/a old there',
    'default/a old gone',
  ])
})

test('who subscribes later hears of everything that is there', async () => {
  await using world = new World()
  await world.client.create(kind, configMap('a'))
  world.informer.start()
  await world.informer.synced
  const told: string[] = []
  const unsubscribe = world.informer.subscribe(({ key }) => told.push(key))
  assert.deepEqual(told, ['default/a'])
  unsubscribe()
  await world.client.create(kind, configMap('b'))
  await world.until(() => world.names().length === 2)
  assert.deepEqual(told, ['default/a'])
})

test('after 410 Expired it lists again and misses neither deletions nor changes', async () => {
  await using world = new World()
  for (const name of ['a', 'b', 'c']) await world.client.create(kind, configMap(name))
  world.informer.start()
  await world.informer.synced
  const gone: string[] = []
  world.informer.subscribe(({ key, object }) => void (object ?? gone.push(key)))
  // All within one turn, so that the watch wakes up when its history is gone.
  const changes = [
    world.client.delete(kind, { namespace: 'default', name: 'b' }),
    world.client.create(kind, configMap('d')),
    Promise.resolve()
      .then(() => Promise.resolve())
      .then(() => world.client.compact()),
  ]
  await Promise.all(changes)
  await world.until(() => world.names().join() === 'a,c,d')
  assert.deepEqual(gone, ['default/b'])
})

test('a server that cannot be reached is asked again, and what was known stays known', async () => {
  await using world = new World()
  await world.client.create(kind, configMap('a'))
  let failures = 3
  world.client.intercept = ({ verb }) => {
    if (verb === 'list' && failures-- > 0) throw new ApiError('ServiceUnavailable', 'not now')
  }
  world.informer.start()
  assert.equal(world.informer.hasSynced, false)
  await world.until(() => world.informer.hasSynced)
  assert.deepEqual(world.names(), ['a'])
})

test('objects are found by namespace, owner, uid and indexes of one’s own, also after they changed', async () => {
  await using world = new World()
  const owner = { apiVersion: 'v1', kind: 'ConfigMap', name: 'o', uid: 'u-1' }
  await world.client.create(kind, configMap('a', { ownerReferences: [owner], labels: { app: 'x' } }))
  await world.client.create(kind, configMap('b', { namespace: 'other', labels: { app: 'x' } }))
  world.informer.start()
  await world.informer.synced
  world.informer.index('app', (object) => [object.metadata.labels?.['app'] ?? ''])
  const found = (objects: readonly KubeObject[]) => objects.map((object) => object.metadata.name)
  assert.deepEqual(found(world.informer.list('default')), ['a'])
  assert.deepEqual(found(world.informer.byOwner('u-1')), ['a'])
  assert.deepEqual(found(world.informer.indexed('app', 'x')), ['a', 'b'])
  const [a] = world.informer.list('default')
  assert.equal(world.informer.byUid(a?.metadata.uid ?? '')?.metadata.name, 'a')
  await world.client.patch(
    kind,
    { namespace: 'default', name: 'a' },
    { metadata: { ownerReferences: null, labels: { app: 'y' } } },
    { type: 'application/merge-patch+json' },
  )
  await world.until(() => world.informer.indexed('app', 'y').length === 1)
  assert.deepEqual(found(world.informer.byOwner('u-1')), [])
  assert.deepEqual(found(world.informer.indexed('app', 'x')), ['b'])
})

test('a write through the informers’ client is seen at once, and its event is not told twice', async () => {
  const client = new FakeApiClient()
  const informers = new Informers({ client, clock: new FakeClock(), log: silentLogger })
  const informer = informers.of(kind)
  await informers.synced()
  let told = 0
  informer.subscribe(() => void (told += 1))
  const created: KubeObject = await informers.client.create(kind, configMap('a'))
  assert.equal(informer.find(created.metadata)?.metadata.uid, created.metadata.uid)
  await until(() => told === 1)
  await ensureDeleted(informers.client, kind, created)
  await ensureDeleted(informers.client, kind, created)
  await until(() => informer.size === 0)
  assert.equal(told, 2)
  assert.equal(informers.of(kind), informer, 'one informer per kind')
  await informers.stop()
})

test('an object that we deleted counts as going until the watch says so', async () => {
  const client = new FakeApiClient()
  const informers = new Informers({ client, clock: new FakeClock(), log: silentLogger })
  const informer = informers.of(kind)
  await informers.synced()
  const held: KubeObject = await informers.client.create(
    kind,
    configMap('a', { finalizers: ['example.com/hold'] }),
  )
  const deleting = ensureDeleted(informers.client, kind, held)
  await deleting
  assert.ok(informer.isGoing(held))
  await until(() => informer.find(held.metadata)?.metadata.deletionTimestamp)
  assert.ok(informer.isGoing(informer.find(held.metadata) ?? held))
  await informers.stop()
})

test('whatever is written, cut off and forgotten, the informer ends with what the server has', async () => {
  const action = fc.oneof(
    fc.record({ do: fc.constant('create' as const), name: fc.constantFrom('a', 'b', 'c') }),
    fc.record({ do: fc.constant('change' as const), name: fc.constantFrom('a', 'b', 'c') }),
    fc.record({ do: fc.constant('delete' as const), name: fc.constantFrom('a', 'b', 'c') }),
    fc.record({ do: fc.constant('compact' as const), name: fc.constant('') }),
    fc.record({ do: fc.constant('wait' as const), name: fc.constant('') }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 25 }), async (actions) => {
      await using world = new World()
      const informers = new Informers({ client: world.client, clock: world.clock, log: silentLogger })
      const informer = informers.of(kind)
      let counter = 0
      const believed = new Map<string, string>()
      informer.subscribe(({ key, object }) => {
        if (object) believed.set(key, object.metadata.resourceVersion)
        else believed.delete(key)
      })
      for (const { do: what, name } of actions) {
        const ref = { namespace: 'default', name }
        if (what === 'compact') world.client.compact()
        else if (what === 'wait') await new Promise((resolve) => setImmediate(resolve))
        else {
          const patch = { data: { n: String((counter += 1)) } }
          const write = {
            create: () => informers.client.create(kind, configMap(name)),
            change: () => informers.client.patch(kind, ref, patch, { type: 'application/merge-patch+json' }),
            delete: () => informers.client.delete(kind, ref),
          }[what]
          // Whether it exists or not is part of the game.
          await Promise.allSettled([write()])
        }
      }
      const actual = () =>
        world.client
          .all(kind)
          .map((o) => `${keyOf(o)} ${o.metadata.resourceVersion}`)
          .toSorted()
          .join()
      const seen = () =>
        informer
          .list()
          .map((o) => `${keyOf(o)} ${o.metadata.resourceVersion}`)
          .toSorted()
          .join()
      await world.until(() => informer.hasSynced && seen() === actual())
      assert.equal(
        [...believed]
          .map(([key, version]) => `${key} ${version}`)
          .toSorted()
          .join(),
        actual(),
      )
      await informers.stop()
    }),
    { numRuns: 100 },
  )
})
