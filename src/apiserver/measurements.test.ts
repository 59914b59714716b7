import assert from 'node:assert/strict'
import { test } from 'node:test'
import { podKind } from '../api/index.ts'
import type { Engine, JailUsage } from '../jail/index.ts'
import { until } from '../stdx/index.ts'
import { ControlPlane, type Json } from '../../tests/conformance/control-plane.ts'

const METRICS = '/apis/metrics.k8s.io/v1beta1'

/** An engine of which only the usage is asked. */
class Meter {
  asked = 0
  usage: JailUsage[] = []
  engine = {
    usage: async () => {
      this.asked++
      // A pod that uses half a core, wherever it is.
      this.usage = this.usage.map((each) => ({
        ...each,
        atMs: each.atMs + 1_000,
        containers: each.containers.map((container) => ({
          ...container,
          cpuNanos: container.cpuNanos + 500_000_000,
        })),
      }))
      return this.usage
    },
  } as unknown as Engine
}

async function withPod(plane: ControlPlane, name: string, labels: Json = {}): Promise<string> {
  const made = await plane.ask('POST', '/api/v1/namespaces/default/pods', {
    body: { metadata: { name, labels }, spec: { containers: [{ name: 'c', image: 'registry.test/c' }] } },
  })
  const client = plane.server.client('controllers')
  const pod = await client.get(podKind, { namespace: 'default', name })
  await client.update(
    podKind,
    { ...pod, status: { ...pod.status, phase: 'Running' } },
    { subresource: 'status' },
  )
  return made.body.metadata.uid
}

const usageOf = (id: string, run = id): JailUsage => ({
  id: id as JailUsage['id'],
  atMs: 1_000,
  containers: [{ name: 'c', run, cpuNanos: 0, workingSetBytes: 3 * 2 ** 20 }],
})

test('what pods use is measured when somebody asks, and twice when there is nothing to compare with', async () => {
  const meter = new Meter()
  await using plane = await ControlPlane.start({ engine: meter.engine })
  const uid = await withPod(plane, 'web', { app: 'web' })
  await withPod(plane, 'unknown-to-the-machine')
  meter.usage = [usageOf(uid)]
  assert.equal(meter.asked, 0)
  const pods = await plane.ask('GET', `${METRICS}/namespaces/default/pods`)
  assert.equal(pods.code, 200, pods.text)
  assert.equal(meter.asked, 2)
  assert.deepEqual(
    pods.body.items.map(({ metadata, window, containers }: Json) => [metadata.name, window, containers]),
    [['web', '1.000s', [{ name: 'c', usage: { cpu: '500m', memory: '3072Ki' } }]]],
  )
  const node = await plane.ask('GET', `${METRICS}/nodes/bulkhead`)
  assert.deepEqual(node.body.usage, { cpu: '500m', memory: '3072Ki' })
  assert.equal(meter.asked, 2, 'a fresh measurement is used again')
  assert.equal((await plane.ask('GET', `${METRICS}/namespaces/default/pods/web`)).code, 200)
  assert.equal((await plane.ask('GET', `${METRICS}/namespaces/default/pods/other`)).code, 404)
  assert.equal((await plane.ask('GET', `${METRICS}/nodes/other`)).code, 404)
  const none = await plane.ask('GET', `${METRICS}/pods?labelSelector=app%3Dnone`)
  assert.deepEqual(none.body.items, [])
})

test('usage can be read and nothing else', async () => {
  await using plane = await ControlPlane.start({ engine: new Meter().engine })
  for (const [method, path] of [
    ['POST', `${METRICS}/namespaces/default/pods`],
    ['DELETE', `${METRICS}/namespaces/default/pods/web`],
    ['DELETE', `${METRICS}/namespaces/default/pods`],
    ['PUT', `${METRICS}/nodes/bulkhead`],
    ['GET', `${METRICS}/pods?watch=1`],
  ] as const)
    assert.equal((await plane.ask(method, path, { body: {} })).code, 405, `${method} ${path}`)
})

test('a container that was restarted is not compared with the one before it', async () => {
  const meter = new Meter()
  await using plane = await ControlPlane.start({ engine: meter.engine })
  const uid = await withPod(plane, 'web')
  meter.usage = [usageOf(uid, 'first')]
  await plane.ask('GET', `${METRICS}/nodes`)
  const restarted = usageOf(uid, 'second')
  meter.usage = [{ ...restarted, atMs: 60_000 }]
  await until(
    async () => meter.asked > 2 || ((await plane.ask('GET', `${METRICS}/nodes`)).code && meter.asked > 2),
    {
      timeoutMs: 20_000,
      what: 'another measurement',
    },
  )
  const pods = await plane.ask('GET', `${METRICS}/pods`)
  assert.equal(pods.body.items[0].containers[0].usage.cpu, '500m')
})
