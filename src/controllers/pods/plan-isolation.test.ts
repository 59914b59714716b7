import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { type FlowRule, type NetworkIsolation, parseTenantNetwork } from '../../jail/index.ts'
import { type FlowEnd, flowAllowed } from '../../policy/index.ts'
import type { Namespace, NetworkPolicy, Pod } from '../kinds.ts'
import { factsOf, planIsolation } from './plan-isolation.ts'

const uid = (at: number) => `00000000-0000-4000-8000-${String(at).padStart(12, '0')}`
const number = (text: string) => text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
const RESOLVER = '169.254.1.1'

/** An independent reading of what the engine is told: whether a connection may be made. */
function allows(
  { pods, groups, ingress, egress }: NetworkIsolation,
  from: { place: number; address: string },
  to: { place: number; address: string },
  protocol: string,
  port: number,
): boolean {
  const has = (name: string, { place, address }: typeof from) => {
    const group = groups.find((each) => each.name === name)
    assert.ok(group)
    return group.pods.includes(place) || (group.resolver && address === RESOLVER)
  }
  const ruleAllows = ({ peers, within, ports }: FlowRule, other: typeof from) =>
    (!peers ||
      peers.groups.some((name) => has(name, other)) ||
      peers.blocks.some(
        (b) => number(b.first) <= number(other.address) && number(other.address) <= number(b.last),
      )) &&
    (within === undefined || has(within, to)) &&
    (!ports || ports.some((r) => r.protocol === protocol && r.first <= port && port <= r.last))
  assert.ok(from.place < pods.length && to.place < pods.length)
  const leaving = egress.find((each) => each.pods.includes(from.place))
  const entering = ingress.find((each) => each.pods.includes(to.place))
  return (
    (!leaving || leaving.rules.some((rule) => ruleAllows(rule, to))) &&
    (!entering || entering.rules.some((rule) => ruleAllows(rule, from)))
  )
}

const NAMESPACES = ['a', 'b', 'kube-system']
const label = fc.constantFrom('x', 'y', 'z')
const labels = fc.dictionary(fc.constantFrom('app', 'tier'), label, { maxKeys: 2, noNullPrototype: true })
const pod = fc
  .record({
    namespace: fc.constantFrom(...NAMESPACES),
    labels,
    ports: fc.array(
      fc.record({
        name: fc.constantFrom('http', 'dns'),
        containerPort: fc.constantFrom(53, 80, 81),
        protocol: fc.constantFrom('TCP', 'UDP'),
      }),
      { maxLength: 2 },
    ),
  })
  .map(
    ({ namespace, labels: given, ports }) =>
      ({ metadata: { namespace, labels: given }, spec: { containers: [{ ports }] } }) as unknown as Pod,
  )
const selector = fc.oneof(
  fc.constant({}),
  labels.map((matchLabels) => ({ matchLabels })),
  fc.record({
    matchExpressions: fc.array(
      fc.oneof(
        fc.record({
          key: fc.constantFrom('app', 'tier', 'ns'),
          operator: fc.constantFrom('Exists', 'DoesNotExist'),
        }),
        fc.record({
          key: fc.constantFrom('app', 'tier', 'ns'),
          operator: fc.constantFrom('In', 'NotIn'),
          values: fc.array(fc.oneof(label, fc.constantFrom('a', 'b')), { minLength: 1, maxLength: 2 }),
        }),
      ),
      { maxLength: 2 },
    ),
  }),
)
const cidr = fc.tuple(
  fc.constantFrom('10.128.0.0', '10.128.0.4', '0.0.0.0', '169.254.1.0', '10.128.0.1'),
  fc.constantFrom(0, 24, 29, 30, 31, 32),
)
const peer = fc.oneof(
  fc.record({ podSelector: selector }),
  fc.record({ namespaceSelector: selector }),
  fc.record({ podSelector: selector, namespaceSelector: selector }),
  fc.record({ block: cidr, except: fc.array(cidr, { maxLength: 2 }) }).map(({ block, except }) => ({
    ipBlock: { cidr: block.join('/'), except: except.map((e) => e.join('/')) },
  })),
  fc.constant({ ipBlock: { cidr: '::/0' } }),
)
const port = fc.oneof(
  fc.record(
    {
      port: fc.constantFrom<number | string>(80, 53, 'http', 'dns'),
      protocol: fc.constantFrom('TCP', 'UDP', 'SCTP'),
    },
    { requiredKeys: ['port'] },
  ),
  fc.record({ protocol: fc.constantFrom('TCP', 'UDP') }),
  fc.constant({ port: 79, endPort: 81 }),
)
const peers = fc.array(peer, { maxLength: 2 })
const ports = fc.array(port, { maxLength: 3 })
const policy = fc
  .record({
    namespace: fc.constantFrom(...NAMESPACES),
    podSelector: selector,
    ingress: fc.array(fc.record({ from: peers, ports }, { requiredKeys: [] }), { maxLength: 2 }),
    egress: fc.array(fc.record({ to: peers, ports }, { requiredKeys: [] }), { maxLength: 2 }),
    policyTypes: fc.subarray(['Ingress', 'Egress'], { minLength: 1 }),
  })
  .map(({ namespace, ...spec }) => ({ metadata: { namespace, name: 'p' }, spec }) as unknown as NetworkPolicy)
const policies = fc
  .array(policy, { minLength: 1, maxLength: 4 })
  .map((all) => all.map((each, at) => ({ ...each, metadata: { ...each.metadata, name: `p${at}` } })))
const pods = fc
  .array(pod, { minLength: 1, maxLength: 5 })
  .map((all) =>
    all.map((each, at) => ({ ...each, metadata: { ...each.metadata, uid: uid(at), name: `pod${at}` } })),
  )
const namespaces = NAMESPACES.map(
  (name) =>
    ({
      metadata: { name, labels: { ns: name, 'kubernetes.io/metadata.name': name } },
    }) as unknown as Namespace,
)

test('what the engine is told means what the policies mean, pod by pod and port by port', () => {
  fc.assert(
    fc.property(policies, pods, (given, all) => {
      const planned = planIsolation(given, all, namespaces)
      assert.ok(planned)
      const { isolation } = parseTenantNetwork({
        services: [],
        isolation: JSON.parse(JSON.stringify(planned)),
      })
      assert.deepEqual(isolation, planned)
      const rules = {
        policies: given.map(({ metadata, spec }) => ({ namespace: metadata.namespace ?? '', spec })),
        namespaces: new Map(namespaces.map(({ metadata }) => [metadata.name, metadata.labels ?? {}])),
      }
      const address = (at: number) => `10.128.0.${at + 1}`
      const end = (at: number): FlowEnd => {
        const one = all[at]
        assert.ok(one)
        return { address: BigInt(number(address(at))), family: 4, pod: factsOf(one) }
      }
      for (let from = 0; from < all.length; from++)
        for (let to = 0; to < all.length; to++) {
          if (from === to) continue
          for (const protocol of ['TCP', 'UDP', 'SCTP'] as const)
            for (const portNumber of [53, 79, 80, 81, 90])
              assert.equal(
                allows(
                  planned,
                  { place: from, address: address(from) },
                  { place: to, address: address(to) },
                  protocol,
                  portNumber,
                ),
                flowAllowed(rules, { from: end(from), to: end(to), protocol, port: portNumber }),
                `${from} to ${to} ${protocol} ${portNumber}`,
              )
        }
    }),
    { numRuns: 400 },
  )
})

test('a pod that comes changes no rule and no name of a group', () => {
  fc.assert(
    fc.property(policies, pods, (given, all) => {
      const [last] = all.slice(-1)
      assert.ok(last)
      const twin = { ...last, metadata: { ...last.metadata, uid: uid(99), name: 'twin' } }
      const [before, after] = [
        planIsolation(given, all, namespaces),
        planIsolation(given, [...all, twin], namespaces),
      ]
      const rulesOf = (plan: typeof before) =>
        new Set(plan?.ingress.concat(plan.egress).map(({ rules }) => JSON.stringify(rules)))
      assert.deepEqual(rulesOf(after), rulesOf(before))
      assert.deepEqual(
        after?.groups.map(({ name }) => name),
        before?.groups.map(({ name }) => name),
      )
    }),
    { numRuns: 200 },
  )
})

test('without policies there is nothing to tell', () => {
  assert.equal(planIsolation([], [], namespaces), undefined)
})

test('500 policies over 2,000 pods are planned while nobody notices', () => {
  const many = Array.from({ length: 2_000 }, (_, at) => ({
    metadata: { uid: uid(at), namespace: 'a', name: `p${at}`, labels: { app: `app-${at % 50}` } },
    spec: { containers: [{ ports: [{ name: 'http', containerPort: 80 }] }] },
  })) as unknown as Pod[]
  const rules = Array.from({ length: 500 }, (_, at) => ({
    metadata: { namespace: 'a', name: `policy-${at}` },
    spec: {
      podSelector: { matchLabels: { app: `app-${at % 50}` } },
      policyTypes: ['Ingress'],
      ingress: [
        {
          from: [{ podSelector: { matchLabels: { app: `app-${(at * 7) % 50}` } } }],
          ports: [{ port: at + 1 }],
        },
      ],
    },
  })) as unknown as NetworkPolicy[]
  const plan = planIsolation(rules, many, namespaces)
  assert.equal(plan?.ingress.length, 50)
  assert.ok((plan?.groups.length ?? 99) <= 50)
  assert.ok(parseTenantNetwork({ services: [], isolation: plan }))
})
