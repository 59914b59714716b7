import { MESSAGE_CHARS_MAX, VIOLATIONS_MAX } from './limits.ts'

/** What a policy decided about one request. */
export type Decision = { violations: readonly string[]; warnings: readonly string[] }

/**
 * Reads what an entrypoint gave: a boolean (may it be), a set of messages (why it may not), or a package with `allow`, `deny`
 * or `violation`, and `warn`. Anything else, nothing at all for instance, is no decision.
 */
export function parseDecision(value: unknown): Decision | undefined {
  if (typeof value === 'boolean') return { violations: allowed(value), warnings: [] }
  if (Array.isArray(value)) {
    const violations = messages(value)
    return violations && { violations, warnings: [] }
  }
  if (typeof value !== 'object' || value === null) return undefined
  const rules = value as Readonly<Record<string, unknown>>
  const has = (name: string) => Object.hasOwn(rules, name)
  // A package without any of them decides nothing. An `allow` that has no value is not there, so it needs a default.
  if (!has('allow') && !has('deny') && !has('violation')) return undefined
  if (has('allow') && typeof rules['allow'] !== 'boolean') return undefined
  const deny = has('deny') ? messages(rules['deny']) : []
  const violation = has('violation') ? messages(rules['violation']) : []
  const warnings = has('warn') ? messages(rules['warn']) : []
  if (!deny || !violation || !warnings) return undefined
  const violations = [...deny, ...violation]
  if (violations.length === 0 && has('allow')) violations.push(...allowed(rules['allow'] === true))
  return { violations: violations.slice(0, VIOLATIONS_MAX), warnings: warnings.slice(0, VIOLATIONS_MAX) }
}

function allowed(yes: boolean): string[] {
  return yes ? [] : ['it does not allow this']
}

/** Undefined when one of them is neither a text nor an object with `msg`. */
function messages(value: unknown): string[] | undefined {
  if (!Array.isArray(value)) return undefined
  const texts: string[] = []
  for (const item of value.slice(0, VIOLATIONS_MAX) as unknown[]) {
    const text = typeof item === 'string' ? item : (item as { msg?: unknown } | null)?.msg
    if (typeof text !== 'string') return undefined
    const line = text.slice(0, MESSAGE_CHARS_MAX).replace(/\p{Cc}+/gu, ' ')
    texts.push(line.trim() === '' ? 'it gives no reason' : line)
  }
  return texts
}
