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
  /** What it said when it fell asleep. */
  slept?: Slept
}

/** A control plane that has nothing to do. */
export type Resting = {
  tenant: TenantName
  /** Since when nobody has asked it for anything, in milliseconds. */
  unusedMs: number
  /** When it has something to do by itself; absent when nothing is planned. */
  dueAtMs?: number
}

/** What stands in for a control plane while it sleeps, and what it is given back when it wakes. */
export type Slept = {
  /** The public keys of its tokens, so that nobody has to be woken to tell a genuine one. */
  keys: unknown
  /** Up to where it has heard of the engine's events. */
  heardTo: number
  dueAtMs?: number
}

export type ControlPlaneHost = {
  /** Also changes what the operator decided about a tenant that is hosted already. */
  host(request: HostRequest): Promise<void>
  unhost(tenant: TenantName): Promise<void>
  /** Those hosted that could sleep now. */
  resting(): Resting[]
  /** Lets go of a tenant that still has nothing to do; undefined when it has. */
  sleep(tenant: TenantName): Promise<Slept | undefined>
}

/** The operator's policies are most of it. */
const REQUEST_BYTES_MAX = 2 * 1024 * 1024
const ANSWER_BYTES_MAX = 16 * 1024
/** A line for each tenant of the machine. */
const RESTING_BYTES_MAX = 1024 * 1024

export async function serveControl(socketPath: string, hosts: ControlPlaneHost, log: Logger) {
  const server = createServer((req, res) => {
    const answer = (code: number, body: unknown) => {
      res.writeHead(code, { 'content-type': 'application/json' })
      res.end(JSON.stringify(body))
    }
    const handle = async () => {
      if (req.method === 'GET' && req.url === '/v1/resting') return answer(200, { items: hosts.resting() })
      const [, name, sleep] = /^\/v1\/tenants\/([a-z0-9-]{1,32})(\/sleep)?$/.exec(req.url ?? '') ?? []
      if (name === undefined) return answer(404, { message: 'not found' })
      const tenant = name === PLATFORM_TENANT ? PLATFORM_TENANT : parseTenantName(name)
      if (sleep !== undefined) {
        if (req.method !== 'POST') return answer(405, { message: 'method not allowed' })
        const slept = await hosts.sleep(tenant)
        return slept ? answer(200, slept) : answer(409, { message: 'it has something to do' })
      }
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
  const answer = await call(socketPath, { method: 'PUT', path: `/v1/tenants/${tenant}`, body, signal })
  requireSuccess(answer, tenant)
}

export async function requestUnhosting(
  socketPath: string,
  tenant: TenantName,
  signal: AbortSignal,
): Promise<void> {
  requireSuccess(await call(socketPath, { method: 'DELETE', path: `/v1/tenants/${tenant}`, signal }), tenant)
}

/** Asks a worker who has nothing to do. What a worker says of tenants that it does not host means nothing. */
export async function requestResting(socketPath: string, signal: AbortSignal): Promise<Resting[]> {
  const answer = await call(socketPath, {
    method: 'GET',
    path: '/v1/resting',
    signal,
    bytesMax: RESTING_BYTES_MAX,
  })
  requireSuccess(answer, 'all')
  const { items } = JSON.parse(answer.text) as { items?: unknown }
  if (!Array.isArray(items)) throw new TypeError("The control planes' host does not say who rests")
  return items.map(parseResting)
}

/** Asks a worker to let a tenant fall asleep; undefined when it has something to do after all. */
export async function requestSleep(
  socketPath: string,
  tenant: TenantName,
  signal: AbortSignal,
): Promise<Slept | undefined> {
  const answer = await call(socketPath, { method: 'POST', path: `/v1/tenants/${tenant}/sleep`, signal })
  if (answer.code === 409) return undefined
  requireSuccess(answer, tenant)
  return parseSlept(JSON.parse(answer.text))
}

/** @throws {TypeError} when a worker, which may have been taken over, says something else. */
export function parseSlept(value: unknown): Slept {
  const { keys, heardTo, dueAtMs } = (value ?? {}) as Record<string, unknown>
  if (typeof keys !== 'object' || keys === null || !isWhole(heardTo))
    throw new TypeError('A control plane does not say what it leaves behind')
  return { keys, heardTo, ...parseDue(dueAtMs) }
}

function parseResting(value: unknown): Resting {
  const { tenant, unusedMs, dueAtMs } = (value ?? {}) as Record<string, unknown>
  if (typeof unusedMs !== 'number' || !(unusedMs >= 0))
    throw new TypeError('A control plane does not say since when it rests')
  return { tenant: parseTenantName(tenant), unusedMs, ...parseDue(dueAtMs) }
}

function parseDue(dueAtMs: unknown): { dueAtMs?: number } {
  if (dueAtMs === undefined) return {}
  if (!isWhole(dueAtMs)) throw new TypeError('A control plane does not say when something is due')
  return { dueAtMs }
}

function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value)
}

type ControlAnswer = { code: number; text: string }

function requireSuccess({ code, text }: ControlAnswer, about: string): void {
  if (code !== 200) throw new Error(`The control planes' host answered ${code} about "${about}": ${text}`)
}

async function call(
  socketPath: string,
  {
    method,
    path,
    body,
    signal,
    bytesMax = ANSWER_BYTES_MAX,
  }: { method: string; path: string; body?: string; signal: AbortSignal; bytesMax?: number },
): Promise<ControlAnswer> {
  const answer = await askUnix({
    socketPath,
    method,
    path,
    ...(body === undefined ? {} : { body }),
    signal,
    answerBytesMax: bytesMax,
  }).catch((cause: unknown) => {
    if (!(cause instanceof TooLong)) throw cause
    throw new Error(`The control planes' host answers ${method} "${path}" without end`, { cause })
  })
  return { code: answer.code, text: answer.body.toString() }
}
