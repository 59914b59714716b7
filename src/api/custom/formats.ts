import { isIPv6 } from 'node:net'
import { dnsSubdomainProblem, isIPv4 } from '../kinds/names.ts'

/**
 * `format` of strings. One that is not here is not checked, as upstream does with those it does not know.
 * Every check takes time linear in the text.
 */
const FORMATS: ReadonlyMap<string, (text: string) => boolean> = new Map([
  ['byte', (t) => t.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(t)],
  ['cidr', isCidr],
  ['date', isDate],
  ['date-time', isDateTime],
  ['datetime', isDateTime],
  ['duration', isDuration],
  ['email', (t) => t.length <= 254 && /^[^@\s<>,;()]+@[^@\s<>,;()]+$/.test(t)],
  ['hexcolor', (t) => /^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$/.test(t)],
  ['hostname', (t) => dnsSubdomainProblem(t.toLowerCase()) === undefined],
  ['ipv4', isIPv4],
  ['ipv6', (t) => isIPv6(t) && !t.includes('%')],
  ['mac', (t) => /^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/.test(t)],
  ['uri', (t) => /^[a-zA-Z][a-zA-Z0-9+.-]*:\S+$/.test(t) || /^\/\S*$/.test(t)],
  ['uuid', (t) => /^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$/.test(t)],
  ['uuid3', (t) => isUuid(t, '3')],
  ['uuid4', (t) => isUuid(t, '4')],
  ['uuid5', (t) => isUuid(t, '5')],
])

export function matchesFormat(format: string, text: string): boolean {
  return FORMATS.get(format)?.(text) ?? true
}

function isUuid(text: string, version: string): boolean {
  return /^[0-9a-f]{8}-?[0-9a-f]{4}-?[345][0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i.test(text)
    ? text.replaceAll('-', '')[12] === version
    : false
}

function isCidr(text: string): boolean {
  const slash = text.lastIndexOf('/')
  const [address, bits] = [text.slice(0, Math.max(slash, 0)), text.slice(slash + 1)]
  if (!/^(0|[1-9]\d{0,2})$/.test(bits)) return false
  return isIPv4(address) ? Number(bits) <= 32 : isIPv6(address) && Number(bits) <= 128
}

function isDate(text: string): boolean {
  const match = /^(\d{4})-(\d\d)-(\d\d)$/.exec(text)
  if (!match) return false
  const time = new Date(`${text}T00:00:00Z`)
  // A day that the month does not have becomes one of the next.
  return !Number.isNaN(time.getTime()) && time.toISOString().startsWith(text)
}

function isDateTime(text: string): boolean {
  const match = /^(\d{4}-\d\d-\d\d)[Tt](\d\d):(\d\d):(\d\d)(\.\d+)?([Zz]|[-+]\d\d:?\d\d)$/.exec(text)
  return (
    match !== null &&
    isDate(match[1]!) &&
    Number(match[2]) < 24 &&
    Number(match[3]) < 60 &&
    Number(match[4]) < 61
  )
}

/** As Go writes durations, and `3 days` besides. */
function isDuration(text: string): boolean {
  if (text.length > 64) return false
  return (
    /^[-+]?(0|(\d+(\.\d*)?(ns|us|µs|μs|ms|s|m|h|d|w))+)$/.test(text) ||
    /^\d+ ?(day|week|hour|minute|second)s?$/.test(text)
  )
}
