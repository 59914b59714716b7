/**
 * What one request has taken of the processor, in milliseconds: of the time of this thread between `go` and `stop`. While it
 * waits (for its body, for the disk, for another process) others run, and that is not its cost.
 */
export class Cost {
  private spentMicros = 0
  private sinceMicros: number | undefined

  get ms(): number {
    return this.spentMicros / 1_000
  }

  /** It runs. Safe to repeat. */
  go(): void {
    this.sinceMicros ??= threadMicros()
  }

  /** It waits, or is done: of what comes after a write, others that were written with it have a part. Safe to repeat. */
  stop(): void {
    if (this.sinceMicros === undefined) return
    this.spentMicros += threadMicros() - this.sinceMicros
    this.sinceMicros = undefined
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

function threadMicros(): number {
  const { user, system } = process.threadCpuUsage()
  return user + system
}
