import { allBits, bit, type Bits, bitsFrom, Column, NO_BITS, numbersIn } from './bits.ts'
import { NO_MAC, packetFrom, type TenantPosture } from './layers.ts'
import type { Row, World } from './observers.ts'
import { forgedSourceRulesLayer, RESOLVER, resolverPacket } from './platform-layers.ts'
import { Frames, renderFrame, runBpf } from './posture/classic-bpf.ts'
import { UPLINK } from './posture/network.ts'
import type { Packets } from './posture/ruleset.ts'

/** The layers between two tenants' pods, of all pairs at once: what they do follows from the rules, not from the pairs. */

type Rows = (attacker: TenantPosture) => Row

/** Every pod's link with whose it is. */
function linksOf(tenants: readonly TenantPosture[]) {
  const links = tenants.flatMap((tenant, owner) => tenant.links.map((link) => ({ link, owner })))
  const own = new Map<TenantPosture, Bits>()
  let first = 0
  for (const tenant of tenants) {
    own.set(tenant, allBits(tenant.links.length) << BigInt(first))
    first += tenant.links.length
  }
  return {
    links,
    all: allBits(links.length),
    own: (tenant: TenantPosture) => own.get(tenant) ?? NO_BITS,
    owners: (some: Bits) => bitsFrom([...numbersIn(some)].map((at) => links[at]?.owner ?? 0)),
  }
}

/** As `routerRulesLayer`. */
export function routerRulesRows({ tenants, machine: { router } }: World): Rows {
  const everybody = allBits(tenants.length)
  if ('problem' in router) return () => ({ holds: NO_BITS })
  const { links, all, own, owners } = linksOf(tenants)
  const daddr = new Column(links.map(({ link }) => link.address))
  const towards = new Column(links.map(({ link }) => link.interfaceName))
  const ways = [towards, ...(router.uplink ? [UPLINK] : [])]
  return (attacker) => {
    let dropped = all
    for (const from of attacker.links)
      for (const l4proto of ['tcp', 'udp', 'icmp'] as const)
        for (const oifname of ways) {
          const packets: Packets = { ...packetFrom(from, { l4proto }), daddr, oifname }
          dropped &= router.ruleset.dropped(packets, ['prerouting', 'forward', 'postrouting'], all)
        }
    return { holds: everybody & ~owners(all & ~dropped & ~own(attacker)) }
  }
}

/** As `forgedSourceRulesLayer`. */
export function forgedSourceRulesRows({ tenants, machine }: World): Rows {
  const { router } = machine
  if ('problem' in router) return () => ({ holds: NO_BITS })
  const everybody = allBits(tenants.length)
  const { links, all, own, owners } = linksOf(tenants)
  const saddr = new Column(links.map(({ link }) => link.address))
  const nobody: TenantPosture = { name: '', isolationClass: '', processes: [], links: [] }
  return (attacker) => {
    if (!forgedSourceRulesLayer(attacker, nobody, machine).holds) return { holds: NO_BITS }
    let dropped = all
    for (const from of attacker.links)
      dropped &= router.ruleset.dropped(
        { ...resolverPacket(from, RESOLVER), saddr },
        ['prerouting', 'input'],
        all,
      )
    return { holds: everybody & ~owners(all & ~dropped & ~own(attacker)) }
  }
}

const TC_ACT_SHOT = 2
/** Bytes of a frame that are the victim's: its hardware address and its address. */
const VICTIMS = [
  { from: 0, to: 6 },
  { from: 30, to: 34 },
]

/** As `linkFilterLayer`. */
export function linkFilterRows({ tenants }: World): Rows {
  const everybody = allBits(tenants.length)
  const { links, all, own } = linksOf(tenants)
  const frameOf = (from: { mac: string; address: string }, to: { mac: string; address: string }) =>
    renderFrame({ sourceMac: from.mac, targetMac: to.mac, saddr: from.address, daddr: to.address, dport: 80 })
  const nobody = { mac: NO_MAC, address: '0.0.0.0' }
  const frames = new Frames(links.map(({ link }) => frameOf(link, nobody)))
  /** By victim, the links from which something comes through to it. */
  const open = tenants.map((victim) => {
    let through = NO_BITS
    for (const to of victim.links) {
      let dropped = NO_BITS
      for (const program of to.egressFilters)
        dropped |=
          frames.returning(program, TC_ACT_SHOT, { frame: frameOf(nobody, to), own: VICTIMS }) ??
          bitsFrom(
            links.flatMap(({ link }, at) => (runBpf(program, frameOf(link, to)) === TC_ACT_SHOT ? [at] : [])),
          )
      through |= all & ~dropped
    }
    return through & ~own(victim)
  })
  // Mostly nothing comes through to anybody, or everything to a few.
  const holes = open.flatMap((through, at) => (through === NO_BITS ? [] : [{ through, victim: bit(at) }]))
  return (attacker) => {
    let holds = everybody
    for (const { through, victim } of holes) if ((through & own(attacker)) !== NO_BITS) holds &= ~victim
    return { holds }
  }
}
