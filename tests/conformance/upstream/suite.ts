import { spawn } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { UpstreamResult } from './results.ts'

/** Registries by the names that upstream's `KUBE_TEST_REPO_LIST` gives them. All but the last are one here. */
const REGISTRIES: readonly string[] = [
  'gcAuthenticatedRegistry',
  'dockerLibraryRegistry',
  'dockerGluster',
  'e2eRegistry',
  'e2eVolumeRegistry',
  'promoterE2eRegistry',
  'buildImageRegistry',
  'gcRegistry',
  'sigStorageRegistry',
  'gcrReleaseRegistry',
  'privateRegistry',
  'sampleRegistry',
]

/** Marks of tests that need a cloud, a switch or a cluster of their own, or hours. */
const NOT_ANYWHERE = /\[(Feature:|Alpha|Disruptive|Flaky|Slow)/

const SKIPPED = 2
const PASSED = 3
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
    const specs = await this.run(['--ginkgo.dryRun', '--ginkgo.focus=.'], () => {}, signal)
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
    // The others are skipped too, but the focus has none of them as its name.
    if (spec?.state === SKIPPED) return { name, outcome: 'skipped' }
    if (spec?.state === PASSED) return { name, outcome: 'passed' }
    return { name, outcome: 'failed', message: spec ? this.shorten(spec.message) : 'It came to no end.' }
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
  ): Promise<{ name: string; state: number; message: string }[]> {
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
      const dump = join(dir, 'specs.jsonl')
      const child = spawn(
        join(programs, 'e2e.test'),
        [
          `--kubeconfig=${kubeconfig}`,
          `--kubectl-path=${kubectl}`,
          '--provider=skeleton',
          '--num-nodes=1',
          '--disable-log-dump',
          '--dump-logs-on-failure=false',
          // Service accounts have had no secrets since 1.24.
          '--e2e-verify-service-account=false',
          '--node-schedulable-timeout=1m',
          '--system-pods-startup-timeout=1m',
          '--system-daemonsets-startup-timeout=1m',
          `--spec-dump=${dump}`,
          `--e2e-output-dir=${dir}`,
          '--ginkgo.noColor',
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
      return await readSpecs(dump)
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  }
}

async function readSpecs(file: string): Promise<{ name: string; state: number; message: string }[]> {
  const specs: { name: string; state: number; message: string }[] = []
  for await (const line of createInterface({ input: createReadStream(file) })) {
    const spec = JSON.parse(line) as {
      ComponentTexts: readonly string[]
      State: number
      Failure: { Message: string; ForwardedPanic: string }
    }
    specs.push({
      name: spec.ComponentTexts.slice(1).join(' '),
      state: spec.State,
      message: `${spec.Failure.Message} ${spec.Failure.ForwardedPanic}`.trim(),
    })
  }
  return specs
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
