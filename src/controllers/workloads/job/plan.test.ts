import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { job, NOW, object, podSpec } from '../../controllers.testkit.ts'
import type { Job, Pod } from '../../kinds.ts'
import { FAILURE_COUNT_ANNOTATION } from './failures.ts'
import { INDEX_LABEL, parseIndexes, renderIndexes } from './indexes.ts'
import { backoffMs, isTracked, planJob, TRACKING_FINALIZER } from './plan.ts'

const NOW_MS = Date.parse(NOW)
const isGoing = (pod: Pod) => pod.metadata.deletionTimestamp !== undefined

function podOf(name: string, phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed', finishedAt = NOW): Pod {
  return object(
    'Pod',
    'v1',
    name,
    {
      spec: podSpec,
      status: {
        phase,
        containerStatuses: [
          {
            name: 'web',
            image: '',
            imageID: '',
            ready: false,
            restartCount: 0,
            state: { terminated: { exitCode: 0, finishedAt } },
          },
        ],
      },
    },
    { uid: name, finalizers: [TRACKING_FINALIZER] },
  )
}

test('the wait before the next pod doubles with every failure since the last success', () => {
  const failedAt = (seconds: number) =>
    podOf(`f${seconds}`, 'Failed', new Date(NOW_MS + seconds * 1_000).toISOString())
  const succeededAt = (seconds: number) =>
    podOf(`s${seconds}`, 'Succeeded', new Date(NOW_MS + seconds * 1_000).toISOString())
  assert.equal(backoffMs([], NOW_MS), 0)
  assert.equal(backoffMs([failedAt(0)], NOW_MS), 10_000)
  assert.equal(backoffMs([failedAt(0), failedAt(5)], NOW_MS + 5_000), 20_000)
  assert.equal(backoffMs([failedAt(0), failedAt(5)], NOW_MS + 24_000), 1_000)
  assert.equal(backoffMs([failedAt(0), succeededAt(3), failedAt(5)], NOW_MS + 5_000), 10_000)
  const many = Array.from({ length: 30 }, (_, index) => failedAt(index))
  assert.equal(backoffMs(many, NOW_MS + 29_000), 600_000, 'never more than ten minutes')
})

test('a job without completions is done with the first success, when the others have ended', () => {
  const queue = job('q', { parallelism: 3 })
  delete queue.spec.completions
  const first = planJob(queue, [podOf('a', 'Succeeded'), podOf('b', 'Running')], { nowMs: NOW_MS, isGoing })
  assert.equal(first.create, 0)
  assert.deepEqual(first.remove, [])
  assert.ok(!first.status.conditions?.length)
  const last = planJob(
    { ...queue, status: first.status },
    [podOf('a', 'Succeeded'), podOf('b', 'Succeeded')],
    { nowMs: NOW_MS, isGoing },
  )
  assert.equal(last.status.conditions?.[0]?.type, 'SuccessCriteriaMet')
})

test('a job whose time is over waits for the ends of its pods, and is not looked at again and again', () => {
  const late = { ...job('late', { activeDeadlineSeconds: 10 }), status: { startTime: NOW, active: 1 } }
  const pods = [podOf('a', 'Running')]
  const before = planJob(late, pods, { nowMs: NOW_MS + 4_000, isGoing })
  assert.equal(before.requeueAfterMs, 6_000)
  const over = planJob(late, pods, { nowMs: NOW_MS + 10_000, isGoing })
  assert.deepEqual([over.remove.length, over.spare, over.requeueAfterMs], [1, false, undefined])
  const condition = { type: 'Failed', status: 'True' as const, reason: 'x', message: '' }
  const timeless = { ...job('odd', { ttlSecondsAfterFinished: 1 }), status: { conditions: [condition] } }
  const { expired, requeueAfterMs } = planJob(timeless, [], { nowMs: NOW_MS, isGoing })
  assert.deepEqual([expired, requeueAfterMs], [false, undefined])
})

test('what was decided stays decided', () => {
  const failed = job('f', { backoffLimit: 0, completions: 1 })
  const first = planJob(failed, [podOf('a', 'Failed')], { nowMs: NOW_MS, isGoing })
  assert.deepEqual(
    first.status.conditions?.map((c) => c.type),
    ['FailureTarget'],
  )
  const second = planJob(
    { ...failed, status: first.status },
    [podOf('a', 'Failed'), podOf('b', 'Succeeded')],
    {
      nowMs: NOW_MS,
      isGoing,
    },
  )
  assert.ok(!second.status.conditions?.some((c) => c.type === 'SuccessCriteriaMet' || c.type === 'Complete'))
})

test('restarts of containers count against the limit of a job whose pods are restarted', () => {
  const restarting = job('r', { backoffLimit: 2 })
  restarting.spec.template.spec.restartPolicy = 'OnFailure'
  const pod = podOf('a', 'Running')
  const restarted = (restartCount: number): Pod => ({
    ...pod,
    status: {
      ...pod.status,
      containerStatuses: (pod.status?.containerStatuses ?? []).map((c) => ({ ...c, restartCount })),
    },
  })
  const reason = (restartCount: number) =>
    planJob(restarting, [restarted(restartCount)], { nowMs: NOW_MS, isGoing }).status.conditions?.[0]?.reason
  assert.equal(reason(1), undefined)
  assert.equal(reason(2), 'BackoffLimitExceeded')
})

/** A cluster of one job in which every step of its controller may be the last before a crash. */
class Cluster {
  job: Job
  pods: Pod[] = []
  nowMs = NOW_MS
  made = 0
  ended = { Succeeded: 0, Failed: 0 }

  constructor(given: Job) {
    this.job = given
  }

  /** Runs the controller; `writes` of its writes go through. */
  reconcile(writes: number): void {
    const plan = planJob(this.job, this.pods, { nowMs: this.nowMs, isGoing })
    const steps = [
      () => void (this.job = { ...this.job, status: plan.status }),
      ...plan.unfinalize.map((pod) => () => this.unfinalize(pod)),
      ...plan.remove.map((pod) => () => this.delete(pod)),
      ...Array.from(
        { length: plan.create },
        (_, at) => () => void this.pods.push(this.make(plan.indexes?.[at], plan.attempts)),
      ),
    ]
    for (const step of steps.slice(0, writes)) step()
  }

  private make(index: number | undefined, attempts: ReturnType<typeof planJob>['attempts']): Pod {
    const pod = podOf(`p${this.made++}`, 'Running')
    if (index === undefined) return pod
    const annotations = {
      [INDEX_LABEL]: String(index),
      [FAILURE_COUNT_ANNOTATION]: String(attempts?.get(index)?.failures ?? 0),
    }
    return { ...pod, metadata: { ...pod.metadata, annotations } }
  }

  private unfinalize(pod: Pod): void {
    this.pods = this.pods
      .map((p) =>
        p.metadata.uid === pod.metadata.uid ? { ...p, metadata: { ...p.metadata, finalizers: [] } } : p,
      )
      .filter((p) => isTracked(p) || !p.metadata.deletionTimestamp)
  }

  delete(pod: Pod): void {
    this.pods = this.pods
      .map((p) =>
        p.metadata.uid === pod.metadata.uid
          ? { ...p, metadata: { ...p.metadata, deletionTimestamp: new Date(this.nowMs).toISOString() } }
          : p,
      )
      .filter((p) => isTracked(p) || !p.metadata.deletionTimestamp)
  }

  end(index: number, phase: 'Succeeded' | 'Failed'): void {
    const running = this.pods.filter(
      (pod) => pod.status?.phase === 'Running' && !pod.metadata.deletionTimestamp,
    )
    const chosen = running[index % Math.max(1, running.length)]
    if (!chosen) return
    this.ended[phase] += 1
    const finishedAt = new Date(this.nowMs).toISOString()
    this.pods = this.pods.map((pod) =>
      pod === chosen ? { ...podOf(pod.metadata.uid, phase, finishedAt), metadata: pod.metadata } : pod,
    )
  }
}

test('pods are counted exactly once, whatever ends, is deleted or crashes in between', () => {
  const happening = fc.record({
    what: fc.constantFrom(
      'Succeeded' as const,
      'Succeeded' as const,
      'Failed' as const,
      'delete' as const,
      'nothing' as const,
    ),
    which: fc.nat(10),
    writes: fc.constantFrom(0, 1, 2, 3, 100, 100),
  })
  fc.assert(
    fc.property(
      fc.record({ completions: fc.integer({ min: 1, max: 6 }), parallelism: fc.integer({ min: 1, max: 4 }) }),
      fc.array(happening, { maxLength: 60 }),
      (spec, happenings) => {
        const cluster = new Cluster(job('j', { ...spec, backoffLimit: 100 }))
        for (const { what, which, writes } of happenings) {
          if (what === 'Succeeded' || what === 'Failed') cluster.end(which, what)
          const victim = cluster.pods[which % Math.max(1, cluster.pods.length)]
          // Pods that have ended may be cleaned away by anybody at any time.
          if (what === 'delete' && victim) {
            if (victim.status?.phase === 'Running' && !victim.metadata.deletionTimestamp)
              cluster.ended.Failed += 1
            cluster.delete(victim)
          }
          cluster.nowMs += 1_000_000
          cluster.reconcile(writes)
          const alive = cluster.pods.filter(
            (p) => p.status?.phase === 'Running' && !p.metadata.deletionTimestamp,
          )
          assert.ok(alive.length <= spec.parallelism, 'never more than parallelism')
        }
        // Left in peace it counts everything that ended.
        for (let round = 0; round < 5; round += 1) {
          cluster.nowMs += 1_000_000
          cluster.reconcile(100)
        }
        const { succeeded = 0, failed = 0, uncountedTerminatedPods } = cluster.job.status ?? {}
        assert.equal(uncountedTerminatedPods, undefined)
        assert.equal(succeeded, cluster.ended.Succeeded)
        const over = cluster.job.status?.conditions?.some((c) => c.type === 'Complete')
        // Pods that the job itself stopped when it was done count as failed, as upstream counts them.
        if (!over) assert.equal(failed, cluster.ended.Failed)
        assert.ok(over || succeeded < spec.completions)
      },
    ),
    { numRuns: 300 },
  )
})

const indexed = (spec: Partial<Job['spec']> = {}) =>
  job('i', { completionMode: 'Indexed', completions: 5, parallelism: 3, ...spec })
const indexPod = (index: number, phase: 'Running' | 'Succeeded' | 'Failed', name = `p${index}`): Pod => {
  const pod = podOf(name, phase, '2025-12-31T00:00:00Z')
  return { ...pod, metadata: { ...pod.metadata, annotations: { [INDEX_LABEL]: String(index) } } }
}

test('an Indexed Job has one pod for each index, the smallest first', () => {
  const plan = (given: Job, pods: Pod[]) => planJob(given, pods, { nowMs: NOW_MS, isGoing })
  assert.deepEqual(plan(indexed(), []).indexes, [0, 1, 2])
  const second = plan(indexed(), [indexPod(0, 'Succeeded'), indexPod(2, 'Running')])
  assert.deepEqual(
    [second.indexes, second.status.succeeded, second.status.completedIndexes],
    [[1, 3], 1, '0'],
  )
  const twice = plan(indexed(), [
    indexPod(1, 'Running', 'a'),
    indexPod(1, 'Running', 'b'),
    indexPod(9, 'Running'),
  ])
  assert.equal(twice.remove.length, 2, 'a second pod of an index and one of an index that is not asked for')
  const done = plan({ ...indexed(), status: { completedIndexes: '0-3' } }, [indexPod(4, 'Succeeded')])
  assert.deepEqual([done.status.succeeded, done.status.completedIndexes], [5, '0-4'])
  assert.equal(done.status.conditions?.[0]?.type, 'SuccessCriteriaMet')
})

test('indexes are written short and read back', () => {
  assert.equal(renderIndexes(new Set([7, 0, 2, 3, 4])), '0,2-4,7')
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(200)), (list) => {
      assert.deepEqual(
        [...parseIndexes(renderIndexes(new Set(list)), 201)],
        list.toSorted((a, b) => a - b),
      )
    }),
  )
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.stringMatching(/^[0-9,-]{0,20}$/)),
      fc.nat(1_000),
      (text, completions) => {
        for (const index of parseIndexes(text, completions)) assert.ok(index >= 0 && index < completions)
      },
    ),
  )
})

const plan = (given: Job, pods: Pod[], nowMs = NOW_MS) => planJob(given, pods, { nowMs, isGoing })
const conditionsOf = (given: { status: Job['status'] }) =>
  given.status?.conditions?.map(({ type, reason }) => `${type}: ${reason}`) ?? []
const exited = (pod: Pod, exitCode: number, attempts: Record<string, string> = {}): Pod => ({
  ...pod,
  metadata: { ...pod.metadata, annotations: { ...pod.metadata.annotations, ...attempts } },
  status: {
    ...pod.status,
    containerStatuses: (pod.status?.containerStatuses ?? []).map((container) => ({
      ...container,
      state: { terminated: { exitCode, finishedAt: '2025-12-31T00:00:00Z' } },
    })),
  },
})
const inCondition = (pod: Pod, type: string): Pod => ({
  ...pod,
  status: { ...pod.status, conditions: [{ type, status: 'True' }] },
})

test('the first rule that fits a failed pod decides what its failure means', () => {
  const rules: NonNullable<Job['spec']['podFailurePolicy']>['rules'] = [
    { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] },
    { action: 'FailJob', onExitCodes: { containerName: 'web', operator: 'In', values: [42] } },
    { action: 'Count', onExitCodes: { operator: 'NotIn', values: [1, 2] } },
  ]
  const given = job('p', { backoffLimit: 0, podReplacementPolicy: 'Failed', podFailurePolicy: { rules } })
  const failed = podOf('a', 'Failed', '2025-12-31T00:00:00Z')
  const fatal = plan(given, [exited(failed, 42)])
  assert.deepEqual(conditionsOf(fatal), ['FailureTarget: PodFailurePolicy'])
  assert.equal(
    fatal.status.conditions?.[0]?.message,
    'Container web for pod default/a failed with exit code 42 matching FailJob rule at index 1',
  )
  const ignored = plan(given, [inCondition(exited(failed, 42), 'DisruptionTarget')])
  assert.deepEqual(
    [
      conditionsOf(ignored),
      ignored.unfinalize.length,
      ignored.status.uncountedTerminatedPods,
      ignored.create,
    ],
    [[], 1, undefined, 1],
    'another one takes its place, and nothing is counted',
  )
  const counted = plan(given, [exited(failed, 1)])
  assert.deepEqual(conditionsOf(counted), ['FailureTarget: BackoffLimitExceeded'])
})

test('a pod is replaced once it has ended, when the job says so', () => {
  const going = (phase: 'Running' | 'Failed') => {
    const pod = podOf('a', phase, '2025-12-31T00:00:00Z')
    return { ...pod, metadata: { ...pod.metadata, deletionTimestamp: '2025-12-31T00:00:00Z' } }
  }
  const waiting = job('w', { podReplacementPolicy: 'Failed' })
  const before = plan(waiting, [going('Running')])
  assert.deepEqual([before.create, before.status.terminating, before.unfinalize], [0, 1, []])
  const after = plan(waiting, [going('Failed')])
  assert.deepEqual([after.create, after.status.uncountedTerminatedPods], [1, { failed: ['a'] }])
  assert.equal(plan(job('h', {}), [going('Running')]).create, 1, 'otherwise at once')
  const indexes = indexed({ podReplacementPolicy: 'Failed', completions: 1, parallelism: 1 })
  const last = {
    ...going('Running'),
    metadata: { ...going('Running').metadata, annotations: { [INDEX_LABEL]: '0' } },
  }
  assert.equal(plan(indexes, [last]).create, 0)
})

test('an index that has failed too often is given up, and the others go on', () => {
  const given = indexed({ backoffLimitPerIndex: 1, completions: 3, parallelism: 3, backoffLimit: 1_000 })
  const once = plan(given, [exited(indexPod(0, 'Failed'), 1), indexPod(1, 'Running'), indexPod(2, 'Running')])
  assert.deepEqual(once.indexes, [0])
  assert.deepEqual(once.attempts?.get(0), { failures: 1, ignored: 0 })
  assert.deepEqual(once.unfinalize, [], 'its pod stays until another one tells how often it failed')
  const second = exited(indexPod(0, 'Failed', 'second'), 1, { [FAILURE_COUNT_ANNOTATION]: '1' })
  const twice = plan(given, [exited(indexPod(0, 'Failed'), 1), second, indexPod(1, 'Running')])
  assert.equal(twice.status.failedIndexes, '0')
  assert.deepEqual(twice.indexes, [2])
  assert.equal(twice.unfinalize.length, 2)
  const over = plan({ ...given, status: { failedIndexes: '0', completedIndexes: '1' } }, [
    indexPod(2, 'Succeeded'),
  ])
  assert.deepEqual(conditionsOf(over), ['FailureTarget: FailedIndexes', 'Failed: FailedIndexes'])
  const tooMany = plan({ ...given, spec: { ...given.spec, maxFailedIndexes: 0 } }, [second])
  assert.deepEqual(conditionsOf(tooMany), ['FailureTarget: MaxFailedIndexesExceeded'])
})

test('an index that keeps failing waits without holding up the others, and a rule gives it up at once', () => {
  const rules = [{ action: 'FailIndex' as const, onExitCodes: { operator: 'In' as const, values: [9] } }]
  const given = indexed({
    backoffLimitPerIndex: 5,
    completions: 3,
    parallelism: 2,
    podReplacementPolicy: 'Failed',
    podFailurePolicy: { rules },
  })
  const failing = exited(indexPod(0, 'Failed'), 1)
  const justNow = plan(given, [failing], Date.parse('2025-12-31T00:00:04Z'))
  assert.deepEqual([justNow.indexes, justNow.requeueAfterMs], [[1, 2], 6_000])
  const givenUp = plan(given, [exited(indexPod(0, 'Failed'), 9)])
  assert.deepEqual([givenUp.status.failedIndexes, givenUp.indexes], ['0', [1, 2]])
})

test('a job has done enough when one of its rules is met', () => {
  const given = indexed({
    successPolicy: { rules: [{ succeededIndexes: '0-1' }, { succeededIndexes: '2-4', succeededCount: 1 }] },
  })
  assert.deepEqual(conditionsOf(plan(given, [indexPod(0, 'Succeeded'), indexPod(1, 'Running')])), [])
  const done = plan(given, [indexPod(0, 'Running'), indexPod(3, 'Succeeded')])
  assert.deepEqual(conditionsOf(done), ['SuccessCriteriaMet: SuccessPolicy'])
  assert.equal(done.status.conditions?.[0]?.message, 'Matched rules at index 1')
  assert.deepEqual(
    done.remove.map((pod) => pod.metadata.uid),
    ['p0'],
    'the others are stopped',
  )
  const counted = indexed({ successPolicy: { rules: [{ succeededCount: 2 }] } })
  const both = [indexPod(0, 'Succeeded'), indexPod(4, 'Succeeded')]
  assert.deepEqual(conditionsOf(plan(counted, both)), [
    'SuccessCriteriaMet: SuccessPolicy',
    'Complete: SuccessPolicy',
  ])
})

test('every failure of every index is counted once and no index is tried too often, whatever crashes', () => {
  const step = fc.record({
    which: fc.nat(10),
    exitCode: fc.constantFrom(0, 1, 9),
    writes: fc.constantFrom(0, 1, 2, 100, 100),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.integer({ min: 0, max: 2 }), (steps, limit) => {
      const cluster = new Cluster(
        indexed({
          backoffLimitPerIndex: limit,
          backoffLimit: 1_000,
          podReplacementPolicy: 'Failed',
          podFailurePolicy: {
            rules: [{ action: 'FailIndex', onExitCodes: { operator: 'In', values: [9] } }],
          },
        }),
      )
      const failures = new Map<number, number>()
      for (const { which, exitCode, writes } of steps) {
        const running = cluster.pods.filter((pod) => pod.status?.phase === 'Running' && !isGoing(pod))
        const chosen = running[which % Math.max(1, running.length)]
        if (chosen) {
          const ended = podOf(chosen.metadata.uid, exitCode === 0 ? 'Succeeded' : 'Failed')
          const index = Number(chosen.metadata.annotations?.[INDEX_LABEL])
          if (exitCode !== 0) failures.set(index, (failures.get(index) ?? 0) + 1)
          cluster.pods = cluster.pods.map((pod) =>
            pod === chosen ? { ...exited({ ...ended, metadata: pod.metadata }, exitCode) } : pod,
          )
        }
        cluster.nowMs += 10_000_000
        cluster.reconcile(writes)
        for (const [index, count] of failures)
          assert.ok(count <= limit + 1, `index ${index} failed ${count} times`)
        const indexes = cluster.pods
          .filter((pod) => pod.status?.phase === 'Running')
          .map((pod) => pod.metadata.annotations?.[INDEX_LABEL])
        assert.equal(new Set(indexes).size, indexes.length, 'one pod for each index')
      }
      for (let round = 0; round < 8; round += 1) {
        cluster.nowMs += 10_000_000
        cluster.reconcile(100)
      }
      const { failedIndexes = '', completedIndexes = '', failed = 0 } = cluster.job.status ?? {}
      const both = parseIndexes(failedIndexes, 5).intersection(parseIndexes(completedIndexes, 5))
      assert.equal(both.size, 0, 'no index has both failed and succeeded')
      const total = [...failures.values()].reduce((sum, count) => sum + count, 0)
      assert.ok(failed <= total + 5)
    }),
    { numRuns: 150 },
  )
})
