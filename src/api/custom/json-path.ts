import { JSON_PATH_CHARS_MAX } from '../limits.ts'
import { isRecord, ownField } from './json-schema.ts'

type Step =
  | { type: 'field'; name: string }
  | { type: 'index'; index: number }
  | { type: 'all' }
  | {
      type: 'filter'
      path: readonly string[]
      operator: Operator | undefined
      value: string | number | boolean | null
    }
type Operator = '==' | '!=' | '<' | '<=' | '>' | '>='

/** A way from an object to values in it, such as `.status.conditions[?(@.type=="Ready")].status`. */
export type JsonPath = readonly Step[]

/** Values of one step that are followed; a column shows one. */
const FOUND_MAX = 1_000

/**
 * The paths that columns of CustomResourceDefinitions use: fields, quoted fields, indexes, `[*]`, and filters that compare
 * a field with a literal.
 * @returns undefined for anything else.
 */
export function parseJsonPath(text: string): JsonPath | undefined {
  if (text.length > JSON_PATH_CHARS_MAX || text.length === 0) return undefined
  const steps: Step[] = []
  let at = 0
  if (text[at] === '$') at++
  while (at < text.length) {
    if (text[at] === '.') {
      at++
      if (at === text.length && steps.length === 0) return []
      if (text[at] === '[') continue
      if (text[at] === '*') {
        steps.push({ type: 'all' })
        at++
        continue
      }
      const [name, next] = readName(text, at)
      if (name === '') return undefined
      steps.push({ type: 'field', name })
      at = next
    } else if (text[at] === '[') {
      const [step, next] = readBracket(text, at + 1)
      if (!step) return undefined
      steps.push(step)
      at = next
    } else return undefined
  }
  return steps
}

/** A path of plain fields only, as scales and selectable fields have. */
export function parseFieldPath(text: string): string[] | undefined {
  const path = parseJsonPath(text)
  const names = path?.flatMap((step) => (step.type === 'field' ? [step.name] : []))
  return text.startsWith('.') && path && path.length > 0 && names?.length === path.length ? names : undefined
}

function readName(text: string, from: number): [string, number] {
  let name = ''
  let at = from
  for (; at < text.length && text[at] !== '.' && text[at] !== '['; at++) {
    if (text[at] === '\\' && at + 1 < text.length) at++
    else if (/[\s\](){}'"|?@*]/.test(text[at]!)) return ['', at]
    name += text[at]
  }
  return [name, at]
}

function readBracket(text: string, from: number): [Step | undefined, number] {
  const quote = text[from]
  if (quote === "'" || quote === '"') {
    const end = text.indexOf(`${quote}]`, from + 1)
    if (end < 0) return [undefined, from]
    return [{ type: 'field', name: text.slice(from + 1, end).replaceAll('\\', '') }, end + 2]
  }
  if (quote === '?') {
    const end = text.indexOf(')]', from)
    if (end < 0 || text[from + 1] !== '(') return [undefined, from]
    return [readFilter(text.slice(from + 2, end)), end + 2]
  }
  const end = text.indexOf(']', from)
  const inner = end < 0 ? '' : text.slice(from, end).trim()
  if (inner === '*') return [{ type: 'all' }, end + 1]
  // Many a definition has `[]` for all; upstream takes it for the first, and so does its table.
  if (end >= 0 && inner === '') return [{ type: 'index', index: 0 }, end + 1]
  return /^-?\d{1,9}$/.test(inner) ? [{ type: 'index', index: Number(inner) }, end + 1] : [undefined, from]
}

function readFilter(text: string): Step | undefined {
  const match = /^\s*@((?:\.[\w-]+)+)\s*(?:(==|!=|<=|>=|<|>)\s*(\S.*))?$/.exec(text)
  if (!match) return undefined
  const [, names = '', operator, literal] = match
  const path = names.slice(1).split('.')
  if (operator === undefined) return { type: 'filter', path, operator: undefined, value: null }
  const value = readLiteral((literal ?? '').trimEnd())
  return value === undefined ? undefined : { type: 'filter', path, operator: operator as Operator, value } // of the pattern
}

function readLiteral(text: string): string | number | boolean | null | undefined {
  if (/^"[^"]*"$/.test(text) || /^'[^']*'$/.test(text)) return text.slice(1, -1)
  if (/^-?\d{1,15}(\.\d{1,9})?$/.test(text)) return Number(text)
  return text === 'true' ? true : text === 'false' ? false : text === 'null' ? null : undefined
}

/** Everything that the path leads to. */
export function findByPath(path: JsonPath, object: unknown): unknown[] {
  let values: unknown[] = [object]
  for (const step of path) {
    values = values.flatMap((value) => follow(step, value)).slice(0, FOUND_MAX)
    if (values.length === 0) return []
  }
  return values
}

function follow(step: Step, value: unknown): readonly unknown[] {
  switch (step.type) {
    case 'field': {
      const found = isRecord(value) ? ownField(value, step.name) : undefined
      return found === undefined ? [] : [found]
    }
    case 'index': {
      const found: unknown = Array.isArray(value) ? value.at(step.index) : undefined
      return found === undefined ? [] : [found]
    }
    case 'all':
      return Array.isArray(value) ? value : isRecord(value) ? Object.values(value) : []
    case 'filter':
      return Array.isArray(value) ? value.filter((item) => passes(step, item)) : []
    default:
      step satisfies never
      return []
  }
}

function passes({ path, operator, value }: Extract<Step, { type: 'filter' }>, item: unknown): boolean {
  const found = valueAt(item, path)
  if (found === undefined) return false
  if (operator === undefined) return true
  if (operator === '==') return found === value
  if (operator === '!=') return found !== value
  if (
    typeof found !== typeof value ||
    (typeof found !== 'number' && typeof found !== 'string') ||
    value === null
  )
    return false
  switch (operator) {
    case '<':
      return found < value
    case '<=':
      return found <= value
    case '>':
      return found > value
    case '>=':
      return found >= value
    default:
      operator satisfies never
      return false
  }
}

/** The value at a path of fields, or undefined. */
export function valueAt(object: unknown, path: readonly string[]): unknown {
  let value = object
  for (const name of path) {
    if (!isRecord(value)) return undefined
    value = ownField(value, name)
  }
  return value
}
