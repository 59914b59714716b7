import { GiB, KiB, MiB } from '../../../stdx/index.ts'

/** conmon throws the whole log away beyond this, so that a log is bounded even while we are dead. */
export const LOG_BYTES_HARD_MAX = 16 * MiB
/** Beyond this we move the log aside, as the kubelet does. */
export const LOG_BYTES_ROTATE = 8 * MiB
export const LOG_ROTATED_MAX = 1
export const LOG_ROTATE_EVERY_MS = 10_000
/** A line in conmon's log is a chunk of at most 8 KiB plus its time; more than this was not written by conmon. */
export const LOG_LINE_BYTES_MAX = 64 * KiB
export const LOG_READ_BYTES = 64 * KiB
export const LOG_TAIL_LINES_MAX = 1_000_000

/** A cold directory of a million files takes this long on a slow disk. */
export const DISK_MEASURE_TIMEOUT_MS = 60_000

export const TERMINATION_MESSAGE_BYTES_MAX = 4_096
export const RUN_OUTPUT_BYTES_MAX = 16 * KiB
/** /etc/passwd and /etc/group of an image. */
export const USER_FILE_BYTES_MAX = 1 * MiB

/** Bundles, records and the files of ConfigMaps and Secrets of all pods. */
export const CONTAINERS_TMPFS_BYTES_MAX = '2g'
export const SHM_BYTES_MAX = 64 * MiB
export const MEMORY_VOLUME_INODES_MAX = 65_536

// Volumes that outlive pods.
/** A journal and the inodes take most of anything smaller. */
export const CLAIM_BYTES_MIN = 16 * MiB
/** Volumes are made in whole ones of these. */
export const CLAIM_BYTES_STEP = 1 * MiB
export const CLAIMS_PER_TENANT_MAX = 256
/** Of the disk's size a tenant without a quota of its own may have no more than one part in so many. */
export const CLAIM_SHARE_OF_DISK = 4
/** So much of the disk stays free for everything else, or one part in `CLAIM_RESERVE_PART` if that is more. */
export const CLAIM_RESERVE_BYTES_MIN = 1 * GiB
export const CLAIM_RESERVE_PART = 20
/** Reserving and formatting does not depend on the size; checking and growing may read all of it. */
export const CLAIM_TOOL_TIMEOUT_MS = 10 * 60_000
export const CLAIM_RELEASE_TIMEOUT_MS = 10_000
/** Files whose group is changed when a pod with another `fsGroup` comes; more stay as they are. */
export const FS_GROUP_FILES_MAX = 1_000_000
export const FS_GROUP_DEPTH_MAX = 256
/** Between two looks at whatever else there is to do. */
export const FS_GROUP_FILES_AT_ONCE = 256

// What is ephemeral.
/** A tenant's file system has an inode for so many of its bytes. */
export const EPHEMERAL_BYTES_PER_FILE = 8 * KiB
/** Pods and volumes with limits on disk: each takes a loop device, which has a task of the kernel's. */
export const SIZED_FILE_SYSTEMS_PER_TENANT_MAX = 128
/** What a tenant has written and the disk has not: more waits, so that nobody's slow disk fills the memory of all. */
export const UNWRITTEN_BYTES_MAX = 128 * MiB
export const LOOP_DEVICES_MAX = 2_048
/** A cold tree of a million files takes this long to remove from a slow disk. */
export const REMOVE_TIMEOUT_MS = 600_000

export const LAYERS_MAX = 127
export const OVERLAY_OPTIONS_BYTES_MAX = 4_095

/** From conmon's start to the runtime's answer; cold page caches on a loaded machine take seconds. */
export const CREATE_TIMEOUT_MS = 60_000
export const BEGIN_TIMEOUT_MS = 10_000
export const KILL_TIMEOUT_MS = 20_000
export const TOOL_TIMEOUT_MS = 30_000
export const TOOL_OUTPUT_BYTES_MAX = 64 * KiB
/** Exit files are watched; this is for what a watch can miss. */
export const EXIT_POLL_MS = 500
/** After a command's end, how long a child it left behind may keep its output open. */
export const EXEC_DRAIN_MS = 500
/** From killing a process to the end of the runtime's own that waits for it. */
export const EXEC_REAP_MS = 1_000
export const SESSIONS_PER_POD_MAX = 32
/** One frame of output. */
export const EXEC_CHUNK_BYTES_MAX = 64 * KiB
/** conmon reads stdin packets into a buffer of this size. */
export const ATTACH_PACKET_BYTES_MAX = 8 * KiB
export const ATTACH_POLL_MS_MIN = 4
export const ATTACH_POLL_MS_MAX = 32
