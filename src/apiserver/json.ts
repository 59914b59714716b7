import type { JsonValue } from '../api/index.ts'

/** A deep copy of plain JSON; several times faster than `structuredClone`. */
export function cloneJson<T>(value: T): T {
  return cloneValue(value) as T
}

function cloneValue(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) {
    const copy: unknown[] = Array.from({ length: value.length })
    for (let at = 0; at < value.length; at++) copy[at] = cloneValue(value[at])
    return copy
  }
  const copy: Record<string, unknown> = {}
  for (const key in value) copy[key] = cloneValue((value as Record<string, unknown>)[key])
  return copy
}

/** Equality of plain JSON; the order of keys does not matter, and an absent key equals one that is undefined. */
export function equalJson(a: unknown, b: unknown): boolean {
  if (a === b) return true
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false
    return a.every((item, at) => equalJson(item, b[at]))
  }
  const left = a as Record<string, unknown>
  const right = b as Record<string, unknown>
  for (const key in left) if (!equalJson(left[key], right[key])) return false
  // A key may be one that every object inherits, such as `constructor`.
  for (const key in right) if (right[key] !== undefined && !Object.hasOwn(left, key)) return false
  return true
}

export function isRecord(value: unknown): value is Record<string, JsonValue> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
