import { readFileSync, statSync } from 'node:fs'
import { parseAllDocuments } from 'yaml'
import { parseTenantName } from '../api/index.ts'
import { createCsr, createKeyPair, renderPrivateKey } from '../identity/index.ts'
import { until } from '../stdx/index.ts'
import { renderKubeconfig } from './kubeconfig.ts'
import { DOCUMENTS_MAX, INPUT_FILE_BYTES_MAX } from './limits.ts'
import { ApiRefusal, type ControlPlaneClient } from './platform-client.ts'

export const TENANTS_PATH = '/apis/tenancy.bulkhead.dev/v1alpha1/tenants'

/** As the platform's API shows it; every field of status can be absent. */
export type TenantView = {
  metadata: {
    name: string
    uid?: string
    generation?: number
    creationTimestamp?: string
    deletionTimestamp?: string
    labels?: Record<string, string>
  }
  spec: {
    podSecurity?: { enforce: string }
    trust?: string
    code?: string
    sensitivity?: string
    noisy?: boolean
    registries?: string[]
    quota?: Record<string, string | number>
    network?: { bandwidth?: Record<string, string> }
    disk?: Record<string, string | number>
    ingress?: { hosts?: string[]; ports?: (string | number)[] }
    egress?: {
      allow?: { host?: string; cidr?: string; ports?: (string | number)[]; until?: string; reason?: string }[]
    }
  }
  status?: {
    phase?: string
    observedGeneration?: number
    isolationClass?: string
    reasons?: string[]
    server?: string
    controlPlane?: string
    placement?: { index?: number; podUidBase?: number; controlPlaneUser?: string }
    conditions?: { type: string; status: string; reason?: string; message?: string }[]
  }
}

export async function listTenants(platform: ControlPlaneClient): Promise<TenantView[]> {
  return ((await platform.get(TENANTS_PATH)) as { items: TenantView[] }).items
}

export async function getTenant(platform: ControlPlaneClient, name: string): Promise<TenantView> {
  return (await platform.get(`${TENANTS_PATH}/${name}`)) as TenantView
}

/** Applies every Tenant of a file and returns their names. */
export async function applyTenants(platform: ControlPlaneClient, file: string): Promise<string[]> {
  if (statSync(file).size > INPUT_FILE_BYTES_MAX)
    throw new Error(`"${file}" is larger than ${INPUT_FILE_BYTES_MAX} bytes`)
  const documents = parseAllDocuments(readFileSync(file, 'utf8'))
  if (documents.length > DOCUMENTS_MAX) throw new Error(`"${file}" has more than ${DOCUMENTS_MAX} documents`)
  const tenants = documents.map((document) => {
    if (document.errors[0]) throw new Error(`"${file}" is not YAML: ${document.errors[0].message}`)
    const object = document.toJS({ maxAliasCount: 100 }) as {
      kind?: unknown
      metadata?: { name?: unknown }
    } | null
    if (object?.kind !== 'Tenant')
      throw new Error(`"${file}" holds a ${JSON.stringify(object?.kind)}; only Tenants can be applied here`)
    return { name: parseTenantName(object.metadata?.name), object }
  })
  for (const { name, object } of tenants) await platform.apply(`${TENANTS_PATH}/${name}`, object)
  return tenants.map(({ name }) => name)
}

/** Waits until the platform has placed a tenant; throws its own words when it refuses to. */
export async function untilTenantReady(
  platform: ControlPlaneClient,
  name: string,
  timeoutMs = 60_000,
): Promise<TenantView> {
  const tenant = await until(
    async () => {
      const seen = await getTenant(platform, name)
      const { phase = '', observedGeneration } = seen.status ?? {}
      // Of what was there before a change, its status still tells.
      const isCurrent = observedGeneration === seen.metadata.generation
      return isCurrent && ['Ready', 'Refused', 'Failed'].includes(phase) ? seen : undefined
    },
    { timeoutMs, everyMs: 50, what: `Tenant "${name}" being ready` },
  )
  if (tenant.status?.phase !== 'Ready') {
    const why = tenant.status?.conditions?.find((condition) => condition.status === 'False')?.message
    throw new Error(`Tenant "${name}" was not placed: ${why ?? (tenant.status?.reasons ?? []).join('; ')}`)
  }
  return tenant
}

/**
 * Deletes a tenant and waits until nothing of it is left. `progress` hears each new thing that is known about it.
 * @throws with what still has to go when that takes too long; the platform goes on with it.
 */
export async function deleteTenant(
  platform: ControlPlaneClient,
  name: string,
  progress: (text: string) => void,
  timeoutMs = 180_000,
): Promise<void> {
  const { uid } = (await getTenant(platform, name)).metadata
  await platform.delete(`${TENANTS_PATH}/${name}`)
  let last = ''
  await until(
    async () => {
      const seen = await getTenant(platform, name).catch((error: unknown) => {
        if (error instanceof ApiRefusal && error.code === 404) return undefined
        throw error
      })
      // Somebody may be quick and create the next one of the name.
      if (!seen || seen.metadata.uid !== uid) return true
      const condition = seen.status?.conditions?.find(({ type }) => type === 'Ready')
      const now =
        seen.status?.phase === 'Terminating' ? (condition?.message ?? '') : 'Waiting for the platform'
      if (now !== last) progress(now)
      last = now
      return false
    },
    { timeoutMs, everyMs: 50, what: `The end of tenant "${name}"` },
  )
}

/**
 * A kubeconfig for one user of one tenant. The private key is made here and never leaves; the platform signs a request.
 */
export async function issueKubeconfig(
  platform: ControlPlaneClient,
  {
    tenant,
    user,
    groups,
    expirationSeconds,
    namespace,
  }: {
    tenant: string
    user: string
    groups: readonly string[]
    expirationSeconds?: number
    namespace?: string
  },
): Promise<string> {
  const keys = await createKeyPair()
  const answer = (await platform.post(`${TENANTS_PATH}/${tenant}/credentials`, {
    apiVersion: 'tenancy.bulkhead.dev/v1alpha1',
    kind: 'TenantCredential',
    metadata: { name: tenant },
    spec: {
      csr: await createCsr(keys),
      user,
      groups,
      ...(expirationSeconds === undefined ? {} : { expirationSeconds }),
    },
  })) as { status: { certificate: string; caBundle: string; server: string } }
  return renderKubeconfig({
    name: tenant,
    server: answer.status.server,
    ca: answer.status.caBundle,
    certificate: answer.status.certificate,
    key: await renderPrivateKey(keys),
    ...(namespace === undefined ? {} : { namespace }),
  })
}
