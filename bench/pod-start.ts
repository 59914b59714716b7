/**
 * From the POST of a Pod, its image being here already, to its container running: `node bench/pod-start.ts [pods]`.
 * The container's first word decides, as its monitor noted the time of it; the watch of the API is beside it. The
 * references run the same files bare, in the same run and in turn: `runc`, `crun`, `runsc`, and `podman` where it is.
 */
import { execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Agent, request } from 'undici'
import { ApiRefusal, type Credentials, TENANTS_PATH } from '../src/cli/index.ts'
import { until } from '../src/stdx/index.ts'
import { busyboxImage } from '../samples/images/build.ts'
import { createTenant, findProgram, startImageSource, startPlatform, Watch } from './kit/platform.ts'
import { machineFacts, printRows, type Row } from './kit/samples.ts'

const PODS = Number(process.argv[2] ?? 20)
const WARM_UP = 3
const NAMESPACE_PATH = '/api/v1/namespaces/default'
const PODS_PATH = `${NAMESPACE_PATH}/pods`
const FIRST_WORD = 'running'
const COMMAND = ['/bin/sh', '-c', `echo ${FIRST_WORD}; exec sleep 600`]

/** Ends when its input does. */
const BARE_COMMAND = ['/bin/sh', '-c', `echo ${FIRST_WORD}; read line`]
/** Where version 2 of the cgroups is mounted beside version 1, crun wants not to see it. */
const HIDE_UNIFIED = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'

type Starts = { toWatch: number[]; toFirstWord: number[]; toPost: number[] }
type Subject = { name: string; once: () => Promise<void> }

console.log(machineFacts())
await using platform = await startPlatform()
await using images = await startImageSource()
const work = mkdtempSync(join(tmpdir(), 'bulkhead-bench-pods-'))
try {
  const bare = await bareRuntimes(work)
  const bareTimes = new Map(bare.map(({ name }) => [name, [] as number[]]))
  const results = new Map<string, Starts>()
  const subjects: Subject[] = bare.map(({ name, start }) => ({
    name,
    once: async () => void bareTimes.get(name)!.push(await start()), // set above
  }))
  await using stack = new AsyncDisposableStack()
  const tenants = stack.use(await Watch.open(platform.operatorCredentials, TENANTS_PATH))
  for (const isolation of ['shared', 'sandboxed'] as const) {
    const { credentials, client } = await createTenant(platform, tenants, `bench-${isolation}`, isolation, [
      images.host,
    ])
    stack.use(client)
    const watch = stack.use(await Watch.open(credentials, PODS_PATH))
    const starts: Starts = { toWatch: [], toFirstWord: [], toPost: [] }
    results.set(isolation, starts)
    await until(() => client.get(`${NAMESPACE_PATH}/serviceaccounts/default`), {
      what: 'The default account',
    })
    subjects.push({ name: isolation, once: () => startPod({ credentials, client, watch, starts }) })
  }
  for (let round = 0; round < WARM_UP + PODS; round++) {
    if (round === WARM_UP) {
      for (const times of bareTimes.values()) times.length = 0
      for (const starts of results.values()) for (const times of Object.values(starts)) times.length = 0
    }
    for (const subject of subjects) await subject.once()
  }
  const shared = results.get('shared')!
  const sandboxed = results.get('sandboxed')! // both set above
  const of = (name: string, what: string, goalMax?: number) =>
    bareTimes.has(name) ? { against: { what, ...(goalMax === undefined ? {} : { goalMax }) } } : {}
  const rows: Row[] = [
    ...[...bareTimes].map(([name, values]) => ({ what: `bare ${name} run`, values })),
    { what: 'pod (shared): POST answered', values: shared.toPost },
    { what: 'pod (shared): first word', values: shared.toFirstWord, ...of('runc', 'bare runc run', 3) },
    { what: 'pod (shared): watch says Running', values: shared.toWatch, ...of('runc', 'bare runc run', 3) },
    { what: 'pod (gVisor): POST answered', values: sandboxed.toPost },
    { what: 'pod (gVisor): first word', values: sandboxed.toFirstWord, ...of('runsc', 'bare runsc run', 2) },
    {
      what: 'pod (gVisor): watch says Running',
      values: sandboxed.toWatch,
      ...of('runsc', 'bare runsc run', 2),
    },
  ]
  printRows('Pod start, one at a time', 'ms', rows)
  if (!findProgram('podman')) console.log('podman is not installed here, so it is not measured')
} finally {
  rmSync(work, { recursive: true, force: true })
}

async function startPod({
  credentials,
  client,
  watch,
  starts,
}: {
  credentials: Credentials
  client: Awaited<ReturnType<typeof createTenant>>['client']
  watch: Watch
  starts: Starts
}): Promise<void> {
  const name = `p-${randomBytes(4).toString('hex')}`
  const seen = watch.when(
    `The pod "${name}" running`,
    ({ object }) => object.metadata.name === name && object.status?.['phase'] === 'Running',
  )
  const began = performance.now()
  await client.post(PODS_PATH, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      terminationGracePeriodSeconds: 0,
      containers: [{ name: 'main', image: images.image, command: COMMAND }],
    },
  })
  starts.toPost.push(performance.now() - began)
  starts.toWatch.push((await seen) - began)
  const wordAtMs = await until(() => firstWordAtMs(credentials, name), {
    what: `The first word of "${name}"`,
  })
  starts.toFirstWord.push(wordAtMs - (performance.timeOrigin + began))
  await client.delete(`${PODS_PATH}/${name}`)
  const gone = async () => {
    try {
      await client.get(`${PODS_PATH}/${name}`)
      return false
    } catch (error) {
      if (error instanceof ApiRefusal && error.code === 404) return true
      throw error
    }
  }
  // Its end must not cost the next one's start.
  await until(gone, { timeoutMs: 30_000, everyMs: 50, what: `The end of the pod "${name}"` })
}

/** The monitor writes the moment at which it read each line, to the nanosecond. */
async function firstWordAtMs(credentials: Credentials, pod: string): Promise<number | undefined> {
  const agent = new Agent({
    connect: { ca: credentials.ca, cert: credentials.certificate, key: credentials.key },
  })
  try {
    const { body } = await request(`${credentials.server}${PODS_PATH}/${pod}/log?timestamps=true`, {
      dispatcher: agent,
    })
    const [, time, fraction] = /^(\S+T[\d:]+)\.(\d+)\S* running$/m.exec(await body.text()) ?? []
    return time === undefined ? undefined : Date.parse(`${time}Z`) + Number(`0.${fraction}`) * 1_000
  } finally {
    await agent.destroy()
  }
}

type Bare = { name: string; start: () => Promise<number> }

/** Bundles of the same files, with the configuration that each runtime suggests. */
async function bareRuntimes(work: string): Promise<Bare[]> {
  const bundle = join(work, 'bundle')
  const rootfs = join(bundle, 'rootfs')
  mkdirSync(bundle, { recursive: true })
  await busyboxImage(rootfs)
  const specFrom = findProgram('runc') ?? findProgram('crun')
  if (!specFrom) return []
  execFileSync(specFrom, ['spec', '--bundle', bundle])
  const file = join(bundle, 'config.json')
  const config = JSON.parse(readFileSync(file, 'utf8')) as { process: { terminal: boolean; args: string[] } }
  config.process.terminal = false
  config.process.args = BARE_COMMAND
  writeFileSync(file, JSON.stringify(config))
  const runtime = (
    name: string,
    program: string,
    args: readonly string[],
    prefix: readonly string[] = [],
  ) => {
    const root = join(work, `${name}-root`)
    const start = () => {
      const id = `bench-${randomBytes(6).toString('hex')}`
      return timeToFirstWord([...prefix, program, `--root=${root}`, ...args, 'run', '--bundle', bundle, id])
    }
    return { name, start }
  }
  const runtimes: Bare[] = []
  const runc = findProgram('runc')
  if (runc) runtimes.push(runtime('runc', runc, []))
  const crun = findProgram('crun')
  const alone = ['unshare', '--mount', '--propagation', 'slave', 'sh', '-c', HIDE_UNIFIED, 'sh']
  if (crun) runtimes.push(runtime('crun', crun, [], alone))
  const runsc = findProgram('runsc')
  if (runsc)
    runtimes.push(runtime('runsc', runsc, ['--network=none', '--platform=ptrace', '--ignore-cgroups']))
  const podman = findProgram('podman')
  if (podman) runtimes.push({ name: 'podman', start: () => timeToFirstWord(podmanCommand(podman, rootfs)) })
  return runtimes
}

function podmanCommand(podman: string, rootfs: string): string[] {
  return [podman, 'run', '--rm', '--interactive', '--rootfs', `${rootfs}:O`, ...BARE_COMMAND]
}

/** From the start of the command to the first byte that the container writes; then the container is ended. */
async function timeToFirstWord(command: readonly string[]): Promise<number> {
  const [program = 'false', ...args] = command
  const began = performance.now()
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const first = Promise.withResolvers<number>()
  let complaints = ''
  child.stdout.once('data', () => first.resolve(performance.now() - began))
  child.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString()))
  child.once('error', first.reject)
  void ended.then(() => first.reject(new Error(`"${command.join(' ')}" said nothing: ${complaints}`)))
  try {
    return await first.promise
  } finally {
    child.stdin.end()
    await ended
  }
}
