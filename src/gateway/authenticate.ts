import type { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import type { TenantName } from '../api/index.ts'
import {
  IdentityRefused,
  audienceOf,
  type OutsideUser,
  parseClientCertificate,
  parseUnverifiedToken,
  tenantUidOf,
  TOKEN_CHARS_MAX,
} from '../identity/index.ts'
import type { Clock } from '../stdx/index.ts'
import { headerPairs } from './headers.ts'
import type { TokenKeys } from './token-keys.ts'

/** What the client showed when the connection was made; the same for all requests on it. */
export type PeerCertificate =
  | { kind: 'none' }
  | { kind: 'refused'; why: string }
  | {
      kind: 'genuine'
      user: OutsideUser
      /** Of the Tenant that the certificate was made for. */
      tenantUid: string | undefined
      notBeforeMs: number
      notAfterMs: number
    }

export type Authenticated = { user: OutsideUser; tenantUid?: string | undefined; expiresAtMs: number }

/** Judges the certificate of a finished handshake. One that is not good is not the same as none. */
export function judgeCertificate(socket: TLSSocket): PeerCertificate {
  const certificate: X509Certificate | undefined = socket.getPeerX509Certificate()
  if (!certificate) return { kind: 'none' }
  if (!socket.authorized)
    return { kind: 'refused', why: `the certificate is not genuine: ${String(socket.authorizationError)}` }
  try {
    return {
      kind: 'genuine',
      user: parseClientCertificate(certificate),
      tenantUid: tenantUidOf(certificate),
      notBeforeMs: certificate.validFromDate.getTime(),
      notAfterMs: certificate.validToDate.getTime(),
    }
  } catch (error) {
    if (!(error instanceof IdentityRefused)) throw error
    return { kind: 'refused', why: error.message }
  }
}

const BEARER = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i
const BEARER_CHARS_MAX = TOKEN_CHARS_MAX + 16

/**
 * Who sends a request. Exactly one credential has to be there, and it has to be good now.
 * @throws {IdentityRefused} whose message is for the audit log only.
 */
export async function authenticate({
  peer,
  rawHeaders,
  keys,
  clock,
  home,
}: {
  peer: PeerCertificate
  rawHeaders: readonly string[]
  keys: TokenKeys
  clock: Clock
  /** Where the client's address says that it belongs: a token of anybody else is not even looked at. */
  home?: TenantName | undefined
}): Promise<Authenticated> {
  const credentials = headerPairs(rawHeaders).filter(([name]) => name === 'authorization')
  const [credential] = credentials
  if (peer.kind === 'refused') throw new IdentityRefused(peer.why)
  if (peer.kind === 'genuine') {
    if (credential) throw new IdentityRefused('There are a client certificate and an Authorization header')
    const nowMs = clock.nowMs()
    // The connection may be older than the certificate's last second.
    if (nowMs < peer.notBeforeMs || nowMs >= peer.notAfterMs)
      throw new IdentityRefused('The client certificate has expired')
    return { user: peer.user, tenantUid: peer.tenantUid, expiresAtMs: peer.notAfterMs }
  }
  if (!credential) throw new IdentityRefused('There is no credential')
  if (credentials.length > 1) throw new IdentityRefused('There are two Authorization headers')
  const [, value] = credential
  const [, token] = (value.length <= BEARER_CHARS_MAX && BEARER.exec(value)) || []
  if (token === undefined) throw new IdentityRefused('The Authorization header is not a bearer token')
  const { tenant, keyId } = parseUnverifiedToken(token)
  if (home !== undefined && tenant !== home)
    throw new IdentityRefused(`A token of tenant "${tenant}" comes from a pod of tenant "${home}"`)
  const verifier = await keys.verifierFor(tenant, keyId)
  if (!verifier)
    throw new IdentityRefused(`The keys of tenant "${tenant}", which the token claims, are not to be had`)
  return verifier.verify(token, { audience: audienceOf(tenant), nowMs: clock.nowMs() })
}
