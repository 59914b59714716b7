/**
 * A control plane, or a gateway before it, as a process of its own: `node served-process.ts control-plane|gateway DIR`.
 * DIR holds what the parent has made: certificates and directories. Says one line when it is ready, and ends with its
 * input.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Layout, parseLayout, parseTenantName, paths, tenantRegistry } from '../../src/api/index.ts'
import { AuditFile, createGateway } from '../../src/gateway/index.ts'
import { startControlPlane } from '../../src/main/control-plane.ts'
import { silentLogger as log, systemClock as clock } from '../../src/stdx/index.ts'
import { BENCH_TENANT } from './served.ts'

const [role, directory = ''] = process.argv.slice(2)
const layout: Layout = {
  ...parseLayout({ BULKHEAD_INSTANCE: 'bnch' }),
  runDir: directory,
  stateDir: directory,
}
const tenant = parseTenantName(BENCH_TENANT)
/** More than anybody could send here: the fair share of one tenant is not what is measured. */
const MANY = 1_000_000

if (role === 'control-plane') {
  await startControlPlane({
    layout,
    tenant,
    path: paths.partition(layout, tenant),
    dataKey: new Uint8Array(randomBytes(32)),
    registry: tenantRegistry,
    gatewayUid: process.getuid!(),
    clock,
    log,
    limits: { podsMax: MANY, objectsMax: 50_000 },
  })
} else {
  const pem = (name: string) => readFileSync(join(directory, name), 'utf8')
  const gateway = createGateway({
    tls: { key: pem('gateway-key.pem'), cert: pem('gateway.pem'), clientCa: pem('client-ca.pem') },
    socketPathOf: (name) => paths.apiSocket(layout, name),
    audit: await AuditFile.open({ path: join(directory, 'audit.log'), clock, log }),
    limits: {
      tenant: {
        connectionsMax: 512,
        requestsMax: 512,
        streamsMax: 2_048,
        requestsPerSecond: MANY,
        requestsBurst: MANY,
      },
    },
    clock,
    log,
  })
  await gateway.listen('127.0.0.1', Number(process.argv[4]))
}
console.log('ready')
process.stdin.resume().on('end', () => process.exit(0))
