import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError } from '../api/index.ts'
import { isServiceAddress, parseTenantNetwork } from './parse-tenant-network.ts'
import type { NetworkService, TenantNetwork } from './tenant-network.ts'

const ID = '0b5b7c1e-6d0f-4c39-9d1e-2f8f6f3c9a10'

function service(over: Partial<NetworkService> = {}): NetworkService {
  return {
    namespace: 'default',
    name: 'web',
    clusterIP: '10.96.3.4',
    ports: [{ name: 'http', protocol: 'TCP', port: 80, endpoints: [{ jail: ID, port: 8080, ready: true }] }],
    publishNotReadyAddresses: false,
    ...over,
  }
}

function refusedFields(value: unknown): string[] {
  try {
    parseTenantNetwork(value)
  } catch (error) {
    assert(error instanceof ApiError)
    assert.equal(error.code, 422)
    return (error.details?.causes ?? []).map((c) => c.field ?? '')
  }
  return []
}

const label = fc.stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/)
const networks: fc.Arbitrary<TenantNetwork> = fc
  .uniqueArray(
    fc.record(
      {
        namespace: label,
        name: label,
        clusterIP: fc.tuple(fc.nat(255), fc.integer({ min: 1, max: 254 })).map(([a, b]) => `10.96.${a}.${b}`),
        ports: fc.uniqueArray(
          fc.record({
            protocol: fc.constantFrom('TCP' as const, 'UDP' as const),
            port: fc.integer({ min: 1, max: 65_535 }),
            endpoints: fc.array(
              fc.record(
                {
                  jail: fc.uuid(),
                  port: fc.integer({ min: 1, max: 65_535 }),
                  ready: fc.boolean(),
                  hostname: label,
                },
                { requiredKeys: ['jail', 'port', 'ready'] },
              ),
              { maxLength: 3 },
            ),
          }),
          { maxLength: 3, selector: (p) => `${p.protocol}${p.port}` },
        ),
        sessionAffinitySeconds: fc.integer({ min: 1, max: 86_400 }),
        publishNotReadyAddresses: fc.boolean(),
      },
      { requiredKeys: ['namespace', 'name', 'ports', 'publishNotReadyAddresses'] },
    ),
    {
      maxLength: 4,
      comparator: (a, b) => a.name === b.name || (a.clusterIP !== undefined && a.clusterIP === b.clusterIP),
    },
  )
  // Through JSON, because fast-check's records have no prototype.
  .map((services) => JSON.parse(JSON.stringify({ services })) as TenantNetwork)

test('a valid network comes out of its JSON as it went in', () => {
  fc.assert(
    fc.property(networks, (valid) => {
      assert.deepEqual(parseTenantNetwork(JSON.parse(JSON.stringify(valid))), valid)
    }),
  )
})

test('any JSON at all is parsed or refused with an ApiError', () => {
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), fc.record({ services: fc.array(fc.jsonValue()) })), (value) => {
      try {
        parseTenantNetwork(value)
      } catch (error) {
        assert(error instanceof ApiError)
      }
    }),
  )
})

test('a service address lies in the virtual range of the tenant, whatever it is written like', () => {
  for (const address of ['10.96.0.1', '10.96.255.254', '10.96.9.0'])
    assert(isServiceAddress(address), address)
  for (const address of [
    '10.97.0.1',
    '10.96.0.0',
    '10.96.255.255',
    '10.96.1',
    '010.96.0.1',
    '10.96.0.01',
    '::ffff:10.96.0.1',
    '10.96.0.1\n',
    '169.254.169.254',
  ])
    assert(!isServiceAddress(address), address)
})

test('services cannot claim the same name or the same address', () => {
  assert.deepEqual(refusedFields({ services: [service(), service()] }), [
    'services[1]',
    'services[1].clusterIP',
  ])
  assert.deepEqual(refusedFields({ services: [service(), service({ name: 'b' })] }), [
    'services[1].clusterIP',
  ])
})

test('an endpoint is a pod, never an address', () => {
  const endpoints = [{ jail: '10.0.0.1', port: 80, ready: true }]
  assert.deepEqual(
    refusedFields({ services: [service({ ports: [{ protocol: 'TCP', port: 80, endpoints }] })] }),
    ['services[0].ports[0].endpoints[0].jail'],
  )
})

const isolation = () => ({
  pods: [ID],
  groups: [{ name: 'web', pods: [0], resolver: false }],
  ingress: [{ pods: [0], rules: [{ peers: { groups: ['web'], blocks: [] } }] }],
  egress: [{ pods: [0], rules: [{ within: 'web', ports: [{ protocol: 'TCP', first: 1, last: 80 }] }] }],
})

test('isolation that says what it means is taken as it is', () => {
  const document = { services: [], isolation: isolation() }
  assert.deepEqual(parseTenantNetwork(document), document)
})

test('isolation that could break a ruleset is refused, field by field', () => {
  type Isolation = ReturnType<typeof isolation>
  const refused = (change: object | ((whole: Isolation) => object)) =>
    refusedFields({
      services: [],
      isolation: { ...isolation(), ...(typeof change === 'function' ? change(isolation()) : change) },
    })
  const ingress = (rule: object) => ({ ingress: [{ pods: [0], rules: [rule] }] })
  const blocks = (...ranges: [string, string][]) =>
    ingress({ peers: { groups: [], blocks: ranges.map(([first, last]) => ({ first, last })) } })
  const ports = (...ranges: [string, number, number][]) =>
    ingress({ ports: ranges.map(([protocol, first, last]) => ({ protocol, first, last })) })
  for (const name of ['', 'a b', 'a;}', 'a\n', 'A', '"', 'x'.repeat(33), '__proto__'])
    assert.deepEqual(refused({ groups: [{ name, pods: [], resolver: false }], ingress: [], egress: [] }), [
      'isolation.groups[0].name',
    ])
  assert.deepEqual(refused({ pods: [ID, ID] }), ['isolation.pods[1]'])
  assert.deepEqual(refused({ pods: [] }), [
    'isolation.groups[0].pods',
    'isolation.ingress[0].pods',
    'isolation.egress[0].pods',
  ])
  assert.deepEqual(refused({ groups: [] }), [
    'isolation.ingress[0].rules[0].peers.groups',
    'isolation.egress[0].rules[0].within',
  ])
  assert.deepEqual(refused(ingress({ within: 'web' })), ['isolation.ingress[0].rules[0].within'])
  assert.deepEqual(
    refused((whole) => ({ ingress: [...whole.ingress, ...whole.ingress] })),
    ['isolation.ingress[1].pods'],
  )
  for (const wrong of [
    blocks(['10.0.0.2', '10.0.0.1']),
    blocks(['10.0.0.1', '10.0.0.5'], ['10.0.0.5', '10.0.0.9']),
    blocks(['10.0.0.9', '10.0.0.9'], ['10.0.0.1', '10.0.0.1']),
  ])
    assert.deepEqual(refused(wrong), ['isolation.ingress[0].rules[0].peers.blocks'])
  for (const text of ['10.0.0.0/8', '::1', '1.2.3', '1.2.3.4 ', '01.2.3.4', '1.2.3.4\n'])
    assert.equal(refused(blocks([text, '255.255.255.255'])).length, 1, text)
  for (const wrong of [ports(['TCP', 9, 8]), ports(['UDP', 1, 5], ['UDP', 5, 9])])
    assert.deepEqual(refused(wrong), ['isolation.ingress[0].rules[0].ports'])
  for (const wrong of [ports(['TCP', 0, 8]), ports(['TCP', 1, 65_536]), ports(['ICMP', 1, 1])])
    assert.equal(refused(wrong).length, 1)
  assert.deepEqual(refused(ports(['TCP', 1, 5], ['UDP', 1, 5])), [])
})

test('rules that would cost too much are refused, and the refusal says how much is too much', () => {
  const groups = Array.from({ length: 64 }, (_, at) => ({ name: `g${at}`, pods: [], resolver: false }))
  const rule = { peers: { groups: groups.map(({ name }) => name), blocks: [] } }
  const document = {
    services: [],
    isolation: {
      pods: [ID],
      groups,
      ingress: [{ pods: [0], rules: Array.from({ length: 200 }, () => rule) }],
      egress: [],
    },
  }
  assert.throws(() => parseTenantNetwork(document), /at most 8192 comparisons together, not 12800/)
})

test('no isolation, however strange, makes parsing throw anything but a refusal', () => {
  const part = fc.oneof(fc.anything(), fc.constantFrom(ID, 0, 'web', [0], [[0]], { first: 1, last: 2 }))
  const strange = fc.record({
    pods: fc.array(part),
    groups: fc.array(part),
    ingress: part,
    egress: fc.array(part),
  })
  fc.assert(fc.property(strange, (each) => void refusedFields({ services: [], isolation: each })))
})

test('what narrows the way outside is taken as it is or refused with the field that is wrong', () => {
  const right = {
    namespace: 'shop',
    selector: [{ key: 'example.com/app', operator: 'In', values: ['web'] }],
    allow: [
      { host: '*.example.com' },
      { cidr: '10.0.0.0/8', ports: [{ protocol: 'TCP', port: 1, endPort: 9 }] },
    ],
  }
  const parsed = parseTenantNetwork({ services: [], narrowings: [right] })
  assert.deepEqual(parsed.narrowings, [right])
  const refused = (change: Record<string, unknown>) =>
    refusedFields({ services: [], narrowings: [{ ...right, ...change }] }).map((field) =>
      field.replace('narrowings[0]', '#'),
    )
  for (const host of [
    'a.example.com\n',
    'a.example.com" accept',
    '*',
    '*.*.a.b',
    'A.example.com',
    'ä.example.com',
    'a.svc.cluster.local',
  ])
    assert.deepEqual(refused({ allow: [{ host }] }), ['#.allow[0].host'], host)
  for (const cidr of ['10.0.0.0/8 }', '10.0.0.1/8', '::/0', '1.2.3.4', '010.0.0.0/8'])
    assert.deepEqual(refused({ allow: [{ cidr }] }), ['#.allow[0].cidr'], cidr)
  for (const allow of [
    [{}],
    [{ host: 'a.b.c', cidr: '10.0.0.0/8' }],
    [{ cidr: '10.0.0.0/8', ports: [{ protocol: 'TCP', port: 9, endPort: 1 }] }],
  ])
    assert.deepEqual(refused({ allow }), ['#.allow[0]'])
  assert.deepEqual(refused({ selector: [{ key: 'a b', operator: 'In', values: [] }] }), ['#.selector[0].key'])
  assert.deepEqual(refused({ selector: [{ key: 'a', operator: 'Gt', values: [] }] }), [
    '#.selector[0].operator',
  ])
  assert.deepEqual(refused({ selector: [{ key: 'a', operator: 'In', values: ['"'] }] }), [
    '#.selector[0].values[0]',
  ])
  assert.deepEqual(refused({ allow: Array.from({ length: 51 }, () => ({ host: 'a.b.c' })) }), ['#.allow'])
  const many = Array.from({ length: 42 }, () => ({
    ...right,
    allow: Array.from({ length: 50 }, () => ({ host: 'a.b.c' })),
  }))
  assert.throws(() => parseTenantNetwork({ services: [], narrowings: many }), /at most 2048 destinations/)
  fc.assert(fc.property(fc.anything(), (each) => void refusedFields({ services: [], narrowings: [each] })))
})
