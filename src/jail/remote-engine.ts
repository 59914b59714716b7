import { Agent, request, type ClientRequest, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import type { Duplex, Readable } from 'node:stream'
import { ApiError, STATUS_CODES, type StatusDetails, type StatusReason } from '../api/index.ts'
import { readBounded } from '../stdx/index.ts'
import type { Engine, ExecOptions, LogOptions, NodeFacts } from './engine.ts'
import type { EngineEvent, JailStatus } from './jail-status.ts'
import type { JailUsage } from './jail-usage.ts'
import type { ClaimedVolume } from './claimed-volume.ts'
import type { Jail } from './jail.ts'
import {
  ANSWER_BYTES_MAX,
  ENGINE_REQUEST_TIMEOUT_MS,
  ENGINE_SOCKETS_MAX,
  WATCH_LINE_BYTES_MAX,
} from './limits.ts'
import type { RoomRequest, RoomAnswer } from './room.ts'
import type { TenantEgress } from './egress.ts'
import type { IngressAnswer, TenantIngress } from './ingress.ts'
import type { TenantNetwork } from './tenant-network.ts'
import type { ClaimId, JailId } from './uid.ts'

const ERROR_BYTES_MAX = 64 * 1024
const EVENT_TYPES: readonly unknown[] = [
  'STATUS',
  'REMOVED',
  'EVENT',
  'SYNCED',
] satisfies EngineEvent['type'][]

class RequestFailed extends Error {
  readonly onReusedSocket: boolean
  constructor(onReusedSocket: boolean, cause: Error) {
    super('The machine that runs the pods does not answer', { cause })
    this.onReusedSocket = onReusedSocket
  }
}

/**
 * The engine at the other end of a unix socket: what a control plane holds. It keeps nothing, so it can be made
 * before the node agent listens. A watch that breaks is thrown to its reader, who starts another.
 */
export class RemoteEngine implements Engine {
  private readonly socketPath: string
  private readonly agent: Agent

  constructor({ socketPath }: { socketPath: string }) {
    this.socketPath = socketPath
    this.agent = new Agent({ keepAlive: true, maxSockets: ENGINE_SOCKETS_MAX, maxFreeSockets: 4 })
  }

  /** Closes idle connections; streams that are open stay open. */
  close(): void {
    this.agent.destroy()
  }

  async list(signal?: AbortSignal): Promise<JailStatus[]> {
    const answer = await this.json('GET', '/v1/jails', { signal })
    return (answer as { items: JailStatus[] }).items
  }

  async *watch(signal: AbortSignal): AsyncGenerator<EngineEvent, void, undefined> {
    const response = await this.send('GET', '/v1/jails?watch=1', { signal, streaming: true })
    try {
      for await (const line of lines(response)) yield parseEngineEvent(line)
    } catch (error) {
      if (!signal.aborted) throw asApiError(error)
    } finally {
      response.destroy()
    }
    if (!signal.aborted) throw new ApiError('ServiceUnavailable', 'The engine ended the watch')
  }

  async ensure(jail: Jail, signal?: AbortSignal): Promise<JailStatus> {
    return (await this.json('PUT', jailPath(jail.id), { signal, body: jail })) as JailStatus
  }

  async remove(
    id: JailId,
    { gracePeriodSeconds }: { gracePeriodSeconds?: number },
    signal?: AbortSignal,
  ): Promise<void> {
    const query = gracePeriodSeconds === undefined ? '' : `?gracePeriodSeconds=${gracePeriodSeconds}`
    await this.json('DELETE', `${jailPath(id)}${query}`, { signal })
  }

  async logs(id: JailId, container: string, options: LogOptions, signal?: AbortSignal): Promise<Readable> {
    const query = new URLSearchParams()
    for (const [name, value] of Object.entries(options))
      if (value !== undefined) query.set(name, String(value))
    return await this.send('GET', `${containerPath(id, container)}/log?${query}`, { signal, streaming: true })
  }

  async exec(id: JailId, container: string, options: ExecOptions, signal?: AbortSignal): Promise<Duplex> {
    const query = streamQuery(options)
    for (const word of options.command) query.append('command', word)
    return await this.upgrade(`${containerPath(id, container)}/exec?${query}`, 'bulkhead-frames', signal)
  }

  async attach(
    id: JailId,
    container: string,
    options: Omit<ExecOptions, 'command'>,
    signal?: AbortSignal,
  ): Promise<Duplex> {
    return await this.upgrade(
      `${containerPath(id, container)}/attach?${streamQuery(options)}`,
      'bulkhead-frames',
      signal,
    )
  }

  async portForward(id: JailId, port: number, signal?: AbortSignal): Promise<Duplex> {
    return await this.upgrade(`${jailPath(id)}/portforward?port=${port}`, 'bulkhead-bytes', signal)
  }

  async setNetwork(network: TenantNetwork, signal?: AbortSignal): Promise<void> {
    await this.json('PUT', '/v1/network', { signal, body: network })
  }

  async setIngress(ingress: TenantIngress, signal?: AbortSignal): Promise<IngressAnswer> {
    return (await this.json('PUT', '/v1/ingress', { signal, body: ingress })) as IngressAnswer
  }

  async egress(signal?: AbortSignal): Promise<TenantEgress> {
    return (await this.json('GET', '/v1/egress', { signal })) as TenantEgress
  }

  async volumes(signal?: AbortSignal): Promise<ClaimedVolume[]> {
    return ((await this.json('GET', '/v1/volumes', { signal })) as { items: ClaimedVolume[] }).items
  }

  async ensureVolume(volume: ClaimedVolume, signal?: AbortSignal): Promise<ClaimedVolume> {
    return (await this.json('PUT', volumePath(volume.id), { signal, body: volume })) as ClaimedVolume
  }

  async removeVolume(id: ClaimId, signal?: AbortSignal): Promise<void> {
    await this.json('DELETE', volumePath(id), { signal })
  }

  async reserve(id: JailId, requests: RoomRequest, signal?: AbortSignal): Promise<RoomAnswer> {
    return (await this.json('PUT', `/v1/room/${encodeURIComponent(id)}`, {
      signal,
      body: requests,
    })) as RoomAnswer
  }

  async usage(signal?: AbortSignal): Promise<JailUsage[]> {
    return ((await this.json('GET', '/v1/usage', { signal })) as { items: JailUsage[] }).items
  }

  async node(signal?: AbortSignal): Promise<NodeFacts> {
    return (await this.json('GET', '/v1/node', { signal })) as NodeFacts
  }

  private async json(
    method: string,
    path: string,
    { signal, body }: { signal: AbortSignal | undefined; body?: unknown },
  ): Promise<unknown> {
    const timeout = AbortSignal.timeout(ENGINE_REQUEST_TIMEOUT_MS)
    const both = signal ? AbortSignal.any([signal, timeout]) : timeout
    const response = await this.send(method, path, { signal: both, body })
    try {
      const bytes = await readBounded(response, ANSWER_BYTES_MAX)
      return bytes.length === 0 ? undefined : (JSON.parse(bytes.toString('utf8')) as unknown)
    } catch (error) {
      throw asApiError(error)
    }
  }

  /** Resolves with a successful answer's head; its body is the caller's to read or to destroy. */
  private async send(
    method: string,
    path: string,
    {
      signal,
      body,
      streaming = false,
    }: { signal?: AbortSignal | undefined; body?: unknown; streaming?: boolean },
  ): Promise<IncomingMessage> {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    const attempt = async (): Promise<IncomingMessage> => {
      const head = Promise.withResolvers<IncomingMessage>()
      const outgoing = request({
        socketPath: this.socketPath,
        method,
        path,
        // A stream keeps its connection as long as it lives, so it must not take one of the pool's few.
        agent: streaming ? false : this.agent,
        ...(signal ? { signal } : {}),
        headers: payload ? { 'content-type': 'application/json', 'content-length': payload.length } : {},
      })
      outgoing.on('response', head.resolve)
      outgoing.on('error', (cause) => head.reject(new RequestFailed(outgoing.reusedSocket, cause)))
      outgoing.end(payload)
      return await head.promise
    }
    const head = attempt().catch((error: unknown) => {
      // The other end may close an idle connection in the moment we take it up. Every request here may be repeated.
      if (error instanceof RequestFailed && error.onReusedSocket && !signal?.aborted) return attempt()
      throw error
    })
    return await this.succeeded(head)
  }

  private async upgrade(path: string, protocol: string, signal: AbortSignal | undefined): Promise<Duplex> {
    const head = Promise.withResolvers<{ response: IncomingMessage } | { socket: Duplex }>()
    const outgoing: ClientRequest = request({
      socketPath: this.socketPath,
      method: 'POST',
      path,
      // Each direction ends on its own: `sort` answers only after its input has ended.
      createConnection: () => connect({ path: this.socketPath, allowHalfOpen: true }),
      headers: { connection: 'Upgrade', upgrade: protocol },
    })
    const abort = () =>
      outgoing.destroy(signal?.reason instanceof Error ? signal.reason : new Error('Aborted'))
    if (signal?.aborted) abort()
    signal?.addEventListener('abort', abort, { once: true })
    outgoing.on('response', (response) => head.resolve({ response }))
    outgoing.on('error', head.reject)
    outgoing.on('upgrade', (_response, socket, first) => {
      if (first.length > 0) socket.unshift(first)
      socket.on('close', () => signal?.removeEventListener('abort', abort))
      signal?.addEventListener('abort', () => socket.destroy(), { once: true })
      // Without a listener an error between now and the caller's own listener would end the process.
      socket.on('error', () => {})
      head.resolve({ socket })
    })
    outgoing.end()
    const answer = await head.promise.catch((error: unknown) => Promise.reject(asApiError(error)))
    if ('socket' in answer) return answer.socket
    try {
      await this.succeeded(Promise.resolve(answer.response))
    } finally {
      outgoing.destroy()
    }
    throw new ApiError('InternalError', `The engine did not switch to "${protocol}"`)
  }

  private async succeeded(head: Promise<IncomingMessage>): Promise<IncomingMessage> {
    let response: IncomingMessage
    try {
      response = await head
      if ((response.statusCode ?? 0) >= 200 && (response.statusCode ?? 0) < 300) return response
      const bytes = await readBounded(response, ERROR_BYTES_MAX)
      throw decodeStatus(bytes, response.statusCode ?? 0)
    } catch (error) {
      throw asApiError(error)
    }
  }
}

function jailPath(id: JailId): string {
  return `/v1/jails/${encodeURIComponent(id)}`
}

function volumePath(id: ClaimId): string {
  return `/v1/volumes/${encodeURIComponent(id)}`
}

function containerPath(id: JailId, container: string): string {
  return `${jailPath(id)}/containers/${encodeURIComponent(container)}`
}

function streamQuery({ stdin, stdout, stderr, tty }: Omit<ExecOptions, 'command'>): URLSearchParams {
  return new URLSearchParams({
    stdin: String(stdin),
    stdout: String(stdout),
    stderr: String(stderr),
    tty: String(tty),
  })
}

/** As text: a watch that waits for days would otherwise hold the pool of buffers that its last line came from. */
async function* lines(response: IncomingMessage): AsyncGenerator<string, void, undefined> {
  let pending: Buffer[] = []
  let pendingBytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    let from = 0
    for (let end = chunk.indexOf(0x0a); end !== -1; end = chunk.indexOf(0x0a, from)) {
      yield Buffer.concat([...pending, chunk.subarray(from, end)]).toString('utf8')
      pending = []
      pendingBytes = 0
      from = end + 1
    }
    const rest = chunk.subarray(from)
    pendingBytes += rest.length
    if (pendingBytes > WATCH_LINE_BYTES_MAX)
      throw new RangeError(`A line of the engine's watch has more than ${WATCH_LINE_BYTES_MAX} bytes`)
    if (rest.length > 0) pending.push(rest)
  }
}

function parseEngineEvent(line: string): EngineEvent {
  const event: unknown = JSON.parse(line)
  if (typeof event !== 'object' || event === null || !('type' in event) || !EVENT_TYPES.includes(event.type))
    throw new TypeError('The engine sent an event of an unknown type')
  // The engine runs with more power than we do, so beyond the kind of event there is nothing to defend here.
  return event as EngineEvent
}

function decodeStatus(bytes: Buffer, code: number): ApiError {
  try {
    const status = JSON.parse(bytes.toString('utf8')) as {
      reason?: unknown
      message?: unknown
      details?: StatusDetails
    }
    if (
      typeof status.reason === 'string' &&
      Object.hasOwn(STATUS_CODES, status.reason) &&
      typeof status.message === 'string'
    )
      return new ApiError(status.reason as StatusReason, status.message, {
        code,
        ...(status.details ? { details: status.details } : {}),
      })
  } catch {
    // Not ours; told below.
  }
  return new ApiError('InternalError', 'Internal error occurred', { log: { engineAnswered: code } })
}

function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  return new ApiError('ServiceUnavailable', 'The engine of this cluster does not answer', { cause: error })
}
