import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { NOW, object, podSpec, replicaSet } from '../controllers.testkit.ts'
import type { Pod, PodStatus } from '../kinds.ts'
import { availableAtMs, compareForDeletion, createInBatches, planClaims } from './pods.ts'
import { planReplicas, planStatus } from './replicaset/plan.ts'

const NOW_MS = Date.parse(NOW) + 3_600_000
const isGoing = (pod: Pod) => pod.metadata.deletionTimestamp !== undefined

function podOf(
  name: string,
  {
    phase = 'Running',
    ready = true,
    readyFor = 600,
    nodeName = 'bulkhead',
    cost,
    restartCount = 0,
    age = 600,
    ...metadata
  }: Record<string, unknown> & {
    phase?: NonNullable<PodStatus['phase']>
    ready?: boolean
    readyFor?: number
    nodeName?: string
    cost?: number
    restartCount?: number
    age?: number
  } = {},
): Pod {
  const at = (seconds: number) => new Date(NOW_MS - seconds * 1_000).toISOString()
  return object(
    'Pod',
    'v1',
    name,
    {
      spec: { ...podSpec, ...(nodeName ? { nodeName } : {}) },
      status: {
        phase,
        conditions: [{ type: 'Ready', status: ready ? 'True' : 'False', lastTransitionTime: at(readyFor) }],
        containerStatuses: [{ name: 'web', image: '', imageID: '', ready, restartCount }],
      },
    },
    {
      uid: name,
      creationTimestamp: at(age),
      labels: { app: 'web' },
      ...(cost === undefined
        ? {}
        : { annotations: { 'controller.kubernetes.io/pod-deletion-cost': String(cost) } }),
      ...metadata,
    },
  )
}

test('pods are deleted in upstream’s order of preference', () => {
  const order = [
    podOf('unassigned', { nodeName: '', phase: 'Pending', ready: false }),
    podOf('pending', { phase: 'Pending', ready: false }),
    podOf('unready', { ready: false }),
    podOf('cheap', { cost: -5 }),
    podOf('just ready', { readyFor: 0 }),
    podOf('ready for a while', { readyFor: 100 }),
    podOf('restarted', { restartCount: 4 }),
    podOf('young', { age: 20 }),
    podOf('old', { age: 5_000 }),
    podOf('expensive', { cost: 10, age: 5_000 }),
  ]
  const names = (pods: readonly Pod[]) => pods.map((pod) => pod.metadata.name)
  fc.assert(
    fc.property(fc.shuffledSubarray(order, { minLength: order.length }), (shuffled) => {
      const sorted = shuffled.toSorted((a, b) => compareForDeletion(a, b, NOW_MS))
      assert.deepEqual(names(sorted), names(order))
    }),
  )
})

test('a ReplicaSet makes what is missing and deletes what is too much, counting only pods that are to stay', () => {
  const set = replicaSet('web', { replicas: 2 })
  const plan = (pods: readonly Pod[]) => {
    const { create, remove } = planReplicas(set, pods, { nowMs: NOW_MS, isGoing })
    return { create, remove: remove.map((pod) => pod.metadata.name) }
  }
  assert.deepEqual(plan([]), { create: 2, remove: [] })
  assert.deepEqual(plan([podOf('a'), podOf('b')]), { create: 0, remove: [] })
  assert.deepEqual(plan([podOf('a'), podOf('b', { phase: 'Failed', ready: false })]), {
    create: 1,
    remove: [],
  })
  assert.deepEqual(plan([podOf('a'), podOf('b', { deletionTimestamp: NOW })]), { create: 1, remove: [] })
  assert.deepEqual(plan([podOf('a'), podOf('b', { ready: false }), podOf('c')]), { create: 0, remove: ['b'] })
  const dying = { ...set, metadata: { ...set.metadata, deletionTimestamp: NOW } }
  assert.deepEqual(planReplicas(dying, [], { nowMs: NOW_MS, isGoing }), { create: 0, remove: [] })
})

test('a pod is available once it was ready for minReadySeconds, and the status says when to look again', () => {
  assert.equal(availableAtMs(podOf('a', { ready: false }), 10), undefined)
  assert.equal(availableAtMs(podOf('a', { readyFor: 4 }), 10), NOW_MS + 6_000)
  const set = replicaSet('web', { replicas: 2, minReadySeconds: 10 })
  const { status, availableInMs } = planStatus(
    set,
    [podOf('a', { readyFor: 4 }), podOf('b', { readyFor: 20 })],
    {
      nowMs: NOW_MS,
      isGoing,
    },
  )
  assert.deepEqual([status.replicas, status.readyReplicas, status.availableReplicas], [2, 2, 1])
  assert.equal(availableInMs, 6_000)
})

test('only what nobody controls is adopted, and what is being deleted is left alone', () => {
  const set = replicaSet('web')
  const controller = (uid: string) => [
    { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'x', uid, controller: true },
  ]
  const pods = [
    podOf('own', { ownerReferences: controller(set.metadata.uid) }),
    podOf('foreign', { ownerReferences: controller('another') }),
    podOf('free'),
    podOf('leaving', { labels: { app: 'other' }, ownerReferences: controller(set.metadata.uid) }),
    podOf('dying', { deletionTimestamp: NOW }),
    podOf('unrelated', { labels: {} }),
  ]
  const names = ({ own, adopt, release }: ReturnType<typeof planClaims<Pod>>) =>
    [own, adopt, release].map((list) => list.map((pod) => pod.metadata.name))
  assert.deepEqual(names(planClaims(set, set.spec.selector, pods)), [['own'], ['free'], ['leaving']])
  const dying = { ...set, metadata: { ...set.metadata, deletionTimestamp: NOW } }
  assert.deepEqual(names(planClaims(dying, set.spec.selector, pods)), [['own'], [], []])
})

test('batches double while all succeed and stop at the first that does not', async () => {
  const sizes: number[] = []
  let calls = 0
  let turn: number | undefined
  const result = await createInBatches(10, 1, async () => {
    calls += 1
    turn ??= sizes.push(0) - 1
    sizes[turn] = (sizes[turn] ?? 0) + 1
    await Promise.resolve()
    turn = undefined
    if (calls > 7) throw new Error('enough')
  })
  assert.deepEqual(sizes, [1, 2, 4, 3])
  assert.equal(result.created, 7)
  assert.match(String(result.error), /enough/)
})
