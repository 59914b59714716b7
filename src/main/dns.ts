import { paths } from '../api/index.ts'
import { createResolver } from '../engine/local/index.ts'
import { runProgram } from './environment.ts'

const ADDRESS = '169.254.1.1'
const PORT = 53

runProgram('bulkhead-dns', async ({ layout, log }) => {
  const resolver = createResolver({
    socketPath: paths.dnsSocket(layout),
    listenAddress: ADDRESS,
    port: PORT,
    log,
  })
  await resolver.listen()
  return { stop: () => resolver.close() }
})
