/**
 * What control planes cost while they sleep, and how long they take to wake: `node bench/sleep.ts [shared] [sandboxed]`.
 * So many tenants of each class are made and used, and fall asleep; then each is asked for a ConfigMap, asleep and awake.
 * The reference is the same request to the same tenant right afterwards.
 */
import { existsSync, readFileSync } from 'node:fs'
import { parseTenantName, paths } from '../src/api/index.ts'
import { type ControlPlaneClient, renderTable, TENANTS_PATH } from '../src/cli/index.ts'
import { until } from '../src/stdx/index.ts'
import { collectGarbage } from './kit/inspector.ts'
import { observeMemory } from './kit/processes.ts'
import { createTenant, startPlatform, Watch } from './kit/platform.ts'
import { machineFacts, median, percentile } from './kit/samples.ts'

const COUNTS = { shared: Number(process.argv[2] ?? 100), sandboxed: Number(process.argv[3] ?? 5) }
const AT_A_TIME = 4
const SLEEP_MS_MAX = 300_000
const CONFIG_MAP = '/api/v1/namespaces/default/configmaps/settings'

console.log(machineFacts())
// Long enough for all of them to be awake at the same time.
process.env['BULKHEAD_SLEEP_AFTER_SECONDS'] = '30'
await using platform = await startPlatform()
const { layout } = platform
await using watch = await Watch.open(platform.operatorCredentials, TENANTS_PATH)
const clients = new Map<string, ControlPlaneClient>()
const pidOf = (daemon: string) =>
  (JSON.parse(readFileSync(`${layout.runDir}/daemons/${daemon}.json`, 'utf8')) as { pid: number }).pid
const pss = (pid: number) => observeMemory([pid]).pss / 1024
const shared = async () => {
  await collectGarbage(pidOf('worker-shared'))
  return pss(pidOf('worker-shared'))
}
const inTurns = async (names: readonly string[], work: (name: string) => Promise<void>) => {
  let next = 0
  const worker = async () => {
    for (let name = names[next++]; name !== undefined; name = names[next++]) await work(name)
  }
  await Promise.all(Array.from({ length: AT_A_TIME }, worker))
}

const p50p99 = (times: readonly number[]) =>
  `${median(times).toFixed(1)} (${percentile(times, 0.99).toFixed(1)})`
const untilAsleep = (names: readonly string[]) =>
  until(() => names.every((name) => existsSync(paths.asleep(layout, parseTenantName(name)))), {
    timeoutMs: SLEEP_MS_MAX,
    everyMs: 200,
    what: 'The sleep of all',
  })
const makeAndUse = async (name: string) => {
  const isolationClass = name.startsWith('h') ? 'shared' : 'sandboxed'
  const { client } = await createTenant(platform, watch, name, isolationClass, [])
  clients.set(name, client)
  await client.post('/api/v1/namespaces/default/configmaps', {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'settings' },
    data: { mode: 'fast' },
  })
}

const rows: string[][] = []
for (const isolationClass of ['shared', 'sandboxed'] as const) {
  const names = Array.from({ length: COUNTS[isolationClass] }, (_, n) => `${isolationClass[1]}${n}`)
  if (names.length === 0) continue
  // What the first of a kind makes the process load stays.
  const first = [`${isolationClass[1]}-first`]
  await inTurns(first, makeAndUse)
  await untilAsleep(first)
  const before = await shared()
  await inTurns(names, makeAndUse)

  const own = () => names.reduce((sum, name) => sum + pss(pidOf(`worker-${name}`)), 0)
  const awake = isolationClass === 'shared' ? (await shared()) - before : own()
  await untilAsleep(names)
  const asleep = isolationClass === 'shared' ? (await shared()) - before : 0
  const [woken, again]: [number[], number[]] = [[], []]
  const timed = async (client: ControlPlaneClient, times: number[]) => {
    const began = performance.now()
    await client.get(CONFIG_MAP)
    times.push(performance.now() - began)
  }
  for (const name of names) {
    const client = clients.get(name)
    if (!client) continue
    // The client's own connection has ended meanwhile; the gateway refuses this, and nobody wakes for it.
    await client.get('/api/v1//refused').catch(() => {})
    await timed(client, woken)
    await timed(client, again)
  }
  rows.push([
    isolationClass,
    String(names.length),
    (awake / names.length).toFixed(0),
    (asleep / names.length).toFixed(1),
    p50p99(woken),
    p50p99(again),
  ])
}
for (const client of clients.values()) await client[Symbol.asyncDispose]()
console.log(
  renderTable(['CLASS', 'TENANTS', 'PSS AWAKE KiB', 'PSS ASLEEP KiB', 'WOKEN MS', 'AWAKE MS'], rows),
)
