import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { FRAME_PAYLOAD_BYTES_MAX, FrameParser, renderFrame } from './stream-frames.ts'

test('frames come out as they went in, however the stream was cut', () => {
  const frame = fc.record({
    channel: fc.integer({ min: 0, max: 255 }),
    payload: fc.uint8Array({ maxLength: 40 }),
  })
  fc.assert(
    fc.property(
      fc.array(frame),
      fc.array(fc.integer({ min: 0, max: 30 }), { minLength: 1 }),
      (frames, cuts) => {
        const stream = Buffer.concat(frames.map(({ channel, payload }) => renderFrame(channel, payload)))
        const parser = new FrameParser()
        const parsed = []
        let at = 0
        for (let i = 0; at < stream.length; i++) {
          const length = i > 1_000 ? stream.length : (cuts[i % cuts.length] ?? 0)
          parsed.push(...parser.parse(stream.subarray(at, at + length)))
          at += length
        }
        assert.deepEqual(
          parsed.map(({ channel, payload }) => ({ channel, payload: [...payload] })),
          frames.map(({ channel, payload }) => ({ channel, payload: [...payload] })),
        )
      },
    ),
  )
})

test('a peer that sends a large frame byte by byte does not make each byte cost the whole frame', () => {
  const parser = new FrameParser()
  const whole = renderFrame(0, Buffer.alloc(200_000, 'x'))
  let copied = 0
  const concat = Buffer.concat.bind(Buffer)
  Buffer.concat = (list, length) => {
    const joined = concat(list, length)
    copied += joined.length
    return joined
  }
  try {
    let frames = 0
    for (let at = 0; at < whole.length; at++) frames += parser.parse(whole.subarray(at, at + 1)).length
    assert.equal(frames, 1)
  } finally {
    Buffer.concat = concat
  }
  assert.ok(copied < 50 * whole.length, `${copied} bytes were copied`)
})

test('a frame that announces too much is refused before its payload comes', () => {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(FRAME_PAYLOAD_BYTES_MAX + 1, 1)
  assert.throws(() => new FrameParser().parse(head), RangeError)
})
