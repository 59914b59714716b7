import { type ApiError, type TenantName, VERIFIER_USER } from '../api/index.ts'
import type { Clock } from '../stdx/index.ts'
import {
  BYTES_PER_REQUEST,
  COST_MS_PER_REQUEST,
  type GatewayLimits,
  QUIET_USER_PART,
  QUIET_USERS_PART,
  type TenantShare,
  USER_SHARE,
  USERS_COUNTED_MAX,
  VERIFIER_SHARE,
} from './limits.ts'
import { tooMany } from './refusals.ts'

type Kind = 'connections' | 'requests' | 'streams'

/** Holds a place until `release`, which is safe to repeat. */
export type Admission = { release: () => void } | { refused: ApiError }

/** What one user of a tenant has of the tenant's share. */
type UserUsage = { requests: number; streams: number; tokens: number; countedAtMs: number }

type Usage = Record<Kind, number> & {
  /** Requests, and connections, that may begin right now. */
  tokens: number
  connectionTokens: number
  countedAtMs: number
  /** Only of those with something open, or who have not rested since. */
  users: Map<string, UserUsage>
}

const shareOf = (user: string) => (user === VERIFIER_USER ? VERIFIER_SHARE : USER_SHARE)

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

  /** `user` is who asks within the tenant: one that floods meets a limit before the tenant's own does. */
  admitRequest(tenant: TenantName, kind: 'requests' | 'streams', user = ''): Admission {
    const { tenant: share, requestsMax, streamsMax } = this.limits
    const usage = this.usageOf(tenant)
    const userUsage = this.userUsageOf(usage, user)
    const waitSeconds = Math.ceil(
      Math.max(
        (1 - usage.tokens) / share.requestsPerSecond,
        (1 - userUsage.tokens) / (share.requestsPerSecond * shareOf(user)),
      ),
    )
    if (usage.tokens < 1)
      return { refused: tooMany('Your tenant sends too many requests', Math.max(1, waitSeconds)) }
    if (userUsage.tokens < 1)
      return { refused: tooMany('You send too many requests', Math.max(1, waitSeconds)) }
    // What is left is for users who have hardly asked yet: two that flood take a tenant's share from each other only.
    const reserve = share.requestsBurst * QUIET_USERS_PART
    const asksLittle = userBurstOf(share, user) - userUsage.tokens <= usage.tokens * QUIET_USER_PART
    if (usage.tokens <= reserve && !asksLittle)
      return { refused: tooMany('You and others of your tenant send too many requests', 1) }
    const openMax = Math.ceil((kind === 'requests' ? share.requestsMax : share.streamsMax) * USER_SHARE)
    if (userUsage[kind] >= openMax) return { refused: tooMany(`You have too many ${kind} open`, 1) }
    const [own, ownMax, totalMax] =
      kind === 'requests'
        ? [usage.requests, share.requestsMax, requestsMax]
        : [usage.streams, share.streamsMax, streamsMax]
    const holdsLittle = userUsage[kind] <= (ownMax - own) * QUIET_USER_PART
    if (own >= Math.ceil(ownMax * (1 - QUIET_USERS_PART)) && !holdsLittle)
      return { refused: tooMany(`You and others of your tenant have too many ${kind} open`, 1) }
    if (own >= ownMax) return { refused: tooMany(`Your tenant has too many ${kind} open`, 1) }
    if (this.total[kind] >= totalMax) return { refused: tooMany('The platform is busy', 1) }
    usage.tokens -= 1
    userUsage.tokens -= 1
    userUsage[kind]++
    const { release } = this.take(tenant, usage, kind)
    let held = true
    return {
      release: () => {
        if (held) userUsage[kind]--
        held = false
        release()
      },
    }
  }

  /**
   * What one request reads and writes costs too, beyond the first piece: whoever moves megabytes waits longer for the
   * next request. Returns what to call with every number of bytes.
   */
  meter(tenant: TenantName, user = ''): (bytes: number) => void {
    let free = BYTES_PER_REQUEST
    return (bytes) => {
      const paid = Math.max(0, bytes - free)
      free = Math.max(0, free - bytes)
      if (paid > 0) this.charge(tenant, user, paid / BYTES_PER_REQUEST)
    }
  }

  /** What a request has taken of the control plane's processor costs too, beyond what an ordinary one takes. */
  chargeTime(tenant: TenantName, user: string, ms: number): void {
    const paid = ms / COST_MS_PER_REQUEST - 1
    if (paid > 0) this.charge(tenant, user, paid)
  }

  private charge(tenant: TenantName, user: string, cost: number): void {
    if (!this.tenants.has(tenant)) return
    const { requestsBurst } = this.limits.tenant
    const usage = this.usageOf(tenant)
    usage.tokens = Math.max(-requestsBurst, usage.tokens - cost)
    const userUsage = this.userUsageOf(usage, user)
    userUsage.tokens = Math.max(-requestsBurst, userUsage.tokens - cost)
  }

  private userUsageOf({ users }: Usage, name: string): UserUsage {
    const { requestsPerSecond } = this.limits.tenant
    const burstOf = (user: string) => userBurstOf(this.limits.tenant, user)
    const nowMs = this.clock.nowMs()
    const refilled = (user: string, { tokens, countedAtMs }: UserUsage) =>
      Math.min(
        burstOf(user),
        tokens + (Math.max(0, nowMs - countedAtMs) / 1_000) * requestsPerSecond * shareOf(user),
      )
    if (!users.has(name) && users.size >= USERS_COUNTED_MAX)
      for (const [other, usage] of users)
        if (usage.requests + usage.streams === 0 && refilled(other, usage) >= burstOf(other))
          users.delete(other)
    // Who makes up names by the thousand shares one place with the rest of them.
    const key = users.has(name) || users.size < USERS_COUNTED_MAX ? name : ''
    const usage = users.get(key) ?? { requests: 0, streams: 0, tokens: burstOf(key), countedAtMs: nowMs }
    users.set(key, usage)
    usage.tokens = refilled(key, usage)
    usage.countedAtMs = nowMs
    return usage
  }

  private take(tenant: TenantName, usage: Usage, kind: Kind): { release: () => void } {
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
        users: new Map(),
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

function userBurstOf({ requestsBurst }: TenantShare, user: string): number {
  return Math.ceil(requestsBurst * shareOf(user))
}
