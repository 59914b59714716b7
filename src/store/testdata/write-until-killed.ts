import { writeSync } from 'node:fs'
import { parseTenantName } from '../../api/index.ts'
import { silentLogger, systemClock } from '../../stdx/index.ts'
import { SqliteStore } from '../sqlite-store.ts'

// Writes as fast as it can and prints what was acknowledged, until its parent kills it.
const [path = '', key = '', run = ''] = process.argv.slice(2)
const store = await SqliteStore.open({
  path,
  tenant: parseTenantName('red'),
  dataKey: new Uint8Array(Buffer.from(key, 'hex')),
  clock: systemClock,
  log: silentLogger,
  limits: { historyEventsMax: 64 },
})

async function writer(number: number): Promise<never> {
  for (let i = 0; ; i++) {
    const name = `run${run}-writer${number}-${i % 20}`
    const current = store.get(`configmaps./default/${name}`)
    const object = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, uid: '', resourceVersion: '', creationTimestamp: '' },
      data: { padding: 'x'.repeat(2_000) },
    }
    const { revision } = await store.put(`configmaps./default/${name}`, object, current?.revision ?? 0)
    writeSync(1, `${name} ${revision}\n`)
  }
}

await Promise.all(Array.from({ length: 8 }, (_, i) => writer(i)))
