import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ApiError, invalid } from '../../api/index.ts'
import type { Jail, JailId } from '../../jail/index.ts'
import { object, podSpec, TestControlPlane } from '../controllers.testkit.ts'
import { configMapKind, eventKind, type Pod, podKind, secretKind } from '../kinds.ts'

const DEFAULT = { namespace: 'default' }
const BARE = { automountServiceAccountToken: false } as const

async function createPod(
  plane: TestControlPlane,
  name: string,
  spec: Partial<Pod['spec']> = {},
): Promise<Pod> {
  return plane.client.create<Pod>(
    podKind,
    object('Pod', 'v1', name, { spec: { ...podSpec, ...BARE, ...spec } }),
  )
}

function find(plane: TestControlPlane, name: string): Pod | undefined {
  return plane.client.find(podKind, { ...DEFAULT, name })
}

function events(plane: TestControlPlane): (string | undefined)[][] {
  return plane.client.all(eventKind).map(({ type, reason, message }) => [type, reason, message])
}

function fileOf(jail: Jail | undefined, volume: string): string | undefined {
  const found = jail?.volumes.find((v) => v.name === volume)
  const content = found?.kind === 'files' ? found.files[0]?.contentBase64 : undefined
  return content === undefined ? undefined : Buffer.from(content, 'base64').toString()
}

test('the status of a pod is what its jail is, from pending over running to its end', async () => {
  await using plane = await TestControlPlane.start()
  plane.engine.autorun = false
  const { metadata } = await createPod(plane, 'one', { restartPolicy: 'Never' })
  await plane.until('It has a jail', () => plane.engine.jails.has(metadata.uid))
  await plane.until('It is pending', () => find(plane, 'one')?.status?.containerStatuses)
  await plane.settle()
  const conditions = () =>
    Object.fromEntries(
      (find(plane, 'one')?.status?.conditions ?? []).map((c) => [
        c.type,
        `${c.status} ${c.reason ?? ''}`.trim(),
      ]),
    )
  assert.deepEqual(conditions(), {
    PodReadyToStartContainers: 'False',
    Initialized: 'True',
    Ready: 'False ContainersNotReady',
    ContainersReady: 'False ContainersNotReady',
    PodScheduled: 'True',
  })

  plane.clock.advance(5_000)
  plane.engine.run(metadata.uid)
  await plane.until('It runs', () => find(plane, 'one')?.status?.phase === 'Running')
  const { status } = find(plane, 'one') ?? {}
  assert.equal(status?.podIP, '10.0.0.1')
  assert.deepEqual(status.podIPs, [{ ip: '10.0.0.1' }])
  assert.equal(status.hostIP, '192.0.2.1')
  assert.deepEqual(status.containerStatuses, [
    {
      name: 'web',
      image: 'registry.test/web:1',
      imageID: 'registry.test/web@sha256:abc',
      containerID: `runc://${metadata.uid}-web`,
      ready: true,
      started: true,
      restartCount: 0,
      state: { running: { startedAt: '2026-01-01T00:00:00Z' } },
    },
  ])
  const times = Object.fromEntries((status.conditions ?? []).map((c) => [c.type, c.lastTransitionTime]))
  assert.equal(times['Initialized'], '2026-01-01T00:00:00Z', 'what did not change keeps its time')
  assert.equal(times['Ready'], '2026-01-01T00:00:05Z')

  plane.engine.exit(metadata.uid, 0)
  await plane.until('It has ended', () => find(plane, 'one')?.status?.phase === 'Succeeded')
  assert.equal(conditions()['Ready'], 'False PodCompleted')
  const before = plane.client.writes.length
  plane.engine.run(metadata.uid)
  await plane.settle()
  assert.equal(find(plane, 'one')?.status?.phase, 'Succeeded', 'what has ended stays ended')
  assert.equal(plane.client.writes.length, before)
})

test('a status that says nothing new is not written', async () => {
  await using plane = await TestControlPlane.start()
  const { metadata } = await createPod(plane, 'one')
  await plane.until('It runs', () => find(plane, 'one')?.status?.phase === 'Running')
  await plane.settle()
  const before = plane.client.writes.length
  for (let i = 0; i < 5; i += 1) plane.engine.change(metadata.uid, (status) => ({ ...status }))
  await plane.settle()
  assert.equal(plane.client.writes.length, before)
})

test('a pod waits for its ConfigMap, says so once, and starts when it appears', async () => {
  await using plane = await TestControlPlane.start()
  const [container] = podSpec.containers
  assert.ok(container)
  await createPod(plane, 'one', {
    containers: [{ ...container, envFrom: [{ configMapRef: { name: 'settings' } }] }],
  })
  await plane.until('It waits', () => find(plane, 'one')?.status?.containerStatuses?.[0]?.state?.waiting)
  await plane.settle()
  assert.deepEqual(find(plane, 'one')?.status?.containerStatuses?.[0]?.state, {
    waiting: { reason: 'CreateContainerConfigError', message: 'configmap "settings" not found' },
  })
  assert.ok(events(plane).some(([type, reason]) => type === 'Warning' && reason === 'Failed'))
  assert.equal(plane.engine.jails.size, 0)
  await plane.client.create(configMapKind, object('ConfigMap', 'v1', 'settings', { data: { COLOR: 'red' } }))
  await plane.until('It runs', () => find(plane, 'one')?.status?.phase === 'Running')
  assert.deepEqual(plane.engine.ensured[0]?.containers[0]?.env, [{ name: 'COLOR', value: 'red' }])
})

test('a changed Secret reaches the files and the environment of a jail, and a deleted one takes nothing away', async () => {
  await using plane = await TestControlPlane.start()
  const [container] = podSpec.containers
  assert.ok(container)
  await plane.client.create(secretKind, object('Secret', 'v1', 'key', { data: { k: 'b25l' } }))
  const { metadata } = await createPod(plane, 'one', {
    containers: [
      { ...container, env: [{ name: 'K', valueFrom: { secretKeyRef: { name: 'key', key: 'k' } } }] },
    ],
    volumes: [{ name: 'files', secret: { secretName: 'key' } }],
  })
  const jail = () => plane.engine.jails.get(metadata.uid)?.jail
  await plane.until('It has a jail', () => fileOf(jail(), 'files') === 'one')
  await plane.client.patch(
    secretKind,
    { ...DEFAULT, name: 'key' },
    { data: { k: 'dHdv' } },
    { type: 'application/merge-patch+json' },
  )
  await plane.until('Its file is new', () => fileOf(jail(), 'files') === 'two')
  assert.deepEqual(jail()?.containers[0]?.env, [{ name: 'K', value: 'two' }], 'for the next start')
  await plane.client.delete(secretKind, { ...DEFAULT, name: 'key' })
  await plane.settle()
  assert.equal(fileOf(jail(), 'files'), 'two', 'a pod keeps what it has')
  assert.equal(find(plane, 'one')?.status?.phase, 'Running')
})

test('a token is renewed before it ends', async () => {
  let issued = 0
  await using plane = await TestControlPlane.start({
    issueToken: async ({ expirationSeconds }) => ({
      token: `token ${++issued}`,
      expiresAtMs: plane.clock.nowMs() + expirationSeconds * 1_000,
    }),
  })
  const { metadata } = await createPod(plane, 'one', { automountServiceAccountToken: true })
  const token = () => fileOf(plane.engine.jails.get(metadata.uid)?.jail, 'kube-api-access')
  await plane.until('It has a token', () => token() === 'token 1')
  await plane.settle()
  // Retries after lost races are over before a long time passes at once.
  plane.clock.advance(1_000)
  await plane.settle()
  plane.clock.advance(2_000_000)
  await plane.settle()
  assert.equal(token(), 'token 1')
  plane.clock.advance(1_000_000)
  await plane.until('It has a new one', () => token() === 'token 2')
})

test('a jail that the engine refuses shows why, and is not offered again unchanged', async () => {
  await using plane = await TestControlPlane.start()
  let asked = 0
  plane.engine.refuse = () => {
    asked += 1
    throw invalid({ group: '', kind: 'Jail', name: 'x' }, [
      {
        reason: 'FieldValueForbidden',
        field: 'containers[0].mounts[0].mountPath',
        message: 'must not be in /proc',
      },
    ])
  }
  await createPod(plane, 'one')
  await plane.until(
    'It waits',
    () => find(plane, 'one')?.status?.containerStatuses?.[0]?.state?.waiting?.message,
  )
  await plane.settle()
  plane.clock.advance(600_000)
  await plane.settle()
  assert.equal(asked, 1)
  assert.equal(
    find(plane, 'one')?.status?.containerStatuses?.[0]?.state?.waiting?.message,
    'the pod cannot be run as it is: spec.containers[0].volumeMounts[0].mountPath: must not be in /proc',
  )
  assert.ok(events(plane).some(([, reason]) => reason === 'FailedCreatePodSandBox'))
})

test('a pod for which there is no room is told why it waits, and is offered again', async () => {
  await using plane = await TestControlPlane.start()
  const message = 'More than 250 pods of one tenant on this machine'
  plane.engine.refuse = () => {
    throw new ApiError('TooManyRequests', message)
  }
  await createPod(plane, 'one')
  await plane.until('It is told', () => events(plane).some((event) => event.includes(message)))
  plane.engine.refuse = undefined
  await plane.settle()
  plane.clock.advance(60_000)
  await plane.until('It runs', () => find(plane, 'one')?.status?.phase === 'Running')
})

test('while the engine is away no status is invented, and everything goes on when it is back', async () => {
  await using plane = await TestControlPlane.start()
  await createPod(plane, 'before')
  await plane.until('It runs', () => find(plane, 'before')?.status?.phase === 'Running')
  await plane.settle()
  plane.engine.goAway()
  await createPod(plane, 'during')
  await plane.client.delete(podKind, { ...DEFAULT, name: 'before' })
  await plane.settle()
  plane.clock.advance(120_000)
  await plane.settle()
  assert.equal(find(plane, 'before')?.status?.phase, 'Running')
  assert.equal(find(plane, 'during')?.status?.containerStatuses, undefined)
  plane.engine.comeBack()
  await plane.until('The new one runs', () => find(plane, 'during')?.status?.phase === 'Running')
  await plane.until('The old one is gone', () => !find(plane, 'before') && plane.engine.jails.size === 1)
})

test('deleting a pod gives its jail the grace period and keeps the object until the jail is gone', async () => {
  await using plane = await TestControlPlane.start()
  const { metadata } = await createPod(plane, 'one', { terminationGracePeriodSeconds: 7 })
  await plane.until('It runs', () => find(plane, 'one')?.status?.phase === 'Running')
  plane.engine.autoremove = false
  await plane.client.delete(podKind, { ...DEFAULT, name: 'one' })
  await plane.until('It is being removed', () => plane.engine.removed.length === 1)
  assert.deepEqual(plane.engine.removed[0], { id: metadata.uid, gracePeriodSeconds: 7 })
  await plane.settle()
  assert.ok(find(plane, 'one'))
  await plane.client.delete(podKind, { ...DEFAULT, name: 'one' }, { gracePeriodSeconds: 1 })
  await plane.until('With less patience', () => plane.engine.removed.length === 2)
  assert.equal(plane.engine.removed[1]?.gracePeriodSeconds, 1)
  plane.engine.gone(metadata.uid)
  await plane.until('It is gone', () => !find(plane, 'one'))
})

test('a pod deleted while its control plane was away is taken away, and one made meanwhile is started', async () => {
  await using plane = await TestControlPlane.start()
  await createPod(plane, 'old')
  await plane.until('It runs', () => find(plane, 'old')?.status?.phase === 'Running')
  const { uid } = find(plane, 'old')?.metadata ?? {}
  await plane.pause()
  await plane.client.delete(podKind, { ...DEFAULT, name: 'old' }, { gracePeriodSeconds: 0 })
  await createPod(plane, 'old')
  await plane.resume()
  await plane.until('The new one runs', () => find(plane, 'old')?.status?.phase === 'Running')
  await plane.until('The orphan is gone', () => !plane.engine.jails.has(uid ?? ''))
  assert.equal(plane.engine.jails.size, 1)
})

test('jails are not taken for orphans before all pods are known', async () => {
  await using plane = await TestControlPlane.start()
  await createPod(plane, 'one')
  await plane.until('It runs', () => find(plane, 'one')?.status?.phase === 'Running')
  await plane.pause()
  // The list of pods takes its time.
  let failures = 3
  plane.client.intercept = ({ verb, kind }) => {
    if (verb === 'list' && kind.plural === 'pods' && failures-- > 0)
      throw new ApiError('ServiceUnavailable', 'not yet')
  }
  const resumed = plane.resume()
  await plane.until('It was asked', () => failures < 0)
  await resumed
  await plane.settle()
  assert.equal(plane.engine.removed.length, 0)
})

test('what the engine tells becomes an event of the pod, once', async () => {
  await using plane = await TestControlPlane.start()
  const { metadata } = await createPod(plane, 'one')
  await plane.until('It runs', () => find(plane, 'one')?.status?.phase === 'Running')
  const event = {
    id: metadata.uid as JailId,
    type: 'Normal',
    reason: 'Pulled',
    message: 'Pulled the image',
    container: 'web',
  } as const
  plane.engine.tell(event)
  plane.engine.tell(event)
  const pulled = () => plane.client.all(eventKind).filter((found) => found.reason === 'Pulled')
  await plane.until('It is counted', () => pulled()[0]?.count === 2)
  assert.equal(pulled().length, 1)
  assert.equal(pulled()[0]?.involvedObject.fieldPath, 'spec.containers{web}')
  assert.deepEqual(pulled()[0]?.source, { component: 'kubelet' })
})

test('a pod that must not run twice and that the machine does not know any more has failed', async () => {
  await using plane = await TestControlPlane.start()
  const { metadata } = await createPod(plane, 'one', { restartPolicy: 'Never' })
  await plane.until('It runs', () => find(plane, 'one')?.status?.phase === 'Running')
  await plane.pause()
  plane.engine.jails.delete(metadata.uid)
  await plane.resume()
  await plane.until('It failed', () => find(plane, 'one')?.status?.phase === 'Failed')
  assert.equal(find(plane, 'one')?.status?.reason, 'ContainerStatusUnknown')
  assert.equal(plane.engine.ensured.length, 1)
})
