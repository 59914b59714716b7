import type { TenantLimits } from '../policy/index.ts'
import { assert, KiB, MiB, SECOND_MS } from '../stdx/index.ts'

/** The body of one request. Upstream's etcd accepts 1.5 MiB; Helm's releases come close to it. */
export const REQUEST_BODY_BYTES_MAX = 3 * MiB
/** One object as JSON in the store. */
export const OBJECT_BYTES_MAX = 1.5 * MiB
export const PATH_CHARS_MAX = 4 * KiB
export const QUERY_CHARS_MAX = 32 * KiB
/** What policies note about one request; the gateway writes no more of it. */
export const AUDIT_NOTE_CHARS_MAX = 1_024
/** Problems that one refusal tells. */
export const PROBLEMS_MAX = 100
/** How many objects deletecollection removes in one request. */
export const DELETE_COLLECTION_MAX = 10_000
/** Objects of a list that are made JSON before other requests have their turn: about a millisecond or two of pods. */
export const LIST_ITEMS_RENDERED_AT_ONCE = 100
/** Objects that a list with a selector reads at a time, at least. */
export const LIST_BATCH = 1_000
/** Of these, how many share commits. */
export const DELETE_COLLECTION_BATCH = 256
/** Watches of one tenant at a time. */
export const WATCHES_MAX = 2_000
/** A watcher whose connection takes nothing for so long is cut off; it can come back with its last revision. */
export const WATCH_STALLED_MS_MAX = 60 * SECOND_MS
/** A watch that names no timeout ends after a random time between the two, so that clients do not all return at once. */
export const WATCH_TIMEOUT_MS_MIN = 30 * 60 * SECOND_MS
export const WATCH_TIMEOUT_MS_MAX = 60 * 60 * SECOND_MS
export const WATCH_BOOKMARK_EVERY_MS = 60 * SECOND_MS
/** Events kept as they were sent for other watchers of the same: of so many objects, and so large together. */
export const RENDERED_OBJECTS_MAX = 256
export const RENDERED_BYTES_MAX = 8 * MiB
/** Requests being carried out at a time for one tenant, watches and streams not counted. */
export const REQUESTS_IN_FLIGHT_MAX = 400
/** Tries of a write without resourceVersion against writers that come in between. */
export const WRITE_ATTEMPTS_MAX = 10
export const GENERATE_NAME_ATTEMPTS_MAX = 8
/** Answers that clients have not taken yet, of one control plane together; then lists wait and slow watches end. */
export const ANSWER_BYTES_HELD_MAX = 64 * MiB
/** Bodies from this size on are compressed for who accepts it, as upstream does. */
export const GZIP_BODY_BYTES_MIN = 128 * KiB
export const WARNINGS_MAX = 50
export const WARNING_CHARS_MAX = 1 * KiB
/** Of all warnings of one answer as they are sent; as upstream. What has no room is left out. */
export const WARNINGS_CHARS_MAX = 4 * KiB
/** Longest time that a pod may take to end; what asks for more gets this. Later dates are none in RFC 3339. */
export const GRACE_SECONDS_MAX = 2 ** 31 - 1
/** Audiences that one TokenReview may name: each takes a check of the signature. */
export const REVIEW_AUDIENCES_MAX = 16
/** A followed log ends by then; kubectl asks again. */
export const LOG_FOLLOW_MS_MAX = 4 * 60 * 60 * SECOND_MS
/** The head of a pod's answer to a request that was passed on, and how long the pod may take for it. */
export const POD_ANSWER_HEAD_BYTES_MAX = 16 * KiB
export const POD_ANSWER_MS_MAX = 30 * SECOND_MS
/** Answers before the answer (1xx). They cost time and bring nobody anything. */
export const POD_ANSWER_INTERIM_MAX = 16
/** What a pod sends before TLS is agreed on, its certificates among it. */
export const POD_HANDSHAKE_BYTES_MAX = 16 * KiB
/** Pieces of an answer so small, and how many of them one may have. */
export const POD_ANSWER_CRUMB_BYTES_MAX = 32
export const POD_ANSWER_CRUMBS_MAX = 65_536
/** Requests to pods at a time: each holds its body until the pod has taken it. */
export const PASSED_ON_MAX = 64
assert(PASSED_ON_MAX * REQUEST_BODY_BYTES_MAX <= 192 * MiB)
/** Characters of where a pod sends a reader. */
export const POD_LOCATION_CHARS_MAX = 4 * KiB
/** A request that is passed on to a pod is over by then, as the gateway has it too. */
export const PASS_ON_MS_MAX = 300 * SECOND_MS
export const TOKEN_SECONDS_DEFAULT = 3_600
export const TOKEN_SECONDS_MIN = 600
export const TOKEN_SECONDS_MAX = 2 ** 32

/** What a tenant may keep unless the operator says otherwise. */
export const DEFAULT_TENANT_LIMITS: TenantLimits = {
  objectsMax: 40_000,
  bytesMax: 100 * MiB,
  podsMax: 1_000,
  namespacesMax: 200,
}

/** CustomResourceDefinitions of one tenant, and all of them together as JSON: they are kept in memory several times over. */
export const CUSTOM_DEFINITIONS_MAX = 500
export const CUSTOM_DEFINITIONS_BYTES_MAX = 16 * MiB

/** Rules in CEL of one version of a custom kind, their messages included; each is compiled when it is written. */
export const CUSTOM_RULES_CHARS_MAX = 128 * KiB
/** What all rules may cost for one object, as CEL counts; less than upstream's 10,000,000, because tenants share a process. */
export const CUSTOM_RULES_COST_MAX = 3_000_000
/** As upstream: what one rule may cost by its estimate, for all values that an object can have there. */
export const CUSTOM_RULE_ESTIMATE_MAX = 10_000_000
/** As upstream: what all rules of a version may cost by their estimates. */
export const CUSTOM_RULES_ESTIMATE_MAX = 100_000_000
/** As upstream. */
export const CUSTOM_RULE_MESSAGE_CHARS_MAX = 5 * KiB
/** Failures of rules that are told for one object. */
export const CUSTOM_RULES_PROBLEMS_MAX = 50

/** As upstream: evictions of one PodDisruptionBudget that nobody has confirmed. */
export const DISRUPTED_PODS_MAX = 2_000
/** As upstream: when to ask again while a budget is being counted. */
export const EVICTION_RETRY_SECONDS = 10

/** Whoever asks again within this time gets the same measurement. */
export const MEASURE_FRESH_MS = 5 * SECOND_MS
/** Older readings are not compared with new ones: what is asked for is now. */
export const MEASURE_STALE_MS = 60 * SECOND_MS
/** Between two readings when there is none to compare with. */
export const MEASURE_AGAIN_AFTER_MS = 1 * SECOND_MS

assert(OBJECT_BYTES_MAX <= REQUEST_BODY_BYTES_MAX)
assert(WATCH_TIMEOUT_MS_MIN < WATCH_TIMEOUT_MS_MAX)
assert(TOKEN_SECONDS_MIN <= TOKEN_SECONDS_DEFAULT && TOKEN_SECONDS_DEFAULT <= TOKEN_SECONDS_MAX)

/** After a change of rights, before watches and sessions that are open are looked at again. */
export const STANDING_RECHECK_MS = 250

/** What pods may reach outside, in all namespaces together, in one answer. */
export const EGRESS_OBJECTS_MAX = 20_000
