import { assert } from '../../../../stdx/index.ts'

/** Pods have addresses in 10.128.0.0/9; a tenant has a /21 of it, which its index gives. */
export const POD_RANGE = '10.128.0.0'
export const POD_RANGE_BITS = 23
export const TENANT_BITS = 11
/** As many tenants as have uid ranges of their own (`Layout.tenantsMax`). */
export const TENANTS_MAX = 4_096
/** The first and the last address of a tenant's range are not given out. */
export const TENANT_PODS_MAX = 2 ** TENANT_BITS - 2

/** Of all tenants together, on one machine. */
export const PODS_MAX = 65_536

/** Every tenant has the same virtual service addresses; whose they are follows from who asks. */
export const SERVICE_RANGE = '10.96.0.0'
export const SERVICE_RANGE_PREFIX = 16

/**
 * Open connections of a tenant: the kernel's table (nf_conntrack_max) is shared by all of them. The kernel walks a list
 * of them at most once per tick; measured, that is not noticed up to 12,000 and costs milliseconds at 16,000.
 */
export const TENANT_CONNECTIONS_MAX = 10_000
/** Names that one pod owns beside those of services. */
export const HOSTNAME_RECORDS_MAX = 16
/** Names of one tenant: twice its endpoints for headless services, each with address, SRV and PTR, fit in. */
export const VIEW_RECORDS_MAX = 100_000

/** Addresses that names have opened, of all pods together, and of one tenant's. */
export const OUTSIDE_OPEN_MAX = 65_536
export const TENANT_OUTSIDE_OPEN_MAX = 4_096
/** What is left of all rules for one pod whose tenant narrows them; more is not opened. */
export const NARROWED_RULES_MAX = 1_000
/** Of all pods together that differ in what is left for them; pods beyond it have nothing open by network. */
export const NARROWED_RULES_OF_TENANT_MAX = 4_000
/** So many are remembered for pods that ask again. */
export const NARROWED_RULES_KEPT_MAX = 16_000
/** Of rules, and of their ports, with what the tenant leaves, for one pod; what is not compared is not opened. */
export const NARROWED_COMPARISONS_MAX = 32_768
/** Connections outside that are remembered for `bulkhead egress`, and how fast one tenant's blocked ones get there. */
export const OUTSIDE_RECORDED_MAX = 65_536
export const OUTSIDE_RECORDED_PER_SECOND = 20
export const OUTSIDE_MEMORY_SECONDS = 60

/** What a tenant's pods together may send, and receive, when the operator says nothing. */
export const TENANT_BITS_PER_SECOND = 1_000_000_000
/** As for the annotations of pods upstream, and as much as a link of the kernel can do. */
export const BITS_PER_SECOND_MIN = 1_000
export const BITS_PER_SECOND_MAX = 100_000_000_000
export const GUARANTEED_BITS_PER_SECOND = 8_000
/** A packet costs the machine something however small it is, so none counts for less. */
export const PACKET_BYTES_CHARGED_MIN = 256
/** How long a packet waits at most, roughly. The least is what one packet of the kernel's own can have, several times. */
export const QUEUE_MS = 10
export const QUEUE_BYTES_MIN = 256 * 1024
export const QUEUE_BYTES_MAX = 4 * 1024 * 1024
/**
 * A packet of TCP is cut to the size of a link as late as possible, and is as large as this until then: the kernel's usual,
 * and the most that we allow. Each has room in a queue of its own.
 */
export const PACKET_BYTES_USUAL = 65_536
export const PACKET_BYTES_MAX = 192 * 1024
/** By how much the rules' limits are above those of the links. */
export const RULES_SLACK_PERCENT = 25

assert(PACKET_BYTES_MAX < QUEUE_BYTES_MIN, 'The largest packet has no room in the smallest queue')
assert(
  TENANTS_MAX * 2 ** TENANT_BITS <= 2 ** POD_RANGE_BITS,
  'The tenants need more addresses than pods have',
)
