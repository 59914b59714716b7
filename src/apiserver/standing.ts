import type { Clock } from '../stdx/index.ts'
import { STANDING_RECHECK_MS } from './limits.ts'

type Opened = { isAllowed: () => boolean; end: () => void }

/**
 * Watches, logs that are followed and sessions with pods outlast the request that was allowed. Each is asked about again
 * when rights, accounts or what tokens are bound to change, and ends when it would not be allowed any more.
 */
export class Standing {
  private readonly clock: Clock
  private readonly opened = new Set<Opened>()
  private isDue = false

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** Returns what is to be called when it has ended by itself. */
  add(opened: Opened): () => void {
    this.opened.add(opened)
    return () => void this.opened.delete(opened)
  }

  /** Something that rights follow from has changed. Many changes one after the other are looked at once. */
  changed(): void {
    if (this.isDue || this.opened.size === 0) return
    this.isDue = true
    this.clock.after(STANDING_RECHECK_MS, () => {
      this.isDue = false
      for (const opened of this.opened) if (!opened.isAllowed()) this.finish(opened)
    })
  }

  private finish(opened: Opened): void {
    this.opened.delete(opened)
    opened.end()
  }
}
