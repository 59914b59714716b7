import { execFile } from 'node:child_process'
import { existsSync, renameSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parseLayout } from '../../src/api/index.ts'
import type { Result } from '../../src/attack/index.ts'
import { leftovers } from '../testkit/machine.ts'
import { run } from '../testkit/platform.ts'
import { type Ablation, attacksOf } from './ablations.ts'
import { copyWithout, type Edit, removeCopies } from './without.ts'

const COMMAND_MS_MAX = 30 * 60_000
const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))
/** The registry of an earlier run, with the image that attacks run in. */
const REGISTRY = join(REPOSITORY, '.cache/ablation-registry')

/** With the users whose the files are: the registry is not root. */
const copyOwned = (from: string, to: string) => promisify(execFile)('cp', ['-a', from, to])

export type AblationRun = { ablation: Ablation; results: readonly Result[]; problem?: string }

/** Starts a platform that lacks the layer, attacks it, and removes it, also when it is interrupted. */
export async function runAblation(
  ablation: Ablation,
  {
    instance,
    slot,
    progress,
    signal = new AbortController().signal,
  }: { instance: string; slot: number; progress: (text: string) => void; signal?: AbortSignal },
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
  // Of a run that was killed.
  await removeCopies(instance)
  await using copy = await copyWithout(edits, instance)
  const env = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: copy.directory,
    NO_COLOR: '1',
    BULKHEAD_INSTANCE: instance,
    BULKHEAD_SLOT: `${slot}`,
    BULKHEAD_STATE_DIR: stateDir,
  }
  const cli = (args: readonly string[], stop?: AbortSignal) =>
    run(process.execPath, [copy.cli, ...args], env, {
      timeoutMs: COMMAND_MS_MAX,
      ...(stop === undefined ? {} : { signal: stop }),
    })
  if (leftovers(layout).length > 0) await cli(['reset', '--yes'])
  try {
    await mkdir(stateDir, { recursive: true, mode: 0o711 })
    if (existsSync(REGISTRY)) await copyOwned(REGISTRY, join(stateDir, 'attack-registry'))
    signal.throwIfAborted()
    progress(`without ${ablation.off}: starting`)
    const up = await cli(['up'], signal)
    signal.throwIfAborted()
    if (up.code !== 0)
      return { ablation, results: [], problem: `the platform does not start: ${up.stderr.slice(-300)}` }
    progress(`without ${ablation.off}: attacking`)
    const attacked = await cli(
      [
        'attack',
        ...['--classes', ablation.classes, '--format', 'json'],
        ...attacksOf(ablation).flatMap((id) => ['--id', id]),
      ],
      signal,
    )
    signal.throwIfAborted()
    await keepRegistry(join(stateDir, 'attack-registry'), instance)
    try {
      const { results } = JSON.parse(attacked.stdout) as { results: Result[] } // the command's own output
      return { ablation, results }
    } catch {
      return {
        ablation,
        results: [],
        problem: `nothing could be attacked: ${attacked.stderr.trim().slice(-300)}`,
      }
    }
  } finally {
    await cli(['reset', '--yes'])
  }
}

async function keepRegistry(registry: string, instance: string): Promise<void> {
  if (existsSync(REGISTRY) || !existsSync(registry)) return
  const next = `${REGISTRY}.${instance}`
  await rm(next, { recursive: true, force: true })
  await copyOwned(registry, next)
  // Another lane may have been faster.
  if (existsSync(REGISTRY)) await rm(next, { recursive: true, force: true })
  else renameSync(next, REGISTRY)
}

/** Nothing is left that stops all of its attacks. */
export const isAllOff = ({ comesThrough = [] }: Ablation): boolean => comesThrough.length > 0

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
    ...(results.length > 0 ? [] : [`without ${ablation.off}, nothing was tried`]),
    ...[...new Set(results.map(({ id }) => id))]
      .filter((id) => results.every((r) => r.id !== id || r.outcome.kind === 'untried'))
      .map((id) => `without ${ablation.off}, ${id} could not be tried`),
  ]
}
