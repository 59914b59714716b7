import { request } from 'node:http'
import type { Duplex, Readable } from 'node:stream'
import { connect as secure } from 'node:tls'
import type { Clock } from '../stdx/index.ts'
import { POD_ANSWER_HEAD_BYTES_MAX, POD_ANSWER_MS_MAX } from './limits.ts'

/** What a client gets to see of a pod's headers: what its content is, and nothing that acts on the API's own address. */
const ANSWER_HEADERS: readonly string[] = [
  'cache-control',
  'content-encoding',
  'content-length',
  'content-type',
  'etag',
  'last-modified',
]

export type PodAnswer = { code: number; headers: Readonly<Record<string, string>>; stream: Readable }

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
  const socket = scheme === 'https' ? secure({ socket: connection, rejectUnauthorized: false }) : connection
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
    resolve({ code, headers: Object.fromEntries(shown), stream: answer })
  })
  asked.end(body)
  try {
    return await promise
  } finally {
    cancel()
  }
}
