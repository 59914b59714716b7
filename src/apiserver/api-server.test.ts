import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { duplexPair, Readable } from 'node:stream'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { ApiError, type KubeObject, type UserInfo, configMapKind, nodeKind, podKind } from '../api/index.ts'
import type { Engine } from '../jail/index.ts'
import { type AnswerListener, AnsweringEnd, AskingEnd } from '../link/index.ts'
import { FakeClock, silentLogger, until } from '../stdx/index.ts'
import { type Answer, ControlPlane, type Json, TENANT } from '../../tests/conformance/control-plane.ts'
import { createStreamHandler } from './streams/index.ts'

const CMS = '/api/v1/namespaces/default/configmaps'
const PODS = '/api/v1/namespaces/default/pods'
const eve: UserInfo = { kind: 'tenantUser', tenant: TENANT, name: 'eve', groups: [] }

const configMap = (name: string, more: Json = {}): Json => ({
  metadata: { name, ...more.metadata },
  data: { a: '1', ...more.data },
})
const pod = (name: string, more: Json = {}): Json => ({
  metadata: { name },
  spec: { containers: [{ name: 'c', image: 'x' }], ...more },
})

function expectStatus(answer: Answer, code: number, message?: string): void {
  assert.equal(answer.code, code, answer.text)
  assert.equal(answer.body.kind, 'Status')
  if (message !== undefined) assert.equal(answer.body.message, message)
}

async function created(plane: ControlPlane, path: string, body: Json): Promise<Json> {
  const answer = await plane.ask('POST', path, { body })
  assert.equal(answer.code, 201, answer.text)
  return answer.body
}

test('a no is the same bytes for what is there and what is not, whatever is asked of it', async () => {
  await using plane = await ControlPlane.start()
  await created(plane, CMS, configMap('real'))
  await created(plane, '/api/v1/namespaces', { metadata: { name: 'real' } })
  const ask = async (method: string, path: string) => {
    const body = method === 'GET' || method === 'DELETE' ? {} : { body: { metadata: { name: 'x' } } }
    const { code, text, headers } = await plane.ask(method, path, { user: eve, ...body })
    return { code, text, type: headers['content-type'] }
  }
  const same = async (method: string, real: string, invented: string) => {
    const [a, b] = [await ask(method, real), await ask(method, invented)]
    assert.equal(a.code, 403)
    assert.deepEqual({ ...a, text: a.text.replaceAll('real', 'fake') }, b)
  }
  for (const method of ['GET', 'PUT', 'PATCH', 'DELETE']) {
    await same(method, `${CMS}/real`, `${CMS}/fake`)
    await same(method, '/api/v1/namespaces/real', '/api/v1/namespaces/fake')
  }
  await same('GET', '/api/v1/namespaces/real/pods/real/log', '/api/v1/namespaces/fake/pods/fake/log')
  await same('GET', '/api/v1/namespaces/real/secrets', '/api/v1/namespaces/fake/secrets')
  await same('POST', '/api/v1/namespaces/real/configmaps', '/api/v1/namespaces/fake/configmaps')
  await same('DELETE', '/api/v1/namespaces/real/configmaps', '/api/v1/namespaces/fake/configmaps')
})

test('a change of roles counts for the very next request', async () => {
  await using plane = await ControlPlane.start()
  const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces/default'
  await created(plane, `${rbac}/roles`, {
    metadata: { name: 'r' },
    rules: [{ verbs: ['list'], apiGroups: [''], resources: ['configmaps'] }],
  })
  await created(plane, `${rbac}/rolebindings`, {
    metadata: { name: 'b' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'r' },
    subjects: [{ kind: 'User', name: 'eve' }],
  })
  assert.equal((await plane.ask('GET', CMS, { user: eve })).code, 200)
  assert.equal((await plane.ask('GET', `${CMS}/x`, { user: eve })).code, 403)
  await plane.ask('DELETE', `${rbac}/rolebindings/b`)
  assert.equal((await plane.ask('GET', CMS, { user: eve })).code, 403)
})

test('a watch ends when the rights that it began with are taken away', async () => {
  const clock = new FakeClock()
  await using plane = await ControlPlane.start({ clock })
  const settle = () => clock.advance(10_000)
  const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces/default'
  await created(plane, `${rbac}/roles`, {
    metadata: { name: 'r' },
    rules: [{ verbs: ['watch', 'list'], apiGroups: [''], resources: ['configmaps'] }],
  })
  for (const name of ['b', 'other'])
    await created(plane, `${rbac}/rolebindings`, {
      metadata: { name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'r' },
      subjects: [{ kind: 'User', name: 'eve' }],
    })
  let over = false
  const watching = plane.ask('GET', `${CMS}?watch=true`, { user: eve }).finally(() => (over = true))
  await created(plane, CMS, configMap('first'))
  await plane.ask('DELETE', `${rbac}/rolebindings/other`)
  settle()
  assert.equal(over, false, 'what is left still allows it')
  await plane.ask('DELETE', `${rbac}/rolebindings/b`)
  settle()
  await created(plane, CMS, configMap('second'))
  const { text } = await watching
  assert.match(text, /"first"/)
  assert.doesNotMatch(text, /"second"/)
})

test('who asks for large objects and leaves at once, again and again, takes no place from those who stay', async () => {
  await using plane = await ControlPlane.start()
  await created(plane, CMS, configMap('large', { data: { a: 'x'.repeat(120_000) } }))
  const [left, right] = duplexPair()
  const user: UserInfo = {
    kind: 'tenantUser',
    tenant: TENANT,
    name: 'ann',
    groups: ['bulkhead:tenant-admins'],
  }
  const handled: Promise<void>[] = []
  const answering = new AnsweringEnd({
    stream: right,
    head: Buffer.alloc(0),
    handle: (asked, answer) => void handled.push(plane.server.handle(asked, answer, user)),
  })
  const asking = new AskingEnd({ stream: left })
  const nobody: AnswerListener = {
    onHead() {},
    onPiece: () => true,
    onEnd() {},
    onBreak() {},
    onDrain() {},
  }
  for (let n = 1; n <= 700; n++) {
    asking.ask({ method: 'GET', path: `${CMS}/large`, headers: [], hasBody: false }, nobody).cancel()
    if (n % 50 === 0) await until(() => handled.length === n)
  }
  await Promise.all(handled)
  assert.equal((await plane.ask('GET', CMS)).code, 200)
  answering.close()
})

test('who belongs to another tenant, to the platform or to nobody is turned away', async () => {
  await using plane = await ControlPlane.start()
  const strangers: UserInfo[] = [
    { kind: 'tenantUser', tenant: 'blue' as typeof TENANT, name: 'ann', groups: ['bulkhead:tenant-admins'] },
    { kind: 'operator', name: 'op', groups: ['bulkhead:tenant-admins'] },
    { kind: 'component', name: 'forged' },
    { kind: 'serviceAccount', tenant: TENANT, namespace: 'default', name: 'default', uid: 'gone' },
  ]
  for (const user of strangers)
    expectStatus(await plane.ask('GET', '/version', { user }), 401, 'Unauthorized')
  const gateway: UserInfo = { kind: 'component', name: 'gateway' }
  for (const path of ['/openid/v1/jwks?x=1', '/api/v1/namespaces', '/.well-known/openid-configuration'])
    expectStatus(await plane.ask('GET', path, { user: gateway }), 401, 'Unauthorized')
  // It asks for the public keys, without which it could not check a token.
  assert.notEqual((await plane.ask('GET', '/openid/v1/jwks', { user: gateway })).code, 401)
  expectStatus(await plane.ask('GET', '/api/v1/namespaces', { user: { kind: 'anonymous' } }), 403)
  assert.equal((await plane.ask('GET', '/healthz', { user: { kind: 'anonymous' } })).text, 'ok')
})

test('an object keeps its identity over updates, and counts the changes of its spec', async () => {
  await using plane = await ControlPlane.start()
  const path = '/apis/apps/v1/namespaces/default/deployments'
  const deployment = await created(plane, path, {
    metadata: { name: 'd' },
    spec: {
      selector: { matchLabels: { a: 'b' } },
      template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'x' }] } },
    },
    status: { replicas: 9 },
  })
  assert.deepEqual(deployment.status, {})
  const forged = structuredClone(deployment)
  Object.assign(forged.metadata, {
    creationTimestamp: '2000-01-01T00:00:00Z',
    generation: 77,
    deletionTimestamp: '2000-01-01T00:00:00Z',
  })
  forged.spec.replicas = 3
  forged.status = { replicas: 9 }
  const { body: updated } = await plane.ask('PUT', `${path}/d`, { body: forged })
  assert.equal(updated.metadata.generation, 2)
  assert.equal(updated.metadata.creationTimestamp, deployment.metadata.creationTimestamp)
  assert.equal(updated.metadata.deletionTimestamp, undefined)
  assert.deepEqual(updated.status, {})
  const { body: reported } = await plane.ask('PUT', `${path}/d/status`, {
    body: {
      ...updated,
      spec: { ...updated.spec, replicas: 50 },
      metadata: { ...updated.metadata, labels: { x: 'y' } },
      status: { replicas: 3 },
    },
  })
  assert.deepEqual(
    [reported.status, reported.spec.replicas, reported.metadata.generation, reported.metadata.labels],
    [{ replicas: 3 }, 3, 2, undefined],
  )
  // As Go clients write it, who send all of an object with what they left empty.
  const { body: patched } = await plane.ask('PATCH', `${path}/d/status`, {
    body: {
      metadata: { creationTimestamp: null },
      spec: { selector: null, strategy: {}, template: { metadata: {}, spec: { containers: null } } },
      status: { replicas: 4 },
    },
    headers: { 'content-type': 'application/merge-patch+json' },
  })
  assert.deepEqual([patched.status, patched.spec], [{ replicas: 4 }, reported.spec])
  reported.status = patched.status
  reported.metadata = patched.metadata
  const { body: again } = await plane.ask('PUT', `${path}/d`, { body: reported })
  assert.equal(
    again.metadata.resourceVersion,
    reported.metadata.resourceVersion,
    'a write that changes nothing is none',
  )
  expectStatus(await plane.ask('PUT', `${path}/d`, { body: updated }), 409)
  expectStatus(
    await plane.ask('PUT', `${path}/d`, {
      body: { ...reported, metadata: { ...reported.metadata, uid: 'other' } },
    }),
    409,
  )
})

test('many writers without a version all get through, and none is lost', async () => {
  await using plane = await ControlPlane.start()
  await created(plane, CMS, configMap('shared'))
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, n) =>
      plane.ask('PATCH', `${CMS}/shared`, {
        type: 'application/merge-patch+json',
        body: { data: { [`key-${n}`]: 'x' } },
      }),
    ),
  )
  assert.deepEqual(
    answers.map((a) => a.code),
    Array(8).fill(200),
  )
  const { body } = await plane.ask('GET', `${CMS}/shared`)
  assert.equal(Object.keys(body.data).length, 9)
})

test('of many creates of one name one wins, and generated names do not collide', async () => {
  await using plane = await ControlPlane.start()
  const codes = (
    await Promise.all(Array.from({ length: 8 }, () => plane.ask('POST', CMS, { body: configMap('one') })))
  ).map((a) => a.code)
  assert.deepEqual(codes.toSorted(), [201, ...Array<number>(7).fill(409)])
  const names = await Promise.all(
    Array.from(
      { length: 50 },
      async () => (await created(plane, CMS, { metadata: { generateName: 'g-' } })).metadata.name as string,
    ),
  )
  assert.equal(new Set(names).size, 50)
  assert.match(names[0]!, /^g-[bcdfghjklmnpqrstvwxz2456789]{5}$/)
})

test('the pages of a list show one moment, whatever is written in between', async () => {
  await using plane = await ControlPlane.start()
  for (let n = 0; n < 7; n++)
    await created(plane, CMS, configMap(`c${n}`, { metadata: { labels: { odd: String(n % 2) } } }))
  const first = await plane.ask('GET', `${CMS}?limit=3`)
  assert.equal(first.body.metadata.remainingItemCount, 4)
  await plane.ask('DELETE', `${CMS}/c4`)
  await created(plane, CMS, configMap('c3a'))
  const names = first.body.items.map((i: Json) => i.metadata.name)
  for (let token = first.body.metadata.continue; token;) {
    const { body } = await plane.ask('GET', `${CMS}?limit=3&continue=${token}`)
    assert.equal(body.metadata.resourceVersion, first.body.metadata.resourceVersion)
    names.push(...body.items.map((i: Json) => i.metadata.name))
    token = body.metadata.continue
  }
  assert.deepEqual(names, ['c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6'])
  const odd = await plane.ask('GET', `${CMS}?limit=2&labelSelector=odd%3D1`)
  assert.deepEqual(
    odd.body.items.map((i: Json) => i.metadata.name),
    ['c1', 'c3'],
  )
  assert.equal(odd.body.metadata.remainingItemCount, undefined)
  const token = first.body.metadata.continue as string
  const tampered = token.slice(0, -2) + (token.endsWith('AA') ? 'BB' : 'AA')
  expectStatus(await plane.ask('GET', `${CMS}?limit=3&continue=${tampered}`), 400)
  expectStatus(
    await plane.ask('GET', `/api/v1/namespaces/kube-system/configmaps?limit=3&continue=${token}`),
    400,
  )
})

/** The lines of a watch that ends by itself after a second. */
async function watched(
  plane: ControlPlane,
  path: string,
  during: () => Promise<unknown>,
  accept = 'application/json',
): Promise<Json[]> {
  const watching = plane.ask('GET', `${path}${path.includes('?') ? '&' : '?'}watch=true&timeoutSeconds=1`, {
    accept,
  })
  await during()
  const { text } = await watching
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
}

test('a watch tells what begins and stops to match its selector', async () => {
  await using plane = await ControlPlane.start()
  const before = await created(plane, CMS, configMap('a', { metadata: { labels: { on: 'yes' } } }))
  const lines = await watched(
    plane,
    `${CMS}?labelSelector=on%3Dyes&resourceVersion=${before.metadata.resourceVersion}`,
    async () => {
      await created(plane, CMS, configMap('b'))
      const label = (name: string, on: string | null) =>
        plane.ask('PATCH', `${CMS}/${name}`, {
          type: 'application/merge-patch+json',
          body: { metadata: { labels: { on } } },
        })
      await label('b', 'yes')
      await label('a', null)
      await plane.ask('PATCH', `${CMS}/b`, {
        type: 'application/merge-patch+json',
        body: { data: { z: '1' } },
      })
      await plane.ask('DELETE', `${CMS}/b`)
      await plane.ask('DELETE', `${CMS}/a`)
    },
  )
  assert.deepEqual(
    lines.map((l) => [l.type, l.object.metadata.name]),
    [
      ['ADDED', 'b'],
      ['DELETED', 'a'],
      ['MODIFIED', 'b'],
      ['DELETED', 'b'],
    ],
  )
  const versions = lines.map((l) => Number(l.object.metadata.resourceVersion))
  assert.deepEqual(
    versions,
    versions.toSorted((a, b) => a - b),
  )
})

test('a watch can begin with everything, say where that ends, and come as tables or metadata', async () => {
  await using plane = await ControlPlane.start()
  await created(plane, CMS, configMap('a'))
  const initial = await watched(
    plane,
    `${CMS}?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true`,
    () => created(plane, CMS, configMap('b')),
  )
  const bookmark = initial.findIndex((l) => l.type === 'BOOKMARK')
  assert.equal(initial[bookmark].object.metadata.annotations['k8s.io/initial-events-end'], 'true')
  assert.deepEqual(
    initial.filter((l) => l.type === 'ADDED').map((l) => l.object.metadata.name),
    ['a', 'b'],
  )
  const [[table], [partial]] = await Promise.all([
    watched(plane, CMS, async () => {}, 'application/json;as=Table;v=v1;g=meta.k8s.io'),
    watched(plane, CMS, async () => {}, 'application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io'),
  ])
  assert.equal(table.object.kind, 'Table')
  assert.equal(table.object.rows[0].cells[0], 'a')
  assert.deepEqual(Object.keys(partial.object), ['kind', 'apiVersion', 'metadata'])
})

test('bookmarks come with time, and a watch of the future stays silent', async () => {
  const clock = new FakeClock()
  await using plane = await ControlPlane.start({ clock })
  const client = plane.server.client('test')
  const { metadata } = await client.list(configMapKind)
  const stop = new AbortController()
  const events: string[] = []
  const reading = (async () => {
    for await (const event of client.watch(configMapKind, {
      resourceVersion: metadata.resourceVersion,
      signal: stop.signal,
    }))
      events.push(event.type)
  })()
  await until(() => {
    clock.advance(60_000)
    return events.includes('BOOKMARK')
  })
  stop.abort()
  await reading
  const silent = plane.ask('GET', `${CMS}?watch=true&resourceVersion=99999999&timeoutSeconds=5`)
  await created(plane, CMS, configMap('a'))
  await until(async () => {
    clock.advance(5_000)
    return Promise.race([silent.then(() => true), new Promise((resolve) => setImmediate(resolve, false))])
  })
  assert.equal((await silent).text, '')
})

test('what a Job and a ReplicationController own stays unless the client says otherwise, and is told so', async () => {
  await using plane = await ControlPlane.start()
  const spec = { containers: [{ name: 'c', image: 'c:1' }], restartPolicy: 'Never' }
  const template = { metadata: { labels: { a: 'b' } }, spec }
  const bodies: [string, Json][] = [
    ['/apis/batch/v1/namespaces/default/jobs', { template }],
    [
      '/api/v1/namespaces/default/replicationcontrollers',
      { template: { ...template, spec: { containers: spec.containers } } },
    ],
  ]
  for (const [path, wanted] of bodies) {
    await created(plane, path, { metadata: { name: 'x' }, spec: wanted })
    const left = await plane.ask('DELETE', `${path}/x`)
    assert.deepEqual(left.body.metadata.finalizers, ['orphan'])
    assert.match(String(left.headers['warning']), /its pods stay/)
    await created(plane, path, { metadata: { name: 'y' }, spec: wanted })
    const foreground = await plane.ask('DELETE', `${path}/y?propagationPolicy=Foreground`)
    assert.deepEqual(foreground.body.metadata.finalizers, ['foregroundDeletion'])
    // Whoever asks again without a word does not change what was decided.
    const again = await plane.ask('DELETE', `${path}/y`)
    assert.deepEqual(again.body.metadata.finalizers, ['foregroundDeletion'])
    const background = await plane.ask('DELETE', `${path}/y?propagationPolicy=Background`)
    assert.deepEqual([background.body.status, background.headers['warning']], ['Success', undefined])
  }
})

test('a delete waits for finalizers and carries out its policy', async () => {
  await using plane = await ControlPlane.start()
  const { uid } = (await created(plane, CMS, configMap('f', { metadata: { finalizers: ['example.com/x'] } })))
    .metadata
  const { body: marked } = await plane.ask('DELETE', `${CMS}/f`)
  assert.ok(marked.metadata.deletionTimestamp)
  const { body: again } = await plane.ask('DELETE', `${CMS}/f`)
  assert.equal(again.metadata.resourceVersion, marked.metadata.resourceVersion)
  const merge = (path: string, body: Json) =>
    plane.ask('PATCH', path, { type: 'application/merge-patch+json', body })
  expectStatus(await merge(`${CMS}/f`, { metadata: { finalizers: ['example.com/x', 'example.com/y'] } }), 422)
  assert.equal((await merge(`${CMS}/f`, { metadata: { finalizers: null } })).code, 200)
  expectStatus(await plane.ask('GET', `${CMS}/f`), 404)
  await created(plane, CMS, configMap('g'))
  const orphaning = await plane.ask('DELETE', `${CMS}/g`, { body: { propagationPolicy: 'Orphan' } })
  assert.deepEqual(orphaning.body.metadata.finalizers, ['orphan'])
  const foreground = await plane.ask('DELETE', `${CMS}/g?propagationPolicy=Foreground`)
  assert.deepEqual(foreground.body.metadata.finalizers, ['foregroundDeletion'])
  const background = await plane.ask('DELETE', `${CMS}/g?propagationPolicy=Background`)
  assert.equal(background.body.status, 'Success')
  await created(plane, CMS, configMap('h'))
  expectStatus(await plane.ask('DELETE', `${CMS}/h`, { body: { preconditions: { uid } } }), 409)
  expectStatus(await plane.ask('DELETE', `${CMS}/h`, { body: { propagationPolicy: 'Nonsense' } }), 422)
  expectStatus(await plane.ask('DELETE', `${CMS}/h`, { body: { kind: 'Pod' } }), 400)
})

test('a pod that is given a node is as it was written, and one that is changed is not', async () => {
  await using plane = await ControlPlane.start()
  const client = plane.server.client('scheduler')
  const { metadata } = await created(plane, PODS, pod('p', { nodeName: undefined }))
  assert.equal(metadata.generation, 1)
  const placed = structuredClone(await client.get(podKind, { namespace: 'default', name: 'p' }))
  placed.spec.nodeName = 'node-1'
  assert.equal((await client.update(podKind, placed)).metadata.generation, 1)
  const { body: changed } = await plane.ask('PATCH', `${PODS}/p`, {
    body: { spec: { activeDeadlineSeconds: 50 } },
    headers: { 'content-type': 'application/merge-patch+json' },
  })
  assert.deepEqual([changed.spec.nodeName, changed.metadata.generation], ['node-1', 2])
  const { body: ending } = await plane.ask('DELETE', `${PODS}/p`)
  assert.equal(ending.metadata.generation, 3)
})

test('a pod that runs ends gracefully, and goes when its node says so', async () => {
  await using plane = await ControlPlane.start()
  const client = plane.server.client('node')
  const { metadata } = await created(plane, PODS, pod('p', { nodeName: undefined }))
  const running = structuredClone(await client.get(podKind, { namespace: 'default', name: 'p' }))
  running.spec.nodeName = 'node-1'
  await client.update(podKind, running)
  const { body: ending } = await plane.ask('DELETE', `${PODS}/p?gracePeriodSeconds=20`)
  assert.equal(ending.metadata.deletionGracePeriodSeconds, 20)
  const seconds = Date.parse(ending.metadata.deletionTimestamp) - Date.parse(metadata.creationTimestamp)
  assert.ok(seconds >= 20_000)
  const { body: sooner } = await plane.ask('DELETE', `${PODS}/p?gracePeriodSeconds=5`)
  assert.equal(sooner.metadata.deletionGracePeriodSeconds, 5)
  await client.delete(
    podKind,
    { namespace: 'default', name: 'p' },
    { gracePeriodSeconds: 0, preconditions: { uid: metadata.uid } },
  )
  expectStatus(await plane.ask('GET', `${PODS}/p`), 404)
})

test('an eviction deletes the pod, and one of another name does not', async () => {
  await using plane = await ControlPlane.start()
  await created(plane, PODS, pod('p'))
  expectStatus(await plane.ask('POST', `${PODS}/p/eviction`, { body: { metadata: { name: 'q' } } }), 400)
  const dry = await plane.ask('POST', `${PODS}/p/eviction?dryRun=All`, { body: { metadata: { name: 'p' } } })
  assert.equal(dry.body.status, 'Success')
  assert.equal((await plane.ask('GET', `${PODS}/p`)).code, 200)
  await created(plane, `${PODS}/p/eviction`, { metadata: { name: 'p' } })
  expectStatus(await plane.ask('GET', `${PODS}/p`), 404)
})

test('a collection is deleted by selector, and only that', async () => {
  await using plane = await ControlPlane.start()
  for (let n = 0; n < 5; n++)
    await created(plane, CMS, configMap(`c${n}`, { metadata: { labels: { odd: String(n % 2) } } }))
  await plane.ask('DELETE', `${CMS}?labelSelector=odd%3D1&dryRun=All`)
  const { body } = await plane.ask('DELETE', `${CMS}?labelSelector=odd%3D1`)
  assert.deepEqual(
    body.items.map((i: Json) => i.metadata.name),
    ['c1', 'c3'],
  )
  const left = await plane.ask('GET', CMS)
  assert.deepEqual(
    left.body.items.map((i: Json) => i.metadata.name),
    ['c0', 'c2', 'c4'],
  )
})

test('a namespace goes only when it is empty, and takes nothing new meanwhile', async () => {
  await using plane = await ControlPlane.start()
  await created(plane, '/api/v1/namespaces', { metadata: { name: 'n' } })
  await created(plane, '/api/v1/namespaces/n/configmaps', configMap('c'))
  const { body: going } = await plane.ask('DELETE', '/api/v1/namespaces/n')
  assert.deepEqual([going.status.phase, going.spec.finalizers], ['Terminating', ['kubernetes']])
  const refused = await plane.ask('POST', '/api/v1/namespaces/n/configmaps', { body: configMap('d') })
  expectStatus(
    refused,
    403,
    'configmaps "d" is forbidden: unable to create new content in namespace n because it is being terminated',
  )
  assert.equal(refused.body.details.causes[0].reason, 'NamespaceTerminating')
  const finalize = () =>
    plane.ask('PUT', '/api/v1/namespaces/n/finalize', {
      body: { metadata: { name: 'n' }, spec: { finalizers: [] } },
    })
  expectStatus(await finalize(), 409)
  await plane.ask('DELETE', '/api/v1/namespaces/n/configmaps/c')
  assert.equal((await finalize()).code, 200)
  expectStatus(await plane.ask('GET', '/api/v1/namespaces/n'), 404)
  expectStatus(await plane.ask('DELETE', '/api/v1/namespaces/kube-system'), 403)
})

test('a dry run answers like the real request and leaves nothing behind', async () => {
  await using plane = await ControlPlane.start()
  const { revision } = plane.store
  const service = await created(plane, '/api/v1/namespaces/default/services?dryRun=All', {
    metadata: { name: 's' },
    spec: { ports: [{ port: 80 }] },
  })
  assert.match(service.spec.clusterIP, /^10\.96\./)
  assert.equal(service.metadata.resourceVersion, undefined)
  expectStatus(
    await plane.ask('POST', `${PODS}?dryRun=All`, { body: pod('bad', { hostNetwork: true }) }),
    422,
  )
  expectStatus(await plane.ask('POST', `${PODS}?dryRun=Some`, { body: pod('p') }), 422)
  assert.equal(plane.store.revision, revision)
})

test('services get addresses of their own, give them back, and keep them over updates', async () => {
  await using plane = await ControlPlane.start({ serviceRange: '10.96.0.0/28' })
  const path = '/api/v1/namespaces/default/services'
  const service = (name: string, spec: Json = {}) => ({
    metadata: { name },
    spec: { ports: [{ port: 80 }], ...spec },
  })
  const first = await created(plane, path, service('a'))
  expectStatus(
    await plane.ask('POST', path, { body: service('b', { clusterIP: first.spec.clusterIP }) }),
    422,
  )
  const { body } = await plane.ask('PUT', `${path}/a`, { body: service('a', { ports: [{ port: 81 }] }) })
  assert.equal(body.spec.clusterIP, first.spec.clusterIP)
  await plane.ask('DELETE', `${path}/a`)
  await created(plane, path, service('b', { clusterIP: first.spec.clusterIP }))
  assert.equal((await created(plane, path, service('c', { clusterIP: 'None' }))).spec.clusterIP, 'None')
})

test('the scale of a workload is read and written through its own kind', async () => {
  await using plane = await ControlPlane.start()
  const path = '/apis/apps/v1/namespaces/default/deployments'
  await created(plane, path, {
    metadata: { name: 'd' },
    spec: {
      selector: { matchLabels: { a: 'b' } },
      template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'x' }] } },
    },
  })
  const { body: scale } = await plane.ask('GET', `${path}/d/scale`)
  assert.deepEqual(
    [scale.kind, scale.spec, scale.status],
    ['Scale', { replicas: 1 }, { replicas: 0, selector: 'a=b' }],
  )
  const { body: up } = await plane.ask('PUT', `${path}/d/scale`, {
    body: { ...scale, spec: { replicas: 5 } },
  })
  assert.equal(up.spec.replicas, 5)
  expectStatus(await plane.ask('PUT', `${path}/d/scale`, { body: { ...scale, spec: { replicas: 6 } } }), 409)
  expectStatus(
    await plane.ask('PATCH', `${path}/d/scale`, {
      type: 'application/merge-patch+json',
      body: { spec: { replicas: -1 } },
    }),
    422,
  )
  assert.equal((await plane.ask('GET', `${path}/d`)).body.spec.replicas, 5)
})

test('a token lives as long as its account and the pod it is bound to', async () => {
  await using plane = await ControlPlane.start()
  const accounts = '/api/v1/namespaces/default/serviceaccounts'
  const account = await created(plane, accounts, { metadata: { name: 'robot' } })
  const { metadata } = await created(plane, PODS, pod('p', { serviceAccountName: 'robot' }))
  await created(plane, PODS, pod('other'))
  const boundObjectRef = { kind: 'Pod', apiVersion: 'v1', name: 'p', uid: metadata.uid }
  const request = (spec: Json) => plane.ask('POST', `${accounts}/robot/token`, { body: { spec } })
  expectStatus(await request({ boundObjectRef: { ...boundObjectRef, name: 'other', uid: undefined } }), 400)
  expectStatus(await request({ boundObjectRef: { ...boundObjectRef, uid: 'x' } }), 409)
  expectStatus(await request({ expirationSeconds: 5 }), 422)
  const { body } = await request({ boundObjectRef })
  const review = async () =>
    (
      await created(plane, '/apis/authentication.k8s.io/v1/tokenreviews', {
        spec: { token: body.status.token },
      })
    ).status
  assert.equal((await review()).user.username, 'system:serviceaccount:default:robot')
  const user: UserInfo = {
    kind: 'serviceAccount',
    tenant: TENANT,
    namespace: 'default',
    name: 'robot',
    uid: account.metadata.uid,
    boundTo: { kind: 'Pod', name: 'p', uid: metadata.uid },
  }
  assert.equal((await plane.ask('GET', '/version', { user })).code, 200)
  await plane.ask('DELETE', `${PODS}/p`)
  assert.equal((await review()).authenticated, false)
  assert.equal((await plane.ask('GET', '/version', { user })).code, 401)
  const { body: keys } = await plane.ask('GET', '/openid/v1/jwks')
  assert.equal(keys.keys.length, 1)
  assert.equal(keys.keys[0].d, undefined)
})

test('a token of a pod that has a node says which one', async () => {
  await using plane = await ControlPlane.start()
  const client = plane.server.client('scheduler')
  const node = await client.create(nodeKind, {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'node-1' },
    spec: {},
  })
  const accounts = '/api/v1/namespaces/default/serviceaccounts'
  await created(plane, accounts, { metadata: { name: 'robot' } })
  const { metadata } = await created(plane, PODS, pod('p', { serviceAccountName: 'robot' }))
  const placed = structuredClone(await client.get(podKind, { namespace: 'default', name: 'p' }))
  placed.spec.nodeName = 'node-1'
  await client.update(podKind, placed)
  const { body } = await plane.ask('POST', `${accounts}/robot/token`, {
    body: { spec: { boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: 'p', uid: metadata.uid } } },
  })
  const { status } = await created(plane, '/apis/authentication.k8s.io/v1/tokenreviews', {
    spec: { token: body.status.token },
  })
  const { 'authentication.kubernetes.io/credential-id': _its, ...extra } = status.user.extra
  assert.deepEqual(extra, {
    'authentication.kubernetes.io/node-name': ['node-1'],
    'authentication.kubernetes.io/node-uid': [node.metadata.uid],
    'authentication.kubernetes.io/pod-name': ['p'],
    'authentication.kubernetes.io/pod-uid': [metadata.uid],
  })
})

test('logs stream from the engine, and a wrong container is named with the right ones', async () => {
  const asked: unknown[] = []
  const engine = {
    logs: (id: string, container: string, options: object) => {
      asked.push([id, container, options])
      return Promise.resolve(Readable.from(['one\n', 'two\n']))
    },
  } as unknown as Engine
  await using plane = await ControlPlane.start({ engine })
  const one = await created(plane, PODS, pod('one'))
  await created(
    plane,
    PODS,
    pod('two', {
      containers: [
        { name: 'a', image: 'x' },
        { name: 'b', image: 'x' },
      ],
    }),
  )
  const { text, headers } = await plane.ask('GET', `${PODS}/one/log?tailLines=2&follow=true`, {
    accept: '*/*',
  })
  assert.equal(text, 'one\ntwo\n')
  assert.equal(headers['content-type'], 'text/plain')
  assert.deepEqual(asked, [
    [one.metadata.uid, 'c', { follow: true, previous: false, timestamps: false, tailLines: 2 }],
  ])
  expectStatus(
    await plane.ask('GET', `${PODS}/two/log`),
    400,
    'a container name must be specified for pod two, choose one of: [a b]',
  )
  expectStatus(
    await plane.ask('GET', `${PODS}/two/log?container=z`),
    400,
    'container z is not valid for pod two',
  )
  expectStatus(await plane.ask('GET', `${PODS}/one/log?tailLines=-1`), 422)
  expectStatus(await plane.ask('GET', `${PODS}/none/log`), 404)
})

test('a log goes over a WebSocket as well, to those who may read it and to nobody else', async () => {
  const engine = {
    logs: () => Promise.resolve(Readable.from([Buffer.from('one\n'), Buffer.alloc(200_000, 'x')])),
  } as unknown as Engine
  const streams = createStreamHandler({ log: silentLogger })
  await using plane = await ControlPlane.start({ engine, streams })
  await created(plane, PODS, pod('one'))
  const read = async (name: string, protocols: string[], user?: UserInfo) => {
    const headers = user ? { 'x-test-user': JSON.stringify(user) } : {}
    const client = new WebSocket(`ws://127.0.0.1:${plane.port}${PODS}/${name}/log`, protocols, { headers })
    const pieces: Buffer[] = []
    client.on('message', (piece: Buffer) => pieces.push(piece))
    const ended = Promise.withResolvers<string>()
    client.on('close', (code) => ended.resolve(`closed with ${code}`))
    client.on('unexpected-response', (_request, { statusCode }) =>
      ended.resolve(`refused with ${statusCode}`),
    )
    client.on('error', () => {})
    return { ended: await ended.promise, text: Buffer.concat(pieces).toString() }
  }
  for (const protocols of [[], ['binary.k8s.io']]) {
    const { ended, text } = await read('one', protocols)
    assert.deepEqual([ended, text.length, text.slice(0, 5)], ['closed with 1000', 200_004, 'one\nx'])
  }
  assert.equal((await read('one', ['base64.binary.k8s.io'])).ended, 'refused with 400')
  assert.equal((await read('none', [])).ended, 'refused with 404')
  for (const name of ['one', 'none'])
    assert.deepEqual(await read(name, [], eve), { ended: 'refused with 403', text: '' })
})

test('a stream takes the right to create, also over GET, and without a handler says so', async () => {
  await using plane = await ControlPlane.start()
  const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces/default'
  await created(plane, `${rbac}/roles`, {
    metadata: { name: 'r' },
    rules: [{ verbs: ['get', 'list'], apiGroups: [''], resources: ['pods', 'pods/exec'] }],
  })
  await created(plane, `${rbac}/rolebindings`, {
    metadata: { name: 'b' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'r' },
    subjects: [{ kind: 'User', name: 'eve' }],
  })
  await created(plane, PODS, pod('p'))
  const upgrade = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    'sec-websocket-version': '13',
  }
  expectStatus(await plane.ask('GET', `${PODS}/p/exec?command=ls`, { user: eve, headers: upgrade }), 403)
  expectStatus(await plane.ask('GET', `${PODS}/none/exec?command=ls`, { user: eve, headers: upgrade }), 403)
  expectStatus(await plane.ask('GET', `${PODS}/none/exec?command=ls`, { headers: upgrade }), 404)
  expectStatus(await plane.ask('GET', `${PODS}/p/exec?command=ls`, { headers: upgrade }), 501)
  expectStatus(await plane.ask('POST', `${PODS}/p/exec?command=ls`), 400, 'Upgrade request required')
})

test('nobody grants more than they have, through the API as well', async () => {
  await using plane = await ControlPlane.start()
  const rbac = '/apis/rbac.authorization.k8s.io/v1'
  await created(plane, `${rbac}/namespaces/default/rolebindings`, {
    metadata: { name: 'eve' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'admin' },
    subjects: [{ kind: 'User', name: 'eve' }],
  })
  const grant = (name: string, role: string) => ({
    metadata: { name },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
    subjects: [{ kind: 'User', name: 'mallory' }],
  })
  const bindings = `${rbac}/namespaces/default/rolebindings`
  assert.equal((await plane.ask('POST', bindings, { user: eve, body: grant('a', 'view') })).code, 201)
  const refused = await plane.ask('POST', bindings, { user: eve, body: grant('b', 'cluster-admin') })
  expectStatus(refused, 403)
  assert.match(refused.body.message, /is attempting to grant RBAC permissions not currently held/)
  const role = { metadata: { name: 'r' }, rules: [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }] }
  expectStatus(await plane.ask('POST', `${rbac}/namespaces/default/roles`, { user: eve, body: role }), 403)
})

test('a control plane starts although its tenant has used up its quota', async () => {
  await using plane = await ControlPlane.start({ limits: { objectsMax: 4 } })
  assert.equal((await plane.ask('GET', '/api/v1/nodes')).code, 200)
  expectStatus(await plane.ask('POST', CMS, { body: configMap('c') }), 403)
})

test('a tenant says of its node whether it takes pods, and what it is called, and nothing else', async () => {
  await using plane = await ControlPlane.start()
  const path = '/api/v1/nodes/bulkhead'
  const merge = 'application/merge-patch+json'
  const change = (body: Json) => plane.ask('PATCH', path, { body, type: merge })
  for (const body of [
    { spec: { unschedulable: true } },
    { metadata: { labels: { disk: 'ssd' }, annotations: { why: 'x' } } },
    { spec: { unschedulable: null } },
  ])
    assert.equal((await change(body)).code, 200)
  const { body: node } = await plane.ask('GET', path)
  assert.deepEqual([node.metadata.labels, node.spec], [{ disk: 'ssd' }, {}])
  const owner = { apiVersion: 'v1', kind: 'Node', name: 'bulkhead', uid: node.metadata.uid }
  for (const body of [
    { metadata: { finalizers: ['example.com/mine'] } },
    { metadata: { ownerReferences: [owner] } },
    { spec: { unschedulable: true }, metadata: { finalizers: ['example.com/mine'] } },
    { metadata: { name: 'other' } },
  ])
    assert.ok([400, 403, 422].includes((await change(body)).code), JSON.stringify(body))
  for (const body of [{ spec: { taints: [] } }, { spec: { providerID: 'x' } }])
    assert.match((await change(body)).body.message, /only the platform writes nodes/)
  const status = { status: { addresses: [{ type: 'InternalIP', address: '127.0.0.1' }] } }
  expectStatus(await plane.ask('PATCH', `${path}/status`, { body: status, type: merge }), 403)
  assert.deepEqual((await change(status)).body.status, node.status)
  // What changes nothing is no claim.
  assert.equal((await plane.ask('PATCH', `${path}/status`, { body: {}, type: merge })).code, 200)
  expectStatus(await plane.ask('DELETE', path), 403)
  expectStatus(await plane.ask('POST', '/api/v1/nodes', { body: { metadata: { name: 'mine' } } }), 403)
  expectStatus(
    await plane.ask('PATCH', `${path}2?fieldManager=x`, {
      body: { apiVersion: 'v1', kind: 'Node' },
      type: 'application/apply-patch+yaml',
    }),
    403,
  )
})

test('what a tenant may keep is bounded', async () => {
  await using plane = await ControlPlane.start({ limits: { podsMax: 2, namespacesMax: 4, objectsMax: 32 } })
  await created(plane, PODS, pod('a'))
  await created(plane, PODS, pod('b'))
  const third = await plane.ask('POST', PODS, { body: pod('c') })
  expectStatus(third, 403)
  assert.match(third.body.message, /exceeded quota: the tenant uses 2 of 2 pods/)
  await created(plane, '/api/v1/namespaces', { metadata: { name: 'n' } })
  expectStatus(await plane.ask('POST', '/api/v1/namespaces', { body: { metadata: { name: 'm' } } }), 403)
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, n) => plane.ask('POST', CMS, { body: configMap(`c${n}`) })),
  )
  assert.ok(answers.some((a) => a.code === 403))
  expectStatus(await plane.ask('POST', CMS, { raw: `{"data":{"a":"${'x'.repeat(4 * 1024 * 1024)}"}}` }), 413)
})

test('a quota of memory holds for pods that are created at the same moment, and changes at once', async () => {
  await using plane = await ControlPlane.start({ limits: { memoryBytesMax: 1_000 } })
  const sized = (name: string, memory: string) => {
    const { spec, ...rest } = pod(name)
    const containers = spec.containers.map((c: Json) => ({ ...c, resources: { limits: { memory } } }))
    return { ...rest, spec: { ...spec, containers } }
  }
  const create = (name: string, memory: string) => plane.ask('POST', PODS, { body: sized(name, memory) })
  const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => create(`p${n}`, '300')))
  assert.equal(answers.filter(({ code }) => code === 201).length, 3)
  const refused = await create('more', '101')
  expectStatus(refused, 403)
  assert.match(refused.body.message, /used: limits\.memory=900, limited: limits\.memory=1000/)
  plane.server.setLimits({ memoryBytesMax: 1_001 })
  await created(plane, PODS, sized('more', '101'))
  plane.server.setLimits({})
  await created(plane, PODS, pod('unlimited'))
})

test('server-side apply creates, owns, conflicts and gives up fields', async () => {
  await using plane = await ControlPlane.start()
  const apply = (manager: string, data: Json, more = '') =>
    plane.ask('PATCH', `${CMS}/s?fieldManager=${manager}${more}`, {
      type: 'application/apply-patch+yaml',
      body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 's' }, data },
    })
  assert.equal((await apply('one', { a: '1', b: '1' })).code, 201)
  assert.equal((await apply('one', { a: '1', b: '1' })).code, 200)
  expectStatus(await apply('two', { a: '2' }), 409)
  const { body } = await apply('two', { a: '2' }, '&force=true')
  assert.deepEqual(body.data, { a: '2', b: '1' })
  assert.deepEqual((await apply('one', {})).body.data, { a: '2' })
  const patcher: UserInfo = { kind: 'tenantUser', tenant: TENANT, name: 'patcher', groups: [] }
  const rbac = '/apis/rbac.authorization.k8s.io/v1'
  await created(plane, `${rbac}/namespaces/default/roles`, {
    metadata: { name: 'p' },
    rules: [{ verbs: ['patch'], apiGroups: [''], resources: ['configmaps'] }],
  })
  await created(plane, `${rbac}/namespaces/default/rolebindings`, {
    metadata: { name: 'p' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'p' },
    subjects: [{ kind: 'User', name: 'patcher' }],
  })
  const body2 = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'new' } }
  const created2 = await plane.ask('PATCH', `${CMS}/new?fieldManager=x`, {
    type: 'application/apply-patch+yaml',
    body: body2,
    user: patcher,
  })
  expectStatus(created2, 403)
})

test('what a patch makes unreadable is the patch’s mistake, and a body’s is the body’s', async () => {
  await using plane = await ControlPlane.start()
  await created(plane, CMS, configMap('c'))
  const patched = (kind: string, body: unknown) =>
    plane.ask('PATCH', `${CMS}/c?fieldValidation=Strict`, { body, type: `application/${kind}` })
  const unreadable = [
    await patched('json-patch+json', [{ op: 'add', path: '/bogus', value: 1 }]),
    await patched('merge-patch+json', { bogus: 1 }),
    await patched('strategic-merge-patch+json', { bogus: 1 }),
    await patched('merge-patch+json', { data: 1 }),
    await patched('merge-patch+json', { data: 1, bogus: 1 }),
  ]
  for (const answer of unreadable) {
    assert.deepEqual([answer.code, answer.body.reason], [422, 'Invalid'], answer.text)
    assert.equal(answer.body.details.causes[0].field, 'patch')
  }
  assert.match(unreadable[0]?.body.message, /strict decoding error: unknown field "bogus"$/)
  const whole = { ...configMap('c'), bogus: 1 }
  assert.equal((await plane.ask('PUT', `${CMS}/c?fieldValidation=Strict`, { body: whole })).code, 400)
  assert.equal((await plane.ask('GET', `${CMS}/c`)).body.data.a, '1')
})

test('events and budgets have any name that breaks no path', async () => {
  await using plane = await ControlPlane.start()
  const path = '/api/v1/namespaces/default/events'
  const event = (name: string) => ({ metadata: { name }, involvedObject: { namespace: 'default' } })
  await created(plane, path, event('Node:One'))
  assert.equal((await plane.ask('GET', `${path}/Node:One`)).body.metadata.name, 'Node:One')
  assert.equal(
    (await plane.ask('GET', '/apis/events.k8s.io/v1/namespaces/default/events/Node:One')).code,
    200,
  )
  for (const name of ['..', 'a/b', 'a%2fb', 'a\u0000b'])
    expectStatus(await plane.ask('POST', path, { body: event(name) }), 422)
  assert.equal((await plane.ask('DELETE', `${path}/Node:One`)).code, 200)
})

test('a watch, a list or a page of a forgotten revision says so, and how to go on', async () => {
  await using plane = await ControlPlane.start({ storeLimits: { historyEventsMax: 8 } })
  for (const name of ['a', 'b', 'c']) await created(plane, CMS, configMap(name))
  const first = await plane.ask('GET', `${CMS}?limit=1`)
  for (let n = 0; n < 40; n++) await created(plane, CMS, configMap(`d${n}`))
  const { resourceVersion, continue: token } = first.body.metadata
  const watch = await plane.ask('GET', `${CMS}?watch=true&resourceVersion=${resourceVersion}`)
  assert.equal(watch.code, 200)
  assert.deepEqual(
    [watch.body.type, watch.body.object.code, watch.body.object.reason],
    ['ERROR', 410, 'Expired'],
  )
  expectStatus(
    await plane.ask('GET', `${CMS}?resourceVersion=${resourceVersion}&resourceVersionMatch=Exact`),
    410,
  )
  const page = await plane.ask('GET', `${CMS}?limit=1&continue=${token}`)
  expectStatus(page, 410)
  const next = await plane.ask('GET', `${CMS}?limit=1&continue=${page.body.metadata.continue}`)
  assert.deepEqual(
    next.body.items.map((i: Json) => i.metadata.name),
    ['b'],
  )
})

test('a watcher that does not read holds nobody up and is cut off', async () => {
  const clock = new FakeClock()
  await using plane = await ControlPlane.start({ clock, storeLimits: { historyEventsMax: 64 } })
  const path = `${CMS}?watch=true`
  const socket = connect(plane.port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`)
  socket.pause()
  const big = 'x'.repeat(500_000)
  for (let n = 0; n < 30; n++) await created(plane, CMS, configMap(`c${n}`, { data: { big } }))
  const closed = new Promise((resolve) => socket.once('close', resolve))
  clock.advance(61_000)
  socket.resume()
  await closed
})

test('a body that never ends is refused in time, whatever it announces', async () => {
  await using plane = await ControlPlane.start()
  const socket = connect(plane.port, '127.0.0.1')
  let answer = ''
  socket.on('data', (chunk: Buffer) => (answer += chunk.toString()))
  socket.on('error', () => {})
  const closed = new Promise((resolve) => socket.once('close', resolve))
  socket.write(
    `POST ${CMS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`,
  )
  const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`
  while (!socket.destroyed && !answer.includes('413'))
    await new Promise((resolve) =>
      socket.write(chunk) ? setImmediate(resolve) : socket.once('drain', resolve).once('close', resolve),
    )
  assert.match(answer, /^HTTP\/1\.1 413 /)
  socket.destroy()
  await closed
})

test('a component in this process takes the same path and gets the same refusals', async () => {
  await using plane = await ControlPlane.start()
  const client = plane.server.client('deployment-controller')
  const made = await client.create(configMapKind, {
    metadata: { name: 'c', namespace: 'default' },
    data: { a: '1' },
  })
  assert.equal(made.metadata.managedFields?.[0]?.manager, 'deployment-controller')
  await assert.rejects(
    client.create(configMapKind, { metadata: { name: 'c', namespace: 'default' } }),
    (e) => e instanceof ApiError && e.reason === 'AlreadyExists',
  )
  await assert.rejects(
    client.create(podKind, { ...pod('p', { hostPID: true }), metadata: { name: 'p', namespace: 'default' } }),
    (e) => e instanceof ApiError && e.reason === 'Invalid',
  )
  const changed: KubeObject = { ...structuredClone(made), data: { a: '2' } }
  await client.update(configMapKind, changed as typeof made)
  await assert.rejects(
    client.update(configMapKind, changed as typeof made),
    (e) => e instanceof ApiError && e.reason === 'Conflict',
  )
  const { items } = await client.list(configMapKind, { namespace: 'default' })
  assert.equal(items.length, 1)
  await client.delete(configMapKind, { namespace: 'default', name: 'c' })
  await assert.rejects(
    client.get(configMapKind, { namespace: 'default', name: 'c' }),
    (e) => e instanceof ApiError && e.reason === 'NotFound',
  )
})

test('big answers are compressed for who accepts it, and discovery is not sent twice', async () => {
  await using plane = await ControlPlane.start()
  await created(plane, CMS, configMap('big', { data: { x: 'x'.repeat(200_000) } }))
  const { headers } = await plane.ask('GET', CMS, { headers: { 'accept-encoding': 'gzip' } })
  assert.equal(headers['content-encoding'], 'gzip')
  assert.ok(Number(headers['content-length']) < 50_000)
  const first = await plane.ask('GET', '/apis')
  const { code } = await plane.ask('GET', '/apis', { headers: { 'if-none-match': first.headers.etag! } })
  assert.equal(code, 304)
})

test('empty parts stand where clients of kube-apiserver find them, and belong to nobody', async () => {
  await using plane = await ControlPlane.start()
  const containers = [{ name: 'c', image: 'x' }]
  const job = { template: { spec: { restartPolicy: 'Never', containers } } }
  const write = async (path: string, more: object) => {
    const { code, body, text } = await plane.ask('POST', path, { body: { metadata: { name: 'x' }, ...more } })
    assert.equal(code, 201, text)
    return body
  }
  const cronJob = await write('/apis/batch/v1/namespaces/default/cronjobs', {
    spec: { schedule: '@daily', jobTemplate: { spec: job } },
  })
  assert.deepEqual(cronJob.spec.jobTemplate.metadata, {})
  assert.deepEqual(cronJob.spec.jobTemplate.spec.template.metadata, {})
  assert.equal(JSON.stringify(cronJob.metadata.managedFields).includes('f:metadata'), false)
  const slice = await write('/apis/discovery.k8s.io/v1/namespaces/default/endpointslices', {
    addressType: 'IPv4',
    endpoints: [{ addresses: ['10.1.2.3'] }],
  })
  assert.deepEqual(slice.endpoints, [{ addresses: ['10.1.2.3'], conditions: {} }])
  const { spec } = await write('/apis/batch/v1/namespaces/default/jobs', { spec: { suspend: true, ...job } })
  assert.equal(spec.manualSelector, false)
})

test('structs that are always there are not owned as such, and lists that somebody set are', async () => {
  await using plane = await ControlPlane.start()
  const template = { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'x' }] } }
  const pods = await plane.ask('POST', '/api/v1/namespaces/default/podtemplates', {
    body: { metadata: { name: 'x' }, template },
  })
  const [{ fieldsV1: owned }] = pods.body.metadata.managedFields
  assert.equal('.' in owned['f:template'], false)
  assert.equal('.' in owned['f:template']['f:spec']['f:containers'], false)
  const bindings = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings'
  const binding = await plane.ask('POST', bindings, {
    body: { metadata: { name: 'x' }, spec: { policyName: 'none', validationActions: ['Deny'] } },
  })
  const [{ fieldsV1 }] = binding.body.metadata.managedFields
  assert.deepEqual(fieldsV1['f:spec']['f:validationActions'], { '.': {}, 'v:"Deny"': {} })
})
