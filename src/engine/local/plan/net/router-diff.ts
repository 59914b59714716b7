import { ipv4FromText, tenantMark } from './addresses.ts'
import { LIMIT_SETS, parseLimit, renderLimitsChanged, type RuleLimit } from './bandwidth.ts'
import { type IsolationRules, elementKey, isOwnSet, renderIsolationChanged } from './isolation.ts'
import {
  RULES_VERSION,
  type RouterState,
  connectorElements,
  podElements,
  renderRuleset,
  renderTenantAdded,
  renderTenantRemoved,
} from './ruleset.ts'
import { renderServiceChain } from './services.ts'
import { type Element, TABLE, renderElements } from './table.ts'

/** What `nft` found in the router's namespace. */
export type ObservedRules = {
  version: string | undefined
  /** Tenant indexes that have their pair, maps and counters. */
  tenants: readonly number[]
  elements: readonly Element[]
  /** Service key to the chain that it leads to. */
  services: ReadonlyMap<string, string>
  chains: readonly string[]
  /** What is in its chains and sets follows from their names; what is in groups and maps is in `elements`. */
  isolation: IsolationRules
  limits: readonly RuleLimit[]
}

/**
 * The one transaction that makes the rules right; empty when they are. Rules of another version, or none, are replaced
 * as a whole; otherwise only elements that differ are touched, so no counter starts again and no connection notices.
 */
export function planRulesRepair(observed: ObservedRules | undefined, desired: RouterState): string {
  if (observed?.version !== RULES_VERSION) return renderRuleset(desired)
  const ports = [...desired.services.values()].flatMap((table) => [...table])
  const portOf = new Map(ports)
  const elements = [...desired.pods.flatMap(podElements), ...connectorElements(desired)]
  const wanted = new Map(elements.map((e) => [`${e.set} ${e.text}`, e]))
  const there = new Map(observed.elements.map((e) => [`${e.set} ${e.text}`, e]))
  const chainsWanted = new Map(ports.map(([, port]) => [port.chain, port]))
  const lines: string[] = []
  const wrong = [...observed.services]
    .filter(([key, chain]) => portOf.get(key)?.chain !== chain)
    .map(([key]) => key)
  const missing = ports.filter(([key, port]) => observed.services.get(key) !== port.chain)
  if (wrong.length > 0) lines.push(`delete element inet ${TABLE} services4 { ${wrong.join(', ')} }`)
  lines.push(
    renderElements(
      'delete',
      [...there].filter(([k]) => !wanted.has(k)).map(([, e]) => e),
    ),
  )
  const isolation = renderIsolationChanged(observed.isolation, desired.isolation)
  lines.push(renderLimitsChanged(observed.limits, desired.limits))
  for (const index of observed.tenants)
    if (!desired.tenants.includes(index)) lines.push(renderTenantRemoved(index))
  for (const index of desired.tenants)
    if (!observed.tenants.includes(index)) lines.push(renderTenantAdded(index))
  lines.push(
    renderElements(
      'add',
      [...wanted].filter(([k]) => !there.has(k)).map(([, e]) => e),
    ),
  )
  for (const [chain, port] of chainsWanted) {
    if (observed.chains.includes(chain)) continue
    lines.push(
      `add chain inet ${TABLE} ${chain}`,
      `add rule inet ${TABLE} ${chain} ${renderServiceChain(port)}`,
    )
  }
  lines.push(isolation)
  if (missing.length > 0)
    lines.push(
      `add element inet ${TABLE} services4 { ${missing.map(([key, p]) => `${key} : goto ${p.chain}`).join(', ')} }`,
    )
  for (const chain of observed.chains)
    if (!chainsWanted.has(chain))
      lines.push(`flush chain inet ${TABLE} ${chain}`, `delete chain inet ${TABLE} ${chain}`)
  const script = lines.filter((line) => line !== '').join('\n')
  return script === '' ? '' : `${script}\n`
}

/** Reads `nft -j list table`; undefined when it is not what we would have made, so that it gets replaced. */
export function parseRules(json: unknown): ObservedRules | undefined {
  const items = field(json, 'nftables')
  if (!Array.isArray(items)) return undefined
  let version: string | undefined
  const tenants: number[] = []
  const elements: Element[] = []
  const services = new Map<string, string>()
  const chains: string[] = []
  const classes = new Map<string, number>()
  const ownChains = new Map<string, readonly string[]>()
  const ownSets = new Map<string, string>()
  const ownElements: Element[] = []
  const limits: RuleLimit[] = []
  for (const item of items as unknown[]) {
    const counter = field(field(item, 'counter'), 'name')
    if (typeof counter === 'string' && counter.startsWith('version_')) version = counter
    const chain = field(field(item, 'chain'), 'name')
    if (typeof chain === 'string' && chain.startsWith('service_')) chains.push(chain)
    if (typeof chain === 'string' && chain.startsWith('policy_')) ownChains.set(chain, [])
    const set = field(item, 'set') ?? field(item, 'map')
    const name = field(set, 'name')
    const members = field(set, 'elem')
    if (typeof name === 'string' && isOwnSet(name)) ownSets.set(name, '')
    if (typeof name !== 'string' || !Array.isArray(members)) continue
    for (const member of members as unknown[]) {
      if (name === 'pair') {
        const [mark, other] = concat(member) ?? []
        // A pair of two tenants is nothing that we make.
        if (typeof mark !== 'number' || mark !== other) return undefined
        tenants.push(mark - 1)
      } else if (name === 'tenant4') {
        const [address, mark] = Array.isArray(member) ? (member as unknown[]) : []
        if (ipv4FromText(address) === undefined || typeof mark !== 'number') return undefined
        elements.push({ set: name, text: `${String(address)} : ${mark}` })
      } else if (LIMIT_SETS.some((each) => each === name)) {
        const [mark, object] = Array.isArray(member) ? (member as unknown[]) : []
        const limit = parseLimit(name, mark, object)
        if (!limit) return undefined
        limits.push(limit)
      } else if (name === 'connectors') {
        elements.push({ set: name, text: String(member) })
      } else if (name === 'source4' || name === 'link4') {
        const parts = concat(member)
        if (!parts) return undefined
        elements.push({ set: name, text: parts.join(' . ') })
      } else if (name === 'ingress4' || name === 'egress4') {
        const [address, mark] = Array.isArray(member) ? (member as unknown[]) : []
        if (ipv4FromText(address) === undefined || typeof mark !== 'number') return undefined
        ownElements.push({ set: name, text: `${String(address)} : ${mark}` })
      } else if (name === 'policies') {
        const [number, verdict] = Array.isArray(member) ? (member as unknown[]) : []
        const jump = field(field(verdict, 'jump'), 'target')
        const target = jump ?? field(field(verdict, 'goto'), 'target')
        if (typeof number !== 'number' || typeof target !== 'string') return undefined
        if (jump !== undefined) classes.set(target, number)
        ownElements.push({ set: name, text: `${number} : ${jump === undefined ? 'goto' : 'jump'} ${target}` })
      } else if (name.startsWith('group_')) {
        if (ipv4FromText(member) === undefined) return undefined
        ownElements.push({ set: name, text: String(member) })
      } else if (name === 'services4') {
        const [key, verdict] = Array.isArray(member) ? (member as unknown[]) : []
        const parts = concat(key)
        const target = field(field(verdict, 'goto'), 'target')
        if (!parts || typeof target !== 'string') return undefined
        services.set(parts.join(' . '), target)
      }
    }
  }
  return tenants.every((t) => Number.isInteger(t) && tenantMarkOrZero(t) > 0)
    ? {
        version,
        tenants,
        elements,
        services,
        chains,
        limits,
        isolation: {
          classes,
          chains: ownChains,
          sets: ownSets,
          elements: new Map(ownElements.map((element) => [elementKey(element), element])),
        },
      }
    : undefined
}

function tenantMarkOrZero(index: number): number {
  try {
    return tenantMark(index)
  } catch {
    return 0
  }
}

function concat(value: unknown): (string | number)[] | undefined {
  const parts = field(value, 'concat')
  return Array.isArray(parts) && parts.every((p) => typeof p === 'string' || typeof p === 'number')
    ? parts
    : undefined
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined
}
