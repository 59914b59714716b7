import { assert, MiB } from '../../../stdx/index.ts'

/** RFC 1035: what fits into a UDP answer to a query without EDNS. */
export const UDP_BYTES_MIN = 512
/** The largest UDP answer we send, whatever a client offers: never fragmented (DNS flag day 2020). */
export const UDP_BYTES_MAX = 1_232
/** A query longer than this is nobody's. */
export const QUERY_BYTES_MAX = 1_232
export const TCP_MESSAGE_BYTES_MAX = 65_535

export const TCP_CONNECTIONS_MAX = 1_024
export const TCP_CONNECTIONS_PER_SOURCE_MAX = 8
export const TCP_IDLE_MS = 5_000
/** Answers waiting in one connection whose reader is slow. */
export const TCP_PENDING_BYTES_MAX = 256 * 1024

/** Per pod: above this, queries are dropped until the second is over. */
export const QUERIES_PER_SECOND_MAX = 2_000
/** Answers of a tenant's pods together, so that one tenant with many pods does not use the resolver up. */
export const TENANT_QUERIES_PER_SECOND_MAX = 10_000

export const VIEW_BYTES_MAX = 32 * MiB
export const VIEW_RECORDS_MAX = 100_000
export const VIEWS_MAX = 4_096
export const VERSION_CHARS_MAX = 64
/** A CNAME in a tenant's zone may point to another one. */
export const CNAME_STEPS_MAX = 8

/** Seconds; as CoreDNS answers for Kubernetes. */
export const TTL_SECONDS = 5

assert(UDP_BYTES_MIN <= UDP_BYTES_MAX)

/** Names outside that the forwarder looks up at once, of all tenants; the node agent bounds each tenant. */
export const FORWARDER_CONCURRENT_MAX = 512
export const FORWARDER_TRY_TIMEOUT_MS = 1_500
export const FORWARDER_TRIES = 2
export const FORWARDED_ADDRESSES_MAX = 16
/** Questions about names outside that wait for an answer: of all tenants, and of one. */
export const OUTSIDE_WAITING_MAX = 512
export const OUTSIDE_WAITING_PER_TENANT_MAX = 32
/** Questions of one tenant about names outside that the node agent is asked in a second; the others fail for now. */
export const OUTSIDE_PER_SECOND_PER_TENANT_MAX = 250
export const OUTSIDE_TIMEOUT_MS = 8_000
export const OUTSIDE_ANSWER_BYTES_MAX = 64 * 1024
