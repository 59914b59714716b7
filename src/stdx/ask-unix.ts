import { type Agent, type IncomingMessage, request } from 'node:http'
import { readBounded } from './bounded-read.ts'

export type UnixQuestion = {
  socketPath: string
  /** GET when left out. */
  method?: string
  path: string
  /** Sent as JSON. */
  body?: string | Buffer
  headers?: Record<string, string>
  /** A connection for this question alone when left out. */
  agent?: Agent
  /** Ends it: there is no other limit of time. */
  signal: AbortSignal
  answerBytesMax: number
}

/**
 * Asks another of our processes over HTTP on a unix socket, and reads its answer whole whatever its status is.
 * @throws {TooLong} when the answer has more than `answerBytesMax` bytes: who was taken over could talk without end.
 */
export async function askUnix({
  socketPath,
  method = 'GET',
  path,
  body,
  headers,
  agent,
  signal,
  answerBytesMax,
}: UnixQuestion): Promise<{ code: number; body: Buffer }> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const outgoing = request({
    socketPath,
    method,
    path,
    agent: agent ?? false,
    signal,
    headers: {
      ...(body === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
      ...headers,
    },
  })
  outgoing.on('response', resolve)
  outgoing.on('error', reject)
  outgoing.end(body)
  const answer = await promise
  return { code: answer.statusCode ?? 0, body: await readBounded(answer, answerBytesMax) }
}
