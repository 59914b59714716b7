import { createHash } from 'node:crypto'
import {
  type EgressPort,
  hostMatches,
  type Ipv4Network,
  matchesLabels,
  networkContains,
  parseIpv4Network,
} from '../../../../api/index.ts'
import type { EgressNarrowing, EgressPolicy, EgressRule, NarrowedTo } from '../../../../jail/index.ts'
import { type Ipv4, ipv4Text, tenantMark } from './addresses.ts'
import {
  NARROWED_COMPARISONS_MAX,
  NARROWED_RULES_KEPT_MAX,
  NARROWED_RULES_MAX,
  NARROWED_RULES_OF_TENANT_MAX,
  OUTSIDE_MEMORY_SECONDS,
  OUTSIDE_OPEN_MAX,
  OUTSIDE_RECORDED_MAX,
  OUTSIDE_RECORDED_PER_SECOND,
  TENANTS_MAX,
} from './limits.ts'

/** The router's link to the outside. Pods' links begin with the instance's prefix, so the names cannot meet. */
export const UPLINK = 'uplink'
/** The table in the router's namespace that says who may use the uplink for what. */
export const OUTSIDE_TABLE = 'outside'
/** What a connection carries that the table above has let through; the router's own rules ask for it. */
export const OUTSIDE_MARK = 0x6f757473

const network = (text: string): Ipv4Network => {
  const parsed = parseIpv4Network(text)
  if (!parsed) throw new Error(`"${text}" is no network`)
  return parsed
}

/**
 * Nobody reaches these through the uplink, whatever a rule says: "this host", loopback, link-local with the metadata
 * services, the platform's own ranges, addresses of protocols (RFC 6890), multicast, the reserved and the broadcast.
 */
export const NEVER: readonly Ipv4Network[] = [
  '0.0.0.0/8',
  '10.96.0.0/16',
  '10.128.0.0/9',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '192.0.0.0/24',
  '192.88.99.0/24',
  '224.0.0.0/3',
].map(network)

/** Reached only by a rule that lies within one: 0.0.0.0/0 means the public internet, not somebody's own networks. */
export const PRIVATE: readonly Ipv4Network[] = [
  '10.0.0.0/8',
  '100.64.0.0/10',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '198.18.0.0/15',
].map(network)

/** What is the machine's: its own addresses, and the networks that it is a part of. */
export type MachineNetworks = { addresses: readonly Ipv4[]; networks: readonly Ipv4Network[] }

/** Whom a rule is for. */
export type OutsideWho = { namespace?: string | undefined; labels?: readonly string[] | undefined }
export type OutsidePod = OutsideWho & { address: Ipv4; index: number }

export type OutsideState = {
  policies: ReadonlyMap<number, EgressPolicy>
  /** By which the tenants themselves narrow them. */
  narrowings?: ReadonlyMap<number, readonly EgressNarrowing[]>
  pods: readonly OutsidePod[]
  machine: MachineNetworks
  nowMs: number
}

/** Whether a tenant's packets have to get as far as the rules for the outside. */
export function isOutgoing(policy: EgressPolicy | undefined, nowMs: number): policy is EgressPolicy {
  if (!policy) return false
  return policy.allow.some((rule) => isCurrent(rule, nowMs)) || learns(policy, nowMs) !== undefined
}

export function isCurrent(rule: EgressRule, nowMs: number): boolean {
  return rule.untilMs === undefined || rule.untilMs > nowMs
}

export function appliesTo(rule: EgressRule, { namespace, labels = [] }: OutsideWho): boolean {
  return (
    (rule.namespaces === undefined || (namespace !== undefined && rule.namespaces.includes(namespace))) &&
    (rule.podLabels === undefined || rule.podLabels.every((label) => labels.includes(label)))
  )
}

export function learns(policy: EgressPolicy, nowMs: number): 'Block' | 'Allow' | undefined {
  return policy.learn && policy.learn.untilMs > nowMs ? policy.learn.unlisted : undefined
}

function insideNetworks(machine: MachineNetworks): readonly Ipv4Network[] {
  return [...PRIVATE, ...machine.networks]
}

const contains = (networks: readonly Ipv4Network[], address: Ipv4) =>
  networks.some((each) => networkContains(each, { base: address, bits: 32 }))

/** `never` for nobody, `inside` only by a rule for a private network, `public` by any rule. */
export function placeOf(address: Ipv4, machine: MachineNetworks): 'never' | 'inside' | 'public' {
  if (contains(NEVER, address) || machine.addresses.includes(address)) return 'never'
  return contains(insideNetworks(machine), address) ? 'inside' : 'public'
}

/** Whether a rule is about somebody's own network, rather than about the internet that has such networks in it. */
function isNear(rule: EgressRule, machine: MachineNetworks): boolean {
  const target = parseIpv4Network(rule.cidr)
  return target !== undefined && insideNetworks(machine).some((each) => networkContains(each, target))
}

/** Whether a rule for a network, current and for this pod, opens the port of the address. */
export function isOpenByNetwork(
  policy: EgressPolicy,
  { address, who, protocol, port }: { address: Ipv4; who: OutsideWho; protocol: 'TCP' | 'UDP'; port: number },
  machine: MachineNetworks,
  nowMs: number,
): boolean {
  const place = placeOf(address, machine)
  return (
    place !== 'never' &&
    policy.allow.some((rule) => {
      const target = parseIpv4Network(rule.cidr)
      return (
        target !== undefined &&
        isCurrent(rule, nowMs) &&
        appliesTo(rule, who) &&
        networkContains(target, { base: address, bits: 32 }) &&
        (place === 'public' || isNear(rule, machine)) &&
        rule.ports.some((p) => p.protocol === protocol && p.port <= port && port <= p.endPort)
      )
    })
  )
}

/**
 * The policy as it holds for one pod: the operator's, or what the tenant has left of it. A narrowed pod is held to what
 * is listed, also while the operator learns.
 */
export function narrowedPolicy(
  policy: EgressPolicy,
  narrowings: readonly EgressNarrowing[],
  who: OutsideWho,
  machine: MachineNetworks,
): EgressPolicy {
  if (narrowings.length === 0) return policy
  const labels = labelsOf(who)
  const own = narrowings.filter(
    ({ namespace, selector }) => namespace === who.namespace && matchesLabels(selector, labels),
  )
  if (own.length === 0) return policy
  const left = new Map<string, EgressRule>()
  // Both sides are as long as somebody makes them, and the node agent has work for others: what it does not get to is shut.
  let compared = 0
  const tos = own.flatMap(({ allow }) => allow.map((to) => ({ to, own: parseIpv4Network(to.cidr) })))
  for (const rule of policy.allow) {
    if (!appliesTo(rule, who)) continue
    const theirs = parseIpv4Network(rule.cidr)
    for (const { to, own: target } of tos) {
      if (++compared > NARROWED_COMPARISONS_MAX) return { allow: [...left.values()] }
      const place = commonPlace(rule, to, theirs, target)
      if (!place) continue
      compared += rule.ports.length * (to.ports?.length ?? 0)
      const ports = to.ports ? commonPorts(rule.ports, to.ports) : rule.ports
      if (ports.length === 0) continue
      const both = { ...rule, ...place, ports }
      // "Everything public" opens no private network, however a tenant cuts it.
      if (isNear(both, machine) && !isNear(rule, machine)) continue
      left.set(JSON.stringify([both.host, both.cidr, both.ports, both.untilMs]), both)
      if (left.size >= NARROWED_RULES_MAX) return { allow: [...left.values()] }
    }
  }
  return { allow: [...left.values()] }
}

/**
 * The same for many pods and questions, while what it follows from is the same: the work is that of the pods that differ,
 * and not of everything that they ask.
 */
export class NarrowedPolicies {
  private known = new WeakMap<readonly EgressNarrowing[], WeakMap<EgressPolicy, Narrowed>>()
  private networks = ''

  for(
    policy: EgressPolicy,
    narrowings: readonly EgressNarrowing[],
    who: OutsideWho,
    machine: MachineNetworks,
  ): EgressPolicy {
    if (narrowings.length === 0) return policy
    const networks = JSON.stringify(machine.networks)
    if (networks !== this.networks) this.known = new WeakMap()
    this.networks = networks
    const byPolicy = this.known.get(narrowings) ?? new WeakMap<EgressPolicy, Narrowed>()
    this.known.set(narrowings, byPolicy)
    const narrowed = byPolicy.get(policy) ?? { kept: 0, byWho: new Map<string, EgressPolicy>() }
    byPolicy.set(policy, narrowed)
    const key = JSON.stringify([who.namespace, who.labels])
    const before = narrowed.byWho.get(key)
    if (before) return before
    const left = narrowedPolicy(policy, narrowings, who, machine)
    narrowed.kept += left.allow.length + 1
    if (narrowed.kept > NARROWED_RULES_KEPT_MAX) {
      narrowed.byWho.clear()
      narrowed.kept = left.allow.length + 1
    }
    narrowed.byWho.set(key, left)
    return left
  }
}

/** By namespace and labels; with how many rules, and one more each, are kept. */
type Narrowed = { kept: number; byWho: Map<string, EgressPolicy> }

function labelsOf({ labels = [] }: OutsideWho): Record<string, string> {
  return Object.fromEntries(
    labels.map((label) => [label.slice(0, label.indexOf('=')), label.slice(label.indexOf('=') + 1)]),
  )
}

/** Where a rule and a tenant's own words both lead; undefined when that is nowhere. */
function commonPlace(
  rule: EgressRule,
  to: NarrowedTo,
  theirs: Ipv4Network | undefined,
  own: Ipv4Network | undefined,
): Pick<EgressRule, 'host' | 'cidr'> | undefined {
  if (rule.host !== undefined && to.host !== undefined) {
    const host = hostMatches(rule.host, to.host)
      ? to.host
      : hostMatches(to.host, rule.host)
        ? rule.host
        : undefined
    return host === undefined ? undefined : { host }
  }
  if (!theirs || !own) return undefined
  const cidr = networkContains(theirs, own) ? own : networkContains(own, theirs) ? theirs : undefined
  return cidr && { cidr: networkText(cidr) }
}

function commonPorts(some: readonly EgressPort[], others: readonly EgressPort[]): EgressPort[] {
  const common: EgressPort[] = []
  for (const a of some)
    for (const b of others) {
      const [port, endPort] = [Math.max(a.port, b.port), Math.min(a.endPort, b.endPort)]
      if (a.protocol === b.protocol && port <= endPort) common.push({ protocol: a.protocol, port, endPort })
    }
  return common
}

/** The private networks that any tenant has a rule for: the machine's side lets only these through. */
export function nearNetworks({ policies, machine, nowMs }: OutsideState): readonly Ipv4Network[] {
  const all = [...policies.values()].flatMap(({ allow }) =>
    allow.flatMap((rule) =>
      isCurrent(rule, nowMs) && isNear(rule, machine) ? [network(rule.cidr ?? '')] : [],
    ),
  )
  return [...new Map(all.map((each) => [networkText(each), each])).values()]
}

/**
 * Runs before the router's own rules, and decides only about new connections that would leave through the uplink. Where
 * it does not run, nothing carries the mark, and the router's rules let nothing out.
 */
const RULES = `
  set never4 { type ipv4_addr; flags interval; elements = { ${NEVER.map(networkText).join(', ')} } }
  set machine4 { type ipv4_addr; }
  set inside4 { type ipv4_addr; flags interval; auto-merge; }
  set open4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags timeout; size ${OUTSIDE_OPEN_MAX}; }
  map rules4 { type ipv4_addr : verdict; }
  set used4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags dynamic,timeout; timeout ${OUTSIDE_MEMORY_SECONDS}s; size ${OUTSIDE_RECORDED_MAX}; }
  set wanted4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags dynamic,timeout; timeout ${OUTSIDE_MEMORY_SECONDS}s; size ${OUTSIDE_RECORDED_MAX}; }
  set pace { type mark; flags dynamic,timeout; timeout ${OUTSIDE_MEMORY_SECONDS}s; size ${TENANTS_MAX * 2}; }
  counter blocked { }

  chain forward {
    type filter hook forward priority filter - 1; policy accept;
    oifname != "${UPLINK}" accept
    ct state new goto decide
  }

  chain decide {
    ip daddr @never4 goto refuse
    ip daddr @machine4 goto refuse
    ip saddr . ip daddr . meta l4proto . th dport @open4 goto allow
    ip saddr vmap @rules4
    goto refuse
  }

  chain allow {
    ct mark set ${OUTSIDE_MARK}
    update @used4 { ip saddr . ip daddr . meta l4proto . th dport counter }
    accept
  }

  # What is written down is bounded for each tenant, so that one cannot use up the memory for all.
  chain refuse {
    counter name blocked
    update @pace { meta mark limit rate over ${OUTSIDE_RECORDED_PER_SECOND}/second burst 50 packets } drop
    update @wanted4 { ip saddr . ip daddr . meta l4proto . th dport counter }
    drop
  }
`

export const OUTSIDE_VERSION = `version_${createHash('sha256').update(RULES).digest('hex').slice(0, 16)}`

/** The table without any allowance, replacing one that may be there. */
export function renderOutsideTable(): string {
  return [
    `table inet ${OUTSIDE_TABLE} { }`,
    `delete table inet ${OUTSIDE_TABLE}`,
    `table inet ${OUTSIDE_TABLE} {${RULES}\n  counter ${OUTSIDE_VERSION} { }\n}`,
    '',
  ].join('\n')
}

/** What the rules for networks should be: chains by name, and which pod follows which. */
export type OutsideChains = { chains: ReadonlyMap<string, string>; pods: ReadonlyMap<string, string> }

export function planOutsideChains(
  state: OutsideState,
  narrowed: NarrowedPolicies = new NarrowedPolicies(),
): OutsideChains {
  const chains = new Map<string, string>()
  const pods = new Map<string, string>()
  const rulesOf = new Map<number, number>()
  for (const pod of state.pods) {
    const whole = state.policies.get(pod.index)
    if (!whole) continue
    const policy = narrowed.for(whole, state.narrowings?.get(pod.index) ?? [], pod, state.machine)
    const body = renderChain(policy, pod, state)
    if (body === '') continue
    const hash = createHash('sha256').update(body).digest('hex').slice(0, 24)
    const name = `rules_${tenantMark(pod.index)}_${hash}`
    if (policy !== whole && !chains.has(name)) {
      // All tenants' rules are loaded together, so one that cuts its own to pieces must not make them too many for all.
      const rules = (rulesOf.get(pod.index) ?? 0) + policy.allow.length
      if (rules > NARROWED_RULES_OF_TENANT_MAX) continue
      rulesOf.set(pod.index, rules)
    }
    chains.set(name, body)
    pods.set(ipv4Text(pod.address), name)
  }
  return { chains, pods }
}

function renderChain(policy: EgressPolicy, who: OutsideWho, { machine, nowMs }: OutsideState): string {
  const rules = policy.allow.filter(
    (rule) => rule.cidr !== undefined && isCurrent(rule, nowMs) && appliesTo(rule, who),
  )
  const learning = learns(policy, nowMs)
  const [near, far] = [rules.filter((r) => isNear(r, machine)), rules.filter((r) => !isNear(r, machine))]
  if (rules.length === 0 && learning !== 'Allow') return ''
  return [
    ...near.map(renderRule),
    'ip daddr @inside4 goto refuse',
    ...far.map(renderRule),
    ...(learning === 'Allow'
      ? [`${renderUntil(policy.learn?.untilMs)}meta l4proto { tcp, udp } goto allow`]
      : []),
    'goto refuse',
  ].join('\n')
}

function renderRule(rule: EgressRule): string {
  const target = network(rule.cidr ?? '')
  const to = target.bits === 0 ? '' : `ip daddr ${networkText(target)} `
  return `${to}meta l4proto . th dport { ${mergePorts(rule.ports).join(', ')} } ${renderUntil(rule.untilMs)}goto allow`
}

/** The kernel looks at its own clock, so that a rule ends also while nobody is there to take it away. */
function renderUntil(untilMs: number | undefined): string {
  return untilMs === undefined ? '' : `meta time < ${Math.floor(untilMs / 1_000)} `
}

/** nft refuses a set whose ranges overlap. */
function mergePorts(ports: EgressRule['ports']): string[] {
  return (['TCP', 'UDP'] as const).flatMap((protocol) => {
    const merged: { port: number; endPort: number }[] = []
    const own = ports.filter((p) => p.protocol === protocol).sort((a, b) => a.port - b.port)
    for (const { port, endPort } of own) {
      const last = merged.at(-1)
      if (last && port <= last.endPort + 1) last.endPort = Math.max(last.endPort, endPort)
      else merged.push({ port, endPort })
    }
    return merged.map(
      ({ port, endPort }) => `${protocol.toLowerCase()} . ${port === endPort ? port : `${port}-${endPort}`}`,
    )
  })
}

/** One transaction from one set of chains to another; what is in `open4` stays. Empty when nothing differs. */
export function renderOutsideChanged(from: OutsideChains, to: OutsideChains): string {
  const lines: string[] = []
  const t = `inet ${OUTSIDE_TABLE}`
  for (const [name, body] of to.chains) {
    if (from.chains.has(name)) continue
    lines.push(`add chain ${t} ${name}`, ...body.split('\n').map((rule) => `add rule ${t} ${name} ${rule}`))
  }
  const gone = [...from.pods].filter(([address, chain]) => to.pods.get(address) !== chain)
  const fresh = [...to.pods].filter(([address, chain]) => from.pods.get(address) !== chain)
  if (gone.length > 0)
    lines.push(`delete element ${t} rules4 { ${gone.map(([address]) => address).join(', ')} }`)
  if (fresh.length > 0)
    lines.push(`add element ${t} rules4 { ${fresh.map(([a, chain]) => `${a} : goto ${chain}`).join(', ')} }`)
  for (const name of from.chains.keys())
    if (!to.chains.has(name)) lines.push(`flush chain ${t} ${name}`, `delete chain ${t} ${name}`)
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`
}

export function renderOutsideMachine(machine: MachineNetworks): string {
  const t = `inet ${OUTSIDE_TABLE}`
  const set = (name: string, elements: readonly string[]) => [
    `flush set ${t} ${name}`,
    ...(elements.length === 0 ? [] : [`add element ${t} ${name} { ${[...new Set(elements)].join(', ')} }`]),
  ]
  return [
    ...set('machine4', machine.addresses.map(ipv4Text)),
    ...set('inside4', insideNetworks(machine).map(networkText)),
    '',
  ].join('\n')
}

/**
 * The table at the machine's end of the uplink. The machine itself is closed to what comes from there, and so are all
 * its links but the one that leads outside. Forwarding is switched on for that link alone; where it was off before, the
 * last rule keeps everything else on the link as it was.
 */
export function renderMachineTable({
  table,
  link,
  device,
  router,
  wasClosed,
  state,
}: {
  table: string
  /** The machine's end of the uplink. */
  link: string
  /** The link that leads outside. */
  device: string
  /** The router's address on the uplink. */
  router: string
  wasClosed: boolean
  state: OutsideState
}): string {
  const near = nearNetworks(state).map(networkText)
  const inside = insideNetworks(state.machine).map(networkText)
  return `table inet ${table} { }
delete table inet ${table}
table inet ${table} {
  set never4 { type ipv4_addr; flags interval; elements = { ${NEVER.map(networkText).join(', ')} } }
  set inside4 { type ipv4_addr; flags interval; auto-merge; elements = { ${inside.join(', ')} } }
  set near4 { type ipv4_addr; flags interval; auto-merge;${near.length === 0 ? '' : ` elements = { ${near.join(', ')} }`} }
${wasClosed ? `  counter forwarding_was_off_${device} { }\n` : ''}
  chain input {
    type filter hook input priority filter - 5; policy accept;
    iifname "${link}" drop
  }

  chain output {
    type filter hook output priority filter - 5; policy accept;
    oifname "${link}" ct state != { established, related } drop
  }

  chain forward {
    type filter hook forward priority filter - 5; policy accept;
    iifname "${link}" goto leaving
    oifname "${link}" ct state { established, related } accept
    oifname "${link}" drop
${wasClosed ? `    iifname "${device}" drop\n` : ''}  }

  chain leaving {
    meta nfproto != ipv4 drop
    oifname != "${device}" drop
    ip saddr != ${router} drop
    ip daddr @never4 drop
    ip daddr @near4 accept
    ip daddr @inside4 drop
    accept
  }

  chain translate {
    type nat hook postrouting priority srcnat - 5; policy accept;
    ip saddr ${router} oifname "${device}" masquerade
  }
}
`
}

export function networkText({ base, bits }: Ipv4Network): string {
  return `${ipv4Text(base)}/${bits}`
}
