import { isIPv6 } from 'node:net'
import { dnsSubdomainProblem, isIPv4 } from '../kinds/names.ts'

/**
 * `format` of strings. One that is not here is not checked, as upstream does with those it does not know.
 * Every check takes time linear in the text.
 */
const FORMATS: ReadonlyMap<string, (text: string) => boolean> = new Map([
  ['bsonobjectid', (t) => /^[0-9a-fA-F]{24}$/.test(t)],
  ['byte', (t) => t.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(t)],
  ['cidr', isCidr],
  ['creditcard', isCreditCard],
  ['date', isDate],
  ['date-time', isDateTime],
  ['datetime', isDateTime],
  ['duration', isDuration],
  ['email', (t) => t.length <= 254 && /^[^@\s<>,;()]+@[^@\s<>,;()]+$/.test(t)],
  ['hexcolor', (t) => /^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$/.test(t)],
  ['hostname', (t) => dnsSubdomainProblem(t.toLowerCase()) === undefined],
  ['ipv4', isIPv4],
  ['ipv6', (t) => isIPv6(t) && !t.includes('%')],
  ['isbn', (t) => isIsbn10(t) || isIsbn13(t)],
  ['isbn10', isIsbn10],
  ['isbn13', isIsbn13],
  ['mac', (t) => /^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/.test(t)],
  ['password', () => true],
  ['rgbcolor', isRgbColor],
  ['ssn', (t) => /^\d{3}[- ]?\d{2}[- ]?\d{4}$/.test(t)],
  ['uri', (t) => /^[a-zA-Z][a-zA-Z0-9+.-]*:\S+$/.test(t) || /^\/\S*$/.test(t)],
  ['uuid', (t) => /^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$/.test(t)],
  ['uuid3', (t) => isUuid(t, '3')],
  ['uuid4', (t) => isUuid(t, '4')],
  ['uuid5', (t) => isUuid(t, '5')],
])

export function matchesFormat(format: string, text: string): boolean {
  return FORMATS.get(format)?.(text) ?? true
}

/** Digits of a number as people write it, or undefined when it has more than belong in one. */
function digitsOf(text: string, mayHold: RegExp): number[] | undefined {
  if (text.length > NUMBER_CHARS_MAX) return undefined
  const bare = text.replace(/[\s-]/g, '')
  return mayHold.test(bare) ? [...bare].map((digit) => (digit === 'X' ? 10 : Number(digit))) : undefined
}

const NUMBER_CHARS_MAX = 64

/** First digits of the issuers that upstream knows, and how many digits their numbers have. */
const CARD_NUMBERS: readonly (readonly [RegExp, readonly number[]])[] = [
  [/^4/, [13, 16]],
  [/^5[1-5]/, [16]],
  [/^(222[1-9]|22[3-9]|2[3-6]|27[01]|2720)/, [16]],
  [/^6(011|2|5|7)/, [16]],
  [/^3[47]/, [15]],
  [/^3(0[0-5]|6|8)/, [14]],
  [/^(2131|1800)/, [15]],
  [/^35/, [16]],
]

/** ISO/IEC 7812: the last digit follows from the others by Luhn's rule. */
function isCreditCard(text: string): boolean {
  const digits = digitsOf(text, /^\d+$/)
  const number = digits?.join('') ?? ''
  if (
    !digits ||
    !CARD_NUMBERS.some(([first, lengths]) => first.test(number) && lengths.includes(number.length))
  )
    return false
  const sum = digits.reverse().reduce((total, digit, index) => {
    const counted = index % 2 === 1 ? digit * 2 : digit
    return total + (counted > 9 ? counted - 9 : counted)
  }, 0)
  return sum % 10 === 0
}

function isIsbn10(text: string): boolean {
  const digits = digitsOf(text, /^\d{9}[\dX]$/)
  return (
    digits !== undefined && digits.reduce((sum, digit, index) => sum + digit * (10 - index), 0) % 11 === 0
  )
}

function isIsbn13(text: string): boolean {
  const digits = digitsOf(text, /^97[89]\d{10}$/)
  return (
    digits !== undefined &&
    digits.reduce((sum, digit, index) => sum + digit * (index % 2 ? 3 : 1), 0) % 10 === 0
  )
}

/** `rgb(0, 128, 255)` */
function isRgbColor(text: string): boolean {
  if (text.length > NUMBER_CHARS_MAX) return false
  const match = /^rgb\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)$/.exec(text)
  return (
    match !== null && match.slice(1).every((part) => String(Number(part)) === part && Number(part) <= 255)
  )
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
