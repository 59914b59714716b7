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
// policies of its own. The reference is another router without any rules, asked in turns with the first, so that what else
// the machine does is in both. Then what a pod and a policy cost to change.
const COUNTS = [10, 1_000, 4_000]
const PODS_EACH = 5
const ROUNDS = 15
const MILLIS = 250

const scratch = mkdtempSync(join(tmpdir(), 'bulkhead-bench-network-'))
const children: ChildProcess[] = []
const [subject, reference] = [machineNetwork('npb', '37'), machineNetwork('npc', '38')]
const { network, router, placement } = subject

/** A router of its own. As fast as it goes: what is measured is what limits cost, not that they hold. */
function machineNetwork(instance: string, slot: string) {
  const layout = parseLayout({ BULKHEAD_INSTANCE: instance, BULKHEAD_SLOT: slot })
  return {
    layout,
    router: paths.routerNetns(layout),
    network: createPodNetwork({ layout, log: silentLogger }),
    placement: {
      ...placementOf(layout, 'bench', 0),
      bandwidth: { ingressBitsPerSecond: 1e11, egressBitsPerSecond: 1e11 },
    },
  }
}
type MachineNetwork = ReturnType<typeof machineNetwork>

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

async function startPod({
  network,
  placement,
}: MachineNetwork): Promise<{ id: JailId; address: string; ask: (what: Measure) => Promise<number> }> {
  const id = randomUUID() as JailId
  const { net, podIP } = await network.ensurePod(placement, {
    id,
    hostname: 'bench',
    hostnameRecords: [],
    largePackets: true,
  })
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

type Talkers = Record<'one' | 'two', Awaited<ReturnType<typeof startPod>>>

const rows: Record<'bulk' | 'connects' | 'echoes', Row[]> = { bulk: [], connects: [], echoes: [] }
const changes: Row[] = []

async function timed(work: () => unknown): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}

try {
  const talkers = []
  for (const each of [subject, reference]) {
    await each.network.reset()
    removeRunDir(each.layout)
    ensureRunDir(each.layout)
    await each.network.ensureNode()
    await each.network.ensureTenant(each.placement)
    const [one, two] = [await startPod(each), await startPod(each)]
    await two.ask({ do: 'serve' })
    talkers.push({ one, two })
  }
  const [{ one, two }, bare] = talkers as [Talkers, Talkers] // one for each of the two
  const rulesOf = async () => {
    await network.setTenantNetwork(placement, { services: [], isolation: policies([one.id, two.id]) })
  }
  await rulesOf()
  const measured = async (name: string) => {
    for (const what of ['bulk', 'connects', 'echoes'] as const) {
      const [without, values]: [number[], number[]] = [[], []]
      for (let i = 0; i < ROUNDS; i++) {
        without.push(await bare.one.ask({ do: what, host: bare.two.address, millis: MILLIS }))
        values.push(await one.ask({ do: what, host: two.address, millis: MILLIS }))
      }
      const against = `no rules meanwhile (${name})`
      rows[what].push({ what: against, values: without }, { what: name, values, against: { what: against } })
    }
  }
  const commandsIn =
    ({ router }: MachineNetwork) =>
    (...command: string[]) =>
      execFileSync('nsenter', [`--net=${router}`, ...command])
  const withoutWaiting = (of: MachineNetwork) => {
    const run = commandsIn(of)
    const links = JSON.parse(run('ip', '-j', 'link', 'show', 'type', 'veth').toString()) as {
      ifname: string
    }[] // ip's own JSON
    for (const { ifname } of links)
      for (const hook of ['ingress', 'egress']) run('tc', 'filter', 'del', 'dev', ifname, hook, 'pref', '2')
  }
  withoutWaiting(reference)
  commandsIn(reference)('nft', 'flush', 'ruleset')
  withoutWaiting(subject)
  await measured('rules with their limits, nothing waits')
  await network.ensureNode()
  await measured('and shares of the links')
  let there = 1
  for (const count of COUNTS) {
    nft(strangers(there, count))
    there = count
    await measured(`${count} tenants, ${count * PODS_EACH} pods`)
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
  for (const each of [subject, reference]) {
    await each.network.reset()
    each.network.close()
    removeRunDir(each.layout)
  }
  rmSync(scratch, { recursive: true, force: true })
}
