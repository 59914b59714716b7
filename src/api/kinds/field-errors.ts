import type { FieldError } from '../status.ts'
import { QUOTED_VALUE_CHARS_MAX } from '../limits.ts'

/** The problems of a field in upstream's words, which people and tools already know. */

function quoted(value: unknown): string {
  const text = JSON.stringify(value) ?? 'null'
  return text.length > QUOTED_VALUE_CHARS_MAX ? `${text.slice(0, QUOTED_VALUE_CHARS_MAX)}…` : text
}

export function requiredValue(field: string, detail = ''): FieldError {
  return {
    reason: 'FieldValueRequired',
    field,
    message: detail ? `Required value: ${detail}` : 'Required value',
  }
}

export function invalidValue(field: string, value: unknown, detail: string): FieldError {
  return { reason: 'FieldValueInvalid', field, message: `Invalid value: ${quoted(value)}: ${detail}` }
}

export function duplicateValue(field: string, value: unknown): FieldError {
  return { reason: 'FieldValueDuplicate', field, message: `Duplicate value: ${quoted(value)}` }
}

export function valueNotFound(field: string, value: unknown): FieldError {
  return { reason: 'FieldValueNotFound', field, message: `Not found: ${quoted(value)}` }
}

export function forbiddenField(field: string, detail: string): FieldError {
  return { reason: 'FieldValueForbidden', field, message: `Forbidden: ${detail}` }
}

/** @param options.inOrder when they are told in the order in which they were given. */
export function unsupportedValue(
  field: string,
  value: unknown,
  supported: readonly string[],
  { inOrder = false }: { inOrder?: boolean } = {},
): FieldError {
  const list = (inOrder ? supported : [...supported].sort()).map((v) => JSON.stringify(v)).join(', ')
  return {
    reason: 'FieldValueNotSupported',
    field,
    message: `Unsupported value: ${quoted(value)}: supported values: ${list}`,
  }
}

export function tooLong(field: string, maximum: number): FieldError {
  return {
    reason: 'FieldValueTooLong',
    field,
    message: `Too long: may not be more than ${maximum} ${maximum === 1 ? 'byte' : 'bytes'}`,
  }
}

export function tooMany(field: string, actual: number, maximum: number): FieldError {
  return {
    reason: 'FieldValueTooMany',
    field,
    message: `Too many: ${actual}: must have at most ${maximum} ${maximum === 1 ? 'item' : 'items'}`,
  }
}
