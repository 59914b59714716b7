import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseTenantName, PLATFORM_TENANT } from '../api/index.ts'
import {
  KnownIdentities,
  type OutsideUser,
  parseIdentity,
  parseRequestIdentity,
  renderIdentity,
} from './identity-header.ts'
import { IDENTITY_HEADER_CHARS_MAX, GROUP_CHARS_MAX, GROUPS_MAX } from './limits.ts'
import { IdentityRefused } from './names.ts'

const red = parseTenantName('red')
const blue = parseTenantName('blue')
const alice: OutsideUser = {
  kind: 'tenantUser',
  tenant: red,
  name: 'alice',
  groups: ['dev', 'system:masters'],
  credentialId: `X509SHA256=${'0a'.repeat(32)}`,
}
const builder: OutsideUser = {
  kind: 'serviceAccount',
  tenant: red,
  namespace: 'default',
  name: 'builder',
  uid: 'uid',
  boundTo: {
    kind: 'Pod',
    name: 'builder-0',
    uid: 'pod-uid',
    node: { name: 'bulkhead', uid: 'node-uid' },
  },
  tokenId: 'jti',
}
const olga: OutsideUser = { kind: 'operator', name: 'olga', groups: [] }

const header = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

test('a user of an earlier tenant of the same name is nobody', () => {
  const [now, before] = ['8f4b3c1e-0d3a-4b6e-9d57-1f0e6f1f6b11', 'c0ffee00-0d3a-4b6e-9d57-1f0e6f1f6b11']
  const ask = (header: string, tenantUid?: string) => parseIdentity({ header, tenant: red, tenantUid })
  assert.deepEqual(ask(renderIdentity(alice, now), now), alice)
  assert.throws(() => ask(renderIdentity(alice, before), now), IdentityRefused)
  assert.throws(() => ask(renderIdentity(alice), now), IdentityRefused)
  for (const odd of [null, 7, '', [now], { [now]: now }])
    assert.throws(() => ask(header({ ...alice, tenantUid: odd }), now), IdentityRefused)
  // The uid says nothing about who somebody is.
  assert.deepEqual(ask(renderIdentity(alice, before)), alice)
  assert.deepEqual(ask(renderIdentity(builder, before), now), builder)
})

test('an identity arrives as it was sent', () => {
  for (const user of [alice, builder])
    assert.deepEqual(parseIdentity({ header: renderIdentity(user), tenant: red }), user)
  assert.deepEqual(parseIdentity({ header: renderIdentity(olga), tenant: PLATFORM_TENANT }), olga)
})

test('a certificate is named by its hash, or the identity is refused', () => {
  for (const credentialId of [
    '',
    'X509SHA256=',
    `X509SHA256=${'0A'.repeat(32)}`,
    `JTI=${'0a'.repeat(32)}`,
    7,
    null,
    [alice],
  ])
    for (const user of [alice, olga])
      assert.throws(
        () =>
          parseIdentity({
            header: header({ ...user, credentialId }),
            tenant: user === olga ? PLATFORM_TENANT : red,
          }),
        IdentityRefused,
      )
})

test('the largest identity still fits', () => {
  const groups = Array.from({ length: GROUPS_MAX }, (_, i) => `${i}`.padEnd(GROUP_CHARS_MAX, '\u6C34'))
  const user: OutsideUser = { ...alice, name: '"'.repeat(256), groups }
  const text = renderIdentity(user)
  assert.ok(text.length <= IDENTITY_HEADER_CHARS_MAX)
  assert.deepEqual(parseIdentity({ header: text, tenant: red }), user)
})

test("an identity is nobody in another tenant's control plane", () => {
  for (const user of [alice, builder, olga])
    assert.throws(() => parseIdentity({ header: renderIdentity(user), tenant: blue }), IdentityRefused)
  for (const user of [alice, builder])
    assert.throws(
      () => parseIdentity({ header: renderIdentity(user), tenant: PLATFORM_TENANT }),
      IdentityRefused,
    )
})

test('what never comes from outside is refused', () => {
  for (const value of [
    { kind: 'component', name: 'controller' },
    { kind: 'anonymous' },
    { kind: 'tenantUser', tenant: 'red', name: 'system:admin', groups: [] },
    { kind: 'tenantUser', tenant: 'red', name: 'alice', groups: ['system:nodes'] },
    { kind: 'tenantUser', tenant: 'red', name: 'alice' },
    { kind: 'tenantUser', tenant: 'red', name: 'alice', groups: [], more: 1 },
    { kind: 'tenantUser', tenant: 'platform', name: 'alice', groups: [] },
    { kind: 'serviceAccount', tenant: 'red', namespace: 'a:b', name: 'x', uid: 'u' },
    { kind: 'serviceAccount', tenant: 'red', namespace: 'a', name: 'x' },
    { kind: 'serviceAccount', tenant: 'red', namespace: 'a', name: 'x', uid: 'u', boundTo: { kind: 'Node' } },
    ...[null, 'n', {}, { name: '../n', uid: 'u' }, { name: 'n', uid: '' }].map((node) => ({
      ...builder,
      boundTo: { kind: 'Pod', name: 'p', uid: 'u', node },
    })),
    { ...builder, boundTo: { kind: 'Secret', name: 's', uid: 'u', node: { name: 'n', uid: 'u' } } },
    [alice],
    'alice',
    null,
  ])
    assert.throws(
      () => parseIdentity({ header: header(value), tenant: red }),
      IdentityRefused,
      JSON.stringify(value),
    )
})

test('a missing, doubled or odd header is refused', () => {
  const good = renderIdentity(alice)
  for (const odd of [undefined, '', `${good}, ${good}`, `${good}=`, ` ${good}`, [good], 'a'.repeat(100_000)])
    assert.throws(() => parseIdentity({ header: odd, tenant: red }), IdentityRefused)
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.throws(() => parseIdentity({ header: text, tenant: red }), IdentityRefused)
    }),
  )
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      assert.throws(() => parseIdentity({ header: header(value), tenant: red }), IdentityRefused)
    }),
  )
})

test('only the exact question for public keys comes without an identity', () => {
  const keys = { method: 'GET', url: '/openid/v1/jwks', headers: {} }
  assert.deepEqual(parseRequestIdentity(keys, { tenant: red }), { kind: 'component', name: 'gateway' })
  for (const other of [
    { ...keys, method: 'POST' },
    { ...keys, url: '/openid/v1/jwks/' },
    { ...keys, url: '/openid/v1/jwks?x' },
    { ...keys, url: '/api/v1/secrets' },
    { ...keys, headers: { 'x-bulkhead-identity': '' } },
  ])
    assert.throws(() => parseRequestIdentity(other, { tenant: red }), IdentityRefused)
  assert.deepEqual(
    parseRequestIdentity(
      { ...keys, headers: { 'x-bulkhead-identity': renderIdentity(alice) } },
      { tenant: red },
    ),
    alice,
  )
})

test('an identity that came before is the same again, and a refused one stays refused', () => {
  const known = new KnownIdentities({ tenant: red, tenantUid: 'one' })
  const of = (name: string, uid: string) => ({
    headers: {
      'x-bulkhead-identity': renderIdentity({ kind: 'tenantUser', tenant: red, name, groups: [] }, uid),
    },
  })
  for (let round = 0; round < 3; round++) {
    // More of them than are remembered.
    for (let n = 0; n < 100; n++)
      assert.deepEqual(known.userOf(of(`user-${n}`, 'one')), {
        kind: 'tenantUser',
        tenant: red,
        name: `user-${n}`,
        groups: [],
      })
    assert.throws(() => known.userOf(of('user-1', 'two')), IdentityRefused)
    assert.throws(() => known.userOf({ headers: {} }), IdentityRefused)
  }
})
