import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Answer, ControlPlane, type Json } from './control-plane.ts'

/** What upstream's conformance tests ask of an API server without a single container, where no other test does. */

const NS = '/api/v1/namespaces/default'
const MERGE = 'application/merge-patch+json'

async function created(plane: ControlPlane, path: string, body: Json): Promise<Json> {
  const answer = await plane.ask('POST', path, { body })
  assert.equal(answer.code, 201, answer.text)
  return answer.body
}

const patch = (plane: ControlPlane, path: string, body: Json): Promise<Answer> =>
  plane.ask('PATCH', path, { body, type: MERGE })

for (const plural of ['configmaps', 'secrets'])
  test(`${plural}: immutable means immutable, and empty keys are refused`, async () => {
    await using plane = await ControlPlane.start()
    const data = { a: 'MQ==' }
    await created(plane, `${NS}/${plural}`, { metadata: { name: 'fixed' }, data })
    assert.equal((await patch(plane, `${NS}/${plural}/fixed`, { data: { a: 'Mg==' } })).code, 200)
    assert.equal((await patch(plane, `${NS}/${plural}/fixed`, { immutable: true })).code, 200)
    for (const change of [{ data: { a: 'Mw==' } }, { immutable: false }, { immutable: null }]) {
      const { code, body } = await patch(plane, `${NS}/${plural}/fixed`, change)
      assert.deepEqual([code, body.reason], [422, 'Invalid'])
    }
    assert.equal(
      (await patch(plane, `${NS}/${plural}/fixed`, { metadata: { labels: { a: 'b' } } })).code,
      200,
    )
    assert.equal((await plane.ask('DELETE', `${NS}/${plural}/fixed`)).code, 200)
    const empty = await plane.ask('POST', `${NS}/${plural}`, {
      body: { metadata: { name: 'empty' }, data: { '': 'MQ==' } },
    })
    assert.equal(empty.code, 422)
  })

/** The versions that a watch tells, until there were so many. */
async function versionsOf(plane: ControlPlane, path: string, count: number): Promise<string[]> {
  const leaving = new AbortController()
  const { body } = await fetch(`http://127.0.0.1:${plane.port}${path}`, { signal: leaving.signal })
  const versions: string[] = []
  let rest = ''
  for await (const chunk of (body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) versions.push((JSON.parse(line) as Json).object.metadata.resourceVersion)
    if (versions.length >= count) break
  }
  leaving.abort()
  return versions
}

test('watches that run at the same time hear everything in one order, and one goes on where another was', async () => {
  await using plane = await ControlPlane.start()
  const first = await created(plane, `${NS}/configmaps`, { metadata: { name: 'cm' } })
  const watch = (from: string) => `${NS}/configmaps?watch=true&resourceVersion=${from}`
  const watches = Array.from({ length: 5 }, async () =>
    versionsOf(plane, watch(first.metadata.resourceVersion), 10),
  )
  await Promise.all(
    Array.from({ length: 10 }, async (_, index) =>
      patch(plane, `${NS}/configmaps/cm`, { data: { [`k${index}`]: 'v' } }),
    ),
  )
  const [order = [], ...others] = await Promise.all(watches)
  assert.equal(order.length, 10)
  for (const other of others) assert.deepEqual(other, order)
  assert.deepEqual(await versionsOf(plane, watch(order[1] ?? ''), 8), order.slice(2))
})

test('what has no metadata is no table', async () => {
  await using plane = await ControlPlane.start()
  const body = { spec: { nonResourceAttributes: { path: '/', verb: 'get' } } }
  const { code } = await plane.ask('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
    body,
    accept: 'application/json;as=Table;v=v1;g=meta.k8s.io',
  })
  assert.equal(code, 406)
})

test('a namespace is updated, patched, reported on and kept by finalizers', async () => {
  await using plane = await ControlPlane.start()
  const path = '/api/v1/namespaces/life'
  const made = await created(plane, '/api/v1/namespaces', { metadata: { name: 'life' } })
  assert.deepEqual([made.status.phase, made.spec.finalizers], ['Active', ['kubernetes']])
  const labelled = await plane.ask('PUT', path, {
    body: { ...made, metadata: { ...made.metadata, labels: { ...made.metadata.labels, updated: 'yes' } } },
  })
  assert.equal(labelled.body.metadata.labels.updated, 'yes')
  const condition = { type: 'Odd', status: 'True', reason: 'Tested', message: 'seen' }
  const reported = await patch(plane, `${path}/status`, { status: { conditions: [condition] } })
  assert.deepEqual([reported.code, reported.body.status.conditions[0].type], [200, 'Odd'])
  const finalizers = [...made.spec.finalizers, 'example.com/mine']
  const kept = await plane.ask('PUT', `${path}/finalize`, {
    body: { ...reported.body, spec: { finalizers } },
  })
  assert.deepEqual([kept.code, kept.body.spec.finalizers], [200, finalizers])
})

test('a pod is listed, patched, reported on, and says what class of service it has', async () => {
  await using plane = await ControlPlane.start()
  const container = (resources: Json) => [{ name: 'c', image: 'x:1', resources }]
  const amounts = { cpu: '100m', memory: '64Mi' }
  const classOf = async (name: string, resources: Json) =>
    (await created(plane, `${NS}/pods`, { metadata: { name }, spec: { containers: container(resources) } }))
      .status.qosClass
  assert.equal(await classOf('g', { limits: amounts, requests: amounts }), 'Guaranteed')
  assert.equal(await classOf('b', { requests: { cpu: '1m' } }), 'Burstable')
  assert.equal(await classOf('e', {}), 'BestEffort')
  const deadline = await patch(plane, `${NS}/pods/e`, { spec: { activeDeadlineSeconds: 30 } })
  assert.deepEqual([deadline.code, deadline.body.spec.activeDeadlineSeconds], [200, 30])
  assert.equal((await patch(plane, `${NS}/pods/e`, { spec: { activeDeadlineSeconds: 60 } })).code, 422)
  const status = { conditions: [{ type: 'Odd', status: 'True' }] }
  const reported = await patch(plane, `${NS}/pods/e/status`, { status })
  assert.ok(reported.body.status.conditions.some(({ type }: Json) => type === 'Odd'))
  const { code } = await plane.ask('DELETE', `${NS}/pods?labelSelector=none%3Dsuch`)
  assert.equal(code, 200)
  assert.equal((await plane.ask('GET', `${NS}/pods/e`)).code, 200)
})

test('a service changes from an address to a name and back', async () => {
  await using plane = await ControlPlane.start()
  const service = { metadata: { name: 's' }, spec: { ports: [{ port: 80 }], selector: { app: 'x' } } }
  const made = await created(plane, `${NS}/services`, service)
  assert.match(made.spec.clusterIP, /^10\./)
  const spec = { type: 'ExternalName', externalName: 'example.com' }
  const other = {
    ...made,
    spec: { ...made.spec, ...spec, clusterIP: '10.96.9.9', clusterIPs: ['10.96.9.9'] },
  }
  assert.equal((await plane.ask('PUT', `${NS}/services/s`, { body: other })).code, 422)
  // As a client writes it that changes what it has read: with the address that the service was given.
  const named = await plane.ask('PUT', `${NS}/services/s`, {
    body: { ...made, spec: { ...made.spec, ...spec } },
  })
  assert.equal(named.code, 200, JSON.stringify(named.body))
  const { clusterIP, clusterIPs, ipFamilies, ipFamilyPolicy } = named.body.spec
  assert.deepEqual(
    [clusterIP, clusterIPs, ipFamilies, ipFamilyPolicy],
    [undefined, undefined, undefined, undefined],
  )
  const back = await patch(plane, `${NS}/services/s`, { spec: { type: 'ClusterIP', externalName: null } })
  assert.match(back.body.spec.clusterIP, /^10\./)
  const found = await plane.ask('GET', '/api/v1/services')
  assert.ok(found.body.items.some(({ metadata }: Json) => metadata.name === 's'))
})

test('an affinity ends with its timeout, which is written back as it was read', async () => {
  await using plane = await ControlPlane.start()
  const spec = { ports: [{ port: 80 }], sessionAffinity: 'ClientIP' }
  const made = await created(plane, `${NS}/services`, { metadata: { name: 's' }, spec })
  assert.deepEqual(made.spec.sessionAffinityConfig, { clientIP: { timeoutSeconds: 10_800 } })
  const put = (more: Json) =>
    plane.ask('PUT', `${NS}/services/s`, {
      body: { ...made, spec: { ...made.spec, sessionAffinity: 'None', ...more } },
    })
  assert.equal((await put({ sessionAffinityConfig: { clientIP: { timeoutSeconds: 5 } } })).code, 422)
  const ended = await put({})
  assert.deepEqual([ended.code, ended.body.spec.sessionAffinityConfig], [200, undefined])
})

test('an account is reviewed by its token, and a review says what somebody may do', async () => {
  await using plane = await ControlPlane.start()
  await created(plane, `${NS}/serviceaccounts`, { metadata: { name: 'bot' } })
  const token = await created(plane, `${NS}/serviceaccounts/bot/token`, {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec: {},
  })
  const review = await created(plane, '/apis/authentication.k8s.io/v1/tokenreviews', {
    spec: { token: token.status.token },
  })
  assert.deepEqual(
    [review.status.authenticated, review.status.user.username],
    [true, 'system:serviceaccount:default:bot'],
  )
  const attributes = { namespace: 'default', verb: 'list', resource: 'secrets' }
  const may = async (user: string) =>
    (
      await created(plane, '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
        spec: { user, resourceAttributes: attributes },
      })
    ).status.allowed
  assert.equal(await may('system:serviceaccount:default:bot'), false)
  const local = await created(
    plane,
    '/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews',
    { metadata: { namespace: 'default' }, spec: { user: 'somebody', resourceAttributes: attributes } },
  )
  assert.equal(local.status.allowed, false)
})
