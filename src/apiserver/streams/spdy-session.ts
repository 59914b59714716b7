import { Duplex } from 'node:stream'
import {
  SPDY_CONTROL_FRAME_BYTES_MAX,
  SPDY_DATA_BYTES_MAX,
  SPDY_STREAM_BYTES_MAX,
  SPDY_STREAMS_MAX,
} from './limits.ts'
import { HeaderReader, HeaderWriter, type SpdyHeaders } from './spdy-headers.ts'

const FRAME_HEAD_BYTES = 8
const VERSION = 3
const TYPE = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  headers: 8,
  windowUpdate: 9,
} as const
const FLAG_FIN = 1
const RST = { protocolError: 1, invalidStream: 2, refusedStream: 3, cancel: 5 } as const

/** What a client opened; readable until it half-closes, writable until we do. */
export class SpdyStream extends Duplex {
  readonly id: number
  readonly headers: SpdyHeaders
  private readonly session: SpdySession
  private wanted: PromiseWithResolvers<void> | undefined
  private finSent = false
  private finSeen = false

  constructor(session: SpdySession, id: number, headers: SpdyHeaders) {
    super({ readableHighWaterMark: SPDY_STREAM_BYTES_MAX, allowHalfOpen: true })
    this.session = session
    this.id = id
    this.headers = headers
  }

  /** Resolves when the reader wants more. */
  async receive(data: Buffer): Promise<void> {
    if (this.destroyed || this.finSeen || data.length === 0 || this.push(data)) return
    this.wanted = Promise.withResolvers<void>()
    await this.wanted.promise
  }

  receiveEnd(): void {
    if (this.finSeen || this.destroyed) return
    this.finSeen = true
    this.push(null)
  }

  /** The client has reset it, or the connection is gone. */
  abort(): void {
    this.finSent = true
    this.destroy()
  }

  override _read(): void {
    this.wanted?.resolve()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    void settle(this.session.sendData(this.id, chunk), done)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.finSent = true
    void settle(this.session.sendEnd(this.id), done)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.wanted?.resolve()
    this.session.forget(this, { reset: !this.finSent || !this.finSeen })
    done(error)
  }
}

/**
 * The server's end of a SPDY/3.1 connection, as far as kubectl and client-go use it. Flow control is the
 * connection's own: those clients neither send nor heed WINDOW_UPDATE, so waiting for one would wait for ever.
 */
export class SpdySession {
  private readonly transport: Duplex
  private readonly onStream: (stream: SpdyStream) => void
  private readonly streams = new Map<number, SpdyStream>()
  private readonly headerReader = new HeaderReader()
  private readonly headerWriter = new HeaderWriter()
  private pending: Buffer = Buffer.alloc(0)
  /** Of a data frame whose head has been read. */
  private data: { stream: SpdyStream | undefined; left: number; fin: boolean } | undefined
  private lastId = 0
  private ending = false

  constructor(transport: Duplex, onStream: (stream: SpdyStream) => void) {
    this.transport = transport
    this.onStream = onStream
    transport.on('error', () => {})
  }

  /** Serves the connection; resolves when it is over. Never rejects. */
  async run(): Promise<void> {
    try {
      for await (const chunk of this.transport.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>)
        await this.consume(chunk)
    } catch {
      // A broken connection or a peer that does not speak SPDY: either way it ends below.
    } finally {
      for (const stream of this.streams.values()) stream.abort()
      this.streams.clear()
      this.headerReader.close()
      this.transport.destroy()
    }
  }

  /** Says goodbye and ends the connection once everything has been sent. */
  end(): void {
    if (this.ending || this.transport.destroyed) return
    this.ending = true
    const body = Buffer.alloc(8)
    body.writeUInt32BE(this.lastId, 0)
    this.transport.write(controlFrame(TYPE.goAway, 0, body))
    this.transport.end(() => void this.transport.destroy())
  }

  async sendData(id: number, data: Buffer): Promise<void> {
    for (let at = 0; at < data.length; at += SPDY_DATA_BYTES_MAX) {
      const part = data.subarray(at, at + SPDY_DATA_BYTES_MAX)
      await this.send(Buffer.concat([dataHead(id, 0, part.length), part]))
    }
  }

  async sendEnd(id: number): Promise<void> {
    await this.send(dataHead(id, FLAG_FIN, 0))
  }

  forget(stream: SpdyStream, { reset }: { reset: boolean }): void {
    if (!this.streams.delete(stream.id)) return
    if (reset) this.reset(stream.id, RST.cancel)
  }

  private reset(id: number, status: number): void {
    const body = Buffer.alloc(8)
    body.writeUInt32BE(id, 0)
    body.writeUInt32BE(status, 4)
    if (this.transport.writable) this.transport.write(controlFrame(TYPE.rstStream, 0, body))
  }

  /** Resolves when the connection takes more. */
  private async send(frame: Buffer): Promise<void> {
    if (!this.transport.writable) throw new Error('The SPDY connection is closed')
    if (this.transport.write(frame)) return
    const ready = Promise.withResolvers<void>()
    for (const event of ['drain', 'close', 'error'] as const) this.transport.once(event, ready.resolve)
    await ready.promise
    for (const event of ['drain', 'close', 'error'] as const) this.transport.off(event, ready.resolve)
  }

  private async consume(chunk: Buffer): Promise<void> {
    this.pending = this.pending.length === 0 ? chunk : Buffer.concat([this.pending, chunk])
    for (;;) {
      if (this.data) {
        if (!(await this.consumeData(this.data))) return
        continue
      }
      if (this.pending.length < FRAME_HEAD_BYTES) return
      const length = this.pending.readUInt32BE(4) & 0xff_ff_ff
      const flags = this.pending.readUInt8(4)
      if ((this.pending.readUInt8(0) & 0x80) === 0) {
        const stream = this.streams.get(this.pending.readUInt32BE(0))
        this.data = { stream, left: length, fin: (flags & FLAG_FIN) !== 0 }
        this.pending = this.pending.subarray(FRAME_HEAD_BYTES)
        continue
      }
      if (length > SPDY_CONTROL_FRAME_BYTES_MAX) throw new RangeError('A SPDY control frame is too large')
      if ((this.pending.readUInt16BE(0) & 0x7fff) !== VERSION) throw new RangeError('Not SPDY/3')
      const end = FRAME_HEAD_BYTES + length
      if (this.pending.length < end) return
      const type = this.pending.readUInt16BE(2)
      const body = this.pending.subarray(FRAME_HEAD_BYTES, end)
      this.pending = this.pending.subarray(end)
      await this.control(type, flags, body)
    }
  }

  /** Returns false when more must come first. A large frame passes through in the pieces in which it comes. */
  private async consumeData(data: NonNullable<SpdySession['data']>): Promise<boolean> {
    const part = this.pending.subarray(0, data.left)
    if (part.length === 0 && data.left > 0) return false
    this.pending = this.pending.subarray(part.length)
    data.left -= part.length
    // Data for a stream that is gone was on its way when it went.
    await data.stream?.receive(part)
    if (data.left > 0) return true
    if (data.fin) data.stream?.receiveEnd()
    this.data = undefined
    return true
  }

  private async control(type: number, flags: number, body: Buffer): Promise<void> {
    switch (type) {
      case TYPE.synStream:
        return await this.synStream(flags, body)
      case TYPE.rstStream: {
        need(body, 8)
        const stream = this.streams.get(body.readUInt32BE(0) & 0x7fff_ffff)
        if (stream) {
          this.streams.delete(stream.id)
          stream.abort()
        }
        return
      }
      case TYPE.ping:
        need(body, 4)
        // An even number would answer a ping of ours, and we send none.
        if (body.readUInt32BE(0) % 2 === 1) await this.send(controlFrame(TYPE.ping, 0, body.subarray(0, 4)))
        return
      case TYPE.headers: {
        need(body, 4)
        // Nobody waits for them, but the decompressor must see every block.
        await this.headerReader.read(body.subarray(4))
        if (flags & FLAG_FIN) this.streams.get(body.readUInt32BE(0) & 0x7fff_ffff)?.receiveEnd()
        return
      }
      case TYPE.synReply:
        need(body, 4)
        await this.headerReader.read(body.subarray(4))
        return
      case TYPE.settings:
      case TYPE.goAway:
      case TYPE.windowUpdate:
        return
      default:
        throw new RangeError(`A SPDY control frame of the unknown type ${type}`)
    }
  }

  private async synStream(flags: number, body: Buffer): Promise<void> {
    need(body, 10)
    const id = body.readUInt32BE(0) & 0x7fff_ffff
    const headers = await this.headerReader.read(body.subarray(10))
    if (id % 2 === 0 || id <= this.lastId) throw new RangeError(`A SPDY stream has the number ${id}`)
    this.lastId = id
    if (this.ending || this.streams.size >= SPDY_STREAMS_MAX) {
      this.reset(id, RST.refusedStream)
      return
    }
    const stream = new SpdyStream(this, id, headers)
    stream.on('error', () => {})
    this.streams.set(id, stream)
    const reply = Buffer.alloc(4)
    reply.writeUInt32BE(id)
    // Before anything else of the stream: clients drop data that comes before the reply.
    await this.send(
      controlFrame(TYPE.synReply, 0, Buffer.concat([reply, this.headerWriter.write(new Map())])),
    )
    if (flags & FLAG_FIN) stream.receiveEnd()
    this.onStream(stream)
  }
}

function need(body: Buffer, bytes: number): void {
  if (body.length < bytes) throw new RangeError('A SPDY control frame is too short')
}

export function controlFrame(type: number, flags: number, body: Buffer): Buffer {
  const head = Buffer.alloc(FRAME_HEAD_BYTES)
  head.writeUInt16BE(0x8000 | VERSION, 0)
  head.writeUInt16BE(type, 2)
  head.writeUInt32BE(body.length, 4)
  head.writeUInt8(flags, 4)
  return Buffer.concat([head, body])
}

export function dataHead(id: number, flags: number, length: number): Buffer {
  const head = Buffer.alloc(FRAME_HEAD_BYTES)
  head.writeUInt32BE(id, 0)
  head.writeUInt32BE(length, 4)
  head.writeUInt8(flags, 4)
  return head
}

async function settle(work: Promise<void>, done: (error?: Error | null) => void): Promise<void> {
  let failure: Error | undefined
  try {
    await work
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error))
  }
  done(failure)
}
