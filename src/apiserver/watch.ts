import { ApiError, type KindDefinition, type KubeObject, expired } from '../api/index.ts'
import { SECOND_MS } from '../stdx/index.ts'
import { RevisionCompacted, type StoreEvent, StoreFull } from '../store/index.ts'
import { type Context, keyPrefix, presented, storedAs } from './context.ts'
import { WATCH_BOOKMARK_EVERY_MS, WATCH_TIMEOUT_MS_MAX, WATCH_TIMEOUT_MS_MIN } from './limits.ts'
import type { OpenCount } from './open-count.ts'
import type { ListOptions } from './options.ts'
import { tooLargeVersion } from './read.ts'
import type { Target, WatchItem } from './request.ts'
import { type Selection, parseSelection } from './selection.ts'

/**
 * The changes of a collection from a revision on; without one, first everything there is as ADDED. Arguments are checked
 * at once; the stream itself throws `Expired` when its reader is too slow. It ends with its timeout or `signal`.
 * @throws {ApiError}
 */
export function watchObjects(
  context: Context,
  count: OpenCount,
  target: Target,
  options: ListOptions,
  signal: AbortSignal,
): AsyncIterable<WatchItem> {
  const selection = parseSelection(target.definition, options)
  const { resourceVersion = 0 } = options
  if (options.sendInitialEvents && resourceVersion > context.store.revision)
    throw tooLargeVersion(resourceVersion, context.store.revision)
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
  const prefix = keyPrefix(storedAs(definition), namespace)
  const matches =
    name === '' ? selection.matches : (o: KubeObject) => o.metadata.name === name && selection.matches(o)
  const from = options.resourceVersion ?? 0
  const ending = new AbortController()
  const end = () => ending.abort()
  if (outerSignal.aborted) end()
  outerSignal.addEventListener('abort', end, { once: true })
  const timeoutMs = options.timeoutSeconds
    ? Math.min(options.timeoutSeconds * SECOND_MS, WATCH_TIMEOUT_MS_MAX)
    : WATCH_TIMEOUT_MS_MIN + entropy.fraction() * (WATCH_TIMEOUT_MS_MAX - WATCH_TIMEOUT_MS_MIN)
  const cancelTimeout = clock.after(timeoutMs, end)
  try {
    let delivered = from
    // sendInitialEvents=false means: only changes from now on.
    const initial = options.sendInitialEvents ?? from === 0
    if (initial || from === 0) {
      const state = store.list(prefix)
      delivered = state.revision
      if (initial) {
        for (const { object: stored } of state.items) {
          if (ending.signal.aborted) return
          const object = presented(definition, stored)
          if (matches(object)) yield { type: 'ADDED', object }
        }
        if (options.sendInitialEvents && options.allowWatchBookmarks)
          yield { type: 'BOOKMARK', revision: delivered, initialEventsEnd: true }
      }
    }
    // Somebody may know a revision from our future; what comes before it is old news to them.
    const after = Math.min(delivered, store.revision)
    const everyMs = options.allowWatchBookmarks ? WATCH_BOOKMARK_EVERY_MS : undefined
    for await (const event of changesOf(context, prefix, after, everyMs, ending.signal)) {
      if (event.type === 'TICK') {
        yield { type: 'BOOKMARK', revision: delivered, initialEventsEnd: false }
        continue
      }
      if (event.revision <= delivered) continue
      // A watcher of a kind whose definition has changed comes back and sees it as it is now; one of a kind that is gone
      // still hears what became of its objects.
      const current =
        definition.custom && context.registry.find({ ...definition, resource: definition.plural })
      if (current && current !== definition) return
      delivered = event.revision
      const item = itemOf(event, matches, definition)
      if (item) yield item
    }
  } finally {
    cancelTimeout()
    outerSignal.removeEventListener('abort', end)
    ending.abort()
    leave()
  }
}

/**
 * The changes of the store with a TICK now and then, at the reader's own pace: nothing is buffered here, and who falls
 * behind the store's history is told that their revision has expired.
 */
async function* changesOf(
  { store, clock }: Context,
  prefix: string,
  after: number,
  tickEveryMs: number | undefined,
  signal: AbortSignal,
): AsyncGenerator<StoreEvent | { type: 'TICK' }> {
  let arrived: IteratorResult<StoreEvent> | undefined
  let failure: unknown
  let ticked = false
  let wake = () => {}
  let cancelTick = () => {}
  const tick = () => {
    ticked = true
    wake()
    if (tickEveryMs !== undefined) cancelTick = clock.after(tickEveryMs, tick)
  }
  const onAbort = () => wake()
  signal.addEventListener('abort', onAbort, { once: true })
  if (tickEveryMs !== undefined) cancelTick = clock.after(tickEveryMs, tick)
  try {
    const events = store.watch(prefix, { after, signal })[Symbol.asyncIterator]()
    const take = async () => {
      try {
        arrived = await events.next()
      } catch (error) {
        failure = error
      }
      wake()
    }
    const pull = () => void take()
    pull()
    while (!signal.aborted) {
      if (failure !== undefined) throw failure
      if (arrived) {
        if (arrived.done) return
        const { value } = arrived
        arrived = undefined
        pull()
        yield value
      } else if (ticked) {
        ticked = false
        yield { type: 'TICK' }
      } else await new Promise<void>((resolve) => (wake = resolve))
    }
  } catch (error) {
    throw refusalOfWatch(error)
  } finally {
    cancelTick()
    signal.removeEventListener('abort', onAbort)
  }
}

function refusalOfWatch(error: unknown): unknown {
  if (error instanceof RevisionCompacted) return expired('too old resource version')
  if (error instanceof StoreFull)
    return new ApiError('TooManyRequests', error.message, { details: { retryAfterSeconds: 10 } })
  return error
}

/** What a change means to somebody who sees only what matches. */
function itemOf(
  event: StoreEvent,
  matches: (object: KubeObject) => boolean,
  definition: KindDefinition,
): WatchItem | undefined {
  if (event.type === 'PROGRESS') return undefined
  const previous = event.previous && shownToAll(definition, event.previous)
  const before = previous !== undefined && matches(previous)
  if (event.type === 'PUT') {
    const object = shownToAll(definition, event.object)
    if (matches(object)) return { type: before ? 'MODIFIED' : 'ADDED', object }
  }
  return before ? { type: 'DELETED', object: atRevision(previous, event.revision) } : undefined
}

/**
 * What of a kind is shown in another form than it is stored in, as long as somebody has it: what is rendered and kept
 * does. There are hundreds of custom kinds, whose objects are as large as can be.
 */
const shown = new WeakMap<KindDefinition, WeakMap<KubeObject, WeakRef<KubeObject>>>()

/** As `presented`, and the very same object for each watcher of one change. */
function shownToAll(definition: KindDefinition, object: KubeObject): KubeObject {
  if (!definition.custom && !definition.view) return object
  let those = shown.get(definition)
  if (!those) shown.set(definition, (those = new WeakMap()))
  const known = those.get(object)?.deref()
  if (known) return known
  const made = presented(definition, object)
  those.set(object, new WeakRef(made))
  return made
}

/** What was deleted, as all watchers are told: whatever follows a version of an object follows it once. */
const lastOf = new WeakMap<KubeObject, KubeObject>()

function atRevision(object: KubeObject, revision: number): KubeObject {
  const known = lastOf.get(object)
  if (known?.metadata.resourceVersion === String(revision)) return known
  const last = { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } }
  lastOf.set(object, last)
  return last
}
