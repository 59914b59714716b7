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
export function readRequest(request: Readable, bytesMax: number): Promise<Buffer | undefined> {
  if (request.readableEnded) return Promise.resolve(Buffer.alloc(0))
  // Every request with a body comes by here, and an iterator over a stream costs several times what listeners do.
  const { promise, resolve, reject } = Promise.withResolvers<Buffer | undefined>()
  const chunks: Uint8Array[] = []
  let bytes = 0
  const stop = () => {
    request.off('data', onData).off('end', onEnd).off('error', onError).off('close', onClose)
  }
  const onData = (chunk: unknown) => {
    if (!(chunk instanceof Uint8Array))
      return onError(new TypeError('The stream carries something else than bytes'))
    bytes += chunk.length
    chunks.push(chunk)
    if (bytes <= bytesMax) return
    stop()
    request.pause()
    resolve(undefined)
  }
  const onEnd = () => {
    stop()
    resolve(Buffer.concat(chunks, bytes))
  }
  const onError = (error: Error) => {
    stop()
    reject(error)
  }
  const onClose = () => onError(new Error('The stream ended early'))
  if (request.destroyed) onClose()
  else request.on('data', onData).on('end', onEnd).on('error', onError).on('close', onClose)
  return promise
}
