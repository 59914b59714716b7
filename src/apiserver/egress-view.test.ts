import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Engine, TenantEgress } from '../jail/index.ts'
import { ControlPlane, type Json } from '../../tests/conformance/control-plane.ts'
import { egressDefinition } from '../api/index.ts'
import { planEgressView } from './egress-view.ts'

const EGRESSES = '/apis/network.bulkhead.dev/v1alpha1'
const https = [{ protocol: 'TCP', port: 443, endPort: 443 }] as const
const NOW = Date.parse('2026-11-21T12:00:00Z')

const EGRESS: TenantEgress = {
  tenant: 'red',
  uplink: 'open',
  rules: [
    { host: '*.example.com', ports: https, expired: false, connections: 3, lastUsedMs: NOW - 5_000 },
    {
      cidr: '203.0.113.0/24',
      ports: [{ protocol: 'UDP', port: 53, endPort: 54 }],
      namespaces: ['shop'],
      podLabels: ['example.com/app=copier'],
      untilMs: NOW - 1_000,
      expired: true,
      connections: 0,
    },
  ],
  seen: [
    { namespace: 'default', name: 'evil.example.net', allowed: false, count: 7, lastMs: NOW - 1_000 },
    {
      namespace: 'shop',
      address: '198.51.100.9',
      protocol: 'TCP',
      port: 25,
      allowed: true,
      count: 1,
      lastMs: NOW,
    },
  ],
  since: NOW - 60_000,
  now: NOW,
}
const engine = { egress: async () => EGRESS } as unknown as Engine

test('a tenant reads what its pods may reach outside, and what they wanted, namespace by namespace', async () => {
  await using plane = await ControlPlane.start({ engine })
  const shown = async (namespace: string) => {
    const { body } = await plane.ask('GET', `${EGRESSES}/namespaces/${namespace}/egresses`)
    return body.items.map(({ metadata, ...rest }: Json) => {
      assert.equal(metadata.namespace, namespace)
      return [metadata.name.replace(/[0-9a-f]{10}$/, ''), rest]
    })
  }
  const open = [
    'any.example.com-',
    {
      state: 'Open',
      destination: '*.example.com',
      ports: ['443'],
      count: 3,
      lastTime: '2026-11-21T11:59:55Z',
    },
  ]
  const [first, second, ...rest] = await shown('default')
  assert.deepEqual(rest, [])
  assert.deepEqual(first, open)
  assert.deepEqual(
    [second[1].state, second[1].destination, second[1].ports],
    ['Blocked', 'evil.example.net', undefined],
  )
  assert.deepEqual(
    (await shown('shop')).map(([, { state, destination, ports, podLabels, until }]: Json) => [
      state,
      destination,
      ports,
      podLabels,
      until,
    ]),
    [
      ['Learning', '198.51.100.9', ['25'], undefined, undefined],
      ['Expired', '203.0.113.0/24', ['53-54/UDP'], { 'example.com/app': 'copier' }, '2026-11-21T11:59:59Z'],
      ['Open', '*.example.com', ['443'], undefined, undefined],
    ],
  )
  const all = await plane.ask('GET', `${EGRESSES}/egresses`)
  assert.ok(all.body.items.length >= 4, all.text)
  const { name } = all.body.items[0].metadata
  assert.equal((await plane.ask('GET', `${EGRESSES}/namespaces/default/egresses/${name}`)).code, 200)
  assert.equal((await plane.ask('GET', `${EGRESSES}/namespaces/default/egresses/other`)).code, 404)
  const table = await plane.ask('GET', `${EGRESSES}/namespaces/shop/egresses`, {
    headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' },
  })
  assert.deepEqual(
    table.body.columnDefinitions.map((column: Json) => column.name),
    ['Name', 'State', 'Destination', 'Ports', 'Pods', 'Until', 'Count', 'Last'],
  )
})

test('what is open can be read and nothing else, and no policy of a tenant says more than the schema', async () => {
  await using plane = await ControlPlane.start({ engine })
  const at = `${EGRESSES}/namespaces/default/egresses`
  for (const [method, path] of [
    ['POST', at],
    ['PUT', `${at}/a`],
    ['DELETE', `${at}/a`],
    ['DELETE', at],
    ['GET', `${at}?watch=1`],
  ] as const)
    assert.equal((await plane.ask(method, path, { body: {} })).code, 405, `${method} ${path}`)
  const policies = `${EGRESSES}/namespaces/default/egresspolicies`
  const spec = async (body: Json) =>
    (await plane.ask('POST', policies, { body: { metadata: { name: 'a' }, spec: body } })).text
  for (const [body, why] of [
    [{ allow: [{}] }, /either a host or a cidr/],
    [{ allow: [{ host: 'a.example.com', cidr: '0.0.0.0/0' }] }, /either a host or a cidr/],
    [{ allow: [{ host: 'a.example.com\naccept' }] }, /host name in lower case/],
    [{ allow: [{ host: '*.*.example.com' }] }, /host name in lower case/],
    [{ allow: [{ host: 'köln.example.com' }] }, /xn--/],
    [{ allow: [{ cidr: '0.0.0.0/0 accept' }] }, /must be an IPv4 network/],
    [{ allow: [{ cidr: '2001:db8::/32' }] }, /must be an IPv4 network/],
    [{ allow: [{ host: 'a.example.com', ports: ['1-2'] }] }, /one port/],
    [{ allow: [{ cidr: '0.0.0.0/0', ports: [] }] }, /must name a port/],
    [{ allow: [{ cidr: '0.0.0.0/0', ports: ['443/SCTP'] }] }, /must be like 443/],
    [{ allow: Array.from({ length: 51 }, () => ({ cidr: '0.0.0.0/0' })) }, /at most 50/],
    [{ podSelector: { matchLabels: { a: 'not a value' } } }, /podSelector/],
  ] as const)
    assert.match(await spec(body as Json), why)
  assert.equal((await plane.ask('POST', policies, { body: { metadata: { name: 'a' }, spec: {} } })).code, 201)
})

test('whatever pods asked for, it has a name of its own that the API would take', () => {
  const seen = fc.record({
    namespace: fc.constant('shop'),
    name: fc.string({ maxLength: 253 }),
    allowed: fc.boolean(),
    count: fc.nat(),
    lastMs: fc.constant(NOW),
  })
  fc.assert(
    fc.property(fc.array(seen), (all) => {
      const shown = planEgressView({ ...EGRESS, seen: all }, 'shop')
      const names = shown.map(({ metadata }) => metadata.name)
      assert.equal(new Set(names).size, names.length)
      for (const name of names) assert.equal(egressDefinition.nameProblem?.(name), undefined, name)
    }),
  )
})
