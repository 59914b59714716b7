import type { IncomingMessage } from 'node:http'
import { readRequest } from '../stdx/index.ts'
import type { Asked } from './answering-end.ts'

/** A request that came over HTTP/1.1, for whoever answers those of a link. Its ServerResponse is fit as it is. */
export function askedOverHttp(request: IncomingMessage): Asked {
  const { method, url, headers } = request
  return {
    method,
    url,
    headers,
    readBody: (bytesMax) => readRequest(request, bytesMax),
    /** Reads on, so that the connection can be used again, but not for ever. */
    discardBody(bytesMax) {
      if (request.readableEnded) return
      let left = bytesMax
      request.on('data', (chunk: Buffer) => {
        left -= chunk.length
        if (left < 0) request.destroy()
      })
      request.on('error', () => {})
    },
  }
}
