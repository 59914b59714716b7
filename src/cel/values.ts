import { VALUE_DEPTH_MAX } from './limits.ts'
import { BudgetExceeded, type Meter } from './meter.ts'
import { type CelType, DYN, type ListIdentity, NAMED_TYPES } from './types.ts'

/** What expressions compute with. `int` is a bigint, `double` a number. */
export type Value =
  | null
  | boolean
  | bigint
  | number
  | string
  | Uint8Array
  | Uint
  | Timestamp
  | Duration
  | ListValue
  | MapValue
  | OptionalValue
  | TypeValue
  | OpaqueValue

/** An evaluation that has no value. Passed on like a value, because `false && fault` is false. */
export class Fault {
  readonly message: string
  constructor(message: string) {
    this.message = message
  }
}
export const noSuchOverload = new Fault('no such overload')

export class Uint {
  readonly value: bigint
  constructor(value: bigint) {
    this.value = value
  }
}
/** Nanoseconds since 1970. */
export class Timestamp {
  readonly nanos: bigint
  constructor(nanos: bigint) {
    this.nanos = nanos
  }
}
export class Duration {
  readonly nanos: bigint
  constructor(nanos: bigint) {
    this.nanos = nanos
  }
}
export class TypeValue {
  readonly name: string
  constructor(name: string) {
    this.name = name
  }
}
export class OptionalValue {
  static readonly none = new OptionalValue(undefined)
  readonly value: Value | undefined
  constructor(value: Value | undefined) {
    this.value = value
  }
}
/** A value of a library, such as a quantity or an address. */
export abstract class OpaqueValue {
  abstract readonly typeName: string
  abstract equals(other: OpaqueValue): boolean
  /** What `string(value)` gives, where that is allowed. */
  text(): string | undefined {
    return undefined
  }
}

/** Items may still be JSON and become values when somebody looks at them, so a big object costs nothing unlooked at. */
export class ListValue {
  readonly length: number
  readonly identity: ListIdentity | undefined
  readonly #items: readonly unknown[]
  readonly #itemType: CelType | undefined

  private constructor(items: readonly unknown[], type: CelType | undefined, identity?: ListIdentity) {
    this.#items = items
    this.#itemType = type
    this.identity = identity
    this.length = items.length
  }
  static of(items: readonly Value[], identity?: ListIdentity): ListValue {
    return new ListValue(items, undefined, identity)
  }
  static fromJson(items: readonly unknown[], type: CelType, identity?: ListIdentity): ListValue {
    return new ListValue(items, type, identity)
  }
  at(index: number): Value {
    const item = this.#items[index]
    return this.#itemType === undefined ? (item as Value) : valueOfJson(item, this.#itemType) // made by `of`
  }
  *[Symbol.iterator](): Generator<Value> {
    for (let index = 0; index < this.length; index++) yield this.at(index)
  }
}

type MapKey = string | boolean | bigint

/** One spelling per key: 1, 1u and 1.0 find the same entry. */
export function mapKeyOf(value: Value): MapKey | undefined {
  if (typeof value === 'string' || typeof value === 'boolean' || typeof value === 'bigint') return value
  if (value instanceof Uint) return value.value
  return typeof value === 'number' && Number.isInteger(value) ? BigInt(value) : undefined
}

export abstract class MapValue {
  abstract readonly size: number
  abstract get(key: Value): Value | undefined
  abstract keys(): Iterable<Value>
  has(key: Value): boolean {
    return this.get(key) !== undefined
  }
  /** A key as a field: `map.name`. */
  field(name: string): Value | Fault | undefined {
    return this.get(name)
  }
}

export class EntriesMap extends MapValue {
  readonly #entries: ReadonlyMap<MapKey, readonly [Value, Value]>
  readonly size: number
  constructor(entries: ReadonlyMap<MapKey, readonly [Value, Value]>) {
    super()
    this.#entries = entries
    this.size = entries.size
  }
  override get(key: Value): Value | undefined {
    const known = mapKeyOf(key)
    return known === undefined ? undefined : this.#entries.get(known)?.[1]
  }
  override *keys(): Generator<Value> {
    for (const [key] of this.#entries.values()) yield key
  }
}

/** A JSON object. What is inherited, such as `constructor`, is not in it. */
export class JsonMap extends MapValue {
  readonly #record: Readonly<Record<string, unknown>>
  readonly #type: CelType
  #size: number | undefined
  constructor(record: Readonly<Record<string, unknown>>, type: CelType) {
    super()
    this.#record = record
    this.#type = type
  }
  get size(): number {
    this.#size ??= Object.keys(this.#record).length
    return this.#size
  }
  override get(key: Value): Value | undefined {
    return typeof key === 'string' ? this.#read(key, this.#typeOf(key)) : undefined
  }
  override field(name: string): Value | undefined {
    if (this.#type.type === 'object') {
      const field = this.#type.fields().get(name)
      return field && this.#read(field.property, field.type)
    }
    const plain = this.get(name)
    // A name that is no identifier can be written escaped, whether or not its schema is known.
    return plain === undefined && name.includes('__') ? this.get(unescapeName(name)) : plain
  }
  override keys(): Iterable<Value> {
    return Object.keys(this.#record)
  }
  #read(property: string, type: CelType): Value | undefined {
    return Object.hasOwn(this.#record, property) ? valueOfJson(this.#record[property], type) : undefined
  }
  #typeOf(key: string): CelType {
    if (this.#type.type === 'map') return this.#type.values
    if (this.#type.type !== 'object') return DYN
    return this.#type.fields().get(escapeName(key))?.type ?? DYN
  }
}

const ESCAPES: readonly (readonly [string, string])[] = [
  ['__', '__underscores__'],
  ['.', '__dot__'],
  ['-', '__dash__'],
  ['/', '__slash__'],
]
/** Words of CEL that cannot name a field as they are. */
const ESCAPED_WORDS: ReadonlySet<string> = new Set(
  (
    'true false null in as break const continue else for function if import let loop package namespace return ' +
    'var void while'
  ).split(' '),
)
/** How an expression writes the name of a property, as Kubernetes escapes it. */
export function escapeName(property: string): string {
  if (ESCAPED_WORDS.has(property)) return `__${property}__`
  return property.replace(/__|[./-]/g, (found) => ESCAPES.find(([plain]) => plain === found)?.[1] ?? found)
}
export function unescapeName(name: string): string {
  const word = /^__([a-z]+)__$/.exec(name)?.[1]
  if (word !== undefined && ESCAPED_WORDS.has(word)) return word
  return name.replace(
    /__(underscores|dot|dash|slash)__/g,
    (found) => ESCAPES.find(([, to]) => to === found)?.[0] ?? found,
  )
}

const INT_MIN = -(2n ** 63n)
const INT_MAX = 2n ** 63n - 1n
export const UINT_MAX = 2n ** 64n - 1n
export function isInt(value: bigint): boolean {
  return value >= INT_MIN && value <= INT_MAX
}
export function isUint(value: bigint): boolean {
  return value >= 0n && value <= UINT_MAX
}

/** Reads JSON as a type. What does not fit its type is read as what it is: schemas are checked elsewhere. */
export function valueOfJson(json: unknown, type: CelType): Value {
  switch (typeof json) {
    case 'string':
      return textValue(json, type)
    case 'boolean':
      return json
    case 'bigint':
      return json
    case 'number':
      // Without a schema 3 is an int and 3.5 a double, as for upstream.
      if (type.type === 'double' || !Number.isInteger(json)) return json
      return Math.abs(json) < 2 ** 63 ? BigInt(json) : json
    case 'object':
      if (json === null) return null
      if (Array.isArray(json))
        return type.type === 'list'
          ? ListValue.fromJson(json, type.items, type.identity)
          : ListValue.fromJson(json, DYN)
      // Values of our own may be among bindings: an authorizer, the variables of a policy.
      if (isValue(json)) return json
      return new JsonMap(json as Record<string, unknown>, type)
    default:
      return null
  }
}

function isValue(object: object): object is Value & object {
  return (
    object instanceof OpaqueValue ||
    object instanceof MapValue ||
    object instanceof ListValue ||
    object instanceof Timestamp ||
    object instanceof Duration ||
    object instanceof OptionalValue ||
    object instanceof TypeValue ||
    object instanceof Uint ||
    object instanceof Uint8Array
  )
}

function textValue(text: string, { type }: CelType): Value {
  switch (type) {
    case 'timestamp':
      return parseTimestamp(text) ?? text
    case 'duration':
      return parseDuration(text) ?? text
    case 'bytes':
      return new Uint8Array(Buffer.from(text, 'base64'))
    default:
      return text
  }
}

export function typeNameOf(value: Value): string {
  switch (typeof value) {
    case 'string':
      return 'string'
    case 'boolean':
      return 'bool'
    case 'bigint':
      return 'int'
    case 'number':
      return 'double'
    default:
      if (value === null) return 'null_type'
      if (value instanceof Uint) return 'uint'
      if (value instanceof Uint8Array) return 'bytes'
      if (value instanceof ListValue) return 'list'
      if (value instanceof MapValue) return 'map'
      if (value instanceof Timestamp) return 'google.protobuf.Timestamp'
      if (value instanceof Duration) return 'google.protobuf.Duration'
      if (value instanceof OptionalValue) return 'optional_type'
      if (value instanceof TypeValue) return 'type'
      return value.typeName
  }
}

/** True when a value may be given to a parameter of this type; what is inside of lists is looked at later. */
export function fits(type: CelType, value: Value): boolean {
  switch (type.type) {
    case 'dyn':
    case 'param':
      return true
    case 'opaque':
      return value instanceof OpaqueValue && value.typeName === type.name
    case 'list':
      return value instanceof ListValue
    case 'map':
    case 'object':
      return value instanceof MapValue
    case 'optional':
      return value instanceof OptionalValue
    case 'type':
      return value instanceof TypeValue
    default:
      return NAMED_TYPES.get(typeNameOf(value))?.type === type.type
  }
}

/** The number that a value stands for, when it is one. */
export function numberOf(value: Value): bigint | number | undefined {
  if (typeof value === 'bigint' || typeof value === 'number') return value
  return value instanceof Uint ? value.value : undefined
}

export function equalValues(a: Value, b: Value, meter: Meter, depth = 0): boolean {
  meter.charge(depth === 0 ? 0 : 1)
  if (depth > VALUE_DEPTH_MAX) throw new BudgetExceeded('operation cancelled: a value is too deep')
  if (typeof a === 'string') {
    if (typeof b !== 'string' || a.length !== b.length) return false
    meter.read(a.length)
    return a === b
  }
  const [x, y] = [numberOf(a), numberOf(b)]
  // Comparing a bigint with a number is exact.
  // oxlint-disable-next-line eslint/eqeqeq
  if (x !== undefined && y !== undefined) return x == y
  if (a === null || b === null || typeof a === 'boolean' || typeof b === 'boolean') return a === b
  if (a instanceof Uint8Array) {
    if (!(b instanceof Uint8Array) || a.length !== b.length) return false
    meter.read(a.length)
    return Buffer.compare(a, b) === 0
  }
  if (a instanceof ListValue) return b instanceof ListValue && equalLists(a, b, meter, depth)
  if (a instanceof MapValue) {
    if (!(b instanceof MapValue)) return false
    // Counting the keys of a JSON object looks at all of them.
    meter.charge(Math.ceil((a.size + b.size) / 10))
    if (a.size !== b.size) return false
    for (const key of a.keys()) {
      meter.charge(1)
      const [mine, other] = [a.get(key), b.get(key)]
      if (mine === undefined || other === undefined || !equalValues(mine, other, meter, depth + 1))
        return false
    }
    return true
  }
  if (a instanceof Timestamp) return b instanceof Timestamp && a.nanos === b.nanos
  if (a instanceof Duration) return b instanceof Duration && a.nanos === b.nanos
  if (a instanceof TypeValue) return b instanceof TypeValue && a.name === b.name
  if (a instanceof OptionalValue) {
    if (!(b instanceof OptionalValue)) return false
    if (a.value === undefined || b.value === undefined) return a.value === b.value
    return equalValues(a.value, b.value, meter, depth + 1)
  }
  return a instanceof OpaqueValue && b instanceof OpaqueValue && a.typeName === b.typeName && a.equals(b)
}

function equalLists(a: ListValue, b: ListValue, meter: Meter, depth: number): boolean {
  if (a.length !== b.length) return false
  const identity = a.identity ?? b.identity
  if (!identity) {
    for (let index = 0; index < a.length; index++)
      if (!equalValues(a.at(index), b.at(index), meter, depth + 1)) return false
    return true
  }
  for (const item of a) {
    const other = identity.list === 'set' ? item : itemByKeys(b, item, identity.keys, meter, depth)
    if (other === undefined) return false
    const found =
      identity.list === 'set' ? contains(b, item, meter, depth) : equalValues(item, other, meter, depth + 1)
    if (!found) return false
  }
  return true
}

function contains(list: ListValue, wanted: Value, meter: Meter, depth: number): boolean {
  for (const item of list) if (equalValues(item, wanted, meter, depth + 1)) return true
  return false
}

/** The item of a list by key that is the same one as `like`. */
export function itemByKeys(
  list: ListValue,
  like: Value,
  keys: readonly string[],
  meter: Meter,
  depth: number,
): Value | undefined {
  if (!(like instanceof MapValue)) return undefined
  for (const item of list) {
    if (!(item instanceof MapValue)) continue
    const same = keys.every((key) => {
      meter.charge(1)
      const [a, b] = [item.get(key), like.get(key)]
      return a === undefined || b === undefined ? a === b : equalValues(a, b, meter, depth + 1)
    })
    if (same) return item
  }
  return undefined
}

const TIMESTAMP = /^(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)$/
const SECOND = 1_000_000_000n
const TIMESTAMP_MIN = -62_135_596_800n * SECOND
const TIMESTAMP_MAX = 253_402_300_800n * SECOND - 1n
export function timestampOf(nanos: bigint): Timestamp | undefined {
  return nanos < TIMESTAMP_MIN || nanos > TIMESTAMP_MAX ? undefined : new Timestamp(nanos)
}
export function parseTimestamp(text: string): Timestamp | undefined {
  const match = text.length > 64 ? null : TIMESTAMP.exec(text)
  if (!match) return undefined
  const [, day, time, fraction, zone] = match
  const ms = Date.parse(`${day}T${time}${zone?.toUpperCase()}`)
  // `Date.parse` takes the 30th of February for a day in March.
  if (Number.isNaN(ms) || !new Date(`${day}T00:00:00Z`).toISOString().startsWith(day ?? '')) return undefined
  return timestampOf(BigInt(ms) * 1_000_000n + BigInt((fraction ?? '').padEnd(9, '0')))
}
export function renderTimestamp({ nanos }: Timestamp): string {
  const rest = ((nanos % SECOND) + SECOND) % SECOND
  const seconds = new Date(Number((nanos - rest) / 1_000_000n)).toISOString().slice(0, 19)
  const fraction = rest === 0n ? '' : `.${rest.toString().padStart(9, '0').replace(/0+$/, '')}`
  return `${seconds}${fraction}Z`
}

const DURATION_PART = /(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)/y
const DURATION_UNITS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  µs: 1_000n,
  μs: 1_000n,
  ms: 1_000_000n,
  s: SECOND,
  m: 60n * SECOND,
  h: 3_600n * SECOND,
}
export function durationOf(nanos: bigint): Duration | undefined {
  return isInt(nanos) ? new Duration(nanos) : undefined
}
export function parseDuration(text: string): Duration | undefined {
  if (text.length > 128) return undefined
  const sign = text.startsWith('-') ? -1n : 1n
  let at = /^[+-]/.test(text) ? 1 : 0
  if (text.slice(at) === '0') return new Duration(0n)
  if (at === text.length) return undefined
  let nanos = 0n
  while (at < text.length) {
    DURATION_PART.lastIndex = at
    const match = DURATION_PART.exec(text)
    const [all, whole = '', fraction = '', unit = ''] = match ?? []
    if (all === undefined || whole + fraction === '') return undefined
    const scale = DURATION_UNITS[unit] ?? 0n
    nanos += BigInt(whole || '0') * scale + (BigInt(fraction || '0') * scale) / 10n ** BigInt(fraction.length)
    at += all.length
  }
  return durationOf(sign * nanos)
}
/** Seconds, as protobuf's JSON writes them. */
export function renderDuration({ nanos }: Duration): string {
  const sign = nanos < 0n ? '-' : ''
  const amount = nanos < 0n ? -nanos : nanos
  const fraction = (amount % SECOND).toString().padStart(9, '0').replace(/0+$/, '')
  return `${sign}${amount / SECOND}${fraction === '' ? '' : `.${fraction}`}s`
}
