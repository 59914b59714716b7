import { assert } from '../stdx/index.ts'

/**
 * Frames on the stream of exec and attach between a control plane and an engine: one channel byte, the length as a
 * 32-bit big-endian number, the payload. The channels are those of Kubernetes' remotecommand (KEP-4006), so that a
 * control plane passes them on without looking inside.
 */
export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, status: 3, resize: 4, close: 255 } as const

export const FRAME_HEADER_BYTES = 5
export const FRAME_PAYLOAD_BYTES_MAX = 1024 * 1024
/** Pieces of one frame that wait to be put together. */
const CHUNKS_MAX = 4_096

export type Frame = { channel: number; payload: Buffer }

export function renderFrame(channel: number, payload: Uint8Array): Buffer {
  assert(payload.length <= FRAME_PAYLOAD_BYTES_MAX, 'A frame is larger than its reader accepts')
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length)
  frame.writeUInt8(channel, 0)
  frame.writeUInt32BE(payload.length, 1)
  frame.set(payload, FRAME_HEADER_BYTES)
  return frame
}

/** Cuts a byte stream into frames; keeps at most one incomplete frame. */
export class FrameParser {
  /** Put together only once the frame is whole: a peer that sends byte by byte must not make us copy all each time. */
  private chunks: Buffer[] = []
  private bytes = 0
  private neededBytes = FRAME_HEADER_BYTES

  /** @throws when a frame announces more than FRAME_PAYLOAD_BYTES_MAX. */
  parse(chunk: Buffer): Frame[] {
    this.chunks.push(chunk)
    this.bytes += chunk.length
    const frames: Frame[] = []
    while (this.bytes >= this.neededBytes) {
      const pending = this.joined()
      const payloadBytes = pending.readUInt32BE(1)
      if (payloadBytes > FRAME_PAYLOAD_BYTES_MAX)
        throw new RangeError(`A frame announces ${payloadBytes} bytes, more than ${FRAME_PAYLOAD_BYTES_MAX}`)
      const end = FRAME_HEADER_BYTES + payloadBytes
      this.neededBytes = end
      if (pending.length < end) break
      frames.push({ channel: pending.readUInt8(0), payload: pending.subarray(FRAME_HEADER_BYTES, end) })
      this.keep(pending.subarray(end))
      this.neededBytes = FRAME_HEADER_BYTES
    }
    // Each small chunk costs more than its bytes.
    if (this.chunks.length >= CHUNKS_MAX) this.keep(this.joined())
    return frames
  }

  private joined(): Buffer {
    const [first = Buffer.alloc(0)] = this.chunks
    return this.chunks.length <= 1 ? first : Buffer.concat(this.chunks, this.bytes)
  }

  private keep(rest: Buffer): void {
    this.chunks = rest.length === 0 ? [] : [rest]
    this.bytes = rest.length
  }
}
