import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Duplex, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { ApiError, badRequest, internalError, isDnsLabel, notFound } from '../../api/index.ts'
import {
  ARGUMENTS_MAX,
  ARGUMENT_BYTES_MAX,
  isJailId,
  JAIL_BYTES_MAX,
  CLAIMED_VOLUME_BYTES_MAX,
  type ClaimId,
  isClaimId,
  parseClaimedVolume,
  parseJail,
  parseRoomRequest,
  parseTenantIngress,
  parseTenantNetwork,
  TENANT_INGRESS_BYTES_MAX,
  TENANT_NETWORK_BYTES_MAX,
  type Engine,
  type ExecOptions,
  type JailId,
  type LogOptions,
} from '../../jail/index.ts'
import { listenUnix, type Logger, peerCredentials, readRequest } from '../../stdx/index.ts'
import * as limits from './limits.ts'
import type { TenantPlacement } from './parts.ts'

const INT32_MAX = 2 ** 31 - 1

export type EngineServer = { close(): Promise<void> }

/**
 * Serves one tenant's engine on a unix socket. Only the uid of that tenant's control plane may speak on it, and the
 * tenant is the socket's: nothing in a request can choose another.
 * Requires: the directory of `socketPath` is there and only root can write to it.
 */
export async function serveEngine({
  socketPath,
  placement,
  engine,
  log,
}: {
  socketPath: string
  placement: TenantPlacement
  engine: Engine
  log: Logger
}): Promise<EngineServer> {
  const session = new TenantSession(placement, engine, log)
  const server = createServer({
    maxHeaderSize: limits.REQUEST_HEAD_BYTES_MAX,
    headersTimeout: limits.REQUEST_HEAD_TIMEOUT_MS,
    requestTimeout: limits.REQUEST_TIMEOUT_MS,
    keepAliveTimeout: limits.IDLE_CONNECTION_TIMEOUT_MS,
    connectionsCheckingInterval: limits.REQUEST_HEAD_TIMEOUT_MS,
  })
  server.maxConnections = limits.CONNECTIONS_MAX
  server.maxHeadersCount = 64
  const sockets = new Set<Duplex>()
  // Before HTTP sees the connection, so that a stranger's first byte is never parsed.
  server.prependListener('connection', (socket) => {
    let uid: number | undefined
    try {
      uid = peerCredentials(socket).uid
    } catch (error) {
      log.warn('the peer of a connection is unknown', { error })
    }
    if (uid === placement.controlPlaneUid) {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
      return
    }
    log.warn('refused a connection of a user that is not the control plane', {
      uid,
      controlPlaneUid: placement.controlPlaneUid,
    })
    socket.destroy()
  })
  server.on('request', (request, response) => {
    session.answer(request, response).catch((error: unknown) => {
      log.error('an answer could not be given', { error })
      response.destroy()
    })
  })
  server.on('upgrade', (request, socket, head) => {
    session.switchProtocol(request, socket, head).catch((error: unknown) => {
      log.error('a protocol could not be switched', { error })
      socket.destroy()
    })
  })
  server.on('connect', (_request, socket) => void socket.destroy())
  server.on('clientError', (_error, socket) => {
    if (socket.writable)
      socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
    else socket.destroy()
  })
  await listenUnix(server, { path: socketPath, uid: placement.controlPlaneUid, mode: 0o600 })
  return {
    async close() {
      const closed = Promise.withResolvers<void>()
      server.close(() => closed.resolve())
      session.close()
      for (const socket of sockets) socket.destroy()
      await closed.promise
    },
  }
}

type Route =
  | { kind: 'jails' | 'network' | 'ingress' | 'egress' | 'node' | 'usage' | 'volumes' }
  | { kind: 'volume'; claim: ClaimId }
  | { kind: 'jail' | 'portforward' | 'room'; id: JailId }
  | { kind: 'log' | 'exec' | 'attach'; id: JailId; container: string }

class TenantSession {
  private readonly placement: TenantPlacement
  private readonly engine: Engine
  private readonly log: Logger
  private readonly closing = new AbortController()
  private requests = 0
  private bodyBytes = 0

  constructor(placement: TenantPlacement, engine: Engine, log: Logger) {
    this.placement = placement
    this.engine = engine
    this.log = log
  }

  close(): void {
    this.closing.abort(new Error('The engine is shutting down'))
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController()
    // An unread body and a response that was never finished both end here; neither may end the process.
    request.on('error', () => {})
    response.on('error', () => {})
    response.on('close', () => gone.abort(new Error('The client went away')))
    const signal = AbortSignal.any([gone.signal, this.closing.signal])
    try {
      await this.route(request, response, signal)
    } catch (error) {
      if (gone.signal.aborted) return
      const refusal = this.refusalOf(error, request)
      if (response.headersSent) return void response.destroy()
      // What is left of a refused body is not worth reading, so the connection cannot be used again.
      if (!request.complete) response.setHeader('connection', 'close')
      sendJson(response, refusal.code, refusal.toStatus())
    }
  }

  private async route(
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    const { route, query } = parseTarget(request.url)
    const method = request.method ?? ''
    switch (route.kind) {
      case 'jails':
        requireMethod(method, ['GET'])
        if (flag(query, 'watch')) return await this.watch(response, signal)
        return await this.plain(response, async () => ({ items: await this.engine.list(signal) }))
      case 'jail': {
        requireMethod(method, ['PUT', 'DELETE'])
        if (method === 'PUT')
          return await this.plain(response, async () => {
            const jail = parseJail(await this.body(request, JAIL_BYTES_MAX), {
              tenant: this.placement.tenant,
            })
            if (jail.id !== route.id) throw badRequest('The id of the jail is not that of the path')
            return await this.engine.ensure(jail, signal)
          })
        const gracePeriodSeconds = integer(query, 'gracePeriodSeconds', 0, INT32_MAX)
        return await this.plain(
          response,
          async () => {
            await this.engine.remove(
              route.id,
              gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds },
              signal,
            )
            return undefined
          },
          202,
        )
      }
      case 'network':
        requireMethod(method, ['PUT'])
        return await this.plain(
          response,
          async () => {
            await this.engine.setNetwork(
              parseTenantNetwork(await this.body(request, TENANT_NETWORK_BYTES_MAX)),
              signal,
            )
            return undefined
          },
          204,
        )
      case 'ingress':
        requireMethod(method, ['PUT'])
        return await this.plain(response, async () =>
          this.engine.setIngress(
            parseTenantIngress(await this.body(request, TENANT_INGRESS_BYTES_MAX)),
            signal,
          ),
        )
      case 'egress':
        requireMethod(method, ['GET'])
        return await this.plain(response, async () => await this.engine.egress(signal))
      case 'volumes':
        requireMethod(method, ['GET'])
        return await this.plain(response, async () => ({ items: await this.engine.volumes(signal) }))
      case 'volume':
        requireMethod(method, ['PUT', 'DELETE'])
        if (method === 'PUT')
          return await this.plain(response, async () => {
            const volume = parseClaimedVolume(await this.body(request, CLAIMED_VOLUME_BYTES_MAX))
            if (volume.id !== route.claim) throw badRequest('The id of the volume is not that of the path')
            return await this.engine.ensureVolume(volume, signal)
          })
        return await this.plain(
          response,
          async () => {
            await this.engine.removeVolume(route.claim, signal)
            return undefined
          },
          204,
        )
      case 'room':
        requireMethod(method, ['PUT'])
        return await this.plain(response, async () => {
          const requests = parseRoomRequest(await this.body(request, limits.ROOM_REQUEST_BYTES_MAX))
          return await this.engine.reserve(route.id, requests, signal)
        })
      case 'usage':
        requireMethod(method, ['GET'])
        return await this.plain(response, async () => ({ items: await this.engine.usage(signal) }))
      case 'node':
        requireMethod(method, ['GET'])
        return await this.plain(response, async () => await this.engine.node(signal))
      case 'log':
        requireMethod(method, ['GET'])
        return await this.stream(
          response,
          await this.engine.logs(route.id, route.container, logOptions(query), signal),
        )
      case 'exec':
      case 'attach':
      case 'portforward':
        throw badRequest('This needs an "Upgrade" header')
      default:
        route satisfies never
    }
  }

  /** Runs one of a bounded number of requests and answers with what it returns. */
  private async plain(response: ServerResponse, work: () => Promise<unknown>, code = 200): Promise<void> {
    if (this.requests >= limits.REQUESTS_CONCURRENT_MAX)
      throw tooMany(`More than ${limits.REQUESTS_CONCURRENT_MAX} requests at once`)
    this.requests++
    try {
      const value = await work()
      if (value !== undefined) sendJson(response, code, value)
      else response.writeHead(code, code === 204 ? {} : { 'content-length': 0 }).end()
    } finally {
      this.requests--
    }
  }

  private async body(request: IncomingMessage, bytesMax: number): Promise<unknown> {
    const announced = Number(request.headers['content-length'] ?? bytesMax)
    if (announced > bytesMax) throw tooLarge(bytesMax)
    if (this.bodyBytes + announced > limits.REQUEST_BODIES_BYTES_MAX)
      throw tooMany(`More than ${limits.REQUEST_BODIES_BYTES_MAX} bytes of requests at once`)
    this.bodyBytes += announced
    try {
      const body = await readRequest(request, bytesMax)
      if (!body) throw tooLarge(bytesMax)
      return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body)) as unknown
    } catch (error) {
      if (error instanceof ApiError) throw error
      throw badRequest('The body is not JSON in UTF-8', error)
    } finally {
      this.bodyBytes -= announced
    }
  }

  private async watch(response: ServerResponse, signal: AbortSignal): Promise<void> {
    const events = this.engine.watch(signal)[Symbol.asyncIterator]()
    try {
      // The first event comes before the head, so that a refusal can still be told as one.
      let next = await events.next()
      response.writeHead(200, { 'content-type': 'application/x-ndjson' })
      for (; !next.done; next = await events.next()) {
        if (response.write(`${JSON.stringify(next.value)}\n`)) continue
        await drained(response, signal)
      }
      response.end()
    } finally {
      await events.return?.()
    }
  }

  private async stream(response: ServerResponse, body: Readable): Promise<void> {
    response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' })
    response.flushHeaders()
    await pipeline(body, response)
  }

  async switchProtocol(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const gone = new AbortController()
    socket.on('error', () => {})
    socket.on('close', () => gone.abort(new Error('The client went away')))
    try {
      const { route, query } = parseTarget(request.url)
      requireMethod(request.method ?? '', ['POST'])
      const protocol = route.kind === 'portforward' ? 'bulkhead-bytes' : 'bulkhead-frames'
      const stream = await this.open(route, query, AbortSignal.any([gone.signal, this.closing.signal]))
      if (request.headers.upgrade !== protocol) {
        stream.destroy()
        throw badRequest(`This needs "Upgrade: ${protocol}"`)
      }
      if (gone.signal.aborted) return void stream.destroy()
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: ${protocol}\r\n\r\n`)
      if (head.length > 0) socket.unshift(head)
      join(socket, stream)
    } catch (error) {
      if (gone.signal.aborted) return
      const refusal = this.refusalOf(error, request)
      const text = JSON.stringify(refusal.toStatus())
      socket.end(
        `HTTP/1.1 ${refusal.code} Refused\r\ncontent-type: application/json\r\n` +
          `content-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`,
        () => void socket.destroy(),
      )
    }
  }

  private async open(route: Route, query: URLSearchParams, signal: AbortSignal): Promise<Duplex> {
    switch (route.kind) {
      case 'exec':
        return await this.engine.exec(route.id, route.container, execOptions(query), signal)
      case 'attach':
        return await this.engine.attach(route.id, route.container, streamOptions(query), signal)
      case 'portforward': {
        const port = integer(query, 'port', 1, 65_535)
        if (port === undefined) throw badRequest('A "port" is needed')
        return await this.engine.portForward(route.id, port, signal)
      }
      default:
        throw badRequest('Nothing here speaks another protocol')
    }
  }

  private refusalOf(error: unknown, request: IncomingMessage): ApiError {
    const refusal = error instanceof ApiError ? error : internalError(error)
    const fields = { method: request.method, url: request.url?.split('?', 1)[0], ...refusal.log, error }
    if (refusal.code >= 500) this.log.error('a request failed', fields)
    return refusal
  }
}

function sendJson(response: ServerResponse, code: number, value: unknown): void {
  const body = Buffer.from(JSON.stringify(value))
  response.writeHead(code, { 'content-type': 'application/json', 'content-length': body.length }).end(body)
}

/** Both directions, each ending on its own. What one side has said reaches the other even when it closes right after. */
function join(a: Duplex, b: Duplex): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.on('error', () => void to.destroy())
    from.on('close', () => {
      if (!from.readableEnded || to.writableFinished) to.destroy()
      else to.once('finish', () => void to.destroy())
    })
    from.pipe(to)
  }
}

async function drained(response: ServerResponse, signal: AbortSignal): Promise<void> {
  const done = Promise.withResolvers<void>()
  const onAbort = () => done.resolve()
  response.once('drain', onAbort)
  response.once('close', onAbort)
  signal.addEventListener('abort', onAbort, { once: true })
  await done.promise
  response.off('drain', onAbort)
  response.off('close', onAbort)
  signal.removeEventListener('abort', onAbort)
}

function parseTarget(url: string | undefined): { route: Route; query: URLSearchParams } {
  const text = url ?? ''
  const cut = text.indexOf('?')
  const path = cut === -1 ? text : text.slice(0, cut)
  const query = new URLSearchParams(cut === -1 ? '' : text.slice(cut + 1))
  if (query.size > limits.QUERY_PARAMETERS_MAX)
    throw badRequest(`More than ${limits.QUERY_PARAMETERS_MAX} query parameters`)
  const route = parseRoute(path)
  if (!route) throw new ApiError('NotFound', 'the server could not find the requested resource')
  return { route, query }
}

/** Ids and names need no escaping, so a path with "%" is none of ours. */
function parseRoute(path: string): Route | undefined {
  if (path === '/v1/jails') return { kind: 'jails' }
  if (path === '/v1/network') return { kind: 'network' }
  if (path === '/v1/ingress') return { kind: 'ingress' }
  if (path === '/v1/egress') return { kind: 'egress' }
  if (path === '/v1/node') return { kind: 'node' }
  if (path === '/v1/usage') return { kind: 'usage' }
  if (path === '/v1/volumes') return { kind: 'volumes' }
  const claim = path.startsWith('/v1/volumes/') ? path.slice('/v1/volumes/'.length) : undefined
  if (claim !== undefined) return isClaimId(claim) ? { kind: 'volume', claim } : undefined
  const room = path.startsWith('/v1/room/') ? path.slice('/v1/room/'.length) : undefined
  if (room !== undefined) return isJailId(room) ? { kind: 'room', id: room } : undefined
  const [empty, version, jails, id, second, container, verb, ...rest] = path.split('/', 9)
  if (empty !== '' || version !== 'v1' || jails !== 'jails' || rest.length > 0) return undefined
  if (id === undefined || !isJailId(id)) return undefined
  if (second === undefined) return { kind: 'jail', id }
  if (second === 'portforward' && container === undefined) return { kind: 'portforward', id }
  if (second !== 'containers' || container === undefined || !isDnsLabel(container)) return undefined
  if (verb === 'log' || verb === 'exec' || verb === 'attach') return { kind: verb, id, container }
  return undefined
}

function requireMethod(method: string, allowed: readonly string[]): void {
  if (!allowed.includes(method))
    throw new ApiError('MethodNotAllowed', 'the server does not allow this method on the requested resource')
}

function flag(query: URLSearchParams, name: string): boolean {
  const value = query.get(name)
  if (value === null || value === 'false' || value === '0') return false
  if (value === 'true' || value === '1') return true
  throw badRequest(`"${name}" must be true or false`)
}

function integer(query: URLSearchParams, name: string, minimum: number, maximum: number): number | undefined {
  const value = query.get(name)
  if (value === null) return undefined
  const number = Number(value)
  if (!/^\d{1,16}$/.test(value) || number < minimum || number > maximum)
    throw badRequest(`"${name}" must be a whole number from ${minimum} to ${maximum}`)
  return number
}

function logOptions(query: URLSearchParams): LogOptions {
  const tailLines = integer(query, 'tailLines', 0, INT32_MAX)
  const sinceSeconds = integer(query, 'sinceSeconds', 1, INT32_MAX)
  const limitBytes = integer(query, 'limitBytes', 1, Number.MAX_SAFE_INTEGER)
  const sinceTime = query.get('sinceTime')
  if (sinceTime !== null && (sinceTime.length > 40 || Number.isNaN(Date.parse(sinceTime))))
    throw badRequest('"sinceTime" must be an RFC 3339 time')
  return {
    follow: flag(query, 'follow'),
    previous: flag(query, 'previous'),
    timestamps: flag(query, 'timestamps'),
    ...(tailLines === undefined ? {} : { tailLines }),
    ...(sinceSeconds === undefined ? {} : { sinceSeconds }),
    ...(limitBytes === undefined ? {} : { limitBytes }),
    ...(sinceTime === null ? {} : { sinceTime: new Date(sinceTime).toISOString() }),
  }
}

function streamOptions(query: URLSearchParams): Omit<ExecOptions, 'command'> {
  return {
    stdin: flag(query, 'stdin'),
    stdout: flag(query, 'stdout'),
    stderr: flag(query, 'stderr'),
    tty: flag(query, 'tty'),
  }
}

function execOptions(query: URLSearchParams): ExecOptions {
  const command = query.getAll('command')
  if (command.length === 0) throw badRequest('A "command" is needed')
  if (command.length > ARGUMENTS_MAX) throw badRequest(`A command has at most ${ARGUMENTS_MAX} words`)
  if (command.some((word) => word.includes('\0') || Buffer.byteLength(word) > ARGUMENT_BYTES_MAX))
    throw badRequest('A word of the command contains a NUL byte or is too long')
  return { ...streamOptions(query), command }
}

function tooMany(tell: string): ApiError {
  return new ApiError('TooManyRequests', tell, { details: { retryAfterSeconds: 1 } })
}

function tooLarge(bytesMax: number): ApiError {
  return new ApiError('RequestEntityTooLarge', `The body has more than ${bytesMax} bytes`)
}

/** The refusal for a jail that is not here. */
export function jailNotFound(id: JailId): ApiError {
  return notFound({ group: '', resource: 'pods', name: id })
}
