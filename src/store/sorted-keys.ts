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
    const to = this.search(first, (key) => !key.startsWith(prefix))
    if (startAfter === undefined || startAfter < prefix) return { from: first, to }
    return {
      from: Math.min(
        to,
        this.search(first, (key) => key > startAfter),
      ),
      to,
    }
  }

  private firstNotBefore(text: string): number {
    return this.search(0, (key) => key >= text)
  }

  /** The first index from `low` on whose key answers true. Requires: all after it do as well. */
  private search(low: number, answers: (key: StoreKey) => boolean): number {
    let high = this.keys.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (answers(this.keys[middle]!)) high = middle // low <= middle < high <= length
      else low = middle + 1
    }
    return low
  }
}

export function compareKeys(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
