import { RE2JS } from 're2js'
import { CUSTOM_PATTERN_CHARS_MAX, CUSTOM_PATTERN_INSTRUCTIONS_MAX } from '../limits.ts'

/** A tenant's regular expression, matched in time that grows with the text and the pattern and nothing else. */
export type Pattern = { matches(text: string): boolean; instructions: number }

const patterns = new Map<string, Pattern | string>()
const PATTERNS_KEPT_MAX = 2_000

/** @returns why not, when it is no expression that RE2 knows, or too large. */
export function parsePattern(source: string): Pattern | string {
  const known = patterns.get(source)
  if (known !== undefined) return known
  const made = compile(source)
  // What has been kept longest goes first; a pattern that is asked for again is made again.
  const oldest = patterns.size >= PATTERNS_KEPT_MAX ? patterns.keys().next().value : undefined
  if (oldest !== undefined) patterns.delete(oldest)
  patterns.set(source, made)
  return made
}

function compile(source: string): Pattern | string {
  if (source.length > CUSTOM_PATTERN_CHARS_MAX)
    return `must be a regular expression of no more than ${CUSTOM_PATTERN_CHARS_MAX} characters`
  const estimate = estimateInstructions(source)
  if (estimate > CUSTOM_PATTERN_INSTRUCTIONS_MAX) return tooLarge(estimate)
  let expression: RE2JS
  try {
    expression = RE2JS.compile(source)
  } catch (error) {
    return `must be a valid regular expression, but isn't: ${error instanceof Error ? error.message : 'unknown'}`
  }
  const instructions = expression.programSize()
  if (instructions > CUSTOM_PATTERN_INSTRUCTIONS_MAX) return tooLarge(instructions)
  return { matches: (text) => expression.matcher(text).find(), instructions }
}

function tooLarge(instructions: number): string {
  return `must be a simpler regular expression: it takes ${instructions} steps per character, more than ${CUSTOM_PATTERN_INSTRUCTIONS_MAX}`
}

/**
 * About how many instructions an expression becomes, before any are made: counted repetitions unfold, also those of what
 * is repeated already. Text that is no expression gets some number, too.
 */
export function estimateInstructions(source: string): number {
  const groups: number[] = []
  let total = 0
  let last = 0
  const take = (size: number) => {
    total += size
    last = size
  }
  for (let at = 0; at < source.length && total <= CUSTOM_PATTERN_INSTRUCTIONS_MAX; at++) {
    switch (source[at]) {
      case '\\':
        at++
        // \p{Greek} and \x{10FFFF} are one character, and count nothing.
        if (/[pPx]/.test(source[at] ?? '') && source[at + 1] === '{') at = endOf(source, '}', at)
        take(1)
        break
      case '[':
        at = endOfClass(source, at)
        take(1)
        break
      case '(':
        groups.push(total)
        total = 0
        break
      case ')':
        last = total + 2
        total = (groups.pop() ?? 0) + last
        break
      case '{': {
        const counts = /^\{(\d{1,5})(?:,(\d{0,5}))?\}/.exec(source.slice(at, at + 14))
        if (counts) {
          const times = Math.max(Number(counts[1]), Number(counts[2] ?? 0), 1)
          total += last * (times - 1)
          last *= times
          at += counts[0].length - 1
        } else take(1)
        break
      }
      default:
        take(1)
    }
  }
  return total + groups.reduce((sum, size) => sum + size, 0)
}

function endOf(source: string, what: string, from: number): number {
  const end = source.indexOf(what, from)
  return end < 0 ? source.length : end
}

function endOfClass(source: string, from: number): number {
  // A bracket that comes first is one of the characters.
  let at = source[from + 1] === '^' ? from + 2 : from + 1
  if (source[at] === ']') at++
  for (; at < source.length && source[at] !== ']'; at++) if (source[at] === '\\') at++
  return at
}
