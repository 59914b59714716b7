import { ApiError, type KubeObject, type ObjectRef } from '../api/index.ts'
import type { Clock, Logger } from '../stdx/index.ts'
import type { ApiClient, KindRef } from './api-client.ts'
import { INFORMER_RETRY_FIRST_MS, INFORMER_RETRY_LAST_MS } from './limits.ts'

/** `NAMESPACE/NAME`, or `/NAME` for cluster-scoped kinds. */
export type ObjectKey = string

export function keyOf(object: { metadata: { namespace?: string; name: string } }): ObjectKey {
  return `${object.metadata.namespace ?? ''}/${object.metadata.name}`
}

export function refOf(key: ObjectKey): ObjectRef {
  const slash = key.indexOf('/')
  const name = key.slice(slash + 1)
  return slash === 0 ? { name } : { namespace: key.slice(0, slash), name }
}

/** What changed: `old` is absent for a new object, `object` for one that is gone. */
export type Change<T> =
  | { key: ObjectKey; old: T; object?: undefined }
  | { key: ObjectKey; old: T | undefined; object: T }

type Index<T> = { values: (object: T) => readonly string[]; entries: Map<string, Set<ObjectKey>> }

const NO_KEYS: ReadonlySet<ObjectKey> = new Set()

/**
 * Every object of one kind, kept current by list and watch. Objects are shared with everybody: never change one.
 *
 * It also takes what its own control plane has just written (`observe`), so that a reconciler that runs again at once
 * sees its own writes. That needs resourceVersions that grow (KEP-5504), which our store promises.
 */
export class Informer<T extends KubeObject> {
  readonly kind: KindRef<T>
  /** Resolves after the first complete list. */
  readonly synced: Promise<void>
  private isSynced = false
  private readonly markSynced: () => void
  private readonly client: ApiClient
  private readonly clock: Clock
  private readonly log: Logger
  private objects = new Map<ObjectKey, T>()
  private readonly namespaces = new Map<string, Set<ObjectKey>>()
  private readonly indexes = new Map<string, Index<T>>()
  private readonly handlers = new Set<(change: Change<T>) => void>()
  /** Uids that we deleted and have not yet heard of. */
  private readonly going = new Set<string>()
  /** Everything up to here has been delivered. */
  private revision = 0n
  private readonly stopping = new AbortController()
  private running: Promise<void> | undefined

  constructor({
    client,
    kind,
    clock,
    log,
  }: {
    client: ApiClient
    kind: KindRef<T>
    clock: Clock
    log: Logger
  }) {
    this.client = client
    this.kind = kind
    this.clock = clock
    this.log = log.with({ kind: kind.kind })
    const synced = Promise.withResolvers<void>()
    this.synced = synced.promise
    this.markSynced = () => {
      this.isSynced = true
      synced.resolve()
    }
  }

  get hasSynced(): boolean {
    return this.isSynced
  }

  get size(): number {
    return this.objects.size
  }

  start(): void {
    this.running ??= this.run()
  }

  async stop(): Promise<void> {
    this.stopping.abort()
    await this.running
  }

  get(key: ObjectKey): T | undefined {
    return this.objects.get(key)
  }

  find({ namespace, name }: ObjectRef): T | undefined {
    return this.objects.get(`${namespace ?? ''}/${name}`)
  }

  /** All objects, or those of one namespace. */
  list(namespace?: string): T[] {
    if (namespace === undefined) return [...this.objects.values()]
    return this.resolve(this.namespaces.get(namespace) ?? NO_KEYS)
  }

  /** Adds an index: `values` names, for an object, what it is found by. Safe to repeat under one name. */
  index(name: string, values: (object: T) => readonly string[]): void {
    if (this.indexes.has(name)) return
    const index: Index<T> = { values, entries: new Map() }
    this.indexes.set(name, index)
    for (const [key, object] of this.objects) indexAdd(index, key, object)
  }

  /** Requires: `index(name, …)` was called. */
  indexed(name: string, value: string): T[] {
    return this.resolve(this.indexes.get(name)?.entries.get(value) ?? NO_KEYS)
  }

  byUid(uid: string): T | undefined {
    this.index('uid', uidOf)
    return this.indexed('uid', uid)[0]
  }

  /** Objects that have an owner reference to `uid`. */
  byOwner(uid: string): T[] {
    this.index('owner', ownersOf)
    return this.indexed('owner', uid)
  }

  /** Calls `handler` for every object now, and for every change from then on. */
  subscribe(handler: (change: Change<T>) => void): () => void {
    this.handlers.add(handler)
    for (const [key, object] of this.objects) handler({ key, old: undefined, object })
    return () => void this.handlers.delete(handler)
  }

  /** Takes the answer to a write, unless the watch is already past it. */
  observe(object: T): void {
    if (!this.isSynced || revisionOf(object) <= this.revision) return
    this.put(object)
  }

  /** Remembers that the object was deleted until the watch says so: it must not be counted any more. */
  expectGone(object: T): void {
    if (this.objects.get(keyOf(object))?.metadata.uid === object.metadata.uid)
      this.going.add(object.metadata.uid)
  }

  /** True when it is being deleted, whether the watch has told us or we did it ourselves. */
  isGoing(object: T): boolean {
    const { uid, deletionTimestamp } = object.metadata
    if (deletionTimestamp !== undefined || this.going.has(uid)) return true
    // `object` may be older than what we know.
    const current = this.objects.get(keyOf(object))
    return current?.metadata.uid === uid && current.metadata.deletionTimestamp !== undefined
  }

  private async run(): Promise<void> {
    let retryMs = INFORMER_RETRY_FIRST_MS
    const { signal } = this.stopping
    while (!signal.aborted) {
      try {
        const { items, metadata } = await this.client.list(this.kind)
        this.replace(items, BigInt(metadata.resourceVersion))
        this.markSynced()
        retryMs = INFORMER_RETRY_FIRST_MS
        await this.follow(signal)
      } catch (error) {
        if (signal.aborted) return
        const expired = error instanceof ApiError && error.code === 410
        if (!expired) this.log.warn('cannot follow a kind', { error })
        await this.pause(expired ? INFORMER_RETRY_FIRST_MS : retryMs)
        retryMs = Math.min(retryMs * 2, INFORMER_RETRY_LAST_MS)
      }
    }
  }

  /** Watches, and watches again from the last revision while the server merely ends the stream. */
  private async follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const from = this.revision
      for await (const event of this.client.watch(this.kind, { resourceVersion: String(from), signal })) {
        if (signal.aborted) return
        switch (event.type) {
          case 'BOOKMARK':
            break
          case 'DELETED':
            this.remove(keyOf(event.object), revisionOf(event.object))
            break
          default:
            this.put(event.object)
        }
        const revision = BigInt(event.object.metadata.resourceVersion)
        if (revision > this.revision) this.revision = revision
      }
      // A server that ends every stream at once must not make us spin.
      if (this.revision === from) await this.pause(INFORMER_RETRY_FIRST_MS)
    }
  }

  private async pause(delayMs: number): Promise<void> {
    const { signal } = this.stopping
    if (signal.aborted) return
    const paused = Promise.withResolvers<void>()
    const cancel = this.clock.after(delayMs, paused.resolve)
    signal.addEventListener('abort', () => paused.resolve(), { once: true })
    await paused.promise
    cancel()
  }

  private replace(items: readonly T[], revision: bigint): void {
    const listed = new Set<ObjectKey>()
    for (const item of items) {
      listed.add(keyOf(item))
      this.put(item)
    }
    for (const [key, object] of this.objects)
      // What we wrote ourselves after the list was taken is newer than the list.
      if (!listed.has(key) && revisionOf(object) <= revision) this.remove(key, revision)
    if (revision > this.revision) this.revision = revision
  }

  private put(object: T): void {
    const key = keyOf(object)
    const old = this.objects.get(key)
    if (old && revisionOf(old) >= revisionOf(object)) return
    if (old && old.metadata.uid !== object.metadata.uid) this.going.delete(old.metadata.uid)
    if (object.metadata.deletionTimestamp !== undefined) this.going.delete(object.metadata.uid)
    for (const index of this.indexes.values()) {
      if (old) indexRemove(index, key, old)
      indexAdd(index, key, object)
    }
    if (!old) {
      const namespace = object.metadata.namespace ?? ''
      let keys = this.namespaces.get(namespace)
      if (!keys) this.namespaces.set(namespace, (keys = new Set()))
      keys.add(key)
    }
    this.objects.set(key, object)
    this.tell({ key, old, object })
  }

  private remove(key: ObjectKey, revision: bigint): void {
    const old = this.objects.get(key)
    if (!old || revisionOf(old) > revision) return
    this.going.delete(old.metadata.uid)
    for (const index of this.indexes.values()) indexRemove(index, key, old)
    const namespace = old.metadata.namespace ?? ''
    const keys = this.namespaces.get(namespace)
    keys?.delete(key)
    if (keys?.size === 0) this.namespaces.delete(namespace)
    this.objects.delete(key)
    this.tell({ key, old })
  }

  private tell(change: Change<T>): void {
    for (const handler of this.handlers) {
      try {
        handler(change)
      } catch (error) {
        this.log.error('a handler of an informer failed', { error, key: change.key })
      }
    }
  }

  private resolve(keys: ReadonlySet<ObjectKey>): T[] {
    const found: T[] = []
    for (const key of keys) {
      const object = this.objects.get(key)
      if (object) found.push(object)
    }
    return found
  }
}

function revisionOf(object: KubeObject): bigint {
  return BigInt(object.metadata.resourceVersion)
}

function uidOf(object: KubeObject): readonly string[] {
  return [object.metadata.uid]
}

const NO_OWNERS: readonly string[] = []

function ownersOf(object: KubeObject): readonly string[] {
  return object.metadata.ownerReferences?.map((owner) => owner.uid) ?? NO_OWNERS
}

function indexAdd<T>(index: Index<T>, key: ObjectKey, object: T): void {
  for (const value of index.values(object)) {
    let keys = index.entries.get(value)
    if (!keys) index.entries.set(value, (keys = new Set()))
    keys.add(key)
  }
}

function indexRemove<T>(index: Index<T>, key: ObjectKey, object: T): void {
  for (const value of index.values(object)) {
    const keys = index.entries.get(value)
    keys?.delete(key)
    if (keys?.size === 0) index.entries.delete(value)
  }
}
