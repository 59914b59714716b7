import type { ApiError, TenantName } from '../api/index.ts'
import type { Clock } from '../stdx/index.ts'
import type { GatewayLimits } from './limits.ts'
import { tooMany } from './refusals.ts'

type Kind = 'connections' | 'requests' | 'streams'

/** Holds a place until `release`, which is safe to repeat. */
export type Admission = { release: () => void } | { refused: ApiError }

type Usage = Record<Kind, number> & {
  /** Requests, and connections, that may begin right now. */
  tokens: number
  connectionTokens: number
  countedAtMs: number
}

/** Gives each tenant its share and no more, so that a tenant that floods us meets its own limit and not another's. */
export class FairShare {
  private readonly limits: GatewayLimits
  private readonly clock: Clock
  /** Only of tenants that somebody has authenticated for, and forgotten when they are idle. */
  private readonly tenants = new Map<TenantName, Usage>()
  private readonly total: Record<Kind, number> = { connections: 0, requests: 0, streams: 0 }

  constructor(limits: GatewayLimits, clock: Clock) {
    this.limits = limits
    this.clock = clock
  }

  get tenantsTracked(): number {
    return this.tenants.size
  }

  admitConnection(tenant: TenantName): Admission {
    const usage = this.usageOf(tenant)
    if (usage.connections >= this.limits.tenant.connectionsMax)
      return { refused: tooMany('Your tenant has too many connections open', 1) }
    if (usage.connectionTokens < 1) return { refused: tooMany('Your tenant opens too many connections', 1) }
    usage.connectionTokens -= 1
    return this.take(tenant, usage, 'connections')
  }

  admitRequest(tenant: TenantName, kind: 'requests' | 'streams'): Admission {
    const { tenant: share, requestsMax, streamsMax } = this.limits
    const usage = this.usageOf(tenant)
    if (usage.tokens < 1) {
      const waitSeconds = Math.ceil((1 - usage.tokens) / share.requestsPerSecond)
      return { refused: tooMany('Your tenant sends too many requests', Math.max(1, waitSeconds)) }
    }
    const [own, ownMax, totalMax] =
      kind === 'requests'
        ? [usage.requests, share.requestsMax, requestsMax]
        : [usage.streams, share.streamsMax, streamsMax]
    if (own >= ownMax) return { refused: tooMany(`Your tenant has too many ${kind} open`, 1) }
    if (this.total[kind] >= totalMax) return { refused: tooMany('The platform is busy', 1) }
    usage.tokens -= 1
    return this.take(tenant, usage, kind)
  }

  private take(tenant: TenantName, usage: Usage, kind: Kind): Admission {
    usage[kind]++
    this.total[kind]++
    let held = true
    return {
      release: () => {
        if (!held) return
        held = false
        usage[kind]--
        this.total[kind]--
        if (usage.connections + usage.requests + usage.streams === 0) this.forgetIfRested(tenant, usage)
      },
    }
  }

  private usageOf(tenant: TenantName): Usage {
    const { requestsPerSecond, requestsBurst, connectionsPerSecond, connectionsBurst } = this.limits.tenant
    const nowMs = this.clock.nowMs()
    let usage = this.tenants.get(tenant)
    if (!usage) {
      usage = {
        connections: 0,
        requests: 0,
        streams: 0,
        tokens: requestsBurst,
        connectionTokens: connectionsBurst,
        countedAtMs: nowMs,
      }
      this.tenants.set(tenant, usage)
    }
    const seconds = Math.max(0, nowMs - usage.countedAtMs) / 1_000
    usage.tokens = Math.min(requestsBurst, usage.tokens + seconds * requestsPerSecond)
    usage.connectionTokens = Math.min(
      connectionsBurst,
      usage.connectionTokens + seconds * connectionsPerSecond,
    )
    usage.countedAtMs = nowMs
    return usage
  }

  /** Forgetting sooner would give a tenant its whole burst again. */
  private forgetIfRested(tenant: TenantName, usage: Usage): void {
    const { requestsPerSecond, requestsBurst, connectionsPerSecond, connectionsBurst } = this.limits.tenant
    const restSeconds = Math.max(
      (requestsBurst - usage.tokens) / requestsPerSecond,
      (connectionsBurst - usage.connectionTokens) / connectionsPerSecond,
    )
    this.clock.after(restSeconds * 1_000 + 1, () => {
      if (this.tenants.get(tenant) !== usage || usage.connections + usage.requests + usage.streams > 0) return
      const { tokens, connectionTokens } = this.usageOf(tenant)
      if (tokens >= requestsBurst && connectionTokens >= connectionsBurst) this.tenants.delete(tenant)
    })
  }
}
