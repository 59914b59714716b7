import type { DeclaredSize } from './declared-size.ts'
import type { Overload } from './library/overload.ts'
import { AUTHORIZATION_COST } from './limits.ts'
import { type Literal, type Node, SORT_BY_KEYS } from './syntax.ts'
import type { CelType } from './types.ts'

// What evaluating an expression can cost at most, before there is a value: how large values can be says their schema.
// The numbers and the few oddities are those of upstream's estimate, because what may be written depends on them. What an
// evaluation really costs is counted apart from this, by the meter.

/** What the checker found out about the parts of an expression. */
export type Checked = {
  readonly root: Node
  readonly types: ReadonlyMap<Node, CelType>
  readonly calls: ReadonlyMap<Node, CheckedCall>
  /** Selections that are in truth the name of one thing, such as of a type. */
  readonly names: ReadonlySet<Node>
}
export type CheckedCall = {
  readonly name: string
  readonly receiver: Node | undefined
  readonly args: readonly Node[]
  /** All that may be meant, as far as types tell. */
  readonly overloads: readonly Overload[]
}

/** @param value how large the value is that the expression is about. */
export function estimateCost(checked: Checked, value: DeclaredSize): number {
  return new Estimator(checked, value).estimate(checked.root, undefined).cost.max
}

/** From the least to the most. The most may be infinite. */
type Range = { readonly min: number; readonly max: number }
/** Where a value is within the one that the expression is about. The first element is the variable. */
type Path = readonly string[]
/** What is in a list or map that an expression makes. */
type Entries = { readonly of: 'list' | 'map'; readonly keys: Range; readonly values: Range }
type Estimate = {
  readonly cost: Range
  /** Bytes or items, as far as anything is known. */
  readonly size: Range | undefined
  readonly path: Path
  readonly entries: Entries | undefined
}
type Local = Omit<Estimate, 'cost'> & { readonly name: string; readonly outer: Local | undefined }
type Call = { readonly cost: Range; readonly size?: Range | undefined }

const NOWHERE: Path = []
const UNKNOWN: Range = { min: 0, max: Infinity }
const only = (value: number): Range => ({ min: value, max: value })
const ONE = only(1)
const NOTHING = only(0)
const LIST_COST = only(10)
const MAP_COST = only(30)
/** Of one byte that is looked at. */
const BYTE_COST = 0.1
const PATTERN_BYTE_COST = 0.25
/** Upstream's longest pattern of a named format, and the length of a network address. */
const FORMAT_PATTERN_BYTES = 128
const ADDRESS: Range = { min: 4, max: 16 }

const times = (a: number, b: number) => (a === 0 || b === 0 ? 0 : a * b)
const plus = (...ranges: readonly Range[]): Range => ({
  min: ranges.reduce((sum, { min }) => sum + min, 0),
  max: ranges.reduce((sum, { max }) => sum + max, 0),
})
const multiply = (a: Range, b: Range): Range => ({ min: times(a.min, b.min), max: times(a.max, b.max) })
const scale = ({ min, max }: Range, factor: number): Range => ({
  min: Math.ceil(times(min, factor)),
  max: Math.ceil(times(max, factor)),
})
const either = (a: Range, b: Range): Range => ({ min: Math.min(a.min, b.min), max: Math.max(a.max, b.max) })
const read = (size: Range) => scale(size, BYTE_COST)
const known = ({ size }: Pick<Estimate, 'size'>): Range => size ?? UNKNOWN

/** Called as free functions or methods, at the price of a step. */
const NOMINAL: ReadonlySet<string> = new Set([
  ...['serviceAccount', 'path', 'group', 'resource', 'subresource', 'namespace', 'name'],
  ...['allowed', 'reason', 'error', 'errored'],
  ...['masked', 'prefixLength', 'family', 'isUnspecified', 'isLoopback', 'isLinkLocalMulticast'],
  ...['isLinkLocalUnicast', 'isGlobalUnicast', 'format.named'],
  ...['sign', 'asInteger', 'isInteger', 'asApproximateFloat', 'isGreaterThan', 'isLessThan', 'compareTo'],
  ...['add', 'sub', 'major', 'minor', 'patch'],
  ...['getScheme', 'getHostname', 'getHost', 'getPort', 'getEscapedPath', 'getQuery'],
])
/** They read their only argument once. */
const PARSERS: ReadonlySet<string> = new Set(
  'cidr isIP isCIDR ip quantity isQuantity semver isSemver'.split(' '),
)
const COMPARISONS: ReadonlySet<string> = new Set(['==', '!=', '<', '<=', '>', '>='])

class Estimator {
  readonly #checked: Checked
  readonly #value: DeclaredSize

  constructor(checked: Checked, value: DeclaredSize) {
    this.#checked = checked
    this.#value = value
  }

  estimate(node: Node, local: Local | undefined): Estimate {
    if (this.#checked.names.has(node)) return this.#named(node, [''], undefined)
    switch (node.node) {
      case 'literal':
        return { cost: NOTHING, size: only(lengthOf(node.literal)), path: NOWHERE, entries: undefined }
      case 'identifier':
        return this.#identifier(node, local)
      case 'select':
        return this.#select(node, local)
      case 'index':
        return this.#index(node, local)
      case 'call':
        return this.#call(node, local)
      case 'and':
      case 'or': {
        const costs = node.terms.map((term) => this.estimate(term, local).cost)
        // The first term may decide.
        return this.#made(node, { min: costs[0]?.min ?? 0, max: plus(...costs).max })
      }
      case 'conditional': {
        const test = this.estimate(node.test, local).cost
        return this.#conditional(test, this.estimate(node.yes, local), this.estimate(node.no, local))
      }
      case 'list': {
        const items = node.items.map(({ value }) => this.estimate(value, local))
        const cost = plus(LIST_COST, ...items.map((item) => item.cost))
        const entries: Entries = { of: 'list', keys: ONE, values: anyOf(items.map(known)) }
        return { cost, size: only(items.length), path: NOWHERE, entries }
      }
      case 'map': {
        const keys = node.entries.map(({ key }) => this.estimate(key, local))
        const values = node.entries.map(({ value }) => this.estimate(value, local))
        const cost = plus(MAP_COST, ...[...keys, ...values].map((part) => part.cost))
        const entries: Entries = { of: 'map', keys: anyOf(keys.map(known)), values: anyOf(values.map(known)) }
        return { cost, size: only(keys.length), path: NOWHERE, entries }
      }
      case 'comprehension':
        return this.#comprehension(node, local)
      case 'bind':
        return this.#bind(node.name, this.estimate(node.value, local), node.body, local)
      case 'optionalMap': {
        // It stands for a question whether there is a value, which is then made twice.
        const operand = this.estimate(node.operand, local)
        const test = plus(operand.cost, ONE)
        const value: Estimate = {
          cost: test,
          size: this.#scalar(node.operand),
          path: NOWHERE,
          entries: undefined,
        }
        const body = this.#bind(node.name, value, node.body, local)
        const yes = node.wrap
          ? { cost: plus(body.cost, ONE), size: this.#scalar(node), path: NOWHERE, entries: undefined }
          : body
        return this.#conditional(test, yes, {
          cost: ONE,
          size: this.#scalar(node),
          path: NOWHERE,
          entries: undefined,
        })
      }
      default:
        return node satisfies never
    }
  }

  /** What a schema says about the size at a place. */
  #declared(path: Path): Range | undefined {
    if (path.length === 0) return undefined
    let at: DeclaredSize | undefined = this.#value
    for (const name of path.slice(1)) {
      if (name === '@items' || name === '@values') at = at.items
      else if (name === '@keys') at = at.keys
      else at = at.fields?.get(name)
      if (!at) return undefined
    }
    return { min: 0, max: at.elementsMax }
  }

  #type(node: Node): CelType | undefined {
    return this.#checked.types.get(node)
  }

  /** Numbers and the like are of one size whatever their value. */
  #scalar(node: Node): Range | undefined {
    const type = this.#type(node)
    const inner = type?.type === 'optional' ? type.of : type
    return inner && SCALARS.has(inner.type) ? ONE : undefined
  }

  /** A value that is computed: of its place nothing is known. */
  #made(node: Node, cost: Range, size?: Range, entries?: Entries): Estimate {
    return { cost, size: size ?? this.#scalar(node), path: NOWHERE, entries }
  }

  #named(node: Node, path: Path, local: Local | undefined, cost = ONE): Estimate {
    const size = this.#declared(path) ?? this.#scalar(node) ?? local?.size
    return { cost, size, path, entries: local?.entries }
  }

  #identifier(node: Node & { node: 'identifier' }, local: Local | undefined): Estimate {
    for (let at = local; at; at = at.outer) if (at.name === node.name) return this.#named(node, at.path, at)
    return this.#named(node, [node.name], undefined)
  }

  #select(node: Node & { node: 'select' }, local: Local | undefined): Estimate {
    const operand = this.estimate(node.operand, local)
    if (node.test) return this.#made(node, operand.cost)
    if (node.optional) return this.#made(node, plus(operand.cost, ONE))
    const of = this.#type(node.operand)?.type
    const cost = of === 'map' || of === 'object' ? plus(operand.cost, ONE) : operand.cost
    return this.#named(node, [...operand.path, node.field], undefined, cost)
  }

  #index(node: Node & { node: 'index' }, local: Local | undefined): Estimate {
    const [operand, index] = [this.estimate(node.operand, local), this.estimate(node.index, local)]
    const cost = plus(operand.cost, index.cost, ONE)
    if (node.optional) return this.#made(node, cost)
    const of = this.#type(node.operand)?.type
    if (of === 'optional') return this.#made(node, cost)
    const path = [...operand.path, of === 'list' ? '@items' : '@values']
    const size = operand.entries?.values ?? this.#declared(path) ?? this.#scalar(node)
    return { cost, size, path, entries: undefined }
  }

  #conditional(test: Range, yes: Estimate, no: Estimate): Estimate {
    return {
      cost: plus(test, either(yes.cost, no.cost)),
      size: either(known(yes), known(no)),
      path: NOWHERE,
      entries: eitherEntries(yes.entries, no.entries),
    }
  }

  #bind(name: string, value: Estimate, body: Node, outer: Local | undefined): Estimate {
    const { cost: _paid, ...rest } = value
    const result = this.estimate(body, { ...rest, name, outer })
    return { ...result, cost: plus(LIST_COST, value.cost, result.cost), path: NOWHERE }
  }

  #comprehension(node: Node & { node: 'comprehension' }, local: Local | undefined): Estimate {
    const { kind, names, filter, body } = node
    const range = this.estimate(node.range, local)
    const { entries } = range
    const container = entries?.of ?? (this.#type(node.range)?.type === 'list' ? 'list' : 'map')
    const isList = container === 'list'
    const variable = (
      name: string,
      part: string,
      size: Range | undefined,
      outer: Local | undefined,
    ): Local => ({
      name,
      path: [...range.path, part],
      size,
      entries: undefined,
      outer,
    })
    const [first, second] = names
    const keyOf = (name: string, outer: Local | undefined) =>
      variable(name, isList ? '@indices' : '@keys', entries?.keys, outer)
    const valueOf = (name: string, outer: Local | undefined) =>
      variable(name, isList ? '@items' : '@values', entries?.values, outer)
    const inner =
      second === undefined ? (isList ? valueOf : keyOf)(first, local) : valueOf(second, keyOf(first, local))
    const step = this.estimate(body, inner)
    const filtered = filter && this.estimate(filter, inner).cost
    /** What a step that may be left out costs. */
    const chosen = (test: Range | undefined, cost: Range) => (test ? plus(test, either(cost, ONE)) : cost)
    const perItem = (() => {
      switch (kind) {
        // Reading what is decided so far, asking whether to go on, and joining it with what this item says.
        case 'all':
          return { min: 3, max: 3 + step.cost.max }
        case 'exists':
          return { min: 4, max: 4 + step.cost.max }
        case 'existsOne':
          return plus(step.cost, { min: 1, max: 2 })
        case 'filter':
          return chosen(step.cost, plus(only(13), NOTHING))
        case 'map':
        case 'transformList':
          return chosen(filtered, plus(step.cost, only(12)))
        case 'transformMap':
          return chosen(filtered, plus(step.cost, only(3)))
        case 'transformMapEntry':
          return chosen(filtered, plus(step.cost, only(2)))
        default:
          return kind satisfies never
      }
    })()
    const count = known(range)
    const loop = plus(range.cost, multiply(count, perItem))
    switch (kind) {
      case 'all':
      case 'exists':
        return this.#made(node, plus(loop, ONE), ONE)
      case 'existsOne':
        return this.#made(node, plus(loop, only(2)), ONE)
      case 'filter': {
        const kept: Range = either(NOTHING, known(this.#named(node, inner.path, inner)))
        return this.#made(node, plus(loop, LIST_COST, ONE), count, { of: 'list', keys: ONE, values: kept })
      }
      case 'map':
      case 'transformList':
        return this.#made(node, plus(loop, LIST_COST, ONE), count, {
          of: 'list',
          keys: ONE,
          values: either(NOTHING, known(step)),
        })
      case 'transformMap':
      case 'transformMapEntry':
        return this.#made(node, plus(loop, MAP_COST, ONE), count)
      default:
        return kind satisfies never
    }
  }

  #call(node: Node & { node: 'call' }, local: Local | undefined): Estimate {
    const call = this.#checked.calls.get(node) ?? { ...node, overloads: [] }
    const args = call.args.map((arg) => this.estimate(arg, local))
    const receiver = call.receiver && this.estimate(call.receiver, local)
    const given = plus(NOTHING, ...args.map(({ cost }) => cost), ...(receiver ? [receiver.cost] : []))
    if (call.name === 'dyn') return { ...(args[0] ?? receiver)!, cost: plus(given, ONE), path: NOWHERE }
    let cost: Range | undefined
    let size: Range | undefined
    for (const overload of call.overloads) {
      const one = this.#overload(call, overload, receiver, args)
      cost = cost ? either(cost, one.cost) : one.cost
      if (one.size) size = size ? either(size, one.size) : one.size
      size ??= this.#scalar(node)
    }
    const [left, right] = args
    const entries =
      call.name === '+' && left && right ? eitherEntries(left.entries, right.entries) : undefined
    return this.#made(node, plus(given, cost ?? ONE), size, entries)
  }

  /** What one function costs besides what its arguments do, and how large its result is. */
  #overload(
    { name, receiver: receiverNode, args: argNodes }: CheckedCall,
    { params }: Overload,
    receiver: Estimate | undefined,
    args: readonly Estimate[],
  ): Call {
    const target = receiver && known(receiver)
    const sizes = args.map(known)
    const [first, second] = sizes
    const paramType = params[receiver ? 1 : 0]?.type
    if (name === 'ip' && receiver) return { cost: ONE }
    if (NOMINAL.has(name)) return { cost: ONE }
    if (PARSERS.has(name) && first) return { cost: read(first) }
    if (COMPARISONS.has(name) && first && second) {
      const isText = paramType === 'string' || paramType === 'bytes' || paramType === 'param'
      return { cost: isText ? comparison(first, second) : ONE }
    }
    switch (name) {
      case 'check':
        return { cost: only(AUTHORIZATION_COST) }
      case 'isSorted':
      case 'sum':
      case 'max':
      case 'min':
      case 'indexOf':
      case 'lastIndexOf':
        return target && receiverNode && receiver
          ? { cost: this.#traversal(receiverNode, receiver, target) }
          : { cost: ONE }
      case 'sort':
      case SORT_BY_KEYS: {
        const keys = name === 'sort' ? target : first
        const type = params.at(-1)
        const isText = type?.type === 'list' && (type.items.type === 'string' || type.items.type === 'bytes')
        return keys ? newList(2 + (isText ? BYTE_COST : 0), multiply(keys, keys)) : { cost: ONE }
      }
      case 'distinct':
        return target ? newList(2, multiply(target, target)) : { cost: ONE }
      case 'reverse':
        return target && params[0]?.type === 'list' ? newList(1, target) : { cost: ONE }
      case 'slice': {
        const [start, end] = [
          literalCount(argNodes[0]) ?? 0,
          literalCount(argNodes[1]) ?? target?.max ?? Infinity,
        ]
        return newList(1, only(end < start ? Infinity : end - start))
      }
      case 'flatten': {
        const depth = argNodes[0] ? (literalCount(argNodes[0]) ?? Infinity) : 1
        return target ? newList(depth, target) : { cost: ONE }
      }
      case 'lists.range':
        return newList(1, only(literalCount(argNodes[0]) ?? Infinity))
      case 'url':
        return first ? { cost: read(first), size: first } : { cost: ONE }
      case 'lowerAscii':
      case 'upperAscii':
      case 'substring':
      case 'trim':
        return target ? { cost: read(target), size: target } : { cost: ONE }
      case 'replace':
        return target && first && second
          ? { cost: scale(target, 2 * BYTE_COST), size: replaced(target, first, second) }
          : { cost: ONE }
      case 'split':
        return target
          ? { cost: scale(target, 2 * BYTE_COST), size: { min: 0, max: target.max } }
          : { cost: ONE }
      case 'join':
        return target && receiver && receiverNode
          ? joined(target, this.#itemOf(receiverNode, receiver)?.size, first)
          : { cost: ONE }
      case 'find':
      case 'findAll':
        return target && first
          ? { cost: matching(target, first), size: { min: 0, max: target.max } }
          : { cost: ONE }
      case 'matches':
        // Written as a function it costs what any other does.
        return { cost: target && first ? matching(target, first) : ONE }
      case 'containsIP':
      case 'containsCIDR': {
        const parsed = params[1]?.type === 'string' && first ? read(first) : NOTHING
        const compared = read(plus(ADDRESS, ADDRESS))
        const masked = name === 'containsCIDR' ? plus(read(ADDRESS), ONE) : NOTHING
        return { cost: plus(compared, masked, parsed) }
      }
      case 'ip.isCanonical':
        return { cost: first ? scale(first, 2 * BYTE_COST) : ONE }
      case 'validate':
        return { cost: first ? scale(read(first), FORMAT_PATTERN_BYTES * PATTERN_BYTE_COST) : ONE }
      case 'sets.contains':
      case 'sets.intersects':
      case 'sets.equivalent':
        return first && second
          ? { cost: plus(ONE, scale(multiply(first, second), name === 'sets.equivalent' ? 2 : 1)) }
          : { cost: ONE }
      case 'format':
        return { cost: target ? read(target) : ONE }
      case 'strings.quote':
        return first
          ? { cost: read(first), size: { min: first.min + 2, max: times(first.max, 2) + 2 } }
          : { cost: ONE }
      case 'bytes':
        return first && paramType === 'string'
          ? { cost: read(first), size: { min: first.min, max: times(first.max, 4) } }
          : { cost: ONE }
      case 'string':
        return first && paramType === 'bytes'
          ? { cost: read(first), size: { min: Math.floor(first.min / 4), max: first.max } }
          : { cost: ONE }
      case 'startsWith':
      case 'endsWith':
        return { cost: first ? read(first) : ONE }
      case 'contains':
        return { cost: target && first ? multiply(read(target), read(first)) : ONE }
      case 'in':
        return { cost: second && params[1]?.type === 'list' ? second : ONE }
      case '+': {
        if (!first || !second) return { cost: ONE }
        const together = plus(first, second)
        if (paramType === 'list') return { cost: ONE, size: together }
        return paramType === 'string' || paramType === 'bytes'
          ? { cost: read(together), size: together }
          : { cost: ONE }
      }
      default:
        return { cost: ONE }
    }
  }

  /** Something of which every item is looked at once. */
  #traversal(node: Node, receiver: Estimate, size: Range): Range {
    const item = this.#itemOf(node, receiver)
    if (!item) return read(size)
    return multiply(size, item.isText ? plus(ONE, read(item.size)) : ONE)
  }

  #itemOf(node: Node, { path }: Estimate): { size: Range; isText: boolean } | undefined {
    const type = this.#type(node)
    if (type?.type !== 'list') return undefined
    const size = path.length > 0 ? this.#declared([...path, '@items']) : undefined
    return { size: size ?? UNKNOWN, isText: type.items.type === 'string' || type.items.type === 'bytes' }
  }
}

const SCALARS: ReadonlySet<CelType['type']> = new Set([
  'bool',
  'double',
  'duration',
  'int',
  'timestamp',
  'uint',
])

/** A call that makes a list: its cost follows from how large that can be. */
function newList(factor: number, size: Range): Call {
  return { cost: plus(scale(size, factor), ONE, LIST_COST), size }
}

/** A number that is written in the expression, as far as it counts something. */
function literalCount(node: Node | undefined): number | undefined {
  if (node?.node !== 'literal' || node.literal.type !== 'int') return undefined
  return Math.max(0, Number(node.literal.value))
}

function anyOf(ranges: readonly Range[]): Range {
  return ranges.length === 0 ? NOTHING : ranges.reduce(either)
}

function eitherEntries(a: Entries | undefined, b: Entries | undefined): Entries | undefined {
  return a && b && { of: a.of, keys: either(a.keys, b.keys), values: either(a.values, b.values) }
}

function lengthOf(literal: Literal): number {
  switch (literal.type) {
    case 'string':
      return [...literal.value].length
    case 'bytes':
      return literal.value.length
    default:
      return 1
  }
}

/** As far as the shorter of the two reaches. */
function comparison(a: Range, b: Range): Range {
  const max = Math.min(a.max, b.max)
  return read({ min: max > 0 ? 1 : 0, max })
}

function matching(text: Range, pattern: Range): Range {
  return multiply(read(plus(text, ONE)), scale(pattern, PATTERN_BYTE_COST))
}

function joined(list: Range, item: Range | undefined, separator: Range | undefined): Call {
  const items = item ? multiply(list, item) : NOTHING
  const gaps: Range = { min: Math.max(0, list.min - 1), max: Math.max(0, list.max - 1) }
  const size = separator ? plus(items, multiply(separator, gaps)) : items
  return { cost: read(size), size }
}

/** The shortest and the longest text that comes of replacing every `from` by `to`. */
function replaced(text: Range, from: Range, to: Range): Range {
  let most = times(Math.ceil(text.max / (from.min || 1)), to.max)
  // An empty text is found before and behind every character.
  if (from.min === 0) most = times(text.max + 1, to.max) + text.max
  else if (to.max <= from.min) most = text.max
  let least = times(Math.ceil(text.min / (from.max || 1)), to.min)
  if (from.max === 0) least = times(text.min + 1, to.min) + text.min
  else if (from.max <= to.min) least = text.min
  return { min: least, max: most }
}
