import type { Meter } from '../meter.ts'
import {
  Duration,
  durationOf,
  equalValues,
  Fault,
  isInt,
  isUint,
  itemByKeys,
  ListValue,
  type MapValue,
  numberOf,
  Timestamp,
  timestampOf,
  Uint,
  type Value,
} from '../values.ts'
import { free, type Overload } from './overload.ts'

const OVERFLOW = new Fault('integer overflow')
const TIME_OVERFLOW = new Fault('timestamp overflow')
const DURATION_OVERFLOW = new Fault('duration overflow')

const toInt = (value: bigint) => (isInt(value) ? value : OVERFLOW)
const toUint = (value: bigint) => (isUint(value) ? new Uint(value) : new Fault('unsigned integer overflow'))
const toDuration = (nanos: bigint) => durationOf(nanos) ?? DURATION_OVERFLOW
const toTime = (nanos: bigint) => timestampOf(nanos) ?? TIME_OVERFLOW

/** -1, 0 or 1; undefined for NaN and for what has no order. */
export function compareValues(a: Value, b: Value, meter: Meter): number | undefined {
  const [x, y] = [numberOf(a), numberOf(b)]
  if (x !== undefined && y !== undefined)
    // Against a double an int counts as the nearest double, as the specification has it.
    return typeof x === typeof y ? orderOf(x, y) : orderOf(Number(x), Number(y))
  if (typeof a === 'string' && typeof b === 'string') {
    meter.read(Math.min(a.length, b.length))
    return compareText(a, b)
  }
  if (typeof a === 'boolean' && typeof b === 'boolean') return Number(a) - Number(b)
  if (a instanceof Uint8Array && b instanceof Uint8Array) {
    meter.read(Math.min(a.length, b.length))
    return Buffer.compare(a, b)
  }
  if ((a instanceof Timestamp && b instanceof Timestamp) || (a instanceof Duration && b instanceof Duration))
    return a.nanos < b.nanos ? -1 : a.nanos > b.nanos ? 1 : 0
  return undefined
}

function orderOf(x: bigint | number, y: bigint | number): number | undefined {
  return x < y ? -1 : x > y ? 1 : x >= y ? 0 : undefined
}

/** By code point, which differs from JavaScript's order beyond the basic plane. */
function compareText(a: string, b: string): number {
  if (a === b) return 0
  const length = Math.min(a.length, b.length)
  for (let at = 0; at < length; at++) {
    const [x, y] = [a.charCodeAt(at), b.charCodeAt(at)]
    if (x === y) continue
    const surrogate = (unit: number) => unit >= 0xd800 && unit <= 0xdfff
    if (surrogate(x) !== surrogate(y)) return surrogate(x) ? 1 : -1
    return x < y ? -1 : 1
  }
  return a.length - b.length < 0 ? -1 : 1
}

const ORDERED = ['bool', 'int', 'uint', 'double', 'string', 'bytes', 'timestamp', 'duration']
const NUMBERS = ['int', 'uint', 'double']

function comparison(name: string, holds: (order: number) => boolean): Overload[] {
  const run = (meter: Meter, a: Value, b: Value) => {
    const order = compareValues(a, b, meter)
    return order !== undefined && holds(order)
  }
  return [
    ...ORDERED.map((type) => free(name, `${type}, ${type}`, 'bool', run)),
    ...NUMBERS.flatMap((left) =>
      NUMBERS.filter((right) => right !== left).map((right) => free(name, `${left}, ${right}`, 'bool', run)),
    ),
  ]
}

function divisible(by: bigint, what: string): Fault | undefined {
  return by === 0n ? new Fault(what) : undefined
}

/** A set or map list of Kubernetes keeps its identity: what the right side has too is not there twice. */
function joinLists(meter: Meter, a: ListValue, b: ListValue): ListValue {
  meter.make(16 * (a.length + b.length))
  const { identity } = a
  if (!identity) return ListValue.of([...a, ...b])
  const joined = [...a]
  for (const item of b) {
    const known =
      identity.list === 'set'
        ? joined.findIndex((one) => equalValues(one, item, meter, 1))
        : joined.findIndex(
            (one) => itemByKeys(ListValue.of([one]), item, identity.keys, meter, 1) !== undefined,
          )
    if (known < 0) joined.push(item)
    else joined[known] = item
  }
  return ListValue.of(joined, identity)
}

export const operators: readonly Overload[] = [
  free('==', 'T, T', 'bool', (meter, a: Value, b: Value) => equalValues(a, b, meter)),
  free('!=', 'T, T', 'bool', (meter, a: Value, b: Value) => !equalValues(a, b, meter)),
  ...comparison('<', (order) => order < 0),
  ...comparison('<=', (order) => order <= 0),
  ...comparison('>', (order) => order > 0),
  ...comparison('>=', (order) => order >= 0),
  free('in', 'T, list<T>', 'bool', (meter, item: Value, list: ListValue) => {
    for (const one of list) if (equalValues(one, item, meter, 1)) return true
    return false
  }),
  free('in', 'K, map<K, V>', 'bool', (_meter, key: Value, map: MapValue) => map.has(key)),
  free('!_', 'bool', 'bool', (_meter, value: boolean) => !value),
  free('-_', 'int', 'int', (_meter, value: bigint) => toInt(-value)),
  free('-_', 'double', 'double', (_meter, value: number) => -value),
  free('+', 'int, int', 'int', (_meter, a: bigint, b: bigint) => toInt(a + b)),
  free('-', 'int, int', 'int', (_meter, a: bigint, b: bigint) => toInt(a - b)),
  free('*', 'int, int', 'int', (_meter, a: bigint, b: bigint) => toInt(a * b)),
  free(
    '/',
    'int, int',
    'int',
    (_meter, a: bigint, b: bigint) => divisible(b, 'division by zero') ?? toInt(a / b),
  ),
  free(
    '%',
    'int, int',
    'int',
    (_meter, a: bigint, b: bigint) => divisible(b, 'modulus by zero') ?? toInt(a % b),
  ),
  free('+', 'uint, uint', 'uint', (_meter, a: Uint, b: Uint) => toUint(a.value + b.value)),
  free('-', 'uint, uint', 'uint', (_meter, a: Uint, b: Uint) => toUint(a.value - b.value)),
  free('*', 'uint, uint', 'uint', (_meter, a: Uint, b: Uint) => toUint(a.value * b.value)),
  free(
    '/',
    'uint, uint',
    'uint',
    (_meter, a: Uint, b: Uint) => divisible(b.value, 'division by zero') ?? toUint(a.value / b.value),
  ),
  free(
    '%',
    'uint, uint',
    'uint',
    (_meter, a: Uint, b: Uint) => divisible(b.value, 'modulus by zero') ?? toUint(a.value % b.value),
  ),
  free('+', 'double, double', 'double', (_meter, a: number, b: number) => a + b),
  free('-', 'double, double', 'double', (_meter, a: number, b: number) => a - b),
  free('*', 'double, double', 'double', (_meter, a: number, b: number) => a * b),
  free('/', 'double, double', 'double', (_meter, a: number, b: number) => a / b),
  free('+', 'string, string', 'string', (meter, a: string, b: string) => {
    meter.make(a.length + b.length)
    return a + b
  }),
  free('+', 'bytes, bytes', 'bytes', (meter, a: Uint8Array, b: Uint8Array) => {
    meter.make(a.length + b.length)
    return new Uint8Array(Buffer.concat([a, b]))
  }),
  free('+', 'list<T>, list<T>', 'list<T>', joinLists),
  free('+', 'timestamp, duration', 'timestamp', (_meter, a: Timestamp, b: Duration) =>
    toTime(a.nanos + b.nanos),
  ),
  free('+', 'duration, timestamp', 'timestamp', (_meter, a: Duration, b: Timestamp) =>
    toTime(a.nanos + b.nanos),
  ),
  free('+', 'duration, duration', 'duration', (_meter, a: Duration, b: Duration) =>
    toDuration(a.nanos + b.nanos),
  ),
  free('-', 'timestamp, timestamp', 'duration', (_meter, a: Timestamp, b: Timestamp) =>
    toDuration(a.nanos - b.nanos),
  ),
  free('-', 'timestamp, duration', 'timestamp', (_meter, a: Timestamp, b: Duration) =>
    toTime(a.nanos - b.nanos),
  ),
  free('-', 'duration, duration', 'duration', (_meter, a: Duration, b: Duration) =>
    toDuration(a.nanos - b.nanos),
  ),
]
