import { readFileSync } from 'node:fs'
import { randomBytes } from 'node:crypto'
import { until, withDeadline } from '../stdx/index.ts'
import { POD_READY_MS_MAX, PROGRAM_BYTES_MAX, PROGRAM_MS_MAX, PROGRAM_OUTPUT_BYTES_MAX } from './limits.ts'
import { type ApiAnswer, type Credential, type Identity, TenantApi } from './tenant-api.ts'

const PROGRAMS = new URL('programs/', import.meta.url)
const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, status: 3, close: 255 } as const

export type ProgramRan = { stdout: string; stderr: string; exitCode: number | undefined }

export const CANARY_NAMESPACE = 'canaries'
export const INTRUDER = 'intruder'
export const CANARY_POD = 'canary'
export const CANARY_PORT = 8080

/** What only this tenant may see, in every place where a tenant keeps something. */
export type Canaries = {
  /** In all of them; whoever else sees it has come across. */
  value: string
  namespace: string
  secret: string
  configMap: string
  service: string
  pod: string
  /** Known once the pod runs. */
  podIP?: string
  clusterIP?: string
}

/** One of the two tenants of an attack: who it is, and what it can do as its own administrator. */
export class Party implements AsyncDisposable {
  readonly name: string
  /** Of the Tenant object. */
  readonly uid: string
  readonly isolationClass: string
  readonly canaries: Canaries
  /** As its administrator. */
  readonly admin: TenantApi
  readonly image: string
  private readonly origin: string
  private readonly ca: string
  private readonly issuer: Issuer
  private readonly clients = new Set<TenantApi>()
  private readonly watched: { value: string; onHeard: () => void }[] = []

  private constructor(options: PartyOptions, credential: Credential) {
    this.name = options.name
    this.uid = options.uid
    this.isolationClass = options.isolationClass
    this.origin = options.origin
    this.image = options.image
    this.issuer = options.issue
    this.ca = credential.ca
    const name = `c${randomBytes(4).toString('hex')}`
    this.canaries = {
      value: `canary-${randomBytes(12).toString('hex')}`,
      namespace: CANARY_NAMESPACE,
      secret: name,
      configMap: name,
      service: name,
      pod: CANARY_POD,
    }
    this.admin = this.as({ certificate: credential })
  }

  static async open(options: PartyOptions): Promise<Party> {
    return new Party(options, await options.issue({ user: 'admin', groups: ['bulkhead:tenant-admins'] }))
  }

  /** What it was granted at the front door, if anything was. */
  get host(): string {
    return hostOf(this.name)
  }

  /** Where this tenant's API is. */
  get root(): string {
    return `/tenants/${this.name}`
  }

  /** Opens a connection to the gateway as somebody; what comes over it counts as heard by this party. */
  as(identity: Identity): TenantApi {
    const api = new TenantApi({
      origin: this.origin,
      ca: this.ca,
      identity,
      heard: (text) => this.hear(text),
    })
    this.clients.add(api)
    return api
  }

  /** A genuine client certificate of this tenant. */
  issue(subject: Subject): Promise<Credential> {
    return this.issuer(subject)
  }

  /** Calls `onHeard` whenever this party is told `value`. */
  listenFor(value: string, onHeard: () => void): () => void {
    const one = { value, onHeard }
    this.watched.push(one)
    return () => void this.watched.splice(this.watched.indexOf(one), 1)
  }

  /** Bytes that have come to this party in some other way than over a connection of `as`. */
  hear(text: string): void {
    for (const { value, onHeard } of this.watched) if (text.includes(value)) onHeard()
  }

  /** A request of the administrator to its own API; `path` begins after the tenant's. */
  own(path: string, options: Parameters<TenantApi['request']>[1] = {}): Promise<ApiAnswer> {
    return this.admin.request(`${this.root}${path}`, options)
  }

  /** As `own`, and parsed. @throws when it is refused. */
  async must<T = Record<string, unknown>>(
    path: string,
    options: Parameters<TenantApi['request']>[1] = {},
  ): Promise<T> {
    const { code, body } = await this.own(path, options)
    if (code >= 400)
      throw new Error(
        `${options.method ?? 'GET'} ${path} of the tenant itself: ${code} ${body.slice(0, 300)}`,
      )
    return JSON.parse(body) as T // the API server answers JSON
  }

  create<T = Record<string, unknown>>(path: string, object: object): Promise<T> {
    return this.must<T>(path, { method: 'POST', body: object })
  }

  /** A token of a service account, made if it is not there. */
  async token({
    namespace = 'default',
    account = 'default',
    spec = {},
  }: { namespace?: string; account?: string; spec?: object } = {}): Promise<string> {
    const { status } = await this.must<{ status: { token: string } }>(
      `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`,
      {
        method: 'POST',
        body: {
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenRequest',
          metadata: {},
          spec: { audiences: [], ...spec },
        },
      },
    )
    return status.token
  }

  /** Waits until a pod is ready and returns it. */
  async untilReady(
    namespace: string,
    pod: string,
  ): Promise<{ status: { podIP?: string }; metadata: { uid: string } }> {
    type Seen = {
      metadata: { uid: string }
      status: { podIP?: string; phase?: string; conditions?: { type: string; status: string }[] }
    }
    return until(
      async () => {
        const seen = await this.must<Seen>(`/api/v1/namespaces/${namespace}/pods/${pod}`)
        return seen.status.conditions?.some((c) => c.type === 'Ready' && c.status === 'True')
          ? seen
          : undefined
      },
      { timeoutMs: POD_READY_MS_MAX, everyMs: 200, what: `Pod "${pod}" of ${this.name} being ready` },
    )
  }

  /**
   * Runs `programs/NAME.py` in a pod of this tenant with `input` as JSON in its first argument, and returns what it
   * printed. Never throws for an exit code.
   */
  async run(
    name: string,
    input: unknown = {},
    {
      pod = INTRUDER,
      namespace = CANARY_NAMESPACE,
      container,
    }: { pod?: string; namespace?: string; container?: string } = {},
  ): Promise<ProgramRan> {
    const source = readFileSync(new URL(`${name}.py`, PROGRAMS))
    if (source.length > PROGRAM_BYTES_MAX) throw new Error(`The program "${name}" is too large`)
    return this.exec(['python3', '-u', '-', JSON.stringify(input)], {
      stdin: source,
      pod,
      namespace,
      ...(container === undefined ? {} : { container }),
    })
  }

  /** As `run`, and what it printed is JSON. @throws when it is not. */
  async ask<T>(name: string, input: unknown = {}, where: Parameters<Party['run']>[2] = {}): Promise<T> {
    const ran = await this.run(name, input, where)
    try {
      return JSON.parse(ran.stdout) as T
    } catch (cause) {
      throw new Error(
        `The program "${name}" ended with ${ran.exitCode} and said: ${(ran.stderr || ran.stdout).slice(-300)}`,
        { cause },
      )
    }
  }

  /** Runs a command in a pod of this tenant. */
  exec(
    command: readonly string[],
    {
      stdin,
      pod = INTRUDER,
      namespace = CANARY_NAMESPACE,
      container,
    }: { stdin?: Uint8Array | string; pod?: string; namespace?: string; container?: string } = {},
  ): Promise<ProgramRan> {
    const query = new URLSearchParams({ stdout: 'true', stderr: 'true' })
    for (const word of command) query.append('command', word)
    if (stdin !== undefined) query.set('stdin', 'true')
    if (container !== undefined) query.set('container', container)
    const path = `${this.root}/api/v1/namespaces/${namespace}/pods/${pod}/exec?${query}`
    return withDeadline(`A command in pod "${pod}"`, PROGRAM_MS_MAX, (signal) =>
      this.stream(path, stdin, signal),
    )
  }

  private stream(
    path: string,
    stdin: Uint8Array | string | undefined,
    signal: AbortSignal,
  ): Promise<ProgramRan> {
    const socket = this.admin.websocket(path, ['v5.channel.k8s.io'])
    signal.addEventListener('abort', () => socket.terminate(), { once: true })
    const { promise, resolve, reject } = Promise.withResolvers<ProgramRan>()
    const out: Record<number, Buffer[]> = {}
    let size = 0
    socket.on('open', () => {
      if (stdin === undefined) return
      socket.send(Buffer.concat([Buffer.of(CHANNEL.stdin), Buffer.from(stdin as Uint8Array)]))
      socket.send(Buffer.of(CHANNEL.close, CHANNEL.stdin))
    })
    socket.on('message', (data: Buffer) => {
      size += data.length
      if (size > PROGRAM_OUTPUT_BYTES_MAX) return socket.terminate()
      ;(out[data[0] ?? 0] ??= []).push(data.subarray(1))
    })
    socket.on('unexpected-response', (_request, answer) => {
      let text = ''
      answer.on('data', (chunk: Buffer) => (text += chunk.toString()))
      answer.on('close', () =>
        reject(new Error(`exec was answered with ${answer.statusCode}: ${text.slice(0, 300)}`)),
      )
    })
    socket.on('error', reject)
    socket.on('close', () => {
      const text = (channel: number) => Buffer.concat(out[channel] ?? []).toString()
      const ran = {
        stdout: text(CHANNEL.stdout),
        stderr: text(CHANNEL.stderr),
        exitCode: exitCode(text(CHANNEL.status)),
      }
      this.hear(ran.stdout)
      this.hear(ran.stderr)
      resolve(ran)
    })
    return promise
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.clients) await client[Symbol.asyncDispose]()
    this.clients.clear()
  }
}

/** Nobody can have such names: https://www.rfc-editor.org/rfc/rfc6761#section-6.4 */
export const hostOf = (tenant: string) => `${tenant}.attack.invalid`

export type Subject = { user: string; groups: readonly string[]; expirationSeconds?: number }
export type Issuer = (subject: Subject) => Promise<Credential>
export type PartyOptions = {
  name: string
  uid: string
  isolationClass: string
  origin: string
  image: string
  issue: Issuer
}

/** Of the Status that ends a stream; undefined when there is none, because the stream broke. */
function exitCode(status: string): number | undefined {
  try {
    const { status: word, details } = JSON.parse(status) as {
      status?: string
      details?: { causes?: { reason?: string; message?: string }[] }
    }
    if (word === 'Success') return 0
    return Number(details?.causes?.find(({ reason }) => reason === 'ExitCode')?.message ?? 1)
  } catch {
    return undefined
  }
}
