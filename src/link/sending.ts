import { LinkBroken } from './frames.ts'
import { PIECE_BYTES_MAX, WINDOW_BYTES } from './limits.ts'

const NOTHING = Buffer.alloc(0)

/** One direction of an exchange: sends what the other end has room for, and keeps the rest until there is more. */
export class Sending {
  private readonly send: (piece: Buffer, last: boolean) => void
  private credit = WINDOW_BYTES
  private waiting: Buffer[] = []
  private isEnding = false
  /** What has been written and not sent. */
  waitingBytes = 0
  /** The last piece has been sent, or nothing more will be. */
  isOver = false

  constructor(send: (piece: Buffer, last: boolean) => void) {
    this.send = send
  }

  get isDrained(): boolean {
    return this.waitingBytes === 0 && !this.isOver
  }

  /** Takes the room for a piece that is sent in another way, if there is room for it now. */
  reserve(bytes: number): boolean {
    if (this.isOver || this.isEnding || this.waitingBytes > 0) return false
    if (bytes > this.credit || bytes > PIECE_BYTES_MAX) return false
    this.credit -= bytes
    return true
  }

  /** False asks to wait until `isDrained`. */
  write(piece: Buffer): boolean {
    if (this.isOver || this.isEnding || piece.length === 0) return true
    this.waiting.push(piece)
    this.waitingBytes += piece.length
    this.pump()
    return this.waitingBytes === 0
  }

  /** No more is written than this; the last of it is sent as soon as there is room. */
  end(piece: Buffer = NOTHING): void {
    if (this.isOver || this.isEnding) return
    this.isEnding = true
    if (piece.length > 0) {
      this.waiting.push(piece)
      this.waitingBytes += piece.length
      this.pump()
    } else if (this.waitingBytes === 0) this.finish(NOTHING)
  }

  /** @throws {LinkBroken} for more than was ever taken. */
  grant(bytes: number): void {
    this.credit += bytes
    if (this.credit > WINDOW_BYTES) throw new LinkBroken('More room was given than there is')
    this.pump()
  }

  /** Nobody waits for the rest. */
  stop(): void {
    this.isOver = true
    this.waiting = []
    this.waitingBytes = 0
  }

  private pump(): void {
    while (this.waitingBytes > 0 && this.credit > 0 && !this.isOver) {
      const [first] = this.waiting
      if (!first) return
      const room = Math.min(first.length, this.credit, PIECE_BYTES_MAX)
      const piece = room === first.length ? first : first.subarray(0, room)
      if (piece === first) this.waiting.shift()
      else this.waiting[0] = first.subarray(room)
      this.credit -= room
      this.waitingBytes -= room
      if (this.isEnding && this.waitingBytes === 0) return this.finish(piece)
      this.send(piece, false)
    }
  }

  private finish(piece: Buffer): void {
    this.isOver = true
    this.send(piece, true)
  }
}
