import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { API_SERVICE, paths, PLATFORM_TENANT, type TenantName, tenantRegistry } from '../api/index.ts'
import { createStreamHandler } from '../apiserver/index.ts'
import { issueTokensThrough, startTenantControllers } from '../controllers/index.ts'
import { RemoteEngine } from '../jail/index.ts'
import { RegoThreads } from '../rego/index.ts'
import { GiB, SECOND_MS, systemClock } from '../stdx/index.ts'
import {
  type ControlPlaneHost,
  type HostRequest,
  type Resting,
  serveControl,
  type Slept,
} from './control-channel.ts'
import { startControlPlane } from './control-plane.ts'
import { requiredEnvironment, runProgram } from './environment.ts'
import { parseSleepLimits } from './sleep-schedule.ts'
import { operatorPoliciesOf, regoPoliciesOf, tenantLimitsOf } from './tenant-limits.ts'
import { PKI_FILES } from './pki-files.ts'

const [name = ''] = process.argv.slice(2)

type Hosted = {
  change(wanted: HostRequest): void
  /** Undefined while there is something to do. */
  resting(): Omit<Resting, 'tenant'> | undefined
  sleep(): Promise<Slept | undefined>
  close(): Promise<void>
}

/** So long nothing may have been written before a control plane is at rest, and no longer than it takes to sleep. */
const QUIET_MS = 20 * SECOND_MS

/** What a container without a limit is told by the downward API. */
const EPHEMERAL_STORAGE_BYTES = 10 * GiB

/**
 * Hosts control planes: those of all trusted tenants, or that of one untrusted tenant under a user of its own. Knows a
 * tenant only once the node agent has handed over its data key.
 */
runProgram(`bulkhead-worker ${name}`, async ({ layout, log }) => {
  const clock = systemClock
  const quietMs = Math.min(QUIET_MS, parseSleepLimits(process.env).unusedMsMin)
  const gatewayUid = Number(requiredEnvironment('GATEWAY_UID'))
  const podGatewayUid = Number(requiredEnvironment('POD_GATEWAY_UID'))
  const serverCa = readFileSync(join(paths.pki(layout), PKI_FILES.serverCa), 'utf8')
  const threads = new RegoThreads({ clock })
  const running = new Map<TenantName, Hosted>()
  const turns = new Map<TenantName, Promise<unknown>>()

  const start = async (request: HostRequest): Promise<Hosted> => {
    const { tenant, tenantUid, dataKey, isolationClass } = request
    // Throws when one of them cannot be read: then the tenant is not served.
    const operatorPolicies = operatorPoliciesOf(request)
    const engine = new RemoteEngine({ socketPath: paths.nodeTenantSocket(layout, tenant) })
    // What the node has is asked while the store is opened.
    const [node, plane] = await Promise.all([
      engine.node().catch((error: unknown) => ({ error })),
      startControlPlane({
        layout,
        tenant,
        tenantUid,
        path: paths.partition(layout, tenant),
        dataKey,
        registry: tenantRegistry,
        gatewayUid,
        podGatewayUid,
        clock,
        log,
        engine,
        streams: createStreamHandler({ log }),
        limits: tenantLimitsOf(request),
        operatorPolicies,
        regoPolicies: { policies: regoPoliciesOf(request), threads },
      }),
    ])
    if ('error' in node) {
      await plane.close()
      engine.close()
      throw node.error
    }
    const { allocatable } = node
    const controllers = startTenantControllers({
      client: plane.server.client('controllers'),
      engine,
      tenant,
      clock,
      log: log.with({ tenant }),
      options: {
        caPem: serverCa,
        runtime: isolationClass === 'sandboxed' || isolationClass === 'dedicated' ? 'gvisor' : 'runc',
        node: {
          cpuMillis: allocatable.cpuMillis,
          memoryBytes: allocatable.memoryBytes,
          ephemeralStorageBytes: EPHEMERAL_STORAGE_BYTES,
        },
        issueToken: issueTokensThrough(plane.server.client('token-controller')),
        apiServer: { host: API_SERVICE.clusterIP, port: API_SERVICE.port },
        frontDoor: {
          ip: layout.ingress.address,
          httpPort: layout.ingress.httpPort,
          httpsPort: layout.ingress.httpsPort,
        },
        ...(request.slept === undefined ? {} : { heardTo: request.slept.heardTo }),
      },
    })
    log.info('tenant hosted', { tenant })
    let quiet = { revision: plane.store.revision, sinceMs: clock.nowMs() }
    const resting = () => {
      const nowMs = clock.nowMs()
      if (plane.store.revision !== quiet.revision) quiet = { revision: plane.store.revision, sinceMs: nowMs }
      const unusedMs = nowMs - plane.usedAtMs()
      const dueAtMs = controllers.restsUntilMs()
      if (dueAtMs === undefined || nowMs - quiet.sinceMs < quietMs || unusedMs < 0) return undefined
      return { unusedMs, ...(dueAtMs === Infinity ? {} : { dueAtMs: Math.ceil(dueAtMs) }) }
    }
    const close = async () => {
      await controllers.stop()
      await plane.close()
      engine.close()
    }
    return {
      resting,
      async sleep() {
        if (!resting() || !(await plane.closeDoor())) return undefined
        // Somebody may have begun something meanwhile, and goes on with it at once.
        const rest = resting() ?? { dueAtMs: clock.nowMs() }
        const slept = {
          keys: plane.tokenIssuer.jwks(),
          heardTo: controllers.heardTo(),
          ...(rest.dueAtMs === undefined ? {} : { dueAtMs: rest.dueAtMs }),
        }
        await close()
        log.info('tenant sleeps', { tenant })
        return slept
      },
      change(changed) {
        plane.server.setOperatorPolicies(operatorPoliciesOf(changed), {
          policies: regoPoliciesOf(changed),
          threads,
        })
        plane.server.setLimits(tenantLimitsOf(changed))
        controllers.shareChanged()
        controllers.grantsChanged()
      },
      close,
    }
  }

  const hosts: ControlPlaneHost = {
    host: (request) =>
      inTurn(request.tenant, async () => {
        if (request.tenant === PLATFORM_TENANT) throw new Error('A worker does not host the platform')
        const hosted = running.get(request.tenant)
        if (hosted) hosted.change(request)
        else running.set(request.tenant, await start(request))
      }),
    unhost: (tenant) =>
      inTurn(tenant, async () => {
        const hosted = running.get(tenant)
        if (!hosted) return
        await hosted.close()
        running.delete(tenant)
        log.info('tenant no longer hosted', { tenant })
      }),
    resting: () =>
      [...running].flatMap(([tenant, hosted]) => {
        const rest = hosted.resting()
        return rest ? [{ tenant, ...rest }] : []
      }),
    sleep: (tenant) =>
      inTurn(tenant, async () => {
        const slept = await running.get(tenant)?.sleep()
        if (slept) running.delete(tenant)
        return slept
      }),
  }
  /** One change of a tenant at a time: whoever asks may lose patience and ask again, and a store is opened once. */
  const inTurn = <T>(tenant: TenantName, work: () => Promise<T>): Promise<T> => {
    const turn = (turns.get(tenant) ?? Promise.resolve()).then(work, work)
    const settled = Promise.allSettled([turn]).finally(() => {
      if (turns.get(tenant) === settled) turns.delete(tenant)
    })
    turns.set(tenant, settled)
    return turn
  }
  const control = await serveControl(paths.workerControlSocket(layout, name), hosts, log)
  return {
    async stop() {
      control.close()
      control.closeAllConnections()
      await Promise.all([...running.values()].map((plane) => plane.close()))
      threads.close()
    },
  }
})
