import { assert } from '../stdx/index.ts'

const MINUTE_SECONDS = 60
const HOUR_SECONDS = 60 * MINUTE_SECONDS
const DAY_SECONDS = 24 * HOUR_SECONDS

export const USER_NAME_BYTES_MAX = 256
/** ub-organization-name of RFC 5280, appendix A. */
export const GROUP_CHARS_MAX = 64
export const GROUPS_MAX = 32

export const CSR_BYTES_MAX = 8_192
export const CERTIFICATE_BYTES_MAX = 16_384

export const CLIENT_CERTIFICATE_TTL_SECONDS_DEFAULT = DAY_SECONDS
export const CLIENT_CERTIFICATE_TTL_SECONDS_MAX = 365 * DAY_SECONDS
export const SERVER_CERTIFICATE_TTL_SECONDS_MAX = 825 * DAY_SECONDS
export const AUTHORITY_TTL_SECONDS_DEFAULT = 10 * 365 * DAY_SECONDS
/** Certificates begin a little in the past, for clients whose clocks are behind. */
export const CLOCK_SKEW_SECONDS = 5 * MINUTE_SECONDS

/** As upstream: nobody can ask for less than ten minutes. */
export const TOKEN_TTL_SECONDS_MIN = 10 * MINUTE_SECONDS
export const TOKEN_TTL_SECONDS_DEFAULT = HOUR_SECONDS
export const TOKEN_TTL_SECONDS_MAX = 2 * DAY_SECONDS
/** A token that begins this far in the future is still accepted; expiry has no such allowance. */
export const TOKEN_NOT_BEFORE_SKEW_SECONDS = 30
export const TOKEN_CHARS_MAX = 8_192
export const TOKEN_AUDIENCES_MAX = 16
export const TOKEN_AUDIENCE_CHARS_MAX = 512
/** The key that signs now, and those whose tokens have not run out. */
export const TOKEN_KEYS_MAX = 8
/** Longest text of a uid, a key id or a token id. */
export const TOKEN_FIELD_CHARS_MAX = 128

/** `x-bulkhead-identity`, as it travels. */
export const IDENTITY_HEADER_CHARS_MAX = 24_576
assert(
  (GROUPS_MAX * (GROUP_CHARS_MAX * 4 + 3) + USER_NAME_BYTES_MAX * 6 + 256) * (4 / 3) <
    IDENTITY_HEADER_CHARS_MAX,
  'Every identity that we accept must fit into the header',
)
