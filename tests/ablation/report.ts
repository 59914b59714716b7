import type { Result } from '../../src/attack/index.ts'
import type { AblationRun } from './run.ts'

const EVIDENCE_CHARS_MAX = 140

/** docs/ablation.md: with which layer switched off, what stopped each attack. Pure. */
export function renderAblations(runs: readonly AblationRun[]): string {
  const whole = runs.find(({ ablation }) => ablation.edits.length === 0)
  return [
    '# Layers switched off',
    '',
    'Between two tenants there are at least two layers that no single mistake removes together. That is tried here: a copy of',
    'the platform is made that lacks one layer (by a change of its source; the platform itself has no switch for it), it is',
    'started on this machine, and the attacks of `bulkhead attack` that the layer stands against are made on it. The other layer',
    'has to stop them. Where both are taken away, the attack has to come through: it is a real one.',
    '',
    'This page is what `tools/ablation --output docs/ablation.md` prints. Real frames against the rules alone and the filters',
    'alone, forged addresses and hardware addresses included, are in `tests/isolation/network.test.ts`.',
    '',
    ...runs.flatMap((ran) => section(ran, whole?.results ?? [])),
  ]
    .join('\n')
    .trimEnd()
    .concat('\n')
}

function section({ ablation, results, problem }: AblationRun, whole: readonly Result[]): string[] {
  const { off, how, classes } = ablation
  const title = ablation.edits.length === 0 ? 'With every layer' : `Without: ${off}`
  const head = [`## ${title}`, '', `${sentence(how)}. Tenants: ${classes.replace(',', ' and ')}.`, '']
  if (problem !== undefined) return [...head, `**Not tried:** ${cell(problem)}`, '']
  const ids = [...new Set(results.map(({ id }) => id))]
  const rows = ids.map((id) => {
    const mine = results.filter((result) => result.id === id).map((result) => knowing(result, off))
    return {
      id,
      vector: mine[0]?.vector ?? '',
      now: ending(mine),
      accepted: ablation.accepted?.[id],
      before: ending(whole.filter((result) => result.id === id)),
    }
  })
  const blocked = rows.filter(({ now }) => now.kind === 'blocked')
  const same = blocked.filter(
    ({ now, before }) => whole.length > 0 && now.by === before.by && ablation.edits.length > 0,
  )
  // Where nothing has changed the layer was not the first to stop it; one line says as much as many.
  const shown = rows.filter((row) => !same.includes(row))
  const table = shown.map(({ id, vector, now, before, accepted }) => {
    const stopped =
      now.kind === 'blocked'
        ? now.by
        : now.kind === 'untried'
          ? `not tried: ${now.evidence}`
          : ablation.comesThrough?.includes(id)
            ? 'nobody: it comes through, as it must'
            : `**nobody**${accepted === undefined ? '' : `: ${accepted}`}`
    return `| ${vector} | \`${id}\` | ${ablation.edits.length === 0 ? '' : `${cell(before.by)} | `}${cell(stopped)} | ${cell(now.evidence)} |`
  })
  const columns =
    ablation.edits.length === 0
      ? ['vector', 'attack', 'stopped by', 'seen']
      : ['vector', 'attack', 'stopped before by', 'stopped now by', 'seen']
  return [
    ...head,
    ...(table.length === 0
      ? []
      : [`| ${columns.join(' | ')} |`, `|${columns.map(() => '---').join('|')}|`, ...table, '']),
    ...(same.length === 0
      ? []
      : [`Stopped by the same as before: ${same.map(({ id }) => `\`${id}\``).join(', ')}.`, '']),
  ]
}

/** What cannot be told from an answer alone, and is told by what is off: then it is the other. */
const TOLD: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'system call filter': {
    'system call filter or user namespace': 'user namespace',
    'system call filter': "the machine's kernel, which has no such call",
  },
  'router rules': {
    'router rules or link filter': 'link filter',
    'no path to the machine or router rules': 'no path to the machine or link filter',
    'router rules, link filter or reverse path': 'link filter or reverse path',
  },
  'link filter': { 'router rules or link filter': 'router rules' },
  // The gateway passes on what it would refuse, so a 401 is the control plane's.
  'gateway binds to one tenant': { 'authentication at the gateway': 'control plane refuses strangers' },
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
