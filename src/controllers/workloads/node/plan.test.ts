import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NodeFacts } from '../../../jail/index.ts'
import { object } from '../../controllers.testkit.ts'
import type { Node, PodSpec } from '../../kinds.ts'
import { fitsNode, planLabels, planNodeStatus } from './plan.ts'

const FACTS = {
  allocatable: { cpuMillis: 1_900, memoryBytes: 2 ** 31, ephemeralStorageBytes: 2 ** 33, pods: 20 },
  architecture: 'amd64',
  pressures: [],
  runtimes: { runc: 'crun 1.8.1' },
} as const
const node: Node = object(
  'Node',
  'v1',
  'bulkhead',
  {},
  { namespace: undefined, labels: { 'kubernetes.io/os': 'linux', size: '7' } },
)

test('the node shows the tenant’s share, and nothing of the machine', () => {
  const status = planNodeStatus(node, FACTS, { runtime: 'runc', nowMs: 0 })
  assert.deepEqual(status.allocatable, {
    cpu: '1900m',
    'ephemeral-storage': '8388608Ki',
    memory: '2097152Ki',
    pods: '20',
  })
  assert.deepEqual(status.capacity, status.allocatable)
  assert.deepEqual(status.addresses, [{ type: 'Hostname', address: 'bulkhead' }])
  const { machineID, systemUUID, bootID, kernelVersion, osImage } = status.nodeInfo ?? {}
  assert.deepEqual(
    { machineID, systemUUID, bootID, kernelVersion, osImage },
    { machineID: '', systemUUID: '', bootID: '', kernelVersion: 'withheld', osImage: 'withheld' },
  )
  assert.deepEqual(planLabels(node, FACTS), {
    'kubernetes.io/arch': 'amd64',
    'kubernetes.io/hostname': 'bulkhead',
    'kubernetes.io/os': 'linux',
    size: '7',
  })
})

test('the node says that it is short of what it was told', () => {
  const conditions = (pressures: NodeFacts['pressures']) =>
    planNodeStatus(node, { ...FACTS, pressures }, { runtime: 'runc', nowMs: 0 })
      .conditions?.filter(({ status, type }) => (status === 'True') === (type !== 'Ready'))
      .map(({ type, reason }) => `${type} ${reason}`)
  assert.deepEqual(conditions([]), [])
  assert.deepEqual(conditions([{ what: 'memory', endsInMs: 1 }]), [
    'MemoryPressure KubeletHasInsufficientMemory',
  ])
  assert.deepEqual(conditions([{ what: 'disk', endsInMs: 1 }]), ['DiskPressure KubeletHasDiskPressure'])
})

test('what the node says has a time, which stays as long as it says the same', () => {
  const first = planNodeStatus(node, FACTS, { runtime: 'runc', nowMs: 0 })
  for (const { lastHeartbeatTime, lastTransitionTime } of first.conditions ?? [])
    assert.deepEqual([lastHeartbeatTime, lastTransitionTime], Array(2).fill('1970-01-01T00:00:00Z'))
  const later = { runtime: 'runc', nowMs: 60_000 } as const
  assert.deepEqual(planNodeStatus({ ...node, status: first }, FACTS, later), first)
})

type Term = { matchExpressions?: readonly unknown[]; matchFields?: readonly unknown[] }
const wanting = (...terms: Term[]) =>
  ({
    containers: [],
    affinity: {
      nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } },
    },
  }) as unknown as PodSpec
const label = (key: string, operator: string, ...values: string[]): Term => ({
  matchExpressions: [{ key, operator, values }],
})

test('a pod fits the node when its selector and one of its terms do', () => {
  const fits = (spec: Partial<PodSpec>) => fitsNode({ containers: [], ...spec }, node)
  assert(fits({}))
  assert(fits({ nodeSelector: { 'kubernetes.io/os': 'linux' } }))
  assert(!fits({ nodeSelector: { 'kubernetes.io/os': 'windows' } }))
  assert(!fits({ nodeSelector: { constructor: 'x' } }))
  for (const [term, expected] of [
    [label('size', 'In', '6', '7'), true],
    [label('size', 'NotIn', '7'), false],
    [label('absent', 'NotIn', '7'), true],
    [label('size', 'Exists'), true],
    [label('absent', 'DoesNotExist'), true],
    [label('size', 'Gt', '6'), true],
    [label('size', 'Lt', '7'), false],
    [label('size', 'Gt', 'many'), false],
    [label('absent', 'Gt', '1'), false],
    [{}, false],
    [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['bulkhead'] }] }, true],
    [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['other'] }] }, false],
  ] as const)
    assert.equal(fitsNode(wanting(term), node), expected, JSON.stringify(term))
  assert(!fitsNode(wanting(), node))
  assert(fitsNode(wanting(label('absent', 'Exists'), label('size', 'Exists')), node))
})
