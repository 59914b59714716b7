import type { KubeObject } from '../api/index.ts'

/**
 * `RESOURCE/NAMESPACE/NAME`, where RESOURCE is `plural.group` (`pods.` for the core group, `deployments.apps`) and
 * NAMESPACE is empty for cluster-scoped kinds.
 */
export type StoreKey = `${string}/${string}/${string}`

/**
 * One object at one revision. `object` is frozen deep and carries `metadata.resourceVersion`; `json()` is its text,
 * kept, so that an answer need not be rendered again.
 */
export type StoredObject = {
  readonly key: StoreKey
  readonly revision: number
  readonly object: KubeObject
  json(): string
  /** The text of `object.metadata`. */
  metadataJson(): string
}

export type StoreEvent =
  | {
      type: 'PUT'
      key: StoreKey
      revision: number
      object: KubeObject
      previous: KubeObject | undefined
      /** The text of `object`. */
      json(): string
    }
  /** `revision` is that of the deletion; `previous` is the last state. */
  | { type: 'DELETE'; key: StoreKey; revision: number; previous: KubeObject }
  /** Everything up to and including `revision` has been delivered. */
  | { type: 'PROGRESS'; revision: number }

/** The object was not at the revision the caller expected; `actual` is 0 when it does not exist. */
export class RevisionConflict extends Error {
  readonly key: StoreKey
  readonly actual: number
  constructor(key: StoreKey, actual: number) {
    super(`"${key}" is at revision ${actual}`)
    this.key = key
    this.actual = actual
  }
}

/** The revision asked for is older than the history that is kept, or was never reached: start with a new list. */
export class RevisionCompacted extends Error {}

/** A limit of the partition is reached; nothing was written. The message may be shown to the tenant. */
export class StoreFull extends Error {}

/** One object is larger than any may be. */
export class StoredTooLarge extends StoreFull {
  readonly bytes: number
  readonly bytesMax: number
  constructor(key: string, bytes: number, bytesMax: number) {
    super(`The object "${key}" has ${bytes} bytes, more than the ${bytesMax} that one may have`)
    this.bytes = bytes
    this.bytesMax = bytesMax
  }
}

/** The disk or the writer failed, or the store is closed. The write it answers was not acknowledged. */
export class StoreUnavailable extends Error {}

/** The partition cannot be opened: wrong key, or its bytes are not those that were written. */
export class StoreCorrupt extends Error {}

/**
 * All objects of one tenant. Reads are from memory and show only what is durable; a write resolves once it is on
 * disk (fsync), and writes that arrive together share one commit.
 */
export interface Store extends AsyncDisposable {
  /** The newest durable revision. Starts at 1, grows by one with each write, and is never reused, also across restarts. */
  readonly revision: number
  readonly objectCount: number
  readonly bytes: number

  get(key: StoreKey): StoredObject | undefined

  /**
   * Objects under `prefix` in key order, as of `atRevision` (the newest when absent).
   * @throws {RevisionCompacted} when that state is no longer known.
   */
  list(
    prefix: string,
    options?: { limit?: number; startAfter?: StoreKey; atRevision?: number },
  ): { items: StoredObject[]; revision: number; more: boolean }

  /** Number of objects under `prefix` after `startAfter`. */
  count(prefix: string, startAfter?: StoreKey): number

  /**
   * Writes an object if it still is at `expected` (0: it must not exist). Takes ownership of `object` and sets its
   * `metadata.resourceVersion`.
   * @throws {RevisionConflict} also when an earlier write of the same key is still on its way: read again after `settled`.
   * @throws {StoreFull}
   * @throws {StoreUnavailable}
   */
  put(key: StoreKey, object: KubeObject, expected: number): Promise<StoredObject>

  /** Removes an object if it still is at `expected`. Resolves with the revision of the deletion. */
  delete(key: StoreKey, expected: number): Promise<{ revision: number; previous: KubeObject }>

  /** Resolves when no write of `key` is on its way. */
  settled(key: StoreKey): Promise<void>

  /**
   * Every change under `prefix` after `after`, in order, without gaps. A reader that is too slow gets an error.
   * PROGRESS comes once everything that already happened is delivered, and later when other keys changed. Ends when
   * `signal` aborts or the store closes; a watch that nobody iterates is kept until then. Iterate once.
   * @throws {RevisionCompacted} at once when the history does not reach back that far, later when the reader is too slow.
   * @throws {StoreFull} when there are too many watches.
   */
  watch(prefix: string, options: { after: number; signal: AbortSignal }): AsyncIterable<StoreEvent>

  /** Waits for writes on their way, ends every watch and gives the file back. Safe to repeat. */
  close(): Promise<void>
}
