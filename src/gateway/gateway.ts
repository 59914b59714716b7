import { constants as openssl, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type IncomingMessage, ServerResponse } from 'node:http'
import {
  createSecureServer,
  Http2ServerRequest,
  type Http2SecureServer,
  type ServerHttp2Session,
} from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { ApiError, PLATFORM_TENANT, type TenantName, userNames } from '../api/index.ts'
import { IdentityRefused, type OutsideUser, renderIdentity } from '../identity/index.ts'
import { type Clock, customerOf, type Logger } from '../stdx/index.ts'
import { type Answer, breakOff, sendStatus, writeHead } from './answers.ts'
import { authenticate, type Authenticated, judgeCertificate, type PeerCertificate } from './authenticate.ts'
import { type AuditSink, auditRequest, FreeRefusals } from './events.ts'
import { type Admission, FairShare } from './fair-share.ts'
import { headerPairs, OWN_HEADERS, planRequestHeaders } from './headers.ts'
import { isPassedOn } from './passed-on.ts'
import {
  assertFair,
  CLOSE_MS_MAX,
  DEFAULT_GATEWAY_LIMITS,
  type GatewayLimits,
  HANDSHAKE_MS_MAX,
  HEAD_BYTES_MAX,
  HEADERS_MAX,
  IDLE_MS_MAX,
  KEEP_ALIVE_PROBE_MS,
  REQUEST_MS_MAX,
  STREAM_MS_MAX,
  STREAMS_PER_SESSION_MAX,
} from './limits.ts'
import { Links, type Way } from './links.ts'
import { proxyRequest, proxyUpgrade, reach } from './proxy.ts'
import * as refusals from './refusals.ts'
import { isStream, parseTarget, pathProblem, type Target, targetOfPod } from './target.ts'
import { TokenKeys } from './token-keys.ts'

export type GatewayOptions = {
  tls: {
    /** PEM. */
    key: string
    cert: string
    /** The authority of client certificates, and of nothing else. Absent: nobody is asked for one. */
    clientCa?: string
  }
  /**
   * Makes this a door for pods: the tenant is the one whose pod has the client's address, and no path or credential can
   * name another. Undefined for an address that is nobody's, who is not let in.
   */
  tenantOfAddress?: (address: string) => TenantName | undefined
  /** The socket of a tenant's control plane; also asked for PLATFORM_TENANT and for tenants that do not exist. */
  socketPathOf: (tenant: TenantName) => string
  /**
   * Wakes a tenant's control plane that sleeps; resolves when it answers. Only asked for somebody who is let in there.
   * Absent: whoever has no socket does not answer.
   */
  wake?: (tenant: TenantName) => Promise<void>
  /** The public keys that a control plane left when it fell asleep: strangers wake nobody. */
  sleepingKeysOf?: (tenant: TenantName) => unknown
  /**
   * The uid of the Tenant that has the name now, or undefined when there is none: certificates of an earlier tenant
   * of the same name are refused like those of any other. Absent: certificates are bound to the name only.
   */
  tenantUidOf?: (tenant: TenantName) => string | undefined
  audit: AuditSink
  clock: Clock
  log: Logger
  limits?: Partial<Omit<GatewayLimits, 'tenant'>> & { tenant?: Partial<GatewayLimits['tenant']> }
}

export interface Gateway extends AsyncDisposable {
  listen(address: string, port: number): Promise<AddressInfo>
  /** Takes no more, lets what is running finish for a short while, then cuts it off. Safe to repeat. */
  close(): Promise<void>
}

export function createGateway(options: GatewayOptions): Gateway {
  return new TlsGateway(options)
}

const METHODS: readonly string[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']
/** As it is sent on → methods with which it may be asked for. */
const UPGRADES: Readonly<Record<string, readonly string[]>> = {
  websocket: ['GET'],
  'SPDY/3.1': ['GET', 'POST'],
}

type Request = IncomingMessage | Http2ServerRequest

/** What is known of one TLS connection; hangs on its socket, which both HTTP versions give access to. */
type Connection = { peer: PeerCertificate; address: string; places: Map<TenantName, () => void> }
const CONNECTION = Symbol('connection')
type Bearer = { [CONNECTION]?: Connection }

/** One request on its way through, for the audit log. */
class Exchange {
  readonly requestId = randomUUID()
  readonly startedMs: number
  readonly request: Request
  readonly answer: Answer
  readonly url: string
  readonly method: string
  readonly connection: Connection | undefined
  user: OutsideUser | undefined
  /** The tenant whose pod asks, at the door for pods: known whoever the pod says it is. */
  home: TenantName | undefined
  reason: string | undefined
  /** What the control plane's policies note about it. */
  policyNote: string | undefined
  /** The client has left, and all that it held has been given back. */
  over = false

  constructor(request: Request, answer: Answer, startedMs: number) {
    this.request = request
    this.answer = answer
    this.startedMs = startedMs
    // Both go away with the stream or socket, so they are taken now.
    this.connection = (request.socket as unknown as Bearer)[CONNECTION]
    this.url = request.url ?? ''
    this.method = request.method ?? ''
  }
}

class TlsGateway implements Gateway {
  private readonly options: GatewayOptions
  private readonly limits: GatewayLimits
  private readonly server: Http2SecureServer
  private readonly keys: TokenKeys
  private readonly links: Links
  private readonly share: FairShare
  private readonly freeRefusals: FreeRefusals
  private readonly sockets = new Set<Socket>()
  private readonly sessions = new Set<ServerHttp2Session>()
  private readonly connectionsOf = new Map<string, number>()
  private closing: Promise<void> | undefined

  constructor(options: GatewayOptions) {
    this.options = options
    const { tenant, ...rest } = options.limits ?? {}
    this.limits = {
      ...DEFAULT_GATEWAY_LIMITS,
      ...rest,
      tenant: { ...DEFAULT_GATEWAY_LIMITS.tenant, ...tenant },
    }
    assertFair(this.limits)
    this.keys = new TokenKeys(options)
    this.links = new Links(options.clock)
    this.share = new FairShare(this.limits, options.clock)
    this.freeRefusals = new FreeRefusals(options.clock)
    this.server = this.createServer()
  }

  private createServer(): Http2SecureServer {
    const { key, cert, clientCa } = this.options.tls
    const server = createSecureServer({
      key,
      cert,
      ...(clientCa === undefined ? {} : { ca: clientCa }),
      allowHTTP1: true,
      minVersion: 'TLSv1.3',
      requestCert: clientCa !== undefined,
      // We judge the certificate ourselves, because the answer to a bad one has to be a Status.
      rejectUnauthorized: false,
      // No resumption: a resumed session would bring back a certificate without looking at it again.
      secureOptions: openssl.SSL_OP_NO_TICKET | openssl.SSL_OP_NO_RENEGOTIATION,
      handshakeTimeout: HANDSHAKE_MS_MAX,
      maxHeaderSize: HEAD_BYTES_MAX,
      maxHeaderListPairs: HEADERS_MAX + 4, // HTTP/2 has four more for what is the request line in HTTP/1.1
      settings: {
        maxConcurrentStreams: STREAMS_PER_SESSION_MAX,
        maxHeaderListSize: HEAD_BYTES_MAX,
        enableConnectProtocol: false,
        enablePush: false,
      },
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_PROBE_MS,
    } as Parameters<typeof createSecureServer>[0]) // the typings do not know maxHeaderSize and keepAlive here
    server.maxConnections = this.limits.connectionsMax
    // These are http.Server's and count for HTTP/1.1 only.
    const { receiveHeadMsMax, receiveMsMax } = this.limits
    Object.assign(server, {
      headersTimeout: receiveHeadMsMax,
      requestTimeout: receiveMsMax,
      connectionsCheckingInterval: receiveHeadMsMax / 2,
      keepAliveTimeout: IDLE_MS_MAX,
      // Otherwise headers beyond the number would silently be dropped; we count and refuse.
      maxHeadersCount: 0,
    })
    server.prependListener('connection', (socket: Socket) => this.onConnection(socket))
    server.prependListener('secureConnection', (socket: TLSSocket) => this.onSecureConnection(socket))
    server.on('session', (session) => this.onSession(session))
    server.on('request', (request: Request, answer: Answer) => void this.serve(request, answer))
    server.on(
      'checkContinue',
      (request: Request, answer: Answer) => void this.serve(request, answer, { expects: true }),
    )
    server.on(
      'upgrade',
      (request: IncomingMessage, socket: Duplex, head: Buffer) =>
        void this.serveUpgrade(request, socket, head),
    )
    server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) =>
      this.onClientError(error, socket),
    )
    server.on('tlsClientError', (error) => this.options.log.debug('TLS handshake failed', { error }))
    server.on('sessionError', (error) => this.options.log.debug('HTTP/2 session failed', { error }))
    return server
  }

  async listen(address: string, port: number): Promise<AddressInfo> {
    this.server.listen(port, address)
    await once(this.server, 'listening')
    return this.server.address() as AddressInfo // it listens on TCP
  }

  close(): Promise<void> {
    return (this.closing ??= this.shutDown())
  }

  private async shutDown(): Promise<void> {
    const closed = once(this.server, 'close')
    this.server.close()
    for (const session of this.sessions) session.close()
    const cancel = this.options.clock.after(CLOSE_MS_MAX, () => this.cutOff())
    await closed
    cancel()
    this.links.destroy()
  }

  private cutOff(): void {
    for (const session of this.sessions) session.destroy()
    for (const socket of this.sockets) socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = this.close()
    this.cutOff()
    await closed
  }

  private onConnection(socket: Socket): void {
    const address = customerOf(socket.remoteAddress ?? '')
    const open = this.connectionsOf.get(address) ?? 0
    if (open >= this.limits.connectionsPerAddressMax) return void socket.destroy()
    if (!this.occupyFor(socket, socket.remoteAddress ?? '')) return void socket.destroy()
    this.connectionsOf.set(address, open + 1)
    // Unlike Node's other servers, one that speaks HTTP/2 does not do this: the body of an answer would wait 40 ms for
    // the client's word that it has the head.
    socket.setNoDelay(true)
    this.sockets.add(socket)
    socket.once('close', () => {
      this.sockets.delete(socket)
      const left = (this.connectionsOf.get(address) ?? 1) - 1
      if (left > 0) this.connectionsOf.set(address, left)
      else this.connectionsOf.delete(address)
    })
  }

  /** A pod's tenant is known before its first byte, so that is when its connection begins to count. */
  private occupyFor(socket: Socket, address: string): boolean {
    const { tenantOfAddress } = this.options
    if (!tenantOfAddress) return true
    const tenant = tenantOfAddress(address)
    if (tenant === undefined) return false
    const admission = this.share.admitConnection(tenant)
    if ('refused' in admission) return false
    socket.once('close', admission.release)
    return true
  }

  private onSecureConnection(socket: TLSSocket): void {
    const places = new Map<TenantName, () => void>()
    const connection: Connection = {
      peer: judgeCertificate(socket),
      address: socket.remoteAddress ?? '',
      places,
    }
    ;(socket as Bearer)[CONNECTION] = connection
    socket.once('close', () => {
      for (const release of places.values()) release()
    })
  }

  private onSession(session: ServerHttp2Session): void {
    let open = 0
    this.sessions.add(session)
    session.once('close', () => this.sessions.delete(session))
    session.on('stream', (stream) => {
      open++
      stream.once('close', () => open--)
    })
    session.setTimeout(IDLE_MS_MAX, () => {
      if (open === 0) session.close()
    })
  }

  /** Bytes that are not HTTP, or too much of it. There is no request yet, so there is nothing to record but the fact. */
  private onClientError(error: NodeJS.ErrnoException, socket: Duplex): void {
    this.options.log.debug('request cannot be parsed', { error })
    const { bytesWritten = 1 } = socket as { bytesWritten?: number }
    if (error.code === 'ECONNRESET' || !socket.writable || bytesWritten > 0) return void socket.destroy()
    const refusal =
      error.code === 'HPE_HEADER_OVERFLOW'
        ? refusals.headersTooLarge
        : refusals.badPath('The request is not HTTP/1.1')
    const body = JSON.stringify(refusal.toStatus())
    const head = `HTTP/1.1 ${refusal.code} Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n`
    socket.end(`${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
  }

  private async serve(request: Request, answer: Answer, { expects = false } = {}): Promise<void> {
    const exchange = new Exchange(request, answer, this.options.clock.nowMs())
    if (parseTarget(exchange.url).kind === 'health') return this.answerHealth(answer)
    const held: (() => void)[] = []
    answer.once('close', () => {
      exchange.over = true
      for (const release of held) release()
      this.audit(exchange, 'ResponseComplete', answer.headersSent ? answer.statusCode : 0)
    })
    try {
      const { identity, target, hasBody, body } = await this.admit(exchange, held)
      const stream = isStream(target.rest)
      const { requestId, method } = exchange
      const told = renderIdentity(identity.user, identity.tenantUid)
      await proxyRequest(request, answer, {
        links: this.links,
        way: this.wayTo(target.tenant),
        expects,
        method,
        path: target.rest,
        headers: planRequestHeaders({ rawHeaders: request.rawHeaders, identity: told, requestId, body }),
        requestId,
        clock: this.options.clock,
        lastsMsMax: this.lastsMsMax(identity, stream),
        hasBody,
        bodyBytesMax: this.limits.bodyBytesMax,
        receiveMsMax: this.limits.receiveMsMax,
        onBytes: this.share.meter(target.tenant, userNames(identity.user).name),
        onCost: (costMs) => this.share.chargeTime(target.tenant, userNames(identity.user).name, costMs),
        onStart: (note) => {
          exchange.policyNote = note
          if (stream) this.audit(exchange, 'ResponseStarted', answer.statusCode)
        },
        onRefusal: (error, cause) => this.note(exchange, error, cause),
      })
    } catch (error) {
      this.refuse(exchange, error)
    }
  }

  private async serveUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    // Node has let go of the socket: without a listener, an error on it would end the process.
    socket.on('error', (error) => this.options.log.debug('upgraded connection failed', { error }))
    const answer = new ServerResponse(request)
    answer.shouldKeepAlive = false
    answer.assignSocket(socket as Socket) // a TLSSocket
    answer.once('finish', () => {
      answer.detachSocket(socket as Socket)
      socket.end(() => socket.destroy())
    })
    const exchange = new Exchange(request, answer, this.options.clock.nowMs())
    const held: (() => void)[] = []
    let code = 0
    socket.once('close', () => {
      exchange.over = true
      for (const release of held) release()
      this.audit(exchange, 'ResponseComplete', code || (answer.headersSent ? answer.statusCode : 0))
    })
    try {
      const upgrade = parseUpgrade(request)
      const { identity, target } = await this.admit(exchange, held, { upgrade })
      if (upgrade === undefined) throw refusals.upgradeNotAllowed
      const upstream = await this.reach(exchange, target.tenant)
      const { requestId, method } = exchange
      const { rawHeaders } = request
      await proxyUpgrade(
        { socket, head, answer },
        {
          upstreamSocket: upstream,
          method,
          path: target.rest,
          headers: planRequestHeaders({
            rawHeaders,
            identity: renderIdentity(identity.user, identity.tenantUid),
            requestId,
            body: { kind: 'none' },
            upgrade,
          }),
          requestId,
          clock: this.options.clock,
          lastsMsMax: this.lastsMsMax(identity, true),
          upgrade,
          onNote: (note) => {
            exchange.policyNote = note
          },
          onStart: (started) => {
            code = started
            this.audit(exchange, 'ResponseStarted', started)
          },
          onRefusal: (error, cause) => this.note(exchange, error, cause),
        },
      )
    } catch (error) {
      this.refuse(exchange, error)
    }
  }

  /** Everything that has to be true before a control plane hears of a request, in this order. Throws an ApiError. */
  private async admit(exchange: Exchange, held: (() => void)[], upgraded?: { upgrade: string | undefined }) {
    const { connection, request, url, method } = exchange
    if (!connection) throw refusals.closing
    const { rawHeaders } = request
    // In HTTP/2 the path is among the headers.
    const lineBytes = request.httpVersionMajor === 1 ? url.length : 0
    const headBytes = rawHeaders.reduce((sum, text) => sum + text.length + 2, lineBytes)
    if (rawHeaders.length > 2 * (HEADERS_MAX + 4) || headBytes > HEAD_BYTES_MAX)
      throw refusals.headersTooLarge
    if (this.closing) throw refusals.closing

    const { tenantOfAddress } = this.options
    if (tenantOfAddress) {
      // Asked again, because the tenant may have gone since the connection began.
      exchange.home = tenantOfAddress(connection.address)
      if (exchange.home === undefined) throw refusals.noAccess
    }
    const identity = await this.identify(connection, rawHeaders, exchange.home)
    exchange.user = identity.user
    // Whoever left while we looked at the token must take no place: nothing would ever give it back.
    if (exchange.over) throw refusals.clientLeft
    const target =
      exchange.home === undefined ? targetOf(url, identity.user) : targetOfPod(exchange.home, url)
    if (target.kind !== 'controlPlane' || target.tenant !== homeOf(identity.user)) throw refusals.noAccess
    if (!this.isPresent(target.tenant, identity)) throw refusals.noAccess

    const pairs = headerPairs(rawHeaders)
    if (pairs.some(([name]) => name.startsWith('impersonate-'))) throw refusals.impersonation
    const asksForMethods = method === 'OPTIONS' && isPassedOn(target.rest)
    if (!METHODS.includes(method) && !asksForMethods) throw refusals.methodNotAllowed
    const problem = pathProblem(target.rest)
    if (problem !== undefined) throw refusals.badPath(problem)
    const body = parseBody(request, pairs)
    if (body.kind === 'length' && body.bytes > this.limits.bodyBytesMax)
      throw refusals.bodyTooLarge(this.limits.bodyBytesMax)
    if (upgraded && (upgraded.upgrade === undefined || hasBody(body))) throw refusals.upgradeNotAllowed

    if (!this.options.audit.ready) throw refusals.auditUnavailable
    this.occupy(connection, target.tenant)
    held.push(
      accept(
        this.share.admitRequest(
          target.tenant,
          upgraded || isStream(target.rest) ? 'streams' : 'requests',
          userNames(identity.user).name,
        ),
      ),
    )
    return { identity, target, body, hasBody: hasBody(body) }
  }

  private wayTo(tenant: TenantName): Way {
    const { wake, socketPathOf } = this.options
    const socketPath = socketPathOf(tenant)
    return { socketPath, connect: () => reach(socketPath, wake && (() => wake(tenant))) }
  }

  /** A connection to the control plane, which is woken for it. Throws an ApiError. */
  private async reach(exchange: Exchange, tenant: TenantName): Promise<Socket> {
    let socket: Socket
    try {
      socket = await this.wayTo(tenant).connect()
    } catch (cause) {
      const { reason, message, details } = refusals.controlPlaneUnavailable
      throw new ApiError(reason, message, { cause, ...(details ? { details } : {}) })
    }
    if (!exchange.over) return socket
    socket.destroy()
    throw refusals.clientLeft
  }

  private async identify(
    connection: Connection,
    rawHeaders: readonly string[],
    home: TenantName | undefined,
  ): Promise<Authenticated> {
    try {
      return await authenticate({
        peer: connection.peer,
        rawHeaders,
        keys: this.keys,
        clock: this.options.clock,
        home,
      })
    } catch (cause) {
      if (cause instanceof IdentityRefused)
        throw new ApiError('Unauthorized', refusals.unauthorized.message, { cause })
      throw cause
    }
  }

  /** The tenant is there, and is the very one that the credential was made for. */
  private isPresent(tenant: TenantName, { user, tenantUid }: Authenticated): boolean {
    const { tenantUidOf } = this.options
    if (!tenantUidOf || user.kind === 'operator') return true
    const present = tenantUidOf(tenant)
    // A token needs no uid: the next tenant of a name signs with other keys.
    return present !== undefined && (user.kind === 'serviceAccount' || tenantUid === present)
  }

  /** A connection counts for each tenant that was let in on it. */
  private occupy(connection: Connection, tenant: TenantName): void {
    if (this.options.tenantOfAddress) return
    if (!connection.places.has(tenant))
      connection.places.set(tenant, accept(this.share.admitConnection(tenant)))
  }

  private lastsMsMax({ expiresAtMs }: Authenticated, stream: boolean): number {
    if (!stream) return REQUEST_MS_MAX
    return Math.max(0, Math.min(STREAM_MS_MAX, expiresAtMs - this.options.clock.nowMs()))
  }

  private refuse(exchange: Exchange, error: unknown): void {
    const { answer, request, requestId } = exchange
    const refusal =
      error instanceof ApiError
        ? error
        : new ApiError('InternalError', 'Internal error occurred', { cause: error })
    if (refusal.reason === 'InternalError') this.options.log.error('request failed', { requestId, error })
    this.note(exchange, refusal, refusal.cause)
    if (exchange.over) return
    if (answer.headersSent) return breakOff(answer)
    // Whether somebody may know of something is answered in the same bytes each time, so without a request's id.
    const constant = refusal.reason === 'Unauthorized' || refusal === refusals.noAccess
    const close = hasBody(parseBodyOrNone(request)) || refusal === refusals.doubledLength
    sendStatus(answer, refusal, { ...(constant ? {} : { requestId }), close })
  }

  private note(exchange: Exchange, refusal: ApiError, cause: unknown): void {
    exchange.reason = cause instanceof Error ? cause.message : refusal.message
  }

  private audit(exchange: Exchange, stage: 'ResponseStarted' | 'ResponseComplete', code: number): void {
    const { requestId, startedMs, user, home, method, url, connection, request, reason, policyNote } =
      exchange
    const free = code === 401 || code === 429
    const unrecorded = free ? this.freeRefusals.record(user ? homeOf(user) : (home ?? '')) : 0
    if (unrecorded === undefined) return
    auditRequest(this.options.audit, {
      stage,
      requestId,
      startedMs,
      nowMs: this.options.clock.nowMs(),
      user,
      home,
      method,
      url,
      code,
      sourceAddress: connection?.address ?? '',
      protocol: request instanceof Http2ServerRequest ? 'HTTP/2' : 'HTTP/1.1',
      reason,
      note: policyNote,
      unrecorded,
    })
  }

  private answerHealth(answer: Answer): void {
    const ready = !this.closing && this.options.audit.ready
    writeHead(answer, ready ? 200 : 503, {
      'content-type': 'text/plain',
      'cache-control': 'no-store',
      ...OWN_HEADERS,
    })
    answer.end(ready ? 'ok' : 'not ready')
  }
}

/** The one control plane in which somebody is anybody. */
function homeOf(user: OutsideUser): TenantName {
  return user.kind === 'operator' ? PLATFORM_TENANT : user.tenant
}

/** A path that names no tenant is for the one that the credential is of; operators say which they mean. */
function targetOf(url: string, user: OutsideUser): Target {
  const target = parseTarget(url)
  if (target.kind !== 'ownControlPlane') return target
  return user.kind === 'operator'
    ? { kind: 'nowhere' }
    : { kind: 'controlPlane', tenant: user.tenant, rest: target.rest }
}

function accept(admission: Admission): () => void {
  if ('refused' in admission) throw admission.refused
  return admission.release
}

function parseUpgrade(request: IncomingMessage): string | undefined {
  const asked = request.headers.upgrade?.toLowerCase()
  const upgrade = Object.keys(UPGRADES).find((name) => name.toLowerCase() === asked)
  return upgrade !== undefined && UPGRADES[upgrade]?.includes(request.method ?? '') ? upgrade : undefined
}

type Body = { kind: 'none' } | { kind: 'length'; bytes: number } | { kind: 'chunked' }

function hasBody(body: Body): boolean {
  return body.kind === 'chunked' || (body.kind === 'length' && body.bytes > 0)
}

/**
 * How long the body is, said once and in one way. The parsers refuse contradictions already; two of them in a row
 * (a proxy before us, say) could read one differently, so nothing ambiguous gets this far.
 */
function parseBody(request: Request, pairs = headerPairs(request.rawHeaders)): Body {
  const lengths = pairs.filter(([name]) => name === 'content-length')
  const encodings = pairs.filter(([name]) => name === 'transfer-encoding')
  const [length] = lengths
  const [encoding] = encodings
  if (lengths.length + encodings.length > 1) throw refusals.doubledLength
  if (encoding) {
    if (request instanceof Http2ServerRequest || encoding[1].toLowerCase() !== 'chunked')
      throw refusals.doubledLength
    return { kind: 'chunked' }
  }
  if (length) {
    if (!/^\d{1,15}$/.test(length[1])) throw refusals.doubledLength
    return { kind: 'length', bytes: Number(length[1]) }
  }
  return request instanceof Http2ServerRequest && !request.stream.endAfterHeaders
    ? { kind: 'chunked' }
    : { kind: 'none' }
}

function parseBodyOrNone(request: Request): Body {
  try {
    return parseBody(request)
  } catch {
    return { kind: 'chunked' }
  }
}
