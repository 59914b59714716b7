import { request, type IncomingMessage } from 'node:http'
import { createInterface } from 'node:readline'
import { askUnix } from '../stdx/index.ts'
import type {
  KubeObject,
  MatchResources,
  TenantName,
  ValidatingAdmissionPolicyBinding,
  ValidatingAdmissionPolicySpec,
} from '../api/index.ts'
import type { BandwidthCaps } from './bandwidth.ts'
import type { DiskRates } from './disk-rates.ts'
import type { EgressPolicy } from './egress.ts'
import type { IngressGrant } from './ingress.ts'

/** Which isolation classes a machine can offer, and what is missing for the others. */
export type NodeIsolation = {
  classes: Readonly<Record<string, { available: true } | { available: false; why: string }>>
}

/** At most this much for a whole tenant; what is absent is limited by the platform only. */
export type TenantQuota = {
  pods?: number
  objects?: number
  /** Thousandths of a core. */
  cpuMillis?: number
  memoryBytes?: number
  /** Sizes of the volumes that outlive pods, added up. */
  storageBytes?: number
  /** Of the disk, for what its pods write besides volumes of claims. */
  ephemeralStorageBytes?: number
}

/** How the operator ranks a tenant among the others of a machine. */
export type TenantRank = {
  /** Of two tenants, the one with more goes before the other. 0 when absent. */
  priority?: number
  /** What it gets whoever else is here, as soon as it wants it. Until then others may borrow it. */
  guaranteed?: { cpuMillis?: number; memoryBytes?: number }
}

export type TenantPlacementRequest = {
  class: string
  registries: readonly string[]
  /** Of the Tenant object: the next tenant of the same name has another one. */
  uid: string
  quota?: TenantQuota
  rank?: TenantRank
  /** The least level of the Pod Security Standards in all of its namespaces. */
  podSecurity?: 'privileged' | 'baseline' | 'restricted'
  /** Admission policies of the operator that hold in its API. */
  policies?: readonly TenantPolicy[]
  /** The same, in Rego. */
  regoPolicies?: readonly TenantRegoPolicy[]
  egress?: EgressPolicy
  ingress?: IngressGrant
  bandwidth?: BandwidthCaps
  diskRates?: DiskRates
}

/** A ValidatingAdmissionPolicy of the operator with the bindings that make it hold for a tenant. */
export type TenantPolicy = {
  name: string
  spec: ValidatingAdmissionPolicySpec
  bindings: readonly {
    name: string
    spec: ValidatingAdmissionPolicyBinding['spec']
    /** What `paramRef` finds among the operator's objects. */
    params?: readonly KubeObject[]
  }[]
}

/** A RegoPolicy of the operator. */
export type TenantRegoPolicy = {
  name: string
  /** In base64. */
  bundle: string
  entrypoint?: string
  matchConstraints: MatchResources
}

/** What a machine gave a tenant. */
export type TenantPlacementAnswer = {
  tenant: string
  index: number
  isolationClass: string
  podUidBase: number
  controlPlaneUid: number
}

/** SYNCED comes once, after everybody who sleeps has been named. */
export type SleepEvent = { type: 'ASLEEP' | 'AWAKE'; tenant: string } | { type: 'SYNCED' }

/** The node agent, as the platform's control plane speaks to it: it makes tenants be there and takes them away. */
export interface NodeClient {
  isolation(signal?: AbortSignal): Promise<NodeIsolation>
  tenants(signal?: AbortSignal): Promise<readonly TenantPlacementAnswer[]>
  /** Resolves once the tenant's control plane answers; safe to repeat. */
  ensureTenant(
    tenant: TenantName,
    wanted: TenantPlacementRequest,
    signal?: AbortSignal,
  ): Promise<TenantPlacementAnswer>
  /** Who sleeps: everybody who does now, then every change, until the signal or the node agent ends it. */
  watchSleep(signal: AbortSignal): AsyncIterable<SleepEvent>
  /** Begins to take away everything of it; it is gone when `tenants` no longer names it. Safe to repeat. */
  removeTenant(tenant: TenantName, signal?: AbortSignal): Promise<void>
}

/** An answer of the node agent other than success. 422 means that asking again changes nothing. */
export class NodeRefusal extends Error {
  readonly code: number
  constructor(message: string, code: number) {
    super(message)
    this.code = code
  }
}

/** A control plane is started within this time, or something is wrong. */
const TIMEOUT_MS = 120_000
const ANSWER_BYTES_MAX = 4 * 1024 * 1024

/** The node agent at the other end of its platform socket. */
export class UnixNodeClient implements NodeClient {
  private readonly socketPath: string

  constructor({ socketPath }: { socketPath: string }) {
    this.socketPath = socketPath
  }

  async isolation(signal?: AbortSignal): Promise<NodeIsolation> {
    return (await this.json('GET', '/v1/isolation', undefined, signal)) as NodeIsolation
  }

  async tenants(signal?: AbortSignal): Promise<readonly TenantPlacementAnswer[]> {
    const { items } = (await this.json('GET', '/v1/tenants', undefined, signal)) as {
      items: TenantPlacementAnswer[]
    }
    return items
  }

  async ensureTenant(
    tenant: TenantName,
    wanted: TenantPlacementRequest,
    signal?: AbortSignal,
  ): Promise<TenantPlacementAnswer> {
    return (await this.json('PUT', `/v1/tenants/${tenant}`, wanted, signal)) as TenantPlacementAnswer
  }

  async removeTenant(tenant: TenantName, signal?: AbortSignal): Promise<void> {
    await this.json('DELETE', `/v1/tenants/${tenant}`, undefined, signal)
  }

  async *watchSleep(signal: AbortSignal): AsyncGenerator<SleepEvent, void, undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const { socketPath } = this
    const outgoing = request({ socketPath, path: '/v1/tenants?watch=sleep', agent: false, signal })
    outgoing.on('response', resolve)
    outgoing.on('error', reject)
    outgoing.end()
    const response = await promise
    try {
      for await (const line of createInterface({ input: response })) yield JSON.parse(line) as SleepEvent // the node agent has more power than we do
    } finally {
      response.destroy()
    }
  }

  private async json(
    method: string,
    path: string,
    body: unknown,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    const timeout = AbortSignal.timeout(TIMEOUT_MS)
    try {
      const answer = await askUnix({
        socketPath: this.socketPath,
        method,
        path,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
        answerBytesMax: ANSWER_BYTES_MAX,
      })
      const code = answer.code
      const text = answer.body.toString('utf8')
      if (code < 200 || code > 299)
        throw new NodeRefusal(messageIn(text) ?? `The node agent answered ${code}`, code)
      return text === '' ? undefined : (JSON.parse(text) as unknown)
    } catch (cause) {
      if (cause instanceof NodeRefusal) throw cause
      throw new Error(`Cannot ask the node agent to ${method} "${path}"`, { cause })
    }
  }
}

function messageIn(text: string): string | undefined {
  try {
    const { message } = JSON.parse(text) as { message?: unknown }
    return typeof message === 'string' ? message : undefined
  } catch {
    return undefined
  }
}
