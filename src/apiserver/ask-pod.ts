import { constants } from 'node:crypto'
import { type IncomingMessage, request } from 'node:http'
import { Duplex, type Readable, Transform } from 'node:stream'
import { connect as secure, DEFAULT_CIPHERS, type TLSSocket } from 'node:tls'
import type { Clock } from '../stdx/index.ts'
import {
  POD_ANSWER_CRUMB_BYTES_MAX,
  POD_ANSWER_CRUMBS_MAX,
  POD_ANSWER_HEAD_BYTES_MAX,
  POD_ANSWER_INTERIM_MAX,
  POD_ANSWER_MS_MAX,
  POD_HANDSHAKE_BYTES_MAX,
} from './limits.ts'

/** What a client gets to see of a pod's headers: what its content is, and nothing that acts on the API's own address. */
const ANSWER_HEADERS: readonly string[] = [
  'cache-control',
  'content-encoding',
  'content-length',
  'content-type',
  'etag',
  'last-modified',
]

/**
 * What a pod may make of TLS: it shares this processor with other tenants. With DHE it would choose the group, and one of
 * 10,000 bits takes a second to calculate with; with renegotiation it would ask for that again and again.
 */
const POD_TLS = {
  rejectUnauthorized: false,
  ciphers: `${DEFAULT_CIPHERS}:!kDHE`,
  secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
} as const

export type PodAnswer = {
  code: number
  headers: Readonly<Record<string, string>>
  stream: Readable
  /** Where it sends the reader, as it said so: a URL, as seen from the pod. */
  location?: string
}

export type PodQuestion = {
  scheme: 'http' | 'https'
  method: string
  /** With the query. */
  path: string
  headers: Readonly<Record<string, string>>
  body: Buffer | undefined
  signal: AbortSignal
}

/**
 * Asks a pod over a connection that leads to it, and nothing else afterwards. Owns the connection, also when it fails.
 * Certificates of pods are nobody's that could be checked, as upstream sees it too.
 * @throws when it does not answer in HTTP, in time.
 */
export async function askPod(
  connection: Duplex,
  { scheme, method, path, headers, body, signal }: PodQuestion,
  clock: Clock,
): Promise<PodAnswer> {
  connection.on('error', () => connection.destroy())
  const socket = scheme === 'https' ? secured(connection) : connection
  const { promise, resolve, reject } = Promise.withResolvers<PodAnswer>()
  const end = () => {
    socket.destroy()
    connection.destroy()
  }
  const fail = (error: Error) => {
    end()
    reject(error)
  }
  socket.on('error', fail)
  socket.once('close', () => fail(new Error('The connection to the pod ended')))
  const cancel = clock.after(POD_ANSWER_MS_MAX, () => fail(new Error('The pod did not answer in time')))
  const ask = () => {
    const asked = request({
      createConnection: () => socket,
      method,
      path,
      headers: {
        ...headers,
        ...(body === undefined ? {} : { 'content-length': body.length }),
        connection: 'close',
      },
      maxHeaderSize: POD_ANSWER_HEAD_BYTES_MAX,
      signal,
    })
    asked.on('error', fail)
    asked.once('upgrade', () => fail(new Error('The pod changed the protocol without being asked')))
    let interim = 0
    asked.on('information', () => {
      if (++interim > POD_ANSWER_INTERIM_MAX) fail(new Error('The pod promises an answer for ever'))
    })
    asked.once('response', (answer) => {
      cancel()
      answer.once('close', end)
      const code = answer.statusCode ?? 0
      // 1xx never comes as a response, and what is outside is not HTTP.
      if (code < 200 || code > 599) return fail(new Error(`The pod answered with the status ${code}`))
      const shown = ANSWER_HEADERS.flatMap((name) => {
        const value = answer.headers[name]
        return typeof value === 'string' ? [[name, value] as const] : []
      })
      breakOffCrumbs(answer)
      const { location } = answer.headers
      resolve({
        code,
        headers: Object.fromEntries(shown),
        stream: answer,
        ...(location === undefined ? {} : { location }),
      })
    })
    asked.end(body)
  }
  try {
    ask()
  } catch (error) {
    // Node writes no header with a line end, and the address in a pod's status is the tenant's to write. Somebody has to
    // wait for the promise also then: a rejection that nobody sees ends the process.
    fail(error as Error)
  }
  try {
    return await promise
  } finally {
    cancel()
  }
}

/**
 * OpenSSL looks at all certificates that a pod sends, also when nobody wants to know: some milliseconds for each whose key is as
 * long as can be, so there must not be many.
 */
function secured(connection: Duplex): TLSSocket {
  let left = POD_HANDSHAKE_BYTES_MAX
  const incoming = new Transform({
    transform(bytes: Buffer, _encoding, done) {
      left -= bytes.length
      if (left < 0) done(new Error('What the pod sends to begin TLS is too long'))
      else done(null, bytes)
    },
  })
  connection.pipe(incoming)
  const socket = secure({ socket: Duplex.from({ readable: incoming, writable: connection }), ...POD_TLS })
  socket.once('secureConnect', () => (left = Infinity))
  return socket
}

/** Every piece costs some time, however small it is: of those that are nothing else there is an end. */
function breakOffCrumbs(answer: IncomingMessage): void {
  let crumbs = 0
  // Whoever reads it later begins it.
  answer.pause()
  answer.on('data', ({ length }: Buffer) => {
    if (length <= POD_ANSWER_CRUMB_BYTES_MAX && ++crumbs > POD_ANSWER_CRUMBS_MAX)
      answer.destroy(new Error('The pod answers in pieces that are too small'))
  })
}
