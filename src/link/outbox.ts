import type { Duplex } from 'node:stream'
import { GATHERED_BYTES_MAX } from './limits.ts'

/** What can be made bytes when it is sent, and not before. */
export type Later = { render(): readonly Buffer[] }

/** Gathers what is sent in one turn of the event loop: many frames cost one system call. */
export class Outbox {
  private readonly stream: Duplex
  private readonly onFlush: () => void
  private waiting: (Buffer | Later)[] = []
  private bytes = 0
  private isDue = false

  /** `onFlush` comes before what has gathered is sent; nothing more gathers with it. */
  constructor(stream: Duplex, onFlush: () => void = () => {}) {
    this.stream = stream
    this.onFlush = onFlush
  }

  /** What has gathered, and what was sent and the other end has not read. */
  get unreadBytes(): number {
    return this.bytes + this.stream.writableLength
  }

  push(what: Buffer | Later, bytes = 0): void {
    this.waiting.push(what)
    this.bytes += Buffer.isBuffer(what) ? what.length : bytes
    if (this.bytes >= GATHERED_BYTES_MAX) this.flush()
    else if (!this.isDue) {
      this.isDue = true
      setImmediate(() => this.flush())
    }
  }

  flush(): void {
    this.isDue = false
    const { waiting, stream } = this
    if (waiting.length === 0) return
    this.onFlush()
    this.waiting = []
    this.bytes = 0
    if (stream.destroyed) return
    const buffers = waiting.flatMap((each) => (Buffer.isBuffer(each) ? each : each.render()))
    const bytes = buffers.reduce((sum, { length }) => sum + length, 0)
    if (bytes <= GATHERED_BYTES_MAX) return void stream.write(Buffer.concat(buffers, bytes))
    stream.cork()
    for (const each of buffers) stream.write(each)
    stream.uncork()
  }
}
