import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { type IncomingHttpHeaders, type Server, createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type KindRegistry, type TenantName, type UserInfo, tenantRegistry } from '../../src/api/index.ts'
import { type ApiServer, type ApiServerOptions, createApiServer } from '../../src/apiserver/index.ts'
import { TokenIssuer, createTokenKey } from '../../src/identity/index.ts'
import { askedOverHttp } from '../../src/link/index.ts'
import { RbacAuthorizer } from '../../src/policy/index.ts'
import { type Clock, silentLogger, systemClock } from '../../src/stdx/index.ts'
import { type Store, type StoreLimits, openStore } from '../../src/store/index.ts'

export const TENANT = 'red' as TenantName

export const ADMIN: UserInfo = {
  kind: 'tenantUser',
  tenant: TENANT,
  name: 'ann',
  groups: ['bulkhead:tenant-admins'],
}

export type Answer = { code: number; headers: IncomingHttpHeaders; bytes: Buffer; text: string; body: Json }
// Tests look into answers freely; a wrong guess fails the test.
// oxlint-disable-next-line typescript/no-explicit-any
export type Json = any

export type Ask = {
  body?: unknown
  /** Sent as it is. */
  raw?: Buffer | string
  type?: string
  accept?: string
  headers?: Record<string, string>
  user?: UserInfo
}

/** A control plane over a real store in a directory of its own, listening on a loopback port for tests. */
export class ControlPlane implements AsyncDisposable {
  readonly server: ApiServer
  readonly store: Store
  readonly port: number
  readonly clock: Clock
  private readonly http: Server
  private readonly dir: string

  private constructor(parts: { server: ApiServer; store: Store; http: Server; dir: string; clock: Clock }) {
    this.server = parts.server
    this.store = parts.store
    this.http = parts.http
    this.dir = parts.dir
    this.clock = parts.clock
    this.port = (parts.http.address() as AddressInfo).port
  }

  static async start(
    options: Partial<ApiServerOptions> & {
      registry?: KindRegistry
      user?: UserInfo
      storeLimits?: Partial<StoreLimits>
    } = {},
  ): Promise<ControlPlane> {
    const dir = await mkdtemp(join(tmpdir(), 'bulkhead-api-'))
    const { user = ADMIN, storeLimits = {}, ...rest } = options
    const clock = rest.clock ?? systemClock
    const log = rest.log ?? silentLogger
    const dataKey = randomBytes(32)
    const store = await openStore({
      path: join(dir, 'store.sqlite'),
      tenant: TENANT,
      dataKey,
      clock,
      log,
      limits: storeLimits,
    })
    const server = createApiServer({
      tenant: TENANT,
      registry: tenantRegistry,
      store,
      authorizer: new RbacAuthorizer(),
      clock,
      log,
      tokenIssuer: await TokenIssuer.open({ tenant: TENANT, keys: [await createTokenKey()] }),
      version: {
        kubernetes: '1.36',
        gitVersion: 'v1.36.0+bulkhead',
        gitCommit: 'test',
        buildDate: '2026-01-01T00:00:00Z',
      },
      ...rest,
    })
    await server.bootstrap()
    const asking = (header: unknown): UserInfo =>
      typeof header === 'string' ? (JSON.parse(header) as UserInfo) : user
    const http = createServer(
      (request, response) =>
        void server.handle(askedOverHttp(request), response, asking(request.headers['x-test-user'])),
    )
    http.on(
      'upgrade',
      (request, socket, head) =>
        void server.handleUpgrade(request, socket, head, asking(request.headers['x-test-user'])),
    )
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
    return new ControlPlane({ server, store, http, dir, clock })
  }

  /** One request and its whole answer. */
  async ask(method: string, path: string, options: Ask = {}): Promise<Answer> {
    const { body, raw, type = 'application/json', accept = 'application/json', headers = {}, user } = options
    const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body))
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        {
          host: '127.0.0.1',
          port: this.port,
          method,
          path,
          headers: {
            accept,
            ...(payload === undefined
              ? {}
              : { 'content-type': type, 'content-length': Buffer.byteLength(payload) }),
            ...(user ? { 'x-test-user': JSON.stringify(user) } : {}),
            ...headers,
          },
        },
        (response) => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.on('error', reject)
          response.on('end', () => {
            const bytes = Buffer.concat(chunks)
            const text = bytes.toString()
            let parsed: unknown
            try {
              parsed = JSON.parse(text)
            } catch {
              parsed = undefined
            }
            resolve({ code: response.statusCode ?? 0, headers: response.headers, bytes, text, body: parsed })
          })
        },
      )
      request.on('error', reject)
      request.end(payload)
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close()
    this.http.closeAllConnections()
    await new Promise((resolve) => this.http.close(resolve))
    await this.store[Symbol.asyncDispose]()
    await rm(this.dir, { recursive: true, force: true })
  }
}
