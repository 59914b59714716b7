import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseCronSchedule, timeZoneProblem } from './cron-schedule.ts'

const MINUTE_MS = 60_000
const ms = (text: string) => Date.parse(text)

/** The next `count` times after `from`, as a clock in the zone shows them in UTC. */
function times(schedule: string, from: string, count: number, timeZone?: string): string[] {
  const parsed = parseCronSchedule(schedule, timeZone)
  const found: string[] = []
  for (let at = ms(from); found.length < count;) {
    const next = parsed.nextMs(at)
    if (next === undefined) break
    found.push(new Date(next).toISOString().replace(/:00\.000Z$/, ''))
    at = next
  }
  return found
}

test('fields are lists, ranges, steps and names', () => {
  assert.deepEqual(times('*/20 9-10 * * *', '2026-01-01T00:00:00Z', 7), [
    '2026-01-01T09:00',
    '2026-01-01T09:20',
    '2026-01-01T09:40',
    '2026-01-01T10:00',
    '2026-01-01T10:20',
    '2026-01-01T10:40',
    '2026-01-02T09:00',
  ])
  assert.deepEqual(times('0 0 * feb,DEC Mon-tue', '2026-01-01T00:00:00Z', 3), [
    '2026-02-02T00:00',
    '2026-02-03T00:00',
    '2026-02-09T00:00',
  ])
  assert.deepEqual(times('50/5 12 ? * ?', '2026-01-01T00:00:00Z', 3), [
    '2026-01-01T12:50',
    '2026-01-01T12:55',
    '2026-01-02T12:50',
  ])
  assert.deepEqual(times('@weekly', '2026-01-01T00:00:00Z', 2), ['2026-01-04T00:00', '2026-01-11T00:00'])
  assert.deepEqual(times('0 0 29 2 *', '2026-01-01T00:00:00Z', 2), ['2028-02-29T00:00', '2032-02-29T00:00'])
})

test('when day of month and day of week are both restricted, either will do', () => {
  assert.deepEqual(times('0 0 13 * fri', '2026-02-01T00:00:00Z', 4), [
    '2026-02-06T00:00',
    '2026-02-13T00:00',
    '2026-02-20T00:00',
    '2026-02-27T00:00',
  ])
  assert.deepEqual(times('0 0 1,8 * *', '2026-02-01T00:00:00Z', 2), ['2026-02-08T00:00', '2026-03-01T00:00'])
})

test('the clock of a time zone decides, also when it is moved', () => {
  const berlin = (schedule: string, from: string, count: number) =>
    times(schedule, from, count, 'Europe/Berlin')
  assert.deepEqual(berlin('0 3 * * *', '2026-03-28T00:00:00Z', 3), [
    '2026-03-28T02:00',
    '2026-03-29T01:00',
    '2026-03-30T01:00',
  ])
  assert.deepEqual(
    berlin('30 2 * * *', '2026-03-28T00:00:00Z', 2),
    ['2026-03-28T01:30', '2026-03-30T00:30'],
    'half past two does not exist on the 29th',
  )
  assert.deepEqual(
    berlin('30 2 * * *', '2026-10-24T12:00:00Z', 3),
    ['2026-10-25T00:30', '2026-10-25T01:30', '2026-10-26T01:30'],
    'half past two is twice on the 25th',
  )
  assert.deepEqual(times('0 0 1 * *', '2026-01-15T00:00:00Z', 2, 'Asia/Kathmandu'), [
    '2026-01-31T18:15',
    '2026-02-28T18:15',
  ])
  assert.deepEqual(times('0 0 * * *', '2026-10-03T00:00:00Z', 2, 'Australia/Lord_Howe'), [
    '2026-10-03T13:30',
    '2026-10-04T13:00',
  ])
})

test('a schedule that never comes has no next time', () => {
  assert.deepEqual(times('59 23 31 2 *', '2026-01-01T00:00:00Z', 1, 'America/New_York'), [])
  assert.deepEqual(times(', * * * *', '2026-01-01T00:00:00Z', 1), [])
})

test('@every counts from the last time', () => {
  assert.deepEqual(times('@every 1h30m', '2026-01-01T00:10:00Z', 2), ['2026-01-01T01:40', '2026-01-01T03:10'])
  const every = parseCronSchedule('@every 90s')
  assert.equal(every.lastMs(0, 89_999), undefined)
  assert.equal(every.lastMs(0, 90_000), 90_000)
  assert.equal(every.lastMs(0, 1_000_000), 990_000)
})

test('what is no schedule is refused in upstream’s words', () => {
  const problem = (text: string) => {
    try {
      parseCronSchedule(text)
      return undefined
    } catch (error) {
      return (error as Error).message
    }
  }
  assert.deepEqual(
    ['', '1 2', '61 * * * *', '* * 0 * *', '5-1 * * * *', '*/0 * * * *', '* * * * 7', 'a * * * *'].map(
      problem,
    ),
    [
      'empty spec string',
      'expected exactly 5 fields, found 2: [1 2]',
      'end of range (61) above maximum (59): 61',
      'beginning of range (0) below minimum (1): 0',
      'beginning of range (5) beyond end of range (1): 5-1',
      'step of range should be a positive number: */0',
      'end of range (7) above maximum (6): 7',
      'failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax',
    ],
  )
  assert.deepEqual(['1/2/3 * * * *', '1-2-3 * * * *', '@never', '@every x', '@constructor'].map(problem), [
    'too many slashes: 1/2/3',
    'too many hyphens: 1-2-3',
    'unrecognized descriptor: @never',
    'failed to parse duration @every x: time: invalid duration "x"',
    'unrecognized descriptor: @constructor',
  ])
  assert.match(problem(`${'1,'.repeat(600)}1 * * * *`) ?? '', /longer than 1024 characters/)
})

test('time zones are those of the IANA database and no others', () => {
  for (const zone of ['Europe/Paris', 'UTC', 'Etc/GMT+5', 'America/Argentina/Buenos_Aires', 'US/Eastern'])
    assert.equal(timeZoneProblem(zone), undefined, zone)
  for (const zone of [
    '',
    'Local',
    'local',
    'Europe/Pariss',
    '+01:00',
    '+01',
    '../etc',
    'Europe/',
    '/x',
    'a'.repeat(99),
  ])
    assert.ok(timeZoneProblem(zone), zone)
})

const FIELDS: readonly [number, number][] = [
  [0, 59],
  [0, 23],
  [1, 31],
  [1, 12],
  [0, 6],
]

/** Schedules with the set of values that each field means. */
const schedules = fc
  .tuple(
    ...FIELDS.map(([minimum, maximum]) =>
      fc.oneof(
        fc.constant({ text: '*', fits: () => true, star: true }),
        fc
          .uniqueArray(fc.integer({ min: minimum, max: maximum }), { minLength: 1, maxLength: 4 })
          .map((list) => ({
            text: list.join(','),
            fits: (value: number) => list.includes(value),
            star: false,
          })),
        fc.integer({ min: 2, max: 20 }).map((step) => ({
          text: `*/${step}`,
          fits: (value: number) => (value - minimum) % step === 0,
          star: false,
        })),
      ),
    ),
  )
  .map((fields) => {
    const [minute, hour, dayOfMonth, month, dayOfWeek] = fields as [Fits, Fits, Fits, Fits, Fits]
    return {
      text: fields.map((field) => field.text).join(' '),
      fits: (local: Date) => {
        const [inMonth, inWeek] = [dayOfMonth.fits(local.getUTCDate()), dayOfWeek.fits(local.getUTCDay())]
        const day = dayOfMonth.star || dayOfWeek.star ? inMonth && inWeek : inMonth || inWeek
        return (
          minute.fits(local.getUTCMinutes()) &&
          hour.fits(local.getUTCHours()) &&
          month.fits(local.getUTCMonth() + 1) &&
          day
        )
      },
    }
  })
type Fits = { text: string; fits: (value: number) => boolean; star: boolean }

const ZONES = ['UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kathmandu', 'Australia/Lord_Howe']

/** The slow way to read the clock in a time zone. */
function localTime(atMs: number, timeZone: string): Date {
  const text = new Date(atMs).toLocaleString('sv-SE', { timeZone })
  return new Date(`${text.replace(' ', 'T')}Z`)
}

test('the next time fits, and no minute before it does', () => {
  fc.assert(
    fc.property(
      schedules,
      fc.constantFrom(...ZONES),
      // Around the days on which clocks are moved.
      fc.constantFrom(ms('2026-03-29T00:00:00Z'), ms('2026-10-25T00:00:00Z'), ms('2026-04-04T14:00:00Z')),
      fc.integer({ min: -3_000, max: 3_000 }),
      ({ text, fits }, timeZone, aroundMs, minutes) => {
        const startMs = aroundMs + minutes * MINUTE_MS + 17
        const nextMs = parseCronSchedule(text, timeZone).nextMs(startMs)
        const firstMs = Math.ceil(startMs / MINUTE_MS) * MINUTE_MS
        for (let atMs = firstMs; atMs < firstMs + 120 * MINUTE_MS; atMs += MINUTE_MS) {
          if (atMs === nextMs) {
            assert.ok(fits(localTime(atMs, timeZone)))
            return
          }
          assert.ok(!fits(localTime(atMs, timeZone)), new Date(atMs).toISOString())
        }
        if (nextMs !== undefined) assert.ok(fits(localTime(nextMs, timeZone)))
      },
    ),
    { numRuns: 60 },
  )
})

test('the last time is the one after which there is none', () => {
  fc.assert(
    fc.property(
      schedules,
      fc.constantFrom(...ZONES),
      fc.integer({ min: 0, max: 900 }),
      ({ text }, timeZone, days) => {
        const schedule = parseCronSchedule(text, timeZone)
        const fromMs = ms('2026-01-01T00:00:30Z')
        const untilMs = fromMs + days * 86_400_000
        const lastMs = schedule.lastMs(fromMs, untilMs)
        const afterMs = schedule.nextMs(lastMs ?? fromMs)
        assert.ok(lastMs === undefined || (lastMs > fromMs && lastMs <= untilMs))
        assert.ok(afterMs === undefined || afterMs > untilMs)
      },
    ),
    { numRuns: 100 },
  )
})

test('any text is a schedule or refused, and quickly', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^([0-9*?/,a-z@ -]{0,12}){0,6}$/)), (text) => {
      try {
        parseCronSchedule(text).nextMs(0)
      } catch (error) {
        assert.ok(error instanceof TypeError)
      }
    }),
  )
})
