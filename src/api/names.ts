/** A tenant's name, branded once at the edge. Holding one is proof that it has been parsed. */
export type TenantName = string & { readonly __brand: 'TenantName' }

/** The control plane that manages the tenants is addressed like a tenant, under a name no tenant can have. */
export const PLATFORM_TENANT = 'platform' as TenantName

/** A user without any rights in every tenant: as this one the verifier asks. */
export const VERIFIER_USER = 'bulkhead:verifier'

const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/
const DNS_SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const TENANT_NAME = /^[a-z]([-a-z0-9]{0,30}[a-z0-9])?$/

/** Names that would read as part of the platform itself. */
const RESERVED_TENANT_NAMES: readonly string[] = [
  'platform',
  'bulkhead',
  'system',
  'kubernetes',
  'default',
  'node',
]

/** RFC 1123 label: at most 63 characters. */
export function isDnsLabel(value: string): boolean {
  return DNS_LABEL.test(value)
}

/** RFC 1123 subdomain: at most 253 characters. */
export function isDnsSubdomain(value: string): boolean {
  return value.length <= 253 && DNS_SUBDOMAIN.test(value)
}

/** @throws {TypeError} when `value` cannot name a tenant. At most 32 characters, so that socket paths stay short. */
export function parseTenantName(value: unknown): TenantName {
  if (typeof value !== 'string' || !TENANT_NAME.test(value))
    throw new TypeError(
      'A tenant name has 1 to 32 lower-case letters, digits or "-", and starts with a letter',
    )
  if (RESERVED_TENANT_NAMES.includes(value))
    throw new TypeError(`The tenant name "${value}" is reserved for the platform`)
  return value as TenantName
}
