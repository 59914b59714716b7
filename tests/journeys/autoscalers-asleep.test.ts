import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeEngine } from '../../src/controllers/controllers.testkit.ts'
import { systemClock, until } from '../../src/stdx/index.ts'
import { ControlPlane } from '../conformance/control-plane.ts'
import { startControllers } from './pretend-tenant.ts'

const NS = '/api/v1/namespaces/default'
const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments'
const AUTOSCALERS = '/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers'

test('an autoscaler keeps a control plane awake while its target has pods, and not while it has none', async () => {
  const engine = new FakeEngine(systemClock)
  await using plane = await ControlPlane.start({ engine })
  const controllers = await startControllers(plane, engine)
  try {
    await plane.ask('POST', `${NS}/serviceaccounts`, { body: { metadata: { name: 'default' } } })
    const labels = { app: 'web' }
    const resources = { requests: { cpu: '100m' } }
    const made = await plane.ask('POST', DEPLOYMENTS, {
      body: {
        metadata: { name: 'web' },
        spec: {
          replicas: 0,
          selector: { matchLabels: labels },
          template: {
            metadata: { labels },
            spec: {
              automountServiceAccountToken: false,
              containers: [{ name: 'c', image: 'x', resources }],
            },
          },
        },
      },
    })
    assert.equal(made.code, 201, made.text)
    const scaleTargetRef = { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' }
    await plane.ask('POST', AUTOSCALERS, {
      body: { metadata: { name: 'web' }, spec: { scaleTargetRef, minReplicas: 1, maxReplicas: 3 } },
    })
    const reason = async () =>
      ((await plane.ask('GET', `${AUTOSCALERS}/web`)).body.status?.conditions ?? []).find(
        ({ type }: { type: string }) => type === 'ScalingActive',
      )?.reason
    await until(async () => (await reason()) === 'ScalingDisabled')
    await until(() => controllers.restsUntilMs() === Infinity)

    await plane.ask('PATCH', `${DEPLOYMENTS}/web/scale`, {
      body: { spec: { replicas: 1 } },
      type: 'application/merge-patch+json',
    })
    // Whoever sleeps would begin anew; here a change of the autoscaler makes it look at once.
    await plane.ask('PATCH', `${AUTOSCALERS}/web`, {
      body: { spec: { maxReplicas: 4 } },
      type: 'application/merge-patch+json',
    })
    await until(async () => (await reason()) !== 'ScalingDisabled')
    await until(() => (controllers.restsUntilMs() ?? Infinity) < systemClock.nowMs() + 16_000)
  } finally {
    await controllers.stop()
  }
})
