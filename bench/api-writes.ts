/**
 * How many writes of pods per second an API server takes, durable and one object each, beside how many commits of the same
 * bytes SQLite alone takes in the same run: `node bench/api-writes.ts [pods] [in flight]`. One process, no sockets.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { renderTable } from '../src/cli/index.ts'
import { askedOverHttp } from '../src/link/index.ts'
import { ADMIN, ControlPlane } from '../tests/conformance/control-plane.ts'
import { exchange } from './kit/exchange.ts'
import { machineFacts } from './kit/samples.ts'

const pods = Number(process.argv[2] ?? 4_000)
const inFlight = Number(process.argv[3] ?? 64)
const PODS = '/api/v1/namespaces/default/pods'

const podOf = (n: number, version = '1') => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: `web-${n}`, labels: { app: 'web', index: String(n), version } },
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

type Ask = { method: string; path: string; contentType: string; body: string; code: number }
const JSON_TYPE = 'application/json'
const one = (n: number) => `${PODS}/web-${n}`
const kinds: readonly { what: string; ask: (n: number) => Ask }[] = [
  {
    what: 'create',
    ask: (n) => ({
      method: 'POST',
      path: PODS,
      contentType: JSON_TYPE,
      body: JSON.stringify(podOf(n)),
      code: 201,
    }),
  },
  {
    what: 'replace the status',
    ask: (n) => ({
      method: 'PUT',
      path: `${one(n)}/status`,
      contentType: JSON_TYPE,
      body: JSON.stringify({ ...podOf(n), status: { phase: 'Running', podIP: '10.0.0.1' } }),
      code: 200,
    }),
  },
  {
    what: 'merge patch of a label',
    ask: (n) => ({
      method: 'PATCH',
      path: one(n),
      contentType: 'application/merge-patch+json',
      body: '{"metadata":{"labels":{"version":"2"}}}',
      code: 200,
    }),
  },
  {
    what: 'server-side apply, the first',
    ask: (n) => apply(n, '2'),
  },
  {
    what: 'server-side apply, the second',
    ask: (n) => apply(n, '3'),
  },
]

function apply(n: number, version: string): Ask {
  return {
    method: 'PATCH',
    path: `${one(n)}?fieldManager=bench&force=true`,
    contentType: 'application/apply-patch+yaml',
    body: JSON.stringify(podOf(n, version)),
    code: 200,
  }
}

async function measure(plane: ControlPlane, { what, ask }: (typeof kinds)[number]) {
  const asks = Array.from({ length: pods }, (_, n) => ask(n))
  let next = 0
  const work = async () => {
    for (let asked = asks[next++]; asked; asked = asks[next++]) {
      const { request, response, code } = exchange(asked.path, asked.body, asked)
      await plane.server.handle(askedOverHttp(request), response, ADMIN)
      if (code() !== asked.code) throw new Error(`${what}: answered ${code()}`)
    }
  }
  const cpu = process.cpuUsage()
  const start = performance.now()
  await Promise.all(Array.from({ length: inFlight }, work))
  const seconds = (performance.now() - start) / 1_000
  const { user, system } = process.cpuUsage(cpu)
  return { what, perSecond: pods / seconds, cpuMicros: (user + system) / pods }
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

console.log(machineFacts())
await using plane = await ControlPlane.start({ limits: { podsMax: pods + 1 } })
const results = []
for (const kind of kinds) results.push(await measure(plane, kind))
const raw = commitRaw(plane.store.bytes / plane.store.objectCount)
console.log(
  renderTable(
    ['WRITE', 'PER SECOND', 'CPU µs', 'OF RAW ROWS'],
    [
      ...results.map(({ what, perSecond, cpuMicros }) => [
        what,
        perSecond.toFixed(0),
        cpuMicros.toFixed(0),
        (perSecond / raw).toFixed(3),
      ]),
      ['a row in SQLite', raw.toFixed(0), '', '1'],
    ],
  ),
)
