import {
  FRAME_BYTES_MAX,
  FRAME_HEAD_BYTES,
  HEAD_TEXTS_MAX,
  LINK_HEAD_BYTES_MAX,
  PIECE_BYTES_MAX,
  SHARED_EXCHANGES_MAX,
} from './limits.ts'

/** The other end does not keep to the protocol, or is gone: nothing more is read from it. */
export class LinkBroken extends Error {
  override readonly name = 'LinkBroken'
}

/** `last`: nothing more comes in this direction of the exchange. */
export type Frame =
  /** `texts` are method, path, and then names and values of headers in turns. */
  | { kind: 'request'; number: number; last: boolean; texts: string[] }
  /** `texts` are names and values of headers in turns. */
  | { kind: 'answer'; number: number; last: boolean; code: number; texts: string[] }
  | { kind: 'piece'; number: number; last: boolean; bytes: Buffer }
  /** The same piece for several exchanges. */
  | { kind: 'shared'; numbers: number[]; bytes: Buffer }
  /** So many bytes more may be sent. */
  | { kind: 'credit'; number: number; bytes: number }
  /** From who asked: nobody waits any more. From who answers: the rest will not come. */
  | { kind: 'cancel'; number: number }

/*
 * A frame: the length of what follows its head (4 bytes), kind (1), flags (1), number of the exchange (4; in a shared
 * piece how many there are), big endian. A head's texts: how many (2), the length of each (2), then all of them in Latin-1.
 */
const KINDS = { request: 1, answer: 2, piece: 3, shared: 4, credit: 5, cancel: 6 } as const
const LAST = 1
/** What no header may have in it, and no method or path either. RFC 9110, 5.5: a tab is allowed. */
const UNFIT = /[^\t\x20-\x7e\x80-\xff]/

function renderFrameHead(
  target: Buffer,
  kind: keyof typeof KINDS,
  number: number,
  bytes: number,
  last = false,
): void {
  target.writeUInt32BE(bytes, 0)
  target[4] = KINDS[kind]
  target[5] = last ? LAST : 0
  target.writeUInt32BE(number, 6)
}

/** @throws {LinkBroken} for what has no room in a frame, or must not be in one. */
export function renderHead(frame: Extract<Frame, { kind: 'request' | 'answer' }>): Buffer {
  const { kind, number, last, texts } = frame
  const from = FRAME_HEAD_BYTES + (kind === 'answer' ? 2 : 0)
  const text = texts.join('')
  const bytes = from - FRAME_HEAD_BYTES + 2 + 2 * texts.length + text.length
  if (texts.length > HEAD_TEXTS_MAX || bytes > LINK_HEAD_BYTES_MAX)
    throw new LinkBroken('A head is too large')
  if (UNFIT.test(text)) throw new LinkBroken('A head has a character that none may have')
  const frameBytes = Buffer.allocUnsafe(FRAME_HEAD_BYTES + bytes)
  renderFrameHead(frameBytes, kind, number, bytes, last)
  if (frame.kind === 'answer') frameBytes.writeUInt16BE(frame.code, FRAME_HEAD_BYTES)
  let at = frameBytes.writeUInt16BE(texts.length, from)
  for (const each of texts) at = frameBytes.writeUInt16BE(each.length, at)
  frameBytes.write(text, at, 'latin1')
  return frameBytes
}

export function renderPiece(number: number, bytes: Buffer, last = false): Buffer[] {
  const head = Buffer.allocUnsafe(FRAME_HEAD_BYTES)
  renderFrameHead(head, 'piece', number, bytes.length, last)
  return [head, bytes]
}

export function renderShared(numbers: readonly number[], bytes: Buffer): Buffer[] {
  const head = Buffer.allocUnsafe(FRAME_HEAD_BYTES + 4 * numbers.length)
  renderFrameHead(head, 'shared', numbers.length, 4 * numbers.length + bytes.length)
  let at = FRAME_HEAD_BYTES
  for (const number of numbers) at = head.writeUInt32BE(number, at)
  return [head, bytes]
}

export function renderCredit(number: number, bytes: number): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEAD_BYTES + 4)
  renderFrameHead(frame, 'credit', number, 4)
  frame.writeUInt32BE(bytes, FRAME_HEAD_BYTES)
  return frame
}

export function renderCancel(number: number): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEAD_BYTES)
  renderFrameHead(frame, 'cancel', number, 0)
  return frame
}

/** Makes frames of bytes as they come, and holds no more than one frame that has only begun. */
export class FrameReader {
  private readonly take: (frame: Frame) => void
  private begun: Buffer[] = []
  private begunBytes = 0
  /** So many bytes there must be before anything can be said. */
  private wantedBytes = FRAME_HEAD_BYTES

  constructor(take: (frame: Frame) => void) {
    this.take = take
  }

  /** @throws {LinkBroken} as does what was called for a frame; nothing may be read after that. */
  read(chunk: Buffer): void {
    let bytes = chunk
    if (this.begunBytes > 0) {
      this.begun.push(chunk)
      this.begunBytes += chunk.length
      if (this.begunBytes < this.wantedBytes) return
      bytes = Buffer.concat(this.begun, this.begunBytes)
    }
    let at = 0
    this.wantedBytes = FRAME_HEAD_BYTES
    while (bytes.length - at >= FRAME_HEAD_BYTES) {
      const length = bytes.readUInt32BE(at)
      if (length > FRAME_BYTES_MAX) throw new LinkBroken('A frame is too long')
      const end = at + FRAME_HEAD_BYTES + length
      if (end > bytes.length) {
        this.wantedBytes = FRAME_HEAD_BYTES + length
        break
      }
      this.take(parseFrame(bytes, at, end))
      at = end
    }
    this.begunBytes = bytes.length - at
    this.begun = this.begunBytes > 0 ? [bytes.subarray(at)] : []
  }
}

function parseFrame(bytes: Buffer, at: number, end: number): Frame {
  const flags = bytes[at + 5]! // the head is there
  const number = bytes.readUInt32BE(at + 6)
  const from = at + FRAME_HEAD_BYTES
  const last = flags === LAST
  if (flags !== 0 && !last) throw new LinkBroken('A frame has flags that mean nothing')
  switch (bytes[at + 4]) {
    case KINDS.request: {
      const texts = parseTexts(bytes, from, end)
      if (texts.length < 2 || texts.length % 2 !== 0) throw new LinkBroken('A request has no method and path')
      return { kind: 'request', number, last, texts }
    }
    case KINDS.answer: {
      if (end - from < 2) throw new LinkBroken('An answer has no code')
      const code = bytes.readUInt16BE(from)
      const texts = parseTexts(bytes, from + 2, end)
      // 1xx never comes as an answer; anything else outside is not HTTP.
      if (code < 200 || code > 599 || texts.length % 2 !== 0)
        throw new LinkBroken('An answer has no code of HTTP, or a header without a value')
      return { kind: 'answer', number, last, code, texts }
    }
    case KINDS.piece: {
      if (end - from > PIECE_BYTES_MAX || (end === from && !last))
        throw new LinkBroken('A piece is empty or too long')
      return { kind: 'piece', number, last, bytes: bytes.subarray(from, end) }
    }
    case KINDS.shared: {
      const pieceAt = from + 4 * number
      if (
        last ||
        number < 1 ||
        number > SHARED_EXCHANGES_MAX ||
        pieceAt >= end ||
        end - pieceAt > PIECE_BYTES_MAX
      )
        throw new LinkBroken('A shared piece is for nobody or too many, or is empty or too long')
      const numbers: number[] = []
      for (let one = from; one < pieceAt; one += 4) numbers.push(bytes.readUInt32BE(one))
      return { kind: 'shared', numbers, bytes: bytes.subarray(pieceAt, end) }
    }
    case KINDS.credit: {
      const credit = end - from === 4 ? bytes.readUInt32BE(from) : 0
      if (last || credit === 0) throw new LinkBroken('A credit is not four bytes, or is none')
      return { kind: 'credit', number, bytes: credit }
    }
    case KINDS.cancel: {
      if (last || end !== from) throw new LinkBroken('A cancellation says more than that')
      return { kind: 'cancel', number }
    }
    default:
      throw new LinkBroken('A frame is of no known kind')
  }
}

function parseTexts(bytes: Buffer, from: number, end: number): string[] {
  if (end - from < 2 || end - from > LINK_HEAD_BYTES_MAX) throw new LinkBroken('A head is empty or too large')
  const count = bytes.readUInt16BE(from)
  const textAt = from + 2 + 2 * count
  if (count > HEAD_TEXTS_MAX || textAt > end) throw new LinkBroken('A head has too many texts')
  const all = bytes.toString('latin1', textAt, end)
  if (UNFIT.test(all)) throw new LinkBroken('A head has a character that none may have')
  const texts: string[] = []
  let at = 0
  for (let n = 0; n < count; n++) {
    const length = bytes.readUInt16BE(from + 2 + 2 * n)
    texts.push(all.slice(at, at + length))
    at += length
  }
  if (at !== all.length) throw new LinkBroken("A head's texts are not as long as it says")
  return texts
}
