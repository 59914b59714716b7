import { BlockList, isIP, isIPv6, SocketAddress } from 'node:net'
import { Fault, OpaqueValue, type Value } from '../values.ts'
import { free, method, type Overload } from './overload.ts'

/** An address as a number, so that what it is part of is a matter of bits. */
class Ip extends OpaqueValue {
  override readonly typeName = 'net.IP'
  readonly bits: bigint
  readonly family: 4 | 6
  constructor(bits: bigint, family: 4 | 6) {
    super()
    this.bits = bits
    this.family = family
  }
  override equals(other: OpaqueValue): boolean {
    return other instanceof Ip && other.family === this.family && other.bits === this.bits
  }
  override text(): string {
    return renderIp(this.bits, this.family)
  }
}

class Cidr extends OpaqueValue {
  override readonly typeName = 'net.CIDR'
  readonly ip: Ip
  readonly length: number
  constructor(ip: Ip, length: number) {
    super()
    this.ip = ip
    this.length = length
  }
  get network(): bigint {
    const rest = BigInt(width(this.ip.family) - this.length)
    return (this.ip.bits >> rest) << rest
  }
  has({ bits, family }: Ip): boolean {
    const rest = BigInt(width(this.ip.family) - this.length)
    return family === this.ip.family && bits >> rest === this.ip.bits >> rest
  }
  override equals(other: OpaqueValue): boolean {
    return other instanceof Cidr && other.ip.equals(this.ip) && other.length === this.length
  }
  override text(): string {
    return `${this.ip.text()}/${this.length}`
  }
}

function width(family: 4 | 6): number {
  return family === 4 ? 32 : 128
}

function parseIp(text: string): Ip | undefined {
  // As upstream: no zones, no IPv4 in disguise, no leading zeros.
  if (text.length > 64 || text.includes('%')) return undefined
  const family = isIP(text)
  if (family === 4)
    return new Ip(
      text.split('.').reduce((bits, part) => bits * 256n + BigInt(part), 0n),
      4,
    )
  if (family !== 6 || text.includes('.')) return undefined
  const [head = '', tail] = text.split('::')
  const groups = (part: string) => (part === '' ? [] : part.split(':'))
  const [left, right] = [groups(head), groups(tail ?? '')]
  const middle = tail === undefined ? 0 : 8 - left.length - right.length
  const all = [...left, ...Array.from({ length: Math.max(0, middle) }, () => '0'), ...right]
  if (all.length !== 8) return undefined
  const bits = all.reduce((bits, group) => bits * 65_536n + BigInt(`0x${group}`), 0n)
  return bits >> 32n === 0xffffn ? undefined : new Ip(bits, 6)
}

function renderIp(bits: bigint, family: 4 | 6): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => (bits >> shift) & 255n).join('.')
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((bits >> BigInt(112 - 16 * index)) & 0xffffn).toString(16),
  )
  return new SocketAddress({ address: shortest(groups), family: 'ipv6' }).address
}

/** RFC 5952: the longest run of zeros, the first of several, becomes `::`. */
function shortest(groups: readonly string[]): string {
  let best = { at: -1, length: 1 }
  for (let at = 0; at < 8; at++) {
    let length = 0
    while (at + length < 8 && groups[at + length] === '0') length++
    if (length > best.length) best = { at, length }
  }
  if (best.at < 0) return groups.join(':')
  return `${groups.slice(0, best.at).join(':')}::${groups.slice(best.at + best.length).join(':')}`
}

function parseCidr(text: string): Cidr | undefined {
  const [, address = '', length = ''] = /^([0-9a-fA-F:.]{2,64})\/(0|[1-9]\d{0,2})$/.exec(text) ?? []
  const ip = address === '' ? undefined : parseIp(address)
  return ip && Number(length) <= width(ip.family) ? new Cidr(ip, Number(length)) : undefined
}

function ranges(...list: readonly [string, number][]): (ip: Ip) => boolean {
  const blocks = new BlockList()
  for (const [address, length] of list) blocks.addSubnet(address, length, isIPv6(address) ? 'ipv6' : 'ipv4')
  return (ip) => blocks.check(ip.text(), ip.family === 6 ? 'ipv6' : 'ipv4')
}
const isUnspecified = ({ bits }: Ip) => bits === 0n
const isLoopback = ranges(['127.0.0.0', 8], ['::1', 128])
const isMulticast = ranges(['224.0.0.0', 4], ['ff00::', 8])
const isLinkLocalMulticast = (ip: Ip) =>
  ip.family === 4 ? ip.bits >> 8n === 0xe00000n : ((ip.bits >> 112n) & 0xff0fn) === 0xff02n
const isLinkLocalUnicast = ranges(['169.254.0.0', 16], ['fe80::', 10])
const isGlobalUnicast = (ip: Ip) =>
  !isUnspecified(ip) &&
  !isLoopback(ip) &&
  !isMulticast(ip) &&
  !isLinkLocalUnicast(ip) &&
  !(ip.family === 4 && ip.bits === 0xffff_ffffn)

const badIp = (text: string) =>
  new Fault(`IP Address ${JSON.stringify(text.slice(0, 64))} parse error during conversion from string`)
const badCidr = (text: string) =>
  new Fault(`network address parse error during conversion from string: ${JSON.stringify(text.slice(0, 64))}`)
const withIp = (text: string, then: (ip: Ip) => Value | Fault): Value | Fault => {
  const ip = parseIp(text)
  return ip ? then(ip) : badIp(text)
}
const contains = (outer: Cidr, inner: Cidr) => inner.length >= outer.length && outer.has(inner.ip)

export const addresses: readonly Overload[] = [
  free('isIP', 'string', 'bool', (_meter, text: string) => parseIp(text) !== undefined),
  free('ip', 'string', 'net.IP', (_meter, text: string) => withIp(text, (ip) => ip)),
  free('ip.isCanonical', 'string', 'bool', (_meter, text: string) =>
    withIp(text, (ip) => ip.text() === text),
  ),
  method('family', 'net.IP', 'int', (_meter, { family }: Ip) => BigInt(family)),
  ...Object.entries({
    isUnspecified,
    isLoopback,
    isLinkLocalMulticast,
    isLinkLocalUnicast,
    isGlobalUnicast,
  }).map(([name, holds]) => method(name, 'net.IP', 'bool', (_meter, ip: Ip) => holds(ip))),

  free('isCIDR', 'string', 'bool', (_meter, text: string) => parseCidr(text) !== undefined),
  free('cidr', 'string', 'net.CIDR', (_meter, text: string) => parseCidr(text) ?? badCidr(text)),
  method('containsIP', 'net.CIDR, net.IP', 'bool', (_meter, cidr: Cidr, ip: Ip) => cidr.has(ip)),
  method('containsIP', 'net.CIDR, string', 'bool', (_meter, cidr: Cidr, text: string) =>
    withIp(text, (ip) => cidr.has(ip)),
  ),
  method('containsCIDR', 'net.CIDR, net.CIDR', 'bool', (_meter, outer: Cidr, inner: Cidr) =>
    contains(outer, inner),
  ),
  method('containsCIDR', 'net.CIDR, string', 'bool', (_meter, outer: Cidr, text: string) => {
    const inner = parseCidr(text)
    return inner ? contains(outer, inner) : badCidr(text)
  }),
  method('ip', 'net.CIDR', 'net.IP', (_meter, { ip }: Cidr) => ip),
  method(
    'masked',
    'net.CIDR',
    'net.CIDR',
    (_meter, cidr: Cidr) => new Cidr(new Ip(cidr.network, cidr.ip.family), cidr.length),
  ),
  method('prefixLength', 'net.CIDR', 'int', (_meter, { length }: Cidr) => BigInt(length)),
]
