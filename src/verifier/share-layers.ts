import { type LayerResult, type MachinePosture, packetFrom, result, type TenantPosture } from './layers.ts'
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

/** Where a pod's packets wait: the links that its own leads to, which are its tenant's alone. */
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
