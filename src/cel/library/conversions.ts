import type { Meter } from '../meter.ts'
import {
  Duration,
  durationOf,
  Fault,
  isInt,
  isUint,
  ListValue,
  type MapValue,
  OpaqueValue,
  parseDuration,
  parseTimestamp,
  renderDuration,
  renderTimestamp,
  Timestamp,
  timestampOf,
  typeNameOf,
  TypeValue,
  Uint,
  type Value,
} from '../values.ts'
import { free, method, type Overload } from './overload.ts'

const RANGE = new Fault('range error converting number')
const SECOND = 1_000_000_000n
const DECIMAL = /^[+-]?\d{1,20}$/
const FLOATING = /^[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|[iI]nf(?:inity)?|NaN)$/

/** Code points of a text; counting them means looking at all of it. */
export function codePoints(text: string, meter: Meter): number {
  meter.read(text.length)
  let count = 0
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    if (unit < 0xdc00 || unit > 0xdfff || at === 0) count++
  }
  return count
}

function intOf(value: bigint): bigint | Fault {
  return isInt(value) ? value : RANGE
}
function uintOf(value: bigint): Uint | Fault {
  return isUint(value) ? new Uint(value) : RANGE
}
function wholeOf(value: number): bigint | undefined {
  return Number.isFinite(value) ? BigInt(Math.trunc(value)) : undefined
}

/** A double as upstream writes it. */
export function renderDouble(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf'
  if (Object.is(value, -0)) return '-0'
  const text = String(value)
  const [, mantissa, sign, exponent] = /^(.*)e([+-])(\d+)$/.exec(text) ?? []
  if (mantissa !== undefined) return `${mantissa}e${sign}${(exponent ?? '').padStart(2, '0')}`
  const magnitude = Math.abs(value)
  if (value === 0 || (magnitude >= 1e-4 && magnitude < 1e21)) return text
  const [digits, power = ''] = value.toExponential().split('e')
  return `${digits}e${power[0]}${power.slice(1).padStart(2, '0')}`
}

export const conversions: readonly Overload[] = [
  free('dyn', 'T', 'dyn', (_meter, value: Value) => value),
  free('type', 'T', 'type<T>', (_meter, value: Value) => new TypeValue(typeNameOf(value))),

  free('int', 'int', 'int', (_meter, value: bigint) => value),
  free('int', 'uint', 'int', (_meter, { value }: Uint) => intOf(value)),
  free('int', 'double', 'int', (_meter, value: number) => {
    const whole = wholeOf(value)
    // As upstream: the doubles at the very ends are out of range, since they may have been rounded.
    return whole === undefined || value <= -(2 ** 63) || value >= 2 ** 63 ? RANGE : intOf(whole)
  }),
  free('int', 'string', 'int', (_meter, text: string) =>
    DECIMAL.test(text) ? intOf(BigInt(text.replace('+', ''))) : new Fault('invalid int'),
  ),
  free('int', 'timestamp', 'int', (_meter, { nanos }: Timestamp) => {
    const seconds = nanos / SECOND
    return nanos % SECOND < 0n ? seconds - 1n : seconds
  }),
  free('int', 'duration', 'int', (_meter, { nanos }: Duration) => nanos),

  free('uint', 'uint', 'uint', (_meter, value: Uint) => value),
  free('uint', 'int', 'uint', (_meter, value: bigint) => uintOf(value)),
  free('uint', 'double', 'uint', (_meter, value: number) => {
    const whole = wholeOf(value)
    return whole === undefined || value < 0 ? RANGE : uintOf(whole)
  }),
  free('uint', 'string', 'uint', (_meter, text: string) =>
    /^\d{1,20}$/.test(text) ? uintOf(BigInt(text)) : new Fault('invalid uint'),
  ),

  free('double', 'double', 'double', (_meter, value: number) => value),
  free('double', 'int', 'double', (_meter, value: bigint) => Number(value)),
  free('double', 'uint', 'double', (_meter, { value }: Uint) => Number(value)),
  free('double', 'string', 'double', (meter, text: string) => {
    meter.read(text.length)
    if (text.length > 1_024 || !FLOATING.test(text)) return new Fault('invalid double')
    return Number(text.replace(/^([+-]?)inf(?:inity)?$/i, '$1Infinity'))
  }),

  free('string', 'string', 'string', (_meter, text: string) => text),
  free('string', 'bool', 'string', (_meter, value: boolean) => String(value)),
  free('string', 'int', 'string', (_meter, value: bigint) => String(value)),
  free('string', 'uint', 'string', (_meter, { value }: Uint) => String(value)),
  free('string', 'double', 'string', (_meter, value: number) => renderDouble(value)),
  free('string', 'timestamp', 'string', (_meter, value: Timestamp) => renderTimestamp(value)),
  free('string', 'duration', 'string', (_meter, value: Duration) => renderDuration(value)),
  free('string', 'bytes', 'string', (meter, value: Uint8Array) => {
    meter.make(value.length)
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(value)
    } catch {
      return new Fault('invalid UTF-8 in bytes, cannot convert to string')
    }
  }),
  ...['net.IP', 'net.CIDR'].map((type) =>
    free(
      'string',
      type,
      'string',
      (_meter, value: OpaqueValue) => value.text() ?? new Fault('no such overload'),
    ),
  ),

  free('bytes', 'bytes', 'bytes', (_meter, value: Uint8Array) => value),
  free('bytes', 'string', 'bytes', (meter, text: string) => {
    meter.make(text.length)
    return new Uint8Array(Buffer.from(text, 'utf8'))
  }),

  free('bool', 'bool', 'bool', (_meter, value: boolean) => value),
  free('bool', 'string', 'bool', (_meter, text: string) => {
    if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true
    if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text)) return false
    return new Fault('invalid bool')
  }),

  free('timestamp', 'timestamp', 'timestamp', (_meter, value: Timestamp) => value),
  free(
    'timestamp',
    'string',
    'timestamp',
    (_meter, text: string) => parseTimestamp(text) ?? new Fault('invalid timestamp'),
  ),
  free(
    'timestamp',
    'int',
    'timestamp',
    (_meter, seconds: bigint) => timestampOf(seconds * SECOND) ?? new Fault('timestamp out of range'),
  ),
  free('duration', 'duration', 'duration', (_meter, value: Duration) => value),
  free(
    'duration',
    'string',
    'duration',
    (_meter, text: string) => parseDuration(text) ?? new Fault('invalid duration'),
  ),
  free(
    'duration',
    'int',
    'duration',
    (_meter, nanos: bigint) => durationOf(nanos) ?? new Fault('duration out of range'),
  ),

  ...[free, method].flatMap((make) => [
    make('size', 'string', 'int', (meter, text: string) => BigInt(codePoints(text, meter))),
    make('size', 'bytes', 'int', (_meter, bytes: Uint8Array) => BigInt(bytes.length)),
    make('size', 'list<T>', 'int', (_meter, list: ListValue) => BigInt(list.length)),
    make('size', 'map<K, V>', 'int', (meter, map: MapValue) => {
      meter.charge(Math.ceil(map.size / 10))
      return BigInt(map.size)
    }),
  ]),
]
