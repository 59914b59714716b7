import assert from 'node:assert/strict'
import { createServer as createHttpServer } from 'node:http'
import { createServer as createHttp2Server } from 'node:http2'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { test, type TestContext } from 'node:test'
import * as fc from 'fast-check'
import type { JailProbe } from '../../../jail/index.ts'
import { systemClock } from '../../../stdx/index.ts'
import { JAIL_ID, sampleProbe } from '../fakes/sample-jail.ts'
import { exchange } from './probe-exchange.ts'
import { createProber } from './prober.ts'

const target = { jail: JAIL_ID, containerID: 'crun://a', podIP: '10.1.0.2' }

function proberTo(commands: Record<string, { exitCode: number; output: string }> = {}) {
  return createProber({
    host: { run: async (_jail, _id, [word = '']) => commands[word] ?? { exitCode: -1, output: 'not found' } },
    network: {
      async connect(_jail, port, signal) {
        const socket = connect({ host: '127.0.0.1', port, signal })
        await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
        return socket
      },
    },
    clock: systemClock,
    exchange,
  })
}

async function listen(t: TestContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => sockets.add(socket.on('error', () => {})))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

function httpGet(
  port: number,
  over: Partial<Extract<JailProbe['handler'], { kind: 'httpGet' }>> = {},
): JailProbe {
  return sampleProbe({
    timeoutSeconds: 5,
    handler: { kind: 'httpGet', port, path: '/', scheme: 'HTTP', headers: [], ...over },
  })
}

test('a command that exits with 0 is well, and what it says is told when it does not', async () => {
  const prober = proberTo({
    good: { exitCode: 0, output: '' },
    bad: { exitCode: 3, output: 'x'.repeat(9_000) },
  })
  const exec = (word: string) =>
    prober.probe(target, sampleProbe({ handler: { kind: 'exec', command: [word] } }))
  assert.deepEqual(await exec('good'), { ok: true, message: '' })
  const bad = await exec('bad')
  assert.equal(bad.ok, false)
  assert(bad.message.length <= 1_025)
})

test('HTTP answers from 200 to 399 are well, and a redirect is not followed', async (t) => {
  let requests = 0
  const port = await listen(
    t,
    createHttpServer((request, response) => {
      requests++
      response
        .writeHead(Number(request.url?.slice(1)), { location: 'http://169.254.169.254/' })
        .end('x'.repeat(100_000))
    }),
  )
  const prober = proberTo()
  for (const [code, ok] of [
    [200, true],
    [302, true],
    [399, true],
    [400, false],
    [500, false],
  ] as const)
    assert.deepEqual(await prober.probe(target, httpGet(port, { path: `/${code}` })), {
      ok,
      message: ok ? '' : `HTTP probe failed with statuscode: ${code}`,
    })
  assert.equal(requests, 5)
})

test('headers are sent as given, except those that would change the connection', async (t) => {
  let seen: string[] = []
  let url = ''
  const port = await listen(
    t,
    createHttpServer((request, response) => {
      seen = request.rawHeaders
      url = request.url ?? ''
      response.end()
    }),
  )
  const headers = [
    { name: 'Host', value: 'example.test' },
    { name: 'X-A', value: '1' },
    { name: 'Content-Length', value: '5' },
    { name: 'Transfer-Encoding', value: 'chunked' },
    { name: 'Upgrade', value: 'h2c' },
    { name: 'Accept', value: 'text/plain' },
  ]
  await proberTo().probe(target, httpGet(port, { headers, path: '/a%20b?c=ü' }))
  assert.deepEqual(seen, [
    'User-Agent',
    'kube-probe/1.32',
    'Connection',
    'close',
    'Host',
    'example.test',
    'X-A',
    '1',
    'Accept',
    'text/plain',
  ])
  assert.equal(url, '/a%20b?c=%C3%BC')
})

test('a TCP port that listens is well, one that does not is not', async (t) => {
  const server = createServer()
  const port = await listen(t, server)
  const probe = sampleProbe({ timeoutSeconds: 5, handler: { kind: 'tcpSocket', port } })
  assert.equal((await proberTo().probe(target, probe)).ok, true)
  server.close()
  assert.equal(
    (await proberTo().probe(target, sampleProbe({ handler: { kind: 'tcpSocket', port: 1 } }))).ok,
    false,
  )
})

test('a port that refuses is told in the kubelet’s words, whatever our own network says about it', async () => {
  const prober = createProber({
    host: { run: async () => ({ exitCode: 0, output: '' }) },
    network: {
      async connect() {
        const cause = Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:80'), { code: 'ECONNREFUSED' })
        throw new Error(`Nothing in the jail "${JAIL_ID}" accepts connections`, { cause })
      },
    },
    clock: systemClock,
    exchange,
  })
  const told = async (handler: JailProbe['handler']) =>
    (await prober.probe(target, sampleProbe({ handler }))).message
  const dial = 'dial tcp 10.1.0.2:80: connect: connection refused'
  assert.equal(await told({ kind: 'tcpSocket', port: 80 }), dial)
  assert.equal(
    await told({ kind: 'httpGet', port: 80, path: '/healthz', scheme: 'HTTPS', headers: [] }),
    `Get "https://10.1.0.2:80/healthz": ${dial}`,
  )
  assert.equal(
    await told({ kind: 'grpc', port: 80, service: '' }),
    `error: failed to connect service at "10.1.0.2:80": ${dial}`,
  )
})

test('an answer that never comes is a failure after the timeout', async (t) => {
  const port = await listen(
    t,
    createServer((socket) => void socket.resume()),
  )
  const probe = { ...httpGet(port), timeoutSeconds: 1 }
  const result = await proberTo().probe(target, probe)
  assert.deepEqual(result, {
    ok: false,
    message: `Get "http://10.1.0.2:${port}/": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`,
  })
})

test('whatever a pod answers is a failure, never an error of ours', async (t) => {
  let answer: Buffer = Buffer.alloc(0)
  const port = await listen(
    t,
    createServer((socket) => {
      socket.resume()
      socket.end(answer)
    }),
  )
  const prober = proberTo()
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.uint8Array({ maxLength: 100 }).map((b) => Buffer.from(b)),
        fc.constantFrom(
          Buffer.from('HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n'),
          Buffer.from(`HTTP/1.1 200 OK\r\n${'a: b\r\n'.repeat(9_000)}\r\n`),
          Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n'),
        ),
      ),
      fc.constantFrom('HTTP' as const, 'HTTPS' as const, 'grpc' as const),
      async (bytes, scheme) => {
        answer = bytes
        const probe =
          scheme === 'grpc'
            ? sampleProbe({ timeoutSeconds: 5, handler: { kind: 'grpc', port, service: '' } })
            : httpGet(port, { scheme })
        assert.equal((await prober.probe(target, probe)).ok, false)
      },
    ),
    { numRuns: 60 },
  )
})

test('a gRPC health service is asked by its name', async (t) => {
  const asked: string[] = []
  const server = createHttp2Server()
  server.on('stream', (stream, headers) => {
    const chunks: Buffer[] = []
    stream.on('error', () => {})
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('end', () => {
      const service = Buffer.concat(chunks).subarray(7).toString()
      asked.push(`${String(headers[':path'])} ${service}`)
      const status = service === 'down' ? 2 : 1
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
      stream.on('wantTrailers', () =>
        stream.sendTrailers({ 'grpc-status': service === 'unknown' ? '5' : '0' }),
      )
      stream.end(Buffer.from([0, 0, 0, 0, 2, 8, status]))
    })
  })
  const port = await listen(t, server as unknown as Server)
  const ask = (service: string) =>
    proberTo().probe(target, sampleProbe({ timeoutSeconds: 5, handler: { kind: 'grpc', port, service } }))
  assert.deepEqual(await ask('up'), { ok: true, message: '' })
  assert.deepEqual(await ask(''), { ok: true, message: '' })
  assert.deepEqual(await ask('down'), {
    ok: false,
    message: 'service unhealthy (responded with "NOT_SERVING")',
  })
  assert.deepEqual(await ask('unknown'), {
    ok: false,
    message: 'error: health rpc probe failed with status 5',
  })
  const long = 'x'.repeat(300)
  await ask(long)
  assert.equal(asked.length, 5)
  assert(asked[4]?.endsWith('x'.repeat(299)))
})
