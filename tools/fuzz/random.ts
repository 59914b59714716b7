/** A fast generator of numbers that depends on its seed only (xorshift32), so that every document can be made again. */
export class Random {
  private state: number

  constructor(seed: number) {
    // Neighbouring seeds would begin alike, and 0 would stay 0.
    this.state = Math.imul(seed ^ 0x9e37_79b9, 0x85eb_ca6b) | 1
    for (let i = 0; i < 4; i++) this.next()
  }

  next(): number {
    let x = this.state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.state = x
    return x >>> 0
  }

  below(end: number): number {
    return this.next() % end
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0
  }

  pick<T>(list: readonly T[]): T {
    const item = list[this.below(list.length)]
    if (item === undefined) throw new Error('There is nothing to pick from')
    return item
  }
}
