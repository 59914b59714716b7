import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { type Socket as UdpSocket, createSocket } from 'node:dgram'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer as createHttpServer, request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, test } from 'node:test'
import { type DecodedPacket, decode, encode, streamDecode, streamEncode } from 'dns-packet'
import * as fc from 'fast-check'
import { FakeClock } from '../../../stdx/index.ts'
import { ipv4Text, tenantPool } from '../plan/net/index.ts'
import {
  OUTSIDE_PER_SECOND_PER_TENANT_MAX,
  QUERIES_PER_SECOND_MAX,
  UDP_BYTES_MAX,
  VERSION_CHARS_MAX,
} from './limits.ts'
import { RCODE, TYPE, parseQuery, renderAnswer } from './message.ts'
import { type Resolver, createResolver } from './resolver.ts'
import { parseView } from './view.ts'

// `dns-packet` is not what the resolver is made of, so it is the second opinion about every message here.

const RED = 4
const RED_POD = ipv4Text(tenantPool(RED).first)
const BLUE_POD = ipv4Text(tenantPool(5).first)

const VIEW = {
  records: [
    { name: 'web.default.svc.cluster.local', type: 'A', data: '10.96.0.10' },
    ...Array.from({ length: 120 }, (_, i) => ({
      name: 'many.default.svc.cluster.local',
      type: 'A',
      data: ipv4Text(tenantPool(RED).first + i),
    })),
    { name: 'here.default.svc.cluster.local', type: 'CNAME', data: 'web.default.svc.cluster.local' },
    { name: 'away.default.svc.cluster.local', type: 'CNAME', data: 'www.example.com' },
    { name: 'loop.default.svc.cluster.local', type: 'CNAME', data: 'loop.default.svc.cluster.local' },
    {
      name: '_http._tcp.web.default.svc.cluster.local',
      type: 'SRV',
      data: 'web.default.svc.cluster.local',
      port: 80,
    },
    { name: '10.0.96.10.in-addr.arpa', type: 'PTR', data: 'web.default.svc.cluster.local' },
  ],
  pods: [RED_POD],
}

let dir: string
let resolver: Resolver
let clock: FakeClock
/** Whose pod the test's own addresses stand for. */
let sources: Map<string, string>
let port: number
/** The resolver's own, as Node tells. */
let resolverSocket: UdpSocket | undefined

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'bulkhead-dns-'))
  clock = new FakeClock()
  sources = new Map([['127.0.0.1', RED_POD]])
  port = await freePort()
  const note = (message: unknown) => void (resolverSocket = (message as { socket: UdpSocket }).socket)
  subscribe('udp.socket', note)
  resolver = createResolver({
    socketPath: join(dir, 'dns.sock'),
    listenAddress: '127.0.0.1',
    port,
    clock,
    sourceOf: (from) => sources.get(from) ?? from,
    outsideSocket: join(dir, 'outside.sock'),
  })
  unsubscribe('udp.socket', note)
  await resolver.listen()
})

afterEach(async () => {
  await resolver.close()
  rmSync(dir, { recursive: true })
})

test('a query from port 0, as raw sockets can send it, does not end the resolver for everybody', async () => {
  const query = encode({ type: 'query', id: 7, questions: [{ type: 'A', name: 'cluster.local' }] })
  assert.ok(resolverSocket)
  const socket = resolverSocket
  assert.doesNotThrow(() => socket.emit('message', query, { address: '127.0.0.1', port: 0 }))
})

test('a flood of questions about names outside reaches the node agent as a trickle', async () => {
  let asked = 0
  const agent = createHttpServer((_, response) => {
    asked++
    response.end('{"addresses":[],"ttlSeconds":5}')
  })
  agent.listen(join(dir, 'outside.sock'))
  await once(agent, 'listening')
  assert.equal((await put(RED, { ...VIEW, outside: true })).status, 204)
  const udp = createSocket('udp4')
  const query = (id: number) =>
    encode({ type: 'query', id, questions: [{ type: 'A', name: `n${id}.example.com` }] })
  const questions = OUTSIDE_PER_SECOND_PER_TENANT_MAX + 50
  for (let id = 1; id <= questions; id++) {
    const answered = once(udp, 'message')
    udp.send(query(id), port, '127.0.0.1')
    await answered
  }
  assert.equal(asked, OUTSIDE_PER_SECOND_PER_TENANT_MAX)
  clock.advance(1_000)
  const answered = once(udp, 'message')
  udp.send(query(1), port, '127.0.0.1')
  await answered
  assert.equal(asked, OUTSIDE_PER_SECOND_PER_TENANT_MAX + 1, 'and a second later it may ask again')
  udp.close()
  agent.closeAllConnections()
  await new Promise((done) => agent.close(done))
})

test('queries get the answers that the Kubernetes DNS specification asks for', async () => {
  assert.equal((await put(RED, VIEW)).status, 204)
  const rows = await Promise.all(
    (
      [
        ['web.default.svc.cluster.local', 'A'],
        ['wEb.DEFAULT.svc.cluster.LOCAL', 'A'],
        ['web.default.svc.cluster.local', 'AAAA'],
        ['web.default.svc.cluster.local', 'TXT'],
        ['here.default.svc.cluster.local', 'A'],
        ['here.default.svc.cluster.local', 'CNAME'],
        ['away.default.svc.cluster.local', 'A'],
        ['loop.default.svc.cluster.local', 'A'],
        ['_http._tcp.web.default.svc.cluster.local', 'SRV'],
        ['_tcp.web.default.svc.cluster.local', 'SRV'],
        ['default.svc.cluster.local', 'A'],
        ['cluster.local', 'SOA'],
        ['cluster.local', 'NS'],
        ['dns-version.cluster.local', 'TXT'],
        [`${RED_POD.replaceAll('.', '-')}.default.pod.cluster.local`, 'A'],
        [`${BLUE_POD.replaceAll('.', '-')}.default.pod.cluster.local`, 'A'],
        ['10.0.96.10.in-addr.arpa', 'PTR'],
        ['11.0.96.10.in-addr.arpa', 'PTR'],
        ['other.default.svc.cluster.local', 'A'],
        ['cluster.local.example.com', 'A'],
        ['example.com', 'A'],
        ['__proto__', 'A'],
      ] as const
    ).map(async ([name, type]) => `${name} ${type}: ${summary(await ask(name, type))}`),
  )
  assert.deepEqual(rows, [
    'web.default.svc.cluster.local A: NOERROR 10.96.0.10',
    'wEb.DEFAULT.svc.cluster.LOCAL A: NOERROR 10.96.0.10',
    'web.default.svc.cluster.local AAAA: NOERROR SOA',
    'web.default.svc.cluster.local TXT: NOERROR SOA',
    'here.default.svc.cluster.local A: NOERROR web.default.svc.cluster.local 10.96.0.10',
    'here.default.svc.cluster.local CNAME: NOERROR web.default.svc.cluster.local',
    'away.default.svc.cluster.local A: NOERROR www.example.com',
    'loop.default.svc.cluster.local A: SERVFAIL',
    '_http._tcp.web.default.svc.cluster.local SRV: NOERROR web.default.svc.cluster.local:80 +10.96.0.10',
    '_tcp.web.default.svc.cluster.local SRV: NOERROR SOA',
    'default.svc.cluster.local A: NOERROR SOA',
    'cluster.local SOA: NOERROR ns.dns.cluster.local',
    'cluster.local NS: NOERROR ns.dns.cluster.local',
    'dns-version.cluster.local TXT: NOERROR 1.1.0',
    `${RED_POD.replaceAll('.', '-')}.default.pod.cluster.local A: NOERROR ${RED_POD}`,
    `${BLUE_POD.replaceAll('.', '-')}.default.pod.cluster.local A: NXDOMAIN SOA`,
    '10.0.96.10.in-addr.arpa PTR: NOERROR web.default.svc.cluster.local',
    '11.0.96.10.in-addr.arpa PTR: NXDOMAIN',
    'other.default.svc.cluster.local A: NXDOMAIN SOA',
    'cluster.local.example.com A: NXDOMAIN',
    'example.com A: NXDOMAIN',
    '__proto__ A: NXDOMAIN',
  ])
})

test("a tenant without a view is told to try again, a tenant's names are nobody else's, a stranger gets silence", async () => {
  await put(RED, VIEW)
  await put(6, { records: [], pods: [] })
  sources.set('127.0.0.1', BLUE_POD)
  assert.equal(summary(await ask('web.default.svc.cluster.local', 'A')), 'SERVFAIL')
  sources.set('127.0.0.1', ipv4Text(tenantPool(6).first))
  const real = await askBytes('web.default.svc.cluster.local')
  const invented = await askBytes('wxb.default.svc.cluster.local')
  assert.equal(real.toString('latin1').replace('web', 'wxb'), invented.toString('latin1'))

  const query = encode({ type: 'query', questions: [{ type: 'A', name: 'web.default.svc.cluster.local' }] })
  const stranger = send(query, '127.0.0.9')
  await stranger.sent
  // Answered later, so the stranger's query has been read too.
  await ask('web.default.svc.cluster.local', 'A')
  assert.equal(stranger.answers.length, 0)
  stranger.close()
})

test('what does not fit over UDP is cut and says so, more fits with EDNS, all of it over TCP', async () => {
  await put(RED, VIEW)
  const name = 'many.default.svc.cluster.local'
  const plain = await askBytes(name)
  assert.ok(plain.length <= 512)
  assert.ok(decode(plain).flag_tc)
  const edns = await askBytes(name, 4_096)
  assert.ok(edns.length > 512 && edns.length <= UDP_BYTES_MAX)
  assert.ok(decode(edns).flag_tc)
  const whole = await askTcp(name)
  assert.ok(!whole.flag_tc)
  assert.equal(new Set(whole.answers?.map((a) => ('data' in a ? a.data : ''))).size, 120)
})

test('each of several addresses comes first at times', async () => {
  await put(RED, VIEW)
  const firsts = new Set<string>()
  for (let i = 0; i < 5; i++) {
    const [first] = (await ask('many.default.svc.cluster.local', 'A')).answers ?? []
    firsts.add(first && 'data' in first ? String(first.data) : '')
  }
  assert.equal(firsts.size, 5)
})

test('a pod that asks too often is not answered until the second is over', async () => {
  await put(RED, VIEW)
  const socket = connect({ host: '127.0.0.1', port })
  const query = streamEncode({
    type: 'query',
    questions: [{ type: 'A', name: 'web.default.svc.cluster.local' }],
  })
  let received = 0
  const ended = new Promise<void>((done) =>
    socket.on('data', (chunk: Buffer) => (received += chunk.length)).on('close', () => done()),
  )
  socket.on('error', () => {})
  socket.write(Buffer.concat(Array.from({ length: QUERIES_PER_SECOND_MAX + 5 }, () => query)))
  await ended
  assert.ok(received > 0)
  clock.advance(1_000)
  assert.equal(summary(await ask('web.default.svc.cluster.local', 'A')), 'NOERROR 10.96.0.10')
})

test('a TCP connection that says nothing is closed', async () => {
  const socket = connect({ host: '127.0.0.1', port })
  const closed = new Promise<void>((done) => socket.on('close', () => done()))
  // Answered, hence accepted; from then on silent.
  await put(RED, VIEW)
  socket.write(
    streamEncode({ type: 'query', questions: [{ type: 'A', name: 'web.default.svc.cluster.local' }] }),
  )
  await new Promise((done) => socket.once('data', done))
  clock.advance(60_000)
  await closed
})

test('anything may arrive on the sockets; the resolver still answers', async () => {
  await put(RED, VIEW)
  const garbage = fc.sample(fc.uint8Array({ maxLength: 1_400 }), 300)
  const udp = createSocket('udp4')
  for (const bytes of garbage) await new Promise((done) => udp.send(bytes, port, '127.0.0.1', done))
  udp.close()
  for (const bytes of garbage.slice(0, 20)) {
    const socket = connect({ host: '127.0.0.1', port })
    await new Promise<void>((done) =>
      socket
        .on('error', () => {})
        .on('close', () => done())
        .on('data', () => {})
        .end(bytes),
    )
  }
  clock.advance(2_000)
  assert.equal(summary(await ask('web.default.svc.cluster.local', 'A')), 'NOERROR 10.96.0.10')
})

test('the parser takes any bytes, and a query it takes is the one that dns-packet reads', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => void parseQuery(Buffer.from(bytes))),
    { numRuns: 2_000 },
  )
  const label = fc.stringMatching(/^[-a-zA-Z0-9_]{1,63}$/)
  const name = fc
    .array(label, { minLength: 1, maxLength: 6 })
    .map((labels) => labels.join('.'))
    .filter((n) => n.length <= 253)
  fc.assert(
    fc.property(
      name,
      fc.constantFrom('A', 'SRV', 'TXT'),
      fc.nat(65_535),
      fc.boolean(),
      (text, type, id, edns) => {
        const packet = encode({
          type: 'query',
          id,
          questions: [{ type, name: text }],
          ...(edns ? { additionals: [opt(900)] } : {}),
        })
        const query = parseQuery(packet)
        assert.ok(query)
        assert.deepEqual(
          [query.id, query.name, query.type, query.edns],
          [id, text.toLowerCase(), TYPE[type], edns],
        )
        const answer = decode(
          renderAnswer(
            query,
            {
              rcode: RCODE.noError,
              authoritative: true,
              answers: [{ type: 'A', data: '10.1.2.3' }],
              authorities: [],
              additionals: [],
            },
            query.udpBytesMax,
          ),
        )
        assert.deepEqual(
          [answer.id, answer.questions?.[0]?.name, answer.answers?.[0]?.name],
          [id, text, text],
        )
        // Cut anywhere or changed anywhere, it is still only bytes.
        for (let at = 0; at < packet.length; at += 5) void parseQuery(packet.subarray(0, at))
      },
    ),
  )
})

test('a query that is an answer, has two questions, compresses its name or is cut off gets no answer', () => {
  const good = encode({ type: 'query', id: 1, questions: [{ type: 'A', name: 'a.b' }] })
  assert.ok(parseQuery(good))
  const changed = (at: number, value: number) => {
    const bytes = Buffer.from(good)
    bytes.writeUInt8(value, at)
    return bytes
  }
  assert.equal(parseQuery(changed(2, 0x80)), undefined)
  assert.equal(parseQuery(changed(5, 2)), undefined)
  assert.equal(parseQuery(changed(5, 0)), undefined)
  assert.equal(parseQuery(changed(7, 1)), undefined)
  assert.equal(parseQuery(changed(12, 0xc0)), undefined)
  assert.equal(parseQuery(changed(12, 64)), undefined)
  assert.equal(parseQuery(good.subarray(0, -1)), undefined)
  const long = Buffer.concat([
    good.subarray(0, 12),
    ...Array.from({ length: 128 }, () => Buffer.from('\x01a')),
    Buffer.alloc(5),
  ])
  assert.equal(parseQuery(long), undefined)
})

test('a label with a dot or other strange bytes in it is no name of ours', async () => {
  await put(RED, VIEW)
  const query = encode({
    type: 'query',
    id: 1,
    questions: [{ type: 'A', name: 'webxdefault.svc.cluster.local' }],
  })
  query.writeUInt8(46, query.indexOf('xdefault'))
  assert.equal(parseQuery(query)?.name, undefined)
  const { answers, close, received } = send(query)
  await received
  close()
  // Its question is echoed as it was, so only the header is compared.
  assert.equal((answers[0] ?? Buffer.alloc(4)).readUInt8(3) & 15, RCODE.nameError)
})

test('the agent sees which views there are, and a view it takes back is gone', async () => {
  await put(RED, VIEW, 'first')
  await put(7, { records: [], pods: [] }, 'second')
  assert.deepEqual(JSON.parse((await control('GET', '/v1/views')).body), {
    views: [
      [RED, 'first'],
      [7, 'second'],
    ],
  })
  assert.equal((await control('DELETE', '/v1/views/7')).status, 204)
  assert.deepEqual(JSON.parse((await control('GET', '/v1/views')).body), { views: [[RED, 'first']] })
})

test("a view with a stranger's address, a name outside the zone or anything unknown is refused whole", async () => {
  const records: unknown[] = [
    { name: 'a.b.svc.cluster.local', type: 'A', data: BLUE_POD },
    { name: 'a.b.svc.cluster.local', type: 'A', data: '192.0.2.1' },
    { name: 'a.b.svc.cluster.local', type: 'A', data: '::1' },
    { name: 'example.com', type: 'A', data: RED_POD },
    { name: 'A.svc.cluster.local', type: 'A', data: RED_POD },
    { name: `${'a'.repeat(64)}.cluster.local`, type: 'A', data: RED_POD },
    { name: 'a.cluster.local', type: 'SRV', data: 'b.cluster.local', port: 0 },
    { name: 'a.cluster.local', type: 'TXT', data: 'x' },
    { name: 'a.cluster.local', type: 'CNAME', data: 'a b' },
    { name: 'x.in-addr.arpa', type: 'PTR', data: 'a.cluster.local' },
    null,
  ]
  for (const record of records) {
    assert.throws(() => parseView(RED, { records: [record], pods: [] }), TypeError)
    assert.equal((await put(RED, { records: [record], pods: [] })).status, 400)
  }
  assert.equal((await put(RED, { records: [], pods: [BLUE_POD] })).status, 400)
  assert.equal((await put(9_999, { records: [], pods: [] })).status, 400)
  assert.equal((await put(RED, { records: [], pods: [] }, 'v'.repeat(VERSION_CHARS_MAX + 1))).status, 400)
  assert.equal((await control('PUT', `/v1/views/${RED}`, '{')).status, 400)
  assert.equal((await control('GET', '/')).status, 404)
  assert.deepEqual(JSON.parse((await control('GET', '/v1/views')).body), { views: [] })
  fc.assert(
    fc.property(fc.anything(), (value) => {
      try {
        parseView(RED, value)
      } catch (error) {
        assert.ok(error instanceof TypeError)
      }
    }),
  )
})

test(
  'only root may say which names there are',
  { skip: process.getuid?.() !== 0 && 'needs root' },
  async () => {
    const path = join(dir, 'dns.sock')
    chmodSync(dir, 0o755)
    chmodSync(path, 0o666)
    await put(RED, VIEW)
    const script = `require('net').connect(process.argv[1]).on('error', () => {}).on('data', (d) => console.log(String(d)))
    .end('GET /v1/views HTTP/1.0\\r\\n\\r\\n')`
    const outputOf = async (uid: number) => {
      const child = spawn(process.execPath, ['-e', script, path], {
        uid,
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])
      return { output, code: code as unknown }
    }
    assert.match((await outputOf(0)).output, /"v1"/)
    assert.deepEqual(await outputOf(65_534), { output: '', code: 0 })
  },
)

function summary(packet: DecodedPacket & { rcode?: string }): string {
  const data = (packet.answers ?? []).map((answer) => {
    if (answer.type === 'SRV') return `${answer.data.target}:${answer.data.port}`
    if (answer.type === 'SOA') return answer.data.mname
    return 'data' in answer ? String(answer.data) : ''
  })
  const authorities = (packet.authorities ?? []).map((a) => a.type)
  const additionals = (packet.additionals ?? []).flatMap((a) => (a.type === 'A' ? [`+${a.data}`] : []))
  return [packet.rcode, ...data, ...authorities, ...additionals].join(' ')
}

function opt(udpPayloadSize: number) {
  return {
    type: 'OPT' as const,
    name: '.' as const,
    udpPayloadSize,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  }
}

function send(packet: Buffer, from = '127.0.0.1') {
  const socket = createSocket('udp4')
  const answers: Buffer[] = []
  const { promise: received, resolve } = Promise.withResolvers<void>()
  socket.on('message', (bytes) => {
    answers.push(bytes)
    resolve()
  })
  const sent = new Promise<void>((done) =>
    socket.bind(0, from, () => socket.send(packet, port, '127.0.0.1', () => done())),
  )
  return { answers, received, sent, close: () => socket.close() }
}

async function askBytes(
  name: string,
  ednsBytes?: number,
  type: 'A' | 'AAAA' | 'SRV' | 'PTR' | 'TXT' | 'SOA' | 'NS' | 'CNAME' = 'A',
): Promise<Buffer> {
  const additionals = ednsBytes === undefined ? [] : [opt(ednsBytes)]
  const { answers, received, close } = send(
    encode({ type: 'query', id: 9, questions: [{ type, name }], additionals }),
  )
  await received
  close()
  return answers[0] ?? Buffer.alloc(0)
}

async function ask(name: string, type: Parameters<typeof askBytes>[2]): Promise<DecodedPacket> {
  return decode(await askBytes(name, undefined, type))
}

async function askTcp(name: string): Promise<DecodedPacket> {
  const { promise, resolve } = Promise.withResolvers<DecodedPacket>()
  const socket = connect({ host: '127.0.0.1', port })
  let bytes = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk])
    if (bytes.length >= 2 && bytes.length >= 2 + bytes.readUInt16BE(0))
      resolve(streamDecode(bytes) as DecodedPacket)
  })
  socket.write(streamEncode({ type: 'query', questions: [{ type: 'A', name }] }))
  const packet = await promise
  socket.destroy()
  return packet
}

async function put(index: number, view: unknown, version = 'v1') {
  return await control('PUT', `/v1/views/${index}?version=${version}`, JSON.stringify(view))
}

async function control(method: string, path: string, body = ''): Promise<{ status: number; body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: string }>()
  const outgoing = request({ socketPath: join(dir, 'dns.sock'), method, path }, (incoming) => {
    let text = ''
    incoming.on('data', (chunk: Buffer) => (text += chunk.toString()))
    incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, body: text }))
  })
  outgoing.on('error', reject).end(body)
  return await promise
}

async function freePort(): Promise<number> {
  const socket = createSocket('udp4')
  await new Promise<void>((done) => socket.bind(0, '127.0.0.1', done))
  const { port: found } = socket.address()
  await new Promise<void>((done) => socket.close(done))
  return found
}
