import { assert, GiB, KiB, MiB, SECOND_MS } from '../../stdx/index.ts'
import { JAIL_BYTES_MAX, TENANT_NETWORK_BYTES_MAX } from '../../jail/index.ts'

// A tenant's socket. All numbers are per tenant.
export const CONNECTIONS_MAX = 512
/** Plain requests that are being worked on at once; streams have limits of their own in the engine. */
export const REQUESTS_CONCURRENT_MAX = 64
/** Bodies being read or parsed at once. */
export const REQUEST_BODIES_BYTES_MAX = 64 * MiB
export const REQUEST_HEAD_TIMEOUT_MS = 10 * SECOND_MS
export const REQUEST_TIMEOUT_MS = 60 * SECOND_MS
export const IDLE_CONNECTION_TIMEOUT_MS = 5 * 60 * SECOND_MS
/** The command of an exec travels in the request line. */
export const REQUEST_HEAD_BYTES_MAX = 256 * KiB
export const QUERY_PARAMETERS_MAX = 2_048

// Pods.
export const PODS_PER_TENANT_MAX = 250
/** A gVisor sandbox has up to 35 tasks, a pod with conmon and a few processes about as many. */
export const TASKS_PER_POD = 64
export const PODS_PER_MACHINE_MAX = 2_000
/** The unpacked containers, monitors and sandboxes of one pod cost at least this much. */
export const MEMORY_BYTES_PER_POD = 16 * MiB

/** A pod's requests as JSON, with the ids of all others. */
export const ROOM_REQUEST_BYTES_MAX = 16 * KiB
/** Room that was promised to a pod and not used by then is free again. */
export const ROOM_KEPT_MS = 60 * SECOND_MS
/** What the platform's own processes and the system keep of the machine; the rest is for pods. */
export const MACHINE_RESERVE_CPU_MILLIS = 100
export const MACHINE_RESERVE_MEMORY_BYTES = 256 * MiB
export const MACHINE_RESERVE_DISK_FRACTION = 0.1

// Streams, per tenant.
export const SESSIONS_MAX = 64
export const LOG_STREAMS_MAX = 64
export const WATCHERS_MAX = 16

// Events, per tenant.
export const EVENTS_KEPT_MAX = 1_000
export const EVENT_MESSAGE_CHARS_MAX = 1_024
/** The kubelet lets a pod say 25 things and then one per five minutes; so do we, with a little more patience. */
export const EVENTS_PER_POD_BURST = 50
export const EVENTS_PER_POD_REFILL_MS = 60 * SECOND_MS
/** Events that wait for one slow watcher; older ones are dropped first. */
export const WATCHER_EVENTS_MAX = 1_000
/** Pods whose news wait for one slow watcher. */
export const WATCHER_PODS_MAX = 4 * PODS_PER_TENANT_MAX

// Work at once.
export const STARTS_CONCURRENT_MAX = 8
export const STARTS_PER_TENANT_CONCURRENT_MAX = 4
export const PULLS_PER_TENANT_CONCURRENT_MAX = 4
export const PROBES_PER_TENANT_CONCURRENT_MAX = 8

// Back-offs, those of the kubelet.
export const BACKOFF_MIN_MS = 10 * SECOND_MS
export const BACKOFF_MAX_MS = 300 * SECOND_MS
/** A container that ran this long starts over with the shortest back-off. */
export const BACKOFF_RESET_MS = 600 * SECOND_MS
export const SANDBOX_BACKOFF_MIN_MS = 1 * SECOND_MS
export const REMOVE_BACKOFF_MIN_MS = 1 * SECOND_MS
/** After a preStop hook a container still has this long, however little of its grace period is left. */
export const GRACE_AFTER_HOOK_MIN_MS = 2 * SECOND_MS
/** Pulling 1 GiB over a slow line. */
export const PULL_TIMEOUT_MS = 30 * 60 * SECOND_MS
export const START_TIMEOUT_MS = 2 * 60 * SECOND_MS
/** A hook of a container; the kubelet knows no limit, but a hook that never ends would hold the pod for ever. */
export const HOOK_TIMEOUT_MS = 10 * 60 * SECOND_MS

// Disk.
/** Between two looks at what the pods of one tenant occupy; longer when looking takes long. */
export const DISK_MEASURE_EVERY_MS = 10 * SECOND_MS
/** A look that takes a second is followed by this many seconds without one. */
export const DISK_MEASURE_REST_FACTOR = 9
export const DISK_MEASURES_CONCURRENT_MAX = 2
/** A pod that cannot be measured so often in a row has more files than anybody can count. */
export const DISK_MEASURE_FAILURES_MAX = 5
/** Volumes, writable layers and logs of a pod that names no limit of its own. */
export const POD_DISK_BYTES_MAX = 10 * GiB
/** A file without content takes an inode, of which a disk has only so many; ext4 makes one for 16 KiB. */
export const POD_FILES_MIN = 10_000
export const POD_BYTES_PER_FILE = 10 * KiB
/** With less than one part in so many of a tenant's file system left its largest pod goes, as at the kubelet's threshold. */
export const TENANT_DISK_PARTS = 10
/** Below one part in so many the disk is short, and pods go. Images stop earlier to come (see images/limits.ts). */
export const DISK_FREE_PARTS_MIN = 25
export const DISK_PRESSURE_EVERY_MS = 1 * SECOND_MS
/** An evicted pod has a second to end; then its files go. */
export const DISK_PRESSURE_REST_MS = 5 * SECOND_MS
/** Between two looks at what tenants use, without cgroups; longer when looking takes long. */
export const USE_LOOK_EVERY_MS = 5 * SECOND_MS
export const USE_LOOK_REST_FACTOR = 30
export const USE_LOOK_EVERY_MS_MAX = 20 * SECOND_MS
/** As the kubelet's threshold: with less memory than this pods go, before the kernel has to kill. */
export const MEMORY_FREE_BYTES_MIN = 100 * MiB
export const MEMORY_PRESSURE_EVERY_MS = 1 * SECOND_MS
/** An evicted pod has a second to end; then its memory is free. */
export const MEMORY_PRESSURE_REST_MS = 5 * SECOND_MS
export const MEASURED_PODS_MAX = PODS_PER_MACHINE_MAX
/** How long a tenant's node says that it is short of something, from its last pod that went for it; as the kubelet's. */
export const PRESSURE_TOLD_MS = 5 * 60 * SECOND_MS
/** A pod that makes room for another tenant's cannot keep it by taking long to end. */
export const PREEMPTION_GRACE_SECONDS_MAX = 30
/** What the kubelet gives a pod that it evicts for its own limits. */
export const EVICTION_GRACE_SECONDS = 1

// Texts.
export const TERMINATION_MESSAGE_BYTES_MAX = 4_096
export const TERMINATION_MESSAGE_FROM_LOG_BYTES_MAX = 2_048
export const TERMINATION_MESSAGE_FROM_LOG_LINES_MAX = 80
export const PROBE_MESSAGE_CHARS_MAX = 1_024

// Probes over the network.
export const PROBE_HEAD_BYTES_MAX = 16 * KiB
export const PROBE_TIMEOUT_MS_MAX = 5 * 60 * SECOND_MS
export const GRPC_ANSWER_BYTES_MAX = 1 * KiB

/** Between the node agent and the prober, of one probe. */
export const EXCHANGE_CHUNK_BYTES_MAX = 64 * KiB
/** A head, certificates and the first of a body; more is not needed to tell. */
export const EXCHANGE_FROM_POD_BYTES_MAX = 4 * MiB
export const EXCHANGE_TO_POD_BYTES_MAX = 2 * MiB
export const EXCHANGE_RESULT_BYTES_MAX = 16 * KiB
/** A prober that takes so many questions in a row not even up is started anew. */
export const EXCHANGES_UNHEARD_MAX = 5
export const EXCHANGES_MAX = 4_096

/** setTimeout takes no more. */
export const TIMER_MS_MAX = 2 ** 31 - 1

assert(REQUEST_BODIES_BYTES_MAX >= 2 * Math.max(JAIL_BYTES_MAX, TENANT_NETWORK_BYTES_MAX))
assert(PODS_PER_TENANT_MAX <= PODS_PER_MACHINE_MAX)
assert(PODS_PER_TENANT_MAX * 40 + KiB <= ROOM_REQUEST_BYTES_MAX)
assert(EVENTS_KEPT_MAX * EVENT_MESSAGE_CHARS_MAX * 2 < GiB / 256)

/** Accepted jails of one tenant as JSON together: they are kept in memory, and so is what their `files` volumes hold. */
export const JAILS_BYTES_PER_TENANT_MAX = 128 * MiB
