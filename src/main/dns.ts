import { paths } from '../api/index.ts'
import { createResolver, ROUTER_ADDRESS } from '../engine/local/index.ts'
import { runProgram } from './environment.ts'

const PORT = 53

runProgram('bulkhead-dns', async ({ layout, log }) => {
  const resolver = createResolver({
    socketPath: paths.dnsSocket(layout),
    listenAddress: ROUTER_ADDRESS,
    port: PORT,
    outsideSocket: paths.outsideSocket(layout),
    log,
  })
  await resolver.listen()
  return { stop: () => resolver.close() }
})
