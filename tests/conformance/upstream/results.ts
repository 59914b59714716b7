import { existsSync, readFileSync, writeFileSync } from 'node:fs'

/** What became of one of upstream's tests when it was run: a line of RESULTS_FILE. */
export type UpstreamResult = {
  name: string
  /** `skipped` when the test itself finds that it has no place here. */
  outcome: 'passed' | 'failed' | 'skipped'
  /** The first lines of why it failed. */
  message?: string
}

export const RESULTS_FILE = 'tests/conformance/testdata/upstream-1.20.2.jsonl'
const FILE = new URL('../testdata/upstream-1.20.2.jsonl', import.meta.url)

export function readResults(): UpstreamResult[] {
  if (!existsSync(FILE)) return []
  return readFileSync(FILE, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as UpstreamResult)
}

/** In place of what was known about the same test. */
export function saveResult(result: UpstreamResult): void {
  const others = readResults().filter(({ name }) => name !== result.name)
  const lines = [...others, result]
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map((each) => JSON.stringify(each))
  writeFileSync(FILE, `${lines.join('\n')}\n`)
}

export function renderResults(results: readonly UpstreamResult[]): string {
  const groups = Map.groupBy(results, ({ name }) => /^\[([^\]]+)\]/.exec(name)?.[1] ?? '')
  const rows = [...groups].toSorted().map(([group, ofGroup]) => {
    const passed = ofGroup.filter(({ outcome }) => outcome === 'passed').length
    return `${group.padEnd(24)}${String(passed).padStart(4)} of ${String(ofGroup.length).padStart(3)} passed`
  })
  return ['', ...rows].join('\n')
}
