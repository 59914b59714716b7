import { assert, KiB, MiB, SECOND_MS } from '../stdx/index.ts'

/** What one partition may grow to. Bytes count keys and JSON text, not SQLite's own overhead. */
export type StoreLimits = {
  objectsMax: number
  bytesMax: number
  /** One object's JSON text. */
  objectBytesMax: number
  watchersMax: number
  /** Changes kept so that a watch can resume and a paged list can see its own moment. */
  historyEventsMax: number
  historyBytesMax: number
  /** Writes that wait for the disk. */
  pendingWritesMax: number
  pendingBytesMax: number
}

export const DEFAULT_STORE_LIMITS: StoreLimits = {
  objectsMax: 50_000,
  bytesMax: 128 * MiB,
  // etcd's default request limit, which clients are used to.
  objectBytesMax: 1.5 * MiB,
  watchersMax: 2_000,
  historyEventsMax: 8_192,
  historyBytesMax: 8 * MiB,
  pendingWritesMax: 8_192,
  pendingBytesMax: 32 * MiB,
}

export const KEY_BYTES_MAX = 1 * KiB

/** One transaction; larger ones would let one tenant hold the shared writer for long. */
export const BATCH_WRITES_MAX = 512
export const BATCH_BYTES_MAX = 4 * MiB
assert(BATCH_BYTES_MAX > DEFAULT_STORE_LIMITS.objectBytesMax, 'An object must fit into one transaction')

/** One message from the writer thread while a partition is read at open. */
export const READ_CHUNK_BYTES_MAX = 1 * MiB
export const READ_CHUNK_ROWS_MAX = 1_024

/** History is trimmed in steps of this fraction, so that not every commit deletes rows. */
export const HISTORY_SLACK = 0.25

/** SQLite connections that the writer thread keeps open; the least recently used one is closed first. */
export const CONNECTIONS_OPEN_MAX = 64
/** A partition that nobody writes to gives its connection (and its lock and page cache) back after this. */
export const CONNECTION_IDLE_MS = 10 * SECOND_MS

/** A watcher to which nothing of interest happened still learns how far it has seen. */
export const PROGRESS_EVERY_MS = 1 * SECOND_MS

/** Rows sealed under one derived key; AES-GCM with random nonces allows 2^32 (NIST SP 800-38D, 8.3). */
export const REVISIONS_PER_KEY = 2 ** 20
assert(
  REVISIONS_PER_KEY * 4 < 2 ** 32,
  'A derived key must stay far below the limit of AES-GCM with random nonces',
)
