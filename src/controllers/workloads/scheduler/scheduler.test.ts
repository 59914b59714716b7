import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { object, TestControlPlane } from '../../controllers.testkit.ts'
import { findCondition } from '../../conditions.ts'
import {
  eventKind,
  nodeKind,
  type Pod,
  type PodDisruptionBudget,
  podDisruptionBudgetKind,
  podKind,
} from '../../kinds.ts'
import { byImportance, planVictims, priorityOf } from './plan.ts'

const MERGE = 'application/merge-patch+json'
type Wanted = { cpu?: string; memory?: string; priority?: number } & Partial<Pod['spec']>

function pod(name: string, { cpu, memory, ...spec }: Wanted = {}): Pod {
  const requests = { ...(cpu ? { cpu } : {}), ...(memory ? { memory } : {}) }
  return object(
    'Pod',
    'v1',
    name,
    { spec: { containers: [{ name: 'c', image: 'registry.test/c:1', resources: { requests } }], ...spec } },
    { labels: { app: name } },
  )
}

const find = (plane: TestControlPlane, name: string) =>
  plane.pods().find(({ metadata }) => metadata.name === name)
const isPlaced = (plane: TestControlPlane, name: string) => find(plane, name)?.spec.nodeName !== undefined
const whyNot = (plane: TestControlPlane, name: string) =>
  findCondition(find(plane, name)?.status?.conditions, 'PodScheduled')?.message

test('pods beyond the share wait, in upstream’s words, and are placed when another goes', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(podKind, pod('big', { cpu: '3', memory: '1Gi' }))
  await plane.until('the first is placed', () => isPlaced(plane, 'big'))
  await plane.client.create(podKind, pod('second', { cpu: '2', memory: '4Gi' }))
  await plane.until('the second is told why', () => whyNot(plane, 'second') !== undefined)
  assert.equal(
    whyNot(plane, 'second'),
    '0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. ' +
      'preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.',
  )
  await plane.until('an event says so', () =>
    plane.client.all(eventKind).some((event) => (event as { reason?: string }).reason === 'FailedScheduling'),
  )
  await plane.client.create(podKind, pod('small', { cpu: '1' }))
  await plane.until('a small one still fits', () => isPlaced(plane, 'small'))
  assert(!isPlaced(plane, 'second'))
  await plane.client.delete(podKind, { namespace: 'default', name: 'big' }, { gracePeriodSeconds: 0 })
  await plane.until('there is room', () => isPlaced(plane, 'second'))
  assert.equal(findCondition(find(plane, 'second')?.status?.conditions, 'PodScheduled')?.status, 'True')
})

test('a pod for which the machine has no room waits without a word about others, and is tried again', async () => {
  await using plane = await TestControlPlane.start()
  plane.engine.noRoom = () => ['memory']
  await plane.client.create(podKind, pod('a', { memory: '1Gi' }))
  await plane.until('it waits', () => whyNot(plane, 'a') !== undefined)
  assert.match(whyNot(plane, 'a') ?? '', /^0\/1 nodes are available: 1 Insufficient memory\. /)
  assert.equal(plane.engine.ensured.length, 0)
  plane.engine.noRoom = undefined
  await plane.until('it is placed', () => isPlaced(plane, 'a'))
})

test('a pod that asks for another node stays where it is: nowhere', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(podKind, pod('lost', { nodeSelector: { disktype: 'ssd' } }))
  await plane.until('it is told why', () => whyNot(plane, 'lost') !== undefined)
  assert.equal(
    whyNot(plane, 'lost'),
    "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. " +
      'preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.',
  )
})

test('a node that takes no pods keeps them waiting, but for daemons, until it does again', async () => {
  await using plane = await TestControlPlane.start()
  const cordon = (unschedulable: boolean | null) =>
    plane.client.patch(nodeKind, { name: 'bulkhead' }, { spec: { unschedulable } }, { type: MERGE })
  await cordon(true)
  const tolerates = (...tolerations: NonNullable<Pod['spec']['tolerations']>) => ({ tolerations })
  const taint = 'node.kubernetes.io/unschedulable'
  await plane.client.create(podKind, pod('waits'))
  await plane.client.create(
    podKind,
    pod('evades', tolerates({ key: taint, operator: 'Exists', effect: 'NoExecute' })),
  )
  await plane.client.create(
    podKind,
    pod('daemon', tolerates({ key: taint, operator: 'Exists', effect: 'NoSchedule' })),
  )
  await plane.client.create(podKind, pod('any', tolerates({ operator: 'Exists' })))
  await plane.until('daemons have a place', () => isPlaced(plane, 'daemon') && isPlaced(plane, 'any'))
  for (const name of ['waits', 'evades']) {
    await plane.until('it is told why', () => whyNot(plane, name) !== undefined)
    assert.equal(
      whyNot(plane, name),
      '0/1 nodes are available: 1 node(s) were unschedulable. ' +
        'preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.',
    )
    assert(!isPlaced(plane, name))
  }
  await cordon(null)
  await plane.until('all are placed', () => isPlaced(plane, 'waits') && isPlaced(plane, 'evades'))
})

test('a more important pod makes the least important ones go, gracefully, and gets their room', async () => {
  await using plane = await TestControlPlane.start()
  plane.engine.autoremove = false
  for (const [name, priority] of [
    ['low', 1],
    ['middle', 5],
  ] as const)
    await plane.client.create(podKind, pod(name, { cpu: '2', priority }))
  await plane.until('both run', () => isPlaced(plane, 'low') && isPlaced(plane, 'middle'))
  await plane.client.create(podKind, pod('high', { cpu: '2', priority: 10 }))
  await plane.until('the least important one is going', () => find(plane, 'low')?.metadata.deletionTimestamp)
  assert.equal(find(plane, 'middle')?.metadata.deletionTimestamp, undefined)
  await plane.until(
    'the other one is promised its room',
    () => find(plane, 'high')?.status?.nominatedNodeName === 'bulkhead',
  )
  assert.equal(
    findCondition(find(plane, 'low')?.status?.conditions, 'DisruptionTarget')?.reason,
    'PreemptionByScheduler',
  )
  // Whoever comes later and is less important cannot take what is about to be free.
  await plane.client.create(podKind, pod('thief', { cpu: '1', priority: 2 }))
  await plane.until('the engine is asked to end it', () => plane.engine.removed.length > 0)
  plane.engine.gone(plane.engine.removed[0]?.id ?? '')
  await plane.until('the important one runs', () => isPlaced(plane, 'high'))
  assert(!isPlaced(plane, 'thief'))
})

test('preemptionPolicy Never makes nobody go', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(podKind, pod('low', { cpu: '4' }))
  await plane.until('it runs', () => isPlaced(plane, 'low'))
  await plane.client.create(podKind, pod('polite', { cpu: '1', priority: 9, preemptionPolicy: 'Never' }))
  await plane.until('it is told why', () => whyNot(plane, 'polite') !== undefined)
  assert.match(whyNot(plane, 'polite') ?? '', /preemption: not eligible due to preemptionPolicy=Never\.$/)
  assert.equal(find(plane, 'low')?.metadata.deletionTimestamp, undefined)
})

test('of equally unimportant pods the one without a disruption budget goes', async () => {
  await using plane = await TestControlPlane.start()
  const budget: PodDisruptionBudget = object('PodDisruptionBudget', 'policy/v1', 'keep', {
    spec: { minAvailable: 1, selector: { matchLabels: { app: 'kept' } } },
  })
  await plane.client.create(podDisruptionBudgetKind, budget)
  for (const name of ['spare', 'kept']) await plane.client.create(podKind, pod(name, { cpu: '2' }))
  await plane.until('both run', () => isPlaced(plane, 'spare') && isPlaced(plane, 'kept'))
  await plane.client.create(podKind, pod('high', { cpu: '2', priority: 10 }))
  await plane.until('it runs', () => isPlaced(plane, 'high'))
  assert(find(plane, 'kept'))
  assert.equal(find(plane, 'spare'), undefined)
})

test('victims are always less important, are enough, and none of them goes in vain', async () => {
  const sizes = fc.array(fc.record({ size: fc.integer({ min: 1, max: 5 }), priority: fc.nat(4) }), {
    maxLength: 8,
  })
  await fc.assert(
    fc.asyncProperty(sizes, fc.integer({ min: 1, max: 12 }), fc.nat(5), async (others, wanted, priority) => {
      const placed = others.map(({ priority: own }, index) =>
        pod(`p${index}`, { priority: own, nodeName: 'bulkhead' }),
      )
      const room = others.reduce((sum, { size }) => sum + size, 0)
      const sizeOf = (each: Pod) => others[placed.indexOf(each)]?.size ?? 0
      const fits = (without: readonly Pod[]) =>
        wanted <= without.reduce((sum, each) => sum + sizeOf(each), 0) && wanted <= room
      const incoming = pod('incoming', { priority })
      const victims = await planVictims(incoming, placed, {
        protectedByBudget: () => new Set(),
        fits: (without) => Promise.resolve(fits(without)),
      })
      const lower = placed.filter((each) => priorityOf(each) < priority)
      if (!victims) return assert(lower.length === 0 || !fits(lower))
      assert(fits(victims))
      assert(victims.every((each) => lower.includes(each)))
      for (const each of victims) assert(!fits(victims.filter((other) => other !== each)))
    }),
  )
})

test('who is more important comes first, then who waits longer', () => {
  const at = (name: string, priority: number, creationTimestamp: string) => {
    const made = pod(name, { priority })
    return { ...made, metadata: { ...made.metadata, creationTimestamp } }
  }
  const pods = [
    at('c', 0, '2026-01-01T00:00:02Z'),
    at('a', 0, '2026-01-01T00:00:01Z'),
    at('b', 7, '2026-01-01T00:00:03Z'),
  ]
  assert.deepEqual(
    pods.sort(byImportance).map(({ metadata }) => metadata.name),
    ['b', 'a', 'c'],
  )
})
