import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { parseTenantName } from '../api/index.ts'
import { createTokenKey, TokenIssuer } from '../identity/index.ts'
import { until } from '../stdx/index.ts'
import { type Credentials, FakeControlPlane, Harbour } from './testdata/harbour.ts'

const red = parseTenantName('red')

let harbour: Harbour
let alice: Credentials
let bob: Credentials
let issuer: TokenIssuer
/** Tenants that the gateway asked to be woken. */
let woken: string[] = []
let wake: () => Promise<void>

before(async () => {
  harbour = await Harbour.start(undefined, undefined, undefined, {
    wake: async (tenant) => {
      woken.push(tenant)
      await wake()
    },
    sleepingKeysOf: (tenant) => (tenant === 'red' && isAsleep ? issuer.jwks() : undefined),
  })
  alice = await harbour.certificate(red)
  bob = await harbour.certificate(parseTenantName('blue'), { user: 'bob' })
  issuer = await TokenIssuer.open({ tenant: red, keys: [await createTokenKey()] })
})
after(() => harbour[Symbol.asyncDispose]())

let isAsleep = false
const startRed = async () => {
  harbour.red = await FakeControlPlane.start(red, harbour.red.path)
  harbour.red.issuer = issuer
  isAsleep = false
}
beforeEach(async () => {
  await harbour.red[Symbol.asyncDispose]()
  isAsleep = true
  woken = []
  wake = startRed
})

test('a request for a control plane that sleeps is held, body and all, and answered', async () => {
  for (const ask of [harbour.h1.bind(harbour), harbour.h2.bind(harbour)]) {
    await harbour.red[Symbol.asyncDispose]()
    isAsleep = true
    const body = 'x'.repeat(90_000)
    const answer = await ask('/tenants/red/api/v1/namespaces', alice, { method: 'POST', body })
    assert.equal(answer.code, 200)
    assert.deepEqual(
      harbour.red.seen.map((seen) => [seen.method, seen.body.length]),
      [['POST', 90_000]],
    )
  }
  assert.deepEqual(woken, ['red', 'red'])
})

test('nobody is woken by a stranger, by somebody of another tenant, or by a token that is not genuine', async () => {
  const forged = await TokenIssuer.open({ tenant: red, keys: [await createTokenKey()] })
  const account = { namespace: 'default', name: 'builder', uid: 'uid' }
  const { token } = await forged.issue({ account, nowMs: harbour.clock.nowMs() })
  const path = '/tenants/red/api/v1/namespaces'
  assert.equal((await harbour.h1(path)).code, 401)
  assert.equal((await harbour.h1(path, { token: 'nonsense' })).code, 401)
  assert.equal((await harbour.h1(path, { token })).code, 401)
  assert.equal((await harbour.h1(path, bob)).code, 403)
  assert.equal((await harbour.h1(path, alice, { method: 'OPTIONS' })).code, 405)
  assert.deepEqual(woken, [])
})

test('a genuine token is told by the keys that the control plane left, and wakes it', async () => {
  const account = { namespace: 'default', name: 'builder', uid: 'uid' }
  const { token } = await issuer.issue({ account, nowMs: harbour.clock.nowMs() })
  assert.equal((await harbour.h1('/tenants/red/api/v1/pods', { token })).code, 200)
  assert.deepEqual(woken, ['red'])
  assert.equal(harbour.red.keySetsAsked, 0)
})

test('one that cannot be woken, or is not there after all, gets its client a refusal and nothing worse', async () => {
  wake = () => Promise.reject(new Error('no'))
  const refused = await harbour.h1('/tenants/red/api', alice)
  assert.equal(refused.code, 503)
  assert.equal(refused.headers['retry-after'], '1')
  wake = () => Promise.resolve()
  assert.equal((await harbour.h1('/tenants/red/api', alice)).code, 503)
  assert.ok(woken.length < 10, `${woken.length} times`)
  await startRed()
})

test('whoever leaves while the control plane wakes gives its place back', async () => {
  const waiting = Promise.withResolvers<void>()
  wake = async () => {
    await waiting.promise
    await startRed()
  }
  const left = harbour.session(alice)
  const stream = left.request({ ':path': '/tenants/red/api' })
  stream.on('error', () => {})
  await until(() => woken.length > 0)
  const lines = harbour.audit.lines.length
  left.destroy()
  await until(() => harbour.audit.lines.length > lines)
  waiting.resolve()
  // Its place is free again and the next one is served.
  assert.equal((await harbour.h1('/tenants/red/api/next', alice)).code, 200)
  assert.deepEqual(
    harbour.red.seen.map(({ url }) => url),
    ['/api/next'],
  )
})
