import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { hostMatches, parseIpv4Network } from '../../../../api/index.ts'
import type { EgressNarrowing, EgressPolicy, EgressRule } from '../../../../jail/index.ts'
import { runBpf } from '../../../../verifier/posture/classic-bpf.ts'
import {
  appliesTo,
  type MachineNetworks,
  NEVER,
  ipv4FromText,
  ipv4Text,
  isOpenByNetwork,
  isOutgoing,
  NarrowedPolicies,
  narrowedPolicy,
  nearNetworks,
  placeOf,
  planOutsideChains,
  podMac,
  renderLinkFilter,
  renderMachineTable,
  renderOutsideChanged,
  renderUplinkFilter,
  tenantPool,
} from './index.ts'

const PASS = 0
/** On a pod's link: the next filter says, and without one it passes. */
const NEXT = 0xffff_ffff
const NOW = Date.parse('2026-11-21T00:00:00Z')
const ip = (text: string) => ipv4FromText(text) ?? assert.fail(text)
const net = (text: string) => parseIpv4Network(text) ?? assert.fail(text)
const MACHINE: MachineNetworks = {
  addresses: [ip('198.51.100.2'), ip('127.0.0.1')],
  networks: [net('198.51.100.0/24')],
}
const https = [{ protocol: 'TCP', port: 443, endPort: 443 }] as const

const POLICY: EgressPolicy = {
  allow: [
    { host: 'api.example.com', ports: https },
    {
      cidr: '0.0.0.0/0',
      ports: [
        ...https,
        { protocol: 'TCP', port: 400, endPort: 500 },
        { protocol: 'UDP', port: 53, endPort: 53 },
      ],
    },
    { cidr: '10.20.0.0/16', ports: https, namespaces: ['shop'], untilMs: NOW + 60_000 },
    { cidr: '203.0.113.0/24', ports: https, untilMs: NOW - 1 },
  ],
}

test('the rules of a pod, line by line, and nothing to change when nothing has changed', () => {
  const { first } = tenantPool(3)
  const state = {
    policies: new Map([[3, POLICY]]),
    pods: [
      { address: first, index: 3, namespace: 'shop' },
      { address: first + 1, index: 3, namespace: 'other' },
      { address: first + 2, index: 3 },
      { address: tenantPool(4).first, index: 4, namespace: 'shop' },
    ],
    machine: MACHINE,
    nowMs: NOW,
  }
  const planned = planOutsideChains(state)
  const [shop, other, ...rest] = [...planned.chains]
  assert.equal(rest.length, 0)
  assert.equal(
    shop?.[1],
    [
      `ip daddr 10.20.0.0/16 meta l4proto . th dport { tcp . 443 } meta time < ${NOW / 1_000 + 60} goto allow`,
      'ip daddr @inside4 goto refuse',
      'meta l4proto . th dport { tcp . 400-500, udp . 53 } goto allow',
      'goto refuse',
    ].join('\n'),
  )
  assert.doesNotMatch(other?.[1] ?? '', /10\.20/)
  assert.deepEqual([...planned.pods.values()], [shop?.[0], other?.[0], other?.[0]])
  assert.equal(renderOutsideChanged(planned, planned), '')
  const gone = renderOutsideChanged(planned, planOutsideChains({ ...state, policies: new Map() }))
  assert.match(
    gone,
    /delete element inet outside rules4 \{ 10\.128\.24\.1, 10\.128\.24\.2, 10\.128\.24\.3 \}/,
  )
})

test('a rule for labels is for pods that have all of them', () => {
  const rule: EgressRule = {
    cidr: '8.8.8.8/32',
    ports: https,
    namespaces: ['shop'],
    podLabels: ['a=1', 'b='],
  }
  const applies = (namespace: string | undefined, ...labels: string[]) =>
    appliesTo(rule, { namespace, labels })
  assert.ok(applies('shop', 'b=', 'a=1', 'c=2'))
  for (const other of [
    applies('shop', 'a=1'),
    applies('shop', 'a=1', 'b'),
    applies('shop', 'a=1', 'b=1'),
    applies('other', 'a=1', 'b='),
    applies(undefined, 'a=1', 'b='),
    appliesTo(rule, { namespace: 'shop' }),
  ])
    assert.equal(other, false)
})

test('a tenant narrows what the operator opened, pod by pod, and a narrowed pod learns nothing', () => {
  const policy: EgressPolicy = { ...POLICY, learn: { untilMs: NOW + 1, unlisted: 'Allow' } }
  const narrowings: EgressNarrowing[] = [
    {
      namespace: 'shop',
      selector: [{ key: 'app', operator: 'In', values: ['web'] }],
      allow: [
        { host: '*.example.com' },
        { host: 'other.example.net' },
        { cidr: '0.0.0.0/1', ports: [{ protocol: 'TCP', port: 443, endPort: 450 }] },
        { cidr: '10.20.1.0/24' },
      ],
    },
    { namespace: 'shop', selector: [{ key: 'app', operator: 'Exists', values: [] }], allow: [] },
  ]
  const of = (namespace: string, ...labels: string[]) =>
    narrowedPolicy(policy, narrowings, { namespace, labels }, MACHINE)
  assert.equal(of('other', 'app=web'), policy)
  assert.equal(of('shop'), policy)
  assert.deepEqual(of('shop', 'app=copier'), { allow: [] })
  assert.deepEqual(of('shop', 'app=web'), {
    allow: [
      { host: 'api.example.com', ports: https },
      {
        cidr: '0.0.0.0/1',
        ports: [
          { protocol: 'TCP', port: 443, endPort: 443 },
          { protocol: 'TCP', port: 443, endPort: 450 },
        ],
      },
      // Only what the operator's rule for the private network opened of it, and nothing by the one for the internet.
      { cidr: '10.20.0.0/16', ports: https, namespaces: ['shop'], untilMs: NOW + 60_000 },
      { cidr: '10.20.1.0/24', ports: https, namespaces: ['shop'], untilMs: NOW + 60_000 },
    ],
  })
})

test('a tenant that narrows without end is narrowed to nothing, and holds up nobody', () => {
  const block = (n: number) => `8.${n >> 8}.${n & 255}.0/24`
  const rules = Array.from({ length: 200 }, (_, n) => ({ cidr: block(n), ports: https }))
  const allow = Array.from({ length: 50 }, (_, n) => ({ cidr: `9.9.${n}.0/24` }))
  const about = { namespace: 'shop', selector: [] }
  const useless = Array.from({ length: 40 }, () => ({ ...about, allow }))
  const wanted = { ...about, allow: [{ cidr: block(0) }, { cidr: block(199) }] }
  const left = (narrowings: EgressNarrowing[]) =>
    narrowedPolicy({ allow: rules }, narrowings, { namespace: 'shop' }, MACHINE).allow.map(({ cidr }) => cidr)
  assert.deepEqual(left([...useless.slice(0, 2), wanted]), [block(0), block(199)])
  assert.deepEqual(left([...useless, wanted]), [block(0)], 'what is not compared is shut')
})

test('ports that have nothing in common are no way to hold up the node agent', () => {
  const ports = (first: number) =>
    Array.from({ length: 16 }, (_, n) => ({ protocol: 'TCP', port: first + n, endPort: first + n }) as const)
  const policy = { allow: [{ cidr: '8.0.0.0/8', ports: [...ports(100)] }] }
  const allow = Array.from({ length: 50 }, () => ({ cidr: '8.8.0.0/16', ports: ports(200) }))
  const about = { namespace: 'shop', selector: [] }
  const narrowings = [
    ...Array.from({ length: 40 }, () => ({ ...about, allow })),
    { ...about, allow: [{ cidr: '8.8.8.0/24' }] },
  ]
  assert.deepEqual(narrowedPolicy(policy, narrowings, { namespace: 'shop' }, MACHINE), { allow: [] })
})

test('a tenant that narrows each pod differently does not make the rules of all too many to load', () => {
  const address = (index: number, n: number) => tenantPool(index).first + n
  const narrowings = Array.from({ length: 40 }, (_, n): EgressNarrowing => ({
    namespace: 'shop',
    selector: [{ key: 'app', operator: 'In', values: [String(n)] }],
    allow: Array.from({ length: 50 }, (_, each) => ({ cidr: `8.${n}.${each}.0/24` })),
  }))
  const everything = Array.from({ length: 10 }, (_, n) => ({
    cidr: '0.0.0.0/0',
    ports: https,
    untilMs: NOW + 1 + n,
  }))
  const pods = [
    ...narrowings.map((_, n) => ({
      index: 1,
      address: address(1, n),
      namespace: 'shop',
      labels: [`app=${n}`],
    })),
    { index: 2, address: address(2, 0), namespace: 'shop' },
  ]
  const policies = new Map([1, 2].map((index) => [index, { allow: everything }]))
  const state = { policies, narrowings: new Map([[1, narrowings]]), pods, machine: MACHINE, nowMs: NOW }
  const { chains, pods: open } = planOutsideChains(state)
  assert.equal(
    open.size,
    8 + 1,
    'eight pods of the one tenant have 500 rules each, and the other tenant what it had',
  )
  assert.ok(open.has(ipv4Text(address(2, 0))))
  assert.equal(chains.size, 9)
})

test('what a tenant leaves is worked out once, and anew when anything that it follows from is different', () => {
  const narrowed = new NarrowedPolicies()
  const narrowings = [{ namespace: 'shop', selector: [], allow: [{ cidr: '198.51.0.0/16' }] }]
  const policy = { allow: [{ cidr: '0.0.0.0/0', ports: https }] }
  const who = { namespace: 'shop', labels: ['app=web'] }
  const first = narrowed.for(policy, narrowings, who, MACHINE)
  assert.equal(narrowed.for(policy, narrowings, { ...who }, { ...MACHINE }), first)
  assert.equal(narrowed.for(policy, narrowings, { ...who, namespace: 'other' }, MACHINE), policy)
  assert.deepEqual(narrowed.for(policy, [{ ...narrowings[0]!, allow: [] }], who, MACHINE), { allow: [] })
  const near = narrowed.for(policy, narrowings, who, { ...MACHINE, networks: [net('198.51.0.0/16')] })
  assert.deepEqual(near, { allow: [] }, 'the network is the machine’s own now')
})

test('however a tenant narrows, nothing is open that the operator has not opened, or that the tenant has not left', () => {
  const octet = fc.constantFrom(8, 10, 172, 192, 203)
  const cidr = fc
    .tuple(octet, fc.integer({ min: 0, max: 3 }), fc.constantFrom(0, 4, 8, 12, 16, 24))
    .map(([a, b, bits]) => {
      const base = bits === 0 ? 0 : (((a * 2 ** 24 + b * 2 ** 16) >>> (32 - bits)) << (32 - bits)) >>> 0
      return `${ipv4Text(base)}/${bits}`
    })
  const ports = fc.array(
    fc
      .tuple(fc.constantFrom('TCP', 'UDP'), fc.integer({ min: 1, max: 9 }), fc.integer({ min: 0, max: 3 }))
      .map(([protocol, port, more]) => ({ protocol, port, endPort: port + more }) as const),
    { minLength: 1, maxLength: 3 },
  )
  const hostPorts = ports.map((all) => all.map(({ protocol, port }) => ({ protocol, port, endPort: port })))
  const host = fc.constantFrom('a.x.org', 'b.x.org', '*.x.org', '*.y.x.org', 'c.y.x.org')
  const rule: fc.Arbitrary<EgressRule> = fc.oneof(
    fc.record({ cidr, ports }),
    fc.record({ host, ports: hostPorts }),
  )
  const to = fc.oneof(
    fc.record({ cidr, ports }, { requiredKeys: ['cidr'] }),
    fc.record({ host, ports: hostPorts }, { requiredKeys: ['host'] }),
  )
  const narrowing = fc.record({
    namespace: fc.constantFrom('shop', 'other'),
    selector: fc.constantFrom([], [{ key: 'app', operator: 'In', values: ['web'] }] as const),
    allow: fc.array(to, { maxLength: 3 }),
  })
  const who = { namespace: 'shop', labels: ['app=web'] }
  const names = ['a.x.org', 'b.x.org', 'c.y.x.org', 'z.x.org', 'x.org']
  const addresses = ['8.0.0.1', '10.1.0.1', '172.16.0.1', '172.2.0.1', '192.168.0.9', '203.0.113.7'].map(ip)
  fc.assert(
    fc.property(
      fc.array(rule, { maxLength: 4 }),
      fc.array(narrowing, { maxLength: 3 }),
      (allow, narrowings) => {
        const whole = { allow }
        const left = narrowedPolicy(whole, narrowings, who, MACHINE)
        const own = narrowings.filter(({ namespace }) => namespace === 'shop').flatMap((each) => each.allow)
        const isNarrowed = narrowings.some(({ namespace }) => namespace === 'shop')
        for (const protocol of ['TCP', 'UDP'] as const)
          for (let port = 1; port <= 12; port++) {
            const fits = (all: EgressRule['ports'] | undefined) =>
              !all || all.some((p) => p.protocol === protocol && p.port <= port && port <= p.endPort)
            for (const address of addresses) {
              const asked = { address, who, protocol, port }
              const byTenant = own.some(
                (each) => 'cidr' in each && fits(each.ports) && addressIsIn(address, each.cidr),
              )
              assert.equal(
                isOpenByNetwork(left, asked, MACHINE, NOW),
                isOpenByNetwork(whole, asked, MACHINE, NOW) && (!isNarrowed || byTenant),
                `${ipv4Text(address)} ${protocol} ${port}`,
              )
            }
            for (const name of names) {
              const opens = (rules: readonly EgressRule[]) =>
                rules.some(
                  (each) => each.host !== undefined && hostMatches(each.host, name) && fits(each.ports),
                )
              const byTenant = own.some(
                (each) => 'host' in each && hostMatches(each.host, name) && fits(each.ports),
              )
              assert.equal(opens(left.allow), opens(allow) && (!isNarrowed || byTenant), `${name} ${port}`)
            }
          }
      },
    ),
    { numRuns: 300 },
  )
})

function addressIsIn(address: number, cidr: string): boolean {
  const { base, bits } = net(cidr)
  return bits === 0 || address >>> (32 - bits) === base >>> (32 - bits)
}

test('0.0.0.0/0 is the internet: no private network, nothing of the machine, no metadata and no other tenant', () => {
  const all: EgressPolicy = {
    allow: [{ cidr: '0.0.0.0/0', ports: [{ protocol: 'TCP', port: 1, endPort: 65_535 }] }],
  }
  const open = (address: string, policy = all) =>
    isOpenByNetwork(policy, { address: ip(address), who: {}, protocol: 'TCP', port: 80 }, MACHINE, NOW)
  assert.ok(open('8.8.8.8') && open('203.0.113.1'))
  for (const address of [
    '169.254.169.254',
    '169.254.1.1',
    '127.0.0.1',
    '0.0.0.0',
    '10.128.8.1',
    '10.96.0.1',
    '224.0.0.1',
    '255.255.255.255',
    '198.51.100.2',
    '10.1.2.3',
    '172.31.0.1',
    '192.168.1.1',
    '100.64.0.1',
    '198.51.100.9',
    '198.18.0.1',
    '240.0.0.1',
    '192.0.0.192',
  ])
    assert.ok(!open(address), address)
  const near: EgressPolicy = {
    allow: [{ cidr: '10.0.0.0/8', ports: [{ protocol: 'TCP', port: 80, endPort: 80 }] }],
  }
  assert.ok(
    open('10.1.2.3', near) && !open('10.128.8.1', near) && !open('10.96.0.1', near) && !open('8.8.8.8', near),
  )
  // Only a part of it is private, so it is no rule about a private network.
  assert.ok(
    !open('10.1.2.3', {
      allow: [{ cidr: '8.0.0.0/5', ports: [{ protocol: 'TCP', port: 80, endPort: 80 }] }],
    }),
  )
})

test('learning and rules end, each at its own time', () => {
  const policy: EgressPolicy = {
    allow: [{ cidr: '203.0.113.0/24', ports: https, untilMs: NOW }],
    learn: { untilMs: NOW + 1, unlisted: 'Allow' },
  }
  assert.deepEqual(
    [NOW - 1, NOW, NOW + 1].map((at) => isOutgoing(policy, at)),
    [true, true, false],
  )
  assert.ok(isOutgoing({ allow: [], learn: { untilMs: NOW + 1, unlisted: 'Block' } }, NOW))
  assert.ok(!isOutgoing({ allow: [] }, NOW))
  assert.ok(!isOutgoing(undefined, NOW))
})

const address = fc.oneof(
  fc.nat(2 ** 32 - 1),
  fc
    .constantFrom(
      ...NEVER,
      net('10.0.0.0/8'),
      net('172.16.0.0/12'),
      net('10.20.0.0/16'),
      net('198.51.100.0/24'),
    )
    .chain(({ base, bits }) =>
      fc
        .constantFrom(base - 1, base, base + 2 ** (32 - bits) - 1, base + 2 ** (32 - bits))
        .map((n) => Math.min(Math.max(n, 0), 2 ** 32 - 1)),
    ),
  fc.constantFrom(...MACHINE.addresses),
)

function frame({
  source,
  target,
  type = 0x0800,
  mac = '',
}: {
  source: number
  target: number
  type?: number
  mac?: string
}) {
  const bytes = Buffer.alloc(60)
  bytes.write(mac.replaceAll(':', ''), 6, 'hex')
  bytes.writeUInt16BE(type, 12)
  bytes.writeUInt8(0x45, 14)
  bytes.writeUInt32BE(source >>> 0, 26)
  bytes.writeUInt32BE(target >>> 0, 30)
  return bytes
}

test("the uplink's filter lets out exactly what some rule could allow, under the router's address alone", () => {
  const router = ip('169.254.64.1')
  const state = { policies: new Map([[3, POLICY]]), pods: [], machine: MACHINE, nowMs: NOW }
  const near = nearNetworks(state)
  const filter = renderUplinkFilter({
    router,
    never: [...MACHINE.addresses.map((base) => ({ base, bits: 32 })), ...NEVER],
    near,
    inside: [
      net('10.0.0.0/8'),
      net('172.16.0.0/12'),
      net('192.168.0.0/16'),
      net('100.64.0.0/10'),
      net('198.18.0.0/15'),
      ...MACHINE.networks,
    ],
  })
  let passed = 0
  fc.assert(
    fc.property(
      address,
      fc.oneof(fc.constant(router), address),
      fc.constantFrom(0x0800, 0x0800, 0x86dd, 0x0806),
      (there, own, type) => {
        const place = placeOf(there, MACHINE)
        const isNear = near.some(
          ({ base, bits }) => Math.floor(there / 2 ** (32 - bits)) === base / 2 ** (32 - bits),
        )
        const wanted =
          type === 0x0800 && own === router && (place === 'public' || (place === 'inside' && isNear))
        passed += wanted ? 1 : 0
        const out = runBpf(filter.toPod, frame({ source: own, target: there, type })) === PASS
        const back = runBpf(filter.fromPod, frame({ source: there, target: own, type })) === PASS
        assert.deepEqual([out, back], [wanted, wanted], ipv4Text(there))
      },
    ),
    { numRuns: 3_000 },
  )
  assert.ok(passed > 100)
  assert.notEqual(runBpf(filter.toPod, Buffer.alloc(20)), PASS)
})

test("the link of a pod that may leave still lets nothing pass of other tenants, of the machine's loopback and of metadata", () => {
  const pod = { address: tenantPool(3).first, index: 3, outside: true }
  const filter = renderLinkFilter(pod)
  fc.assert(
    fc.property(address, (there) => {
      const own = there >= tenantPool(3).first - 1 && there <= tenantPool(3).first + tenantPool(3).size
      const virtual = there >= ip('10.96.0.0') && there <= ip('10.96.255.255')
      const never = NEVER.some(
        ({ base, bits }) => Math.floor(there / 2 ** (32 - bits)) === Math.floor(base / 2 ** (32 - bits)),
      )
      const wanted = own || virtual || there === ip('169.254.1.1') || !never
      const out =
        runBpf(filter.fromPod, frame({ source: pod.address, target: there, mac: podMac(pod.address) })) ===
        NEXT
      const back = runBpf(filter.toPod, frame({ source: there, target: pod.address })) === NEXT
      assert.deepEqual([out, back], [wanted, wanted], ipv4Text(there))
    }),
    { numRuns: 3_000 },
  )
  assert.notEqual(
    runBpf(filter.fromPod, frame({ source: ip('8.8.8.8'), target: ip('1.1.1.1'), mac: podMac(pod.address) })),
    NEXT,
  )
})

test("the machine's side, whole", () => {
  const state = { policies: new Map([[3, POLICY]]), pods: [], machine: MACHINE, nowMs: NOW }
  const text = renderMachineTable({
    table: 'bulkhead_x',
    link: 'bhup',
    device: 'eth0',
    router: '169.254.64.1',
    wasClosed: true,
    state,
  })
  assert.match(
    text,
    /set near4 \{ type ipv4_addr; flags interval; auto-merge; elements = \{ 10\.20\.0\.0\/16 \} \}/,
  )
  assert.match(text, /iifname "bhup" drop/)
  assert.match(text, /iifname "eth0" drop/)
  assert.doesNotMatch(
    renderMachineTable({
      table: 't',
      link: 'l',
      device: 'eth0',
      router: '169.254.64.1',
      wasClosed: false,
      state,
    }),
    /iifname "eth0" drop|forwarding_was_off/,
  )
})
