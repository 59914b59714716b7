import { Fault, isUint, OpaqueValue } from '../values.ts'
import { free, method, type Overload } from './overload.ts'

const IDENTIFIERS = '[0-9A-Za-z-]{1,128}(?:\\.[0-9A-Za-z-]{1,128}){0,31}'
const SEMVER = new RegExp(
  `^(0|[1-9]\\d{0,19})\\.(0|[1-9]\\d{0,19})\\.(0|[1-9]\\d{0,19})(?:-(${IDENTIFIERS}))?(?:\\+(${IDENTIFIERS}))?$`,
)

/** https://semver.org */
class Semver extends OpaqueValue {
  override readonly typeName = 'kubernetes.Semver'
  readonly numbers: readonly bigint[]
  readonly prerelease: readonly string[]
  constructor(numbers: readonly bigint[], prerelease: readonly string[]) {
    super()
    this.numbers = numbers
    this.prerelease = prerelease
  }
  override equals(other: OpaqueValue): boolean {
    return other instanceof Semver && compare(this, other) === 0
  }
}

function parseSemver(text: string, normalize = false): Semver | undefined {
  if (text.length > 256) return undefined
  const match = SEMVER.exec(normalize ? normalized(text) : text)
  if (!match) return undefined
  const numbers = match.slice(1, 4).map((part) => BigInt(part))
  const prerelease = match[4]?.split('.') ?? []
  if (!numbers.every(isUint) || prerelease.some((part) => /^0\d+$/.test(part))) return undefined
  return new Semver(numbers, prerelease)
}

/** `v1.2` is 1.2.0: a leading v, leading zeros and missing numbers are forgiven. */
function normalized(text: string): string {
  const [, core = '', rest = ''] = /^v?([0-9.]{1,64})(.*)$/s.exec(text) ?? []
  const parts = core.split('.').map((part) => part.replace(/^0+(?=\d)/, ''))
  while (parts.length < 3) parts.push('0')
  return parts.join('.') + rest
}

function compare(a: Semver, b: Semver): number {
  for (const [index, number] of a.numbers.entries()) {
    const other = b.numbers[index] ?? 0n
    if (number !== other) return number < other ? -1 : 1
  }
  // What comes before a release is less than the release.
  if (a.prerelease.length === 0 || b.prerelease.length === 0)
    return Math.sign(b.prerelease.length - a.prerelease.length)
  for (const [index, part] of a.prerelease.entries()) {
    const other = b.prerelease[index]
    if (other === undefined) return 1
    if (part === other) continue
    const [isNumber, otherIsNumber] = [/^\d+$/.test(part), /^\d+$/.test(other)]
    if (isNumber && otherIsNumber) return BigInt(part) < BigInt(other) ? -1 : 1
    if (isNumber !== otherIsNumber) return isNumber ? -1 : 1
    return part < other ? -1 : 1
  }
  return a.prerelease.length - b.prerelease.length
}

const S = 'kubernetes.Semver'
const bad = new Fault('could not parse semver')
export const semvers: readonly Overload[] = [
  free('isSemver', 'string', 'bool', (_meter, text: string) => parseSemver(text) !== undefined),
  free(
    'isSemver',
    'string, bool',
    'bool',
    (_meter, text: string, normalize: boolean) => parseSemver(text, normalize) !== undefined,
  ),
  free('semver', 'string', S, (_meter, text: string) => parseSemver(text) ?? bad),
  free(
    'semver',
    'string, bool',
    S,
    (_meter, text: string, normalize: boolean) => parseSemver(text, normalize) ?? bad,
  ),
  ...['major', 'minor', 'patch'].map((name, index) =>
    method(name, S, 'int', (_meter, { numbers }: Semver) => BigInt.asIntN(64, numbers[index] ?? 0n)),
  ),
  method('compareTo', `${S}, ${S}`, 'int', (_meter, a: Semver, b: Semver) =>
    BigInt(Math.sign(compare(a, b))),
  ),
  method('isGreaterThan', `${S}, ${S}`, 'bool', (_meter, a: Semver, b: Semver) => compare(a, b) > 0),
  method('isLessThan', `${S}, ${S}`, 'bool', (_meter, a: Semver, b: Semver) => compare(a, b) < 0),
]
