import { existsSync, renameSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { Duplex } from 'node:stream'
import {
  type KindRegistry,
  type KubeObject,
  type Layout,
  PLATFORM_TENANT,
  paths,
  type TenantName,
  type UserInfo,
} from '../api/index.ts'
import { type ApiServer, type ApiServerOptions, createApiServer } from '../apiserver/index.ts'
import {
  createTokenKey,
  IDENTITY_HEADER,
  IdentityRefused,
  KnownIdentities,
  type TokenKey,
  TokenIssuer,
} from '../identity/index.ts'
import { DEFAULT_GATEWAY_LIMITS, POD_GATEWAY_LIMITS } from '../gateway/index.ts'
import {
  type Answering,
  AnsweringEnd,
  type Asked,
  askedOverHttp,
  EXCHANGES_MAX,
  LINK_PROTOCOL,
} from '../link/index.ts'
import { type OperatorPolicies, RbacAuthorizer, type RegoPolicies } from '../policy/index.ts'
import {
  assert,
  type Clock,
  KiB,
  listenUnix,
  type Logger,
  peerCredentials,
  SECOND_MS,
} from '../stdx/index.ts'
import { openStore, type Store, type StoreKey } from '../store/index.ts'

/** Not under any resource, so no request can name it. */
const TOKEN_KEYS: StoreKey = 'bulkhead-internal//token-keys'

const REQUEST_HEAD_BYTES_MAX = 64 * KiB
const REQUEST_HEAD_TIMEOUT_MS = 30 * SECOND_MS
const CONNECTIONS_MAX = 2_000

export type ControlPlane = {
  store: Store
  server: ApiServer
  tokenIssuer: TokenIssuer
  /** When somebody from outside last asked for something; Infinity while an answer, such as a watch, is not over. */
  usedAtMs(): number
  /**
   * Lets nobody new connect. Answers false, and goes on as before, when somebody has come all the same: whoever
   * connected gets an answer.
   */
  closeDoor(): Promise<boolean>
  close(): Promise<void>
}

export type ControlPlaneOptions = {
  layout: Layout
  tenant: TenantName
  /** Of its Tenant object; certificates that were made for another are refused. The platform has none. */
  tenantUid?: string | undefined
  path: string
  dataKey: Uint8Array
  registry: KindRegistry
  gatewayUid: number
  /** The door for pods, which may bring service accounts only. Absent: this control plane has no pods. */
  podGatewayUid?: number
  clock: Clock
  log: Logger
  /** Hold before anybody is answered. */
  operatorPolicies?: OperatorPolicies
  regoPolicies?: RegoPolicies
} & Pick<
  ApiServerOptions,
  'engine' | 'streams' | 'subresources' | 'plugins' | 'limits' | 'adminGroup' | 'serverAddress'
>

/** Opens one tenant's store and answers its API on the socket that only the gateways may connect to. */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const {
    layout,
    tenant,
    tenantUid,
    path,
    dataKey,
    registry,
    gatewayUid,
    podGatewayUid,
    clock,
    log,
    limits = {},
    operatorPolicies = [],
    regoPolicies,
    ...apiOptions
  } = options
  // A new tenant needs new keys: they are made while its partition is.
  const fresh = existsSync(path) ? undefined : createTokenKey()
  const store = await openStore({ path, tenant, dataKey, clock, log })
  const { keys, durable } = await tokenKeys(store, fresh)
  const tokenIssuer = await TokenIssuer.open({ tenant, keys })
  const server = createApiServer({
    ...apiOptions,
    tenant,
    registry,
    store,
    authorizer: new RbacAuthorizer(),
    clock,
    log,
    ...(tenant === PLATFORM_TENANT ? {} : { tokenIssuer }),
    version: {
      kubernetes: '1.33',
      gitVersion: 'v1.33.0+bulkhead',
      gitCommit: '',
      buildDate: '2026-11-01T00:00:00Z',
    },
  })
  await Promise.all([durable, server.bootstrap()])
  // Only now: what the platform itself puts into a control plane must fit, however small a tenant's quota is.
  server.setLimits(limits)
  server.setOperatorPolicies(operatorPolicies, regoPolicies)
  const { http, door, closeLinks } = await listen({
    tenant,
    tenantUid,
    socketPath: paths.apiSocket(layout, tenant),
    server,
    gatewayUid,
    podGatewayUid,
    clock,
    log,
  })
  return {
    store,
    server,
    tokenIssuer,
    usedAtMs: door.usedAtMs,
    closeDoor: door.close,
    async close() {
      http.close()
      await server.close()
      closeLinks()
      http.closeAllConnections()
      await store[Symbol.asyncDispose]()
      rmSync(closedDoor(paths.apiSocket(layout, tenant)), { force: true })
    },
  }
}

/** Beside the streams with pods: links, questions for keys, and whoever looks at us. */
const CONNECTIONS_LEFT_MIN = 256
const GATEWAY_LIMITS = [DEFAULT_GATEWAY_LIMITS, POD_GATEWAY_LIMITS]
assert(
  GATEWAY_LIMITS.reduce((sum, { tenant }) => sum + tenant.streamsMax, CONNECTIONS_LEFT_MIN) <=
    CONNECTIONS_MAX,
  'What both gateways let through for a tenant fits into its control plane',
)
assert(
  GATEWAY_LIMITS.every(({ tenant }) => tenant.requestsMax + tenant.streamsMax <= EXCHANGES_MAX),
  'What a gateway lets through for a tenant fits into one link',
)

/** The keys that sign service accounts' tokens, and when they are durable: nothing may be signed before. */
async function tokenKeys(
  store: Store,
  fresh: Promise<TokenKey> | undefined,
): Promise<{ keys: TokenKey[]; durable: Promise<unknown> }> {
  const known = store.get(TOKEN_KEYS)
  if (known)
    return { keys: (known.object as unknown as { keys: TokenKey[] }).keys, durable: Promise.resolve() } // only this function writes it
  const keys = [await (fresh ?? createTokenKey())]
  const object = {
    apiVersion: 'internal',
    kind: 'TokenKeys',
    metadata: { name: 'token-keys' },
    keys,
  } as unknown as KubeObject
  return { keys, durable: store.put(TOKEN_KEYS, object, 0) }
}

async function listen({
  tenant,
  tenantUid,
  socketPath,
  server,
  gatewayUid,
  podGatewayUid,
  clock,
  log,
}: {
  tenant: TenantName
  tenantUid: string | undefined
  socketPath: string
  server: ApiServer
  gatewayUid: number
  podGatewayUid: number | undefined
  clock: Clock
  log: Logger
}): Promise<{
  http: Server
  door: { usedAtMs(): number; close(): Promise<boolean> }
  closeLinks: () => void
}> {
  const http = createServer({
    maxHeaderSize: REQUEST_HEAD_BYTES_MAX,
    headersTimeout: REQUEST_HEAD_TIMEOUT_MS,
    // Watches and logs last; the gateway's limits bound them.
    requestTimeout: 0,
  })
  http.maxConnections = CONNECTIONS_MAX
  const known = new KnownIdentities({ tenant, tenantUid })
  const fromPods = new WeakSet<Duplex>()
  const byUsers = new WeakSet<Duplex>()
  const links = new Set<AnsweringEnd>()
  let open = 0
  let usedAtMs = clock.nowMs()
  http.prependListener('connection', (socket) => {
    const { uid } = peerCredentials(socket)
    if (podGatewayUid !== undefined && uid === podGatewayUid) fromPods.add(socket)
    else if (uid !== gatewayUid) return void socket.destroy()
    open++
    socket.once('close', () => {
      open--
      if (byUsers.has(socket)) usedAtMs = clock.nowMs()
    })
  })
  const userOf = (
    request: Pick<Asked, 'method' | 'url' | 'headers'>,
    socket: Duplex,
  ): UserInfo | undefined => {
    try {
      const user = known.userOf(request)
      // Whoever takes over the door for pods must not become an administrator.
      if (fromPods.has(socket) && user.kind !== 'serviceAccount' && user.kind !== 'component')
        throw new IdentityRefused(`The door for pods brought a ${user.kind}`)
      // The gateways ask for the keys of tokens on behalf of anybody who brings one, genuine or not.
      if (user.kind !== 'component') {
        usedAtMs = clock.nowMs()
        byUsers.add(socket)
      }
      return user
    } catch (error) {
      if (!(error instanceof IdentityRefused)) throw error
      log.warn('an identity was refused', { tenant, error: error.message })
      return undefined
    }
  }
  const answer = (request: Asked, response: Answering, socket: Duplex) => {
    const user = userOf(request, socket)
    if (user) return void server.handle(request, response, user)
    response.writeHead(401, { 'content-type': 'application/json' })
    response.end(UNAUTHORIZED)
  }
  http.on('request', (request, response) => answer(askedOverHttp(request), response, request.socket))
  http.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    // Nobody else listens yet, and an error that nobody listens to ends the process.
    socket.on('error', () => socket.destroy())
    // With an identity it would be somebody's upgrade that a gateway passed on, which it must not.
    if (request.headers.upgrade === LINK_PROTOCOL && request.headers[IDENTITY_HEADER] === undefined) {
      socket.write(LINK_AGREED)
      const handle = (asked: Asked, response: Answering) => answer(asked, response, socket)
      const link = new AnsweringEnd({ stream: socket, head, handle })
      links.add(link)
      socket.once('close', () => links.delete(link))
      return
    }
    const user = userOf(request, socket)
    if (user) return void server.handleUpgrade(request, socket, head, user)
    socket.end(
      `HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: ${UNAUTHORIZED.length}\r\nconnection: close\r\n\r\n${UNAUTHORIZED}`,
    )
  })
  http.on('clientError', (_error, socket) => socket.destroy())
  // The directory gives its group, the gateway's, to the socket.
  await listenUnix(http, { path: socketPath, mode: 0o660 })
  const door = {
    usedAtMs: () => (open > 0 ? Infinity : usedAtMs),
    async close() {
      const before = usedAtMs
      // From here on the kernel finds no socket of this name. Who was about to connect is let in meanwhile.
      renameSync(socketPath, closedDoor(socketPath))
      const waited = Promise.withResolvers<void>()
      clock.after(LATECOMERS_MS, waited.resolve)
      await waited.promise
      if (open === 0 && usedAtMs === before) return true
      renameSync(closedDoor(socketPath), socketPath)
      return false
    },
  }
  const closeLinks = () => {
    for (const link of links) link.close()
  }
  return { http, door, closeLinks }
}

const LINK_AGREED = `HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: ${LINK_PROTOCOL}\r\n\r\n`

/** A connection that the kernel was just making when its socket lost its name is there after this. */
const LATECOMERS_MS = 50

function closedDoor(socketPath: string): string {
  return `${socketPath}.closed`
}

const UNAUTHORIZED = JSON.stringify({
  kind: 'Status',
  apiVersion: 'v1',
  metadata: {},
  status: 'Failure',
  message: 'Unauthorized',
  reason: 'Unauthorized',
  code: 401,
})
