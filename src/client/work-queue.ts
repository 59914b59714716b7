import type { Clock, Logger } from '../stdx/index.ts'
import { isConflict } from './informers.ts'
import { QUEUE_AGAIN_MS_MIN, QUEUE_KEYS_MAX, QUEUE_RETRY_FIRST_MS, QUEUE_RETRY_LAST_MS } from './limits.ts'

/**
 * `undefined` when there is nothing left to do until something changes. `patient`: whoever sleeps meanwhile misses nothing, because
 * whatever would change the outcome wakes them.
 */
export type ReconcileResult = { requeueAfterMs: number; patient?: boolean } | undefined | void

export type WorkQueueOptions = {
  name: string
  reconcile: (key: string) => Promise<ReconcileResult>
  clock: Clock
  /** For what is asked for patiently; `clock` when absent. */
  patientClock?: Clock
  log: Logger
  /** Keys that are reconciled at the same time; one key never is. */
  concurrency?: number
  keysMax?: number
  retryFirstMs?: number
  retryLastMs?: number
  /** Called when keys had to be dropped and the queue is empty again: name every key once more. */
  onOverflow?: () => void
}

/**
 * Keys to reconcile. A key that is added while it waits is one key; one that is added while it is worked on is worked
 * on once more. A failure is retried with exponential back-off. Idle, it holds no timer.
 */
export class WorkQueue {
  private readonly options: Required<Omit<WorkQueueOptions, 'onOverflow'>> &
    Pick<WorkQueueOptions, 'onOverflow'>
  private readonly waiting = new Set<string>()
  private readonly busy = new Set<string>()
  private readonly dirty = new Set<string>()
  private readonly failures = new Map<string, number>()
  private readonly timers = new Map<string, { cancel: () => void; dueMs: number; patient: boolean }>()
  private started = false
  private stopped = false
  private overflowed = false
  private idle: PromiseWithResolvers<void> | undefined

  constructor(options: WorkQueueOptions) {
    this.options = {
      concurrency: 4,
      keysMax: QUEUE_KEYS_MAX,
      retryFirstMs: QUEUE_RETRY_FIRST_MS,
      retryLastMs: QUEUE_RETRY_LAST_MS,
      patientClock: options.clock,
      ...options,
    }
  }

  get length(): number {
    return this.waiting.size + this.busy.size
  }

  /** Nothing waits, nothing is worked on, and nothing failed the last time. */
  get atRest(): boolean {
    return this.length === 0 && this.failures.size === 0
  }

  /** Timers that are running, for retries and for what was asked for later. */
  get delayed(): number {
    return this.timers.size
  }

  /** Begins to work on what was added so far and later. */
  start(): void {
    this.started = true
    this.work()
  }

  add(key: string): void {
    if (this.stopped) return
    if (this.busy.has(key)) {
      this.dirty.add(key)
      return
    }
    if (this.waiting.size >= this.options.keysMax && !this.waiting.has(key)) {
      if (!this.overflowed) this.options.log.warn('a work queue is full', { queue: this.options.name })
      this.overflowed = true
      return
    }
    this.waiting.add(key)
    this.work()
  }

  /** Adds the key later. The earliest time asked for wins, and is kept for certain if it once was asked for so. */
  addAfter(key: string, delayMs: number, asked: { patient?: boolean } = {}): void {
    if (this.stopped) return
    const nowMs = this.options.clock.nowMs()
    const timer = this.timers.get(key)
    const patient = (asked.patient ?? false) && (timer?.patient ?? true)
    if (timer && timer.dueMs <= nowMs + delayMs && timer.patient === patient) return
    const dueMs = Math.min(nowMs + delayMs, timer?.dueMs ?? Infinity)
    timer?.cancel()
    if (!timer && this.timers.size >= this.options.keysMax) {
      this.overflowed = true
      return
    }
    const { clock, patientClock } = this.options
    const cancel = (patient ? patientClock : clock).after(dueMs - nowMs, () => {
      this.timers.delete(key)
      this.add(key)
    })
    this.timers.set(key, { cancel, dueMs, patient })
  }

  /** Resolves when nothing waits and nothing is worked on; delayed keys do not count. */
  async whenIdle(): Promise<void> {
    if (this.busy.size === 0 && (this.waiting.size === 0 || !this.started)) return
    this.idle ??= Promise.withResolvers<void>()
    await this.idle.promise
  }

  /** Takes nothing more on and waits for what is being worked on. */
  async stop(): Promise<void> {
    this.stopped = true
    this.waiting.clear()
    this.dirty.clear()
    for (const { cancel } of this.timers.values()) cancel()
    this.timers.clear()
    await this.whenIdle()
  }

  private work(): void {
    if (!this.started || this.stopped) return
    for (const key of this.waiting) {
      if (this.busy.size >= this.options.concurrency) return
      this.waiting.delete(key)
      this.busy.add(key)
      void this.reconcile(key)
    }
  }

  private async reconcile(key: string): Promise<void> {
    try {
      const result = await this.options.reconcile(key)
      this.failures.delete(key)
      // A key that always asks for itself again at once must not keep everybody else's process busy.
      if (result) this.addAfter(key, Math.max(result.requeueAfterMs || 0, QUEUE_AGAIN_MS_MIN), result)
    } catch (error) {
      this.retry(key, error)
    } finally {
      this.busy.delete(key)
      if (this.dirty.delete(key)) this.add(key)
      this.work()
      if (this.busy.size === 0 && this.waiting.size === 0) this.becameIdle()
    }
  }

  private retry(key: string, error: unknown): void {
    if (this.stopped) return
    const failures = (this.failures.get(key) ?? 0) + 1
    if (this.failures.size < this.options.keysMax || this.failures.has(key)) this.failures.set(key, failures)
    const delayMs = Math.min(this.options.retryFirstMs * 2 ** (failures - 1), this.options.retryLastMs)
    // Losing a race is ordinary and says nothing about the object.
    const level = isConflict(error) ? 'debug' : 'warn'
    this.options.log[level]('cannot reconcile', { queue: this.options.name, key, failures, delayMs, error })
    this.addAfter(key, delayMs)
  }

  private becameIdle(): void {
    this.idle?.resolve()
    this.idle = undefined
    if (this.overflowed && !this.stopped) {
      this.overflowed = false
      this.options.onOverflow?.()
    }
  }
}
