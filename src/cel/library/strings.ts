import type { Meter } from '../meter.ts'
import { patternFor } from '../pattern.ts'
import { Fault, ListValue, type Value } from '../values.ts'
import { renderFormatted } from './format-string.ts'
import { free, method, type Overload } from './overload.ts'

const outOfRange = (index: bigint) => new Fault(`index out of range: ${index}`)

/** The code points of a text, paid for: positions count them. */
function points(text: string, meter: Meter): string[] {
  meter.make(text.length * 8)
  return [...text]
}

/** A position in UTF-16 units as one in code points. */
function pointIndex(text: string, unit: number): bigint {
  return unit < 0 ? -1n : BigInt([...text.slice(0, unit)].length)
}

/** Looks for `part`; in the worst case every place of the text is compared with it. */
function chargeSearch(text: string, part: string, meter: Meter): void {
  meter.charge(1 + Math.ceil((text.length * (10 + part.length)) / 100))
}

function matches(meter: Meter, text: string, source: string): Value | Fault {
  const pattern = patternFor(source, text, meter)
  return pattern instanceof Fault ? pattern : pattern.re2.matcher(text).find()
}

function indexOf(meter: Meter, text: string, part: string, from = 0n): Value | Fault {
  chargeSearch(text, part, meter)
  const characters = points(text, meter)
  if (from < 0n || from > characters.length) return outOfRange(from)
  const unit = characters.slice(0, Number(from)).join('').length
  return pointIndex(text, text.indexOf(part, unit))
}

function lastIndexOf(meter: Meter, text: string, part: string, from?: bigint): Value | Fault {
  chargeSearch(text, part, meter)
  const characters = points(text, meter)
  if (from === undefined) return pointIndex(text, text.lastIndexOf(part))
  if (from < 0n || from > characters.length) return outOfRange(from)
  return pointIndex(text, text.lastIndexOf(part, characters.slice(0, Number(from)).join('').length))
}

function substring(meter: Meter, text: string, from: bigint, to?: bigint): Value | Fault {
  const characters = points(text, meter)
  const end = to ?? BigInt(characters.length)
  if (from < 0n || from > characters.length) return outOfRange(from)
  if (end < 0n || end > characters.length) return outOfRange(end)
  if (from > end) return new Fault(`invalid substring range. start: ${from}, end: ${end}`)
  return characters.slice(Number(from), Number(end)).join('')
}

function join(meter: Meter, list: ListValue, separator = ''): Value | Fault {
  const texts: string[] = []
  for (const item of list) {
    if (typeof item !== 'string') return new Fault('no such overload: join needs a list of strings')
    meter.make(8 + item.length + separator.length)
    texts.push(item)
  }
  return texts.join(separator)
}

/** How many parts there may be: as many as `limit` says, all when it is negative. */
function partsMax(limit: bigint): number {
  return limit < 0n || limit > Number.MAX_SAFE_INTEGER ? Number.MAX_SAFE_INTEGER : Number(limit)
}

function replace(meter: Meter, text: string, from: string, to: string, limit = -1n): Value | Fault {
  chargeSearch(text, from, meter)
  const places: number[] = []
  const max = partsMax(limit)
  // An empty text is found before every character and at the end.
  const characters = from === '' ? points(text, meter) : []
  if (from === '') {
    const count = Math.min(max, characters.length + 1)
    meter.make(text.length + count * to.length)
    const head = characters.slice(0, count).map((character) => to + character)
    return head.join('') + (count > characters.length ? to : characters.slice(count).join(''))
  }
  for (
    let at = text.indexOf(from);
    at >= 0 && places.length < max;
    at = text.indexOf(from, at + from.length)
  ) {
    meter.charge(1)
    places.push(at)
  }
  meter.make(text.length + places.length * to.length)
  const parts: string[] = []
  let end = 0
  for (const place of places) {
    parts.push(text.slice(end, place), to)
    end = place + from.length
  }
  parts.push(text.slice(end))
  return parts.join('')
}

function split(meter: Meter, text: string, separator: string, limit = -1n): Value | Fault {
  chargeSearch(text, separator, meter)
  const max = partsMax(limit)
  if (max === 0) return ListValue.of([])
  if (max === 1) return ListValue.of([text])
  const all = separator === '' ? points(text, meter) : text.split(separator)
  meter.make(16 * all.length + text.length)
  if (all.length <= max) return ListValue.of(all)
  return ListValue.of([...all.slice(0, max - 1), all.slice(max - 1).join(separator)])
}

function findAll(meter: Meter, text: string, source: string, limit = -1n): Value | Fault {
  const pattern = patternFor(source, text, meter)
  if (pattern instanceof Fault) return pattern
  const max = partsMax(limit)
  const found: string[] = []
  const matcher = pattern.re2.matcher(text)
  while (found.length < max && matcher.find()) {
    const match = matcher.group() ?? ''
    meter.make(16 + match.length)
    // A search may look at everything that is left before it finds something near.
    meter.charge(Math.ceil(((text.length - matcher.start()) * pattern.size) / 40))
    found.push(match)
  }
  return ListValue.of(found)
}

/** Quotes as Go's %q does what cannot be shown. */
const QUOTED: ReadonlyMap<string, string> = new Map([
  ['\x07', '\\a'],
  ['\b', '\\b'],
  ['\f', '\\f'],
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
  ['\v', '\\v'],
  ['\\', '\\\\'],
  ['"', '\\"'],
])

/** Go's white space, which is what `trim` takes away. */
const SPACE =
  '\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'

function trim(text: string): string {
  let [start, end] = [0, text.length]
  while (start < end && SPACE.includes(text[start] ?? '')) start++
  while (end > start && SPACE.includes(text[end - 1] ?? '')) end--
  return text.slice(start, end)
}

export const strings: readonly Overload[] = [
  method('contains', 'string, string', 'bool', (meter, text: string, part: string) => {
    chargeSearch(text, part, meter)
    return text.includes(part)
  }),
  method('startsWith', 'string, string', 'bool', (meter, text: string, part: string) => {
    meter.read(part.length)
    return text.startsWith(part)
  }),
  method('endsWith', 'string, string', 'bool', (meter, text: string, part: string) => {
    meter.read(part.length)
    return text.endsWith(part)
  }),
  method('matches', 'string, string', 'bool', matches),
  free('matches', 'string, string', 'bool', matches),
  method('find', 'string, string', 'string', (meter, text: string, source: string) => {
    const pattern = patternFor(source, text, meter)
    if (pattern instanceof Fault) return pattern
    const matcher = pattern.re2.matcher(text)
    return matcher.find() ? (matcher.group() ?? '') : ''
  }),
  method('findAll', 'string, string', 'list<string>', findAll),
  method('findAll', 'string, string, int', 'list<string>', findAll),

  method('charAt', 'string, int', 'string', (meter, text: string, index: bigint) => {
    const characters = points(text, meter)
    return index < 0n || index > characters.length ? outOfRange(index) : (characters[Number(index)] ?? '')
  }),
  method('indexOf', 'string, string', 'int', indexOf),
  method('indexOf', 'string, string, int', 'int', indexOf),
  method('lastIndexOf', 'string, string', 'int', lastIndexOf),
  method('lastIndexOf', 'string, string, int', 'int', lastIndexOf),
  method('join', 'list<string>', 'string', join),
  method('join', 'list<string>, string', 'string', join),
  method('lowerAscii', 'string', 'string', (meter, text: string) => {
    meter.make(text.length)
    return text.replace(/[A-Z]+/g, (part) => part.toLowerCase())
  }),
  method('upperAscii', 'string', 'string', (meter, text: string) => {
    meter.make(text.length)
    return text.replace(/[a-z]+/g, (part) => part.toUpperCase())
  }),
  method('replace', 'string, string, string', 'string', replace),
  method('replace', 'string, string, string, int', 'string', replace),
  method('split', 'string, string', 'list<string>', split),
  method('split', 'string, string, int', 'list<string>', split),
  method('substring', 'string, int', 'string', substring),
  method('substring', 'string, int, int', 'string', substring),
  method('trim', 'string', 'string', (meter, text: string) => {
    meter.read(text.length)
    return trim(text)
  }),
  method('reverse', 'string', 'string', (meter, text: string) => points(text, meter).reverse().join('')),
  method('format', 'string, list<dyn>', 'string', (meter, text: string, args: ListValue) =>
    renderFormatted(meter, text, args),
  ),
  free('strings.quote', 'string', 'string', (meter, text: string) => {
    meter.make(text.length * 2 + 2)
    const inner = Array.from(text.toWellFormed(), (character) => QUOTED.get(character) ?? character)
    return `"${inner.join('')}"`
  }),
]
