import { assert } from '../stdx/index.ts'

/**
 * Frames on the stream of exec and attach between a control plane and an engine: one channel byte, the length as a
 * 32-bit big-endian number, the payload. The channels are those of Kubernetes' remotecommand (KEP-4006), so that a
 * control plane passes them on without looking inside.
 */
export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, status: 3, resize: 4, close: 255 } as const

export const FRAME_HEADER_BYTES = 5
export const FRAME_PAYLOAD_BYTES_MAX = 1024 * 1024

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
  private pending: Buffer = Buffer.alloc(0)

  /** @throws when a frame announces more than FRAME_PAYLOAD_BYTES_MAX. */
  parse(chunk: Buffer): Frame[] {
    this.pending = this.pending.length === 0 ? chunk : Buffer.concat([this.pending, chunk])
    const frames: Frame[] = []
    while (this.pending.length >= FRAME_HEADER_BYTES) {
      const payloadBytes = this.pending.readUInt32BE(1)
      if (payloadBytes > FRAME_PAYLOAD_BYTES_MAX)
        throw new RangeError(`A frame announces ${payloadBytes} bytes, more than ${FRAME_PAYLOAD_BYTES_MAX}`)
      const end = FRAME_HEADER_BYTES + payloadBytes
      if (this.pending.length < end) break
      frames.push({
        channel: this.pending.readUInt8(0),
        payload: this.pending.subarray(FRAME_HEADER_BYTES, end),
      })
      this.pending = this.pending.subarray(end)
    }
    return frames
  }
}
