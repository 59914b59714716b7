/** The time of day and timers, passed in so that tests decide what time it is. */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  nowMs(): number
  /** Calls `run` once after `delayMs`; the returned function cancels it. Never keeps the process alive. */
  after(delayMs: number, run: () => void): () => void
}

/** What setTimeout can count to; anything longer it would run at once. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  after(delayMs, run) {
    let timer: NodeJS.Timeout
    const dueMs = Date.now() + delayMs
    const wait = (leftMs: number) => {
      const next = leftMs > TIMEOUT_MS_MAX ? () => wait(dueMs - Date.now()) : run
      timer = setTimeout(next, Math.min(leftMs, TIMEOUT_MS_MAX))
      timer.unref()
    }
    wait(delayMs)
    return () => clearTimeout(timer)
  },
}

/** A clock that knows when the first of the timers that were set through it is due. */
export class TimerClock implements Clock {
  private readonly clock: Clock
  private readonly due = new Set<{ atMs: number }>()

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** Infinity when there is no timer. */
  get nextMs(): number {
    let nextMs = Infinity
    for (const { atMs } of this.due) nextMs = Math.min(nextMs, atMs)
    return nextMs
  }

  nowMs(): number {
    return this.clock.nowMs()
  }

  after(delayMs: number, run: () => void): () => void {
    const timer = { atMs: this.clock.nowMs() + delayMs }
    this.due.add(timer)
    const cancel = this.clock.after(delayMs, () => {
      this.due.delete(timer)
      run()
    })
    return () => {
      this.due.delete(timer)
      cancel()
    }
  }
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
