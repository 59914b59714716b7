import type { Result } from '../../src/attack/index.ts'
import { ELSEWHERE } from './ablations.ts'
import { type AblationRun, isAllOff } from './run.ts'

const EVIDENCE_CHARS_MAX = 140

/** docs/ablation.md: with which layer switched off, what stopped each attack. Pure. */
export function renderAblations(
  runs: readonly AblationRun[],
  { commit, machine }: { commit: string; machine: string },
): string {
  const whole = runs.find(({ ablation }) => ablation.off === NOTHING)?.results ?? []
  const tries = runs.reduce((sum, { results }) => sum + results.length, 0)
  return [
    '# Layers switched off',
    '',
    'Between two tenants there are at least two layers that no single mistake removes together. That is tried here: a copy of',
    'the platform is made that lacks one layer (by a change of its source; the platform itself has no switch for it), it is',
    'started on this machine, and the attacks of `bulkhead attack` that the layer stands against are made on it. The other layer',
    'has to stop them. Where all of them are taken away, the attack has to come through: it is a real one.',
    '',
    `This page is what \`tools/ablation --output docs/ablation.md\` prints: ${runs.length} copies of commit \`${commit}\`, ${tries} attacks, on ${machine}.`,
    '',
    ...summary(
      runs.filter(({ ablation }) => ablation.off !== NOTHING),
      whole,
    ),
    '## What was tried',
    '',
    ...runs.flatMap((ran) => section(ran, whole)),
  ]
    .join('\n')
    .trimEnd()
    .concat('\n')
}

const NOTHING = 'nothing'

/** The tables that say it all; everything below is what they are made from. */
function summary(runs: readonly AblationRun[], whole: readonly Result[]): string[] {
  const one = runs.filter(({ ablation }) => !isAllOff(ablation))
  const every = runs.filter(({ ablation }) => isAllOff(ablation))
  return [
    '## One layer off',
    '',
    ...table(
      ['vector', 'layer off', 'attacks', 'stopped by another than before', 'stopped by', 'came through'],
      one.map((ran) => {
        const rows = rowsOf(ran, whole)
        const moved = rows.filter(({ now, before }) => now.kind === 'blocked' && now.by !== before.by)
        const through = rows.filter(({ now }) => now.kind === 'escaped')
        return [
          vectorsOf(ran),
          linkTo(ran.ablation.off),
          String(rows.length),
          String(moved.length),
          ran.problem !== undefined
            ? '**not tried**'
            : layersOf(moved) || (layersOf(rows) === '' ? '–' : `as before: ${layersOf(rows)}`),
          through.length === 0 ? '–' : through.map(({ id }) => `\`${id}\``).join(', '),
        ]
      }),
    ),
    '“Stopped by” is about those that another layer stopped than with all of them, where there are any; the rest was stopped as',
    'with all of them. An attack in the last column is one that this layer alone stops; a table below says why that is accepted.',
    '',
    '## All layers off',
    '',
    ...table(
      ['vector', 'layers off', 'comes through, as it must', 'still stopped by something'],
      every.map((ran) => {
        const rows = rowsOf(ran, whole)
        const of = (kind: string) => rows.filter(({ now }) => now.kind === kind).map(({ id }) => `\`${id}\``)
        return [
          vectorsOf(ran),
          linkTo(ran.ablation.off),
          of('escaped').join(', ') || '**nothing**',
          of('blocked').length === 0 ? '–' : `${of('blocked').length} of ${rows.length}`,
        ]
      }),
    ),
    '## What one layer stops alone',
    '',
    ...table(
      ['attack', 'comes through without', 'why that is accepted'],
      one.flatMap((ran) =>
        rowsOf(ran, whole)
          .filter(({ now }) => now.kind === 'escaped')
          .map(({ id, accepted }) => [`\`${id}\``, linkTo(ran.ablation.off), accepted ?? '**it is not**']),
      ),
    ),
    '## Layers that are not switched off here',
    '',
    ...table(
      ['layer', 'where it is'],
      ELSEWHERE.map(({ layer, where }) => [layer, where]),
    ),
  ]
}

function vectorsOf({ results }: AblationRun): string {
  const vectors = [...new Set(results.map(({ vector }) => vector))]
  return vectors.length > VECTORS_SHOWN
    ? `${vectors.slice(0, VECTORS_SHOWN).join(', ')} and ${vectors.length - VECTORS_SHOWN} more`
    : vectors.join(', ')
}

const VECTORS_SHOWN = 3

/** The layers that stopped these, the most frequent first, with how many each. */
function layersOf(rows: readonly Row[]): string {
  const counts = new Map<string, number>()
  for (const { now } of rows)
    if (now.kind === 'blocked')
      for (const layer of now.by.split(', ')) counts.set(layer, (counts.get(layer) ?? 0) + 1)
  const often = [...counts].toSorted(([a, x], [b, y]) => y - x || a.localeCompare(b))
  return often
    .slice(0, LAYERS_SHOWN)
    .map(([layer, count]) => `${layer} (${count})`)
    .concat(often.length > LAYERS_SHOWN ? [`${often.length - LAYERS_SHOWN} more`] : [])
    .join(', ')
}

const LAYERS_SHOWN = 4

function section(ran: AblationRun, whole: readonly Result[]): string[] {
  const { ablation, problem } = ran
  const { off, how, classes } = ablation
  const isWhole = off === NOTHING
  const head = [
    `### ${isWhole ? 'With every layer' : titleOf(off)}`,
    '',
    `${sentence(how)}. Tenants: ${classes.replace(',', ' and ')}.`,
    '',
  ]
  if (problem !== undefined) return [...head, `**Not tried:** ${cell(problem)}`, '']
  const rows = rowsOf(ran, whole)
  const same = rows.filter(
    ({ now, before }) => !isWhole && now.kind === 'blocked' && before.by !== '' && now.by === before.by,
  )
  // Where nothing has changed the layer was not the first to stop it; one line says as much as many.
  const shown = rows.filter((row) => !same.includes(row))
  const lines = shown.map(({ id, vector, now, before, accepted }) => {
    const stopped =
      now.kind === 'blocked'
        ? now.by
        : now.kind === 'untried'
          ? `not tried: ${now.evidence}`
          : isAllOff(ablation)
            ? 'nobody: it comes through'
            : `**nobody**${accepted === undefined ? '' : `: ${accepted}`}`
    return [vector, `\`${id}\``, ...(isWhole ? [] : [before.by]), stopped, now.evidence]
  })
  const columns = isWhole
    ? ['vector', 'attack', 'stopped by', 'seen']
    : ['vector', 'attack', 'stopped before by', 'stopped now by', 'seen']
  return [
    ...head,
    ...(lines.length === 0 ? [] : folded(`${lines.length} attacks`, table(columns, lines))),
    ...(same.length === 0
      ? []
      : [`Stopped by the same as before: ${same.map(({ id }) => `\`${id}\``).join(', ')}.`, '']),
  ]
}

function folded(title: string, lines: readonly string[]): string[] {
  return ['<details>', `<summary>${title}</summary>`, '', ...lines, '</details>', '']
}

function table(columns: readonly string[], rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return ['None.', '']
  return [
    `| ${columns.join(' | ')} |`,
    `|${columns.map(() => '---').join('|')}|`,
    ...rows.map((row) => `| ${row.map(cell).join(' | ')} |`),
    '',
  ]
}

const titleOf = (off: string) => `Without: ${off}`

/** As renderers of Markdown name the headings of a page. */
function linkTo(off: string): string {
  const anchor = titleOf(off)
    .toLowerCase()
    .replaceAll(/[^a-z0-9 _-]/g, '')
    .replaceAll(' ', '-')
  return `[${off}](#${anchor})`
}

type Row = { id: string; vector: string; now: Ending; accepted: string | undefined; before: Ending }

function rowsOf({ ablation, results }: AblationRun, whole: readonly Result[]): Row[] {
  // A tenant on gVisor is stopped by other layers than one on the machine's kernel.
  const classes = new Set(results.map(({ attacker }) => attacker.isolationClass))
  return [...new Set(results.map(({ id }) => id))].map((id) => {
    const mine = results.filter((result) => result.id === id).map((result) => knowing(result, ablation.off))
    return {
      id,
      vector: mine[0]?.vector ?? '',
      now: ending(mine),
      accepted: ablation.accepted?.[id],
      before: ending(
        whole.filter((result) => result.id === id && classes.has(result.attacker.isolationClass)),
      ),
    }
  })
}

/** What cannot be told from an answer alone, and is told by what is off: then it is the other. */
const TOLD: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'system call filter': {
    'system call filter or user namespace': 'user namespace',
    'system call filter': 'inherited filter',
  },
  'system call filter and inherited filter': {
    'system call filter or user namespace': 'user namespace',
    'system call filter': "the machine's kernel, which has no such call",
  },
  no_new_privs: { no_new_privs: 'inherited no_new_privs' },
  'mount view': { 'mount view': 'what else is true of the mounts' },
  'mount view and own range of ids': { 'mount view': 'what else is true of the mounts' },
  'process view': { 'process view': 'pid namespace' },
  'router rules': {
    'router rules or link filter': 'link filter',
    'no path to the machine or router rules': 'no path to the machine or link filter',
    'router rules, link filter or reverse path': 'link filter or reverse path',
  },
  'reverse path': { 'router rules, link filter or reverse path': 'router rules or link filter' },
  'link filter': { 'router rules or link filter': 'router rules' },
  'no path to the machine': { 'no path to the machine or router rules': 'router rules or link filter' },
  'no path to the machine and router rules': {
    'no path to the machine or router rules': 'link filter',
    'router rules or link filter': 'link filter',
    'router rules': 'router rules for its own ports',
  },
  'uplink filter': { 'no path to the machine or router rules': 'router rules' },
  'router rules, with a way outside': {
    'no path to the machine or router rules': 'uplink filter or link filter',
    'router rules or link filter': 'link filter',
    'router rules': 'router rules for its own ports',
  },
  // The gateway passes on what it would refuse, so a 401 is the control plane's.
  'gateway binds to one tenant': { 'authentication at the gateway': 'control plane refuses strangers' },
  'tenant limit': { 'tenant limit or pod limits': 'pod limits' },
  'pod limits': { 'tenant limit or pod limits': 'tenant limit', 'pod limits': 'tenant limit' },
}

function knowing(result: Result, off: string): Result {
  const { outcome } = result
  const told = TOLD[off]
  if (outcome.kind !== 'blocked' || !told) return result
  const by =
    told[outcome.by] ??
    outcome.by
      .split(', ')
      .map((layer) => told[layer] ?? layer)
      .join(', ')
  return { ...result, outcome: { ...outcome, by: [...new Set(by.split(', '))].join(', ') } }
}

type Ending = { kind: Result['outcome']['kind'] | 'absent'; by: string; evidence: string }

/** Of all tries of one attack, the one that ended worst. */
function ending(results: readonly Result[]): Ending {
  const worst =
    results.find(({ outcome }) => outcome.kind === 'escaped') ??
    results.find(({ outcome }) => outcome.kind === 'blocked') ??
    results[0]
  if (worst === undefined) return { kind: 'absent', by: '', evidence: '' }
  const { outcome } = worst
  if (outcome.kind === 'untried') return { kind: 'untried', by: 'not tried', evidence: cut(outcome.why) }
  if (outcome.kind === 'escaped') return { kind: 'escaped', by: 'nobody', evidence: cut(outcome.evidence) }
  const layers = results.flatMap((r) => (r.outcome.kind === 'blocked' ? r.outcome.by.split(', ') : []))
  return { kind: 'blocked', by: [...new Set(layers)].join(', '), evidence: cut(outcome.evidence) }
}

/** Names of tenants and addresses are other ones in every run. */
function cut(text: string): string {
  const short = text.length > EVIDENCE_CHARS_MAX ? `${text.slice(0, EVIDENCE_CHARS_MAX)}…` : text
  return short.replaceAll(/canary-[0-9a-f]+/g, 'CANARY').replaceAll(/\b[a-z][0-9a-f]{8,}\b/g, 'NAME')
}

function cell(text: string): string {
  return text
    .replaceAll(/\p{Cc}/gu, ' ')
    .replaceAll('|', '\\|')
    .replaceAll('<', '&lt;')
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`
}
