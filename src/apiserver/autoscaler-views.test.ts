import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ControlPlane, type Json } from '../../tests/conformance/control-plane.ts'

const OLD = '/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers'
const NEW = '/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers'
const utilization = (name: string, averageUtilization: number): Json => ({
  type: 'Resource',
  resource: { name, target: { type: 'Utilization', averageUtilization } },
})
const SPEC = { scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' }, maxReplicas: 5 }

async function answered(
  plane: ControlPlane,
  method: string,
  path: string,
  body: Json,
  type?: string,
): Promise<Json> {
  const answer = await plane.ask(method, path, { body, ...(type ? { type } : {}) })
  assert.ok(answer.code < 300, answer.text)
  return answer.body
}

test('an autoscaler that is changed as autoscaling/v1 keeps what that form cannot say', async () => {
  await using plane = await ControlPlane.start()
  const behavior = { scaleDown: { stabilizationWindowSeconds: 60 } }
  const metrics = [utilization('memory', 70), utilization('cpu', 50)]
  await answered(plane, 'POST', NEW, { metadata: { name: 'a' }, spec: { ...SPEC, metrics, behavior } })
  const conditions = [{ type: 'AbleToScale', status: 'True' }]
  const status = { desiredReplicas: 2, conditions }
  await answered(plane, 'PATCH', `${NEW}/a/status`, { status }, 'application/merge-patch+json')

  const patch = { spec: { maxReplicas: 9, targetCPUUtilizationPercentage: 60 } }
  const patched = await answered(plane, 'PATCH', `${OLD}/a`, patch, 'application/strategic-merge-patch+json')
  assert.deepEqual([patched.apiVersion, patched.spec.targetCPUUtilizationPercentage], ['autoscaling/v1', 60])
  const shown = await answered(plane, 'GET', `${NEW}/a`, undefined)
  assert.deepEqual(shown.spec.metrics, [utilization('memory', 70), utilization('cpu', 60)])
  assert.equal(shown.spec.behavior.scaleDown.stabilizationWindowSeconds, 60)
  assert.deepEqual([shown.spec.maxReplicas, shown.status.conditions], [9, conditions])

  const { targetCPUUtilizationPercentage: _, ...without } = patched.spec
  await answered(plane, 'PUT', `${OLD}/a`, { ...patched, spec: without })
  const memoryOnly = await answered(plane, 'GET', `${NEW}/a`, undefined)
  assert.deepEqual(memoryOnly.spec.metrics, [utilization('memory', 70)])

  await answered(
    plane,
    'PATCH',
    `${OLD}/a/status`,
    { status: { desiredReplicas: 3 } },
    'application/merge-patch+json',
  )
  const reported = await answered(plane, 'GET', `${NEW}/a`, undefined)
  assert.deepEqual([reported.status.desiredReplicas, reported.status.conditions], [3, conditions])
})

test('an autoscaler of autoscaling/v1 without a target follows cpu', async () => {
  await using plane = await ControlPlane.start()
  await answered(plane, 'POST', OLD, { metadata: { name: 'a' }, spec: SPEC })
  const applied = { apiVersion: 'autoscaling/v1', kind: 'HorizontalPodAutoscaler', spec: { minReplicas: 2 } }
  await answered(
    plane,
    'PATCH',
    `${OLD}/a?fieldManager=m&force=true`,
    applied,
    'application/apply-patch+yaml',
  )
  const shown = await answered(plane, 'GET', `${NEW}/a`, undefined)
  assert.deepEqual([shown.spec.metrics, shown.spec.minReplicas], [[utilization('cpu', 80)], 2])
})
