/**
 * A tenant's API beside a real kube-apiserver with etcd, in one run on one machine:
 * `KUBEBUILDER_ASSETS=DIR node bench/beside-apiserver.ts [writes a round] [pods listed] [watchers] [rounds]`.
 *
 * Both are asked by the same client in the same way (HTTP/2 over TLS with a client certificate, connections that stay), in
 * turns, round by round, so that what else the machine does falls on both. Ours are two processes, gateway and control
 * plane; theirs are kube-apiserver and etcd. Both answer a write when it is on the disk, ours with one fsync for the writes that
 * came together, etcd likewise. Admission is as each has it by default; both write an audit log. The reference's user is in
 * `system:masters`, which its authorization and its flow control let pass at once; ours is judged by RBAC.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Credentials, renderTable } from '../src/cli/index.ts'
import { ASSETS, KubeApiServer, upstreamMissing } from '../tests/conformance/kube-apiserver.ts'
import { type Ask, Http2Client } from './kit/http2-client.ts'
import { cpuMs, type Memory, observeMemory } from './kit/processes.ts'
import { samplePod } from './kit/sample-pod.ts'
import { machineFacts, median } from './kit/samples.ts'
import { startServed } from './kit/served.ts'

if (upstreamMissing) {
  console.error(`${upstreamMissing}; tools/reference-apiserver DIR makes one`)
  process.exit(1)
}
const [WRITES, LISTED, WATCHERS, ROUNDS] = [2_000, 10_000, 1_000, 3].map((standard, at) =>
  Number(process.argv[2 + at] ?? standard),
) as [number, number, number, number] // as many as the defaults
const IN_FLIGHT = 64
const CONNECTIONS = 4
const WATCHES_PER_CONNECTION = 100
const CHANGES = 30
const LISTS = 3
const PODS = '/api/v1/namespaces/default/pods'
const MAPS = '/api/v1/namespaces/default/configmaps'
const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json'

type Server = { name: string; credentials: Credentials; pids: readonly number[]; client: Http2Client }
/** `count` of something in `seconds`, for `cpu` milliseconds of the server's processes. */
type Sample = { count: number; seconds: number; cpu: number }
type Measured = { what: string; samples: Map<string, Sample[]> }

const { server: ours, reference, stop } = await startBoth()
try {
  await run()
} finally {
  await stop()
}

async function run(): Promise<void> {
  const both = [ours, reference]
  console.log(machineFacts())
  const empty = both.map(({ pids }) => observeMemory(pids))
  const results: Measured[] = []
  const measure = async (what: string, one: (server: Server, round: number) => Promise<Sample>) => {
    const samples = new Map<string, Sample[]>(both.map(({ name }) => [name, []]))
    for (let round = 0; round < ROUNDS; round++)
      for (const server of round % 2 === 0 ? both : both.toReversed())
        samples.get(server.name)?.push(await one(server, round))
    results.push({ what, samples })
    process.stderr.write(`${what}: ${renderRatio(samples)}\n`)
  }
  const load = (asks: (n: number) => Ask, code: number) => (server: Server, round: number) =>
    timed(server, WRITES, () => each(server, round * WRITES, WRITES, asks, code))
  for (const server of both) await each(server, 1_000_000, 500, create, 201)
  await measure('create', load(create, 201))
  await measure('replace the status', load(replace, 200))
  await measure('merge patch', load(patch, 200))
  await measure(
    'server-side apply, the first',
    load((n) => apply(n, '3'), 200),
  )
  await measure(
    'server-side apply, the second',
    load((n) => apply(n, '4'), 200),
  )
  await measure(
    'get',
    load((n) => ({ method: 'GET', path: `${PODS}/web-${n}` }), 200),
  )
  for (const server of both) {
    const missing = Math.max(0, LISTED - ROUNDS * WRITES - 500)
    await each(server, ROUNDS * WRITES, missing, create, 201)
  }
  const list = (path: string, accept: string, times: number) => (server: Server) =>
    timed(server, times, async () => {
      for (let n = 0; n < times; n++) {
        const { code, text } = await server.client.ask({ method: 'GET', path, accept })
        if (code !== 200) throw new Error(`${server.name} answered a list with ${code}: ${text}`)
      }
    })
  await measure(`list of ${LISTED} pods`, list(PODS, 'application/json', LISTS))
  await measure(`table of ${LISTED} pods`, list(PODS, TABLE, LISTS))
  await measure('a page of 500', list(`${PODS}?limit=500`, 'application/json', 10 * LISTS))
  const full = both.map(({ pids }) => observeMemory(pids))
  await measure(`a change told to ${WATCHERS} watchers`, fanOut)

  console.log(
    renderTable(
      ['WHAT', 'OURS/S', 'KUBE-APISERVER/S', 'RATIO', 'OUR CPU MS', 'ITS CPU MS', 'RATIO OF CPU'],
      results.map(({ what, samples }) => {
        const [a = NaN, b = NaN] = both.map(({ name }) => rate(samples.get(name)))
        const [c = NaN, d = NaN] = both.map(({ name }) => cost(samples.get(name)))
        return [what, digits(a), digits(b), digits(a / b), digits(c), digits(d), digits(d / c)]
      }),
    ),
  )
  const MiB = 2 ** 20
  const memory = (what: string, all: Memory[]) => {
    const [a = NaN, b = NaN] = all.map(({ pss }) => pss / MiB)
    return [what, digits(a), digits(b), digits(b / a)]
  }
  console.log(
    renderTable(
      ['MEMORY, MiB PSS', 'OURS', 'KUBE-APISERVER AND ETCD', 'RATIO'],
      [memory('empty', empty), memory(`with ${LISTED} pods, just used`, full)],
    ),
  )
  console.log(machineFacts())
}

async function timed({ pids }: Server, count: number, work: () => Promise<void>): Promise<Sample> {
  const cpu = cpuMs(pids)
  const began = performance.now()
  await work()
  return { count, seconds: (performance.now() - began) / 1_000, cpu: cpuMs(pids) - cpu }
}

function rate(samples: readonly Sample[] = []): number {
  return median(samples.map(({ count, seconds }) => count / seconds))
}

function cost(samples: readonly Sample[] = []): number {
  return median(samples.map(({ count, cpu }) => cpu / count))
}

function renderRatio(samples: ReadonlyMap<string, readonly Sample[]>): string {
  const [a = NaN, b = NaN] = [...samples.values()].map(rate)
  const [c = NaN, d = NaN] = [...samples.values()].map(cost)
  return `${digits(a)} and ${digits(b)} a second, ${digits(a / b)} x; CPU ${digits(c)} and ${digits(d)} ms, ${digits(d / c)} x`
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(value < 0.1 ? 4 : 2)
}

/** `count` requests from number `first` on, so many of them in flight. */
async function each(
  { client, name }: Server,
  first: number,
  count: number,
  asks: (n: number) => Ask,
  code: number,
): Promise<void> {
  let next = 0
  const work = async () => {
    for (let n = next++; n < count; n = next++) {
      const asked = asks(first + n)
      const answer = await client.ask(asked)
      if (answer.code !== code)
        throw new Error(`${name} answered ${asked.method} ${asked.path} with ${answer.code}: ${answer.text}`)
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, work))
}

function create(n: number): Ask {
  return { method: 'POST', path: PODS, body: JSON.stringify(samplePod(n)) }
}

function replace(n: number): Ask {
  return {
    method: 'PUT',
    path: `${PODS}/web-${n}/status`,
    body: JSON.stringify({ ...samplePod(n), status: { phase: 'Running', podIP: '10.0.0.1' } }),
  }
}

function patch(n: number): Ask {
  const body = '{"metadata":{"labels":{"version":"2"}}}'
  return { method: 'PATCH', path: `${PODS}/web-${n}`, type: 'application/merge-patch+json', body }
}

function apply(n: number, version: string): Ask {
  const pod = samplePod(n)
  const body = { ...pod, metadata: { ...pod.metadata, labels: { ...pod.metadata.labels, version } } }
  return {
    method: 'PATCH',
    path: `${PODS}/web-${n}?fieldManager=bench&force=true`,
    type: 'application/apply-patch+yaml',
    body: JSON.stringify(body),
  }
}

/** Opens the watches, then changes one object again and again; each change waits until everybody has heard of the last. */
async function fanOut(server: Server, round: number): Promise<Sample> {
  const { name, credentials, client } = server
  const watched = `watched-${round}`
  const created = await client.ask({
    method: 'POST',
    path: MAPS,
    body: JSON.stringify({ metadata: { name: watched }, data: { change: 'none' } }),
  })
  if (created.code !== 201) throw new Error(`${name} answered a create with ${created.code}: ${created.text}`)
  const { metadata } = JSON.parse(created.text) as { metadata: { resourceVersion: string } }
  using watching = new Http2Client(credentials, Math.ceil(WATCHERS / WATCHES_PER_CONNECTION))
  let [heard, arrived, begun] = [0, () => {}, 0]
  await new Promise<void>((resolve, reject) => {
    for (let n = 0; n < WATCHERS; n++) {
      const stream = watching.open({
        method: 'GET',
        path: `${MAPS}?watch=true&resourceVersion=${metadata.resourceVersion}&fieldSelector=metadata.name%3D${watched}`,
      })
      stream.on('error', reject)
      stream.on('response', ({ ':status': code }) => {
        if (code !== 200) return reject(new Error(`${name} answered a watch with ${code}`))
        if (++begun === WATCHERS) resolve()
      })
      stream.on('data', (chunk: Buffer) => {
        // Documents end with a line, and none is larger than a frame.
        for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) heard++
        if (heard >= WATCHERS) arrived()
      })
    }
  })
  return await timed(server, WATCHERS * CHANGES, async () => {
    for (let n = 0; n < CHANGES; n++) {
      heard = 0
      const all = new Promise<void>((resolve) => (arrived = resolve))
      const { code } = await client.ask({
        method: 'PATCH',
        path: `${MAPS}/${watched}`,
        type: 'application/merge-patch+json',
        body: JSON.stringify({ data: { change: String(n) } }),
      })
      if (code !== 200) throw new Error(`${name} answered a patch with ${code}`)
      await all
    }
  })
}

async function startBoth() {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-bench-'))
  const [cert, key, policy] = ['client.pem', 'client-key.pem', 'audit.yaml'].map((name) =>
    join(dir, name),
  ) as [string, string, string] // as many as names
  const subject = '/O=system:masters/CN=bench'
  const request =
    'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -addext extendedKeyUsage=clientAuth'
  execFileSync('openssl', [...request.split(' '), '-subj', subject, '-keyout', key, '-out', cert], {
    stdio: 'ignore',
  })
  const rules = { omitStages: ['RequestReceived'], rules: [{ level: 'Metadata' }] }
  writeFileSync(policy, JSON.stringify({ apiVersion: 'audit.k8s.io/v1', kind: 'Policy', ...rules }))
  const served = await startServed()
  const upstream = await KubeApiServer.start(ASSETS ?? '', {
    'client-ca-file': cert,
    'audit-policy-file': policy,
    'audit-log-path': join(dir, 'audit.log'),
  })
  const read = (path: string) => readFileSync(path, 'utf8')
  const theirs = {
    server: upstream.origin,
    ca: await upstream.certificate(),
    certificate: read(cert),
    key: read(key),
  }
  const as = (name: string, credentials: Credentials, pids: readonly number[]): Server => ({
    name,
    credentials,
    pids,
    client: new Http2Client(credentials, CONNECTIONS),
  })
  const both = {
    server: as('ours', served.credentials, served.pids),
    reference: as('kube-apiserver', theirs, upstream.pids),
  }
  // Admission asks for the account of pods, which a controller would make.
  const account = { metadata: { name: 'default' }, automountServiceAccountToken: false }
  await both.reference.client.ask({
    method: 'POST',
    path: '/api/v1/namespaces/default/serviceaccounts',
    body: JSON.stringify(account),
  })
  return {
    ...both,
    stop: async () => {
      for (const { client } of Object.values(both)) client[Symbol.dispose]()
      await upstream[Symbol.asyncDispose]()
      await served[Symbol.asyncDispose]()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
