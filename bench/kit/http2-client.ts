import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2'
import type { Credentials } from '../../src/cli/index.ts'

export type Answer = { code: number; bytes: number; text: string }
export type Ask = { method: string; path: string; type?: string; accept?: string; body?: string }

/** The same client for every server: HTTP/2 over TLS with a client certificate, on a few connections that stay. */
export class Http2Client implements Disposable {
  private readonly sessions: ClientHttp2Session[]
  private readonly prefix: string
  private next = 0

  constructor({ server, ca, certificate, key }: Credentials, connections: number) {
    const { origin, pathname } = new URL(server)
    this.prefix = pathname === '/' ? '' : pathname
    this.sessions = Array.from({ length: connections }, () => {
      const session = connect(origin, {
        ca,
        cert: certificate,
        key,
        settings: { initialWindowSize: 2 ** 20 },
      })
      session.on('connect', () => session.setLocalWindowSize(2 ** 24))
      return session
    })
  }

  /** Opens a stream; whoever asks reads it. */
  open({ method, path, type, accept, body }: Ask): ClientHttp2Stream {
    const session = this.sessions[this.next++ % this.sessions.length]
    if (!session || session.closed) throw new Error('A connection of the client has ended')
    const stream = session.request(
      {
        ':method': method,
        ':path': this.prefix + path,
        accept: accept ?? 'application/json',
        ...(body === undefined
          ? {}
          : { 'content-type': type ?? 'application/json', 'content-length': Buffer.byteLength(body) }),
      },
      { endStream: body === undefined },
    )
    if (body !== undefined) stream.end(body)
    return stream
  }

  /** One request and its whole answer; the text is kept for small ones only. */
  ask(asked: Ask): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const stream = this.open(asked)
      let [code, bytes] = [0, 0]
      const chunks: Buffer[] = []
      stream.on('response', (headers) => (code = headers[':status'] ?? 0))
      stream.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes < 2 ** 16) chunks.push(chunk)
      })
      stream.on('error', reject)
      stream.on('end', () => resolve({ code, bytes, text: Buffer.concat(chunks).toString() }))
    })
  }

  [Symbol.dispose](): void {
    for (const session of this.sessions) session.destroy()
  }
}
