import { type Layout, parseTenantName, type TenantName } from '../api/index.ts'
import { freezeTenant } from '../engine/local/index.ts'
import { type Clock, type Logger, SECOND_MS } from '../stdx/index.ts'
import { isQuarantined, liftQuarantine, readQuarantines, readWatchState } from './verdict-files.ts'

const LEAVING_MS_MAX = 60 * SECOND_MS

/** The node agent's part of the continuous proof: it freezes and thaws tenants, and takes no pods where a layer is missing. */
export class Verdicts {
  private readonly layout: Layout
  private readonly log: Logger
  private readonly frozen = new Set<TenantName>()
  /** Whose pods are being ended, until when at the latest: frozen ones would not end. */
  private readonly leaving = new Map<TenantName, number>()
  private readonly clock: Clock

  constructor({ layout, clock, log }: { layout: Layout; clock: Clock; log: Logger }) {
    this.clock = clock
    this.layout = layout
    this.log = log
  }

  /** Carries out what was decided since the last time. An earlier agent's frozen tenants are thawed when they may be. */
  refresh(tenants: readonly TenantName[]): void {
    const wanted = new Map(readQuarantines(this.layout).map((each) => [each.tenant, each]))
    for (const { tenant: gone } of readQuarantines(this.layout))
      if (!(tenants as readonly string[]).includes(gone)) liftQuarantine(this.layout, parseTenantName(gone))
    for (const tenant of tenants) {
      if ((this.leaving.get(tenant) ?? -Infinity) > this.clock.nowMs()) continue
      this.leaving.delete(tenant)
      const quarantine = wanted.get(tenant)
      if (quarantine && !this.frozen.has(tenant)) {
        if (freezeTenant(this.layout, tenant, true)) {
          this.frozen.add(tenant)
          this.log.warn('tenant frozen', { tenant, reason: quarantine.reason })
        }
      } else if (!quarantine && freezeTenant(this.layout, tenant, false)) {
        if (this.frozen.delete(tenant)) this.log.info('tenant thawed', { tenant })
      }
    }
  }

  /** Why a new pod may not start; undefined when it may. */
  refusal({ tenant, isolationClass }: { tenant: TenantName; isolationClass: string }): string | undefined {
    if (isQuarantined(this.layout, tenant)) return 'The operator has this tenant in quarantine'
    // Read anew, because a pod that starts a moment too early is not stopped again.
    const missing = readWatchState(this.layout)?.refusals.find(
      (refusal) => refusal.isolationClass === isolationClass,
    )
    return missing === undefined
      ? undefined
      : `A layer of isolation is missing for the class "${isolationClass}" (${missing.vector}); no new pods until it is mended or waived`
  }

  /** Frozen processes cannot be ended. */
  release(tenant: TenantName): void {
    this.leaving.set(tenant, this.clock.nowMs() + LEAVING_MS_MAX)
    freezeTenant(this.layout, tenant, false)
    this.frozen.delete(tenant)
  }
}
