import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  ApiError,
  badRequest,
  type KubeObject,
  parseTenantName,
  paths,
  PLATFORM_TENANT,
  platformRegistry,
} from '../api/index.ts'
import type { SubresourceHandler } from '../apiserver/index.ts'
import { startPlatformControllers } from '../controllers/index.ts'
import { CsrRefused, IdentityRefused, type KeyedCertificate, parseAndSignCsr } from '../identity/index.ts'
import { UnixNodeClient } from '../jail/index.ts'
import { regoPolicyChecks } from '../policy/index.ts'
import { RegoThreads } from '../rego/index.ts'
import { systemClock } from '../stdx/index.ts'
import { type ControlPlaneHost, serveControl } from './control-channel.ts'
import { type ControlPlane, startControlPlane } from './control-plane.ts'
import { requiredEnvironment, runProgram } from './environment.ts'
import { PKI_FILES } from './pki-files.ts'
import { decideTenantClass } from './tenant-class.ts'
import { serverUrl } from './server-url.ts'

const OPERATORS_GROUP = 'bulkhead:operators'

/** The platform's own control plane: tenants come and go here, and their certificates are signed. */
runProgram('bulkhead-platform', async ({ layout, log }) => {
  const clock = systemClock
  const gatewayUid = Number(requiredEnvironment('GATEWAY_UID'))
  const pki = (file: keyof typeof PKI_FILES) => readFileSync(join(paths.pki(layout), PKI_FILES[file]), 'utf8')
  const clients: KeyedCertificate = { certificatePem: pki('clientCa'), privateKeyPem: pki('clientCaKey') }
  const serverCa = pki('serverCa')
  const serverOf = (tenant: string) => `${serverUrl(layout)}/tenants/${tenant}`

  /** Signs a key for somebody of a tenant. Who may ask is RBAC's to say; for whom is the tenant object's name. */
  const credentials: SubresourceHandler = async ({ object, body, dryRun }) => {
    const tenant = parseTenantName(object.metadata.name)
    const {
      csr,
      user,
      groups = [],
      expirationSeconds,
    } = body['spec'] as { csr: string; user: string; groups?: string[]; expirationSeconds?: number } // checked against the schema
    try {
      const { certificatePem, notAfterMs } = await parseAndSignCsr({
        authority: clients,
        csrPem: csr,
        tenant,
        tenantUid: object.metadata.uid,
        user,
        groups,
        nowMs: clock.nowMs(),
        ...(expirationSeconds === undefined ? {} : { ttlSeconds: expirationSeconds }),
      })
      // Checked like a real one, but nobody gets a certificate from a rehearsal.
      if (dryRun) return body
      return {
        ...body,
        status: {
          certificate: certificatePem,
          caBundle: serverCa,
          server: serverOf(tenant),
          expirationTimestamp: new Date(notAfterMs).toISOString().replace(/\.\d{3}Z$/, 'Z'),
        },
      } satisfies KubeObject
    } catch (error) {
      if (error instanceof CsrRefused || error instanceof IdentityRefused || error instanceof RangeError)
        throw badRequest(error.message, error)
      throw error instanceof ApiError
        ? error
        : new ApiError('InternalError', 'The certificate could not be signed', { cause: error })
    }
  }

  const threads = new RegoThreads({ clock })
  let running: { plane: ControlPlane; controllers: { stop(): Promise<void> } } | undefined
  const hosts: ControlPlaneHost = {
    async host({ tenant, dataKey }) {
      if (tenant !== PLATFORM_TENANT)
        throw new Error(`The platform's control plane does not host "${tenant}"`)
      if (running) return
      const plane = await startControlPlane({
        layout,
        tenant,
        path: join(layout.stateDir, 'platform/store.sqlite'),
        dataKey,
        registry: platformRegistry,
        gatewayUid,
        clock,
        log,
        adminGroup: OPERATORS_GROUP,
        plugins: [regoPolicyChecks(threads)],
        subresources: { 'tenants.tenancy.bulkhead.dev/credentials': credentials },
      })
      const controllers = startPlatformControllers({
        client: plane.server.client('tenancy'),
        clock,
        log,
        options: {
          node: new UnixNodeClient({ socketPath: paths.nodePlatformSocket(layout) }),
          decide: decideTenantClass,
          serverUrl: serverOf,
        },
      })
      running = { plane, controllers }
      log.info('platform control plane ready')
    },
    unhost: async () => {},
    // Whoever changes tenants has to find it.
    resting: () => [],
    sleep: async () => undefined,
  }
  const control = await serveControl(paths.workerControlSocket(layout, PLATFORM_TENANT), hosts, log)
  return {
    async stop() {
      control.close()
      control.closeAllConnections()
      await running?.controllers.stop()
      await running?.plane.close()
      threads.close()
    },
  }
})
