import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Layout } from '../api/index.ts'

/** On every Tenant that an attack makes; its value is the run's secret word, which is on this machine's disk only. */
export const RUN_LABEL = 'bulkhead.dev/attack-run'

export type MadeTenant = { name: string; run: string; uid?: string }

/**
 * Which tenants this run has made, on disk before each is made: a run that was killed leaves the next one enough to
 * remove exactly them, and nothing that merely looks like them.
 */
export class AttackRecords {
  readonly run = randomBytes(16).toString('hex')
  private readonly dir: string
  private readonly made = new Map<string, MadeTenant>()

  constructor(layout: Layout) {
    this.dir = join(directoryOf(layout), 'runs')
    mkdirSync(this.dir, { recursive: true, mode: 0o700 })
  }

  /** Before the tenant is made, and again with its uid. */
  record(name: string, uid?: string): void {
    this.made.set(name, { name, run: this.run, ...(uid === undefined ? {} : { uid }) })
    this.write()
  }

  forget(name: string): void {
    this.made.delete(name)
    if (this.made.size === 0) rmSync(this.file(this.run), { force: true })
    else this.write()
  }

  /** Tenants of runs that did not come to their end. Requires: no other run is going on. */
  leftovers(): MadeTenant[] {
    return readdirSync(this.dir).flatMap((file) => {
      if (!/^[0-9a-f]{32}\.json$/.test(file) || file === `${this.run}.json`) return []
      const tenants = JSON.parse(readFileSync(join(this.dir, file), 'utf8')) as MadeTenant[] // written by us
      return tenants
    })
  }

  /** Of this run, what is not forgotten yet. */
  mine(): MadeTenant[] {
    return [...this.made.values()]
  }

  /** Nothing is left of the runs that did not come to their end. */
  forgetOthers(): void {
    for (const file of readdirSync(this.dir)) if (file !== `${this.run}.json`) rmSync(join(this.dir, file))
  }

  private write(): void {
    const file = this.file(this.run)
    writeFileSync(`${file}.new`, JSON.stringify([...this.made.values()]), { mode: 0o600, flush: true })
    renameSync(`${file}.new`, file)
  }

  private file(run: string): string {
    return join(this.dir, `${run}.json`)
  }
}

export function directoryOf(layout: Layout): string {
  return join(layout.stateDir, 'attack')
}

/** Whether a tenant that is there now is the one that was recorded. */
export function isOurs(
  recorded: MadeTenant,
  seen: { metadata: { uid?: string; labels?: Record<string, string> } },
): boolean {
  if (seen.metadata.labels?.[RUN_LABEL] !== recorded.run) return false
  // Killed between making and noting it: the run's word alone has to do, which nobody else has had.
  return recorded.uid === undefined || seen.metadata.uid === recorded.uid
}
