import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { parseLayout, paths } from '../../src/api/index.ts'
import { RouteSocket } from '../../src/engine/local/host/net/rtnetlink.ts'
import { inNamespace } from '../../src/engine/local/host/net/syscalls.ts'
import { netLimits } from '../../src/engine/local/plan/net/index.ts'
import {
  type TenantPlacement,
  createPodNetwork,
  ensureRunDir,
  removeRunDir,
} from '../../src/engine/local/index.ts'
import type { BandwidthCaps, JailId } from '../../src/jail/index.ts'
import { silentLogger, sleep } from '../../src/stdx/index.ts'
import type { MachinePosture, TenantPosture } from '../../src/verifier/layers.ts'
import { linkShareLayer, rateLimitsLayer } from '../../src/verifier/share-layers.ts'
import { observeRouter } from '../../src/verifier/posture/network.ts'
import { inside, placementOf, run } from '../testkit/network.ts'
import type { BandwidthRequest } from './bandwidth-peer.ts'

// A machine and an outside of the test's own, and real packets. What is compared are parts of one another, measured at
// the same time: how fast this machine is at the moment does not matter, as long as it is faster than the caps.

const skip = whyNot()
const MEGABIT = 1_000_000
const layout = parseLayout({
  BULKHEAD_INSTANCE: 'bwn',
  BULKHEAD_SLOT: '110',
  BULKHEAD_UPLINK: 'out0',
  BULKHEAD_UPLINK_RATE: '40M',
})
const [MACHINE, OUTSIDE] = ['/run/netns/bwn-machine', '/run/netns/bwn-outside']
const SERVER = '203.0.113.10'
const CAP = 40 * MEGABIT
const red = {
  ...placementOf(layout, 'red', 0),
  bandwidth: { ingressBitsPerSecond: 4 * CAP, egressBitsPerSecond: CAP },
}
const blue = placementOf(layout, 'blue', 1)
/** How long the first burst takes, which nobody counts, and how long is counted. */
const WARM_UP_MS = 1_500
const WINDOW_MS = 1_500
const LINKS_GONE_MS = 20_000

type Pod = { id: JailId; address: string; netns: string; tenant: TenantPlacement; peer: Peer }
let network: ReturnType<typeof createPodNetwork>
const children: ChildProcess[] = []
const pods = new Map<string, Pod>()
let outside: Peer

before(async () => {
  if (skip !== false) return
  removeNamespaces()
  for (const name of ['bwn-machine', 'bwn-outside']) run('ip', 'netns', 'add', name)
  inside(MACHINE, 'ip', 'link', 'add', 'out0', 'type', 'veth', 'peer', 'name', 'in0', 'netns', 'bwn-outside')
  for (const [netns, link, address] of [
    [MACHINE, 'out0', '198.51.100.2/24'],
    [OUTSIDE, 'in0', '198.51.100.1/24'],
  ] as const) {
    inside(netns, 'ip', 'link', 'set', 'lo', 'up')
    inside(netns, 'ip', 'address', 'add', address, 'dev', link)
    inside(netns, 'ip', 'link', 'set', link, 'up')
  }
  inside(MACHINE, 'ip', 'route', 'add', 'default', 'via', '198.51.100.1')
  inside(OUTSIDE, 'ip', 'address', 'add', `${SERVER}/32`, 'dev', 'lo')
  network = createPodNetwork({ layout, log: silentLogger, machineNetns: MACHINE })
  await network.reset()
  removeRunDir(layout)
  ensureRunDir(layout)
  await network.ensureNode()
  for (const tenant of [red, blue]) await network.ensureTenant(tenant)
  for (const name of ['red1', 'red2', 'red3']) pods.set(name, await startPod(name, red))
  for (const name of ['blue1', 'blue2']) pods.set(name, await startPod(name, blue))
  outside = await Peer.start(OUTSIDE)
  for (const peer of [outside, ...[...pods.values()].map((each) => each.peer)])
    await peer.ask({ do: 'serve' })
})

after(async () => {
  if (skip !== false) return
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await network.reset()
  removeRunDir(layout)
  removeNamespaces()
})

/** Which of the two layers is there while a flood is tried. */
const LAYERS: Record<string, (flood: () => Promise<void>) => Promise<void>> = {
  'the shares of the links alone': withoutLimits,
  'the limits of the rules alone': withoutShares,
  'both layers': async (flood) => await flood(),
}

for (const [layer, during] of Object.entries(LAYERS)) {
  test(
    `with ${layer}, many pods and connections of a tenant send no more than its cap together`,
    { skip },
    () =>
      during(async () => {
        const sent = await whileItLasts(['red1', 'red2'], (from) => from.peer.pour(pod('red3'), 4), ['red3'])
        assert.ok(sent.red3 < 1.6, `${sent.red3} of the cap`)
        assert.ok(sent.red3 > 0.2, `${sent.red3} of the cap`)
      }),
  )

  test(
    `with ${layer}, a flood of datagrams from a tenant does not keep another from its share`,
    { skip },
    () =>
      during(async () => {
        const heard = await whileItLasts(
          ['red1', 'red2', 'blue1'],
          async ({ tenant, peer }) => {
            if (tenant === blue) await peer.pour(pod('blue2'), 1)
            else await peer.ask({ do: 'flood', host: pod('red3').address, bytes: 1_400 })
          },
          ['red3', 'blue2'],
        )
        assert.ok(heard.red3 < 1.6, `the flood had ${heard.red3} of its cap`)
        assert.ok(heard.blue2 > 2 * heard.red3, `the other had ${heard.blue2 / heard.red3} of the flood`)
      }),
  )
}

test('without both layers the same flood goes far beyond the cap', { skip }, () =>
  withoutLimits(() =>
    withoutShares(async () => {
      const sent = await whileItLasts(['red1', 'red2'], (from) => from.peer.pour(pod('red3'), 4), ['red3'])
      assert.ok(sent.red3 > 2.5, `${sent.red3} of the cap`)
    }),
  ),
)

test('what a tenant receives is capped too, whoever sends it', { skip }, async () => {
  const capped = { ...blue, bandwidth: { ingressBitsPerSecond: CAP } }
  await network.setTenantBandwidth(capped)
  try {
    const heard = await whileItLasts(['blue1'], (from) => from.peer.pour(pod('blue2'), 4), ['blue2'])
    assert.ok(heard.blue2 < 1.6, `${heard.blue2} of the cap`)
    assert.ok(heard.blue2 > 0.2, `${heard.blue2} of the cap`)
  } finally {
    await network.setTenantBandwidth(blue)
  }
  const heard = await whileItLasts(['blue1'], (from) => from.peer.pour(pod('blue2'), 4), ['blue2'])
  assert.ok(heard.blue2 > 2, `${heard.blue2} of the cap that is gone`)
})

test(
  'what stays within a tenant waits once, where it may have less, and is held to that by the links alone',
  {
    skip,
  },
  async () => {
    const fromBlue1 = async () => {
      const before = ['send-1', 'receive-1'].map(bytesThrough)
      const { blue2 } = await whileItLasts(['blue1'], (from) => from.peer.pour(pod('blue2'), 4), ['blue2'])
      const through = ['send-1', 'receive-1'].map((link, at) => bytesThrough(link) - (before[at] ?? 0))
      assert.ok(blue2 < 1.6 && blue2 > 0.2, `${blue2} of the cap`)
      return through.map((bytes) => bytes > MEGABIT / 8)
    }
    try {
      for (const [bandwidth, waits] of [
        [{ ingressBitsPerSecond: CAP, egressBitsPerSecond: CAP }, [false, true]],
        [{ ingressBitsPerSecond: 4 * CAP, egressBitsPerSecond: CAP }, [true, false]],
        [{ ingressBitsPerSecond: CAP, egressBitsPerSecond: 4 * CAP }, [false, true]],
      ] as const) {
        await network.setTenantBandwidth({ ...blue, bandwidth })
        await withoutLimits(async () => assert.deepEqual(await fromBlue1(), waits))
      }
    } finally {
      await network.setTenantBandwidth(blue)
    }
  },
)

test(
  'a pod whose link is gone keeps no other of its tenant from waiting where it must now',
  { skip },
  async () => {
    const started = [await startPod('blue3', blue), await startPod('blue4', blue)] as const
    const [broken, later] = started
    const waits = () => {
      const { pods: links } = observeRouter(paths.routerNetns(layout))
      return links.find(({ address }) => address === later.address)?.shares?.sent?.waits.length
    }
    try {
      assert.ok(Number(waits()) > 1)
      inside(paths.routerNetns(layout), 'ip', 'link', 'delete', linkOf(broken))
      const bandwidth = { ingressBitsPerSecond: 4 * CAP, egressBitsPerSecond: CAP }
      await network.setTenantBandwidth({ ...blue, bandwidth })
      assert.equal(waits(), 1)
    } finally {
      await network.setTenantBandwidth(blue)
      for (const { id } of started) await network.removePod(id)
      // The program in the pod keeps its link until the agent sweeps it away.
      const deadline = performance.now() + LINKS_GONE_MS
      while (linkOf(later) !== '' && performance.now() < deadline) await sleep(100)
    }
  },
)

test('the proof sees both layers, and each that is gone', { skip }, async () => {
  const bandwidth = () => {
    const router = observeRouter(paths.routerNetns(layout))
    const postureOf = ({ tenant, index }: TenantPlacement): TenantPosture => ({
      name: tenant,
      isolationClass: 'shared',
      processes: [],
      links: router.pods.filter(({ address }) => address.startsWith(`10.128.${index * 8}.`)),
    })
    const [a, v] = [postureOf(red), postureOf(blue)]
    assert.deepEqual([a.links.length, v.links.length], [3, 2])
    const machine = { router } as unknown as MachinePosture // the layers look at nothing else
    return [linkShareLayer(a, v), rateLimitsLayer(a, v, machine)] as const
  }
  const held = () => bandwidth().map(({ holds }) => holds)
  const [share, limits] = bandwidth()
  assert.match(share.evidence.join(), /sent over send-0 at most 40000000 bits/)
  assert.match(limits.evidence.join(), /sent_packets_1_\d+, sent_bytes_1_6250000, received_packets_1_\d+/)
  assert.deepEqual(held(), [true, true])
  await withoutLimits(async () => assert.deepEqual(held(), [true, false]))
  await withoutShares(async () => assert.deepEqual(held(), [false, true]))
  const router = paths.routerNetns(layout)
  for (const [harm, evidence] of [
    ['tc class add dev send-0 parent 1: classid 1:9 htb rate 99gbit', /at most 99040000000 bits/],
    ['tc class del dev send-0 classid 1:ffff', /is sent over the link \S+ waits for nothing/],
    ['tc qdisc del dev receive-0 root', /is received over the link \S+ waits for nothing/],
  ] as const) {
    const [program = '', ...args] = harm.split(' ')
    inside(router, program, ...args)
    assert.match(bandwidth()[0].evidence.join(), evidence)
    await network.ensureNode()
    assert.match(bandwidth()[0].evidence.join(), /sent over send-0 at most 40000000 bits/)
  }
  const link = linkOf(pod('red1'))
  inside(router, ...`tc filter del dev ${link} egress pref 2`.split(' '))
  const everything = ['bytecode', '1,6 0 0 4294967295,']
  inside(
    router,
    ...`tc filter add dev ${link} egress pref 2 protocol all bpf`.split(' '),
    ...everything,
    ...'action mirred egress redirect dev receive-1'.split(' '),
  )
  assert.match(bandwidth()[0].evidence.join(), /red and blue share the link receive-1/)
  await network.ensureNode()
  assert.deepEqual(held(), [true, true])
})

test(
  "a pod's own cap holds for it, and leaves the rest to the other pods of its tenant",
  { skip },
  async () => {
    const slow = await startPod('red4', red, { egressBitsPerSecond: CAP / 8 })
    pods.set('red4', slow)
    const heard = await whileItLasts(
      ['red4', 'red1'],
      (from) => from.peer.pour(from === slow ? pod('red2') : pod('red3'), 2),
      ['red2', 'red3'],
    )
    assert.ok(heard.red2 < 0.3, `the capped pod had ${heard.red2} of the tenant's cap`)
    assert.ok(heard.red3 > 0.4, `the other pod had ${heard.red3} of the tenant's cap`)
    await network.removePod(slow.id)
    assert.equal(classes('send-0').length, 2)
  },
)

test(
  'outside, a tenant with many connections takes no more than one with a single connection',
  { skip },
  async () => {
    for (const tenant of [red, blue])
      await network.setTenantEgress({
        ...tenant,
        egress: { allow: [{ cidr: `${SERVER}/32`, ports: [{ protocol: 'TCP', port: 81, endPort: 81 }] }] },
      })
    // Both caps are above half of the uplink, so it is the uplink that has to be shared.
    const [many, one] = [pod('red1'), pod('blue1')]
    await many.peer.pour({ address: SERVER }, 16)
    await one.peer.pour({ address: SERVER }, 1)
    await sleep(WARM_UP_MS)
    const before = shareCounts()
    await sleep(WINDOW_MS)
    const after = shareCounts()
    for (const { peer } of [many, one]) await peer.ask({ do: 'stop' })
    const [reds, blues] = [0, 1].map((at) => (after[at] ?? 0) - (before[at] ?? 0)) as [number, number]
    assert.ok(blues > 0.35 * (reds + blues), `${blues} of ${reds + blues}`)
    const seconds = WINDOW_MS / 1_000
    assert.ok((reds + blues) * 8 < 1.6 * CAP * seconds, `${(reds + blues) * 8} bits in ${seconds} s`)
    for (const tenant of [red, blue]) await network.setTenantEgress(tenant)
  },
)

test(
  'a fast tenant sends larger packets than usual, and its cap holds; who is slow or reaches outside does not',
  { skip },
  async () => {
    const fast = {
      ...blue,
      bandwidth: { ingressBitsPerSecond: 5 * CAP, egressBitsPerSecond: 10_000 * MEGABIT },
    }
    const egress = {
      allow: [{ cidr: `${SERVER}/32`, ports: [{ protocol: 'TCP' as const, port: 81, endPort: 81 }] }],
    }
    const largest = async () => {
      const { sender } = packetSizes(pod('blue1'))
      assert.ok(sender !== undefined)
      const heard = await whileItLasts(['blue1'], (from) => from.peer.pour(pod('blue2'), 2), ['blue2'])
      assert.ok(heard.blue2 < 5 * 1.6 && heard.blue2 > 0.5, `${heard.blue2} of a fifth of the cap`)
      return sender
    }
    const usual = netLimits.PACKET_BYTES_USUAL
    assert.equal(packetSizes(pod('red1')).sender, usual)
    try {
      await network.setTenantBandwidth(fast)
      assert.deepEqual(packetSizes(pod('blue1')), { sender: netLimits.PACKET_BYTES_MAX, router: usual })
      assert.equal(await largest(), netLimits.PACKET_BYTES_MAX)
      await network.setTenantEgress({ ...fast, egress })
      assert.deepEqual(packetSizes(pod('blue1')), { sender: usual, router: usual })
      await network.setTenantEgress(fast)
      assert.equal(packetSizes(pod('blue1')).sender, netLimits.PACKET_BYTES_MAX)
    } finally {
      await network.setTenantBandwidth(blue)
      await network.setTenantEgress(blue)
    }
  },
)

test('a share that somebody has taken away or changed is there again after a look', { skip }, async () => {
  const router = paths.routerNetns(layout)
  const before = classes('send-0')
  inside(router, 'tc', 'qdisc', 'del', 'dev', 'send-0', 'root')
  inside(
    router,
    'tc',
    'class',
    'change',
    'dev',
    'receive-0',
    'parent',
    '1:',
    'classid',
    '1:1',
    'htb',
    'rate',
    '9gbit',
  )
  inside(router, 'nft', 'delete', 'element', 'inet', 'bulkhead', 'sent_bytes', '{ 1 }')
  inside(router, 'tc', 'filter', 'del', 'dev', linkOf(pod('red1')), 'ingress', 'pref', '2')
  inside(router, 'ip', 'link', 'del', 'send-1')
  await network.ensureNode()
  assert.deepEqual(classes('send-0'), before)
  assert.ok(classes('receive-0').some((line) => /1:1 .*rate 160Mbit/.test(line)))
  assert.match(
    inside(router, 'nft', 'list', 'map', 'inet', 'bulkhead', 'sent_bytes'),
    /"sent_bytes_1_6250000"/,
  )
  const sent = await whileItLasts(['red1', 'blue1'], (from) => from.peer.pour(pod('red3'), 2), ['red3'])
  assert.ok(sent.red3 < 1.6 && sent.red3 > 0.2, `${sent.red3} of the cap`)
  const heard = await whileItLasts(['blue1'], (from) => from.peer.pour(pod('blue2'), 2), ['blue2'])
  assert.ok(heard.blue2 > 2, 'the other tenant is connected again')
})

test('a tenant that goes leaves no link and no limit behind', { skip }, async () => {
  const tenant = placementOf(layout, 'gone', 2)
  await network.ensureTenant(tenant)
  await startPod('gone1', tenant)
  const router = paths.routerNetns(layout)
  assert.match(inside(router, 'ip', 'link'), /receive-2/)
  await network.removeTenant(tenant.tenant)
  assert.doesNotMatch(inside(router, 'ip', 'link'), /(send|receive)-2/)
  assert.doesNotMatch(inside(router, 'nft', 'list', 'ruleset'), /(sent|received)_(bytes|packets)_3/)
})

/** What the pods named last heard meanwhile, each as a part of the cap. */
async function whileItLasts<const Ears extends string>(
  senders: readonly string[],
  begin: (from: Pod) => Promise<unknown>,
  ears: readonly Ears[],
): Promise<Record<Ears, number>> {
  for (const name of senders) await begin(pod(name))
  await sleep(WARM_UP_MS)
  const start = performance.now()
  const before = await Promise.all(ears.map((name) => pod(name).peer.ask({ do: 'heard' })))
  await sleep(WINDOW_MS)
  const after = await Promise.all(ears.map((name) => pod(name).peer.ask({ do: 'heard' })))
  const seconds = (performance.now() - start) / 1_000
  for (const name of senders) await pod(name).peer.ask({ do: 'stop' })
  return Object.fromEntries(
    ears.map((name, at) => [name, (((after[at] ?? 0) - (before[at] ?? 0)) * 8) / seconds / CAP]),
  ) as Record<Ears, number>
}

/** The rules without their limits; the next look brings them back. */
async function withoutLimits(work: () => Promise<void>): Promise<void> {
  for (const map of ['sent_bytes', 'sent_packets', 'received_bytes', 'received_packets'])
    inside(paths.routerNetns(layout), 'nft', 'flush', 'map', 'inet', 'bulkhead', map)
  try {
    await work()
  } finally {
    await network.ensureNode()
  }
}

/** The links without what leads packets to where they wait; the next look brings it back. */
async function withoutShares(work: () => Promise<void>): Promise<void> {
  for (const each of pods.values())
    for (const hook of ['ingress', 'egress'])
      inside(paths.routerNetns(layout), 'tc', 'filter', 'del', 'dev', linkOf(each), hook, 'pref', '2')
  try {
    await work()
  } finally {
    await network.ensureNode()
  }
}

function classes(link: string): string[] {
  return inside(paths.routerNetns(layout), 'tc', 'class', 'show', 'dev', link)
    .split('\n')
    .filter((line) => line !== '')
    .sort()
}

/** Bytes that have waited on a link, as its queue counts them. */
function bytesThrough(link: string): number {
  const text = inside(paths.routerNetns(layout), 'tc', '-s', 'qdisc', 'show', 'dev', link, 'root')
  return Number(/Sent (\d+) bytes/.exec(text)?.[1])
}

/** How large packets of TCP the pod makes, and the router for it. */
function packetSizes(each: Pod): { sender: number | undefined; router: number | undefined } {
  const sizeOf = (netns: string, name: string) =>
    inNamespace('net', netns, () => {
      const socket = new RouteSocket()
      try {
        return socket.packetBytesMax(name)
      } finally {
        socket.close()
      }
    })
  return { sender: sizeOf(each.netns, 'eth0'), router: sizeOf(paths.routerNetns(layout), linkOf(each)) }
}

/** Bytes that each tenant has sent through the uplink, as its class counts them. */
function shareCounts(): number[] {
  const text = inside(paths.routerNetns(layout), 'tc', '-s', 'class', 'show', 'dev', 'uplink')
  return ['2001', '2002'].map((id) => Number(new RegExp(`1:${id} [^]*?Sent (\\d+) bytes`).exec(text)?.[1]))
}

class Peer {
  private readonly child: ChildProcess

  private constructor(child: ChildProcess) {
    this.child = child
  }

  static async start(netns: string): Promise<Peer> {
    const child = inNamespace('net', netns, () =>
      fork(`${import.meta.dirname}/bandwidth-peer.ts`, [], { execArgv: [] }),
    )
    children.push(child)
    await once(child, 'message')
    return new Peer(child)
  }

  async ask(request: BandwidthRequest): Promise<number> {
    const said = once(this.child, 'message')
    this.child.send(request)
    const [value] = (await said) as [number]
    return value
  }

  async pour({ address }: { address: string }, streams: number): Promise<void> {
    await this.ask({ do: 'pour', host: address, streams })
  }
}

async function startPod(name: string, tenant: TenantPlacement, bandwidth?: BandwidthCaps): Promise<Pod> {
  const id = randomUUID() as JailId
  const { net, podIP } = await network.ensurePod(tenant, {
    id,
    hostname: name,
    hostnameRecords: [],
    largePackets: true,
    ...(bandwidth === undefined ? {} : { bandwidth }),
  })
  return { id, address: podIP, netns: net, tenant, peer: await Peer.start(net) }
}

function pod(name: string): Pod {
  const found = pods.get(name)
  assert.ok(found, `there is a pod ${name}`)
  return found
}

function linkOf(each: Pod): string {
  const route = inside(paths.routerNetns(layout), 'ip', 'route', 'show', each.address)
  return /dev (\S+)/.exec(route)?.[1] ?? ''
}

function removeNamespaces(): void {
  for (const [path, name] of [
    [MACHINE, 'bwn-machine'],
    [OUTSIDE, 'bwn-outside'],
  ] as const)
    if (existsSync(path)) run('ip', 'netns', 'delete', name)
}

function whyNot(): string | false {
  if (process.getuid?.() !== 0) return 'needs root'
  try {
    execFileSync(
      'unshare',
      ['--net', 'sh', '-ec', 'nft list ruleset; ip link add x type ifb; tc qdisc add dev x root htb'],
      {
        stdio: 'ignore',
      },
    )
    return false
  } catch {
    return 'needs network namespaces, nft, tc, and a kernel with ifb and htb'
  }
}
