import { assert, KiB, MiB } from '../../../stdx/index.ts'

/** A document of the node agent: what one tenant publishes, with keys, or where its services are. */
export const VIEW_BYTES_MAX = 10 * MiB

export const CONNECTIONS_MAX = 8_192
/** From one address, so that one client alone cannot take them all. */
export const CONNECTIONS_PER_CLIENT_MAX = 2_048
assert(CONNECTIONS_PER_CLIENT_MAX * 2 <= CONNECTIONS_MAX, 'One client leaves room for others')
/** Requests of one tenant that are being answered, and TCP connections to its ports. */
export const TENANT_REQUESTS_MAX = 512
export const TENANT_REQUESTS_PER_SECOND_MAX = 2_000
/** Of all tenants: each takes two sockets. */
export const REQUESTS_MAX = 4_096
assert(TENANT_REQUESTS_MAX * 4 <= REQUESTS_MAX, 'One tenant leaves room for others')

export const HEADER_BYTES_MAX = 16 * KiB
export const HEADERS_MAX = 100
export const HEADERS_TIMEOUT_MS = 10_000
export const REQUEST_TIMEOUT_MS = 300_000
export const KEEP_ALIVE_MS = 15_000
/** A connection on which nothing is said. */
export const IDLE_MS = 120_000
/** The same for WebSockets and TCP, where silence is usual. */
export const STREAM_IDLE_MS = 3_600_000
/** After one side has said all it had to say; the other may be gone without a word. */
export const HALF_OPEN_IDLE_MS = 60_000
export const STREAMS_PER_CONNECTION_MAX = 100
export const HANDSHAKE_TIMEOUT_MS = 10_000
export const LISTEN_RETRY_MS = 1_000

export const CONNECT_TIMEOUT_MS = 2_000
/** Endpoints that are tried for one connection. */
export const ENDPOINTS_TRIED_MAX = 3
export const CONNECTOR_ANSWER_MS = CONNECT_TIMEOUT_MS * ENDPOINTS_TRIED_MAX + 4_000
export const LINE_BYTES_MAX = 512
/** Of whoever stands in front, with what it may add to the addresses. */
export const PROXY_HEADER_BYTES_MAX = 536
export const LINE_TIMEOUT_MS = 5_000

/** As much again is kept of what was before. */
export const ACCESS_LOG_BYTES_MAX = 4 * MiB
export const ACCESS_LOG_LINES_WAITING_MAX = 2_000
export const ACCESS_LOG_FLUSH_MS = 1_000
export const ACCESS_LOG_FIELD_CHARS_MAX = 256

/** Flows of datagrams, each a client's address and port: of all, of one tenant, and from one address. */
export const FLOWS_MAX = 1_024
export const TENANT_FLOWS_MAX = 256
export const CLIENT_FLOWS_MAX = 64
assert(
  TENANT_FLOWS_MAX * 4 <= FLOWS_MAX && CLIENT_FLOWS_MAX * 4 <= TENANT_FLOWS_MAX,
  'One leaves room for others',
)
assert(
  TENANT_FLOWS_MAX + TENANT_REQUESTS_MAX <= TENANT_REQUESTS_MAX * 2,
  'The connector takes flows beside requests',
)
export const TENANT_FLOWS_PER_SECOND_MAX = 200
export const TENANT_DATAGRAMS_PER_SECOND_MAX = 20_000
export const FLOW_IDLE_MS = 60_000
export const FLOW_UNANSWERED_MS = 10_000
/** Whoever has just come is not sent away for the next one. */
export const FLOW_SPARED_MS = 1_000
export const FLOW_DATAGRAMS_WAITING_MAX = 16
/** Bytes of answers per byte that came, as QUIC allows to a client that has not shown where it is (RFC 9000, 8.1). */
export const ANSWER_FACTOR = 3
/** A small question may have an answer that fits one packet everywhere. */
export const DATAGRAM_BYTES_COUNTED_MIN = 400
/** Not more is saved up. */
export const FLOW_CREDIT_BYTES_MAX = 4 * MiB
export const FLOWS_SWEEP_MS = 2_000
