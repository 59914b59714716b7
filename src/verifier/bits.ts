/** A set of numbers from 0, as the bits of one integer: sets of tenants or links are compared and split as a whole. */
export type Bits = bigint

export const NO_BITS: Bits = 0n

export function bit(at: number): Bits {
  return 1n << BigInt(at)
}

export function allBits(count: number): Bits {
  return bit(count) - 1n
}

export function bitsFrom(numbers: Iterable<number>): Bits {
  let bits = NO_BITS
  for (const at of numbers) bits |= bit(at)
  return bits
}

/** The numbers in a set, in order. */
export function* numbersIn(bits: Bits): Generator<number> {
  const text = bits.toString(2)
  for (let at = text.length - 1; at >= 0; at--) if (text[at] === '1') yield text.length - 1 - at
}

/** One value for each of many things that are asked about at once, and who has which. */
export class Column {
  readonly values: readonly (string | undefined)[]
  readonly of: ReadonlyMap<string, Bits>

  constructor(values: readonly (string | undefined)[]) {
    this.values = values
    const members = new Map<string, number[]>()
    for (const [at, value] of values.entries()) {
      if (value === undefined) continue
      const known = members.get(value)
      if (known) known.push(at)
      else members.set(value, [at])
    }
    this.of = new Map([...members].map(([value, some]) => [value, bitsFrom(some)]))
  }
}
