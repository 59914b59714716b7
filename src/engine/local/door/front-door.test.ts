import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, request, type Server } from 'node:http'
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2'
import { request as requestTls } from 'node:https'
import { type AddressInfo, connect as connectTcp, createServer as createTcpServer } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { text } from 'node:stream/consumers'
import { after, before, test } from 'node:test'
import { once } from 'node:events'
import * as fc from 'fast-check'
import { parseIpBlock } from '../../../api/index.ts'
import { certificateFor, TestDoor } from './door.testkit.ts'
import { parseProxyHeader } from './proxy-header.ts'

type Seen = { method: string; url: string; headers: IncomingMessage['headers']; raw: string[]; body: string }

const RED = 'shop.example.com'
const BLUE = 'blue.example.com'
let at: TestDoor
let red: { server: Server; port: number; seen: Seen[] }
let blue: { server: Server; port: number; seen: Seen[] }
const redPair = await certificateFor(RED)
const bluePair = await certificateFor(BLUE)

before(async () => {
  at = await TestDoor.start()
  red = await service('red')
  blue = await service('blue')
  await at.publish(0, {
    hosts: [RED, '*.red.apps.example.com'],
    port: red.port,
    certificates: [{ host: RED, certificate: redPair.certificate, key: redPair.key }],
    routes: [{}, { host: '*.red.apps.example.com' }, { host: BLUE }, { path: '/only', exact: true }],
  })
  await at.publish(1, {
    hosts: [BLUE],
    port: blue.port,
    certificates: [
      { host: BLUE, certificate: bluePair.certificate, key: bluePair.key },
      { host: RED, certificate: bluePair.certificate, key: bluePair.key },
    ],
    routes: [{}, { host: RED }, { host: '*.example.com' }, { host: 'x.red.apps.example.com' }],
  })
})

after(async () => {
  for (const { server } of [red, blue]) {
    server.close()
    server.closeAllConnections()
  }
  await at[Symbol.asyncDispose]()
})

async function service(name: string) {
  const seen: Seen[] = []
  const server = createServer((req, res) => {
    const answer = (body: string) => {
      seen.push({
        method: req.method ?? '',
        url: req.url ?? '',
        headers: req.headers,
        raw: req.rawHeaders,
        body,
      })
      res.setHeader('x-who', name)
      res.setHeader('set-cookie', [`a=1; Domain=example.com`, `b=2; Domain=${RED}`, 'c=3'])
      res.end(`${name} ${req.url}`)
    }
    text(req).then(answer, () => {})
  })
  server.on('upgrade', (req, socket) => {
    seen.push({ method: 'UPGRADE', url: req.url ?? '', headers: req.headers, raw: req.rawHeaders, body: '' })
    socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n')
    socket.on('data', (chunk: Buffer) => socket.write(`${name}:${chunk.toString()}`))
    socket.on('error', () => {})
    socket.on('end', () => socket.end())
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  return { server, port: (server.address() as AddressInfo).port, seen }
}

type Answer = { status: number; body: string; headers: IncomingMessage['headers'] }

function get(
  host: string,
  path = '/',
  {
    headers = {},
    method = 'GET',
    body,
  }: { headers?: Record<string, string>; method?: string; body?: string } = {},
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const req = request({
    port: at.ports.http,
    host: '127.0.0.1',
    path,
    method,
    headers: { ...headers, host },
    agent: false,
  })
  req.on('error', reject)
  req.on('response', (res) => {
    void text(res).then(
      (all) => resolve({ status: res.statusCode ?? 0, body: all, headers: res.headers }),
      reject,
    )
  })
  req.end(body)
  return promise
}

function getTls(sni: string, host: string): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const req = requestTls({
    port: at.ports.https,
    host: '127.0.0.1',
    servername: sni,
    ca: [redPair.authority, bluePair.authority],
    path: '/',
    headers: { host },
    agent: false,
  })
  req.on('error', reject)
  req.on('response', (res) => {
    void text(res).then(
      (all) => resolve({ status: res.statusCode ?? 0, body: all, headers: res.headers }),
      reject,
    )
  })
  req.end()
  return promise
}

test('a host leads to the tenant that it was granted to, whatever others publish', async () => {
  assert.equal((await get(RED, '/a?b=c')).body, 'red /a?b=c')
  assert.equal((await get(BLUE)).body, 'blue /')
  assert.equal((await get('x.red.apps.example.com')).body, 'red /')
})

test('one name is one host, however it is written', async () => {
  for (const host of ['SHOP.Example.com', `${RED}.`, `${RED}:8080`, `${RED}.:1`])
    assert.equal((await get(host)).body, 'red /', host)
})

test('a host that nobody publishes, one that nobody was granted, and a path that is not there look the same', async () => {
  const answers = await Promise.all(
    ['other.example.com', 'a.b.red.apps.example.com', 'red.apps.example.com', 'localhost', '127.0.0.1'].map(
      (host) => get(host),
    ),
  )
  for (const answer of answers) {
    assert.equal(answer.status, 404)
    assert.equal(answer.body, '404 Not Found\n')
    assert.equal(answer.headers['x-who'], undefined)
  }
})

test('what says whom a request comes from is only ever ours to say', async () => {
  red.seen.length = 0
  await get(RED, '/', {
    headers: {
      'x-forwarded-for': '10.0.0.1',
      x_forwarded_for: '10.0.0.2',
      'X-Real-IP': '10.0.0.3',
      forwarded: 'for=10.0.0.4',
      'x-forwarded-proto': 'https',
      connection: 'x-forwarded-host, x-secret',
      'x-secret': 'of this connection',
      te: 'trailers',
      'proxy-authorization': 'Basic eDp5',
    },
  })
  const [seen] = red.seen
  assert.ok(seen)
  assert.deepEqual(seen.headers, {
    host: RED,
    'x-forwarded-for': '127.0.0.1',
    'x-forwarded-host': RED,
    'x-forwarded-port': '0',
    'x-forwarded-proto': 'http',
    'x-real-ip': '127.0.0.1',
    connection: 'close',
  })
})

test('bodies of either framing arrive whole', async () => {
  red.seen.length = 0
  const body = 'x'.repeat(200_000)
  assert.equal((await get(RED, '/', { method: 'POST', body })).status, 200)
  const chunked = await at.raw(
    `POST /c HTTP/1.1\r\nhost: ${RED}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
  )
  assert.match(chunked, /^HTTP\/1.1 200/)
  assert.deepEqual(
    red.seen.map((each) => each.body),
    [body, 'hello'],
  )
})

test('a cookie for more than the tenant has does not go back', async () => {
  const { headers } = await get(RED)
  assert.deepEqual(headers['set-cookie'], [`b=2; Domain=${RED}`, 'c=3'])
})

test('requests that two servers could read as different ones reach nobody', async () => {
  const smuggled = `GET /smuggled HTTP/1.1\r\nhost: ${RED}\r\n\r\n`
  const attempts = {
    'both lengths': `POST / HTTP/1.1\r\nhost: ${RED}\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    'both lengths, the other way round': `POST / HTTP/1.1\r\nhost: ${RED}\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n${smuggled}`,
    'two lengths': `POST / HTTP/1.1\r\nhost: ${RED}\r\ncontent-length: 0\r\ncontent-length: ${smuggled.length}\r\n\r\n${smuggled}`,
    'a coding that is hidden': `POST / HTTP/1.1\r\nhost: ${RED}\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    'another coding': `POST / HTTP/1.1\r\nhost: ${RED}\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`,
    'two codings': `POST / HTTP/1.1\r\nhost: ${RED}\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n${smuggled}`,
    'bare line feeds': `GET / HTTP/1.1\nhost: ${RED}\n\n`,
    'a folded header': `GET / HTTP/1.1\r\nhost: ${RED}\r\nx-a: b\r\n c\r\n\r\n`,
    'a signed length': `POST / HTTP/1.1\r\nhost: ${RED}\r\ncontent-length: +5\r\n\r\nhello`,
    'two hosts': `GET / HTTP/1.1\r\nhost: ${RED}\r\nhost: ${BLUE}\r\n\r\n`,
    'no host': 'GET / HTTP/1.1\r\n\r\n',
    'a whole URL': `GET http://${BLUE}/ HTTP/1.1\r\nhost: ${RED}\r\n\r\n`,
    'a host with a path': `GET / HTTP/1.1\r\nhost: ${RED}/x\r\n\r\n`,
    'a host with a user': `GET / HTTP/1.1\r\nhost: a@${RED}\r\n\r\n`,
    'a tunnel': `CONNECT ${BLUE}:80 HTTP/1.1\r\nhost: ${RED}\r\n\r\n`,
    'HTTP/2 by upgrade': `GET / HTTP/1.1\r\nhost: ${RED}\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n`,
    'a chunk of no length': `POST / HTTP/1.1\r\nhost: ${RED}\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n${smuggled}`,
    'headers without end': `GET / HTTP/1.1\r\nhost: ${RED}\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`,
  }
  for (const [name, bytes] of Object.entries(attempts)) {
    red.seen.length = 0
    blue.seen.length = 0
    const answer = await at.raw(bytes)
    assert.doesNotMatch(answer, /HTTP\/1\.1 (?:2|1)\d\d/, name)
    assert.doesNotMatch(answer, /x-who/, name)
    const reached = [...red.seen, ...blue.seen].filter(({ url }) => url !== '/')
    assert.deepEqual(reached, [], name)
  }
})

test('steps upwards and other ways to write a path reach nobody', async () => {
  red.seen.length = 0
  for (const path of [
    '/../x',
    '/a/..',
    '/a/%2e%2e/x',
    '/a/.%2E/',
    '/..;/x',
    '/a/..%2fx',
    '/a\\..\\x',
    '/%00',
    '/%',
    '/a%5c..',
    '/%252e%252e/',
    'x',
    '*',
  ])
    assert.match(
      await at.raw(`GET ${path} HTTP/1.1\r\nhost: ${RED}\r\nconnection: close\r\n\r\n`),
      /^HTTP\/1\.1 400/,
      path,
    )
  assert.deepEqual(red.seen, [])
})

test('over TLS each host has its own certificate, and a request for another host is misdirected', async () => {
  assert.equal((await getTls(RED, RED)).body, 'red /')
  assert.equal((await getTls(BLUE, BLUE)).body, 'blue /')
  assert.equal((await getTls(RED, BLUE)).status, 421)
  assert.equal((await getTls(BLUE, RED)).status, 421)
  await assert.rejects(getTls('other.example.com', RED))
  // Nobody is named.
  await assert.rejects(
    new Promise((resolve, reject) => {
      const socket = connectTls({ port: at.ports.https, host: '127.0.0.1', rejectUnauthorized: false }, () =>
        resolve(socket.destroy()),
      )
      socket.on('error', reject)
    }),
  )
})

test('HTTP/2 is held to the same', async () => {
  const session = connectHttp2(`https://127.0.0.1:${at.ports.https}`, {
    servername: RED,
    ca: redPair.authority,
  })
  try {
    const ask = async (headers: Record<string, string>, body = '') => {
      const stream = session.request(
        { ':method': body === '' ? 'GET' : 'POST', ':path': '/h2', ...headers },
        { endStream: body === '' },
      )
      // Some never get as far as to an answer.
      const status = new Promise<number>((resolve) => {
        stream.on('response', (answer) => resolve(answer[':status'] ?? 0))
        stream.on('error', () => resolve(400))
      })
      if (body !== '') stream.end(body)
      return { status: await status, body: await text(stream).catch(() => '') }
    }
    assert.deepEqual(await ask({ ':authority': RED }), { status: 200, body: 'red /h2' })
    assert.deepEqual((await ask({ ':authority': RED }, 'a body')).status, 200)
    assert.equal(red.seen.at(-1)?.body, 'a body')
    assert.equal((await ask({ ':authority': BLUE })).status, 421)
    assert.equal((await ask({ ':authority': RED, host: BLUE })).status, 400)
    assert.equal((await ask({ ':authority': RED, ':path': '/a/../b' })).status, 400)
    assert.equal((await ask({ ':authority': RED, ':path': 'http://x/' })).status, 400)
  } finally {
    session.destroy()
  }
})

test('WebSockets pass, and nothing else is upgraded to', async () => {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const req = request({
    port: at.ports.http,
    host: '127.0.0.1',
    path: '/ws',
    headers: { host: RED, connection: 'upgrade', upgrade: 'websocket', 'sec-websocket-key': 'eA==' },
  })
  req.on('error', reject)
  req.on('upgrade', (_answer, socket) => {
    socket.on('data', (chunk: Buffer) => {
      resolve(chunk.toString())
      socket.destroy()
    })
    socket.write('hello')
  })
  req.end()
  assert.equal(await promise, 'red:hello')
})

test('WebSockets pass in streams of HTTP/2, side by side, and no other tunnel does', async () => {
  const session = connectHttp2(`https://127.0.0.1:${at.ports.https}`, {
    ca: redPair.authority,
    servername: RED,
  })
  try {
    await once(session, 'remoteSettings')
    const open = async (fields: Record<string, string>) => {
      const stream = session.request(
        { ':method': 'CONNECT', ':authority': RED, ...fields },
        { endStream: false },
      )
      stream.on('error', () => {})
      const [headers] = (await once(stream, 'response')) as [Record<string, unknown>]
      return { stream, headers }
    }
    const socket = { ':protocol': 'websocket', ':scheme': 'https', 'sec-websocket-version': '13' }
    const [one, two] = await Promise.all(
      ['/one', '/two'].map((path) => open({ ...socket, ':path': path, 'sec-websocket-key': 'ours?' })),
    )
    assert.ok(one && two)
    for (const { stream, headers } of [one, two]) {
      assert.equal(headers[':status'], 200)
      assert.equal(headers['upgrade'], undefined)
      stream.write('hello')
      const [chunk] = (await once(stream, 'data')) as [Buffer]
      assert.equal(chunk.toString(), 'red:hello')
    }
    const { headers, method } = red.seen.at(-1) ?? {}
    assert.equal(method, 'UPGRADE')
    assert.equal(headers?.['sec-websocket-version'], '13')
    assert.match(String(headers?.['sec-websocket-key']), /^[A-Za-z0-9+/]{22}==$/)
    one.stream.close()
    two.stream.end()
    await once(two.stream, 'close')
    for (const [fields, status] of [
      [{ ':authority': `${RED}:80` }, 405],
      [{ ...socket, ':path': '/', ':protocol': 'connect-udp' }, 405],
      [{ ...socket, ':path': '/', ':authority': BLUE }, 421],
      [{ ...socket, ':path': '/../x' }, 400],
    ] as const) {
      const { stream, headers: answer } = await open(fields)
      assert.equal(answer[':status'], status, JSON.stringify(fields))
      stream.close()
    }
  } finally {
    session.destroy()
  }
})

test('what speaks HTTP/2 in the clear gets it, with its trailers', async () => {
  const server = createHttp2Server()
  server.on('stream', (stream, headers) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
    stream.end(`${headers[':path']} ${headers['te']}`)
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const host = 'grpc.example.com'
  const pair = await certificateFor(host)
  await at.publish(2, {
    hosts: [host],
    port: (server.address() as AddressInfo).port,
    certificates: [{ host, certificate: pair.certificate, key: pair.key }],
    routes: [{ protocol: 'h2c' }],
  })
  const session = connectHttp2(`https://127.0.0.1:${at.ports.https}`, {
    servername: host,
    ca: pair.authority,
  })
  try {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/svc/Method',
      ':authority': host,
      te: 'trailers',
    })
    const trailers = new Promise<unknown>((resolve, reject) => {
      stream.on('trailers', (all) => resolve(all['grpc-status']))
      stream.on('error', reject)
    })
    stream.end('message')
    assert.equal(await text(stream), '/svc/Method trailers')
    assert.equal(await trailers, '0')
  } finally {
    session.destroy()
    server.close()
  }
})

test('plain HTTP to a host with a certificate is sent to HTTPS when it is wanted', async () => {
  const host = 'tls.example.com'
  await at.publish(3, {
    hosts: [host],
    port: red.port,
    certificates: [{ host, ...(await certificateFor(host)) }],
    routes: [{ redirect: true }],
  })
  const answer = await get(host, '/a?b')
  assert.equal(answer.status, 308)
  assert.equal(answer.headers.location, `https://${host}:0/a?b`)
})

test('while two tenants are granted a host, nobody has it', async () => {
  const host = 'both.example.com'
  await at.publish(4, { hosts: [host], port: red.port, routes: [{}] })
  assert.equal((await get(host)).status, 200)
  await at.publish(5, { hosts: ['*.example.com'], port: blue.port, routes: [{ host }] })
  try {
    assert.equal((await get(host)).status, 404)
  } finally {
    await at.door.set(5, undefined)
  }
  assert.equal((await get(host)).body, 'red /')
})

test('a service with nobody ready is not available, and another endpoint is tried', async () => {
  const host = 'gone.example.com'
  await at.publish(6, { hosts: [host], port: 1, routes: [{}] })
  assert.equal((await get(host)).status, 503)
  await at.connector.set(6, {
    services: [
      {
        key: 'default/web:80',
        affinity: false,
        endpoints: [
          { address: '127.0.0.1', port: 1 },
          { address: '127.0.0.1', port: red.port },
        ],
      },
    ],
  })
  for (let n = 0; n < 4; n++) assert.equal((await get(host)).status, 200)
})

test('whatever is sent, the answer is one of the door, and the door goes on', async () => {
  const line = fc.string({ unit: 'binary-ascii', maxLength: 60 })
  await fc.assert(
    fc.asyncProperty(
      line,
      fc.array(line, { maxLength: 4 }),
      fc.constantFrom('\r\n', '\n'),
      async (target, headers, end) => {
        const bytes = `GET ${target} HTTP/1.1${end}host: ${BLUE}${end}${headers.join(end)}${end}connection: close${end}${end}`
        const answer = await at.raw(bytes)
        assert.match(answer, /^(?:HTTP\/1\.1 [2-5]\d\d|$)/)
        assert.doesNotMatch(answer, /red|Error|node:/)
      },
    ),
    { numRuns: 60 },
  )
  assert.equal((await get(BLUE)).status, 200)
})

test('who asked for what is written down for each tenant alone', async () => {
  await get(BLUE, '/logged?token=secret')
  await new Promise((done) => setImmediate(done))
  await at.door.close()
  assert.match(
    at.accessLog('tenant-1'),
    /"host":"blue\.example\.com","method":"GET","path":"\/logged","status":200/,
  )
  assert.doesNotMatch(at.accessLog('tenant-1'), /secret/)
  assert.doesNotMatch(at.accessLog('tenant-0'), /logged/)
})

test('behind something that speaks for its clients they are who it says, over TLS and HTTP/2 too; and nobody else can say so', async () => {
  const range = parseIpBlock('127.0.0.2/32')
  assert.ok(range)
  await using front = await TestDoor.start({ proxies: [range] })
  await front.publish(0, {
    hosts: [RED],
    port: red.port,
    certificates: [{ host: RED, certificate: redPair.certificate, key: redPair.key }],
    routes: [{}],
  })
  const { http, https } = front.door.boundPorts()
  const raw = async (localAddress: string, bytes: string): Promise<string> => {
    const socket = connectTcp({ host: '127.0.0.1', port: http, localAddress })
    socket.on('error', () => {})
    for (const byte of bytes) socket.write(byte)
    return await text(socket)
  }
  const client = () => red.seen.at(-1)?.headers['x-forwarded-for']
  const header = 'PROXY TCP4 203.0.113.9 192.0.2.1 1 443\r\n'
  const plain = `GET / HTTP/1.1\r\nhost: ${RED}\r\nx-forwarded-for: 1.2.3.4\r\nconnection: close\r\n\r\n`
  assert.match(await raw('127.0.0.2', header + plain), /red \/$/)
  assert.equal(client(), '203.0.113.9')
  assert.match(await raw('127.0.0.2', `PROXY UNKNOWN\r\n${plain}`), /red \/$/)
  assert.equal(client(), '127.0.0.2')
  // Without its header it is not heard, and from anybody else the header is no request.
  const heard = red.seen.length
  assert.equal(await raw('127.0.0.2', plain), '')
  assert.match(await raw('127.0.0.3', header + plain), /^HTTP\/1.1 400/)
  assert.equal(red.seen.length, heard)
  assert.match(await raw('127.0.0.3', plain), /red \/$/)
  assert.equal(client(), '127.0.0.3')

  const throughTls = async (protocol: 'http/1.1' | 'h2') => {
    const socket = connectTcp({ host: '127.0.0.1', port: https, localAddress: '127.0.0.2' })
    socket.write(
      Buffer.from([
        ...[0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0, 12],
        ...[198, 51, 100, 77, 192, 0, 2, 1, 1, 1, 1, 1],
      ]),
    )
    const secure = connectTls({ socket, servername: RED, ca: redPair.authority, ALPNProtocols: [protocol] })
    if (protocol === 'http/1.1') {
      secure.write(plain)
      return await text(secure)
    }
    const session = connectHttp2(`https://${RED}`, { createConnection: () => secure })
    const answer = await text(session.request({ ':path': '/' }))
    session.close()
    return answer
  }
  for (const protocol of ['http/1.1', 'h2'] as const) {
    assert.match(await throughTls(protocol), /red \/$/)
    assert.equal(client(), '198.51.100.77', protocol)
  }
})

test('a service that asked for it is told its client before the client has said anything, and no other is', async () => {
  const heard: string[] = []
  const server = createTcpServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', (bytes: Buffer) => {
      const header = parseProxyHeader(bytes)
      heard.push(
        typeof header === 'object'
          ? `${header.client}: ${bytes.subarray(header.bytes).toString()}`
          : bytes.toString(),
      )
      socket.end('done')
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const port = (server.address() as AddressInfo).port
  const free = createTcpServer()
  await new Promise<void>((done) => free.listen(0, '127.0.0.1', done))
  const door = (free.address() as AddressInfo).port
  await new Promise((done) => free.close(done))
  const publish = async (more: { tellsClient?: true }) => {
    const key = 'default/tcp:1'
    await at.connector.set(9, {
      services: [{ key, affinity: false, endpoints: [{ address: '127.0.0.1', port }] }],
    })
    const backend = { namespace: 'default', service: 'tcp', port: 1 }
    await at.set(9, {
      tenant: 'tenant-9',
      grant: { hosts: [], ports: [{ protocol: 'TCP', port: door, endPort: door }] },
      ingress: { routes: [], certificates: [], ports: [{ port: door, backend, ...more }] },
    })
  }
  await publish({ tellsClient: true })
  // What a client writes that looks like a header comes behind ours.
  assert.equal(await at.raw('PROXY TCP4 6.6.6.6 6.6.6.6 1 1\r\n', door), 'done')
  await publish({})
  assert.equal(await at.raw('plain', door), 'done')
  server.close()
  assert.deepEqual(heard, ['127.0.0.1: PROXY TCP4 6.6.6.6 6.6.6.6 1 1\r\n', 'plain'])
})
