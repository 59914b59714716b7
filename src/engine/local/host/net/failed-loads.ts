import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import type { Clock, Logger } from '../../../../stdx/index.ts'

const WHY_CHARS_MAX = 300

/** Something of the rules that could not be loaded; what was loaded before stands in its place. */
type FailedLoad = { what: string; tenant?: string; since: string; why: string }

/** What a load is about. Its `key` names it among all others. */
export type Load = { key: string; what: string; tenant?: string }

/**
 * What of the rules is not as it is wanted, in a file for the continuous proof, which makes an alarm of each. An entry
 * stays, over restarts of the agent too, until the same thing is loaded or nobody wants it any more.
 */
export class FailedLoads {
  private readonly path: string
  private readonly clock: Clock
  private readonly log: Logger
  private failed = new Map<string, FailedLoad>()

  constructor({ path, clock, log }: { path: string; clock: Clock; log: Logger }) {
    this.path = path
    this.clock = clock
    this.log = log
  }

  /** Reads what an earlier agent could not load. */
  takeOver(): void {
    try {
      this.failed = new Map(Object.entries(JSON.parse(readFileSync(this.path, 'utf8')) as object)) // ours: the directory is root's alone
    } catch {
      this.failed = new Map()
    }
  }

  /** Carries out a load and remembers how it ended. */
  async during<T>(load: Load, work: () => Promise<T>): Promise<T> {
    try {
      const result = await work()
      this.settle(load.key)
      return result
    } catch (error) {
      this.fail(load, error)
      throw error
    }
  }

  fail({ key, what, tenant }: Load, error: unknown): void {
    // The first reason stays: words that change with every attempt would be an alarm each.
    if (this.failed.has(key)) return
    this.log.error('rules were refused, those of before stay', { what, tenant, error })
    const [why = ''] = (error instanceof Error ? error.message : String(error)).split('\n', 1)
    this.failed.set(key, {
      what,
      ...(tenant === undefined ? {} : { tenant }),
      since: new Date(this.clock.nowMs()).toISOString(),
      why: why.slice(0, WHY_CHARS_MAX),
    })
    this.save()
  }

  /** It is loaded, or nobody wants it any more. */
  settle(...keys: readonly string[]): void {
    const known = keys.filter((key) => this.failed.delete(key))
    if (known.length > 0) this.save()
  }

  private save(): void {
    try {
      if (this.failed.size === 0) rmSync(this.path, { force: true })
      else {
        writeFileSync(`${this.path}.new`, JSON.stringify(Object.fromEntries(this.failed)), { mode: 0o600 })
        renameSync(`${this.path}.new`, this.path)
      }
    } catch (error) {
      this.log.error('cannot write down which rules were refused', { error })
    }
  }
}
