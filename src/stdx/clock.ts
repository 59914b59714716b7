/** The time of day and timers, passed in so that tests decide what time it is. */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  nowMs(): number
  /** Calls `run` once after `delayMs`; the returned function cancels it. Never keeps the process alive. */
  after(delayMs: number, run: () => void): () => void
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
}

/** A clock that stands still until `advance` moves it. */
export class FakeClock implements Clock {
  private currentMs: number
  private readonly timers = new Set<{ dueMs: number; run: () => void }>()

  constructor(startMs = Date.parse('2026-01-01T00:00:00Z')) {
    this.currentMs = startMs
  }

  nowMs(): number {
    return this.currentMs
  }

  after(delayMs: number, run: () => void): () => void {
    const timer = { dueMs: this.currentMs + delayMs, run }
    this.timers.add(timer)
    return () => void this.timers.delete(timer)
  }

  /** Moves time forward and runs what became due, in order. */
  advance(byMs: number): void {
    const targetMs = this.currentMs + byMs
    for (;;) {
      const due = [...this.timers].filter((t) => t.dueMs <= targetMs).sort((a, b) => a.dueMs - b.dueMs)[0]
      if (!due) break
      this.timers.delete(due)
      this.currentMs = Math.max(this.currentMs, due.dueMs)
      due.run()
    }
    this.currentMs = targetMs
  }
}
