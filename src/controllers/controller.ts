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

/** What every controller of a control plane shares. */
export type ControllerContext = {
  /** Tells the informers what it writes. */
  client: ApiClient
  informers: Informers
  clock: Clock
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

/** A queue of keys and what fills it. Idle, it costs a few empty collections and no timer. */
export abstract class QueueController implements Controller {
  readonly name: string
  protected readonly context: ControllerContext
  protected readonly queue: WorkQueue
  private followed: { resource: string; unsubscribe: () => void; addAll: () => void }[] = []

  constructor(name: string, context: ControllerContext, options: { concurrency?: number } = {}) {
    this.name = name
    this.context = context
    this.queue = new WorkQueue({
      name,
      reconcile: (key) => this.reconcile(key),
      clock: context.clock,
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
  }

  async stop(): Promise<void> {
    for (const { unsubscribe } of this.followed) unsubscribe()
    await this.queue.stop()
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
