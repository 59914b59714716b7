import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseTenantName, paths } from '../api/index.ts'
import { POD_GATEWAY_PORT, podOwnerIndex, ROUTER_ADDRESS } from '../engine/local/index.ts'
import { AuditFile, createGateway, POD_GATEWAY_LIMITS } from '../gateway/index.ts'
import { systemClock } from '../stdx/index.ts'
import { runProgram } from './environment.ts'
import { PKI_FILES } from './pki-files.ts'
import { tenantUidOf } from './tenant-uid.ts'
import { sleepingKeysOf, wakeThrough } from './wake-channel.ts'

/**
 * The door of pods to their tenant's API, inside the router's network namespace. The router's rules and the filter on each
 * link pin the address that a pod sends from, and the node agent says whose that address is.
 */
runProgram('bulkhead-pod-gateway', async ({ layout, log }) => {
  const pki = (file: keyof typeof PKI_FILES) => readFileSync(join(paths.pki(layout), PKI_FILES[file]), 'utf8')
  const audit = await AuditFile.open({
    path: join(layout.stateDir, 'audit/pod-gateway/audit.log'),
    clock: systemClock,
    log,
  })
  const gateway = createGateway({
    tls: { key: pki('podGatewayKey'), cert: pki('podGateway') },
    socketPathOf: (tenant) => paths.apiSocket(layout, tenant),
    tenantUidOf: tenantUidOf(layout),
    wake: wakeThrough(layout),
    sleepingKeysOf: sleepingKeysOf(layout),
    tenantOfAddress: (address) => {
      const index = podOwnerIndex(address)
      if (index === undefined) return undefined
      try {
        return parseTenantName(readFileSync(paths.tenantOfIndex(layout, index), 'utf8'))
      } catch {
        return undefined
      }
    },
    audit,
    clock: systemClock,
    log,
    limits: POD_GATEWAY_LIMITS,
  })
  await gateway.listen(ROUTER_ADDRESS, POD_GATEWAY_PORT)
  return {
    async stop() {
      await gateway.close()
      await audit[Symbol.asyncDispose]()
    },
  }
})
