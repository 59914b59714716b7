import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { NOW, object, podTemplate } from '../../controllers.testkit.ts'
import type { Pod, StatefulSet } from '../../kinds.ts'
import { REVISION_LABEL } from '../history.ts'
import { missingLabels, planPods, planStatus, podOfSet, type StatefulSetPlan } from './plan.ts'

const NOW_MS = Date.parse(NOW)
const REVISIONS = { current: 'web-old', update: 'web-new' }
const isGoing = (pod: Pod) => pod.metadata.deletionTimestamp !== undefined

function statefulSet(spec: Partial<StatefulSet['spec']> = {}): StatefulSet {
  return object('StatefulSet', 'apps/v1', 'web', {
    spec: {
      replicas: 3,
      serviceName: 'peers',
      selector: { matchLabels: { app: 'web' } },
      template: podTemplate('web'),
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 0 } },
      ...spec,
    },
  })
}

type State = 'ready' | 'pending' | 'going' | 'failed'

function podOf(ordinal: number, state: State = 'ready', revision = REVISIONS.update): Pod {
  const name = `web-${ordinal}`
  const ready = state === 'ready' || state === 'going'
  return object(
    'Pod',
    'v1',
    name,
    {
      spec: { containers: [] },
      status: {
        phase: state === 'failed' ? 'Failed' : ready ? 'Running' : 'Pending',
        conditions: [{ type: 'Ready', status: ready ? 'True' : 'False', lastTransitionTime: NOW }],
      },
    },
    {
      uid: name,
      labels: {
        'statefulset.kubernetes.io/pod-name': name,
        'apps.kubernetes.io/pod-index': String(ordinal),
        [REVISION_LABEL]: revision,
      },
      ...(state === 'going' ? { deletionTimestamp: NOW } : {}),
    },
  )
}

const plan = (set: StatefulSet, pods: Pod[]) => planPods(set, pods, REVISIONS, { nowMs: NOW_MS, isGoing })
const brief = ({ create, remove }: StatefulSetPlan) => [
  ...create.map(({ ordinal, revision }) => `+${ordinal}${revision === 'current' ? ' old' : ''}`),
  ...remove.map((pod) => `-${pod.metadata.name.slice(4)}`),
]
const steps = (set: StatefulSet, pods: Pod[]) => brief(plan(set, pods)).join(' ')

test('pods are made one after another, each when the one before is ready', () => {
  assert.equal(steps(statefulSet(), []), '+0')
  assert.equal(steps(statefulSet(), [podOf(0, 'pending')]), '')
  assert.equal(steps(statefulSet(), [podOf(0)]), '+1')
  assert.equal(steps(statefulSet(), [podOf(0), podOf(2)]), '+1')
  assert.equal(steps(statefulSet(), [podOf(0), podOf(1), podOf(2)]), '')
})

test('with Parallel all are made and deleted at once', () => {
  const set = statefulSet({ podManagementPolicy: 'Parallel' })
  assert.equal(steps(set, [podOf(1, 'pending')]), '+0 +2')
  assert.equal(
    steps(
      set,
      [0, 1, 2, 3, 4].map((n) => podOf(n, 'pending')),
    ),
    '-4 -3',
  )
})

test('pods too many go from the largest number down, one at a time, and only while the others are well', () => {
  assert.equal(
    steps(
      statefulSet(),
      [0, 1, 2, 3, 4].map((n) => podOf(n)),
    ),
    '-4',
  )
  assert.equal(steps(statefulSet(), [podOf(0), podOf(1), podOf(2), podOf(3), podOf(4, 'going')]), '')
  assert.equal(
    steps(statefulSet(), [podOf(0), podOf(1, 'pending'), podOf(2), podOf(3)]),
    '',
    'one below is ill',
  )
  assert.equal(
    steps(statefulSet(), [podOf(0), podOf(1), podOf(2), podOf(3, 'pending')]),
    '-3',
    'the ill one itself',
  )
  assert.equal(
    steps(statefulSet({ replicas: 1 }), [podOf(0), podOf(1, 'pending'), podOf(2, 'pending')]),
    '',
    'not the second that is ill',
  )
})

test('numbers begin where the set says', () => {
  const set = statefulSet({ ordinals: { start: 5 }, replicas: 2 })
  assert.equal(steps(set, []), '+5')
  assert.equal(steps(set, [podOf(0), podOf(5), podOf(6)]), '-0')
})

test('a pod that has ended is deleted, and made again once it is gone', () => {
  assert.equal(steps(statefulSet(), [podOf(0, 'failed'), podOf(1), podOf(2)]), '-0')
  const ending = podOf(0, 'failed')
  ending.metadata.deletionTimestamp = NOW
  assert.equal(steps(statefulSet(), [ending, podOf(1), podOf(2)]), '')
})

test('a rolling update replaces the largest number first and waits for it', () => {
  const old = (n: number, state: State = 'ready') => podOf(n, state, REVISIONS.current)
  assert.equal(steps(statefulSet(), [old(0), old(1), old(2)]), '-2')
  assert.equal(steps(statefulSet(), [old(0), old(1), old(2, 'going')]), '')
  assert.equal(steps(statefulSet(), [old(0), old(1)]), '+2')
  assert.equal(steps(statefulSet(), [old(0), old(1), podOf(2, 'pending')]), '')
  assert.equal(steps(statefulSet(), [old(0), old(1), podOf(2)]), '-1')
  assert.equal(steps(statefulSet(), [old(0), podOf(1), podOf(2)]), '-0')
})

test('a partition keeps smaller numbers at the old revision, also when they are made again', () => {
  const set = statefulSet({ updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 2 } } })
  const old = (n: number) => podOf(n, 'ready', REVISIONS.current)
  assert.equal(steps(set, [old(0), old(1), old(2)]), '-2')
  assert.equal(steps(set, [old(0), old(1), podOf(2)]), '')
  assert.equal(steps(set, [old(0), podOf(2)]), '+1 old')
  assert.equal(steps(set, [old(0), old(1)]), '+2')
})

test('maxUnavailable lets several be replaced at once', () => {
  const set = statefulSet({
    replicas: 5,
    updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '50%' } },
  })
  const old = (n: number, state: State = 'ready') => podOf(n, state, REVISIONS.current)
  assert.equal(steps(set, [old(0), old(1), old(2), old(3), old(4)]), '-4 -3')
  const parallel = statefulSet({ ...set.spec, podManagementPolicy: 'Parallel' })
  assert.equal(steps(parallel, [old(0), old(1), old(2), old(3), podOf(4, 'pending')]), '-3')
})

test('OnDelete never deletes, and makes new pods from the new template', () => {
  const set = statefulSet({ updateStrategy: { type: 'OnDelete' } })
  const old = (n: number) => podOf(n, 'ready', REVISIONS.current)
  assert.equal(steps(set, [old(0), old(1), old(2)]), '')
  assert.equal(steps(set, [old(0), old(2)]), '+1')
})

test('minReadySeconds holds the next step back', () => {
  const set = statefulSet({ minReadySeconds: 10 })
  assert.equal(steps(set, [podOf(0)]), '')
  const later = planPods(set, [podOf(0)], REVISIONS, { nowMs: NOW_MS + 10_000, isGoing })
  assert.deepEqual(brief(later), ['+1'])
  const { status, availableInMs } = planStatus(set, [podOf(0)], REVISIONS, { nowMs: NOW_MS + 4_000, isGoing })
  assert.deepEqual([status.readyReplicas, status.availableReplicas, availableInMs], [1, 0, 6_000])
})

test('a pod has the name, hostname, subdomain and labels of its number', () => {
  const set = statefulSet()
  const { apiVersion, kind, name, uid } = { ...set, ...set.metadata }
  assert.deepEqual(podOfSet(set, podTemplate('web'), 7, 'web-abc'), {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'web-7',
      namespace: 'default',
      labels: {
        app: 'web',
        'statefulset.kubernetes.io/pod-name': 'web-7',
        'apps.kubernetes.io/pod-index': '7',
        'controller-revision-hash': 'web-abc',
      },
      ownerReferences: [{ apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: true }],
    },
    spec: { ...podTemplate('web').spec, hostname: 'web-7', subdomain: 'peers' },
  })
})

test('a rollout is over when all pods are new and ready', () => {
  const old = (n: number) => podOf(n, 'ready', REVISIONS.current)
  const during = planStatus(statefulSet(), [old(0), podOf(1), podOf(2)], REVISIONS, {
    nowMs: NOW_MS,
    isGoing,
  })
  assert.deepEqual(
    [during.status.currentRevision, during.status.currentReplicas, during.status.updatedReplicas],
    ['web-old', 1, 2],
  )
  const after = planStatus(statefulSet(), [podOf(0), podOf(1), podOf(2)], REVISIONS, {
    nowMs: NOW_MS,
    isGoing,
  })
  assert.deepEqual(
    [after.status.currentRevision, after.status.currentReplicas, after.status.updatedReplicas],
    ['web-new', 3, 3],
  )
})

test('a pod that does not say who it is gets its labels', () => {
  const pod = podOf(1)
  pod.metadata.labels = { [REVISION_LABEL]: REVISIONS.update }
  assert.deepEqual(missingLabels(statefulSet(), pod), {
    'statefulset.kubernetes.io/pod-name': 'web-1',
    'apps.kubernetes.io/pod-index': '1',
  })
  assert.deepEqual(plan(statefulSet(), [podOf(0), pod, podOf(2)]).relabel, [pod])
})

test('in order, at most one pod is ever away by our doing, and every set comes to rest as it wants to be', () => {
  const happening = fc.record({
    what: fc.constantFrom('ready', 'ready', 'gone', 'gone', 'fail', 'delete', 'step', 'step', 'step'),
    which: fc.nat(5),
  })
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 4 }),
      fc.array(fc.constantFrom(REVISIONS.current, REVISIONS.update), { maxLength: 6 }),
      fc.array(happening, { maxLength: 40 }),
      (replicas, revisions, happenings) => {
        const set = statefulSet({ replicas })
        let pods = revisions.map((revision, ordinal) => podOf(ordinal, 'ready', revision))
        const step = () => {
          const { create, remove } = plan(set, pods)
          assert.ok(create.length + remove.length <= 1, 'one step at a time')
          for (const { ordinal, revision } of create) {
            assert.ok(!pods.some((pod) => pod.metadata.name === `web-${ordinal}`), 'no two of a name')
            pods.push(podOf(ordinal, 'pending', REVISIONS[revision]))
          }
          for (const pod of remove) pod.metadata.deletionTimestamp = NOW
          return create.length + remove.length > 0
        }
        for (const { what, which } of happenings) {
          const pod = pods[which % Math.max(1, pods.length)]
          if (what === 'step') step()
          else if (!pod) continue
          else if (what === 'gone') pods = pods.filter((p) => p !== pod || !isGoing(p))
          else if (what === 'delete') pod.metadata.deletionTimestamp = NOW
          // As upstream, a set that shrinks waits for its pods to be well, and one that failed never is.
          else if (!isGoing(pod) && (what === 'ready' || Number(pod.metadata.uid.slice(4)) < replicas))
            pod.status = podOf(0, what === 'ready' ? 'ready' : 'failed').status ?? {}
        }
        for (let round = 0; round < 40; round += 1) {
          pods = pods.filter((pod) => !isGoing(pod))
          for (const pod of pods) if (pod.status?.phase === 'Pending') pod.status = podOf(0).status ?? {}
          if (!step()) break
        }
        assert.deepEqual(
          pods.map((pod) => [pod.metadata.name, pod.metadata.labels?.[REVISION_LABEL]]).sort(),
          Array.from({ length: replicas }, (_, ordinal) => [`web-${ordinal}`, REVISIONS.update]),
        )
      },
    ),
    { numRuns: 300 },
  )
})
