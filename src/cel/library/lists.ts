import type { Meter } from '../meter.ts'
import { Duration, equalValues, Fault, ListValue, OptionalValue, Uint, type Value } from '../values.ts'
import { compareValues, operators } from './operators.ts'
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
