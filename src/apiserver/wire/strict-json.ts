import { type JsonValue, badRequest } from '../../api/index.ts'
import { WIRE_LIMITS, type WireLimits } from './limits.ts'

/** A decoded body and the paths of keys that it has twice, as `fieldValidation` reports them (`spec.replicas`). */
export type ParsedJson = { value: JsonValue; duplicateFields: string[] }

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Parses JSON from a stranger. The last of several equal keys wins, as in Go, and each is reported once.
 * Integers that a double cannot hold exactly are refused, and so is the key `__proto__`, which a later
 * `target[key] = value` anywhere would turn into a prototype.
 * @throws {ApiError} BadRequest in the words of Go's encoding/json.
 */
export function parseJson(body: string | Uint8Array, limits: WireLimits = WIRE_LIMITS): ParsedJson {
  const text = typeof body === 'string' ? body : decodeUtf8(body)
  let value: JsonValue
  try {
    value = JSON.parse(text) as JsonValue
  } catch (cause) {
    throw badRequest(`json parse error: ${new Scanner(text, limits).problem() ?? 'invalid JSON'}`, cause)
  }
  const keys = checkJson(value, limits)
  // Every key of the text is followed by one colon; JSON.parse has merged those that appear twice.
  const duplicateFields = countColons(text) === keys ? [] : new Scanner(text, limits).duplicates()
  return { value, duplicateFields }
}

/** @throws {ApiError} BadRequest when `bytes` are not UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes)
  } catch (cause) {
    throw badRequest('the request body is not valid UTF-8', cause)
  }
}

/**
 * Holds a parsed value to the limits and returns how many keys its objects have.
 * @throws {ApiError} BadRequest
 */
export function checkJson(value: unknown, limits: WireLimits = WIRE_LIMITS): number {
  let values = 0
  let keys = 0
  const visit = (node: unknown, depth: number): void => {
    if (++values > limits.valuesMax)
      throw badRequest(`the request body has more than ${limits.valuesMax} values`)
    switch (typeof node) {
      case 'string':
      case 'boolean':
        return
      case 'number':
        if (!Number.isFinite(node) || (Number.isInteger(node) && !Number.isSafeInteger(node)))
          throw badRequest(
            `json: cannot unmarshal number ${node}: whole numbers beyond ${Number.MAX_SAFE_INTEGER} are not accepted`,
          )
        return
      case 'object': {
        if (node === null) return
        if (depth >= limits.depthMax)
          throw badRequest(`the request body is nested deeper than ${limits.depthMax} levels`)
        if (Array.isArray(node)) {
          for (const item of node) visit(item, depth + 1)
          return
        }
        for (const key in node) {
          if (!Object.hasOwn(node, key)) continue
          if (key === '__proto__') throw badRequest('the field name "__proto__" is not accepted')
          keys++
          visit((node as Record<string, unknown>)[key], depth + 1)
        }
        return
      }
      default:
        throw badRequest(`the request body has a value that JSON cannot hold (${typeof node})`)
    }
  }
  visit(value, 0)
  return keys
}

/** Colons outside of strings. Requires: `text` is valid JSON. */
function countColons(text: string): number {
  let count = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === COLON) count++
    else if (code === QUOTE) at = endOfString(text, at)
  }
  return count
}

/** The position of the quote that ends the string which starts at `start`, or the text's length. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let backslashes = 0
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++
    if (backslashes % 2 === 0) return end
  }
  return text.length
}

const QUOTE = 0x22
const COLON = 0x3a
const BACKSLASH = 0x5c

class SyntaxProblem extends Error {}

/**
 * The slow path: reads the text once more to say where it is broken or which keys it has twice. Its depth is
 * bounded by `limits`, its time is linear.
 */
class Scanner {
  private at = 0
  private readonly text: string
  private readonly limits: WireLimits
  private readonly found = new Set<string>()

  constructor(text: string, limits: WireLimits) {
    this.text = text
    this.limits = limits
  }

  /** What is wrong, in the words of Go's encoding/json. */
  problem(): string | undefined {
    try {
      this.whole()
      return undefined
    } catch (error) {
      if (error instanceof SyntaxProblem) return error.message
      throw error
    }
  }

  duplicates(): string[] {
    this.whole()
    return [...this.found]
  }

  private whole(): void {
    this.value('', 0)
    this.space()
    if (this.at < this.text.length) throw this.unexpected('after top-level value')
  }

  private value(path: string, depth: number): void {
    if (depth > this.limits.depthMax) throw new SyntaxProblem('exceeded max depth')
    this.space()
    const start = this.text[this.at]
    if (start === '{') return this.object(path, depth)
    if (start === '[') return this.list(path, depth)
    if (start === '"') return void this.string()
    if (start === 't') return this.literal('true')
    if (start === 'f') return this.literal('false')
    if (start === 'n') return this.literal('null')
    if (start !== undefined && (start === '-' || isDigit(start))) return this.number()
    throw this.unexpected('looking for beginning of value')
  }

  private object(path: string, depth: number): void {
    this.at++
    this.space()
    if (this.text[this.at] === '}') return void this.at++
    const seen = new Set<string>()
    for (;;) {
      this.space()
      if (this.text[this.at] !== '"') throw this.unexpected('looking for beginning of object key string')
      const key = this.string()
      const field = path ? `${path}.${key}` : key
      if (seen.has(key) && this.found.size < this.limits.findingsMax) this.found.add(field)
      seen.add(key)
      this.space()
      if (this.text[this.at] !== ':') throw this.unexpected('after object key')
      this.at++
      this.value(field, depth + 1)
      this.space()
      const next = this.text[this.at]
      if (next !== ',' && next !== '}') throw this.unexpected('after object key:value pair')
      this.at++
      if (next === '}') return
    }
  }

  private list(path: string, depth: number): void {
    this.at++
    this.space()
    if (this.text[this.at] === ']') return void this.at++
    for (let index = 0; ; index++) {
      this.value(`${path}[${index}]`, depth + 1)
      this.space()
      const next = this.text[this.at]
      if (next !== ',' && next !== ']') throw this.unexpected('after array element')
      this.at++
      if (next === ']') return
    }
  }

  private string(): string {
    const start = this.at
    for (this.at++; ; this.at++) {
      const char = this.text[this.at]
      if (char === undefined) throw this.unexpected('')
      if (char === '"') break
      if (char < ' ') throw this.unexpected('in string literal')
      if (char !== '\\') continue
      this.at++
      const escape = this.text[this.at]
      if (escape === undefined || !'"\\/bfnrtu'.includes(escape))
        throw this.unexpected('in string escape code')
      if (escape !== 'u') continue
      for (let digit = 0; digit < 4; digit++) {
        this.at++
        const hex = this.text[this.at]
        if (hex === undefined || !/[0-9a-fA-F]/.test(hex))
          throw this.unexpected('in \\u hexadecimal character escape')
      }
    }
    this.at++
    return JSON.parse(this.text.slice(start, this.at)) as string
  }

  private number(): void {
    if (this.text[this.at] === '-') this.at++
    if (this.text[this.at] === '0') this.at++
    else this.digits('in numeric literal')
    if (this.text[this.at] === '.') {
      this.at++
      this.digits('after decimal point in numeric literal')
    }
    if (this.text[this.at] === 'e' || this.text[this.at] === 'E') {
      this.at++
      if (this.text[this.at] === '+' || this.text[this.at] === '-') this.at++
      this.digits('in exponent of numeric literal')
    }
  }

  private digits(where: string): void {
    const start = this.at
    while (isDigit(this.text[this.at] ?? '')) this.at++
    if (this.at === start) throw this.unexpected(where)
  }

  private literal(word: string): void {
    for (const [index, expected] of [...word].entries()) {
      if (this.text[this.at] !== expected)
        throw this.unexpected(
          index === 0 ? 'looking for beginning of value' : `in literal ${word} (expecting '${expected}')`,
        )
      this.at++
    }
  }

  private space(): void {
    for (;;) {
      const char = this.text[this.at]
      if (char !== ' ' && char !== '\n' && char !== '\r' && char !== '\t') return
      this.at++
    }
  }

  private unexpected(where: string): SyntaxProblem {
    const code = this.text.codePointAt(this.at)
    if (code === undefined) return new SyntaxProblem('unexpected end of JSON input')
    return new SyntaxProblem(`invalid character ${quoteRune(String.fromCodePoint(code))} ${where}`)
  }
}

function isDigit(char: string): boolean {
  return char >= '0' && char <= '9' && char.length === 1
}

function quoteRune(char: string): string {
  if (char === "'") return String.raw`'\''`
  if (char === '"') return `'"'`
  return `'${JSON.stringify(char).slice(1, -1)}'`
}
