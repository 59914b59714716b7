import assert from 'node:assert/strict'
import { test } from 'node:test'
import { object, podSpec } from '../controllers.testkit.ts'
import type { EndpointSlice, Pod, Service } from '../kinds.ts'
import { planSlices, planSliceSteps, planSubsets } from '../workloads/endpointslice/plan.ts'
import { planNetwork } from './plan-network.ts'

const POD = '0b7e4d1e-5f0a-4c3c-9d5e-7a4b3c2d1e0f'

function serviceOf(spec: Partial<Service['spec']> = {}): Service {
  return object('Service', 'v1', 'web', {
    spec: { clusterIP: '10.96.0.10', selector: { app: 'web' }, ports: [{ port: 80 }], ...spec },
  })
}

function podOf(
  uid: string,
  {
    ready = true,
    ports = [{ name: 'http', containerPort: 8080 }],
    ...changes
  }: Record<string, unknown> & {
    ready?: boolean
    ports?: { name: string; containerPort: number; protocol?: 'UDP' }[]
  } = {},
): Pod {
  const { spec = {}, metadata = {}, status = {} } = changes as Record<string, object>
  return object(
    'Pod',
    'v1',
    uid,
    {
      spec: { containers: [{ ...podSpec.containers[0], ports }], nodeName: 'bulkhead', ...spec },
      status: {
        phase: 'Running',
        podIP: `10.0.0.${uid.length}`,
        conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
        ...status,
      },
    },
    { uid, ...metadata },
  )
}

function sliceOf(
  endpoints: EndpointSlice['endpoints'],
  ports: EndpointSlice['ports'] = [{ name: '', port: 8080, protocol: 'TCP' }],
): EndpointSlice {
  return object(
    'EndpointSlice',
    'discovery.k8s.io/v1',
    'web-1',
    { addressType: 'IPv4', endpoints, ports },
    { labels: { 'kubernetes.io/service-name': 'web' } },
  )
}

test('an endpoint written by hand counts only if it points at a pod of the tenant’s own, or has its address', () => {
  const other = '5a3c7f0e-1111-4222-8333-444455556666'
  const slice = sliceOf([
    { addresses: ['169.254.169.254'] },
    { addresses: ['10.0.0.7'] },
    // Whoever says which pod is meant is not second-guessed by the address.
    { addresses: ['10.0.0.7'], targetRef: { kind: 'Pod', uid: 'gone' } },
    { addresses: ['10.0.0.1'], targetRef: { kind: 'Pod', uid: 'of somebody else' } },
    { addresses: ['10.0.0.1'], targetRef: { kind: 'Node', uid: POD } },
    {
      addresses: ['10.0.0.9'],
      targetRef: { kind: 'Pod', uid: POD },
      conditions: { ready: false },
      hostname: 'db',
    },
  ])
  const { services } = planNetwork([serviceOf()], [slice], {
    has: (uid) => uid === POD,
    at: (address) => (address === '10.0.0.7' ? other : undefined),
  })
  assert.deepEqual(services[0]?.ports[0]?.endpoints, [
    { jail: POD, port: 8080, ready: false, hostname: 'db' },
    { jail: other, port: 8080, ready: true },
  ])
})

test('headless services have no address, external names no ports, and slices of other services do not count', () => {
  const foreign = sliceOf([{ addresses: ['10.0.0.1'], targetRef: { kind: 'Pod', uid: POD } }])
  foreign.metadata.labels = { 'kubernetes.io/service-name': 'other' }
  const network = (spec: Partial<Service['spec']>) =>
    planNetwork([serviceOf(spec)], [foreign], { has: () => true, at: () => POD }).services[0]
  assert.deepEqual(network({ clusterIP: 'None', publishNotReadyAddresses: true }), {
    namespace: 'default',
    name: 'web',
    publishNotReadyAddresses: true,
    ports: [{ protocol: 'TCP', port: 80, endpoints: [] }],
  })
  assert.deepEqual(network({ type: 'ExternalName', externalName: 'db.test' }), {
    namespace: 'default',
    name: 'web',
    publishNotReadyAddresses: false,
    ports: [],
    externalName: 'db.test',
  })
  assert.equal(network({ sessionAffinity: 'ClientIP' })?.sessionAffinitySeconds, 10_800)
})

test('a named target port is looked up in each pod, and pods with other numbers get a slice of their own', () => {
  const service = serviceOf({
    ports: [
      { name: 'a', port: 80, targetPort: 'http' },
      { name: 'b', port: 81 },
    ],
  })
  const pods = [
    podOf('1'),
    podOf('22', { ports: [{ name: 'http', containerPort: 9090 }] }),
    podOf('333', { ports: [{ name: 'http', containerPort: 8080, protocol: 'UDP' }] }),
  ]
  assert.deepEqual(
    planSlices(service, pods).map(({ ports, endpoints }) => [
      ports.map((p) => `${p.name}:${p.port}`).join(),
      endpoints.map((e) => e.targetRef?.uid),
    ]),
    [
      ['a:8080,b:81', ['1']],
      ['a:9090,b:81', ['22']],
      ['b:81', ['333']],
    ],
  )
})

test('pods that have ended or have no address are left out, ending ones are marked', () => {
  const pods = [
    podOf('1', { status: { podIP: undefined } }),
    podOf('22', { status: { phase: 'Succeeded' } }),
    podOf('333', { metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } }),
    podOf('4444', { ready: false }),
  ]
  const [slice] = planSlices(serviceOf(), pods)
  assert.deepEqual(
    slice?.endpoints.map((e) => [e.targetRef?.uid, e.conditions]),
    [
      ['333', { ready: false, serving: true, terminating: true }],
      ['4444', { ready: false, serving: false, terminating: false }],
    ],
  )
  const [subset] = planSubsets(serviceOf(), pods)
  assert.deepEqual([subset?.addresses, subset?.notReadyAddresses?.length], [undefined, 1])
  const published = planSlices(serviceOf({ publishNotReadyAddresses: true }), pods)[0]
  assert.ok(published?.endpoints.every((e) => e.conditions?.ready))
})

test('many pods are spread over slices, and a service without pods has one empty slice', () => {
  const pods = Array.from({ length: 250 }, (_, index) => podOf(`p${index}`))
  assert.deepEqual(
    planSlices(serviceOf(), pods).map((slice) => slice.endpoints.length),
    [100, 100, 50],
  )
  assert.deepEqual(planSlices(serviceOf(), []), [{ ports: [], endpoints: [] }])
})

test('slices are changed in place, and those that are right are not written', () => {
  const [wanted] = planSlices(serviceOf(), [podOf('1')])
  assert.ok(wanted)
  const right = sliceOf(wanted.endpoints, wanted.ports)
  assert.deepEqual(planSliceSteps([right], [wanted]), { create: [], update: [], remove: [] })
  const stale = sliceOf([], [])
  const steps = planSliceSteps([stale, right], [wanted, { endpoints: [], ports: wanted.ports }])
  assert.deepEqual([steps.create.length, steps.update.length, steps.remove.length], [0, 1, 0])
  assert.deepEqual(planSliceSteps([stale], []).remove, [stale])
})
