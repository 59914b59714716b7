import { readFileSync } from 'node:fs'
import { Agent, request } from 'undici'
import { DAEMON_USERS, parseTenantName, paths } from '../api/index.ts'
import { ControlPlaneClient, readKubeconfig } from '../cli/index.ts'
import { type TenantView, TENANTS_PATH } from '../cli/index.ts'
import { createCsr, createKeyPair, renderPrivateKey } from '../identity/index.ts'
import {
  type ApiProbes,
  type LayerResult,
  probeControlPlane,
  renderReport,
  verify,
} from '../verifier/index.ts'
import type { MachineContext } from './machine.ts'
import { serverUrl } from './server-url.ts'

const NOBODY = 'no-such-tenant'

/** Observes, prints and returns the exit code: 0 when every vector has its layers. */
export async function runVerify(
  { layout, print, progress }: MachineContext,
  { json }: { json: boolean },
): Promise<number> {
  await using platform = new ControlPlaneClient(readKubeconfig(paths.operatorKubeconfig(layout)))
  const { items } = (await platform.get(TENANTS_PATH)) as { items: TenantView[] }
  const tenants = items.flatMap(({ metadata, status }) =>
    status?.phase === 'Ready' ? [{ name: metadata.name, isolationClass: status.isolationClass ?? '' }] : [],
  )
  progress(`looking at ${tenants.length} tenants`)
  const report = await verify({ layout, tenants, probes: apiProbes({ layout, platform }), nowMs: Date.now() })
  print(
    json
      ? JSON.stringify(report, undefined, 2)
      : renderReport(report, { colours: process.stdout.isTTY && process.env['NO_COLOR'] === undefined }),
  )
  return report.ok ? 0 : 1
}

type Credential = { certificate: string; key: string; ca: string }

function apiProbes({
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
  return {
    gatewayBinding: async (attacker, victim) =>
      probeGateway(serverUrl(layout), await credentialOf(attacker), { attacker, victim }),
    controlPlane: (attacker, victim) =>
      probeControlPlane({
        attacker,
        victim,
        socketPath: paths.apiSocket(layout, parseTenantName(victim)),
        ...users,
      }),
  }
}

/** A user without any rights: it is enough to be known as somebody of the tenant. */
async function issue(platform: ControlPlaneClient, tenant: string): Promise<Credential> {
  const keys = await createKeyPair()
  const answer = (await platform.post(`${TENANTS_PATH}/${tenant}/credentials`, {
    apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
    kind: 'TenantCredential',
    metadata: { name: tenant },
    spec: { csr: await createCsr(keys), user: 'bulkhead:verifier', groups: [], expirationSeconds: 600 },
  })) as { status: { certificate: string; caBundle: string } }
  return {
    certificate: answer.status.certificate,
    ca: answer.status.caBundle,
    key: await renderPrivateKey(keys),
  }
}

/** With a genuine credential of one tenant, asks for another that exists and for one that does not. */
async function probeGateway(
  server: string,
  credential: Credential,
  { attacker, victim }: { attacker: string; victim: string },
): Promise<LayerResult> {
  const agent = new Agent({
    connect: { ca: credential.ca, cert: credential.certificate, key: credential.key },
  })
  const ask = async (tenant: string) => {
    const answer = await request(`${server}/tenants/${tenant}/api/v1/namespaces`, { dispatcher: agent })
    return { code: answer.statusCode, body: await answer.body.text() }
  }
  try {
    const [own, other, nobody] = [await ask(attacker), await ask(victim), await ask(NOBODY)]
    const same = other.code === nobody.code && other.body.replaceAll(victim, NOBODY) === nobody.body
    // Its own control plane refuses the user by RBAC; that it answers at all shows that the credential is genuine.
    const genuine = own.code === 403 && own.body.includes('bulkhead:verifier')
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
