import { type ClientRequest, type IncomingMessage, request as httpRequest, ServerResponse } from 'node:http'
import { constants, Http2ServerRequest } from 'node:http2'
import { connect as connectSocket, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { AnswerListener, Asking, AskingEnd } from '../link/index.ts'
import type { Clock } from '../stdx/index.ts'
import type { ApiError } from '../api/index.ts'
import { AUDIT_NOTE_HEADER, COST_HEADER } from '../identity/index.ts'
import { type Answer, breakOff, sendStatus, writeChunk, writeHead } from './answers.ts'
import type { Links, Way } from './links.ts'
import { type HeaderMap, headersNamed, planResponseHeaders } from './headers.ts'
import { ANSWER_MS_MAX, CLOSE_MS_MAX, UPSTREAM_HEAD_BYTES_MAX } from './limits.ts'
import { bodyBrokenOff, bodyTooLarge, controlPlaneTooSlow, controlPlaneUnavailable } from './refusals.ts'

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

/** The client has sent the whole of its request. RFC 9113, 5.1. */
const HALF_CLOSED = constants.NGHTTP2_STREAM_STATE_HALF_CLOSED_REMOTE

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

/** What `proxyRequest` needs to know and to tell. */
export type RequestPassage = Passage & {
  links: Links
  way: Way
  /** The client waits to be told that its body may come. */
  expects: boolean
  hasBody: boolean
  bodyBytesMax: number
  receiveMsMax: number
  /** So many bytes have been read from the client, or come for it. */
  onBytes: (bytes: number) => void
  /** What it took of the control plane's processor, also when the client has left before it was told. */
  onCost: (costMs: number) => void
  /** The answer's first byte is on its way to the client. `note` is for the audit log. */
  onStart: (note: string | undefined) => void
  onRefusal: (error: ApiError, cause?: unknown) => void
}

/**
 * Passes a request on and its answer back, both as they come and no faster than the other side takes them. Resolves
 * when the answer is over, whoever ended it.
 */
export async function proxyRequest(
  request: IncomingMessage | Http2ServerRequest,
  answer: Answer,
  passage: RequestPassage,
): Promise<void> {
  const passing = new Passing(request, answer, passage)
  const { links, way } = passage
  try {
    passing.ask(links.known(way) ?? (await links.open(way)))
  } catch (error) {
    passing.refuse(controlPlaneUnavailable, error)
  }
  await passing.over
}

/** One request on its way through, and its answer on the way back. */
class Passing implements AnswerListener {
  readonly over: Promise<void>
  private readonly request: IncomingMessage | Http2ServerRequest
  private readonly answer: Answer
  private readonly passage: RequestPassage
  private readonly cancels: (() => void)[] = []
  private readonly cancelAnswer: () => void
  private asking: Asking | undefined
  private isOver = false
  /** Of an answer that says how long it is. */
  private bytesLeft: number | undefined

  constructor(request: IncomingMessage | Http2ServerRequest, answer: Answer, passage: RequestPassage) {
    this.request = request
    this.answer = answer
    this.passage = passage
    const over = Promise.withResolvers<void>()
    this.over = over.promise
    answer.once('close', () => {
      this.isOver = true
      for (const cancel of this.cancels) cancel()
      this.asking?.cancel()
      over.resolve()
    })
    const { clock, lastsMsMax } = passage
    this.cancelAnswer = clock.after(ANSWER_MS_MAX, () => this.refuse(controlPlaneTooSlow))
    this.cancels.push(
      this.cancelAnswer,
      clock.after(lastsMsMax, () => this.end()),
    )
  }

  ask(link: AskingEnd): void {
    if (this.isOver || this.answer.writableEnded) return
    const { method, path, headers, hasBody, expects, clock, receiveMsMax } = this.passage
    this.asking = link.ask({ method, path, headers: pairsOf(headers), hasBody }, this)
    if (!hasBody) return
    if (expects) this.answer.writeContinue()
    const { request } = this
    this.cancels.push(
      clock.after(receiveMsMax, () => !request.readableEnded && this.refuse(controlPlaneTooSlow)),
    )
    let bytes = 0
    const { bodyBytesMax, onBytes } = this.passage
    request.on('data', (chunk: Buffer) => {
      onBytes(chunk.length)
      bytes += chunk.length
      if (bytes <= bodyBytesMax) {
        if (!this.asking?.write(chunk)) request.pause()
      } else if (bytes - chunk.length <= bodyBytesMax) {
        // What follows is read and thrown away until the connection is closed, which the answer announces.
        this.refuse(bodyTooLarge(bodyBytesMax))
      }
    })
    request.on('end', () => {
      if (!(request instanceof Http2ServerRequest) || String(bytes) === headers['content-length'])
        return this.asking?.end()
      // A stream that its client resets ends as a whole one does; a moment later its state tells the two apart.
      setImmediate(() => {
        if (request.stream.state.state === HALF_CLOSED) this.asking?.end()
        else this.refuse(bodyBrokenOff)
      })
    })
  }

  onHead(code: number, headers: readonly string[]): void {
    this.cancelAnswer()
    const { answer, request, passage } = this
    if (answer.headersSent || answer.writableEnded) return this.leave()
    const { requestId, method, path, onCost, onStart } = passage
    const { length, note, costMs } = parseTold(headers)
    onCost(costMs)
    const planned = planResponseHeaders(headers, { requestId, contentLength: length, path })
    this.bytesLeft =
      method === 'HEAD' || code === 204 || code === 304 ? 0 : parseLength(planned['content-length'])
    writeHead(answer, code, planned)
    // A watch that has nothing to say yet must still be known to have begun.
    if (answer instanceof ServerResponse) answer.flushHeaders()
    answer.on('drain', () => this.asking?.takenAll())
    // A control plane that answers before it has read everything must not block the client.
    if (passage.hasBody) request.resume()
    onStart(note)
  }

  onLateHead(headers: readonly string[]): void {
    this.passage.onCost(parseTold(headers).costMs)
  }

  onPiece(piece: Buffer): boolean {
    this.passage.onBytes(piece.length)
    if (this.bytesLeft !== undefined) {
      this.bytesLeft -= piece.length
      // On HTTP/1.1 the client would take what is too much for the next answer.
      if (this.bytesLeft < 0) {
        this.leave()
        breakOff(this.answer)
        return true
      }
    }
    return writeChunk(this.answer, piece)
  }

  onEnd(): void {
    if (this.bytesLeft !== undefined && this.bytesLeft > 0) breakOff(this.answer)
    else this.answer.end()
    this.request.resume()
  }

  onBreak(cause: Error): void {
    if (!this.answer.writableEnded) this.refuse(controlPlaneUnavailable, cause)
  }

  onDrain(): void {
    this.request.resume()
  }

  refuse(error: ApiError, cause?: unknown): void {
    this.leave()
    if (this.isOver) return
    const { answer, passage } = this
    const { requestId, hasBody, onRefusal } = passage
    onRefusal(error, cause)
    if (answer.headersSent) breakOff(answer)
    else sendStatus(answer, error, { requestId, close: hasBody })
  }

  /** It has lasted as long as it may. */
  private end(): void {
    this.leave()
    const { answer, passage } = this
    if (!answer.headersSent) return this.refuse(controlPlaneTooSlow)
    answer.end()
    // A client that reads nothing would keep its place for ever.
    this.cancels.push(passage.clock.after(CLOSE_MS_MAX, () => breakOff(answer)))
  }

  /** Nothing of the control plane's is waited for any more, and nothing of the client's is kept from coming. */
  private leave(): void {
    this.asking?.cancel()
    if (this.passage.hasBody) this.request.resume()
  }
}

/** What an answer's head says to us, and not to the client. A control plane that says nonsense says nothing. */
function parseTold(headers: readonly string[]): {
  length: string | undefined
  note: string | undefined
  costMs: number
} {
  const told = (wanted: string) => headersNamed(headers, wanted)[0]
  const cost = told(COST_HEADER)
  return {
    length: told('content-length'),
    note: told(AUDIT_NOTE_HEADER),
    costMs: cost !== undefined && /^\d{1,9}$/.test(cost) ? Number(cost) : 0,
  }
}

function parseLength(length: string | string[] | undefined): number | undefined {
  return typeof length === 'string' ? Number(length) : undefined
}

function pairsOf(headers: HeaderMap): string[] {
  return Object.entries(headers).flatMap(([name, value]) => [value].flat().flatMap((each) => [name, each]))
}

function toldIn({ rawHeaders }: IncomingMessage, header: string): string | undefined {
  return headersNamed(rawHeaders, header)[0]
}

/** Passes on what answers an upgrade without switching protocols. */
function pass(from: IncomingMessage, answer: Answer, requestId: string): void {
  const code = from.statusCode ?? 0
  // 1xx never comes as a response; anything else outside is not HTTP.
  if (code < 200 || code > 599) {
    from.destroy()
    return sendStatus(answer, controlPlaneUnavailable, { requestId })
  }
  const contentLength = toldIn(from, 'content-length')
  writeHead(answer, code, planResponseHeaders(from.rawHeaders, { requestId, contentLength }))
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
    const { method, path, headers } = passage
    upstream = httpRequest({
      createConnection: () => upstreamSocket,
      method,
      path,
      headers,
      setHost: false,
      maxHeaderSize: UPSTREAM_HEAD_BYTES_MAX,
    })
    // Every header in an answer counts; those that pass are chosen by us.
    upstream.maxHeadersCount = 0
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
