/**
 * How many pods per second a client creates through the gateway, over TLS with a client certificate, beside the same
 * straight to the control plane's socket: `node bench/api-gateway.ts [pods] [in flight]`. Gateway, control plane and
 * client are three processes; every answer is durable.
 */
import { Agent, Client, type Dispatcher } from 'undici'
import { IDENTITY_HEADER, renderIdentity } from '../src/identity/index.ts'
import { parseTenantName } from '../src/api/index.ts'
import { machineFacts, printRows } from './kit/samples.ts'
import { samplePod } from './kit/sample-pod.ts'
import { BENCH_TENANT, startServed } from './kit/served.ts'

const PODS = Number(process.argv[2] ?? 3_000)
const IN_FLIGHT = Number(process.argv[3] ?? 32)
const PATH = '/api/v1/namespaces/default/pods'

console.log(machineFacts())
await using served = await startServed()
const { server, ca, certificate, key } = served.credentials
const identity = renderIdentity({
  kind: 'tenantUser',
  tenant: parseTenantName(BENCH_TENANT),
  name: 'admin',
  groups: ['bulkhead:tenant-admins'],
})

let next = 0
type Way = {
  name: string
  dispatcher: Dispatcher
  origin: string
  path: string
  headers: Record<string, string>
}

async function create(
  way: Way,
  pods: number,
  inFlight: number,
): Promise<{ millis: number[]; seconds: number }> {
  const millis: number[] = []
  let left = pods
  const work = async () => {
    while (left-- > 0) {
      const body = JSON.stringify(samplePod(next++))
      const began = performance.now()
      const answer = await way.dispatcher.request({
        origin: way.origin,
        path: way.path,
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'application/json', ...way.headers },
        body,
      })
      const text = await answer.body.text()
      if (answer.statusCode !== 201) throw new Error(`A create answered ${answer.statusCode}: ${text}`)
      millis.push(performance.now() - began)
    }
  }
  const began = performance.now()
  await Promise.all(Array.from({ length: inFlight }, work))
  return { millis, seconds: (performance.now() - began) / 1_000 }
}

const { pathname, origin } = new URL(server)
const tls = { ca, cert: certificate, key }
const ways: Way[] = [
  {
    name: 'straight to the socket',
    dispatcher: new Agent({ connect: { socketPath: served.socketPath }, connections: IN_FLIGHT }),
    origin: 'http://localhost',
    path: PATH,
    headers: { [IDENTITY_HEADER]: identity },
  },
  {
    name: 'gateway, HTTP/1.1',
    dispatcher: new Agent({
      connect: { ...tls, ALPNProtocols: ['http/1.1'] },
      allowH2: false,
      connections: IN_FLIGHT,
    }),
    origin,
    path: pathname + PATH,
    headers: {},
  },
  {
    name: 'gateway, HTTP/2',
    dispatcher: new Client(origin, { connect: tls, allowH2: true, maxConcurrentStreams: IN_FLIGHT }),
    origin,
    path: pathname + PATH,
    headers: {},
  },
]
const rows = []
const rates: string[] = []
let straight = 0
for (const way of ways) {
  await create(way, 300, IN_FLIGHT)
  const alone = await create(way, 200, 1)
  const many = await create(way, PODS, IN_FLIGHT)
  const perSecond = PODS / many.seconds
  straight ||= perSecond
  rows.push({ what: `${way.name}, 1 at a time`, values: alone.millis })
  rows.push({ what: `${way.name}, ${IN_FLIGHT} at a time`, values: many.millis })
  rates.push(`${way.name}: ${perSecond.toFixed(0)} pods/s, ${(perSecond / straight).toFixed(2)} of straight`)
  await way.dispatcher.destroy()
}
printRows('Pod create, durable, one request', 'ms', rows)
console.log(`\n${rates.join('\n')}`)
