import { FORMAT_PRECISION_MAX, VALUE_DEPTH_MAX } from '../limits.ts'
import type { Meter } from '../meter.ts'
import {
  Duration,
  Fault,
  ListValue,
  MapValue,
  numberOf,
  renderDuration,
  renderTimestamp,
  Timestamp,
  TypeValue,
  typeNameOf,
  Uint,
  type Value,
} from '../values.ts'
import { renderDouble } from './conversions.ts'

const CLAUSE = /%%|%(?:\.(\d{1,4}))?([a-zA-Z])|%/g

/** `'%d of %s'.format([3, 'x'])`. */
export function renderFormatted(meter: Meter, text: string, args: ListValue): Value | Fault {
  meter.read(text.length)
  const parts: string[] = []
  let end = 0
  let next = 0
  for (const clause of text.matchAll(CLAUSE)) {
    parts.push(text.slice(end, clause.index))
    end = clause.index + clause[0].length
    if (clause[0] === '%%') {
      parts.push('%')
      continue
    }
    const [, precision, verb] = clause
    if (verb === undefined) return new Fault('could not parse formatting clause: unexpected end or character')
    if (next >= args.length) return new Fault(`index ${next} out of range`)
    if (Number(precision ?? 0) > FORMAT_PRECISION_MAX)
      return new Fault(`precision is at most ${FORMAT_PRECISION_MAX}`)
    const part = renderClause(meter, verb, precision === undefined ? 6 : Number(precision), args.at(next++))
    if (part instanceof Fault) return part
    meter.make(part.length)
    parts.push(part)
  }
  parts.push(text.slice(end))
  return parts.join('')
}

function renderClause(meter: Meter, verb: string, precision: number, value: Value): string | Fault {
  const number = numberOf(value)
  switch (verb) {
    case 's':
      return renderAny(meter, value)
    case 'd':
      if (typeof number === 'bigint') return String(number)
      return typeof number === 'number' && !Number.isFinite(number)
        ? infinite(number)
        : wrong('decimal clause can only be used on integers', value)
    case 'f':
      if (number === undefined) return wrong('fixed-point clause can only be used on doubles', value)
      return Number.isFinite(Number(number)) ? fixed(Number(number), precision) : infinite(Number(number))
    case 'e': {
      if (number === undefined) return wrong('scientific clause can only be used on doubles', value)
      if (!Number.isFinite(Number(number))) return infinite(Number(number))
      const [mantissa, power = '+0'] = Number(number).toExponential(precision).split('e')
      return `${mantissa}e${power[0]}${power.slice(1).padStart(2, '0')}`
    }
    case 'b':
      if (typeof value === 'boolean') return value ? '1' : '0'
      return typeof number === 'bigint'
        ? number.toString(2)
        : wrong('only integers and bools can be formatted as binary', value)
    case 'o':
      return typeof number === 'bigint'
        ? number.toString(8)
        : wrong('octal clause can only be used on integers', value)
    case 'x':
    case 'X': {
      const text = hexOf(meter, value)
      return typeof text === 'string' && verb === 'X' ? text.toUpperCase() : text
    }
    default:
      return new Fault(`could not parse formatting clause: unrecognized formatting clause "${verb}"`)
  }
}

/** Ties go to the even digit, as in Go. */
function fixed(value: number, precision: number): string {
  // Beyond 1e21 JavaScript would answer with an exponent.
  if (Math.abs(value) >= 1e21) return `${BigInt(value)}${precision > 0 ? `.${'0'.repeat(precision)}` : ''}`
  const rounded = value.toFixed(precision)
  const exact = value.toFixed(FORMAT_PRECISION_MAX)
  const end = exact.indexOf('.') + 1 + precision
  const isTie = /^50*$/.test(exact.slice(end))
  return isTie && Number(rounded.at(-1)) % 2 === 1 ? exact.slice(0, end).replace(/\.$/, '') : rounded
}

function infinite(value: number): string {
  return Number.isNaN(value) ? 'NaN' : value > 0 ? 'Infinity' : '-Infinity'
}

function wrong(what: string, value: Value): Fault {
  return new Fault(`error during formatting: ${what}, was given ${typeNameOf(value)}`)
}

function hexOf(meter: Meter, value: Value): string | Fault {
  if (typeof value === 'string' || value instanceof Uint8Array) {
    meter.make(value.length * 4)
    return Buffer.from(value as string).toString('hex') // of either
  }
  const number = numberOf(value)
  return typeof number === 'bigint'
    ? number.toString(16)
    : wrong('only integers, byte buffers, and strings can be formatted as hex', value)
}

function renderAny(meter: Meter, value: Value, depth = 0): string | Fault {
  meter.charge(1)
  if (depth > VALUE_DEPTH_MAX) return new Fault('a value is too deep to be formatted')
  if (typeof value === 'string') {
    meter.make(value.length)
    return value
  }
  if (value === null) return 'null'
  if (typeof value === 'boolean') return String(value)
  if (typeof value === 'number') return Number.isFinite(value) ? renderDouble(value) : infinite(value)
  if (typeof value === 'bigint') return String(value)
  if (value instanceof Uint) return String(value.value)
  if (value instanceof Uint8Array) {
    meter.make(value.length)
    return Buffer.from(value).toString('utf8')
  }
  if (value instanceof Timestamp) return renderTimestamp(value)
  if (value instanceof Duration) return renderDuration(value)
  if (value instanceof TypeValue) return value.name
  if (value instanceof ListValue) {
    const parts: string[] = []
    for (const item of value) {
      const part = renderAny(meter, item, depth + 1)
      if (part instanceof Fault) return part
      meter.make(part.length + 2)
      parts.push(part)
    }
    return `[${parts.join(', ')}]`
  }
  if (value instanceof MapValue) {
    const parts: [string, string][] = []
    for (const key of value.keys()) {
      const [name, item] = [renderAny(meter, key, depth + 1), value.get(key)]
      const part = item === undefined ? '' : renderAny(meter, item, depth + 1)
      if (name instanceof Fault) return name
      if (part instanceof Fault) return part
      meter.make(name.length + part.length + 4)
      parts.push([name, part])
    }
    parts.sort(([a], [b]) => (a < b ? -1 : 1))
    return `{${parts.map(([name, part]) => `${name}: ${part}`).join(', ')}}`
  }
  return wrong(
    'string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps',
    value,
  )
}
