import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { existsSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { connect } from 'node:tls'
import { Agent, request } from 'undici'
import { DAEMON_USERS, parseQuantity, parseTenantName, paths, VERIFIER_USER } from '../api/index.ts'
import { ControlPlaneClient, readKubeconfig } from '../cli/index.ts'
import { type TenantView, TENANTS_PATH, type VerifyOptions } from '../cli/index.ts'
import { createCsr, createKeyPair, renderPrivateKey } from '../identity/index.ts'
import {
  type ApiProbes,
  type ExpectedTenant,
  type LayerResult,
  probeControlPlane,
  probeControlPlaneBounds,
  probeSigningKeys,
  checkReport,
  keyThumbprints,
  renderHtml,
  renderReport,
  type Report,
  renderSarif,
  signaturePlace,
  signReport,
  verify,
} from '../verifier/index.ts'
import { sleep } from '../stdx/index.ts'
import type { MachineContext } from './machine.ts'
import { serverUrl } from './server-url.ts'
import { readWaivers } from './verdict-files.ts'
import { sleepingKeysOf } from './wake-channel.ts'

const NOBODY = 'no-such-tenant'

/** Observes, prints and returns the exit code: 0 when every vector has its layers. */
export async function runVerify(
  { layout, print, progress }: MachineContext,
  options: VerifyOptions,
): Promise<number> {
  if ('check' in options) return runCheck(layout, options, print)
  await using platform = new ControlPlaneClient(readKubeconfig(paths.operatorKubeconfig(layout)))
  const tenants = await expectedTenants(platform)
  progress(`looking at ${tenants.length} tenants`)
  const nowMs = Date.now()
  const report = withoutTokens(
    await verify({
      layout,
      tenants,
      waivers: readWaivers(layout),
      probes: apiProbes({ layout, platform }),
      withKeys: true,
      nowMs,
    }),
  )
  const { format, output } = options
  const signer = { name: `bulkhead-${layout.instance}@${hostname()}`, key: ensureReportKey(layout) }
  const signature = signaturePlace(signer, nowMs)
  const colours = output === undefined && process.stdout.isTTY && process.env['NO_COLOR'] === undefined
  const text = {
    text: () => `${renderReport(report, { colours })}\n\n${signature}\n`,
    json: () => `${JSON.stringify({ ...report, signature }, undefined, 2)}\n`,
    sarif: () => renderSarif(report, signature),
    html: () => renderHtml(report, signature),
  }[format]()
  const signed = signReport(text, signer)
  if (output === undefined) print(signed.trimEnd())
  else {
    writeFileSync(output, signed, { mode: 0o600 })
    print(`${report.ok ? 'Proven' : 'NOT PROVEN'}; the report is in ${output}`)
  }
  return report.ok ? 0 : 1
}

/** Evidence may quote what a tenant chose, such as where something is mounted: it must not pass for a signature. */
function withoutTokens(report: Report): Report {
  return JSON.parse(JSON.stringify(report).replaceAll('bulkhead-signature', 'bulkhead signature')) as Report // what it was
}

function runCheck(
  layout: MachineContext['layout'],
  { check, key }: { check: string; key?: string },
  print: (text: string) => void,
): number {
  if (statSync(check).size > REPORT_BYTES_MAX)
    throw new Error(`"${check}" has more than ${REPORT_BYTES_MAX} bytes, and no report has`)
  const publicKey = createPublicKey(readFileSync(key ?? paths.reportPublicKey(layout)))
  const bytes = readFileSync(check)
  // A report that was printed has lost its last line end, and nothing else may differ.
  const checked = [bytes, Buffer.concat([bytes, Buffer.from('\n')])].map((each) =>
    checkReport(each, publicKey),
  )
  const valid = checked.find((each) => each.valid) ?? checked[0]
  if (!valid?.valid) {
    print(`NOT VALID: "${check}": ${valid?.problem ?? 'nothing was checked'}`)
    return 1
  }
  print(`Valid: signed by ${valid.signer} at ${valid.signedAt}, with the key ${valid.keyId}`)
  return 0
}

const REPORT_BYTES_MAX = 512 * 1024 * 1024

/** The platform's key for reports: made when it is first needed, and root's alone. Its public half is for everybody. */
function ensureReportKey(layout: MachineContext['layout']): KeyObject {
  const path = paths.reportKey(layout)
  if (!existsSync(path)) {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519')
    writeFileSync(paths.reportPublicKey(layout), publicKey.export({ type: 'spki', format: 'pem' }), {
      mode: 0o644,
    })
    const unfinished = `${path}.${process.pid}`
    writeFileSync(unfinished, privateKey.export({ type: 'pkcs8', format: 'pem' }), {
      mode: 0o600,
      flag: 'wx',
    })
    renameSync(unfinished, path)
  }
  const key = createPrivateKey(readFileSync(path))
  // Of two that made one at once, the last private key counts; its public half must be the one that is shown.
  const shown = createPublicKey(key).export({ type: 'spki', format: 'pem' })
  if (
    !existsSync(paths.reportPublicKey(layout)) ||
    readFileSync(paths.reportPublicKey(layout), 'utf8') !== shown
  )
    writeFileSync(paths.reportPublicKey(layout), shown, { mode: 0o644 })
  return key
}

export async function expectedTenants(platform: ControlPlaneClient): Promise<ExpectedTenant[]> {
  const { items } = (await platform.get(TENANTS_PATH)) as { items: TenantView[] }
  return items.flatMap(({ metadata, spec, status }) =>
    status?.phase === 'Ready' ? [expectedTenant(metadata, spec, status.isolationClass ?? '')] : [],
  )
}

/** What the operator wrote into a Tenant: who it is, what it may use, and what was opened for it. */
function expectedTenant(
  { name, uid }: TenantView['metadata'],
  spec: TenantView['spec'],
  isolationClass: string,
): ExpectedTenant {
  const amount = (value: string | number | undefined) =>
    value === undefined ? undefined : Number(parseQuantity(value).nanos) / 1e9
  return {
    name,
    uid: uid ?? '',
    isolationClass,
    quota: {
      cpus: amount(spec.quota?.['cpu']),
      memoryBytes: amount(spec.quota?.['memoryBytes']),
      egressBitsPerSecond: amount(spec.network?.bandwidth?.['egress']),
      ingressBitsPerSecond: amount(spec.network?.bandwidth?.['ingress']),
    },
    grants: [
      ...(spec.egress?.allow ?? []).map(({ host, cidr, ports = [443], until, reason }) => ({
        kind: 'egress' as const,
        what: `${host ?? cidr ?? 'nothing'} port ${ports.join(', ')}`,
        ...(cidr === undefined ? {} : { network: cidr }),
        ...(until === undefined ? {} : { until }),
        ...(reason === undefined ? {} : { reason }),
      })),
      ...[
        ...(spec.ingress?.hosts ?? []).map((host) => `as ${host} through the front door`),
        ...(spec.ingress?.ports ?? []).map((port) => `at port ${port} of the front door`),
      ].map((what) => ({ kind: 'ingress' as const, what })),
    ],
  }
}

type Credential = { certificate: string; key: string; ca: string }

export function apiProbes({
  layout,
  platform,
}: {
  layout: MachineContext['layout']
  platform: ControlPlaneClient
}): ApiProbes {
  const credentials = new Map<string, Promise<Credential>>()
  const credentialOf = (tenant: string) => {
    const known = credentials.get(tenant) ?? issue(platform, tenant)
    credentials.set(tenant, known)
    return known
  }
  const gateway = userOf(DAEMON_USERS.gateway)
  const users = {
    gateway,
    podGateway: { uid: userOf(DAEMON_USERS.podGateway).uid, gid: gateway.gid },
    stranger: userOf(DAEMON_USERS.images),
  }
  const socketOf = (tenant: string) => paths.apiSocket(layout, parseTenantName(tenant))
  return {
    gatewayBinding: async (attacker, victim) =>
      probeGateway(serverUrl(layout), await credentialOf(attacker), {
        attacker,
        victim,
        asleep: !existsSync(socketOf(attacker)),
      }),
    gatewayShares: async (attacker, other) =>
      probeGatewayShares(serverUrl(layout), await credentialOf(attacker), await credentialOf(other), {
        attacker,
        other,
      }),
    gatewayBounds: async (tenant) =>
      probeGatewayBounds(serverUrl(layout), await credentialOf(tenant), tenant),
    controlPlaneBounds: async (tenant) =>
      existsSync(socketOf(tenant.name))
        ? probeControlPlaneBounds(tenant, socketOf(tenant.name), gateway)
        : asleep('control plane bounds requests', tenant.name),
    signingKeys: async (tenant) =>
      existsSync(socketOf(tenant))
        ? probeSigningKeys(socketOf(tenant), gateway)
        : keyThumbprints(sleepingKeysOf(layout)(parseTenantName(tenant))),
    controlPlane: async (attacker, victim) =>
      existsSync(socketOf(victim.name))
        ? probeControlPlane({ attacker, victim, socketPath: socketOf(victim.name), ...users })
        : asleep('control plane refuses strangers', victim.name),
  }
}

/** Nobody is woken for a proof: what is not there refuses everybody. It is asked when it is awake. */
function asleep(layer: LayerResult['layer'], tenant: string): LayerResult {
  return {
    layer,
    holds: true,
    evidence: [`the control plane of ${tenant} sleeps: there is no socket that anybody could speak to`],
  }
}

/** A user without any rights: it is enough to be known as somebody of the tenant. */
async function issue(platform: ControlPlaneClient, tenant: string): Promise<Credential> {
  const keys = await createKeyPair()
  const answer = (await platform.post(`${TENANTS_PATH}/${tenant}/credentials`, {
    apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
    kind: 'TenantCredential',
    metadata: { name: tenant },
    spec: { csr: await createCsr(keys), user: VERIFIER_USER, groups: [], expirationSeconds: 600 },
  })) as { status: { certificate: string; caBundle: string } }
  return {
    certificate: answer.status.certificate,
    ca: answer.status.caBundle,
    key: await renderPrivateKey(keys),
  }
}

const agentOf = ({ ca, certificate, key }: Credential) =>
  new Agent({ connect: { ca, cert: certificate, key } })

/**
 * With a genuine credential of one tenant, asks for another that exists and for one that does not. Its own control plane
 * shows that the credential is genuine; where it sleeps, a method that the gateway refuses, but not before it has let in.
 */
async function probeGateway(
  server: string,
  credential: Credential,
  { attacker, victim, asleep: sleeps }: { attacker: string; victim: string; asleep: boolean },
): Promise<LayerResult> {
  const agent = agentOf(credential)
  const ask = async (tenant: string, method?: 'OPTIONS') => {
    for (let tries = 1; ; tries++) {
      const answer = await askFor(server, tenant, agent, method)
      // Another proof may have asked a moment ago, and its user has little.
      if (answer.code !== 429 || tries === TRIES_MAX) return answer
      await sleep(SHARE_BACK_MS)
    }
  }
  try {
    const own = await ask(attacker, sleeps ? 'OPTIONS' : undefined)
    const [other, nobody] = [await ask(victim), await ask(NOBODY)]
    const same = other.code === nobody.code && other.body.replaceAll(victim, NOBODY) === nobody.body
    // Its own control plane refuses the user by RBAC; that it answers at all shows that the credential is genuine.
    const genuine = sleeps ? own.code === 405 : own.code === 403 && own.body.includes(VERIFIER_USER)
    const holds = genuine && other.code === 403 && same
    return {
      layer: 'gateway binds to one tenant',
      holds,
      evidence: [
        `a credential of ${attacker} gets ${other.code} for ${victim} and ${nobody.code} for a tenant that does not exist, ${same ? 'with the same bytes' : 'with DIFFERENT bytes'}${genuine ? '' : `; its own tenant answered ${own.code}, so nothing was shown`}`,
      ],
    }
  } finally {
    await agent.destroy()
  }
}

async function askFor(server: string, tenant: string, dispatcher: Agent, method: 'GET' | 'OPTIONS' = 'GET') {
  const answer = await request(`${server}/tenants/${tenant}/api/v1/namespaces`, { dispatcher, method })
  return { code: answer.statusCode, body: await answer.body.text() }
}

const TRIES_MAX = 4
/** After so long the verifier's user has some of its share again. */
const SHARE_BACK_MS = 1_000
/** More than the verifier's user may ask for at once, and far less than its tenant may. */
const REQUESTS_TRIED = 128

/** Asks until the gateway refuses, and then as the same user of another tenant. */
async function probeGatewayShares(
  server: string,
  own: Credential,
  theirs: Credential,
  { attacker, other }: { attacker: string; other: string },
): Promise<LayerResult> {
  const layer = 'gateway shares'
  const [mine, another] = [own, theirs].map(agentOf)
  if (!mine || !another) return { layer, holds: false, evidence: [] }
  try {
    let answered = 0
    let last = await askFor(server, attacker, mine)
    for (; last.code !== 429 && answered < REQUESTS_TRIED; answered++)
      last = await askFor(server, attacker, mine)
    const beside = other === attacker ? undefined : await askFor(server, other, another)
    const refused = last.code === 429
    return {
      layer,
      holds: refused && beside?.code !== 429,
      evidence: [
        `a user of ${attacker} was answered ${answered} times and then ${refused ? 'refused (429)' : `still not refused (${last.code})`}${beside ? `; the same of ${other} got ${beside.code} at that moment` : ''}`,
      ],
    }
  } finally {
    await Promise.all([mine.destroy(), another.destroy()])
  }
}

const TOO_MANY_BYTES = 1_000_000_000
const ANSWER_MS_MAX = 5_000

/** Announces more than the gateway takes, over TLS 1.3 and nothing older. Nothing of it is sent. */
function probeGatewayBounds(server: string, credential: Credential, tenant: string): Promise<LayerResult> {
  const { hostname: host, port } = new URL(server)
  const { promise, resolve } = Promise.withResolvers<LayerResult>()
  const layer = 'gateway bounds requests'
  const socket = connect({
    host,
    port: Number(port),
    ca: credential.ca,
    cert: credential.certificate,
    key: credential.key,
    ALPNProtocols: ['http/1.1'],
    minVersion: 'TLSv1.3',
  })
  let text = ''
  const end = (problem?: string) => {
    const status = /^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? problem ?? 'nothing'
    const protocol = socket.getProtocol() ?? 'no TLS'
    resolve({
      layer,
      holds: status === '413',
      evidence: [
        `the gateway, over ${protocol}, answers ${status} to ${TOO_MANY_BYTES} announced bytes of ${tenant}`,
      ],
    })
    socket.destroy()
  }
  socket.setTimeout(ANSWER_MS_MAX, () => end('nothing in time'))
  socket.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message))
  socket.on('data', (chunk: Buffer) => {
    text = (text + chunk.toString('latin1')).slice(0, 1024)
    if (text.includes('\r\n')) end()
  })
  socket.on('end', () => end())
  socket.write(
    [
      `POST /tenants/${tenant}/api/v1/namespaces HTTP/1.1`,
      `host: ${host}:${port}`,
      'content-type: application/json',
      `content-length: ${TOO_MANY_BYTES}`,
      '\r\n',
    ].join('\r\n'),
  )
  return promise
}

function userOf(name: string): { uid: number; gid: number } {
  const [, , uid, gid] =
    readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .find((line) => line.startsWith(`${name}:`))
      ?.split(':') ?? []
  if (uid === undefined || gid === undefined)
    throw new Error(`There is no Linux user "${name}"; was the platform ever started here?`)
  return { uid: Number(uid), gid: Number(gid) }
}
