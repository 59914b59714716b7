/**
 * What one request has taken of the processor, in milliseconds: of the time of this thread between `go` and `stop`. While it
 * waits (for its body, for the disk, for another process) others run, and that is not its cost.
 */
export class Cost {
  private spentMs = 0
  private since: { atMs: number; reading: Reading } | undefined

  get ms(): number {
    return this.spentMs
  }

  /** It runs. Safe to repeat. */
  go(): void {
    if (this.since) return
    const atMs = performance.now()
    // The kernel is asked once in a while only: most requests are over before it would tell more than the clock does.
    if (atMs - lastReading.atMs > READING_MS_MAX) lastReading = { atMs, threadMs: threadMs() }
    this.since = { atMs, reading: lastReading }
  }

  /** It waits, or is done: of what comes after a write, others that were written with it have a part. Safe to repeat. */
  stop(): void {
    if (!this.since) return
    const { atMs, reading } = this.since
    this.since = undefined
    const passedMs = performance.now() - atMs
    // In a longer time others had the processor as well. What was taken since a moment before is no less than our part.
    this.spentMs += passedMs < READING_MS_MAX ? passedMs : Math.min(passedMs, threadMs() - reading.threadMs)
  }

  async waiting<T>(what: Promise<T>): Promise<T> {
    this.stop()
    try {
      return await what
    } finally {
      this.go()
    }
  }
}

/** For what a component of this process does. */
export const NO_COST: Pick<Cost, 'go' | 'stop' | 'waiting'> = {
  go() {},
  stop() {},
  waiting: (what) => what,
}

/** What this thread had taken of the processor at some moment. */
type Reading = { atMs: number; threadMs: number }
/** How exact a cost is. */
const READING_MS_MAX = 1
let lastReading: Reading = { atMs: -Infinity, threadMs: 0 }

function threadMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1_000
}
