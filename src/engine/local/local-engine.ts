import { readFileSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import type { Duplex, Readable } from 'node:stream'
import { ApiError, type Layout, paths, type TenantName } from '../../api/index.ts'
import type {
  ClaimedVolume,
  ClaimId,
  Engine,
  EngineEvent,
  ExecOptions,
  Jail,
  JailEvent,
  JailId,
  JailStatus,
  JailUsage,
  LogOptions,
  NodeFacts,
  RoomRequest,
  RoomAnswer,
  Shortage,
  TenantRank,
  IngressAnswer,
  TenantEgress,
  TenantIngress,
  TenantNetwork,
} from '../../jail/index.ts'
import { assert, type Clock, type Logger } from '../../stdx/index.ts'
import { createPodDisk, type PodDisk } from './host/pod-disk.ts'
import * as limits from './limits.ts'
import {
  type Claims,
  type ContainerHost,
  type Images,
  isGvisorClass,
  type PodNetwork,
  type Prober,
  type TenantPlacement,
} from './parts.ts'
import { observeMachineSize, observeMemoryAvailable } from './observe/machine-facts.ts'
import { tenantMemoryBytes } from './plan/daemon-limits.ts'
import { tenantLimits } from './plan/oci/resources.ts'
import { planReclaim, priorityOf, type Standing } from './plan/ranking.ts'
import { addLoad, type Load, loadOf, NO_LOAD, planShortage } from './plan/room.ts'
import { Gate } from './pods/gate.ts'
import { DiskPressure } from './pods/disk-pressure.ts'
import { DiskWatch } from './pods/disk-watch.ts'
import { MemoryPressure } from './pods/memory-pressure.ts'
import { emptyMemory, type PodMemory } from './pods/pod-memory.ts'
import { PodRecords } from './pods/pod-records.ts'
import { planUpdate } from './pods/plan-update.ts'
import { PodWorker, shuttingDown, type PodParts } from './pods/pod-worker.ts'
import { createRemoteExchange } from './host/exchange-client.ts'
import { createProber } from './pods/prober.ts'
import { TenantEvents } from './pods/tenant-events.ts'
import { type MeasuredDisk, UseWatch, type WatchedTenant } from './pods/use-watch.ts'
import type { UseHost } from './host/use-host.ts'
import { jailNotFound } from './server.ts'

export type LocalEngineOptions = {
  layout: Layout
  clock: Clock
  log: Logger
  images: Images
  network: PodNetwork
  containers: ContainerHost
  claims: Claims
  /** Made from `containers` and `network` unless a test brings its own. */
  prober?: Prober
  /** Made from `layout` unless a test brings its own. */
  disk?: PodDisk
  /** The prober takes no questions; it should be started anew. */
  onProberHung?: () => void
  /** Bytes of memory that are left; those of this machine unless a test says otherwise. */
  memoryAvailable?: () => Promise<number>
  /** Something that a tenant's control plane is told of its pods has changed. */
  onChange?: (tenant: TenantName) => void
  /** Looks at what tenants use without cgroups; nobody does when absent. */
  uses?: UseHost
  /** Why a new pod of a tenant may not start now; undefined when it may. */
  refusal?: (placement: TenantPlacement) => string | undefined
  /** What pods of all tenants may have together. That of this machine unless a test says otherwise. */
  room?: Load
  /** Where a tenant is placed now; undefined when it is none of this machine's. */
  placement: (tenant: TenantName) => TenantPlacement | undefined
}

export interface LocalEngine {
  /** Takes over what runs on this machine and removes what nobody knows. Comes before anything else. */
  start(): Promise<void>
  /** One tenant's engine. The same tenant with another placement gets an engine that places new pods by that one. */
  engineFor(placement: TenantPlacement): Engine
  /** Holds the tenant's pods to a quota that has changed. */
  limitTenant(placement: TenantPlacement): Promise<void>
  /** Something happened to a pod that its worker does not know of; heard if the pod is there. */
  podEvent(
    placement: TenantPlacement,
    id: JailId,
    event: Pick<JailEvent, 'type' | 'reason' | 'message'>,
  ): void
  /**
   * Kills every pod of a tenant, resolves when nothing of them is left, and forgets what they did. Engines that were
   * given out for it take no more pods. Its network is not touched.
   */
  removeTenant(tenant: TenantName): Promise<void>
  /** Ends watches and sessions; leaves the pods running. */
  stop(): Promise<void>
}

export function createLocalEngine(options: LocalEngineOptions): LocalEngine {
  return new Machine(options)
}

class Machine implements LocalEngine {
  private readonly options: LocalEngineOptions
  private readonly prober: Prober
  private readonly disk: PodDisk
  private readonly records: PodRecords
  private readonly pressure: DiskPressure
  private readonly memoryPressure: { start(): void }
  private readonly useWatch: { start(): void } | undefined
  private readonly machineStarts = new Gate(limits.STARTS_CONCURRENT_MAX)
  private readonly diskMeasures = new Gate(limits.DISK_MEASURES_CONCURRENT_MAX)
  private readonly tenants = new Map<TenantName, Tenant>()
  private readonly closing = new AbortController()
  readonly room: Load

  refusal(placement: TenantPlacement): string | undefined {
    return this.options.refusal?.(placement)
  }

  constructor(options: LocalEngineOptions) {
    this.options = options
    const { containers, network, clock } = options
    this.prober =
      options.prober ??
      createProber({
        host: containers,
        network,
        clock,
        exchange: createRemoteExchange({
          socketPath: paths.proberSocket(options.layout),
          log: options.log,
          onHung: () => options.onProberHung?.(),
        }),
      })
    this.disk = options.disk ?? createPodDisk(options.layout)
    this.records = new PodRecords(options.layout)
    this.pressure = new DiskPressure({
      clock,
      log: options.log,
      disk: this.disk,
      // Of its own: a tenant whose files take long to count must not hold up the relief.
      gate: new Gate(limits.DISK_MEASURES_CONCURRENT_MAX),
      pods: () =>
        [...this.tenants].flatMap(([tenant, { workers }]) =>
          [...workers.values()].map((pod) => [tenant, pod] as const),
        ),
      onEvicted: (tenant) => this.tenants.get(tenant)?.feelPressure('disk'),
      closing: this.closing.signal,
    })
    this.memoryPressure = new MemoryPressure({
      clock,
      log: options.log,
      available:
        options.memoryAvailable ??
        (async () => Math.min(observeMemoryAvailable(), await containers.memoryLeft())),
      pods: () => this.eaters(),
      onEvicted: (tenant) => this.tenants.get(tenant)?.feelPressure('memory'),
      measure: async ({ id, tenant, tenantPriority, jail }) => {
        const requests = new Map(
          [...jail.initContainers, ...jail.containers].map(({ name, resources }) => [
            name,
            resources.memoryBytesRequest,
          ]),
        )
        return {
          tenant,
          tenantPriority,
          priority: jail.priority ?? 0,
          memoryBytesRequest: loadOf(jail).memoryBytes,
          containers: (await containers.usage(id)).map((used) => ({
            ...used,
            requestBytes: requests.get(used.name) ?? 0,
          })),
        }
      },
      closing: this.closing.signal,
    })
    if (options.uses)
      this.useWatch = new UseWatch({
        clock,
        log: options.log,
        host: options.uses,
        cpus: availableParallelism(),
        tenants: () => this.watchedTenants(),
        closing: this.closing.signal,
      })
    this.room = options.room ?? roomOfMachine(options.layout)
  }

  async start(): Promise<void> {
    this.pressure.start()
    this.memoryPressure.start()
    this.useWatch?.start()
    const { containers, network, log } = this.options
    const known = this.records.load((jail, error) => {
      log.error('the record of a pod cannot be read; the pod goes', { jail, error })
    })
    const observed = new Map((await containers.observe()).map((o) => [o.jail, o.containers]))
    const networks = await network.pods()
    const kept = new Set<JailId>()
    const recoveries: Promise<void>[] = []
    for (const record of known) {
      const placement = this.options.placement(record.jail.tenant)
      if (!placement) continue
      kept.add(record.jail.id)
      const tenant = this.tenant(placement)
      const worker = tenant.add(forceRuntime(record.jail, placement), placement, record.bytes, record.memory)
      recoveries.push(worker.recover(observed.get(record.jail.id) ?? [], networks.get(record.jail.id)))
    }
    await Promise.all(recoveries)
    await this.options.claims.start()
    const leftovers = new Set<JailId>([
      ...observed.keys(),
      ...networks.keys(),
      ...known.map((k) => k.jail.id),
    ])
    for (const id of leftovers) {
      if (kept.has(id)) continue
      log.warn('removing what is left of a pod that nobody knows', { jail: id })
      try {
        await containers.removePod(id)
        await network.removePod(id)
        this.records.remove(id)
      } catch (error) {
        // Known again at the next start; one bad leftover must not keep all tenants down.
        log.error('cannot remove what is left of a pod', { jail: id, error })
      }
    }
  }

  engineFor(placement: TenantPlacement): Engine {
    return new TenantEngine(this.tenant(placement), placement)
  }

  async removeTenant(name: TenantName): Promise<void> {
    const tenant = this.tenants.get(name)
    await tenant?.removeAll()
    await this.options.containers.removeTenant(name)
    // Whoever is next to have the name must not hear of this one's pods.
    this.tenants.delete(name)
  }

  podEvent(
    placement: TenantPlacement,
    id: JailId,
    event: Pick<JailEvent, 'type' | 'reason' | 'message'>,
  ): void {
    const tenant = this.tenants.get(placement.tenant)
    if (tenant?.workers.has(id)) tenant.parts.events.event({ id, ...event })
  }

  async limitTenant(placement: TenantPlacement): Promise<void> {
    await this.options.containers.limitTenant(placement)
  }

  async stop(): Promise<void> {
    this.closing.abort(shuttingDown())
    for (const tenant of this.tenants.values()) tenant.close()
  }

  private watchedTenants(): WatchedTenant[] {
    const size = observeMachineSize()
    return [...this.tenants].flatMap(([tenant, { workers, measuredDisk }]) => {
      const placement = this.options.placement(tenant)
      if (!placement) return []
      const { cpuMillis } = placement.quota ?? {}
      const { memoryBytesMax, pidsMax } = tenantLimits(placement.quota ?? {}, {
        gvisor: isGvisorClass(placement),
        pods: workers.size + 1,
        memoryBytesDefault: tenantMemoryBytes(size.memoryBytes, this.options.layout.podMemoryBytes),
      })
      return {
        tenant,
        index: placement.index,
        limits: {
          cpus: cpuMillis === undefined ? undefined : cpuMillis / 1_000,
          memoryBytes: memoryBytesMax,
          tasks: pidsMax,
        },
        disk: measuredDisk,
        evict: (pod: JailId, message: string) => workers.get(pod)?.evict(message),
      }
    })
  }

  /** Every pod with whose it is and what it asked for. */
  private eaters() {
    return [...this.tenants].flatMap(([tenant, { workers, jails, rank }]) =>
      [...workers].flatMap(([id, worker]) => {
        const known = jails.get(id)
        return known
          ? {
              id,
              tenant,
              tenantPriority: priorityOf(rank),
              jail: known.jail,
              get occupiesDisk() {
                return worker.occupiesDisk
              },
              evict: (message: string) => worker.evict(message),
            }
          : []
      }),
    )
  }

  /** What all tenants have been promised; of one of them, without some of its pods. */
  used(without: ReadonlySet<JailId>, of: Tenant): Load {
    let used = NO_LOAD
    for (const tenant of this.tenants.values())
      used = addLoad(used, tenant === of ? tenant.used(without) : tenant.usedBeside(of.rank))
    return used
  }

  /** Makes pods of other tenants go so that one of this tenant's has room, where the operator's order says so. */
  reclaim(id: JailId, wanted: Load, tenant: Tenant): boolean {
    // Whoever leaves already has not to be asked again, and nobody else in their place.
    const mine = { rank: tenant.rank, used: tenant.promised({ without: new Set([id]), leaving: false }) }
    const others = [...this.tenants].flatMap(([name, other]) =>
      other === tenant ? [] : [other.standing(name, tenant.rank)],
    )
    const victims = planReclaim(wanted, mine, others, this.room)
    for (const { tenant: owner, pod } of victims ?? []) {
      this.options.log.info('a pod goes for one of a tenant that was put before its own', {
        tenant: owner,
        jail: pod.id,
        for: tenant.name,
      })
      this.tenants.get(owner)?.workers.get(pod.id)?.preempt()
    }
    return victims !== undefined
  }

  private tenant(placement: TenantPlacement): Tenant {
    const existing = this.tenants.get(placement.tenant)
    if (existing) {
      existing.rank = placement.rank ?? {}
      return existing
    }
    const { images, network, containers, claims, clock, log } = this.options
    const tenant = new Tenant(placement, this, this.closing.signal, this.options, {
      images,
      network,
      containers,
      claims,
      clock,
      log,
      prober: this.prober,
      disk: this.disk,
      records: this.records,
      events: new TenantEvents(clock, () => this.options.onChange?.(placement.tenant)),
      gates: {
        machineStarts: this.machineStarts,
        starts: new Gate(limits.STARTS_PER_TENANT_CONCURRENT_MAX),
        pulls: new Gate(limits.PULLS_PER_TENANT_CONCURRENT_MAX),
        probes: new Gate(limits.PROBES_PER_TENANT_CONCURRENT_MAX),
      },
    })
    this.tenants.set(placement.tenant, tenant)
    const watch = new DiskWatch({
      clock,
      log,
      disk: this.disk,
      tenant: placement.tenant,
      onEvicted: () => tenant.feelPressure('disk'),
      onMeasured: (disk) => (tenant.measuredDisk = disk),
      gate: this.diskMeasures,
      pods: () => tenant.workers.values(),
      closing: this.closing.signal,
    })
    watch.start()
    return tenant
  }
}

type Pressure = NodeFacts['pressures'][number]['what']

const NONE: ReadonlySet<JailId> = new Set()

/** A tenant's pods and sessions on this machine. */
class Tenant {
  readonly workers = new Map<JailId, PodWorker>()
  readonly jails = new Map<JailId, { jail: Jail; bytes: number }>()
  readonly machine: Machine
  readonly parts: PodParts
  readonly options: LocalEngineOptions
  readonly closing: AbortSignal
  /** Room that pods which are about to come were told they have. */
  private readonly reserved = new Map<JailId, { load: Load; untilMs: number; awaited: boolean }>()
  /** Until when it is told that its node is short of something. */
  private readonly pressedUntilMs = new Map<Pressure, number>()
  readonly name: TenantName
  rank: TenantRank
  measuredDisk: MeasuredDisk | undefined
  private sessions = 0
  private logStreams = 0
  private removing = false

  constructor(
    { tenant, rank = {} }: TenantPlacement,
    machine: Machine,
    closing: AbortSignal,
    options: LocalEngineOptions,
    parts: PodParts,
  ) {
    this.name = tenant
    this.rank = rank
    this.machine = machine
    this.closing = closing
    this.options = options
    this.parts = parts
  }

  add(jail: Jail, placement: TenantPlacement, bytes: number, memory?: PodMemory): PodWorker {
    const worker = new PodWorker(
      jail,
      placement,
      memory ?? emptyMemory(jail, this.parts.clock.nowMs()),
      this.parts,
    )
    this.workers.set(jail.id, worker)
    this.reserved.delete(jail.id)
    this.jails.set(jail.id, { jail, bytes })
    void this.forget(worker)
    return worker
  }

  private async forget(worker: PodWorker): Promise<void> {
    await worker.gone
    this.workers.delete(worker.id)
    this.jails.delete(worker.id)
  }

  /** What its pods have been promised, without some of them. */
  used(without: ReadonlySet<JailId>): Load {
    return this.promised({ without })
  }

  /** As far as it counts for a tenant of another rank: who is put before this one does not wait behind those that wait. */
  usedBeside(rank: TenantRank): Load {
    return this.promised({ awaited: priorityOf(rank) <= priorityOf(this.rank) })
  }

  /** What may be taken from it for a tenant of another rank, and what not. */
  standing(tenant: TenantName, rank: TenantRank): Standing {
    const pods = [...this.workers].flatMap(([id, worker]) => {
      const known = this.jails.get(id)
      if (!known || !worker.holdsRoom || worker.leavesSoon) return []
      const { acceptedAtMs } = worker
      return [{ id, load: loadOf(known.jail), priority: known.jail.priority ?? 0, sinceMs: acceptedAtMs }]
    })
    const awaited = priorityOf(rank) <= priorityOf(this.rank)
    return { tenant, rank: this.rank, used: this.promised({ awaited, leaving: false }), pods }
  }

  /** One of its pods had to go. Its tenant alone is told so, for others would learn about their neighbours. */
  feelPressure(what: Pressure): void {
    this.pressedUntilMs.set(what, this.parts.clock.nowMs() + limits.PRESSURE_TOLD_MS)
  }

  get pressures(): readonly { what: Pressure; endsInMs: number }[] {
    const nowMs = this.parts.clock.nowMs()
    return [...this.pressedUntilMs]
      .map(([what, untilMs]) => ({ what, endsInMs: untilMs - nowMs }))
      .filter(({ endsInMs }) => endsInMs > 0)
  }

  /** With or without room that it waits for, and that of pods which leave in a moment. */
  promised({
    without = NONE,
    awaited = true,
    leaving = true,
  }: {
    without?: ReadonlySet<JailId>
    awaited?: boolean
    leaving?: boolean
  }): Load {
    const nowMs = this.parts.clock.nowMs()
    let used = NO_LOAD
    for (const [id, worker] of this.workers) {
      const known = without.has(id) ? undefined : this.jails.get(id)
      // A pod that has ended still has a place among the tenant's pods, and nothing else.
      if (!known || (!leaving && worker.leavesSoon)) continue
      used = addLoad(used, worker.holdsRoom ? loadOf(known.jail) : { ...NO_LOAD, pods: 1 })
    }
    for (const [id, kept] of this.reserved)
      if (kept.untilMs <= nowMs) this.reserved.delete(id)
      else if (!without.has(id) && (awaited || !kept.awaited)) used = addLoad(used, kept.load)
    return used
  }

  /** Of what there is not enough for another pod: first of what the tenant may have, then on the machine. */
  shortage(
    wanted: Load,
    placement: TenantPlacement,
    without: ReadonlySet<JailId>,
  ): { own: Shortage[]; machine: Shortage[] } {
    const { machine } = this
    return {
      own: planShortage(wanted, this.used(without), shareOf(placement, machine.room)),
      machine: planShortage(wanted, machine.used(without, this), machine.room),
    }
  }

  /** Keeps room for a pod that is about to come. */
  reserve(id: JailId, wanted: Load, placement: TenantPlacement, without?: readonly JailId[]): Shortage[] {
    if (this.removing)
      throw new ApiError('ServiceUnavailable', 'The tenant is being removed from this machine')
    if (this.workers.has(id)) return []
    const { own, machine } = this.shortage(wanted, placement, new Set([id, ...(without ?? [])]))
    if (own.length > 0 || without) return own.length > 0 ? own : machine
    const awaited = machine.length > 0
    if (awaited && !this.machine.reclaim(id, wanted, this)) {
      this.reserved.delete(id)
      return machine
    }
    // Those that are kept count as pods, so there are never more of them than a tenant may have pods. What others leave
    // for it is kept for it too, or their next pods would take it.
    this.reserved.set(id, { load: wanted, untilMs: this.parts.clock.nowMs() + limits.ROOM_KEPT_MS, awaited })
    return machine
  }

  /** @throws {ApiError} TooManyRequests when the tenant or the machine has no room for another jail. */
  requireRoom({ id, ...jail }: Jail, bytes: number, placement: TenantPlacement): void {
    if (this.removing)
      throw new ApiError('ServiceUnavailable', 'The tenant is being removed from this machine')
    const wait = { details: { retryAfterSeconds: 10 } }
    let total = bytes
    for (const [other, each] of this.jails) if (other !== id) total += each.bytes
    if (total > limits.JAILS_BYTES_PER_TENANT_MAX)
      throw new ApiError(
        'TooManyRequests',
        `More than ${limits.JAILS_BYTES_PER_TENANT_MAX} bytes of pods with their ConfigMaps and Secrets on this machine`,
        wait,
      )
    if (this.workers.has(id)) return
    const refusal = this.machine.refusal(placement)
    if (refusal !== undefined) throw new ApiError('TooManyRequests', refusal, wait)
    const share = shareOf(placement, this.machine.room)
    if (this.workers.size >= share.pods)
      throw new ApiError(
        'TooManyRequests',
        `More than ${share.pods} pods of one tenant on this machine`,
        wait,
      )
    const { own, machine } = this.shortage(loadOf(jail), placement, new Set([id]))
    if (own.length + machine.length > 0)
      throw new ApiError('TooManyRequests', 'This machine has no room for another pod', wait)
  }

  /** It takes no pods from here on, also when this fails and is tried again. */
  async removeAll(): Promise<void> {
    this.removing = true
    const workers = [...this.workers.values()]
    for (const worker of workers) worker.terminate(0)
    await Promise.all(workers.map((w) => w.gone))
    this.parts.events.close()
  }

  close(): void {
    for (const worker of this.workers.values()) worker.close()
    this.parts.events.close()
  }

  async session<T extends Duplex>(
    open: (signal: AbortSignal) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    if (this.sessions >= limits.SESSIONS_MAX)
      throw tooManyStreams(limits.SESSIONS_MAX, 'exec, attach and port-forward sessions')
    this.sessions++
    return await counted(open, this.both(signal), () => this.sessions--)
  }

  async logStream(
    open: (signal: AbortSignal) => Promise<Readable>,
    signal: AbortSignal | undefined,
  ): Promise<Readable> {
    if (this.logStreams >= limits.LOG_STREAMS_MAX) throw tooManyStreams(limits.LOG_STREAMS_MAX, 'log streams')
    this.logStreams++
    return await counted(open, this.both(signal), () => this.logStreams--)
  }

  private both(signal: AbortSignal | undefined): AbortSignal {
    return signal ? AbortSignal.any([signal, this.closing]) : this.closing
  }
}

/** Calls `ended` exactly once: when opening failed or when the stream has closed. */
async function counted<T extends Readable>(
  open: (signal: AbortSignal) => Promise<T>,
  signal: AbortSignal,
  ended: () => void,
): Promise<T> {
  let stream: T
  try {
    stream = await open(signal)
  } catch (error) {
    ended()
    throw error
  }
  if (stream.closed) ended()
  else stream.once('close', ended)
  const onAbort = () => void stream.destroy()
  signal.addEventListener('abort', onAbort, { once: true })
  stream.once('close', () => signal.removeEventListener('abort', onAbort))
  if (signal.aborted) stream.destroy()
  return stream
}

class TenantEngine implements Engine {
  private readonly tenant: Tenant
  private readonly placement: TenantPlacement

  constructor(tenant: Tenant, placement: TenantPlacement) {
    this.tenant = tenant
    this.placement = placement
  }

  async list(): Promise<JailStatus[]> {
    return [...this.tenant.workers.values()].map((worker) => worker.status())
  }

  watch(signal: AbortSignal): AsyncIterable<EngineEvent> {
    return this.tenant.parts.events.watch(signal)
  }

  async ensure(wanted: Jail): Promise<JailStatus> {
    if (this.tenant.closing.aborted) throw shuttingDown()
    assert(wanted.tenant === this.placement.tenant, 'A jail of another tenant came through')
    const jail = forceRuntime(wanted, this.placement)
    const text = JSON.stringify(jail)
    const bytes = Buffer.byteLength(text)
    const worker = this.tenant.workers.get(jail.id)
    const before = this.tenant.jails.get(jail.id)
    if (worker && before) {
      const status = worker.status()
      if (status.terminating || JSON.stringify(before.jail) === text) return status
      const { jail: updated, kept } = planUpdate(before.jail, jail)
      if (kept.length > 0)
        this.tenant.parts.log.info('a pod keeps what it was started with', { jail: jail.id, kept })
      this.tenant.requireRoom(jail, bytes, this.placement)
      const bytesNow = this.tenant.parts.records.saveJail(updated)
      this.tenant.jails.set(jail.id, { jail: updated, bytes: bytesNow })
      worker.update(updated)
      return worker.status()
    }
    this.tenant.requireRoom(jail, bytes, this.placement)
    const { records, clock } = this.tenant.parts
    const memory = emptyMemory(jail, clock.nowMs())
    try {
      records.saveJail(jail)
      records.saveMemory(jail.id, memory)
    } catch (cause) {
      records.remove(jail.id)
      throw new ApiError('ServiceUnavailable', 'The machine cannot keep another pod now', { cause })
    }
    const added = this.tenant.add(jail, this.placement, bytes, memory)
    added.sync()
    return added.status()
  }

  async remove(id: JailId, { gracePeriodSeconds }: { gracePeriodSeconds?: number }): Promise<void> {
    const worker = this.tenant.workers.get(id)
    // Whoever waits for the end of a pod that is not here waits for exactly this.
    if (!worker) this.tenant.parts.events.removed(id)
    else worker.terminate(gracePeriodSeconds)
  }

  async logs(id: JailId, container: string, options: LogOptions, signal?: AbortSignal): Promise<Readable> {
    const attempt = this.worker(id).logAttempt(container, options.previous ?? false)
    return await this.tenant.logStream(
      (s) => this.tenant.parts.containers.logs(id, container, attempt, options, s),
      signal,
    )
  }

  async exec(id: JailId, container: string, options: ExecOptions, signal?: AbortSignal): Promise<Duplex> {
    const containerID = this.worker(id).containerID(container)
    return await this.tenant.session(
      (s) => this.tenant.parts.containers.exec(id, containerID, options, s),
      signal,
    )
  }

  async attach(
    id: JailId,
    container: string,
    options: Omit<ExecOptions, 'command'>,
    signal?: AbortSignal,
  ): Promise<Duplex> {
    const containerID = this.worker(id).containerID(container)
    return await this.tenant.session(
      (s) => this.tenant.parts.containers.attach(id, containerID, options, s),
      signal,
    )
  }

  async portForward(id: JailId, port: number, signal?: AbortSignal): Promise<Duplex> {
    this.worker(id).requireNetwork()
    return await this.tenant.session(async (s) => {
      try {
        return await this.tenant.parts.network.connect(id, port, s)
      } catch (cause) {
        throw new ApiError('ServiceUnavailable', `cannot connect to port ${port} of the pod`, { cause })
      }
    }, signal)
  }

  async setIngress(ingress: TenantIngress): Promise<IngressAnswer> {
    return await this.tenant.parts.network.setTenantIngress(this.placement, ingress)
  }

  async setNetwork(network: TenantNetwork): Promise<void> {
    await this.tenant.parts.network.setTenantNetwork(this.placement, network)
  }

  async egress(): Promise<TenantEgress> {
    return this.tenant.parts.network.tenantEgress(this.placement)
  }

  async volumes(): Promise<ClaimedVolume[]> {
    return this.tenant.parts.claims.list(this.placement.tenant)
  }

  async ensureVolume(volume: ClaimedVolume): Promise<ClaimedVolume> {
    return await this.tenant.parts.claims.ensure(this.placement, volume)
  }

  async removeVolume(id: ClaimId): Promise<void> {
    await this.tenant.parts.claims.remove(this.placement.tenant, id)
  }

  async reserve(id: JailId, { without, ...requests }: RoomRequest): Promise<RoomAnswer> {
    if (this.tenant.closing.aborted) throw shuttingDown()
    return { missing: this.tenant.reserve(id, { ...requests, pods: 1 }, this.placement, without) }
  }

  async usage(): Promise<JailUsage[]> {
    const { containers, clock } = this.tenant.parts
    const all = [...this.tenant.workers.values()].map(async ({ id }): Promise<JailUsage> => {
      const used = await containers.usage(id)
      return { id, atMs: clock.nowMs(), containers: used }
    })
    return (await Promise.all(all)).filter((usage) => usage.containers.length > 0)
  }

  async node(): Promise<NodeFacts> {
    const runtimes = await this.tenant.parts.containers.runtimes()
    const version = (runtime: 'runc' | 'gvisor') => {
      const found = runtimes[runtime]
      return found.available ? { [runtime]: found.version } : {}
    }
    return {
      allocatable: {
        ...shareOf(this.placement, this.tenant.machine.room),
        ephemeralStorageBytes: await this.ephemeralBytes(),
      },
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      pressures: this.tenant.pressures,
      runtimes: { ...version('runc'), ...version('gvisor') },
    }
  }

  /** Of the tenant's file system; before it has one, what it would be at most. */
  private async ephemeralBytes(): Promise<number> {
    const { disk } = this.tenant.parts
    const room = await disk.tenantRoom(this.placement.tenant)
    const { bytes } = room ?? (await disk.room())
    return room
      ? bytes
      : (this.placement.quota?.ephemeralStorageBytes ??
          Math.floor(bytes * (1 - limits.MACHINE_RESERVE_DISK_FRACTION)))
  }

  private worker(id: JailId): PodWorker {
    const worker = this.tenant.workers.get(id)
    if (!worker) throw jailNotFound(id)
    return worker
  }
}

/** The class of a tenant decides the runtime; a jail can only ask for more isolation. */
function forceRuntime(jail: Jail, { isolationClass }: TenantPlacement): Jail {
  const gvisor = isolationClass === 'sandboxed' || isolationClass === 'dedicated'
  return gvisor ? { ...jail, runtime: 'gvisor' } : jail
}

function tooManyStreams(max: number, what: string): ApiError {
  return new ApiError('TooManyRequests', `More than ${max} ${what} at once`, {
    details: { retryAfterSeconds: 5 },
  })
}

/** What one tenant may have at most, whoever else is here. */
function shareOf({ quota = {} }: TenantPlacement, room: Load): Load {
  return {
    cpuMillis: Math.min(quota.cpuMillis ?? Infinity, room.cpuMillis),
    memoryBytes: Math.min(quota.memoryBytes ?? Infinity, room.memoryBytes),
    pods: Math.min(quota.pods ?? Infinity, limits.PODS_PER_TENANT_MAX, room.pods),
  }
}

/** What pods of all tenants may have together. */
export function roomOfMachine({ podMemoryBytes = Infinity }: Pick<Layout, 'podMemoryBytes'>): Load {
  return {
    cpuMillis: Math.max(1, availableParallelism() * 1_000 - limits.MACHINE_RESERVE_CPU_MILLIS),
    memoryBytes: Math.max(1, Math.min(podMemoryBytes, totalmem() - limits.MACHINE_RESERVE_MEMORY_BYTES)),
    pods: podsMaxOfMachine(),
  }
}

/** As many pods as the kernel has processes and the machine has memory for, half of both left for everything else. */
function podsMaxOfMachine(): number {
  const pidMax = Number(readFileSync('/proc/sys/kernel/pid_max', 'utf8'))
  return Math.max(
    1,
    Math.min(
      limits.PODS_PER_MACHINE_MAX,
      Math.floor(pidMax / 2 / limits.TASKS_PER_POD),
      Math.floor(totalmem() / 2 / limits.MEMORY_BYTES_PER_POD),
    ),
  )
}
