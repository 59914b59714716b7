import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { type ApiError, badRequest, platformRegistry } from '../api/index.ts'
import { type AdmissionPlugin, bundleOf, regoPolicyChecks } from '../policy/index.ts'
import { RegoThreads } from '../rego/index.ts'
import { systemClock } from '../stdx/index.ts'
import { ControlPlane, type Json } from '../../tests/conformance/control-plane.ts'
import { assemble, bundleOfModule, denyIfInputHas, op } from '../../tests/testkit/rego.ts'

const CMS = '/api/v1/namespaces/default/configmaps'
const threads = new RegoThreads({ clock: systemClock })
after(() => threads.close())

const configMap = (name: string, data: Json = {}): Json => ({ metadata: { name }, data })
const configMaps = (operations: ('CREATE' | 'UPDATE' | 'DELETE' | '*')[] = ['*']) => ({
  resourceRules: [{ apiGroups: [''], apiVersions: ['*'], operations, resources: ['configmaps'] }],
})

async function hold(plane: ControlPlane, wasm: Uint8Array, matchConstraints = configMaps()): Promise<void> {
  const bundle = Buffer.from(await bundleOfModule(wasm)).toString('base64')
  plane.server.setOperatorPolicies([], {
    threads,
    policies: [{ name: 'plain', bundle: bundleOf({ bundle }), matchConstraints }],
  })
}

test('every way to write is judged by the operator’s policy in Rego, which names itself', async () => {
  await using plane = await ControlPlane.start()
  const x = `${CMS}/x`
  assert.equal((await plane.ask('POST', CMS, { body: configMap('x', { a: '1' }) })).code, 201)
  await hold(plane, denyIfInputHas('"a":"2"', 'no twos'))
  const denied = async (method: string, path: string, ask: Json) => {
    const { code, body, text } = await plane.ask(method, path, ask)
    assert.equal(code, 403, `${method} ${path}: ${text}`)
    assert.match(body.message, /is forbidden: RegoPolicy 'plain' of the platform denied request: no twos$/)
  }
  const two = configMap('x', { a: '2' })
  const apply = { apiVersion: 'v1', kind: 'ConfigMap', ...two }
  await denied('PUT', x, { body: two })
  await denied('PATCH', x, { body: { data: { a: '2' } }, type: 'application/merge-patch+json' })
  await denied('PATCH', `${x}?fieldManager=t&force=true`, {
    body: apply,
    type: 'application/apply-patch+yaml',
  })
  await denied('PATCH', `${CMS}/new?fieldManager=t`, {
    body: { ...apply, metadata: { name: 'new' } },
    type: 'application/apply-patch+yaml',
  })
  await denied('POST', CMS, { body: configMap('y', { a: '2' }) })
  await denied('POST', `${CMS}?dryRun=All`, { body: configMap('y', { a: '2' }) })
  assert.equal((await plane.ask('PUT', x, { body: configMap('x', { a: '3' }) })).code, 200)
  assert.equal((await plane.ask('POST', CMS, { body: configMap('y', { a: '1' }) })).code, 201)
})

test('deletes are judged by what would go', async () => {
  await using plane = await ControlPlane.start()
  assert.equal((await plane.ask('POST', CMS, { body: configMap('keep', { a: '2' }) })).code, 201)
  assert.equal((await plane.ask('POST', CMS, { body: configMap('go') })).code, 201)
  await hold(plane, denyIfInputHas('"a":"2"', 'stays'), configMaps(['DELETE']))
  assert.equal((await plane.ask('DELETE', `${CMS}/keep`)).code, 403)
  assert.equal((await plane.ask('DELETE', CMS)).code, 403)
  assert.equal((await plane.ask('DELETE', `${CMS}/go`)).code, 404)
  assert.equal((await plane.ask('GET', `${CMS}/keep`)).code, 200)
})

test('a policy that fails or cannot be asked refuses what it would judge, and nothing else', async () => {
  await using plane = await ControlPlane.start()
  const create = (name: string) => plane.ask('POST', CMS, { body: configMap(name) })
  await hold(plane, assemble({ evaluate: op.unreachable }))
  const trapped = await create('a')
  assert.equal(trapped.code, 403)
  assert.match(
    trapped.body.message,
    /RegoPolicy 'plain' of the platform could not decide: it failed: unreachable/,
  )
  await hold(plane, Uint8Array.from([1, 2, 3]))
  assert.match((await create('a')).body.message, /could not decide: its policy.wasm is no WebAssembly/)
  plane.server.setOperatorPolicies([], {
    threads: undefined,
    policies: [{ name: 'plain', bundle: bundleOf({ bundle: '' }), matchConstraints: configMaps() }],
  })
  assert.match((await create('a')).body.message, /RegoPolicy 'plain' of the platform cannot be asked here/)
  const secret = { metadata: { name: 's' } }
  assert.equal((await plane.ask('POST', '/api/v1/namespaces/default/secrets', { body: secret })).code, 201)
})

/** Answers when a test says so. */
class Slow {
  readonly waiting: { name: string; data: unknown; answer: (refusal: ApiError | undefined) => void }[] = []
  readonly plugin: AdmissionPlugin = {
    name: 'Slow',
    review: ({ resource, object, name }) => {
      if (resource !== 'configmaps') return undefined
      const { promise, resolve } = Promise.withResolvers<ApiError | undefined>()
      this.waiting.push({ name, data: object['data'], answer: resolve })
      return promise
    },
  }
  async arrived(count: number): Promise<void> {
    while (this.waiting.length < count) await new Promise((resolve) => setImmediate(resolve))
  }
}

test('two writes that wait for a slow policy at once cannot both take the last of a quota', async () => {
  const slow = new Slow()
  await using plane = await ControlPlane.start({ plugins: [slow.plugin] })
  const quota = { metadata: { name: 'q' }, spec: { hard: { 'count/configmaps': '1' } } }
  const namespace = '/api/v1/namespaces/default'
  const before = (await plane.ask('GET', CMS)).body.items.length
  quota.spec.hard['count/configmaps'] = String(before + 1)
  assert.equal((await plane.ask('POST', `${namespace}/resourcequotas`, { body: quota })).code, 201)
  const writes = ['a', 'b', 'c'].map((name) => plane.ask('POST', CMS, { body: configMap(name) }))
  await slow.arrived(3)
  for (const { answer } of slow.waiting) answer(undefined)
  const codes = (await Promise.all(writes)).map(({ code }) => code).sort()
  assert.deepEqual(codes, [201, 403, 403])
})

test('what is stored is what the policy saw, whatever somebody else writes meanwhile', async () => {
  const slow = new Slow()
  await using plane = await ControlPlane.start({ plugins: [slow.plugin] })
  const made = plane.ask('POST', CMS, { body: configMap('x', { a: '1' }) })
  await slow.arrived(1)
  slow.waiting[0]?.answer(undefined)
  assert.equal((await made).code, 201)
  const patch = (data: Json) =>
    plane.ask('PATCH', `${CMS}/x`, { body: { data }, type: 'application/merge-patch+json' })
  const first = patch({ b: '1' })
  await slow.arrived(2)
  const second = patch({ c: '1' })
  await slow.arrived(3)
  slow.waiting[2]?.answer(undefined)
  assert.equal((await second).code, 200)
  // The first was judged by what is no longer there, so it is judged again by what would be stored now.
  slow.waiting[1]?.answer(undefined)
  await slow.arrived(4)
  assert.deepEqual(slow.waiting[3]?.data, { a: '1', b: '1', c: '1' })
  slow.waiting[3]?.answer(badRequest('not together'))
  assert.equal((await first).code, 400)
  assert.deepEqual((await plane.ask('GET', `${CMS}/x`)).body.data, { a: '1', c: '1' })
})

test('a namespace that goes while a policy thinks takes no new objects', async () => {
  const slow = new Slow()
  await using plane = await ControlPlane.start({ plugins: [slow.plugin] })
  assert.equal(
    (await plane.ask('POST', '/api/v1/namespaces', { body: { metadata: { name: 'n' } } })).code,
    201,
  )
  const write = plane.ask('POST', '/api/v1/namespaces/n/configmaps', { body: configMap('x') })
  await slow.arrived(1)
  assert.equal((await plane.ask('DELETE', '/api/v1/namespaces/n')).code, 200)
  slow.waiting[0]?.answer(undefined)
  const { code, body } = await write
  assert.equal(code, 403, body.message)
})

test('the platform refuses a policy that could never be asked, and says why', async () => {
  await using plane = await ControlPlane.start({
    registry: platformRegistry,
    plugins: [regoPolicyChecks(threads)],
  })
  const create = async (wasm: Uint8Array, spec: Json = {}) =>
    plane.ask('POST', '/apis/tenancy.bulkhead.dev/v1alpha1/regopolicies', {
      body: {
        metadata: { name: 'p' },
        spec: {
          bundle: Buffer.from(await bundleOfModule(wasm)).toString('base64'),
          matchConstraints: configMaps(),
          tenantSelector: {},
          ...spec,
        },
      },
    })
  const refused = await create(assemble({ builtins: ['http.send'] }))
  assert.equal(refused.code, 422)
  assert.match(
    refused.body.message,
    /spec.bundle: Invalid value: .* it calls "http.send", which policies cannot use/,
  )
  assert.equal((await create(denyIfInputHas('x', 'y'), { entrypoint: 'no/such' })).code, 422)
  assert.equal((await create(denyIfInputHas('x', 'y'), { bundle: '!' })).code, 400)
  assert.equal((await create(denyIfInputHas('x', 'y'), { bundle: '' })).code, 422)
  assert.equal((await create(denyIfInputHas('x', 'y'), { bundle: 'A'.repeat(400_000) })).code, 422)
  assert.equal((await create(denyIfInputHas('x', 'y'), { matchConstraints: {} })).code, 422)
  assert.equal((await create(denyIfInputHas('x', 'y'))).code, 201)
})
