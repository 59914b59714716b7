import { IDENTITY_HEADER_CHARS_MAX } from '../identity/index.ts'
import { LINK_HEAD_BYTES_MAX } from '../link/index.ts'
import { assert, KiB, MiB, SECOND_MS } from '../stdx/index.ts'

/** What one tenant may use at a time, so that the others always find room. */
export type TenantShare = {
  connectionsMax: number
  /** Requests that end by themselves. */
  requestsMax: number
  /** Watches, followed logs, exec and the like. */
  streamsMax: number
  requestsPerSecond: number
  /** Requests that may come at once after a pause. */
  requestsBurst: number
  /** Connections, which cost a handshake each, that may begin in a second, and at once after a pause. */
  connectionsPerSecond: number
  connectionsBurst: number
}

export type GatewayLimits = {
  connectionsMax: number
  /** Before anybody has shown who they are, their address is all that tells them apart. */
  connectionsPerAddressMax: number
  requestsMax: number
  streamsMax: number
  bodyBytesMax: number
  /** From the first byte of a request to the last of its head, and to its very last. */
  receiveHeadMsMax: number
  receiveMsMax: number
  tenant: TenantShare
}

export const DEFAULT_GATEWAY_LIMITS: GatewayLimits = {
  connectionsMax: 16_384,
  connectionsPerAddressMax: 1_024,
  requestsMax: 2_048,
  streamsMax: 32_768,
  // As upstream's API server.
  bodyBytesMax: 3 * MiB,
  receiveHeadMsMax: 10 * SECOND_MS,
  receiveMsMax: 60 * SECOND_MS,
  tenant: {
    connectionsMax: 512,
    requestsMax: 128,
    streamsMax: 1_024,
    requestsPerSecond: 100,
    requestsBurst: 400,
    connectionsPerSecond: 200,
    connectionsBurst: 512,
  },
}

/** Of the door for pods, apart from the one for people: a tenant's pods cannot use up what its people have. */
export const POD_GATEWAY_LIMITS: GatewayLimits = {
  ...DEFAULT_GATEWAY_LIMITS,
  connectionsPerAddressMax: 128,
  requestsMax: 1_024,
  streamsMax: 16_384,
  tenant: {
    connectionsMax: 256,
    requestsMax: 64,
    streamsMax: 512,
    requestsPerSecond: 50,
    requestsBurst: 200,
    connectionsPerSecond: 50,
    connectionsBurst: 200,
  },
}

/** Of what a tenant may use, one of its users may use at most so much. */
export const USER_SHARE = 0.75
/** The verifier's user has so little that it can be seen to end without taking anything from anybody else. */
export const VERIFIER_SHARE = 0.08
/** Users of one tenant that are counted one by one; all beyond share one place. */
export const USERS_COUNTED_MAX = 1_024
/** Large bodies and answers cost as much as so many small requests. */
export const BYTES_PER_REQUEST = 64 * KiB
/** And so does what takes the control plane's processor longer than this: an ordinary write takes about one. */
export const COST_MS_PER_REQUEST = 4
/**
 * This part of what a tenant may use is kept for those of its users who have used little: any number of others together
 * cannot take it.
 */
export const QUIET_USERS_PART = 0.15
assert(USER_SHARE + VERIFIER_SHARE + QUIET_USERS_PART <= 1, 'One user can use its whole share')
/** Who has used, or has open, no more than this part of what is left has used little: the less is left, the less. */
export const QUIET_USER_PART = 1 / 8

/** @throws when one tenant alone could take half of anything. */
export function assertFair({ tenant, ...all }: GatewayLimits): void {
  assert(tenant.connectionsMax * 2 <= all.connectionsMax, 'One tenant could take half of all connections')
  assert(tenant.requestsMax * 2 <= all.requestsMax, 'One tenant could take half of all requests')
  assert(tenant.streamsMax * 2 <= all.streamsMax, 'One tenant could take half of all streams')
}
assertFair(DEFAULT_GATEWAY_LIMITS)
assertFair(POD_GATEWAY_LIMITS)

/** Request line and headers of a client together, on HTTP/1.1 and on HTTP/2. A command of `kubectl exec` is in the request line. */
export const HEAD_BYTES_MAX = 32 * KiB
export const HEADERS_MAX = 96
/** Head that a control plane's server has to accept: a client's, and the identity that we add. */
export const UPSTREAM_HEAD_BYTES_MAX = 64 * KiB
assert(HEAD_BYTES_MAX + IDENTITY_HEADER_CHARS_MAX + 1 * KiB <= UPSTREAM_HEAD_BYTES_MAX)
assert(UPSTREAM_HEAD_BYTES_MAX <= LINK_HEAD_BYTES_MAX)

/** client-go opens up to 250 streams on one connection before it opens another. */
export const STREAMS_PER_SESSION_MAX = 250

/** A link that nobody uses is closed: less than a control plane is awake for without a request. */
export const LINK_IDLE_MS_MAX = 1 * SECOND_MS
/** Until a control plane has agreed to a link. */
export const LINK_OPEN_MS_MAX = 10 * SECOND_MS

export const HANDSHAKE_MS_MAX = 10 * SECOND_MS
/** A connection without a request. */
export const IDLE_MS_MAX = 120 * SECOND_MS
export const KEEP_ALIVE_PROBE_MS = 30 * SECOND_MS
/** Until the control plane's first byte. */
export const ANSWER_MS_MAX = 60 * SECOND_MS
/** Until the last byte of an answer that ends by itself. */
export const REQUEST_MS_MAX = 300 * SECOND_MS
/** A stream ends with the credential that it was opened with, and after this in any case. */
export const STREAM_MS_MAX = 4 * 3_600 * SECOND_MS
export const CLOSE_MS_MAX = 5 * SECOND_MS

export const JWKS_BYTES_MAX = 64 * KiB
export const JWKS_TENANTS_MAX = 4_096
export const JWKS_FETCHES_MAX = 64
export const JWKS_FETCH_MS_MAX = 3 * SECOND_MS
/** A key that a tenant withdraws is accepted no longer than this. */
export const JWKS_FRESH_MS = 60 * SECOND_MS
/** As long as a control plane does not answer, what it said before is believed. */
export const JWKS_STALE_MS = 600 * SECOND_MS
assert(JWKS_FRESH_MS < JWKS_STALE_MS)
/** Tokens with an invented key id make us ask again no more often than this. */
export const JWKS_RETRY_MS = 5 * SECOND_MS

export const AUDIT_LINES_WAITING_MAX = 10_000
export const AUDIT_LINES_PER_WRITE_MAX = 256
/** Lines that come within this time are written together. */
export const AUDIT_GATHER_MS = 20
/** No path that means something is longer. */
export const AUDIT_PATH_CHARS_MAX = 512
/** Of refusals that cost a client nothing (401, 429): so many are recorded a second for each tenant, and of strangers. */
export const AUDIT_REFUSALS_PER_SECOND = 10
export const AUDIT_REFUSALS_BURST = 200
export const AUDIT_REASON_CHARS_MAX = 256
/** What a control plane's policies note about one request. */
export const AUDIT_NOTE_CHARS_MAX = 1_024
export const AUDIT_FILE_BYTES_MAX = 64 * MiB
export const AUDIT_FILES_KEPT = 8
export const AUDIT_RETRY_MS = 1 * SECOND_MS
