import { randomUUID } from 'node:crypto'
import { parseLayout } from '../../src/api/index.ts'
import { createPodNetwork } from '../../src/engine/local/index.ts'
import type { JailId } from '../../src/jail/index.ts'
import { silentLogger } from '../../src/stdx/index.ts'
import { placementOf } from '../testkit/network.ts'

// An agent that makes, renews and removes pods as fast as it can, until somebody kills it.

const layout = parseLayout(process.env)
const network = createPodNetwork({ layout, log: silentLogger })
const placement = placementOf(layout, 'churn', 2)
await network.ensureNode()
await network.ensureTenant(placement)
const ids = [...(await network.pods()).keys()]
process.on('disconnect', () => process.exit(0))
for (let step = 0; ; step++) {
  process.send?.({ step })
  const id = randomUUID() as JailId
  ids.push(id)
  await Promise.all([
    network.ensurePod(placement, { id, hostname: 'churn', hostnameRecords: [] }),
    ...(step % 2 === 1 && ids[0] ? [network.renewPod(placement, ids[0])] : []),
    network.setTenantNetwork(placement, {
      services: [
        {
          namespace: 'default',
          name: 'web',
          clusterIP: '10.96.0.1',
          publishNotReadyAddresses: false,
          ports: [
            { protocol: 'TCP', port: 80, endpoints: ids.map((jail) => ({ jail, port: 80, ready: true })) },
          ],
        },
      ],
    }),
  ])
  const oldest = ids.length > 4 ? ids.shift() : undefined
  if (oldest) await network.removePod(oldest)
}
