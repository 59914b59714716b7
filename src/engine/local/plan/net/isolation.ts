import { createHash } from 'node:crypto'
import type { AddressRange, FlowRule, NetworkIsolation, PortRange } from '../../../../jail/index.ts'
import { assert } from '../../../../stdx/index.ts'
import { GATEWAY, type Ipv4, ipv4Text, tenantMark } from './addresses.ts'
import { type Element, TABLE, renderElements } from './table.ts'

/**
 * The rules of one tenant's network policies, whoever its pods are: chains and sets that change with the policies only.
 * A pod that comes or goes changes elements, which costs the same however many there are.
 */
export type IsolationPlan = {
  /** Chain name to its rules. */
  chains: ReadonlyMap<string, readonly string[]>
  /** Set name to what it is declared with. */
  sets: ReadonlyMap<string, string>
  /** What concerns a pod; whoever is not in it is not known yet. */
  pods: ReadonlyMap<string, PodIsolation>
  /** Groups that the resolver is in and that are about its port alone. */
  resolverGroups: readonly string[]
}
type PodIsolation = { ingress?: string; egress?: string; groups: readonly string[] }

/** What the router has of it: how `from` becomes `to` follows from names, which say the content of what they name. */
export type IsolationRules = {
  /** Chain name to the number that pods are led to it by. */
  classes: ReadonlyMap<string, number>
  chains: ReadonlyMap<string, readonly string[]>
  sets: ReadonlyMap<string, string>
  /** By set and text; those of pods change while they come and go. */
  elements: Map<string, Element>
}

export function noIsolation(): IsolationRules {
  return { classes: new Map(), chains: new Map(), sets: new Map(), elements: new Map() }
}

/** Drops and counts; a pod that nobody has told us of yet is led there in both directions. */
const DENY = 'deny'
const CLASS_BITS = 16
const DNS_PORT = 53
const PROTOCOLS = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' } as const
const ANY_ADDRESS: AddressRange = { first: '0.0.0.0', last: '255.255.255.255' }

/**
 * Requires: `isolation` went through `parseTenantNetwork`, which bounds its size, checks every name and number, and that
 * ranges do not overlap.
 */
export function planIsolation(index: number, isolation: NetworkIsolation): IsolationPlan {
  const mark = tenantMark(index)
  const chains = new Map<string, readonly string[]>()
  const sets = new Map<string, string>()
  const pods = new Map<string, { ingress?: string; egress?: string; groups: string[] }>(
    isolation.pods.map((pod) => [pod, { groups: [] }]),
  )
  const podAt = (place: number) => {
    const pod = pods.get(isolation.pods[place] ?? '')
    assert(pod, `The isolation of tenant ${index} speaks of pod ${place}, which it does not list`)
    return pod
  }
  const groupSet = (name: string) => `group_${mark}_${name}`
  for (const group of isolation.groups) {
    sets.set(groupSet(group.name), 'type ipv4_addr;')
    for (const place of group.pods) podAt(place).groups.push(groupSet(group.name))
  }
  const intervals = (kind: string, type: string, ranges: readonly string[]) => {
    const name = `${kind}_${mark}_${hash(ranges.join())}`
    sets.set(name, `type ${type}; flags interval; elements = { ${ranges.join(', ')} };`)
    return name
  }
  const addresses = (field: 'ip saddr' | 'ip daddr', ranges: readonly AddressRange[]) => {
    const [only] = ranges
    if (!only) return []
    if (ranges.length === 1)
      return [
        only.first === ANY_ADDRESS.first && only.last === ANY_ADDRESS.last ? '' : `${field} ${span(only)}`,
      ]
    return [`${field} @${intervals('blocks', 'ipv4_addr', ranges.map(span))}`]
  }
  const portsOf = (ranges: readonly PortRange[]) =>
    [...Map.groupBy(ranges, (range) => range.protocol)].map(([protocol, some]) => {
      const [only] = some
      assert(only, 'A protocol without ports has no group')
      const l4proto = `meta l4proto ${PROTOCOLS[protocol]}`
      if (some.length > 1) return `${l4proto} th dport @${intervals('ports', 'inet_service', some.map(span))}`
      return only.first === 1 && only.last === 65_535 ? l4proto : `${l4proto} th dport ${span(only)}`
    })
  const withResolver = new Set(isolation.groups.filter((g) => g.resolver).map((g) => g.name))
  // By its port, because at the same address pods reach their API too.
  const resolverLines = (destination: string, ports: readonly PortRange[] | undefined) =>
    (['UDP', 'TCP'] as const)
      .filter(
        (protocol) =>
          !ports || ports.some((r) => r.protocol === protocol && r.first <= DNS_PORT && DNS_PORT <= r.last),
      )
      .map(
        (protocol) =>
          `${destination}ip daddr ${GATEWAY} meta l4proto ${PROTOCOLS[protocol]} th dport ${DNS_PORT} return`,
      )
  const linesOf = ({ peers, within, ports }: FlowRule, field: 'ip saddr' | 'ip daddr') => {
    const sides = peers
      ? [...peers.groups.map((name) => `${field} @${groupSet(name)}`), ...addresses(field, peers.blocks)]
      : ['']
    const destination = within === undefined ? '' : `ip daddr @${groupSet(within)} `
    const lines = sides.flatMap((side) =>
      (ports ? portsOf(ports) : ['']).map(
        (port) => destination + [side, port, 'return'].filter((part) => part !== '').join(' '),
      ),
    )
    const asks = field === 'ip daddr' && peers?.groups.some((name) => withResolver.has(name))
    return asks ? [...lines, ...resolverLines(destination, ports)] : lines
  }
  for (const [direction, field] of [
    ['ingress', 'ip saddr'],
    ['egress', 'ip daddr'],
  ] as const)
    for (const { pods: places, rules } of isolation[direction]) {
      const lines = [...new Set(rules.flatMap((rule) => linesOf(rule, field))), `goto ${DENY}`]
      // Named by content, so that an unchanged chain is left alone whatever else changes.
      const chain = `policy_${mark}_${hash(lines.join('\n'))}`
      chains.set(chain, lines)
      for (const place of places) podAt(place)[direction] = chain
    }
  const within = new Set(isolation.egress.flatMap(({ rules }) => rules.map((rule) => rule.within)))
  const resolverGroups = [...withResolver].filter((name) => within.has(name)).map(groupSet)
  return { chains, sets, pods, resolverGroups }
}

/**
 * What the router shall have. Classes are kept from `before`, so that a chain that stays keeps its number.
 * `plan` is undefined for a tenant whose pods nothing isolates.
 */
export function planIsolationRules(
  index: number,
  plan: IsolationPlan | undefined,
  pods: Iterable<{ id: string; address: Ipv4 }>,
  before: ReadonlyMap<string, number>,
): IsolationRules {
  if (!plan) return noIsolation()
  const base = unknownClass(index)
  const used = new Set(before.values())
  const classes = new Map<string, number>()
  let next = base + 1
  for (const chain of plan.chains.keys()) {
    while (used.has(next)) next++
    const number = before.get(chain) ?? next++
    assert(number > base && number < base + 2 ** CLASS_BITS, `Tenant ${index} has too many isolations`)
    classes.set(chain, number)
  }
  const elements = [
    { set: 'policies', text: `${base} : goto ${DENY}` },
    ...[...classes].map(([chain, number]) => ({ set: 'policies', text: `${number} : jump ${chain}` })),
    ...plan.resolverGroups.map((set) => ({ set, text: GATEWAY })),
    ...[...pods].flatMap(({ id, address }) => isolationElements(index, plan, classes, id, address)),
  ]
  return {
    classes,
    chains: plan.chains,
    sets: plan.sets,
    elements: new Map(elements.map((element) => [elementKey(element), element])),
  }
}

/** Elements of one pod. Never one that needs rules: those are there before the pod is. */
export function isolationElements(
  index: number,
  plan: IsolationPlan | undefined,
  classes: ReadonlyMap<string, number>,
  id: string,
  address: Ipv4,
): Element[] {
  if (!plan) return []
  const pod = plan.pods.get(id)
  const text = ipv4Text(address)
  const led = (map: 'ingress4' | 'egress4', chain: string | undefined): Element[] => {
    const number = pod ? chain && classes.get(chain) : unknownClass(index)
    return number === undefined || number === '' ? [] : [{ set: map, text: `${text} : ${number}` }]
  }
  return [
    ...led('ingress4', pod?.ingress),
    ...led('egress4', pod?.egress),
    ...(pod?.groups ?? []).map((set) => ({ set, text })),
  ]
}

/**
 * From one to the other in one transaction: whoever is allowed before and after is allowed at every moment, and nobody
 * else ever. Empty when nothing differs.
 */
export function renderIsolationChanged(from: IsolationRules, to: IsolationRules): string {
  const gone = [...from.elements].filter(([key]) => !to.elements.has(key)).map(([, element]) => element)
  const fresh = [...to.elements].filter(([key]) => !from.elements.has(key)).map(([, element]) => element)
  const lines: string[] = []
  for (const [name, declaration] of to.sets)
    if (!from.sets.has(name)) lines.push(`add set inet ${TABLE} ${name} { ${declaration} }`)
  for (const [name, rules] of to.chains) {
    if (from.chains.has(name)) continue
    lines.push(`add chain inet ${TABLE} ${name}`)
    for (const rule of rules) lines.push(`add rule inet ${TABLE} ${name} ${rule}`)
  }
  lines.push(
    // A set that goes takes its elements along.
    renderElements(
      'delete',
      gone.filter(({ set }) => !isOwnSet(set) || to.sets.has(set)),
    ),
    renderElements('add', fresh),
  )
  const chainsGone = [...from.chains.keys()].filter((name) => !to.chains.has(name))
  for (const name of chainsGone) lines.push(`flush chain inet ${TABLE} ${name}`)
  for (const name of chainsGone) lines.push(`delete chain inet ${TABLE} ${name}`)
  for (const name of from.sets.keys()) if (!to.sets.has(name)) lines.push(`delete set inet ${TABLE} ${name}`)
  return lines.filter((line) => line !== '').join('\n')
}

/** Everything that several tenants have, as one. */
export function mergeIsolation(all: Iterable<IsolationRules>): IsolationRules {
  const each = [...all]
  return {
    classes: new Map(each.flatMap((rules) => [...rules.classes])),
    chains: new Map(each.flatMap((rules) => [...rules.chains])),
    sets: new Map(each.flatMap((rules) => [...rules.sets])),
    elements: new Map(each.flatMap((rules) => [...rules.elements])),
  }
}

export function elementKey({ set, text }: Element): string {
  return `${set} ${text}`
}

/** Sets that one tenant's policies made; their names tell whose, and what is in those that never change. */
export function isOwnSet(name: string): boolean {
  return /^(group|blocks|ports)_/.test(name)
}

/** Above every tenant's mark, so that the two never mean each other. */
function unknownClass(index: number): number {
  return tenantMark(index) * 2 ** CLASS_BITS
}

function span({ first, last }: { first: string | number; last: string | number }): string {
  return first === last ? `${first}` : `${first}-${last}`
}

function hash(content: string): string {
  return createHash('sha256').update(content).digest('hex').slice(0, 24)
}
