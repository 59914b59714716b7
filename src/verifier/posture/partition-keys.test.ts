import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import * as fc from 'fast-check'
import { parseLayout, parseTenantName } from '../../api/index.ts'
import { createDataKey, openStore, wrapKey } from '../../store/index.ts'
import { FakeClock, silentLogger } from '../../stdx/index.ts'
import { readDataKey, tryKey } from './partition-keys.ts'

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-keys-'))
after(() => rmSync(directory, { recursive: true, force: true }))

const red = parseTenantName('red')
const key = Buffer.from(createDataKey())

/** A partition with so many objects, one of them too long for one page, as it is on the disk when nobody has it open. */
async function partition(objects: number): Promise<Buffer> {
  const path = join(directory, `${randomBytes(4).toString('hex')}`, 'store.sqlite')
  const store = await openStore({
    path,
    tenant: red,
    dataKey: new Uint8Array(key),
    clock: new FakeClock(),
    log: silentLogger,
  })
  for (let i = 0; i < objects; i++)
    await store.put(
      `configmaps./default/c${i}`,
      {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: {
          name: `c${i}`,
          namespace: 'default',
          uid: '',
          resourceVersion: '',
          creationTimestamp: '',
        },
        data: { secret: 'x'.repeat(i === 0 ? 20_000 : 200) },
      },
      0,
    )
  await store.close()
  return readFileSync(path)
}

test('the rows of a partition open with the key of its tenant, and with no other key or name', async () => {
  const file = await partition(200)
  const own = tryKey(file, { tenant: 'red', key })
  assert.deepEqual(own, { opened: 65, tried: 65 })
  assert.equal(tryKey(file, { tenant: 'red', key: randomBytes(32) }).opened, 0)
  assert.equal(tryKey(file, { tenant: 'blue', key }).opened, 0)
  const few = tryKey(await partition(3), { tenant: 'red', key })
  assert.ok(few.opened === few.tried && few.tried >= 3, JSON.stringify(few))
})

test('rows that were written without the key, or moved, are seen', async () => {
  const file = await partition(20)
  const before = tryKey(file, { tenant: 'red', key })
  // In the middle of the last page's rows.
  const at = file.length - 100
  file[at] = (file[at] ?? 0) ^ 1
  const seen = tryKey(file, { tenant: 'red', key })
  assert.ok(seen.opened < before.opened, JSON.stringify(seen))
})

test('whatever a control plane that was taken over leaves as its partition is looked at without harm', async () => {
  const file = await partition(5)
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 20_000 }), (bytes) => {
      assert.equal(tryKey(Buffer.from(bytes), { tenant: 'red', key }).opened, 0)
    }),
  )
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(file.length - 1), fc.nat(255)), { minLength: 1, maxLength: 50 }),
      (changes) => {
        const changed = Buffer.from(file)
        for (const [at, value] of changes) changed[at] = value
        const { opened, tried } = tryKey(changed, { tenant: 'red', key })
        assert.ok(opened <= tried && tried <= 65)
      },
    ),
  )
})

test('the key is the one that root finds for this tenant, and for no other', () => {
  const layout = parseLayout({ BULKHEAD_INSTANCE: 'vk', BULKHEAD_SLOT: '199' })
  const stateDir = join(directory, 'state')
  const kek = createDataKey()
  mkdirSync(join(stateDir, 'keys'), { recursive: true })
  writeFileSync(join(stateDir, 'kek'), kek)
  for (const tenant of ['red', 'blue'])
    writeFileSync(
      join(stateDir, 'keys', `${tenant}.wrapped`),
      wrapKey({ kek, dataKey: new Uint8Array(key), tenant: red }),
    )
  assert.deepEqual(readDataKey({ ...layout, stateDir }, 'red'), key)
  assert.throws(() => readDataKey({ ...layout, stateDir }, 'blue'))
  assert.throws(() => readDataKey({ ...layout, stateDir }, 'green'))
})
