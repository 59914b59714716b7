import type { FieldError, FieldErrorReason } from '../api/index.ts'
import { PROBLEMS_MAX } from './limits.ts'

/** Collects what is wrong, up to a bound. */
export class Problems {
  readonly list: FieldError[] = []

  add(reason: FieldErrorReason, field: string, message: string): undefined {
    if (this.list.length < PROBLEMS_MAX) this.list.push({ reason, field, message })
    return undefined
  }
}

/** Returns a fresh, fully checked value, or undefined after it has recorded at least one problem. */
export type Shape<T> = (value: unknown, field: string, problems: Problems) => T | undefined

type Required<T> = { readonly shape: Shape<T>; readonly required: true }
type Optional<T> = { readonly shape: Shape<T>; readonly required: false }

/** Exactly the fields of `T`: forgetting one, adding one or mistaking optional for required does not compile. */
export type Fields<T> = {
  readonly [K in keyof T]-?: Record<never, never> extends Pick<T, K>
    ? Optional<Exclude<T[K], undefined>>
    : Required<T[K]>
}

export const required = <T>(shape: Shape<T>): Required<T> => ({ shape, required: true })
export const optional = <T>(shape: Shape<T>): Optional<T> => ({ shape, required: false })

/** A value as a short, printable quotation: it comes from a stranger and goes into a message. */
export function quote(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 64 ? `${value.slice(0, 64)}…` : value)
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return String(value)
  return Array.isArray(value) ? 'a list' : `a value of type ${typeof value}`
}

export function object<T extends object>(fields: Fields<T>): Shape<T> {
  // A Map, so that a field named `constructor` or `__proto__` finds nothing.
  const known = new Map(Object.entries(fields) as [string, Required<unknown> | Optional<unknown>][])
  return (value, field, problems) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return problems.add('FieldValueTypeInvalid', field, `must be an object, not ${quote(value)}`)
    const before = problems.list.length
    const own = new Map(Object.entries(value))
    for (const name of own.keys()) {
      if (!known.has(name))
        problems.add('FieldValueForbidden', join(field, name.slice(0, 64)), 'is not a known field')
      if (problems.list.length >= PROBLEMS_MAX) return undefined
    }
    const result: Record<string, unknown> = {}
    for (const [name, { shape, required: mustBe }] of known) {
      const given = own.get(name)
      if (given === undefined) {
        if (mustBe) problems.add('FieldValueRequired', join(field, name), 'is required')
        continue
      }
      const parsed = shape(given, join(field, name), problems)
      if (parsed !== undefined) result[name] = parsed
    }
    // Every required field is there and checked, nothing else is: that is what `T` says.
    return problems.list.length === before ? (result as T) : undefined
  }
}

/** An object told apart by its field `kind`. */
export function kinds<T extends { kind: string }>(shapes: {
  readonly [K in T['kind']]: Shape<Extract<T, { kind: K }>>
}): Shape<T> {
  const known = new Map(Object.entries(shapes) as [string, Shape<T>][])
  return (value, field, problems) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return problems.add('FieldValueTypeInvalid', field, `must be an object, not ${quote(value)}`)
    const kind: unknown = Object.hasOwn(value, 'kind') ? (value as { kind: unknown }).kind : undefined
    const shape = typeof kind === 'string' ? known.get(kind) : undefined
    if (!shape)
      return problems.add(
        'FieldValueNotSupported',
        join(field, 'kind'),
        `must be one of ${[...known.keys()].join(', ')}, not ${quote(kind)}`,
      )
    return shape(value, field, problems)
  }
}

export function list<T>(
  item: Shape<T>,
  { min = 0, max }: { min?: number; max: number },
): Shape<readonly T[]> {
  return (value, field, problems) => {
    if (!Array.isArray(value))
      return problems.add('FieldValueTypeInvalid', field, `must be a list, not ${quote(value)}`)
    if (value.length > max)
      return problems.add('FieldValueTooMany', field, `must have at most ${max} items, not ${value.length}`)
    if (value.length < min)
      return problems.add('FieldValueRequired', field, `must have at least ${min} items`)
    const before = problems.list.length
    const result: T[] = []
    for (const [index, given] of value.entries()) {
      if (problems.list.length >= PROBLEMS_MAX) return undefined
      const parsed = item(given, `${field}[${index}]`, problems)
      if (parsed !== undefined) result.push(parsed)
    }
    return problems.list.length === before ? result : undefined
  }
}

/** A string of at most `max` UTF-8 bytes without NUL; `problem` says what else is wrong with it. */
export function text({
  min = 0,
  max,
  problem,
}: {
  min?: number
  max: number
  problem?: (value: string) => string | undefined
}): Shape<string> {
  return (value, field, problems) => {
    if (typeof value !== 'string')
      return problems.add('FieldValueTypeInvalid', field, `must be a string, not ${quote(value)}`)
    // The length in UTF-16 units comes first: it costs nothing, and the bytes are never fewer.
    if (value.length > max || Buffer.byteLength(value) > max)
      return problems.add('FieldValueTooLong', field, `must have at most ${max} bytes`)
    if (value.length < min) return problems.add('FieldValueRequired', field, 'must not be empty')
    if (value.includes('\0')) return problems.add('FieldValueInvalid', field, 'must not contain a NUL byte')
    // A lone surrogate would come out of a file or a command line as another string than it went in.
    if (!value.isWellFormed()) return problems.add('FieldValueInvalid', field, 'must be well-formed Unicode')
    const why = problem?.(value)
    return why === undefined ? value : problems.add('FieldValueInvalid', field, `${quote(value)} ${why}`)
  }
}

export function integer(minimum: number, maximum: number): Shape<number> {
  return (value, field, problems) => {
    if (typeof value !== 'number' || !Number.isSafeInteger(value))
      return problems.add('FieldValueTypeInvalid', field, `must be a whole number, not ${quote(value)}`)
    if (value < minimum || value > maximum)
      return problems.add('FieldValueInvalid', field, `must be from ${minimum} to ${maximum}, not ${value}`)
    // -0 would not survive JSON.
    return value === 0 ? 0 : value
  }
}

export const boolean: Shape<boolean> = (value, field, problems) =>
  typeof value === 'boolean'
    ? value
    : problems.add('FieldValueTypeInvalid', field, `must be true or false, not ${quote(value)}`)

export function oneOf<const T extends string>(...values: readonly T[]): Shape<T> {
  return (value, field, problems) =>
    values.find((v) => v === value) ??
    problems.add('FieldValueNotSupported', field, `must be one of ${values.join(', ')}, not ${quote(value)}`)
}

export function join(field: string, name: string): string {
  return field === '' || name === '' ? field + name : `${field}.${name}`
}

/** Records every item whose key came before. */
export function noDuplicates<T>(
  items: readonly T[],
  field: string,
  problems: Problems,
  key: (item: T) => string | undefined,
  name = '',
): void {
  const seen = new Set<string>()
  for (const [index, item] of items.entries()) {
    const value = key(item)
    if (value === undefined) continue
    if (seen.has(value))
      problems.add('FieldValueDuplicate', join(`${field}[${index}]`, name), `${quote(value)} is there twice`)
    seen.add(value)
  }
}
