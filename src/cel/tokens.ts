import { ExpressionError, type Literal } from './syntax.ts'

export type Token = { at: number } & (
  | { token: 'identifier'; text: string; quoted?: true }
  | { token: 'literal'; literal: Literal }
  | { token: 'symbol'; text: string }
  | { token: 'end' }
)

const SYMBOLS = [
  ...['==', '!=', '<=', '>=', '&&', '||'],
  ...['<', '>', '+', '-', '*', '/', '%', '!', '?', ':', '.', ',', '(', ')', '[', ']', '{', '}'],
] as const

const SPACE = /[\t\n\f\r ]+/y
const COMMENT = /\/\/[^\n]*/y
const IDENTIFIER = /[A-Za-z_][A-Za-z0-9_]*/y
const QUOTED_IDENTIFIER = /`([A-Za-z0-9_.\-/ ]+)`/y
const NUMBER =
  /0x([0-9A-Fa-f]+)([uU]?)|([0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)|([0-9]+)([uU]?)/y
const TEXT_START = /([rR]?[bB]?|[bB][rR])("""|'''|"|')/y

/** @throws {ExpressionError} */
export function tokensOf(source: string): Token[] {
  const tokens: Token[] = []
  let at = 0
  const match = (pattern: RegExp) => {
    pattern.lastIndex = at
    return pattern.exec(source)
  }
  while (at < source.length) {
    const skipped = match(SPACE) ?? match(COMMENT)
    if (skipped) {
      at += skipped[0].length
      continue
    }
    const text = match(TEXT_START)
    if (text) {
      const { literal, end } = textLiteral(source, at, text[1] ?? '', text[2] ?? '')
      tokens.push({ token: 'literal', literal, at })
      at = end
      continue
    }
    const number = match(NUMBER)
    if (number) {
      tokens.push({ token: 'literal', literal: numberLiteral(number, at), at })
      at += number[0].length
      continue
    }
    const name = match(IDENTIFIER)
    if (name) {
      tokens.push({ token: 'identifier', text: name[0], at })
      at += name[0].length
      continue
    }
    const quoted = match(QUOTED_IDENTIFIER)
    if (quoted) {
      tokens.push({ token: 'identifier', text: quoted[1] ?? '', quoted: true, at })
      at += quoted[0].length
      continue
    }
    const symbol = SYMBOLS.find((known) => source.startsWith(known, at))
    if (symbol === undefined)
      throw new ExpressionError(
        `Syntax error: token recognition error at: '${String.fromCodePoint(source.codePointAt(at) ?? 0)}'`,
        at,
      )
    tokens.push({ token: 'symbol', text: symbol, at })
    at += symbol.length
  }
  tokens.push({ token: 'end', at })
  return tokens
}

function numberLiteral([, hex, hexUnsigned, double, digits, unsigned]: RegExpExecArray, at: number): Literal {
  if (double !== undefined) {
    const value = Number(double)
    if (!Number.isFinite(value)) throw new ExpressionError('invalid double literal', at)
    return { type: 'double', value }
  }
  const value = BigInt(hex === undefined ? (digits ?? '0') : `0x${hex}`)
  if ((hexUnsigned ?? '') !== '' || (unsigned ?? '') !== '') {
    if (value > 0xffff_ffff_ffff_ffffn) throw new ExpressionError('invalid uint literal', at)
    return { type: 'uint', value }
  }
  // One more than the largest: `-9223372036854775808` is a sign before a number.
  if (value > 2n ** 63n) throw new ExpressionError('invalid int literal', at)
  return { type: 'int', value }
}

const SIMPLE_ESCAPES: ReadonlyMap<string, string> = new Map([
  ['a', '\x07'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
  ['v', '\v'],
  ['\\', '\\'],
  ['?', '?'],
  ['"', '"'],
  ["'", "'"],
  ['`', '`'],
])
const CODE_ESCAPE = /x([0-9A-Fa-f]{2})|X([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-3][0-7]{2})/y

function textLiteral(
  source: string,
  start: number,
  prefix: string,
  quote: string,
): { literal: Literal; end: number } {
  const raw = /r/i.test(prefix)
  const asBytes = /b/i.test(prefix)
  const parts: (string | number)[] = []
  let at = start + prefix.length + quote.length
  let plainFrom = at
  const flush = () => {
    if (at > plainFrom) parts.push(source.slice(plainFrom, at))
  }
  for (;;) {
    if (at >= source.length) throw new ExpressionError('Syntax error: a text has no end', start)
    if (source.startsWith(quote, at)) break
    const character = source[at]
    if (quote.length === 1 && (character === '\n' || character === '\r'))
      throw new ExpressionError('Syntax error: a text in single quotes ends on its line', start)
    if (raw || character !== '\\') {
      at++
      continue
    }
    flush()
    const simple = SIMPLE_ESCAPES.get(source[at + 1] ?? '')
    if (simple === undefined) {
      CODE_ESCAPE.lastIndex = at + 1
      const code = CODE_ESCAPE.exec(source)
      if (!code) throw new ExpressionError('Syntax error: unknown escape in a text', at)
      const [all, lower, upper, four, eight, octal] = code
      const value =
        octal === undefined ? parseInt(lower ?? upper ?? four ?? eight ?? '', 16) : parseInt(octal, 8)
      const unicode = four !== undefined || eight !== undefined
      if (asBytes && unicode) throw new ExpressionError('Syntax error: \\u is not for bytes', at)
      if (value > 0x10_ffff || (value >= 0xd800 && value <= 0xdfff))
        throw new ExpressionError('Syntax error: not a code point', at)
      parts.push(asBytes ? value : String.fromCodePoint(value))
      at += 1 + all.length
    } else {
      parts.push(simple)
      at += 2
    }
    plainFrom = at
  }
  flush()
  const end = at + quote.length
  if (!asBytes) return { literal: { type: 'string', value: parts.join('') }, end }
  const encoder = new TextEncoder()
  const value = Uint8Array.from(
    parts.flatMap((part) => (typeof part === 'number' ? [part] : [...encoder.encode(part)])),
  )
  return { literal: { type: 'bytes', value }, end }
}
