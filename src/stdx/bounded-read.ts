import type { Readable } from 'node:stream'

/** More came than was allowed: reading stopped there. */
export class TooLong extends RangeError {
  constructor(bytesMax: number) {
    super(`More than ${bytesMax} bytes came`)
    this.name = 'TooLong'
  }
}

/**
 * Reads what a stream carries, and no more of it than a peer that we need not trust may send: beyond that it is destroyed.
 * @throws {TooLong} beyond `bytesMax`
 */
export async function readBounded(from: AsyncIterable<unknown>, bytesMax: number): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of from) {
    if (!(chunk instanceof Uint8Array)) throw new TypeError('The stream carries something else than bytes')
    bytes += chunk.length
    if (bytes > bytesMax) throw new TooLong(bytesMax)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, bytes)
}

/** The same for a request that is to be answered in any case: undefined when more came, and the stream lives on. */
export async function readRequest(request: Readable, bytesMax: number): Promise<Buffer | undefined> {
  try {
    return await readBounded(request.iterator({ destroyOnReturn: false }), bytesMax)
  } catch (error) {
    if (error instanceof TooLong) return undefined
    throw error
  }
}
