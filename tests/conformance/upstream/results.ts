import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'

/** `skipped` when the test itself finds that it has no place here. */
export type Outcome = 'passed' | 'failed' | 'skipped'

/** What became of one of upstream's tests when it was run: a line of one of RESULTS_FILES. */
export type UpstreamResult = {
  name: string
  outcome: Outcome
  /** The first lines of why it failed. */
  message?: string
}

/** What results are about: a tenant whose code runs on the machine's kernel, or on gVisor. */
export type TestedTrust = 'trusted' | 'untrusted'

/** Upstream's version of which the tests are. */
export const UPSTREAM_VERSION = '1.36.3'

export const RESULTS_FILES: Readonly<Record<TestedTrust, string>> = {
  trusted: `tests/conformance/testdata/upstream-${UPSTREAM_VERSION}.jsonl`,
  untrusted: `tests/conformance/testdata/upstream-${UPSTREAM_VERSION}-untrusted.jsonl`,
}

/** The names of all conformance tests of that version. */
export function readNames(): string[] {
  return readFileSync(new URL('../testdata/conformance-names-1.36.txt', import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
}

function fileOf(trust: TestedTrust): URL {
  return new URL(`../../../${RESULTS_FILES[trust]}`, import.meta.url)
}

export function readResults(trust: TestedTrust): UpstreamResult[] {
  const file = fileOf(trust)
  if (!existsSync(file)) return []
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as UpstreamResult)
}

/** In place of what was known about the same test. */
export function saveResult(trust: TestedTrust, result: UpstreamResult): void {
  const others = readResults(trust).filter(({ name }) => name !== result.name)
  const lines = [...others, result]
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map((each) => JSON.stringify(each))
  // Another run may read it at this moment.
  const part = new URL(`${fileOf(trust).href}.${process.pid}`)
  writeFileSync(part, `${lines.join('\n')}\n`)
  renameSync(part, fileOf(trust))
}

export function renderResults(results: readonly UpstreamResult[]): string {
  const groups = Map.groupBy(results, ({ name }) => /^\[([^\]]+)\]/.exec(name)?.[1] ?? '')
  const rows = [...groups].toSorted().map(([group, ofGroup]) => {
    const passed = ofGroup.filter(({ outcome }) => outcome === 'passed').length
    return `${group.padEnd(24)}${String(passed).padStart(4)} of ${String(ofGroup.length).padStart(3)} passed`
  })
  return ['', ...rows].join('\n')
}
