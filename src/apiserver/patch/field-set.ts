import type { JsonValue } from '../../api/index.ts'
import { isRecord } from '../json.ts'
import { FIELD_SET_DEPTH_MAX, FIELD_SET_PATHS_MAX } from './limits.ts'

/**
 * A set of paths into an object, as `managedFields[].fieldsV1` writes it: a trie whose edges are path elements
 * (`f:name` a field, `k:{"name":"c"}` a list item by its keys, `v:"x"` a list item by its value, `i:0` by its index).
 * A path is in the set when its node is a member. Sets are never changed once they are shared.
 */
export type FieldSet = {
  readonly member: boolean
  readonly children: ReadonlyMap<string, FieldSet>
}

const NO_CHILDREN: ReadonlyMap<string, FieldSet> = new Map()

/** A set while it is being filled: `begin` and `end` lead down and up a path, `insert` adds the one that we are at. */
export class FieldSetBuilder {
  private readonly path: string[] = []
  /** The nodes on the path from the root, as far as there are any yet. */
  private readonly nodes: Node[] = [new Node()]

  begin(element: string): void {
    this.path.push(element)
  }

  end(): void {
    this.path.pop()
    if (this.nodes.length > this.path.length + 1) this.nodes.pop()
  }

  insert(): void {
    for (let depth = this.nodes.length; depth <= this.path.length; depth++) {
      const node = this.nodes[depth - 1]! // there is always the root
      this.nodes.push(node.child(this.path[depth - 1]!)) // a path is as long as it is deep
    }
    this.nodes[this.path.length]!.member = true // the loop has made it
  }

  /** What was inserted below the root. */
  get set(): FieldSet {
    return this.nodes[0]! // never popped
  }
}

/** Most are leaves, which need no map of their own. */
class Node implements FieldSet {
  member = false
  children: ReadonlyMap<string, FieldSet> = NO_CHILDREN
  private own: Map<string, Node> | undefined

  child(element: string): Node {
    this.children = this.own ??= new Map()
    let child = this.own.get(element)
    if (!child) this.own.set(element, (child = new Node()))
    return child
  }
}

export const EMPTY_FIELD_SET: FieldSet = { member: false, children: NO_CHILDREN }
const LEAF: FieldSet = { member: true, children: NO_CHILDREN }

export function isEmpty(set: FieldSet): boolean {
  return !set.member && set.children.size === 0
}

export function union(a: FieldSet, b: FieldSet): FieldSet {
  if (a === b || isEmpty(b)) return a
  if (isEmpty(a)) return b
  const children = new Map(a.children)
  for (const [element, child] of b.children) {
    const other = children.get(element)
    children.set(element, other ? union(other, child) : child)
  }
  return { member: a.member || b.member, children }
}

export function intersection(a: FieldSet, b: FieldSet): FieldSet {
  const children = new Map<string, FieldSet>()
  for (const [element, child] of a.children) {
    const other = b.children.get(element)
    const both = other ? intersection(child, other) : EMPTY_FIELD_SET
    if (!isEmpty(both)) children.set(element, both)
  }
  return { member: a.member && b.member, children }
}

/** The paths of `a` that are not in `b`; `a` itself when that is all of them. */
export function difference(a: FieldSet, b: FieldSet): FieldSet {
  let children: Map<string, FieldSet> | undefined
  for (const [element, other] of b.children) {
    const child = a.children.get(element)
    if (!child) continue
    const rest = difference(child, other)
    if (rest === child) continue
    children ??= new Map(a.children)
    if (isEmpty(rest)) children.delete(element)
    else children.set(element, rest)
  }
  const member = a.member && !b.member
  return children || member !== a.member ? { member, children: children ?? a.children } : a
}

/** The paths of `set` that begin with one of the elements, or only the others. */
export function filterFirst(set: FieldSet, keep: (element: string) => boolean): FieldSet {
  const children = new Map<string, FieldSet>()
  for (const [element, child] of set.children) if (keep(element)) children.set(element, child)
  return children.size === set.children.size ? set : { member: set.member, children }
}

/** Every path; of what is on one level, first what is in the set itself, and then what is below. As upstream tells conflicts. */
export function* pathsOf(set: FieldSet): Generator<readonly string[]> {
  if (set.member) yield []
  yield* pathsBelow(set, [])
}

function* pathsBelow(set: FieldSet, prefix: readonly string[]): Generator<readonly string[]> {
  const children = sortedChildren(set)
  for (const [element, { member }] of children) if (member) yield [...prefix, element]
  for (const [element, child] of children) yield* pathsBelow(child, [...prefix, element])
}

/** As upstream prints a path: `.spec.containers[name="c"].image`. */
export function renderPath(path: readonly string[]): string {
  return path.map(renderElement).join('')
}

function renderElement(element: string): string {
  const rest = element.slice(2)
  switch (element[0]) {
    case 'f':
      return `.${rest}`
    case 'v':
      return `[=${rest}]`
    case 'k': {
      const keys = JSON.parse(rest) as Record<string, JsonValue>
      return `[${Object.entries(keys)
        .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
        .join(',')}]`
    }
    default:
      return `[${rest}]`
  }
}

/** The element of a list item that is found by its keys; names in alphabetical order, as upstream. */
export function keyElement(keys: readonly (readonly [string, JsonValue])[]): string {
  return `k:{${keys.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`
}

/**
 * Parses a `fieldsV1`, which a client may have written.
 * @returns undefined when it is not one, or is beyond the limits.
 */
export function parseFieldSet(json: unknown): FieldSet | undefined {
  if (!isRecord(json)) return undefined
  let paths = 0
  const parse = (node: JsonValue, depth: number): FieldSet | undefined => {
    if (!isRecord(node) || depth > FIELD_SET_DEPTH_MAX || ++paths > FIELD_SET_PATHS_MAX) return undefined
    let member = depth > 0
    const children = new Map<string, FieldSet>()
    for (const key in node) {
      if (key === '.') {
        if (!isRecord(node[key])) return undefined
        continue
      }
      const element = normalElement(key)
      const child = element === undefined ? undefined : parse(node[key] ?? null, depth + 1)
      if (element === undefined || !child) return undefined
      children.set(element, child)
    }
    if (children.size > 0) member = depth > 0 && Object.hasOwn(node, '.')
    return children.size === 0 && member ? LEAF : { member, children }
  }
  return parse(json, 0)
}

/** The one spelling of a path element, or undefined when it is none. */
function normalElement(text: string): string | undefined {
  const rest = text.slice(2)
  switch (text.slice(0, 2)) {
    case 'f:':
      return text
    case 'i:':
      return /^\d{1,9}$/.test(rest) ? text : undefined
    case 'v:':
    case 'k:': {
      if (isPlainKey(text)) return text
      let value: JsonValue
      try {
        value = JSON.parse(rest) as JsonValue
      } catch {
        return undefined
      }
      if (text.startsWith('v:')) return typeof value === 'object' ? undefined : `v:${JSON.stringify(value)}`
      if (!isRecord(value) || Object.values(value).some((v) => typeof v === 'object' && v !== null))
        return undefined
      return keyElement(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    }
    default:
      return undefined
  }
}

/** One key, or two in order, with values that there is one way to write: nothing about it needs to be read. */
const PLAIN_KEY =
  /^k:\{"([A-Za-z]+)":(?:"[\w./-]*"|0|[1-9]\d{0,8})(?:,"([A-Za-z]+)":(?:"[\w./-]*"|0|[1-9]\d{0,8}))?\}$/

function isPlainKey(text: string): boolean {
  const [, first, second] = PLAIN_KEY.exec(text) ?? []
  return first !== undefined && (second === undefined || first < second)
}

export function renderFieldSet(set: FieldSet): JsonValue {
  const render = (node: FieldSet, depth: number): JsonValue => {
    const json: { [element: string]: JsonValue } = {}
    if (depth > 0 && node.member && node.children.size > 0) json['.'] = {}
    if (node.children.size > 0)
      for (const [element, child] of sortedChildren(node)) json[element] = render(child, depth + 1)
    return json
  }
  return render(set, 0)
}

const KINDS = 'fkvi'

/** Fields, then items by key, value and index; items compare by what they hold, so that port 80 is before 8080. */
function sortedChildren({ children }: FieldSet): readonly (readonly [string, FieldSet])[] {
  const entries = [...children]
  if (entries.length < 2) return entries
  // Most have fields only, which compare as they are written.
  if (entries.every(([element]) => element.startsWith('f:')))
    return entries.sort(([a], [b]) => (a < b ? -1 : 1))
  return entries
    .map((entry) => {
      const [element] = entry
      const kind = KINDS.indexOf(element[0] ?? '')
      const holds = kind === 0 ? element : (JSON.parse(element.slice(2)) as JsonValue)
      return { kind, holds, entry }
    })
    .sort((a, b) => a.kind - b.kind || compareValues(a.holds, b.holds))
    .map(({ entry }) => entry)
}

function compareValues(a: JsonValue, b: JsonValue): number {
  if (isRecord(a) && isRecord(b)) {
    const [left, right] = [Object.entries(a), Object.entries(b)]
    for (const [at, [name, value]] of left.entries()) {
      const other = right[at]
      if (!other) return 1
      if (name !== other[0]) return name < other[0] ? -1 : 1
      const values = compareValues(value, other[1])
      if (values !== 0) return values
    }
    return left.length - right.length
  }
  if (typeof a === 'number' && typeof b === 'number') return a - b
  const [left, right] = [String(a), String(b)]
  return left < right ? -1 : left > right ? 1 : 0
}
