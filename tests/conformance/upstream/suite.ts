import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { UpstreamResult } from './results.ts'

/** Registries by the names that upstream's `KUBE_TEST_REPO_LIST` gives them. All are one here. */
const REGISTRIES: readonly string[] = [
  'promoterE2eRegistry',
  'buildImageRegistry',
  'gcEtcdRegistry',
  'gcRegistry',
  'sigStorageRegistry',
  'privateRegistry',
  'dockerLibraryRegistry',
  'cloudProviderGcpRegistry',
]

/** Marks of tests that need a cloud, a switch or a cluster of their own, or hours. */
const NOT_ANYWHERE = /\[(Feature:|FeatureGate:|Alpha|Beta|Disruptive|Flaky|Slow)/

const MESSAGE_LINES_MAX = 4
const MESSAGE_BYTES_MAX = 600
/** Upstream's slowest test has 15 minutes; nothing of ours needs half of that. */
const TEST_MS_MAX = 8 * 60_000

export type SuiteOptions = {
  /** The folder with `e2e.test`. */
  programs: string
  kubectl: string
  kubeconfig: string
  /** Where the images are, such as `127.0.0.1:5000`. */
  registry: string
}

/** Upstream's `e2e.test`, one process for each test, so that one that hangs or crashes takes no other with it. */
export class UpstreamSuite {
  private readonly options: SuiteOptions

  constructor(options: SuiteOptions) {
    this.options = options
  }

  /** The names of all conformance tests that `focus` matches, or of those that are none and run anywhere. */
  async names(focus: RegExp, others: boolean, signal: AbortSignal): Promise<string[]> {
    const specs = await this.run(['--ginkgo.dry-run'], () => {}, signal)
    return specs
      .map(({ name }) => name)
      .filter((name) => name.includes('[Conformance]') !== others && !(others && NOT_ANYWHERE.test(name)))
      .filter((name) => focus.test(name))
      .toSorted()
  }

  /** Runs one test. `log` gets what it says. */
  async test(name: string, log: (text: string) => void, signal: AbortSignal): Promise<UpstreamResult> {
    const specs = await this.run([`--ginkgo.focus=${escapeRegExp(name)}$`], log, signal)
    const spec = specs.find((each) => each.name === name)
    if (spec?.state === 'passed') return { name, outcome: 'passed' }
    // The others are skipped too, but they do not say why.
    if (spec?.state === 'skipped' && spec.message !== '') return { name, outcome: 'skipped' }
    return { name, outcome: 'failed', message: this.shorten(spec?.message ?? '') || 'It came to no end.' }
  }

  /** What an error says, without Go's way of printing what it is made of, and what is different in each run. */
  private shorten(failure: string): string {
    const { kubectl, kubeconfig, registry } = this.options
    const [, said] = /\bMessage: ("(?:[^"\\]|\\.)*")/.exec(failure) ?? []
    const lines = failure
      .split('\n')
      .filter((line) => !/^\s*$|^occurred$|^ {4}[<{}]|^ {8}/.test(line))
      .map((line) => line.trim())
    const text = said === undefined ? lines.slice(0, MESSAGE_LINES_MAX) : [lines[0], unquote(said)]
    return text
      .join(' ')
      .replaceAll(kubectl, 'kubectl')
      .replaceAll(kubeconfig, 'KUBECONFIG')
      .replaceAll(registry, 'REGISTRY')
      .replace(/^[A-Z][a-z]{2} +\d+ [\d:.]+: /, '')
      .replaceAll(/\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b0xc[0-9a-f]+\b/g, '…')
      .slice(0, MESSAGE_BYTES_MAX)
  }

  private async run(
    flags: readonly string[],
    log: (text: string) => void,
    signal: AbortSignal,
  ): Promise<Spec[]> {
    const { programs, kubectl, kubeconfig, registry } = this.options
    const dir = await mkdtemp(join(tmpdir(), 'bulkhead-e2e-'))
    try {
      const repositories = join(dir, 'repositories.yaml')
      await writeFile(
        repositories,
        [
          ...REGISTRIES.map((key) => `${key}: ${registry}`),
          `invalidRegistry: invalid.registry.invalid/invalid`,
          '',
        ].join('\n'),
      )
      const report = join(dir, 'report.json')
      const child = spawn(
        join(programs, 'e2e.test'),
        [
          `--kubeconfig=${kubeconfig}`,
          `--kubectl-path=${kubectl}`,
          '--provider=skeleton',
          '--num-nodes=1',
          '--disable-log-dump',
          '--dump-logs-on-failure=false',
          '--node-schedulable-timeout=1m',
          '--system-pods-startup-timeout=1m',
          '--system-daemonsets-startup-timeout=1m',
          `--e2e-output-dir=${dir}`,
          `--ginkgo.json-report=${report}`,
          '--ginkgo.no-color',
          ...flags,
        ],
        {
          cwd: dir,
          env: { PATH: process.env['PATH'], HOME: dir, KUBE_TEST_REPO_LIST: repositories },
          stdio: ['ignore', 'pipe', 'pipe'],
        },
      )
      child.stdout.on('data', (chunk: Buffer) => log(chunk.toString()))
      child.stderr.on('data', (chunk: Buffer) => log(chunk.toString()))
      const end = () => child.kill('SIGKILL')
      const deadline = setTimeout(end, TEST_MS_MAX)
      signal.addEventListener('abort', end, { once: true })
      await new Promise((resolve, reject) => {
        child.once('error', reject)
        child.once('close', resolve)
      }).finally(() => {
        clearTimeout(deadline)
        signal.removeEventListener('abort', end)
      })
      return await readSpecs(report)
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  }
}

type Spec = { name: string; state: string; message: string }

/** What ginkgo reports of all tests there are, also of those that were not run; nothing when it was ended. */
async function readSpecs(file: string): Promise<Spec[]> {
  if (!existsSync(file)) return []
  const suites = JSON.parse(await readFile(file, 'utf8')) as {
    SpecReports: {
      ContainerHierarchyTexts: readonly string[] | null
      LeafNodeType: string
      LeafNodeText: string
      State: string
      Failure?: { Message?: string; ForwardedPanic?: string }
    }[]
  }[]
  const reports = suites.flatMap(({ SpecReports }) => SpecReports)
  const failedBefore = reports.find(({ LeafNodeType, State }) => LeafNodeType !== 'It' && State === 'failed')
  return reports
    .filter(({ LeafNodeType }) => LeafNodeType === 'It')
    .map(({ ContainerHierarchyTexts, LeafNodeText, State, Failure = failedBefore?.Failure }) => ({
      name: [...(ContainerHierarchyTexts ?? []), LeafNodeText].join(' '),
      state: failedBefore === undefined ? State : failedBefore.State,
      message: `${Failure?.Message ?? ''} ${Failure?.ForwardedPanic ?? ''}`.trim(),
    }))
}

/** Of a string in quotes as Go prints it, which is JSON but for rare escapes. */
function unquote(quoted: string): string {
  try {
    return String(JSON.parse(quoted))
  } catch {
    return quoted
  }
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`)
}
