import type { KubeObject } from '../api/index.ts'
import {
  type Change,
  type ApiClient,
  EventRecorder,
  type Informer,
  type Informers,
  type KindRef,
  type ReconcileResult,
  WorkQueue,
  keyOf,
  resourceOf,
} from '../client/index.ts'
import type { Clock, Logger } from '../stdx/index.ts'
import { ENGINE_RETRY_FIRST_MS, ENGINE_RETRY_LAST_MS } from './limits.ts'

/** What every controller of a control plane shares. */
export type ControllerContext = {
  /** Tells the informers what it writes. */
  client: ApiClient
  informers: Informers
  clock: Clock
  /** Its timers keep no control plane from sleeping. */
  patientClock: Clock
  log: Logger
  /** Records events under a component's name. */
  events: (component: string) => EventRecorder
}

export interface Controller {
  readonly name: string
  /** Nothing is to be done now, and nothing has to be tried again. */
  readonly atRest: boolean
  /** Requires: the informers it uses have synced, so that absence means absence. */
  start(): void
  stop(): Promise<void>
}

/** Somebody who tells events: first all that there is, then SYNCED, then what changes. */
type EventSource<E extends { type: string }> = {
  /** For the log. */
  what: string
  open(signal: AbortSignal): AsyncIterable<E>
  /** It is about to begin from the beginning. */
  onOpen(): void
  onEvent(event: E): void
  onLost(): void
}

/** A queue of keys and what fills it. Idle, it costs a few empty collections and no timer. */
export abstract class QueueController implements Controller {
  readonly name: string
  protected readonly context: ControllerContext
  protected readonly queue: WorkQueue
  /** What a `reconcile` waits for ends with it. */
  protected readonly stopping = new AbortController()
  private readonly sources: (() => Promise<void>)[] = []
  private hearing: Promise<void>[] | undefined
  private followed: { resource: string; unsubscribe: () => void; addAll: () => void }[] = []

  constructor(name: string, context: ControllerContext, options: { concurrency?: number } = {}) {
    this.name = name
    this.context = context
    this.queue = new WorkQueue({
      name,
      reconcile: (key) => this.reconcile(key),
      clock: context.clock,
      patientClock: context.patientClock,
      log: context.log,
      onOverflow: () => {
        for (const { addAll } of this.followed) addAll()
      },
      ...options,
    })
  }

  /** Reads, compares, acts, and would do the same again. */
  protected abstract reconcile(key: string): Promise<ReconcileResult>

  get atRest(): boolean {
    return this.queue.atRest
  }

  start(): void {
    this.queue.start()
    this.hearing ??= this.sources.map((hear) => hear())
  }

  async stop(): Promise<void> {
    this.stopping.abort()
    for (const { unsubscribe } of this.followed) unsubscribe()
    await Promise.all([this.queue.stop(), ...(this.hearing ?? [])])
  }

  /** Hears what somebody else tells from the start to the stop, and asks again, later each time, when it breaks off. */
  protected hear<E extends { type: string }>(source: EventSource<E>): void {
    this.sources.push(async () => {
      const { signal } = this.stopping
      let retryMs = ENGINE_RETRY_FIRST_MS
      while (!signal.aborted) {
        source.onOpen()
        try {
          for await (const event of source.open(signal)) {
            if (signal.aborted) return
            source.onEvent(event)
            if (event.type === 'SYNCED') retryMs = ENGINE_RETRY_FIRST_MS
          }
        } catch (error) {
          if (signal.aborted) return
          this.context.log.warn('cannot follow', { what: source.what, error, retryMs })
        }
        source.onLost()
        await this.pause(retryMs)
        retryMs = Math.min(retryMs * 2, ENGINE_RETRY_LAST_MS)
      }
    })
  }

  private async pause(delayMs: number): Promise<void> {
    const { signal } = this.stopping
    if (signal.aborted) return
    const paused = Promise.withResolvers<void>()
    const cancel = this.context.clock.after(delayMs, paused.resolve)
    signal.addEventListener('abort', () => paused.resolve(), { once: true })
    await paused.promise
    cancel()
  }

  /** Adds the keys that a change of `kind` concerns. Returns the kind's informer. */
  protected follow<T extends KubeObject>(
    kind: KindRef<T>,
    keys: (change: Change<T>) => Iterable<string>,
  ): Informer<T> {
    const informer = this.context.informers.of(kind)
    const add = (change: Change<T>) => {
      for (const key of keys(change)) this.queue.add(key)
    }
    this.followed.push({
      resource: resourceOf(kind),
      unsubscribe: informer.subscribe(add),
      addAll: () => {
        for (const object of informer.list()) add({ key: keyOf(object), old: undefined, object })
      },
    })
    return informer
  }

  /** No longer adds keys for a kind. */
  protected unfollow(kind: KindRef): void {
    const resource = resourceOf(kind)
    for (const { unsubscribe } of this.followed.filter((each) => each.resource === resource)) unsubscribe()
    this.followed = this.followed.filter((each) => each.resource !== resource)
  }
}
