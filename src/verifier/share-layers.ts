import { API_SERVICE } from '../api/index.ts'
import { type LayerResult, type MachinePosture, packetFrom, result, type TenantPosture } from './layers.ts'
import { RESOLVER } from './platform-layers.ts'
import { renderFrame, runBpf } from './posture/classic-bpf.ts'
import type { RouterPosture } from './posture/network.ts'

/** Layers that divide the network among tenants. */

/** The links on which packets of a tenant's pods wait. */
export function shareLinksOf({ links }: TenantPosture): Set<string> {
  return new Set(
    links.flatMap(({ shares }) => [shares?.sent, shares?.received].flatMap((share) => share?.link ?? [])),
  )
}

/** The limits of the loaded rules that a tenant's packets count for. */
export function limitNamesOf(tenant: TenantPosture, router: RouterPosture): Set<string> {
  return new Set(limitsOf(tenant, router).flatMap(({ received }) => received.map(({ name }) => name)))
}

/** From every pod to the next one: what is met at the entrance, and all that is met on the way. */
function limitsOf({ links }: TenantPosture, { ruleset }: RouterPosture) {
  return links.map((from, at) => {
    const to = links[(at + 1) % links.length] ?? from
    const packet = packetFrom(from, { daddr: to.address, oifname: to.interfaceName, ctState: 'established' })
    return {
      from,
      sent: ruleset.limitsOn(packet, ['prerouting']),
      received: ruleset.limitsOn(packet, ['prerouting', 'forward', 'postrouting']),
    }
  })
}

type Way = 'sent' | 'received'

/**
 * The resolver, the gateway to the API, the first address of the tenant, under which the front door reaches its pods, and
 * addresses that differ from a pod's in one of the bits that its tenant's have in common.
 */
function elsewhere(address: string): string[] {
  const parts = address.split('.').map(Number)
  const flipped = Array.from({ length: TENANT_PREFIX }, (_, bit) =>
    parts.map((part, at) => (at === bit >> 3 ? part ^ (0x80 >> (bit & 7)) : part)).join('.'),
  )
  const own = (at: number) => Math.min(8, Math.max(0, TENANT_PREFIX - at * 8))
  const first = parts.map((part, at) => part & (0xff00 >> own(at))).join('.')
  return [RESOLVER, API_SERVICE.clusterIP, first, ...flipped]
}

/** So many bits say whose a pod's address is. */
const TENANT_PREFIX = 21

/** With whom a tenant's pods exchange packets that do not wait, in that direction; each different program is asked once. */
function passesBy({ links }: TenantPosture, way: Way): { within: string[]; elsewhere: string[] } {
  const passing = { within: new Set<string>(), elsewhere: new Set<string>() }
  const asked = new Set<string>()
  for (const { address, mac, interfaceName, shares } of links) {
    const waits = shares?.[way]?.waits ?? []
    const program = JSON.stringify(waits)
    if (asked.has(program)) continue
    asked.add(program)
    const peers = { within: [...links.map((each) => each.address), VIRTUAL], elsewhere: elsewhere(address) }
    for (const where of ['within', 'elsewhere'] as const)
      for (const peer of peers[where]) {
        const [saddr, daddr] = way === 'sent' ? [address, peer] : [peer, address]
        // A program that does not end has said nothing.
        if (!runBpf(waits, renderFrame({ sourceMac: mac, targetMac: mac, saddr, daddr, dport: 80 })))
          passing[where].add(`${way} over the link ${interfaceName} between ${saddr} and ${daddr}`)
      }
  }
  return { within: [...passing.within], elsewhere: [...passing.elsewhere] }
}

/** Behind a service of a tenant is a pod of its own. */
const VIRTUAL = '10.96.128.1'

/**
 * Where a pod's packets wait: the links that its own leads to, which are its tenant's alone. What stays within the tenant
 * may wait at one end only.
 */
export function linkShareLayer(attacker: TenantPosture, victim: TenantPosture): LayerResult {
  const theirs = shareLinksOf(victim)
  const problems: string[] = []
  const evidence = new Set<string>()
  for (const way of ['sent', 'received'] as const) {
    const shares = attacker.links.map(({ shares: all }) => all?.[way])
    attacker.links.forEach(({ interfaceName }, at) => {
      const share = shares[at]
      if (!share) problems.push(`what is ${way} over the link ${interfaceName} waits for nothing`)
      else if (theirs.has(share.link))
        problems.push(`${attacker.name} and ${victim.name} share the link ${share.link}`)
      else evidence.add(`${way} over ${share.link} at most ${share.bitsPerSecond} bits per second`)
    })
    const links = new Set(shares.map((share) => share?.link))
    if (links.size > 1)
      problems.push(`what is ${way} by the pods of ${attacker.name} waits in different places`)
  }
  const [sent, received] = (['sent', 'received'] as const).map((way) => passesBy(attacker, way))
  for (const what of [...(sent?.elsewhere ?? []), ...(received?.elsewhere ?? [])])
    problems.push(`what is ${what} waits for nothing`)
  const [unsent] = sent?.within ?? []
  const [unreceived] = received?.within ?? []
  if (unsent !== undefined && unreceived !== undefined)
    problems.push(`what is ${unsent}, and ${unreceived}, waits for nothing`)
  return result('share of the links', problems, [...evidence].join(', ') || `${attacker.name} has no links`)
}

/** The loaded rules, asked what becomes of many packets within a tenant, which is what it may always send. */
export function rateLimitsLayer(
  attacker: TenantPosture,
  victim: TenantPosture,
  { router }: MachinePosture,
): LayerResult {
  const layer = 'rate limits'
  if ('problem' in router) return result(layer, [router.problem], '')
  const theirs = limitNamesOf(victim, router)
  const problems: string[] = []
  const names = new Set<string>()
  for (const { sent, received, from } of limitsOf(attacker, router)) {
    for (const [way, limits] of [
      ['sends', sent],
      ['receives', received.slice(sent.length)],
    ] as const)
      for (const unit of ['bytes', 'packets'] as const)
        if (!limits.some((limit) => limit.unit === unit && limit.rate > 0))
          problems.push(`no rule limits the ${unit} that ${from.address} ${way}`)
    for (const { name } of received) {
      if (theirs.has(name)) problems.push(`${attacker.name} and ${victim.name} share the limit ${name}`)
      names.add(name)
    }
  }
  // One of each kind for all of its pods together.
  if (names.size > 4) problems.push(`the pods of ${attacker.name} have different limits`)
  return result(layer, problems, [...names].join(', ') || `${attacker.name} has no links`)
}
