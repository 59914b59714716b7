/**
 * What idle control planes of shared tenants cost in memory: `node bench/idle-memory.ts [tenants]`. Each tenant of a
 * real platform is used (a ConfigMap, a Deployment without replicas, a list) and then left alone. The reference is the
 * same process before the first tenant. BENCH_HEAP=FILE keeps a heap snapshot of the worker.
 */
import { readFileSync } from 'node:fs'
import { ControlPlaneClient, renderTable, TENANTS_PATH } from '../src/cli/index.ts'
import { until } from '../src/stdx/index.ts'
import { createTenant, startPlatform, Watch } from './kit/platform.ts'
import { collectGarbage } from './kit/inspector.ts'
import { cpuMs, observeMemory } from './kit/processes.ts'
import { machineFacts } from './kit/samples.ts'

const TENANTS = Number(process.argv[2] ?? 300)
const AT_A_TIME = 4
/** Longer than a store keeps its connection, and than most timers. */
const IDLE_MS = 15_000
const DAEMONS = ['worker-shared', 'platform', 'node', 'gateway', 'dns'] as const

console.log(machineFacts())
await using platform = await startPlatform()
const { layout } = platform
await using tenants = await Watch.open(platform.operatorCredentials, TENANTS_PATH)
const pidOf = (daemon: string) =>
  (JSON.parse(readFileSync(`${layout.runDir}/daemons/${daemon}.json`, 'utf8')) as { pid: number }).pid
const all = () => new Map(DAEMONS.map((daemon) => [daemon, observeMemory([pidOf(daemon)])]))

const before = all()
const began = performance.now()
let next = 0
const work = async () => {
  for (let n = next++; n < TENANTS; n = next++) await makeAndUse(`t${n}`)
}
await Promise.all(Array.from({ length: AT_A_TIME }, work))
const seconds = (performance.now() - began) / 1_000
const used = all()
await new Promise((resolve) => setTimeout(resolve, IDLE_MS))
const cpuBefore = new Map(DAEMONS.map((daemon) => [daemon, cpuMs([pidOf(daemon)])]))
await new Promise((resolve) => setTimeout(resolve, IDLE_MS))
const idle = all()
console.log(
  `${TENANTS} tenants made and used in ${seconds.toFixed(1)} s, ${AT_A_TIME} at a time; "idle" is ${(2 * IDLE_MS) / 1_000} s later`,
)
const MiB = 2 ** 20
console.log(
  renderTable(
    [
      'DAEMON',
      'PSS BEFORE MiB',
      'USED MiB',
      'IDLE MiB',
      'RSS IDLE MiB',
      'PSS PER TENANT KiB',
      'RATIO',
      'IDLE CPU %',
    ],
    DAEMONS.map((daemon) => {
      const [a, b, c] = [before.get(daemon)!, used.get(daemon)!, idle.get(daemon)!] // all() has them all
      const cpu = cpuMs([pidOf(daemon)]) - cpuBefore.get(daemon)!
      return [
        daemon,
        (a.pss / MiB).toFixed(1),
        (b.pss / MiB).toFixed(1),
        (c.pss / MiB).toFixed(1),
        (c.rss / MiB).toFixed(1),
        ((c.pss - a.pss) / 1024 / TENANTS).toFixed(1),
        `${(c.pss / a.pss).toFixed(2)} x before`,
        ((cpu * 100) / IDLE_MS).toFixed(1),
      ]
    }),
  ),
)
const worker = pidOf('worker-shared')
const workerBefore = before.get('worker-shared')!.pss // all() has them all
await collectGarbage(worker)
const collected = observeMemory([worker]).pss
console.log(
  `worker-shared after a garbage collection: ${(collected / MiB).toFixed(1)} MiB PSS, ${((collected - workerBefore) / 1024 / TENANTS).toFixed(1)} KiB per tenant`,
)
const snapshot = process.env['BENCH_HEAP']
if (snapshot !== undefined) await collectGarbage(worker, snapshot)

async function makeAndUse(name: string): Promise<void> {
  const { client } = await createTenant(platform, tenants, name, 'shared', ['registry.example'])
  await using tenant: ControlPlaneClient = client
  await until(() => tenant.get('/api/v1/namespaces/default/serviceaccounts/default'), {
    what: 'The default account',
  })
  await tenant.post('/api/v1/namespaces/default/configmaps', {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'settings' },
    data: { mode: 'fast' },
  })
  await tenant.post('/apis/apps/v1/namespaces/default/deployments', {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web' },
    spec: {
      replicas: 0,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: { containers: [{ name: 'web', image: 'registry.example/web:1' }] },
      },
    },
  })
  await tenant.get('/api/v1/namespaces/default/pods')
}
