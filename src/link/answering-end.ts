import { EventEmitter } from 'node:events'
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'
import type { Duplex } from 'node:stream'
import {
  type Frame,
  FrameReader,
  LinkBroken,
  renderCancel,
  renderCredit,
  renderHead,
  renderPiece,
  renderShared,
} from './frames.ts'
import {
  CREDIT_BYTES_MIN,
  EXCHANGES_MAX,
  FRAME_HEAD_BYTES,
  SHARED_EXCHANGES_MAX,
  UNREAD_BYTES_MAX,
  WINDOW_BYTES,
} from './limits.ts'
import { type Later, Outbox } from './outbox.ts'
import { Sending } from './sending.ts'

/** A request as whoever answers it sees it, whatever it came over. */
export interface Asked {
  readonly method?: string | undefined
  readonly url?: string | undefined
  readonly headers: IncomingHttpHeaders
  /** The whole body, empty when there is none; undefined when there is more. Rejects when it ends early. */
  readBody(bytesMax: number): Promise<Buffer | undefined>
  /** Nobody wants what is left of the body. */
  discardBody(bytesMax: number): void
}

/** Where an answer goes. A part of ServerResponse, which is one. */
export interface Answering {
  readonly headersSent: boolean
  /** It is over: nothing that is written goes anywhere. */
  readonly destroyed: boolean
  /** It is over because it ended. */
  readonly writableFinished: boolean
  /** What is written and not on its way. */
  readonly writableLength: number
  setHeader(name: string, value: string | readonly string[]): unknown
  writeHead(code: number, headers?: OutgoingHttpHeaders): unknown
  flushHeaders(): void
  /** False asks to wait for `drain`. The very same buffer for several answers travels once. */
  write(piece: string | Buffer): boolean
  end(piece?: string | Buffer): unknown
  /** Who asked has left: tells the headers that are set all the same. There is no such thing over HTTP/1.1. */
  tellLate?(): void
  /** Breaks it off: the client does not take what it has for the whole. */
  destroy(): unknown
  on(event: AnsweringEvent, listener: () => void): unknown
  once(event: AnsweringEvent, listener: () => void): unknown
  off(event: AnsweringEvent, listener: () => void): unknown
}
type AnsweringEvent = 'close' | 'drain' | 'error'

/** A piece that more exchanges may join until it is sent. */
class SharedPiece implements Later {
  readonly numbers: number[]
  readonly bytes: Buffer
  /** Where it stands among what has gathered. */
  readonly at: number

  constructor(number: number, bytes: Buffer, at: number) {
    this.numbers = [number]
    this.bytes = bytes
    this.at = at
  }

  render(): readonly Buffer[] {
    const [only = 0] = this.numbers
    return this.numbers.length === 1 ? renderPiece(only, this.bytes) : renderShared(this.numbers, this.bytes)
  }
}

/** The end of a link that answers: a control plane's. */
export class AnsweringEnd {
  private readonly stream: Duplex
  private readonly handle: (request: LinkRequest, answer: LinkAnswer) => void
  private readonly outbox: Outbox
  private readonly open = new Map<number, { request: LinkRequest; answer: LinkAnswer }>()
  private lastNumber = 0
  /** Of what has gathered: the pieces that can be shared, and how much there is. */
  private shared = new Map<Buffer, SharedPiece>()
  private gathered = 0
  private batch = 0

  constructor({
    stream,
    head,
    handle,
  }: {
    stream: Duplex
    head: Buffer
    handle: (request: LinkRequest, answer: LinkAnswer) => void
  }) {
    this.stream = stream
    this.handle = handle
    this.outbox = new Outbox(stream, () => {
      this.shared.clear()
      this.gathered = 0
      this.batch++
    })
    const reader = new FrameReader((frame) => this.take(frame))
    const read = (chunk: Buffer) => {
      try {
        if (!stream.destroyed) reader.read(chunk)
      } catch (error) {
        if (!(error instanceof LinkBroken)) throw error
        stream.destroy()
      }
      if (this.outbox.unreadBytes <= UNREAD_BYTES_MAX) return
      // The end that asks always reads, so this is over soon; if not, asking and leaving would fill our memory.
      stream.pause()
      stream.once('drain', () => stream.resume())
    }
    stream.on('data', read)
    stream.on('end', () => stream.destroy())
    stream.on('error', () => stream.destroy())
    stream.on('close', () => this.cancelAll())
    if (head.length > 0) read(head)
  }

  get exchanges(): number {
    return this.open.size
  }

  /** Sends what is written, and closes the link. Safe to repeat. */
  close(): void {
    this.outbox.flush()
    this.stream.end(() => this.stream.destroy())
    this.cancelAll()
  }

  private cancelAll(): void {
    const all = [...this.open.values()]
    this.open.clear()
    for (const { request, answer } of all) {
      request.cancelled()
      answer.cancelled()
    }
  }

  private take(frame: Frame): void {
    switch (frame.kind) {
      case 'request':
        return this.begin(frame)
      case 'piece':
        return this.find(frame.number)?.request.receive(frame.bytes, frame.last)
      case 'credit':
        return this.find(frame.number)?.answer.granted(frame.bytes)
      case 'cancel': {
        const exchange = this.find(frame.number)
        this.open.delete(frame.number)
        exchange?.request.cancelled()
        exchange?.answer.left()
        return
      }
      case 'answer':
      case 'shared':
        throw new LinkBroken('An answer came from the end that asks')
      default:
        frame satisfies never
    }
  }

  private begin({ number, last, texts }: Extract<Frame, { kind: 'request' }>): void {
    // A number is never used twice, so what comes late for one exchange can never be another's.
    if (number <= this.lastNumber) throw new LinkBroken('A request has a number that was used before')
    if (this.open.size >= EXCHANGES_MAX) throw new LinkBroken('There are too many requests at a time')
    this.lastNumber = number
    const request = new LinkRequest(texts, last, (bytes) => this.outbox.push(renderCredit(number, bytes)))
    const answer = new LinkAnswer({
      push: (frame) => this.push(answer, frame),
      share: (piece) => this.share(answer, piece),
      isHead: request.method === 'HEAD',
      over: () => {
        this.open.delete(number)
        request.cancelled()
      },
      number,
    })
    this.open.set(number, { request, answer })
    this.handle(request, answer)
  }

  /** Undefined for one that is over: what was under way then has come in vain. */
  private find(number: number): { request: LinkRequest; answer: LinkAnswer } | undefined {
    if (number === 0 || number > this.lastNumber)
      throw new LinkBroken('A frame is for an exchange that never began')
    return this.open.get(number)
  }

  private push(answer: LinkAnswer, frame: Buffer): void {
    this.gathered++
    this.outbox.push(frame)
    answer.stands(this.batch, this.gathered)
  }

  /** The piece goes once for all whose turn it is in; what an answer has written before it stays before it. */
  private share(answer: LinkAnswer, piece: Buffer): void {
    const known = this.shared.get(piece)
    if (known && known.numbers.length < SHARED_EXCHANGES_MAX && !answer.standsAfter(this.batch, known.at)) {
      known.numbers.push(answer.number)
      answer.stands(this.batch, known.at)
      return
    }
    this.gathered++
    const made = new SharedPiece(answer.number, piece, this.gathered)
    this.shared.set(piece, made)
    answer.stands(this.batch, made.at)
    this.outbox.push(made, FRAME_HEAD_BYTES + piece.length)
  }
}

export class LinkRequest implements Asked {
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
  private readonly grant: (bytes: number) => void
  /** Its first `bytes` have come. Clients can send a body byte by byte, so it is not a list of what came. */
  private body: Buffer = Buffer.alloc(0)
  private bytes = 0
  private credit = WINDOW_BYTES
  private untold = 0
  private isWhole: boolean
  private isBroken = false
  private reading: (PromiseWithResolvers<Buffer | undefined> & { bytesMax: number }) | undefined

  constructor(texts: readonly string[], isWhole: boolean, grant: (bytes: number) => void) {
    const [method = '', url = ''] = texts
    this.method = method
    this.url = url
    this.headers = headersOf(texts, 2)
    this.isWhole = isWhole
    this.grant = grant
  }

  readBody(bytesMax: number): Promise<Buffer | undefined> {
    this.reading = { ...Promise.withResolvers<Buffer | undefined>(), bytesMax }
    this.untold = this.bytes
    this.goOn()
    return this.reading.promise
  }

  /** Nothing more is asked for, so no more than what is under way will come. */
  discardBody(): void {}

  receive(piece: Buffer, last: boolean): void {
    this.credit -= piece.length
    if (this.isWhole || this.credit < 0) throw new LinkBroken('More of a body came than there was room for')
    this.isWhole = last
    if (last && this.bytes === 0) this.body = piece
    else {
      if (this.bytes + piece.length > this.body.length) {
        const larger = Buffer.allocUnsafe(2 * (this.bytes + piece.length))
        this.body.copy(larger, 0, 0, this.bytes)
        this.body = larger
      }
      piece.copy(this.body, this.bytes)
    }
    this.bytes += piece.length
    this.untold += piece.length
    this.goOn()
  }

  cancelled(): void {
    this.isBroken = true
    this.goOn()
  }

  private goOn(): void {
    const { reading } = this
    if (!reading) return
    if (this.bytes > reading.bytesMax) reading.resolve(undefined)
    else if (this.isWhole) reading.resolve(this.body.subarray(0, this.bytes))
    else if (this.isBroken) reading.reject(new Error('The body ended early'))
    else if (this.untold >= CREDIT_BYTES_MIN) {
      this.grant(this.untold)
      this.credit += this.untold
      this.untold = 0
    }
  }
}

/** As Node's parser has it: names in lower case, and what comes twice is a list. */
function headersOf(texts: readonly string[], from: number): IncomingHttpHeaders {
  const headers = Object.create(null) as Record<string, string>
  for (let at = from; at + 1 < texts.length; at += 2) {
    const name = texts[at]!.toLowerCase() // at + 1 < length
    const value = texts[at + 1]!
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`
  }
  return headers
}

type Way = {
  readonly number: number
  push(frame: Buffer): void
  share(piece: Buffer): void
  /** The answer is a head only, whatever is written. */
  isHead: boolean
  over(): void
}

export class LinkAnswer extends EventEmitter implements Answering {
  readonly number: number
  private readonly way: Way
  private readonly sending: Sending
  private extra: OutgoingHttpHeaders = {}
  private head: { code: number; headers: OutgoingHttpHeaders } | undefined
  private isHeadSent = false
  private isOver = false
  private isLeft = false
  private batch = -1
  private at = 0
  writableFinished = false

  constructor(way: Way) {
    super()
    this.way = way
    this.number = way.number
    this.sending = new Sending((piece, last) => {
      this.sendHead()
      for (const frame of renderPiece(this.number, piece, last)) way.push(frame)
      if (last) this.finish()
    })
  }

  get headersSent(): boolean {
    return this.head !== undefined
  }

  get destroyed(): boolean {
    return this.isOver
  }

  get writableLength(): number {
    return this.sending.waitingBytes
  }

  setHeader(name: string, value: string | readonly string[]): void {
    this.extra[name] = typeof value === 'string' ? value : [...value]
  }

  writeHead(code: number, headers: OutgoingHttpHeaders = {}): this {
    this.head ??= { code, headers: { ...this.extra, ...headers } }
    return this
  }

  flushHeaders(): void {
    this.writeHead(200)
    if (!this.isOver) this.sendHead()
  }

  write(piece: string | Buffer): boolean {
    if (this.isOver) return true
    this.writeHead(200)
    if (piece.length === 0 || this.hasNoBody) return true
    if (typeof piece === 'string') return this.sending.write(Buffer.from(piece))
    if (!this.sending.reserve(piece.length)) return this.sending.write(piece)
    this.sendHead()
    this.way.share(piece)
    return true
  }

  end(piece?: string | Buffer): this {
    if (this.isOver) return this
    this.writeHead(200)
    if (piece === undefined || piece.length === 0 || this.hasNoBody) {
      if (this.isHeadSent) this.sending.end()
      else this.sendHead(true)
      return this
    }
    this.sending.end(typeof piece === 'string' ? Buffer.from(piece) : piece)
    return this
  }

  destroy(): this {
    if (this.isOver) return this
    this.way.push(renderCancel(this.number))
    this.cancelled()
    this.way.over()
    return this
  }

  /** Who asked does not wait for it any more, but may want to know what it cost. */
  left(): void {
    this.isLeft = !this.isOver && !this.isHeadSent
    this.cancelled()
  }

  tellLate(): void {
    if (!this.isLeft) return
    this.isLeft = false
    // Of what an answer says, only what was set for all of them.
    this.head = undefined
    this.sendHead(true)
  }

  /** Nobody waits for it any more. */
  cancelled(): void {
    if (this.isOver) return
    this.isOver = true
    this.sending.stop()
    this.emit('close')
  }

  granted(bytes: number): void {
    const wasWaiting = this.sending.waitingBytes > 0
    this.sending.grant(bytes)
    if (wasWaiting && this.sending.isDrained) this.emit('drain')
  }

  /** Where the last that it has written stands in what is to be sent. */
  stands(batch: number, at: number): void {
    this.batch = batch
    this.at = at
  }

  standsAfter(batch: number, at: number): boolean {
    return this.batch === batch && this.at > at
  }

  /** As ServerResponse has it, so that whoever refuses need not know what was asked. RFC 9110, 6.4.1. */
  private get hasNoBody(): boolean {
    const code = this.head?.code
    return this.way.isHead || code === 204 || code === 304
  }

  private sendHead(last = false): void {
    if (this.isHeadSent) return
    this.isHeadSent = true
    const { code, headers } = this.head ?? { code: 200, headers: this.extra }
    const texts = Object.entries(headers).flatMap(([name, value]) =>
      [value].flat().flatMap((each) => (each === undefined ? [] : [name, String(each)])),
    )
    this.way.push(renderHead({ kind: 'answer', number: this.number, last, code, texts }))
    if (last && !this.isOver) this.finish()
  }

  private finish(): void {
    this.isOver = true
    this.writableFinished = true
    this.sending.stop()
    this.way.over()
    this.emit('close')
  }
}
