import { createHash } from 'node:crypto'

// No vowels, so that no words appear by accident.
const HASH_ALPHABET = 'bcdfghjklmnpqrstvwxz2456789'
const HASH_CHARS = 10

/** Names a JSON value by its content, for parts of names and labels. Another `collisionCount` gives another hash. */
export function contentHash(value: unknown, collisionCount?: number): string {
  const digest = createHash('sha256')
    .update(canonical(value))
    .update(String(collisionCount ?? ''))
    .digest()
  return [...digest.subarray(0, HASH_CHARS)]
    .map((byte) => HASH_ALPHABET[byte % HASH_ALPHABET.length])
    .join('')
}

/** JSON in which the order of fields does not matter. */
function canonical(value: unknown): string {
  if (value === undefined || value === null || typeof value !== 'object') return JSON.stringify(value ?? null)
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item)).join(',')}]`
  const fields = Object.keys(value).toSorted()
  const object = value as Record<string, unknown>
  return `{${fields.map((field) => `${JSON.stringify(field)}:${canonical(object[field])}`).join(',')}}`
}
