import { lookup } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { networkInterfaces } from 'node:os'
import { Agent, buildConnector } from 'undici'
import type { Ipv4Network } from '../../../api/index.ts'
import { ipv4Text, NEVER as NEVER_OUTSIDE, PRIVATE as PRIVATE_NETWORKS } from '../plan/net/index.ts'
import { REGISTRY_ANSWER_TIMEOUT_MS, REGISTRY_SILENCE_TIMEOUT_MS } from './limits.ts'

/**
 * Where a registry may send us on to. Whoever runs a registry that the operator allowed must not reach through us what
 * they cannot reach themselves: this machine, its cloud's metadata, and, unless the registry is there too, private networks.
 */

/** Where no pod may go either, and the same of IPv6. */
const NEVER = blockList(NEVER_OUTSIDE, [
  '::/127',
  'fe80::/10',
  'ff00::/8',
  'fd00:ec2::/32',
  '64:ff9b::/96',
  '2002::/16',
])
const PRIVATE = blockList(PRIVATE_NETWORKS, ['fc00::/7'])

export type Reach = 'never' | 'private' | 'public'

/** What kind of address this is for somebody who is sent there; `own` are the machine's. */
export function reachOf(address: string, own: readonly string[] = addressesOfMachine()): Reach {
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
  if (isIP(address) === 0) return 'never'
  // IPv4 addresses that are written as IPv6 are found by their IPv4 rules: BlockList compares them as such.
  if (NEVER.check(address, family) || own.includes(address.replace(/^::ffff:/i, ''))) return 'never'
  return PRIVATE.check(address, family) ? 'private' : 'public'
}

export class ElsewhereRefused extends Error {}

/** Connections to wherever a registry sends us; `isPrivateAllowed` says whether that may be in a private network. */
export function agentForElsewhere(isPrivateAllowed: boolean, own = addressesOfMachine()): Agent {
  const allowed = (address: string) => {
    const reach = reachOf(address, own)
    return reach === 'public' || (reach === 'private' && isPrivateAllowed)
  }
  // Looked up and decided in one: what the name means a moment later is not asked again.
  const guarded: LookupFunction = (hostname, options, done) =>
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return done(error, [])
      const good = addresses.filter(({ address }) => allowed(address))
      const [first] = good
      if (first === undefined || good.length < addresses.length)
        return done(new ElsewhereRefused('it leads to an address that no registry may send us to'), [])
      if (options.all === true) done(null, good)
      else done(null, first.address, first.family)
    })
  const connect = buildConnector({ timeout: REGISTRY_ANSWER_TIMEOUT_MS, lookup: guarded })
  return new Agent({
    headersTimeout: REGISTRY_ANSWER_TIMEOUT_MS,
    bodyTimeout: REGISTRY_SILENCE_TIMEOUT_MS,
    connect: (options, done) => {
      // An address needs no look-up, so it would pass by the one above.
      const literal = options.hostname.replace(/^\[|\]$/g, '')
      if (isIP(literal) !== 0 && !allowed(literal))
        done(new ElsewhereRefused('it leads to an address that no registry may send us to'), null)
      else connect(options, done)
    },
  })
}

function addressesOfMachine(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .map(({ address }) => address)
}

function blockList(v4: readonly Ipv4Network[], v6: readonly string[]): BlockList {
  const list = new BlockList()
  for (const { base, bits } of v4) list.addSubnet(ipv4Text(base), bits, 'ipv4')
  for (const text of v6) {
    const [network = '', prefix = ''] = text.split('/')
    list.addSubnet(network, Number(prefix), 'ipv6')
  }
  return list
}
