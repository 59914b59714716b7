import { styleText } from 'node:util'
import type { Attack, Outcome } from './attack.ts'
import { EXPECTED_LAYERS } from './catalogue/expected-layers.ts'
import type { Result } from './run-attacks.ts'

const COLUMNS = 80

// oxlint-disable-next-line no-control-regex -- finding them is the point
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g

/** Evidence quotes what tenants wrote; none of it may move the cursor or forge a line. */
export function plain(text: string): string {
  return text.replace(UNPRINTABLE, '\ufffd')
}

const WORD: Record<Outcome['kind'], string> = { blocked: 'blocked', escaped: 'ESCAPED', untried: 'UNTRIED' }

/** One attack that was tried, in lines of 80 columns. */
export function renderResult(result: Result, { colours = false, verbose = false } = {}): string {
  const { outcome, id, title, attacker, victim } = result
  const word = paint(outcome.kind, WORD[outcome.kind], colours)
  const head = `${word}  ${id}`
  const odd = result.unexpected === undefined ? '' : `; not expected: ${result.unexpected.join(', ')}`
  const by = outcome.kind === 'blocked' ? `by ${outcome.by}${odd}` : ''
  const why = outcome.kind === 'untried' ? outcome.why : outcome.evidence
  const lines = [head, ...wrap(by, 9)]
  if (verbose || outcome.kind !== 'blocked') {
    lines.push(
      ...wrap(`${attacker.isolationClass} attacks ${victim.isolationClass}: ${title}`, 9),
      ...wrap(why, 9),
    )
    if (result.control !== undefined) lines.push(...wrap(`control: ${result.control}`, 9))
    if (result.replays !== undefined) lines.push(...wrap(`replays ${result.replays}`, 9))
  }
  return lines.join('\n')
}

export function renderSummary(results: readonly Result[], { colours = false } = {}): string {
  const count = (kind: Outcome['kind']) => results.filter(({ outcome }) => outcome.kind === kind).length
  const vectors = [...new Set(results.map(({ vector }) => vector))]
  const table = vectors.map((vector) => {
    const of = results.filter((result) => result.vector === vector)
    const cell = (kind: Outcome['kind']) =>
      String(of.filter(({ outcome }) => outcome.kind === kind).length).padStart(8)
    return `${vector.padEnd(28)}${cell('blocked')}${cell('escaped')}${cell('untried')}`
  })
  const open = results.filter(({ outcome }) => outcome.kind !== 'blocked')
  return [
    `${'VECTOR'.padEnd(28)} BLOCKED ESCAPED UNTRIED`,
    ...table,
    '',
    ...open.flatMap((result) => [renderResult(result, { colours, verbose: true }), '']),
    paint(
      count('escaped') > 0 ? 'escaped' : 'blocked',
      `${results.length} attempts: ${count('blocked')} blocked, ${count('escaped')} escaped, ${count('untried')} could not be tried`,
      colours,
    ),
  ].join('\n')
}

/** What there is to try. */
export function renderCatalogue(attacks: readonly Attack[]): string {
  return [
    ...attacks.flatMap(({ id, title, family, vector, replays }) => [
      `${id}  (${family}; ${vector})`,
      ...wrap(title, 4),
      ...(replays === undefined ? [] : wrap(`replays ${replays}`, 4)),
    ]),
    '',
    `${attacks.length} attacks`,
  ].join('\n')
}

/** docs/attacks.md: the catalogue, with how each ended the last time. */
export function renderMarkdown(
  attacks: readonly Attack[],
  results: readonly Result[],
  about: string,
): string {
  const cell = (text: string) => plain(text).replaceAll('|', '\\|').replaceAll('<', '&lt;')
  const ended = (id: string) => {
    const of = results.filter((result) => result.id === id)
    const worst =
      of.find(({ outcome }) => outcome.kind === 'escaped') ??
      of.find(({ outcome }) => outcome.kind === 'untried') ??
      of.find(({ unexpected }) => unexpected !== undefined) ??
      of[0]
    if (worst === undefined) return 'not tried'
    const { outcome } = worst
    return outcome.kind === 'blocked'
      ? `blocked${worst.unexpected === undefined ? '' : `, but by ${worst.unexpected.join(', ')}`}`
      : outcome.kind === 'escaped'
        ? `**escaped**: ${outcome.evidence}`
        : `untried: ${outcome.why}`
  }
  const families = [...new Set(attacks.map(({ family }) => family))]
  const failures = publishedFailures(attacks)
  return [
    '# Attacks',
    '',
    '`bulkhead attack` makes these for real, between two throwaway tenants in both directions, each after a control that shows',
    'that the same action works where it is allowed. This page is what `bulkhead attack --format markdown` prints.',
    'The layers expected are those that were seen to refuse an attack between tenants of all classes; a run in which another one',
    'does says so, because an attack that an accident stops shows nothing.',
    '',
    about,
    '',
    ...families.flatMap((family) => [
      `## ${family}`,
      '',
      '| attack | what the attacker does | vector | replays | layers expected | last outcome |',
      '|---|---|---|---|---|---|',
      ...attacks
        .filter((attack) => attack.family === family)
        .map(
          ({ id, title, vector, replays = '' }) =>
            `| \`${id}\` | ${cell(title)} | ${vector} | ${cell(replays)} | ${cell((EXPECTED_LAYERS[id] ?? []).join(', '))} | ${cell(ended(id))} |`,
        ),
      '',
    ]),
    '## By published failure',
    '',
    'What went wrong elsewhere, and which attacks try it here, in the terms of this platform.',
    '',
    '| failure | what happened there | attacks |',
    '|---|---|---|',
    ...failures.map(
      ({ cve, happened, ids }) =>
        `| ${cve} | ${cell(happened)} | ${ids.map((id) => `\`${id}\``).join(', ')} |`,
    ),
  ]
    .join('\n')
    .trimEnd()
}

/** Every CVE that an attack names, oldest first, with the words of the first attack that does. */
export function publishedFailures(
  attacks: readonly Attack[],
): { cve: string; happened: string; ids: string[] }[] {
  const failures = new Map<string, { cve: string; happened: string; ids: string[] }>()
  for (const { id, replays = '' } of attacks)
    for (const [cve] of replays.matchAll(/CVE-\d{4}-\d{4,7}/g)) {
      const known = failures.get(cve) ?? { cve, happened: replays, ids: [] }
      if (!known.ids.includes(id)) known.ids.push(id)
      failures.set(cve, known)
    }
  const order = ({ cve }: { cve: string }) =>
    cve
      .split('-')
      .map((part) => part.padStart(8, '0'))
      .join()
  return [...failures.values()].toSorted((a, b) => (order(a) < order(b) ? -1 : 1))
}

function wrap(text: string, indent: number): string[] {
  const lines: string[] = []
  for (const word of plain(text).split(/\s+/).filter(Boolean)) {
    const last = lines.at(-1)
    if (last !== undefined && indent + last.length + 1 + word.length <= COLUMNS)
      lines[lines.length - 1] = `${last} ${word}`
    else lines.push(...pieces(word, COLUMNS - indent))
  }
  return lines.map((line) => ' '.repeat(indent) + line)
}

/** A word that is longer than a line. */
function pieces(word: string, charsMax: number): string[] {
  return Array.from({ length: Math.ceil(word.length / charsMax) }, (_, i) =>
    word.slice(i * charsMax, (i + 1) * charsMax),
  )
}

function paint(kind: Outcome['kind'], text: string, colours: boolean): string {
  if (!colours) return text
  const style = kind === 'blocked' ? 'green' : kind === 'escaped' ? 'red' : 'yellow'
  return styleText([style, 'bold'], text, { validateStream: false })
}
