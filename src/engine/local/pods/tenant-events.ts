import { ApiError } from '../../../api/index.ts'
import type { EngineEvent, JailEvent, JailId, JailStatus } from '../../../jail/index.ts'
import type { Clock } from '../../../stdx/index.ts'
import {
  EVENT_MESSAGE_CHARS_MAX,
  EVENTS_KEPT_MAX,
  EVENTS_PER_POD_BURST,
  EVENTS_PER_POD_REFILL_MS,
  WATCHER_EVENTS_MAX,
  WATCHER_PODS_MAX,
  WATCHERS_MAX,
} from '../limits.ts'

/**
 * What one tenant's watchers are told. Bounded however slow they are: of each pod a watcher needs only the latest
 * status, and of events it loses the oldest.
 */
export class TenantEvents {
  private readonly clock: Clock
  private readonly onChange: () => void
  private readonly statuses = new Map<JailId, { status: JailStatus; text: string }>()
  private readonly events = new Map<string, JailEvent>()
  private readonly allowances = new Map<JailId, { left: number; sinceMs: number }>()
  private readonly watchers = new Set<Watcher>()
  private sequence = 0

  /** `onChange` hears that there is something new, whoever watches. */
  constructor(clock: Clock, onChange: () => void = () => {}) {
    this.clock = clock
    this.onChange = onChange
  }

  list(): JailStatus[] {
    return [...this.statuses.values()].map((s) => s.status)
  }

  publish(status: JailStatus): void {
    const text = JSON.stringify(status)
    if (this.statuses.get(status.id)?.text === text) return
    this.statuses.set(status.id, { status, text })
    for (const watcher of this.watchers) watcher.status(status)
    this.onChange()
  }

  removed(id: JailId): void {
    this.statuses.delete(id)
    this.allowances.delete(id)
    for (const watcher of this.watchers) watcher.removed(id)
    this.onChange()
  }

  /** Tells an event, unless it says what was said before to often. The same event again replaces the one before. */
  event(event: Omit<JailEvent, 'sequence' | 'at'>): void {
    if (!this.allows(event.id)) return
    const message =
      event.message.length > EVENT_MESSAGE_CHARS_MAX
        ? `${event.message.slice(0, EVENT_MESSAGE_CHARS_MAX)}…`
        : event.message
    // Grows over restarts too, as long as the machine's clock does.
    this.sequence = Math.max(this.sequence + 1, this.clock.nowMs() * 1_000)
    const full: JailEvent = {
      ...event,
      message: message.toWellFormed(),
      sequence: this.sequence,
      at: new Date(this.clock.nowMs()).toISOString(),
    }
    const key = JSON.stringify([event.id, event.container, event.type, event.reason, message])
    this.events.delete(key)
    this.events.set(key, full)
    for (const oldest of this.events.keys()) {
      if (this.events.size <= EVENTS_KEPT_MAX) break
      this.events.delete(oldest)
    }
    for (const watcher of this.watchers) watcher.event(full)
    this.onChange()
  }

  async *watch(signal: AbortSignal): AsyncGenerator<EngineEvent, void, undefined> {
    if (this.watchers.size >= WATCHERS_MAX)
      throw new ApiError('TooManyRequests', `More than ${WATCHERS_MAX} watches at once`, {
        details: { retryAfterSeconds: 5 },
      })
    const watcher = new Watcher()
    for (const { status } of this.statuses.values()) watcher.status(status)
    for (const event of this.events.values()) watcher.event(event)
    watcher.synced()
    this.watchers.add(watcher)
    const onAbort = () => watcher.close()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      if (!signal.aborted) yield* watcher.read()
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.watchers.delete(watcher)
    }
  }

  /** Ends every watch. */
  close(): void {
    for (const watcher of this.watchers) watcher.close()
  }

  private allows(id: JailId): boolean {
    const nowMs = this.clock.nowMs()
    const allowance = this.allowances.get(id) ?? { left: EVENTS_PER_POD_BURST, sinceMs: nowMs }
    const refilled = Math.floor((nowMs - allowance.sinceMs) / EVENTS_PER_POD_REFILL_MS)
    const left = Math.min(EVENTS_PER_POD_BURST, allowance.left + refilled)
    const sinceMs = allowance.sinceMs + refilled * EVENTS_PER_POD_REFILL_MS
    this.allowances.set(id, { left: Math.max(0, left - 1), sinceMs })
    return left > 0
  }
}

class Watcher {
  /** Latest status per pod, or undefined when it is gone; in the order in which they came. */
  private readonly statuses = new Map<JailId, JailStatus | undefined>()
  private readonly events: JailEvent[] = []
  private syncedPending = false
  private closed = false
  private waiting: PromiseWithResolvers<void> | undefined

  status(status: JailStatus): void {
    this.statuses.set(status.id, status)
    this.wake()
  }

  removed(id: JailId): void {
    // Ids that never were can be removed too, without end. Who reads so slowly begins anew, as with a watch that broke.
    if (this.statuses.size >= WATCHER_PODS_MAX && !this.statuses.has(id)) return this.close()
    this.statuses.set(id, undefined)
    this.wake()
  }

  event(event: JailEvent): void {
    this.events.push(event)
    if (this.events.length > WATCHER_EVENTS_MAX) this.events.shift()
    this.wake()
  }

  synced(): void {
    this.syncedPending = true
    this.wake()
  }

  close(): void {
    this.closed = true
    this.statuses.clear()
    this.wake()
  }

  async *read(): AsyncGenerator<EngineEvent, void, undefined> {
    while (!this.closed) {
      const next = this.next()
      if (next) {
        yield next
        continue
      }
      this.waiting = Promise.withResolvers<void>()
      await this.waiting.promise
    }
  }

  private next(): EngineEvent | undefined {
    for (const [id, status] of this.statuses) {
      this.statuses.delete(id)
      return status ? { type: 'STATUS', status } : { type: 'REMOVED', id }
    }
    const event = this.events.shift()
    if (event) return { type: 'EVENT', event }
    if (!this.syncedPending) return undefined
    this.syncedPending = false
    return { type: 'SYNCED' }
  }

  private wake(): void {
    this.waiting?.resolve()
    this.waiting = undefined
  }
}
