import { type ClientRequest, type IncomingMessage, request as httpRequest, ServerResponse } from 'node:http'
import type { Http2ServerRequest } from 'node:http2'
import { connect as connectSocket, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Clock } from '../stdx/index.ts'
import type { ApiError } from '../api/index.ts'
import { AUDIT_NOTE_HEADER, COST_HEADER } from '../identity/index.ts'
import { type Answer, breakOff, sendStatus, writeChunk, writeHead } from './answers.ts'
import type { Caller, Connections } from './connections.ts'
import { type HeaderMap, headerPairs, planResponseHeaders } from './headers.ts'
import { ANSWER_MS_MAX, CLOSE_MS_MAX, UPSTREAM_HEAD_BYTES_MAX } from './limits.ts'
import { bodyTooLarge, controlPlaneTooSlow, controlPlaneUnavailable } from './refusals.ts'

/** A request that may pass, and where it goes. */
export type Passage = {
  method: string
  path: string
  headers: HeaderMap
  requestId: string
  clock: Clock
  /** When it has to be over, in milliseconds from now. */
  lastsMsMax: number
}

/** So often a control plane that was just woken may have fallen asleep again, or have been removed. */
const WAKES_MAX = 3

/**
 * Connects to a control plane. One that sleeps has no socket: it is woken first, if `wake` is there to do so.
 * @throws when there is none, or it cannot be woken.
 */
export async function reach(socketPath: string, wake?: () => Promise<void>): Promise<Socket> {
  for (let wakes = 0; ; wakes++) {
    try {
      return await connected(socketPath)
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException
      if (!wake || wakes >= WAKES_MAX || !['ENOENT', 'ECONNREFUSED'].includes(code)) throw error
    }
    await wake()
  }
}

function connected(path: string): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>()
  const socket = connectSocket({ path })
  // It stays: between now and the request, an error without a listener would end the process.
  socket.on('error', reject)
  socket.once('connect', () => resolve(socket))
  return promise
}

function send(
  { method, path, headers }: Passage,
  way: { agent: Connections; caller: Caller } | { createConnection: () => Socket },
): ClientRequest {
  const upstream = httpRequest({
    ...way,
    method,
    path,
    headers,
    setHost: false,
    maxHeaderSize: UPSTREAM_HEAD_BYTES_MAX,
  })
  // Every header in an answer counts; those that pass are chosen by us.
  upstream.maxHeadersCount = 0
  return upstream
}

/**
 * Passes a request on and its answer back, both as they come and no faster than the other side takes them. Resolves
 * when the answer is over, whoever ended it.
 */
export function proxyRequest(
  request: IncomingMessage | Http2ServerRequest,
  answer: Answer,
  passage: Passage & {
    connections: Connections
    caller: Caller
    /** The client waits to be told that its body may come. */
    expects: boolean
    hasBody: boolean
    bodyBytesMax: number
    receiveMsMax: number
    /** So many bytes have been read from the client, or come for it. */
    onBytes: (bytes: number) => void
    /** The answer's first byte is on its way to the client. `note` is for the audit log, `costMs` what it took. */
    onStart: (note: string | undefined, costMs: number) => void
    onRefusal: (error: ApiError, cause?: unknown) => void
  },
): Promise<void> {
  const { clock, requestId, hasBody, bodyBytesMax, receiveMsMax, lastsMsMax, onBytes, onStart, onRefusal } =
    passage
  const { connections: agent, caller, expects } = passage
  const over = Promise.withResolvers<void>()
  let upstream: ClientRequest
  const cancels: (() => void)[] = []
  const refuse = (error: ApiError, cause?: unknown) => {
    onRefusal(error, cause)
    upstream?.destroy()
    if (answer.headersSent) breakOff(answer)
    else sendStatus(answer, error, { requestId, close: hasBody })
  }
  answer.once('close', () => {
    for (const cancel of cancels) cancel()
    upstream?.destroy()
    over.resolve()
  })
  try {
    upstream = send(passage, { agent, caller })
  } catch (error) {
    // Node refuses to write a header that its parser let in.
    refuse(controlPlaneUnavailable, error)
    return over.promise
  }
  if (expects) upstream.once('socket', () => answer.headersSent || answer.writeContinue())
  const cancelAnswer = clock.after(ANSWER_MS_MAX, () => refuse(controlPlaneTooSlow))
  cancels.push(cancelAnswer)
  cancels.push(
    clock.after(lastsMsMax, () => {
      upstream.destroy()
      if (!answer.headersSent) return refuse(controlPlaneTooSlow)
      answer.end()
      // A client that reads nothing would keep its place for ever.
      cancels.push(clock.after(CLOSE_MS_MAX, () => breakOff(answer)))
    }),
  )
  upstream.on('error', (error) => {
    if (!answer.writableEnded) refuse(controlPlaneUnavailable, error)
  })
  upstream.on('response', (from: IncomingMessage) => {
    cancelAnswer()
    if (answer.headersSent || answer.writableEnded) return void from.destroy()
    from.on('data', (chunk: Buffer) => onBytes(chunk.length))
    pass(from, answer, requestId)
    onStart(toldIn(from, AUDIT_NOTE_HEADER), parseCost(toldIn(from, COST_HEADER)))
  })
  if (hasBody) {
    cancels.push(clock.after(receiveMsMax, () => !request.readableEnded && refuse(controlPlaneTooSlow)))
    request.on('data', (chunk: Buffer) => onBytes(chunk.length))
    upload(request, upstream, bodyBytesMax, () => refuse(bodyTooLarge(bodyBytesMax)))
  } else upstream.end()
  return over.promise
}

function toldIn({ rawHeaders }: IncomingMessage, header: string): string | undefined {
  return headerPairs(rawHeaders).find(([name]) => name === header)?.[1]
}

/** A control plane that says nonsense says nothing. */
function parseCost(text: string | undefined): number {
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : 0
}

function upload(
  request: IncomingMessage | Http2ServerRequest,
  upstream: ClientRequest,
  bytesMax: number,
  onTooLarge: () => void,
): void {
  let bytes = 0
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > bytesMax) {
      // What follows is read and thrown away until the connection is closed, which the answer announces.
      if (bytes - chunk.length <= bytesMax) onTooLarge()
    } else if (!upstream.destroyed && !upstream.write(chunk)) {
      request.pause()
    }
  })
  upstream.on('drain', () => request.resume())
  // A control plane that answers before it has read everything must not block the client.
  upstream.on('close', () => request.resume())
  request.on('end', () => {
    if (!upstream.destroyed) upstream.end()
  })
}

function pass(from: IncomingMessage, answer: Answer, requestId: string): void {
  const code = from.statusCode ?? 0
  // 1xx never comes as a response; anything else outside is not HTTP.
  if (code < 200 || code > 599) {
    from.destroy()
    return sendStatus(answer, controlPlaneUnavailable, { requestId })
  }
  const contentLength = headerPairs(from.rawHeaders).find(([name]) => name === 'content-length')?.[1]
  writeHead(answer, code, planResponseHeaders(from.rawHeaders, { requestId, contentLength }))
  // A watch that has nothing to say yet must still be known to have begun.
  if (answer instanceof ServerResponse) answer.flushHeaders()
  from.on('data', (chunk: Buffer) => {
    if (!writeChunk(answer, chunk)) from.pause()
  })
  answer.on('drain', () => from.resume())
  from.on('end', () => answer.end())
  from.on('error', () => breakOff(answer))
  from.on('close', () => {
    if (!from.complete && !answer.writableEnded) breakOff(answer)
  })
}

/**
 * Passes an upgrade on. When the control plane agrees to just this protocol, the two connections become one; if it
 * answers anything else, that is the answer. Resolves when both are closed.
 */
export function proxyUpgrade(
  { socket, head, answer }: { socket: Duplex; head: Buffer; answer: Answer },
  passage: Passage & {
    /** A fresh connection to the control plane, see `reach`. */
    upstreamSocket: Socket
    upgrade: string
    /** The protocols are switched. */
    onStart: (code: number) => void
    /** What the control plane's policies note for the audit log; comes before anything else. */
    onNote: (note: string | undefined) => void
    onRefusal: (error: ApiError, cause?: unknown) => void
  },
): Promise<void> {
  const { clock, requestId, upstreamSocket, upgrade, lastsMsMax, onStart, onNote, onRefusal } = passage
  const over = Promise.withResolvers<void>()
  let upstream: ClientRequest
  const cancels: (() => void)[] = []
  const refuse = (error: ApiError, cause?: unknown) => {
    onRefusal(error, cause)
    upstream?.destroy()
    if (answer.headersSent) socket.destroy()
    else sendStatus(answer, error, { requestId, close: true })
  }
  socket.once('close', () => {
    for (const cancel of cancels) cancel()
    upstream?.destroy()
    over.resolve()
  })
  try {
    upstream = send(passage, { createConnection: () => upstreamSocket })
  } catch (error) {
    refuse(controlPlaneUnavailable, error)
    return over.promise
  }
  const cancelAnswer = clock.after(ANSWER_MS_MAX, () => refuse(controlPlaneTooSlow))
  cancels.push(
    cancelAnswer,
    clock.after(lastsMsMax, () => socket.destroy()),
  )
  upstream.on('error', (error) => {
    if (!answer.writableEnded) refuse(controlPlaneUnavailable, error)
  })
  upstream.on('response', (from: IncomingMessage) => {
    cancelAnswer()
    onNote(toldIn(from, AUDIT_NOTE_HEADER))
    pass(from, answer, requestId)
  })
  upstream.on('upgrade', (from: IncomingMessage, other: Duplex, otherHead: Buffer) => {
    cancelAnswer()
    if (from.headers.upgrade?.toLowerCase() !== upgrade.toLowerCase()) {
      other.destroy()
      return refuse(controlPlaneUnavailable, new Error('The control plane upgraded to another protocol'))
    }
    onNote(toldIn(from, AUDIT_NOTE_HEADER))
    const lines = Object.entries({
      connection: 'Upgrade',
      upgrade,
      ...planResponseHeaders(from.rawHeaders, { requestId, upgrade }),
    }).flatMap(([name, value]) => [value].flat().map((one) => `${name}: ${one}\r\n`))
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('')}\r\n`, 'latin1')
    if (otherHead.length > 0) socket.write(otherHead)
    if (head.length > 0) other.write(head)
    join(socket, other)
    onStart(101)
  })
  upstream.end()
  return over.promise
}

/** Bytes of one become bytes of the other; when one is gone, so is the other. */
function join(a: Duplex, b: Duplex): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.pipe(to)
    from.on('error', () => to.destroy())
    from.on('close', () => to.destroy())
  }
}
