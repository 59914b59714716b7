import { createInflate, type Inflate } from 'node:zlib'
import { assert } from '../../stdx/index.ts'
import { SPDY_HEADERS_BYTES_MAX, SPDY_HEADERS_MAX } from './limits.ts'

// The dictionary that both ends of a SPDY/3.1 connection begin with, section 2.6.10.1 of its draft:
// https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/
const WORDS =
  'options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow ' +
  'authorization cache-control connection content-base content-encoding content-language content-length ' +
  'content-location content-md5 content-range content-type date etag expect expires from host if-match ' +
  'if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma ' +
  'proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade ' +
  'user-agent vary via warning www-authenticate method get status'
const MORE_WORDS = ['200 OK', 'version', 'HTTP/1.1', 'url', 'public', 'set-cookie', 'keep-alive', 'origin']
const TAIL =
  '100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505' +
  '203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden' +
  '404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable' +
  'Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT' +
  'chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,' +
  'publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.'

export const DICTIONARY = Buffer.concat([
  ...[...WORDS.split(' '), ...MORE_WORDS].map((word) =>
    Buffer.concat([uint32(word.length), Buffer.from(word)]),
  ),
  Buffer.from(TAIL),
])
/** What zlib writes at the beginning to name the dictionary (RFC 1950). */
export const DICTIONARY_ADLER32 = 0xe3c6a7c2
assert(adler32(DICTIONARY) === DICTIONARY_ADLER32, "SPDY's dictionary is not the one that clients have")

export type SpdyHeaders = ReadonlyMap<string, string>

/** Reads header blocks, all of one connection through one decompressor, in the order in which they came. */
export class HeaderReader {
  private readonly inflate: Inflate
  private chunks: Buffer[] = []
  private bytes = 0
  private failure: Error | undefined
  private fail: (error: Error) => void = () => {}

  constructor() {
    this.inflate = createInflate({ dictionary: DICTIONARY })
    this.inflate.on('readable', () => this.drain())
    this.inflate.on('error', (error) => this.broken(error))
  }

  /** Requires: the block before has been read. @throws when the block is not one, or is too large. */
  async read(block: Buffer): Promise<SpdyHeaders> {
    if (this.failure) throw this.failure
    const written = Promise.withResolvers<void>()
    this.fail = written.reject
    this.inflate.write(block, (error) => (error ? written.reject(error) : written.resolve()))
    await written.promise
    this.drain()
    if (this.failure) throw this.failure
    const text = Buffer.concat(this.chunks)
    this.chunks = []
    this.bytes = 0
    return parseHeaders(text)
  }

  close(): void {
    this.inflate.destroy()
  }

  private drain(): void {
    for (;;) {
      const chunk = this.inflate.read() as Buffer | null
      if (chunk === null) return
      this.bytes += chunk.length
      if (this.bytes > SPDY_HEADERS_BYTES_MAX) {
        this.broken(new RangeError(`SPDY headers have more than ${SPDY_HEADERS_BYTES_MAX} bytes`))
        this.inflate.destroy()
        return
      }
      this.chunks.push(chunk)
    }
  }

  private broken(error: Error): void {
    this.failure ??= error
    this.fail(error)
  }
}

/** An empty stored block is what a sync flush ends with. Go's decompressor gives nothing out before it has seen one. */
const FLUSH = Buffer.from([0x00, 0x00, 0x00, 0xff, 0xff])

/** Writes header blocks without compressing them: every block is a stored deflate block (RFC 1951, 3.2.4). */
export class HeaderWriter {
  private first = true

  write(headers: SpdyHeaders): Buffer {
    const body = renderHeaders(headers)
    const stored = Buffer.alloc(5)
    stored.writeUInt16LE(body.length, 1)
    stored.writeUInt16LE(~body.length & 0xffff, 3)
    const start = this.first
      ? Buffer.concat([Buffer.from([0x78, 0xbb]), uint32(DICTIONARY_ADLER32)])
      : Buffer.alloc(0)
    this.first = false
    return Buffer.concat([start, stored, body, FLUSH])
  }
}

function renderHeaders(headers: SpdyHeaders): Buffer {
  const parts = [uint32(headers.size)]
  for (const text of [...headers].flat()) {
    const bytes = Buffer.from(text)
    parts.push(uint32(bytes.length), bytes)
  }
  return Buffer.concat(parts)
}

function parseHeaders(text: Buffer): SpdyHeaders {
  let at = 0
  const number = () => {
    if (at + 4 > text.length) throw new RangeError('SPDY headers end too early')
    at += 4
    return text.readUInt32BE(at - 4)
  }
  const string = () => {
    const length = number()
    if (length > text.length - at) throw new RangeError('SPDY headers end too early')
    at += length
    return text.toString('latin1', at - length, at)
  }
  const count = number()
  if (count > SPDY_HEADERS_MAX) throw new RangeError(`More than ${SPDY_HEADERS_MAX} SPDY headers`)
  const headers = new Map<string, string>()
  for (let i = 0; i < count; i++) {
    const name = string().toLowerCase()
    if (headers.has(name)) throw new RangeError('A SPDY header is there twice')
    headers.set(name, string())
  }
  return headers
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function adler32(bytes: Buffer): number {
  let a = 1
  let b = 0
  for (const byte of bytes) {
    a = (a + byte) % 65_521
    b = (b + a) % 65_521
  }
  return b * 65_536 + a
}
