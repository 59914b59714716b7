/** Stops on a broken invariant: a bug of ours, never an answer to bad input. */
export function assert(condition: unknown, message = 'A broken invariant'): asserts condition {
  if (!condition) throw new Error(message)
}

/** The `default` of a `switch` that must be exhaustive. */
export function unreachable(value: never): never {
  throw new Error(`Unexpected value ${JSON.stringify(value)}`)
}
