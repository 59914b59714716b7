import { setImmediate as otherWork } from 'node:timers/promises'
import type { KubeObject } from '../api/index.ts'
import { storedText } from '../store/index.ts'
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

/** An object as JSON; that of a stored one is at hand. */
export function renderJsonObject(object: KubeObject): string {
  return storedText(object) ?? JSON.stringify(object)
}

/** A list as JSON, piece by piece as above. `type` is what the items have in common and do not say again. */
export async function* renderJsonList(
  shell: Readonly<Record<string, unknown>>,
  items: readonly KubeObject[],
  type: { kind: string; apiVersion: string },
): AsyncGenerator<Buffer> {
  // Stored objects begin with their type, see `inOrder`; what follows it needs no rendering.
  const typed = `{"kind":${JSON.stringify(type.kind)},"apiVersion":${JSON.stringify(type.apiVersion)},`
  const itemOf = (object: KubeObject) => {
    const text = storedText(object)
    return text?.startsWith(typed) ? `{${text.slice(typed.length)}` : JSON.stringify(withoutType(object))
  }
  let opening = `${JSON.stringify(shell).slice(0, -1)},"items":[`
  for (let from = 0; from < items.length; from += LIST_ITEMS_RENDERED_AT_ONCE) {
    if (from > 0) await otherWork()
    const slice = items.slice(from, from + LIST_ITEMS_RENDERED_AT_ONCE)
    yield Buffer.from(opening + slice.map(itemOf).join(','))
    opening = ','
  }
  yield Buffer.from(items.length === 0 ? `${opening}]}\n` : ']}\n')
}

/** Items of a list carry no type: the list has it. */
export function withoutType(object: KubeObject): unknown {
  const { kind: _kind, apiVersion: _apiVersion, ...rest } = object
  return rest
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
