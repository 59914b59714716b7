import { randomInt } from 'node:crypto'
import type { KubeObject } from '../api/index.ts'
import type { Clock, Logger } from '../stdx/index.ts'
import type { ApiClient, KindRef } from './api-client.ts'
import { isNotFound } from './informers.ts'
import {
  EVENT_BURST,
  EVENT_MESSAGE_CHARS_MAX,
  EVENT_REFILL_MS,
  EVENTS_REMEMBERED_MAX,
  EVENTS_SIMILAR_MAX,
  EVENTS_SIMILAR_WINDOW_MS,
  EVENTS_WAITING_MAX,
} from './limits.ts'

export type EventType = 'Normal' | 'Warning'
/** What is told of an object. `fieldPath` points at a container, `component` is who says it. */
export type RecordedEvent = {
  type: EventType
  reason: string
  message: string
  fieldPath?: string
  component?: string
}

const eventKind: KindRef = { group: '', version: 'v1', kind: 'Event', plural: 'events', namespaced: true }

type Remembered = { namespace: string; name: string; count: number }
type Similar = { messages: Set<string>; sinceMs: number }
type Allowance = { left: number; atMs: number }

/**
 * Writes core/v1 Events as `kubectl describe` shows them: the same thing again raises `count`, many similar things
 * are combined into one, and who says too much about one object is not heard. Nothing waits for an event to be written.
 */
export class EventRecorder {
  private readonly client: ApiClient
  private readonly clock: Clock
  private readonly log: Logger
  private readonly component: string
  private readonly remembered = new Map<string, Remembered>()
  private readonly similar = new Map<string, Similar>()
  private readonly allowances = new Map<string, Allowance>()
  private waiting = 0
  private last: Promise<void> = Promise.resolve()
  /** Several recorders may name an event of one object in the same millisecond, so each begins elsewhere. */
  private names = randomInt(1_000_000)

  constructor({
    client,
    clock,
    log,
    component,
  }: {
    client: ApiClient
    clock: Clock
    log: Logger
    component: string
  }) {
    this.client = client
    this.clock = clock
    this.log = log
    this.component = component
  }

  /** Returns false when the event is dropped: too many about this object, or too many waiting. */
  record(about: KubeObject, event: RecordedEvent): boolean {
    const component = event.component ?? this.component
    const nowMs = this.clock.nowMs()
    if (!this.allowed(`${component} ${about.metadata.uid}`, nowMs)) return false
    if (this.waiting >= EVENTS_WAITING_MAX) return false
    const told = { ...event, component, message: this.combine(about, { ...event, component }, nowMs) }
    this.waiting += 1
    this.last = this.writeAfter(this.last, about, told, nowMs)
    return true
  }

  /** Everything recorded so far is written or given up. */
  get atRest(): boolean {
    return this.waiting === 0
  }

  /** Resolves when everything recorded so far is written or given up. */
  async flush(): Promise<void> {
    await this.last
  }

  /** One at a time and in order, so that a count is never raised before its event exists. */
  private async writeAfter(
    before: Promise<void>,
    about: KubeObject,
    told: RecordedEvent & { component: string },
    nowMs: number,
  ): Promise<void> {
    await before
    try {
      await this.write(about, told, nowMs)
    } catch (error) {
      this.log.debug('cannot write an event', { error, reason: told.reason })
    } finally {
      this.waiting -= 1
    }
  }

  private async write(
    about: KubeObject,
    { type, reason, message, component, fieldPath }: RecordedEvent & { component: string },
    nowMs: number,
  ): Promise<void> {
    const key = JSON.stringify([component, about.metadata.uid, fieldPath ?? '', type, reason, message])
    const now = new Date(nowMs).toISOString().replace(/\.\d+Z$/, 'Z')
    const known = this.remembered.get(key)
    if (known) {
      try {
        const patch = { count: known.count + 1, lastTimestamp: now }
        const ref = { namespace: known.namespace, name: known.name }
        await this.client.patch(eventKind, ref, patch, { type: 'application/merge-patch+json' })
        known.count += 1
        keep(this.remembered, key, known)
        return
      } catch (error) {
        if (!isNotFound(error)) throw error
      }
    }
    const { name, namespace = 'default', uid, resourceVersion } = about.metadata
    this.names += 1
    const stamp = (BigInt(nowMs) * 1_000_000n + BigInt(this.names % 1_000_000)).toString(16)
    // An object's name may be 253 characters long, and so may an event's.
    const created = { namespace, name: `${name.slice(0, 230)}.${stamp}` }
    await this.client.create(eventKind, {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: created,
      involvedObject: {
        apiVersion: about.apiVersion,
        kind: about.kind,
        ...(about.metadata.namespace === undefined ? {} : { namespace: about.metadata.namespace }),
        name,
        uid,
        resourceVersion,
        ...(fieldPath === undefined ? {} : { fieldPath }),
      },
      reason,
      message,
      source: { component },
      type,
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
      reportingComponent: component,
      reportingInstance: '',
    })
    keep(this.remembered, key, { ...created, count: 1 })
  }

  /** The message, or one that stands for all when there are too many different ones. */
  private combine(about: KubeObject, event: RecordedEvent & { component: string }, nowMs: number): string {
    const message = event.message.slice(0, EVENT_MESSAGE_CHARS_MAX)
    const key = JSON.stringify([event.component, about.metadata.uid, event.type, event.reason])
    let similar = this.similar.get(key)
    if (!similar || nowMs - similar.sinceMs > EVENTS_SIMILAR_WINDOW_MS)
      similar = { messages: new Set(), sinceMs: nowMs }
    keep(this.similar, key, similar)
    if (similar.messages.has(message)) return message
    if (similar.messages.size < EVENTS_SIMILAR_MAX) {
      similar.messages.add(message)
      return message
    }
    return `(combined from similar events): ${message}`.slice(0, EVENT_MESSAGE_CHARS_MAX)
  }

  private allowed(key: string, nowMs: number): boolean {
    const allowance = this.allowances.get(key) ?? { left: EVENT_BURST, atMs: nowMs }
    const refilled = Math.floor((nowMs - allowance.atMs) / EVENT_REFILL_MS)
    if (refilled > 0) {
      allowance.left = Math.min(EVENT_BURST, allowance.left + refilled)
      allowance.atMs += refilled * EVENT_REFILL_MS
    }
    keep(this.allowances, key, allowance)
    if (allowance.left === 0) return false
    allowance.left -= 1
    return true
  }
}

/** Keeps the most recently used entries. */
function keep<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key)
  map.set(key, value)
  const oldest = map.keys().next()
  if (map.size > EVENTS_REMEMBERED_MAX && !oldest.done) map.delete(oldest.value)
}
