import { setImmediate as otherWork } from 'node:timers/promises'
import type { KindDefinition, KubeObject, ListMeta } from '../api/index.ts'
import { KiB } from '../stdx/index.ts'
import { storedText } from '../store/index.ts'
import { LIST_ITEMS_RENDERED_AT_ONCE } from './limits.ts'
import type { Shown } from './request.ts'
import { renderTable, type TableOptions } from './table.ts'

/** Of a long answer; so large that there are few of them. */
const PIECE_BYTES = 256 * KiB

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
export function renderJsonList(
  shell: Readonly<Record<string, unknown>>,
  items: readonly Shown[],
  type: { kind: string; apiVersion: string },
): AsyncGenerator<Buffer> {
  // Stored objects begin with their type, see `inOrder`; what follows it needs no rendering.
  const typed = `{"kind":${JSON.stringify(type.kind)},"apiVersion":${JSON.stringify(type.apiVersion)},`
  return renderEntries(`${JSON.stringify(shell).slice(0, -1)},"items":[`, items, (item, pieces) => {
    const text = item.json?.()
    if (!text?.startsWith(typed)) return pieces.add(JSON.stringify(withoutType(item.object)))
    pieces.add('{')
    pieces.add(text.slice(typed.length))
  })
}

/** The table of a list as JSON, piece by piece as above: the same as `renderTable` makes of it. */
export function renderJsonTable(
  definition: Pick<KindDefinition, 'columns'>,
  items: readonly Shown[],
  options: TableOptions & { metadata: ListMeta },
): AsyncGenerator<Buffer> {
  const { rows: _none, ...shell } = renderTable(definition, [], options)
  const { columns } = definition
  const { nowMs, includeObject, version = 'v1' } = options
  const partial = `,"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/${version}","metadata":`
  return renderEntries(`${JSON.stringify(shell).slice(0, -1)},"rows":[`, items, (item, pieces) => {
    const { object } = item
    const cells = JSON.stringify(columns.map((column) => column.cell(object, nowMs)))
    switch (includeObject) {
      case 'None':
        return pieces.add(`{"cells":${cells},"object":null}`)
      case 'Metadata':
        pieces.add(`{"cells":${cells}${partial}`)
        pieces.add(item.metadataJson?.() ?? JSON.stringify(object.metadata))
        return pieces.add('}}')
      case 'Object':
        pieces.add(`{"cells":${cells},"object":`)
        pieces.add(item.json?.() ?? JSON.stringify(object))
        return pieces.add('}')
      default:
        includeObject satisfies never
    }
  })
}

/** `opening` has the bracket that the entries follow. */
async function* renderEntries(
  opening: string,
  items: readonly Shown[],
  add: (item: Shown, pieces: Pieces) => void,
): AsyncGenerator<Buffer> {
  const pieces = new Pieces(items.length > LIST_ITEMS_RENDERED_AT_ONCE ? PIECE_BYTES : 0)
  pieces.add(opening)
  for (const [at, item] of items.entries()) {
    if (at > 0) pieces.add(',')
    add(item, pieces)
    if (at % LIST_ITEMS_RENDERED_AT_ONCE !== LIST_ITEMS_RENDERED_AT_ONCE - 1) continue
    yield* pieces.take()
    await otherWork()
  }
  pieces.add(']}\n')
  yield* pieces.end()
}

/** Text on its way to becoming bytes: what is long is written into few large buffers, and neither joined nor copied before. */
class Pieces {
  private full: Buffer[] = []
  private piece: Buffer
  private used = 0
  /** What has no large buffer. */
  private text = ''

  constructor(pieceBytes: number) {
    this.piece = Buffer.allocUnsafeSlow(pieceBytes)
  }

  add(text: string): void {
    const { piece } = this
    if (piece.length === 0) {
      this.text += text
      return
    }
    // A unit of UTF-16 takes at most three bytes of UTF-8.
    if (3 * text.length > piece.length - this.used) {
      this.full.push(piece.subarray(0, this.used))
      this.piece = Buffer.allocUnsafeSlow(Math.max(PIECE_BYTES, 3 * text.length))
      this.used = 0
    }
    this.used += this.piece.write(text, this.used)
  }

  /** Those that are full. */
  take(): Buffer[] {
    const { full } = this
    this.full = []
    return full
  }

  /** All that is left. */
  end(): Buffer[] {
    return [
      ...this.take(),
      this.piece.length === 0 ? Buffer.from(this.text) : this.piece.subarray(0, this.used),
    ]
  }
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
