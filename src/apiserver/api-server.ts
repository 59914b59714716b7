import { randomBytes, randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import {
  ApiError,
  type KindRegistry,
  PLATFORM_TENANT,
  type TenantName,
  type UserInfo,
  customResourceDefinitionKind,
} from '../api/index.ts'
import type { ApiClient } from '../client/index.ts'
import { AUDIT_NOTE_HEADER, COST_HEADER, JWKS_PATH, type TokenIssuer } from '../identity/index.ts'
import type { Engine, JailId } from '../jail/index.ts'
import type { Answering, Asked } from '../link/index.ts'
import {
  type AdmissionPlugin,
  type Authorizer,
  RBAC_GROUP,
  type OperatorPolicies,
  type RegoPolicies,
  type TenantLimits,
  admissionPlugins,
} from '../policy/index.ts'
import { assert, type Clock, type Logger } from '../stdx/index.ts'
import type { Store } from '../store/index.ts'
import { bootstrap } from './bootstrap.ts'
import { admitConnection } from './connect.ts'
import { type Context, type Entropy, InFlight, keyPrefix, viewOf } from './context.ts'
import { Standing } from './standing.ts'
import { Measurements } from './measurements.ts'
import { ContinueTokens } from './continue-token.ts'
import { Cost, NO_COST } from './cost.ts'
import { Dispatcher } from './dispatcher.ts'
import { CustomKinds } from './custom-kinds.ts'
import { compileRules } from './custom-rules.ts'
import { HttpAnswers, readBody, renderWarnings, searchOf, splitUrl } from './http.ts'
import { InProcessClient } from './in-process-client.ts'
import {
  AUDIT_NOTE_CHARS_MAX,
  DEFAULT_TENANT_LIMITS,
  REQUEST_BODY_BYTES_MAX,
  REQUESTS_IN_FLIGHT_MAX,
} from './limits.ts'
import { type VersionFacts, answerPath } from './plain-paths.ts'
import { headersForPod } from './pass-on.ts'
import { containerOf, requireEngine } from './pod-log.ts'
import { methodNotAllowed } from './refusals.ts'
import { readStored } from './read.ts'
import type { ResourceRequest } from './request.ts'
import { type ResourcePath, parseRoute } from './route.ts'
import { ServiceAddresses } from './service-addresses.ts'
import type { StreamHandler } from './stream-handler.ts'
import type { SubresourceHandler } from './subresource-handler.ts'
import { isAlive } from './token-request.ts'

export type ApiServerOptions = {
  tenant: TenantName
  registry: KindRegistry
  /** Must outlive the server. */
  store: Store
  authorizer: Authorizer
  clock: Clock
  log: Logger
  /** Logs and streams of containers; without one they are refused with a reason. */
  engine?: Engine
  /** Tokens of service accounts; without one they are refused with a reason. */
  tokenIssuer?: TokenIssuer
  streams?: StreamHandler
  /** Sub-resources that somebody else answers, by `plural.group/name`. */
  subresources?: Readonly<Record<string, SubresourceHandler>>
  limits?: Partial<TenantLimits>
  /** Policies that run after the built-in ones. */
  plugins?: readonly AdmissionPlugin[]
  version: VersionFacts
  /** Virtual addresses of services, in CIDR notation. */
  serviceRange?: string
  /** The group whose members `bootstrap` makes cluster admins. */
  adminGroup?: string
  /** `host:port` as clients reach us, for legacy discovery. */
  serverAddress?: string
  entropy?: Entropy
}

/** The API server of one control plane. It listens nowhere: whoever accepts connections hands requests over. */
export interface ApiServer {
  /** Answers one request of somebody who has been authenticated. Never rejects. */
  handle(request: Asked, response: Answering, user: UserInfo): Promise<void>
  /** Answers an upgrade to exec, attach or port-forward. Never rejects, and owns the socket. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, user: UserInfo): Promise<void>
  /** The API for a component in this process, which may do everything and is recorded under its name. */
  client(component: string): ApiClient
  /** Creates the namespaces and roles that every control plane has. Safe to repeat. */
  bootstrap(): Promise<void>
  /** From now on these, and the defaults for what is absent. What is there already stays, whatever its size. */
  setLimits(limits: Partial<TenantLimits>): void
  /** From now on these rules of the operator hold, besides the control plane's own. */
  setOperatorPolicies(policies: OperatorPolicies, rego?: RegoPolicies): void
  /** Ends watches and refuses what comes after. */
  close(): Promise<void>
}

export function createApiServer(options: ApiServerOptions): ApiServer {
  return new Server(options)
}

const systemEntropy: Entropy = {
  uuid: () => randomUUID(),
  bytes: (count) => randomBytes(count),
  fraction: () => randomBytes(4).readUInt32BE() / 2 ** 32,
}

const METHODS: readonly string[] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']
/** A pod may be asked these as well. */
const PASSED_ON_METHODS: readonly string[] = [...METHODS, 'HEAD', 'OPTIONS']

class Server implements ApiServer {
  private readonly context: Context
  private readonly dispatcher: Dispatcher
  private readonly answers: HttpAnswers
  private readonly version: VersionFacts
  private readonly serverAddress: string
  private readonly adminGroup: string
  private readonly streams: StreamHandler | undefined
  private readonly closing = new AbortController()
  private limits: TenantLimits
  private operatorPolicies: OperatorPolicies = []
  private regoPolicies: RegoPolicies = { policies: [], threads: undefined }
  private inFlight = 0

  constructor(options: ApiServerOptions) {
    const { tenant, registry, store, authorizer, clock, engine, tokenIssuer } = options
    const log = options.log.with({ tenant })
    const entropy = options.entropy ?? systemEntropy
    const inFlight = new InFlight()
    this.limits = { ...DEFAULT_TENANT_LIMITS, ...options.limits }
    assert(!tokenIssuer || tokenIssuer.tenant === tenant, 'A token issuer serves one tenant')
    const customKinds = new CustomKinds(registry, compileRules)
    this.context = {
      tenant,
      get registry() {
        return customKinds.registry
      },
      customKinds,
      store,
      authorizer,
      plugins: [
        ...admissionPlugins({
          authorizer,
          registry: () => customKinds.registry,
          tenant,
          limits: () => this.limits,
          operatorPolicies: () => this.operatorPolicies,
          regoPolicies: () => this.regoPolicies,
        }),
        customKinds.plugin,
        ...(options.plugins ?? []),
      ],
      cluster: viewOf(store, inFlight),
      clock,
      log,
      engine,
      tokenIssuer,
      addresses: new ServiceAddresses({
        range: options.serviceRange ?? '10.96.0.0/16',
        random: () => entropy.fraction(),
      }),
      continueTokens: new ContinueTokens(),
      entropy,
      inFlight,
      measurements: new Measurements(),
      standing: new Standing(clock),
      subresources: options.subresources ?? {},
    }
    this.dispatcher = new Dispatcher(this.context)
    this.answers = new HttpAnswers({ clock, log })
    this.version = options.version
    this.serverAddress = options.serverAddress ?? 'kubernetes.default.svc:443'
    this.adminGroup = options.adminGroup ?? 'bulkhead:tenant-admins'
    this.streams = options.streams
    this.restore()
  }

  /** Rebuilds what is kept beside the store from what is in it. */
  private restore(): void {
    const { store, registry, authorizer, addresses, customKinds } = this.context
    const { group, plural } = customResourceDefinitionKind
    for (const { object } of store.list(keyPrefix({ group, resource: plural })).items)
      customKinds.observe(object)
    for (const { group, plural } of registry.kinds) {
      if (group === RBAC_GROUP)
        for (const { object } of store.list(keyPrefix({ group, resource: plural })).items)
          authorizer.observe(object)
      if (group === '' && plural === 'services')
        for (const { object } of store.list(keyPrefix({ group, resource: plural })).items)
          addresses.restore(object)
    }
  }

  async handle(request: Asked, response: Answering, user: UserInfo): Promise<void> {
    const warnings: string[] = []
    const auditNotes: string[] = []
    const cost = new Cost()
    cost.go()
    const gone = new AbortController()
    response.once('close', () => response.writableFinished || gone.abort())
    response.on('error', () => gone.abort())
    this.inFlight++
    const ended = new AbortController()
    let leaveStanding = () => {}
    let counted = true
    // A watch may take hours, and is counted elsewhere.
    const leave = () => {
      if (counted) this.inFlight--
      counted = false
    }
    try {
      if (this.inFlight > REQUESTS_IN_FLIGHT_MAX)
        throw new ApiError(
          'TooManyRequests',
          'Too many requests are being carried out, please try again later.',
          {
            details: { retryAfterSeconds: 1 },
          },
        )
      this.admit(user, request)
      const url = splitUrl(request.url)
      const route = url ? parseRoute(url.path) : ({ kind: 'nowhere' } as const)
      if (!url || route.kind === 'nowhere') {
        await this.answers.sendPlain(request, response, {
          kind: 'text',
          code: 404,
          body: '404 page not found\n',
        })
        return
      }
      const method = request.method ?? ''
      if (route.kind === 'path') {
        const { accept, 'if-none-match': ifNoneMatch } = request.headers
        const answer = answerPath(this.context, this.version, this.serverAddress, {
          method,
          path: route.path,
          accept,
          ifNoneMatch,
          user,
        })
        tellGateway(response, auditNotes, cost)
        await this.answers.sendPlain(request, response, answer)
        return
      }
      if (!(route.rest === undefined ? METHODS : PASSED_ON_METHODS).includes(method))
        throw new ApiError(
          'MethodNotAllowed',
          'the server does not allow this method on the requested resource',
          {
            details: {},
          },
        )
      const { closing } = this
      const wanted = this.answers.negotiate(request, route, url.query, this.context.registry)
      const resourceRequest: ResourceRequest = {
        method: method as ResourceRequest['method'], // one of the methods
        path: route,
        query: url.query,
        user,
        userAgent: request.headers['user-agent'] ?? '',
        get forPod() {
          return { headers: headersForPod(request.headers), search: searchOf(request.url) }
        },
        readBody: () => cost.waiting(readBody(request)),
        requireAcceptable: () => {
          if (wanted instanceof ApiError) throw wanted
        },
        // Few requests ever look at it, and joining signals is not cheap.
        get signal() {
          return AbortSignal.any([gone.signal, closing.signal, ended.signal])
        },
        warnings,
        auditNotes,
        cost,
      }
      const result = await this.dispatcher.execute(resourceRequest)
      if (result.kind === 'watch' || result.kind === 'text' || result.kind === 'passed') {
        if (result.kind !== 'passed') leave()
        leaveStanding = this.context.standing.add({
          isAllowed: () => this.isWelcome(user, request) && this.dispatcher.isAllowed(resourceRequest),
          end: () => ended.abort(),
        })
      }
      tellGateway(response, auditNotes, cost)
      // The dispatcher has thrown what is none.
      if (wanted instanceof ApiError) throw wanted
      await this.answers.send(request, response, result, { wanted, query: url.query, warnings })
    } catch (error) {
      tellGateway(response, auditNotes, cost)
      if (gone.signal.aborted && !(error instanceof ApiError)) response.destroy()
      else this.answers.sendError(response, error, { accept: request.headers.accept, warnings })
    } finally {
      leave()
      leaveStanding()
      request.discardBody(REQUEST_BODY_BYTES_MAX)
      // What it cost counts also for who did not wait for the answer.
      response.tellLate?.()
    }
  }

  async handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, user: UserInfo): Promise<void> {
    socket.on('error', () => socket.destroy())
    let upgradeRequest: ResourceRequest | undefined
    try {
      this.admit(user)
      const url = splitUrl(request.url)
      const route = url ? parseRoute(url.path) : undefined
      if (!url || route?.kind !== 'resource')
        throw new ApiError('NotFound', 'the server could not find the requested resource')
      const { query } = url
      const asked = (upgradeRequest = this.upgradeRequest(request, route, query, user))
      if (route.subresource === 'log') {
        const leaveStanding = this.context.standing.add({
          isAllowed: () => this.isWelcome(user) && this.dispatcher.isAllowed(asked),
          end: () => socket.destroy(),
        })
        socket.once('close', leaveStanding)
        await this.upgradeLog(asked, { request, socket, head })
        return
      }
      const target = this.dispatcher.authorizeStream(asked)
      await admitConnection(this.context, asked, target)
      const pod = readStored(this.context, target).object
      const subresource = route.subresource as 'exec' | 'attach' | 'portforward' // authorizeStream lets no other pass
      const container = subresource === 'portforward' ? '' : containerOf(pod, query.get('container') ?? '')
      if (!this.streams)
        throw new ApiError('MethodNotAllowed', `This control plane does not carry ${subresource} streams`, {
          code: 501,
        })
      const engine = requireEngine(this.context)
      const { nodeName } = pod['spec'] as { nodeName?: string }
      if (!nodeName)
        throw new ApiError('BadRequest', `pod ${pod.metadata.name} does not have a host assigned`)
      const jail = pod.metadata.uid as JailId
      const leaveStanding = this.context.standing.add({
        isAllowed: () => this.isWelcome(user) && this.dispatcher.isAllowed(asked, 'create'),
        end: () => socket.destroy(),
      })
      socket.once('close', leaveStanding)
      await this.streams.handle({
        request,
        socket,
        head,
        user,
        subresource,
        pod,
        jail,
        container,
        query,
        engine,
        headerLines: headerLinesOf(asked),
      })
    } catch (error) {
      this.refuseUpgrade(socket, error, upgradeRequest ? headerLinesOf(upgradeRequest) : [])
    }
  }

  /** A log over a WebSocket is asked for, and granted, as without one. */
  private async upgradeLog(
    asked: ResourceRequest,
    upgrade: Parameters<StreamHandler['handleText']>[0],
  ): Promise<void> {
    const gone = new AbortController()
    upgrade.socket.once('close', () => gone.abort(new Error('The client went away')))
    const signal = AbortSignal.any([asked.signal, gone.signal])
    if (asked.method !== 'GET' || !this.streams) throw methodNotAllowed()
    const result = await this.dispatcher.execute({ ...asked, signal })
    if (result.kind !== 'text') throw methodNotAllowed()
    await this.streams.handleText(upgrade, result.stream)
  }

  private upgradeRequest(
    request: IncomingMessage,
    path: ResourcePath,
    query: URLSearchParams,
    user: UserInfo,
  ): ResourceRequest {
    return {
      method: request.method === 'POST' ? 'POST' : 'GET',
      path,
      query,
      user,
      userAgent: request.headers['user-agent'] ?? '',
      readBody: () => Promise.resolve(undefined),
      signal: this.closing.signal,
      warnings: [],
      auditNotes: [],
      cost: NO_COST,
    }
  }

  private refuseUpgrade(socket: Duplex, error: unknown, headerLines: readonly string[]): void {
    if (socket.destroyed) return
    if (!(error instanceof ApiError)) {
      this.context.log.error('upgrade failed', { error })
      if (!socket.writable) return
    }
    const refusal =
      error instanceof ApiError ? error : new ApiError('InternalError', 'Internal error occurred')
    const body = Buffer.from(`${JSON.stringify(refusal.toStatus())}\n`)
    socket.end(
      Buffer.concat([
        Buffer.from(
          `HTTP/1.1 ${refusal.code} ${refusal.reason}\r\ncontent-type: application/json\r\n` +
            `content-length: ${body.length}\r\nconnection: close\r\n` +
            `${headerLines.map((line) => `${line}\r\n`).join('')}\r\n`,
        ),
        body,
      ]),
    )
  }

  /** @throws {ApiError} Unauthorized for whoever has no place here, whatever the door let in. */
  private admit(user: UserInfo, request?: Asked): void {
    if (this.closing.signal.aborted)
      throw new ApiError('ServiceUnavailable', 'The control plane is going to sleep', {
        details: { retryAfterSeconds: 1 },
      })
    if (!this.isWelcome(user, request)) throw new ApiError('Unauthorized', 'Unauthorized')
  }

  private isWelcome(user: UserInfo, request?: Asked): boolean {
    const { tenant } = this.context
    return (
      user.kind === 'anonymous' ||
      (user.kind === 'operator' && tenant === PLATFORM_TENANT) ||
      (user.kind === 'tenantUser' && user.tenant === tenant) ||
      (user.kind === 'serviceAccount' && user.tenant === tenant && isAlive(this.context, user)) ||
      // The gateway's own question, see parseRequestIdentity; as a component it must get no further than this.
      (user.kind === 'component' && request?.method === 'GET' && request.url === JWKS_PATH)
    )
  }

  client(component: string): ApiClient {
    return new InProcessClient({ dispatcher: this.dispatcher, component, signal: this.closing.signal })
  }

  async bootstrap(): Promise<void> {
    const { registry, log } = this.context
    await bootstrap(this.client('bootstrap'), registry, this.adminGroup, (refusal) =>
      log.warn('what every control plane holds was refused', { error: refusal }),
    )
  }

  setLimits(limits: Partial<TenantLimits>): void {
    this.limits = { ...DEFAULT_TENANT_LIMITS, ...limits }
  }

  setOperatorPolicies(policies: OperatorPolicies, rego?: RegoPolicies): void {
    this.operatorPolicies = policies
    this.regoPolicies = rego ?? { policies: [], threads: undefined }
  }

  close(): Promise<void> {
    this.closing.abort()
    return Promise.resolve()
  }
}

/** For the gateway, which keeps it from the client. */
function tellGateway(response: Answering, notes: readonly string[], cost: Cost): void {
  cost.stop()
  if (response.headersSent) return
  // What the answer itself costs, which is still to come, the gateway counts by its bytes.
  if (cost.ms >= 1) response.setHeader(COST_HEADER, String(Math.round(cost.ms)))
  if (notes.length > 0) response.setHeader(AUDIT_NOTE_HEADER, renderNotes(notes))
}

function renderNotes(notes: readonly string[]): string {
  return notes
    .join('; ')
    .slice(0, AUDIT_NOTE_CHARS_MAX)
    .replace(/[^\x20-\x7e]/g, '?')
}

/** What is told with the switch of protocols, or with its refusal: to the gateway, and to the client. */
function headerLinesOf({ auditNotes, warnings }: ResourceRequest): string[] {
  return [
    ...(auditNotes.length > 0 ? [`${AUDIT_NOTE_HEADER}: ${renderNotes(auditNotes)}`] : []),
    ...renderWarnings(warnings).map((value) => `warning: ${value}`),
  ]
}
