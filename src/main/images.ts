import { join } from 'node:path'
import { paths } from '../api/index.ts'
import { Puller, servePuller } from '../engine/local/index.ts'
import { runProgram } from './environment.ts'

runProgram('bulkhead-images', async ({ layout, log }) => {
  const puller = new Puller({
    blobsDir: join(layout.stateDir, 'images/blobs'),
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    log,
  })
  await puller.start()
  const server = await servePuller({ puller, socketPath: paths.imagesSocket(layout), log })
  return {
    async stop() {
      server.close()
      server.closeAllConnections()
      await puller.close()
    },
  }
})
