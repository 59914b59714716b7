import { paths } from '../api/index.ts'
import { Connector } from '../engine/local/index.ts'
import { requiredEnvironment, runProgram } from './environment.ts'

runProgram('bulkhead-connector', async ({ layout, log }) => {
  const connector = new Connector({
    socketPath: paths.connectorSocket(layout),
    tenantSocket: (index) => paths.connectorTenantSocket(layout, index),
    frontDoorUid: Number(requiredEnvironment('INGRESS_UID')),
    log,
  })
  await connector.listen()
  return { stop: () => connector.close() }
})
