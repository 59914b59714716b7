import { type ChildProcess, execFileSync, fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseLayout, paths } from '../src/api/index.ts'
import { RuleSocket } from '../src/engine/local/host/net/nf-tables.ts'
import { inNamespace } from '../src/engine/local/host/net/syscalls.ts'
import { createPodNetwork, ensureRunDir, removeRunDir } from '../src/engine/local/index.ts'
import {
  interfaceName,
  noIsolation,
  planIsolation,
  planIsolationRules,
  podElements,
  renderElements,
  renderIsolationChanged,
  renderTenantAdded,
  tenantPool,
} from '../src/engine/local/plan/net/index.ts'
import type { JailId, NetworkIsolation } from '../src/jail/index.ts'
import { silentLogger } from '../src/stdx/index.ts'
import { placementOf } from '../tests/testkit/network.ts'
import type { Measure } from './kit/pod-network-peer.ts'
import { machineFacts, printRows, type Row } from './kit/samples.ts'

// Two pods talk through the router while its rules are about more and more other tenants, each with pods and network
// policies of its own; the reference is the same router without any rules. Then what a pod and a policy cost to change.
const COUNTS = [10, 1_000, 4_000]
const PODS_EACH = 5
const ROUNDS = 5
const MILLIS = 600

const layout = parseLayout({ BULKHEAD_INSTANCE: 'npb', BULKHEAD_SLOT: '37' })
const router = paths.routerNetns(layout)
const scratch = mkdtempSync(join(tmpdir(), 'bulkhead-bench-network-'))
const network = createPodNetwork({ layout, log: silentLogger })
const children: ChildProcess[] = []
// As fast as it goes: what is measured is what limits cost, not that they hold.
const placement = {
  ...placementOf(layout, 'bench', 0),
  bandwidth: { ingressBitsPerSecond: 1e11, egressBitsPerSecond: 1e11 },
}

function policies(pods: readonly string[]): NetworkIsolation {
  const all = pods.map((_, at) => at)
  const ports = [
    { protocol: 'TCP' as const, first: 80, last: 81 },
    { protocol: 'UDP' as const, first: 80, last: 80 },
  ]
  return {
    pods,
    groups: [{ name: 'friends', pods: all, resolver: false }],
    ingress: [{ pods: all, rules: [{ peers: { groups: ['friends'], blocks: [] }, ports }] }],
    egress: [
      {
        pods: all,
        rules: [{ peers: { groups: ['friends'], blocks: [{ first: '192.0.2.0', last: '192.0.2.255' }] } }],
      },
    ],
  }
}

function nft(script: string): void {
  const file = join(scratch, 'script.nft')
  writeFileSync(file, script)
  execFileSync('nsenter', [`--net=${router}`, 'nft', '-f', file])
}

/** Other tenants, as far as the rules know them. */
function strangers(from: number, to: number): string {
  return Array.from({ length: to - from }, (_, at) => {
    const index = from + at
    const pods = Array.from({ length: PODS_EACH }, (_each, place) => ({
      id: `00000000-0000-4000-8000-${String(index * PODS_EACH + place).padStart(12, '0')}`,
      address: tenantPool(index).first + place,
    }))
    const plan = planIsolation(index, policies(pods.map(({ id }) => id)))
    const elements = pods.flatMap(({ address }) =>
      podElements({ index, address, interfaceName: interfaceName('x', address, 0) }),
    )
    return [
      renderTenantAdded(index),
      renderElements('add', elements),
      renderIsolationChanged(noIsolation(), planIsolationRules(index, plan, pods, new Map())),
    ].join('\n')
  }).join('\n')
}

async function startPod(): Promise<{ id: JailId; address: string; ask: (what: Measure) => Promise<number> }> {
  const id = randomUUID() as JailId
  const { net, podIP } = await network.ensurePod(placement, { id, hostname: 'bench', hostnameRecords: [] })
  const child = inNamespace('net', net, () => fork(`${import.meta.dirname}/kit/pod-network-peer.ts`))
  children.push(child)
  const answer = () =>
    new Promise<number>((resolve) => child.once('message', (value) => resolve(Number(value))))
  await answer()
  return {
    id,
    address: podIP,
    ask: async (what) => {
      const said = answer()
      child.send(what)
      return await said
    },
  }
}

const rows: Record<'bulk' | 'connects' | 'echoes', Row[]> = { bulk: [], connects: [], echoes: [] }
const changes: Row[] = []

async function timed(work: () => unknown): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}

try {
  await network.reset()
  removeRunDir(layout)
  ensureRunDir(layout)
  await network.ensureNode()
  await network.ensureTenant(placement)
  const [one, two] = [await startPod(), await startPod()]
  await two.ask({ do: 'serve' })
  const rulesOf = async () => {
    await network.setTenantNetwork(placement, { services: [], isolation: policies([one.id, two.id]) })
  }
  await rulesOf()
  const measured = async (name: string, against?: string) => {
    for (const what of ['bulk', 'connects', 'echoes'] as const) {
      const values: number[] = []
      for (let i = 0; i < ROUNDS; i++)
        values.push(await one.ask({ do: what, host: two.address, millis: MILLIS }))
      rows[what].push({
        what: name,
        values,
        ...(against === undefined ? {} : { against: { what: against } }),
      })
    }
  }
  const inRouter = (...command: string[]) => execFileSync('nsenter', [`--net=${router}`, ...command])
  const withoutWaiting = () => {
    const links = JSON.parse(inRouter('ip', '-j', 'link', 'show', 'type', 'veth').toString()) as {
      ifname: string
    }[] // ip's own JSON
    for (const { ifname } of links)
      for (const hook of ['ingress', 'egress'])
        inRouter('tc', 'filter', 'del', 'dev', ifname, hook, 'pref', '2')
  }
  withoutWaiting()
  inRouter('nft', 'flush', 'ruleset')
  await measured('no rules')
  await network.ensureNode()
  withoutWaiting()
  await measured('rules with their limits, nothing waits', 'no rules')
  await network.ensureNode()
  await measured('rules with their limits, and shares of the links', 'no rules')
  let there = 1
  for (const count of COUNTS) {
    nft(strangers(there, count))
    there = count
    await measured(`${count} tenants, ${count * PODS_EACH} pods`, 'no rules')
    const socket = inNamespace('net', router, () => new RuleSocket())
    const element = { index: 0, address: tenantPool(0).first + 1_000, interfaceName: 'xbench' }
    const isolation = [
      { set: 'ingress4', text: '10.128.3.233 : 65537' },
      { set: 'egress4', text: '10.128.3.233 : 65538' },
      { set: 'group_1_friends', text: '10.128.3.233' },
    ]
    const [added, removed, whole, changed]: [number[], number[], number[], number[]] = [[], [], [], []]
    for (let i = 0; i < 100; i++) {
      added.push(await timed(() => socket.addPod(element, isolation)))
      removed.push(await timed(() => socket.removePod(element, isolation)))
    }
    socket.close()
    for (let i = 0; i < 20; i++) {
      const id = randomUUID() as JailId
      whole.push(await timed(() => network.ensurePod(placement, { id, hostname: 'x', hostnameRecords: [] })))
      await network.removePod(id)
    }
    for (let i = 0; i < 10; i++) {
      const open = { services: [] }
      changed.push(await timed(() => network.setTenantNetwork(placement, open)))
      changed.push(await timed(rulesOf))
    }
    const at = `with ${count * PODS_EACH} pods`
    changes.push(
      { what: `let a pod in ${at}`, values: added },
      { what: `shut a pod out ${at}`, values: removed },
      { what: `all of a pod's network ${at}`, values: whole },
      { what: `change policies ${at}`, values: changed },
    )
  }
  console.log(machineFacts())
  printRows('One TCP stream', 'Gbit/s', rows.bulk)
  printRows('New TCP connections', 'per second', rows.connects)
  printRows('UDP round trips', 'per second', rows.echoes)
  printRows('Changes', 'ms', changes)
} finally {
  for (const child of children) child.kill('SIGKILL')
  await network.reset()
  network.close()
  removeRunDir(layout)
  rmSync(scratch, { recursive: true, force: true })
}
