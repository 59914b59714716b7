import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { until } from '../stdx/index.ts'
import { Harbour } from './testdata/harbour.ts'

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
