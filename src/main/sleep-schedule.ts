import type { TenantName } from '../api/index.ts'
import { type Clock, type Logger, MINUTE_MS, SECOND_MS } from '../stdx/index.ts'
import type { Resting, Slept } from './control-channel.ts'

export type SleepLimits = {
  /** A control plane that nobody has asked anything for so long may sleep. */
  unusedMsMin: number
  /** One that woke by itself, and that nobody has asked anything since, may sleep again after this. */
  unaskedMsMin: number
  /** So long its pods must not have changed, so that it knows of everything. */
  quietMsMin: number
  /** It is not worth it when something is due sooner than this. */
  restMsMin: number
  /** Control planes that are woken at a time, on the whole machine. */
  wakesAtOnceMax: number
  /** A process with control planes that has not answered for so long hangs. */
  hungMs: number
}

const UNUSED_SECONDS = 300
const UNASKED_MS = 30 * SECOND_MS

/**
 * As BULKHEAD_SLEEP_AFTER_SECONDS says, 300 otherwise.
 * @throws {TypeError} when that is no number of seconds.
 */
export function parseSleepLimits(env: Readonly<Record<string, string | undefined>>): SleepLimits {
  const text = env['BULKHEAD_SLEEP_AFTER_SECONDS'] ?? String(UNUSED_SECONDS)
  if (!/^\d{1,9}$/.test(text))
    throw new TypeError(`BULKHEAD_SLEEP_AFTER_SECONDS "${text}" must be a whole number of seconds`)
  const unusedMs = Number(text) * SECOND_MS
  return {
    unusedMsMin: unusedMs,
    unaskedMsMin: Math.min(unusedMs, UNASKED_MS),
    quietMsMin: Math.min(unusedMs, UNASKED_MS),
    restMsMin: Math.min(2 * unusedMs, MINUTE_MS),
    wakesAtOnceMax: 4,
    hungMs: MINUTE_MS,
  }
}

/** What failed to wake is tried again after this. */
const WAKE_AGAIN_MS = 10 * SECOND_MS
/** While somebody waits, it is tried again after these. */
const WAKE_PAUSES_MS = [300, 1_000, 3_000]

export type SleepHosts = {
  sleeping: ReadonlyMap<TenantName, Pick<Slept, 'dueAtMs'>>
  fallAsleep(tenant: TenantName): Promise<boolean>
  wake(tenant: TenantName): Promise<boolean>
}

/**
 * Decides which control planes sleep, and wakes them: for whoever asks one, when something is due in it, and when its
 * pods have changed. Also notices processes with control planes that hang.
 */
export class SleepSchedule {
  private readonly hosts: SleepHosts
  private readonly resting: (worker: string) => Promise<Resting[]>
  private readonly workerOf: (tenant: TenantName) => string | undefined
  private readonly onHung: (worker: string) => void
  private readonly limits: SleepLimits
  private readonly clock: Clock
  private readonly log: Logger
  /** When a tenant's pods changed last. */
  private readonly changedAtMs = new Map<TenantName, number>()
  /** Woken by ourselves, not for somebody who asked. */
  private readonly unasked = new Map<TenantName, number>()
  /** Those whose pods changed while they slept or were falling asleep, and those that did not wake, with when to try. */
  private readonly wanted = new Map<TenantName, number>()
  private readonly answeredAtMs = new Map<string, number>()
  private readonly asking = new Set<string>()
  private readonly wakes = new Map<TenantName, Promise<boolean>>()
  private readonly queues = { asked: [] as (() => void)[], unasked: [] as (() => void)[] }
  private waking = 0

  constructor(parts: {
    hosts: SleepHosts
    /** Asks a process with control planes which of them have nothing to do. */
    resting: (worker: string) => Promise<Resting[]>
    /** The process that hosts a tenant's control plane. */
    workerOf: (tenant: TenantName) => string | undefined
    /** Such a process no longer answers. */
    onHung: (worker: string) => void
    limits: SleepLimits
    clock: Clock
    log: Logger
  }) {
    this.hosts = parts.hosts
    this.resting = parts.resting
    this.workerOf = parts.workerOf
    this.onHung = parts.onHung
    this.limits = parts.limits
    this.clock = parts.clock
    this.log = parts.log
  }

  /** Something about a tenant's pods has changed, which its control plane has to write down. */
  changed(tenant: TenantName): void {
    const nowMs = this.clock.nowMs()
    this.changedAtMs.set(tenant, nowMs)
    if (this.hosts.sleeping.has(tenant)) this.wanted.set(tenant, nowMs)
  }

  forget(tenant: TenantName): void {
    this.changedAtMs.delete(tenant)
    this.unasked.delete(tenant)
    this.wanted.delete(tenant)
  }

  /** For somebody who asks: resolves once the control plane is awake; false when there is no such tenant. */
  wake(tenant: TenantName): Promise<boolean> {
    return this.wakeInTurn(tenant, 'asked')
  }

  /** Wakes whatever is due. To be called about every second. */
  wakeDue(): void {
    const nowMs = this.clock.nowMs()
    const due = [...this.hosts.sleeping].flatMap(([tenant, { dueAtMs = Infinity }]) =>
      dueAtMs <= nowMs && !this.wanted.has(tenant) ? [tenant] : [],
    )
    const wanted = [...this.wanted].flatMap(([tenant, atMs]) => (atMs <= nowMs ? [tenant] : []))
    for (const tenant of [...due, ...wanted]) {
      this.wanted.delete(tenant)
      if (!this.hosts.sleeping.has(tenant) || this.wakes.has(tenant)) continue
      this.wakeInTurn(tenant, 'unasked').then(
        () => this.unasked.set(tenant, this.clock.nowMs()),
        (error: unknown) => {
          this.log.error('a control plane cannot be woken', { tenant, error })
          this.wanted.set(tenant, this.clock.nowMs() + WAKE_AGAIN_MS)
        },
      )
    }
  }

  /** Asks one process who rests, and lets them sleep. To be called every few seconds; never rejects. */
  async look(worker: string): Promise<void> {
    if (this.asking.has(worker)) return
    this.asking.add(worker)
    const askedAtMs = this.clock.nowMs()
    const answeredAtMs = this.answeredAtMs.get(worker) ?? askedAtMs
    this.answeredAtMs.set(worker, answeredAtMs)
    try {
      const items = await this.resting(worker)
      this.answeredAtMs.set(worker, this.clock.nowMs())
      for (const item of items) if (this.maySleep(worker, item)) await this.putToSleep(item.tenant)
    } catch (error) {
      this.log.debug('control planes do not say who rests', { worker, error })
      if (this.clock.nowMs() - answeredAtMs >= this.limits.hungMs) {
        this.answeredAtMs.delete(worker)
        this.onHung(worker)
      }
    } finally {
      this.asking.delete(worker)
    }
  }

  /** A process that was started anew, or is gone, owes no answer. */
  forgetWorker(worker: string): void {
    this.answeredAtMs.delete(worker)
  }

  private maySleep(worker: string, { tenant, unusedMs, dueAtMs = Infinity }: Resting): boolean {
    // A process that was taken over speaks for nobody else.
    if (this.workerOf(tenant) !== worker || this.hosts.sleeping.has(tenant)) return false
    const { unusedMsMin, unaskedMsMin, quietMsMin, restMsMin } = this.limits
    const nowMs = this.clock.nowMs()
    const wokenAtMs = this.unasked.get(tenant)
    const neverAsked = wokenAtMs !== undefined && unusedMs >= nowMs - wokenAtMs
    return (
      unusedMs >= (neverAsked ? unaskedMsMin : unusedMsMin) &&
      dueAtMs - nowMs >= restMsMin &&
      nowMs - (this.changedAtMs.get(tenant) ?? -Infinity) >= quietMsMin
    )
  }

  private async putToSleep(tenant: TenantName): Promise<void> {
    const changedAtMs = this.changedAtMs.get(tenant)
    try {
      if (!(await this.hosts.fallAsleep(tenant))) return
      this.unasked.delete(tenant)
      // What changed while it fell asleep it may not have heard.
      if (this.changedAtMs.get(tenant) !== changedAtMs) this.wanted.set(tenant, this.clock.nowMs())
    } catch (error) {
      this.log.warn('a control plane does not fall asleep', { tenant, error })
    }
  }

  /** The process that hosts it may be the one that is just being started anew. */
  private async wakeOrRetry(tenant: TenantName): Promise<boolean> {
    for (const pauseMs of WAKE_PAUSES_MS) {
      try {
        return await this.hosts.wake(tenant)
      } catch (error) {
        this.log.warn('a control plane does not wake', { tenant, error, pauseMs })
      }
      const paused = Promise.withResolvers<void>()
      this.clock.after(pauseMs, paused.resolve)
      await paused.promise
    }
    return await this.hosts.wake(tenant)
  }

  /** Once for each tenant, few at a time, and first those for whom somebody waits. */
  private wakeInTurn(tenant: TenantName, why: keyof typeof this.queues): Promise<boolean> {
    const running = this.wakes.get(tenant)
    if (running) return running
    const wake = async () => {
      if (this.waking < this.limits.wakesAtOnceMax) this.waking++
      else {
        const turn = Promise.withResolvers<void>()
        this.queues[why].push(turn.resolve)
        await turn.promise
      }
      try {
        return await this.wakeOrRetry(tenant)
      } finally {
        const next = this.queues.asked.shift() ?? this.queues.unasked.shift()
        // Whoever is next takes over the place.
        if (next) next()
        else this.waking--
      }
    }
    const woken = wake().finally(() => this.wakes.delete(tenant))
    this.wakes.set(tenant, woken)
    return woken
  }
}
