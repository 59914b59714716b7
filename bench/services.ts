import { randomUUID } from 'node:crypto'
import { parseLayout } from '../src/api/index.ts'
import { createPodNetwork, ensureRunDir, removeRunDir } from '../src/engine/local/index.ts'
import type { JailId } from '../src/jail/index.ts'
import { silentLogger } from '../src/stdx/index.ts'
import { Peers, placementOf } from '../tests/testkit/network.ts'
import type { Measure } from './kit/pod-network-peer.ts'
import { machineFacts, printRows, type Row } from './kit/samples.ts'

// What the address of a service costs against that of the pod behind it, and an answer of the resolver against
// a datagram that a pod sends back. Rounds are short and take turns, so that what else the machine does meets all alike.
const ROUNDS = 40
const MILLIS = 120
const VIRTUAL = '10.96.7.7'

const layout = parseLayout({ BULKHEAD_INSTANCE: 'neb', BULKHEAD_SLOT: '149' })
const network = createPodNetwork({ layout, log: silentLogger })
const placement = placementOf(layout, 'bench', 0)
const peers = new Peers()

async function startPod() {
  const id = randomUUID() as JailId
  const { net, podIP } = await network.ensurePod(placement, { id, hostname: 'bench', hostnameRecords: [] })
  const child = await peers.start(net, `${import.meta.dirname}/kit/pod-network-peer.ts`, [])
  const ask = (what: Measure) =>
    new Promise<number>((resolve) => {
      child.once('message', (value) => resolve(Number(value)))
      child.send(what)
    })
  return { id, address: podIP, ask }
}

try {
  await network.reset()
  removeRunDir(layout)
  ensureRunDir(layout)
  await network.ensureNode()
  await peers.resolver(layout)
  await network.ensureTenant(placement)
  const [one, two] = [await startPod(), await startPod()]
  await two.ask({ do: 'serve' })
  const endpoints = [{ jail: two.id, port: 80, ready: true }]
  await network.setTenantNetwork(placement, {
    services: [
      {
        namespace: 'default',
        name: 'web',
        clusterIP: VIRTUAL,
        publishNotReadyAddresses: false,
        ports: [
          { name: 'http', protocol: 'TCP', port: 80, endpoints },
          { name: 'echo', protocol: 'UDP', port: 80, endpoints },
        ],
      },
    ],
  })
  const name = 'web.default.svc.cluster.local'
  // The resolver hears of the service a moment later.
  while ((await one.ask({ do: 'lookups', name, millis: 50 })) === 0) continue
  const pod = "a pod's address"
  const rows = (kinds: readonly [string, Measure][]): { row: Row; ask: Measure }[] =>
    kinds.map(([what, ask], at) => ({
      row: { what, values: [] as number[], ...(at === 0 ? {} : { against: { what: kinds[0]?.[0] ?? '' } }) },
      ask: { millis: MILLIS, ...ask },
    }))
  const connects = rows([
    [pod, { do: 'connects', host: two.address }],
    ["a service's address", { do: 'connects', host: VIRTUAL }],
  ])
  const echoes = rows([
    [pod, { do: 'echoes', host: two.address }],
    ["a service's address", { do: 'echoes', host: VIRTUAL }],
    ['questions for a name', { do: 'lookups', name }],
  ])
  for (let round = 0; round < ROUNDS; round++)
    for (const { row, ask } of [...connects, ...echoes]) (row.values as number[]).push(await one.ask(ask))
  console.log(machineFacts())
  printRows(
    'New TCP connections',
    'per second',
    connects.map(({ row }) => row),
  )
  printRows(
    'UDP round trips',
    'per second',
    echoes.map(({ row }) => row),
  )
} finally {
  await peers.endAll()
  await network.reset()
  network.close()
  removeRunDir(layout)
}
