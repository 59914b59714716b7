import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from '../../stdx/index.ts'
import { SCHEDULE_CHARS_MAX, TIME_ZONES_CACHED_MAX } from '../limits.ts'

/**
 * Schedules of CronJobs: five fields (`minute hour day-of-month month day-of-week`), or `@daily` and its like, or
 * `@every 1h30m`. Accepts and refuses what upstream's parser does, in its words.
 * https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax
 */
export type CronSchedule = {
  /** The first time after `afterMs`; undefined when there is none within five years. */
  nextMs(afterMs: number): number | undefined
  /** The last time after `afterMs` and not after `untilMs`. */
  lastMs(afterMs: number, untilMs: number): number | undefined
}

type Bounds = { minimum: number; maximum: number; names?: readonly string[] }
const BOUNDS = {
  minute: { minimum: 0, maximum: 59 },
  hour: { minimum: 0, maximum: 23 },
  dayOfMonth: { minimum: 1, maximum: 31 },
  month: {
    minimum: 1,
    maximum: 12,
    names: ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'],
  },
  dayOfWeek: { minimum: 0, maximum: 6, names: ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] },
} as const satisfies Record<string, Bounds>

const DESCRIPTORS: Readonly<Record<string, string>> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
}

/** Values of a field that fit; `any` when it is written as a star, which matters for the two kinds of day. */
type Field = { values: ReadonlySet<number>; any: boolean }

/** Every time zone of today differs from UTC by a multiple of this. */
const OFFSET_STEP_MS = 15 * MINUTE_MS
/** No clock is moved by more than this. */
const OFFSET_CHANGE_MAX_MS = 3 * HOUR_MS
const YEARS_SEARCHED = 5

/**
 * @param timeZone an IANA name; UTC when absent. Requires: `timeZoneProblem(timeZone)` is undefined.
 * @throws {TypeError} that says what is wrong with the schedule.
 */
export function parseCronSchedule(text: string, timeZone?: string): CronSchedule {
  if (text.length > SCHEDULE_CHARS_MAX)
    throw new TypeError(`a schedule may not be longer than ${SCHEDULE_CHARS_MAX} characters`)
  if (text === '') throw new TypeError('empty spec string')
  if (text.startsWith('@')) {
    const standard = Object.hasOwn(DESCRIPTORS, text) ? DESCRIPTORS[text] : undefined
    if (standard !== undefined) return calendarSchedule(standard, timeZone)
    if (text.startsWith('@every ')) return constantSchedule(text)
    throw new TypeError(`unrecognized descriptor: ${text}`)
  }
  return calendarSchedule(text, timeZone)
}

function calendarSchedule(text: string, timeZone: string | undefined): CronSchedule {
  const parts = text.split(/[\t\n\v\f\r \u0085\u00a0]/).filter((part) => part !== '')
  if (parts.length !== 5)
    throw new TypeError(`expected exactly 5 fields, found ${parts.length}: [${parts.join(' ')}]`)
  const [minute, hour, dayOfMonth, month, dayOfWeek] = Object.values(BOUNDS).map((bounds, index) =>
    parseField(parts[index] ?? '', bounds),
  ) as [Field, Field, Field, Field, Field] // as many as there are bounds

  const dayFits = (local: Date): boolean => {
    const inMonth = dayOfMonth.values.has(local.getUTCDate())
    const inWeek = dayOfWeek.values.has(local.getUTCDay())
    // When both are restricted, either will do. That is how cron has always been.
    return dayOfMonth.any || dayOfWeek.any ? inMonth && inWeek : inMonth || inWeek
  }
  // A field such as "," names nothing; looking for it would take millions of steps.
  const isEmpty = [minute, hour, month].some(({ values }) => values.size === 0)
  const offsetAt = offsetReader(timeZone)
  const nextMs = (afterMs: number): number | undefined => {
    if (isEmpty) return undefined
    const start = new Date(afterMs)
    const giveUpMs = Date.UTC(
      start.getUTCFullYear() + YEARS_SEARCHED,
      start.getUTCMonth(),
      start.getUTCDate(),
    )
    let atMs = (Math.floor(afterMs / MINUTE_MS) + 1) * MINUTE_MS
    while (atMs <= giveUpMs) {
      // Local time, read from the UTC fields of a moved date.
      const local = new Date(atMs + offsetAt(atMs))
      const [year, monthIndex, day] = [local.getUTCFullYear(), local.getUTCMonth(), local.getUTCDate()]
      if (!month.values.has(monthIndex + 1)) atMs = towards(Date.UTC(year, monthIndex + 1, 1), atMs, local)
      else if (!dayFits(local)) atMs = towards(Date.UTC(year, monthIndex, day + 1), atMs, local)
      else if (!hour.values.has(local.getUTCHours())) atMs = nextStep(atMs)
      else if (!minute.values.has(local.getUTCMinutes())) atMs += MINUTE_MS
      else return atMs
    }
    return undefined
  }
  return {
    nextMs,
    lastMs(afterMs, untilMs) {
      let last: number | undefined
      let [lowMs, highMs] = [afterMs, untilMs]
      // Halves the time in which the last one lies, so that years of misses cost no more than minutes.
      while (lowMs < highMs) {
        const middleMs = last === undefined ? lowMs : Math.floor((lowMs + highMs) / 2)
        const foundMs = nextMs(middleMs)
        if (foundMs !== undefined && foundMs <= untilMs) {
          last = foundMs
          lowMs = foundMs
        } else {
          if (last === undefined || highMs - lowMs <= MINUTE_MS) return last
          highMs = middleMs
        }
      }
      return last
    },
  }
}

/** A step towards a local midnight that passes over no change of the clock. */
function towards(localMs: number, atMs: number, local: Date): number {
  const nearMs = atMs + (localMs - local.getTime()) - OFFSET_CHANGE_MAX_MS
  return nearMs > atMs ? nearMs : nextStep(atMs)
}

function nextStep(atMs: number): number {
  return (Math.floor(atMs / OFFSET_STEP_MS) + 1) * OFFSET_STEP_MS
}

function parseField(text: string, bounds: Bounds): Field {
  const values = new Set<number>()
  let any = false
  for (const range of text.split(',')) {
    if (range === '') continue
    const { from, to, step, star } = parseRange(range, bounds)
    if (star) any = true
    for (let value = from; value <= to; value += step) values.add(value)
  }
  return { values, any }
}

function parseRange(text: string, bounds: Bounds): { from: number; to: number; step: number; star: boolean } {
  const { minimum, maximum } = bounds
  const [span = '', stepText, ...moreSlashes] = text.split('/')
  const [low = '', high, ...moreHyphens] = span.split('-')
  let from = minimum
  let to = maximum
  let star = low === '*' || low === '?'
  if (!star) {
    from = valueOf(low, bounds)
    if (moreHyphens.length > 0) throw new TypeError(`too many hyphens: ${text}`)
    to = high === undefined ? from : valueOf(high, bounds)
  }
  let step = 1
  if (moreSlashes.length > 0) throw new TypeError(`too many slashes: ${text}`)
  if (stepText !== undefined) {
    step = wholeNumber(stepText)
    // `5/15` means from 5 on.
    if (high === undefined) to = maximum
    if (step > 1) star = false
  }
  if (from < minimum) throw new TypeError(`beginning of range (${from}) below minimum (${minimum}): ${text}`)
  if (to > maximum) throw new TypeError(`end of range (${to}) above maximum (${maximum}): ${text}`)
  if (from > to) throw new TypeError(`beginning of range (${from}) beyond end of range (${to}): ${text}`)
  if (step === 0) throw new TypeError(`step of range should be a positive number: ${text}`)
  return { from, to, step, star }
}

function valueOf(text: string, { minimum, names = [] }: Bounds): number {
  const index = names.indexOf(text.toLowerCase())
  return index >= 0 ? minimum + index : wholeNumber(text)
}

function wholeNumber(text: string): number {
  if (!/^[-+]?\d{1,15}$/.test(text))
    throw new TypeError(
      `failed to parse int from ${text}: strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`,
    )
  const value = Number(text)
  if (value < 0) throw new TypeError(`negative number (${value}) not allowed: ${text}`)
  return value
}

const DURATION_UNITS_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: SECOND_MS,
  m: MINUTE_MS,
  h: HOUR_MS,
}
const DURATION_PARTS_MAX = 16

/** `@every 1h30m`: so long after the last time, whatever the clock on the wall says. */
function constantSchedule(text: string): CronSchedule {
  const durationText = text.slice('@every '.length)
  const durationMs = parseDuration(durationText)
  if (durationMs === undefined)
    throw new TypeError(
      `failed to parse duration ${text}: time: invalid duration ${JSON.stringify(durationText)}`,
    )
  // Whole seconds, and at least one.
  const everyMs = Math.max(SECOND_MS, Math.floor(durationMs / SECOND_MS) * SECOND_MS)
  const firstMs = (afterMs: number) => Math.floor(afterMs / SECOND_MS) * SECOND_MS + everyMs
  return {
    nextMs: firstMs,
    lastMs(afterMs, untilMs) {
      const first = firstMs(afterMs)
      return first > untilMs ? undefined : first + Math.floor((untilMs - first) / everyMs) * everyMs
    },
  }
}

/** Go's durations, such as `1h30m` or `1.5h`, as far as a schedule can use them: 0 to 292 years. */
function parseDuration(text: string): number | undefined {
  if (text.replace(/^\+/, '') === '0') return 0
  const negative = text.startsWith('-')
  let rest = text.replace(/^[-+]/, '')
  let totalMs = 0
  for (let part = 0; rest !== ''; part += 1) {
    const [all = '', digits = '', unit = ''] =
      /^(\d{1,18}\.?\d{0,18}|\.\d{1,18})(ns|us|µs|μs|ms|s|m|h)/.exec(rest) ?? []
    if (all === '' || part >= DURATION_PARTS_MAX) return undefined
    totalMs += Number(digits) * (DURATION_UNITS_MS[unit] ?? 0)
    rest = rest.slice(all.length)
  }
  if (text === '' || text === '-' || text === '+' || totalMs > 292 * 365 * DAY_MS) return undefined
  return negative ? 0 : totalMs
}

const ZONE_PART = /^[A-Za-z._0-9+][A-Za-z._0-9+-]{0,13}$/

/** What is wrong with the name of a time zone, in upstream's words. */
export function timeZoneProblem(timeZone: string): string | undefined {
  if (timeZone === '') return 'timeZone must be nil or non-empty string'
  const unknown = `unknown time zone ${timeZone}`
  // Offsets such as +01:00 are time zones to this runtime, and not to upstream.
  if (timeZone.length > 64 || !/^[A-Za-z]/.test(timeZone)) return unknown
  if (timeZone.split('/').some((part) => part === '.' || part === '..' || !ZONE_PART.test(part)))
    return unknown
  if (timeZone.toLowerCase() === 'local')
    return 'timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones'
  try {
    formatOf(timeZone)
    return undefined
  } catch {
    return unknown
  }
}

/** Formats by time zone: costly to make, and tenants choose the zones, so only the last few are kept. */
const formats = new Map<string, Intl.DateTimeFormat>()

function formatOf(timeZone: string): Intl.DateTimeFormat {
  const known = formats.get(timeZone)
  if (known) return known
  const made = new Intl.DateTimeFormat('en-US', {
    timeZone,
    calendar: 'gregory',
    numberingSystem: 'latn',
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  })
  const [oldest] = formats.keys()
  if (oldest !== undefined && formats.size >= TIME_ZONES_CACHED_MAX) formats.delete(oldest)
  formats.set(timeZone, made)
  return made
}

/** Clocks are not moved twice within this. */
const OFFSET_BLOCK_MS = 6 * HOUR_MS

/** As `offsetMs`, but quick when asked for times near each other. */
function offsetReader(timeZone: string | undefined): (atMs: number) => number {
  let block = { startMs: 0, endMs: -1, offset: 0 }
  return (atMs) => {
    if (atMs >= block.startMs && atMs <= block.endMs) return block.offset
    const startMs = Math.floor(atMs / OFFSET_BLOCK_MS) * OFFSET_BLOCK_MS
    const endMs = startMs + OFFSET_BLOCK_MS
    const offset = offsetMs(timeZone, startMs)
    if (offset !== offsetMs(timeZone, endMs)) return offsetMs(timeZone, atMs)
    block = { startMs, endMs, offset }
    return offset
  }
}

/** How far local time is ahead of UTC at a time. */
function offsetMs(timeZone: string | undefined, atMs: number): number {
  if (timeZone === undefined || timeZone === 'UTC') return 0
  const parts: Record<string, number> = {}
  for (const { type, value } of formatOf(timeZone).formatToParts(atMs)) parts[type] = Number(value)
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts
  return Date.UTC(year, month - 1, day, hour, minute, second) - atMs + (atMs % SECOND_MS)
}

/** RFC 3339 as a clock in the time zone shows it, such as `2026-01-01T03:00:00+01:00`. */
export function renderLocalTime(atMs: number, timeZone?: string): string {
  const offset = offsetMs(timeZone, atMs)
  const local = new Date(atMs + offset).toISOString().slice(0, 19)
  if (offset === 0) return `${local}Z`
  const minutes = Math.abs(offset) / MINUTE_MS
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0')
  return `${local}${offset < 0 ? '-' : '+'}${two(minutes / 60)}:${two(minutes % 60)}`
}
