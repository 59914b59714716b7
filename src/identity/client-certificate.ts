import { X509Certificate } from 'node:crypto'
import type { UserInfo } from '../api/index.ts'
import { CERTIFICATE_BYTES_MAX } from './limits.ts'
import { IdentityRefused, parseGroups } from './names.ts'
import { parseSpiffeId } from './spiffe-id.ts'

const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'
const URI_PREFIX = 'URI:'
/** As upstream names a certificate, with the hash of all of it. */
const X509_ID = 'X509SHA256='

/**
 * Who a client certificate stands for. Says nothing about whether the certificate is genuine.
 * Requires: the TLS layer has verified its chain, times and proof of possession.
 * @throws {IdentityRefused} unless it is exactly like those that `signClientCsr` makes.
 */
export function parseClientCertificate(
  certificate: X509Certificate | Uint8Array,
): Extract<UserInfo, { kind: 'tenantUser' | 'operator' }> {
  const parsed = certificate instanceof X509Certificate ? certificate : parseDer(certificate)
  if (parsed.raw.length > CERTIFICATE_BYTES_MAX)
    throw new IdentityRefused('A client certificate is too large')
  if (parsed.ca) throw new IdentityRefused('A client certificate is one of an authority')
  // Node calls the extended key usage `keyUsage`.
  const usages = parsed.keyUsage as readonly string[] | undefined
  if (usages?.length !== 1 || usages[0] !== CLIENT_AUTH)
    throw new IdentityRefused('A client certificate must be for client authentication and nothing else')
  // Node joins names with ", " and quotes odd ones. A SPIFFE ID contains neither, so there is exactly one name.
  const names = parsed.subjectAltName
  if (!names?.startsWith(URI_PREFIX)) throw new IdentityRefused('A client certificate has no SPIFFE ID')
  const holder = parseSpiffeId(names.slice(URI_PREFIX.length))
  const groups = parseGroups(organizationsOf(parsed))
  const credentialId = X509_ID + parsed.fingerprint256.replaceAll(':', '').toLowerCase()
  if (holder.kind === 'operator') return { ...holder, groups, credentialId }
  const { kind, tenant, name } = holder
  return { kind, tenant, name, groups, credentialId }
}

/**
 * The uid of the Tenant that a certificate was made for, which tells it from the next tenant of the same name.
 * @throws {IdentityRefused} as `parseClientCertificate`.
 */
export function tenantUidOf(certificate: X509Certificate): string | undefined {
  const holder = parseSpiffeId((certificate.subjectAltName ?? '').slice(URI_PREFIX.length))
  return holder.kind === 'tenantUser' ? holder.tenantUid : undefined
}

/** The subject's organizations, which are its groups; a subject with anything else in it is not ours. */
function organizationsOf(certificate: X509Certificate): unknown[] {
  const subject: Record<string, unknown> = { ...certificate.toLegacyObject().subject }
  const { O: organizations = [], ...others } = subject
  const odd = Object.keys(others)
  if (odd.length > 0) throw new IdentityRefused(`A client certificate's subject has "${odd.join('", "')}"`)
  return Array.isArray(organizations) ? organizations : [organizations]
}

function parseDer(der: Uint8Array): X509Certificate {
  if (der.length > CERTIFICATE_BYTES_MAX) throw new IdentityRefused('A client certificate is too large')
  try {
    return new X509Certificate(der)
  } catch (cause) {
    throw new IdentityRefused('A client certificate cannot be parsed', { cause })
  }
}
