import { createHash } from 'node:crypto'
import type { TenantNetwork } from '../../../../jail/index.ts'
import { type Ipv4, ipv4FromText, ipv4Text, tenantIndexOf, tenantMark } from './addresses.ts'
import { assert } from '../../../../stdx/index.ts'

const PROTOCOLS = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' } as const

export type Backend = { address: Ipv4; port: number }

/** One port of one virtual address and where its connections go. */
export type ServicePortRule = {
  index: number
  address: Ipv4
  protocol: 'tcp' | 'udp' | 'sctp'
  port: number
  /** Sorted, without duplicates, never empty. */
  backends: readonly Backend[]
  affinity: boolean
  /** Named by its content. */
  chain: string
}

/** By `serviceKey`. */
export type ServiceTable = ReadonlyMap<string, ServicePortRule>

export function serviceKey(port: Pick<ServicePortRule, 'index' | 'address' | 'protocol' | 'port'>): string {
  return `${tenantMark(port.index)} . ${ipv4Text(port.address)} . ${port.protocol} . ${port.port}`
}

/**
 * The virtual addresses of a tenant. `addressOf` knows only this tenant's pods, so an endpoint that names any other jail
 * is nobody; a port without endpoints is left out, and the rules refuse what is left out.
 *
 * Requires: `network` went through `parseTenantNetwork`, which bounds its size and checks every number and address.
 */
export function planServices(
  index: number,
  network: TenantNetwork,
  addressOf: (jail: string) => Ipv4 | undefined,
): ServiceTable {
  const table = new Map<string, ServicePortRule>()
  for (const service of network.services) {
    const address = ipv4FromText(service.clusterIP)
    if (address === undefined || service.externalName !== undefined) continue
    for (const port of service.ports) {
      const backends = new Map<string, Backend>()
      for (const endpoint of port.endpoints) {
        if (!endpoint.ready && !service.publishNotReadyAddresses) continue
        const pod = addressOf(endpoint.jail)
        if (pod === undefined) continue
        // The rules would refuse another tenant's pod anyway; here is the second reason why none is ever named.
        assert(
          tenantIndexOf(pod) === index,
          `An endpoint of tenant ${index} has the address ${ipv4Text(pod)}`,
        )
        backends.set(`${pod}:${endpoint.port}`, { address: pod, port: endpoint.port })
      }
      if (backends.size === 0) continue
      const sorted = [...backends.values()].sort((a, b) => a.address - b.address || a.port - b.port)
      const affinity = service.sessionAffinitySeconds !== undefined
      const rule = {
        index,
        address,
        protocol: PROTOCOLS[port.protocol],
        port: port.port,
        backends: sorted,
        affinity,
      }
      const key = serviceKey(rule)
      // Two services of one address can only be a mistake of the control plane; the first one keeps it.
      if (!table.has(key)) table.set(key, { ...rule, chain: chainName(rule) })
    }
  }
  return table
}

/** An endpoint that a virtual address does not lead to any more. */
export type LostBackend = { address: Ipv4; port: number; backend: Backend }

export function lostBackendKey({ address, port, backend }: LostBackend): string {
  return `${address}:${port} ${backend.address}:${backend.port}`
}

/** The UDP endpoints that go from one table to another. TCP needs none: there the endpoint itself ends connections. */
export function planLostBackends(from: ServiceTable, to: ServiceTable): LostBackend[] {
  const all = (table: ServiceTable) =>
    [...table.values()]
      .filter((rule) => rule.protocol === 'udp')
      .flatMap(({ address, port, backends }) => backends.map((backend) => ({ address, port, backend })))
  const kept = new Set(all(to).map(lostBackendKey))
  return all(from).filter((each) => !kept.has(lostBackendKey(each)))
}

/** Requires: at least one backend. */
export function renderServiceChain(port: Omit<ServicePortRule, 'chain'>): string {
  const [first] = port.backends
  assert(first, 'A service without endpoints has no chain')
  // Naming the protocol is what lets the address be translated together with the port.
  const match = `meta l4proto ${port.protocol} dnat ip to`
  if (port.backends.length === 1) return `${match} ${ipv4Text(first.address)}:${first.port}`
  const choice = port.affinity
    ? `jhash ip saddr mod ${port.backends.length} seed 0x62756c6b`
    : `numgen inc mod ${port.backends.length}`
  return `${match} ${choice} map { ${port.backends.map((b, i) => `${i} : ${ipv4Text(b.address)} . ${b.port}`).join(', ')} }`
}

function chainName(port: Omit<ServicePortRule, 'chain'>): string {
  const content = createHash('sha256').update(renderServiceChain(port)).digest('hex').slice(0, 24)
  return `service_${tenantMark(port.index)}_${content}`
}
