import type { TenantName } from '../api/index.ts'
import { IdentityRefused, parseTenant, parseUserName } from './names.ts'

/** Who a client certificate speaks for. */
export type CertificateHolder =
  /** `tenantUid` is the Tenant object's, so that the next tenant of the name is another. */
  | { kind: 'tenantUser'; tenant: TenantName; tenantUid?: string; name: string }
  | { kind: 'operator'; name: string }

const TRUST_DOMAIN = 'spiffe://bulkhead'
const TENANT_USER =
  /^spiffe:\/\/bulkhead\/tenant\/([a-z0-9-]+)(?:\/uid\/([0-9a-f-]{36}))?\/user\/([A-Za-z0-9._-]+)$/
const UID = /^[0-9a-f-]{36}$/
const OPERATOR = /^spiffe:\/\/bulkhead\/operator\/([A-Za-z0-9._-]+)$/

export function renderSpiffeId(holder: CertificateHolder): string {
  switch (holder.kind) {
    case 'tenantUser':
      return `${TRUST_DOMAIN}/tenant/${holder.tenant}${renderUid(holder.tenantUid)}/user/${renderSegment(holder.name)}`
    case 'operator':
      return `${TRUST_DOMAIN}/operator/${renderSegment(holder.name)}`
    default:
      holder satisfies never
      throw new Error('An unknown kind of certificate holder')
  }
}

/** @throws {IdentityRefused} unless `id` is exactly what `renderSpiffeId` writes. */
export function parseSpiffeId(id: string): CertificateHolder {
  const [, tenant, tenantUid, user] = TENANT_USER.exec(id) ?? []
  if (tenant !== undefined && user !== undefined)
    return {
      kind: 'tenantUser',
      tenant: parseTenant(tenant),
      ...(tenantUid === undefined ? {} : { tenantUid }),
      name: parseUserName(parseSegment(user)),
    }
  const [, operator] = OPERATOR.exec(id) ?? []
  if (operator !== undefined) return { kind: 'operator', name: parseUserName(parseSegment(operator)) }
  throw new IdentityRefused('A certificate has a SPIFFE ID that is not one of ours')
}

function renderUid(uid: string | undefined): string {
  if (uid === undefined) return ''
  if (!UID.test(uid)) throw new IdentityRefused(`"${uid}" is not the uid of a Tenant`)
  return `/uid/${uid}`
}

/**
 * SPIFFE allows letters, digits, ".", "_" and "-" in a segment, no percent signs, and neither "." nor "..": other
 * bytes become "_" and two hexadecimal digits. https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md
 */
function renderSegment(name: string): string {
  const plain = name === '.' || name === '..' ? /[^\s\S]/ : /[A-Za-z0-9.-]/
  return [...Buffer.from(name)]
    .map((byte) => {
      const character = String.fromCharCode(byte)
      return plain.test(character) ? character : `_${byte.toString(16).padStart(2, '0')}`
    })
    .join('')
}

function parseSegment(segment: string): string {
  const bytes: number[] = []
  for (let i = 0; i < segment.length; i++) {
    if (segment[i] !== '_') bytes.push(segment.charCodeAt(i))
    else {
      bytes.push(Number.parseInt(segment.slice(i + 1, i + 3), 16))
      i += 2
    }
  }
  const name = Buffer.from(bytes).toString()
  // One name has one way to be written: otherwise two certificates could look like two users and be one.
  if (renderSegment(name) !== segment)
    throw new IdentityRefused('The user in a SPIFFE ID is not written in its one form')
  return name
}
