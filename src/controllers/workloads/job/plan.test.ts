import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { job, NOW, object, podSpec } from '../../controllers.testkit.ts'
import type { Job, Pod } from '../../kinds.ts'
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
        () => () => void this.pods.push(podOf(`p${this.made++}`, 'Running')),
      ),
    ]
    for (const step of steps.slice(0, writes)) step()
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
