import { isIPv6 } from 'node:net'
import { isIPv4 } from './kinds/names.ts'

/** A range of addresses as CIDR notation gives it: those whose first `bits` bits are `base`'s. */
export type IpBlock = { family: 4 | 6; base: bigint; bits: number }

/**
 * Reads `10.0.0.0/8` or `2001:db8::/64`; bits behind the prefix do not count. Undefined for anything else, also for
 * leading zeros, which some readers take for octal, and for IPv4 addresses dressed up as IPv6.
 */
export function parseIpBlock(text: string): IpBlock | undefined {
  const match = /^([0-9a-fA-F:.]{2,39})\/(0|[1-9]\d{0,2})$/.exec(text)
  if (!match) return undefined
  const [, address = '', prefix = ''] = match
  const family = isIPv4(address) ? 4 : isIPv6(address) && !address.includes('.') ? 6 : undefined
  const bits = Number(prefix)
  if (family === undefined || bits > widthOf(family)) return undefined
  const host = BigInt(widthOf(family) - bits)
  const value = family === 4 ? ipv4Number(address) : ipv6Number(address)
  return { family, base: (value >> host) << host, bits }
}

export function widthOf(family: 4 | 6): number {
  return family === 4 ? 32 : 128
}

/** The first and the last address of a block. */
export function rangeOf({ family, base, bits }: IpBlock): { first: bigint; last: bigint } {
  return { first: base, last: base + (1n << BigInt(widthOf(family) - bits)) - 1n }
}

/** True when every address of `inner` is one of `outer`. */
export function containsBlock(outer: IpBlock, inner: IpBlock): boolean {
  const [around, within] = [rangeOf(outer), rangeOf(inner)]
  return outer.family === inner.family && around.first <= within.first && within.last <= around.last
}

function ipv4Number(address: string): bigint {
  return address.split('.').reduce((sum, part) => (sum << 8n) + BigInt(part), 0n)
}

/** Requires: `isIPv6`, and no dots. */
function ipv6Number(address: string): bigint {
  const [head = '', tail] = address.split('::')
  const groups = (part: string) => (part === '' ? [] : part.split(':'))
  const [before, after] = [groups(head), groups(tail ?? '')]
  const zeros = tail === undefined ? 0 : 8 - before.length - after.length
  return [...before, ...Array.from({ length: zeros }, () => '0'), ...after].reduce(
    (sum, group) => (sum << 16n) + BigInt(`0x${group}`),
    0n,
  )
}
