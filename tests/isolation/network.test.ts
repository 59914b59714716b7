import assert from 'node:assert/strict'
import { type ChildProcess, execFile, execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { networkInterfaces } from 'node:os'
import { text } from 'node:stream/consumers'
import { after, before, mock, test } from 'node:test'
import { promisify } from 'node:util'
import { type Layout, parseLayout, paths } from '../../src/api/index.ts'
import { NetlinkSocket } from '../../src/engine/local/host/net/netlink.ts'
import { SyscallError, inNewNetworkNamespace } from '../../src/engine/local/host/net/syscalls.ts'
import { type TenantPlacement, createPodNetwork, removeRunDir } from '../../src/engine/local/index.ts'
import type { PodNamespaces } from '../../src/engine/local/parts.ts'
import type { JailId, NetworkService } from '../../src/jail/index.ts'
import { silentLogger, until } from '../../src/stdx/index.ts'
import { linkFilterLayer } from '../../src/verifier/layers.ts'
import { observeRouter } from '../../src/verifier/posture/network.ts'
import {
  inside,
  networkMissing,
  type Peer,
  Peers,
  placementOf,
  RESOLVER_UID,
  setUpNode,
} from '../testkit/network.ts'

const skip = networkMissing
const unmocked = NetlinkSocket.prototype.requestAll
const layout: Layout = parseLayout({ BULKHEAD_INSTANCE: 'tnet', BULKHEAD_SLOT: '3' })
const VIRTUAL = '10.96.7.7'
/** Where packets of the two tenants with pods wait. */
const SHARES = ['receive-0', 'receive-1', 'send-0', 'send-1']

const red = placementOf(layout, 'red', 0)
const blue = placementOf(layout, 'blue', 1)

type Pod = { id: JailId; namespaces: PodNamespaces; peer: Peer }
let network: ReturnType<typeof createPodNetwork>
const peers = new Peers()
let resolver: ChildProcess
const pods = new Map<string, Pod>()

before(async () => {
  if (skip !== false) return
  network = createPodNetwork({ layout, log: silentLogger })
  await setUpNode(layout, network)
  resolver = await peers.resolver(layout)
  for (const tenant of [red, blue]) await network.ensureTenant(tenant)
  for (const [name, tenant] of [
    ['red1', red],
    ['red2', red],
    ['blue1', blue],
  ] as const)
    pods.set(name, await startPod(name, tenant))
  for (const { peer } of pods.values()) {
    for (const protocol of ['tcp', 'udp'] as const) await peer.ask({ do: 'listen', protocol, port: 8080 })
  }
})

after(async () => {
  if (skip !== false) return
  await peers.endAll()
  await network.reset()
  removeRunDir(layout)
})

test('pods of one tenant reach each other over tcp, udp and icmp', { skip }, async () => {
  const [one, two] = [pod('red1'), pod('red2')]
  for (const protocol of ['tcp', 'udp'] as const) {
    assert.deepEqual(await one.peer.call(protocol, ip(two)), { answer: `red2 ${ip(one)}` })
    assert.deepEqual(await two.peer.call(protocol, ip(one)), { answer: `red1 ${ip(two)}` })
    assert.deepEqual(await one.peer.call(protocol, ip(one)), { answer: `red1 ${ip(one)}` })
  }
  assert.ok(await ping(one, ip(two)))
})

/** Which layers are there while an attack is tried; the first two are the ablation. */
const DEFENCES: Record<string, (attack: () => Promise<void>) => Promise<void>> = {
  'the link filters alone': withoutRules,
  'the router rules alone': withoutFilters,
  'both layers': async (attack) => await attack(),
}

for (const [defenceAt, [defence, during]] of Object.entries(DEFENCES).entries()) {
  const rulesAlone = during === withoutFilters
  /** With the rules alone, counters of the rules say what stopped it; otherwise the filters are first. */
  const stoppedBy = (counters: readonly string[], ends: readonly Pod[]) => {
    const stops = () => (rulesAlone ? counters.map(counter) : ends.map(filtered))
    const before = stops()
    return () => {
      for (const [at, stopped] of stops().entries()) assert.ok(stopped > (before[at] ?? 0), `${counters[at]}`)
    }
  }

  test(`with ${defence}, pods of two tenants cannot reach each other in either direction`, { skip }, () =>
    during(async () => {
      const [red1, blue1] = [pod('red1'), pod('blue1')]
      const assertStopped = stoppedBy(['denied_1', 'denied_2'], [red1, blue1])
      const calls = (['tcp', 'udp'] as const).flatMap((protocol) => [
        red1.peer.call(protocol, ip(blue1)),
        blue1.peer.call(protocol, ip(red1)),
      ])
      for (const reply of await Promise.all(calls)) assert.deepEqual(reply, { failure: 'silence' })
      assert.deepEqual(await Promise.all([ping(red1, ip(blue1)), ping(blue1, ip(red1))]), [false, false])
      assertStopped()
      // It is not silent because nothing works any more.
      for (const protocol of ['tcp', 'udp'] as const)
        assert.deepEqual(await red1.peer.call(protocol, ip(pod('red2'))), { answer: `red2 ${ip(red1)}` })
      assert.ok(await ping(red1, ip(pod('red2'))))
    }),
  )

  test(`with ${defence}, the metadata address leads nowhere`, { skip }, () =>
    during(async () => {
      const assertStopped = stoppedBy(['metadata'], [pod('red1')])
      const reply = await pod('red1').peer.call('tcp', '169.254.169.254', { port: 80 })
      assert.deepEqual(reply, { failure: 'silence' })
      assertStopped()
    }),
  )

  test(`with ${defence}, a pod that takes the address of another pod is not heard`, { skip }, () =>
    during(async () => {
      const [red1, blue1] = [pod('red1'), pod('blue1')]
      for (const stolen of [ip(pod('red2')), ip(blue1), '10.128.0.200', '10.96.0.1', '192.0.2.77']) {
        const assertStopped = stoppedBy(['spoofed'], [red1])
        inside(red1.namespaces.net, 'ip', 'address', 'add', `${stolen}/32`, 'dev', 'eth0')
        try {
          const target = stolen === ip(blue1) ? ip(pod('red2')) : ip(blue1)
          const calls = (['tcp', 'udp'] as const).map((protocol) =>
            red1.peer.ask({ do: 'call', protocol, host: target, port: 8080, from: stolen }),
          )
          for (const reply of await Promise.all(calls)) assert.equal(reply.answer, undefined, stolen)
          assertStopped()
        } finally {
          inside(red1.namespaces.net, 'ip', 'address', 'del', `${stolen}/32`, 'dev', 'eth0')
        }
      }
    }),
  )

  test(`with ${defence}, a pod that changes its hardware address is not heard`, { skip }, () =>
    during(async () => {
      const red1 = pod('red1')
      const { net } = red1.namespaces
      const own = /link\/ether (\S+)/.exec(inside(net, 'ip', 'link', 'show', 'eth0'))?.[1] ?? ''
      const setAddress = (mac: string) => {
        inside(net, 'ip', 'link', 'set', 'eth0', 'address', mac)
        // The kernel has forgotten the router with that, and no answer to a question would pass.
        knowRouter(net)
      }
      const assertStopped = stoppedBy(['spoofed'], [red1])
      setAddress('02:42:0a:80:08:01')
      try {
        assert.equal((await red1.peer.call('tcp', ip(pod('red2')))).answer, undefined)
        assertStopped()
      } finally {
        setAddress(own)
      }
      assert.deepEqual(await red1.peer.call('tcp', ip(pod('red2'))), { answer: `red2 ${ip(red1)}` })
    }),
  )

  test(`with ${defence}, IPv6 does not leave a pod, even when the pod switches it on`, { skip }, () =>
    during(async () => {
      const [red1, red2] = [pod('red1'), pod('red2')]
      for (const [each, address] of [
        [red1, 'fd00:1::1'],
        [red2, 'fd00:1::2'],
      ] as const) {
        const { net } = each.namespaces
        assert.doesNotMatch(inside(net, 'ip', '-6', 'address', 'show', 'dev', 'eth0'), /inet6/)
        inside(net, 'sysctl', '-qw', 'net.ipv6.conf.eth0.disable_ipv6=0')
        inside(net, 'ip', 'address', 'add', `${address}/64`, 'dev', 'eth0', 'nodad')
      }
      // With the rules alone the kernel is first: the router's links know no IPv6.
      const before = filtered(red1)
      try {
        await red2.peer.ask({ do: 'listen', protocol: 'udp', port: 8081 + defenceAt, host: '::' })
        const gateway = ['neigh', 'replace', 'fd00:1::2', 'lladdr', 'ee:ee:ee:ee:ee:ee', 'dev', 'eth0']
        inside(red1.namespaces.net, 'ip', '-6', ...gateway)
        const reply = await red1.peer.call('udp', 'fd00:1::2', { port: 8081 + defenceAt })
        assert.deepEqual(reply, { failure: 'silence' })
        assert.ok(rulesAlone || filtered(red1) > before)
      } finally {
        for (const { namespaces } of [red1, red2])
          inside(namespaces.net, 'sysctl', '-qw', 'net.ipv6.conf.eth0.disable_ipv6=1')
      }
    }),
  )
}

test('without either layer a pod does reach the other tenant, so it is they who stop it', { skip }, () =>
  withoutRules(() =>
    withoutFilters(async () => {
      const [red1, blue1] = [pod('red1'), pod('blue1')]
      assert.deepEqual(await red1.peer.call('tcp', ip(blue1)), { answer: `blue1 ${ip(red1)}` })
      assert.ok(await ping(blue1, ip(red1)))
    }),
  ),
)

test("the filter on the attacker's link and the one on the victim's each suffice", { skip }, async () => {
  const [red1, blue1] = [pod('red1'), pod('blue1')]
  for (const [gone, stopping] of [
    ['ingress', blue1],
    ['egress', red1],
  ] as const) {
    await withoutRules(async () => {
      for (const each of [red1, blue1])
        inside(paths.routerNetns(layout), 'tc', 'filter', 'delete', 'dev', linkOf(each), gone)
      const before = filtered(stopping)
      for (const protocol of ['tcp', 'udp'] as const)
        assert.deepEqual(await red1.peer.call(protocol, ip(blue1)), { failure: 'silence' })
      assert.ok(!(await ping(red1, ip(blue1))))
      assert.ok(filtered(stopping) >= before + 3)
    })
  }
})

test(
  'the verifier sees by itself that the filters keep tenants apart, and when they do not',
  { skip },
  () => {
    const links = (...names: string[]) => {
      const { pods: all } = observeRouter(paths.routerNetns(layout))
      return all.filter((each) => names.some((name) => ip(pod(name)) === each.address))
    }
    const layer = (from: string, to: string) => {
      const [attacker, victim] = [from, to].map((name) => ({
        name,
        isolationClass: 'shared',
        processes: [],
        links: links(name),
      }))
      assert.ok(attacker?.links.length === 1 && victim?.links.length === 1)
      return linkFilterLayer(attacker, victim)
    }
    assert.deepEqual(
      [layer('red1', 'blue1').holds, layer('blue1', 'red1').holds, layer('red1', 'red2').holds],
      [true, true, false],
    )
    return withoutFilters(async () => {
      assert.match(layer('red1', 'blue1').evidence.join(), /lets a frame from 10\.128\.0\.1 through/)
    })
  },
)

test('an address that another tenant uses and one that nobody uses look the same', { skip }, async () => {
  const { peer } = pod('red1')
  const targets = [ip(pod('blue1')), '10.128.8.77', '10.200.1.1']
  const replies = await Promise.all(targets.map((target) => peer.call('tcp', target)))
  assert.deepEqual(new Set(replies.map((r) => r.failure)), new Set(['silence']))
})

test('no address of the machine can be reached from a pod', { skip }, async () => {
  const server = createServer((socket) => socket.destroy())
  await new Promise<void>((done) => server.listen(0, '0.0.0.0', done))
  const port = (server.address() as { port: number }).port
  const addresses = Object.values(networkInterfaces()).flatMap((all) =>
    (all ?? []).filter((a) => a.family === 'IPv4').map((a) => a.address),
  )
  assert.ok(addresses.length > 0)
  try {
    for (const address of addresses.filter((a) => !a.startsWith('127.')))
      assert.deepEqual(await pod('red1').peer.call('tcp', address, { port }), { failure: 'silence' }, address)
    // The pod's loopback is its own, and the router's has nothing but the resolver.
    assert.deepEqual(await pod('red1').peer.call('tcp', '127.0.0.1', { port }), { failure: 'ECONNREFUSED' })
    assert.deepEqual(await pod('red1').peer.call('tcp', '169.254.1.1', { port }), { failure: 'silence' })
    assert.ok(!(await ping(pod('red1'), '169.254.1.1')))
  } finally {
    server.close()
  }
})

test(
  'the router has no link but its own loopback, those of pods, and those on which their packets wait',
  { skip },
  () => {
    const router = paths.routerNetns(layout)
    const waiting = inside(router, 'ip', '-o', 'link', 'show', 'type', 'ifb').match(/\S+(?=: <)/g)
    assert.deepEqual(waiting?.sort(), SHARES)
    const links = inside(router, 'ip', '-o', 'link')
      .split('\n')
      .map((line) => line.split(': ')[1]?.split('@')[0])
    const strangers = links.filter(
      (l) => l !== undefined && l !== 'lo' && !l.startsWith(layout.interfacePrefix) && !SHARES.includes(l),
    )
    assert.deepEqual(strangers, [])
  },
)

test('a forged ARP announcement changes nothing', { skip }, async () => {
  const [red1, red2] = [pod('red1'), pod('red2')]
  inside(red1.namespaces.net, 'ip', 'address', 'add', `${ip(red2)}/32`, 'dev', 'eth0')
  try {
    inside(
      red1.namespaces.net,
      'busybox',
      'arping',
      '-c',
      '2',
      '-w',
      '1',
      '-U',
      '-I',
      'eth0',
      '-s',
      ip(red2),
      ip(red2),
    )
  } finally {
    inside(red1.namespaces.net, 'ip', 'address', 'del', `${ip(red2)}/32`, 'dev', 'eth0')
  }
  const neighbours = inside(paths.routerNetns(layout), 'ip', 'neigh', 'show', ip(red2))
  assert.match(neighbours, /PERMANENT/)
  assert.equal(neighbours.trim().split('\n').length, 1)
})

test(
  "a service address balances over its tenant's pods and is nothing for another tenant",
  { skip },
  async () => {
    const [red1, red2, blue1] = [pod('red1'), pod('red2'), pod('blue1')]
    await network.setTenantNetwork(red, {
      services: [service({ endpoints: [red1.id, red2.id, blue1.id, randomUUID()] })],
    })
    const seen = new Set<string>()
    for (let i = 0; i < 8; i++) {
      for (const protocol of ['tcp', 'udp'] as const) {
        const { answer } = await red1.peer.call(protocol, VIRTUAL, { port: 80 })
        seen.add(`${protocol} ${answer?.split(' ')[0]}`)
      }
    }
    // One of the two is the caller itself, which only works when it does not see its own address as the sender.
    assert.deepEqual([...seen].sort(), ['tcp red1', 'tcp red2', 'udp red1', 'udp red2'])
    assert.deepEqual(await blue1.peer.call('tcp', VIRTUAL, { port: 80 }), { failure: 'ECONNREFUSED' })

    await network.setTenantNetwork(blue, { services: [service({ endpoints: [blue1.id] })] })
    assert.deepEqual(await blue1.peer.call('tcp', VIRTUAL, { port: 80 }), { answer: 'blue1 169.254.1.1' })
    for (let i = 0; i < 4; i++)
      assert.match((await red2.peer.call('tcp', VIRTUAL, { port: 80 })).answer ?? '', /^red/)
  },
)

test(
  'a service without endpoints, an unknown port and an unknown address refuse at once',
  { skip },
  async () => {
    await network.setTenantNetwork(red, { services: [service({ endpoints: [pod('blue1').id] })] })
    const { peer } = pod('red1')
    for (const target of [
      { host: VIRTUAL, port: 80 },
      { host: VIRTUAL, port: 81 },
      { host: '10.96.99.99', port: 80 },
    ]) {
      assert.deepEqual(await peer.call('tcp', target.host, target), { failure: 'ECONNREFUSED' })
      assert.deepEqual(await peer.call('udp', target.host, target), { failure: 'ECONNREFUSED' })
    }
  },
)

test('a client that never pauses is led away from an endpoint that is gone', { skip }, async () => {
  const [red1, red2] = [pod('red1'), pod('red2')]
  const ask = async (fromPort: number) =>
    (await red1.peer.ask({ do: 'call', protocol: 'udp', host: VIRTUAL, port: 80, fromPort })).answer
  await network.setTenantNetwork(red, { services: [service({ endpoints: [red2.id] })] })
  assert.equal(await ask(5_555), `red2 ${ip(red1)}`)
  await network.setTenantNetwork(red, { services: [service({ endpoints: [red1.id] })] })
  assert.equal(await ask(5_555), 'red1 169.254.1.1')
  // An endpoint that stays keeps its clients.
  for (let port = 6_000; port < 6_004; port++) assert.match((await ask(port)) ?? '', /^red1/)
  await network.setTenantNetwork(red, { services: [service({ endpoints: [red1.id, red2.id] })] })
  for (let port = 6_000; port < 6_004; port++) assert.match((await ask(port)) ?? '', /^red1/)
})

test('session affinity keeps a client with one pod', { skip }, async () => {
  const endpoints = [pod('red1').id, pod('red2').id]
  await network.setTenantNetwork(red, {
    services: [{ ...service({ endpoints }), sessionAffinitySeconds: 60 }],
  })
  const seen = new Set<string | undefined>()
  for (let i = 0; i < 6; i++)
    seen.add((await pod('red1').peer.call('tcp', VIRTUAL, { port: 80 })).answer?.split(' ')[0])
  assert.equal(seen.size, 1)
})

test('each tenant resolves its own names and nothing of the other', { skip }, async () => {
  const [red1, red2, blue1] = [pod('red1'), pod('red2'), pod('blue1')]
  const headless: NetworkService = {
    namespace: 'default',
    name: 'db',
    publishNotReadyAddresses: false,
    ports: [
      {
        name: 'sql',
        protocol: 'TCP',
        port: 5432,
        endpoints: [
          { jail: red1.id, port: 5432, ready: true, hostname: 'db-0' },
          { jail: red2.id, port: 5432, ready: false, hostname: 'db-1' },
        ],
      },
    ],
  }
  const external: NetworkService = {
    namespace: 'default',
    name: 'out',
    externalName: 'db.default.svc.cluster.local',
    publishNotReadyAddresses: false,
    ports: [],
  }
  await network.setTenantNetwork(red, { services: [service({ endpoints: [red1.id] }), headless, external] })
  await network.setTenantNetwork(blue, { services: [] })
  const ask = async (
    from: Pod,
    name: string,
    type: 'A' | 'AAAA' | 'SRV' | 'PTR' = 'A',
    over: 'udp' | 'tcp' = 'udp',
  ) => (await from.peer.ask({ do: 'resolve', name, type, over })).answer

  await until(async () => (await ask(red1, 'db.default.svc.cluster.local')) === `NOERROR "${ip(red1)}"`)
  await until(async () => (await ask(blue1, 'web.default.svc.cluster.local')) === 'NXDOMAIN')
  const dashes = ip(red1).replaceAll('.', '-')
  assert.deepEqual(
    {
      virtual: await ask(red2, 'WEB.default.svc.Cluster.Local'),
      overTcp: await ask(red2, 'web.default.svc.cluster.local', 'A', 'tcp'),
      noIpv6: await ask(red2, 'web.default.svc.cluster.local', 'AAAA'),
      host: await ask(red2, 'db-0.db.default.svc.cluster.local'),
      notReady: await ask(red2, 'db-1.db.default.svc.cluster.local'),
      srv: await ask(red2, '_sql._tcp.db.default.svc.cluster.local', 'SRV'),
      reverse: await ask(red2, '7.7.96.10.in-addr.arpa', 'PTR'),
      alias: await ask(red2, 'out.default.svc.cluster.local'),
      namespace: await ask(red2, 'default.svc.cluster.local'),
      podName: await ask(red2, `${dashes}.default.pod.cluster.local`),
      record: await ask(red2, 'red1.peers.default.svc.cluster.local'),
      unknown: await ask(red2, 'nothing.default.svc.cluster.local'),
      outside: await ask(red2, 'example.com'),
    },
    {
      virtual: `NOERROR "${VIRTUAL}"`,
      overTcp: `NOERROR "${VIRTUAL}"`,
      noIpv6: 'NOERROR',
      host: `NOERROR "${ip(red1)}"`,
      notReady: 'NXDOMAIN',
      srv: 'NOERROR {"priority":0,"weight":100,"port":5432,"target":"db-0.db.default.svc.cluster.local"}',
      reverse: 'NOERROR "web.default.svc.cluster.local"',
      alias: `NOERROR "${ip(red1)}" "db.default.svc.cluster.local"`,
      namespace: 'NOERROR',
      podName: `NOERROR "${ip(red1)}"`,
      record: `NOERROR "${ip(red1)}"`,
      unknown: 'NXDOMAIN',
      outside: 'NXDOMAIN',
    },
  )
  for (const name of [
    'web.default.svc.cluster.local',
    `${dashes}.default.pod.cluster.local`,
    '7.7.96.10.in-addr.arpa',
    'red1.peers.default.svc.cluster.local',
  ])
    assert.equal(await ask(blue1, name), 'NXDOMAIN', name)
})

test('the resolver outlives garbage, and learns all names again after a restart', { skip }, async () => {
  const { peer } = pod('red1')
  await network.setTenantNetwork(red, { services: [service({ endpoints: [pod('red1').id] })] })
  await peer.ask({ do: 'flood', host: '169.254.1.1', port: 53, packets: 300 })
  const ask = async () =>
    (await peer.ask({ do: 'resolve', name: 'web.default.svc.cluster.local', type: 'A' })).answer
  await until(async () => (await ask()) === `NOERROR "${VIRTUAL}"`)
  resolver.kill('SIGKILL')
  resolver = await peers.resolver(layout)
  await until(async () => (await ask()) === `NOERROR "${VIRTUAL}"`, { timeoutMs: 15_000 })
})

test('the resolver, were it taken over, cannot call a pod', { skip }, async () => {
  const before = counter('output_denied')
  const attempt = (uid: number) => {
    try {
      inside(
        paths.routerNetns(layout),
        'setpriv',
        `--reuid=${uid}`,
        `--regid=${uid}`,
        '--clear-groups',
        'busybox',
        'nc',
        '-w',
        '1',
        ip(pod('red1')),
        '8080',
      )
      return true
    } catch {
      return false
    }
  }
  assert.ok(!attempt(RESOLVER_UID))
  assert.ok(counter('output_denied') > before)
})

test(
  'the agent connects to a pod from inside it, to loopback first, and never to itself',
  { skip },
  async () => {
    const red1 = pod('red1')
    assert.equal(
      await text(await network.connect(red1.id, 8080, AbortSignal.timeout(5_000))),
      'red1 127.0.0.1',
    )
    await red1.peer.ask({ do: 'listen', protocol: 'tcp', port: 9001, host: ip(red1) })
    assert.equal(
      await text(await network.connect(red1.id, 9001, AbortSignal.timeout(5_000))),
      `red1 ${ip(red1)}`,
    )
    const own = createServer((socket) => socket.end('the agent itself'))
    await new Promise<void>((done) => own.listen(0, '127.0.0.1', done))
    try {
      await assert.rejects(
        network.connect(red1.id, (own.address() as { port: number }).port, AbortSignal.timeout(5_000)),
        /accepts connections/,
      )
    } finally {
      own.close()
    }
  },
)

test('a pod whose namespace has lost its link to a sandbox is reached over that link', { skip }, async () => {
  // What runsc does: a stack of its own takes eth0 over. Another namespace stands in for the sandbox.
  const id = randomUUID() as JailId
  const { net, podIP } = await network.ensurePod(red, { id, hostname: 'sandboxed', hostnameRecords: [] })
  const { peer, pid } = inNewNetworkNamespace(() => peers.fork('sandboxed'))
  inside(net, 'ip', 'link', 'set', 'eth0', 'netns', String(pid))
  const sandbox = (...command: string[]) =>
    execFileSync('nsenter', [`--net=/proc/${pid}/ns/net`, 'ip', ...command])
  sandbox('address', 'add', `${podIP}/32`, 'dev', 'eth0')
  sandbox('link', 'set', 'eth0', 'up')
  sandbox('route', 'add', '169.254.1.1', 'dev', 'eth0')
  sandbox('route', 'add', 'default', 'via', '169.254.1.1')
  // runsc copies permanent neighbours.
  knowRouter(`/proc/${pid}/ns/net`)
  await peer.ask({ do: 'listen', protocol: 'tcp', port: 8080 })
  assert.deepEqual(await peer.call('tcp', ip(pod('red1'))), { answer: `red1 ${podIP}` })
  assert.equal(
    await text(await network.connect(id, 8080, AbortSignal.timeout(5_000))),
    'sandboxed 169.254.1.1',
  )
  await network.removePod(id)
})

test('a new agent finds pods, services and addresses, and disturbs nothing', { skip }, async () => {
  const [red1, red2] = [pod('red1'), pod('red2')]
  await network.setTenantNetwork(red, { services: [service({ endpoints: [red2.id] })] })
  const rules = ruleset()
  network.close()
  network = createPodNetwork({ layout, log: silentLogger })
  await network.ensureNode()
  assert.deepEqual(new Set((await network.pods()).keys()), new Set([...pods.values()].map((p) => p.id)))
  assert.deepEqual(withoutCounts(ruleset()), withoutCounts(rules))
  assert.match((await red1.peer.call('tcp', VIRTUAL, { port: 80 })).answer ?? '', /^red2/)
  for (const tenant of [red, blue]) await network.ensureTenant(tenant)
  const same = await network.ensurePod(red, { id: red1.id, hostname: 'red1', hostnameRecords: [] })
  assert.deepEqual(same, red1.namespaces)
})

test('what an agent left half done is repaired', { skip }, async () => {
  const [red1, red2, blue1] = [pod('red1'), pod('red2'), pod('blue1')]
  const router = paths.routerNetns(layout)
  const rules = ruleset()
  // Elements that are missing, that nobody made, of another tenant; a link of no pod; a service nobody has.
  inside(router, 'nft', 'delete', 'element', 'inet', 'bulkhead', 'tenant4', `{ ${ip(red1)} }`)
  inside(router, 'nft', 'delete', 'element', 'inet', 'bulkhead', 'link4', `{ ${linkOf(red2)} . ${ip(red2)} }`)
  inside(router, 'nft', 'add', 'element', 'inet', 'bulkhead', 'tenant4', '{ 10.128.0.99 : 2 }')
  inside(
    router,
    'ip',
    'link',
    'add',
    `${layout.interfacePrefix}ffffff0`,
    'type',
    'veth',
    'peer',
    'name',
    `${layout.interfacePrefix}ffffff1`,
  )
  inside(
    router,
    'nft',
    'add chain inet bulkhead service_1_left; add element inet bulkhead services4 { 1 . 10.96.0.9 . tcp . 9 : goto service_1_left }',
  )
  network.close()
  network = createPodNetwork({ layout, log: silentLogger })
  await network.ensureNode()
  assert.deepEqual(withoutCounts(ruleset()), withoutCounts(rules))
  assert.doesNotMatch(inside(router, 'ip', '-o', 'link'), /ffffff/)
  assert.deepEqual(await red1.peer.call('tcp', ip(red2)), { answer: `red2 ${ip(red1)}` })
  assert.deepEqual(await red1.peer.call('tcp', ip(blue1)), { failure: 'silence' })

  // A pair of two tenants is something that we never make: then all rules are made anew.
  inside(router, 'nft', 'add', 'element', 'inet', 'bulkhead', 'pair', '{ 1 . 2 }')
  network.close()
  network = createPodNetwork({ layout, log: silentLogger })
  await network.ensureNode()
  assert.deepEqual(withoutCounts(ruleset()), withoutCounts(rules))
})

test(
  'a link whose filter is gone, loosened or overruled is repaired, on a look at all or at one',
  { skip },
  async () => {
    const [red1, blue1] = [pod('red1'), pod('blue1')]
    const router = paths.routerNetns(layout)
    const whole = filters(red1)
    const pass = ['bpf', 'da', 'bytecode', '1,6 0 0 0']
    const device = linkOf(red1)
    const damage = {
      gone: () => unfilter(red1),
      'gone in one direction': () => inside(router, 'tc', 'filter', 'delete', 'dev', device, 'ingress'),
      loosened: () =>
        inside(
          router,
          'tc',
          'filter',
          'replace',
          'dev',
          device,
          'egress',
          'pref',
          '1',
          'handle',
          '1',
          ...pass,
        ),
      overruled: () => {
        inside(router, 'tc', 'filter', 'delete', 'dev', device, 'ingress')
        inside(router, 'tc', 'filter', 'add', 'dev', device, 'ingress', 'pref', '1', ...pass)
        inside(router, 'tc', 'filter', 'add', 'dev', device, 'ingress', 'pref', '2', ...pass)
      },
      accompanied: () =>
        inside(router, 'tc', 'filter', 'add', 'dev', device, 'ingress', 'pref', '9', ...pass),
      'of another kind': () => {
        unfilter(red1)
        inside(router, 'tc', 'qdisc', 'add', 'dev', device, 'ingress')
      },
    }
    for (const repair of [
      () => network.ensureNode(),
      () => network.ensurePod(red, { id: red1.id, hostname: 'red1', hostnameRecords: [] }),
    ]) {
      for (const [what, harm] of Object.entries(damage)) {
        harm()
        assert.notEqual(filters(red1), whole, what)
        await repair()
        assert.equal(filters(red1), whole, what)
      }
      assert.deepEqual(await red1.peer.call('tcp', ip(pod('red2'))), { answer: `red2 ${ip(red1)}` })
      assert.deepEqual(await red1.peer.call('tcp', ip(blue1)), { failure: 'silence' })
    }
  },
)

test('a pod whose link cannot be filtered gets no network', { skip }, async () => {
  const RTM_NEWTFILTER = 44
  const router = paths.routerNetns(layout)
  const id = randomUUID() as JailId
  const pod = { id, hostname: 'unfiltered', hostnameRecords: [] }
  const elements = ruleset().match(/10\.128\.\d+\.\d+/g)?.length
  const requestAll = mock.method(NetlinkSocket.prototype, 'requestAll')
  const states: string[] = []
  requestAll.mock.mockImplementation(function (
    this: NetlinkSocket,
    messages: Parameters<NetlinkSocket['requestAll']>[0],
  ) {
    if (!messages.some((m) => m.type === RTM_NEWTFILTER)) return unmocked.call(this, messages)
    states.push(inside(router, 'ip', '-o', 'link', 'show', 'up'))
    return messages.map(() => new SyscallError('Cannot filter', 2))
  })
  try {
    await assert.rejects(network.ensurePod(red, pod), /Cannot filter/)
  } finally {
    mock.restoreAll()
  }
  assert.ok(!(await network.pods()).has(id))
  assert.equal(ruleset().match(/10\.128\.\d+\.\d+/g)?.length, elements)
  // The link never was up: no others are than those of the pods that we know.
  assert.equal(states.length, 1)
  assert.equal(states[0]?.trim().split('\n').length, 1 + pods.size + SHARES.length)
  await network.ensurePod(red, pod)
  await network.removePod(id)
})

test('a jail of one tenant cannot be claimed by another', { skip }, async () => {
  const { id } = pod('red1')
  await assert.rejects(network.ensurePod(blue, { id, hostname: 'x', hostnameRecords: [] }), /another tenant/)
  await assert.rejects(network.renewPod(blue, id), /has no jail/)
  await assert.rejects(network.ensureTenant({ ...blue, index: red.index }), /belongs to the tenant/)
})

test('a pod that is renewed keeps its address, and its old namespace is cut off', { skip }, async () => {
  const [red1, old] = [pod('red1'), pod('red2')]
  const namespaces = await network.renewPod(red, old.id)
  assert.equal(namespaces.podIP, ip(old))
  const peer = await peers.peer('fresh', namespaces.net)
  await peer.ask({ do: 'listen', protocol: 'tcp', port: 8080 })
  assert.deepEqual(await red1.peer.call('tcp', ip(old)), { answer: `fresh ${ip(red1)}` })
  assert.deepEqual(await old.peer.call('tcp', ip(red1)), { failure: 'silence' })
  pods.set('red2', { id: old.id, namespaces, peer })
})

test('hostnames are those of the pods, and their uid ranges those of the tenants', { skip }, () => {
  const { namespaces } = pod('blue1')
  assert.equal(
    execFileSync('nsenter', [`--uts=${namespaces.uts}`, 'hostname'], { encoding: 'utf8' }).trim(),
    'blue1',
  )
  const map = execFileSync('nsenter', [`--user=${namespaces.user}`, 'cat', '/proc/self/uid_map'], {
    encoding: 'utf8',
  })
  assert.deepEqual(map.trim().split(/\s+/).map(Number), [0, blue.podUidBase, 65_536])
})

test(
  'removing a pod and a tenant leaves no trace of them, and reset leaves nothing at all',
  { skip },
  async () => {
    const [red1, blue1] = [pod('red1'), pod('blue1')]
    await network.setTenantNetwork(red, { services: [service({ endpoints: [red1.id] })] })
    await network.removePod(red1.id)
    await network.removePod(red1.id)
    assert.doesNotMatch(ruleset(), new RegExp(`${ip(red1).replaceAll('.', '\\.')}\\b`))
    assert.ok(!existsSync(red1.namespaces.net))
    // The next pod gets another address.
    const next = await network.ensurePod(red, {
      id: randomUUID() as JailId,
      hostname: 'next',
      hostnameRecords: [],
    })
    assert.notEqual(next.podIP, ip(red1))

    await network.removeTenant(blue.tenant)
    await network.removeTenant(blue.tenant)
    assert.doesNotMatch(ruleset(), new RegExp(`_2\\b|${ip(blue1).replaceAll('.', '\\.')}\\b`))

    await peers.endAll()
    await network.reset()
    await network.reset()
    assert.doesNotMatch(readFileSync('/proc/self/mountinfo', 'utf8'), new RegExp(`${layout.runDir}/`))
    assert.deepEqual(
      readdirSync(layout.runDir).filter((name) => name !== 'dns' && name !== 'pods'),
      [],
    )
    assert.deepEqual(existsSync(`${layout.runDir}/pods`) ? readdirSync(`${layout.runDir}/pods`) : [], [])
  },
)

async function startPod(name: string, tenant: TenantPlacement): Promise<Pod> {
  const id = randomUUID() as JailId
  const hostnameRecords = [`${name}.peers.default.svc.cluster.local`]
  const namespaces = await network.ensurePod(tenant, { id, hostname: name, hostnameRecords })
  return { id, namespaces, peer: await peers.peer(name, namespaces.net) }
}

function service({ endpoints }: { endpoints: readonly string[] }): NetworkService {
  const to = endpoints.map((jail) => ({ jail, port: 8080, ready: true }))
  return {
    namespace: 'default',
    name: 'web',
    clusterIP: VIRTUAL,
    publishNotReadyAddresses: false,
    ports: [
      { name: 'http', protocol: 'TCP', port: 80, endpoints: to },
      { name: 'echo', protocol: 'UDP', port: 80, endpoints: to },
    ],
  }
}

function pod(name: string): Pod {
  const found = pods.get(name)
  assert.ok(found, name)
  return found
}

function ip({ namespaces }: Pod): string {
  return namespaces.podIP
}

async function ping({ namespaces }: Pod, address: string): Promise<boolean> {
  const command = ['busybox', 'ping', '-c', '1', '-W', '1', address]
  try {
    await promisify(execFile)('nsenter', [`--net=${namespaces.net}`, ...command])
    return true
  } catch {
    return false
  }
}

/** Every rule of the router is gone meanwhile. */
async function withoutRules(work: () => Promise<void>): Promise<void> {
  inside(paths.routerNetns(layout), 'nft', 'flush', 'ruleset')
  try {
    assert.equal(ruleset(), '')
    await work()
  } finally {
    await network.ensureNode()
  }
}

/** Every filter of every link is gone meanwhile. */
async function withoutFilters(work: () => Promise<void>): Promise<void> {
  for (const each of pods.values()) unfilter(each)
  try {
    await work()
  } finally {
    await network.ensureNode()
  }
}

function unfilter(each: Pod): void {
  inside(paths.routerNetns(layout), 'tc', 'qdisc', 'delete', 'dev', linkOf(each), 'clsact')
}

function filters(each: Pod): string {
  return (
    (['ingress', 'egress'] as const)
      .map((hook) => inside(paths.routerNetns(layout), 'tc', 'filter', 'show', 'dev', linkOf(each), hook))
      .join('')
      // The number of an action is another one every time.
      .replaceAll(/index \d+/g, 'index')
  )
}

/** Packets that the filters of a pod's link have dropped, in both directions together. */
function filtered(each: Pod): number {
  const text = inside(paths.routerNetns(layout), 'tc', '-s', 'qdisc', 'show', 'dev', linkOf(each))
  return Number(/qdisc clsact[^]*?dropped (\d+)/.exec(text)?.[1])
}

/** As it is when a pod is born; a kernel that forgot it cannot ask, because no filter lets ARP through. */
function knowRouter(netns: string): void {
  inside(netns, ...'ip neigh replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent'.split(' '))
}

function ruleset(): string {
  return inside(paths.routerNetns(layout), 'nft', 'list', 'ruleset')
}

function linkOf(each: Pod): string {
  return /dev (\S+)/.exec(inside(paths.routerNetns(layout), 'ip', 'route', 'show', ip(each)))?.[1] ?? ''
}

/** Everything but what traffic changes. */
function withoutCounts(rules: string): string {
  return rules.replaceAll(/packets \d+ bytes \d+/g, 'packets').replace(/\tset connections \{[^]*?\n\n/, '')
}

function counter(name: string): number {
  const line = inside(paths.routerNetns(layout), 'nft', 'list', 'counter', 'inet', 'bulkhead', name)
  return Number(/packets (\d+)/.exec(line)?.[1])
}
