import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NOW, object } from '../../controllers.testkit.ts'
import type { Pod, PodDisruptionBudget } from '../../kinds.ts'
import { planBudget, selects } from './plan.ts'

const NOW_MS = Date.parse(NOW)

function budget(spec: PodDisruptionBudget['spec'], status: PodDisruptionBudget['status'] = {}) {
  return object<PodDisruptionBudget>('PodDisruptionBudget', 'policy/v1', 'b', {
    spec: { selector: {}, ...spec },
    status,
  })
}

function pods(ready: number, unready = 0, owner: string | undefined = 'ReplicaSet'): Pod[] {
  return Array.from({ length: ready + unready }, (_, index) =>
    object<Pod>(
      'Pod',
      'v1',
      `p${index}`,
      { status: { conditions: [{ type: 'Ready', status: index < ready ? 'True' : 'False' }] } },
      owner === undefined
        ? {}
        : { ownerReferences: [{ kind: owner, name: 'o', uid: 'o', controller: true }] },
    ),
  )
}

const scaleOf = ({ kind }: { kind: string }) =>
  kind === 'ReplicaSet' ? { uid: 'o', replicas: 5 } : undefined
const plan = (given: PodDisruptionBudget, of: Pod[]) => planBudget(given, of, { nowMs: NOW_MS, scaleOf })
/** healthy/desired of expected: allowed */
const brief = (given: PodDisruptionBudget, of: Pod[]) => {
  const { currentHealthy, desiredHealthy, expectedPods, disruptionsAllowed } = plan(given, of).status
  return `${currentHealthy}/${desiredHealthy} of ${expectedPods}: ${disruptionsAllowed}`
}

test('numbers and percentages of pods that must stay or may be away', () => {
  assert.equal(brief(budget({ minAvailable: 3 }), pods(5)), '5/3 of 5: 2')
  assert.equal(brief(budget({ minAvailable: 3 }), pods(2, 3)), '2/3 of 5: 0')
  assert.equal(brief(budget({ minAvailable: '50%' }), pods(5)), '5/3 of 5: 2')
  assert.equal(brief(budget({ maxUnavailable: 1 }), pods(5)), '5/4 of 5: 1')
  assert.equal(brief(budget({ maxUnavailable: 1 }), pods(4, 1)), '4/4 of 5: 0')
  assert.equal(brief(budget({ maxUnavailable: '10%' }), pods(5)), '5/4 of 5: 1')
  assert.equal(brief(budget({ maxUnavailable: 9 }), pods(3)), '3/0 of 5: 3')
  assert.equal(brief(budget({ minAvailable: 1 }), pods(0)), '0/1 of 0: 0')
})

test('what nobody can scale cannot be counted, so nothing of it may be evicted', () => {
  const { status, told } = plan(budget({ maxUnavailable: 1 }), pods(3, 0, 'DaemonSet'))
  assert.equal(status.disruptionsAllowed, 0)
  assert.deepEqual(
    status.conditions?.map(({ type, status, reason }) => [type, status, reason]),
    [['DisruptionAllowed', 'False', 'SyncFailed']],
  )
  assert.match(told?.message ?? '', /does not implement the scale subresource/)
  assert.equal(brief(budget({ minAvailable: 1 }), pods(3, 0, 'DaemonSet')), '3/1 of 3: 2')
})

test('pods that were evicted do not count until they are gone, or two minutes have passed', () => {
  const at = (seconds: number) => new Date(NOW_MS - seconds * 1_000).toISOString()
  const evicted = budget({ minAvailable: 3 }, { disruptedPods: { p0: at(30), p1: at(121), gone: at(1) } })
  const { status, recheckInMs } = plan(evicted, pods(5))
  assert.deepEqual([status.currentHealthy, status.disruptionsAllowed], [4, 1])
  assert.deepEqual(Object.keys(status.disruptedPods ?? {}), ['p0'])
  assert.equal(recheckInMs, 90_000)
})

test('an empty selector is about all pods of the namespace, and none about none', () => {
  const [pod] = pods(1)
  assert.ok(pod)
  assert.equal(selects(budget({}), pod), true)
  const without = budget({})
  delete without.spec.selector
  assert.equal(selects(without, pod), false)
  assert.equal(selects(budget({ selector: { matchLabels: { a: 'b' } } }), pod), false)
})
