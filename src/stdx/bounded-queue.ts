/** Thrown to the reader of a queue whose writer was faster than the bound allows. */
export class QueueOverflow extends Error {}

/**
 * A queue between one writer and one reader that never holds more than `itemsMax` items. When it would, it drops
 * everything and fails the reader: a slow watcher loses its stream, never our memory.
 */
export class BoundedQueue<T> implements AsyncIterable<T> {
  private items: T[] = []
  private waiting: PromiseWithResolvers<void> | undefined
  private ended = false
  private failure: Error | undefined
  private readonly itemsMax: number

  constructor(itemsMax: number) {
    this.itemsMax = itemsMax
  }

  get length(): number {
    return this.items.length
  }

  /** Adds an item; returns false when the queue has ended or overflowed. */
  push(item: T): boolean {
    if (this.ended || this.failure) return false
    if (this.items.length >= this.itemsMax) {
      this.items = []
      this.fail(new QueueOverflow(`A queue held ${this.itemsMax} items and its reader was too slow`))
      return false
    }
    this.items.push(item)
    this.wake()
    return true
  }

  /** Lets the reader drain what is there, then finish. */
  end(): void {
    this.ended = true
    this.wake()
  }

  /** Makes the reader throw `error` once it has drained what is there. */
  fail(error: Error): void {
    this.failure ??= error
    this.wake()
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    try {
      for (;;) {
        const item = this.items.shift()
        if (item !== undefined) {
          yield item
          continue
        }
        if (this.failure) throw this.failure
        if (this.ended) return
        this.waiting = Promise.withResolvers<void>()
        await this.waiting.promise
      }
    } finally {
      this.ended = true
      this.items = []
    }
  }

  private wake(): void {
    this.waiting?.resolve()
    this.waiting = undefined
  }
}
