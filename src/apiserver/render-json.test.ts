import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { type KindDefinition, type KubeObject, podKind, type TenantName } from '../api/index.ts'
import { silentLogger, systemClock } from '../stdx/index.ts'
import { openStore, type StoreKey } from '../store/index.ts'
import { LIST_ITEMS_RENDERED_AT_ONCE } from './limits.ts'
import { renderJson, renderJsonList, renderJsonObject, renderJsonTable, withoutType } from './render-json.ts'
import type { Shown } from './request.ts'
import { type IncludeObject, renderTable } from './table.ts'

async function rendered(value: unknown): Promise<string> {
  const pieces: Buffer[] = []
  for await (const piece of renderJson(value)) pieces.push(piece)
  return Buffer.concat(pieces).toString()
}

test('whatever the number of items, the bytes say what JSON.stringify would', () =>
  fc.assert(
    fc.asyncProperty(
      fc.constantFrom('items', 'rows', 'data'),
      fc.jsonValue(),
      fc.array(fc.jsonValue(), { maxLength: 5 }),
      fc.integer({ min: 0, max: 2 * LIST_ITEMS_RENDERED_AT_ONCE + 1 }),
      async (key, metadata, some, length) => {
        const entries = Array.from({ length }, (_, n) => some[n % (some.length || 1)] ?? n)
        for (const value of [{ kind: 'List', metadata, [key]: entries }, { [key]: entries }, metadata])
          assert.deepEqual(JSON.parse(await rendered(value)), JSON.parse(JSON.stringify(value)))
      },
    ),
    { numRuns: 50 },
  ))

test('other work has its turn while a long list is rendered', async () => {
  const items = Array.from({ length: 10 * LIST_ITEMS_RENDERED_AT_ONCE }, (_, n) => n)
  let turns = 0
  let done = false
  const other = () => {
    turns++
    if (!done) setImmediate(other)
  }
  setImmediate(other)
  await rendered({ kind: 'List', items })
  done = true
  assert.ok(turns >= 9, `${turns} turns`)
})

async function joined(pieces: AsyncIterable<Buffer>): Promise<string> {
  const all: Buffer[] = []
  for await (const piece of pieces) all.push(piece)
  return Buffer.concat(all).toString()
}

/** Some that were written in another order, some of another type, some that are not stored, and one that is large. */
async function mixedObjects(count: number): Promise<Shown[]> {
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-json-'))
  await using store = await openStore({
    path: join(dir, 'store.sqlite'),
    tenant: 'red' as TenantName,
    dataKey: randomBytes(32),
    clock: systemClock,
    log: silentLogger,
  })
  const shown: Shown[] = []
  for (let n = 0; n < count; n++) {
    const annotations = { text: '{"kind":"ConfigMap","apiVersion":"v1","metadata":{' }
    const metadata = { name: `é"${n}`, annotations }
    const data = { n: n === 7 ? 'ß€'.repeat(150_000) : String(n), more: 'x'.repeat(5_000) }
    const typed = { kind: 'ConfigMap', apiVersion: 'v1', metadata, data }
    // What is called metadata elsewhere comes first in these.
    const untyped = { data: { metadata: 'no' }, metadata, apiVersion: 'v1', kind: 'ConfigMap' }
    const object = (n % 3 === 0
      ? typed
      : n % 3 === 1
        ? untyped
        : { ...typed, kind: 'Other' }) as unknown as KubeObject
    const stored = await store.put(`configmaps./default/${n}` as StoreKey, object, 0)
    shown.push(n % 4 === 0 ? { object: structuredClone(stored.object) } : stored)
    assert.equal(renderJsonObject(stored.object), stored.json())
  }
  await rm(dir, { recursive: true })
  return shown
}

test('a list of stored objects, of others and of both is the JSON of its items without their type', async () => {
  const all = await mixedObjects(LIST_ITEMS_RENDERED_AT_ONCE + 3)
  for (const items of [all, all.slice(0, 9), []]) {
    const text = await joined(
      renderJsonList({ kind: 'ConfigMapList' }, items, { kind: 'ConfigMap', apiVersion: 'v1' }),
    )
    const expected = { kind: 'ConfigMapList', items: items.map(({ object }) => withoutType(object)) }
    assert.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(expected)))
  }
})

test('a table made of texts has the bytes of the table made of objects', async () => {
  const all = await mixedObjects(LIST_ITEMS_RENDERED_AT_ONCE + 3)
  const columns: KindDefinition['columns'] = [
    { name: 'Name', type: 'string', description: 'é', cell: ({ metadata }) => metadata.name },
    { name: 'Now', type: 'integer', description: '', priority: 1, cell: (_, nowMs) => nowMs },
    { name: 'Nothing', type: 'string', description: '', cell: () => null },
  ]
  const include: readonly IncludeObject[] = ['None', 'Metadata', 'Object']
  for (const items of [all, all.slice(0, 9), []])
    for (const includeObject of include) {
      const options = { nowMs: 5, includeObject, metadata: { resourceVersion: '9', continue: 'x' } }
      const objects = items.map(({ object }) => object)
      const expected = `${JSON.stringify(renderTable({ columns }, objects, options))}\n`
      // Twice: the second time it is known where the metadata ends.
      for (let times = 0; times < 2; times++)
        assert.equal(await joined(renderJsonTable({ columns }, items, options)), expected)
    }
})

test('the text of the metadata of a stored pod is what rendering it gives', () =>
  fc.assert(
    fc.asyncProperty(fc.dictionary(fc.string(), fc.string(), { noNullPrototype: true }), async (labels) => {
      const metadata = { name: 'a', labels } as unknown as KubeObject['metadata']
      const dir = await mkdtemp(join(tmpdir(), 'bulkhead-json-'))
      await using store = await openStore({
        path: join(dir, 'store.sqlite'),
        tenant: 'red' as TenantName,
        dataKey: randomBytes(32),
        clock: systemClock,
        log: silentLogger,
      })
      const spec = { template: { metadata } }
      const pod = { kind: podKind.kind, apiVersion: 'v1', metadata, spec }
      const stored = await store.put('pods./default/a', pod, 0)
      await rm(dir, { recursive: true })
      const rendered = JSON.stringify(stored.object.metadata)
      assert.deepEqual([stored.metadataJson(), stored.metadataJson()], [rendered, rendered])
    }),
    { numRuns: 10 },
  ))
