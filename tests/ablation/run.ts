import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { parseLayout } from '../../src/api/index.ts'
import type { Result } from '../../src/attack/index.ts'
import { leftovers } from '../testkit/machine.ts'
import { run } from '../testkit/platform.ts'
import { type Ablation, ABLATIONS } from './ablations.ts'
import { renderAblations } from './report.ts'
import { copyWithout, type Edit } from './without.ts'

const COMMAND_MS_MAX = 30 * 60_000
const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))
/** The registry of an earlier run, with the image that attacks run in. */
const REGISTRY = join(REPOSITORY, '.cache/ablation-registry')

/** With the users whose the files are: the registry is not root. */
const copyOwned = (from: string, to: string) => promisify(execFile)('cp', ['-a', from, to])

export type AblationRun = { ablation: Ablation; results: readonly Result[]; problem?: string }

/** Starts a platform that lacks the layer, attacks it, and removes it. */
export async function runAblation(
  ablation: Ablation,
  {
    instance,
    slot,
    ids,
    progress,
  }: { instance: string; slot: number; ids?: readonly string[]; progress: (text: string) => void },
): Promise<AblationRun> {
  const stateDir = `/var/lib/bulkhead-${instance}`
  const layout = parseLayout({
    BULKHEAD_INSTANCE: instance,
    BULKHEAD_SLOT: `${slot}`,
    BULKHEAD_STATE_DIR: stateDir,
  })
  const edits = ablation.edits.map((edit): Edit => ({
    ...edit,
    replace: edit.replace.replaceAll('INSTANCE', instance),
  }))
  await using copy = await copyWithout(edits)
  const env = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: copy.directory,
    NO_COLOR: '1',
    BULKHEAD_INSTANCE: instance,
    BULKHEAD_SLOT: `${slot}`,
    BULKHEAD_STATE_DIR: stateDir,
  }
  const cli = (...args: string[]) =>
    run(process.execPath, [copy.cli, ...args], env, { timeoutMs: COMMAND_MS_MAX })
  if (leftovers(layout).length > 0) await cli('reset', '--yes')
  try {
    await mkdir(stateDir, { recursive: true, mode: 0o711 })
    if (existsSync(REGISTRY)) await copyOwned(REGISTRY, join(stateDir, 'attack-registry'))
    progress(`without ${ablation.off}: starting`)
    const up = await cli('up')
    if (up.code !== 0)
      return { ablation, results: [], problem: `the platform does not start: ${up.stderr.slice(-300)}` }
    progress(`without ${ablation.off}: attacking`)
    const chosen = ids ?? ablation.ids
    const attacked = await cli(
      'attack',
      '--classes',
      ablation.classes,
      '--format',
      'json',
      ...(chosen === undefined ? [] : chosen.flatMap((id) => ['--id', id])),
      ...(chosen === undefined ? (ablation.families ?? []).flatMap((family) => ['--family', family]) : []),
    )
    if (!existsSync(REGISTRY)) await copyOwned(join(stateDir, 'attack-registry'), REGISTRY)
    try {
      const answer = JSON.parse(attacked.stdout) as Result[] | { results: Result[] } // the command's own output
      return { ablation, results: Array.isArray(answer) ? answer : answer.results }
    } catch {
      return {
        ablation,
        results: [],
        problem: `nothing could be attacked: ${attacked.stderr.trim().slice(-300)}`,
      }
    }
  } finally {
    await cli('reset', '--yes')
  }
}

/** Says what should not be: an attack that came through without being expected to, or one that was expected and did not. */
export function problemsOf({ ablation, results, problem }: AblationRun): string[] {
  if (problem !== undefined) return [`${ablation.off}: ${problem}`]
  const escaped = new Set(results.filter((r) => r.outcome.kind === 'escaped').map(({ id }) => id))
  const expected = [...(ablation.comesThrough ?? [])]
  const known = new Set([...expected, ...Object.keys(ablation.accepted ?? {})])
  return [
    ...[...escaped]
      .filter((id) => !known.has(id))
      .map((id) => `without ${ablation.off}, ${id} comes through`),
    ...expected
      .filter((id) => !escaped.has(id))
      .map((id) => `without ${ablation.off}, ${id} should come through`),
    ...(results.some((r) => r.outcome.kind !== 'untried')
      ? []
      : [`without ${ablation.off}, nothing was tried`]),
  ]
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      off: { type: 'string', multiple: true, default: [] },
      instance: { type: 'string', default: 'abl' },
      slot: { type: 'string', default: '96' },
      results: { type: 'string', default: '' },
      output: { type: 'string', default: '' },
    },
  })
  const chosen = ABLATIONS.filter(({ off }) => values.off.length === 0 || values.off.includes(off))
  const runs: AblationRun[] = []
  for (const ablation of chosen) {
    const ran = await runAblation(ablation, {
      instance: values.instance,
      slot: Number(values.slot),
      progress: (text) => console.error(text),
    })
    runs.push(ran)
    for (const problem of problemsOf(ran)) console.error(`  ${problem}`)
    if (values.results !== '') await writeFile(values.results, JSON.stringify(runs, undefined, 1))
    if (values.output !== '') await writeFile(values.output, renderAblations(runs))
  }
  if (values.output === '') console.log(renderAblations(runs))
  process.exit(runs.some((ran) => problemsOf(ran).length > 0) ? 1 : 0)
}
