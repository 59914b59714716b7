import { assert } from '../../stdx/index.ts'
import { type CelType, DYN, listOf, mapOf, NAMED_TYPES, optionalOf } from '../types.ts'
import type { Meter } from '../meter.ts'
import type { Fault, Value } from '../values.ts'

/** One way to call a function. Which one is meant is decided by the arguments' types, at the latest when they are there. */
export type Overload = {
  readonly name: string
  /** Called as `first.name(rest)`. */
  readonly receiver: boolean
  readonly params: readonly CelType[]
  readonly result: CelType
  /** Gets arguments that fit `params`; what is inside of lists and maps may be anything. */
  readonly run: (meter: Meter, ...args: never[]) => Value | Fault
}

/** `free('size', 'list<T>', 'int', ...)` is called as `size(list)`. */
export function free(name: string, params: string, result: string, run: Overload['run']): Overload {
  return { name, receiver: false, params: typesOf(params), result: typeOf(result), run }
}

/** `method('contains', 'string, string', 'bool', ...)` is called as `text.contains(part)`. */
export function method(name: string, params: string, result: string, run: Overload['run']): Overload {
  return { ...free(name, params, result, run), receiver: true }
}

function typesOf(text: string): CelType[] {
  const types: CelType[] = []
  let depth = 0
  let from = 0
  for (let at = 0; at <= text.length; at++) {
    const character = text[at]
    if (character === '<') depth++
    if (character === '>') depth--
    if ((character !== ',' && at < text.length) || depth > 0) continue
    const part = text.slice(from, at).trim()
    if (part !== '') types.push(typeOf(part))
    from = at + 1
  }
  return types
}

/** Our own signatures only: `list<T>`, `map<K, V>`, `optional<T>`, a capital letter for any one type, a name. */
function typeOf(text: string): CelType {
  const [, outer, inside] = /^(list|map|optional|type)<(.*)>$/.exec(text) ?? []
  const [first = DYN, second = DYN] = inside === undefined ? [] : typesOf(inside)
  if (outer === 'list') return listOf(first)
  if (outer === 'map') return mapOf(first, second)
  if (outer === 'optional') return optionalOf(first)
  if (outer === 'type') return { type: 'type', of: first }
  if (/^[A-Z]$/.test(text)) return { type: 'param', name: text }
  if (text === 'dyn') return DYN
  const simple = NAMED_TYPES.get(SHORT_NAMES[text] ?? text)
  if (simple) return simple
  assert(text.includes('.'), `Signature names no type: "${text}"`)
  return { type: 'opaque', name: text }
}

const SHORT_NAMES: Readonly<Record<string, string>> = {
  null: 'null_type',
  timestamp: 'google.protobuf.Timestamp',
  duration: 'google.protobuf.Duration',
}
