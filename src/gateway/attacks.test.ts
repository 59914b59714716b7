import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { MiB, until } from '../stdx/index.ts'
import { AUDIT_REFUSALS_BURST, CLOSE_MS_MAX, REQUEST_MS_MAX } from './limits.ts'
import { askHttp2, type Credentials, Harbour } from './testdata/harbour.ts'

test('requests that are reset while their token is verified take no place from the tenant', async () => {
  await using harbour = await Harbour.start({
    requestsMax: 16,
    streamsMax: 16,
    tenant: { requestsMax: 2, streamsMax: 2 },
  })
  const token = await harbour.token(harbour.red)
  const headers = { authorization: `Bearer ${token}` }
  const session = harbour.session()
  await once(session, 'connect')
  for (let i = 0; i < 8; i++) {
    const stream = session.request({ ':path': '/tenants/red/api', ...headers })
    stream.on('error', () => {})
    stream.close(8) // CANCEL
    await once(stream, 'close')
  }
  await until(() => harbour.audit.lines.length === 8)
  session.destroy()
  const { code, body } = await harbour.h1('/tenants/red/api', { token })
  assert.equal(code, 200, body)
})

test('an upgrade whose client leaves while its token is verified takes no place and reaches no container', async () => {
  await using harbour = await Harbour.start({
    requestsMax: 16,
    streamsMax: 16,
    tenant: { requestsMax: 2, streamsMax: 2, connectionsMax: 4 },
    connectionsMax: 64,
  })
  const token = await harbour.token(harbour.red)
  const exec = '/tenants/red/api/v1/namespaces/default/pods/p/exec?command=id'
  const request = `GET ${exec} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n`
  for (let i = 0; i < 8; i++) {
    const socket = await harbour.raw()
    await new Promise((resolve) => socket.write(request, resolve))
    socket.destroy()
  }
  await until(() => harbour.audit.lines.length === 8)
  let upgrades = 0
  harbour.red.upgradeHandler = (_request, socket) => {
    upgrades++
    socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n')
  }
  const answer = await harbour.rawAnswer(request)
  assert.match(answer, /^HTTP\/1.1 403 /)
  assert.equal(upgrades, 1)
})

test('a flood of refusals cannot push the records of others out of the audit log', async () => {
  await using harbour = await Harbour.start({ tenant: { requestsPerSecond: 1, requestsBurst: 3 } })
  const bob = await harbour.certificate(harbour.blue.tenant, { user: 'bob' })
  const alice = await harbour.certificate(harbour.red.tenant)
  const flood = async (path: string, credentials: Credentials) => {
    const session = harbour.session(credentials)
    for (let i = 0; i < 10; i++) await Promise.all(Array.from({ length: 50 }, () => askHttp2(session, path)))
    session.destroy()
  }
  await flood('/tenants/red/api', {})
  await flood('/tenants/blue/api', bob)
  assert.ok(harbour.audit.lines.length < 2 * AUDIT_REFUSALS_BURST + 20, `${harbour.audit.lines.length}`)
  harbour.audit.lines.length = 0
  await harbour.h1('/tenants/red/api', alice)
  harbour.clock.advance(1_000)
  await harbour.h1('/tenants/red/api')
  assert.deepEqual(
    harbour.audit.events.map(({ tenant, code, unrecorded }) => ({ tenant, code, unrecorded })),
    [
      { tenant: 'red', code: 200, unrecorded: undefined },
      { tenant: null, code: 401, unrecorded: 300 },
    ],
  )
})

test('a client that reads nothing loses its place when its time is over', async () => {
  await using harbour = await Harbour.start()
  const alice = await harbour.certificate(harbour.red.tenant)
  harbour.red.handler = (_request, response) => {
    response.write(Buffer.alloc(32 * MiB))
  }
  const socket = await harbour.raw(alice)
  socket.pause()
  socket.write('GET /tenants/red/api HTTP/1.1\r\nhost: x\r\n\r\n')
  await until(() => harbour.red.seen.length === 1)
  harbour.clock.advance(REQUEST_MS_MAX)
  await until(() => {
    harbour.clock.advance(CLOSE_MS_MAX)
    return harbour.audit.lines.length === 1
  })
  socket.destroy()
})
