import { join } from 'node:path'
import { paths } from '../api/index.ts'
import { AccessLog, FrontDoor } from '../engine/local/index.ts'
import { runProgram } from './environment.ts'

/** Where the outside comes in. It knows certificates' keys, so it does nothing else, and reaches pods through the connector only. */
runProgram('bulkhead-ingress', async ({ layout, log }) => {
  const door = new FrontDoor({
    socketPath: paths.ingressSocket(layout),
    connectorSocket: (index) => paths.connectorTenantSocket(layout, index),
    ...layout.ingress,
    accessLog: new AccessLog({ directory: join(layout.stateDir, 'access'), log }),
    log,
  })
  await door.listen()
  return { stop: () => door.close() }
})
