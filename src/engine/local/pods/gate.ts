/** Lets at most `max` pieces of work run at once, in the order in which they came. */
export class Gate {
  private readonly max: number
  private running = 0
  private readonly waiting: (() => void)[] = []

  constructor(max: number) {
    this.max = max
  }

  /** @throws the signal's reason when it aborts while the work is still waiting. */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted()
    if (this.running >= this.max) await this.wait(signal)
    else this.running++
    try {
      return await work()
    } finally {
      // The place passes on without becoming free, so nobody who comes now can overtake.
      const next = this.waiting.shift()
      if (next) next()
      else this.running--
    }
  }

  private async wait(signal: AbortSignal | undefined): Promise<void> {
    const turn = Promise.withResolvers<void>()
    const enter = () => turn.resolve()
    const leave = () => {
      const index = this.waiting.indexOf(enter)
      if (index === -1) return
      this.waiting.splice(index, 1)
      turn.reject(signal?.reason as Error)
    }
    this.waiting.push(enter)
    signal?.addEventListener('abort', leave, { once: true })
    try {
      await turn.promise
    } finally {
      signal?.removeEventListener('abort', leave)
    }
  }
}
