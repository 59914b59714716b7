import assert from 'node:assert/strict'
import { type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { after, before, test } from 'node:test'
import { type Layout, parseEgressPort, parseLayout, paths } from '../../src/api/index.ts'
import { inNamespace } from '../../src/engine/local/host/net/syscalls.ts'
import {
  type TenantPlacement,
  createPodNetwork,
  ensureRunDir,
  removeRunDir,
} from '../../src/engine/local/index.ts'
import type { PodNamespaces } from '../../src/engine/local/parts.ts'
import type { EgressPolicy, EgressRule, JailId } from '../../src/jail/index.ts'
import { silentLogger, until } from '../../src/stdx/index.ts'
import { machineRulesLayer, uplinkFilterLayer } from '../../src/verifier/layers.ts'
import { observeRouter } from '../../src/verifier/posture/network.ts'
import type { Zone } from './egress-names.ts'
import {
  directoryOfResolver,
  inside,
  networkMissing,
  type Peer,
  Peers,
  placementOf,
  RESOLVER_UID,
  run,
} from '../testkit/network.ts'

// A machine and an outside of the test's own, each a network namespace: whatever goes wrong, this machine's own
// network is not touched, and nothing outside is real.

const skip = networkMissing
const layout: Layout = parseLayout({ BULKHEAD_INSTANCE: 'egn', BULKHEAD_SLOT: '40', BULKHEAD_UPLINK: 'out0' })
const [MACHINE, OUTSIDE] = ['/run/netns/egn-machine', '/run/netns/egn-outside']
const OWN = '198.51.100.2'
const GOOD = '203.0.113.10'
const OTHER = '203.0.113.20'
const NAMES = '203.0.113.53'
const PRIVATE = '10.77.0.10'
const METADATA = '169.254.169.254'

type Pod = { id: JailId; namespaces: PodNamespaces; peer: Peer; tenant: TenantPlacement }
let network: ReturnType<typeof createPodNetwork>
const peers = new Peers()
let names: ChildProcess
const asked: string[] = []
let red1: Pod
let red2: Pod
let blue1: Pod
const blocked: string[] = []

before(async () => {
  if (skip !== false) return
  removeNamespaces()
  for (const name of ['egn-machine', 'egn-outside']) run('ip', 'netns', 'add', name)
  inside(MACHINE, 'ip', 'link', 'add', 'out0', 'type', 'veth', 'peer', 'name', 'in0', 'netns', 'egn-outside')
  for (const [netns, link, address] of [
    [MACHINE, 'out0', `${OWN}/24`],
    [OUTSIDE, 'in0', '198.51.100.1/24'],
  ] as const) {
    inside(netns, 'ip', 'link', 'set', 'lo', 'up')
    inside(netns, 'ip', 'address', 'add', address, 'dev', link)
    inside(netns, 'ip', 'link', 'set', link, 'up')
  }
  inside(MACHINE, 'ip', 'route', 'add', 'default', 'via', '198.51.100.1')
  for (const address of [GOOD, OTHER, NAMES, PRIVATE, METADATA, '127.0.0.53', '100.64.0.9'])
    inside(OUTSIDE, 'ip', 'address', 'add', `${address}/32`, 'dev', 'lo')
  network = makeNetwork()
  await network.reset()
  removeRunDir(layout)
  ensureRunDir(layout)
  directoryOfResolver(`${layout.runDir}/forwarder`)
  await network.ensureNode()
  await peers.resolver(layout, { outside: true })
  await peers.start(MACHINE, program('egress-forwarder.ts'), [
    paths.forwarderSocket(layout),
    String(RESOLVER_UID),
    NAMES,
  ])
  names = await peers.start(OUTSIDE, program('egress-names.ts'), [NAMES])
  names.on('message', (message) => {
    if ('asked' in (message as object)) asked.push((message as { asked: string }).asked)
  })
  for (const [netns, who] of [
    [OUTSIDE, 'outside'],
    [MACHINE, 'machine'],
  ] as const) {
    const peer = await peers.peer(who, netns)
    for (const port of [80, 443, 8080]) await peer.ask({ do: 'listen', protocol: 'tcp', port })
    if (who === 'outside') await peer.ask({ do: 'listen', protocol: 'udp', port: 5353, host: GOOD })
  }
  const [red, blue] = [placementOf(layout, 'red', 0), placementOf(layout, 'blue', 1)]
  for (const tenant of [red, blue]) await network.ensureTenant(tenant)
  red1 = await startPod('red1', red, 'shop')
  red2 = await startPod('red2', red, 'batch')
  blue1 = await startPod('blue1', blue, 'shop')
  await blue1.peer.ask({ do: 'listen', protocol: 'tcp', port: 443 })
})

after(async () => {
  if (skip !== false) return
  await peers.endAll()
  await network.reset()
  removeRunDir(layout)
  removeNamespaces()
})

const allow = (...rules: (Omit<EgressRule, 'ports'> & { ports?: (number | string)[] })[]): EgressPolicy => ({
  allow: rules.map(({ ports = [443], ...rule }) => ({
    ...rule,
    ports: ports.flatMap((p) => parseEgressPort(p) ?? []),
  })),
})
const reach = (pod: Pod, host: string, port = 443, protocol: 'tcp' | 'udp' = 'tcp') =>
  pod.peer.ask({ do: 'call', protocol, host, port, waitMs: 600 })
const SILENCE = { failure: 'silence' }
/** The outside sees the machine and nobody behind it. */
const FOUND = { answer: `outside ${OWN}` }

test(
  'without a rule nothing leads outside: no link, no route, and the machine is as it was',
  { skip },
  async () => {
    assert.deepEqual(await reach(red1, GOOD), SILENCE)
    assert.doesNotMatch(inside(paths.routerNetns(layout), 'ip', 'link'), /uplink/)
    assert.doesNotMatch(inside(MACHINE, 'ip', 'link'), /-up/)
    assert.equal(inside(MACHINE, 'nft', 'list', 'ruleset'), '')
    assert.equal(forwarding(), '0')
    assert.deepEqual(await lookUp(red1, 'api.example.com'), 'NXDOMAIN')
  },
)

test(
  'an allowed name opens its addresses and its ports for the pod that asked, and for nobody else',
  { skip },
  async () => {
    await zone({ 'api.example.com': { addresses: [GOOD] }, 'evil.example.com': { addresses: [OTHER] } })
    await policy(red1, allow({ host: 'api.example.com' }))
    // Direct IP without DNS: the address alone opens nothing.
    assert.deepEqual(await reach(red1, GOOD), SILENCE)
    assert.equal(await lookUp(red1, 'api.example.com'), `NOERROR "${GOOD}"`)
    assert.deepEqual(await reach(red1, GOOD), FOUND)
    assert.deepEqual(await reach(red1, GOOD, 80), SILENCE)
    assert.deepEqual(await reach(red1, OTHER), SILENCE)
    // Another pod of the tenant has not asked; the other tenant may not ask.
    assert.deepEqual(await reach(red2, GOOD), SILENCE)
    assert.deepEqual(await reach(blue1, GOOD), SILENCE)
    assert.equal(await lookUp(blue1, 'api.example.com'), 'NXDOMAIN')
    assert.deepEqual(await reach(blue1, GOOD), SILENCE)
    await network.egress('red')
    assert.ok(
      blocked.some((message) => message.includes(OTHER)),
      blocked.join(),
    )
  },
)

test(
  'a rule for labels is for pods that have them all, from the moment they do until they do not, and for no other tenant',
  { skip },
  async () => {
    await zone({ 'api.example.com': { addresses: [GOOD] } })
    const rules = allow(
      { host: 'api.example.com', podLabels: ['app=shop', 'tier=front'] },
      { cidr: `${OTHER}/32`, podLabels: ['app=shop'] },
    )
    for (const pod of [red1, blue1]) await label(pod, [])
    await policy(red1, rules)
    const open = async (pod: Pod) => [
      await lookUp(pod, 'api.example.com'),
      (await reach(pod, GOOD)).answer ?? '',
      (await reach(pod, OTHER)).answer ?? '',
    ]
    assert.deepEqual(await open(red1), ['NXDOMAIN', '', ''])
    await label(red1, ['app=shop'])
    assert.deepEqual(await open(red1), ['NXDOMAIN', '', FOUND.answer])
    await label(red1, ['app=shop', 'tier=front', 'x=y'])
    assert.deepEqual(await open(red1), [`NOERROR "${GOOD}"`, FOUND.answer, FOUND.answer])
    // What another tenant calls its pods says nothing.
    await label(blue1, ['app=shop', 'tier=front'])
    assert.deepEqual(await open(blue1), ['NXDOMAIN', '', ''])
    const held = await red1.peer.ask({ do: 'hold', host: OTHER, port: 7 })
    assert.deepEqual(held, { failure: 'silence' }, 'no port that the rule does not name')
    await label(red1, ['tier=front'])
    // Without another question: the address was opened for the label that is gone.
    assert.deepEqual(await reach(red1, GOOD), SILENCE)
    assert.deepEqual(await open(red1), ['NXDOMAIN', '', ''])
    await zone({ 'api.example.com': { addresses: [GOOD] }, 'evil.example.com': { addresses: [OTHER] } })
    await policy(red1, allow({ host: 'api.example.com' }))
    assert.equal(await lookUp(red1, 'api.example.com'), `NOERROR "${GOOD}"`)
  },
)

test(
  'a name that is not allowed looks like one that does not exist, and is not even asked about',
  { skip },
  async () => {
    asked.length = 0
    const [forbidden, absent] = [
      await lookUp(red1, 'evil.example.com'),
      await lookUp(red1, 'nobody.example.com'),
    ]
    assert.deepEqual([forbidden, absent], ['NXDOMAIN', 'NXDOMAIN'])
    assert.equal(await lookUp(red1, 'deep.api.example.com'), 'NXDOMAIN')
    assert.deepEqual(asked, [])
  },
)

test(
  'IPv6 is no detour: an allowed name has no IPv6 address, and neither TXT nor MX goes out',
  { skip },
  async () => {
    asked.length = 0
    assert.equal(await lookUp(red1, 'api.example.com', 'AAAA'), 'NOERROR')
    assert.equal(await lookUp(red1, 'api.example.com', 'SRV'), 'NOERROR')
    assert.deepEqual(asked, [])
  },
)

test(
  'names follow their aliases, and an alias to a name that is not allowed gives only addresses',
  { skip },
  async () => {
    await zone({ 'www.example.com': { alias: 'cdn.elsewhere.test', addresses: [GOOD] } })
    await policy(red1, allow({ host: 'www.example.com' }))
    assert.equal(await lookUp(red1, 'www.example.com'), `NOERROR "${GOOD}"`)
    assert.deepEqual(await reach(red1, GOOD), FOUND)
  },
)

test(
  'DNS rebinding: answers that point inside, to the machine, to metadata or to another tenant are dropped',
  { skip },
  async () => {
    const inward = [
      '127.0.0.1',
      '127.0.0.53',
      '0.0.0.0',
      METADATA,
      '169.254.1.1',
      PRIVATE,
      '192.168.1.1',
      '172.16.0.1',
      '100.64.0.9',
      OWN,
      '198.51.100.1',
      blue1.namespaces.podIP,
      '10.96.0.1',
      '224.0.0.1',
      '255.255.255.255',
    ]
    await policy(red1, allow({ host: '*.rebind.example' }, { cidr: '0.0.0.0/0' }))
    await zone(
      Object.fromEntries(inward.map((address, at) => [`n${at}.rebind.example`, { addresses: [address] }])),
    )
    for (const [at, address] of inward.entries())
      assert.equal(await lookUp(red1, `n${at}.rebind.example`), 'NXDOMAIN', address)
    // Among others, the bad one is left out.
    await zone({ 'mixed.rebind.example': { addresses: [METADATA, GOOD, '127.0.0.1'] } })
    assert.equal(await lookUp(red1, 'mixed.rebind.example'), `NOERROR "${GOOD}"`)
  },
)

test(
  '0.0.0.0/0 on all ports reaches the outside, and neither metadata, the machine, private networks nor other tenants',
  { skip },
  async () => {
    await policy(red1, allow({ cidr: '0.0.0.0/0', ports: ['1-65535', '1-65535/UDP'] }))
    assert.deepEqual(await reach(red1, GOOD), FOUND)
    assert.deepEqual(await reach(red1, OTHER, 80), FOUND)
    assert.deepEqual(await reach(red1, GOOD, 5353, 'udp'), FOUND)
    for (const host of [
      METADATA,
      OWN,
      '198.51.100.1',
      PRIVATE,
      '100.64.0.9',

      layout.uplink.machine,
      layout.uplink.router,
      blue1.namespaces.podIP,
    ])
      assert.deepEqual(await reach(red1, host, 80), SILENCE, host)
    assert.deepEqual(await reach(blue1, GOOD), SILENCE)
  },
)

for (const [missing, take] of [
  [
    "without the router's rules for the outside",
    () => inside(paths.routerNetns(layout), 'nft', 'flush', 'ruleset'),
  ],
  [
    "without the filter on the uplink and the machine's table",
    () => {
      inside(paths.routerNetns(layout), 'tc', 'qdisc', 'delete', 'dev', 'uplink', 'clsact')
      inside(MACHINE, 'nft', 'flush', 'ruleset')
    },
  ],
] as const)
  test(`${missing}, metadata, the machine and private networks stay out of reach`, { skip }, async () => {
    await policy(red1, allow({ cidr: '0.0.0.0/0', ports: ['1-65535'] }))
    take()
    try {
      for (const host of [
        METADATA,
        OWN,
        '198.51.100.1',
        PRIVATE,
        layout.uplink.machine,
        blue1.namespaces.podIP,
      ])
        assert.deepEqual(await reach(red1, host, 80), SILENCE, host)
    } finally {
      await network.ensureNode()
    }
    assert.deepEqual(await reach(red1, GOOD), FOUND)
  })

test(
  'a private network is reached by a rule that lies within it, by that tenant alone',
  { skip },
  async () => {
    await policy(red1, allow({ cidr: '10.77.0.0/16', ports: [80] }, { host: 'db.example.com', ports: [80] }))
    await policy(blue1, allow({ cidr: '0.0.0.0/0', ports: [80] }))
    assert.deepEqual(await reach(red1, PRIVATE, 80), FOUND)
    assert.deepEqual(await reach(red1, PRIVATE, 443), SILENCE)
    assert.deepEqual(await reach(blue1, PRIVATE, 80), SILENCE)
    // A name may point there too, now that the operator has said so.
    await zone({ 'db.example.com': { addresses: [PRIVATE] } })
    assert.equal(await lookUp(red1, 'db.example.com'), `NOERROR "${PRIVATE}"`)
    await policy(blue1, undefined)
  },
)

test('the verifier sees by itself what closes the uplink, and when nothing does', { skip }, async () => {
  await policy(red1, allow({ cidr: '0.0.0.0/0', ports: ['1-65535'] }))
  const layers = () =>
    inNamespace('net', MACHINE, () => {
      const router = observeRouter(paths.routerNetns(layout))
      const namespaces = { user: '', net: '', mnt: '', pid: '', ipc: '', uts: '', cgroup: '' }
      const machine = {
        namespaces,
        addresses: [OWN, '127.0.0.1'],
        users: [],
        tasksMax: 0,
        observedUses: undefined,
        observedAtMs: 0,
        router,
        ownerOfPath: () => undefined,
        volumes: [],
        ephemeral: [],
        diskFreeBytes: 0,
        deviceOf: () => undefined,
        sourceChecks: [],
        processorLeaks: undefined,
        files: { keys: [], images: [], logs: [], pods: [], partitions: [], secretsIn: 'tmpfs' },
      }
      const links = router.pods.filter(({ address }) => address === red1.namespaces.podIP)
      const attacker = { name: 'red', isolationClass: 'shared', processes: [], links }
      assert.equal(links.length, 1)
      return [uplinkFilterLayer(attacker, machine), machineRulesLayer(attacker, machine)]
    })
  const whole = layers()
  assert.deepEqual(
    whole.map(({ holds }) => holds),
    [true, true],
    JSON.stringify(whole),
  )
  const router = paths.routerNetns(layout)
  inside(router, 'tc', 'qdisc', 'delete', 'dev', 'uplink', 'clsact')
  for (const set of ['never4', 'machine4', 'inside4'])
    inside(router, 'nft', 'flush', 'set', 'inet', 'outside', set)
  const broken = layers()
  assert.deepEqual(
    broken.map(({ holds }) => holds),
    [false, false],
  )
  assert.match(broken.flatMap(({ evidence }) => evidence).join(), /lets a frame to 198\.51\.100\.2 through/)
  // A table is made anew only when it is not there.
  inside(router, 'nft', 'delete', 'table', 'inet', 'outside')
  await network.ensureNode()
  assert.deepEqual(
    layers().map(({ holds }) => holds),
    [true, true],
  )
})

test('a rule for one namespace is no rule for another', { skip }, async () => {
  await policy(
    red1,
    allow({ cidr: `${GOOD}/32`, namespaces: ['shop'] }, { host: 'api.example.com', namespaces: ['batch'] }),
  )
  await zone({ 'api.example.com': { addresses: [OTHER] } })
  assert.deepEqual([await reach(red1, GOOD), await reach(red2, GOOD)], [FOUND, SILENCE])
  assert.deepEqual(
    [await lookUp(red1, 'api.example.com'), await lookUp(red2, 'api.example.com')],
    ['NXDOMAIN', `NOERROR "${OTHER}"`],
  )
  assert.deepEqual([await reach(red1, OTHER), await reach(red2, OTHER)], [SILENCE, FOUND])
})

test(
  'an expired TTL is of no use: the address is shut, though the pod still knows it',
  { skip },
  async () => {
    await policy(red1, allow({ host: 'short.example.com' }))
    await zone({ 'short.example.com': { addresses: [GOOD], ttl: 0 } })
    assert.equal(await lookUp(red1, 'short.example.com'), `NOERROR "${GOOD}"`)
    assert.deepEqual(await reach(red1, GOOD), FOUND)
    await until(async () => (await reach(red1, GOOD)).failure === 'silence', {
      timeoutMs: 40_000,
      everyMs: 500,
    })
    // Asked again it is open again, at another address if the name has moved.
    await zone({ 'short.example.com': { addresses: [OTHER], ttl: 0 } })
    assert.equal(await lookUp(red1, 'short.example.com'), `NOERROR "${OTHER}"`)
    assert.deepEqual([await reach(red1, OTHER), await reach(red1, GOOD)], [FOUND, SILENCE])
  },
)

test('a rule that is taken away takes what it had opened with it', { skip }, async () => {
  await policy(red1, allow({ host: 'api.example.com' }, { cidr: `${OTHER}/32` }))
  await zone({ 'api.example.com': { addresses: [GOOD] } })
  await lookUp(red1, 'api.example.com')
  assert.deepEqual(await reach(red1, GOOD), FOUND)
  await policy(red1, allow({ cidr: `${OTHER}/32` }))
  assert.deepEqual([await reach(red1, GOOD), await reach(red1, OTHER)], [SILENCE, FOUND])
})

test('a rule ends at its time, also while nobody is there to end it', { skip }, async () => {
  await policy(red1, allow({ cidr: `${GOOD}/32`, untilMs: Date.now() + 2_500 }))
  assert.deepEqual(await reach(red1, GOOD), FOUND)
  network.close()
  await until(async () => (await reach(red1, GOOD)).failure === 'silence', {
    timeoutMs: 20_000,
    everyMs: 300,
  })
  network = makeNetwork()
  await network.ensureNode()
})

test(
  'tunnelling by subdomains: of names that nobody wrote down only few go out, and known ones go on',
  { skip },
  async () => {
    await policy(red1, allow({ host: '*.tunnel.example' }, { host: 'api.example.com' }))
    await zone({ 'api.example.com': { addresses: [GOOD] } })
    asked.length = 0
    const answers: string[] = []
    for (let at = 0; at < 120; at++) answers.push(await lookUp(red1, `secret-${at}.tunnel.example`))
    const out = asked.filter((name) => name.endsWith('.tunnel.example'))
    assert.ok(out.length < 90, `${out.length} names went out`)
    assert.ok(answers.includes('SERVFAIL'))
    assert.equal(await lookUp(red1, 'api.example.com'), `NOERROR "${GOOD}"`)
    // Another tenant's share is its own.
    await policy(blue1, allow({ host: '*.tunnel.example' }))
    assert.equal(await lookUp(blue1, 'mine.tunnel.example'), 'NXDOMAIN')
    await policy(blue1, undefined)
  },
)

test('a forged answer, with another id, opens nothing', { skip }, async () => {
  await policy(red1, allow({ host: 'forged.example.com' }))
  await zone({ 'forged.example.com': { addresses: [GOOD], forged: true } })
  const answer = await red1.peer.ask({ do: 'resolve', name: 'forged.example.com', type: 'A' })
  assert.doesNotMatch(answer.answer ?? '', /203/)
  assert.deepEqual(await reach(red1, GOOD), SILENCE)
})

test(
  'a new agent takes over what there is, and a pod that is gone leaves nothing open',
  { skip },
  async () => {
    await policy(red1, allow({ host: 'api.example.com' }, { cidr: `${OTHER}/32` }))
    await zone({ 'api.example.com': { addresses: [GOOD] } })
    const pod = await startPod('red3', red1.tenant, 'shop')
    await lookUp(pod, 'api.example.com')
    network.close()
    assert.deepEqual([await reach(pod, GOOD), await reach(pod, OTHER)], [FOUND, FOUND])
    network = makeNetwork()
    await network.ensureNode()
    assert.deepEqual([await reach(pod, GOOD), await reach(pod, OTHER)], [FOUND, FOUND])
    await lookUp(pod, 'api.example.com')
    await network.removePod(pod.id)
    assert.doesNotMatch(
      inside(paths.routerNetns(layout), 'nft', 'list', 'set', 'inet', 'outside', 'open4'),
      new RegExp(pod.namespaces.podIP),
    )
    assert.doesNotMatch(
      inside(paths.routerNetns(layout), 'nft', 'list', 'map', 'inet', 'outside', 'rules4'),
      new RegExp(pod.namespaces.podIP),
    )
  },
)

test(
  'learning writes down what was wanted, by name and port, and lets only the public internet through',
  { skip },
  async () => {
    await zone({ 'new.example.com': { addresses: [GOOD] } })
    await policy(red1, { allow: [], learn: { untilMs: Date.now() + 600_000, unlisted: 'Allow' } })
    assert.equal(await lookUp(red1, 'new.example.com'), `NOERROR "${GOOD}"`)
    assert.deepEqual(await reach(red1, GOOD), FOUND)
    assert.deepEqual(await reach(red1, OTHER, 80), FOUND)
    for (const host of [METADATA, OWN, PRIVATE, blue1.namespaces.podIP])
      assert.deepEqual(await reach(red1, host, 80), SILENCE, host)
    const [{ seen } = { seen: [] }] = await network.egress('red')
    const shown = seen.map(({ namespace, name, address, protocol, port, allowed }) => [
      namespace,
      name ?? address,
      protocol,
      port,
      allowed,
    ])
    // What the tests before did at another port of it may be in it, or was over before anybody looked.
    const learned = shown.filter(
      ([, what, , port, allowed]) =>
        allowed === true && (what === 'new.example.com' || (what === OTHER && port === 80)),
    )
    const wanted = [
      ['shop', 'new.example.com', undefined, undefined, true],
      ['shop', 'new.example.com', 'TCP', 443, true],
      ['shop', OTHER, 'TCP', 80, true],
    ]
    const lines = (rows: unknown[]) => rows.map((row) => JSON.stringify(row)).sort()
    assert.deepEqual(lines(learned), lines(wanted))
  },
)

test('the machine is as it was once nobody has a rule any more', { skip }, async () => {
  assert.equal(forwarding(), '1')
  await policy(red1, undefined)
  assert.equal(forwarding(), '0')
  assert.equal(inside(MACHINE, 'nft', 'list', 'ruleset'), '')
  assert.doesNotMatch(inside(MACHINE, 'ip', 'link'), /-up/)
  assert.deepEqual(await reach(red1, GOOD), SILENCE)
})

const leaving = new Set<number>()

async function policy(
  { tenant: { egress: _before, ...tenant } }: Pod,
  egress: EgressPolicy | undefined,
): Promise<void> {
  const { index } = tenant
  const before = await view(index)
  await network.setTenantEgress(egress === undefined ? tenant : { ...tenant, egress })
  if (leaving.has(index) === (egress !== undefined)) return
  if (egress === undefined) leaving.delete(index)
  else leaving.add(index)
  // The resolver hears a moment later that the tenant has names outside now, or none.
  await until(async () => (await view(index)) !== before, { timeoutMs: 10_000, everyMs: 20 })
}

/** The version of the tenant's names that the resolver has. */
async function view(index: number): Promise<string | undefined> {
  const outgoing = request({ socketPath: paths.dnsSocket(layout), path: '/v1/views' })
  outgoing.end()
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
  const { views } = JSON.parse(await text(incoming)) as { views: [number, string][] }
  return views.find(([at]) => at === index)?.[1]
}

async function zone(entries: Zone): Promise<void> {
  const told = new Promise<void>((done) => {
    const listen = (message: unknown) => {
      if (!('set' in (message as object))) return
      names.off('message', listen)
      done()
    }
    names.on('message', listen)
  })
  names.send({ zone: entries })
  await told
}

async function lookUp({ peer }: Pod, name: string, type: 'A' | 'AAAA' | 'SRV' = 'A'): Promise<string> {
  const reply = await peer.ask({ do: 'resolve', name, type })
  return reply.answer ?? reply.failure ?? ''
}

function makeNetwork() {
  return createPodNetwork({
    layout,
    log: silentLogger,
    resolverUid: RESOLVER_UID,
    machineNetns: MACHINE,
    onEgressBlocked: (_pod, message) => void blocked.push(message),
  })
}

function forwarding(): string {
  return inside(MACHINE, 'sysctl', '-n', 'net.ipv4.conf.out0.forwarding').trim()
}

async function startPod(name: string, tenant: TenantPlacement, namespace: string): Promise<Pod> {
  const id = randomUUID() as JailId
  const namespaces = await network.ensurePod(tenant, { id, namespace, hostname: name, hostnameRecords: [] })
  return { id, namespaces, tenant, peer: await peers.peer(name, namespaces.net) }
}

async function label({ id, tenant }: Pod, labels: readonly string[]): Promise<void> {
  const pod = { id, namespace: 'shop', labels, hostname: 'relabelled', hostnameRecords: [] }
  await network.ensurePod(tenant, pod)
}

function program(file: string): string {
  return `${import.meta.dirname}/${file}`
}

function removeNamespaces(): void {
  for (const [path, name] of [
    [MACHINE, 'egn-machine'],
    [OUTSIDE, 'egn-outside'],
  ] as const)
    if (existsSync(path)) run('ip', 'netns', 'delete', name)
}
