import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { type KubeObject, podKind, serviceAccountKind } from '../api/index.ts'
import { ControlPlane, type Json } from '../../tests/conformance/control-plane.ts'
import { until } from '../stdx/index.ts'
import { LIST_BATCH } from './limits.ts'

const NAMESPACE = '/api/v1/namespaces/default'
const RBAC = '/apis/rbac.authorization.k8s.io/v1'

test('a list of small pages with a selector reads an old revision in large steps, and shows each object once', async () => {
  await using plane = await ControlPlane.start()
  const put = (name: string, labels: Record<string, string>) =>
    plane.store.put(
      `configmaps./default/${name}`,
      {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name, namespace: 'default', uid: name, labels },
      } as unknown as KubeObject,
      0,
    )
  const count = 2 * LIST_BATCH + 10
  const name = (i: number) => `c${String(i).padStart(5, '0')}`
  await Promise.all(
    Array.from({ length: count }, (_, i) => put(name(i), i % 500 === 499 ? { odd: 'one' } : {})),
  )
  const { revision } = plane.store
  await put('later', { odd: 'one' })
  let reads = 0
  const { list } = plane.store
  plane.store.list = (...args) => {
    reads++
    return list.apply(plane.store, args)
  }
  const found: string[] = []
  let next = `resourceVersion=${revision}&resourceVersionMatch=Exact`
  for (;;) {
    const { code, body } = await plane.ask(
      'GET',
      `${NAMESPACE}/configmaps?limit=1&labelSelector=odd%3Done&${next}`,
    )
    assert.equal(code, 200)
    found.push(...body.items.map((item: Json) => item.metadata.name))
    if (!body.metadata.continue) break
    next = `continue=${body.metadata.continue}`
  }
  assert.deepEqual(found, [name(499), name(999), name(1499), name(1999)])
  assert.ok(reads <= 5 * 3, `${reads} reads of the store`)
})

test('a pod whose grace would last for thousands of years can be deleted', async () => {
  await using plane = await ControlPlane.start()
  const client = plane.server.client('scheduler')
  const forEver = Number.MAX_SAFE_INTEGER
  for (const [name, spec, body] of [
    ['asked', {}, { gracePeriodSeconds: forEver }],
    ['told', { terminationGracePeriodSeconds: forEver }, {}],
  ] as const) {
    const pod = { metadata: { name }, spec: { containers: [{ name: 'c', image: 'x' }], ...spec } }
    assert.equal((await plane.ask('POST', `${NAMESPACE}/pods`, { body: pod })).code, 201)
    await client.patch(
      podKind,
      { namespace: 'default', name },
      { spec: { nodeName: 'n' } },
      { type: 'application/merge-patch+json' },
    )
    const answer = await plane.ask('DELETE', `${NAMESPACE}/pods/${name}`, { body })
    assert.equal(answer.code, 200, answer.text)
    assert.match(answer.body.metadata.deletionTimestamp, /^20\d\d-/)
  }
})

test('names and times that could not be read again are refused', async () => {
  await using plane = await ControlPlane.start()
  const raw = '{"metadata":{"name":"a\\ud800"},"rules":[]}'
  assert.equal((await plane.ask('POST', `${RBAC}/clusterroles`, { raw })).code, 422)
  for (const renewTime of ['9999-12-31T23:59:59.000000-23:59', '0000-01-01T00:00:00.000000+23:00']) {
    const lease = { metadata: { name: 'l' }, spec: { renewTime } }
    const path = '/apis/coordination.k8s.io/v1/namespaces/default/leases'
    assert.equal((await plane.ask('POST', path, { body: lease })).code, 400)
  }
})

test('warnings about very many odd fields stay small enough for every reader of headers', async () => {
  await using plane = await ControlPlane.start()
  const odd = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`${'"'.repeat(250)}${i}`, 1]))
  const answer = await plane.ask('POST', `${NAMESPACE}/configmaps`, {
    body: { metadata: { name: 'c' }, ...odd },
  })
  assert.equal(answer.code, 201)
  const bytes = String(answer.headers['warning']).length
  assert.ok(bytes > 0 && bytes <= 5_000, `${bytes}`)
})

test('a TokenReview cannot ask for thousands of checks of one signature', async () => {
  await using plane = await ControlPlane.start()
  await plane.server
    .client('test')
    .create(serviceAccountKind, { metadata: { name: 'builder', namespace: 'default' } })
  const made = await plane.ask('POST', `${NAMESPACE}/serviceaccounts/builder/token`, { body: { spec: {} } })
  const audiences = Array.from({ length: 5_000 }, (_, i) => `a${i}`)
  const body = { spec: { token: made.body.status.token, audiences } }
  assert.equal((await plane.ask('POST', '/apis/authentication.k8s.io/v1/tokenreviews', { body })).code, 400)
})

test('a tenant cannot say that a pod has ended to make room in its quota', async () => {
  await using plane = await ControlPlane.start()
  const path = `${NAMESPACE}/pods`
  const body = { metadata: { name: 'p' }, spec: { containers: [{ name: 'c', image: 'x' }] } }
  await plane.ask('POST', path, { body })
  const type = 'application/merge-patch+json'
  for (const phase of ['Succeeded', 'Failed']) {
    const answer = await plane.ask('PATCH', `${path}/p/status`, { type, body: { status: { phase } } })
    assert.equal(answer.code, 422, answer.text)
  }
  const status = { reason: 'Told', message: 'x' }
  assert.equal((await plane.ask('PATCH', `${path}/p/status`, { type, body: { status } })).code, 200)
  const client = plane.server.client('pods')
  const ended = { status: { phase: 'Succeeded' } }
  await client.patch(podKind, { namespace: 'default', name: 'p' }, ended, { type, subresource: 'status' })
  assert.equal((await plane.ask('PATCH', `${path}/p/status`, { type, body: { status } })).code, 200)
})

test('clients that ask for large lists and do not read them are told to wait', async () => {
  await using plane = await ControlPlane.start()
  const data = { text: 'x'.repeat(1_000_000) }
  const body = (i: number) => ({ metadata: { name: `c${i}` }, data })
  for (let i = 0; i < 20; i++)
    assert.equal((await plane.ask('POST', `${NAMESPACE}/configmaps`, { body: body(i) })).code, 201)
  const sockets = Array.from({ length: 4 }, () => {
    const socket = connect(plane.port, '127.0.0.1')
    socket.on('error', () => {})
    socket.pause()
    socket.write(`GET ${NAMESPACE}/configmaps HTTP/1.1\r\nhost: x\r\n\r\n`)
    return socket
  })
  try {
    await until(async () => (await plane.ask('GET', `${NAMESPACE}/configmaps?limit=1`)).code === 429)
    assert.equal((await plane.ask('GET', `${NAMESPACE}/configmaps/c1`)).code, 200)
  } finally {
    for (const socket of sockets) socket.destroy()
  }
  await until(async () => (await plane.ask('GET', `${NAMESPACE}/configmaps?limit=1`)).code === 200)
})

test('clients that leave while their list is compressed do not count as slow readers afterwards', async () => {
  await using plane = await ControlPlane.start()
  const data = {
    text: Array.from({ length: 40_000 }, () => Math.random().toString(36))
      .join('')
      .slice(0, 900_000),
  }
  for (let i = 0; i < 10; i++)
    await plane.ask('POST', `${NAMESPACE}/configmaps`, { body: { metadata: { name: `c${i}` }, data } })
  for (let i = 0; i < 12; i++) {
    const socket = connect(plane.port, '127.0.0.1')
    socket.on('error', () => {})
    await new Promise<void>((resolve) =>
      socket.write(`GET ${NAMESPACE}/configmaps HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\n\r\n`, () =>
        resolve(),
      ),
    )
    await new Promise((resolve) => setImmediate(resolve))
    socket.destroy()
  }
  await until(async () => (await plane.ask('GET', `${NAMESPACE}/configmaps?limit=1`)).code === 200)
})
