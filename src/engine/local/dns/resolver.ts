import { type Socket as UdpSocket, createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type IncomingMessage, type Server as HttpServer, type ServerResponse, createServer } from 'node:http'
import { type Server, type Socket, createServer as createTcpServer } from 'node:net'
import {
  type Clock,
  listenUnix,
  type Logger,
  peerCredentials,
  readRequest,
  silentLogger,
  systemClock,
} from '../../../stdx/index.ts'
import { ipv4FromText, tenantIndexOf } from '../plan/net/index.ts'
import {
  QUERIES_PER_SECOND_MAX,
  QUERY_BYTES_MAX,
  TCP_CONNECTIONS_MAX,
  TCP_CONNECTIONS_PER_SOURCE_MAX,
  TCP_IDLE_MS,
  TCP_MESSAGE_BYTES_MAX,
  TCP_PENDING_BYTES_MAX,
  TENANT_QUERIES_PER_SECOND_MAX,
  VERSION_CHARS_MAX,
  VIEWS_MAX,
  VIEW_BYTES_MAX,
} from './limits.ts'
import { RCODE, parseQuery, renderAnswer } from './message.ts'
import { OutsideNames } from './outside-names.ts'
import { type View, failure, parseView } from './view.ts'

export type ResolverOptions = {
  /** Where the node agent says which names there are; only uid 0 is listened to. */
  socketPath: string
  listenAddress: string
  port: number
  log?: Logger
  clock?: Clock
  /** Where the node agent says which addresses outside a pod may know; without it no name outside exists. */
  outsideSocket?: string
  /** For tests, where everything comes from 127.0.0.1. */
  sourceOf?: (address: string) => string
}

export interface Resolver {
  /** Requires: the process is in the router's network namespace, and may bind the port. */
  listen(): Promise<void>
  close(): Promise<void>
}

/**
 * Answers pods, each with its own tenant's names. Whose pod asks follows from the source address, which the router's
 * rules pin to the pod's link; names of other tenants are simply not in the view that is searched.
 */
export function createResolver(options: ResolverOptions): Resolver {
  return new PodResolver(options)
}

class PodResolver implements Resolver {
  private readonly options: ResolverOptions
  private readonly log: Logger
  private readonly clock: Clock
  private readonly views = new Map<number, { version: string; view: View }>()
  private readonly udp: UdpSocket
  private readonly tcp: Server
  private readonly control: HttpServer
  private readonly connections = new Map<string, number>()
  private readonly outside: OutsideNames | undefined
  private second = 0
  private queries = new Map<string | number, number>()

  constructor(options: ResolverOptions) {
    this.options = options
    this.log = options.log ?? silentLogger
    this.clock = options.clock ?? systemClock
    this.outside =
      options.outsideSocket === undefined ? undefined : new OutsideNames(options.outsideSocket, this.clock)
    this.udp = createSocket('udp4')
    this.tcp = createTcpServer({ noDelay: true }, (socket) => this.serve(socket))
    this.tcp.maxConnections = TCP_CONNECTIONS_MAX
    this.control = createServer((request, response) => void this.handle(request, response))
    this.control.on('connection', (socket: Socket) => {
      if (!isRoot(socket)) socket.destroy()
    })
  }

  async listen(): Promise<void> {
    const { listenAddress: address, port, socketPath } = this.options
    this.udp.on('message', (packet, from) => {
      // No answer can be sent there: it throws, which a pod with a raw socket could end this process for everybody by.
      if (from.port === 0) return
      // An answer that cannot be sent is one that its asker will ask for again.
      const send = (answer: Buffer | undefined) =>
        answer && this.udp.send(answer, from.port, from.address, () => {})
      const answer = this.answer(packet, from.address, 'udp')
      if (answer instanceof Promise) void answer.then(send)
      else send(answer)
    })
    this.udp.bind({ address, port, exclusive: true })
    await once(this.udp, 'listening')
    this.udp.on('error', (error) => this.log.warn('UDP socket failed', { error }))
    this.tcp.listen({ host: address, port: this.udp.address().port })
    await once(this.tcp, 'listening')
    await listenUnix(this.control, { path: socketPath })
    this.log.info('resolver ready', { address, port: this.udp.address().port })
  }

  async close(): Promise<void> {
    this.udp.close()
    this.control.closeAllConnections()
    await Promise.all([
      new Promise((done) => this.tcp.close(done)),
      new Promise((done) => this.control.close(done)),
    ])
  }

  /** Undefined when the packet deserves no answer. */
  private answer(packet: Buffer, from: string, over: 'udp' | 'tcp'): Buffer | undefined | Promise<Buffer> {
    const source = this.options.sourceOf?.(from) ?? from
    const address = ipv4FromText(source)
    const index = address === undefined ? undefined : tenantIndexOf(address)
    if (index === undefined || !this.withinRate(source, index)) return undefined
    const query = parseQuery(packet)
    if (!query) return undefined
    const bytesMax = over === 'tcp' ? TCP_MESSAGE_BYTES_MAX : query.udpBytesMax
    // A tenant whose names have not arrived yet: "try again", not "there is no such name".
    const view = this.views.get(index)?.view
    const answer = view ? view.answer(query) : failure(RCODE.serverFailure)
    const outside = view?.outsideName(query)
    if (outside === undefined || !this.outside) return renderAnswer(query, answer, bytesMax)
    return this.outside
      .answer({ index, pod: source, name: outside, alias: outside !== query.name, type: query.type }, answer)
      .then((whole) => renderAnswer(query, whole, bytesMax))
  }

  private withinRate(source: string, index: number): boolean {
    const second = Math.floor(this.clock.nowMs() / 1_000)
    if (second !== this.second) {
      this.second = second
      this.queries = new Map()
    }
    const bySource = (this.queries.get(source) ?? 0) + 1
    const byTenant = (this.queries.get(index) ?? 0) + 1
    this.queries.set(source, bySource)
    if (bySource > QUERIES_PER_SECOND_MAX) return false
    this.queries.set(index, byTenant)
    return byTenant <= TENANT_QUERIES_PER_SECOND_MAX
  }

  /** RFC 7766: messages with their length in front. */
  private serve(socket: Socket): void {
    const from = socket.remoteAddress
    const open = from === undefined ? TCP_CONNECTIONS_PER_SOURCE_MAX : (this.connections.get(from) ?? 0)
    socket.on('error', () => socket.destroy())
    if (from === undefined || open >= TCP_CONNECTIONS_PER_SOURCE_MAX) {
      socket.destroy()
      return
    }
    this.connections.set(from, open + 1)
    socket.on('close', () => {
      const left = (this.connections.get(from) ?? 1) - 1
      if (left > 0) this.connections.set(from, left)
      else this.connections.delete(from)
    })
    // Counted from the first byte of a query, not from the last one, so that a trickle does not hold the connection.
    let cancel = this.clock.after(TCP_IDLE_MS, () => socket.destroy())
    socket.on('close', () => cancel())
    const send = (answer: Buffer | undefined): boolean => {
      if (!answer || socket.destroyed || socket.writableLength > TCP_PENDING_BYTES_MAX) {
        socket.destroy()
        return false
      }
      const prefix = Buffer.alloc(2)
      prefix.writeUInt16BE(answer.length)
      socket.write(Buffer.concat([prefix, answer]))
      cancel()
      cancel = this.clock.after(TCP_IDLE_MS, () => socket.destroy())
      return true
    }
    let pending = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk])
      while (pending.length >= 2) {
        const length = pending.readUInt16BE(0)
        if (length > QUERY_BYTES_MAX) return socket.destroy()
        if (pending.length < 2 + length) return undefined
        // It may have to wait, and the bytes it came in do not.
        const answer = this.answer(Buffer.from(pending.subarray(2, 2 + length)), from, 'tcp')
        pending = pending.subarray(2 + length)
        if (answer instanceof Promise) void answer.then(send)
        else if (!send(answer)) return undefined
      }
      return undefined
    })
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const url = new URL(request.url ?? '/', 'http://resolver')
      const index = /^\/v1\/views\/(\d{1,4})$/.exec(url.pathname)?.[1]
      if (url.pathname === '/v1/views' && request.method === 'GET') {
        const views = [...this.views].map(([at, { version }]) => [at, version])
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ views }))
      } else if (index !== undefined && request.method === 'PUT') {
        const version = url.searchParams.get('version') ?? ''
        if (version.length > VERSION_CHARS_MAX || Number(index) >= VIEWS_MAX)
          throw new TypeError('No such view can be')
        const body = await readRequest(request, VIEW_BYTES_MAX)
        if (!body) throw new RangeError(`A view has more than ${VIEW_BYTES_MAX} bytes`)
        const view = parseView(Number(index), JSON.parse(body.toString('utf8')))
        this.views.set(Number(index), { version, view })
        response.writeHead(204).end()
      } else if (index !== undefined && request.method === 'DELETE') {
        this.views.delete(Number(index))
        response.writeHead(204).end()
      } else response.writeHead(404).end()
    } catch (error) {
      this.log.warn('refused a view', { error })
      response.writeHead(400).end(error instanceof Error ? error.message.slice(0, 1_000) : '')
    }
  }
}

function isRoot(socket: Socket): boolean {
  try {
    return peerCredentials(socket).uid === 0
  } catch {
    return false
  }
}
