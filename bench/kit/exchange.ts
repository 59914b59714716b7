import type { IncomingMessage, ServerResponse } from 'node:http'
import { PassThrough, Writable } from 'node:stream'

/** Just enough of node:http's objects to time an API server and not the sockets. */
export function exchange(
  path: string,
  body: string,
  { method = 'POST', contentType = 'application/json' }: { method?: string; contentType?: string } = {},
): { request: IncomingMessage; response: ServerResponse; code: () => number } {
  const request = new PassThrough() as unknown as IncomingMessage
  Object.assign(request, {
    method,
    url: path,
    headers: { 'content-type': contentType, accept: 'application/json', 'user-agent': 'bench/1' },
  })
  ;(request as unknown as PassThrough).end(body)
  let code = 0
  const sink = new Writable({ write: (_chunk, _encoding, done) => done() })
  const response = Object.assign(sink, {
    headersSent: false,
    setHeader: () => response,
    writeHead: (status: number) => {
      code = status
      return response
    },
    flushHeaders: () => {},
  }) as unknown as ServerResponse
  return { request, response, code: () => code }
}
