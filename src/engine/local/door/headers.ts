import { hostMatches } from '../../../api/index.ts'

/** Name and value, in order, as they came. */
export type Header = readonly [string, string]

/** Of one connection only (RFC 9110, 7.6.1), or the next one's to say. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
])
/** What only we say: a client that sends it would be believed. */
const OURS: ReadonlySet<string> = new Set([
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-forwarded-proto',
  'x-forwarded-scheme',
  'x-forwarded-server',
  'x-forwarded-ssl',
  'x-forwarded-prefix',
  'x-forwarded-uri',
  'x-forwarded-method',
  'x-forwarded-user',
  'x-forwarded-client-cert',
  'x-real-ip',
  'x-client-ip',
  'x-original-url',
  'x-original-host',
  'x-original-uri',
  'x-original-forwarded-for',
  'x-rewrite-url',
  'x-scheme',
])
const ONCE: ReadonlySet<string> = new Set(['host', 'content-length', 'content-type', 'transfer-encoding'])
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/

/** Why a request is not passed on, or undefined: two readers of it could understand two requests. */
export function headerProblem(headers: readonly Header[]): string | undefined {
  const seen = new Set<string>()
  let coding: string | undefined
  for (const [name, value] of headers) {
    const lower = name.toLowerCase()
    if (!TOKEN.test(name.startsWith(':') ? name.slice(1) : name)) return 'a header has no valid name'
    // eslint-disable-next-line no-control-regex -- these are what must not be in a value
    if (/[\x00-\x08\x0a-\x1f\x7f]/.test(value)) return 'a header has no valid value'
    if (ONCE.has(lower) && seen.has(lower)) return `"${lower}" is there twice`
    seen.add(lower)
    if (lower === 'transfer-encoding') coding = value.trim().toLowerCase()
    if (lower === 'content-length' && !/^\d{1,15}$/.test(value)) return '"content-length" is no length'
  }
  if (coding !== undefined && coding !== 'chunked') return '"transfer-encoding" is not "chunked"'
  if (coding !== undefined && seen.has('content-length')) return 'it has two lengths'
  return undefined
}

/** What goes on to the service. Requires: `headerProblem` has found none. */
export function requestHeaders(
  headers: readonly Header[],
  { authority, client, scheme, port }: { authority: string; client: string; scheme: string; port: number },
): Header[] {
  return [
    ['host', authority],
    ...passed(headers).filter(([name]) => {
      // Some servers read "_" as "-".
      const lower = name.toLowerCase().replaceAll('_', '-')
      // The last are how the platform's own processes tell each other who somebody is.
      return lower !== 'host' && lower !== 'expect' && !OURS.has(lower) && !lower.startsWith('x-bulkhead-')
    }),
    ['x-forwarded-for', client],
    ['x-forwarded-host', authority],
    ['x-forwarded-port', String(port)],
    ['x-forwarded-proto', scheme],
    ['x-real-ip', client],
  ]
}

/**
 * What goes back to the client. A cookie for a domain that is more than the tenant's would be sent to the next tenant's
 * hosts as well, so it does not go back.
 */
export function responseHeaders(headers: readonly Header[], granted: readonly string[]): Header[] {
  return passed(headers).filter(
    ([name, value]) => name.toLowerCase() !== 'set-cookie' || isOwnCookie(value, granted),
  )
}

function isOwnCookie(cookie: string, granted: readonly string[]): boolean {
  return cookie
    .split(';')
    .slice(1)
    .every((attribute) => {
      const [name = '', value = ''] = attribute.split('=', 2).map((part) => part.trim().toLowerCase())
      if (name !== 'domain' || value === '') return true
      const domain = value.replace(/^\./, '').replace(/\.$/, '')
      return granted.some(
        (grant) => grant === domain || grant === `*.${domain}` || hostMatches(grant, domain),
      )
    })
}

/** Without what belongs to the connection, also what `Connection` names. */
function passed(headers: readonly Header[]): Header[] {
  const named = new Set(
    headers
      .filter(([name]) => name.toLowerCase() === 'connection')
      .flatMap(([, value]) => value.split(',').map((part) => part.trim().toLowerCase())),
  )
  return headers.filter(([name]) => {
    const lower = name.toLowerCase()
    return !lower.startsWith(':') && !HOP_BY_HOP.has(lower) && !named.has(lower)
  })
}

/** Node gives names and values in turn. */
export function pairs(raw: readonly string[]): Header[] {
  return Array.from(
    { length: raw.length >> 1 },
    (_, at) => [raw[2 * at] ?? '', raw[2 * at + 1] ?? ''] as const,
  )
}
