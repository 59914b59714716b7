import { paths } from '../api/index.ts'
import { serveExchanges } from '../engine/local/index.ts'
import { runProgram } from './environment.ts'

runProgram('bulkhead-prober', async ({ layout, log }) => {
  const server = await serveExchanges({ socketPath: paths.proberSocket(layout), log })
  return {
    async stop() {
      server.close()
    },
  }
})
