import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { paths } from '../api/index.ts'
import { AuditFile, createGateway } from '../gateway/index.ts'
import { systemClock } from '../stdx/index.ts'
import { runProgram } from './environment.ts'
import { PKI_FILES } from './pki-files.ts'
import { tenantUidOf } from './tenant-uid.ts'
import { sleepingKeysOf, wakeThrough } from './wake-channel.ts'

runProgram('bulkhead-gateway', async ({ layout, log }) => {
  const pki = (file: keyof typeof PKI_FILES) => readFileSync(join(paths.pki(layout), PKI_FILES[file]), 'utf8')
  const audit = await AuditFile.open({
    path: join(layout.stateDir, 'audit/gateway/audit.log'),
    clock: systemClock,
    log,
  })
  const gateway = createGateway({
    tls: { key: pki('gatewayKey'), cert: pki('gateway'), clientCa: pki('clientCa') },
    socketPathOf: (tenant) => paths.apiSocket(layout, tenant),
    tenantUidOf: tenantUidOf(layout),
    wake: wakeThrough(layout),
    sleepingKeysOf: sleepingKeysOf(layout),
    audit,
    clock: systemClock,
    log,
  })
  await gateway.listen(layout.gatewayAddress, layout.gatewayPort)
  return {
    async stop() {
      await gateway.close()
      await audit[Symbol.asyncDispose]()
    },
  }
})
