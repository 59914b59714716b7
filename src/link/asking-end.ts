import type { Duplex } from 'node:stream'
import {
  type Frame,
  FrameReader,
  LinkBroken,
  renderCancel,
  renderCredit,
  renderHead,
  renderPiece,
} from './frames.ts'
import {
  COPIED_BYTES_MAX,
  CREDIT_BYTES_MIN,
  EXCHANGES_MAX,
  FRAME_HEAD_BYTES,
  HELD_BYTES_MAX,
  HELD_PIECE_BYTES,
  LEFT_MAX,
  LINK_HEAD_BYTES_MAX,
  NUMBER_MAX,
  UNREAD_BYTES_END,
  UNREAD_BYTES_MAX,
  WINDOW_BYTES,
} from './limits.ts'
import { Outbox } from './outbox.ts'
import { Sending } from './sending.ts'

/** Hears what becomes of one request. After `onEnd` or `onBreak` nothing comes. */
export interface AnswerListener {
  /** Names, in whatever case they came, and values of headers in turns. */
  onHead(code: number, headers: readonly string[]): void
  /** Returns whether the piece was taken; if not, `takenAll` is to be called when it was. */
  onPiece(piece: Buffer): boolean
  onEnd(): void
  /** There is no answer, or not the rest of it. */
  onBreak(cause: Error): void
  /** All that was written of the request's body is on its way. */
  onDrain(): void
  /** It was cancelled before there was a head, and this is what a head would have said. The only thing that can come then. */
  onLateHead?(headers: readonly string[]): void
}

/** One request on its way, and its answer. */
export interface Asking {
  /** Sends more of the body; false asks to wait for `onDrain`. */
  write(piece: Buffer): boolean
  /** The body is whole. */
  end(): void
  /** The listener has taken all that it was given. */
  takenAll(): void
  /** Nobody waits any more, and the listener hears nothing more. Safe to repeat. */
  cancel(): void
}

type Open = {
  number: number
  listener: AnswerListener
  body: Sending
  hasHead: boolean
  /** What the other end may still send. */
  credit: number
  /** What came and was not taken: its bytes, and those of them in memory. */
  untaken: number
  heldBytes: number
  /** What was taken, and the other end was not told so. */
  untold: number
}

/**
 * The end of a link that asks: a gateway's. It trusts nothing that comes: whatever does not keep to the protocol ends the
 * link and all that is open on it, which is one control plane's and so one tenant's.
 */
export class AskingEnd {
  private readonly stream: Duplex
  private readonly outbox: Outbox
  private readonly open = new Map<number, Open>()
  private readonly onIdle: () => void
  /** Those that were cancelled without a head, for what it would say. */
  private readonly left = new Map<number, AnswerListener>()
  private lastNumber = 0
  private heldBytes = 0
  /** What may still come for exchanges that were cancelled while it was on its way. */
  private strayBytes = 0
  private broken: Error | undefined

  /** `onIdle` is called when the last exchange is over, and when the link is. */
  constructor({ stream, onIdle = () => {} }: { stream: Duplex; onIdle?: () => void }) {
    this.stream = stream
    this.onIdle = onIdle
    this.outbox = new Outbox(stream)
    const reader = new FrameReader((frame) => this.take(frame))
    stream.on('data', (chunk: Buffer) => {
      if (this.broken) return
      try {
        reader.read(chunk)
      } catch (error) {
        this.close(
          error instanceof LinkBroken
            ? error
            : new LinkBroken('A frame could not be taken', { cause: error }),
        )
      }
    })
    stream.on('end', () => this.close(new LinkBroken('The other end has closed the link')))
    stream.on('error', (cause) => this.close(new LinkBroken('The link has failed', { cause })))
    stream.on('close', () => this.close(new LinkBroken('The link has closed')))
  }

  /** False: another link is to be made. */
  get isOpen(): boolean {
    return this.broken === undefined && this.lastNumber < NUMBER_MAX
  }

  get exchanges(): number {
    return this.open.size
  }

  /** @throws {LinkBroken} when the link is over or full, or the request does not fit into it. */
  ask(
    {
      method,
      path,
      headers,
      hasBody,
    }: { method: string; path: string; headers: readonly string[]; hasBody: boolean },
    listener: AnswerListener,
  ): Asking {
    if (!this.isOpen) throw new LinkBroken('The link is over', { cause: this.broken })
    if (this.open.size >= EXCHANGES_MAX) throw new LinkBroken('The link has too many exchanges open')
    if (this.outbox.unreadBytes > UNREAD_BYTES_MAX) throw new LinkBroken('The other end reads too slowly')
    const number = this.lastNumber + 1
    this.outbox.push(
      renderHead({ kind: 'request', number, last: !hasBody, texts: [method, path, ...headers] }),
    )
    this.lastNumber = number
    const exchange: Open = {
      number,
      listener,
      body: new Sending((bytes, last) => {
        this.send(...renderPiece(number, bytes, last))
      }),
      hasHead: false,
      credit: WINDOW_BYTES,
      untaken: 0,
      heldBytes: 0,
      untold: 0,
    }
    this.open.set(number, exchange)
    return {
      write: (piece) => exchange.body.write(piece),
      end: () => exchange.body.end(),
      takenAll: () => this.takenAll(exchange),
      cancel: () => this.cancel(exchange),
    }
  }

  /** Ends everything. Safe to repeat. */
  close(cause: Error): void {
    if (this.broken) return
    this.broken = cause
    this.stream.destroy()
    const all = [...this.open.values()]
    this.open.clear()
    this.left.clear()
    for (const { body, listener } of all) {
      body.stop()
      listener.onBreak(cause)
    }
    this.onIdle()
  }

  private send(...frames: Buffer[]): void {
    for (const each of frames) this.outbox.push(each)
    if (this.outbox.unreadBytes > UNREAD_BYTES_END) this.close(new LinkBroken('The other end does not read'))
  }

  private take(frame: Frame): void {
    if (this.broken) return
    switch (frame.kind) {
      case 'answer': {
        const exchange = this.find(frame.number, LINK_HEAD_BYTES_MAX)
        if (!exchange) return this.takeLate(frame.number, frame.texts)
        if (exchange.hasHead) throw new LinkBroken('There are two answers to one request')
        exchange.hasHead = true
        exchange.listener.onHead(frame.code, frame.texts)
        if (frame.last) this.finish(frame.number)
        return
      }
      case 'piece': {
        const { number, last, bytes } = frame
        const exchange = this.find(number, bytes.length)
        if (!exchange) return
        if (bytes.length > 0) this.deliver(exchange, ownCopy(bytes))
        else if (!exchange.hasHead) throw new LinkBroken('An answer has no head')
        if (last) this.finish(number)
        return
      }
      case 'shared': {
        const piece = ownCopy(frame.bytes)
        for (const number of frame.numbers) {
          const exchange = this.find(number, piece.length)
          if (exchange) this.deliver(exchange, piece)
        }
        return
      }
      case 'credit': {
        const exchange = this.find(frame.number, 0)
        if (exchange) exchange.body.grant(frame.bytes)
        if (exchange?.body.isDrained) exchange.listener.onDrain()
        return
      }
      case 'cancel': {
        const exchange = this.find(frame.number, 0)
        if (!exchange) return
        this.forget(exchange)
        exchange.listener.onBreak(new LinkBroken('The other end broke the answer off'))
        if (this.open.size === 0) this.onIdle()
        return
      }
      case 'request':
        throw new LinkBroken('A request came from the end that answers')
      default:
        frame satisfies never
    }
  }

  /** An exchange that is open; undefined for one that was cancelled a moment ago. */
  private find(number: number, bytes: number): Open | undefined {
    const exchange = this.open.get(number)
    if (exchange || this.broken) return exchange
    if (number === 0 || number > this.lastNumber)
      throw new LinkBroken('A frame is for an exchange that never began')
    // Some are under way when we cancel. More than that would only keep us busy.
    this.strayBytes -= FRAME_HEAD_BYTES + bytes
    if (this.strayBytes < 0) throw new LinkBroken('Frames come for exchanges that are over')
    return undefined
  }

  private deliver(exchange: Open, piece: Buffer): void {
    if (!exchange.hasHead) throw new LinkBroken('An answer has no head')
    exchange.credit -= piece.length
    if (exchange.credit < 0) throw new LinkBroken('More came than was asked for')
    const heldBytes = HELD_PIECE_BYTES + piece.length
    exchange.untaken += piece.length
    exchange.heldBytes += heldBytes
    this.heldBytes += heldBytes
    if (exchange.listener.onPiece(piece)) this.takenAll(exchange)
    else if (this.heldBytes > HELD_BYTES_MAX) this.breakOffLargest()
  }

  private takenAll(exchange: Open): void {
    // One that is over has given back what it held.
    if (this.open.get(exchange.number) !== exchange) return
    this.heldBytes -= exchange.heldBytes
    exchange.untold += exchange.untaken
    exchange.untaken = 0
    exchange.heldBytes = 0
    if (exchange.untold < CREDIT_BYTES_MIN) return
    const { untold } = exchange
    exchange.credit += untold
    exchange.untold = 0
    this.send(renderCredit(exchange.number, untold))
  }

  private expectLate({ number, listener }: Open): void {
    this.left.set(number, listener)
    if (this.left.size <= LEFT_MAX) return
    const [oldest = number] = this.left.keys()
    this.left.delete(oldest)
  }

  private takeLate(number: number, headers: readonly string[]): void {
    const listener = this.left.get(number)
    this.left.delete(number)
    listener?.onLateHead?.(headers)
  }

  private breakOffLargest(): void {
    let largest: Open | undefined
    for (const each of this.open.values()) if (!largest || each.heldBytes > largest.heldBytes) largest = each
    if (!largest) return
    this.cancel(largest)
    largest.listener.onBreak(new LinkBroken('The client does not take its answer'))
  }

  private cancel(exchange: Open): void {
    if (!this.forget(exchange)) return
    if (!exchange.hasHead && exchange.listener.onLateHead) this.expectLate(exchange)
    this.send(renderCancel(exchange.number))
    // The smallest frame has a head and a byte, so this many are enough for what the window allows.
    this.strayBytes += LINK_HEAD_BYTES_MAX + exchange.credit * (1 + FRAME_HEAD_BYTES)
    if (this.open.size === 0) this.onIdle()
  }

  private finish(number: number): void {
    const exchange = this.open.get(number)
    if (!exchange) return
    this.forget(exchange)
    exchange.listener.onEnd()
    if (this.open.size === 0) this.onIdle()
  }

  private forget(exchange: Open): boolean {
    if (this.open.get(exchange.number) !== exchange) return false
    this.open.delete(exchange.number)
    this.heldBytes -= exchange.heldBytes
    exchange.body.stop()
    return true
  }
}

/** Small ones are copied: a view would keep all in memory that was read with it, as long as one client is slow. */
function ownCopy(bytes: Buffer): Buffer {
  return bytes.length <= COPIED_BYTES_MAX ? Buffer.from(bytes) : bytes
}
