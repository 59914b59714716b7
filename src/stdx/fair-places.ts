import { assert } from './assert.ts'

/** So many greedy holders share the places, and as much is left for whoever comes next as one of them has. */
const PART_OF_FREE = 8

/**
 * A number of places that many holders share. Nobody gets more than an eighth of what is free now, and at least one while
 * there is any: the more are taken, the fewer can a holder have, so no number of holders together takes all that others
 * need. (Choudhury and Hahne, "Dynamic Queue Length Thresholds", 1998.)
 */
export class FairPlaces<Holder> {
  private readonly placesMax: number
  private readonly perHolderMax: number
  private readonly taken = new Map<Holder, number>()
  private total = 0

  constructor({ placesMax, perHolderMax }: { placesMax: number; perHolderMax: number }) {
    assert(perHolderMax <= placesMax / PART_OF_FREE, 'One holder alone has no more than its part')
    this.placesMax = placesMax
    this.perHolderMax = perHolderMax
  }

  /** What gives the place back, safe to repeat; undefined when there is none for this holder now. */
  take(holder: Holder): (() => void) | undefined {
    const taken = this.taken.get(holder) ?? 0
    const free = this.placesMax - this.total
    if (free <= 0 || taken >= Math.min(this.perHolderMax, Math.max(1, free / PART_OF_FREE))) return undefined
    this.taken.set(holder, taken + 1)
    this.total++
    let held = true
    return () => {
      if (!held) return
      held = false
      this.total--
      const left = (this.taken.get(holder) ?? 1) - 1
      if (left > 0) this.taken.set(holder, left)
      else this.taken.delete(holder)
    }
  }
}
