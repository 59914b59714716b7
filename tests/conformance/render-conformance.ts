import { type Reason, reasonOf } from './upstream/reasons.ts'
import {
  type Outcome,
  readNames,
  readResults,
  RESULTS_FILES,
  type TestedTrust,
  UPSTREAM_VERSION,
  type UpstreamResult,
} from './upstream/results.ts'

const PREFACE = `# Conformance

What became of upstream's own conformance tests of Kubernetes ${UPSTREAM_VERSION} when they were run against a tenant, as they are written and with
the tenant's own kubeconfig. **Refused** means that a test does what a safe platform must not do, or makes use of it on its way to
something else; **missing** that it is not built. \`node tests/conformance/render-conformance.ts\` prints this page from what was seen, and a
test keeps the two equal.
`

const HOW = `## How to repeat it

\`tools/upstream-programs DIR\` builds the tests, kubectl and the programs of their images from upstream's modules with Go; nothing of it is in
this repository. Shells, curl, dig and web servers of the images come from Debian's packages instead. \`tools/upstream-conformance --programs
DIR\` makes a platform with a tenant and runs the tests against it, each in a process of its own; \`--help\` says what else. \`--save\` writes
what becomes of each into \`${RESULTS_FILES.trusted}\`, with what it said when it failed;
\`tests/conformance/upstream/reasons.ts\` says why.

All tests that upstream calls conformance are counted, also those that no tenant of a safe platform can pass; so this is no certified
distribution, and does not mean to become one.
`

export const NAMES: readonly string[] = readNames()
export const RESULTS: Readonly<Record<TestedTrust, readonly UpstreamResult[]>> = {
  trusted: readResults('trusted'),
  untrusted: readResults('untrusted'),
}

type Verdict = 'passed' | 'refused' | 'missing' | 'not run'

function verdictOf(trust: TestedTrust, name: string): Verdict {
  const outcome = outcomes[trust].get(name)
  if (outcome === undefined) return 'not run'
  const reason = reasonOf(trust, name)
  if (reason === undefined) {
    if (outcome === 'passed') return 'passed'
    throw new Error(`Nothing is said about ${name}`)
  }
  return 'missing' in reason ? 'missing' : 'refused'
}

const outcomes: Readonly<Record<TestedTrust, ReadonlyMap<string, Outcome>>> = {
  trusted: new Map(RESULTS.trusted.map(({ name, outcome }) => [name, outcome])),
  untrusted: new Map(RESULTS.untrusted.map(({ name, outcome }) => [name, outcome])),
}

export function renderConformance(): string {
  const of = (verdict: Verdict) => NAMES.filter((name) => verdictOf('trusted', name) === verdict)
  const notRun = of('not run')
  return [
    PREFACE,
    renderTable(),
    HOW,
    '## What does not pass, and why\n',
    'The tenant is trusted, on the machine’s kernel.\n',
    renderReasons([...of('refused'), ...of('missing')]),
    renderUntrusted(),
    ...(notRun.length === 0 ? [] : [`## Not run yet\n\n${renderNames(notRun)}`]),
    `## What passes\n\n${renderNames(of('passed'))}`,
  ].join('\n')
}

const COLUMNS = ['passed', 'refused', 'missing', 'not run'] as const

function renderTable(): string {
  const row = (group: string, names: readonly string[]) => {
    const counts = COLUMNS.map(
      (verdict) => names.filter((name) => verdictOf('trusted', name) === verdict).length,
    )
    return `| ${[group, names.length, ...counts].join(' | ')} |`
  }
  const passed = NAMES.filter((name) => verdictOf('trusted', name) === 'passed').length
  return `| | tests | ${COLUMNS.join(' | ')} |
|---|---|${COLUMNS.map(() => '---').join('|')}|
${byGroup(NAMES)
  .map(([group, names]) => row(group, names))
  .join('\n')}
${row('all', NAMES)}

Of those that were run ${Math.floor((passed * 100) / RESULTS.trusted.length)} % passed.
`
}

function renderReasons(names: readonly string[]): string {
  let text = ''
  for (const [reason, ofReason] of Map.groupBy(names, (name) => reasonOf('trusted', name))) {
    if (!reason) throw new Error(`Nothing is said about ${ofReason[0]}`)
    text += `- ${renderReason(reason)}\n`
    for (const name of ofReason) text += `  - ${shortName(name)}\n`
  }
  return text
}

function renderReason(reason: Reason): string {
  if ('refused' in reason) {
    const shown = reason.shown?.map(([file, test]) => `\`${file}\` “${test}”`).join(', ')
    return `**refused**: ${reason.refused}${shown === undefined ? '' : `. What it is about is shown by ${shown}`}`
  }
  return 'hollow' in reason
    ? `passes without saying anything: ${reason.hollow}`
    : `**missing**: ${reason.missing}`
}

/** What is otherwise on gVisor. */
function renderUntrusted(): string {
  const { untrusted } = RESULTS
  if (untrusted.length === 0) return ''
  const other = untrusted.filter(({ name }) => verdictOf('untrusted', name) !== verdictOf('trusted', name))
  const said = other.map(({ name }) => {
    const reason = reasonOf('untrusted', name)
    return `- ${shortName(name)}: ${reason === undefined ? 'passes there' : renderReason(reason)}\n`
  })
  return `## With an untrusted tenant

On gVisor ${untrusted.length} of the tests of pods, workloads, the network and volumes have been run. ${
    other.length === 0 ? 'All ended alike.' : `All but ${other.length} ended alike:`
  }

${said.join('')}`
}

function byGroup(names: readonly string[]): [string, string[]][] {
  return [...Map.groupBy(names, (name) => /^\[([^\]]+)\]/.exec(name)?.[1] ?? '')]
}

function renderNames(names: readonly string[]): string {
  return byGroup(names)
    .map(([group, ofGroup]) => `### ${group}\n\n${ofGroup.map((name) => `- ${shortName(name)}\n`).join('')}`)
    .join('\n')
}

/** Without what all names have, and without what would be taken for markup. */
function shortName(name: string): string {
  return name
    .replace(/^\[[^\]]+\] /, '')
    .replaceAll(
      / ?\[(Conformance|NodeConformance|LinuxOnly|Slow|Serial|Privileged:ClusterAdmin|MinimumKubeletVersion:[^\]]*)\]/g,
      '',
    )
    .replaceAll('*', String.raw`\*`)
}

if (import.meta.main) process.stdout.write(renderConformance())
