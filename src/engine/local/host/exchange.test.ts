import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import * as fc from 'fast-check'
import { CHANNEL, renderFrame } from '../../../jail/index.ts'
import { silentLogger, systemClock } from '../../../stdx/index.ts'
import { JAIL_ID, sampleProbe } from '../fakes/sample-jail.ts'
import { serveExchanges } from '../pods/exchange-server.ts'
import { createProber } from '../pods/prober.ts'
import { createRemoteExchange, parseResult } from './exchange-client.ts'

const target = { jail: JAIL_ID, containerID: 'crun://a', podIP: '10.1.0.2' }

function socketIn(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'bulkhead-exchange-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return join(directory, 's')
}

function closing(t: TestContext, server: Server): Server {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => sockets.add(socket.on('error', () => {})))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return server
}

async function listen(t: TestContext, server: Server): Promise<number> {
  await new Promise<void>((resolve) => closing(t, server).listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

function proberAt(socketPath: string, onHung = () => {}) {
  return createProber({
    host: { run: async () => ({ exitCode: 0, output: '' }) },
    network: {
      async connect(_jail, port, signal) {
        const socket = connect({ host: '127.0.0.1', port, signal })
        await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
        return socket
      },
    },
    clock: systemClock,
    exchange: createRemoteExchange({ socketPath, log: silentLogger, onHung }),
  })
}

function httpGet(port: number, path = '/', timeoutSeconds = 5) {
  return sampleProbe({
    timeoutSeconds,
    handler: { kind: 'httpGet', port, path, scheme: 'HTTP', headers: [] },
  })
}

async function served(t: TestContext): Promise<string> {
  const socketPath = socketIn(t)
  const allowedUid = process.getuid?.() ?? 0
  closing(t, await serveExchanges({ socketPath, log: silentLogger, allowedUid }))
  return socketPath
}

test('a probe is asked and read by the other process, and says what it says anywhere', async (t) => {
  const prober = proberAt(await served(t))
  const port = await listen(
    t,
    createHttpServer((request, response) => {
      response.writeHead(Number(request.url?.slice(1))).end('x'.repeat(300_000))
    }),
  )
  assert.deepEqual(await prober.probe(target, httpGet(port, '/200')), { ok: true, message: '' })
  assert.deepEqual(await prober.probe(target, httpGet(port, '/503')), {
    ok: false,
    message: 'HTTP probe failed with statuscode: 503',
  })
})

test('a pod that ends the connection, or says nothing, fails its probe', async (t) => {
  const prober = proberAt(await served(t))
  const rude = await listen(
    t,
    createServer((socket) => socket.resetAndDestroy()),
  )
  const { ok, unknown, message } = await prober.probe(target, httpGet(rude))
  assert.deepEqual([ok, unknown], [false, undefined])
  assert.match(message, /reset by peer|EOF/)
  const silent = await listen(
    t,
    createServer(() => {}),
  )
  const late = await prober.probe(target, httpGet(silent, '/', 1))
  assert.deepEqual([late.ok, late.unknown], [false, undefined])
})

test('a pod that talks without end is cut off', async (t) => {
  const prober = proberAt(await served(t))
  const port = await listen(
    t,
    createServer((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n')
      const more = () => {
        while (socket.write(`x-${'y'.repeat(1_000)}: z\r\n`)) continue
      }
      socket.on('drain', more)
      more()
    }),
  )
  assert.equal((await prober.probe(target, httpGet(port))).ok, false)
})

test('whatever a pod answers, the prober lives on', async (t) => {
  const prober = proberAt(await served(t))
  let answer: Uint8Array = Buffer.alloc(0)
  const port = await listen(
    t,
    createServer((socket) => socket.end(answer)),
  )
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 2_000 }),
    fc.string().map((text) => Buffer.from(`HTTP/1.1 ${text}\r\n\r\n`)),
  )
  await fc.assert(
    fc.asyncProperty(noise, async (bytes) => {
      answer = bytes
      const { message } = await prober.probe(target, httpGet(port))
      assert.ok(message.length <= 1_025)
    }),
    { numRuns: 50 },
  )
  const well = await listen(
    t,
    createHttpServer((_request, response) => response.end('well')),
  )
  assert.equal((await prober.probe(target, httpGet(well))).ok, true)
})

test('what a prober that hangs, is gone or was taken over says counts for no pod and against none', async (t) => {
  const well = await listen(
    t,
    createHttpServer((_request, response) => response.end('well')),
  )
  const gone = await proberAt(socketIn(t)).probe(target, httpGet(well))
  assert.equal(gone.unknown, true)

  const asHost = async (answer: (socket: Socket) => void) => {
    const socketPath = socketIn(t)
    const server = closing(t, createServer(answer))
    await new Promise<void>((resolve) => server.listen({ path: socketPath }, resolve))
    return socketPath
  }
  let hung = 0
  const deaf = proberAt(await asHost(() => {}), () => hung++)
  for (let i = 0; i < 5; i++) assert.equal((await deaf.probe(target, httpGet(well, '/', 0.05))).unknown, true)
  assert.equal(hung, 1)

  const lies = [
    renderFrame(CHANNEL.status, Buffer.from('{"ok":1}')),
    renderFrame(CHANNEL.status, Buffer.from(JSON.stringify({ ok: true, message: 'x'.repeat(20_000) }))),
    Buffer.from([3, 255, 255, 255, 255]),
    Buffer.concat(Array.from({ length: 3 }, () => renderFrame(CHANNEL.stdout, Buffer.alloc(1_000_000)))),
  ]
  for (const lie of lies) {
    const liar = proberAt(await asHost((socket) => socket.write(lie)))
    assert.equal((await liar.probe(target, httpGet(well))).unknown, true)
  }
})

test('no bytes of a prober become anything but a short result', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      try {
        const { ok, message } = parseResult(Buffer.from(text))
        assert.ok(typeof ok === 'boolean' && message.length <= 1_025)
      } catch (error) {
        assert.ok(error instanceof SyntaxError || error instanceof TypeError || error instanceof RangeError)
      }
    }),
  )
})
