import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { networkMissing } from '../../../../../tests/testkit/network.ts'
import { parseTenantNetwork } from '../../../../jail/index.ts'
import {
  type IsolationRules,
  bandwidthOf,
  noIsolation,
  planIsolation,
  planIsolationRules,
  planLimits,
  planServices,
  renderIsolationChanged,
  renderLimitsChanged,
  renderRuleset,
  renderServicesChanged,
  renderTenantAdded,
  renderTenantRemoved,
  tenantPool,
} from '../../plan/net/index.ts'
import { PODS, isolation } from '../../plan/net/isolation.testkit.ts'
import { RuleSocket } from './nf-tables.ts'
import { compileRules } from './rule-script.ts'
import { inNamespace } from './syscalls.ts'

const INDEX = 5
const EMPTY = renderRuleset({
  tenants: [7],
  pods: [],
  services: new Map(),
  isolation: noIsolation(),
  limits: [],
})
const podsOf = () => PODS.slice(0, 4).map((id, at) => ({ id, address: tenantPool(INDEX).first + at }))

function rulesOf(document: object | undefined, before: IsolationRules): IsolationRules {
  const { isolation: parsed } = parseTenantNetwork({
    services: [],
    ...(document ? { isolation: document } : {}),
  })
  const plan = parsed && planIsolation(INDEX, parsed)
  return planIsolationRules(INDEX, plan, podsOf(), before.classes)
}

const service = fc.record(
  {
    namespace: fc.constant('default'),
    name: fc.constantFrom('web', 'db', 'cache', 'queue', 'mail'),
    clusterIP: fc.integer({ min: 1, max: 250 }).map((last) => `10.96.3.${last}`),
    sessionAffinitySeconds: fc.constant(10_800),
    publishNotReadyAddresses: fc.constant(true),
    ports: fc.uniqueArray(
      fc.record({
        name: fc.constant('p'),
        protocol: fc.constantFrom('TCP', 'UDP', 'SCTP'),
        port: fc.constantFrom(1, 80, 443, 65_535),
        endpoints: fc.array(
          fc.record({
            jail: fc.constantFrom(...PODS.slice(0, 4)),
            port: fc.integer({ min: 1, max: 65_535 }),
            ready: fc.boolean(),
          }),
          { maxLength: 4 },
        ),
      }),
      { maxLength: 2, selector: ({ protocol, port }) => `${protocol} ${port}` },
    ),
  },
  { requiredKeys: ['namespace', 'name', 'clusterIP', 'ports', 'publishNotReadyAddresses'] },
)
const services = fc
  .tuple(service, service, service)
  .filter((all) =>
    ['name', 'clusterIP'].every((of) => new Set(all.map((each) => each[of as 'name'])).size === 3),
  )

function tableOf(some: unknown): ReturnType<typeof planServices> {
  const named = (some as { ports: object[] }[]).map((each) => ({
    ...each,
    ports: each.ports.map((one, at) => ({ ...one, name: `p${at}` })),
  }))
  const parsed = parseTenantNetwork({ services: named })
  return planServices(INDEX, parsed, (jail) => podsOf().find(({ id }) => id === jail)?.address)
}

const bandwidth = fc.option(
  fc.record({
    ingressBitsPerSecond: fc.integer({ min: 1_000, max: 100_000_000_000 }),
    egressBitsPerSecond: fc.integer({ min: 1_000, max: 100_000_000_000 }),
  }),
  { nil: undefined },
)

type Wanted = {
  isolation: IsolationRules
  table: ReturnType<typeof planServices>
  limits: ReturnType<typeof planLimits>
}
const NOTHING: Wanted = { isolation: noIsolation(), table: new Map(), limits: [] }

function renderChange(from: Wanted, to: Wanted): string {
  return [
    renderServicesChanged(from.table, to.table),
    renderIsolationChanged(from.isolation, to.isolation),
    renderLimitsChanged(from.limits, to.limits),
  ]
    .filter((part) => part !== '')
    .join('\n')
}

/** A network namespace that lives as long as a process in it. */
async function namespace(): Promise<{ path: string; child: ChildProcess }> {
  const child = spawn('unshare', ['--net', 'sh', '-c', 'echo ready; exec sleep 600'])
  await once(child.stdout, 'data')
  return { path: `/proc/${child.pid}/ns/net`, child }
}

function nft(path: string, script: string): void {
  execFileSync('nsenter', [`--net=${path}`, 'nft', '-f', '/dev/stdin'], { input: script })
}

/** Everything that the kernel has, in the words of `nft`, without the numbers that it counts up. */
function listed(path: string): unknown[] {
  const { nftables } = JSON.parse(
    execFileSync('nsenter', [`--net=${path}`, 'nft', '-j', 'list', 'ruleset'], {
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
    }),
  ) as { nftables: unknown[] }
  return nftables.map((entry) =>
    JSON.parse(
      JSON.stringify(entry, (key, value: unknown) => {
        if (key === 'handle') return undefined
        if (key === 'elem' && Array.isArray(value))
          return value.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
        // Names of sets without a name.
        return typeof value === 'string' ? value.replace(/^@?__map\d+$/, '__map') : value
      }),
    ),
  )
}

test(
  'messages load what nft loads, for every change that tenants, services, policies and limits lead to',
  { skip: networkMissing },
  async () => {
    const [byNft, byMessages] = [await namespace(), await namespace()]
    const socket = inNamespace('net', byMessages.path, () => new RuleSocket())
    try {
      for (const { path } of [byNft, byMessages]) nft(path, EMPTY)
      const apply = (script: string) => {
        const messages = compileRules(script)
        assert.ok(messages, `Not understood: ${script}`)
        if (script !== '') nft(byNft.path, script)
        socket.change(messages)
        assert.deepEqual(listed(byMessages.path), listed(byNft.path), script)
      }
      apply(renderTenantAdded(INDEX))
      let from = NOTHING
      const samples = fc.sample(fc.tuple(fc.option(isolation, { nil: undefined }), services, bandwidth), {
        numRuns: 60,
        seed: 5,
      })
      for (const [document, some, caps] of samples) {
        const to = {
          isolation: rulesOf(document, from.isolation),
          table: tableOf(some),
          limits: planLimits(INDEX, bandwidthOf(caps)),
        }
        apply(renderChange(from, to))
        from = to
      }
      apply([renderChange(from, NOTHING), renderTenantRemoved(INDEX)].join('\n'))
    } finally {
      socket.close()
      for (const { child } of [byNft, byMessages]) child.kill('SIGKILL')
    }
  },
)

test(
  'a change that the kernel refuses in one place changes nothing in any',
  { skip: networkMissing },
  async () => {
    const { path, child } = await namespace()
    const socket = inNamespace('net', path, () => new RuleSocket())
    try {
      nft(path, EMPTY)
      const before = listed(path)
      for (const refused of [
        `${renderTenantAdded(INDEX)}\n${renderTenantRemoved(9)}`,
        `${renderTenantAdded(INDEX)}\ndelete chain inet bulkhead policy_1_nobody`,
        'add chain inet bulkhead policy_6_x\nadd rule inet bulkhead policy_6_x ip saddr @group_6_none return',
      ]) {
        const messages = compileRules(refused)
        assert.ok(messages)
        assert.throws(() => socket.change(messages), /Cannot change the rules/)
        assert.deepEqual(listed(path), before, refused)
      }
    } finally {
      socket.close()
      child.kill('SIGKILL')
    }
  },
)

test('what is not exactly what tenants and policies change is left to nft', () => {
  const deny = 'add rule inet bulkhead policy_6_a'
  for (const line of [
    'flush ruleset',
    'delete table inet bulkhead',
    'add table inet other',
    'add chain inet other x',
    'add chain inet bulkhead x { type filter hook input priority 0; }',
    'add set inet bulkhead group_6_a { type ipv4_addr; flags interval; }',
    'add set inet bulkhead blocks_6_a { type ipv4_addr; flags interval; elements = { 10.0.0.5-10.0.0.1 }; }',
    'add set inet bulkhead blocks_6_a { type ipv4_addr; flags interval; elements = { 1.1.1.1-1.1.1.3, 1.1.1.2 }; }',
    'add set inet bulkhead ports_6_a { type inet_service; flags interval; elements = { 1-70000 }; }',
    `${deny} accept`,
    `${deny} ip saddr 1.2.3.4 accept`,
    `${deny} ip saddr 1.2.3.400 return`,
    `${deny} ip saddr 01.2.3.4 return`,
    `${deny} ip saddr @group_6_a;flush ruleset return`,
    `${deny} th dport 80 return`,
    `${deny} meta l4proto icmp return`,
    `${deny} meta l4proto tcp th dport 1-2-3 return`,
    `${deny} meta l4proto tcp dnat ip to numgen inc mod 3 map { 0 : 10.128.40.1 . 80, 1 : 10.128.40.2 . 80 }`,
    `${deny} meta l4proto tcp dnat ip to numgen inc mod 2 map { 1 : 10.128.40.1 . 80, 0 : 10.128.40.2 . 80 }`,
    `${deny} meta l4proto tcp dnat ip to 10.128.40.1:70000`,
    `${deny} goto elsewhere`,
    'add element inet bulkhead tenant4 { 1.2.3.4 : 1 }',
    'add element inet bulkhead pair { 1 . 2 . 3 }',
    'add element inet bulkhead policies { 1 }',
    'add element inet bulkhead policies { 1 : drop }',
    'add element inet bulkhead policies { 1 : jump a : jump b }',
    'add element inet bulkhead group_6_a { 1.2.3.4 : 5 }',
    'add element inet bulkhead traffic { 1 : "a";flush ruleset }',
    'add limit inet bulkhead x { rate 5/second burst 5 packets }',
    `add chain inet bulkhead ${'x'.repeat(200)}`,
    'add chain inet bulkhead x\nflush ruleset',
    ` ${renderTenantAdded(INDEX)}`,
  ])
    assert.equal(compileRules(line), undefined, line)
  assert.equal(compileRules('x'.repeat(2 * 1024 * 1024)), undefined)
  assert.deepEqual(compileRules(''), [])
  fc.assert(
    fc.property(fc.array(fc.string(), { maxLength: 5 }), (lines) => {
      assert.equal(compileRules(['flush ruleset', ...lines].join('\n')), undefined)
    }),
  )
})
