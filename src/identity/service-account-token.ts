import { randomUUID } from 'node:crypto'
import {
  calculateJwkThumbprint,
  type CryptoKey,
  decodeJwt,
  decodeProtectedHeader,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JWTPayload,
  jwtVerify,
  SignJWT,
} from 'jose'
import type { TenantName, UserInfo } from '../api/index.ts'
import {
  TOKEN_AUDIENCE_CHARS_MAX,
  TOKEN_AUDIENCES_MAX,
  TOKEN_CHARS_MAX,
  TOKEN_KEYS_MAX,
  TOKEN_NOT_BEFORE_SKEW_SECONDS,
  TOKEN_TTL_SECONDS_DEFAULT,
  TOKEN_TTL_SECONDS_MAX,
  TOKEN_TTL_SECONDS_MIN,
} from './limits.ts'
import { IdentityRefused, isRecord, parseId, parseServiceAccount, parseTenant } from './names.ts'

/** A private P-256 key as JSON, for a control plane's encrypted store. */
export type TokenKey = {
  kty: 'EC'
  crv: 'P-256'
  x: string
  y: string
  d: string
  kid: string
  alg: 'ES256'
  use: 'sig'
}
export type PublicTokenKey = Omit<TokenKey, 'd'>
/** What `/openid/v1/jwks` answers. */
export type Jwks = { keys: PublicTokenKey[] }

type ServiceAccountInfo = Extract<UserInfo, { kind: 'serviceAccount' }>

/** What was in a token that is genuine. */
export type VerifiedToken = { user: ServiceAccountInfo; audiences: readonly string[]; expiresAtMs: number }

const ALGORITHM = 'ES256'
const AUDIENCE_PREFIX = 'https://bulkhead/tenants/'

/**
 * The issuer that all tokens name, as upstream's do: a pod finds its documents there, those of its own tenant. So it
 * tells nothing about whose a token is: that is what the key, the audience and `TENANT_CLAIM` are for.
 */
export const TOKEN_ISSUER = 'https://kubernetes.default.svc.cluster.local'
/** Whose token it is. */
const TENANT_CLAIM = 'bulkhead.dev/tenant'

/** What upstream's clients, and pods' projected tokens, name when they mean the API server. */
export const API_SERVER_AUDIENCE = 'https://kubernetes.default.svc'

/** The audience of tokens for a tenant's API server. */
export function audienceOf(tenant: TenantName): string {
  return AUDIENCE_PREFIX + tenant
}

export async function createTokenKey(): Promise<TokenKey> {
  const { privateKey } = await generateKeyPair(ALGORITHM, { extractable: true })
  const { x, y, d } = await exportJWK(privateKey)
  const key = { kty: 'EC' as const, crv: 'P-256' as const, x: x!, y: y!, d: d! } // an EC key has all three
  return { ...key, kid: await calculateJwkThumbprint(key), alg: ALGORITHM, use: 'sig' }
}

/** Signs and verifies the tokens of one tenant's service accounts. */
export class TokenIssuer {
  readonly tenant: TenantName
  private readonly signer: { kid: string; key: CryptoKey }
  private readonly published: Jwks
  private readonly verifiers: TokenVerifier

  private constructor(
    tenant: TenantName,
    signer: { kid: string; key: CryptoKey },
    published: Jwks,
    verifiers: TokenVerifier,
  ) {
    this.tenant = tenant
    this.signer = signer
    this.published = published
    this.verifiers = verifiers
  }

  /** `keys[0]` signs; the others are older ones whose tokens have not run out. */
  static async open({
    tenant,
    keys,
  }: {
    tenant: TenantName
    keys: readonly TokenKey[]
  }): Promise<TokenIssuer> {
    const [current] = keys
    if (!current || keys.length > TOKEN_KEYS_MAX)
      throw new RangeError(`An issuer has 1 to ${TOKEN_KEYS_MAX} keys, not ${keys.length}`)
    const key = (await importJWK(current, ALGORITHM)) as CryptoKey // only symmetric keys come back as bytes
    const published = { keys: keys.map(({ d: _private, ...rest }) => rest) }
    return new TokenIssuer(
      tenant,
      { kid: current.kid, key },
      published,
      await TokenVerifier.open(tenant, published),
    )
  }

  /**
   * @param audiences `API_SERVER_AUDIENCE` or the issuer is the tenant's own API server, and in the token its name.
   * @param ttlSeconds brought into the allowed range; `expiresAtMs` says what it became.
   * @throws {IdentityRefused} when the account or an audience cannot be in a token.
   */
  async issue({
    account,
    audiences = [API_SERVER_AUDIENCE],
    ttlSeconds = TOKEN_TTL_SECONDS_DEFAULT,
    nowMs,
  }: {
    account: Pick<ServiceAccountInfo, 'namespace' | 'name' | 'uid' | 'boundTo'>
    audiences?: readonly string[]
    ttlSeconds?: number
    nowMs: number
  }): Promise<{ token: string; tokenId: string; expiresAtMs: number }> {
    const { namespace, name, uid, boundTo } = parseServiceAccount(this.tenant, account)
    const issuedAt = Math.floor(nowMs / 1_000)
    const lifetime = Math.min(Math.max(Math.floor(ttlSeconds), TOKEN_TTL_SECONDS_MIN), TOKEN_TTL_SECONDS_MAX)
    if (!Number.isSafeInteger(issuedAt + lifetime))
      throw new RangeError(`A token cannot be valid for ${ttlSeconds} seconds`)
    const tokenId = randomUUID()
    const bound = boundTo && {
      ...(boundTo.node && { node: boundTo.node }),
      [boundTo.kind.toLowerCase()]: { name: boundTo.name, uid: boundTo.uid },
    }
    const token = await new SignJWT({
      aud: parseAudiences(audiences.map((audience) => inToken(this.tenant, audience))),
      exp: issuedAt + lifetime,
      iat: issuedAt,
      iss: TOKEN_ISSUER,
      jti: tokenId,
      [TENANT_CLAIM]: this.tenant,
      'kubernetes.io': { namespace, ...bound, serviceaccount: { name, uid } },
      nbf: issuedAt,
      sub: subjectOf({ namespace, name }),
    })
      .setProtectedHeader({ alg: ALGORITHM, kid: this.signer.kid })
      .sign(this.signer.key)
    return { token, tokenId, expiresAtMs: (issuedAt + lifetime) * 1_000 }
  }

  /**
   * Who a token stands for. Whether the account (and what it is bound to) still exists, the caller has to look up.
   * @throws {IdentityRefused}
   */
  async verify(token: string, expected: { audience: string; nowMs: number }): Promise<VerifiedToken> {
    return this.verifiers.verify(token, expected)
  }

  jwks(): Jwks {
    return this.published
  }
}

/** Verifies one tenant's tokens with its published keys alone. */
export class TokenVerifier {
  private readonly tenant: TenantName
  private readonly keys: ReadonlyMap<string, CryptoKey>

  private constructor(tenant: TenantName, keys: ReadonlyMap<string, CryptoKey>) {
    this.tenant = tenant
    this.keys = keys
  }

  /** @throws {IdentityRefused} when `jwks`, which may come over the wire, is not a set of P-256 keys. */
  static async open(tenant: TenantName, jwks: unknown): Promise<TokenVerifier> {
    const published = isRecord(jwks) ? jwks['keys'] : undefined
    if (!Array.isArray(published) || published.length > TOKEN_KEYS_MAX)
      throw new IdentityRefused(`The keys of tenant "${tenant}" are not a list of at most ${TOKEN_KEYS_MAX}`)
    const keys = new Map<string, CryptoKey>()
    for (const jwk of published) {
      const { kid, x, y } = parsePublicKey(tenant, jwk)
      try {
        // Built from its parts, so that nothing else in the document has a say.
        keys.set(kid, (await importJWK({ kty: 'EC', crv: 'P-256', x, y }, ALGORITHM)) as CryptoKey) // not symmetric
      } catch (cause) {
        throw new IdentityRefused(`The key "${kid}" of tenant "${tenant}" is not on the curve`, { cause })
      }
    }
    return new TokenVerifier(tenant, keys)
  }

  /** False means: ask the tenant for its keys again, it may have a new one. */
  knows(keyId: string): boolean {
    return this.keys.has(keyId)
  }

  /** @throws {IdentityRefused} */
  async verify(
    token: string,
    { audience, nowMs }: { audience: string; nowMs: number },
  ): Promise<VerifiedToken> {
    const keyId = parseKeyId(token)
    const key = this.keys.get(keyId)
    if (!key)
      throw new IdentityRefused(`The token is signed with a key that tenant "${this.tenant}" does not have`)
    let claims: JWTPayload
    try {
      const { payload } = await jwtVerify(token, key, {
        algorithms: [ALGORITHM],
        issuer: [TOKEN_ISSUER, audienceOf(this.tenant)],
        audience,
        currentDate: new Date(nowMs),
        clockTolerance: TOKEN_NOT_BEFORE_SKEW_SECONDS,
        requiredClaims: ['aud', 'exp', 'iat', 'iss', 'jti', 'nbf', 'sub', 'kubernetes.io'],
      })
      claims = payload
    } catch (cause) {
      throw new IdentityRefused('The token is not valid', { cause })
    }
    if (claimedTenant(claims) !== this.tenant) throw new IdentityRefused('The token is of another tenant')
    return parseClaims(this.tenant, claims, nowMs)
  }
}

/**
 * Whose token it claims to be, to find the keys that can verify it. Believe nothing of it before that.
 * @throws {IdentityRefused} when it cannot be a token of ours.
 */
export function parseUnverifiedToken(token: string): { tenant: TenantName; keyId: string } {
  const keyId = parseKeyId(token)
  return { tenant: decoded(() => parseTenant(claimedTenant(decodeJwt(token)))), keyId }
}

/** @throws {IdentityRefused} */
function parseKeyId(token: string): string {
  if (token.length > TOKEN_CHARS_MAX)
    throw new IdentityRefused(`The token has more than ${TOKEN_CHARS_MAX} characters`)
  const { alg, kid, ...others } = decoded(() => decodeProtectedHeader(token))
  if (alg !== ALGORITHM) throw new IdentityRefused(`The token's algorithm is not ${ALGORITHM}`)
  const odd = Object.keys(others).find((field) => field !== 'typ')
  if (odd !== undefined) throw new IdentityRefused("The token's header has a field that we do not know")
  return parseId(kid, "token's key id")
}

/** @throws {IdentityRefused} */
function claimedTenant({ iss, [TENANT_CLAIM]: tenant }: JWTPayload): unknown {
  if (iss === TOKEN_ISSUER) return tenant
  // Tokens that were made before all had one issuer named their tenant in it.
  if (iss?.startsWith(AUDIENCE_PREFIX) && tenant === undefined) return iss.slice(AUDIENCE_PREFIX.length)
  throw new IdentityRefused('The token is from another issuer')
}

function decoded<T>(decode: () => T): T {
  try {
    return decode()
  } catch (cause) {
    if (cause instanceof IdentityRefused) throw cause
    throw new IdentityRefused('The token cannot be parsed', { cause })
  }
}

function parseClaims(tenant: TenantName, claims: JWTPayload, nowMs: number): VerifiedToken {
  const { exp, iat, aud, jti, sub } = claims
  if (exp === undefined || iat === undefined || exp - iat > TOKEN_TTL_SECONDS_MAX)
    throw new IdentityRefused('The token is valid for longer than any of ours')
  // The allowance for clocks is for the beginning only.
  if (nowMs >= exp * 1_000) throw new IdentityRefused('The token has expired')
  const details = claims['kubernetes.io']
  if (!isRecord(details) || !isRecord(details['serviceaccount']))
    throw new IdentityRefused('The token names no account')
  const { pod, secret, node } = details
  if (pod !== undefined && secret !== undefined)
    throw new IdentityRefused('The token is bound to two objects')
  const bound = pod === undefined ? { kind: 'Secret', value: secret } : { kind: 'Pod', value: pod }
  const user = parseServiceAccount(tenant, {
    namespace: details['namespace'],
    name: details['serviceaccount']['name'],
    uid: details['serviceaccount']['uid'],
    tokenId: jti,
    ...(isRecord(bound.value) ? { boundTo: { ...bound.value, kind: bound.kind, node } } : {}),
  })
  if (bound.value !== undefined && user.boundTo === undefined)
    throw new IdentityRefused('The token is bound to something that is not an object')
  if (sub !== subjectOf(user)) throw new IdentityRefused("The token's subject is not its account")
  return { user, audiences: parseAudiences([aud ?? []].flat()), expiresAtMs: exp * 1_000 }
}

function subjectOf({ namespace, name }: { namespace: string; name: string }): string {
  return `system:serviceaccount:${namespace}:${name}`
}

/** As an audience stands in a token: two tenants' API servers have one name outside of it. */
export function inToken(tenant: TenantName, audience: string): string {
  return [API_SERVER_AUDIENCE, TOKEN_ISSUER].includes(audience) ? audienceOf(tenant) : audience
}

function parseAudiences(audiences: readonly unknown[]): string[] {
  if (audiences.length === 0 || audiences.length > TOKEN_AUDIENCES_MAX)
    throw new IdentityRefused(`A token has 1 to ${TOKEN_AUDIENCES_MAX} audiences, not ${audiences.length}`)
  return audiences.map((audience) => {
    if (typeof audience !== 'string' || audience === '' || audience.length > TOKEN_AUDIENCE_CHARS_MAX)
      throw new IdentityRefused(`An audience must be text of 1 to ${TOKEN_AUDIENCE_CHARS_MAX} characters`)
    return audience
  })
}

const COORDINATE = /^[A-Za-z0-9_-]{43}$/

function parsePublicKey(tenant: TenantName, jwk: unknown): { kid: string; x: string; y: string } {
  if (
    !isRecord(jwk) ||
    jwk['kty'] !== 'EC' ||
    jwk['crv'] !== 'P-256' ||
    ![ALGORITHM, undefined].includes(jwk['alg'] as string)
  )
    throw new IdentityRefused(`A key of tenant "${tenant}" is not a P-256 key`)
  const { x, y } = jwk
  if (typeof x !== 'string' || typeof y !== 'string' || !COORDINATE.test(x) || !COORDINATE.test(y))
    throw new IdentityRefused(`A key of tenant "${tenant}" has no valid coordinates`)
  return { kid: parseId(jwk['kid'], 'key id'), x, y }
}
