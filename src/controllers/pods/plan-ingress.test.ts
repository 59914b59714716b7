import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseTenantIngress } from '../../jail/index.ts'
import type { Ingress, Secret, Service } from '../kinds.ts'
import { planIngress, withRefusals } from './plan-ingress.ts'

let uids = 0
const meta = (name: string, namespace: string, creationTimestamp = '2026-01-01T00:00:00Z') => ({
  name,
  namespace,
  creationTimestamp,
  uid: `uid-${++uids}`,
  resourceVersion: '1',
})
const PEM = '-----BEGIN X-----\nAA==\n-----END X-----\n'

function ingress(
  host: string,
  {
    name = 'web',
    namespace = 'shop',
    created,
    path = '/',
    service = 'web',
    port = { number: 80 } as { name?: string; number?: number },
    secret,
    annotations,
  }: {
    name?: string
    namespace?: string
    created?: string
    path?: string
    service?: string
    port?: { name?: string; number?: number }
    secret?: string
    annotations?: Record<string, string>
  } = {},
): Ingress {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'Ingress',
    metadata: { ...meta(name, namespace, created), ...(annotations ? { annotations } : {}) },
    spec: {
      rules: [
        {
          host,
          http: { paths: [{ path, pathType: 'Prefix', backend: { service: { name: service, port } } }] },
        },
      ],
      ...(secret === undefined ? {} : { tls: [{ hosts: [host], secretName: secret }] }),
    },
  }
}

function service(name: string, spec: Partial<Service['spec']> = {}, namespace = 'shop'): Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: meta(name, namespace),
    spec: { ports: [{ name: 'http', port: 80, protocol: 'TCP' }], ...spec },
  }
}

function tls(name: string, namespace: string, data: Record<string, string> = {}): Secret {
  const encoded = Object.entries({ 'tls.crt': PEM, 'tls.key': PEM, ...data }).map(([key, value]) => [
    key,
    Buffer.from(value, 'latin1').toString('base64'),
  ])
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'kubernetes.io/tls',
    metadata: meta(name, namespace),
    data: Object.fromEntries(encoded) as Record<string, string>,
  }
}

const plan = (ingresses: Ingress[], services: Service[] = [service('web')], secrets: Secret[] = []) =>
  planIngress({
    ingresses,
    services,
    secret: ({ namespace, name }) =>
      secrets.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name),
  })

test('the older Ingress has a path that two want, and the other is told', () => {
  const first = ingress('a.example.com', {
    name: 'zz',
    created: '2026-01-01T00:00:00Z',
    port: { name: 'http' },
  })
  const second = ingress('a.example.com', { name: 'aa', created: '2026-01-02T00:00:00Z', service: 'other' })
  const { ingress: planned, problems } = plan([second, first])
  assert.deepEqual(planned.routes, [
    {
      host: 'a.example.com',
      path: '/',
      exact: false,
      backend: { namespace: 'shop', service: 'web', port: 80 },
      protocol: 'http',
      redirect: false,
    },
  ])
  assert.deepEqual(problems.get(second.metadata.uid), [
    'another Ingress has the path "/" of "a.example.com" already',
  ])
})

test('a service that is not there keeps its path, so that no other path answers in its place', () => {
  const one = ingress('a.example.com', { path: '/api', service: 'gone', port: { name: 'http' } })
  const { ingress: planned, problems } = plan([one])
  assert.deepEqual(planned.routes[0]?.backend, { namespace: 'shop', service: 'gone', port: 65_535 })
  assert.deepEqual(problems.get(one.metadata.uid), ['there is no Service "gone"'])
})

test('a Service of type ExternalName leads nowhere', () => {
  const one = ingress('a.example.com')
  const { problems } = plan([one], [service('web', { type: 'ExternalName', externalName: 'example.org' })])
  assert.match(problems.get(one.metadata.uid)?.[0] ?? '', /ExternalName/)
})

test('a certificate comes from a Secret of the same namespace and of its type only', () => {
  const one = ingress('a.example.com', { secret: 'pair' })
  for (const [secrets, why] of [
    [[tls('pair', 'elsewhere')], /is not there/],
    [[{ ...tls('pair', 'shop'), type: 'Opaque' }], /not of type/],
    [[tls('pair', 'shop', { 'tls.key': '' })], /no certificate and key/],
    [[tls('pair', 'shop', { 'tls.key': '\0' })], /not in PEM/],
    [[tls('pair', 'shop', { 'tls.crt': 'A'.repeat(100_000) })], /too large/],
  ] as const) {
    const { ingress: planned, problems } = plan([one], undefined, [...secrets])
    assert.deepEqual(planned.certificates, [])
    assert.match(problems.get(one.metadata.uid)?.[0] ?? '', why)
  }
  const { ingress: planned } = plan([one], undefined, [tls('pair', 'shop')])
  assert.deepEqual(planned.certificates, [{ host: 'a.example.com', certificate: PEM, key: PEM }])
  assert.equal(planned.routes[0]?.redirect, true)
  const plain = ingress('a.example.com', {
    secret: 'pair',
    annotations: { 'ingress.bulkhead.dev/ssl-redirect': 'false' },
  })
  assert.equal(plan([plain], undefined, [tls('pair', 'shop')]).ingress.routes[0]?.redirect, false)
})

test('ports of Services of type LoadBalancer are published, the older one’s first', () => {
  const balanced = (name: string, ports: number[], more: object = {}) =>
    service(name, {
      type: 'LoadBalancer',
      ports: ports.map((port) => ({ name: `p${port}`, port, protocol: 'TCP' as const })),
      ...more,
    })
  const [a, b] = [
    balanced('a', [9000], { loadBalancerSourceRanges: ['203.0.113.0/24'] }),
    balanced('b', [9000, 9001]),
  ]
  const { ingress: planned, problems, published } = plan([], [b, a])
  assert.deepEqual(planned.ports, [
    { port: 9000, backend: { namespace: 'shop', service: 'a', port: 9000 }, sources: ['203.0.113.0/24'] },
    { port: 9001, backend: { namespace: 'shop', service: 'b', port: 9001 } },
  ])
  assert.deepEqual([...(published.get(b.metadata.uid) ?? [])], ['9001'])
  assert.equal(problems.get(b.metadata.uid)?.length, 1)
})

test('what the machine refuses is not shown as published', () => {
  const [one, two] = [ingress('a.example.com'), ingress('b.example.com', { name: 'other' })]
  const refused = withRefusals(plan([one, two]), [{ what: 'a.example.com', why: 'not granted' }])
  assert.deepEqual([...(refused.published.get(one.metadata.uid) ?? [])], [])
  assert.deepEqual([...(refused.published.get(two.metadata.uid) ?? [])], ['b.example.com'])
  assert.deepEqual(refused.problems.get(one.metadata.uid), ['"a.example.com": not granted'])
})

test('whatever tenants write, the machine can read the plan', () => {
  const text = fc.string({ unit: 'binary-ascii', maxLength: 30 })
  const host = fc.oneof(
    text,
    fc.constantFrom('a.example.com', '*.b.example.com', 'localhost', 'x.cluster.local'),
  )
  fc.assert(
    fc.property(
      fc.array(fc.record({ host, path: text, service: fc.constant('web') }), { maxLength: 5 }),
      (all) => {
        const ingresses = all.map((each, at) =>
          ingress(each.host, { ...each, name: `i${at}`, path: `/${each.path}` }),
        )
        const { ingress: planned } = plan(ingresses)
        assert.deepEqual(parseTenantIngress(structuredClone(planned)), planned)
      },
    ),
  )
})
