import { paths } from '../api/index.ts'
import { Forwarder } from '../engine/local/index.ts'
import { runProgram } from './environment.ts'

runProgram('bulkhead-names', async ({ layout, log }) => {
  const servers = (process.env['BULKHEAD_DNS'] ?? '').split(',').filter((server) => server !== '')
  const forwarder = new Forwarder({
    socketPath: paths.forwarderSocket(layout),
    ...(servers.length === 0 ? {} : { servers }),
    log,
  })
  await forwarder.listen()
  return { stop: () => forwarder.close() }
})
