import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NOW, object, podTemplate } from '../../controllers.testkit.ts'
import type { DaemonSet, Pod } from '../../kinds.ts'
import { REVISION_LABEL } from '../history.ts'
import { planNode, planStatus } from './plan.ts'

const NOW_MS = Date.parse(NOW)
const isGoing = (pod: Pod) => pod.metadata.deletionTimestamp !== undefined

function daemonSet(updateStrategy: DaemonSet['spec']['updateStrategy']): DaemonSet {
  return object('DaemonSet', 'apps/v1', 'agent', {
    spec: { selector: { matchLabels: { app: 'a' } }, template: podTemplate('a'), updateStrategy },
  })
}
const rolling = daemonSet({ type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1, maxSurge: 0 } })
const surging = daemonSet({ type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: '10%' } })
const onDelete = daemonSet({ type: 'OnDelete' })

function podOf(name: string, hash: string, state: 'ready' | 'pending' | 'going' | 'failed' = 'ready'): Pod {
  const status = state === 'ready' ? 'True' : 'False'
  return object(
    'Pod',
    'v1',
    name,
    {
      spec: { containers: [], nodeName: 'bulkhead' },
      status: {
        phase: state === 'failed' ? 'Failed' : state === 'ready' ? 'Running' : 'Pending',
        conditions: [{ type: 'Ready', status, lastTransitionTime: NOW }],
      },
    },
    { labels: { [REVISION_LABEL]: hash }, ...(state === 'going' ? { deletionTimestamp: NOW } : {}) },
  )
}

function steps(set: DaemonSet, ...pods: Pod[]): string {
  const { create, remove } = planNode(set, pods, { nowMs: NOW_MS, isGoing, hash: 'new', fits: true })
  return [...(create ? ['+'] : []), ...remove.map((pod) => `-${pod.metadata.name}`)].join(' ')
}

test('the node has one pod; its successor comes when it is gone', () => {
  assert.equal(steps(rolling), '+')
  assert.equal(steps(rolling, podOf('a', 'new', 'pending')), '')
  assert.equal(steps(rolling, podOf('a', 'new'), podOf('b', 'new')), '-b')
  assert.equal(steps(rolling, podOf('a', 'new', 'going')), '')
  assert.equal(steps(rolling, podOf('a', 'new', 'failed')), '-a')
})

test('a rolling update stops the old pod first', () => {
  assert.equal(steps(rolling, podOf('a', 'old')), '-a')
  assert.equal(steps(rolling, podOf('a', 'old', 'going')), '')
  assert.equal(steps(rolling, podOf('a', 'new')), '')
})

test('with maxSurge the new pod is there first', () => {
  assert.equal(steps(surging, podOf('a', 'old')), '+')
  assert.equal(steps(surging, podOf('a', 'old'), podOf('b', 'new', 'pending')), '')
  assert.equal(steps(surging, podOf('a', 'old'), podOf('b', 'new')), '-a')
  assert.equal(steps(surging, podOf('a', 'old', 'pending'), podOf('b', 'new', 'pending')), '-a')
  assert.equal(steps(surging, podOf('b', 'new')), '')
})

test('OnDelete leaves old pods alone', () => {
  assert.equal(steps(onDelete, podOf('a', 'old')), '')
  assert.equal(steps(onDelete), '+')
})

test('the status counts the one node', () => {
  const { status } = planStatus(rolling, [podOf('a', 'old')], { nowMs: NOW_MS, hash: 'new', fits: true })
  assert.deepEqual(status, {
    currentNumberScheduled: 1,
    desiredNumberScheduled: 1,
    numberMisscheduled: 0,
    numberReady: 1,
    updatedNumberScheduled: 0,
    numberAvailable: 1,
    numberUnavailable: 0,
    observedGeneration: 1,
  })
  const later = { ...rolling, spec: { ...rolling.spec, minReadySeconds: 5 } }
  const waiting = planStatus(later, [podOf('a', 'new')], { nowMs: NOW_MS + 2_000, hash: 'new', fits: true })
  assert.deepEqual([waiting.status.numberAvailable, waiting.availableInMs], [0, 3_000])
})

test('a pod that is not wanted on the node is waited for, and not looked at again and again', () => {
  const plan = planStatus(rolling, [podOf('a', 'new')], { nowMs: NOW_MS, hash: 'new', fits: false })
  assert.deepEqual([plan.status.numberMisscheduled, plan.availableInMs], [1, undefined])
})
