import type { TenantName } from '../api/index.ts'
import { JWKS_PATH, TokenVerifier } from '../identity/index.ts'
import { askUnix, type Clock, type Logger } from '../stdx/index.ts'
import {
  JWKS_BYTES_MAX,
  JWKS_FETCH_MS_MAX,
  JWKS_FETCHES_MAX,
  JWKS_FRESH_MS,
  JWKS_RETRY_MS,
  JWKS_STALE_MS,
  JWKS_TENANTS_MAX,
} from './limits.ts'

type Known = { verifier: TokenVerifier; fetchedAtMs: number }

/** The public keys of tenants' tokens, as their control planes publish them. */
export class TokenKeys {
  private readonly socketPathOf: (tenant: TenantName) => string
  private readonly sleepingKeysOf: (tenant: TenantName) => unknown
  private readonly clock: Clock
  private readonly log: Logger
  /** Least recently asked for first. Only of tenants whose control plane has answered. */
  private readonly known = new Map<TenantName, Known>()
  /** When a tenant was last asked, for as long as that keeps us from asking again. */
  private readonly asked = new Map<TenantName, number>()
  private readonly fetches = new Map<TenantName, Promise<Known | undefined>>()

  constructor({
    socketPathOf,
    sleepingKeysOf = () => undefined,
    clock,
    log,
  }: {
    socketPathOf: (tenant: TenantName) => string
    /** What a control plane published before it fell asleep; undefined when it does not sleep. */
    sleepingKeysOf?: ((tenant: TenantName) => unknown) | undefined
    clock: Clock
    log: Logger
  }) {
    this.socketPathOf = socketPathOf
    this.sleepingKeysOf = sleepingKeysOf
    this.clock = clock
    this.log = log
  }

  /**
   * A verifier for the tenant's tokens, or undefined when there is none to be had. Whoever calls is nobody yet, so
   * however often this is called, a control plane is not asked more than once in a while.
   */
  async verifierFor(tenant: TenantName, keyId: string): Promise<TokenVerifier | undefined> {
    const known = this.known.get(tenant)
    const ageMs = known ? this.clock.nowMs() - known.fetchedAtMs : Infinity
    if (known && ageMs < JWKS_FRESH_MS && known.verifier.knows(keyId)) {
      this.remember(tenant, known)
      return known.verifier
    }
    const fetched = await this.fetchOnce(tenant)
    if (fetched) return fetched.verifier
    return ageMs < JWKS_STALE_MS ? known?.verifier : undefined
  }

  private fetchOnce(tenant: TenantName): Promise<Known | undefined> {
    const running = this.fetches.get(tenant)
    if (running) return running
    const nowMs = this.clock.nowMs()
    if (nowMs - (this.asked.get(tenant) ?? -Infinity) < JWKS_RETRY_MS) return Promise.resolve(undefined)
    if (this.fetches.size >= JWKS_FETCHES_MAX) return Promise.resolve(undefined)
    const fetch = this.fetch(tenant).finally(() => this.fetches.delete(tenant))
    this.fetches.set(tenant, fetch)
    return fetch
  }

  private async fetch(tenant: TenantName): Promise<Known | undefined> {
    const nowMs = this.clock.nowMs()
    try {
      const keys = this.sleepingKeysOf(tenant) ?? (await fetchJwks(this.socketPathOf(tenant)))
      const verifier = await TokenVerifier.open(tenant, keys)
      const known = { verifier, fetchedAtMs: nowMs }
      this.remember(tenant, known)
      this.note(tenant, nowMs)
      return known
    } catch (error) {
      // An invented tenant has no socket and is not worth remembering; a real one gets some rest.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.note(tenant, nowMs)
      this.log.debug('keys of a tenant cannot be fetched', { tenant, error })
      return undefined
    }
  }

  private remember(tenant: TenantName, known: Known): void {
    this.known.delete(tenant)
    this.known.set(tenant, known)
    dropOldest(this.known)
  }

  private note(tenant: TenantName, nowMs: number): void {
    this.asked.delete(tenant)
    this.asked.set(tenant, nowMs)
    dropOldest(this.asked)
  }
}

function dropOldest(map: Map<TenantName, unknown>): void {
  for (const oldest of map.keys()) {
    if (map.size <= JWKS_TENANTS_MAX) break
    map.delete(oldest)
  }
}

async function fetchJwks(socketPath: string): Promise<unknown> {
  const { code, body } = await askUnix({
    socketPath,
    path: JWKS_PATH,
    headers: { host: 'localhost', accept: 'application/jwk-set+json, application/json' },
    signal: AbortSignal.timeout(JWKS_FETCH_MS_MAX),
    answerBytesMax: JWKS_BYTES_MAX,
  })
  if (code !== 200) throw new Error(`A key set came with status ${code}`)
  try {
    return JSON.parse(body.toString())
  } catch (cause) {
    throw new Error('A key set is not JSON', { cause })
  }
}
