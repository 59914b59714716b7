import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deploymentKind, podKind } from '../api/index.ts'
import { ControlPlane, type Json } from '../../tests/conformance/control-plane.ts'

/** What a namespace's labels and the operator say about pods, as it meets whoever writes one. */

const LABEL = 'pod-security.kubernetes.io'
const NAMESPACES = '/api/v1/namespaces'
const PODS = `${NAMESPACES}/team/pods`
const DEPLOYMENTS = '/apis/apps/v1/namespaces/team/deployments'

const bare = { containers: [{ name: 'a', image: 'registry.test/app' }] }
const pod = (spec: Json = bare): Json => ({ metadata: { name: 'p' }, spec })
const deployment = (spec: Json = bare, more: Json = {}): Json => ({
  metadata: { name: 'd' },
  spec: {
    selector: { matchLabels: { app: 'd' } },
    template: { metadata: { labels: { app: 'd' } }, spec },
    ...more,
  },
})
const namespace = (labels: Record<string, string> = {}): Json => ({ metadata: { name: 'team', labels } })
const warnings = (headers: Json): string[] =>
  [headers.warning ?? []].flat().flatMap((line: string) => line.split(/, (?=299 )/))

test('a pod and whatever would make it are refused alike where a level is enforced', async () => {
  await using plane = await ControlPlane.start()
  await plane.ask('POST', NAMESPACES, { body: namespace({ [`${LABEL}/enforce`]: 'restricted' }) })
  const refused = await plane.ask('POST', PODS, { body: pod() })
  assert.equal(refused.code, 403, refused.text)
  assert.match(
    refused.body.message,
    /^pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false \(container "a" must set securityContext\.allowPrivilegeEscalation=false\), unrestricted/,
  )
  const workload = await plane.ask('POST', DEPLOYMENTS, { body: deployment() })
  assert.equal(workload.code, 403, workload.text)
  assert.match(workload.body.message, /^deployments\.apps "d" is forbidden: violates PodSecurity "restricted/)
  assert.equal((await plane.ask('GET', `${DEPLOYMENTS}/d`)).code, 404)
})

test('a controller makes no pod that the namespace forbids, and can still write down what there is', async () => {
  await using plane = await ControlPlane.start()
  await plane.ask('POST', NAMESPACES, { body: namespace() })
  assert.equal((await plane.ask('POST', PODS, { body: pod() })).code, 201)
  assert.equal((await plane.ask('POST', DEPLOYMENTS, { body: deployment() })).code, 201)
  await plane.ask('PATCH', `${NAMESPACES}/team`, {
    type: 'application/merge-patch+json',
    body: namespace({ [`${LABEL}/enforce`]: 'restricted' }),
  })
  const controller = plane.server.client('controllers')
  await assert.rejects(
    controller.create(podKind, { ...pod(), metadata: { name: 'q', namespace: 'team' } }),
    /violates PodSecurity/,
  )
  const known = await controller.get(podKind, { namespace: 'team', name: 'p' })
  await controller.update(podKind, { ...known, spec: { ...known.spec, nodeName: 'node' } })
  // Its owner can still scale and delete it, and must mend the template once it is touched.
  const patch = (body: Json) =>
    plane.ask('PATCH', `${DEPLOYMENTS}/d`, { type: 'application/merge-patch+json', body })
  assert.equal((await patch({ spec: { replicas: 0 } })).code, 200)
  assert.equal((await patch({ spec: { template: { spec: { hostname: 'h' } } } })).code, 403)
  assert.equal((await controller.get(deploymentKind, { namespace: 'team', name: 'd' })).spec.replicas, 0)
})

test('labels advise with warnings, and name the pods that a new level would not let in', async () => {
  await using plane = await ControlPlane.start()
  await plane.ask('POST', NAMESPACES, { body: namespace({ [`${LABEL}/warn`]: 'restricted' }) })
  const made = await plane.ask('POST', DEPLOYMENTS, { body: deployment() })
  assert.equal(made.code, 201)
  assert.ok(
    warnings(made.headers).some((w) => w.includes('would violate PodSecurity')),
    made.text,
  )
  await plane.ask('POST', PODS, { body: pod() })
  const labelled = await plane.ask('PATCH', `${NAMESPACES}/team`, {
    type: 'application/merge-patch+json',
    body: namespace({ [`${LABEL}/enforce`]: 'restricted' }),
  })
  assert.equal(labelled.code, 200)
  const told = warnings(labelled.headers).join('\n')
  assert.match(told, /existing pods in namespace/)
  assert.match(told, /p: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true/)
})

test('what an audit label finds is noted for the gateway, which writes the audit log', async () => {
  await using plane = await ControlPlane.start()
  await plane.ask('POST', NAMESPACES, {
    body: namespace({ [`${LABEL}/audit`]: 'restricted', [`${LABEL}/audit-version`]: 'v1.7' }),
  })
  const made = await plane.ask('POST', PODS, { body: pod() })
  assert.equal(made.code, 201)
  assert.equal(
    made.headers['x-bulkhead-audit-note'],
    'PodSecurity: would violate PodSecurity "restricted:v1.7": runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true)',
  )
  assert.equal(made.headers['warning'], undefined)
})

test('a label that cannot be read is refused', async () => {
  await using plane = await ControlPlane.start()
  const refused = await plane.ask('POST', NAMESPACES, {
    body: namespace({ [`${LABEL}/enforce`]: 'strict', [`${LABEL}/warn-version`]: '1.24' }),
  })
  assert.equal(refused.code, 422)
  assert.equal(refused.body.details.causes.length, 2)
})

test('a tenant cannot lower the level that the operator requires', async () => {
  await using plane = await ControlPlane.start()
  plane.server.setLimits({ podSecurity: 'restricted' })
  const made = await plane.ask('POST', NAMESPACES, {
    body: namespace({ [`${LABEL}/enforce`]: 'privileged' }),
  })
  assert.equal(made.code, 201)
  assert.match(warnings(made.headers).join(), /has no effect: the operator requires/)
  for (const [path, body] of [
    [PODS, pod()],
    [DEPLOYMENTS, deployment()],
  ] as const) {
    const refused = await plane.ask('POST', path, { body })
    assert.equal(refused.code, 403)
    assert.match(refused.body.message, /; the operator requires this level of the whole tenant$/)
  }
  // A weaker version of the same level does not help.
  await plane.ask('PATCH', `${NAMESPACES}/team`, {
    type: 'application/merge-patch+json',
    body: namespace({ [`${LABEL}/enforce`]: 'restricted', [`${LABEL}/enforce-version`]: 'v1.0' }),
  })
  const nonRoot = { ...bare, securityContext: { runAsNonRoot: true } }
  assert.equal((await plane.ask('POST', PODS, { body: pod(nonRoot) })).code, 403)
})

test('an image from elsewhere is refused in the workload that names it, with the field and what is allowed', async () => {
  await using plane = await ControlPlane.start()
  plane.server.setLimits({ registries: ['registry.test', 'docker.io/library'] })
  await plane.ask('POST', NAMESPACES, { body: namespace() })
  const spec = {
    initContainers: [{ name: 'i', image: 'evil.test/x' }],
    containers: [
      { name: 'a', image: 'registry.test/app' },
      { name: 'b', image: 'nginx' },
      { name: 'c', image: 'someone/nginx' },
      { name: 'd', image: 'registry.test.evil.test/app' },
      { name: 'e', image: 'UPPER/case' },
    ],
  }
  const refused = await plane.ask('POST', DEPLOYMENTS, { body: deployment(spec) })
  assert.equal(refused.code, 422, refused.text)
  const at = 'spec.template.spec'
  assert.deepEqual(
    refused.body.details.causes.map(({ field }: Json) => field),
    [0, 2, 3, 4].map((index) =>
      index === 0 ? `${at}.initContainers[0].image` : `${at}.containers[${index}].image`,
    ),
  )
  assert.equal(
    refused.body.details.causes[0].message,
    'Forbidden: evil.test/x is not in a registry that this tenant may use (vector: images and image cache). Instead: use an image from registry.test, docker.io/library',
  )
  assert.equal((await plane.ask('POST', DEPLOYMENTS, { body: deployment() })).code, 201)
  plane.server.setLimits({ registries: [] })
  const scaled = await plane.ask('PATCH', `${DEPLOYMENTS}/d`, {
    type: 'application/merge-patch+json',
    body: { spec: { replicas: 2 } },
  })
  assert.equal(scaled.code, 200, 'what is there can still be scaled')
  assert.match((await plane.ask('POST', PODS, { body: pod() })).body.message, /this tenant has none/)
})

test('what could not be an image is refused in the workload that names it, also where every registry may be used', async () => {
  await using plane = await ControlPlane.start()
  await plane.ask('POST', NAMESPACES, { body: namespace() })
  for (const image of [
    'a b',
    'registry.test/\u0430pp',
    'app@sha256:12',
    'app:',
    'registry.\u212A8s.test/app',
    'UPPER/x:1:2',
  ]) {
    const body = deployment({ containers: [{ name: 'c', image }] })
    const { code, body: refused } = await plane.ask('POST', DEPLOYMENTS, { body })
    assert.equal(code, 422, image)
    assert.deepEqual(
      refused.details.causes.map(({ field }: Json) => field),
      ['spec.template.spec.containers[0].image'],
      image,
    )
  }
})

test('images, the level and everything else that is wrong are told at once', async () => {
  await using plane = await ControlPlane.start()
  plane.server.setLimits({ registries: ['registry.test'], podSecurity: 'restricted' })
  await plane.ask('POST', NAMESPACES, { body: namespace() })
  const fields = async (spec: Json) => {
    const { code, body } = await plane.ask('POST', PODS, { body: pod(spec) })
    assert.equal(code, 422)
    return body.details.causes.map(({ field }: Json) => field).sort()
  }
  const elsewhere = { containers: [{ name: 'a', image: 'evil.test/x' }] }
  assert.deepEqual(await fields(elsewhere), ['spec', 'spec.containers[0].image'])
  assert.deepEqual(await fields({ ...elsewhere, hostPID: true, hostname: '-' }), [
    'spec',
    'spec.containers[0].image',
    'spec.hostPID',
    'spec.hostname',
  ])
})
