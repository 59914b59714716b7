import { isDeepStrictEqual } from 'node:util'
import { hostMatches, type Layout, networkContains, parseIpv4Network } from '../../../../api/index.ts'
import type {
  EgressNarrowing,
  EgressPolicy,
  EgressRule,
  EgressSeen,
  JailId,
  TenantEgress,
} from '../../../../jail/index.ts'
import { type Clock, FairPlaces, type Logger } from '../../../../stdx/index.ts'
import {
  type Ipv4,
  type MachineNetworks,
  OUTSIDE_TABLE,
  OUTSIDE_VERSION,
  type OutsideChains,
  type OutsidePod,
  type OutsideState,
  type OutsideWho,
  appliesTo,
  ipv4FromText,
  ipv4Text,
  isCurrent,
  isOpenByNetwork,
  isOutgoing,
  learns,
  NarrowedPolicies,
  netLimits,
  placeOf,
  planOutsideChains,
  renderOutsideChanged,
  renderOutsideMachine,
  renderOutsideTable,
  tenantIndexOf,
} from '../../plan/net/index.ts'
import { IPPROTO_TCP } from './conntrack.ts'
import {
  FRESH_NAMES_BURST,
  FRESH_NAMES_REFILL_MS,
  NAME_ADDRESSES_MAX,
  NAME_GRACE_MS,
  NAME_TTL_SECONDS_MAX,
  NAME_TTL_SECONDS_MIN,
  NO_SUCH_NAME_SECONDS,
  OUTSIDE_SEEN_MAX,
  FORWARDER_SOCKETS_MAX,
  TENANT_LOOKUPS_MAX,
  TENANT_LOOKUPS_PER_SECOND_MAX,
  TENANT_NAMES_KEPT_MAX,
} from './limits.ts'
import type { OpenElement } from './nf-tables.ts'
import type { Nft } from './nft.ts'
import type { Router } from './router.ts'
import type { Uplink } from './uplink.ts'

export type OutsidePodRecord = OutsidePod & { id: JailId }

/** What a name's addresses are, in the words of whoever looks names up. */
export type LookUpName = (name: string) => Promise<readonly { address: string; ttlSeconds: number }[]>

export type OutsideOptions = {
  layout: Layout
  router: Router
  nft: Nft
  uplink: Uplink
  clock: Clock
  log: Logger
  lookUp: LookUpName
  pods: () => readonly OutsidePodRecord[]
  /** Something of a pod was blocked; may be called often. */
  onBlocked?: (pod: { id: JailId; index: number }, message: string) => void
}

/** The answer to a pod's question: no addresses is what a name gets that does not exist. */
export type NameAnswer = { addresses: readonly string[]; ttlSeconds: number }

type CachedName = { addresses: readonly { address: Ipv4; untilMs: number }[]; untilMs: number }
type Opened = OpenElement & { name: string; untilMs: number }
type TenantOutside = {
  policy: EgressPolicy
  /** The rules that held when we last looked: one that is gone takes its connections with it. */
  held: readonly EgressRule[]
  names: Map<string, CachedName>
  asking: Map<string, Promise<CachedName>>
  opened: Map<string, Opened>
  seen: Map<string, EgressSeen>
  hits: Map<number, { count: number; lastMs: number }>
  second: number
  lookups: number
  fresh: { left: number; sinceMs: number }
}

const NOTHING: NameAnswer = { addresses: [], ttlSeconds: NO_SUCH_NAME_SECONDS }
const NO_CHAINS: OutsideChains = { chains: new Map(), pods: new Map() }

/** A question that cannot be answered now; asking later may help. */
export class NotNow extends Error {}

/**
 * What pods reach outside. Rules for networks become rules of the router; a rule for a name opens the addresses that the
 * name has, for the pod that asked, before it hears of them, and for as long as the answer may be used.
 */
export class Outside {
  private readonly options: OutsideOptions
  private readonly tenants = new Map<number, TenantOutside>()
  private readonly narrowings = new Map<number, readonly EgressNarrowing[]>()
  private readonly narrowed = new NarrowedPolicies()
  /** Tenants that have narrowed anew since the last look: what is open and not left any more goes. */
  private readonly narrowedAnew = new Set<number>()
  private readonly lookUps = new FairPlaces<TenantOutside>({
    placesMax: FORWARDER_SOCKETS_MAX,
    perHolderMax: TENANT_LOOKUPS_MAX,
  })
  private machine: MachineNetworks = { addresses: [], networks: [] }
  private chains = NO_CHAINS
  private counted = new Map<string, number>()
  private loadedMachine = ''
  /** Counts are kept in memory. */
  private readonly sinceMs: number
  problem: string | undefined

  constructor(options: OutsideOptions) {
    this.options = options
    this.sinceMs = options.clock.nowMs()
  }

  /** What holds from now on. Afterwards: `refresh`. */
  setPolicy(index: number, policy: EgressPolicy | undefined): void {
    const known = this.tenants.get(index)
    if (!policy) this.tenants.delete(index)
    else if (!known || !isDeepStrictEqual(known.policy, policy)) {
      const {
        held = [],
        opened = new Map<string, Opened>(),
        seen = new Map<string, EgressSeen>(),
      } = known ?? {}
      this.tenants.set(index, {
        policy,
        held,
        names: new Map(),
        asking: new Map(),
        opened,
        seen,
        // A rule keeps its count wherever it is in the list now.
        hits: new Map(
          policy.allow.flatMap((rule, at) => {
            const before = known?.policy.allow.findIndex((other) => isDeepStrictEqual(rule, other)) ?? -1
            const hits = known?.hits.get(before)
            return hits ? [[at, hits] as const] : []
          }),
        ),
        second: 0,
        lookups: 0,
        fresh: known?.fresh ?? { left: FRESH_NAMES_BURST, sinceMs: 0 },
      })
    }
    if (known && !policy) this.shutAll(known)
  }

  /** What the tenant leaves of it from now on. Afterwards: `refresh`. Answers whether anything is different. */
  setNarrowings(index: number, narrowings: readonly EgressNarrowing[] | undefined): boolean {
    if (isDeepStrictEqual(this.narrowings.get(index), narrowings)) return false
    if (narrowings) this.narrowings.set(index, narrowings)
    else this.narrowings.delete(index)
    this.narrowedAnew.add(index)
    return true
  }

  /** The rules as they hold for one pod. */
  private policyFor(index: number, policy: EgressPolicy, who: OutsideWho): EgressPolicy {
    return this.narrowed.for(policy, this.narrowings.get(index) ?? [], who, this.machine)
  }

  isOutgoing(index: number): boolean {
    return isOutgoing(this.tenants.get(index)?.policy, this.options.clock.nowMs())
  }

  get bitsPerSecond(): number {
    return this.options.uplink.bitsPerSecond
  }

  get isNeeded(): boolean {
    return [...this.tenants.keys()].some((index) => this.isOutgoing(index))
  }

  /** Makes table and uplink be as they should now. Called in turn with everything else that changes rules. */
  async refresh(): Promise<void> {
    const { nft, uplink, clock, log } = this.options
    try {
      if (!this.isNeeded) return await this.close()
      const nowMs = clock.nowMs()
      this.machine = uplink.observeMachine()
      const state = this.state(nowMs)
      const planned = planOutsideChains(state, this.narrowed)
      const script = [
        ...(await this.startOver()),
        this.machineScript(),
        renderOutsideChanged(this.chains, planned),
      ].join('')
      await nft.apply(script)
      this.chains = planned
      this.loadedMachine = renderOutsideMachine(this.machine)
      await this.endWhatEnded(nowMs)
      await uplink.ensure(state)
      if (this.problem !== undefined) log.info('the way outside is there again')
      this.problem = undefined
    } catch (error) {
      // Nothing is open that was not before; the next look tries again.
      if (this.problem === undefined) log.error('the way outside is not as it should be', { error })
      this.problem = error instanceof Error ? error.message : String(error)
    }
  }

  /** Pods came or went: what depends on them alone. */
  async podsChanged(): Promise<void> {
    if (!this.isNeeded || this.chains === NO_CHAINS) return
    const planned = planOutsideChains(this.state(this.options.clock.nowMs()), this.narrowed)
    const script = renderOutsideChanged(this.chains, planned)
    if (script === '') return
    await this.options.nft.apply(script)
    this.chains = planned
  }

  /** What only the labels that a pod had before let it reach is over. */
  podRelabelled(index: number): void {
    const tenant = this.tenants.get(index)
    if (!tenant || !this.isNeeded) return
    this.shutWhatEnded(index, tenant, this.options.clock.nowMs())
    this.cut(index)
  }

  /** Nothing that was opened for a pod is left for the next one with its address. */
  podGone(index: number, address: Ipv4): void {
    for (const [key, each] of this.tenants.get(index)?.opened ?? [])
      if (each.pod === address) this.shut(index, key, each)
  }

  /**
   * The addresses of a name, for a pod that asks. What it may not ask for does not exist.
   * @throws {NotNow} when it may, and there is no answer.
   */
  async resolve(podText: string, name: string): Promise<NameAnswer> {
    const address = ipv4FromText(podText)
    const index = address === undefined ? undefined : tenantIndexOf(address)
    const tenant = index === undefined ? undefined : this.tenants.get(index)
    const pod = this.options.pods().find((each) => each.address === address)
    if (!tenant || !pod || index === undefined || pod.index !== index) return NOTHING
    const { clock } = this.options
    const nowMs = clock.nowMs()
    const policy = this.policyFor(index, tenant.policy, pod)
    const rules = hostRules(policy, name, pod, nowMs)
    if (rules.length === 0 && learns(policy, nowMs) !== 'Allow') {
      this.see(tenant, pod, { name }, nowMs, false)
      return NOTHING
    }
    const exact = rules.some((rule) => rule.host === name)
    const found = await this.namesOf(tenant, name, { counts: !exact })
    // Much may have happened while we waited: the pod may be gone, and its address another's.
    const still = this.options.pods().find((each) => each.address === address)
    if (this.tenants.get(index) !== tenant || still?.id !== pod.id) return NOTHING
    const afterMs = clock.nowMs()
    const current = this.policyFor(index, tenant.policy, still)
    const ports = hostRules(current, name, still, afterMs).flatMap((rule) => rule.ports)
    const usable: string[] = []
    let untilMs = Infinity
    for (const each of found.addresses) {
      const place = placeOf(each.address, this.machine)
      if (place === 'never' || each.untilMs <= afterMs) continue
      if (place === 'inside' && !this.hasNetworkRule(current, each.address, still, afterMs)) continue
      if (place === 'public')
        for (const { protocol, port } of ports)
          this.openFor(
            tenant,
            { pod: pod.address, address: each.address, protocol, port },
            name,
            each.untilMs,
            afterMs,
          )
      usable.push(ipv4Text(each.address))
      untilMs = Math.min(untilMs, each.untilMs)
    }
    if (rules.length > 0)
      for (const rule of hostRules(tenant.policy, name, pod, afterMs))
        hit(tenant, tenant.policy.allow.indexOf(rule), 0, afterMs)
    if (usable.length === 0) return NOTHING
    if (rules.length === 0) this.see(tenant, pod, { name }, afterMs, true)
    return { addresses: usable, ttlSeconds: Math.max(1, Math.floor((untilMs - afterMs) / 1_000)) }
  }

  /** Reads what the router has counted. */
  async count(): Promise<void> {
    if (this.chains === NO_CHAINS && !this.isNeeded) return
    const nowMs = this.options.clock.nowMs()
    const counted = new Map<string, number>()
    const pods = new Map(this.options.pods().map((pod) => [pod.address, pod]))
    for (const set of ['used4', 'wanted4'] as const) {
      for (const each of connectionsIn(await this.options.nft.list('set', 'inet', OUTSIDE_TABLE, set))) {
        const key = `${set} ${each.source} ${each.target} ${each.protocol} ${each.port}`
        counted.set(key, each.packets)
        const before = this.counted.get(key) ?? 0
        // An element that ran out and came back counts from the beginning.
        const more = each.packets >= before ? each.packets - before : each.packets
        const pod = pods.get(each.source)
        if (more > 0 && pod) this.attribute(pod, each, more, set === 'used4', nowMs)
      }
    }
    this.counted = counted
  }

  report(index: number, tenantName: string): TenantEgress {
    const tenant = this.tenants.get(index)
    const nowMs = this.options.clock.nowMs()
    return {
      tenant: tenantName,
      uplink: this.problem ?? (this.isOutgoing(index) ? 'open' : 'not needed'),
      ...(tenant?.policy.learn === undefined ? {} : { learn: tenant.policy.learn }),
      rules: (tenant?.policy.allow ?? []).map((rule, at) => ({
        ...rule,
        expired: !isCurrent(rule, nowMs),
        connections: tenant?.hits.get(at)?.count ?? 0,
        ...(tenant?.hits.has(at) ? { lastUsedMs: tenant.hits.get(at)?.lastMs ?? 0 } : {}),
      })),
      seen: [...(tenant?.seen.values() ?? [])],
      since: this.sinceMs,
      now: nowMs,
    }
  }

  /** Removes what is on the machine, also what an earlier agent made. */
  async remove(): Promise<void> {
    await this.options.uplink.remove()
    this.chains = NO_CHAINS
    this.loadedMachine = ''
  }

  private async close(): Promise<void> {
    if (this.chains === NO_CHAINS && this.loadedMachine === '' && !this.options.router.hasUplink()) return
    await this.endWhatEnded(this.options.clock.nowMs())
    await this.options.uplink.remove()
    this.options.router.closeOutside()
    if (await this.isLoaded()) await this.options.nft.apply(`delete table inet ${OUTSIDE_TABLE}\n`)
    this.chains = NO_CHAINS
    this.loadedMachine = ''
    this.counted.clear()
    this.problem = undefined
  }

  private state(nowMs: number): OutsideState {
    return {
      policies: new Map([...this.tenants].map(([index, { policy }]) => [index, policy])),
      narrowings: this.narrowings,
      pods: this.options.pods(),
      machine: this.machine,
      nowMs,
    }
  }

  private async isLoaded(): Promise<boolean> {
    const all = await this.options.nft.list('counters').catch(() => [])
    return JSON.stringify(all).includes(`"${OUTSIDE_VERSION}"`)
  }

  /** The table from nothing, unless it is there; what an earlier agent has put into it is taken over. */
  private async startOver(): Promise<string[]> {
    const loaded = await this.isLoaded()
    if (loaded && this.chains === NO_CHAINS) {
      this.chains = chainsIn(await this.options.nft.list('table', 'inet', OUTSIDE_TABLE))
      this.loadedMachine = ''
    }
    if (loaded) return []
    this.chains = NO_CHAINS
    this.loadedMachine = ''
    for (const tenant of this.tenants.values()) tenant.opened.clear()
    return [renderOutsideTable()]
  }

  private machineScript(): string {
    const script = renderOutsideMachine(this.machine)
    return script === this.loadedMachine ? '' : script
  }

  /** A rule that is gone or over ends what it had allowed; so does an address that a name no longer has, by its time. */
  private async endWhatEnded(nowMs: number): Promise<void> {
    for (const [index, tenant] of this.tenants) {
      this.shutWhatEnded(index, tenant, nowMs)
      const held = tenant.policy.allow.filter((rule) => isCurrent(rule, nowMs))
      const lost = tenant.held.some((rule) => !held.some((other) => isDeepStrictEqual(rule, other)))
      if (this.narrowedAnew.has(index) || lost) {
        await this.purge(index)
        this.cut(index)
      }
      // Not before: what could not be ended now is ended at the next look.
      tenant.held = held
      this.narrowedAnew.delete(index)
    }
    const gone = this.tenants
    this.options.router.cutOutside(({ source }) => {
      const index = tenantIndexOf(source)
      return index === undefined || !gone.has(index)
    })
  }

  private shutWhatEnded(index: number, tenant: TenantOutside, nowMs: number): void {
    for (const [key, each] of tenant.opened) {
      const pod = this.options.pods().find(({ address }) => address === each.pod)
      if (each.untilMs <= nowMs) tenant.opened.delete(key)
      else if (!pod || !isHeld(this.policyFor(index, tenant.policy, pod), each, pod, nowMs))
        this.shut(index, key, each)
    }
  }

  /** Takes away what an earlier agent had opened: nobody knows any more for which name. */
  private async purge(index: number): Promise<void> {
    if (!(await this.isLoaded())) return
    const tenant = this.tenants.get(index)
    for (const each of connectionsIn(await this.options.nft.list('set', 'inet', OUTSIDE_TABLE, 'open4'))) {
      const element = { pod: each.source, address: each.target, protocol: each.protocol, port: each.port }
      if (tenantIndexOf(each.source) === index && !tenant?.opened.has(keyOf(element)))
        this.options.router.ruleSocket.shut(element)
    }
  }

  private cut(index: number): void {
    const tenant = this.tenants.get(index)
    const nowMs = this.options.clock.nowMs()
    this.options.router.cutOutside(({ source, target, targetPort: port, protocol: number }) => {
      if (tenantIndexOf(source) !== index) return false
      const pod = this.options.pods().find(({ address }) => address === source)
      if (!tenant || !pod) return true
      const protocol = number === IPPROTO_TCP ? 'TCP' : 'UDP'
      const key = keyOf({ pod: source, address: target, protocol, port })
      const asked = { address: target, who: pod, protocol, port } as const
      const policy = this.policyFor(index, tenant.policy, pod)
      return !tenant.opened.has(key) && !isOpenByNetwork(policy, asked, this.machine, nowMs)
    })
  }

  private hasNetworkRule(policy: EgressPolicy, address: Ipv4, who: OutsideWho, nowMs: number): boolean {
    return policy.allow.some((rule) =>
      rule.ports.some(({ protocol, port }) =>
        isOpenByNetwork({ allow: [rule] }, { address, who, protocol, port }, this.machine, nowMs),
      ),
    )
  }

  private shutAll(tenant: TenantOutside): void {
    for (const each of tenant.opened.values()) this.options.router.ruleSocket.shut(each)
    tenant.opened.clear()
  }

  private shut(index: number, key: string, each: Opened): void {
    this.options.router.ruleSocket.shut(each)
    this.tenants.get(index)?.opened.delete(key)
  }

  private openFor(
    tenant: TenantOutside,
    element: OpenElement,
    name: string,
    answerUntilMs: number,
    nowMs: number,
  ): void {
    const untilMs = answerUntilMs + NAME_GRACE_MS
    const key = keyOf(element)
    const known = tenant.opened.get(key)
    if (known && known.untilMs >= untilMs) return
    if (!known && tenant.opened.size >= netLimits.TENANT_OUTSIDE_OPEN_MAX) {
      for (const [old, { untilMs: over }] of tenant.opened) if (over <= nowMs) tenant.opened.delete(old)
      if (tenant.opened.size >= netLimits.TENANT_OUTSIDE_OPEN_MAX)
        throw new NotNow('The tenant has as many addresses open as it may')
    }
    this.options.router.ruleSocket.open(element, untilMs - nowMs)
    tenant.opened.set(key, { ...element, name, untilMs })
  }

  /** One look-up for all who ask at the same time; names of one tenant are never another's answer. */
  private async namesOf(
    tenant: TenantOutside,
    name: string,
    { counts }: { counts: boolean },
  ): Promise<CachedName> {
    const nowMs = this.options.clock.nowMs()
    const cached = tenant.names.get(name)
    if (cached && cached.untilMs > nowMs) return cached
    const asked = tenant.asking.get(name)
    if (asked) return await asked
    if (counts) {
      if (!takeFresh(tenant.fresh, nowMs))
        throw new NotNow('The tenant asks for too many different names under a wildcard')
    } else {
      const second = Math.floor(nowMs / 1_000)
      if (second !== tenant.second) [tenant.second, tenant.lookups] = [second, 0]
      if (++tenant.lookups > TENANT_LOOKUPS_PER_SECOND_MAX)
        throw new NotNow('The tenant looks names up too often')
    }
    const release = this.lookUps.take(tenant)
    if (!release) throw new NotNow('The tenant looks up too many names at once')
    const asking = this.ask(tenant, name)
    tenant.asking.set(name, asking)
    try {
      return await asking
    } finally {
      tenant.asking.delete(name)
      release()
    }
  }

  private async ask(tenant: TenantOutside, name: string): Promise<CachedName> {
    let found: Awaited<ReturnType<LookUpName>>
    try {
      found = await this.options.lookUp(name)
    } catch (cause) {
      throw new NotNow(`"${name}" could not be looked up`, { cause })
    }
    const nowMs = this.options.clock.nowMs()
    const addresses = found.slice(0, NAME_ADDRESSES_MAX).flatMap(({ address: text, ttlSeconds }) => {
      const address = ipv4FromText(text)
      const ttl = Math.min(Math.max(ttlSeconds, NAME_TTL_SECONDS_MIN), NAME_TTL_SECONDS_MAX)
      return address === undefined || !Number.isFinite(ttl) ? [] : [{ address, untilMs: nowMs + ttl * 1_000 }]
    })
    const untilMs =
      addresses.length === 0
        ? nowMs + NO_SUCH_NAME_SECONDS * 1_000
        : Math.min(...addresses.map((each) => each.untilMs))
    if (tenant.names.size >= TENANT_NAMES_KEPT_MAX) {
      const [oldest] = tenant.names.keys()
      if (oldest !== undefined) tenant.names.delete(oldest)
    }
    const cached = { addresses, untilMs }
    tenant.names.delete(name)
    tenant.names.set(name, cached)
    return cached
  }

  /** Which rule a connection belongs to, or that none does. */
  private attribute(
    pod: OutsidePodRecord,
    { target, protocol, port }: Connection,
    count: number,
    allowed: boolean,
    nowMs: number,
  ): void {
    const tenant = this.tenants.get(pod.index)
    if (!tenant) return
    const name = [...tenant.names].find(([, { addresses }]) =>
      addresses.some((a) => a.address === target),
    )?.[0]
    if (!allowed)
      return this.see(
        tenant,
        pod,
        { address: ipv4Text(target), protocol, port, ...(name ? { name } : {}) },
        nowMs,
        false,
        count,
      )
    const opened = tenant.opened.get(keyOf({ pod: pod.address, address: target, protocol, port }))
    let matched = false
    for (const [at, rule] of tenant.policy.allow.entries()) {
      const network = parseIpv4Network(rule.cidr)
      const target32 = { base: target, bits: 32 }
      const fits = rule.ports.some((p) => p.protocol === protocol && p.port <= port && port <= p.endPort)
      const byName = opened !== undefined && rule.host !== undefined && hostMatches(rule.host, opened.name)
      if (!fits || !appliesTo(rule, pod) || !(byName || (network && networkContains(network, target32))))
        continue
      hit(tenant, at, count, nowMs)
      matched = true
    }
    if (!matched)
      this.see(
        tenant,
        pod,
        { address: ipv4Text(target), protocol, port, ...(name ? { name } : {}) },
        nowMs,
        true,
        count,
      )
  }

  private see(
    tenant: TenantOutside,
    pod: OutsidePodRecord,
    what: Pick<EgressSeen, 'name' | 'address' | 'protocol' | 'port'>,
    nowMs: number,
    allowed: boolean,
    count = 1,
  ): void {
    const namespace = pod.namespace ?? ''
    const key = JSON.stringify([
      namespace,
      what.name,
      what.name === undefined ? what.address : '',
      what.protocol,
      what.port,
      allowed,
    ])
    const before = tenant.seen.get(key)
    // The last to be seen is the last in the map, so the first is the one to forget.
    tenant.seen.delete(key)
    if (tenant.seen.size >= OUTSIDE_SEEN_MAX) {
      const [oldest] = tenant.seen.keys()
      if (oldest !== undefined) tenant.seen.delete(oldest)
    }
    tenant.seen.set(key, { ...what, namespace, allowed, count: (before?.count ?? 0) + count, lastMs: nowMs })
    if (allowed || (before && nowMs - before.lastMs < 60_000)) return
    const target = what.name ?? what.address ?? ''
    const port = what.port === undefined ? '' : ` ${what.protocol} port ${what.port}`
    const narrowed = this.policyFor(pod.index, tenant.policy, pod) !== tenant.policy
    const whose = narrowed ? "the tenant's egress and its own EgressPolicies" : "the tenant's egress"
    this.options.onBlocked?.(pod, `No rule of ${whose} allows "${target}"${port}`)
  }
}

function hostRules(policy: EgressPolicy, name: string, who: OutsideWho, nowMs: number): EgressRule[] {
  return policy.allow.filter(
    (rule) =>
      rule.host !== undefined &&
      hostMatches(rule.host, name) &&
      isCurrent(rule, nowMs) &&
      appliesTo(rule, who),
  )
}

function isHeld(policy: EgressPolicy, each: Opened, who: OutsideWho, nowMs: number): boolean {
  return hostRules(policy, each.name, who, nowMs).some((rule) =>
    rule.ports.some(({ protocol, port }) => protocol === each.protocol && port === each.port),
  )
}

function hit(tenant: TenantOutside, at: number, count: number, nowMs: number): void {
  tenant.hits.set(at, { count: (tenant.hits.get(at)?.count ?? 0) + count, lastMs: nowMs })
}

/** A name that nobody wrote down can carry something out, so there are few of them. */
function takeFresh(fresh: { left: number; sinceMs: number }, nowMs: number): boolean {
  const refilled = Math.floor((nowMs - fresh.sinceMs) / FRESH_NAMES_REFILL_MS)
  if (refilled > 0) {
    fresh.left = Math.min(FRESH_NAMES_BURST, fresh.left + refilled)
    fresh.sinceMs = nowMs
  }
  if (fresh.left <= 0) return false
  fresh.left -= 1
  return true
}

function keyOf({ pod, address, protocol, port }: OpenElement): string {
  return `${pod} ${address} ${protocol} ${port}`
}

type Connection = { source: Ipv4; target: Ipv4; protocol: 'TCP' | 'UDP'; port: number; packets: number }

/** Chains are named by their content, so their names say what is in them. */
function chainsIn(entries: readonly unknown[]): OutsideChains {
  const chains = new Map<string, string>()
  const pods = new Map<string, string>()
  for (const entry of entries) {
    const name = field(field(entry, 'chain'), 'name')
    if (typeof name === 'string' && name.startsWith('rules_')) chains.set(name, '')
    const map = field(entry, 'map')
    const members = field(map, 'name') === 'rules4' ? field(map, 'elem') : undefined
    for (const member of Array.isArray(members) ? (members as unknown[]) : []) {
      const [address, verdict] = Array.isArray(member) ? (member as unknown[]) : []
      const target = field(field(verdict, 'goto'), 'target')
      if (typeof address === 'string' && typeof target === 'string') pods.set(address, target)
    }
  }
  return { chains, pods }
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined
}

/** The elements of a set as `nft -j` prints them; what is no TCP or UDP is left out. */
export function connectionsIn(entries: readonly unknown[]): Connection[] {
  return entries.flatMap((entry) => {
    const members = field(field(entry, 'set'), 'elem')
    if (!Array.isArray(members)) return []
    return (members as unknown[]).flatMap((member): Connection[] => {
      const parts = field(field(field(member, 'elem'), 'val'), 'concat')
      const counted = field(field(field(member, 'elem'), 'counter'), 'packets')
      const packets = typeof counted === 'number' ? counted : 0
      if (!Array.isArray(parts)) return []
      const [source, target] = [ipv4FromText(parts[0]), ipv4FromText(parts[1])]
      const protocol = parts[2] === 'tcp' ? 'TCP' : parts[2] === 'udp' ? 'UDP' : undefined
      const port: unknown = parts[3]
      return source === undefined || target === undefined || !protocol || typeof port !== 'number'
        ? []
        : [{ source, target, protocol, port, packets }]
    })
  })
}
