import { randomBytes } from 'node:crypto'
import { resolve } from 'node:path'
import type { KubeObject, TenantName } from '../api/index.ts'
import { assert, type Clock, type Logger } from '../stdx/index.ts'
import { type Change, eventOf, History, type Stored, stored } from './history.ts'
import {
  BATCH_BYTES_MAX,
  BATCH_WRITES_MAX,
  CONNECTION_IDLE_MS,
  DEFAULT_STORE_LIMITS,
  HISTORY_SLACK,
  KEY_BYTES_MAX,
  PROGRESS_EVERY_MS,
  READ_CHUNK_BYTES_MAX,
  type StoreLimits,
} from './limits.ts'
import { FORMAT, type Head, PartitionCipher, SALT_BYTES, SEAL_BYTES } from './partition-cipher.ts'
import { compareKeys, SortedKeys } from './sorted-keys.ts'
import {
  RevisionCompacted,
  RevisionConflict,
  type Store,
  StoreCorrupt,
  type StoredObject,
  type StoreEvent,
  StoredTooLarge,
  StoreFull,
  type StoreKey,
  StoreUnavailable,
} from './store.ts'
import { sharedWriter, SQLITE_BUSY, SQLITE_FULL, type Writer, WriterError } from './writer.ts'

export type StoreOptions = {
  /** The partition's file. Its directory belongs to the process's user alone. */
  path: string
  tenant: TenantName
  /** 32 bytes. The caller may overwrite its copy afterwards. */
  dataKey: Uint8Array
  clock: Clock
  log: Logger
  limits?: Partial<StoreLimits>
  /** Refuse to make a new partition: for a tenant that is known to have one. */
  mustExist?: boolean
}

const FIRST_REVISION = 1
const ROW_PUT = 1
const ROW_DELETE = 2
const ROW_HEADER_BYTES = 3

type Write = {
  change: Change
  row: Buffer
  durable: PromiseWithResolvers<void>
}

type Watcher = {
  prefix: string
  /** Everything up to here is delivered or of no interest. */
  position: number
  /** The newest revision that the reader knows of. */
  told: number
  /** The reader knows that it has everything from before the watch. */
  caughtUp: boolean
  /** Set while the reader waits. */
  wake: (() => void) | undefined
}

/** Paths of open partitions: opening one twice would let two states drift apart. */
const openPaths = new Set<string>()

/**
 * Opens a tenant's partition and reads all of it, or makes a new one.
 * @throws {StoreCorrupt} for a wrong key and for any change to the file that we did not make.
 * @throws {StoreUnavailable} when another process has it open or the disk fails.
 */
export async function openStore(options: StoreOptions): Promise<Store> {
  return SqliteStore.open(options)
}

export class SqliteStore implements Store {
  private readonly path: string
  private readonly clock: Clock
  private readonly log: Logger
  private readonly limits: StoreLimits
  private readonly writer: Writer
  private readonly cipher: PartitionCipher

  // What is durable.
  private head: Head
  private sealedHead: Uint8Array
  private readonly objects = new Map<StoreKey, Stored>()
  private keys = new SortedKeys()
  private readonly history: History
  private liveBytes = 0

  // What is on its way.
  private readonly pending = new Map<StoreKey, Write>()
  private queue: Write[] = []
  private assigned: number
  private pendingBytes = 0
  private plannedObjects = 0
  private plannedBytes = 0
  private flushing: Promise<void> | undefined
  /** Set while we find out whether a failed commit is on disk. */
  private recovering: Promise<void> | undefined

  private readonly watchers = new Set<Watcher>()
  private cancelProgress: (() => void) | undefined
  private cancelIdle: (() => void) | undefined
  private broken: Error | undefined
  private closing: Promise<void> | undefined

  private constructor(
    { path, clock, log, tenant, limits }: StoreOptions,
    opened: { writer: Writer; cipher: PartitionCipher; head: Head; sealedHead: Uint8Array },
  ) {
    this.path = resolve(path)
    this.clock = clock
    this.log = log.with({ tenant })
    this.limits = { ...DEFAULT_STORE_LIMITS, ...limits }
    assert(
      this.limits.objectBytesMax + KEY_BYTES_MAX < BATCH_BYTES_MAX,
      'An object must fit into one transaction',
    )
    this.writer = opened.writer
    this.cipher = opened.cipher
    this.head = opened.head
    this.sealedHead = opened.sealedHead
    this.history = new History(opened.head.compactedTo)
    this.assigned = opened.head.revision
  }

  /** `writer` is another one only in tests of a failing disk. */
  static async open(options: StoreOptions, writer: Writer = sharedWriter): Promise<SqliteStore> {
    const path = resolve(options.path)
    const { tenant } = options
    if (openPaths.has(path))
      throw new StoreUnavailable(`The partition of tenant "${tenant}" is already open in this process`)
    openPaths.add(path)
    try {
      const store = await SqliteStore.prepare(options, path, writer)
      await store.load()
      store.keepConnectionBriefly()
      return store
    } catch (error) {
      await writer.ask({ op: 'release', path }).catch(() => {}) // the first error is the one to tell
      openPaths.delete(path)
      throw explain(error, tenant)
    }
  }

  private static async prepare(options: StoreOptions, path: string, writer: Writer): Promise<SqliteStore> {
    const { tenant, dataKey, mustExist = false } = options
    let header = await writer.ask({ op: 'open', path })
    if (!header) {
      if (mustExist) throw new StoreCorrupt(`The partition of tenant "${tenant}" is missing`)
      header = await createPartition({ path, tenant, dataKey, writer })
    }
    if (header.format !== FORMAT)
      throw new StoreCorrupt(
        `The partition of tenant "${tenant}" has format ${header.format}, and this version knows only ${FORMAT}`,
      )
    const cipher = new PartitionCipher({ tenant, dataKey, salt: header.salt })
    if (!cipher.fits(header.keyCheck))
      throw new StoreCorrupt(
        `The data key does not fit the partition of tenant "${tenant}": it is another key, another tenant's partition, or its header was changed`,
      )
    const { revision, sealed } = await writer.ask({ op: 'head', path })
    return new SqliteStore(options, {
      writer,
      cipher,
      head: cipher.openHead(revision, sealed),
      sealedHead: sealed,
    })
  }

  /** Folds every row into memory, and believes none before the whole adds up to what the head says. */
  private async load(): Promise<void> {
    const marks = PartitionCipher.emptyMarks()
    let after = 0
    let rows = 0
    let nextInHistory = this.head.compactedTo + 1
    for (let more = true; more;) {
      const chunk = await this.writer.ask({
        op: 'read',
        path: this.path,
        after,
        bytesMax: READ_CHUNK_BYTES_MAX,
      })
      let offset = 0
      for (const { revision, length } of chunk.rows) {
        const sealed = chunk.bytes.subarray(offset, offset + length)
        offset += length
        this.cipher.toggleMark(marks, revision)
        if (revision > this.head.compactedTo && revision !== nextInHistory++)
          throw new Error(`Revision ${nextInHistory - 1} is missing`)
        this.fold(parseRow(revision, this.cipher.openRow(revision, sealed)))
        after = revision
        rows++
      }
      more = chunk.more
    }
    if (
      nextInHistory !== this.head.revision + 1 ||
      rows !== this.head.rows ||
      Buffer.compare(marks, this.head.marks) !== 0
    )
      throw new Error(
        `${rows} rows up to revision ${after} are not the ${this.head.rows} rows that were written`,
      )
    this.keys = new SortedKeys(this.objects.keys())
    this.plannedObjects = this.objects.size
    this.plannedBytes = this.liveBytes
  }

  private fold({
    revision,
    key,
    current,
  }: {
    revision: number
    key: StoreKey
    current: Stored | undefined
  }): void {
    const previous = this.objects.get(key)
    if (revision > this.head.compactedTo)
      this.history.add({ revision, key, current, previous, event: undefined })
    this.liveBytes += (current?.bytes ?? 0) - (previous?.bytes ?? 0)
    if (current) this.objects.set(key, current)
    else if (!this.objects.delete(key)) throw new Error(`Revision ${revision} deletes what does not exist`)
  }

  get revision(): number {
    return this.head.revision
  }

  get objectCount(): number {
    return this.objects.size
  }

  get bytes(): number {
    return this.liveBytes
  }

  get(key: StoreKey): StoredObject | undefined {
    return this.objects.get(key)
  }

  list(
    prefix: string,
    {
      limit = Infinity,
      startAfter,
      atRevision = this.revision,
    }: { limit?: number; startAfter?: StoreKey; atRevision?: number } = {},
  ): { items: StoredObject[]; revision: number; more: boolean } {
    this.requireKnown(atRevision)
    if (atRevision === this.revision) return this.listNow(prefix, startAfter, limit)
    const items: StoredObject[] = []
    for (const item of this.merge(prefix, startAfter, this.history.statesAt(atRevision, prefix))) {
      if (items.length >= limit) return { items, revision: atRevision, more: true }
      items.push(item)
    }
    return { items, revision: atRevision, more: false }
  }

  private listNow(prefix: string, startAfter: StoreKey | undefined, limit: number) {
    const { from, to } = this.keys.range(prefix, startAfter)
    const end = Math.min(to, from + limit)
    const items: StoredObject[] = []
    for (let i = from; i < end; i++) items.push(this.objects.get(this.keys.at(i)!)!) // every key has its object
    return { items, revision: this.revision, more: end < to }
  }

  /** What is there now in key order, with `changed` laid over it. */
  private *merge(
    prefix: string,
    startAfter: StoreKey | undefined,
    changed: ReadonlyMap<StoreKey, Stored | undefined>,
  ): Generator<Stored> {
    const others = [...changed.keys()]
      .filter((key) => startAfter === undefined || key > startAfter)
      .sort(compareKeys)
    let other = 0
    const { from, to } = this.keys.range(prefix, startAfter)
    for (let i = from; i < to; i++) {
      const key = this.keys.at(i)! // within the range
      for (; other < others.length && others[other]! < key; other++) {
        const then = changed.get(others[other]!) // both indexes are within bounds
        if (then) yield then
      }
      if (changed.has(key)) continue // comes from `others`
      yield this.objects.get(key)! // every key has its object
    }
    for (; other < others.length; other++) {
      const then = changed.get(others[other]!) // within bounds
      if (then) yield then
    }
  }

  count(prefix: string, startAfter?: StoreKey): number {
    const { from, to } = this.keys.range(prefix, startAfter)
    return to - from
  }

  async put(key: StoreKey, object: KubeObject, expected: number): Promise<StoredObject> {
    await this.requireWritable()
    requireKey(key)
    const previous = this.requireExpected(key, expected)
    const revision = this.assigned + 1
    object.metadata.resourceVersion = String(revision)
    const json = JSON.stringify(object)
    const textBytes = Buffer.byteLength(json)
    const { objectBytesMax, objectsMax, bytesMax } = this.limits
    if (textBytes > objectBytesMax) throw new StoredTooLarge(key, textBytes, objectBytesMax)
    const bytes = Buffer.byteLength(key) + textBytes
    const growth = bytes - (previous?.bytes ?? 0)
    if (!previous && this.plannedObjects + 1 > objectsMax)
      throw new StoreFull(
        `The tenant has ${this.plannedObjects} objects, and ${objectsMax} are the most it may have`,
      )
    if (growth > 0 && this.plannedBytes + growth > bytesMax)
      throw new StoreFull(
        `The tenant's objects have ${this.plannedBytes} bytes, and ${bytesMax} are the most they may have`,
      )
    const current = stored(key, revision, json, bytes)
    await this.enqueue(
      { revision, key, current, previous, event: undefined },
      renderRow(ROW_PUT, key, json, bytes),
    )
    return current
  }

  async delete(key: StoreKey, expected: number): Promise<{ revision: number; previous: KubeObject }> {
    await this.requireWritable()
    const previous = this.requireExpected(key, expected)
    if (!previous) throw new RevisionConflict(key, 0)
    const revision = this.assigned + 1
    const change = { revision, key, current: undefined, previous, event: undefined }
    await this.enqueue(change, renderRow(ROW_DELETE, key, '', Buffer.byteLength(key)))
    return { revision, previous: previous.object }
  }

  async settled(key: StoreKey): Promise<void> {
    for (let write = this.pending.get(key); write; write = this.pending.get(key))
      await write.durable.promise.catch(() => {})
  }

  private async requireWritable(): Promise<void> {
    while (this.recovering) await this.recovering
    if (this.broken)
      throw new StoreUnavailable('The store has failed and must be opened again', { cause: this.broken })
    if (this.closing) throw new StoreUnavailable('The store is closed')
  }

  private requireExpected(key: StoreKey, expected: number): Stored | undefined {
    const previous = this.objects.get(key)
    const actual = previous?.revision ?? 0
    if (actual !== expected || this.pending.has(key)) throw new RevisionConflict(key, actual)
    return previous
  }

  private enqueue(change: Change, row: Buffer): Promise<void> {
    const rowBytes = row.length
    const { pendingWritesMax, pendingBytesMax } = this.limits
    if (this.pending.size >= pendingWritesMax || this.pendingBytes + rowBytes > pendingBytesMax)
      throw new StoreUnavailable(`${this.pending.size} writes are waiting for the disk already`)
    const write: Write = { change, row, durable: Promise.withResolvers<void>() }
    this.assigned = change.revision
    this.plan(change, 1)
    this.pendingBytes += rowBytes
    this.pending.set(change.key, write)
    this.queue.push(write)
    this.flushing ??= this.flush()
    return write.durable.promise
  }

  private plan({ current, previous }: Change, sign: 1 | -1): void {
    this.plannedObjects += sign * ((current ? 1 : 0) - (previous ? 1 : 0))
    this.plannedBytes += sign * ((current?.bytes ?? 0) - (previous?.bytes ?? 0))
  }

  /** One commit at a time; whatever arrives meanwhile shares the next. */
  private async flush(): Promise<void> {
    // Writes made in the same turn share the first commit, too.
    await Promise.resolve()
    while (this.queue.length > 0) {
      const batch = this.takeBatch()
      try {
        await this.commit(batch)
      } catch (error) {
        this.recovering = this.recover(batch, error)
        await this.recovering
        this.recovering = undefined
      }
    }
    // In the same step as seeing the queue empty: a write that comes later starts the next flush.
    this.flushing = undefined
    this.keepConnectionBriefly()
  }

  private takeBatch(): Write[] {
    let bytes = 0
    let count = 0
    for (const { row } of this.queue) {
      bytes += row.length
      if (count >= BATCH_WRITES_MAX || (count > 0 && bytes > BATCH_BYTES_MAX)) break
      count++
    }
    return this.queue.splice(0, count)
  }

  private async commit(batch: readonly Write[]): Promise<void> {
    const { historyEventsMax, historyBytesMax } = this.limits
    const compactedTo = this.history.planStart({
      eventsMax: historyEventsMax,
      bytesMax: historyBytesMax,
      slack: HISTORY_SLACK,
    })
    const removes = this.history.rowsBefore(compactedTo)
    const marks = Uint8Array.from(this.head.marks)
    for (const revision of removes) this.cipher.toggleMark(marks, revision)
    for (const { change } of batch) this.cipher.toggleMark(marks, change.revision)
    const revision = this.head.revision + batch.length
    const head: Head = { revision, compactedTo, rows: this.head.rows + batch.length - removes.length, marks }
    // A copy without the pool of buffers around it, which would live as long and be copied to the other thread whole.
    const sealedHead = new Uint8Array(this.cipher.sealHead(head))
    // One buffer of its own, so that it moves to the other thread instead of being copied.
    const bytes = new Uint8Array(batch.reduce((sum, { row }) => sum + row.length + SEAL_BYTES, 0))
    let offset = 0
    const rows = batch.map(({ change: { revision }, row }) => {
      const length = this.cipher.sealRow(revision, row, bytes.subarray(offset))
      offset += length
      return { revision, length }
    })
    this.cancelIdle?.()
    const headBefore = this.sealedHead
    await this.writer.ask({
      op: 'commit',
      path: this.path,
      headBefore,
      head: sealedHead,
      revision,
      rows,
      bytes,
      removes,
    })
    this.head = head
    this.sealedHead = sealedHead
    this.history.trim(compactedTo)
    for (const write of batch) this.apply(write)
    this.wakeWatchers(batch)
  }

  private apply({ change, row, durable }: Write): void {
    const { key, current, previous } = change
    if (current) {
      this.objects.set(key, current)
      if (!previous) this.keys.add(key)
    } else {
      this.objects.delete(key)
      this.keys.remove(key)
    }
    this.liveBytes += (current?.bytes ?? 0) - (previous?.bytes ?? 0)
    this.history.add(change)
    this.pending.delete(key)
    this.pendingBytes -= row.length
    durable.resolve()
  }

  /**
   * After an error at commit, nobody knows whether it is on disk. Nothing of it was acknowledged; the head tells
   * whether we may go on from the old state. If it does not, memory and disk differ and the store stays shut.
   */
  private async recover(batch: readonly Write[], cause: unknown): Promise<void> {
    this.log.error('store commit failed', { error: cause })
    const failed = [...batch, ...this.queue]
    this.queue = []
    try {
      const { sealed } = await this.writer.ask({ op: 'head', path: this.path })
      if (Buffer.compare(sealed, this.sealedHead) !== 0) throw new Error('The partition has changed under us')
    } catch (error) {
      this.broken = new AggregateError([cause, error], 'A commit failed and its outcome is unknown')
      this.log.error('store is shut until it is opened again', { error })
      this.endWatches()
    }
    // Writes may have joined the queue while we asked; their revisions follow ones that will not exist.
    failed.push(...this.queue)
    this.queue = []
    this.assigned = this.head.revision
    const full = cause instanceof WriterError && cause.sqliteCode === SQLITE_FULL
    const reason = full ? 'the disk is full' : 'the disk failed'
    for (const { change, row, durable } of failed) {
      this.plan(change, -1)
      this.pending.delete(change.key)
      this.pendingBytes -= row.length
      durable.reject(new StoreUnavailable(`Cannot write "${change.key}": ${reason}`, { cause }))
    }
  }

  watch(
    prefix: string,
    { after, signal }: { after: number; signal: AbortSignal },
  ): AsyncIterable<StoreEvent> {
    this.requireKnown(after)
    if (this.closing || this.broken) throw new StoreUnavailable('The store is closed')
    if (this.watchers.size >= this.limits.watchersMax)
      throw new StoreFull(`${this.watchers.size} watches are open, and that is the most a tenant may have`)
    const watcher: Watcher = { prefix, position: after, told: 0, caughtUp: false, wake: undefined }
    const stop = () => this.remove(watcher)
    if (!signal.aborted) {
      this.watchers.add(watcher)
      signal.addEventListener('abort', stop, { once: true })
    }
    return this.deliver(watcher, () => {
      signal.removeEventListener('abort', stop)
      stop()
    })
  }

  /** Reads the shared history at the watcher's own pace; a watcher buffers nothing. */
  private async *deliver(watcher: Watcher, stop: () => void): AsyncGenerator<StoreEvent> {
    try {
      while (this.watchers.has(watcher)) {
        if (watcher.position < this.history.start)
          throw new RevisionCompacted(`A watch stood at revision ${watcher.position} for too long`)
        const change = this.history.at(watcher.position + 1)
        if (change) {
          watcher.position = change.revision
          if (!change.key.startsWith(watcher.prefix)) continue
          watcher.told = change.revision
          yield eventOf(change)
        } else if (!watcher.caughtUp || watcher.told < watcher.position) {
          watcher.caughtUp = true
          watcher.told = watcher.position
          yield { type: 'PROGRESS', revision: watcher.position }
        } else {
          await new Promise<void>((resume) => (watcher.wake = resume))
        }
      }
    } finally {
      stop()
    }
  }

  private wakeWatchers(batch: readonly Write[]): void {
    let skipped = false
    for (const watcher of this.watchers) {
      if (!watcher.wake) continue
      if (batch.some(({ change }) => change.key.startsWith(watcher.prefix))) wake(watcher)
      else {
        // It waits, so it has seen everything before this batch, and nothing in this batch is for it.
        watcher.position = this.revision
        skipped = true
      }
    }
    if (skipped)
      this.cancelProgress ??= this.clock.after(PROGRESS_EVERY_MS, () => {
        this.cancelProgress = undefined
        for (const watcher of this.watchers) if (watcher.told < watcher.position) wake(watcher)
      })
  }

  private remove(watcher: Watcher): void {
    this.watchers.delete(watcher)
    wake(watcher)
  }

  private endWatches(): void {
    for (const watcher of this.watchers) this.remove(watcher)
  }

  private requireKnown(revision: number): void {
    if (revision < this.history.start)
      throw new RevisionCompacted(
        `Revision ${revision} is older than the history, which starts at ${this.history.start}`,
      )
    if (!(revision <= this.revision))
      throw new RevisionCompacted(`Revision ${revision} is newer than any, ${this.revision}`)
  }

  private keepConnectionBriefly(): void {
    this.cancelIdle?.()
    this.cancelIdle = this.clock.after(CONNECTION_IDLE_MS, () => {
      if (this.flushing || this.closing) return
      this.writer
        .ask({ op: 'release', path: this.path })
        .catch((error: unknown) => this.log.warn('store connection did not close cleanly', { error }))
    })
  }

  close(): Promise<void> {
    return (this.closing ??= this.shutDown())
  }

  private async shutDown(): Promise<void> {
    await this.flushing
    this.cancelIdle?.()
    this.cancelProgress?.()
    this.endWatches()
    try {
      await this.writer.ask({ op: 'release', path: this.path })
    } finally {
      openPaths.delete(this.path)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

async function createPartition(options: {
  path: string
  tenant: TenantName
  dataKey: Uint8Array
  writer: Writer
}): Promise<{ format: number; salt: Uint8Array; keyCheck: Uint8Array }> {
  const { path, tenant, dataKey, writer } = options
  const salt = new Uint8Array(randomBytes(SALT_BYTES))
  const cipher = new PartitionCipher({ tenant, dataKey, salt })
  const keyCheck = cipher.sealKeyCheck()
  const revision = FIRST_REVISION
  const head = cipher.sealHead({
    revision,
    compactedTo: revision,
    rows: 0,
    marks: PartitionCipher.emptyMarks(),
  })
  await writer.ask({ op: 'create', path, format: FORMAT, salt, keyCheck, revision, head })
  return { format: FORMAT, salt, keyCheck }
}

function wake(watcher: Watcher): void {
  watcher.wake?.()
  watcher.wake = undefined
}

/** Kind of row, then the length of the key; the key and the JSON text follow, `bytes` together. */
function renderRow(kind: number, key: StoreKey, json: string, bytes: number): Buffer {
  const row = Buffer.allocUnsafe(ROW_HEADER_BYTES + bytes)
  row.writeUInt8(kind, 0)
  const keyEnd = ROW_HEADER_BYTES + row.write(key, ROW_HEADER_BYTES)
  row.writeUInt16BE(keyEnd - ROW_HEADER_BYTES, 1)
  row.write(json, keyEnd)
  return row
}

function parseRow(
  revision: number,
  row: Buffer,
): { revision: number; key: StoreKey; current: Stored | undefined } {
  const kind = row.readUInt8(0)
  const keyEnd = ROW_HEADER_BYTES + row.readUInt16BE(1)
  const key = row.toString('utf8', ROW_HEADER_BYTES, keyEnd) as StoreKey // we wrote it, and the seal is intact
  if (kind === ROW_DELETE) return { revision, key, current: undefined }
  if (kind !== ROW_PUT) throw new Error(`Revision ${revision} is a row of unknown kind ${kind}`)
  return {
    revision,
    key,
    current: stored(key, revision, row.toString('utf8', keyEnd), row.length - ROW_HEADER_BYTES),
  }
}

function requireKey(key: string): void {
  if (Buffer.byteLength(key) > KEY_BYTES_MAX || !key.isWellFormed())
    throw new TypeError(
      `The key "${key.slice(0, 128)}" has more than ${KEY_BYTES_MAX} bytes or is not well-formed text`,
    )
}

/** Tells a damaged partition from a machine that cannot read it now. */
function explain(cause: unknown, tenant: TenantName): Error {
  if (cause instanceof StoreCorrupt || cause instanceof StoreUnavailable || cause instanceof TypeError)
    return cause
  const why = cause instanceof Error ? cause.message : String(cause)
  if (cause instanceof WriterError && cause.machine) {
    const told = cause.sqliteCode === SQLITE_BUSY ? 'it is open in another process' : why
    return new StoreUnavailable(`Cannot open the partition of tenant "${tenant}": ${told}`, { cause })
  }
  return new StoreCorrupt(`Cannot open the partition of tenant "${tenant}": ${why}`, { cause })
}
