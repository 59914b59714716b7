import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, request as httpRequest } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { until } from '../stdx/index.ts'
import { type Caller, Connections } from './connections.ts'
import { IDLE_CONNECTIONS_PER_PLANE_MAX, IDLE_CONNECTIONS_PER_USER_MAX } from './limits.ts'

/** A control plane that holds `together` requests before it answers them all. */
async function setUp() {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-connections-'))
  const socketPath = join(dir, 'api.sock')
  const open = new Set<Socket>()
  const waiting: (() => void)[] = []
  let together = 1
  const server = createServer((_request, response) => {
    waiting.push(() => response.end('{}'))
    if (waiting.length >= together) for (const answer of waiting.splice(0)) answer()
  })
  server.on('connection', (socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
  })
  server.listen(socketPath)
  await once(server, 'listening')
  const agent = new Connections()
  const ask = async (identity: string) => {
    const caller: Caller = {
      identity,
      socketPath,
      connect: async () => {
        const socket = connect(socketPath)
        await once(socket, 'connect')
        return socket
      },
    }
    const request = httpRequest({ ...{ caller }, agent, headers: { connection: 'keep-alive' } })
    request.end()
    const [response] = (await once(request, 'response')) as [NodeJS.ReadableStream]
    response.resume()
    await once(response, 'end')
    return request
  }
  return {
    open,
    ask,
    /** So many at the same time, each as another user or all as one. */
    askAll: async (count: number, identityOf: (n: number) => string) => {
      together = count
      await Promise.all(Array.from({ length: count }, (_, n) => ask(identityOf(n))))
      together = 1
    },
    async [Symbol.asyncDispose]() {
      agent.destroy()
      server.close()
      await once(server, 'close')
      rmSync(dir, { recursive: true })
    },
  }
}

test('a control plane has a bounded number of connections that wait, and soon none', async () => {
  await using plane = await setUp()
  await plane.askAll(IDLE_CONNECTIONS_PER_PLANE_MAX + 40, (n) => `user-${n}`)
  await until(() => plane.open.size <= IDLE_CONNECTIONS_PER_PLANE_MAX)
  await until(() => plane.open.size === 0)
})

test('so has a user, who takes them again one after the other', async () => {
  await using plane = await setUp()
  await plane.askAll(IDLE_CONNECTIONS_PER_USER_MAX + 20, () => 'alice')
  await until(() => plane.open.size <= IDLE_CONNECTIONS_PER_USER_MAX)
  const before = new Set(plane.open)
  for (let n = 0; n < 50; n++) {
    const { socket } = await plane.ask('alice')
    // Nothing is left behind on a connection with each request.
    for (const event of ['close', 'error', 'data', 'timeout', 'end'])
      assert.ok((socket?.listenerCount(event) ?? 0) < 10, event)
  }
  for (const socket of plane.open) assert.ok(before.has(socket))
  await until(() => plane.open.size === 0)
})

test('a control plane that closes a waiting connection makes nobody fail', async () => {
  await using plane = await setUp()
  await plane.ask('alice')
  const closed = [...plane.open].map((socket) => once(socket, 'close'))
  for (const socket of plane.open) socket.destroy()
  await Promise.all(closed)
  await new Promise((resolve) => setImmediate(resolve))
  await until(async () => (await plane.ask('alice')) !== undefined)
})
