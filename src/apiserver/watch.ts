import { ApiError, type KubeObject, expired } from '../api/index.ts'
import { BoundedQueue, SECOND_MS } from '../stdx/index.ts'
import { RevisionCompacted, type StoreEvent } from '../store/index.ts'
import { type Context, keyPrefix } from './context.ts'
import {
  WATCHES_MAX,
  WATCH_BOOKMARK_EVERY_MS,
  WATCH_EVENTS_BUFFERED_MAX,
  WATCH_TIMEOUT_MS_MAX,
  WATCH_TIMEOUT_MS_MIN,
} from './limits.ts'
import type { ListOptions } from './options.ts'
import type { Target, WatchItem } from './request.ts'
import { type Selection, parseSelection } from './selection.ts'

/** How many watches a server has open. */
export class WatchCount {
  private open = 0

  /** @throws {ApiError} TooManyRequests */
  enter(): () => void {
    if (this.open >= WATCHES_MAX)
      throw new ApiError('TooManyRequests', `There are ${this.open} open watches already; close some first`, {
        details: { retryAfterSeconds: 10 },
      })
    this.open++
    return () => void this.open--
  }
}

/**
 * The changes of a collection from a revision on; without one, first everything there is as ADDED. Arguments are checked
 * at once; the stream itself throws `Expired`, or `QueueOverflow` when its reader is too slow. It ends with its timeout
 * or `signal`.
 * @throws {ApiError}
 */
export function watchObjects(
  context: Context,
  count: WatchCount,
  target: Target,
  options: ListOptions,
  signal: AbortSignal,
): AsyncIterable<WatchItem> {
  const selection = parseSelection(target.definition, options)
  return watchItems(context, count.enter(), target, options, selection, signal)
}

async function* watchItems(
  context: Context,
  leave: () => void,
  { definition, namespace, name }: Target,
  options: ListOptions,
  selection: Selection,
  outerSignal: AbortSignal,
): AsyncGenerator<WatchItem> {
  const { store, clock, entropy } = context
  const prefix = keyPrefix({ group: definition.group, resource: definition.plural }, namespace)
  const matches =
    name === '' ? selection.matches : (o: KubeObject) => o.metadata.name === name && selection.matches(o)
  const from = options.resourceVersion ?? 0
  const ending = new AbortController()
  const signal = AbortSignal.any([outerSignal, ending.signal])
  const timeoutMs =
    options.timeoutSeconds === undefined || options.timeoutSeconds === 0
      ? WATCH_TIMEOUT_MS_MIN + entropy.fraction() * (WATCH_TIMEOUT_MS_MAX - WATCH_TIMEOUT_MS_MIN)
      : Math.min(options.timeoutSeconds * SECOND_MS, WATCH_TIMEOUT_MS_MAX)
  const queue = new BoundedQueue<StoreEvent | { type: 'TICK' }>(WATCH_EVENTS_BUFFERED_MAX)
  const cancels = [clock.after(timeoutMs, () => queue.end())]
  const onAbort = () => queue.end()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    let delivered = from
    // sendInitialEvents=false means: only changes from now on.
    const initial = options.sendInitialEvents ?? from === 0
    if (initial || (options.sendInitialEvents === false && from === 0)) {
      const state = store.list(prefix)
      delivered = state.revision
      if (initial) {
        for (const { object } of state.items) {
          if (signal.aborted) return
          if (matches(object)) yield { type: 'ADDED', object }
        }
        if (options.sendInitialEvents && options.allowWatchBookmarks)
          yield { type: 'BOOKMARK', revision: Math.max(delivered, from), initialEventsEnd: true }
      }
    }
    if (signal.aborted) return
    // Somebody may know a revision from our future; what comes before it is old news to them.
    const after = Math.min(delivered, store.revision)
    void pump(store.watch(prefix, { after, signal }), queue)
    if (options.allowWatchBookmarks) {
      const tick = () => {
        queue.push({ type: 'TICK' })
        cancels[1] = clock.after(WATCH_BOOKMARK_EVERY_MS, tick)
      }
      cancels[1] = clock.after(WATCH_BOOKMARK_EVERY_MS, tick)
    }
    for await (const event of queue) {
      if (event.type === 'TICK') {
        yield { type: 'BOOKMARK', revision: delivered, initialEventsEnd: false }
        continue
      }
      if (event.revision <= delivered) continue
      delivered = event.revision
      const item = itemOf(event, matches)
      if (item) yield item
    }
  } finally {
    for (const cancel of cancels) cancel()
    signal.removeEventListener('abort', onAbort)
    ending.abort()
    leave()
  }
}

async function pump(
  events: AsyncIterable<StoreEvent>,
  queue: BoundedQueue<StoreEvent | { type: 'TICK' }>,
): Promise<void> {
  try {
    for await (const event of events) if (!queue.push(event)) return
    queue.end()
  } catch (error) {
    queue.fail(
      error instanceof RevisionCompacted
        ? expired('too old resource version')
        : error instanceof Error
          ? error
          : new Error('A watch of the store failed', { cause: error }),
    )
  }
}

/** What a change means to somebody who sees only what matches. */
function itemOf(event: StoreEvent, matches: (object: KubeObject) => boolean): WatchItem | undefined {
  if (event.type === 'PROGRESS') return undefined
  const before = event.previous !== undefined && matches(event.previous)
  if (event.type === 'PUT') {
    const now = matches(event.object)
    if (now) return { type: before ? 'MODIFIED' : 'ADDED', object: event.object }
    return before ? { type: 'DELETED', object: atRevision(event.previous!, event.revision) } : undefined // before implies previous
  }
  return before ? { type: 'DELETED', object: atRevision(event.previous, event.revision) } : undefined
}

function atRevision(object: KubeObject, revision: number): KubeObject {
  return { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } }
}
