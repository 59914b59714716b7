import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { TestPlatform } from '../../testkit/platform.ts'
import { startBuiltRegistry } from '../../testkit/registry.ts'
import { IMAGE_PROGRAMS, pushUpstreamImages } from './images.ts'
import { readResults, renderResults, RESULTS_FILES, saveResult, type TestedTrust } from './results.ts'
import { UpstreamSuite } from './suite.ts'

/** A test mostly waits; more than this wait for the processors. */
const LANES_MAX = 8
const TENANT = 'upstream'

const USAGE = `Runs upstream's conformance tests against a tenant of a platform made for it, on this machine. Needs root.

tools/upstream-conformance --programs DIR [--focus REGEXP] [--skip REGEXP] [--lanes NUMBER] [--new] [--save]
                           [--others] [--untrusted] [--logs DIR] [--instance NAME] [--slot NUMBER]
tools/upstream-conformance --programs DIR --serve
tools/upstream-conformance --programs DIR --kubeconfig FILE --registry HOST:PORT [--focus REGEXP]...

  --programs DIR   what tools/upstream-programs DIR has built: e2e.test, kubectl,
                   ${IMAGE_PROGRAMS.join(', ')}
  --focus REGEXP   only tests with such names
  --skip REGEXP    not these
  --lanes NUMBER   tests at the same time; those that upstream calls serial run alone
  --others         those that are no conformance tests, and run anywhere
  --new            only those that nothing was saved about
  --save           writes what becomes of each into ${RESULTS_FILES.trusted}
  --untrusted      a tenant on gVisor; with --save, ${RESULTS_FILES.untrusted}
  --logs DIR       keeps what each test says there
  --serve          starts the platform and the registry, says how to reach them, and waits to be interrupted
  --kubeconfig, --registry   a tenant and images that are there already, such as those of --serve`

const { values } = parseArgs({
  options: {
    programs: { type: 'string', default: '' },
    focus: { type: 'string', default: '' },
    skip: { type: 'string', default: '$^' },
    lanes: { type: 'string', default: '3' },
    new: { type: 'boolean', default: false },
    others: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
    untrusted: { type: 'boolean', default: false },
    logs: { type: 'string', default: '' },
    serve: { type: 'boolean', default: false },
    kubeconfig: { type: 'string', default: '' },
    registry: { type: 'string', default: '' },
    instance: { type: 'string', default: 'conf' },
    slot: { type: 'string', default: '182' },
    help: { type: 'boolean', default: false },
  },
})
const TRUST: TestedTrust = values.untrusted ? 'untrusted' : 'trusted'
process.exitCode = await main()

async function main(): Promise<number> {
  if (values.help) {
    console.log(USAGE)
    return 0
  }
  const absent = ['e2e.test', 'kubectl', ...IMAGE_PROGRAMS].find(
    (name) => !existsSync(join(values.programs, name)),
  )
  if (absent !== undefined) return wrong(`"${values.programs}" has no ${absent}`)
  const lanes = Number(values.lanes)
  if (!Number.isInteger(lanes) || lanes < 1 || lanes > LANES_MAX)
    return wrong(`--lanes is a number from 1 to ${LANES_MAX}`)
  if ((values.kubeconfig === '') !== (values.registry === ''))
    return wrong('--kubeconfig and --registry come together')
  if (process.getuid?.() !== 0) return wrong('It starts a platform, which needs root')

  const interrupted = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.on(name, () => {
      if (!interrupted.signal.aborted) console.error('interrupted: ending what runs, and removing it')
      interrupted.abort(new Error('interrupted'))
    })
  if (values.kubeconfig !== '')
    return runSuite({ kubeconfig: values.kubeconfig, registry: values.registry }, lanes, interrupted.signal)

  await using registry = await startUpstreamRegistry()
  await using platform = await TestPlatform.start({
    instance: values.instance,
    slot: Number(values.slot),
    tenants: [
      {
        name: TENANT,
        trust: TRUST,
        // Some tests name images there which no pod of theirs ever needs.
        registries: [registry.host, 'docker.io', 'gcr.io', 'registry.k8s.io'],
      },
    ],
  })
  const target = { kubeconfig: platform.kubeconfig(TENANT), registry: registry.host }
  if (!values.serve) return await runSuite(target, lanes, interrupted.signal)
  console.log(`--kubeconfig ${target.kubeconfig} --registry ${target.registry}`)
  // A signal alone keeps no process alive.
  const alive = setInterval(() => {}, 60_000)
  await new Promise((resolve) => interrupted.signal.addEventListener('abort', resolve, { once: true }))
  clearInterval(alive)
  return 0
}

function startUpstreamRegistry() {
  const programs = IMAGE_PROGRAMS.map((name) => join(values.programs, name))
  const sources = ['images.ts', '../../../samples/images/build.ts', '../../../samples/images/push.ts'].map(
    (path) => new URL(path, import.meta.url),
  )
  return startBuiltRegistry('upstream-images', [...sources, ...programs, '/bin/busybox'], (host) =>
    pushUpstreamImages(host, values.programs),
  )
}

async function runSuite(
  target: { kubeconfig: string; registry: string },
  lanes: number,
  signal: AbortSignal,
): Promise<number> {
  const suite = new UpstreamSuite({
    programs: values.programs,
    kubectl: join(values.programs, 'kubectl'),
    ...target,
  })
  const known = new Set(values.new ? readResults(TRUST).map(({ name }) => name) : [])
  const skip = new RegExp(values.skip)
  const names = (await suite.names(new RegExp(values.focus), values.others, signal)).filter(
    (name) => !skip.test(name) && !known.has(name),
  )
  if (names.length === 0) return wrong('No test has such a name')
  if (values.logs !== '') await mkdir(values.logs, { recursive: true })
  const [serial, parallel] = [names.filter(isSerial), names.filter((name) => !isSerial(name))]
  const results = [
    ...(await inLanes(parallel, lanes, (name) => runTest(suite, name, signal), signal)),
    ...(await inLanes(serial, 1, (name) => runTest(suite, name, signal), signal)),
  ]
  console.log(renderResults(results))
  return results.every(({ outcome }) => outcome === 'passed') && !signal.aborted ? 0 : 1
}

async function runTest(suite: UpstreamSuite, name: string, signal: AbortSignal) {
  const said: string[] = []
  const begun = performance.now()
  const result = await suite.test(name, (text) => said.push(text), signal)
  const seconds = Math.round((performance.now() - begun) / 1_000)
  console.log(
    `${result.outcome} ${name} (${seconds} s)${result.message === undefined ? '' : `\n    ${result.message}`}`,
  )
  if (values.logs !== '')
    await writeFile(
      join(values.logs, `${name.replace(/[^A-Za-z0-9]+/g, '-').slice(0, 150)}.log`),
      said.join(''),
    )
  if (values.save && !values.others && !signal.aborted) saveResult(TRUST, result)
  return result
}

async function inLanes<T>(
  names: readonly string[],
  lanes: number,
  run: (name: string) => Promise<T>,
  signal: AbortSignal,
): Promise<T[]> {
  const waiting = [...names]
  const done: T[] = []
  const lane = async () => {
    for (let name = waiting.shift(); name !== undefined && !signal.aborted; name = waiting.shift())
      done.push(await run(name))
  }
  await Promise.all(Array.from({ length: lanes }, lane))
  return done
}

function isSerial(name: string): boolean {
  return name.includes('[Serial]')
}

function wrong(what: string): number {
  console.error(`${what}.\n\n${USAGE}`)
  return 2
}
