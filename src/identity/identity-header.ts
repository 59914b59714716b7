import { PLATFORM_TENANT, type TenantName, type UserInfo } from '../api/index.ts'
import { IDENTITY_HEADER_CHARS_MAX } from './limits.ts'
import {
  IdentityRefused,
  isRecord,
  parseGroups,
  parseServiceAccount,
  parseTenant,
  parseUserName,
} from './names.ts'

/** Carries the authenticated identity from the gateway to a control plane. Taken off whatever a client sends. */
export const IDENTITY_HEADER = 'x-bulkhead-identity'
/** In a control plane's answer: what its policies note for the audit log. It goes no further than the gateway. */
export const AUDIT_NOTE_HEADER = 'x-bulkhead-audit-note'
/** What the request took of the control plane's processor, in whole milliseconds; goes no further than the gateway. */
export const COST_HEADER = 'x-bulkhead-cost'

const BASE64URL = /^[A-Za-z0-9_-]+$/

/** Somebody from outside; the platform's own components never travel. */
export type OutsideUser = Extract<UserInfo, { kind: 'tenantUser' | 'serviceAccount' | 'operator' }>

/** Users are never changed, and those of a certificate ask again and again. */
const rendered = new WeakMap<OutsideUser, { tenantUid: string | undefined; text: string }>()

/** `tenantUid` is that of the Tenant that a user's certificate was made for. */
export function renderIdentity(user: OutsideUser, tenantUid?: string): string {
  const before = rendered.get(user)
  if (before && before.tenantUid === tenantUid) return before.text
  const fields = user.kind === 'tenantUser' && tenantUid !== undefined ? { ...user, tenantUid } : user
  const text = Buffer.from(JSON.stringify(fields)).toString('base64url')
  rendered.set(user, { tenantUid, text })
  return text
}

/**
 * Reads the header on the side of the control plane of `tenant`, which believes the gateway only that far: an
 * identity of another tenant is refused, so is a user of an earlier tenant of the name, and an operator is somebody only
 * to the platform's own control plane.
 * Requires: SO_PEERCRED has shown that the peer is the gateway.
 * @throws {IdentityRefused}
 */
export function parseIdentity({
  header,
  tenant,
  tenantUid,
}: { header: unknown } & ServedTenant): OutsideUser {
  if (typeof header !== 'string' || header.length > IDENTITY_HEADER_CHARS_MAX || !BASE64URL.test(header))
    throw new IdentityRefused('The identity header is missing or is not base64url text')
  const fields = parseJson(header)
  const user = parseUser(fields)
  const owner = user.kind === 'operator' ? PLATFORM_TENANT : user.tenant
  if (owner !== tenant)
    throw new IdentityRefused(
      `The identity is one of "${owner}", and this is the control plane of "${tenant}"`,
    )
  // Tokens need no uid: the next tenant of a name signs with other keys.
  if (user.kind === 'tenantUser' && tenantUid !== undefined && fields['tenantUid'] !== tenantUid)
    throw new IdentityRefused(`The identity is of another tenant that had the name "${tenant}"`)
  return user
}

/** Whose control plane it is. `tenantUid` is its Tenant object's. */
export type ServedTenant = { tenant: TenantName; tenantUid?: string | undefined }

const IDENTITIES_KNOWN_MAX = 64

/** Where a control plane publishes the keys of its tokens. The gateway asks there on its own behalf. */
export const JWKS_PATH = '/openid/v1/jwks'

/**
 * Who a request that came over a control plane's socket is from. Only the gateway's own question for the public keys
 * comes without an identity; as everybody may know them, it is let through as a component.
 * Requires: SO_PEERCRED has shown that the peer is the gateway.
 * @throws {IdentityRefused}
 */
export function parseRequestIdentity(
  {
    method,
    url,
    headers,
  }: { method?: string | undefined; url?: string | undefined; headers: Readonly<Record<string, unknown>> },
  served: ServedTenant,
): OutsideUser | Extract<UserInfo, { kind: 'component' }> {
  const header = headers[IDENTITY_HEADER]
  if (header === undefined && method === 'GET' && url === JWKS_PATH)
    return { kind: 'component', name: 'gateway' }
  return parseIdentity({ header, ...served })
}

/** Identities that came lately: what a header says follows from it alone, and most requests bring one that others brought. */
export class KnownIdentities {
  private readonly served: ServedTenant
  private readonly users = new Map<string, OutsideUser>()

  constructor(served: ServedTenant) {
    this.served = served
  }

  /** As `parseRequestIdentity`. @throws {IdentityRefused} */
  userOf(request: Parameters<typeof parseRequestIdentity>[0]): UserInfo {
    const header = request.headers[IDENTITY_HEADER]
    const known = typeof header === 'string' ? this.users.get(header) : undefined
    if (known) return known
    const user = parseRequestIdentity(request, this.served)
    if (typeof header !== 'string' || user.kind === 'component') return user
    if (this.users.size >= IDENTITIES_KNOWN_MAX) this.users.clear()
    this.users.set(header, user)
    return user
  }
}

function parseUser(fields: Record<string, unknown>): OutsideUser {
  switch (fields['kind']) {
    case 'tenantUser':
      requireFields(fields, ['kind', 'tenant', 'tenantUid', 'name', 'groups', 'credentialId'])
      return {
        kind: 'tenantUser',
        tenant: parseTenant(fields['tenant']),
        name: parseUserName(fields['name']),
        groups: parseGroups(fields['groups']),
        ...parseCredentialId(fields['credentialId']),
      }
    case 'operator':
      requireFields(fields, ['kind', 'name', 'groups', 'credentialId'])
      return {
        kind: 'operator',
        name: parseUserName(fields['name']),
        groups: parseGroups(fields['groups']),
        ...parseCredentialId(fields['credentialId']),
      }
    case 'serviceAccount':
      requireFields(fields, ['kind', 'tenant', 'namespace', 'name', 'uid', 'boundTo', 'tokenId'])
      return parseServiceAccount(parseTenant(fields['tenant']), fields)
    default:
      throw new IdentityRefused('The identity is of no kind that comes from outside')
  }
}

const CREDENTIAL_ID = /^X509SHA256=[0-9a-f]{64}$/

function parseCredentialId(value: unknown): { credentialId?: string } {
  if (value === undefined) return {}
  if (typeof value !== 'string' || !CREDENTIAL_ID.test(value))
    throw new IdentityRefused('The identity names its credential in an unknown way')
  return { credentialId: value }
}

function requireFields(fields: Record<string, unknown>, allowed: readonly string[]): void {
  const odd = Object.keys(fields).find((field) => !allowed.includes(field))
  if (odd !== undefined) throw new IdentityRefused(`The identity has an unknown field "${odd}"`)
}

function parseJson(header: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(header, 'base64url').toString())
  } catch (cause) {
    throw new IdentityRefused('The identity header is not JSON', { cause })
  }
  if (!isRecord(value)) throw new IdentityRefused('The identity header is not a JSON object')
  return value
}
