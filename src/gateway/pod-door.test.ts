import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { PLATFORM_TENANT, type TenantName } from '../api/index.ts'
import type { GatewayOptions } from './gateway.ts'
import { Harbour } from './testdata/harbour.ts'

const UID = '6f1c2b7e-0c5f-4c1e-9d53-1f0f2f7b8a11'

/** A door for pods, where the tests say whose address theirs is. */
async function withDoor(
  work: (harbour: Harbour, be: (tenant: TenantName | undefined) => void) => Promise<void>,
  limits?: GatewayOptions['limits'],
): Promise<void> {
  let owner: TenantName | undefined
  await using harbour = await Harbour.start(
    limits,
    () => UID,
    () => owner,
  )
  await work(harbour, (tenant) => (owner = tenant))
}

/** Whether the door speaks at all with whoever connects. */
function isLetIn(harbour: Harbour): Promise<boolean> {
  return harbour.h1('/healthz').then(
    () => true,
    () => false,
  )
}

test("a pod reaches its own tenant's control plane with the paths that every client library uses", () =>
  withDoor(async (harbour, be) => {
    be(harbour.red.tenant)
    const token = await harbour.token(harbour.red)
    const answer = await harbour.h1('/api/v1/namespaces/default/pods?limit=1', { token })
    assert.equal(answer.code, 200)
    const [seen] = harbour.red.seen
    assert.equal(seen?.url, '/api/v1/namespaces/default/pods?limit=1')
    assert.equal(seen.user?.kind, 'serviceAccount')
    assert.equal(harbour.audit.events.at(-1)?.['tenant'], 'red')
  }))

test('a token of another tenant is worth nothing in a pod, in the bytes of any other that is worth nothing', () =>
  withDoor(async (harbour, be) => {
    be(harbour.blue.tenant)
    const stolen = await harbour.token(harbour.red)
    const [header, payload] = stolen.split('.')
    const answers = await Promise.all(
      [{ token: stolen }, { token: `${header}.${payload}.${'A'.repeat(86)}` }, { token: 'x.y.z' }, {}].map(
        (credentials) => harbour.h1('/api/v1/secrets', credentials),
      ),
    )
    for (const answer of answers)
      assert.deepEqual([answer.code, answer.body], [401, answers[0]?.body], 'all the same')
    assert.equal(harbour.red.seen.length + harbour.blue.seen.length, 0)
    // Nobody can make another tenant's control plane work by showing tokens that claim to be its own.
    assert.equal(harbour.red.keySetsAsked, 0)
    const recorded = harbour.audit.events.map(({ tenant, user }) => ({ tenant, user }))
    assert.deepEqual(
      recorded,
      Array.from({ length: 4 }, () => ({ tenant: 'blue', user: null })),
    )
  }))

test('no path leads from a pod to another tenant or to the platform', () =>
  withDoor(async (harbour, be) => {
    be(harbour.red.tenant)
    const token = await harbour.token(harbour.red)
    for (const path of ['/tenants/blue/api/v1/secrets', '/platform/api', '//blue/api'])
      await harbour.h1(path, { token })
    assert.equal(harbour.blue.seen.length + harbour.platform.seen.length, 0)
    // They are paths like any other, which its own control plane does not have.
    assert.deepEqual(
      harbour.red.seen.map(({ url }) => url),
      ['/tenants/blue/api/v1/secrets', '/platform/api'],
    )
  }))

test('an identity header or a client certificate makes nobody anybody', () =>
  withDoor(async (harbour, be) => {
    be(harbour.red.tenant)
    const admin = { kind: 'tenantUser', tenant: 'red', name: 'admin', groups: ['system:masters'] }
    const identity = Buffer.from(JSON.stringify(admin)).toString('base64url')
    const headers = { 'x-bulkhead-identity': identity, 'x-remote-user': 'admin' }
    assert.equal((await harbour.h1('/api/v1/secrets', {}, { headers })).code, 401)
    const certificate = await harbour.certificate(harbour.red.tenant, { tenantUid: UID })
    assert.equal((await harbour.h1('/api/v1/secrets', certificate)).code, 401)
    const token = await harbour.token(harbour.red)
    assert.equal((await harbour.h1('/api/v1/secrets', { token }, { headers })).code, 200)
    assert.equal(harbour.red.seen.at(-1)?.user?.kind, 'serviceAccount')
  }))

test("an address that is nobody's is not spoken to", () =>
  withDoor(async (harbour, be) => {
    be(undefined)
    assert.equal(await isLetIn(harbour), false)
    be(harbour.red.tenant)
    assert.equal(await isLetIn(harbour), true)
    // Not even with a session that was open when the tenant went.
    const token = await harbour.token(harbour.red)
    be(undefined)
    await assert.rejects(harbour.h1('/api', { token }))
    be(PLATFORM_TENANT)
    assert.equal((await harbour.h1('/api', { token })).code, 401)
  }))

test('connections of a tenant are bounded before anybody says who they are, and the others notice nothing', () =>
  withDoor(
    async (harbour, be) => {
      be(harbour.red.tenant)
      const closed = Promise.withResolvers<void>()
      // Says nothing at all, not even hello.
      const silent = Array.from({ length: 3 }, () => {
        const socket = connect(harbour.port, '127.0.0.1')
        socket.on('error', () => {})
        socket.on('close', () => closed.resolve())
        return socket
      })
      try {
        await closed.promise
        assert.equal(await isLetIn(harbour), false)
        be(harbour.blue.tenant)
        assert.equal(await isLetIn(harbour), true)
      } finally {
        for (const socket of silent) socket.destroy()
      }
    },
    { tenant: { connectionsMax: 2 } },
  ))

test('a tenant that opens connections without end is sent away before the handshake', () =>
  withDoor(
    async (harbour, be) => {
      be(harbour.red.tenant)
      const outcomes = []
      for (let n = 0; n < 5; n++) outcomes.push(await isLetIn(harbour))
      assert.deepEqual(outcomes, [true, true, true, false, false])
      be(harbour.blue.tenant)
      assert.equal(await isLetIn(harbour), true)
      be(harbour.red.tenant)
      harbour.clock.advance(1_000)
      assert.equal(await isLetIn(harbour), true)
    },
    { tenant: { connectionsPerSecond: 1, connectionsBurst: 3 } },
  ))
