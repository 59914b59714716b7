import assert from 'node:assert/strict'
import { createHmac, createPublicKey } from 'node:crypto'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { importJWK, type JWTPayload, SignJWT } from 'jose'
import { parseTenantName } from '../api/index.ts'
import { TOKEN_KEYS_MAX, TOKEN_TTL_SECONDS_MAX, TOKEN_TTL_SECONDS_MIN } from './limits.ts'
import { IdentityRefused } from './names.ts'
import {
  API_SERVER_AUDIENCE,
  TOKEN_ISSUER,
  createTokenKey,
  audienceOf,
  parseUnverifiedToken,
  TokenIssuer,
  TokenVerifier,
} from './service-account-token.ts'

const nowMs = Date.parse('2026-01-01T00:00:00Z')
const red = parseTenantName('red')
const blue = parseTenantName('blue')
const key = await createTokenKey()
const issuer = await TokenIssuer.open({ tenant: red, keys: [key] })
const account = { namespace: 'default', name: 'builder', uid: '7d5f0a56-0000-4000-8000-000000000000' }
const expected = { audience: audienceOf(red), nowMs }

/** A token signed with the tenant's own key, but not as the issuer would. */
async function oddToken(claims: JWTPayload, header: Record<string, unknown> = {}): Promise<string> {
  const second = nowMs / 1_000
  return new SignJWT({
    aud: [audienceOf(red)],
    exp: second + 600,
    iat: second,
    nbf: second,
    iss: TOKEN_ISSUER,
    'bulkhead.dev/tenant': 'red',
    jti: 'id',
    sub: 'system:serviceaccount:default:builder',
    'kubernetes.io': { namespace: 'default', serviceaccount: { name: 'builder', uid: 'uid' } },
    ...claims,
  })
    .setProtectedHeader({ alg: 'ES256', kid: key.kid, ...header })
    .sign(await importJWK(key, 'ES256'))
}

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

describe('a service account token', () => {
  test('says whose it is, and has the claims that upstream writes', async () => {
    const node = { name: 'bulkhead', uid: 'node-uid' }
    const boundTo = { kind: 'Pod' as const, name: 'builder-0', uid: 'pod-uid', node }
    const { token, tokenId, expiresAtMs } = await issuer.issue({ account: { ...account, boundTo }, nowMs })
    assert.deepEqual(await issuer.verify(token, expected), {
      user: { kind: 'serviceAccount', tenant: 'red', ...account, boundTo, tokenId },
      audiences: ['https://bulkhead/tenants/red'],
      expiresAtMs,
    })
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString())
    assert.deepEqual(claims, {
      'bulkhead.dev/tenant': 'red',
      aud: ['https://bulkhead/tenants/red'],
      exp: nowMs / 1_000 + 3_600,
      iat: nowMs / 1_000,
      iss: 'https://kubernetes.default.svc.cluster.local',
      jti: tokenId,
      'kubernetes.io': {
        namespace: 'default',
        node,
        pod: { name: 'builder-0', uid: 'pod-uid' },
        serviceaccount: { name: 'builder', uid: account.uid },
      },
      nbf: nowMs / 1_000,
      sub: 'system:serviceaccount:default:builder',
    })
  })

  test('is verified with the published keys alone, which do not contain the private part', async () => {
    const { token } = await issuer.issue({ account, nowMs })
    const jwks: unknown = JSON.parse(JSON.stringify(issuer.jwks()))
    assert.deepEqual(Object.keys(issuer.jwks().keys[0]!).sort(), [
      'alg',
      'crv',
      'kid',
      'kty',
      'use',
      'x',
      'y',
    ])
    const verifier = await TokenVerifier.open(red, jwks)
    assert.equal((await verifier.verify(token, expected)).user.name, 'builder')
  })

  test('is accepted while its key is published, and not afterwards', async () => {
    const { token } = await issuer.issue({ account, nowMs })
    const next = await createTokenKey()
    const rotated = await TokenIssuer.open({ tenant: red, keys: [next, key] })
    assert.equal((await rotated.verify(token, expected)).user.name, 'builder')
    const finished = await TokenIssuer.open({ tenant: red, keys: [next] })
    await assert.rejects(finished.verify(token, expected), IdentityRefused)
  })

  test('lives as long as asked, within limits', async () => {
    const lifetime = async (ttlSeconds: number) =>
      ((await issuer.issue({ account, ttlSeconds, nowMs })).expiresAtMs - nowMs) / 1_000
    assert.equal(await lifetime(1), TOKEN_TTL_SECONDS_MIN)
    assert.equal(await lifetime(7_200), 7_200)
    assert.equal(await lifetime(1e12), TOKEN_TTL_SECONDS_MAX)
    await assert.rejects(lifetime(Number.NaN), RangeError)
  })

  test('is refused from the millisecond of its expiry on, and before it begins', async () => {
    const { token, expiresAtMs } = await issuer.issue({ account, nowMs })
    await issuer.verify(token, { ...expected, nowMs: expiresAtMs - 1 })
    await assert.rejects(issuer.verify(token, { ...expected, nowMs: expiresAtMs }), IdentityRefused)
    await assert.rejects(issuer.verify(token, { ...expected, nowMs: nowMs - 60_000 }), IdentityRefused)
  })

  test('for the API server, by the names that it has everywhere, is for this tenant only', async () => {
    for (const name of [API_SERVER_AUDIENCE, TOKEN_ISSUER]) {
      const { token } = await issuer.issue({ account, audiences: [name, 'vault'], nowMs })
      const { audiences } = await issuer.verify(token, expected)
      assert.deepEqual(audiences, [audienceOf(red), 'vault'])
      await assert.rejects(issuer.verify(token, { audience: name, nowMs }), IdentityRefused)
    }
  })

  test('from when every tenant had an issuer of its own is good until it ends, for that tenant', async () => {
    const old = { iss: 'https://bulkhead/tenants/red', 'bulkhead.dev/tenant': undefined }
    const token = await oddToken(old)
    assert.equal((await issuer.verify(token, expected)).user.tenant, 'red')
    assert.equal(parseUnverifiedToken(token).tenant, 'red')
    const foreign = await TokenIssuer.open({ tenant: blue, keys: [key] })
    for (const audience of [audienceOf(red), audienceOf(blue)])
      await assert.rejects(foreign.verify(token, { audience, nowMs }), IdentityRefused)
  })

  test('for another audience is refused', async () => {
    const { token } = await issuer.issue({ account, audiences: ['vault'], nowMs })
    await assert.rejects(issuer.verify(token, expected), IdentityRefused)
    assert.deepEqual((await issuer.verify(token, { audience: 'vault', nowMs })).audiences, ['vault'])
  })

  test('of another tenant is refused, also when the keys are the same', async () => {
    const other = await TokenIssuer.open({ tenant: blue, keys: [key] })
    const { token } = await other.issue({ account, audiences: [audienceOf(red)], nowMs })
    await assert.rejects(issuer.verify(token, expected), IdentityRefused)
    assert.equal(parseUnverifiedToken(token).tenant, 'blue')
  })

  test('without a signature is refused', async () => {
    const { token } = await issuer.issue({ account, nowMs })
    const [, payload] = token.split('.')
    for (const alg of ['none', 'None', 'NONE', '', undefined])
      for (const kid of [key.kid, undefined])
        await assert.rejects(issuer.verify(`${part({ alg, kid })}.${payload}.`, expected), IdentityRefused)
    await assert.rejects(
      issuer.verify(`${token.split('.').slice(0, 2).join('.')}.`, expected),
      IdentityRefused,
    )
  })

  test('signed with the public key as a shared secret is refused', async () => {
    const { token } = await issuer.issue({ account, nowMs })
    const [, payload] = token.split('.')
    const [jwk] = issuer.jwks().keys
    const spki = createPublicKey({ key: jwk!, format: 'jwk' })
    for (const secret of [
      spki.export({ type: 'spki', format: 'pem' }),
      spki.export({ type: 'spki', format: 'der' }),
      JSON.stringify(jwk),
    ]) {
      const signed = `${part({ alg: 'HS256', kid: key.kid })}.${payload}`
      const signature = createHmac('sha256', secret).update(signed).digest('base64url')
      await assert.rejects(issuer.verify(`${signed}.${signature}`, expected), IdentityRefused)
    }
  })

  test('that brings its own key is refused', async () => {
    const mine = await createTokenKey()
    const mineIssuer = await TokenIssuer.open({ tenant: red, keys: [{ ...mine, kid: key.kid }] })
    const { token } = await mineIssuer.issue({ account, nowMs })
    await assert.rejects(issuer.verify(token, expected), IdentityRefused)
    const { d: _d, ...publicKey } = mine
    for (const header of [
      { jwk: publicKey },
      { jku: 'https://attacker.example/jwks' },
      { x5c: ['AA=='] },
      { crit: ['exp'] },
      { b64: false },
    ])
      await assert.rejects(
        async () => issuer.verify(await oddToken({}, header), expected),
        Error,
        JSON.stringify(header),
      )
  })

  test('that our own key signed is refused when it is not one of ours', async () => {
    await issuer.verify(await oddToken({}), expected)
    const io = (details: unknown) => ({ 'kubernetes.io': details }) as JWTPayload
    const serviceaccount = { name: 'builder', uid: 'uid' }
    for (const claims of [
      { exp: undefined },
      { exp: nowMs / 1_000 + TOKEN_TTL_SECONDS_MAX + 1 },
      { iat: undefined },
      { jti: undefined },
      { nbf: undefined },
      { iss: `${TOKEN_ISSUER}/` },
      { iss: undefined },
      { 'bulkhead.dev/tenant': undefined },
      { 'bulkhead.dev/tenant': 'blue' },
      { 'bulkhead.dev/tenant': ['red'] },
      { iss: 'https://bulkhead/tenants/red' },
      { iss: 'https://bulkhead/tenants/blue', 'bulkhead.dev/tenant': undefined },
      { iss: 'https://bulkhead/tenants/red/', 'bulkhead.dev/tenant': undefined },
      { iss: 'https://bulkhead/tenants/platform' },
      { sub: 'system:serviceaccount:default:other' },
      { sub: 'system:serviceaccount:kube-system:builder' },
      { aud: [] },
      io(undefined),
      io({ namespace: 'default' }),
      io({ namespace: 'a:b', serviceaccount }),
      io({ namespace: 'default', serviceaccount: { name: 'a:b', uid: 'uid' } }),
      io({ namespace: 'default', serviceaccount: { name: 'builder', uid: 'a b' } }),
      io({ namespace: 'default', serviceaccount, pod: 'x' }),
      io({ namespace: 'default', serviceaccount, pod: null }),
      io({ namespace: 'default', serviceaccount, pod: { name: 'x' } }),
      io({
        namespace: 'default',
        serviceaccount,
        pod: { name: 'x', uid: 'y' },
        secret: { name: 'x', uid: 'y' },
      }),
    ] as JWTPayload[])
      await assert.rejects(
        async () => issuer.verify(await oddToken(claims), expected),
        IdentityRefused,
        JSON.stringify(claims),
      )
  })

  test('claims the tenant that it names in one place, or is refused', () => {
    const header = part({ alg: 'ES256', kid: key.kid })
    const issuers = [TOKEN_ISSUER, 'https://bulkhead/tenants/red', 'https://bulkhead/tenants/', 'https://x']
    const value = fc.oneof(
      fc.constantFrom(...issuers, 'red', 'blue', 'platform', 'red/../blue'),
      fc.jsonValue(),
    )
    fc.assert(
      fc.property(fc.option(value), fc.option(value), (iss, claim) => {
        const claims = {
          ...(iss === null ? {} : { iss }),
          ...(claim === null ? {} : { 'bulkhead.dev/tenant': claim }),
        }
        let tenant: string
        try {
          ;({ tenant } = parseUnverifiedToken(`${header}.${part(claims)}.x`))
        } catch (error) {
          assert.ok(error instanceof IdentityRefused)
          return
        }
        if (iss === TOKEN_ISSUER) assert.equal(tenant, claim)
        else assert.deepEqual([iss, claim], [`https://bulkhead/tenants/${tenant}`, null])
        assert.notEqual(tenant, 'platform')
      }),
      { numRuns: 2_000 },
    )
  })

  test('with any character changed is refused, and so is any other text', async () => {
    const { token } = await issuer.issue({ account, nowMs })
    await fc.assert(
      fc.asyncProperty(
        fc.nat(token.length - 1),
        fc.constantFrom(...'aZ0_.=/ \n\u00e9'),
        async (at, character) => {
          const changed = token.slice(0, at) + character + token.slice(at + 1)
          if (changed === token) return
          // The last character of the signature holds two unused bits; a changed one may decode to the same bytes.
          if (at === token.length - 1) return
          await assert.rejects(issuer.verify(changed, expected), IdentityRefused)
        },
      ),
      { numRuns: 200 },
    )
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[\w-]{1,40}(\.[\w-]{0,40}){1,4}$/)),
        async (text) => {
          await assert.rejects(issuer.verify(text, expected), IdentityRefused)
        },
      ),
      { numRuns: 200 },
    )
    await assert.rejects(issuer.verify('a'.repeat(100_000), expected), IdentityRefused)
  })
})

describe('keys of a tenant', () => {
  test('that are not P-256 keys are refused', async () => {
    const [good] = issuer.jwks().keys
    for (const jwks of [
      undefined,
      null,
      [],
      { keys: {} },
      { keys: [null] },
      { keys: [{ ...good, kty: 'oct', k: 'AAAA' }] },
      { keys: [{ ...good, crv: 'P-384' }] },
      { keys: [{ ...good, alg: 'HS256' }] },
      { keys: [{ ...good, kid: '' }] },
      { keys: [{ ...good, x: 'A'.repeat(43) }] },
      { keys: [{ ...good, y: 12 }] },
      { keys: Array.from({ length: TOKEN_KEYS_MAX + 1 }, () => good) },
    ])
      await assert.rejects(TokenVerifier.open(red, jwks), IdentityRefused, JSON.stringify(jwks))
    await fc.assert(
      fc.asyncProperty(fc.jsonValue(), async (value) => {
        await assert.rejects(TokenVerifier.open(red, { keys: [value] }), IdentityRefused)
      }),
    )
  })
})
