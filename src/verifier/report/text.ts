import { styleText } from 'node:util'
import type { PairGroup, VectorReport, VectorState } from '../proof.ts'
import type { Report } from '../verify.ts'
import { VECTOR_NAMES } from '../vectors.ts'
import { ATTACKS } from '../attacks.ts'
import { grantText, pairText, plain, waiverText, whoText } from './words.ts'

type Paint = (format: Parameters<typeof styleText>[0], text: string) => string

const PAIR_COLUMNS = 22
const WORDS: Record<VectorState, string> = { holds: 'ok', fails: 'FAIL', open: 'open', absent: 'absent' }

/** The report for a terminal of 80 columns. Says everything in words too, so that it reads the same without colours. */
export function renderReport(report: Report, { colours }: { colours: boolean }): string {
  const paint: Paint = (format, text) => (colours ? styleText(format, text, { validateStream: false }) : text)
  return [
    `Observed at ${report.observedAt}`,
    ...report.tenants
      .slice(0, 50)
      .map(
        ({ name, isolationClass, pods, processes }) =>
          `  tenant ${plain(name)}: class ${plain(isolationClass)}, ${pods} pods, ${processes} processes`,
      ),
    ...(report.tenants.length > 50 ? [`  and ${report.tenants.length - 50} more`] : []),
    '',
    ...matrix(report, paint),
    ...report.groups.flatMap((group) => ['', ...details(group, paint)]),
    ...section('Opened on purpose', report.grants.map(grantText), paint),
    ...section('Waived', report.waivers.map(waiverText), paint),
    ...section('Shared between tenants', report.shared, paint),
    ...section(paint(['red', 'bold'], 'Findings'), report.findings, paint),
    '',
    conclusion(report, paint),
  ].join('\n')
}

/** Independent layers of every vector, a row for each kind of pair. */
function matrix({ groups }: Report, paint: Paint): string[] {
  if (groups.length === 0) return ['There are no two tenants to be kept apart.']
  const cell = ({ state, independent }: VectorReport) => {
    const text = {
      holds: ` ${independent}`,
      fails: `!${independent}`,
      open: `~${independent}`,
      absent: ' .',
    }[state]
    const padded = text.padStart(2).padEnd(2)
    return {
      holds: paint('green', padded),
      fails: paint(['red', 'bold'], padded),
      open: paint('yellow', padded),
      absent: padded,
    }[state]
  }
  const digits = (digit: (number: number) => string) =>
    VECTOR_NAMES.map((_, at) => digit(at + 1).padStart(2)).join('')
  const half = Math.ceil(VECTOR_NAMES.length / 2)
  const key = VECTOR_NAMES.slice(0, half).map((name, at) => {
    const other = VECTOR_NAMES[at + half]
    const left = `${String(at + 1).padStart(4)} ${name}`
    return other === undefined ? left : `${left.padEnd(40)}${String(at + half + 1).padStart(4)} ${other}`
  })
  return [
    paint('bold', 'Independent layers between tenants, by vector'),
    `${' '.repeat(PAIR_COLUMNS)}${digits((number) => (number < 10 ? '' : String(Math.floor(number / 10))))}`,
    `${' '.repeat(PAIR_COLUMNS)}${digits((number) => String(number % 10))}`,
    ...groups.map((group) => {
      const pair = pairText(group)
      const short = pair.length <= PAIR_COLUMNS - 1 ? pair : `${pair.slice(0, PAIR_COLUMNS - 2)}…`
      return `${short.padEnd(PAIR_COLUMNS)}${group.vectors.map(cell).join('')}`
    }),
    '',
    ...key,
    '     2 or more: proven   ~ known to have fewer   ! a layer is missing   . none here',
  ]
}

function details(group: PairGroup, paint: Paint): string[] {
  const { example, pairs } = group
  return [
    paint('bold', pairText(group)) +
      (pairs > 1
        ? ` (${pairs} pairs; seen from ${plain(example.attacker)} to ${plain(example.victim)})`
        : ''),
    ...(whoText(group) === undefined ? [] : [`  ${whoText(group)}`]),
    ...group.vectors.flatMap(({ vector, state, independent, note, waiver, layers }) => [
      `  ${paintState(state, WORDS[state].padEnd(6), paint)} ${vector}: ${independent} independent ${independent === 1 ? 'layer' : 'layers'}${note === undefined ? '' : ` (${note})`}`,
      ...(waiver === undefined ? [] : [`         waived: ${plain(waiver)}`]),
      ...layers.map(
        ({ layer, holds, evidence }) =>
          `         ${holds ? '+' : paint('red', '-')} ${layer}: ${plain(evidence.join('; '))}`,
      ),
      ...(ATTACKS[vector].length === 0
        ? []
        : [`         tried by bulkhead attack: ${ATTACKS[vector].join(', ')}`]),
    ]),
  ]
}

function paintState(state: VectorState, text: string, paint: Paint): string {
  const format = { holds: 'green', fails: ['red', 'bold'], open: 'yellow', absent: 'gray' } as const
  return paint(format[state] as Parameters<typeof styleText>[0], text)
}

function section(title: string, lines: readonly string[], paint: Paint): string[] {
  return lines.length === 0 ? [] : ['', paint('bold', title), ...lines.map((line) => `  ${plain(line)}`)]
}

function conclusion(report: Report, paint: Paint): string {
  const states = report.groups.flatMap(({ vectors }) => vectors)
  const open = [...new Set(states.filter(({ state }) => state === 'open').map(({ vector }) => vector))]
  const missing = states.filter(({ state }) => state === 'fails').length
  return report.ok
    ? paint(
        'green',
        `Every vector has at least two independent layers${open.length === 0 ? '' : `, but for those known to be open: ${open.join(', ')}`}.`,
      )
    : paint(
        ['red', 'bold'],
        `NOT PROVEN: ${missing} vectors lack a layer, ${report.findings.length} findings.`,
      )
}
