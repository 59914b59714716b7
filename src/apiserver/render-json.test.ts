import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import type { KubeObject, TenantName } from '../api/index.ts'
import { silentLogger, systemClock } from '../stdx/index.ts'
import { openStore, type StoreKey } from '../store/index.ts'
import { LIST_ITEMS_RENDERED_AT_ONCE } from './limits.ts'
import { renderJson, renderJsonList, renderJsonObject, withoutType } from './render-json.ts'

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

test('a list of stored objects, of others and of both is the JSON of its items without their type', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-json-'))
  await using store = await openStore({
    path: join(dir, 'store.sqlite'),
    tenant: 'red' as TenantName,
    dataKey: randomBytes(32),
    clock: systemClock,
    log: silentLogger,
  })
  const objects: KubeObject[] = []
  for (let n = 0; n < LIST_ITEMS_RENDERED_AT_ONCE + 3; n++) {
    const metadata = { name: `é"${n}`, annotations: { text: '{"kind":"ConfigMap","apiVersion":"v1",' } }
    const typed = { kind: 'ConfigMap', apiVersion: 'v1', metadata, data: { n: String(n) } }
    // Some that were written in another order, and some that are of another type.
    const untyped = { metadata, data: { n: String(n) }, apiVersion: 'v1', kind: 'ConfigMap' }
    const object = (n % 3 === 0
      ? typed
      : n % 3 === 1
        ? untyped
        : { ...typed, kind: 'Other' }) as unknown as KubeObject
    const stored = await store.put(`configmaps./default/${n}` as StoreKey, object, 0)
    objects.push(n % 4 === 0 ? structuredClone(stored.object) : stored.object)
    assert.deepEqual(JSON.parse(renderJsonObject(stored.object)), stored.object)
  }
  const type = { kind: 'ConfigMap', apiVersion: 'v1' }
  for (const items of [objects, objects.slice(0, 5), []]) {
    const pieces: Buffer[] = []
    for await (const piece of renderJsonList({ kind: 'ConfigMapList' }, items, type)) pieces.push(piece)
    const expected = { kind: 'ConfigMapList', items: items.map(withoutType) }
    assert.deepEqual(JSON.parse(Buffer.concat(pieces).toString()), JSON.parse(JSON.stringify(expected)))
  }
  await rm(dir, { recursive: true })
})
