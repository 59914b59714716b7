import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type KubeObject, parseTenantName } from '../src/api/index.ts'
import { silentLogger, systemClock } from '../src/stdx/index.ts'
import { openStore } from '../src/store/index.ts'

// Durable puts per second against plain SQLite commits of the same bytes on the same disk in the same run, once with
// one write at a time and once with many at a time (which the store commits together and plain SQLite one by one).
const OBJECT_BYTES = 2_000
const WRITES = Number(process.argv[2] ?? 2_000)
const TOGETHER = 64

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-bench-store-'))

function objectOf(name: string): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, uid: '', resourceVersion: '', creationTimestamp: '' },
    data: { padding: 'x'.repeat(OBJECT_BYTES) },
  }
}

async function perSecond(count: number, work: () => Promise<void> | void): Promise<number> {
  const start = performance.now()
  await work()
  return (count * 1_000) / (performance.now() - start)
}

function plainSqlite(): () => void {
  const database = new DatabaseSync(join(directory, `plain-${Math.random()}.sqlite`))
  database.exec(
    'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB)',
  )
  const insert = database.prepare('INSERT INTO t(b) VALUES (?)')
  const bytes = randomBytes(JSON.stringify(objectOf('x')).length)
  return () => {
    for (let i = 0; i < WRITES; i++) insert.run(bytes)
  }
}

try {
  const path = join(directory, 'store.sqlite')
  const options = { path, tenant: parseTenantName('bench'), dataKey: new Uint8Array(randomBytes(32)) }
  await using store = await openStore({ ...options, clock: systemClock, log: silentLogger })
  let next = 0
  const put = async () => {
    const name = `n${next++}`
    await store.put(`configmaps./default/${name}`, objectOf(name), 0)
  }
  const one = async () => {
    for (let i = 0; i < WRITES; i++) await put()
  }
  const many = async () => {
    let left = WRITES
    const writer = async () => {
      while (left-- > 0) await put()
    }
    await Promise.all(Array.from({ length: TOGETHER }, writer))
  }
  const plain = plainSqlite()
  await put()
  const rows = [
    ['one at a time', await perSecond(WRITES, one), await perSecond(WRITES, plain)],
    [`${TOGETHER} at a time`, await perSecond(WRITES, many), await perSecond(WRITES, plain)],
  ] as const
  for (const [what, ours, reference] of rows) {
    const ratio = (ours / reference).toFixed(2)
    console.log(
      `${what}: ${ours.toFixed(0)} puts/s, SQLite ${reference.toFixed(0)} commits/s, ratio ${ratio}`,
    )
  }
} finally {
  rmSync(directory, { recursive: true, force: true })
}
