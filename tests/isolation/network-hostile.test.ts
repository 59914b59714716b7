import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError, parseIpBlock, parseLayout, paths } from '../../src/api/index.ts'
import { planIsolation } from '../../src/controllers/pods/plan-isolation.ts'
import type { Namespace, NetworkPolicy, Pod as PodObject } from '../../src/controllers/kinds.ts'
import { createPodNetwork, removeRunDir } from '../../src/engine/local/index.ts'
import {
  planOutsideChains,
  renderOutsideChanged,
  renderOutsideTable,
  tenantPool,
} from '../../src/engine/local/plan/net/index.ts'
import type { PodNamespaces } from '../../src/engine/local/parts.ts'
import {
  type EgressNarrowing,
  type JailId,
  parseEgressPolicy,
  parseTenantNetwork,
  type TenantNetwork,
} from '../../src/jail/index.ts'
import { flowAllowed, type NetworkRules } from '../../src/policy/index.ts'
import { silentLogger } from '../../src/stdx/index.ts'
import { type Packet, Ruleset } from '../../src/verifier/posture/ruleset.ts'
import { inside, networkMissing, placementOf, setUpNode } from '../testkit/network.ts'

// Documents made to break the rules, through the real loader: each is refused or means what it says, and another tenant's
// rules stay what they were. Property tests of parsers alone would not see what nft makes of a text.

const skip = networkMissing
const layout = parseLayout({ BULKHEAD_INSTANCE: 'neh', BULKHEAD_SLOT: '146' })
const router = paths.routerNetns(layout)
const [red, blue] = [placementOf(layout, 'red', 0), placementOf(layout, 'blue', 1)]
let network: ReturnType<typeof createPodNetwork>
type Pod = { id: JailId; namespaces: PodNamespaces; link: string }
const pods: Pod[] = []
let victim: Pod

async function startPod(tenant: typeof red): Promise<Pod> {
  const id = randomUUID() as JailId
  const namespaces = await network.ensurePod(tenant, { id, hostname: 'pod', hostnameRecords: [] })
  const link = /dev (\S+)/.exec(inside(router, 'ip', 'route', 'show', namespaces.podIP))?.[1] ?? ''
  return { id, namespaces, link }
}

before(async () => {
  if (skip !== false) return
  network = createPodNetwork({ layout, log: silentLogger })
  await setUpNode(layout, network)
  for (const tenant of [red, blue]) await network.ensureTenant(tenant)
  for (let i = 0; i < 3; i++) pods.push(await startPod(red))
  victim = await startPod(blue)
})

after(async () => {
  if (skip !== false) return
  await network.reset()
  network.close()
  removeRunDir(layout)
})

function packet(from: Pod, to: Pod, l4proto: Packet['l4proto'], dport: number): Packet {
  const [sender, receiver] = [from.namespaces.podIP, to.namespaces.podIP]
  const mac = sender.split('.').map((part) => Number(part).toString(16).padStart(2, '0'))
  return {
    iifname: from.link,
    oifname: to.link,
    etherSaddr: `02:42:${mac.join(':')}`,
    saddr: sender,
    daddr: receiver,
    l4proto,
    dport,
    nfproto: 'ipv4',
    ctState: 'new',
  }
}

const loaded = () => new Ruleset(inside(router, 'nft', '-j', 'list', 'ruleset'))
const passes = (ruleset: Ruleset, ...of: Parameters<typeof packet>) => {
  const { verdict, by } = ruleset.evaluate(packet(...of), ['prerouting', 'forward', 'postrouting'])
  assert.notEqual(verdict, 'unknown', by)
  return verdict === 'accept'
}
const nft = (command: string) => inside(router, 'nft', command)
/** The rules, without what traffic changes. */
const text = () => inside(router, 'nft', '-s', 'list', 'table', 'inet', 'bulkhead')

const odd = fc.oneof(
  fc.constantFrom(
    'ga\n}\ndelete table inet bulkhead',
    '"; flush ruleset; "',
    '}',
    '@tenants4',
    '*',
    'ga gb',
    'ｇａ',
    'ga\u0000',
    '../ga',
    '$group',
    '0.0.0.0/0',
    '10.128.8.1',
    '10.128.0.1-10.255.255.255',
    '::1',
    '0x0a.1',
    '999.1.1.1',
    'x'.repeat(70_000),
  ),
  fc.string({ maxLength: 40 }),
  fc.anything(),
)
const mostly = <T>(good: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 60, arbitrary: good }, { weight: 1, arbitrary: odd })
const group = fc.constantFrom('ga', 'gb')
const place = fc.nat(2)
const range = mostly(
  fc.constantFrom({ first: 1, last: 65_535 }, { first: 80, last: 81 }, { first: 90, last: 80 }),
)
const ports = fc.array(
  range.chain((bounds) =>
    fc
      .record({ protocol: mostly(fc.constantFrom('TCP', 'UDP', 'SCTP')) })
      .map((p) =>
        typeof bounds === 'object' && bounds !== null
          ? { ...p, ...bounds }
          : { ...p, first: bounds, last: 80 },
      ),
  ),
  { maxLength: 3 },
)
const rule = fc.record(
  {
    peers: mostly(
      fc.record({
        groups: fc.array(mostly(group), { maxLength: 2 }),
        blocks: fc.array(
          fc.record({
            first: mostly(fc.constantFrom('0.0.0.0', '10.128.0.0', '192.0.2.1')),
            last: mostly(fc.constantFrom('255.255.255.255', '10.128.7.255', '192.0.2.1')),
          }),
          { maxLength: 2 },
        ),
      }),
    ),
    within: mostly(group),
    ports: mostly(ports),
  },
  { requiredKeys: [] },
)

test(
  'no document about services and policies breaks the rules or opens another tenant',
  { skip },
  async () => {
    const ids = () => [...pods.map(({ id }) => id), victim.id, randomUUID()]
    const blueBefore = text()
      .split('\n')
      .filter((line) => /_2\b/.test(line))
    let taken = 0
    const isolated = fc.array(
      fc.record({ pods: fc.uniqueArray(place, { maxLength: 3 }), rules: fc.array(rule, { maxLength: 3 }) }),
      { maxLength: 2 },
    )
    const service = fc.record(
      {
        namespace: mostly(fc.constantFrom('default', 'shop')),
        name: mostly(fc.constantFrom('web', 'db', 'kubernetes')),
        clusterIP: mostly(fc.constantFrom('10.96.0.1', '10.96.7.7', '10.128.8.1')),
        publishNotReadyAddresses: mostly(fc.boolean()),
        sessionAffinitySeconds: mostly(fc.nat(100_000)),
        ports: mostly(
          fc.array(
            fc.record({
              protocol: mostly(fc.constantFrom('TCP', 'UDP', 'SCTP')),
              port: mostly(fc.constantFrom(80, 443, 53)),
              endpoints: fc.array(
                fc.nat(4).map((at) => ({ jail: ids()[at] ?? '', port: 80, ready: true })),
                { maxLength: 4 },
              ),
            }),
            { maxLength: 3 },
          ),
        ),
      },
      { requiredKeys: ['namespace', 'name', 'ports', 'publishNotReadyAddresses'] },
    )
    const document = fc.record(
      {
        services: fc.array(service, { maxLength: 3 }),
        isolation: mostly(
          fc.record({
            pods: mostly(fc.constant(pods.map(({ id }) => id))),
            groups: mostly(
              fc.uniqueArray(
                fc.record({ name: mostly(group), pods: fc.uniqueArray(place), resolver: fc.boolean() }),
                { selector: ({ name }) => name, maxLength: 3 },
              ),
            ),
            ingress: isolated,
            egress: isolated,
          }),
        ),
      },
      { requiredKeys: ['services'] },
    )
    await fc.assert(
      fc.asyncProperty(document, async (written) => {
        try {
          await network.setTenantNetwork(red, written as unknown as TenantNetwork)
          taken += 1
        } catch (error) {
          // Refused by our own reading of it, and never by nft.
          assert.ok(error instanceof ApiError, String(error))
          assert.equal(error.code, 422)
        }
      }),
      { numRuns: 300 },
    )
    assert.ok(taken >= 10, `${taken} documents were taken`)
    const ruleset = loaded()
    for (const pod of pods)
      for (const l4proto of ['tcp', 'udp'] as const) {
        assert.equal(passes(ruleset, pod, victim, l4proto, 80), false)
        assert.equal(passes(ruleset, victim, pod, l4proto, 80), false)
      }
    const blueAfter = text()
      .split('\n')
      .filter((line) => /_2\b/.test(line))
    assert.deepEqual(blueAfter, blueBefore)
    await network.setTenantNetwork(red, { services: [] })
  },
)

test(
  'as many services, endpoints and ranges as there may be load at once, and one more is refused before the loader',
  { skip },
  async () => {
    const ids = pods.map(({ id }) => id)
    const services = Array.from({ length: 2_048 }, (_, at) => ({
      namespace: 'default',
      name: `s${at}`,
      clusterIP: `10.96.${1 + (at >> 7)}.${1 + (at & 127)}`,
      publishNotReadyAddresses: false,
      ports: [
        {
          protocol: at % 2 === 0 ? ('TCP' as const) : ('UDP' as const),
          port: 80,
          endpoints: Array.from({ length: 8 }, (_each, n) => ({
            jail: ids[n % ids.length] ?? '',
            port: 1_000 + at * 8 + n,
            ready: true,
          })),
        },
      ],
    }))
    // All of it overlaps with what other rules say, and none of it with itself.
    const rules = Array.from({ length: 1_000 }, (_, at) => ({
      peers: {
        groups: [],
        blocks: Array.from({ length: 16 }, (_each, n) => ({
          first: `10.128.${n}.${at % 100}`,
          last: `10.128.${n}.${(at % 100) + 100}`,
        })),
      },
      ports: Array.from({ length: 16 }, (_each, n) => ({
        protocol: 'TCP' as const,
        first: n * 100 + (at % 50) + 1,
        last: n * 100 + (at % 50) + 40,
      })),
    }))
    const isolation = { pods: ids, groups: [], ingress: [{ pods: [0, 1], rules }], egress: [] }
    await network.setTenantNetwork(red, { services, isolation })
    const ruleset = loaded()
    const [target, , sender] = pods
    assert.ok(target && sender)
    assert.equal(passes(ruleset, sender, target, 'tcp', 20), true)
    assert.equal(passes(ruleset, sender, target, 'tcp', 95), false)
    assert.equal(passes(ruleset, sender, victim, 'tcp', 20), false)
    const [first] = services
    assert.ok(first)
    for (const more of [
      { services: [...services, { ...first, name: 'more', clusterIP: '10.96.99.1' }], isolation },
      { services, isolation: { ...isolation, ingress: [{ pods: [0], rules: [...rules, ...rules] }] } },
    ])
      await assert.rejects(network.setTenantNetwork(red, more), ({ code }: ApiError) => code === 422)
    await network.setTenantNetwork(red, { services: [] })
    assert.doesNotMatch(text(), /service_1_/)
  },
)

test(
  'policies with overlapping networks, ports and selectors mean in the rules what they mean in the evaluator',
  { skip },
  async () => {
    const own = pods.map(({ namespaces }) => namespaces.podIP)
    const cidr = fc.constantFrom(
      { cidr: '0.0.0.0/0' },
      { cidr: '0.0.0.0/0', except: ['10.128.0.0/9', '10.0.0.0/8'] },
      { cidr: '10.128.0.0/21', except: [`${own[1]}/32`] },
      { cidr: '10.128.0.0/30' },
      { cidr: `${own[0]}/32` },
      { cidr: `${own[2]}/32` },
      { cidr: '::/0' },
    )
    const labels = fc.constantFrom({}, { matchLabels: { n: '0' } }, { matchLabels: { n: '1' } })
    const peer = fc.oneof(
      cidr.map((ipBlock) => ({ ipBlock })),
      labels.map((podSelector) => ({ podSelector })),
      fc.constant({ namespaceSelector: {} }),
    )
    const port = fc.record(
      {
        protocol: fc.constantFrom('TCP' as const, 'UDP' as const),
        port: fc.constantFrom(79, 80, 81),
        endPort: fc.constantFrom(81, 90),
      },
      { requiredKeys: ['protocol'] },
    )
    const usable = port.map(({ port: first, endPort, ...rest }) =>
      first === undefined
        ? rest
        : endPort === undefined
          ? { ...rest, port: first }
          : { ...rest, port: first, endPort },
    )
    const rulesOf = (side: 'from' | 'to') =>
      fc.array(
        fc.record({ [side]: fc.array(peer, { maxLength: 4 }), ports: fc.array(usable, { maxLength: 4 }) }),
        { maxLength: 3 },
      )
    const policy = fc.record({
      podSelector: labels,
      policyTypes: fc.subarray(['Ingress' as const, 'Egress' as const], { minLength: 1 }),
      ingress: rulesOf('from'),
      egress: rulesOf('to'),
    })
    const namespaces = new Map([['default', { 'kubernetes.io/metadata.name': 'default' }]])
    const ends = pods.map(({ namespaces: { podIP } }, n) => ({
      address: parseIpBlock(`${podIP}/32`)?.base ?? 0n,
      family: 4 as const,
      pod: { namespace: 'default', labels: { n: String(n) }, namedPorts: [] },
    }))
    await fc.assert(
      fc.asyncProperty(fc.array(policy, { minLength: 1, maxLength: 4 }), async (specs) => {
        const rules = {
          policies: specs.map((spec) => ({ namespace: 'default', spec })),
          namespaces,
        } as NetworkRules
        const isolation = planIsolation(
          rules.policies.map(
            ({ namespace, spec }, at) =>
              ({ metadata: { namespace, name: `p${at}` }, spec }) as unknown as NetworkPolicy,
          ),
          pods.map(
            ({ id }, n) =>
              ({
                metadata: { uid: id, namespace: 'default', name: `pod-${n}`, labels: { n: String(n) } },
                spec: { containers: [{ name: 'main' }] },
              }) as unknown as PodObject,
          ),
          [{ metadata: { name: 'default', labels: namespaces.get('default') } } as unknown as Namespace],
        )
        await network.setTenantNetwork(red, { services: [], ...(isolation ? { isolation } : {}) })
        const ruleset = loaded()
        for (const [a, from] of pods.entries())
          for (const [b, to] of pods.entries())
            for (const [protocol, l4proto] of [
              ['TCP', 'tcp'],
              ['UDP', 'udp'],
            ] as const)
              for (const number of [79, 80, 81, 85]) {
                const [sender, receiver] = [ends[a], ends[b]]
                if (a === b || !sender || !receiver) continue
                const expected = flowAllowed(rules, { from: sender, to: receiver, protocol, port: number })
                assert.equal(
                  passes(ruleset, from, to, l4proto, number),
                  expected,
                  `${a} to ${b} ${protocol} ${number}`,
                )
              }
      }),
      { numRuns: 40 },
    )
    await network.setTenantNetwork(red, { services: [] })
  },
)

test('rules for the outside are refused when they are read, or nft takes them', { skip }, () => {
  const scratch = mkdtempSync(join(tmpdir(), 'bulkhead-hostile-'))
  const file = join(scratch, 'rules.nft')
  const now = Date.now()
  const machine = { addresses: [], networks: [] }
  const portRange = fc.record({
    protocol: mostly(fc.constantFrom('TCP', 'UDP')),
    port: mostly(fc.integer({ min: 1, max: 300 })),
    endPort: mostly(fc.integer({ min: 250, max: 65_535 })),
  })
  const entry = fc.record(
    {
      cidr: mostly(fc.constantFrom('0.0.0.0/0', '10.0.0.0/8', '10.1.0.0/16', '203.0.113.7/32')),
      ports: mostly(fc.array(portRange, { minLength: 1, maxLength: 16 })),
      namespaces: mostly(fc.constant(['shop'])),
      podLabels: mostly(fc.constant(['app=shop'])),
      untilMs: mostly(fc.constantFrom(now + 60_000, 8_640_000_000_000_000)),
    },
    { requiredKeys: ['cidr', 'ports'] },
  )
  const document = fc.record(
    {
      allow: fc.array(entry, { maxLength: 12 }),
      learn: mostly(
        fc.record({ untilMs: fc.constant(now + 1_000), unlisted: fc.constantFrom('Allow', 'Block') }),
      ),
    },
    { requiredKeys: ['allow'] },
  )
  const own = fc.record(
    {
      cidr: mostly(fc.constantFrom('0.0.0.0/0', '10.1.0.0/16', '203.0.113.0/24', '0.0.0.0/0 accept')),
      ports: fc.array(portRange, { minLength: 1, maxLength: 4 }),
    },
    { requiredKeys: ['cidr'] },
  )
  let [taken, narrowed] = [0, 0]
  try {
    fc.assert(
      fc.property(document, fc.array(own, { maxLength: 6 }), (written, allow) => {
        let policy
        let narrowings: EgressNarrowing[] = []
        try {
          policy = parseEgressPolicy(written)
        } catch (error) {
          assert.ok(error instanceof TypeError, String(error))
          return
        }
        taken += 1
        try {
          const narrowing = { namespace: 'shop', selector: [], allow }
          narrowings = [...(parseTenantNetwork({ services: [], narrowings: [narrowing] }).narrowings ?? [])]
          narrowed += 1
        } catch (error) {
          assert.ok(error instanceof ApiError, String(error))
        }
        const { first } = tenantPool(0)
        const chains = planOutsideChains({
          policies: new Map([[0, policy]]),
          narrowings: new Map([[0, narrowings]]),
          pods: [
            { address: first, index: 0, namespace: 'shop', labels: ['app=shop'] },
            { address: first + 1, index: 0 },
          ],
          machine,
          nowMs: now,
        })
        const none = { chains: new Map(), pods: new Map() }
        writeFileSync(file, renderOutsideTable() + renderOutsideChanged(none, chains))
        inside(router, 'nft', '-c', '-f', file)
      }),
      { numRuns: 200 },
    )
    assert.ok(taken >= 20, `${taken} policies were taken`)
    assert.ok(narrowed >= 5, `${narrowed} were narrowed`)
    // As many as there may be, all overlapping.
    const most = {
      allow: Array.from({ length: 200 }, (_, at) => ({
        cidr: `10.0.0.0/${8 + (at % 20)}`,
        ports: Array.from({ length: 16 }, (_each, n) => ({
          protocol: 'TCP',
          port: n + 1,
          endPort: 1_000 + n,
        })),
      })),
    }
    const chains = planOutsideChains({
      policies: new Map([[0, parseEgressPolicy(most)]]),
      pods: [{ address: tenantPool(0).first, index: 0 }],
      machine,
      nowMs: now,
    })
    writeFileSync(
      file,
      renderOutsideTable() + renderOutsideChanged({ chains: new Map(), pods: new Map() }, chains),
    )
    inside(router, 'nft', '-c', '-f', file)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
})

test(
  'a loader that fails leaves every rule as it was, and the next attempt goes on from there',
  { skip },
  async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'bulkhead-loader-'))
    const path = process.env['PATH']
    const isolation = {
      pods: [pods[0]?.id ?? ''],
      groups: [],
      ingress: [{ pods: [0], rules: [] }],
      egress: [],
    }
    const closed: TenantNetwork = { services: [], isolation }
    const before = text()
    const [one, two] = pods
    assert.ok(one && two)
    try {
      for (const [fault, failure] of [
        ['exit 1', /ended with 1/],
        ['kill -9 $$', /ended with/],
        // As a kernel that has taken half of a script would look, if it could: nft is one transaction.
        [
          '[ "$1" != -f ] || printf "flush ruleset; add table inet half {" > "$2"; exec /usr/sbin/nft "$@"',
          /syntax error|ended with 1/,
        ],
      ] as const) {
        // Whoever starts reads and mends all rules with it.
        nft('delete element inet bulkhead pair { 1 . 1 }')
        const faulty = text()
        const wrapper = join(scratch, 'nft')
        writeFileSync(wrapper, `#!/bin/sh\n${fault}\n`)
        chmodSync(wrapper, 0o755)
        process.env['PATH'] = `${scratch}:${path}`
        await assert.rejects(network.ensureNode(), failure)
        process.env['PATH'] = path
        assert.equal(text(), faulty)
        assert.equal(passes(loaded(), two, one, 'tcp', 80), false)
        await network.ensureNode()
        assert.equal(text(), before)
        assert.equal(passes(loaded(), two, one, 'tcp', 80), true)
      }
      const address = one.namespaces.podIP
      for (const [fault, mended] of [
        // What is changed by messages is refused by the kernel itself: here because a place in it is taken.
        [
          'add element inet bulkhead policies { 65536 : goto refuse }',
          'delete element inet bulkhead policies { 65536 }',
        ],
        [
          `add element inet bulkhead ingress4 { ${address} : 5 }`,
          `delete element inet bulkhead ingress4 { ${address} }`,
        ],
      ] as const) {
        nft(fault)
        const faulty = text()
        await assert.rejects(network.setTenantNetwork(red, closed), /Cannot change the rules by .*EEXIST/)
        assert.equal(text(), faulty)
        assert.equal(passes(loaded(), two, one, 'tcp', 80), true)
        nft(mended)
      }
      assert.equal(text(), before)
      await network.setTenantNetwork(red, closed)
      assert.equal(passes(loaded(), two, one, 'tcp', 80), false)
      await network.setTenantNetwork(red, { services: [] })
    } finally {
      process.env['PATH'] = path
      rmSync(scratch, { recursive: true, force: true })
    }
  },
)
