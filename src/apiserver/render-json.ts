import { setImmediate as otherWork } from 'node:timers/promises'
import { LIST_ITEMS_RENDERED_AT_ONCE } from './limits.ts'

/**
 * An answer as JSON, piece by piece: a list or table of thousands of objects takes so long that others of this process
 * must have their turn in between.
 */
export async function* renderJson(value: unknown): AsyncGenerator<Buffer> {
  const long = longPartOf(value)
  if (!long) {
    yield Buffer.from(`${JSON.stringify(value)}\n`)
    return
  }
  const { shell, key, entries } = long
  const opening = JSON.stringify(shell).slice(0, -1)
  yield Buffer.from(`${opening}${opening === '{' ? '' : ','}${JSON.stringify(key)}:[`)
  for (let from = 0; from < entries.length; from += LIST_ITEMS_RENDERED_AT_ONCE) {
    const slice = JSON.stringify(entries.slice(from, from + LIST_ITEMS_RENDERED_AT_ONCE))
    yield Buffer.from(`${from === 0 ? '' : ','}${slice.slice(1, -1)}`)
    await otherWork()
  }
  yield Buffer.from(']}\n')
}

/** The items of a list or the rows of a table, if they are many, and the document without them. */
function longPartOf(
  value: unknown,
): { shell: Record<string, unknown>; key: string; entries: readonly unknown[] } | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  for (const key of ['items', 'rows']) {
    const { [key]: entries, ...shell } = value as Record<string, unknown>
    if (Array.isArray(entries) && entries.length > LIST_ITEMS_RENDERED_AT_ONCE) return { shell, key, entries }
  }
  return undefined
}
