import { randomBytes } from 'node:crypto'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import {
  createServer as createHttpServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http'
import {
  connect as connectHttp2,
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type IncomingHttpHeaders,
} from 'node:http2'
import { connect, createServer, isIPv4, type Server as TcpServer, type Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import type { TLSSocket } from 'node:tls'
import {
  containsBlock,
  egressPortText,
  type IpBlock,
  parseIpBlock,
  parseRequestHost,
  parseRequestPath,
} from '../../../api/index.ts'
import {
  backendKey,
  type IngressBackend,
  type IngressRefusal,
  type IngressRoute,
} from '../../../jail/index.ts'
import { customerOf, type Logger } from '../../../stdx/index.ts'
import type { AccessLog } from './access-log.ts'
import { readLine } from './connector.ts'
import { type Header, headerProblem, pairs, requestHeaders, responseHeaders } from './headers.ts'
import * as limits from './limits.ts'
import { parseProxyHeader, renderProxyHeader } from './proxy-header.ts'
import { type DoorView, type Site, Sites } from './sites.ts'
import { splice, type Spliced } from './splice.ts'
import { UdpFlows } from './udp-flows.ts'
import { ViewsServer } from './views-server.ts'

export type FrontDoorOptions = {
  /** Where the node agent says whose hosts are whose; only uid 0 is listened to. */
  socketPath: string
  /** Leads to the services of the tenant of this index, and to no other's. */
  connectorSocket: (index: number) => string
  address: string
  httpPort: number
  httpsPort: number
  /** Who stands in front: a connection from there begins with whom it is for. Nobody when absent. */
  proxies?: readonly IpBlock[]
  accessLog: AccessLog
  log: Logger
}

type Incoming = IncomingMessage | Http2ServerRequest
type Outgoing = ServerResponse | Http2ServerResponse
type Listening = { close(): void; ready: Promise<void>; problem?: string }

/**
 * Where the outside comes in, for all tenants. Which tenant a request is for follows from its host and the operator's
 * grants; then it can only be passed on through that tenant's own connector socket. Every request gets a connection of
 * its own, so that nothing which is left over from one can be taken for the beginning of another.
 */
export class FrontDoor {
  private readonly options: FrontDoorOptions
  private readonly sites = new Sites()
  private readonly control: ViewsServer
  private readonly http: Server
  private readonly https: Http2SecureServer
  /** What listens: these two, or what takes headers off connections for them. */
  private readonly entrances: { http: TcpServer; https: TcpServer }
  /** By `publishedPortText`. */
  private readonly ports = new Map<string, Listening>()
  private readonly flows: UdpFlows
  private readonly sweeping: NodeJS.Timeout
  private readonly problems = new Map<number, string>()
  private readonly clients = new Map<string, number>()
  private readonly active = new Map<number, number>()
  private readonly rates = new Map<number, { second: number; count: number }>()
  private readonly open = new Set<Socket>()
  /** WebSockets in a connection. */
  private readonly tunnels = new WeakMap<object, number>()
  /** Whom connections are for, as whoever stands in front says, by both ends of the connection. */
  private readonly announced = new Map<string, string>()
  private entering = 0
  private requests = 0
  private closed = false

  constructor(options: FrontDoorOptions) {
    this.options = options
    this.flows = new UdpFlows({
      nowMs: () => performance.now(),
      connect: async (index, port, client) => {
        const backend = this.sites.get(index)?.ports.get(udpText(port))?.backend
        return backend && (await this.connectTo(index, backend, client))
      },
    })
    this.sweeping = setInterval(() => this.flows.sweep(), limits.FLOWS_SWEEP_MS).unref()
    this.control = new ViewsServer({
      socketPath: options.socketPath,
      log: options.log,
      views: {
        set: (index, document) => this.set(index, document as DoorView), // root speaks
        remove: async (index) => {
          await this.set(index, undefined)
        },
      },
    })
    this.http = createHttpServer({
      maxHeaderSize: limits.HEADER_BYTES_MAX,
      headersTimeout: limits.HEADERS_TIMEOUT_MS,
      requestTimeout: limits.REQUEST_TIMEOUT_MS,
      keepAliveTimeout: limits.KEEP_ALIVE_MS,
      connectionsCheckingInterval: 2_000,
      insecureHTTPParser: false,
      requireHostHeader: true,
      rejectNonStandardBodyWrites: true,
      noDelay: true,
    })
    this.https = createSecureServer({
      allowHTTP1: true,
      minVersion: 'TLSv1.2',
      handshakeTimeout: limits.HANDSHAKE_TIMEOUT_MS,
      maxSessionMemory: 2,
      maxHeaderListPairs: limits.HEADERS_MAX,
      settings: {
        maxConcurrentStreams: limits.STREAMS_PER_CONNECTION_MAX,
        maxHeaderListSize: limits.HEADER_BYTES_MAX,
        enablePush: false,
        enableConnectProtocol: true,
      },
      // There is no certificate for whoever names nobody.
      SNICallback: (name, done) => {
        const host = parseRequestHost(name)
        const context = host === undefined ? undefined : this.sites.certificateOf(host)
        if (context) done(null, context)
        else done(new Error('There is no such host'))
      },
    })
    for (const server of [this.http, this.https]) {
      server.setTimeout(limits.IDLE_MS)
      server.on('connection', (socket: Socket) => this.count(socket))
      server.on('connect', (req: Incoming, client: { destroy(): unknown }) => {
        if (isHttp2(req)) this.tunnel(req)
        else client.destroy()
      })
      server.on('error', (error) => options.log.warn('the front door failed', { error }))
    }
    this.http.on('request', (req, res) => this.answer(req, res))
    this.http.on('upgrade', (req: IncomingMessage, socket: Socket, head: Buffer) =>
      this.upgrade(req, socket, head),
    )
    this.http.on('clientError', refuseBytes)
    this.https.on('request', (req, res) => this.answer(req, res))
    this.https.on('upgrade', (req: IncomingMessage, socket: Socket, head: Buffer) =>
      this.upgrade(req, socket, head),
    )
    this.https.on('clientError', refuseBytes)
    this.https.on('tlsClientError', (_error: Error, socket: TLSSocket) => socket.destroy())
    this.https.on('sessionError', () => {})
    this.https.on('session', (session) => session.on('error', () => session.destroy()))
    const entrance = (server: TcpServer) =>
      options.proxies === undefined
        ? server
        : createServer({ noDelay: true }, (socket) =>
            this.enter(socket, () => void server.emit('connection', socket)),
          )
    this.entrances = {
      http: entrance(this.http),
      https: entrance(this.https as unknown as TcpServer),
    }
    this.http.maxHeadersCount = limits.HEADERS_MAX
    const secure = this.https as unknown as Partial<Server>
    secure.maxHeadersCount = limits.HEADERS_MAX
    secure.headersTimeout = limits.HEADERS_TIMEOUT_MS
    secure.requestTimeout = limits.REQUEST_TIMEOUT_MS
    secure.keepAliveTimeout = limits.KEEP_ALIVE_MS
  }

  async listen(): Promise<void> {
    await this.control.listen()
    const { address, httpPort, httpsPort } = this.options
    await Promise.all([
      this.bind(this.entrances.http, address, httpPort),
      this.bind(this.entrances.https, address, httpsPort),
    ])
  }

  /** Takes the header off a connection from whoever stands in front, who always sends one. */
  private enter(socket: Socket, inside: () => void): void {
    const { proxies = [] } = this.options
    if (!isAmong(peerOf(socket), proxies)) return inside()
    socket.on('error', () => socket.destroy())
    if (this.entering >= limits.CONNECTIONS_MAX) return drop(socket)
    this.entering++
    const key = endsOf(socket)
    socket.once('close', () => this.announced.delete(key))
    const read = async () => {
      try {
        const header = await readProxyHeader(socket)
        if (!header || socket.destroyed) return drop(socket)
        if (header.client !== undefined) this.announced.set(key, header.client)
        inside()
      } finally {
        this.entering--
      }
    }
    read().catch(() => socket.destroy())
  }

  /** The address at the other end, or whoever it is for. */
  private addressOf(socket: Socket | undefined): string {
    const peer = peerOf(socket)
    return (socket && this.announced.get(endsOf(socket))) ?? (peer === '' ? 'unknown' : peer)
  }

  private clientOf(req: Incoming): string {
    return this.addressOf(socketOf(req))
  }

  /** For tests, which listen on any port. */
  boundPorts(): { http: number; https: number } {
    const port = (server: { address(): unknown }) => (server.address() as { port: number } | null)?.port ?? 0
    return { http: port(this.entrances.http), https: port(this.entrances.https) }
  }

  async close(): Promise<void> {
    this.closed = true
    this.control.close()
    for (const server of new Set([this.http, this.https, ...Object.values(this.entrances)])) server.close()
    for (const listening of this.ports.values()) listening.close()
    clearInterval(this.sweeping)
    this.flows.close()
    for (const socket of this.open) socket.destroy()
    await this.options.accessLog.flush()
  }

  async set(index: number, view: DoorView | undefined): Promise<{ refused: IngressRefusal[] }> {
    const before = this.sites.get(index)
    if (!view) {
      this.sites.remove(index)
      if (before) this.options.accessLog.remove(before.tenant)
      await this.ensurePorts()
      return { refused: [] }
    }
    const refused = this.sites.set(index, view)
    await this.ensurePorts()
    for (const port of this.sites.get(index)?.ports.keys() ?? []) {
      const why = this.ports.get(port)?.problem
      if (why !== undefined) refused.push({ what: port, why })
    }
    for (const why of this.problems.values()) refused.push({ what: '*', why })
    return { refused }
  }

  private async ensurePorts(): Promise<void> {
    const wanted = new Map([...this.sites.all()].flatMap(({ ports }) => [...ports]))
    for (const [key, listening] of this.ports)
      if (!wanted.has(key)) {
        this.ports.delete(key)
        listening.close()
      }
    // Whoever had published it may not any more.
    this.flows.sweep((index, port) => !this.sites.get(index)?.ports.has(udpText(port)))
    for (const [key, { port, backend }] of wanted) {
      const known = this.ports.get(key)
      if (known && known.problem === undefined) continue
      known?.close()
      const listening = backend.protocol === 'UDP' ? this.listenUdp(port) : this.listenTcp(port)
      this.ports.set(key, listening)
      await listening.ready
    }
  }

  private isOwn(address: string, port: number): boolean {
    return (
      this.ports.has(udpText(port)) &&
      Object.values(networkInterfaces()).some((all) => all?.some((each) => each.address === address))
    )
  }

  private listenTcp(port: number): Listening {
    const server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) =>
      this.enter(socket, () => this.forward(port, socket)),
    )
    const done = Promise.withResolvers<void>()
    const listening: Listening = { close: () => void server.close(), ready: done.promise }
    server.once('error', (error: NodeJS.ErrnoException) => {
      listening.problem = cannotListen(error)
      done.resolve()
    })
    server.listen({ host: this.options.address, port }, () => done.resolve())
    return listening
  }

  private listenUdp(port: number): Listening {
    const { address } = this.options
    const socket = createSocket(isIPv4(address) ? 'udp4' : 'udp6')
    const done = Promise.withResolvers<void>()
    const listening: Listening = { close: () => socket.close(), ready: done.promise }
    socket.on('error', (error: NodeJS.ErrnoException) => {
      // An answer that cannot be sent is lost; only what keeps us from listening is a problem.
      if (error.syscall === 'bind') listening.problem = cannotListen(error)
      done.resolve()
    })
    socket.on('message', (datagram, from) => this.datagram(socket, port, datagram, from))
    socket.bind({ address, port, exclusive: true }, () => done.resolve())
    return listening
  }

  /** Of whom the sender says that it is, is asked as for TCP; that it is true nobody knows. */
  private datagram(
    socket: UdpSocket,
    port: number,
    datagram: Buffer,
    { address, port: clientPort }: { address: string; port: number },
  ): void {
    const key = udpText(port)
    const [site, ...others] = [...this.sites.all()].filter(({ ports }) => ports.has(key))
    const client = address.replace(/^::ffff:/, '')
    if (!site || others.length > 0 || !isAllowed(client, site.ports.get(key)?.sources)) return
    // Whoever says to be us, or one of these, wants two that answer everything to talk for ever.
    if (ANSWERING_PORTS.has(clientPort) || this.isOwn(client, clientPort)) return
    this.flows.take({ index: site.index, port, client, clientPort }, datagram, (answer) => {
      // Asked again: it may have been taken away, and its socket closed.
      if (this.sites.get(site.index)?.ports.has(key) && this.ports.has(key))
        socket.send(answer, clientPort, address, () => {})
    })
  }

  /** Another program may have the port now and not later. */
  private async bind(server: TcpServer, host: string, port: number): Promise<void> {
    const done = Promise.withResolvers<boolean>()
    const onError = (error: NodeJS.ErrnoException) => {
      this.problems.set(
        port,
        `the front door cannot listen on ${host}:${port} (${error.code ?? error.message})`,
      )
      this.options.log.warn('cannot listen', { host, port, error })
      done.resolve(false)
    }
    server.once('error', onError)
    server.listen({ host, port }, () => done.resolve(true))
    const opened = await done.promise
    server.off('error', onError)
    if (opened) this.problems.delete(port)
    else if (!this.closed) setTimeout(() => void this.bind(server, host, port), limits.LISTEN_RETRY_MS)
  }

  private count(socket: Socket): void {
    const client = customerOf(this.addressOf(socket))
    const others = this.clients.get(client) ?? 0
    if (this.open.size >= limits.CONNECTIONS_MAX || others >= limits.CONNECTIONS_PER_CLIENT_MAX)
      return drop(socket)
    this.open.add(socket)
    this.clients.set(client, others + 1)
    socket.once('close', () => {
      this.open.delete(socket)
      const left = (this.clients.get(client) ?? 1) - 1
      if (left > 0) this.clients.set(client, left)
      else this.clients.delete(client)
    })
  }

  /** Takes a place among what the tenant may have at once; the status of a refusal when there is none. */
  private admit(site: Site): { leave: () => void } | { status: number } {
    const second = Math.floor(performance.now() / 1_000)
    const rate = this.rates.get(site.index)
    const count = rate?.second === second ? rate.count + 1 : 1
    this.rates.set(site.index, { second, count })
    if (count > limits.TENANT_REQUESTS_PER_SECOND_MAX) return { status: 429 }
    const active = this.active.get(site.index) ?? 0
    if (active >= limits.TENANT_REQUESTS_MAX || this.requests >= limits.REQUESTS_MAX) return { status: 503 }
    this.active.set(site.index, active + 1)
    this.requests++
    let left = false
    return {
      leave: () => {
        if (left) return
        left = true
        this.requests--
        this.active.set(site.index, (this.active.get(site.index) ?? 1) - 1)
      },
    }
  }

  /** Everything that is decided about a request before anybody is connected to. */
  private decide(
    req: Incoming,
    upgrading: boolean,
  ):
    | { site: Site; route: IngressRoute; authority: string; host: string }
    | { status: number; location?: string } {
    const headers = pairs(req.rawHeaders)
    if (headerProblem(headers) !== undefined) return { status: 400 }
    const authority = isHttp2(req) ? (req.authority ?? req.headers.host) : req.headers.host
    const host = authority === undefined ? undefined : parseRequestHost(authority)
    const path = parseRequestPath(req.url ?? '')
    if (authority === undefined || host === undefined || path === undefined) return { status: 400 }
    if (isHttp2(req) && req.headers.host !== undefined && req.headers.host !== authority)
      return { status: 400 }
    const secure = secureSocketOf(req)
    if (secure) {
      const named = typeof secure.servername === 'string' ? parseRequestHost(secure.servername) : undefined
      // The certificate that the client has checked is that of another host.
      if (named !== host) return { status: 421 }
    }
    const site = this.sites.ownerOf(host)
    const route = site && this.sites.routeOf(site, host, path)
    if (!route) return { status: 404 }
    if (!secure && route.redirect && this.sites.certificateOf(host)) {
      const { httpsPort } = this.options
      return upgrading
        ? { status: 403 }
        : {
            status: 308,
            location: `https://${host}${httpsPort === 443 ? '' : `:${httpsPort}`}${req.url ?? ''}`,
          }
    }
    return { site, route, authority, host }
  }

  private answer(req: Incoming, res: Outgoing): void {
    const began = performance.now()
    res.on('error', () => {})
    req.on('error', () => {})
    const decision = this.decide(req, false)
    if ('status' in decision) {
      if (decision.location === undefined) return page(req, res, decision.status)
      res.setHeader('location', decision.location)
      return page(req, res, decision.status)
    }
    const { site, host } = decision
    const client = this.clientOf(req)
    const place = this.admit(site)
    if ('status' in place) return page(req, res, place.status)
    res.once('close', () => {
      place.leave()
      this.options.accessLog.write(site.tenant, {
        client,
        host,
        method: req.method ?? '',
        path: (req.url ?? '').split('?', 1)[0] ?? '',
        status: res.statusCode,
        tookMs: Math.round(performance.now() - began),
      })
    })
    this.pass(req, res, decision).catch((error: unknown) => {
      this.options.log.debug('a request failed', { error })
      page(req, res, 502)
    })
  }

  private async pass(
    req: Incoming,
    res: Outgoing,
    { site, route, authority }: { site: Site; route: IngressRoute; authority: string },
  ): Promise<void> {
    const socket = await this.connectTo(site.index, route.backend, this.clientOf(req))
    if (!socket) return page(req, res, 503)
    if (res.destroyed || isGone(req)) return drop(socket)
    res.once('close', () => socket.destroy())
    const headers = requestHeaders(pairs(req.rawHeaders), this.forwarded(req, authority))
    if (route.protocol === 'h2c') this.passHttp2(req, res, { socket, site, headers, authority })
    else this.passHttp1(req, res, { socket, site, headers })
  }

  private passHttp1(
    req: Incoming,
    res: Outgoing,
    { socket, site, headers }: { socket: Socket; site: Site; headers: Header[] },
  ): void {
    const hasLength = req.headers['content-length'] !== undefined
    const chunked = !hasLength && hasBody(req)
    const outgoing = request({
      createConnection: () => socket,
      method: req.method ?? 'GET',
      path: req.url ?? '/',
      headers: [
        ...headers.flat(),
        ...(chunked ? ['transfer-encoding', 'chunked'] : []),
        'connection',
        'close',
      ],
      setHost: false,
      maxHeaderSize: limits.HEADER_BYTES_MAX,
      insecureHTTPParser: false,
    })
    outgoing.on('error', () => page(req, res, 502))
    outgoing.on('upgrade', (_answer, taken) => {
      taken.destroy()
      page(req, res, 502)
    })
    outgoing.on('response', (answer) => {
      const back = responseHeaders(pairs(answer.rawHeaders), site.grant.hosts)
      if (!begin(res, answer.statusCode ?? 502, back)) return drop(socket)
      answer.on('error', () => cut(res))
      answer.on('aborted', () => cut(res))
      answer.pipe(res as ServerResponse)
    })
    if (hasLength || chunked) req.pipe(outgoing)
    else outgoing.end()
  }

  /** HTTP/2 in the clear, with prior knowledge; trailers go both ways, which is what gRPC needs. */
  private passHttp2(
    req: Incoming,
    res: Outgoing,
    {
      socket,
      site,
      headers,
      authority,
    }: { socket: Socket; site: Site; headers: Header[]; authority: string },
  ): void {
    const session = connectHttp2(`http://${authority}`, {
      createConnection: () => socket,
      settings: { enablePush: false, maxHeaderListSize: limits.HEADER_BYTES_MAX },
      maxSessionMemory: 2,
    })
    const fail = () => {
      session.destroy()
      page(req, res, 502)
    }
    session.on('error', fail)
    const fields: Record<string, string | string[]> = {
      ':method': req.method ?? 'GET',
      ':path': req.url ?? '/',
      ':scheme': 'http',
      ':authority': authority,
      ...(req.headers['te'] === 'trailers' ? { te: 'trailers' } : {}),
    }
    for (const [name, value] of headers) {
      const lower = name.toLowerCase()
      if (lower === 'host') continue
      const known = Object.hasOwn(fields, lower) ? fields[lower] : undefined
      const many = known === undefined ? value : [...(Array.isArray(known) ? known : [known]), value]
      Object.defineProperty(fields, lower, {
        value: many,
        enumerable: true,
        configurable: true,
        writable: true,
      })
    }
    const stream = session.request(fields, {
      endStream: !hasBody(req) && req.headers['content-length'] === undefined,
    })
    stream.on('error', fail)
    res.once('close', () => session.destroy())
    stream.on('response', (answer) => {
      const back = responseHeaders(fieldsOf(answer), site.grant.hosts)
      if (!begin(res, answer[':status'] ?? 502, back)) return session.destroy()
      stream.on('trailers', (trailers) => {
        const last = Object.fromEntries(responseHeaders(fieldsOf(trailers), site.grant.hosts))
        ;(res as ServerResponse).addTrailers(last)
      })
      stream.on('data', (chunk: Buffer) => {
        if ((res as ServerResponse).write(chunk)) return
        stream.pause()
        res.once('drain', () => stream.resume())
      })
      stream.on('end', () => res.end())
      stream.on('aborted', () => cut(res))
    })
    if (!stream.writableEnded) req.pipe(stream)
  }

  private upgrade(req: IncomingMessage, socket: Socket, head: Buffer): void {
    socket.on('error', () => socket.destroy())
    const refuse = (status: number): void => {
      socket.end(plainAnswer(status))
    }
    // Nothing but WebSockets: an upgrade to HTTP/2 would hide requests from us.
    if (req.headers.upgrade?.toLowerCase() !== 'websocket' || req.method !== 'GET') return refuse(400)
    const accept = (headers: readonly Header[]) => {
      const lines = [...headers, ['connection', 'upgrade'], ['upgrade', 'websocket']].map(
        ([name, value]) => `${name}: ${value}\r\n`,
      )
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('')}\r\n`, 'latin1')
    }
    this.webSocket(req, pairs(req.rawHeaders), { stream: socket, head, refuse, accept })
  }

  /** A WebSocket in a stream of HTTP/2 (RFC 8441); no other tunnel. */
  private tunnel(req: Http2ServerRequest): void {
    const { stream } = req
    const { session } = stream
    stream.on('error', () => stream.destroy())
    const refuse = (status: number): void => {
      if (!stream.headersSent && !stream.destroyed) stream.respond({ ':status': status }, { endStream: true })
    }
    if (req.headers[':protocol'] !== 'websocket' || !session) return refuse(405)
    // The service speaks HTTP/1.1, where both sides prove with a key that they mean it; here the protocol says so.
    const headers = pairs(req.rawHeaders).filter(([name]) => !KEYS.has(name.toLowerCase()))
    headers.push(['sec-websocket-key', randomBytes(16).toString('base64')])
    const accept = (answer: readonly Header[]) => {
      if (stream.destroyed) return
      const fields = answer.filter(([name]) => !KEYS.has(name.toLowerCase()))
      stream.respond({ ...fieldsByName(fields), ':status': 200 })
      const tunnels = (this.tunnels.get(session) ?? 0) + 1
      this.tunnels.set(session, tunnels)
      session.setTimeout(limits.STREAM_IDLE_MS)
      stream.once('close', () => {
        const left = (this.tunnels.get(session) ?? 1) - 1
        this.tunnels.set(session, left)
        if (left === 0 && !session.destroyed) session.setTimeout(limits.IDLE_MS)
      })
    }
    this.webSocket(req, headers, { stream, refuse, accept })
  }

  private webSocket(
    req: Incoming,
    asked: readonly Header[],
    client: {
      stream: Spliced
      /** What it has said already. */
      head?: Buffer
      refuse: (status: number) => void
      accept: (headers: readonly Header[]) => void
    },
  ): void {
    const { stream, head = Buffer.alloc(0), refuse, accept } = client
    const decision = this.decide(req, true)
    if ('status' in decision) return refuse(decision.status)
    const { site, route, authority } = decision
    const place = this.admit(site)
    if ('status' in place) return refuse(place.status)
    stream.once('close', () => place.leave())
    const start = async () => {
      const up = await this.connectTo(site.index, route.backend, this.clientOf(req))
      if (!up) return refuse(503)
      if (stream.destroyed) return drop(up)
      stream.once('close', () => up.destroy())
      const headers = requestHeaders(asked, this.forwarded(req, authority))
      const outgoing = request({
        createConnection: () => up,
        method: 'GET',
        path: req.url ?? '/',
        headers: [...headers.flat(), 'connection', 'upgrade', 'upgrade', 'websocket'],
        setHost: false,
        maxHeaderSize: limits.HEADER_BYTES_MAX,
      })
      outgoing.on('error', () => refuse(502))
      outgoing.on('response', (answer) => {
        answer.resume()
        refuse(answer.statusCode ?? 502)
      })
      outgoing.on('upgrade', (answer, taken: Socket, first: Buffer) => {
        accept(responseHeaders(pairs(answer.rawHeaders), site.grant.hosts))
        if (first.length > 0) stream.write(first)
        if (head.length > 0) taken.write(head)
        splice(stream, taken, limits.STREAM_IDLE_MS)
      })
      outgoing.end()
    }
    start().catch((error: unknown) => {
      this.options.log.debug('an upgrade failed', { error })
      stream.destroy()
    })
  }

  /** A connection to a port of the door that a Service of type LoadBalancer has. */
  private forward(port: number, socket: Socket): void {
    socket.on('error', () => socket.destroy())
    this.count(socket)
    if (socket.destroyed) return
    // Whose the port is, is asked now: it may have changed hands.
    const owners = [...this.sites.all()].filter((site) => site.ports.has(String(port)))
    const [site] = owners
    const published = site?.ports.get(String(port))
    const client = this.addressOf(socket)
    if (!site || !published || owners.length !== 1 || !isAllowed(client, published.sources))
      return drop(socket)
    const place = this.admit(site)
    if ('status' in place) return drop(socket)
    socket.once('close', () => place.leave())
    const join = async () => {
      const up = await this.connectTo(site.index, published.backend, client)
      if (!up || socket.destroyed) {
        up?.destroy()
        return drop(socket)
      }
      if (published.tellsClient) {
        const clientPort = this.announced.has(endsOf(socket)) ? 0 : (socket.remotePort ?? 0)
        const { localAddress = '' } = socket
        const address = localAddress.replace(/^::ffff:/, '')
        up.write(renderProxyHeader({ client, clientPort, address, port }))
      }
      splice(socket, up, limits.STREAM_IDLE_MS)
    }
    join().catch(() => socket.destroy())
  }

  /** Requires: `index` comes from a grant. Undefined when the service has nobody who answers. */
  private async connectTo(
    index: number,
    backend: IngressBackend,
    client: string,
  ): Promise<Socket | undefined> {
    const socket = connect({ path: this.options.connectorSocket(index), allowHalfOpen: true })
    socket.on('error', () => socket.destroy())
    socket.write(`${backendKey(backend)} ${client}\n`)
    const line = await readLine(socket, limits.CONNECTOR_ANSWER_MS)
    if (line === 'ok') return socket
    socket.destroy()
    return undefined
  }

  private forwarded(req: Incoming, authority: string) {
    const secure = secureSocketOf(req) !== undefined
    const { httpPort, httpsPort } = this.options
    return {
      authority,
      client: this.clientOf(req),
      scheme: secure ? 'https' : 'http',
      port: secure ? httpsPort : httpPort,
    }
  }
}

/** None, and the services that answer whatever they are sent: echo, daytime, qotd and chargen. */
const ANSWERING_PORTS: ReadonlySet<number> = new Set([0, 7, 13, 17, 19])

function udpText(port: number): string {
  return egressPortText({ protocol: 'UDP', port, endPort: port })
}

function cannotListen(error: NodeJS.ErrnoException): string {
  return `the front door cannot listen there (${error.code ?? error.message})`
}

/** Of WebSockets over HTTP/1.1 alone. */
const KEYS: ReadonlySet<string> = new Set(['sec-websocket-key', 'sec-websocket-accept'])

function isHttp2(req: Incoming): req is Http2ServerRequest {
  return req.httpVersionMajor >= 2
}

function socketOf(req: Incoming): Socket | undefined {
  return (isHttp2(req) ? req.stream?.session?.socket : req.socket) as Socket | undefined
}

function secureSocketOf(req: Incoming): TLSSocket | undefined {
  const socket = socketOf(req) as TLSSocket | undefined
  // Everything that speaks HTTP/2 with us came over TLS; a socket that is gone must not look like plain HTTP.
  if (isHttp2(req)) return socket ?? ({ servername: false } as unknown as TLSSocket)
  return socket?.encrypted ? socket : undefined
}

function isGone(req: Incoming): boolean {
  return socketOf(req)?.destroyed ?? true
}

/** Empty when it has gone. */
function peerOf(socket: Socket | undefined): string {
  return (socket?.remoteAddress ?? '').replace(/^::ffff:/, '')
}

/** The same for a connection and for TLS in it. */
function endsOf({ remoteAddress, remotePort, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localPort}`
}

/** Undefined when none comes in time, or something else does. What follows it stays in the socket. */
function readProxyHeader(socket: Socket): Promise<{ client?: string } | undefined> {
  const { promise, resolve } = Promise.withResolvers<{ client?: string } | undefined>()
  let bytes = Buffer.alloc(0)
  const finish = (result: { client?: string } | undefined) => {
    clearTimeout(timer)
    socket.off('readable', onReadable).off('end', onEnd).off('close', onEnd)
    resolve(result)
  }
  const onEnd = () => finish(undefined)
  const timer = setTimeout(onEnd, limits.LINE_TIMEOUT_MS)
  const onReadable = () => {
    const chunk = socket.read() as Buffer | null
    if (chunk === null) return
    bytes = Buffer.concat([bytes, chunk])
    const header = parseProxyHeader(bytes)
    if (header === 'more') return
    if (header === 'bad') return finish(undefined)
    if (header.bytes < bytes.length) socket.unshift(bytes.subarray(header.bytes))
    finish(header)
  }
  socket.on('readable', onReadable).on('end', onEnd).on('close', onEnd)
  return promise
}

function hasBody(req: Incoming): boolean {
  if (isHttp2(req))
    return !req.stream.readableEnded && !(req.stream as { endAfterHeaders?: boolean }).endAfterHeaders
  return req.headers['transfer-encoding'] !== undefined
}

function isAllowed(client: string, sources: readonly string[] | undefined): boolean {
  if (!sources || sources.length === 0) return true
  return isAmong(
    client,
    sources.flatMap((source) => parseIpBlock(source) ?? []),
  )
}

function isAmong(client: string, ranges: readonly IpBlock[]): boolean {
  const block = parseIpBlock(`${client}/${isIPv4(client) ? 32 : 128}`)
  return block !== undefined && ranges.some((range) => containsBlock(range, block))
}

function fieldsOf(headers: IncomingHttpHeaders): Header[] {
  return Object.entries(headers).flatMap(([name, value]) =>
    value === undefined || name.startsWith(':')
      ? []
      : (Array.isArray(value) ? value : [String(value)]).map((each) => [name, each] as const),
  )
}

/** As HTTP/2 wants them: several values of a name together. */
function fieldsByName(headers: readonly Header[]): Record<string, string[]> {
  const byName = Map.groupBy(headers, ([name]) => name.toLowerCase())
  return Object.fromEntries([...byName].map(([name, values]) => [name, values.map(([, value]) => value)]))
}

/** Returns false when there is nobody to answer, or the answer cannot be passed on. */
function begin(res: Outgoing, status: number, headers: readonly Header[]): boolean {
  if (res.headersSent || res.destroyed) return false
  try {
    for (const [name, values] of Map.groupBy(headers, ([each]) => each.toLowerCase()))
      res.setHeader(name, values.length === 1 ? (values[0]?.[1] ?? '') : values.map(([, value]) => value))
    ;(res as ServerResponse).writeHead(status)
    return true
  } catch {
    for (const name of res.getHeaderNames()) res.removeHeader(name)
    if (!res.headersSent) (res as ServerResponse).writeHead(502).end()
    return false
  }
}

function drop(socket: Socket): void {
  socket.destroy()
}

/** What has begun must not look whole. */
function cut(res: Outgoing): void {
  if ('stream' in res && res.stream) res.stream.destroy()
  else res.destroy()
}

const PAGES: Readonly<Record<number, string>> = {
  308: 'Permanent Redirect',
  400: 'Bad Request',
  403: 'Forbidden',
  404: 'Not Found',
  421: 'Misdirected Request',
  429: 'Too Many Requests',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
}

/** Says nothing about whom a host belongs to, or whether it does. */
function page(req: Incoming, res: Outgoing, status: number): void {
  if (res.headersSent) return cut(res)
  if (res.destroyed) return
  const text = `${status} ${PAGES[status] ?? ''}\n`
  res.setHeader('content-type', 'text/plain; charset=utf-8')
  res.setHeader('content-length', Buffer.byteLength(text))
  // What is left of a body that nobody reads would be read as the next request.
  if (!isHttp2(req)) {
    res.setHeader('connection', 'close')
    req.resume()
  }
  const plain = res as ServerResponse // the part that both kinds have in common
  plain.writeHead(status)
  plain.end(req.method === 'HEAD' ? '' : text)
}

function plainAnswer(status: number): string {
  const known = PAGES[status] === undefined ? 502 : status
  const text = `${known} ${PAGES[known]}\n`
  return `HTTP/1.1 ${known} ${PAGES[known]}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: ${text.length}\r\nconnection: close\r\n\r\n${text}`
}

function refuseBytes(_error: Error, socket: Socket): void {
  if (socket.writable) socket.end(plainAnswer(400))
  else socket.destroy()
  setTimeout(() => socket.destroy(), 1_000).unref()
}
