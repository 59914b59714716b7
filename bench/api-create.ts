/**
 * How many pods per second an API server takes, beside how many commits of the same bytes SQLite alone takes in the
 * same run: `node bench/api-create.ts [pods] [in flight]`.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { ADMIN, ControlPlane } from '../tests/conformance/control-plane.ts'
import { exchange } from './kit/exchange.ts'

const pods = Number(process.argv[2] ?? 4_000)
const inFlight = Number(process.argv[3] ?? 64)

const podOf = (n: number) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: `web-${n}`, labels: { app: 'web', index: String(n) } },
  spec: {
    containers: [
      {
        name: 'web',
        image: 'registry.example/web:1.2',
        env: [{ name: 'MODE', value: 'fast' }],
        ports: [{ name: 'http', containerPort: 8080 }],
        resources: { requests: { cpu: '10m', memory: '32Mi' }, limits: { cpu: '1', memory: '64Mi' } },
      },
    ],
  },
})

async function createThroughServer(): Promise<{ perSecond: number; cpuMicros: number; bytes: number }> {
  await using plane = await ControlPlane.start({ limits: { podsMax: pods + 1 } })
  const bodies = Array.from({ length: pods }, (_, n) => JSON.stringify(podOf(n)))
  let next = 0
  const work = async () => {
    for (let n = next++; n < pods; n = next++) {
      const { request, response, code } = exchange('/api/v1/namespaces/default/pods', bodies[n]!)
      await plane.server.handle(request, response, ADMIN)
      if (code() !== 201) throw new Error(`A create answered ${code()}`)
    }
  }
  const cpu = process.cpuUsage()
  const start = performance.now()
  await Promise.all(Array.from({ length: inFlight }, work))
  const seconds = (performance.now() - start) / 1_000
  const { user, system } = process.cpuUsage(cpu)
  return {
    perSecond: pods / seconds,
    cpuMicros: (user + system) / pods,
    bytes: plane.store.bytes / plane.store.objectCount,
  }
}

/** The same number of rows of the same size, `inFlight` to a commit, each commit durable. */
function commitRaw(bytes: number): number {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-bench-'))
  try {
    const db = new DatabaseSync(join(dir, 'raw.sqlite'))
    db.exec(
      'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE row (key TEXT PRIMARY KEY, value BLOB)',
    )
    const insert = db.prepare('INSERT INTO row VALUES (?, ?)')
    const value = Buffer.alloc(Math.ceil(bytes), 'x')
    const start = performance.now()
    for (let n = 0; n < pods;) {
      db.exec('BEGIN')
      for (const end = Math.min(n + inFlight, pods); n < end; n++) insert.run(`pods./default/web-${n}`, value)
      db.exec('COMMIT')
    }
    const seconds = (performance.now() - start) / 1_000
    db.close()
    return pods / seconds
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

const { perSecond, cpuMicros, bytes } = await createThroughServer()
const raw = commitRaw(bytes)
console.log(
  JSON.stringify({
    pods,
    inFlight,
    bytesPerPod: Math.round(bytes),
    createsPerSecond: Math.round(perSecond),
    cpuMicrosPerCreate: Math.round(cpuMicros),
    rawRowsPerSecond: Math.round(raw),
    ratioToRaw: Number((perSecond / raw).toFixed(3)),
  }),
)
