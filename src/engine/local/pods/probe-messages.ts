import type { JailHandler, JailProbe } from '../../../jail/index.ts'
import { renderDuration } from './backoff.ts'

type NetworkHandler = Exclude<JailHandler | JailProbe['handler'], { kind: 'exec' | 'sleep' }>

/** What the system calls say in a pod's own words; the connection was made for it, in its network. */
const WORDS: ReadonlyMap<string, string> = new Map([
  ['ECONNREFUSED', 'connect: connection refused'],
  ['EHOSTUNREACH', 'connect: no route to host'],
  ['ENETUNREACH', 'connect: network is unreachable'],
  ['EADDRNOTAVAIL', 'connect: cannot assign requested address'],
  ['ECONNRESET', 'read: connection reset by peer'],
  ['EPIPE', 'write: broken pipe'],
])

/**
 * Why a probe or hook over the network failed, as the kubelet would say it: people search for these words. What went
 * wrong among ourselves has no place in it.
 */
export function tellOfFailure({
  handler,
  podIP,
  phase,
  error,
  timedOutAfterMs,
}: {
  handler: NetworkHandler
  podIP: string
  phase: 'dial' | 'exchange'
  error: unknown
  /** Set when the time was over; then `error` says nothing more. */
  timedOutAfterMs: number | undefined
}): string {
  const address = `${podIP}:${handler.port}`
  const code = codeOf(error)
  const network = () =>
    phase === 'dial'
      ? `dial tcp ${address}: ${(code && WORDS.get(code)) ?? 'connect: connection refused'}`
      : `read tcp ${address}: ${(code && WORDS.get(code)) ?? 'read: connection reset by peer'}`
  switch (handler.kind) {
    case 'tcpSocket':
      return timedOutAfterMs === undefined ? network() : `dial tcp ${address}: i/o timeout`
    case 'httpGet': {
      const url = `${handler.scheme.toLowerCase()}://${address}${handler.path}`
      const why =
        timedOutAfterMs !== undefined
          ? 'context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
          : phase === 'dial' || (code !== undefined && WORDS.has(code) && !hungUp(error))
            ? network()
            : tellOfAnswer(error, code, handler.scheme)
      return `Get ${JSON.stringify(url)}: ${why}`
    }
    case 'grpc':
      if (timedOutAfterMs === undefined)
        return `error: failed to connect service at ${JSON.stringify(address)}: ${network()}`
      return phase === 'dial'
        ? `timeout: failed to connect service ${JSON.stringify(address)} within ${renderDuration(timedOutAfterMs)}: context deadline exceeded`
        : `timeout: health rpc did not complete within ${renderDuration(timedOutAfterMs)}`
    default:
      handler satisfies never
      return ''
  }
}

/** It connected, and then what came back was no answer. */
function tellOfAnswer(error: unknown, code: string | undefined, scheme: 'HTTP' | 'HTTPS'): string {
  if (hungUp(error)) return 'EOF'
  if (scheme === 'HTTPS' && code !== undefined && /^(EPROTO|ERR_SSL_)/.test(code))
    return code.includes('WRONG_VERSION') || code === 'EPROTO'
      ? 'http: server gave HTTP response to HTTPS client'
      : 'tls: handshake failure'
  if (code?.startsWith('HPE_'))
    return 'net/http: HTTP/1.x transport connection broken: malformed HTTP response'
  // Ours, and about an answer only: statuses that are not followed, sizes.
  return error instanceof Error ? error.message : 'EOF'
}

/** Node says ECONNRESET also where the other side has closed in good order. */
function hungUp(error: unknown): boolean {
  return error instanceof Error && error.message === 'socket hang up'
}

/** Of the error or of what caused it; errors of ours wrap those of the system. */
function codeOf(error: unknown): string | undefined {
  let at = error
  for (let depth = 0; depth < 4 && at instanceof Error; depth++) {
    const { code } = at as NodeJS.ErrnoException
    if (typeof code === 'string') return code
    at = at.cause
  }
  return undefined
}
