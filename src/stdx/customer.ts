import { isIPv6 } from 'node:net'

const GROUPS = 8
/** The first 64 bits, which are what one customer of a network gets. */
const GROUPS_OF_CUSTOMER = 4

/**
 * What tells strangers apart by their address: an IPv4 address, or the network that an IPv6 address is in, because
 * whoever has one address of that has 2^64. `address` is as Node renders that of a socket.
 */
export function customerOf(address: string): string {
  const [plain = ''] = address.split('%')
  const mapped = /^::ffff:(\d{1,3}(?:\.\d{1,3}){3})$/i.exec(plain)?.[1]
  if (mapped !== undefined) return mapped
  if (!isIPv6(plain)) return plain
  const [left = '', right = ''] = plain.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':'))
  const before = groups(left)
  const missing = GROUPS - before.length - groups(right).length
  const all = [...before, ...Array.from({ length: Math.max(0, missing) }, () => '0'), ...groups(right)]
  return `${all
    .slice(0, GROUPS_OF_CUSTOMER)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}
