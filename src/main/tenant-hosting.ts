import { chmodSync, chownSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { type Layout, paths, PLATFORM_TENANT, type TenantName } from '../api/index.ts'
import {
  type Claims,
  type DaemonUsers,
  type Daemons,
  type EngineServer,
  ensureDirectory,
  giveFilesTo,
  type LocalEngine,
  type Placements,
  type PlacementRequest,
  type PodNetwork,
  serveEngine,
  type TenantImages,
  type TenantPlacement,
} from '../engine/local/index.ts'
import { type Logger, until } from '../stdx/index.ts'
import { parseSlept, requestHosting, requestSleep, requestUnhosting, type Slept } from './control-channel.ts'

/** The process that hosts the control planes of trusted tenants. */
export const SHARED_WORKER = 'shared'
const CONTROL_TIMEOUT_MS = 30_000
const UNHOST_TIMEOUT_MS = 10_000

export type DaemonPrograms = {
  /** Starts, or adopts, the process with the control planes of a tenant; resolves when it may be asked. */
  worker(name: string, uid: number): Promise<void>
  /** Stops it until it is wanted again. Safe to repeat. */
  stopWorker(name: string): Promise<void>
  /** Stops it for good, with everything that only it had. Safe to repeat. */
  removeWorker(name: string, uid: number): Promise<void>
}

/**
 * Brings a tenant to life on this machine, and takes it away: network, sockets, data key and control plane. Every step
 * is safe to repeat, because the agent does all of them again after a restart.
 */
export class TenantHosting {
  private readonly layout: Layout
  private readonly users: DaemonUsers
  private readonly placements: Placements
  private readonly network: PodNetwork
  private readonly images: TenantImages
  private readonly claims: Claims
  private readonly engine: LocalEngine
  private readonly daemons: Daemons
  private readonly programs: DaemonPrograms
  private readonly release: (tenant: TenantName) => void
  private readonly log: Logger
  private readonly sockets = new Map<TenantName, { server: EngineServer; placement: string }>()
  private readonly turns = new Map<TenantName, Promise<unknown>>()
  /** Whose control plane sleeps: nobody hosts it, and everything else of the tenant goes on. */
  private readonly asleep = new Map<TenantName, Slept>()
  private readonly onSleep: (tenant: TenantName, asleep: boolean) => void

  constructor(parts: {
    layout: Layout
    users: DaemonUsers
    placements: Placements
    network: PodNetwork
    images: TenantImages
    claims: Claims
    engine: LocalEngine
    daemons: Daemons
    programs: DaemonPrograms
    /** Comes before all pods of a tenant are ended. */
    release?: (tenant: TenantName) => void
    /** A control plane has fallen asleep, or has been woken. */
    onSleep?: (tenant: TenantName, asleep: boolean) => void
    log: Logger
  }) {
    this.layout = parts.layout
    this.users = parts.users
    this.placements = parts.placements
    this.network = parts.network
    this.images = parts.images
    this.claims = parts.claims
    this.engine = parts.engine
    this.daemons = parts.daemons
    this.programs = parts.programs
    this.release = parts.release ?? (() => {})
    this.onSleep = parts.onSleep ?? (() => {})
    this.log = parts.log
  }

  /** Those that sleep, with when they have something to do by themselves. */
  get sleeping(): ReadonlyMap<TenantName, Pick<Slept, 'dueAtMs'>> {
    return this.asleep
  }

  /** Lets the tenant's control plane sleep, unless it has something to do. Its pods go on. */
  fallAsleep(tenant: TenantName): Promise<boolean> {
    return this.inTurn(tenant, async () => {
      const placement = this.placements.get(tenant)
      if (!placement || this.asleep.has(tenant) || this.placements.isMoving(tenant)) return false
      const worker = workerOf(placement)
      const control = paths.workerControlSocket(this.layout, worker)
      let slept: Slept | undefined
      try {
        slept = await requestSleep(control, tenant, AbortSignal.timeout(CONTROL_TIMEOUT_MS))
      } catch (error) {
        // It may have gone all the same, and nobody may believe that it is there.
        await this.settle(placement)
        throw error
      }
      if (!slept) return false
      const hadPods = (await this.engine.engineFor(placement).list()).length > 0
      this.tell(paths.asleep(this.layout, tenant), JSON.stringify({ ...slept, hadPods }))
      this.asleep.set(tenant, slept)
      if (worker !== SHARED_WORKER) await this.programs.stopWorker(worker)
      this.onSleep(tenant, true)
      this.log.info('control plane sleeps', { tenant, dueAtMs: slept.dueAtMs })
      return true
    })
  }

  /** Resolves once the tenant's control plane is awake; false when there is no such tenant. */
  wake(tenant: TenantName): Promise<boolean> {
    return this.inTurn(tenant, async () => {
      const placement = this.placements.get(tenant)
      // Of one that is being removed, the gateways know nothing any more.
      if (!placement || !existsSync(paths.tenantOfIndex(this.layout, placement.index))) return false
      if (this.asleep.has(tenant)) await this.settle(placement)
      return true
    })
  }

  /** Resolves once the tenant's API answers, or would if it were woken. */
  ensure(tenant: TenantName, request: PlacementRequest): Promise<TenantPlacement> {
    return this.inTurn(tenant, async () => {
      const partition = dirname(paths.partition(this.layout, tenant))
      const before = this.placements.get(tenant)
      if (!before && existsSync(partition))
        throw new TypeError(
          `"${partition}" holds data of a tenant "${tenant}" that this machine does not know; move it away first`,
        )
      const placement = this.placements.ensure(tenant, request)
      const isSame = before !== undefined && isDeepStrictEqual(before, placement)
      if (!isSame || !this.asleep.has(tenant) || this.placements.isMoving(tenant))
        await this.settle(placement)
      return placement
    })
  }

  /** Takes the tenant's pods, control plane, data and key away for good. */
  remove(tenant: TenantName): Promise<void> {
    return this.inTurn(tenant, async () => {
      const placement = this.placements.get(tenant)
      if (!placement) return
      // First, so that from here on the gateways know of no such tenant.
      rmSync(paths.tenantUid(this.layout, tenant), { force: true })
      rmSync(paths.tenantOfIndex(this.layout, placement.index), { force: true })
      this.forgetSleep(tenant)
      try {
        await this.leave(tenant)
      } catch (error) {
        // Whatever of it cannot end yet, what it stored is over: tried again it is all the same.
        this.placements.destroyKey(tenant)
        throw error
      }
      const failures: unknown[] = []
      const remove = async (work: () => void | Promise<void>) => {
        try {
          await work()
        } catch (error) {
          failures.push(error)
        }
      }
      // What cannot be removed keeps nothing else: least of all the key, without which data is noise.
      await remove(() => this.network.removeTenant(tenant))
      await remove(() => this.images.removeTenant(tenant))
      await remove(() => this.claims.removeTenant(tenant))
      await remove(() =>
        rmSync(dirname(paths.apiSocket(this.layout, tenant)), { recursive: true, force: true }),
      )
      await remove(() => this.placements.destroyKey(tenant))
      await remove(() =>
        rmSync(dirname(paths.partition(this.layout, tenant)), { recursive: true, force: true }),
      )
      if (failures.length > 0)
        throw new AggregateError(
          failures,
          `Not everything of "${tenant}" can be removed yet: ${failures.map((each) => (each instanceof Error ? each.message : String(each))).join('; ')}`,
        )
      // Last: until then, a crash leaves a tenant that is still to be removed.
      this.placements.forget(tenant)
      this.log.info('tenant removed', { tenant })
    })
  }

  /**
   * After a start of the agent, or when a process with control planes has come back: everybody gets theirs again.
   * Returns whether all did; who did not is in the log.
   */
  async hostAll(worker?: string): Promise<boolean> {
    const wanted = this.placements
      .all()
      .filter((placement) => worker === undefined || workerOf(placement) === worker)
    const hosted = wanted.map(async ({ tenant }) => {
      try {
        await this.inTurn(tenant, async () => {
          // It may have moved or gone while others had their turn.
          const placement = this.placements.get(tenant)
          if (!placement || (worker !== undefined && this.asleep.has(tenant))) return
          if (worker === undefined && (await this.sleepsOn(placement))) await this.prepare(placement)
          else await this.settle(placement)
        })
        return true
      } catch (error) {
        this.log.error('cannot host a tenant', { tenant, error })
        return false
      }
    })
    return (await Promise.all(hosted)).every(Boolean)
  }

  async close(): Promise<void> {
    await Promise.all([...this.sockets.values()].map(({ server }) => server.close()))
    this.sockets.clear()
  }

  /** Ends a move that has begun, and makes the tenant be where it shall be. */
  private async settle(placement: TenantPlacement): Promise<void> {
    const { tenant } = placement
    if (this.placements.isMoving(tenant)) {
      this.log.info('tenant moves', { tenant, isolationClass: placement.isolationClass })
      // Other isolation means other containers: they are made anew from what the control plane wants.
      await this.leave(tenant)
      this.placements.moved(tenant)
    }
    await this.host(placement)
    await this.engine.limitTenant(placement)
  }

  /**
   * Whether what slept when the agent ended goes on sleeping. Not one that has pods, or had: while nobody looked they may
   * have ended, and what became of them is its business. Nor one that publishes something, which the front door was told.
   */
  private async sleepsOn(placement: TenantPlacement): Promise<boolean> {
    const { tenant } = placement
    const file = paths.asleep(this.layout, tenant)
    if (!existsSync(file) || existsSync(paths.apiSocket(this.layout, tenant))) return false
    if (this.placements.isMoving(tenant) || placement.ingress !== undefined) return false
    if ((await this.engine.engineFor(placement).list()).length > 0) return false
    try {
      const { hadPods, ...slept } = JSON.parse(readFileSync(file, 'utf8')) as { hadPods?: unknown }
      if (hadPods !== false) return false
      this.asleep.set(tenant, parseSlept(slept))
      this.onSleep(tenant, true)
      return true
    } catch (error) {
      this.log.warn('how a control plane sleeps cannot be read', { tenant, error })
      return false
    }
  }

  private forgetSleep(tenant: TenantName): void {
    rmSync(paths.asleep(this.layout, tenant), { force: true })
    if (this.asleep.delete(tenant)) this.onSleep(tenant, false)
  }

  private async host(placement: TenantPlacement): Promise<void> {
    const { tenant, controlPlaneUid: uid, isolationClass } = placement
    const worker = workerOf(placement)
    const slept = this.asleep.get(tenant)
    if (!slept || !this.isServed(placement)) await this.prepare(placement)
    await this.programs.worker(worker, uid)
    const control = paths.workerControlSocket(this.layout, worker)
    await requestHosting(
      control,
      {
        tenant,
        ...(placement.tenantUid === undefined ? {} : { tenantUid: placement.tenantUid }),
        dataKey: this.placements.dataKey(tenant),
        isolationClass,
        registries: placement.registries,
        ...(placement.quota === undefined ? {} : { quota: placement.quota }),
        ...(placement.podSecurity === undefined ? {} : { podSecurity: placement.podSecurity }),
        ...(placement.policies === undefined ? {} : { policies: placement.policies }),
        ...(placement.regoPolicies === undefined ? {} : { regoPolicies: placement.regoPolicies }),
        ...(placement.ingress === undefined ? {} : { ingress: placement.ingress }),
        ...(slept === undefined ? {} : { slept }),
      },
      AbortSignal.timeout(CONTROL_TIMEOUT_MS),
    )
    this.tellGateways(placement)
    this.forgetSleep(tenant)
  }

  /** What a tenant has on this machine besides its control plane. */
  private async prepare(placement: TenantPlacement): Promise<void> {
    const { tenant, controlPlaneUid: uid } = placement
    const gid = groupOf(this.users, uid)
    const partition = dirname(paths.partition(this.layout, tenant))
    ensureDirectory(partition, { uid, gid, mode: 0o700 })
    giveFilesTo(partition, { uid, gid })
    // New files take the group of this directory, so the API's socket is the gateway's to connect to and nobody else's.
    ensureDirectory(dirname(paths.apiSocket(this.layout, tenant)), {
      uid,
      gid: this.users.gateway.gid,
      mode: 0o2750,
    })
    await this.network.ensureTenant(placement)
    await this.network.setTenantBandwidth(placement)
    await this.network.setTenantEgress(placement)
    await this.network.setTenantIngressGrant(placement)
    await this.serve(placement)
  }

  /** Lets the gateways know that the tenant is there, which of all that had the name, and which addresses are its pods'. */
  private tellGateways({ tenant, tenantUid, index }: TenantPlacement): void {
    this.tell(paths.tenantOfIndex(this.layout, index), tenant)
    if (tenantUid !== undefined) this.tell(paths.tenantUid(this.layout, tenant), tenantUid)
  }

  private tell(file: string, text: string): void {
    writeFileSync(`${file}.new`, text, { mode: 0o600 })
    chownSync(`${file}.new`, 0, this.users.gateway.gid)
    chmodSync(`${file}.new`, 0o640)
    renameSync(`${file}.new`, file)
  }

  /** The tenant's socket of the engine. It stays as it is when nothing about the placement has changed. */
  private async serve(placement: TenantPlacement): Promise<void> {
    const { tenant } = placement
    const socketPath = paths.nodeTenantSocket(this.layout, tenant)
    if (this.isServed(placement)) return
    await this.sockets.get(tenant)?.server.close()
    const engine = this.engine.engineFor(placement)
    const server = await serveEngine({ socketPath, placement, engine, log: this.log.with({ tenant }) })
    this.sockets.set(tenant, { server, placement: JSON.stringify(placement) })
  }

  private isServed(placement: TenantPlacement): boolean {
    return this.sockets.get(placement.tenant)?.placement === JSON.stringify(placement)
  }

  /**
   * Takes the tenant's control plane and pods away from wherever they are. A move or removal that was cut off may have
   * left them in either kind of process, so both are told.
   */
  private async leave(tenant: TenantName): Promise<void> {
    const shared = paths.workerControlSocket(this.layout, SHARED_WORKER)
    try {
      await requestUnhosting(shared, tenant, AbortSignal.timeout(UNHOST_TIMEOUT_MS))
    } catch (error) {
      // One that hangs or was taken over must not keep the tenant. Its next life hosts nobody until it is told.
      this.log.warn('the shared control planes do not let go of a tenant', { tenant, error })
      await this.daemons.restart(daemonOf(SHARED_WORKER))
    }
    await this.programs.removeWorker(tenant, this.placements.ownUid(tenant))
    await this.sockets.get(tenant)?.server.close()
    this.sockets.delete(tenant)
    rmSync(paths.nodeTenantSocket(this.layout, tenant), { force: true })
    this.release(tenant)
    await this.engine.removeTenant(tenant)
  }

  /** One change of a tenant at a time. */
  private inTurn<T>(tenant: TenantName, work: () => Promise<T>): Promise<T> {
    const turn = (this.turns.get(tenant) ?? Promise.resolve()).then(work, work)
    this.turns.set(
      tenant,
      turn.catch(() => {}),
    )
    return turn
  }
}

export function workerOf({ tenant, isolationClass }: TenantPlacement): string {
  return isolationClass === 'sandboxed' || isolationClass === 'dedicated' ? tenant : SHARED_WORKER
}

/** A tenant's own user has a group of the same number; the number of the workers' user can be another daemon's group. */
export function groupOf({ worker }: DaemonUsers, uid: number): number {
  return uid === worker.uid ? worker.gid : uid
}

export function daemonOf(worker: string): string {
  return worker === PLATFORM_TENANT ? 'platform' : `worker-${worker}`
}

/** Until somebody listens: the file alone can be that of a process that was killed. */
export async function untilSocket(path: string, what: string): Promise<void> {
  await until(() => existsSync(path) && accepts(path), { timeoutMs: CONTROL_TIMEOUT_MS, everyMs: 5, what })
}

function accepts(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect({ path }, () => resolve(true))
  socket.once('error', () => resolve(false))
  return promise.finally(() => socket.destroy())
}
