import { existsSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { type Layout, paths, PLATFORM_TENANT, type TenantName } from '../api/index.ts'
import {
  type DaemonUsers,
  type Daemons,
  type EngineServer,
  ensureDirectory,
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

export type DaemonPrograms = {
  /** Starts, or adopts, the process with the control planes of a tenant; resolves when it may be asked. */
  worker(name: string, uid: number): Promise<void>
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
  private readonly engine: LocalEngine
  private readonly daemons: Daemons
  private readonly programs: DaemonPrograms
  private readonly log: Logger
  private readonly sockets = new Map<TenantName, EngineServer>()
  private readonly turns = new Map<TenantName, Promise<unknown>>()

  constructor(parts: {
    layout: Layout
    users: DaemonUsers
    placements: Placements
    network: PodNetwork
    images: TenantImages
    engine: LocalEngine
    daemons: Daemons
    programs: DaemonPrograms
    log: Logger
  }) {
    this.layout = parts.layout
    this.users = parts.users
    this.placements = parts.placements
    this.network = parts.network
    this.images = parts.images
    this.engine = parts.engine
    this.daemons = parts.daemons
    this.programs = parts.programs
    this.log = parts.log
  }

  /** Resolves once the tenant's API answers. */
  ensure(tenant: TenantName, request: PlacementRequest): Promise<TenantPlacement> {
    return this.inTurn(tenant, async () => {
      const before = this.placements.get(tenant)
      const placement = this.placements.ensure(tenant, request)
      if (before && before.controlPlaneUid !== placement.controlPlaneUid) await this.unhost(before)
      // Other isolation means other containers: they are made anew from what the control plane wants.
      if (before && before.isolationClass !== placement.isolationClass) await this.engine.removeTenant(tenant)
      await this.host(placement)
      return placement
    })
  }

  /** Takes the tenant's pods, control plane, data and key away for good. */
  remove(tenant: TenantName): Promise<void> {
    return this.inTurn(tenant, async () => {
      const placement = this.placements.get(tenant)
      if (!placement) return
      await this.unhost(placement)
      await this.engine.removeTenant(tenant)
      await this.network.removeTenant(tenant)
      await this.images.removeTenant(tenant)
      rmSync(dirname(paths.apiSocket(this.layout, tenant)), { recursive: true, force: true })
      this.placements.remove(tenant)
      rmSync(dirname(paths.partition(this.layout, tenant)), { recursive: true, force: true })
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
    const hosted = wanted.map(async (placement) => {
      try {
        await this.inTurn(placement.tenant, () => this.host(placement))
        return true
      } catch (error) {
        this.log.error('cannot host a tenant', { tenant: placement.tenant, error })
        return false
      }
    })
    return (await Promise.all(hosted)).every(Boolean)
  }

  async close(): Promise<void> {
    await Promise.all([...this.sockets.values()].map((server) => server.close()))
    this.sockets.clear()
  }

  private async host(placement: TenantPlacement): Promise<void> {
    const { tenant, controlPlaneUid: uid, isolationClass } = placement
    const worker = workerOf(placement)
    const gid = groupOf(this.users, uid)
    ensureDirectory(dirname(paths.partition(this.layout, tenant)), { uid, gid, mode: 0o700 })
    // New files take the group of this directory, so the API's socket is the gateway's to connect to and nobody else's.
    ensureDirectory(dirname(paths.apiSocket(this.layout, tenant)), {
      uid,
      gid: this.users.gateway.gid,
      mode: 0o2750,
    })
    await this.network.ensureTenant(placement)
    await this.sockets.get(tenant)?.close()
    this.sockets.set(
      tenant,
      await serveEngine({
        socketPath: paths.nodeTenantSocket(this.layout, tenant),
        placement,
        engine: this.engine.engineFor(placement),
        log: this.log.with({ tenant }),
      }),
    )
    await this.programs.worker(worker, uid)
    const control = paths.workerControlSocket(this.layout, worker)
    await requestHosting(
      control,
      { tenant, dataKey: this.placements.dataKey(tenant), isolationClass },
      AbortSignal.timeout(CONTROL_TIMEOUT_MS),
    )
  }

  private async unhost(placement: TenantPlacement): Promise<void> {
    const worker = workerOf(placement)
    const control = paths.workerControlSocket(this.layout, worker)
    if (worker === SHARED_WORKER)
      await requestUnhosting(control, placement.tenant, AbortSignal.timeout(CONTROL_TIMEOUT_MS))
    else await this.daemons.stop(daemonOf(worker))
    await this.sockets.get(placement.tenant)?.close()
    this.sockets.delete(placement.tenant)
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
