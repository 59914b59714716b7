import { X509Certificate } from 'node:crypto'
import { chmodSync, chownSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { API_SERVICE, API_SERVICE_DNS_NAMES, isDnsSubdomain, type Layout, paths } from '../api/index.ts'
import { renderKubeconfig } from '../cli/index.ts'
import type { DaemonUsers } from '../engine/local/index.ts'
import {
  createAuthority,
  createCsr,
  createKeyPair,
  issueServerCertificate,
  type KeyedCertificate,
  parseAndSignCsr,
  renderPrivateKey,
} from '../identity/index.ts'
import { PKI_FILES } from './pki-files.ts'
import { serverUrl } from './server-url.ts'

const RENEW_BEFORE_MS = 30 * 24 * 3600 * 1000
const OPERATOR_TTL_SECONDS = 365 * 24 * 3600
export const OPERATORS_GROUP = 'bulkhead:operators'

/**
 * The authorities, the gateways' certificates and the operator's kubeconfig: made at the first start, renewed at a start
 * that finds them near their end. Only the platform's control plane can read the key that signs clients.
 */
export async function ensurePki(layout: Layout, users: DaemonUsers): Promise<void> {
  const dir = paths.pki(layout)
  const file = (name: keyof typeof PKI_FILES) => join(dir, PKI_FILES[name])
  const nowMs = Date.now()

  const authority = async (
    certificate: string,
    key: string,
    name: string,
    owner: { uid: number; gid: number },
  ): Promise<KeyedCertificate> => {
    if (!existsSync(certificate) || !existsSync(key)) {
      const made = await createAuthority({ name, nowMs })
      write(key, made.privateKeyPem, 0o600, owner)
      write(certificate, made.certificatePem, 0o644)
    }
    return { certificatePem: readFileSync(certificate, 'utf8'), privateKeyPem: readFileSync(key, 'utf8') }
  }

  const clients = await authority(file('clientCa'), file('clientCaKey'), 'Bulkhead clients', users.platform)
  const servers = await authority(file('serverCa'), file('serverCaKey'), 'Bulkhead servers', {
    uid: 0,
    gid: 0,
  })

  const addresses = [...new Set([layout.gatewayAddress, '127.0.0.1', '::1'])].filter(
    (a) => isIP(a) !== 0 && a !== '0.0.0.0' && a !== '::',
  )
  const names = [
    'localhost',
    hostname().toLowerCase(),
    ...(isIP(layout.gatewayAddress) === 0 ? [layout.gatewayAddress] : []),
  ].filter(isDnsSubdomain)
  const server = async (
    [certificate, key]: [string, string],
    dnsNames: readonly string[],
    ipAddresses: readonly string[],
    owner: { uid: number; gid: number },
  ) => {
    if (isCurrent(certificate, nowMs) && covers(certificate, ipAddresses)) return
    const issued = await issueServerCertificate({
      authority: servers,
      dnsNames: [...new Set(dnsNames)],
      ipAddresses: [...ipAddresses],
      nowMs,
    })
    write(key, issued.privateKeyPem, 0o600, owner)
    write(certificate, issued.certificatePem, 0o644)
  }
  await server([file('gateway'), file('gatewayKey')], names, addresses, users.gateway)
  await server(
    [file('podGateway'), file('podGatewayKey')],
    API_SERVICE_DNS_NAMES,
    [API_SERVICE.clusterIP],
    users.podGateway,
  )

  const kubeconfig = paths.operatorKubeconfig(layout)
  const platformUrl = `${serverUrl(layout)}/platform`
  if (
    !existsSync(kubeconfig) ||
    !readFileSync(kubeconfig, 'utf8').includes(`server: ${platformUrl}\n`) ||
    !isCurrent(join(dir, 'operator.pem'), nowMs)
  ) {
    const keys = await createKeyPair()
    const { certificatePem } = await parseAndSignCsr({
      authority: clients,
      csrPem: await createCsr(keys),
      tenant: undefined,
      user: 'operator',
      groups: [OPERATORS_GROUP],
      nowMs,
      ttlSeconds: OPERATOR_TTL_SECONDS,
    })
    write(join(dir, 'operator.pem'), certificatePem, 0o644)
    write(
      kubeconfig,
      renderKubeconfig({
        name: 'platform',
        server: platformUrl,
        ca: servers.certificatePem,
        certificate: certificatePem,
        key: await renderPrivateKey(keys),
      }),
      0o600,
    )
  }
}

function isCurrent(certificate: string, nowMs: number): boolean {
  if (!existsSync(certificate)) return false
  return new X509Certificate(readFileSync(certificate)).validToDate.getTime() > nowMs + RENEW_BEFORE_MS
}

function covers(certificate: string, addresses: readonly string[]): boolean {
  const parsed = new X509Certificate(readFileSync(certificate))
  return addresses.every((address) => parsed.checkIP(address) !== undefined)
}

function write(
  path: string,
  text: string,
  mode: number,
  { uid, gid }: { uid: number; gid: number } = { uid: 0, gid: 0 },
): void {
  const temporary = `${path}.new`
  rmSync(temporary, { force: true })
  writeFileSync(temporary, text, { mode: 0o600, flag: 'wx' })
  chownSync(temporary, uid, gid)
  chmodSync(temporary, mode)
  renameSync(temporary, path)
}
