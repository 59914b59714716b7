import type { StoreKey } from './store.ts'

/** Keys in the order of their UTF-16 code units, in one array: finding is binary search, a range is a slice. */
export class SortedKeys {
  private readonly keys: StoreKey[]

  constructor(keys: Iterable<StoreKey> = []) {
    this.keys = [...keys].sort(compareKeys)
  }

  at(index: number): StoreKey | undefined {
    return this.keys[index]
  }

  add(key: StoreKey): void {
    this.keys.splice(this.firstNotBefore(key), 0, key)
  }

  remove(key: StoreKey): void {
    const index = this.firstNotBefore(key)
    if (this.keys[index] === key) this.keys.splice(index, 1)
  }

  /** Indexes [from, to) of the keys under `prefix`, after `startAfter` when given. */
  range(prefix: string, startAfter?: string): { from: number; to: number } {
    const first = this.firstNotBefore(prefix)
    // Most questions are about what is not there.
    if (!this.keys[first]?.startsWith(prefix)) return { from: first, to: first }
    const to = this.firstWithout(prefix, first)
    if (startAfter === undefined || startAfter < prefix) return { from: first, to }
    const after = this.firstNotBefore(startAfter)
    return { from: Math.min(to, this.keys[after] === startAfter ? after + 1 : after), to }
  }

  private firstNotBefore(text: string): number {
    let [low, high] = [0, this.keys.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.keys[middle]! >= text) high = middle // low <= middle < high <= length
      else low = middle + 1
    }
    return low
  }

  /** Requires: the key at `from` begins with `prefix`. */
  private firstWithout(prefix: string, from: number): number {
    let [low, high] = [from + 1, this.keys.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.keys[middle]!.startsWith(prefix)) low = middle + 1
      else high = middle // low <= middle < high <= length
    }
    return low
  }
}

export function compareKeys(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
