import { ApiError } from '../api/index.ts'

/** How many of what lasts a server has open, and no more than `max`. */
export class OpenCount {
  private readonly max: number
  private readonly what: string
  private open = 0

  /** `what` as in "There are 3 … already". */
  constructor({ max, what }: { max: number; what: string }) {
    this.max = max
    this.what = what
  }

  /** The returned function gives the place back. @throws {ApiError} TooManyRequests */
  enter(): () => void {
    if (this.open >= this.max)
      throw new ApiError('TooManyRequests', `There are ${this.open} ${this.what} already; close some first`, {
        details: { retryAfterSeconds: 10 },
      })
    this.open++
    let left = false
    return () => {
      if (!left) this.open--
      left = true
    }
  }
}
