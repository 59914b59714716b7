import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Duplex, Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError } from '../../api/index.ts'
import {
  RemoteEngine,
  type ClaimedVolume,
  type ClaimId,
  type Engine,
  type EngineEvent,
  type ExecOptions,
  type Jail,
  type JailId,
  type JailStatus,
  type JailUsage,
  type LogOptions,
  type NodeFacts,
  type RoomRequest,
  type RoomAnswer,
  type IngressAnswer,
  type TenantEgress,
  type TenantIngress,
  type TenantNetwork,
} from '../../jail/index.ts'
import { silentLogger } from '../../stdx/index.ts'
import { blue, JAIL_ID, sampleJail, samplePlacement } from './fakes/sample-jail.ts'
import { serveEngine } from './server.ts'

function statusOf(jail: Jail): JailStatus {
  return {
    id: jail.id,
    phase: 'Pending',
    initContainers: [],
    containers: [],
    initialized: false,
    terminating: false,
  }
}

/** Remembers what it was asked. */
class RecordingEngine implements Engine {
  readonly calls: unknown[] = []
  readonly jails = new Map<JailId, Jail>()
  watching = 0
  log = 'line 1\nline 2\n'

  async list(): Promise<JailStatus[]> {
    return [...this.jails.values()].map(statusOf)
  }
  async *watch(signal: AbortSignal): AsyncGenerator<EngineEvent, void, undefined> {
    this.watching++
    try {
      for (const jail of this.jails.values()) yield { type: 'STATUS', status: statusOf(jail) }
      yield { type: 'SYNCED' }
      const aborted = Promise.withResolvers<void>()
      signal.addEventListener('abort', () => aborted.resolve())
      await aborted.promise
    } finally {
      this.watching--
    }
  }
  async ensure(jail: Jail): Promise<JailStatus> {
    this.jails.set(jail.id, jail)
    return statusOf(jail)
  }
  async remove(id: JailId, options: { gracePeriodSeconds?: number }): Promise<void> {
    this.calls.push(['remove', id, options])
    this.jails.delete(id)
  }
  async logs(id: JailId, container: string, options: LogOptions): Promise<Readable> {
    this.calls.push(['logs', id, container, options])
    return Readable.from([Buffer.from(this.log)])
  }
  async exec(id: JailId, container: string, options: ExecOptions): Promise<Duplex> {
    this.calls.push(['exec', id, container, options])
    return echo()
  }
  async attach(id: JailId, container: string, options: Omit<ExecOptions, 'command'>): Promise<Duplex> {
    this.calls.push(['attach', id, container, options])
    throw new ApiError('BadRequest', 'container "app" is not running')
  }
  async portForward(id: JailId, port: number): Promise<Duplex> {
    this.calls.push(['portForward', id, port])
    return echo()
  }
  async setIngress(ingress: TenantIngress): Promise<IngressAnswer> {
    this.calls.push(['setIngress', ingress])
    return { refused: [{ what: 'a.example.com', why: 'a test' }] }
  }
  async setNetwork(network: TenantNetwork): Promise<void> {
    this.calls.push(['setNetwork', network])
  }
  async volumes(): Promise<ClaimedVolume[]> {
    return [{ id: '0b5b7c1e-6d0f-4c39-9d1e-2f8f6f3c9a11' as ClaimId, sizeBytes: 16 }]
  }
  async ensureVolume(volume: ClaimedVolume): Promise<ClaimedVolume> {
    this.calls.push(['ensureVolume', volume])
    return volume
  }
  async removeVolume(id: ClaimId): Promise<void> {
    this.calls.push(['removeVolume', id])
  }
  async egress(): Promise<TenantEgress> {
    return { tenant: 'red', uplink: 'not needed', rules: [], seen: [], since: 0, now: 0 }
  }
  async usage(): Promise<JailUsage[]> {
    return []
  }
  async reserve(id: JailId, requests: RoomRequest): Promise<RoomAnswer> {
    this.calls.push(['reserve', id, requests])
    return { missing: ['memory'] }
  }
  async node(): Promise<NodeFacts> {
    throw new Error('A secret of ours: /var/lib/bulkhead')
  }
}

/** Answers all of its input after the input has ended, as `sort` does. */
function echo(): Duplex {
  return Duplex.from(async function* (source: AsyncIterable<Buffer>) {
    const chunks: Buffer[] = []
    for await (const chunk of source) chunks.push(chunk)
    yield Buffer.concat(chunks)
  })
}

async function start(over: Parameters<typeof samplePlacement>[0] = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'bulkhead-server-'))
  chmodSync(directory, 0o711)
  const socketPath = join(directory, 'red.sock')
  const engine = new RecordingEngine()
  const server = await serveEngine({
    socketPath,
    placement: samplePlacement(over),
    engine,
    log: silentLogger,
  })
  const remote = new RemoteEngine({ socketPath })
  return {
    engine,
    remote,
    socketPath,
    async [Symbol.asyncDispose]() {
      remote.close()
      await server.close()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

async function raw(
  socketPath: string,
  {
    method = 'GET',
    path = '/',
    body = '',
    headers = {},
  }: { method?: string; path?: string; body?: string; headers?: Record<string, string> },
): Promise<{ code: number; body: string }> {
  const answered = Promise.withResolvers<{ code: number; body: string }>()
  const outgoing = request({ socketPath, method, path, headers, agent: false }, (response) => {
    text(response).then(
      (read) => answered.resolve({ code: response.statusCode ?? 0, body: read }),
      (error: unknown) => answered.reject(error as Error),
    )
  })
  outgoing.on('error', answered.reject)
  outgoing.end(body)
  return await answered.promise
}

async function refusal(work: Promise<unknown>): Promise<{ code: number; message: string }> {
  try {
    await work
  } catch (error) {
    assert(error instanceof ApiError, String(error))
    return { code: error.code, message: error.message }
  }
  throw new Error('It was not refused')
}

test('a jail goes over the wire whole, is listed, watched and removed', async () => {
  await using at = await start()
  const jail = sampleJail()
  assert.deepEqual(await at.remote.ensure(jail), statusOf(jail))
  assert.deepEqual(at.engine.jails.get(JAIL_ID), jail)
  assert.deepEqual(await at.remote.list(), [statusOf(jail)])
  const events: EngineEvent[] = []
  for await (const event of at.remote.watch(new AbortController().signal)) {
    events.push(event)
    if (event.type === 'SYNCED') break
  }
  assert.deepEqual(events, [{ type: 'STATUS', status: statusOf(jail) }, { type: 'SYNCED' }])
  await at.remote.remove(JAIL_ID, { gracePeriodSeconds: 3 })
  assert.deepEqual(at.engine.calls, [['remove', JAIL_ID, { gracePeriodSeconds: 3 }]])
  await at.remote.setNetwork({ services: [] })
})

test('a watch ends quietly when its reader aborts it and loudly when the engine goes away', async () => {
  await using at = await start()
  const controller = new AbortController()
  for await (const event of at.remote.watch(controller.signal))
    if (event.type === 'SYNCED') controller.abort()

  const closing = await start()
  const gone = await refusal(
    (async () => {
      for await (const event of closing.remote.watch(new AbortController().signal))
        if (event.type === 'SYNCED') await closing[Symbol.asyncDispose]()
    })(),
  )
  assert.equal(gone.code, 503)
})

test('logs arrive with their options understood', async () => {
  await using at = await start()
  const log = await at.remote.logs(JAIL_ID, 'app', {
    follow: true,
    tailLines: 5,
    sinceTime: '2026-01-01T00:00:00Z',
  })
  assert.equal(await text(log), at.engine.log)
  assert.deepEqual(at.engine.calls, [
    [
      'logs',
      JAIL_ID,
      'app',
      {
        follow: true,
        previous: false,
        timestamps: false,
        tailLines: 5,
        sinceTime: '2026-01-01T00:00:00.000Z',
      },
    ],
  ])
})

test('exec and port-forward carry bytes both ways and pass on the end of one direction', async () => {
  await using at = await start()
  const command = ['sh', '-c', 'echo "a b" & ? = % ü', '']
  const options = { command, stdin: true, stdout: true, stderr: false, tty: false }
  const exec = await at.remote.exec(JAIL_ID, 'app', options)
  const payload = Buffer.alloc(3_000_000, 'x')
  exec.end(payload)
  assert((await buffer(exec)).equals(payload))
  const forwarded = await at.remote.portForward(JAIL_ID, 8080)
  forwarded.end('GET /')
  assert.equal(await text(forwarded), 'GET /')
  assert.deepEqual(at.engine.calls, [
    ['exec', JAIL_ID, 'app', options],
    ['portForward', JAIL_ID, 8080],
  ])
})

test('a refusal of the engine comes through an upgrade as it was meant', async () => {
  await using at = await start()
  const attach = at.remote.attach(JAIL_ID, 'app', { stdin: false, stdout: true, stderr: true, tty: false })
  assert.deepEqual(await refusal(attach), { code: 400, message: 'container "app" is not running' })
})

test('an unexpected failure tells nothing of ours', async () => {
  await using at = await start()
  assert.deepEqual(await refusal(at.remote.node()), { code: 500, message: 'Internal error occurred' })
})

test('a jail of another tenant is refused, and so is one under another id', async () => {
  await using at = await start()
  assert.equal((await refusal(at.remote.ensure(sampleJail({ tenant: blue })))).code, 422)
  const other = await raw(at.socketPath, {
    method: 'PUT',
    path: '/v1/jails/11111111-1111-4111-8111-111111111111',
    body: JSON.stringify(sampleJail()),
  })
  assert.equal(other.code, 400)
  assert.equal(at.engine.jails.size, 0)
})

test('nobody answers, so the error says it', async () => {
  const remote = new RemoteEngine({ socketPath: '/nonexistent/engine.sock' })
  assert.equal((await refusal(remote.list())).code, 503)
  assert.equal((await refusal(remote.portForward(JAIL_ID, 1))).code, 503)
  remote.close()
})

test('hostile requests are refused in order', async () => {
  await using at = await start()
  const upgrade = { connection: 'Upgrade', upgrade: 'bulkhead-frames' }
  const base = `/v1/jails/${JAIL_ID}`
  const cases: [Parameters<typeof raw>[1], number][] = [
    [{ path: '/' }, 404],
    [{ path: '/v1/jails/../network' }, 404],
    [{ path: '/v1/jails/..%2f..%2fetc' }, 404],
    [{ path: `${base}/containers/..%2f/log` }, 404],
    [{ path: `${base}/containers/app/log/extra` }, 404],
    [{ path: `${base}/containers/app/log?follow=perhaps` }, 400],
    [{ path: `${base}/containers/app/log?tailLines=-1` }, 400],
    [{ path: `${base}/containers/app/log?sinceTime=never` }, 400],
    [{ method: 'PATCH', path: '/v1/jails' }, 405],
    [{ method: 'PUT', path: base, body: '{' }, 400],
    [{ method: 'PUT', path: base, body: '\u{1F600}' }, 400],
    [{ method: 'PUT', path: base, body: '['.repeat(100_000) }, 400],
    [{ method: 'PUT', path: base, body: '{"__proto__": {"id": 1}}' }, 422],
    [{ method: 'PUT', path: base, headers: { 'content-length': String(1e9) } }, 413],
    [{ method: 'PUT', path: '/v1/network', body: '{"services": [{}]}' }, 422],
    [{ method: 'POST', path: `${base}/containers/app/exec?command=id` }, 400],
    [{ method: 'POST', path: `${base}/containers/app/exec?command=a%00b`, headers: upgrade }, 400],
    [{ method: 'POST', path: `${base}/containers/app/exec`, headers: upgrade }, 400],
    [
      {
        method: 'POST',
        path: `${base}/containers/app/exec?command=id`,
        headers: { ...upgrade, upgrade: 'websocket' },
      },
      400,
    ],
    [
      {
        method: 'POST',
        path: `${base}/portforward?port=0`,
        headers: { ...upgrade, upgrade: 'bulkhead-bytes' },
      },
      400,
    ],
    [
      {
        method: 'GET',
        path: `${base}/portforward?port=80`,
        headers: { ...upgrade, upgrade: 'bulkhead-bytes' },
      },
      405,
    ],
    [{ method: 'POST', path: '/v1/jails', headers: upgrade }, 400],
  ]
  for (const [what, code] of cases) {
    const answer = await raw(at.socketPath, what)
    assert.equal(answer.code, code, `${JSON.stringify(what).slice(0, 200)}: ${answer.body}`)
    assert.equal((JSON.parse(answer.body) as { kind: string }).kind, 'Status')
  }
  assert.deepEqual(at.engine.jails.size, 0)
})

test('a body that grows beyond its bound is cut off', async () => {
  await using at = await start()
  const outgoing = request({
    socketPath: at.socketPath,
    method: 'PUT',
    path: `/v1/jails/${JAIL_ID}`,
    agent: false,
  })
  const answered = Promise.withResolvers<number>()
  outgoing.on('response', (response) => answered.resolve(response.statusCode ?? 0))
  outgoing.on('error', () => {})
  const chunk = Buffer.alloc(1 << 20, ' ')
  for (let i = 0; i < 17; i++) outgoing.write(chunk)
  assert.equal(await answered.promise, 413)
  outgoing.destroy()
})

test('any bytes at all leave the server answering', async () => {
  await using at = await start()
  const open: Socket[] = []
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.uint8Array({ maxLength: 200 }).map((b) => Buffer.from(b)),
        fc
          .tuple(
            fc.constantFrom('GET', 'PUT', 'DELETE', 'POST', 'CONNECT'),
            fc.oneof(
              fc.webPath(),
              fc.constantFrom(
                '/v1/jails?watch=1',
                '/v1/jails',
                `/v1/jails/${JAIL_ID}/containers/app/exec?command=a`,
                `/v1/jails/${JAIL_ID}`,
              ),
            ),
            fc.constantFrom(
              '',
              'Upgrade: bulkhead-frames\r\nConnection: Upgrade\r\n',
              'Transfer-Encoding: chunked\r\n',
              'Content-Length: 5\r\n',
            ),
            fc.string({ maxLength: 50 }),
          )
          .map(([method, path, header, body]) =>
            Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: a\r\n${header}\r\n${body}`),
          ),
      ),
      fc.boolean(),
      async (bytes, abruptly) => {
        const socket = connect({ path: at.socketPath })
        open.push(socket)
        socket.on('error', () => {})
        await new Promise<void>((resolve) => socket.write(bytes, () => resolve()))
        if (abruptly) socket.destroy()
        else socket.end()
      },
    ),
    { numRuns: 200 },
  )
  for (const socket of open) socket.destroy()
  assert.deepEqual(await at.remote.list(), [])
})

test('more requests at once than allowed are told to wait', async () => {
  await using at = await start()
  const blocked = Promise.withResolvers<JailStatus[]>()
  at.engine.list = () => blocked.promise
  const refused = Promise.withResolvers<void>()
  let refusals = 0
  const asked = Array.from({ length: 80 }, async () => {
    const { code } = await raw(at.socketPath, { path: '/v1/jails' })
    if (code === 429 && ++refusals === 16) refused.resolve()
    return code
  })
  await refused.promise
  blocked.resolve([])
  const codes = await Promise.all(asked)
  assert.equal(codes.filter((c) => c === 200).length, 64)
})

const notRoot = process.getuid?.() === 0 ? false : 'needs root to act as another user'
const CONNECT = `
  const socket = require('node:net').connect(process.argv[1])
  socket.on('error', (error) => { console.log(error.code); process.exit() })
  socket.on('close', () => { console.log('closed'); process.exit() })
  socket.on('data', (data) => { console.log(String(data).slice(0, 12)); process.exit() })
  socket.write('GET /v1/jails HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n')
`

async function asUser(uid: number, socketPath: string): Promise<string> {
  const child = spawn('/proc/self/exe', ['-e', CONNECT, socketPath], {
    uid,
    gid: uid,
    env: {},
    cwd: '/',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return (await text(child.stdout)).trim()
}

test('a process of another user cannot use the socket, and neither can root', { skip: notRoot }, async () => {
  await using at = await start({ controlPlaneUid: 60_001 })
  assert.equal(await asUser(60_001, at.socketPath), 'HTTP/1.1 200')
  // The file's mode stops a stranger before the kernel tells us who it is.
  assert.equal(await asUser(60_002, at.socketPath), 'EACCES')
  chmodSync(at.socketPath, 0o666)
  assert.match(await asUser(60_002, at.socketPath), /^(closed|ECONNRESET|EPIPE)$/)
  assert.equal((await refusal(at.remote.list())).code, 503)
})
