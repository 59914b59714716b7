import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2'
import { request as httpsRequest } from 'node:https'
import type { Duplex } from 'node:stream'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { parseTenantName, PLATFORM_TENANT, type TenantName } from '../../api/index.ts'
import {
  createAuthority,
  createCsr,
  createKeyPair,
  createTokenKey,
  issueServerCertificate,
  type KeyedCertificate,
  type OutsideUser,
  parseAndSignCsr,
  parseRequestIdentity,
  renderPrivateKey,
  TokenIssuer,
} from '../../identity/index.ts'
import { AnsweringEnd, type Answering, type Asked, askedOverHttp, LINK_PROTOCOL } from '../../link/index.ts'
import { FakeClock, listenUnix, MiB, silentLogger } from '../../stdx/index.ts'
import type { AuditSink } from '../events.ts'
import { createGateway, type Gateway, type GatewayOptions } from '../gateway.ts'

export const LINK_AGREED = `HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: ${LINK_PROTOCOL}\r\n\r\n`

/** What a control plane saw. */
export type Seen = { method: string; url: string; headers: IncomingMessage['headers']; user: OutsideUser | undefined; body: string }

type Handler = (request: Asked, response: Answering, socket: Duplex) => void
type UpgradeHandler = (request: IncomingMessage, socket: Duplex, head: Buffer) => void

/** A control plane on a real unix socket that answers what a test wants and remembers what it was asked. */
export class FakeControlPlane implements AsyncDisposable {
  readonly tenant: TenantName
  readonly seen: Seen[] = []
  issuer: TokenIssuer | undefined
  keySetsAsked = 0
  handler: Handler | undefined
  upgradeHandler: UpgradeHandler | undefined
  /** What becomes of a link in place of an honest one. */
  linkHandler: ((socket: Duplex, head: Buffer) => void) | undefined
  linksMade = 0
  readonly path: string
  private readonly server: Server
  readonly sockets = new Set<Duplex>()

  private constructor(tenant: TenantName, path: string) {
    this.tenant = tenant
    this.path = path
    this.server = createServer({ maxHeaderSize: 65_536 }, (request, response) => this.answer(askedOverHttp(request), response, request.socket))
    this.server.on('upgrade', (request, socket, head) => {
      socket.on('error', () => socket.destroy())
      if (request.headers.upgrade === LINK_PROTOCOL) {
        this.linksMade++
        socket.on('error', () => {})
        if (this.linkHandler) return this.linkHandler(socket, head)
        socket.write(LINK_AGREED)
        new AnsweringEnd({ stream: socket, head, handle: (asked, response) => this.answer(asked, response, socket) })
        return
      }
      this.record(request, '')
      if (this.upgradeHandler) this.upgradeHandler(request, socket, head)
      else socket.destroy()
    })
    this.server.on('connection', (socket) => {
      this.sockets.add(socket)
      socket.on('close', () => this.sockets.delete(socket))
    })
  }

  static async start(tenant: TenantName, path: string): Promise<FakeControlPlane> {
    const plane = new FakeControlPlane(tenant, path)
    await listenUnix(plane.server, { path })
    return plane
  }

  private answer(request: Asked, response: Answering, socket: Duplex): void {
    if (request.url === '/openid/v1/jwks') {
      this.keySetsAsked++
      parseRequestIdentity(request, { tenant: this.tenant })
      if (!this.issuer) {
        response.writeHead(404)
        response.end()
        return
      }
      response.end(JSON.stringify(this.issuer.jwks()))
      return
    }
    if (this.handler) {
      this.record(request, '')
      return this.handler(request, response, socket)
    }
    void request.readBody(64 * MiB).then(
      (body) => {
        this.record(request, String(body))
        response.setHeader('content-type', 'application/json')
        response.end(JSON.stringify({ tenant: this.tenant, url: request.url }))
      },
      () => {},
    )
  }

  private record({ method = '', url = '', headers }: Pick<Asked, 'method' | 'url' | 'headers'>, body: string): void {
    // Throws, and so fails the test, when it is an identity of another tenant.
    const user = parseRequestIdentity({ method, url, headers }, { tenant: this.tenant }) as OutsideUser
    this.seen.push({ method, url, headers, user, body })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    this.server.close()
  }
}

export class MemoryAudit implements AuditSink {
  ready = true
  readonly lines: string[] = []
  write(line: string): void {
    this.lines.push(line)
  }
  get events(): Record<string, unknown>[] {
    return this.lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  }
}

export type Credentials = { key?: string; cert?: string; token?: string }
export type Answered = { code: number; headers: Record<string, unknown>; body: string }

const red = parseTenantName('red')
const blue = parseTenantName('blue')

/** A gateway with TLS on loopback, two tenants and the platform behind it. */
export class Harbour implements AsyncDisposable {
  readonly audit = new MemoryAudit()
  readonly clock: FakeClock
  readonly clientCa: KeyedCertificate
  readonly serverCa: KeyedCertificate
  readonly directory: string
  readonly gateway: Gateway
  port = 0
  red!: FakeControlPlane
  blue!: FakeControlPlane
  platform!: FakeControlPlane

  private constructor(options: {
    clock: FakeClock
    clientCa: KeyedCertificate
    serverCa: KeyedCertificate
    directory: string
    server: KeyedCertificate
    limits: GatewayOptions['limits']
    tenantUidOf: GatewayOptions['tenantUidOf']
    tenantOfAddress: GatewayOptions['tenantOfAddress']
    sleep: Pick<GatewayOptions, 'wake' | 'sleepingKeysOf'>
  }) {
    this.clock = options.clock
    this.clientCa = options.clientCa
    this.serverCa = options.serverCa
    this.directory = options.directory
    this.gateway = createGateway({
      tls: {
        key: options.server.privateKeyPem,
        cert: options.server.certificatePem,
        // Pods have no certificates, so their door does not ask for any.
        ...(options.tenantOfAddress ? {} : { clientCa: options.clientCa.certificatePem }),
      },
      socketPathOf: (tenant) => join(options.directory, `${tenant}.sock`),
      audit: this.audit,
      clock: options.clock,
      log: silentLogger,
      ...(options.limits ? { limits: options.limits } : {}),
      ...(options.tenantUidOf ? { tenantUidOf: options.tenantUidOf } : {}),
      ...(options.tenantOfAddress ? { tenantOfAddress: options.tenantOfAddress } : {}),
      ...options.sleep,
    })
  }

  static async start(
    limits?: GatewayOptions['limits'],
    tenantUidOf?: GatewayOptions['tenantUidOf'],
    tenantOfAddress?: GatewayOptions['tenantOfAddress'],
    sleep: Pick<GatewayOptions, 'wake' | 'sleepingKeysOf'> = {},
  ): Promise<Harbour> {
    const nowMs = Date.now()
    const serverCa = await createAuthority({ name: 'servers', nowMs })
    const clientCa = await createAuthority({ name: 'clients', nowMs })
    const server = await issueServerCertificate({ authority: serverCa, ipAddresses: ['127.0.0.1'], nowMs })
    const directory = mkdtempSync(join(tmpdir(), 'bh-gw-'))
    let harbour: Harbour
    try {
      harbour = new Harbour({ clock: new FakeClock(nowMs), clientCa, serverCa, directory, server, limits, tenantUidOf, tenantOfAddress, sleep })
    } catch (error) {
      rmSync(directory, { recursive: true, force: true })
      throw error
    }
    const start = (tenant: TenantName) => FakeControlPlane.start(tenant, join(directory, `${tenant}.sock`))
    harbour.red = await start(red)
    harbour.blue = await start(blue)
    harbour.platform = await start(PLATFORM_TENANT)
    for (const plane of [harbour.red, harbour.blue])
      plane.issuer = await TokenIssuer.open({ tenant: plane.tenant, keys: [await createTokenKey()] })
    ;({ port: harbour.port } = await harbour.gateway.listen('127.0.0.1', 0))
    return harbour
  }

  async certificate(
    tenant: TenantName | undefined,
    {
      authority = this.clientCa,
      tenantUid,
      user = 'alice',
      groups = ['dev'],
      nowMs = this.clock.nowMs(),
      ttlSeconds = 3_600,
    }: Partial<Omit<Parameters<typeof parseAndSignCsr>[0], 'csrPem' | 'tenant'>> = {},
  ): Promise<{ key: string; cert: string }> {
    const keys = await createKeyPair()
    const csrPem = await createCsr(keys)
    const ofTenant = tenantUid === undefined ? {} : { tenantUid }
    const request = { authority, csrPem, tenant, ...ofTenant, user, groups, nowMs, ttlSeconds }
    const { certificatePem } = await parseAndSignCsr(request)
    return { key: await renderPrivateKey(keys), cert: certificatePem }
  }

  async token(plane: FakeControlPlane, changes: Partial<Parameters<TokenIssuer['issue']>[0]> = {}): Promise<string> {
    const account = { namespace: 'default', name: 'builder', uid: 'uid' }
    return (await plane.issuer!.issue({ account, nowMs: this.clock.nowMs(), ...changes })).token
  }

  private tls({ key, cert }: Credentials) {
    return {
      host: '127.0.0.1',
      port: this.port,
      ca: this.serverCa.certificatePem,
      ...(key && cert ? { key, cert } : {}),
    }
  }

  /** One HTTP/1.1 request on a connection of its own. */
  h1(
    path: string,
    credentials: Credentials = {},
    { method = 'GET', headers = {}, body }: { method?: string; headers?: Record<string, string | string[]>; body?: string | Buffer } = {},
  ): Promise<Answered> {
    const { promise, resolve, reject } = Promise.withResolvers<Answered>()
    const authorization = credentials.token === undefined ? {} : { authorization: `Bearer ${credentials.token}` }
    // Node would send the body of a DELETE without saying where it ends.
    const length = body === undefined || 'transfer-encoding' in headers ? {} : { 'content-length': String(Buffer.byteLength(body)) }
    const request = httpsRequest(
      { ...this.tls(credentials), method, path, agent: false, headers: { ...authorization, ...length, ...headers } },
      (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => (text += chunk))
        response.on('error', reject)
        response.on('end', () => resolve({ code: response.statusCode ?? 0, headers: response.headers, body: text }))
      },
    )
    request.on('error', reject)
    request.end(body)
    return promise
  }

  session(credentials: Credentials = {}): ClientHttp2Session {
    const session = connectHttp2(`https://127.0.0.1:${this.port}`, this.tls(credentials))
    session.on('error', () => {})
    return session
  }

  /** One HTTP/2 request on a connection of its own. */
  async h2(
    path: string,
    credentials: Credentials = {},
    { method = 'GET', headers = {}, body }: { method?: string; headers?: Record<string, string | string[]>; body?: string | Buffer } = {},
  ): Promise<Answered> {
    const session = this.session(credentials)
    try {
      return await askHttp2(session, path, {
        method,
        headers: { ...(credentials.token === undefined ? {} : { authorization: `Bearer ${credentials.token}` }), ...headers },
        ...(body === undefined ? {} : { body }),
      })
    } finally {
      session.destroy()
    }
  }

  /** A TLS connection for bytes that no HTTP client would send. */
  async raw(credentials: Credentials = {}, options: { maxVersion?: 'TLSv1.2'; session?: Buffer; ALPNProtocols?: string[] } = {}): Promise<TLSSocket> {
    const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>()
    const socket = connectTls({ ...this.tls(credentials), ...options }, () => resolve(socket))
    socket.once('error', reject)
    await promise
    socket.on('error', () => {})
    return socket
  }

  /** Everything that comes back until the other side closes. */
  async rawAnswer(bytes: string | Buffer, credentials: Credentials = {}): Promise<string> {
    const socket = await this.raw(credentials)
    const { promise, resolve } = Promise.withResolvers<void>()
    let text = ''
    socket.setEncoding('latin1')
    socket.on('data', (chunk: string) => (text += chunk))
    socket.once('close', () => resolve())
    socket.write(bytes)
    await promise
    return text
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.gateway[Symbol.asyncDispose]()
    for (const plane of [this.red, this.blue, this.platform]) await plane[Symbol.asyncDispose]()
    rmSync(this.directory, { recursive: true, force: true })
  }
}

export async function askHttp2(
  session: ClientHttp2Session,
  path: string,
  { method = 'GET', headers = {}, body }: { method?: string; headers?: Record<string, string | string[]>; body?: string | Buffer } = {},
): Promise<Answered> {
  const { promise, resolve, reject } = Promise.withResolvers<Answered>()
  session.once('error', reject)
  const stream = session.request({ ':method': method, ':path': path, ...headers }, { endStream: body === undefined })
  let text = ''
  let answered: Record<string, unknown> = {}
  stream.setEncoding('utf8')
  stream.on('response', (found) => (answered = found))
  stream.on('data', (chunk: string) => (text += chunk))
  stream.on('error', reject)
  stream.on('close', () => {
    const { ':status': code = 0, ...rest } = answered
    resolve({ code: Number(code), headers: rest, body: text })
  })
  if (body !== undefined) stream.end(body)
  return promise
}
