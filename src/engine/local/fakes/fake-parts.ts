import { Duplex, Readable } from 'node:stream'
import type { TenantName } from '../../../api/index.ts'
import type {
  ClaimedVolume,
  ClaimId,
  ExecOptions,
  Jail,
  JailContainer,
  JailHandler,
  JailId,
  JailProbe,
  JailVolume,
  LogOptions,
  IngressAnswer,
  TenantEgress,
  TenantNetwork,
  ContainerUsage,
} from '../../../jail/index.ts'
import type { Clock } from '../../../stdx/index.ts'
import type { PodDisk } from '../host/pod-disk.ts'
import type { DiskRoom, DiskUsage } from '../plan/disk.ts'
import type {
  Claims,
  ContainerHost,
  ContainerSpec,
  Images,
  ObservedContainer,
  PodNamespaces,
  PodNetwork,
  Prober,
  TenantPlacement,
  UnpackedImage,
} from '../parts.ts'

function namespacesOf(id: JailId, generation: number): PodNamespaces {
  const at = `/fake/${id}/${generation}`
  return { user: `${at}/user`, net: `${at}/net`, ipc: `${at}/ipc`, uts: `${at}/uts`, podIP: '10.1.0.2' }
}

/** A machine's network in memory: it outlives the engine that uses it, as the real one does. */
export class FakeNetwork implements PodNetwork {
  readonly resolver = '10.0.0.10'
  readonly made = new Map<JailId, { generation: number }>()
  readonly calls: string[] = []
  failWith: Error | undefined

  async ensureNode(): Promise<void> {}
  async ensureTenant(_placement: TenantPlacement): Promise<void> {}
  async removeTenant(_tenant: TenantName): Promise<void> {}
  async setTenantEgress(placement: TenantPlacement): Promise<void> {
    this.calls.push(`setTenantEgress ${placement.tenant}`)
  }

  tenantEgress({ tenant }: TenantPlacement): TenantEgress {
    return { tenant, uplink: 'not needed', rules: [], seen: [], since: 0, now: 0 }
  }

  async ensurePod(_placement: TenantPlacement, { id }: { id: JailId }): Promise<PodNamespaces> {
    this.calls.push(`ensurePod ${id}`)
    if (this.failWith) throw this.failWith
    const pod = this.made.get(id) ?? { generation: 0 }
    this.made.set(id, pod)
    return namespacesOf(id, pod.generation)
  }
  async renewPod(_placement: TenantPlacement, id: JailId): Promise<PodNamespaces> {
    this.calls.push(`renewPod ${id}`)
    const pod = { generation: (this.made.get(id)?.generation ?? 0) + 1 }
    this.made.set(id, pod)
    return namespacesOf(id, pod.generation)
  }
  async removePod(id: JailId): Promise<void> {
    this.calls.push(`removePod ${id}`)
    if (this.failWith) throw this.failWith
    this.made.delete(id)
  }
  async setTenantBandwidth(placement: TenantPlacement): Promise<void> {
    this.calls.push(`setTenantBandwidth ${placement.tenant}`)
  }
  async setTenantIngressGrant(placement: TenantPlacement): Promise<void> {
    this.calls.push(`setTenantIngressGrant ${placement.tenant}`)
  }
  async setTenantIngress(): Promise<IngressAnswer> {
    return { refused: [] }
  }
  async setTenantNetwork(_placement: TenantPlacement, _network: TenantNetwork): Promise<void> {}
  async pods(): Promise<ReadonlyMap<JailId, PodNamespaces>> {
    return new Map([...this.made].map(([id, { generation }]) => [id, namespacesOf(id, generation)]))
  }
  async connect(): Promise<Duplex> {
    return new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
  }
  async reset(): Promise<void> {
    this.made.clear()
  }
}

export class FakeImages implements Images {
  readonly asked: string[] = []
  /** Reference → what happens instead of success. */
  readonly failures = new Map<string, Error>()
  /** While set, every pull waits for it. */
  gate: Promise<void> | undefined
  stopSignal: string | undefined

  async ensure(
    _placement: TenantPlacement,
    reference: string,
    _policy: JailContainer['imagePullPolicy'],
    signal: AbortSignal,
  ): Promise<UnpackedImage & { pulled: boolean }> {
    this.asked.push(reference)
    if (this.gate) {
      const aborted = Promise.withResolvers<never>()
      signal.addEventListener('abort', () => aborted.reject(signal.reason as Error), { once: true })
      await Promise.race([this.gate, aborted.promise])
    }
    const failure = this.failures.get(reference)
    if (failure) throw failure
    return {
      imageID: `${reference}@sha256:${'0'.repeat(64)}`,
      layers: [],
      pulled: true,
      config: {
        entrypoint: ['/app'],
        cmd: [],
        env: [],
        user: '',
        workingDir: '/',
        volumes: [],
        ...(this.stopSignal === undefined ? {} : { stopSignal: this.stopSignal }),
      },
    }
  }
}

type FakeContainer = {
  observed: ObservedContainer
  spec: ContainerSpec
  signals: string[]
  ended: PromiseWithResolvers<void>
}

/** Containers in memory. They run until told to end, end on SIGTERM unless told not to, and outlive the engine. */
export class FakeContainers implements ContainerHost {
  readonly containers = new Map<string, FakeContainer>()
  readonly pods = new Map<JailId, Jail>()
  readonly calls: string[] = []
  readonly ignoresTerm = new Set<string>()
  /** Container name → how its start fails. */
  readonly startFailures = new Map<string, Error>()
  readonly messages = new Map<string, string>()
  removeFailure: Error | undefined
  private readonly clock: Clock

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** The latest start of a container. */
  latest(name: string): FakeContainer {
    const found = [...this.containers.values()].filter((c) => c.observed.name === name).at(-1)
    if (!found) throw new Error(`No container named "${name}" was started`)
    return found
  }
  isRunning(name: string): boolean {
    return [...this.containers.values()].some(
      (c) => c.observed.name === name && c.observed.state.kind === 'running',
    )
  }
  starts(): string[] {
    return this.calls.filter((c) => c.startsWith('start ')).map((c) => c.slice(6))
  }
  exit(name: string, exitCode: number, { oomKilled = false } = {}): void {
    this.end(this.latest(name), exitCode, oomKilled)
  }
  /** The monitor died, and what it knew with it. */
  lose(name: string): void {
    const container = this.latest(name)
    container.observed = { ...container.observed, state: { kind: 'lost' } }
    container.ended.resolve()
  }
  private end(container: FakeContainer, exitCode: number, oomKilled = false): void {
    const { state } = container.observed
    if (state.kind !== 'running') return
    const finishedAt = new Date(this.clock.nowMs()).toISOString()
    container.observed = {
      ...container.observed,
      state: { kind: 'exited', exitCode, oomKilled, startedAt: state.startedAt, finishedAt },
    }
    container.ended.resolve()
  }

  async runtimes(): ReturnType<ContainerHost['runtimes']> {
    return { runc: { available: true, version: '1' }, gvisor: { available: false, why: 'a fake has none' } }
  }
  async ensurePod(_placement: TenantPlacement, jail: Jail): Promise<void> {
    this.pods.set(jail.id, jail)
  }
  readonly used = new Map<JailId, ContainerUsage[]>()
  async usage(jail: JailId): Promise<ContainerUsage[]> {
    return this.used.get(jail) ?? []
  }

  left = Infinity
  async memoryLeft(): Promise<number> {
    return this.left
  }

  async limitTenant(placement: TenantPlacement): Promise<void> {
    this.calls.push(`limitTenant ${placement.tenant}`)
  }
  async updateFiles(_jail: Jail, volume: Extract<JailVolume, { kind: 'files' }>): Promise<void> {
    this.calls.push(`updateFiles ${volume.name}`)
  }
  async start(spec: ContainerSpec): Promise<ObservedContainer> {
    const { jail, container, attempt } = spec
    this.calls.push(`start ${container.name} ${attempt}`)
    const failure = this.startFailures.get(container.name)
    if (failure) throw failure
    const containerID = `crun://${container.name}-${attempt}`
    const state = { kind: 'running' as const, pid: 1, startedAt: new Date(this.clock.nowMs()).toISOString() }
    const observed: ObservedContainer = { jail: jail.id, name: container.name, attempt, containerID, state }
    this.containers.set(`${jail.id} ${containerID}`, {
      observed,
      spec,
      signals: [],
      ended: Promise.withResolvers<void>(),
    })
    return observed
  }
  async signal(jail: JailId, containerID: string, signal: string): Promise<void> {
    const container = this.containers.get(`${jail} ${containerID}`)
    if (!container || container.observed.state.kind !== 'running') return
    container.signals.push(signal)
    if (signal === 'SIGKILL') this.end(container, 137)
    else if (!this.ignoresTerm.has(container.observed.name)) this.end(container, 143)
  }
  async waitForExit(jail: JailId, containerID: string, signal: AbortSignal): Promise<ObservedContainer> {
    const container = this.containers.get(`${jail} ${containerID}`)
    if (!container) throw new Error(`No container "${containerID}"`)
    const aborted = Promise.withResolvers<void>()
    signal.addEventListener('abort', () => aborted.resolve(), { once: true })
    await Promise.race([container.ended.promise, aborted.promise])
    signal.throwIfAborted()
    return container.observed
  }
  async run(): Promise<{ exitCode: number; output: string }> {
    return { exitCode: 0, output: '' }
  }
  async exec(_jail: JailId, _containerID: string, _options: ExecOptions): Promise<Duplex> {
    return new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
  }
  async attach(_jail: JailId, _containerID: string, _options: Omit<ExecOptions, 'command'>): Promise<Duplex> {
    return new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
  }
  async logs(_jail: JailId, container: string, attempt: number, options: LogOptions): Promise<Readable> {
    return Readable.from([Buffer.from(`${container} ${attempt} ${options.previous === true}`)])
  }
  async terminationMessage(_jail: JailId, container: JailContainer): Promise<string> {
    return this.messages.get(container.name) ?? ''
  }
  async removeContainer(jail: JailId, containerID: string): Promise<void> {
    this.calls.push(`remove ${containerID}`)
    this.containers.delete(`${jail} ${containerID}`)
  }
  async removeTenant(_tenant: TenantName): Promise<void> {}
  async removePod(jail: JailId): Promise<void> {
    this.calls.push(`removePod ${jail}`)
    if (this.removeFailure) throw this.removeFailure
    for (const [id, container] of this.containers) {
      if (container.observed.jail !== jail) continue
      this.end(container, 137)
      this.containers.delete(id)
    }
    this.pods.delete(jail)
  }
  async observe(): Promise<{ jail: JailId; containers: ObservedContainer[] }[]> {
    return [...this.pods.keys()].map((jail) => ({
      jail,
      containers: [...this.containers.values()].map((c) => c.observed).filter((o) => o.jail === jail),
    }))
  }
  async reset(): Promise<void> {
    this.containers.clear()
    this.pods.clear()
  }
}

/** Answers what it was told to; everything is well until then. */
export class FakeProber implements Prober {
  readonly probed: JailProbe['handler'][] = []
  readonly hooked: JailHandler[] = []
  /** By the port or the first word of the handler. */
  readonly results = new Map<number | string, { ok: boolean; message: string }>()
  /** While set, hooks wait for it. */
  hookGate: Promise<void> | undefined

  async probe(
    _target: { jail: JailId; containerID: string },
    { handler }: JailProbe,
  ): Promise<{ ok: boolean; message: string }> {
    this.probed.push(handler)
    return (
      this.results.get(handler.kind === 'exec' ? (handler.command[0] ?? '') : handler.port) ?? {
        ok: true,
        message: '',
      }
    )
  }
  async hook(
    _target: { jail: JailId; containerID: string },
    handler: JailHandler,
  ): Promise<{ ok: boolean; message: string }> {
    this.hooked.push(handler)
    await this.hookGate
    const key = handler.kind === 'exec' ? handler.command[0] : handler.kind
    return this.results.get(key ?? '') ?? { ok: true, message: '' }
  }
}

/** Says of every pod what it was told to say. */
export class FakeDisk implements PodDisk {
  usage: DiskUsage = { total: 0, files: 0, volumes: new Map(), layers: new Map(), logs: new Map(), full: [] }
  failure: Error | undefined
  readonly released: JailId[] = []

  async measure(): Promise<DiskUsage> {
    if (this.failure) throw this.failure
    return this.usage
  }
  free: DiskRoom = { bytes: 2 ** 40, bytesFree: 2 ** 39, files: 2 ** 24, filesFree: 2 ** 23 }
  async room(): Promise<DiskRoom> {
    return this.free
  }
  ofTenant: DiskRoom | undefined
  async tenantRoom(): Promise<DiskRoom | undefined> {
    return this.ofTenant
  }
  async release(id: JailId): Promise<void> {
    this.released.push(id)
  }
}

/** Volumes by name only, and who holds them. */
export class FakeClaims implements Claims {
  readonly volumes = new Map<string, ClaimedVolume>()
  readonly calls: string[] = []
  failWith: Error | undefined

  async start(): Promise<void> {
    this.calls.push('start')
  }
  list(tenant: TenantName): ClaimedVolume[] {
    return [...this.volumes].flatMap(([key, volume]) => (key.startsWith(`${tenant}/`) ? [volume] : []))
  }
  async ensure({ tenant }: TenantPlacement, volume: ClaimedVolume): Promise<ClaimedVolume> {
    this.volumes.set(`${tenant}/${volume.id}`, volume)
    return volume
  }
  async remove(tenant: TenantName, id: ClaimId): Promise<void> {
    this.volumes.delete(`${tenant}/${id}`)
  }
  async removeTenant(tenant: TenantName): Promise<void> {
    for (const { id } of this.list(tenant)) await this.remove(tenant, id)
  }
  async hold(_placement: TenantPlacement, jail: Jail): Promise<void> {
    this.calls.push(`hold ${jail.id}`)
    if (this.failWith) throw this.failWith
  }
  async letGo(_placement: TenantPlacement, jail: Jail): Promise<void> {
    this.calls.push(`letGo ${jail.id}`)
  }
}
