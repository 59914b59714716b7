import { ServerResponse } from 'node:http'
import { constants, Http2ServerResponse } from 'node:http2'
import type { ApiError } from '../api/index.ts'
import { type HeaderMap, OWN_HEADERS } from './headers.ts'

/** The answer to a request, on HTTP/1.1 or HTTP/2. */
export type Answer = ServerResponse | Http2ServerResponse

export function writeHead(answer: Answer, code: number, headers: HeaderMap): void {
  // The two signatures differ only in the status message, which neither is given.
  ;(answer as { writeHead(code: number, headers: HeaderMap): unknown }).writeHead(code, headers)
}

export function writeChunk(answer: Answer, chunk: Buffer): boolean {
  return (answer as { write(chunk: Buffer): boolean }).write(chunk)
}

/** Sends a refusal. `close`: what is still to come on this connection cannot be trusted or would only cost. */
export function sendStatus(
  answer: Answer,
  error: ApiError,
  { requestId, close = false }: { requestId?: string; close?: boolean } = {},
): void {
  const body = Buffer.from(JSON.stringify(error.toStatus()))
  const retryAfterSeconds = error.details?.retryAfterSeconds
  writeHead(answer, error.code, {
    'content-type': 'application/json',
    'content-length': String(body.length),
    'cache-control': 'no-store',
    ...OWN_HEADERS,
    ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }),
    ...(requestId === undefined ? {} : { 'audit-id': requestId }),
    ...(close && answer instanceof ServerResponse ? { connection: 'close' } : {}),
  })
  answer.end(body)
  // On HTTP/2 the rest of a body would wait in our buffers; this tells the client not to send it.
  if (close && answer instanceof Http2ServerResponse)
    answer.once('finish', () => answer.stream?.close(constants.NGHTTP2_NO_ERROR))
}

/** Ends an answer so that the client cannot take what it has for the whole. */
export function breakOff(answer: Answer): void {
  if (answer instanceof Http2ServerResponse) answer.stream?.close(constants.NGHTTP2_INTERNAL_ERROR)
  else answer.destroy()
}
