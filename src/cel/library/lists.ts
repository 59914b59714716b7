import type { Meter } from '../meter.ts'
import {
  Duration,
  equalValues,
  Fault,
  ListValue,
  OptionalValue,
  typeNameOf,
  Uint,
  type Value,
} from '../values.ts'
import { LIST_RANGE_MAX, VALUE_DEPTH_MAX } from '../limits.ts'
import { compareValues, operators } from './operators.ts'
import { SORT_BY_KEYS } from '../syntax.ts'
import { free, method, type Overload } from './overload.ts'

const NO_ORDER = new Fault('no such overload: the items have no order')

function isSorted(meter: Meter, list: ListValue): Value | Fault {
  for (let index = 1; index < list.length; index++) {
    meter.charge(1)
    const order = compareValues(list.at(index - 1), list.at(index), meter)
    if (order === undefined) return NO_ORDER
    if (order > 0) return false
  }
  return true
}

function extreme(name: 'min' | 'max', sign: number) {
  return (meter: Meter, list: ListValue): Value | Fault => {
    if (list.length === 0) return new Fault(`${name} called on empty list`)
    let best = list.at(0)
    for (let index = 1; index < list.length; index++) {
      meter.charge(1)
      const order = compareValues(list.at(index), best, meter)
      if (order === undefined) return NO_ORDER
      if (order * sign > 0) best = list.at(index)
    }
    return best
  }
}

const plus = operators.filter(({ name }) => name === '+')
function addition(type: string) {
  return plus.find(({ params: [left, right] }) => left?.type === type && right?.type === type)?.run
}
const ADDITIONS = {
  int: addition('int'),
  uint: addition('uint'),
  double: addition('double'),
  duration: addition('duration'),
}

function sum(meter: Meter, list: ListValue): Value | Fault {
  if (list.length === 0) return 0n
  let result = list.at(0)
  const of = (value: Value) =>
    typeof value === 'bigint'
      ? 'int'
      : typeof value === 'number'
        ? 'double'
        : value instanceof Uint
          ? 'uint'
          : value instanceof Duration
            ? 'duration'
            : undefined
  const type = of(result)
  const add = type && ADDITIONS[type]
  if (!add) return new Fault('no such overload: sum needs numbers or durations')
  for (let index = 1; index < list.length; index++) {
    meter.charge(1)
    const item = list.at(index)
    if (of(item) !== type) return new Fault('no such overload: sum needs items of one type')
    const next = add(meter, ...([result, item] as never[])) // both of the type that it adds
    if (next instanceof Fault) return next
    result = next
  }
  return result
}

function indexWhere(list: ListValue, item: Value, meter: Meter, indexes: Iterable<number>): bigint {
  for (const index of indexes) if (equalValues(list.at(index), item, meter, 1)) return BigInt(index)
  return -1n
}
function* upTo(length: number): Generator<number> {
  for (let index = 0; index < length; index++) yield index
}
function* downFrom(length: number): Generator<number> {
  for (let index = length - 1; index >= 0; index--) yield index
}

function containsAll(meter: Meter, list: ListValue, wanted: ListValue): boolean {
  for (const item of wanted) if (indexWhere(list, item, meter, upTo(list.length)) < 0n) return false
  return true
}

/** Every item is looked at once; what is made is paid for before it is. */
function itemsOf(meter: Meter, list: ListValue): Value[] {
  meter.charge(list.length)
  meter.make(16 * list.length)
  return [...list]
}

function reversed(meter: Meter, list: ListValue): ListValue {
  return ListValue.of(itemsOf(meter, list).reverse())
}

/** Sorts `list` as sorting `keys` would, which are as many. */
function sortedBy(meter: Meter, list: ListValue, keys: ListValue): ListValue | Fault {
  const known = itemsOf(meter, keys)
  const [first] = known
  if (first === undefined) return list
  const type = typeNameOf(first)
  if (!COMPARABLE.includes(SHORT_TYPE_NAMES[type] ?? type))
    return new Fault('list elements must be comparable')
  if (known.some((key) => typeNameOf(key) !== type)) return new Fault('list elements must have the same type')
  const items = itemsOf(meter, list)
  const order = known
    .map((key, index) => ({ key, index }))
    .sort((a, b) => {
      meter.charge(1)
      return compareValues(a.key, b.key, meter) ?? 0
    })
  return ListValue.of(order.map(({ index }) => items[index] ?? null))
}
const SHORT_TYPE_NAMES: Readonly<Record<string, string>> = {
  'google.protobuf.Timestamp': 'timestamp',
  'google.protobuf.Duration': 'duration',
}

function distinct(meter: Meter, list: ListValue): ListValue {
  const kept: Value[] = []
  for (const item of itemsOf(meter, list))
    if (!kept.some((other) => equalValues(item, other, meter, 1))) kept.push(item)
  return ListValue.of(kept)
}

function slice(meter: Meter, list: ListValue, start: bigint, end: bigint): ListValue | Fault {
  const asked = `cannot slice(${start}, ${end})`
  if (start < 0n || end < 0n) return new Fault(`${asked}, negative indexes not supported`)
  if (start > end) return new Fault(`${asked}, start index must be less than or equal to end index`)
  if (end > list.length) return new Fault(`${asked}, list is length ${list.length}`)
  meter.charge(Number(end - start))
  meter.make(16 * Number(end - start))
  const items: Value[] = []
  for (let index = Number(start); index < Number(end); index++) items.push(list.at(index))
  return ListValue.of(items)
}

function flatten(meter: Meter, list: ListValue, depth: bigint): ListValue | Fault {
  if (depth < 0n) return new Fault('level must be non-negative')
  const items: Value[] = []
  const add = (from: ListValue, levels: number) => {
    for (const item of from) {
      meter.charge(1)
      if (item instanceof ListValue && levels > 0) add(item, levels - 1)
      else {
        meter.make(16)
        items.push(item)
      }
    }
  }
  // No value is deeper than that, so more levels are the same.
  add(list, depth > VALUE_DEPTH_MAX ? VALUE_DEPTH_MAX : Number(depth))
  return ListValue.of(items)
}

function range(meter: Meter, size: bigint): ListValue | Fault {
  if (size < 0n) return new Fault(`lists.range: size must be non-negative, got ${size}`)
  if (size > LIST_RANGE_MAX)
    return new Fault(`lists.range: size ${size} exceeds maximum allowed (${LIST_RANGE_MAX})`)
  meter.charge(Number(size))
  meter.make(16 * Number(size))
  return ListValue.of(Array.from({ length: Number(size) }, (_, index) => BigInt(index)))
}

function optionalAt(list: ListValue, index: number): OptionalValue {
  return index >= 0 && index < list.length ? new OptionalValue(list.at(index)) : OptionalValue.none
}

/** What is in the optionals of a list that are not empty. */
function unwrap(meter: Meter, list: ListValue): ListValue | Fault {
  const items: Value[] = []
  for (const item of itemsOf(meter, list)) {
    if (!(item instanceof OptionalValue)) return new Fault('no such overload: unwrap needs optionals')
    if (item.value !== undefined) items.push(item.value)
  }
  return ListValue.of(items)
}

const COMPARABLE = ['int', 'uint', 'double', 'bool', 'string', 'bytes', 'timestamp', 'duration', 'dyn']
const SUMMABLE = ['int', 'uint', 'double', 'duration', 'dyn']

export const lists: readonly Overload[] = [
  ...COMPARABLE.flatMap((type) => [
    method('isSorted', `list<${type}>`, 'bool', isSorted),
    method('min', `list<${type}>`, type, extreme('min', -1)),
    method('max', `list<${type}>`, type, extreme('max', 1)),
  ]),
  ...SUMMABLE.map((type) => method('sum', `list<${type}>`, type, sum)),
  method('indexOf', 'list<T>, T', 'int', (meter, list: ListValue, item: Value) =>
    indexWhere(list, item, meter, upTo(list.length)),
  ),
  method('lastIndexOf', 'list<T>, T', 'int', (meter, list: ListValue, item: Value) =>
    indexWhere(list, item, meter, downFrom(list.length)),
  ),

  ...COMPARABLE.filter((type) => type !== 'dyn').flatMap((type) => [
    method('sort', `list<${type}>`, `list<${type}>`, (meter, list: ListValue) => sortedBy(meter, list, list)),
    // What `sortBy` becomes; nobody can write it.
    method(SORT_BY_KEYS, `list<T>, list<${type}>`, 'list<T>', sortedBy),
  ]),
  method('distinct', 'list<T>', 'list<T>', distinct),
  method('reverse', 'list<T>', 'list<T>', reversed),
  method('slice', 'list<T>, int, int', 'list<T>', slice),
  method('flatten', 'list<list<T>>', 'list<T>', (meter, list: ListValue) => flatten(meter, list, 1n)),
  method('flatten', 'list<dyn>, int', 'list<dyn>', flatten),
  free('lists.range', 'int', 'list<int>', range),
  method('first', 'list<T>', 'optional<T>', (_meter, list: ListValue) => optionalAt(list, 0)),
  method('last', 'list<T>', 'optional<T>', (_meter, list: ListValue) => optionalAt(list, list.length - 1)),
  free('optional.unwrap', 'list<optional<T>>', 'list<T>', unwrap),
  method('unwrapOpt', 'list<optional<T>>', 'list<T>', unwrap),

  free('sets.contains', 'list<T>, list<T>', 'bool', containsAll),
  free(
    'sets.equivalent',
    'list<T>, list<T>',
    'bool',
    (meter, a: ListValue, b: ListValue) => containsAll(meter, a, b) && containsAll(meter, b, a),
  ),
  free('sets.intersects', 'list<T>, list<T>', 'bool', (meter, a: ListValue, b: ListValue) => {
    for (const item of a) if (indexWhere(b, item, meter, upTo(b.length)) >= 0n) return true
    return false
  }),

  free('optional.none', '', 'optional<T>', () => OptionalValue.none),
  free('optional.of', 'T', 'optional<T>', (_meter, value: Value) => new OptionalValue(value)),
  free('optional.ofNonZeroValue', 'T', 'optional<T>', (_meter, value: Value) =>
    isZero(value) ? OptionalValue.none : new OptionalValue(value),
  ),
  method('hasValue', 'optional<T>', 'bool', (_meter, { value }: OptionalValue) => value !== undefined),
  method('value', 'optional<T>', 'T', (_meter, { value }: OptionalValue) =>
    value === undefined ? new Fault('optional.none() dereference') : value,
  ),
]

function isZero(value: Value): boolean {
  if (value === null || value === false || value === 0n || value === 0 || value === '') return true
  if (value instanceof Uint) return value.value === 0n
  if (value instanceof Duration) return value.nanos === 0n
  if (value instanceof ListValue || value instanceof Uint8Array) return value.length === 0
  return typeof value === 'object' && 'size' in value && value.size === 0
}
