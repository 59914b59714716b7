/**
 * How fast an API server lists many pods and tells many watchers of a change, over loopback sockets:
 * `node bench/api-read.ts [pods] [watchers] [changes]`. The reference is Node alone in the same run: `JSON.stringify` of
 * the same list, and a plain server that writes the same bytes to as many connections.
 */
import { once } from 'node:events'
import { type ClientRequest, type IncomingMessage, Agent, createServer, get } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ControlPlane } from '../tests/conformance/control-plane.ts'
import { samplePod } from './kit/sample-pod.ts'

const pods = Number(process.argv[2] ?? 10_000)
const watchers = Number(process.argv[3] ?? 1_000)
const changes = Number(process.argv[4] ?? 50)

const PODS = '/api/v1/namespaces/default/pods'
const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io'
const agent = new Agent({ keepAlive: false })

type Times = { p50: number; p99: number }
function timesOf(samples: readonly number[]): Times {
  const sorted = samples.toSorted((a, b) => a - b)
  const at = (share: number) =>
    Number((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0).toFixed(2))
  return { p50: at(0.5), p99: at(0.99) }
}

/** Reads a whole answer as bytes, and nothing more: the client shares this process. */
async function drain(port: number, path: string, accept: string): Promise<number> {
  const request = get({ host: '127.0.0.1', port, path, headers: { accept }, agent })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  if (response.statusCode !== 200) throw new Error(`${path} answered ${response.statusCode}`)
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) bytes += chunk.length
  return bytes
}

async function timeList(port: number, path: string, accept: string): Promise<Times & { bytes: number }> {
  const samples: number[] = []
  let bytes = 0
  for (let n = 0; n < 7; n++) {
    const start = performance.now()
    bytes = await drain(port, path, accept)
    samples.push(performance.now() - start)
  }
  return { ...timesOf(samples), bytes }
}

/** Opens as many watches, and times from each change until each of them has heard of it. */
async function timeFanOut(
  port: number,
  path: string,
  change: (n: number) => Promise<void>,
): Promise<{ lag: Times; eventsPerSecond: number }> {
  const heard = new Map<string, number>()
  const lags: number[] = []
  const sentAt = new Map<string, number>()
  let arrived = () => {}
  let total = 0
  const requests: ClientRequest[] = []
  await Promise.all(
    Array.from({ length: watchers }, async () => {
      const request = get({ host: '127.0.0.1', port, path, agent })
      requests.push(request)
      request.on('error', () => {})
      const [response] = (await once(request, 'response')) as [IncomingMessage]
      response.on('error', () => {})
      let rest = ''
      response.setEncoding('latin1')
      response.on('data', (chunk: string) => {
        const lines = (rest + chunk).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) {
          const mark = /"change":"(\d+)"/.exec(line)?.[1]
          if (mark === undefined) continue
          lags.push(performance.now() - (sentAt.get(mark) ?? 0))
          heard.set(mark, (heard.get(mark) ?? 0) + 1)
          total++
          arrived()
        }
      })
    }),
  )
  const start = performance.now()
  for (let n = 0; n < changes; n++) {
    const mark = String(n)
    const all = new Promise<void>((resolve) => {
      arrived = () => {
        if (heard.get(mark) === watchers) resolve()
      }
    })
    sentAt.set(mark, performance.now())
    await change(n)
    await all
  }
  const seconds = (performance.now() - start) / 1_000
  for (const request of requests) request.destroy()
  return {
    lag: timesOf(lags),
    eventsPerSecond: Math.round(total / seconds),
  }
}

/** A server that only writes: what sockets and Node cost without us. */
async function fanOutOfNode(line: (n: number) => string): ReturnType<typeof timeFanOut> {
  const open = new Set<{ write: (text: string) => void }>()
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.flushHeaders()
    open.add(response)
    response.on('close', () => open.delete(response))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    return await timeFanOut((server.address() as AddressInfo).port, '/', (n) => {
      for (const response of open) response.write(line(n))
      return Promise.resolve()
    })
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

await using plane = await ControlPlane.start({ limits: { podsMax: pods + 1 } })
for (let n = 0; n < pods; n += 100)
  await Promise.all(
    Array.from({ length: Math.min(100, pods - n) }, async (_, i) => {
      const { code } = await plane.ask('POST', PODS, { body: samplePod(n + i) })
      if (code !== 201) throw new Error(`A create answered ${code}`)
    }),
  )
const whole = JSON.parse((await plane.ask('GET', PODS)).text) as unknown
const stringified: number[] = []
for (let n = 0; n < 7; n++) {
  const start = performance.now()
  JSON.stringify(whole)
  stringified.push(performance.now() - start)
}
const list = await timeList(plane.port, PODS, 'application/json')
const protobuf = await timeList(plane.port, PODS, 'application/vnd.kubernetes.protobuf')
const table = await timeList(plane.port, PODS, TABLE)
const page = await timeList(plane.port, `${PODS}?limit=500`, TABLE)
const one = await timeList(plane.port, `${PODS}/web-1`, 'application/json')

const created = await plane.ask('POST', '/api/v1/namespaces/default/configmaps', {
  body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'watched' }, data: { change: 'none' } },
})
if (created.code !== 201) throw new Error(`A create answered ${created.code}`)
const fanOut = await timeFanOut(
  plane.port,
  '/api/v1/namespaces/default/configmaps?watch=true&resourceVersion=' +
    (created.body as { metadata: { resourceVersion: string } }).metadata.resourceVersion,
  async (n) => {
    const { code } = await plane.ask('PATCH', '/api/v1/namespaces/default/configmaps/watched', {
      type: 'application/merge-patch+json',
      body: { data: { change: String(n) } },
    })
    if (code !== 200) throw new Error(`A patch answered ${code}`)
  },
)
const ofNode = await fanOutOfNode(
  (n) =>
    `${JSON.stringify({ type: 'MODIFIED', object: { ...created.body, data: { change: String(n) } } })}\n`,
)
const stringify = timesOf(stringified)
console.log(
  JSON.stringify(
    {
      pods,
      milliseconds: { stringify, list, protobuf, table, page, one },
      listToStringify: Number((list.p50 / stringify.p50).toFixed(2)),
      watchers,
      changes,
      fanOut,
      ofNode,
      fanOutToNode: Number((ofNode.eventsPerSecond / fanOut.eventsPerSecond).toFixed(2)),
    },
    undefined,
    1,
  ),
)
