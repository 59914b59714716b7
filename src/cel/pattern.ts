import { RE2JS } from 're2js'
import { estimateInstructions } from '../api/index.ts'
import { PATTERN_CHARS_MAX, PATTERN_PROGRAM_MAX } from './limits.ts'
import type { Meter } from './meter.ts'
import { Fault } from './values.ts'

/** A tenant's regular expression: RE2, so the time is bounded by its size times the length of the text. */
export type Pattern = { readonly re2: RE2JS; readonly size: number }

export function compilePattern(source: string): Pattern | Fault {
  if (source.length > PATTERN_CHARS_MAX)
    return new Fault(`a regular expression has at most ${PATTERN_CHARS_MAX} characters`)
  // What unfolds must not be unfolded to learn how large it is.
  if (estimateInstructions(source) > PATTERN_PROGRAM_MAX)
    return new Fault('the regular expression is too complex')
  try {
    const re2 = RE2JS.compile(source)
    const size = re2.programSize()
    return size > PATTERN_PROGRAM_MAX ? new Fault('the regular expression is too complex') : { re2, size }
  } catch (error) {
    return new Fault(`error parsing regexp: ${error instanceof Error ? error.message : 'not RE2 syntax'}`)
  }
}

/** Ready for one search of `text`, paid for. */
export function patternFor(source: string, text: string, meter: Meter): Pattern | Fault {
  let pattern: Pattern | Fault | undefined = meter.patterns.get(source)
  if (!pattern) {
    // Also one that turns out to be too complex has been made ready by then.
    meter.charge(50 + source.length + 4 * Math.min(estimateInstructions(source), PATTERN_PROGRAM_MAX))
    pattern = compilePattern(source)
    if (pattern instanceof Fault) return pattern
    meter.charge(pattern.size)
    meter.make(pattern.size * 64)
    meter.patterns.set(source, pattern)
  }
  meter.charge(1 + Math.ceil((text.length * Math.max(4, pattern.size)) / 40))
  return pattern
}
