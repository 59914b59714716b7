import { assert, GiB, MiB, SECOND_MS } from '../stdx/index.ts'

/** A claim that the machine refused: another one may have gone meanwhile. */
export const CLAIM_REFUSED_RETRY_MS = 30_000
/** A volume whose last pod is ending. */
export const CLAIM_IN_USE_RETRY_MS = 500
/** Pods that one reconcile of a ReplicaSet or Job creates or deletes at most; the rest follows in the next one. */
export const PODS_PER_RECONCILE_MAX = 500
/** The first batch of creations; each that succeeds completely doubles the next. */
export const SLOW_START_PODS = 1

export const ENDPOINTS_PER_SLICE_MAX = 100
/** As upstream: slices of Endpoints that were written by hand. The API takes no more addresses in one. */
export const MIRRORED_PER_SLICE_MAX = 1_000
export const ENDPOINTS_PER_ENDPOINTS_MAX = 1_000

/** What is kept of `deployment.kubernetes.io/revision-history`. */
export const REVISION_HISTORY_CHARS_MAX = 2_000

export const JOB_BACKOFF_FIRST_MS = 10 * SECOND_MS
export const JOB_BACKOFF_LAST_MS = 600 * SECOND_MS

/** As upstream: more missed times of a CronJob than this are told about. */
export const MISSED_TIMES_TOLD = 100
/** As upstream: a CronJob is looked at so long after its time, so that the time has surely come. */
export const SCHEDULE_DELTA_MS = 100

/** As upstream: an evicted pod that has not begun to end by then does not count as evicted any more. */
export const DISRUPTED_POD_MS = 120 * SECOND_MS

/** As upstream: how long a DaemonSet's pod that has ended stays before it is replaced, doubling every time. */
export const DAEMON_BACKOFF_FIRST_MS = 1 * SECOND_MS
export const DAEMON_BACKOFF_LAST_MS = 900 * SECOND_MS

/** emptyDir without `sizeLimit`; an engine lets a pod occupy no more altogether, unless its containers have limits. */
export const SCRATCH_BYTES_DEFAULT = 10 * GiB
export const SCRATCH_MEMORY_BYTES_DEFAULT = 64 * MiB
/** The files of one pod's volumes together, decoded; the same as an engine accepts. */
export const POD_FILES_BYTES_MAX = 8 * MiB
/** Environment of one container, names and values together. */
export const ENV_BYTES_MAX = 1 * MiB

/** A token is renewed after this part of its life. */
export const TOKEN_RENEW_FRACTION = 0.8
export const TOKEN_SECONDS_DEFAULT = 3_600

/** As upstream's defaults: how often autoscalers look, and what of a pod that starts does not count yet. */
export const AUTOSCALE_EVERY_MS = 15 * SECOND_MS
export const CPU_INITIALIZATION_MS = 300 * SECOND_MS
export const INITIAL_READINESS_MS = 30 * SECOND_MS
export const TOLERANCE_DEFAULT = 0.1

/** A pod that found no room: another tenant's pod may have gone meanwhile, and nobody tells. */
export const NO_ROOM_RETRY_MS = 5 * SECOND_MS

/** How long changes of services and endpoints are collected before the engine is told. */
export const NETWORK_DEBOUNCE_MS = 50

/** Policies that get an event when the engine refuses the network. */
export const NETWORK_POLICIES_TOLD_MAX = 16

export const ENGINE_RETRY_FIRST_MS = 200
export const ENGINE_RETRY_LAST_MS = 30 * SECOND_MS

/** When to look again for objects that others keep from going. */
export const CUSTOM_CLEANUP_RETRY_MS = 1 * SECOND_MS
/** How long a kind that is gone is remembered, so that what its last objects owned goes, too. */
export const CUSTOM_KIND_LINGER_MS = 30 * SECOND_MS
/** Controllers begin without having seen all objects of custom kinds when one of these cannot be listed. */
export const CUSTOM_KINDS_SYNC_MS_MAX = 5 * SECOND_MS

/** Objects deleted at a time while a namespace or a definition is emptied. */
export const NAMESPACE_DELETIONS_AT_ONCE = 32

assert(SLOW_START_PODS <= PODS_PER_RECONCILE_MAX)
assert(DAEMON_BACKOFF_FIRST_MS < DAEMON_BACKOFF_LAST_MS)
assert(ENGINE_RETRY_FIRST_MS < ENGINE_RETRY_LAST_MS && JOB_BACKOFF_FIRST_MS < JOB_BACKOFF_LAST_MS)
