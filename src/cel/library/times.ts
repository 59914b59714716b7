import { renderLocalTime } from '../../api/index.ts'
import type { Meter } from '../meter.ts'
import { Duration, Fault, Timestamp, type Value } from '../values.ts'
import { method, type Overload } from './overload.ts'

const SECOND = 1_000_000_000n
const DAY_MS = 86_400_000

/** What a clock in the zone shows, as if it were UTC. */
function localMs({ nanos }: Timestamp, zone: string | undefined, meter: Meter): number | Fault {
  const rest = ((nanos % 1_000_000n) + 1_000_000n) % 1_000_000n
  const ms = Number((nanos - rest) / 1_000_000n)
  if (zone === undefined || zone === '' || zone === 'UTC') return ms
  const [, sign, hours, minutes] = /^([+-]?)(\d\d?):(\d\d)$/.exec(zone) ?? []
  if (hours !== undefined)
    return ms + (sign === '-' ? -1 : 1) * (Number(hours) * 3_600_000 + Number(minutes) * 60_000)
  // Reading the tables of a time zone takes far longer than a step.
  meter.charge(200)
  if (zone.length > 64) return new Fault('unknown time zone')
  try {
    const local = renderLocalTime(ms, zone)
    return Date.parse(`${local.slice(0, 19)}Z`) + (((ms % 1000) + 1000) % 1000)
  } catch {
    return new Fault(`unknown time zone ${zone.slice(0, 64)}`)
  }
}

function part(name: string, read: (date: Date) => number): Overload[] {
  const run = (meter: Meter, time: Timestamp, zone?: string): Value | Fault => {
    const ms = localMs(time, zone, meter)
    return ms instanceof Fault ? ms : BigInt(read(new Date(ms)))
  }
  return [method(name, 'timestamp', 'int', run), method(name, 'timestamp, string', 'int', run)]
}

function total(name: string, unit: bigint): Overload {
  return method(name, 'duration', 'int', (_meter, { nanos }: Duration) => nanos / unit)
}

export const times: readonly Overload[] = [
  ...part('getFullYear', (date) => date.getUTCFullYear()),
  ...part('getMonth', (date) => date.getUTCMonth()),
  ...part('getDate', (date) => date.getUTCDate()),
  ...part('getDayOfMonth', (date) => date.getUTCDate() - 1),
  ...part('getDayOfWeek', (date) => date.getUTCDay()),
  ...part('getDayOfYear', (date) => {
    const start = new Date(date)
    start.setUTCMonth(0, 1)
    return Math.round((date.getTime() - start.getTime()) / DAY_MS)
  }),
  ...part('getHours', (date) => date.getUTCHours()),
  ...part('getMinutes', (date) => date.getUTCMinutes()),
  ...part('getSeconds', (date) => date.getUTCSeconds()),
  ...part('getMilliseconds', (date) => date.getUTCMilliseconds()),
  total('getHours', 3_600n * SECOND),
  total('getMinutes', 60n * SECOND),
  total('getSeconds', SECOND),
  method(
    'getMilliseconds',
    'duration',
    'int',
    (_meter, { nanos }: Duration) => (nanos / 1_000_000n) % 1_000n,
  ),
]
