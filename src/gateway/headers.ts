import { IDENTITY_HEADER } from '../identity/index.ts'
import { staysWithin } from './passed-on.ts'

/**
 * What a control plane gets to see of a client's headers. Everything else stays here: credentials, whatever speaks
 * of one connection, and every header in which a proxy states who somebody is.
 */
const REQUEST_HEADERS: readonly string[] = [
  'accept',
  'accept-encoding',
  'cache-control',
  'content-encoding',
  'content-type',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'kubectl-command',
  'kubectl-session',
  'traceparent',
  'user-agent',
]
const UPGRADE_REQUEST_HEADERS: readonly string[] = [
  'origin',
  'sec-websocket-key',
  'sec-websocket-protocol',
  'sec-websocket-version',
  'x-stream-protocol-version',
]

/**
 * What a client gets to see of a control plane's headers. All tenants are one origin to a browser, so a broken
 * control plane must not set cookies or policies for the others.
 */
const RESPONSE_HEADERS: readonly string[] = [
  'cache-control',
  'content-encoding',
  'content-type',
  'etag',
  'last-modified',
  'retry-after',
  'vary',
  'warning',
  'x-kubernetes-pf-flowschema-uid',
  'x-kubernetes-pf-prioritylevel-uid',
]
/** Those that are lists. Of others a second is dropped: HTTP/2 would throw for it, and it has no meaning. */
const LISTED_RESPONSE_HEADERS: readonly string[] = ['cache-control', 'vary', 'warning']
const UPGRADE_RESPONSE_HEADERS: readonly string[] = [
  'sec-websocket-accept',
  'sec-websocket-protocol',
  'warning',
  'x-stream-protocol-version',
]

export const REQUEST_ID_HEADER = 'x-bulkhead-request-id'

export type HeaderMap = Record<string, string | string[]>

/** Name in lower case and value, in the order in which they came. */
export function headerPairs(rawHeaders: readonly string[]): [name: string, value: string][] {
  const pairs: [string, string][] = []
  for (let i = 0; i + 1 < rawHeaders.length; i += 2)
    pairs.push([rawHeaders[i]!.toLowerCase(), rawHeaders[i + 1]!]) // i + 1 < length
  return pairs
}

/** Requires: values without line ends, which Node's parsers guarantee and which its writer checks again. */
export function planRequestHeaders({
  rawHeaders,
  identity,
  requestId,
  body,
  upgrade,
}: {
  rawHeaders: readonly string[]
  /** As `renderIdentity` writes it. */
  identity: string
  requestId: string
  /** How long the body is, where that is known. */
  body: { kind: 'none' } | { kind: 'length'; bytes: number } | { kind: 'chunked' }
  upgrade?: string
}): HeaderMap {
  const allowed = upgrade === undefined ? REQUEST_HEADERS : [...REQUEST_HEADERS, ...UPGRADE_REQUEST_HEADERS]
  const headers = pick(rawHeaders, allowed)
  // An upgrade has a connection of its own, and no body.
  if (upgrade !== undefined) Object.assign(headers, { host: 'localhost', connection: 'Upgrade', upgrade })
  else if (body.kind === 'length') headers['content-length'] = String(body.bytes)
  headers[REQUEST_ID_HEADER] = requestId
  headers[IDENTITY_HEADER] = identity
  return headers
}

export function planResponseHeaders(
  rawHeaders: readonly string[],
  {
    requestId,
    contentLength,
    upgrade,
    path,
  }: {
    requestId: string
    contentLength?: string | undefined
    upgrade?: string
    /** What was asked for: it decides where a redirect may lead. */
    path?: string
  },
): HeaderMap {
  const allowed = upgrade === undefined ? RESPONSE_HEADERS : UPGRADE_RESPONSE_HEADERS
  const headers = pick(rawHeaders, allowed)
  for (const [name, value] of Object.entries(headers))
    if (Array.isArray(value) && !LISTED_RESPONSE_HEADERS.includes(name)) headers[name] = value[0] ?? ''
  if (contentLength !== undefined && /^\d{1,15}$/.test(contentLength))
    headers['content-length'] = contentLength
  const locations = path === undefined ? [] : headersNamed(rawHeaders, 'location')
  const [location] = locations
  if (path !== undefined && location !== undefined && locations.length === 1 && staysWithin(path, location))
    headers['location'] = location
  return { ...headers, ...OWN_HEADERS, 'audit-id': requestId }
}

/** Whatever a tenant's control plane answers, a browser must neither run it nor take it for something else. */
export const OWN_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': "default-src 'none'; sandbox",
  'x-content-type-options': 'nosniff',
}

/** Values of a header, in the order in which they came. Most are not there, so this makes nothing for those. */
export function headersNamed(rawHeaders: readonly string[], wanted: string): string[] {
  const values: string[] = []
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]! // i + 1 < length
    if (name.length === wanted.length && name.toLowerCase() === wanted) values.push(rawHeaders[i + 1]!)
  }
  return values
}

function pick(rawHeaders: readonly string[], allowed: readonly string[]): HeaderMap {
  const connection = headersNamed(rawHeaders, 'connection').flatMap((value) =>
    value.split(',').map((option) => option.trim().toLowerCase()),
  )
  const headers: HeaderMap = {}
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase() // i + 1 < length
    if (!allowed.includes(name) || connection.includes(name)) continue
    const value = rawHeaders[i + 1]!
    const before = headers[name]
    headers[name] = before === undefined ? value : [before, value].flat()
  }
  return headers
}
