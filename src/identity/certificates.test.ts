import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import * as fc from 'fast-check'
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'
import { parseTenantName } from '../api/index.ts'
import {
  createAuthority,
  createCsr,
  createKeyPair,
  CsrRefused,
  issueServerCertificate,
  parseAndSignCsr,
  renderPrivateKey,
} from './authority.ts'
import { parseClientCertificate, tenantUidOf } from './client-certificate.ts'
import { CSR_BYTES_MAX, GROUPS_MAX } from './limits.ts'
import { IdentityRefused } from './names.ts'
import { parseSpiffeId, renderSpiffeId } from './spiffe-id.ts'

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-identity-'))
after(() => rmSync(directory, { recursive: true, force: true }))

const nowMs = Date.now()
const red = parseTenantName('red')
const authority = await createAuthority({ name: 'clients', nowMs })
const keys = await createKeyPair()
const csrPem = await createCsr(keys)
const openssl = spawnSync('openssl', ['version']).status === 0

async function signed(changes: Partial<Parameters<typeof parseAndSignCsr>[0]> = {}): Promise<string> {
  const request = {
    authority,
    csrPem,
    tenant: red,
    user: 'alice@example.com',
    groups: ['dev', 'ops'],
    nowMs,
    ...changes,
  }
  return (await parseAndSignCsr(request)).certificatePem
}

/** A certificate that our authority did sign, but not as `parseAndSignCsr` would. */
async function oddCertificate({
  subject = [],
  sans = [{ type: 'url', value: 'spiffe://bulkhead/tenant/red/user/alice' }],
  usages = [x509.ExtendedKeyUsage.clientAuth],
  ca = false,
}: {
  subject?: x509.JsonNameParams
  sans?: x509.JsonGeneralNames
  usages?: string[]
  ca?: boolean
}): Promise<X509Certificate> {
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: new x509.Name(subject),
    keys,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    extensions: [
      new x509.BasicConstraintsExtension(ca, undefined, true),
      ...(usages.length > 0 ? [new x509.ExtendedKeyUsageExtension(usages, true)] : []),
      ...(sans.length > 0 ? [new x509.SubjectAlternativeNameExtension(sans, true)] : []),
    ],
  })
  return new X509Certificate(certificate.toString('pem'))
}

const credentialIdOf = ({ raw }: X509Certificate) =>
  `X509SHA256=${createHash('sha256').update(raw).digest('hex')}`

describe('a client certificate', () => {
  test('says which user of which tenant it is for, and with which groups', async () => {
    const alice = new X509Certificate(await signed())
    assert.deepEqual(parseClientCertificate(alice), {
      kind: 'tenantUser',
      tenant: 'red',
      name: 'alice@example.com',
      groups: ['dev', 'ops'],
      credentialId: credentialIdOf(alice),
    })
    const none = new X509Certificate(await signed({ groups: [] }))
    assert.deepEqual(parseClientCertificate(none.raw), {
      kind: 'tenantUser',
      tenant: 'red',
      name: 'alice@example.com',
      groups: [],
      credentialId: credentialIdOf(none),
    })
  })

  test('says which of all tenants that had the name it was made for', async () => {
    const uid = '00000000-0000-4000-8000-00000000000a'
    const certificate = new X509Certificate(await signed({ tenantUid: uid }))
    assert.equal(
      certificate.subjectAltName,
      `URI:spiffe://bulkhead/tenant/red/uid/${uid}/user/alice_40example.com`,
    )
    assert.equal(tenantUidOf(certificate), uid)
    assert.deepEqual(parseClientCertificate(certificate), {
      ...parseClientCertificate(new X509Certificate(await signed())),
      credentialId: credentialIdOf(certificate),
    })
    assert.equal(tenantUidOf(new X509Certificate(await signed())), undefined)
    await assert.rejects(signed({ tenantUid: 'x/user/root' }), IdentityRefused)
  })

  test('of an operator belongs to no tenant', async () => {
    const certificate = new X509Certificate(
      await signed({ tenant: undefined, user: 'olga', groups: ['system:masters'] }),
    )
    assert.equal(certificate.subjectAltName, 'URI:spiffe://bulkhead/operator/olga')
    assert.deepEqual(parseClientCertificate(certificate), {
      kind: 'operator',
      name: 'olga',
      groups: ['system:masters'],
      credentialId: credentialIdOf(certificate),
    })
  })

  test(
    'is verified by openssl as a client and not as a server',
    { skip: !openssl && 'openssl is not installed' },
    async () => {
      const file = join(directory, 'leaf.pem')
      const ca = join(directory, 'ca.pem')
      writeFileSync(file, await signed())
      writeFileSync(ca, authority.certificatePem)
      const verify = (purpose: string) =>
        spawnSync('openssl', ['verify', '-x509_strict', '-purpose', purpose, '-CAfile', ca, file], {
          encoding: 'utf8',
        })
      const client = verify('sslclient')
      assert.equal(client.status, 0, client.stderr)
      assert.notEqual(verify('sslserver').status, 0)
      const text = spawnSync('openssl', ['x509', '-noout', '-text', '-in', file], { encoding: 'utf8' }).stdout
      assert.match(
        text,
        /X509v3 Subject Alternative Name: critical\s+URI:spiffe:\/\/bulkhead\/tenant\/red\/user\/alice_40example.com/,
      )
      assert.match(text, /X509v3 Extended Key Usage: critical\s+TLS Web Client Authentication\s/)
      assert.match(text, /X509v3 Basic Constraints: critical\s+CA:FALSE/)
      assert.match(text, /X509v3 Key Usage: critical\s+Digital Signature\s/)
    },
  )

  test('lives no longer than allowed, and no longer than its authority', async () => {
    const day = 86_400
    const year = new X509Certificate(await signed({ ttlSeconds: 10_000 * day }))
    assert.ok(year.validToDate.getTime() <= nowMs + 366 * day * 1_000)
    const short = await createAuthority({ name: 'short', nowMs, ttlSeconds: 60 })
    const leaf = new X509Certificate(await signed({ authority: short }))
    assert.ok(leaf.validToDate.getTime() <= nowMs + 60_000)
    await assert.rejects(signed({ ttlSeconds: 0 }), RangeError)
    await assert.rejects(signed({ ttlSeconds: Number.NaN }), RangeError)
  })

  test('cannot be for a user or group of Kubernetes itself', async () => {
    for (const user of [
      'system:admin',
      'system:serviceaccount:a:b',
      '',
      ' a',
      'a\nb',
      'a\u202Eb',
      'a\0b',
      'x'.repeat(300),
    ])
      await assert.rejects(signed({ user }), IdentityRefused, JSON.stringify(user))
    for (const groups of [
      ['system:nodes'],
      ['a', 'a'],
      [''],
      ['x'.repeat(65)],
      ['a\nO=b'],
      Array.from({ length: GROUPS_MAX + 1 }, (_, i) => `g${i}`),
    ])
      await assert.rejects(signed({ groups }), IdentityRefused, JSON.stringify(groups))
  })

  test('keeps any printable user and group as they are', async () => {
    const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
    await fc.assert(
      fc.asyncProperty(name, fc.uniqueArray(name, { maxLength: 3 }), async (user, groups) => {
        let pem: string
        try {
          pem = await signed({ user, groups })
        } catch (error) {
          assert.ok(error instanceof IdentityRefused)
          return
        }
        const certificate = new X509Certificate(pem)
        assert.deepEqual(parseClientCertificate(certificate), {
          kind: 'tenantUser',
          tenant: 'red',
          name: user,
          groups,
          credentialId: credentialIdOf(certificate),
        })
      }),
      { numRuns: 40 },
    )
  })

  for (const [attack, odd] of Object.entries<Parameters<typeof oddCertificate>[0]>({
    'no name': { sans: [] },
    'two SPIFFE IDs': {
      sans: [
        { type: 'url', value: 'spiffe://bulkhead/tenant/red/user/alice' },
        { type: 'url', value: 'spiffe://bulkhead/tenant/blue/user/alice' },
      ],
    },
    'a DNS name that looks like two names': {
      sans: [{ type: 'dns', value: 'x, URI:spiffe://bulkhead/tenant/red/user/alice' }],
    },
    'a second name of another type': {
      sans: [
        { type: 'url', value: 'spiffe://bulkhead/tenant/red/user/alice' },
        { type: 'dns', value: 'example.com' },
      ],
    },
    'a SPIFFE ID of another trust domain': {
      sans: [{ type: 'url', value: 'spiffe://elsewhere/tenant/red/user/alice' }],
    },
    'a reserved tenant': { sans: [{ type: 'url', value: 'spiffe://bulkhead/tenant/platform/user/alice' }] },
    'a climbing path': {
      sans: [{ type: 'url', value: 'spiffe://bulkhead/tenant/red/user/../../operator/a' }],
    },
    'a query behind the user': {
      sans: [{ type: 'url', value: 'spiffe://bulkhead/tenant/red/user/alice?x' }],
    },
    'a second way to write the user': {
      sans: [{ type: 'url', value: 'spiffe://bulkhead/tenant/red/user/_61lice' }],
    },
    'a user of the system': {
      sans: [{ type: 'url', value: 'spiffe://bulkhead/tenant/red/user/system_3aadmin' }],
    },
    'the usage of a server': { usages: [x509.ExtendedKeyUsage.serverAuth] },
    'both usages': { usages: [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth] },
    'no usage': { usages: [] },
    'the power of an authority': { ca: true },
    'a common name': { subject: [{ CN: [{ utf8String: 'alice' }] }] },
    'a group of the system': { subject: [{ O: [{ utf8String: 'system:nodes' }] }] },
    'a line end in a group': { subject: [{ O: [{ utf8String: 'a\nO=system:masters' }] }] },
  }))
    test(`with ${attack} stands for nobody`, async () => {
      const certificate = await oddCertificate(odd)
      assert.throws(() => parseClientCertificate(certificate), IdentityRefused)
    })

  test('that is not one stands for nobody', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2_000 }), (bytes) => {
        assert.throws(() => parseClientCertificate(bytes), IdentityRefused)
      }),
    )
  })
})

describe('a certificate signing request', () => {
  test('has no say in anything but its key', async () => {
    const csr = await x509.Pkcs10CertificateRequestGenerator.create({
      name: 'CN=admin, O=system:masters',
      keys,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      extensions: [
        new x509.BasicConstraintsExtension(true, 2, true),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: 'spiffe://bulkhead/operator/mallory' },
        ]),
      ],
    })
    const certificate = new X509Certificate(await signed({ csrPem: csr.toString('pem') }))
    assert.deepEqual(parseClientCertificate(certificate).groups, ['dev', 'ops'])
    assert.equal(certificate.subjectAltName, 'URI:spiffe://bulkhead/tenant/red/user/alice_40example.com')
    assert.equal(certificate.ca, false)
    assert.ok(certificate.checkPrivateKey(createPrivateKey(await renderPrivateKey(keys))))
  })

  test("for somebody else's key is refused", async () => {
    const csr = new x509.Pkcs10CertificateRequest(csrPem)
    const other = new x509.Pkcs10CertificateRequest(await createCsr(await createKeyPair()))
    const key = Buffer.from(csr.publicKey.rawData)
    const bytes = Buffer.from(csr.rawData)
    const at = bytes.indexOf(key)
    Buffer.from(other.publicKey.rawData).copy(bytes, at)
    const forged = `-----BEGIN CERTIFICATE REQUEST-----\n${bytes.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`
    await assert.rejects(signed({ csrPem: forged }), CsrRefused)
  })

  test('with another kind of key is refused', async () => {
    for (const [algorithm, hash] of [
      [{ name: 'ECDSA', namedCurve: 'P-384' }, 'SHA-384'],
      [
        {
          name: 'RSASSA-PKCS1-v1_5',
          hash: 'SHA-256',
          publicExponent: new Uint8Array([1, 0, 1]),
          modulusLength: 2048,
        },
        'SHA-256',
      ],
    ] as const) {
      const pair = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
      const csr = await x509.Pkcs10CertificateRequestGenerator.create({
        keys: pair,
        signingAlgorithm: { name: algorithm.name, hash },
      })
      await assert.rejects(signed({ csrPem: csr.toString('pem') }), CsrRefused)
    }
  })

  test('that was changed is refused, or the certificate is for the key that signed it', async () => {
    const bytes = Buffer.from(new x509.Pkcs10CertificateRequest(csrPem).rawData)
    const pem = (body: Uint8Array) =>
      `-----BEGIN CERTIFICATE REQUEST-----\n${Buffer.from(body).toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`
    for (const text of ['', 'x', csrPem + csrPem, authority.certificatePem, 'x'.repeat(CSR_BYTES_MAX + 1)])
      await assert.rejects(signed({ csrPem: text }), CsrRefused)
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, by) => {
        const changed = Uint8Array.from(bytes)
        changed[at]! ^= by
        // A changed length at the very outside does no harm: what counts is whose key is signed.
        try {
          const certificate = new X509Certificate(await signed({ csrPem: pem(changed) }))
          assert.ok(certificate.checkPrivateKey(createPrivateKey(await renderPrivateKey(keys))))
        } catch (error) {
          assert.ok(error instanceof CsrRefused, String(error))
        }
      }),
      { numRuns: 60 },
    )
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (body) => {
        await assert.rejects(signed({ csrPem: pem(body) }), CsrRefused)
      }),
      { numRuns: 60 },
    )
  })
})

test('a server certificate names its server and is no client', async () => {
  const server = await issueServerCertificate({
    authority,
    dnsNames: ['localhost'],
    ipAddresses: ['127.0.0.1', '::1'],
    nowMs,
  })
  const certificate = new X509Certificate(server.certificatePem)
  assert.equal(certificate.checkHost('localhost'), 'localhost')
  assert.equal(certificate.checkIP('127.0.0.1'), '127.0.0.1')
  assert.throws(() => parseClientCertificate(certificate), IdentityRefused)
  await assert.rejects(issueServerCertificate({ authority, nowMs }), TypeError)
  await assert.rejects(issueServerCertificate({ authority, ipAddresses: ['localhost'], nowMs }), TypeError)
})

test('a SPIFFE ID has one form for each user, and only characters that SPIFFE allows', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 60 }), (name) => {
      const id = renderSpiffeId({ kind: 'tenantUser', tenant: red, name })
      assert.match(id, /^spiffe:\/\/bulkhead\/tenant\/red\/user\/(?!\.{1,2}$)[A-Za-z0-9._-]+$/)
      try {
        assert.deepEqual(parseSpiffeId(id), { kind: 'tenantUser', tenant: 'red', name })
      } catch (error) {
        assert.ok(error instanceof IdentityRefused)
      }
    }),
  )
  fc.assert(
    fc.property(fc.stringMatching(/^[A-Za-z0-9._-]{1,12}$/), (segment) => {
      const id = `spiffe://bulkhead/operator/${segment}`
      try {
        assert.equal(renderSpiffeId(parseSpiffeId(id)), id)
      } catch (error) {
        assert.ok(error instanceof IdentityRefused)
      }
    }),
  )
})
