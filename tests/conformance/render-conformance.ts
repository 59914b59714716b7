import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { NEEDED, VERDICTS, type Verdict } from './conformance-verdicts.ts'
import { type Reason, reasonOf } from './upstream/reasons.ts'
import { readResults, RESULTS_FILE, type UpstreamResult } from './upstream/results.ts'

const PREFACE = `# Conformance

Upstream's conformance tests of Kubernetes 1.32 by name, and what becomes of each. Those of 1.32 have not been run here, but those of
1.20 have: **✓** means that upstream's own test of that name, as it was in 1.20, has passed against a tenant. **Supported** means that
tests of ours, named with it, show the behaviour, often of its parts and not from end to end; **refused** that a safe platform must not
do it; **missing** that it is not built, or that no test of ours shows it. Some of the supported ones make use of what is refused here to
get where they want; that is said with them, because as they are written they would fail.
\`node tests/conformance/render-conformance.ts\` prints this page from \`tests/conformance/conformance-verdicts.ts\` and from what was
seen of upstream's tests, and a test keeps the two equal.

## Upstream's own tests

\`tools/upstream-conformance --programs DIR\` makes a platform with a tenant and runs upstream's tests against it, with the tenant's own
kubeconfig; \`--help\` says what else. \`DIR\` holds programs that are built from Debian's source package \`kubernetes\` (1.20.2) with Go
1.19, and nothing of it is in this repository:

    apt-get source kubernetes && cd kubernetes-*
    make WHAT='test/e2e/e2e.test cmd/kubectl' && cp _output/bin/e2e.test _output/bin/kubectl DIR
    cd _output/local/go/src/k8s.io/kubernetes/test/images
    export GO111MODULE=off CGO_ENABLED=0 GOPATH=\${PWD%/src/k8s.io/*}
    go build -o DIR/agnhost ./agnhost
    go build -o DIR/nnp ./nonewprivs
    go build -o DIR/consumer ./resource-consumer
    go build -o DIR/consume-cpu ./resource-consumer/consume-cpu
    go build -o DIR/regression-issue-74839 ./regression-issue-74839

Shells, curl, dig and web servers of the images come from Debian's packages instead. \`--save\` writes what becomes of each test into
\`${RESULTS_FILE}\`, with what it said when it failed; \`tests/conformance/upstream/reasons.ts\` says why. The tenant of these is trusted, on the machine's
kernel. With an untrusted one, on gVisor, 98 of the tests of pods, workloads and the network have been run: they ended alike, but
that the one of a pod whose image changes passed, and that gVisor forbids a network device in other words than a test looks for.
`

/** A name without what changed between versions: the group, marks in brackets, and spaces. */
function coreOf(name: string): string {
  return name
    .replace(/^\[[^\]]+\]/, '')
    .replaceAll(/\[[^\]]*\]/g, ' ')
    .replaceAll(/\s+/g, ' ')
    .trim()
}

export const RESULTS: readonly UpstreamResult[] = readResults()
const PASSED: ReadonlySet<string> = new Set(
  RESULTS.filter(({ name, outcome }) => outcome === 'passed' && !reasonOf(name)).map(({ name }) =>
    coreOf(name),
  ),
)

/** Whether upstream's own test of 1.20 has passed here, and says something by it. */
export function hasPassed(name: string): boolean {
  return PASSED.has(coreOf(name))
}

function readNames(file: string): string[] {
  return readFileSync(join(import.meta.dirname, 'testdata', file), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
}

export const NAMES = readNames('conformance-names-1.32.txt')
/** Those that upstream's server passes without a single real container. */
export const API_ONLY = readNames('conformance-api-only-1.32.txt')

export function verdictOf(name: string): Verdict | undefined {
  return VERDICTS.find(({ names }) => names.some((words) => name.includes(words)))
}

function isSupported(name: string): boolean {
  const verdict = verdictOf(name)
  return verdict !== undefined && 'supported' in verdict
}

/** What is refused here and a supported test makes use of. */
export function neededBy(name: string): string | undefined {
  return NEEDED.find(({ names }) => names.some((words) => name.includes(words)))?.what
}

function share(names: readonly string[]): string {
  const supported = names.filter(isSupported).length
  return `${supported} of ${names.length} (${Math.floor((supported * 100) / names.length)} %)`
}

function renderVerdict(verdict: Verdict): string {
  if ('refused' in verdict) return `**refused**: ${verdict.refused}`
  if ('missing' in verdict) return `**missing**: ${verdict.missing}`
  return `supported: ${verdict.supported.map(([file, test]) => `\`${file}\` “${test}”`).join(', ')}`
}

export function renderConformance(): string {
  const passed = NAMES.filter(hasPassed).length
  const refused = NAMES.filter((name) => 'refused' in (verdictOf(name) ?? {})).length
  let text = `${PREFACE}
${renderResults()}
## By name
${''}
- Supported: ${share(NAMES)}; of those that need no container: ${share(API_ONLY)}.
- Passed as upstream's own test of 1.20 (✓): ${passed}.
- As they are written, ${NAMES.filter((name) => neededBy(name) !== undefined).length} of the supported ones need something that is refused.
- Refused on purpose: ${refused}. Missing: ${NAMES.filter((name) => 'missing' in (verdictOf(name) ?? {})).length}.
`
  const groups = Map.groupBy(NAMES, (name) => /^\[([^\]]+)\]/.exec(name)?.[1] ?? '')
  for (const [group, names] of groups) {
    text += `\n## ${group}\n\n`
    for (const [verdict, ofVerdict] of Map.groupBy(names, verdictOf)) {
      if (!verdict) throw new Error(`Nothing is said about ${ofVerdict[0]}`)
      text += `- ${renderVerdict(verdict)}\n`
      for (const name of ofVerdict) {
        const needed = neededBy(name)
        text += `  - ${hasPassed(name) ? '✓ ' : ''}${shortName(name)}${needed === undefined ? '' : ` *(needs ${needed})*`}\n`
      }
    }
  }
  return text
}

function renderResults(): string {
  const others = RESULTS.filter(({ name, outcome }) => outcome === 'failed' || reasonOf(name))
  let text = `Of the 311 conformance tests of 1.20.2 these have been run: ${RESULTS.length}. Passed: ${RESULTS.length - others.length}.\n\n`
  for (const [reason, results] of Map.groupBy(others, ({ name }) => reasonOf(name))) {
    if (!reason) throw new Error(`Nothing is said about ${results[0]?.name}`)
    text += `- ${renderReason(reason)}\n`
    for (const { name } of results) text += `  - ${shortName(name)}\n`
  }
  return text
}

function renderReason(reason: Reason): string {
  if ('refused' in reason) return `**refused**: ${reason.refused}`
  if ('retired' in reason) return `retired upstream: ${reason.retired}`
  if ('hollow' in reason) return `passes without saying anything: ${reason.hollow}`
  return `**missing**: ${reason.missing}`
}

/** Without what all names have, and without angle brackets, which would be taken for markup. */
function shortName(name: string): string {
  return name
    .replace(/^\[[^\]]+\] /, '')
    .replace(/ ?\[(Conformance|NodeConformance|LinuxOnly|Slow|Serial|Privileged:ClusterAdmin)\]/g, '')
    .replaceAll('*', '\\*')
}

if (import.meta.main) process.stdout.write(renderConformance())
