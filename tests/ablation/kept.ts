import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Ablation, attacksOf } from './ablations.ts'
import type { AblationRun } from './run.ts'

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))
const KEPT = join(REPOSITORY, '.cache/ablation')
/** What a copy of the platform is made of; results of other sources say nothing about these. */
const SOURCES = ['src', 'samples', 'package-lock.json']

export type Version = { commit: string; sources: string }

/** The last commit that changed what is tried, and what that is, with changes that nobody has committed. */
export function observeVersion(): Version {
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', REPOSITORY, ...args], { encoding: 'utf8' }).trim()
  const files = git('ls-files', '--cached', '--others', '--exclude-standard', '--', ...SOURCES)
  const hash = createHash('sha256')
  for (const file of files.split('\n').toSorted()) {
    hash.update(`${file}\0`)
    try {
      hash.update(readFileSync(join(REPOSITORY, file)))
    } catch {
      hash.update('gone')
    }
  }
  const changed = git('status', '--porcelain', '--', ...SOURCES) !== ''
  return {
    commit: `${git('log', '-1', '--format=%h', '--abbrev=12', '--', ...SOURCES)}${changed ? ' with changes that are not committed' : ''}`,
    sources: hash.digest('hex').slice(0, 16),
  }
}

/** Results of runs over the same sources, so that who interrupts goes on where it ended. */
export class Kept {
  private readonly directory: string

  constructor({ sources }: Version) {
    this.directory = join(KEPT, sources)
    mkdirSync(this.directory, { recursive: true })
    for (const name of readdirSync(KEPT))
      if (name !== sources) rmSync(join(KEPT, name), { recursive: true, force: true })
  }

  find(ablation: Ablation): AblationRun | undefined {
    try {
      return JSON.parse(readFileSync(this.fileOf(ablation), 'utf8')) as AblationRun // written below
    } catch {
      return undefined
    }
  }

  keep(run: AblationRun): void {
    const file = this.fileOf(run.ablation)
    writeFileSync(`${file}.next`, JSON.stringify(run))
    renameSync(`${file}.next`, file)
  }

  private fileOf(ablation: Ablation): string {
    const { edits, classes } = ablation
    const what = JSON.stringify({ edits, classes, attacks: attacksOf(ablation) })
    return join(this.directory, `${createHash('sha256').update(what).digest('hex').slice(0, 24)}.json`)
  }
}
