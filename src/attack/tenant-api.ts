import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { Agent, request } from 'undici'
import { WebSocket } from 'ws'
import { once } from 'node:events'
import { ANSWER_BYTES_MAX, RAW_MS_MAX, RAW_SILENCE_MS, REQUEST_MS_MAX } from './limits.ts'

export type Credential = { certificate: string; key: string; ca: string }

/** Who a connection says that it is: by certificate, by token in every request, or nobody. */
export type Identity = { certificate: Credential } | { token: string } | 'nobody'

export type ApiAnswer = {
  code: number
  body: string
  headers: Record<string, string | string[] | undefined>
}

export type RequestOptions = {
  method?: string
  headers?: Record<string, string | string[]>
  /** Objects are sent as JSON. */
  body?: string | Uint8Array | object
  /** Instead of `application/json`. */
  type?: string
}

/** Speaks with the gateway over one identity, in every way that HTTP allows and in some that it does not. */
export class TenantApi implements AsyncDisposable {
  readonly origin: string
  private readonly ca: string
  private readonly identity: Identity
  private readonly heard: (text: string) => void
  private readonly agent: Agent
  private readonly open = new Set<{ destroy(): void }>()

  constructor({
    origin,
    ca,
    identity,
    heard = () => {},
  }: {
    origin: string
    ca: string
    identity: Identity
    /** Hears every byte that comes back. */
    heard?: (text: string) => void
  }) {
    this.origin = origin
    this.ca = ca
    this.identity = identity
    this.heard = heard
    // HTTP/2 has tries of its own.
    this.agent = new Agent({ connect: this.tls(), pipelining: 1, allowH2: false })
  }

  /** An HTTP/1.1 request. `path` goes out as it is, however odd. */
  async request(path: string, options: RequestOptions = {}): Promise<ApiAnswer> {
    const { method = 'GET', headers = {}, body, type } = options
    const answer = await this.agent.request({
      origin: this.origin,
      path,
      method,
      headers: {
        accept: 'application/json',
        ...this.authorization(),
        ...(body === undefined ? {} : { 'content-type': type ?? 'application/json' }),
        ...headers,
      },
      body:
        body === undefined
          ? null
          : typeof body === 'string' || body instanceof Uint8Array
            ? body
            : JSON.stringify(body),
      signal: AbortSignal.timeout(REQUEST_MS_MAX),
    })
    let text = ''
    for await (const chunk of answer.body) {
      text += String(chunk)
      if (text.length > ANSWER_BYTES_MAX) break
    }
    this.heard(text)
    this.heard(JSON.stringify(answer.headers))
    return { code: answer.statusCode, body: text, headers: answer.headers }
  }

  /** Reads a stream, such as a watch, for a while. */
  async listen(path: string, ms: number, headers: Record<string, string> = {}): Promise<ApiAnswer> {
    const stop = AbortSignal.timeout(ms)
    let answer: Awaited<ReturnType<typeof request>> | undefined
    let text = ''
    try {
      answer = await this.agent.request({
        origin: this.origin,
        path,
        method: 'GET',
        headers: { accept: 'application/json', ...this.authorization(), ...headers },
        signal: stop,
      })
      for await (const chunk of answer.body) {
        text += String(chunk)
        if (text.length > ANSWER_BYTES_MAX) break
      }
    } catch (error) {
      if (!stop.aborted) throw error
    }
    this.heard(text)
    return { code: answer?.statusCode ?? 0, body: text, headers: answer?.headers ?? {} }
  }

  /** A TLS connection for bytes of one's own making. */
  async socket(alpn: readonly string[] = ['http/1.1']): Promise<TLSSocket> {
    const url = new URL(this.origin)
    const socket = connectTls({
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: Number(url.port),
      ALPNProtocols: [...alpn],
      ...this.tls(),
    })
    this.keep(socket)
    socket.on('error', () => {})
    await once(socket, 'secureConnect', { signal: AbortSignal.timeout(REQUEST_MS_MAX) })
    return socket
  }

  /** Sends bytes and returns everything that comes until the other side closes or says nothing for a while. */
  async raw(bytes: string | Uint8Array): Promise<string> {
    const socket = await this.socket()
    const { promise, resolve } = Promise.withResolvers<void>()
    const chunks: Buffer[] = []
    let size = 0
    let silence = setTimeout(resolve, RAW_SILENCE_MS * 2)
    const end = setTimeout(resolve, RAW_MS_MAX)
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      size += chunk.length
      clearTimeout(silence)
      silence = setTimeout(resolve, RAW_SILENCE_MS)
      if (size > ANSWER_BYTES_MAX) resolve()
    })
    socket.once('close', () => resolve())
    socket.write(bytes)
    await promise
    clearTimeout(silence)
    clearTimeout(end)
    socket.destroy()
    const text = Buffer.concat(chunks).toString('latin1')
    this.heard(text)
    return text
  }

  /** As `request`, written by hand: no client library has a say in the headers. */
  async write(
    path: string,
    {
      method = 'GET',
      headers = {},
      body,
    }: { method?: string; headers?: Record<string, string | string[]>; body?: object } = {},
  ): Promise<ApiAnswer> {
    const text = body === undefined ? '' : JSON.stringify(body)
    const fields = {
      host: 'x',
      connection: 'close',
      accept: 'application/json',
      ...this.authorization(),
      ...(body === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)) }),
      ...headers,
    }
    const lines = Object.entries(fields).flatMap(([name, value]) =>
      [value].flat().map((one) => `${name}: ${one}\r\n`),
    )
    return parseRaw(await this.raw(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${text}`))
  }

  async http2(): Promise<ClientHttp2Session> {
    const session = connectHttp2(this.origin, this.tls())
    session.on('error', () => {})
    this.keep(session)
    await once(session, 'connect', { signal: AbortSignal.timeout(REQUEST_MS_MAX) })
    return session
  }

  /** One HTTP/2 request; pseudo headers may be overridden. Code 0: the stream or the session was ended instead. */
  async ask2(
    session: ClientHttp2Session,
    headers: Record<string, string | string[]>,
    body?: string,
  ): Promise<ApiAnswer> {
    const { promise, resolve } = Promise.withResolvers<ApiAnswer>()
    let code = 0
    let text = ''
    let answered: Record<string, string | string[] | undefined> = {}
    try {
      const stream = session.request(
        { accept: 'application/json', ...this.authorization(), ...headers },
        { endStream: body === undefined },
      )
      stream.setEncoding('utf8')
      stream.setTimeout(REQUEST_MS_MAX, () => stream.close())
      stream.on('response', (got) => {
        code = Number(got[':status'])
        answered = got as typeof answered
      })
      stream.on('data', (chunk: string) => {
        if (text.length < ANSWER_BYTES_MAX) text += chunk
      })
      stream.on('error', (error) => {
        text += ` ${error.message}`
      })
      stream.on('close', () => resolve({ code, body: text, headers: answered }))
      if (body !== undefined) stream.end(body)
    } catch (error) {
      // Node itself refuses to send some of what we would like to.
      resolve({ code: 0, body: error instanceof Error ? error.message : String(error), headers: {} })
    }
    const answer = await promise
    this.heard(answer.body)
    return answer
  }

  websocket(path: string, protocols: readonly string[], headers: Record<string, string> = {}): WebSocket {
    const socket = new WebSocket(`${this.origin.replace(/^http/, 'ws')}${path}`, [...protocols], {
      ...this.tls(),
      headers: { ...this.authorization(), ...headers },
      handshakeTimeout: REQUEST_MS_MAX,
      maxPayload: ANSWER_BYTES_MAX,
      perMessageDeflate: false,
    })
    this.keep({ destroy: () => socket.terminate() })
    return socket
  }

  /** Tells how an upgrade ends: the code of the answer, 101 when it was agreed to, and what came over it at first. */
  async upgrade(
    path: string,
    protocols: readonly string[],
    headers: Record<string, string> = {},
  ): Promise<ApiAnswer> {
    const socket = this.websocket(path, protocols, headers)
    const { promise, resolve } = Promise.withResolvers<ApiAnswer>()
    let text = ''
    socket.on('unexpected-response', (_request, answer) => {
      answer.setEncoding('utf8')
      answer.on('data', (chunk: string) => (text += chunk))
      answer.on('close', () => resolve({ code: answer.statusCode ?? 0, body: text, headers: answer.headers }))
    })
    socket.on('open', () => setTimeout(() => resolve({ code: 101, body: text, headers: {} }), RAW_SILENCE_MS))
    socket.on('message', (data: Buffer) => (text += data.subarray(1).toString()))
    socket.on('error', (error) => resolve({ code: 0, body: error.message, headers: {} }))
    const answer = await promise
    socket.terminate()
    this.heard(answer.body)
    return answer
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const one of this.open) one.destroy()
    await this.agent.destroy()
  }

  private keep(one: { destroy(): void; once?(event: 'close', listener: () => void): unknown }): void {
    this.open.add(one)
    one.once?.('close', () => this.open.delete(one))
  }

  private authorization(): Record<string, string> {
    return typeof this.identity === 'object' && 'token' in this.identity
      ? { authorization: `Bearer ${this.identity.token}` }
      : {}
  }

  private tls() {
    const own =
      typeof this.identity === 'object' && 'certificate' in this.identity
        ? this.identity.certificate
        : undefined
    return {
      ca: this.ca,
      minVersion: 'TLSv1.3' as const,
      ...(own === undefined ? {} : { cert: own.certificate, key: own.key }),
    }
  }
}

/** The first answer in raw bytes; code 0 when the connection ended without one. */
export function parseRaw(text: string): ApiAnswer {
  const code = Number(/^HTTP\/1\.[01] (\d{3})/.exec(text)?.[1] ?? 0)
  return { code, body: text.slice(text.indexOf('\r\n\r\n') + 4), headers: {} }
}
