import type { Checked, CheckedCall } from './estimate.ts'
import { PROBLEMS_MAX } from './limits.ts'
import { functionsNamed, hasFunction } from './library/index.ts'
import type { Overload } from './library/overload.ts'
import type { Meter } from './meter.ts'
import { parseExpression } from './parse.ts'
import { compilePattern, type Pattern } from './pattern.ts'
import { ExpressionError, type Literal, type Node, type Problem } from './syntax.ts'
import {
  type Bindings,
  BOOL,
  BYTES,
  type CelType,
  DOUBLE,
  DYN,
  INT,
  isAssignable,
  joinTypes,
  listOf,
  mapOf,
  NAMED_TYPES,
  NULL,
  optionalOf,
  renderType,
  STRING,
  substitute,
  UINT,
} from './types.ts'
import {
  EntriesMap,
  Fault,
  fits,
  ListValue,
  mapKeyOf,
  MapValue,
  noSuchOverload,
  OptionalValue,
  TypeValue,
  typeNameOf,
  Uint,
  type Value,
} from './values.ts'

/** What an expression is evaluated in: its variables by place, and the meter that pays. */
export type Frame = { readonly slots: (Value | Fault)[]; readonly meter: Meter }
type Run = (frame: Frame) => Value | Fault
type Compiled = { readonly type: CelType; readonly run: Run }
type Scope = {
  readonly name: string
  readonly type: CelType
  readonly slot: number
  readonly outer: Scope | undefined
}

export type CompiledExpression = {
  readonly type: CelType
  readonly run: Run
  readonly slots: number
  readonly variables: ReadonlyMap<string, { readonly slot: number; readonly type: CelType }>
  /** Names of variables that the expression uses. */
  readonly used: ReadonlySet<string>
  readonly patterns: ReadonlyMap<string, Pattern>
  /** What was found out on the way, to estimate the cost; no program keeps it. */
  readonly checked: Checked
}

const notBool = noSuchOverload
const noSuchKey = (key: string) => new Fault(`no such key: ${key.slice(0, 256)}`)

/** Checks an expression against the types of its variables, and makes a function of it. */
export function compileExpression(
  source: string,
  variables: Readonly<Record<string, CelType>>,
): CompiledExpression | readonly Problem[] {
  try {
    const root = parseExpression(source)
    const compiler = new Compiler(variables)
    const { type, run } = compiler.compile(root, undefined)
    if (compiler.problems.length > 0) return compiler.problems
    const { slots, used, patterns, types, calls, names } = compiler
    const checked = { root, types, calls, names }
    return { type, run, slots, used, patterns, checked, variables: compiler.variables }
  } catch (error) {
    if (error instanceof ExpressionError) return [{ message: error.message, at: error.at }]
    throw error
  }
}

class Compiler {
  readonly problems: Problem[] = []
  readonly variables: ReadonlyMap<string, { slot: number; type: CelType }>
  readonly used = new Set<string>()
  readonly patterns = new Map<string, Pattern>()
  readonly types = new Map<Node, CelType>()
  readonly calls = new Map<Node, CheckedCall>()
  readonly names = new Set<Node>()
  slots: number

  constructor(variables: Readonly<Record<string, CelType>>) {
    const entries = Object.entries(variables)
    this.variables = new Map(entries.map(([name, type], slot) => [name, { slot, type }]))
    this.slots = entries.length
  }

  #problem(at: number, message: string): Compiled {
    if (this.problems.length >= PROBLEMS_MAX) throw new ExpressionError(message, at)
    this.problems.push({ at, message })
    return { type: DYN, run: () => noSuchOverload }
  }

  #declare(name: string, type: CelType, outer: Scope | undefined): Scope {
    return { name, type, slot: this.slots++, outer }
  }

  compile(node: Node, scope: Scope | undefined): Compiled {
    const compiled = this.#compile(node, scope)
    this.types.set(node, compiled.type)
    return compiled
  }

  #compile(node: Node, scope: Scope | undefined): Compiled {
    switch (node.node) {
      case 'literal':
        return compileLiteral(node.literal)
      case 'identifier':
        return this.#named([node.name], node.at, scope) ?? this.#undeclared(node.name, node.at)
      case 'select':
        return this.#select(node, scope)
      case 'index':
        return this.#index(node, scope)
      case 'call':
        return this.#call(node, scope)
      case 'and':
      case 'or':
        return this.#logical(node, scope)
      case 'conditional':
        return this.#conditional(node, scope)
      case 'list':
        return this.#list(node, scope)
      case 'map':
        return this.#map(node, scope)
      case 'comprehension':
        return this.#comprehension(node, scope)
      case 'bind': {
        const value = this.compile(node.value, scope)
        const inner = this.#declare(node.name, value.type, scope)
        const body = this.compile(node.body, inner)
        return {
          type: body.type,
          run: (frame) => {
            frame.meter.charge(1)
            frame.slots[inner.slot] = value.run(frame)
            return body.run(frame)
          },
        }
      }
      case 'optionalMap':
        return this.#optionalMap(node, scope)
      default:
        return node satisfies never
    }
  }

  #undeclared(name: string, at: number): Compiled {
    return this.#problem(at, `undeclared reference to '${name}' (in container '')`)
  }

  /** A variable or the name of a type; undefined when nothing has this name. */
  #named(path: readonly string[], _at: number, scope: Scope | undefined): Compiled | undefined {
    const name = path.join('.')
    for (let local = scope; local; local = local.outer) {
      if (local.name !== name) continue
      const { slot, type } = local
      return { type, run: read(slot, noSuchOverload) }
    }
    const variable = this.variables.get(name)
    if (variable) {
      this.used.add(name)
      const { slot, type } = variable
      const missing = new Fault(`no such attribute: ${name}`)
      return { type, run: read(slot, missing) }
    }
    const named = NAMED_TYPES.get(name)
    if (!named) return undefined
    const value = new TypeValue(name)
    return { type: { type: 'type', of: named }, run: () => value }
  }

  /** `a.b.c` when it is nothing but names and `a` is no variable of a macro around it. */
  #path(node: Node, scope: Scope | undefined): string[] | undefined {
    if (node.node === 'identifier') {
      for (let local = scope; local; local = local.outer) if (local.name === node.name) return undefined
      return [node.name]
    }
    if (node.node !== 'select' || node.test || node.optional) return undefined
    const outer = this.#path(node.operand, scope)
    return outer && [...outer, node.field]
  }

  #select(node: Node & { node: 'select' }, scope: Scope | undefined): Compiled {
    const { field, at, test, optional } = node
    const path = test || optional ? undefined : this.#path(node, scope)
    const root = path?.[0]
    if (path && root !== undefined && (this.variables.has(path.join('.')) || !this.variables.has(root))) {
      const named = this.#named(path, at, scope)
      if (named) {
        this.names.add(node)
        return named
      }
    }
    const operand = this.compile(node.operand, scope)
    const found = this.#fieldType(operand.type, field, at)
    const inOptional = operand.type.type === 'optional'
    if (test)
      return {
        type: BOOL,
        run: (frame) => {
          frame.meter.charge(1)
          const value = unwrapped(operand.run(frame))
          if (value instanceof Fault) return value
          if (value === undefined) return false
          if (!(value instanceof MapValue)) return noSuchOverload
          const there = value.field(field)
          return there instanceof Fault ? there : there !== undefined
        },
      }
    const asOptional = optional || inOptional
    return {
      type: asOptional ? optionalOf(found) : found,
      run: (frame) => {
        frame.meter.charge(1)
        const from = operand.run(frame)
        if (from instanceof Fault) return from
        const wrap = optional || from instanceof OptionalValue
        const value = unwrapped(from)
        if (value instanceof Fault) return value
        if (value === undefined) return OptionalValue.none
        if (!(value instanceof MapValue)) return noSuchOverload
        const got = value.field(field)
        if (got instanceof Fault) return got
        if (!wrap) return got === undefined ? noSuchKey(field) : got
        return got === undefined ? OptionalValue.none : new OptionalValue(got)
      },
    }
  }

  #fieldType(of: CelType, field: string, at: number): CelType {
    switch (of.type) {
      case 'dyn':
      case 'param':
        return DYN
      case 'optional':
        return this.#fieldType(of.of, field, at)
      case 'map':
        return of.values
      case 'object': {
        const found = of.fields().get(field)
        if (found) return found.type
        this.#problem(at, `undefined field '${field}'`)
        return DYN
      }
      default:
        this.#problem(at, `type '${renderType(of)}' does not support field selection`)
        return DYN
    }
  }

  #index(node: Node & { node: 'index' }, scope: Scope | undefined): Compiled {
    const operand = this.compile(node.operand, scope)
    const index = this.compile(node.index, scope)
    const of = operand.type.type === 'optional' ? operand.type.of : operand.type
    let found = DYN
    const keyFits = (wanted: CelType) => isAssignable(wanted, index.type, new Map())
    const numeric = ['int', 'uint', 'double'].includes(index.type.type)
    if (of.type === 'list' && (keyFits(INT) || numeric)) found = of.items
    else if (of.type === 'map' && keyFits(of.keys)) found = of.values
    else if (of.type !== 'dyn' && of.type !== 'param')
      return this.#problem(
        node.at,
        `found no matching overload for '_[_]' applied to '(${renderType(operand.type)}, ${renderType(index.type)})'`,
      )
    return {
      type: node.optional || operand.type.type === 'optional' ? optionalOf(found) : found,
      run: (frame) => {
        frame.meter.charge(1)
        const from = operand.run(frame)
        if (from instanceof Fault) return from
        const key = index.run(frame)
        if (key instanceof Fault) return key
        const wrap = node.optional || from instanceof OptionalValue
        const value = unwrapped(from)
        if (value instanceof Fault) return value
        if (value === undefined) return OptionalValue.none
        const got = itemAt(value, key)
        if (!wrap) return got
        // Only what is not there is none; a key of the wrong type stays an error.
        if (got instanceof Fault) return got === noSuchOverload ? got : OptionalValue.none
        return new OptionalValue(got)
      },
    }
  }

  #call(node: Node & { node: 'call' }, scope: Scope | undefined): Compiled {
    const { receiver, at } = node
    // `sets.contains(a, b)` looks like a method of a variable `sets`.
    const path = receiver && this.#path(receiver, scope)
    const qualified =
      path && !this.variables.has(path[0] ?? '') ? `${path.join('.')}.${node.name}` : undefined
    const isFree = qualified !== undefined && hasFunction(qualified)
    const name = isFree ? qualified : node.name
    const nodes = receiver && !isFree ? [receiver, ...node.args] : node.args
    const isMethod = receiver !== undefined && !isFree
    if (isMethod && (name === 'orValue' || name === 'or') && nodes.length === 2)
      return this.#orValue(nodes as [Node, Node], name, scope, at)
    const known = functionsNamed(name, isMethod).filter(({ params }) => params.length === nodes.length)
    if (functionsNamed(name, isMethod).length === 0 && !hasFunction(name)) return this.#undeclared(name, at)
    const args = nodes.map((arg) => this.compile(arg, scope))
    const candidates: Overload[] = []
    let result: CelType | undefined
    for (const overload of known) {
      const bindings: Bindings = new Map()
      if (!overload.params.every((wanted, index) => isAssignable(wanted, args[index]?.type ?? DYN, bindings)))
        continue
      const type = substitute(overload.result, bindings)
      result = result === undefined ? type : (sameResult(result, type) ?? DYN)
      candidates.push(overload)
    }
    if (result === undefined) {
      const given = args.map(({ type }) => renderType(type))
      const shown = isMethod ? `'${given[0]}.(${given.slice(1).join(', ')})'` : `'(${given.join(', ')})'`
      return this.#problem(at, `found no matching overload for '${operatorName(name)}' applied to ${shown}`)
    }
    const checkedReceiver = isMethod ? receiver : undefined
    this.calls.set(node, { name, receiver: checkedReceiver, args: node.args, overloads: candidates })
    const pattern = nodes[1]
    if (
      ['matches', 'find', 'findAll'].includes(name) &&
      pattern?.node === 'literal' &&
      pattern.literal.type === 'string'
    ) {
      const made = compilePattern(pattern.literal.value)
      if (made instanceof Fault) return this.#problem(pattern.at, made.message)
      this.patterns.set(pattern.literal.value, made)
    }
    return {
      type: result,
      run: call(
        candidates,
        args.map(({ run }) => run),
        name,
      ),
    }
  }

  /** The other value is only computed when it is needed. */
  #orValue(nodes: [Node, Node], name: 'or' | 'orValue', scope: Scope | undefined, at: number): Compiled {
    const [operand, other] = [this.compile(nodes[0], scope), this.compile(nodes[1], scope)]
    const wanted = name === 'or' ? other.type : optionalOf(other.type)
    const type = joinTypes(operand.type.type === 'dyn' ? wanted : operand.type, wanted)
    if (!type || (operand.type.type !== 'optional' && operand.type.type !== 'dyn'))
      return this.#problem(
        at,
        `found no matching overload for '${name}' applied to '${renderType(operand.type)}.(${renderType(other.type)})'`,
      )
    return {
      type: name === 'orValue' && type.type === 'optional' ? type.of : type,
      run: (frame) => {
        frame.meter.charge(1)
        const from = operand.run(frame)
        if (from instanceof Fault) return from
        if (!(from instanceof OptionalValue)) return noSuchOverload
        if (from.value === undefined) return other.run(frame)
        return name === 'or' ? from : from.value
      },
    }
  }

  #bool(node: Node, scope: Scope | undefined): Run {
    const { type, run } = this.compile(node, scope)
    if (type.type !== 'bool' && type.type !== 'dyn')
      this.#problem(node.at, `expected type 'bool' but found '${renderType(type)}'`)
    return run
  }

  /** One term that decides is enough, wherever it stands; an error only counts when none does. */
  #logical({ node, terms }: Node & { node: 'and' | 'or' }, scope: Scope | undefined): Compiled {
    const runs = terms.map((term) => this.#bool(term, scope))
    const decides = node === 'or'
    return {
      type: BOOL,
      run: (frame) => {
        frame.meter.charge(1)
        let fault: Fault | undefined
        for (const run of runs) {
          const value = run(frame)
          if (value === decides) return decides
          if (value instanceof Fault) fault ??= value
          else if (typeof value !== 'boolean') fault ??= notBool
        }
        return fault ?? !decides
      },
    }
  }

  #conditional(node: Node & { node: 'conditional' }, scope: Scope | undefined): Compiled {
    const test = this.#bool(node.test, scope)
    const [yes, no] = [this.compile(node.yes, scope), this.compile(node.no, scope)]
    const type = joinTypes(yes.type, no.type)
    if (!type)
      return this.#problem(
        node.at,
        `found no matching overload for '_?_:_' applied to '(bool, ${renderType(yes.type)}, ${renderType(no.type)})'`,
      )
    return {
      type,
      run: (frame) => {
        frame.meter.charge(1)
        const value = test(frame)
        if (value === true) return yes.run(frame)
        if (value === false) return no.run(frame)
        return value instanceof Fault ? value : notBool
      },
    }
  }

  /** The type of a place where there is an optional entry: what is inside. */
  #entry(value: Node, optional: boolean, scope: Scope | undefined): Compiled {
    const compiled = this.compile(value, scope)
    if (!optional) return compiled
    if (compiled.type.type === 'optional') return { type: compiled.type.of, run: compiled.run }
    if (compiled.type.type !== 'dyn')
      this.#problem(value.at, `expected type 'optional_type' but found '${renderType(compiled.type)}'`)
    return { type: DYN, run: compiled.run }
  }

  #list({ items }: Node & { node: 'list' }, scope: Scope | undefined): Compiled {
    const compiled = items.map(({ value, optional }) => ({
      ...this.#entry(value, optional, scope),
      optional,
    }))
    return {
      type: listOf(joined(compiled.map(({ type }) => type))),
      run: (frame) => {
        frame.meter.charge(1)
        frame.meter.make(16 * compiled.length)
        const values: Value[] = []
        for (const { run, optional } of compiled) {
          const value = run(frame)
          if (value instanceof Fault) return value
          if (!optional) values.push(value)
          else if (!(value instanceof OptionalValue)) return noSuchOverload
          else if (value.value !== undefined) values.push(value.value)
        }
        return ListValue.of(values)
      },
    }
  }

  #map({ entries }: Node & { node: 'map' }, scope: Scope | undefined): Compiled {
    const compiled = entries.map(({ key, value, optional }) => ({
      key: this.compile(key, scope),
      value: this.#entry(value, optional, scope),
      optional,
    }))
    return {
      type: mapOf(
        joined(compiled.map(({ key }) => key.type)),
        joined(compiled.map(({ value }) => value.type)),
      ),
      run: (frame) => {
        frame.meter.charge(1)
        const made = new MapBuilder(frame.meter)
        for (const { key, value, optional } of compiled) {
          const name = key.run(frame)
          if (name instanceof Fault) return name
          let item = value.run(frame)
          if (item instanceof Fault) return item
          if (optional) {
            if (!(item instanceof OptionalValue)) return noSuchOverload
            if (item.value === undefined) continue
            item = item.value
          }
          const fault = made.add(name, item)
          if (fault) return fault
        }
        return made.map()
      },
    }
  }

  #optionalMap(node: Node & { node: 'optionalMap' }, scope: Scope | undefined): Compiled {
    const operand = this.compile(node.operand, scope)
    if (operand.type.type !== 'optional' && operand.type.type !== 'dyn')
      return this.#problem(node.at, `expected type 'optional_type' but found '${renderType(operand.type)}'`)
    const inner = this.#declare(node.name, operand.type.type === 'optional' ? operand.type.of : DYN, scope)
    const body = this.compile(node.body, inner)
    if (!node.wrap && body.type.type !== 'optional' && body.type.type !== 'dyn')
      return this.#problem(node.at, `expected type 'optional_type' but found '${renderType(body.type)}'`)
    return {
      type: node.wrap ? optionalOf(body.type) : body.type,
      run: (frame) => {
        frame.meter.charge(1)
        const from = operand.run(frame)
        if (from instanceof Fault) return from
        if (!(from instanceof OptionalValue)) return noSuchOverload
        if (from.value === undefined) return from
        frame.slots[inner.slot] = from.value
        const value = body.run(frame)
        if (value instanceof Fault) return value
        if (node.wrap) return new OptionalValue(value)
        return value instanceof OptionalValue ? value : noSuchOverload
      },
    }
  }

  #comprehension(node: Node & { node: 'comprehension' }, scope: Scope | undefined): Compiled {
    const { kind, names, at } = node
    const range = this.compile(node.range, scope)
    const of = range.type
    if (of.type !== 'list' && of.type !== 'map' && of.type !== 'dyn' && of.type !== 'object')
      return this.#problem(
        node.range.at,
        `expression of type '${renderType(of)}' cannot be range of a comprehension (must be list, map, or dynamic)`,
      )
    const item = of.type === 'list' ? of.items : DYN
    const keys = of.type === 'map' ? of.keys : of.type === 'object' ? STRING : DYN
    const values = of.type === 'map' ? of.values : item
    const [firstName, secondName] = names
    const two = secondName !== undefined
    const firstType = of.type === 'list' ? (two ? INT : item) : keys
    const first = this.#declare(firstName, firstType, scope)
    const second = two ? this.#declare(secondName, values, first) : first
    const filter = node.filter && this.#bool(node.filter, second)
    const wantsBool = kind === 'all' || kind === 'exists' || kind === 'existsOne' || kind === 'filter'
    const body = wantsBool
      ? { type: BOOL, run: this.#bool(node.body, second) }
      : this.compile(node.body, second)
    const loop = { first: first.slot, second: two ? second.slot : undefined, filter, body: body.run }
    const run = (make: (frame: Frame) => Collector): Run => comprehension(range.run, loop, make)
    switch (kind) {
      case 'all':
      case 'exists':
        return { type: BOOL, run: run(() => new Deciding(kind === 'exists')) }
      case 'existsOne':
        return { type: BOOL, run: run(() => new Counting()) }
      case 'filter':
        return { type: listOf(firstType), run: run(({ meter }) => new Keeping(meter)) }
      case 'map':
      case 'transformList':
        return { type: listOf(body.type), run: run(({ meter }) => new Listing(meter)) }
      case 'transformMap':
        return {
          type: mapOf(of.type === 'list' ? INT : keys, body.type),
          run: run(({ meter }) => new Mapping(meter)),
        }
      case 'transformMapEntry':
        if (body.type.type !== 'map' && body.type.type !== 'dyn')
          return this.#problem(at, `expected type 'map' but found '${renderType(body.type)}'`)
        return { type: body.type, run: run(({ meter }) => new Merging(meter)) }
      default:
        return kind satisfies never
    }
  }
}

function read(slot: number, missing: Fault): Run {
  return ({ slots, meter }) => {
    meter.charge(1)
    const value = slots[slot]
    return value === undefined ? missing : value
  }
}

function operatorName(name: string): string {
  return /^[a-zA-Z]/.test(name) ? (name === 'in' ? '@in' : name) : name.endsWith('_') ? name : `_${name}_`
}

/** Overloads that may all be meant give one type, or `dyn`. */
function sameResult(a: CelType, b: CelType): CelType | undefined {
  return renderType(a) === renderType(b) ? a : undefined
}

function joined(types: readonly CelType[]): CelType {
  const [first, ...rest] = types
  // Lists of several types are allowed, and what is in them is known only later.
  return first ? rest.reduce<CelType>((all, type) => joinTypes(all, type) ?? DYN, first) : DYN
}

function compileLiteral(literal: Literal): Compiled {
  const typed = {
    null: NULL,
    bool: BOOL,
    int: INT,
    uint: UINT,
    double: DOUBLE,
    string: STRING,
    bytes: BYTES,
  }
  const value: Value =
    literal.type === 'null' ? null : literal.type === 'uint' ? new Uint(literal.value) : literal.value
  return { type: typed[literal.type], run: () => value }
}

/** What is in an optional; undefined when nothing is. */
function unwrapped(value: Value | Fault): Value | Fault | undefined {
  return value instanceof OptionalValue ? value.value : value
}

function itemAt(value: Value, key: Value): Value | Fault {
  if (value instanceof MapValue) {
    const known = mapKeyOf(key)
    if (known === undefined && typeof key !== 'number') return noSuchOverload
    const got = value.get(key)
    return got === undefined ? noSuchKey(String(known ?? key)) : got
  }
  if (!(value instanceof ListValue)) return noSuchOverload
  const index = mapKeyOf(key)
  if (typeof index !== 'bigint')
    return typeof key === 'number' ? new Fault('invalid_argument') : noSuchOverload
  return index < 0n || index >= value.length
    ? new Fault(`index out of bounds: ${index}`)
    : value.at(Number(index))
}

function call(candidates: readonly Overload[], args: readonly Run[], name: string): Run {
  const [only] = candidates
  const shown = new Fault(`no such overload: ${operatorName(name)}`)
  const single = candidates.length === 1 ? only : undefined
  return (frame) => {
    const { meter } = frame
    meter.charge(1)
    const values: Value[] = []
    for (const run of args) {
      const value = run(frame)
      if (value instanceof Fault) return value
      values.push(value)
    }
    const fitting = ({ params }: Overload) => params.every((type, index) => fits(type, values[index] ?? null))
    const overload = single ? (fitting(single) ? single : undefined) : candidates.find(fitting)
    return overload ? overload.run(meter, ...(values as never[])) : shown // they fit its parameters
  }
}

class MapBuilder {
  readonly #entries = new Map<string | boolean | bigint, readonly [Value, Value]>()
  readonly #meter: Meter
  constructor(meter: Meter) {
    this.#meter = meter
  }
  add(key: Value, value: Value): Fault | undefined {
    this.#meter.make(48)
    const known = typeof key === 'number' ? undefined : mapKeyOf(key)
    if (known === undefined) return new Fault(`unsupported key type: ${typeNameOf(key)}`)
    if (this.#entries.has(known))
      return new Fault(`insert failed: key ${String(known).slice(0, 256)} already exists`)
    this.#entries.set(known, [key, value])
    return undefined
  }
  map(): EntriesMap {
    return new EntriesMap(this.#entries)
  }
}

/** What a macro does with each item's result; a value ends it early. */
interface Collector {
  /** Errors and `false` for an item are asked first. */
  take(result: Value | Fault, first: Value, second: Value): Value | Fault | undefined
  end(): Value | Fault
}

class Deciding implements Collector {
  readonly #decides: boolean
  #fault: Fault | undefined
  constructor(decides: boolean) {
    this.#decides = decides
  }
  take(result: Value | Fault): Value | undefined {
    if (result === this.#decides) return result
    if (result instanceof Fault) this.#fault ??= result
    else if (typeof result !== 'boolean') this.#fault ??= notBool
    return undefined
  }
  end(): Value | Fault {
    return this.#fault ?? !this.#decides
  }
}
class Counting implements Collector {
  #count = 0
  take(result: Value | Fault): Fault | undefined {
    if (result instanceof Fault) return result
    if (typeof result !== 'boolean') return notBool
    if (result) this.#count++
    return undefined
  }
  end(): boolean {
    return this.#count === 1
  }
}
class Listing implements Collector {
  readonly #meter: Meter
  readonly #values: Value[] = []
  constructor(meter: Meter) {
    this.#meter = meter
  }
  take(result: Value | Fault): Fault | undefined {
    if (result instanceof Fault) return result
    this.keep(result)
    return undefined
  }
  protected keep(value: Value): void {
    this.#meter.make(16)
    this.#values.push(value)
  }
  end(): ListValue {
    return ListValue.of(this.#values)
  }
}
class Keeping extends Listing {
  override take(result: Value | Fault, first?: Value): Fault | undefined {
    if (result instanceof Fault) return result
    if (typeof result !== 'boolean') return notBool
    if (result && first !== undefined) this.keep(first)
    return undefined
  }
}
class Mapping implements Collector {
  readonly builder: MapBuilder
  constructor(meter: Meter) {
    this.builder = new MapBuilder(meter)
  }
  take(result: Value | Fault, first: Value): Fault | undefined {
    return result instanceof Fault ? result : this.builder.add(first, result)
  }
  end(): MapValue {
    return this.builder.map()
  }
}
class Merging extends Mapping {
  override take(result: Value | Fault): Fault | undefined {
    if (result instanceof Fault) return result
    if (!(result instanceof MapValue)) return noSuchOverload
    for (const key of result.keys()) {
      const value = result.get(key)
      const fault = value === undefined ? undefined : this.builder.add(key, value)
      if (fault) return fault
    }
    return undefined
  }
}

function comprehension(
  range: Run,
  loop: { first: number; second: number | undefined; filter: Run | undefined; body: Run },
  make: (frame: Frame) => Collector,
): Run {
  const { filter, body } = loop
  return (frame) => {
    const { meter, slots } = frame
    meter.charge(1)
    const over = range(frame)
    if (over instanceof Fault) return over
    if (!(over instanceof ListValue) && !(over instanceof MapValue)) return noSuchOverload
    const collector = make(frame)
    if (over instanceof MapValue) meter.charge(Math.ceil(over.size / 10))
    let index = 0n
    for (const item of over instanceof ListValue ? over : over.keys()) {
      meter.charge(1)
      const isMap = over instanceof MapValue
      const first = loop.second === undefined || isMap ? item : index
      const second = isMap ? (over.get(item) ?? null) : item
      index++
      slots[loop.first] = first
      if (loop.second !== undefined) slots[loop.second] = second
      if (filter) {
        const wanted = filter(frame)
        if (wanted === false) continue
        if (wanted !== true) return wanted instanceof Fault ? wanted : notBool
      }
      const done = collector.take(body(frame), first, second)
      if (done !== undefined) return done
    }
    return collector.end()
  }
}
