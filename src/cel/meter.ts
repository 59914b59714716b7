import { EVALUATION_BYTES_MAX, EVALUATION_COST_MAX } from './limits.ts'
import type { Pattern } from './pattern.ts'

/** What several evaluations may cost together, such as all those of one request. */
export class Budget {
  #remaining: number
  constructor(cost: number) {
    this.#remaining = cost
  }
  get remaining(): number {
    return this.#remaining
  }
  /** False when that was more than there was. */
  spend(cost: number): boolean {
    this.#remaining -= cost
    return this.#remaining >= 0
  }
}

/** Thrown through everything, so that no `||` can swallow it. */
export class BudgetExceeded extends Error {}

const EXCEEDED = 'operation cancelled: actual cost limit exceeded'

/** Counts what one evaluation does and makes, while it does. */
export class Meter {
  readonly #costMax: number
  readonly #budget: Budget | undefined
  /** Patterns that this evaluation has made ready. */
  readonly patterns = new Map<string, Pattern>()
  #cost = 0
  #bytes = 0
  constructor(costMax = EVALUATION_COST_MAX, budget?: Budget) {
    this.#costMax = costMax
    this.#budget = budget
  }
  get cost(): number {
    return this.#cost
  }
  charge(cost: number): void {
    this.#cost += cost
    const paid = this.#budget?.spend(cost) ?? true
    if (!paid || this.#cost > this.#costMax) throw new BudgetExceeded(EXCEEDED)
  }
  /** Looking at so many characters. */
  read(characters: number): void {
    this.charge(Math.ceil(characters / 10))
  }
  /** Must be called before the memory is taken. */
  make(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes > EVALUATION_BYTES_MAX)
      throw new BudgetExceeded('operation cancelled: the expression makes too much data')
    this.charge(Math.ceil(bytes / 10))
  }
}
