import { EXPRESSION_CHARS_MAX, EXPRESSION_DEPTH_MAX, EXPRESSION_NODES_MAX } from './limits.ts'
import { type ComprehensionKind, ExpressionError, type Literal, type Node, SORT_BY_KEYS } from './syntax.ts'
import { type Token, tokensOf } from './tokens.ts'

/** Words that name nothing; they may stand after a dot. */
const RESERVED: ReadonlySet<string> = new Set(
  'as break const continue else for function if import let loop package namespace return var void while'.split(
    ' ',
  ),
)
const KEYWORDS: ReadonlySet<string> = new Set(['in', 'null', 'true', 'false'])
const COMPARISONS: ReadonlySet<string> = new Set(['==', '!=', '<', '<=', '>', '>='])

/** Receiver-style macros: name → how many arguments → what it makes, and how many of the arguments are names. */
const COMPREHENSIONS: Readonly<Record<string, Readonly<Record<number, [ComprehensionKind, 1 | 2]>>>> = {
  all: { 2: ['all', 1], 3: ['all', 2] },
  exists: { 2: ['exists', 1], 3: ['exists', 2] },
  exists_one: { 2: ['existsOne', 1], 3: ['existsOne', 2] },
  existsOne: { 2: ['existsOne', 1], 3: ['existsOne', 2] },
  filter: { 2: ['filter', 1] },
  map: { 2: ['map', 1], 3: ['map', 1] },
  transformList: { 3: ['transformList', 2], 4: ['transformList', 2] },
  transformMap: { 3: ['transformMap', 2], 4: ['transformMap', 2] },
  transformMapEntry: { 3: ['transformMapEntry', 2], 4: ['transformMapEntry', 2] },
}

/** @throws {ExpressionError} */
export function parseExpression(source: string): Node {
  if (source.length > EXPRESSION_CHARS_MAX)
    throw new ExpressionError(`an expression has at most ${EXPRESSION_CHARS_MAX} characters`, 0)
  return new Parser(source).parse()
}

class Parser {
  readonly #tokens: readonly Token[]
  #position = 0
  #nodes = 0
  #open = 0
  /** Levels below each node, so that a chain such as `a.b.c` cannot become deeper than our stack. */
  readonly #depths = new WeakMap<Node, number>()

  constructor(source: string) {
    this.#tokens = tokensOf(source)
  }

  parse(): Node {
    const root = this.#expression()
    const rest = this.#peek()
    if (rest.token !== 'end') throw this.#unexpected(rest)
    return root
  }

  #peek(): Token {
    return this.#tokens[this.#position] as Token // the last is `end`, which is never passed
  }

  #unexpected(token: Token): ExpressionError {
    const what = token.token === 'end' ? '<EOF>' : token.token === 'literal' ? 'literal' : token.text
    return new ExpressionError(`Syntax error: mismatched input '${what}'`, token.at)
  }

  #accept(...texts: string[]): (Token & { token: 'symbol' }) | undefined {
    const token = this.#peek()
    if (token.token !== 'symbol' || !texts.includes(token.text)) return undefined
    this.#position++
    return token
  }

  #expect(text: string): Token {
    const token = this.#accept(text)
    if (!token) throw this.#unexpected(this.#peek())
    return token
  }

  #made<N extends Node>(node: N, ...children: readonly (Node | undefined)[]): N {
    if (++this.#nodes > EXPRESSION_NODES_MAX)
      throw new ExpressionError(`an expression has at most ${EXPRESSION_NODES_MAX} parts`, node.at)
    let depth = 0
    for (const child of children) if (child) depth = Math.max(depth, this.#depths.get(child) ?? 0)
    if (depth >= EXPRESSION_DEPTH_MAX)
      throw new ExpressionError(`an expression is at most ${EXPRESSION_DEPTH_MAX} levels deep`, node.at)
    this.#depths.set(node, depth + 1)
    return node
  }

  #expression(): Node {
    if (++this.#open > EXPRESSION_DEPTH_MAX)
      throw new ExpressionError(
        `an expression is at most ${EXPRESSION_DEPTH_MAX} levels deep`,
        this.#peek().at,
      )
    const test = this.#logical('or')
    const question = this.#accept('?')
    if (!question) {
      this.#open--
      return test
    }
    const yes = this.#logical('or')
    this.#expect(':')
    const no = this.#expression()
    this.#open--
    return this.#made({ node: 'conditional', test, yes, no, at: question.at }, test, yes, no)
  }

  #logical(node: 'and' | 'or'): Node {
    const next = () => (node === 'or' ? this.#logical('and') : this.#relation())
    const first = next()
    const terms = [first]
    let at: number | undefined
    for (;;) {
      const operator = this.#accept(node === 'or' ? '||' : '&&')
      if (!operator) break
      at ??= operator.at
      terms.push(next())
    }
    return at === undefined ? first : this.#made({ node, terms, at }, ...terms)
  }

  #relation(): Node {
    let left = this.#addition()
    for (;;) {
      const token = this.#peek()
      const name =
        token.token === 'symbol' && COMPARISONS.has(token.text)
          ? token.text
          : token.token === 'identifier' && token.text === 'in' && !token.quoted
            ? 'in'
            : undefined
      if (name === undefined) return left
      this.#position++
      left = this.#call(name, [left, this.#addition()], token.at)
    }
  }

  #addition(): Node {
    let left = this.#multiplication()
    for (;;) {
      const operator = this.#accept('+', '-')
      if (!operator) return left
      left = this.#call(operator.text, [left, this.#multiplication()], operator.at)
    }
  }

  #multiplication(): Node {
    let left = this.#unary()
    for (;;) {
      const operator = this.#accept('*', '/', '%')
      if (!operator) return left
      left = this.#call(operator.text, [left, this.#unary()], operator.at)
    }
  }

  #call(name: string, args: readonly Node[], at: number, receiver?: Node): Node {
    return this.#made({ node: 'call', name, receiver, args, at }, receiver, ...args)
  }

  #unary(): Node {
    const signs: Token[] = []
    for (;;) {
      const sign = this.#accept('!', '-')
      if (!sign) break
      signs.push(sign)
    }
    const last = signs.at(-1)
    const token = this.#peek()
    let operand: Node
    const number = token.token === 'literal' ? token.literal : undefined
    const isNegative = last?.token === 'symbol' && last.text === '-'
    let literal: Literal | undefined
    // A sign before a number is part of it: the smallest int has no positive counterpart.
    if (isNegative && number?.type === 'int') literal = { type: 'int', value: -number.value }
    if (isNegative && number?.type === 'double') literal = { type: 'double', value: -number.value }
    if (last && literal) {
      signs.pop()
      this.#position++
      operand = this.#member(this.#made({ node: 'literal', literal, at: last.at }))
    } else operand = this.#member(this.#primary())
    for (const sign of signs.reverse())
      operand = this.#call(sign.token === 'symbol' && sign.text === '!' ? '!_' : '-_', [operand], sign.at)
    return operand
  }

  #member(primary: Node): Node {
    let operand = primary
    for (;;) {
      const dot = this.#accept('.')
      if (dot) {
        const optional = this.#accept('?') !== undefined
        const field = this.#selector()
        operand =
          !optional && !field.quoted && this.#accept('(')
            ? this.#receiverCall(operand, field.text, this.#expressions(')'), field.at)
            : this.#made(
                { node: 'select', operand, field: field.text, test: false, optional, at: dot.at },
                operand,
              )
        continue
      }
      const bracket = this.#accept('[')
      if (!bracket) return operand
      const optional = this.#accept('?') !== undefined
      const index = this.#expression()
      this.#expect(']')
      operand = this.#made({ node: 'index', operand, index, optional, at: bracket.at }, operand, index)
    }
  }

  #selector(): { text: string; at: number; quoted: boolean } {
    const token = this.#peek()
    if (token.token !== 'identifier' || (KEYWORDS.has(token.text) && !token.quoted))
      throw this.#unexpected(token)
    this.#position++
    return { text: token.text, at: token.at, quoted: token.quoted === true }
  }

  #expressions(end: string): Node[] {
    const items: Node[] = []
    while (!this.#accept(end)) {
      items.push(this.#expression())
      if (this.#accept(end)) break
      this.#expect(',')
      // Arguments have no trailing comma; lists do.
      const next = this.#peek()
      if (end === ')' && next.token === 'symbol' && next.text === ')') throw this.#unexpected(next)
    }
    return items
  }

  #primary(): Node {
    const token = this.#peek()
    switch (token.token) {
      case 'end':
        throw this.#unexpected(token)
      case 'literal': {
        this.#position++
        if (token.literal.type === 'int' && token.literal.value >= 2n ** 63n)
          throw new ExpressionError('invalid int literal', token.at)
        return this.#made({ node: 'literal', literal: token.literal, at: token.at })
      }
      case 'identifier':
        return this.#named(token)
      case 'symbol':
        return this.#bracketed(token)
      default:
        return token satisfies never
    }
  }

  #named(token: Token & { token: 'identifier' }): Node {
    const { text, at } = token
    if (token.quoted || text === 'in') throw this.#unexpected(token)
    this.#position++
    if (text === 'true' || text === 'false')
      return this.#made({ node: 'literal', literal: { type: 'bool', value: text === 'true' }, at })
    if (text === 'null') return this.#made({ node: 'literal', literal: { type: 'null' }, at })
    if (RESERVED.has(text)) throw new ExpressionError(`reserved identifier: ${text}`, at)
    if (!this.#accept('(')) return this.#made({ node: 'identifier', name: text, at })
    const args = this.#expressions(')')
    if (text !== 'has') return this.#call(text, args, at)
    const [field] = args
    if (args.length !== 1 || field?.node !== 'select' || field.test || field.optional)
      throw new ExpressionError('invalid argument to has() macro', field?.at ?? at)
    return this.#made({ ...field, test: true }, field.operand)
  }

  #bracketed(token: Token & { token: 'symbol' }): Node {
    const { at } = token
    if (this.#accept('(')) {
      const inner = this.#expression()
      this.#expect(')')
      return inner
    }
    if (this.#accept('.')) {
      // A leading dot names the outermost scope, which is the only one here.
      const name = this.#peek()
      if (name.token !== 'identifier') throw this.#unexpected(name)
      return this.#named(name)
    }
    if (this.#accept('[')) {
      const items: { value: Node; optional: boolean }[] = []
      while (!this.#accept(']')) {
        const optional = this.#accept('?') !== undefined
        items.push({ value: this.#expression(), optional })
        if (this.#accept(']')) break
        this.#expect(',')
      }
      return this.#made({ node: 'list', items, at }, ...items.map(({ value }) => value))
    }
    if (!this.#accept('{')) throw this.#unexpected(token)
    const entries: { key: Node; value: Node; optional: boolean }[] = []
    while (!this.#accept('}')) {
      const optional = this.#accept('?') !== undefined
      const key = this.#expression()
      this.#expect(':')
      entries.push({ key, value: this.#expression(), optional })
      if (this.#accept('}')) break
      this.#expect(',')
    }
    return this.#made({ node: 'map', entries, at }, ...entries.flatMap(({ key, value }) => [key, value]))
  }

  #receiverCall(receiver: Node, name: string, args: readonly Node[], at: number): Node {
    if (receiver.node === 'identifier' && receiver.name === 'cel' && name === 'bind' && args.length === 3) {
      const [variable, value, body] = args as [Node, Node, Node] // three
      return this.#made({ node: 'bind', name: this.#variable(variable), value, body, at }, value, body)
    }
    if ((name === 'optMap' || name === 'optFlatMap') && args.length === 2) {
      const [variable, body] = args as [Node, Node] // two
      const wrap = name === 'optMap'
      return this.#made(
        { node: 'optionalMap', operand: receiver, name: this.#variable(variable), body, wrap, at },
        receiver,
        body,
      )
    }
    if (name === 'sortBy' && args.length === 2) return this.#sortBy(receiver, args as [Node, Node], at) // two
    const macro = Object.hasOwn(COMPREHENSIONS, name) ? COMPREHENSIONS[name]?.[args.length] : undefined
    if (!macro) return this.#call(name, args, at, receiver)
    const [kind, count] = macro
    const names = args.slice(0, count).map((arg) => this.#variable(arg))
    if (names.length === 2 && names[0] === names[1])
      throw new ExpressionError(`the two variables of ${name} need different names`, at)
    const body = args.at(-1) as Node // at least two arguments
    const filter = args.length === count + 2 ? args[count] : undefined
    return this.#made(
      { node: 'comprehension', kind, range: receiver, names: names as [string], filter, body, at },
      receiver,
      filter,
      body,
    )
  }

  /** The list, bound to a name that nobody can write, is sorted by the list of its keys. */
  #sortBy(list: Node, [variable, key]: [Node, Node], at: number): Node {
    const name = '@sortByInput'
    const input = () => this.#made({ node: 'identifier', name, at } as const)
    const names = [this.#variable(variable)] as const
    const range = input()
    const keys = this.#made(
      { node: 'comprehension', kind: 'map', range, names, filter: undefined, body: key, at },
      range,
      key,
    )
    const body = this.#call(SORT_BY_KEYS, [keys], at, input())
    return this.#made({ node: 'bind', name, value: list, body, at }, list, body)
  }

  #variable(node: Node): string {
    if (node.node !== 'identifier') throw new ExpressionError('argument must be a simple name', node.at)
    return node.name
  }
}
