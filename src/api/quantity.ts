import { QUANTITY_CHARS_MAX } from './limits.ts'

/**
 * An amount such as `500m`, `1.5Gi` or `3e6`, exact to a billionth. The notation is kept, because the canonical form
 * depends on it: `1024Ki` is `1Mi`, `1000k` is `1M`.
 */
export type Quantity = { readonly nanos: bigint; readonly notation: 'decimal' | 'binary' | 'exponent' }

const NANO = 1_000_000_000n
const MAX_NANOS = (2n ** 63n - 1n) * NANO
/** No power of ten above this makes a difference: everything is capped at 2^63 - 1, or rounded to a billionth. */
const EXPONENT_MAX = 80

const QUANTITY = /^([+-]?)(?:(\d+)(?:\.(\d*))?|\.(\d+))([a-zA-Z]*[-+]?\d*)$/
const EXPONENT = /^[eE]([-+]?\d+)$/

/** Powers of ten and of two. */
const DECIMAL_SUFFIXES: ReadonlyMap<string, number> = new Map([
  ['n', -9],
  ['u', -6],
  ['m', -3],
  ['', 0],
  ['k', 3],
  ['M', 6],
  ['G', 9],
  ['T', 12],
  ['P', 15],
  ['E', 18],
])
const BINARY_SUFFIXES: ReadonlyMap<string, bigint> = new Map([
  ['Ki', 10n],
  ['Mi', 20n],
  ['Gi', 30n],
  ['Ti', 40n],
  ['Pi', 50n],
  ['Ei', 60n],
])
const DECIMAL_RENDERED = ['n', 'u', 'm', '', 'k', 'M', 'G', 'T', 'P', 'E']
const BINARY_RENDERED = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei']

const FORMAT_PROBLEM =
  "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
const SUFFIX_PROBLEM = "unable to parse quantity's suffix"

/**
 * Amounts beyond 2^63 - 1 become that, and what is finer than a billionth is rounded away from zero, as upstream does.
 * @throws {TypeError} when `value` is not a quantity.
 */
export function parseQuantity(value: string | number): Quantity {
  const text = String(value).trim()
  if (text.length > QUANTITY_CHARS_MAX) throw new TypeError(FORMAT_PROBLEM)
  const match = QUANTITY.exec(text)
  if (!match) throw new TypeError(FORMAT_PROBLEM)
  const [, sign, whole = '', fractionAfterWhole, fractionOnly, suffix = ''] = match
  const fraction = fractionAfterWhole ?? fractionOnly ?? ''
  const digits = BigInt(whole + fraction || '0')

  const binary = BINARY_SUFFIXES.get(suffix)
  if (binary !== undefined)
    return { nanos: signed(sign, scaled((digits << binary) * NANO, -fraction.length)), notation: 'binary' }

  const decimal = DECIMAL_SUFFIXES.get(suffix)
  if (decimal !== undefined)
    return { nanos: signed(sign, scaled(digits, decimal + 9 - fraction.length)), notation: 'decimal' }

  const exponent = EXPONENT.exec(suffix)?.[1]
  if (exponent === undefined) throw new TypeError(SUFFIX_PROBLEM)
  const power = Math.max(-EXPONENT_MAX, Math.min(EXPONENT_MAX, Number(exponent)))
  return { nanos: signed(sign, scaled(digits, power + 9 - fraction.length)), notation: 'exponent' }
}

/** `digits` times ten to the power of `exponent`, rounded up. */
function scaled(digits: bigint, exponent: number): bigint {
  const nanos = exponent >= 0 ? digits * 10n ** BigInt(exponent) : divideUp(digits, 10n ** BigInt(-exponent))
  return nanos > MAX_NANOS ? MAX_NANOS : nanos
}

function divideUp(value: bigint, by: bigint): bigint {
  return (value + by - 1n) / by
}

function signed(sign: string | undefined, nanos: bigint): bigint {
  return sign === '-' ? -nanos : nanos
}

/** The canonical text: no fraction, the largest suffix that loses nothing. */
export function renderQuantity({ nanos, notation }: Quantity): string {
  if (nanos === 0n) return '0'
  const negative = nanos < 0n
  const amount = negative ? -nanos : nanos
  const sign = negative ? '-' : ''
  // Small or fractional amounts read better, and lose nothing, as decimals.
  if (notation === 'binary' && amount >= 1024n * NANO && amount % NANO === 0n)
    return sign + shortened(amount / NANO, 1024n, BINARY_RENDERED)
  if (notation !== 'exponent') return sign + shortened(amount, 1000n, DECIMAL_RENDERED)
  let rest = amount
  let exponent = -9
  while (rest % 1000n === 0n) {
    rest /= 1000n
    exponent += 3
  }
  return exponent === 0 ? `${sign}${rest}` : `${sign}${rest}e${exponent}`
}

function shortened(amount: bigint, base: bigint, suffixes: readonly string[]): string {
  let rest = amount
  let index = 0
  while (index < suffixes.length - 1 && rest % base === 0n) {
    rest /= base
    index++
  }
  return `${rest}${suffixes[index]}`
}

/** Thousandths, rounded up: what cpu is counted in. */
export function quantityMillis(quantity: Quantity): bigint {
  return roundedUp(quantity.nanos, 1_000_000n)
}

/** Whole units, rounded up: bytes, pods. */
export function quantityValue(quantity: Quantity): bigint {
  return roundedUp(quantity.nanos, NANO)
}

/** As a number, for amounts that a machine can have; capped at 2^53 - 1. */
export function quantityNumber(quantity: Quantity): number {
  const value = quantityValue(quantity)
  return Number(value > BigInt(Number.MAX_SAFE_INTEGER) ? BigInt(Number.MAX_SAFE_INTEGER) : value)
}

function roundedUp(nanos: bigint, unit: bigint): bigint {
  return nanos < 0n ? -divideUp(-nanos, unit) : divideUp(nanos, unit)
}
