import type { JailContainer, JailProbe } from '../../../jail/index.ts'
import { SECOND_MS, type Clock } from '../../../stdx/index.ts'
import { at } from './timers.ts'

export type ProbeKind = 'startup' | 'liveness' | 'readiness'

export type ProbeListener = {
  probe(probe: JailProbe): Promise<{ ok: boolean; message: string; unknown?: true }>
  /** The startup probe has succeeded, or there is none. */
  started(): void
  ready(ready: boolean): void
  /** One failure, not yet the last. */
  failed(kind: ProbeKind, message: string): void
  /** Startup or liveness have failed as often as they may. */
  unhealthy(kind: 'startup' | 'liveness', probe: JailProbe): void
}

/** Runs the probes of one container for as long as that container lives. */
export class ContainerProbes {
  private readonly clock: Clock
  private readonly container: JailContainer
  private readonly startedAtMs: number
  private readonly listener: ProbeListener
  private readonly cancels = new Map<ProbeKind, () => void>()
  private stopped = false
  private stopping = false

  constructor(clock: Clock, container: JailContainer, startedAtMs: number, listener: ProbeListener) {
    this.clock = clock
    this.container = container
    this.startedAtMs = startedAtMs
    this.listener = listener
  }

  /** `started`: what is known from before the engine's own restart. */
  start({ started }: { started: boolean }): void {
    const { startupProbe } = this.container
    if (startupProbe && !started) this.run('startup', startupProbe)
    else this.afterStartup()
  }

  /** The container is being stopped: whether it is alive no longer matters, whether it is ready does. */
  stopLiveness(): void {
    this.stopping = true
    for (const kind of ['startup', 'liveness'] as const) this.cancels.get(kind)?.()
  }

  stop(): void {
    this.stopped = true
    for (const cancel of this.cancels.values()) cancel()
  }

  private afterStartup(): void {
    const { livenessProbe, readinessProbe } = this.container
    this.listener.started()
    if (livenessProbe) this.run('liveness', livenessProbe)
    if (readinessProbe) this.run('readiness', readinessProbe)
    else this.listener.ready(true)
  }

  private run(kind: ProbeKind, probe: JailProbe): void {
    let successes = 0
    let failures = 0
    let dueMs = Math.max(this.clock.nowMs(), this.startedAtMs + probe.initialDelaySeconds * SECOND_MS)
    const over = () => this.stopped || (this.stopping && kind !== 'readiness')
    const next = () => {
      if (!over())
        this.cancels.set(
          kind,
          at(this.clock, dueMs, () => void once()),
        )
    }
    const once = async () => {
      // A prober never throws; if ours does, that is a failure like any other.
      const result: Awaited<ReturnType<ProbeListener['probe']>> = await this.listener
        .probe(probe)
        .catch(() => ({ ok: false, message: 'The probe could not be run' }))
      if (over()) return
      // As in the kubelet: what is not known changes nothing.
      if (result.unknown) {
        dueMs = Math.max(dueMs + probe.periodSeconds * SECOND_MS, this.clock.nowMs())
        return next()
      }
      successes = result.ok ? successes + 1 : 0
      failures = result.ok ? 0 : failures + 1
      if (!result.ok) this.listener.failed(kind, result.message)
      if (over()) return
      if (kind === 'readiness') {
        if (successes >= probe.successThreshold) this.listener.ready(true)
        if (failures >= probe.failureThreshold) this.listener.ready(false)
      } else if (failures >= probe.failureThreshold) {
        this.stopLiveness()
        this.listener.unhealthy(kind, probe)
        return
      } else if (kind === 'startup' && successes >= probe.successThreshold) {
        this.afterStartup()
        return
      }
      dueMs = Math.max(dueMs + probe.periodSeconds * SECOND_MS, this.clock.nowMs())
      next()
    }
    next()
  }
}
