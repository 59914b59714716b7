import { randomUUID } from 'node:crypto'
import type { Duplex, Readable } from 'node:stream'
import { ApiError, type KubeObject, type TenantName, VIRTUAL_NODE_NAME } from '../api/index.ts'
import { FakeApiClient } from '../client/index.ts'
import {
  type ClaimedVolume,
  type ClaimId,
  type Engine,
  type EngineEvent,
  type Jail,
  type JailContainerState,
  type JailEvent,
  type JailId,
  type JailStatus,
  type JailUsage,
  type NodeFacts,
  parseClaimedVolume,
  parseJail,
  parseRoomRequest,
  parseTenantNetwork,
  type RoomRequest,
  type RoomAnswer,
  type Shortage,
  type IngressAnswer,
  parseTenantIngress,
  type TenantEgress,
  type TenantIngress,
  type TenantNetwork,
} from '../jail/index.ts'
import { BoundedQueue, type Clock, FakeClock, silentLogger, until } from '../stdx/index.ts'
import { type Running, startTenantControllers, type TenantControllersOptions } from './index.ts'
import {
  type Deployment,
  type Job,
  namespaceKind,
  nodeKind,
  type Pod,
  podKind,
  type PodSpec,
  type ReplicaSet,
} from './kinds.ts'

export const TENANT = 'red' as TenantName
export const NOW = '2026-01-01T00:00:00Z'

/** A whole object of any kind for pure plans. */
export function object<T extends KubeObject>(
  kind: string,
  apiVersion: string,
  name: string,
  body: Record<string, unknown> = {},
  metadata: Record<string, unknown> = {},
): T {
  return {
    apiVersion,
    kind,
    metadata: {
      name,
      namespace: 'default',
      uid: randomUUID(),
      resourceVersion: '1',
      creationTimestamp: NOW,
      generation: 1,
      ...metadata,
    },
    ...body,
  } as unknown as T
}

export const podSpec: PodSpec = { containers: [{ name: 'web', image: 'registry.test/web:1' }] }

export function podTemplate(app: string, image = 'registry.test/web:1') {
  return { metadata: { labels: { app } }, spec: { containers: [{ name: 'web', image }] } }
}

export function deployment(name: string, spec: Partial<Deployment['spec']> = {}): Deployment {
  return object('Deployment', 'apps/v1', name, {
    spec: { replicas: 3, selector: { matchLabels: { app: name } }, template: podTemplate(name), ...spec },
  })
}

export function replicaSet(name: string, spec: Partial<ReplicaSet['spec']> = {}): ReplicaSet {
  return object('ReplicaSet', 'apps/v1', name, {
    spec: { replicas: 3, selector: { matchLabels: { app: name } }, template: podTemplate(name), ...spec },
  })
}

export function job(name: string, spec: Partial<Job['spec']> = {}): Job {
  const template = { ...podTemplate(name), spec: { ...podSpec, restartPolicy: 'Never' as const } }
  return object('Job', 'batch/v1', name, { spec: { completions: 1, parallelism: 1, template, ...spec } })
}

export function namespace(name: string): KubeObject {
  return object('Namespace', 'v1', name, {}, { namespace: undefined })
}

/** An engine whose containers do what the test says. Jails outlive every control plane that asks for them. */
export class FakeEngine implements Engine {
  readonly jails = new Map<string, { jail: Jail; status: JailStatus }>()
  /** Every jail that was given to `ensure`, in order. */
  readonly ensured: Jail[] = []
  readonly removed: { id: string; gracePeriodSeconds?: number }[] = []
  readonly networks: TenantNetwork[] = []
  readonly ingresses: TenantIngress[] = []
  refusedIngress: IngressAnswer['refused'] = []
  readonly claimed = new Map<ClaimId, ClaimedVolume>()
  /** What it throws is the answer to `ensureVolume`. */
  refuseVolume: ((volume: ClaimedVolume) => void) | undefined
  /** What it throws is the answer to `setNetwork`. */
  refuseNetwork: ((network: TenantNetwork) => void) | undefined
  /** What it throws is the answer to `ensure`. */
  refuse: ((jail: Jail) => void) | undefined
  /** What the machine lacks for a pod; nothing when absent. */
  noRoom: ((id: JailId, requests: RoomRequest) => Shortage[]) | undefined
  /** What each container takes up; nobody measures when absent. */
  memoryBytes: number | undefined
  /** True: containers run as soon as their jail is there. */
  autorun = true
  /** True: a removed jail is gone at once. */
  autoremove = true
  private readonly watchers = new Set<BoundedQueue<EngineEvent>>()
  private readonly clock: Clock
  private nextIp = 1
  private sequence = 0
  private down = false

  constructor(clock: Clock) {
    this.clock = clock
  }

  async volumes(): Promise<ClaimedVolume[]> {
    return [...this.claimed.values()]
  }

  async ensureVolume(wanted: ClaimedVolume): Promise<ClaimedVolume> {
    this.mustBeUp()
    const volume = parseClaimedVolume(JSON.parse(JSON.stringify(wanted)))
    this.refuseVolume?.(volume)
    this.claimed.set(volume.id, volume)
    return volume
  }

  async removeVolume(id: ClaimId): Promise<void> {
    this.mustBeUp()
    this.claimed.delete(id)
  }

  async list(): Promise<JailStatus[]> {
    return [...this.jails.values()].map(({ status }) => status)
  }

  async *watch(signal: AbortSignal): AsyncGenerator<EngineEvent, void, undefined> {
    this.mustBeUp()
    const queue = new BoundedQueue<EngineEvent>(10_000)
    for (const { status } of this.jails.values()) queue.push({ type: 'STATUS', status })
    queue.push({ type: 'SYNCED' })
    this.watchers.add(queue)
    signal.addEventListener('abort', () => queue.end(), { once: true })
    try {
      yield* queue
    } finally {
      this.watchers.delete(queue)
    }
  }

  async ensure(wanted: Jail): Promise<JailStatus> {
    this.mustBeUp()
    // As it would come through the socket.
    const jail = parseJail(JSON.parse(JSON.stringify(wanted)), { tenant: TENANT })
    this.refuse?.(jail)
    this.ensured.push(jail)
    const known = this.jails.get(jail.id)
    if (known) {
      known.jail = jail
      return known.status
    }
    const status: JailStatus = {
      id: jail.id,
      phase: 'Pending',
      startTime: NOW,
      initialized: jail.initContainers.length === 0,
      terminating: false,
      initContainers: jail.initContainers.map(({ name, image }) => waiting(name, image)),
      containers: jail.containers.map(({ name, image }) => waiting(name, image)),
    }
    this.jails.set(jail.id, { jail, status })
    this.push({ type: 'STATUS', status })
    if (this.autorun) this.run(jail.id)
    return status
  }

  async remove(id: JailId, options: { gracePeriodSeconds?: number }): Promise<void> {
    this.mustBeUp()
    this.removed.push({ id, ...options })
    if (this.autoremove) this.gone(id)
    else this.change(id, (status) => ({ ...status, terminating: true }))
  }

  async setNetwork(network: TenantNetwork): Promise<void> {
    this.mustBeUp()
    const parsed = parseTenantNetwork(JSON.parse(JSON.stringify(network)))
    this.refuseNetwork?.(parsed)
    this.networks.push(parsed)
  }

  async setIngress(ingress: TenantIngress): Promise<IngressAnswer> {
    this.mustBeUp()
    const parsed = parseTenantIngress(JSON.parse(JSON.stringify(ingress)))
    this.ingresses.push(parsed)
    return { refused: this.refusedIngress }
  }

  async egress(): Promise<TenantEgress> {
    return { tenant: 'red', uplink: 'not needed', rules: [], seen: [], since: 0, now: 0 }
  }

  logs(): Promise<Readable> {
    return Promise.reject(new Error('The fake engine has no logs'))
  }
  exec(): Promise<Duplex> {
    return Promise.reject(new Error('The fake engine runs no commands'))
  }
  attach(): Promise<Duplex> {
    return Promise.reject(new Error('The fake engine attaches to nothing'))
  }
  portForward(): Promise<Duplex> {
    return Promise.reject(new Error('The fake engine forwards nothing'))
  }
  async usage(): Promise<JailUsage[]> {
    const atMs = this.clock.nowMs()
    const { memoryBytes } = this
    if (memoryBytes === undefined) return []
    return [...this.jails.values()].map(({ jail: { id, containers } }) => ({
      id,
      atMs,
      containers: containers.map(({ name }) => ({
        name,
        run: `${id}-${name}`,
        cpuNanos: 0,
        workingSetBytes: memoryBytes,
      })),
    }))
  }
  async reserve(id: JailId, requests: RoomRequest): Promise<RoomAnswer> {
    this.mustBeUp()
    return { missing: this.noRoom?.(id, parseRoomRequest(JSON.parse(JSON.stringify(requests)))) ?? [] }
  }
  async node(): Promise<NodeFacts> {
    return {
      allocatable: { cpuMillis: 4_000, memoryBytes: 2 ** 32, ephemeralStorageBytes: 2 ** 34, pods: 110 },
      architecture: 'amd64',
      pressures: [],
      runtimes: {},
    }
  }

  /** Makes every container of the pod run and be ready. */
  run(id: string): void {
    const ip = `10.0.0.${this.nextIp++}`
    this.change(id, (status) => ({
      ...status,
      phase: 'Running',
      podIP: ip,
      hostIP: '192.0.2.1',
      initialized: true,
      containers: status.containers.map((container) => ({
        ...container,
        imageID: `${container.image.split(':')[0]}@sha256:abc`,
        containerID: `runc://${id}-${container.name}`,
        state: { kind: 'running', startedAt: NOW },
        ready: true,
        started: true,
      })),
    }))
  }

  /** Ends every container of the pod. */
  exit(id: string, exitCode: number): void {
    const state: JailContainerState = {
      kind: 'terminated',
      exitCode,
      reason: exitCode === 0 ? 'Completed' : 'Error',
      startedAt: NOW,
      finishedAt: new Date(this.clock.nowMs()).toISOString(),
      containerID: `runc://${id}`,
    }
    this.change(id, (status) => ({
      ...status,
      phase: exitCode === 0 ? 'Succeeded' : 'Failed',
      containers: status.containers.map((container) => ({ ...container, state, ready: false })),
    }))
  }

  change(id: string, change: (status: JailStatus) => JailStatus): void {
    const known = this.jails.get(id)
    if (!known) throw new Error(`There is no jail "${id}"`)
    known.status = change(known.status)
    this.push({ type: 'STATUS', status: known.status })
  }

  tell(event: Omit<JailEvent, 'sequence' | 'at'>): void {
    this.push({ type: 'EVENT', event: { ...event, sequence: ++this.sequence, at: NOW } })
  }

  gone(id: string): void {
    this.jails.delete(id)
    this.push({ type: 'REMOVED', id: id as JailId })
  }

  /** Cuts every connection and answers nothing until `comeBack`. */
  goAway(): void {
    this.down = true
    for (const watcher of this.watchers)
      watcher.fail(new ApiError('ServiceUnavailable', 'The engine is away'))
  }

  comeBack(): void {
    this.down = false
  }

  private mustBeUp(): void {
    if (this.down) throw new ApiError('ServiceUnavailable', 'The engine is away')
  }

  private push(event: EngineEvent): void {
    for (const watcher of this.watchers) watcher.push(event)
  }
}

function waiting(name: string, image: string): JailStatus['containers'][number] {
  return {
    name,
    image,
    imageID: '',
    containerID: '',
    state: { kind: 'waiting', reason: 'ContainerCreating' },
    ready: false,
    started: false,
    restartCount: 0,
  }
}

/** A tenant's controllers over a fake API server and a fake engine, both of which outlive them. */
export class TestControlPlane implements AsyncDisposable {
  readonly clock = new FakeClock(Date.parse(NOW))
  readonly client = new FakeApiClient({ clock: this.clock })
  readonly engine = new FakeEngine(this.clock)
  private running: Running | undefined

  static async start(options: Partial<TenantControllersOptions> = {}): Promise<TestControlPlane> {
    const plane = new TestControlPlane()
    for (const name of ['default', 'kube-system']) await plane.client.create(namespaceKind, namespace(name))
    await plane.client.create(nodeKind, object('Node', 'v1', VIRTUAL_NODE_NAME, {}, { namespace: undefined }))
    await plane.resume(options)
    return plane
  }

  async resume(options: Partial<TenantControllersOptions> = {}): Promise<void> {
    const { clock, client, engine } = this
    this.running = startTenantControllers({
      client,
      engine,
      tenant: TENANT,
      clock,
      log: silentLogger,
      options: {
        runtime: 'runc',
        caPem: 'the authority',
        node: { cpuMillis: 4_000, memoryBytes: 2 ** 32, ephemeralStorageBytes: 2 ** 34 },
        issueToken: async ({ audience = 'api', expirationSeconds, pod }) => ({
          token: `token of ${pod.name} for ${audience}`,
          expiresAtMs: clock.nowMs() + expirationSeconds * 1_000,
        }),
        ...options,
      },
    })
    await this.running.started
  }

  /** The control plane dies or sleeps; objects and pods go on. */
  async pause(): Promise<void> {
    await this.running?.stop()
    this.running = undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pause()
  }

  pods(): Pod[] {
    return this.client.all(podKind)
  }

  /** Lets time pass in small steps until the condition holds. */
  async until<T>(what: string, condition: () => T): Promise<NonNullable<T>> {
    return until(
      () => {
        const value = condition()
        // Back-offs and debounces are on the fake clock.
        if (!value) this.clock.advance(20)
        return value
      },
      { what, everyMs: 1, timeoutMs: 20_000 },
    )
  }

  /** Waits until nothing is written any more. */
  async settle(): Promise<void> {
    for (let quiet = 0, before = -1; quiet < 10;) {
      await new Promise((resolve) => setImmediate(resolve))
      const now = this.client.writes.length + this.engine.ensured.length
      quiet = now === before ? quiet + 1 : 0
      before = now
    }
  }
}
