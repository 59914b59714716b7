import { createPrivateKey, KeyObject, randomBytes, type webcrypto, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import type { TenantName } from '../api/index.ts'
import {
  AUTHORITY_TTL_SECONDS_DEFAULT,
  CLIENT_CERTIFICATE_TTL_SECONDS_DEFAULT,
  CLIENT_CERTIFICATE_TTL_SECONDS_MAX,
  CLOCK_SKEW_SECONDS,
  CSR_BYTES_MAX,
  SERVER_CERTIFICATE_TTL_SECONDS_MAX,
} from './limits.ts'
import { parseGroups, parseUserName } from './names.ts'
import { type CertificateHolder, renderSpiffeId } from './spiffe-id.ts'

/** A certificate and its key. Keep it encrypted. */
export type KeyedCertificate = { certificatePem: string; privateKeyPem: string }

/** A certificate signing request that we do not sign. The message may be shown to whoever sent it. */
export class CsrRefused extends Error {}

type KeyPair = { privateKey: webcrypto.CryptoKey; publicKey: webcrypto.CryptoKey }

const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' }
const SIGNING_ALGORITHM = { name: 'ECDSA', hash: 'SHA-256' }

/** Only the processes that issue certificates load the library: a smaller trusted base for all others. */
async function x509() {
  await import('reflect-metadata')
  return import('@peculiar/x509')
}

/** Makes an authority that signs leaf certificates and nothing below. Use one for servers and another for clients. */
export async function createAuthority({
  name,
  nowMs,
  ttlSeconds = AUTHORITY_TTL_SECONDS_DEFAULT,
}: {
  name: string
  nowMs: number
  ttlSeconds?: number
}): Promise<KeyedCertificate> {
  const lib = await x509()
  const keys = await createKeyPair()
  const certificate = await lib.X509CertificateGenerator.createSelfSigned({
    name: new lib.Name([{ CN: [{ utf8String: name }] }]),
    keys,
    ...validity(nowMs, ttlSeconds),
    serialNumber: serialNumber(),
    signingAlgorithm: SIGNING_ALGORITHM,
    extensions: [
      new lib.BasicConstraintsExtension(true, 0, true),
      new lib.KeyUsagesExtension(lib.KeyUsageFlags.keyCertSign | lib.KeyUsageFlags.cRLSign, true),
      await lib.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return { certificatePem: `${certificate.toString('pem')}\n`, privateKeyPem: await renderPrivateKey(keys) }
}

/** A new P-256 key pair, for `createCsr` and `renderPrivateKey`. */
export async function createKeyPair(): Promise<KeyPair> {
  return crypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify'])
}

/** The private key as PKCS #8 PEM. */
export async function renderPrivateKey({ privateKey }: KeyPair): Promise<string> {
  return KeyObject.from(privateKey).export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** A request that proves possession of the key. It names nobody: the signer decides who its sender is. */
export async function createCsr(keys: KeyPair): Promise<string> {
  const lib = await x509()
  const request = await lib.Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: SIGNING_ALGORITHM,
  })
  return `${request.toString('pem')}\n`
}

/** A certificate and new key for a TLS server. At least one name or address. */
export async function issueServerCertificate({
  authority,
  dnsNames = [],
  ipAddresses = [],
  nowMs,
  ttlSeconds = SERVER_CERTIFICATE_TTL_SECONDS_MAX,
}: {
  authority: KeyedCertificate
  dnsNames?: readonly string[]
  ipAddresses?: readonly string[]
  nowMs: number
  ttlSeconds?: number
}): Promise<KeyedCertificate> {
  const odd = ipAddresses.find((address) => isIP(address) === 0)
  if (odd !== undefined) throw new TypeError(`"${odd}" is not an IP address`)
  if (dnsNames.length + ipAddresses.length === 0)
    throw new TypeError('A server certificate needs a name or an address')
  const lib = await x509()
  const keys = await createKeyPair()
  const certificatePem = await sign({
    authority,
    publicKey: keys.publicKey,
    nowMs,
    ttlSeconds: Math.min(ttlSeconds, SERVER_CERTIFICATE_TTL_SECONDS_MAX),
    subject: [],
    usage: lib.ExtendedKeyUsage.serverAuth,
    // Critical, because the subject is empty (RFC 5280, 4.2.1.6).
    names: new lib.SubjectAlternativeNameExtension(
      [
        ...dnsNames.map((value) => ({ type: 'dns' as const, value })),
        ...ipAddresses.map((value) => ({ type: 'ip' as const, value })),
      ],
      true,
    ),
  })
  return { certificatePem, privateKeyPem: await renderPrivateKey(keys) }
}

export type ClientCsr = {
  authority: KeyedCertificate
  csrPem: string
  /** Whom the caller has found the sender to be. Absent for an operator of the platform. */
  tenant: TenantName | undefined
  /** Of the Tenant object. */
  tenantUid?: string
  user: string
  groups: readonly string[]
  nowMs: number
  /** Cut to the longest allowed. */
  ttlSeconds?: number
}

/**
 * Signs a client certificate for the key of a request. Nothing but the key is taken from the request.
 * @throws {CsrRefused} when it is not a P-256 request signed by its own key.
 * @throws {IdentityRefused} when the user or a group may not be given.
 */
export async function parseAndSignCsr(
  request: ClientCsr,
): Promise<{ certificatePem: string; notAfterMs: number }> {
  const {
    authority,
    csrPem,
    tenant,
    tenantUid,
    nowMs,
    ttlSeconds = CLIENT_CERTIFICATE_TTL_SECONDS_DEFAULT,
  } = request
  const name = parseUserName(request.user)
  const groups = parseGroups([...request.groups])
  const holder: CertificateHolder =
    tenant === undefined
      ? { kind: 'operator', name }
      : { kind: 'tenantUser', tenant, ...(tenantUid === undefined ? {} : { tenantUid }), name }
  const publicKey = await parseCsr(csrPem)
  const lib = await x509()
  const certificatePem = await sign({
    authority,
    publicKey,
    nowMs,
    ttlSeconds: Math.min(ttlSeconds, CLIENT_CERTIFICATE_TTL_SECONDS_MAX),
    subject: groups.map((group) => ({ O: [{ utf8String: group }] })),
    usage: lib.ExtendedKeyUsage.clientAuth,
    names: new lib.SubjectAlternativeNameExtension([{ type: 'url', value: renderSpiffeId(holder) }], true),
  })
  return { certificatePem, notAfterMs: new X509Certificate(certificatePem).validToDate.getTime() }
}

const CSR_PEM =
  /^-----BEGIN CERTIFICATE REQUEST-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE REQUEST-----\s*$/

async function parseCsr(csrPem: unknown): Promise<webcrypto.CryptoKey> {
  if (typeof csrPem !== 'string' || csrPem.length > CSR_BYTES_MAX)
    throw new CsrRefused(`A certificate signing request must be PEM text of at most ${CSR_BYTES_MAX} bytes`)
  const [, body] = CSR_PEM.exec(csrPem) ?? []
  if (body === undefined)
    throw new CsrRefused('The text must be one PEM block "CERTIFICATE REQUEST" and nothing else')
  const lib = await x509()
  try {
    const csr = new lib.Pkcs10CertificateRequest(Buffer.from(body, 'base64'))
    const algorithm: { name: string; namedCurve?: string } = csr.publicKey.algorithm
    if (algorithm.name !== KEY_ALGORITHM.name || algorithm.namedCurve !== KEY_ALGORITHM.namedCurve)
      throw new CsrRefused('The key of a certificate signing request must be ECDSA P-256')
    if (!(await csr.verify()))
      throw new CsrRefused('The certificate signing request is not signed by its own key')
    return await csr.publicKey.export(KEY_ALGORITHM, ['verify'])
  } catch (cause) {
    if (cause instanceof CsrRefused) throw cause
    throw new CsrRefused('The certificate signing request cannot be parsed', { cause })
  }
}

async function sign({
  authority,
  publicKey,
  nowMs,
  ttlSeconds,
  subject,
  usage,
  names,
}: {
  authority: KeyedCertificate
  publicKey: webcrypto.CryptoKey
  nowMs: number
  ttlSeconds: number
  subject: readonly Record<string, { utf8String: string }[]>[]
  usage: string
  names: import('@peculiar/x509').Extension
}): Promise<string> {
  const lib = await x509()
  const issuer = new lib.X509Certificate(authority.certificatePem)
  const signingKey = createPrivateKey(authority.privateKeyPem).toCryptoKey(KEY_ALGORITHM, false, ['sign'])
  const { notBefore, notAfter } = validity(nowMs, ttlSeconds)
  const certificate = await lib.X509CertificateGenerator.create({
    subject: new lib.Name([...subject]),
    issuer: issuer.subjectName,
    publicKey,
    signingKey,
    notBefore: new Date(Math.max(notBefore.getTime(), issuer.notBefore.getTime())),
    notAfter: new Date(Math.min(notAfter.getTime(), issuer.notAfter.getTime())),
    serialNumber: serialNumber(),
    signingAlgorithm: SIGNING_ALGORITHM,
    extensions: [
      new lib.BasicConstraintsExtension(false, undefined, true),
      new lib.KeyUsagesExtension(lib.KeyUsageFlags.digitalSignature, true),
      new lib.ExtendedKeyUsageExtension([usage], true),
      names,
      await lib.AuthorityKeyIdentifierExtension.create(issuer),
      await lib.SubjectKeyIdentifierExtension.create(publicKey),
    ],
  })
  return `${certificate.toString('pem')}\n`
}

function validity(nowMs: number, ttlSeconds: number): { notBefore: Date; notAfter: Date } {
  if (!(ttlSeconds > 0)) throw new RangeError(`A certificate cannot be valid for ${ttlSeconds} seconds`)
  return {
    notBefore: new Date(nowMs - CLOCK_SKEW_SECONDS * 1_000),
    notAfter: new Date(nowMs + ttlSeconds * 1_000),
  }
}

/** 127 random bits: positive, as RFC 5280 asks, and not to be guessed. */
function serialNumber(): string {
  const bytes = randomBytes(16)
  bytes[0] = (bytes[0]! & 0x7f) | 0x40 // 16 bytes
  return bytes.toString('hex')
}
