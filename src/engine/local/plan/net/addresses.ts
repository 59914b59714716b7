import {
  POD_RANGE,
  POD_RANGE_BITS,
  SERVICE_RANGE,
  SERVICE_RANGE_PREFIX,
  TENANTS_MAX,
  TENANT_BITS,
  TENANT_PODS_MAX,
} from './limits.ts'

/** An IPv4 address as a number from 0 to 2^32-1. */
export type Ipv4 = number

/** The pods' gateway and resolver; the same in every pod, and the only address of the router. */
export const GATEWAY = '169.254.1.1'
/** Where the pods' gateway to their APIs listens, at the router's address. */
export const POD_GATEWAY_PORT = 6443
/** All host ends of all pods have the same hardware address, so that pods need no ARP to find it. */
export const GATEWAY_MAC = 'ee:ee:ee:ee:ee:ee'

const IPV4 = /^(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})$/

/** Dotted decimal without leading zeros, or undefined. */
export function ipv4FromText(text: unknown): Ipv4 | undefined {
  if (typeof text !== 'string') return undefined
  const parts = IPV4.exec(text)?.slice(1).map(Number)
  if (!parts || parts.some((p) => p > 255)) return undefined
  return parts.reduce((sum, part) => sum * 256 + part, 0)
}

export function ipv4Text(address: Ipv4): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`
}

const POD_BASE = 0x0a80_0000
const SERVICE_BASE = 0x0a60_0000

/** What nftables knows a tenant by. Never 0, because that is the mark of a packet nobody has marked. */
export function tenantMark(index: number): number {
  return requireIndex(index) + 1
}

/** @throws {RangeError} when the machine's range has no addresses for a tenant of that index. */
export function tenantPool(index: number): { first: Ipv4; size: number } {
  return { first: POD_BASE + requireIndex(index) * 2 ** TENANT_BITS + 1, size: TENANT_PODS_MAX }
}

/** All addresses of a tenant: those whose bits under `mask` are `base`. */
export function tenantBlock(index: number): { base: Ipv4; mask: number } {
  return { base: POD_BASE + requireIndex(index) * 2 ** TENANT_BITS, mask: 2 ** 32 - 2 ** TENANT_BITS }
}

/** What a tenant's pods see the front door under: of the tenant's block, so that no other tenant's link lets it pass, and no pod's. */
export function doorAddress(index: number): Ipv4 {
  return tenantBlock(index).base
}

/** All virtual service addresses, as `tenantBlock` has them. */
export const SERVICE_BLOCK: { base: Ipv4; mask: number } = {
  base: SERVICE_BASE,
  mask: 2 ** 32 - 2 ** (32 - SERVICE_RANGE_PREFIX),
}

/** Whose pod has this address, by arithmetic alone; undefined for every address that is no pod's. */
export function tenantIndexOf(address: Ipv4): number | undefined {
  const offset = address - POD_BASE
  if (offset < 0 || offset >= 2 ** POD_RANGE_BITS) return undefined
  const index = offset >>> TENANT_BITS
  const within = offset - index * 2 ** TENANT_BITS
  return within >= 1 && within <= TENANT_PODS_MAX ? index : undefined
}

/** Whose pod an address in text is; undefined for every address that is no pod's. */
export function podOwnerIndex(text: string): number | undefined {
  const address = ipv4FromText(text)
  return address === undefined ? undefined : tenantIndexOf(address)
}

export function isServiceAddress(address: Ipv4): boolean {
  const size = 2 ** (32 - SERVICE_RANGE_PREFIX)
  return address > SERVICE_BASE && address < SERVICE_BASE + size - 1
}

/**
 * The next free address after `previous`, going round: an address that became free is reused last, when whatever
 * still remembers its former owner has forgotten.
 * @throws {RangeError} when the tenant has as many pods as addresses.
 */
export function nextAddress(index: number, used: ReadonlySet<Ipv4>, previous: Ipv4 | undefined): Ipv4 {
  const { first, size } = tenantPool(index)
  const start = previous === undefined ? 0 : previous - first + 1
  for (let i = 0; i < size; i++) {
    const candidate = first + ((start + i) % size)
    if (!used.has(candidate)) return candidate
  }
  throw new RangeError(
    `All ${size} pod addresses of the tenant with index ${index} on this machine are in use`,
  )
}

/** Locally administered, and derived from the address, so that neither needs to be remembered nor asked for. */
export function podMac(address: Ipv4): string {
  return [
    '02',
    '42',
    ...[24, 16, 8, 0].map((shift) => ((address >>> shift) & 255).toString(16).padStart(2, '0')),
  ].join(':')
}

/** Generations of a pod's link, so that a fresh one can be made before the old one is gone. */
export const GENERATIONS = 36

/** At most 15 bytes, as the kernel demands (IFNAMSIZ). */
export function interfaceName(prefix: string, address: Ipv4, generation: number): string {
  return `${prefix}${(address - POD_BASE).toString(16).padStart(6, '0')}${(generation % GENERATIONS).toString(36)}`
}

function requireIndex(index: number): number {
  if (!Number.isInteger(index) || index < 0 || index >= TENANTS_MAX)
    throw new RangeError(`The tenant index ${index} has no addresses: only 0 to ${TENANTS_MAX - 1} have`)
  return index
}

if (ipv4FromText(POD_RANGE) !== POD_BASE || ipv4FromText(SERVICE_RANGE) !== SERVICE_BASE)
  throw new Error('The address ranges and their bases disagree')
