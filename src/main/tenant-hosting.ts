import { chmodSync, chownSync, existsSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname } from 'node:path'
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
import { requestHosting, requestUnhosting } from './control-channel.ts'

/** The process that hosts the control planes of trusted tenants. */
export const SHARED_WORKER = 'shared'
const CONTROL_TIMEOUT_MS = 30_000
const UNHOST_TIMEOUT_MS = 10_000

export type DaemonPrograms = {
  /** Starts, or adopts, the process with the control planes of a tenant; resolves when it may be asked. */
  worker(name: string, uid: number): Promise<void>
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
    this.log = parts.log
  }

  /** Resolves once the tenant's API answers. */
  ensure(tenant: TenantName, request: PlacementRequest): Promise<TenantPlacement> {
    return this.inTurn(tenant, async () => {
      const partition = dirname(paths.partition(this.layout, tenant))
      if (!this.placements.get(tenant) && existsSync(partition))
        throw new TypeError(
          `"${partition}" holds data of a tenant "${tenant}" that this machine does not know; move it away first`,
        )
      const placement = this.placements.ensure(tenant, request)
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
      await this.leave(tenant)
      await this.network.removeTenant(tenant)
      await this.images.removeTenant(tenant)
      await this.claims.removeTenant(tenant)
      rmSync(dirname(paths.apiSocket(this.layout, tenant)), { recursive: true, force: true })
      this.placements.destroyKey(tenant)
      rmSync(dirname(paths.partition(this.layout, tenant)), { recursive: true, force: true })
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
          if (placement) await this.settle(placement)
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

  private async host(placement: TenantPlacement): Promise<void> {
    const { tenant, controlPlaneUid: uid, isolationClass } = placement
    const worker = workerOf(placement)
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
    await this.network.setTenantEgress(placement)
    await this.network.setTenantIngressGrant(placement)
    await this.serve(placement)
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
      },
      AbortSignal.timeout(CONTROL_TIMEOUT_MS),
    )
    this.tellGateways(placement)
  }

  /** Lets the gateways know that the tenant is there, which of all that had the name, and which addresses are its pods'. */
  private tellGateways({ tenant, tenantUid, index }: TenantPlacement): void {
    const tell = (file: string, text: string) => {
      writeFileSync(`${file}.new`, text, { mode: 0o600 })
      chownSync(`${file}.new`, 0, this.users.gateway.gid)
      chmodSync(`${file}.new`, 0o640)
      renameSync(`${file}.new`, file)
    }
    tell(paths.tenantOfIndex(this.layout, index), tenant)
    if (tenantUid !== undefined) tell(paths.tenantUid(this.layout, tenant), tenantUid)
  }

  /** The tenant's socket of the engine. It stays as it is when nothing about the placement has changed. */
  private async serve(placement: TenantPlacement): Promise<void> {
    const { tenant } = placement
    const socketPath = paths.nodeTenantSocket(this.layout, tenant)
    const known = this.sockets.get(tenant)
    if (known?.placement === JSON.stringify(placement)) return
    await known?.server.close()
    const engine = this.engine.engineFor(placement)
    const server = await serveEngine({ socketPath, placement, engine, log: this.log.with({ tenant }) })
    this.sockets.set(tenant, { server, placement: JSON.stringify(placement) })
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
