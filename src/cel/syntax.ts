/** The tree of an expression. Offsets are UTF-16 code units from its start. */

export type Literal =
  | { type: 'null' }
  | { type: 'bool'; value: boolean }
  | { type: 'int' | 'uint'; value: bigint }
  | { type: 'double'; value: number }
  | { type: 'string'; value: string }
  | { type: 'bytes'; value: Uint8Array }

/** What a macro over a list or map makes. `map` and `filter` make lists, `transformMap*` maps. */
export type ComprehensionKind =
  | 'all'
  | 'exists'
  | 'existsOne'
  | 'filter'
  | 'map'
  | 'transformList'
  | 'transformMap'
  | 'transformMapEntry'

export type Node = { readonly at: number } & (
  | { readonly node: 'literal'; readonly literal: Literal }
  | { readonly node: 'identifier'; readonly name: string }
  /** `has(a.b)` is `test`; `a.?b` is `optional`. */
  | {
      readonly node: 'select'
      readonly operand: Node
      readonly field: string
      readonly test: boolean
      readonly optional: boolean
    }
  | { readonly node: 'index'; readonly operand: Node; readonly index: Node; readonly optional: boolean }
  | {
      readonly node: 'call'
      readonly name: string
      readonly receiver: Node | undefined
      readonly args: readonly Node[]
    }
  | { readonly node: 'and' | 'or'; readonly terms: readonly Node[] }
  | { readonly node: 'conditional'; readonly test: Node; readonly yes: Node; readonly no: Node }
  | { readonly node: 'list'; readonly items: readonly { readonly value: Node; readonly optional: boolean }[] }
  | {
      readonly node: 'map'
      readonly entries: readonly { readonly key: Node; readonly value: Node; readonly optional: boolean }[]
    }
  | {
      readonly node: 'comprehension'
      readonly kind: ComprehensionKind
      readonly range: Node
      /** One name for the item (a map's key), or two: index or key, then value. */
      readonly names: readonly [string] | readonly [string, string]
      readonly filter: Node | undefined
      readonly body: Node
    }
  | { readonly node: 'bind'; readonly name: string; readonly value: Node; readonly body: Node }
  /** `optMap` (`wrap`) and `optFlatMap`. */
  | {
      readonly node: 'optionalMap'
      readonly operand: Node
      readonly name: string
      readonly body: Node
      readonly wrap: boolean
    }
)

/** The function that `sortBy` stands for: sorts a list as another one, of its keys, is sorted. */
export const SORT_BY_KEYS = '@sortByAssociatedKeys'

/** A problem with an expression, at a place in it. */
export type Problem = { readonly message: string; readonly at: number }

/** Ends reading or checking; never leaves the room. */
export class ExpressionError extends Error {
  readonly at: number
  constructor(message: string, at: number) {
    super(message)
    this.at = at
  }
}

/** `ERROR: <input>:1:5: message`, with the line and a caret below the place, as upstream shows it. */
export function renderProblem(expression: string, { message, at }: Problem): string {
  const before = expression.slice(0, at)
  const line = before.split('\n').length
  const lineStart = before.lastIndexOf('\n') + 1
  const column = [...before.slice(lineStart)].length
  const text = expression.slice(lineStart).split('\n', 1)[0] ?? ''
  return `ERROR: <input>:${line}:${column + 1}: ${message}\n | ${text}\n | ${'.'.repeat(column)}^`
}
