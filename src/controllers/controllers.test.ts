import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ApiError, type JsonValue, type KubeObject } from '../api/index.ts'
import type { KindRef } from '../client/index.ts'
import {
  deployment,
  job,
  object,
  podSpec,
  podTemplate,
  replicaSet,
  TestControlPlane,
} from './controllers.testkit.ts'
import {
  configMapKind,
  type Deployment,
  deploymentKind,
  type Endpoints,
  endpointsKind,
  endpointSliceKind,
  eventKind,
  jobKind,
  namespaceKind,
  type Pod,
  podKind,
  replicaSetKind,
  replicationControllerKind,
  secretKind,
  serviceAccountKind,
  serviceKind,
} from './kinds.ts'

const DEFAULT = { namespace: 'default' }

function service(name: string, spec: Record<string, unknown> = {}): KubeObject {
  return object('Service', 'v1', name, {
    spec: {
      clusterIP: '10.96.0.10',
      selector: { app: 'web' },
      ports: [{ port: 80, targetPort: 8080 }],
      ...spec,
    },
  })
}

function pod(name: string, spec: Partial<Pod['spec']> = {}, metadata: Record<string, unknown> = {}): Pod {
  return object('Pod', 'v1', name, { spec: { ...podSpec, ...spec } }, metadata)
}

function replicationController(name: string, replicas: number): KubeObject {
  const { metadata, spec } = replicaSet(name, { replicas })
  return object('ReplicationController', 'v1', name, { spec: { ...spec, selector: { app: name } } }, metadata)
}

async function setOwners(plane: TestControlPlane, name: string, owners: readonly object[]): Promise<void> {
  const ownerReferences = owners.map((owner) => ({ ...owner }) as Record<string, JsonValue>)
  const patch = { metadata: { ownerReferences } }
  await plane.client.patch(podKind, { ...DEFAULT, name }, patch, { type: 'application/merge-patch+json' })
}

function isAvailable(plane: TestControlPlane, name: string): boolean {
  const found = plane.client.find(deploymentKind, { ...DEFAULT, name })
  return (
    found?.status?.conditions?.some(
      (c) => c.type === 'Progressing' && c.reason === 'NewReplicaSetAvailable',
    ) ?? false
  )
}

test('a deployment becomes running pods and says so in its status', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(deploymentKind, deployment('web'))
  await plane.until('The deployment is complete', () => isAvailable(plane, 'web'))

  const found = plane.client.find(deploymentKind, { ...DEFAULT, name: 'web' })
  assert.equal(found?.metadata.annotations?.['deployment.kubernetes.io/revision'], '1')
  const { conditions, ...counts } = found.status ?? {}
  assert.deepEqual(counts, {
    observedGeneration: 1,
    replicas: 3,
    updatedReplicas: 3,
    readyReplicas: 3,
    availableReplicas: 3,
    unavailableReplicas: 0,
  })
  assert.deepEqual(conditions?.map(({ type, status, reason }) => [type, status, reason]).toSorted(), [
    ['Available', 'True', 'MinimumReplicasAvailable'],
    ['Progressing', 'True', 'NewReplicaSetAvailable'],
  ])
  assert.equal(plane.pods().length, 3)
  for (const { spec, status, metadata } of plane.pods()) {
    assert.equal(spec.nodeName, 'bulkhead')
    assert.equal(status?.phase, 'Running')
    assert.match(metadata.name, /^web-[bcdfghjklmnpqrstvwxz2456789]{10}-.{5}$/)
  }
  assert.equal(plane.engine.jails.size, 3)
  const said = plane.client.all(eventKind).map((event) => event.message)
  assert.ok(
    said.some((message) => /^Scaled up replica set web-\w+ from 0 to 3$/.test(message ?? '')),
    said.join('\n'),
  )
})

test('an image change rolls out, and undoing it brings the old ReplicaSet back under a new revision', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(deploymentKind, deployment('web'))
  await plane.until('The first rollout', () => isAvailable(plane, 'web'))
  const [first] = plane.client.all(replicaSetKind)

  const setImage = (image: string) =>
    plane.client.patch(
      deploymentKind,
      { ...DEFAULT, name: 'web' },
      { spec: { template: podTemplate('web', image) } },
      { type: 'application/merge-patch+json' },
    )
  await setImage('registry.test/web:2')
  await plane.until('All pods have the new image', () => {
    const images = plane.pods().map((p) => p.spec.containers[0]?.image)
    return images.length === 3 && images.every((image) => image === 'registry.test/web:2')
  })
  await plane.until('The second rollout', () => isAvailable(plane, 'web'))
  const revisions = () =>
    plane.client
      .all(replicaSetKind)
      .map((set) => [set.metadata.annotations?.['deployment.kubernetes.io/revision'], set.spec.replicas])
      .toSorted()
  assert.deepEqual(revisions(), [
    ['1', 0],
    ['2', 3],
  ])

  await setImage('registry.test/web:1')
  await plane.until('The old image is back', () => {
    const images = plane.pods().map((p) => p.spec.containers[0]?.image)
    return images.length === 3 && images.every((image) => image === 'registry.test/web:1')
  })
  await plane.until('The third rollout', () => isAvailable(plane, 'web'))
  assert.deepEqual(revisions(), [
    ['2', 0],
    ['3', 3],
  ])
  const again = plane.client.find(replicaSetKind, { ...DEFAULT, name: first?.metadata.name ?? '' })
  assert.equal(again?.metadata.uid, first?.metadata.uid)
  assert.equal(again?.metadata.annotations?.['deployment.kubernetes.io/revision-history'], '1')
})

test('a rolling update never has too many pods and never too few that are available', async () => {
  await using plane = await TestControlPlane.start()
  const strategy = { type: 'RollingUpdate' as const, rollingUpdate: { maxSurge: 1, maxUnavailable: 1 } }
  await plane.client.create(deploymentKind, deployment('web', { replicas: 6, strategy }))
  await plane.until('The first rollout', () => isAvailable(plane, 'web'))
  plane.engine.autorun = false
  let most = 0
  await plane.client.patch(
    deploymentKind,
    { ...DEFAULT, name: 'web' },
    { spec: { template: podTemplate('web', 'registry.test/web:2') } },
    { type: 'application/merge-patch+json' },
  )
  for (let step = 0; step < 100; step += 1) {
    await plane.settle()
    plane.clock.advance(1_000)
    const pods = plane.pods().filter((p) => !p.metadata.deletionTimestamp)
    const ready = pods.filter((p) =>
      p.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True'),
    )
    most = Math.max(most, pods.length)
    assert.ok(pods.length <= 7, `${pods.length} pods`)
    assert.ok(ready.length >= 5, `${ready.length} available`)
    const next = [...plane.engine.jails.values()].find(({ status }) => status.phase === 'Pending')
    if (next) plane.engine.run(next.status.id)
    else if (pods.every((p) => p.spec.containers[0]?.image === 'registry.test/web:2')) break
  }
  assert.equal(most, 7)
  await plane.until('The second rollout', () => isAvailable(plane, 'web'))
})

test('a recreate deployment starts no new pod before the last old one is gone', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(
    deploymentKind,
    deployment('web', { replicas: 2, strategy: { type: 'Recreate' } }),
  )
  await plane.until('The first rollout', () => isAvailable(plane, 'web'))
  plane.engine.autoremove = false
  await plane.client.patch(
    deploymentKind,
    { ...DEFAULT, name: 'web' },
    { spec: { template: podTemplate('web', 'registry.test/web:2') } },
    { type: 'application/merge-patch+json' },
  )
  await plane.until('Both are being deleted', () => plane.engine.removed.length === 2)
  await plane.settle()
  assert.equal(plane.pods().length, 2)
  const [one, two] = plane.engine.removed
  plane.engine.gone(one?.id ?? '')
  await plane.settle()
  assert.equal(plane.pods().length, 1)
  plane.engine.gone(two?.id ?? '')
  await plane.until('The new pods run', () => isAvailable(plane, 'web') && plane.pods().length === 2)
  assert.ok(plane.pods().every((p) => p.spec.containers[0]?.image === 'registry.test/web:2'))
})

test('a paused deployment is scaled but not rolled out', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(deploymentKind, deployment('web', { replicas: 2 }))
  await plane.until('The first rollout', () => isAvailable(plane, 'web'))
  await plane.client.patch(
    deploymentKind,
    { ...DEFAULT, name: 'web' },
    { spec: { paused: true, replicas: 4, template: podTemplate('web', 'registry.test/web:2') } },
    { type: 'application/merge-patch+json' },
  )
  await plane.until('Four pods', () => plane.pods().length === 4)
  await plane.settle()
  assert.equal(plane.client.all(replicaSetKind).length, 1)
  const conditions = plane.client.find(deploymentKind, { ...DEFAULT, name: 'web' })?.status?.conditions
  assert.equal(conditions?.find((c) => c.type === 'Progressing')?.reason, 'DeploymentPaused')
})

test('a refused pod shows in events and conditions, and costs one request and not as many as there are replicas', async () => {
  await using plane = await TestControlPlane.start()
  let asked = 0
  plane.client.intercept = ({ verb, kind }) => {
    if (verb !== 'create' || kind.plural !== 'pods') return
    asked += 1
    throw new ApiError('Forbidden', 'pods "web" is forbidden: exceeded quota')
  }
  await plane.client.create(replicaSetKind, replicaSet('web', { replicas: 50 }))
  await plane.settle()
  assert.ok(asked <= 3, `${asked} requests`)
  const found = plane.client.find(replicaSetKind, { ...DEFAULT, name: 'web' })
  assert.deepEqual(
    found?.status?.conditions?.map(({ type, status, reason, message }) => ({
      type,
      status,
      reason,
      message,
    })),
    [
      {
        type: 'ReplicaFailure',
        status: 'True',
        reason: 'FailedCreate',
        message: 'pods "web" is forbidden: exceeded quota',
      },
    ],
  )
  plane.client.intercept = undefined
  await plane.until('The pods are there', () => plane.pods().length === 50)
  await plane.until(
    'The condition is gone',
    () => !plane.client.find(replicaSetKind, { ...DEFAULT, name: 'web' })?.status?.conditions?.length,
  )
})

test('a ReplicationController keeps its pods, adopts what fits, and follows its replicas', async () => {
  await using plane = await TestControlPlane.start()
  const key = { ...DEFAULT, name: 'old' }
  await plane.client.create(podKind, pod('stray', {}, { labels: { app: 'old' } }))
  await plane.client.create(replicationControllerKind, replicationController('old', 2))
  await plane.until('Two pods', () => plane.pods().length === 2)
  await plane.until(
    'It says so',
    () => plane.client.find(replicationControllerKind, key)?.status?.replicas === 2,
  )
  const owner = plane.client.find(podKind, { ...DEFAULT, name: 'stray' })?.metadata.ownerReferences?.[0]
  assert.deepEqual([owner?.kind, owner?.name, owner?.controller], ['ReplicationController', 'old', true])
  await plane.client.patch(
    replicationControllerKind,
    key,
    { spec: { replicas: 0 } },
    { type: 'application/merge-patch+json' },
  )
  await plane.until('No pods', () => plane.pods().length === 0)
})

test('a ReplicaSet adopts a pod that fits and lets go of one that does not fit any more', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(podKind, pod('stray', {}, { labels: { app: 'web' } }))
  await plane.client.create(replicaSetKind, replicaSet('web', { replicas: 2 }))
  await plane.until('Two pods', () => plane.pods().length === 2)
  await plane.settle()
  const stray = plane.client.find(podKind, { ...DEFAULT, name: 'stray' })
  assert.equal(stray?.metadata.ownerReferences?.[0]?.name, 'web')
  await plane.client.patch(
    podKind,
    { ...DEFAULT, name: 'stray' },
    { metadata: { labels: { app: 'other' } } },
    { type: 'application/merge-patch+json' },
  )
  await plane.until('A replacement', () => plane.pods().length === 3)
  await plane.settle()
  assert.deepEqual(plane.client.find(podKind, { ...DEFAULT, name: 'stray' })?.metadata.ownerReferences, [])
})

test('a job counts every pod once, also when its control plane dies in between', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(jobKind, job('sums', { completions: 5, parallelism: 2 }))
  for (let done = 0; done < 5; done += 1) {
    const running = await plane.until('A pod runs', () =>
      plane.pods().find((p) => p.status?.phase === 'Running' && !p.metadata.deletionTimestamp),
    )
    if (done % 2 === 1) await plane.pause()
    plane.engine.exit(running.metadata.uid, 0)
    if (done % 2 === 1) await plane.resume()
    await plane.until(
      'It is seen',
      () =>
        plane.client.find(podKind, { ...DEFAULT, name: running.metadata.name })?.status?.phase ===
        'Succeeded',
    )
  }
  const isComplete = () =>
    plane.client
      .find(jobKind, { ...DEFAULT, name: 'sums' })
      ?.status?.conditions?.some((c) => c.type === 'Complete' && c.status === 'True')
  await plane.until('The job is complete', isComplete)
  const { status } = plane.client.find(jobKind, { ...DEFAULT, name: 'sums' }) ?? {}
  assert.equal(status?.succeeded, 5)
  assert.equal(status?.failed ?? 0, 0)
  assert.equal(status?.active, 0)
  assert.equal(status?.uncountedTerminatedPods, undefined)
  assert.ok(status?.completionTime)
  assert.equal(plane.pods().length, 5)
  assert.ok(plane.pods().every((p) => !p.metadata.finalizers?.length))
})

test('a job adopts a pod that nobody has, and lets go of one that does not fit any more', async () => {
  await using plane = await TestControlPlane.start()
  const spec = { completions: 4, parallelism: 2, selector: { matchLabels: { app: 'count' } } }
  await plane.client.create(jobKind, job('count', { ...spec, manualSelector: true }))
  await plane.until('Two pods', () => plane.engine.jails.size === 2)
  await plane.settle()
  const [first] = plane.pods()
  assert.ok(first)
  const named = { ...DEFAULT, name: first.metadata.name }
  const patch = (metadata: Record<string, JsonValue>) =>
    plane.client.patch(podKind, named, { metadata }, { type: 'application/merge-patch+json' })
  const found = () => plane.client.find(podKind, named)?.metadata
  await patch({ ownerReferences: [], finalizers: [] })
  await plane.until('It is adopted', () => found()?.ownerReferences?.[0]?.name === 'count')
  assert.deepEqual(found()?.finalizers, ['batch.kubernetes.io/job-tracking'])
  assert.equal(plane.pods().length, 2)

  await patch({ labels: { app: null, 'batch.kubernetes.io/job-name': null } })
  await plane.until('It is let go', () => found()?.ownerReferences?.length === 0)
  await plane.until('Another takes its place', () => plane.pods().length === 3)
  await plane.client.delete(podKind, named)
  await plane.until('Nothing holds it', () => found() === undefined)
})

test('a job that keeps failing backs off, then fails', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(jobKind, job('doomed', { backoffLimit: 2 }))
  const startedAtMs: number[] = []
  for (let failure = 0; failure < 3; failure += 1) {
    const running = await plane.until('A pod runs', () =>
      plane.pods().find((p) => p.status?.phase === 'Running'),
    )
    startedAtMs.push(Date.parse(running.metadata.creationTimestamp))
    plane.engine.exit(running.metadata.uid, 1)
    await plane.until('It failed', () => !plane.pods().some((p) => p.status?.phase === 'Running'))
  }
  const [first = 0, second = 0, third = 0] = startedAtMs
  assert.ok(second - first >= 10_000, 'the first retry waits 10 seconds')
  assert.ok(third - second >= 20_000, 'the second twice as long')
  const failed = () =>
    plane.client
      .find(jobKind, { ...DEFAULT, name: 'doomed' })
      ?.status?.conditions?.find((c) => c.type === 'Failed')
  const condition = await plane.until('The job failed', failed)
  assert.equal(condition.reason, 'BackoffLimitExceeded')
  assert.equal(plane.client.find(jobKind, { ...DEFAULT, name: 'doomed' })?.status?.failed, 3)
  assert.equal(plane.pods().length, 3)
})

test('a job past its deadline stops its pods, and its time to live deletes it with them', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(jobKind, job('slow', { activeDeadlineSeconds: 60, ttlSecondsAfterFinished: 30 }))
  await plane.until('A pod runs', () => plane.pods().some((p) => p.status?.phase === 'Running'))
  plane.clock.advance(61_000)
  const condition = await plane.until('The job failed', () =>
    plane.client
      .find(jobKind, { ...DEFAULT, name: 'slow' })
      ?.status?.conditions?.find((c) => c.type === 'Failed'),
  )
  assert.equal(condition.reason, 'DeadlineExceeded')
  await plane.settle()
  plane.clock.advance(31_000)
  await plane.until('The job is gone', () => !plane.client.find(jobKind, { ...DEFAULT, name: 'slow' }))
  await plane.until('Its pods are gone', () => plane.pods().length === 0 && plane.engine.jails.size === 0)
})

test('a suspended job has no pods and goes on when it is resumed', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(jobKind, job('later', { suspend: true }))
  await plane.until('It is suspended', () =>
    plane.client
      .find(jobKind, { ...DEFAULT, name: 'later' })
      ?.status?.conditions?.some((c) => c.type === 'Suspended'),
  )
  assert.equal(plane.pods().length, 0)
  assert.equal(plane.client.find(jobKind, { ...DEFAULT, name: 'later' })?.status?.startTime, undefined)
  const setSuspend = (suspend: boolean) =>
    plane.client.patch(
      jobKind,
      { ...DEFAULT, name: 'later' },
      { spec: { suspend } },
      { type: 'application/merge-patch+json' },
    )
  await setSuspend(false)
  await plane.until('A pod runs', () => plane.pods().some((p) => p.status?.phase === 'Running'))
  await setSuspend(true)
  await plane.until('No pod is left', () => plane.pods().length === 0)
  await plane.settle()
  const { active, failed = 0 } = plane.client.find(jobKind, { ...DEFAULT, name: 'later' })?.status ?? {}
  assert.deepEqual([active, failed], [0, 0], 'a pod that goes because of that has not failed')
})

test('a service gets slices and endpoints of its ready pods, and the engine the same by pod and not by address', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(serviceKind, service('web'))
  await plane.client.create(deploymentKind, deployment('web', { replicas: 2 }))
  const slices = () => plane.client.all(endpointSliceKind)
  await plane.until(
    'Two ready endpoints',
    () => slices()[0]?.endpoints?.filter((e) => e.conditions?.ready).length === 2,
  )
  assert.equal(slices().length, 1)
  assert.deepEqual(slices()[0]?.ports, [{ name: '', protocol: 'TCP', port: 8080 }])
  const endpoints = (): Endpoints | undefined => plane.client.find(endpointsKind, { ...DEFAULT, name: 'web' })
  await plane.until('Endpoints', () => endpoints()?.subsets?.[0]?.addresses?.length === 2)
  await plane.until(
    'The engine knows',
    () => plane.engine.networks.at(-1)?.services[0]?.ports[0]?.endpoints.length === 2,
  )
  assert.deepEqual(plane.engine.networks.at(-1), {
    services: [
      {
        namespace: 'default',
        name: 'web',
        publishNotReadyAddresses: false,
        clusterIP: '10.96.0.10',
        ports: [
          {
            protocol: 'TCP',
            port: 80,
            endpoints: plane
              .pods()
              .map((p) => ({ jail: p.metadata.uid, port: 8080, ready: true }))
              .toSorted((a, b) => (a.jail < b.jail ? -1 : 1)),
          },
        ],
      },
    ],
  })

  const [first] = plane.pods()
  plane.engine.change(first?.metadata.uid ?? '', (status) => ({
    ...status,
    containers: status.containers.map((container) => ({ ...container, ready: false })),
  }))
  await plane.until('One is not ready', () => endpoints()?.subsets?.[0]?.notReadyAddresses?.length === 1)
  await plane.client.delete(serviceKind, { ...DEFAULT, name: 'web' })
  await plane.until('Nothing is left', () => slices().length === 0 && !endpoints())
  await plane.until('The engine forgot it', () => plane.engine.networks.at(-1)?.services.length === 0)
})

test('Endpoints written by hand become slices as long as their service has no selector', async () => {
  await using plane = await TestControlPlane.start()
  const named = { ...DEFAULT, name: 'custom' }
  const merge = (kind: KindRef, patch: JsonValue) =>
    plane.client.patch(kind, named, patch, { type: 'application/merge-patch+json' })
  const subsets = (ip: string) => [{ addresses: [{ ip }], ports: [{ name: 'example', port: 80 }] }]
  await plane.client.create(
    endpointsKind,
    object(
      'Endpoints',
      'v1',
      'custom',
      { subsets: subsets('10.1.2.3') },
      { labels: { tier: 'db' }, annotations: { note: 'mine' } },
    ),
  )
  await plane.settle()
  assert.deepEqual(plane.client.all(endpointSliceKind), [], 'there is no such service')
  await plane.client.create(serviceKind, service('custom', { selector: undefined }))
  const slices = () => plane.client.all(endpointSliceKind)
  await plane.until('It is mirrored', () => slices().length === 1)
  const [slice] = slices()
  assert.deepEqual(slice?.metadata.labels, {
    tier: 'db',
    'kubernetes.io/service-name': 'custom',
    'endpointslice.kubernetes.io/managed-by': 'endpointslicemirroring-controller.k8s.io',
  })
  assert.deepEqual(slice?.metadata.annotations, { note: 'mine' })
  assert.deepEqual(
    [slice?.metadata.ownerReferences?.[0]?.kind, slice?.endpoints, slice?.ports],
    [
      'Endpoints',
      [{ addresses: ['10.1.2.3'], conditions: { ready: true } }],
      [{ name: 'example', protocol: 'TCP', port: 80 }],
    ],
  )
  await merge(endpointsKind, { metadata: { annotations: { note: 'yours' } }, subsets: subsets('10.2.3.4') })
  await plane.until('A change is mirrored', () => slices()[0]?.metadata.annotations?.['note'] === 'yours')
  assert.deepEqual(slices()[0]?.endpoints?.[0]?.addresses, ['10.2.3.4'])
  assert.equal(slices()[0]?.metadata.uid, slice?.metadata.uid)

  await merge(endpointsKind, { metadata: { labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' } } })
  await plane.until('It is told not to', () => slices().length === 0)
  await merge(endpointsKind, { metadata: { labels: { 'endpointslice.kubernetes.io/skip-mirror': null } } })
  await plane.until('And to go on', () => slices().length === 1)
  await plane.client.delete(endpointsKind, named)
  await plane.until('The slices go with the Endpoints', () => slices().length === 0)
})

test('a service without a selector leads to pods by the addresses that somebody wrote down', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(serviceKind, service('custom', { selector: undefined }))
  await plane.client.create(
    endpointsKind,
    object('Endpoints', 'v1', 'custom', {
      subsets: [{ addresses: [{ ip: '10.0.0.1' }], ports: [{ port: 80 }] }],
    }),
  )
  const endpoints = () => plane.engine.networks.at(-1)?.services[0]?.ports[0]?.endpoints
  await plane.until('Nobody has the address', () => plane.client.all(endpointSliceKind).length === 1)
  assert.deepEqual(endpoints() ?? [], [])
  const { metadata } = await plane.client.create(podKind, pod('late'))
  await plane.until('A pod gets it', () => endpoints()?.length === 1)
  assert.deepEqual(endpoints(), [{ jail: metadata.uid, port: 80, ready: true }])
  await plane.client.delete(podKind, { ...DEFAULT, name: 'late' })
  await plane.until('It goes with the pod', () => endpoints()?.length === 0)
})

test('every namespace has a default service account and the authority, and gets them back', async () => {
  await using plane = await TestControlPlane.start()
  const has = (namespace: string) =>
    plane.client.find(serviceAccountKind, { namespace, name: 'default' }) &&
    plane.client.find(configMapKind, { namespace, name: 'kube-root-ca.crt' })?.data?.['ca.crt'] ===
      'the authority'
  await plane.until('Both have them', () => has('default') && has('kube-system'))
  await plane.client.delete(serviceAccountKind, { ...DEFAULT, name: 'default' })
  await plane.client.patch(
    configMapKind,
    { ...DEFAULT, name: 'kube-root-ca.crt' },
    { data: { 'ca.crt': 'another', more: 'data' } },
    { type: 'application/merge-patch+json' },
  )
  await plane.until('They are back', () => has('default'))
  await plane.until(
    'Nothing else is in it',
    () =>
      Object.keys(plane.client.find(configMapKind, { ...DEFAULT, name: 'kube-root-ca.crt' })?.data ?? {})
        .length === 1,
  )
})

test('deleting a namespace deletes everything in it, pods first, and only then the namespace', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(namespaceKind, object('Namespace', 'v1', 'team', {}, { namespace: undefined }))
  const inTeam = <T extends KubeObject>(item: T): T => ({
    ...item,
    metadata: { ...item.metadata, namespace: 'team' },
  })
  await plane.client.create(deploymentKind, inTeam(deployment('web', { replicas: 2 })))
  await plane.client.create(serviceKind, inTeam(service('web')))
  await plane.client.create(secretKind, inTeam(object('Secret', 'v1', 'key', { data: { a: 'Yg==' } })))
  await plane.client.create(
    configMapKind,
    inTeam(object('ConfigMap', 'v1', 'held', {}, { finalizers: ['example.com/hold'] })),
  )
  await plane.until('The pods run', () => plane.engine.jails.size === 2)
  plane.engine.autoremove = false
  await plane.client.delete(namespaceKind, { name: 'team' })
  await plane.until('The pods are being removed', () => plane.engine.removed.length >= 2)
  await plane.settle()
  assert.ok(
    plane.client.find(secretKind, { namespace: 'team', name: 'key' }),
    'the secret waits for the pods',
  )
  for (const id of plane.engine.jails.keys()) plane.engine.gone(id)
  plane.engine.autoremove = true
  await plane.until('Only the held one is left', () => {
    const found = plane.client.find(namespaceKind, { name: 'team' })
    return found?.status?.conditions?.some(
      (c) =>
        c.type === 'NamespaceFinalizersRemaining' &&
        c.status === 'True' &&
        c.message?.includes('example.com/hold'),
    )
  })
  assert.ok(!plane.client.find(secretKind, { namespace: 'team', name: 'key' }))
  await plane.client.patch(
    configMapKind,
    { namespace: 'team', name: 'held' },
    { metadata: { finalizers: null } },
    { type: 'application/merge-patch+json' },
  )
  await plane.until('The namespace is gone', () => !plane.client.find(namespaceKind, { name: 'team' }))
  assert.equal(plane.engine.jails.size, 0)
})

test('background deletion of a deployment takes ReplicaSets and pods with it', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(deploymentKind, deployment('web', { replicas: 2 }))
  await plane.until('The pods run', () => plane.engine.jails.size === 2)
  await plane.client.delete(deploymentKind, { ...DEFAULT, name: 'web' }, { propagationPolicy: 'Background' })
  await plane.until(
    'Everything is gone',
    () => plane.pods().length + plane.client.all(replicaSetKind).length === 0,
  )
  await plane.until('The jails too', () => plane.engine.jails.size === 0)
})

test('foreground deletion keeps the owner until the last pod is gone', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(deploymentKind, deployment('web', { replicas: 2 }))
  await plane.until('The rollout', () => isAvailable(plane, 'web'))
  plane.engine.autoremove = false
  await plane.client.delete(deploymentKind, { ...DEFAULT, name: 'web' }, { propagationPolicy: 'Foreground' })
  await plane.until('The pods are being removed', () => plane.engine.removed.length === 2)
  await plane.settle()
  assert.ok(plane.client.find(deploymentKind, { ...DEFAULT, name: 'web' }))
  assert.equal(plane.client.all(replicaSetKind).length, 1)
  for (const id of plane.engine.jails.keys()) plane.engine.gone(id)
  await plane.until(
    'Everything is gone',
    () => !plane.client.find(deploymentKind, { ...DEFAULT, name: 'web' }),
  )
  assert.equal(plane.client.all(replicaSetKind).length, 0)
  assert.equal(plane.pods().length, 0)
})

test('orphaning leaves the pods running, and the next ReplicaSet adopts them', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(replicaSetKind, replicaSet('web', { replicas: 2 }))
  await plane.until(
    'The pods run',
    () => plane.pods().filter((p) => p.status?.phase === 'Running').length === 2,
  )
  const uids = plane.pods().map((p) => p.metadata.uid)
  await plane.client.delete(replicaSetKind, { ...DEFAULT, name: 'web' }, { propagationPolicy: 'Orphan' })
  await plane.until('The set is gone', () => plane.client.all(replicaSetKind).length === 0)
  await plane.settle()
  assert.deepEqual(
    plane.pods().map((p) => p.metadata.ownerReferences?.length),
    [0, 0],
  )
  await plane.client.create(replicaSetKind, replicaSet('web', { replicas: 2 }))
  await plane.until('They are adopted', () =>
    plane.pods().every((p) => p.metadata.ownerReferences?.length === 1),
  )
  await plane.settle()
  assert.deepEqual(
    plane.pods().map((p) => p.metadata.uid),
    uids,
  )
})

test('an object whose owner is unknown stays, one whose owner is gone or in another namespace goes', async () => {
  await using plane = await TestControlPlane.start()
  const owner = await plane.client.create(configMapKind, object('ConfigMap', 'v1', 'owner'))
  const owned = (name: string, owners: object[], namespace = 'default') =>
    plane.client.create(
      configMapKind,
      object('ConfigMap', 'v1', name, {}, { namespace, ownerReferences: owners }),
    )
  const reference = { apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid: owner.metadata.uid }
  await owned('child', [reference])
  await owned('elsewhere', [reference], 'kube-system')
  await owned('dangling', [{ ...reference, uid: '6f1f5a5e-0000-4000-8000-000000000000' }])
  await owned('half', [reference, { ...reference, name: 'no', uid: '6f1f5a5e-0000-4000-8000-000000000000' }])
  await owned('strange', [{ apiVersion: 'example.com/v1', kind: 'Widget', name: 'w', uid: 'u' }])
  const names = () =>
    plane.client
      .all(configMapKind)
      .map((found) => found.metadata.name)
      .filter((name) => name !== 'kube-root-ca.crt')
      .toSorted()
  await plane.until('Those without owner are gone', () => names().length === 4)
  await plane.settle()
  assert.deepEqual(names(), ['child', 'half', 'owner', 'strange'])
  assert.deepEqual(plane.client.find(configMapKind, { ...DEFAULT, name: 'half' })?.metadata.ownerReferences, [
    reference,
  ])
  await plane.client.delete(configMapKind, { ...DEFAULT, name: 'owner' })
  await plane.until('The children go with it', () => names().length === 1)
})

test('owners in a circle are deleted with each other, also in the foreground', async () => {
  await using plane = await TestControlPlane.start()
  const made = []
  for (const name of ['p0', 'p1', 'p2']) made.push(await plane.client.create(podKind, pod(name)))
  for (const [index, { metadata }] of made.entries()) {
    const { name, uid } = made.at(index - 1)?.metadata ?? assert.fail()
    const owner = { apiVersion: 'v1', kind: 'Pod', name, uid, controller: true, blockOwnerDeletion: true }
    await setOwners(plane, metadata.name, [owner])
  }
  await plane.until('All run', () => plane.engine.jails.size === 3)
  await plane.settle()
  assert.equal(plane.pods().length, 3)
  await plane.client.delete(podKind, { ...DEFAULT, name: 'p0' }, { propagationPolicy: 'Foreground' })
  await plane.until('The circle is gone', () => plane.pods().length === 0)
})

test('what has an owner that waits for it, and one that stays, belongs to the one that stays', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(replicationControllerKind, replicationController('leaves', 4))
  await plane.client.create(replicationControllerKind, replicationController('stays', 0))
  await plane.until('The pods run', () => plane.engine.jails.size === 4)
  await plane.settle()
  const stays = plane.client.find(replicationControllerKind, { ...DEFAULT, name: 'stays' })
  const reference = {
    apiVersion: 'v1',
    kind: 'ReplicationController',
    name: 'stays',
    uid: stays?.metadata.uid,
  }
  const shared = plane.pods().slice(0, 2)
  for (const { metadata } of shared)
    await setOwners(plane, metadata.name, [...(metadata.ownerReferences ?? []), reference])
  const leaves = { ...DEFAULT, name: 'leaves' }
  await plane.client.delete(replicationControllerKind, leaves, { propagationPolicy: 'Foreground' })
  await plane.until('It has gone', () => !plane.client.find(replicationControllerKind, leaves))
  await plane.settle()
  assert.deepEqual(
    plane.pods().map(({ metadata }) => [metadata.uid, metadata.deletionTimestamp, metadata.ownerReferences]),
    shared.map(({ metadata }) => [metadata.uid, undefined, [reference]]),
  )
})

test('a control plane that comes back touches no running pod and writes nothing', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(serviceKind, service('web'))
  await plane.client.create(deploymentKind, deployment('web', { replicas: 2 }))
  await plane.until('The rollout', () => isAvailable(plane, 'web'))
  await plane.settle()
  plane.clock.advance(1_000)
  await plane.settle()
  const jails = new Map([...plane.engine.jails].map(([id, { jail }]) => [id, JSON.stringify(jail)]))
  await plane.pause()
  const writes = plane.client.writes.length
  await plane.resume()
  await plane.settle()
  plane.clock.advance(1_000)
  await plane.settle()
  assert.deepEqual(plane.client.writes.slice(writes), [])
  assert.deepEqual(
    new Map([...plane.engine.jails].map(([id, { jail }]) => [id, JSON.stringify(jail)])),
    jails,
  )
  assert.equal(plane.engine.removed.length, 0)
})

test('a rollout that was cut off at any moment is finished by the next control plane', async () => {
  await using plane = await TestControlPlane.start()
  await plane.client.create(deploymentKind, deployment('web', { replicas: 4 }))
  await plane.until('The first rollout', () => isAvailable(plane, 'web'))
  await plane.client.patch(
    deploymentKind,
    { ...DEFAULT, name: 'web' },
    { spec: { template: podTemplate('web', 'registry.test/web:2') } },
    { type: 'application/merge-patch+json' },
  )
  for (let cut = 0; cut < 25; cut += 1) {
    // Every control plane gets to write a little more than the one before.
    let allowed = cut % 5
    plane.client.intercept = ({ verb }) => {
      if (verb === 'get' || verb === 'list') return
      if (allowed-- <= 0) throw new ApiError('ServiceUnavailable', 'The control plane is going away')
    }
    await plane.settle()
    await plane.pause()
    plane.client.intercept = undefined
    await plane.resume()
  }
  await plane.until('The rollout is done', () => {
    const found: Deployment | undefined = plane.client.find(deploymentKind, { ...DEFAULT, name: 'web' })
    return isAvailable(plane, 'web') && found?.status?.updatedReplicas === 4 && plane.pods().length === 4
  })
  assert.ok(plane.pods().every((p) => p.spec.containers[0]?.image === 'registry.test/web:2'))
  assert.equal(plane.client.all(replicaSetKind).length, 2)
})
