import { createServer } from 'node:http'
import { parseTenantName, PLATFORM_TENANT, type TenantName } from '../api/index.ts'
import type { IngressGrant, TenantPolicy, TenantQuota, TenantRegoPolicy } from '../jail/index.ts'
import type { PodSecurityLevel } from '../policy/index.ts'
import { askUnix, listenUnix, type Logger, peerCredentials, readRequest, TooLong } from '../stdx/index.ts'

/**
 * How the node agent tells a process with control planes which tenants to host. Only root may speak on it, because
 * the data keys of the tenants travel here.
 */
export type HostRequest = {
  tenant: TenantName
  /** Of its Tenant object. */
  tenantUid?: string
  dataKey: Uint8Array
  isolationClass: string
  quota?: TenantQuota
  registries?: readonly string[]
  podSecurity?: PodSecurityLevel
  policies?: readonly TenantPolicy[]
  regoPolicies?: readonly TenantRegoPolicy[]
  ingress?: IngressGrant
}

export type ControlPlaneHost = {
  /** Also changes what the operator decided about a tenant that is hosted already. */
  host(request: HostRequest): Promise<void>
  unhost(tenant: TenantName): Promise<void>
}

/** The operator's policies are most of it. */
const REQUEST_BYTES_MAX = 2 * 1024 * 1024
const ANSWER_BYTES_MAX = 16 * 1024

export async function serveControl(socketPath: string, hosts: ControlPlaneHost, log: Logger) {
  const server = createServer((req, res) => {
    const answer = (code: number, body: unknown) => {
      res.writeHead(code, { 'content-type': 'application/json' })
      res.end(JSON.stringify(body))
    }
    const handle = async () => {
      const name = /^\/v1\/tenants\/([a-z0-9-]{1,32})$/.exec(req.url ?? '')?.[1]
      if (name === undefined) return answer(404, { message: 'not found' })
      const tenant = name === PLATFORM_TENANT ? PLATFORM_TENANT : parseTenantName(name)
      if (req.method === 'DELETE') {
        await hosts.unhost(tenant)
        return answer(200, {})
      }
      if (req.method !== 'PUT') return answer(405, { message: 'method not allowed' })
      const wish = await readRequest(req, REQUEST_BYTES_MAX)
      if (!wish) return answer(413, { message: 'the request is too large' })
      const { dataKey, ...body } = JSON.parse(wish.toString()) as Omit<HostRequest, 'tenant' | 'dataKey'> & {
        dataKey: string
      } // root speaks
      await hosts.host({ ...body, tenant, dataKey: new Uint8Array(Buffer.from(dataKey, 'base64')) })
      answer(200, {})
    }
    handle().catch((error: unknown) => {
      log.error('control request failed', { url: req.url, error })
      if (!res.headersSent) answer(500, { message: error instanceof Error ? error.message : 'failed' })
    })
  })
  server.on('connection', (socket) => {
    try {
      if (peerCredentials(socket).uid === 0) return
    } catch {
      // Whoever it was has gone; without this, that would end a process with many tenants.
    }
    socket.destroy()
  })
  await listenUnix(server, { path: socketPath })
  return server
}

/** Asks a worker to host a tenant; resolves once its API answers. */
export async function requestHosting(
  socketPath: string,
  { tenant, dataKey, ...rest }: HostRequest,
  signal: AbortSignal,
): Promise<void> {
  const body = JSON.stringify({ dataKey: Buffer.from(dataKey).toString('base64'), ...rest })
  await call(socketPath, 'PUT', tenant, body, signal)
}

export async function requestUnhosting(
  socketPath: string,
  tenant: TenantName,
  signal: AbortSignal,
): Promise<void> {
  await call(socketPath, 'DELETE', tenant, '', signal)
}

async function call(
  socketPath: string,
  method: string,
  tenant: TenantName,
  body: string,
  signal: AbortSignal,
): Promise<void> {
  const answer = await askUnix({
    socketPath,
    method,
    path: `/v1/tenants/${tenant}`,
    body,
    signal,
    answerBytesMax: ANSWER_BYTES_MAX,
  }).catch((cause: unknown) => {
    if (!(cause instanceof TooLong)) throw cause
    throw new Error(`The control planes' host answers about "${tenant}" without end`, { cause })
  })
  if (answer.code !== 200)
    throw new Error(
      `The control planes' host answered ${answer.code} about "${tenant}": ${answer.body.toString()}`,
    )
}
