import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  API_SERVICE,
  paths,
  PLATFORM_TENANT,
  serviceAccountKind,
  type TenantName,
  tenantRegistry,
} from '../api/index.ts'
import { createStreamHandler } from '../apiserver/index.ts'
import { type IssueToken, startTenantControllers } from '../controllers/index.ts'
import { RemoteEngine } from '../jail/index.ts'
import { RegoThreads } from '../rego/index.ts'
import { GiB, systemClock } from '../stdx/index.ts'
import { type ControlPlaneHost, type HostRequest, serveControl } from './control-channel.ts'
import { type ControlPlane, startControlPlane } from './control-plane.ts'
import { requiredEnvironment, runProgram } from './environment.ts'
import { operatorPoliciesOf, regoPoliciesOf, tenantLimitsOf } from './tenant-limits.ts'
import { PKI_FILES } from './pki-files.ts'

const [name = ''] = process.argv.slice(2)

type Hosted = { change(wanted: HostRequest): void; close(): Promise<void> }

/** What a container without a limit is told by the downward API. */
const EPHEMERAL_STORAGE_BYTES = 10 * GiB

/** Signs tokens for pods; the account is looked up, so that a token dies with the very account it was made for. */
function tokensOf({ server, tokenIssuer }: ControlPlane): IssueToken {
  const client = server.client('token-controller')
  return async ({ namespace, serviceAccount, pod, audience, expirationSeconds }) => {
    const account = await client.get(serviceAccountKind, { namespace, name: serviceAccount })
    return tokenIssuer.issue({
      account: {
        namespace,
        name: serviceAccount,
        uid: account.metadata.uid,
        boundTo: { kind: 'Pod', ...pod },
      },
      ...(audience === undefined ? {} : { audiences: [audience] }),
      ttlSeconds: expirationSeconds,
      nowMs: systemClock.nowMs(),
    })
  }
}

/**
 * Hosts control planes: those of all trusted tenants, or that of one untrusted tenant under a user of its own. Knows a
 * tenant only once the node agent has handed over its data key.
 */
runProgram(`bulkhead-worker ${name}`, async ({ layout, log }) => {
  const clock = systemClock
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
    const plane = await startControlPlane({
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
    })
    const { allocatable } = await engine.node()
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
        issueToken: tokensOf(plane),
        apiServer: { host: API_SERVICE.clusterIP, port: API_SERVICE.port },
        frontDoor: {
          ip: layout.ingress.address,
          httpPort: layout.ingress.httpPort,
          httpsPort: layout.ingress.httpsPort,
        },
      },
    })
    log.info('tenant hosted', { tenant })
    return {
      change(changed) {
        plane.server.setOperatorPolicies(operatorPoliciesOf(changed), {
          policies: regoPoliciesOf(changed),
          threads,
        })
        plane.server.setLimits(tenantLimitsOf(changed))
        controllers.shareChanged()
        controllers.grantsChanged()
      },
      async close() {
        await controllers.stop()
        await plane.close()
        engine.close()
      },
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
