import { createHash } from 'node:crypto'
import { API_SERVICE } from '../../../../api/index.ts'
import {
  doorAddress,
  GATEWAY,
  type Ipv4,
  ipv4Text,
  podMac,
  POD_GATEWAY_PORT,
  tenantMark,
} from './addresses.ts'
import {
  PODS_MAX,
  POD_RANGE,
  SERVICE_RANGE,
  SERVICE_RANGE_PREFIX,
  TENANTS_MAX,
  TENANT_CONNECTIONS_MAX,
} from './limits.ts'
import { type IsolationRules, noIsolation, renderIsolationChanged } from './isolation.ts'
import { type RuleLimit, renderLimitsChanged } from './bandwidth.ts'
import { OUTSIDE_MARK, UPLINK } from './outside.ts'
import { type ServiceTable, renderServiceChain, serviceKey } from './services.ts'
import { type Element, TABLE, renderElements } from './table.ts'

/** A pod as the rules know it. */
export type PodElement = {
  interfaceName: string
  address: Ipv4
  index: number
  /** Its tenant may reach something outside. */
  outside?: boolean
}

/** Everything that the router's rules depend on. */
export type RouterState = {
  tenants: readonly number[]
  pods: readonly PodElement[]
  services: ReadonlyMap<number, ServiceTable>
  /** Of all tenants together. */
  isolation: IsolationRules
  /** Of all tenants together. */
  limits: readonly RuleLimit[]
  /** The Linux user that reaches pods for the front door. */
  connectorUid?: number
}

/** What the kernel knows the size of, it finds things in faster: by a table that never grows, see `nft_hash` in the kernel. */
const OF_PODS = `size ${PODS_MAX};`
const OF_TENANTS = `size ${TENANTS_MAX * 2};`

/**
 * The rules, of constant length: how many pods, tenants and services there are only changes sets and maps. A packet's
 * sender is pinned to its link first, then becomes a tenant mark; every later decision is by mark. What every packet meets
 * is kept to three chains; what only the first of a connection has to meet is behind them.
 */
const RULES = `
  map tenant4 { type ipv4_addr : mark; ${OF_PODS} }
  set source4 { type ifname . ether_addr . ipv4_addr; }
  set link4 { type ifname . ipv4_addr; }
  set pair { type mark . mark; }
  map door4 { type ipv4_addr : mark; }
  set connectors { type uid; }
  map services4 { type mark . ipv4_addr . inet_proto . inet_service : verdict; }
  map egress4 { type ipv4_addr : mark; ${OF_PODS} }
  map ingress4 { type ipv4_addr : mark; ${OF_PODS} }
  map policies { type mark : verdict; }
  map traffic { type mark : counter; ${OF_TENANTS} }
  map denied { type mark : counter; ${OF_TENANTS} }
  map sent_bytes { type mark : limit; ${OF_TENANTS} }
  map sent_packets { type mark : limit; ${OF_TENANTS} }
  map received_bytes { type mark : limit; ${OF_TENANTS} }
  map received_packets { type mark : limit; ${OF_TENANTS} }
  set connections { type mark; flags dynamic; ${OF_TENANTS} }
  counter spoofed { }
  counter metadata { }
  counter ipv6 { }
  counter input_denied { }
  counter output_denied { }
  counter too_much { }

  # Before connection tracking, so that a forged packet cannot even join somebody's connection.
  chain origin {
    type filter hook prerouting priority raw; policy drop;
    iifname "lo" accept
    meta nfproto != ipv4 counter name ipv6 drop
    iifname "${UPLINK}" accept
    iifname . ether saddr . ip saddr != @source4 counter name spoofed drop
    meta mark set ip saddr map @tenant4
    meta mark 0 drop
    ip daddr 169.254.0.0/16 ip daddr != ${GATEWAY} counter name metadata drop
    limit name meta mark map @sent_packets counter name too_much drop
    limit name meta mark map @sent_bytes counter name too_much drop
    accept
  }

  # The virtual addresses are the same for all tenants; the mark decides whose service answers.
  chain services {
    type nat hook prerouting priority dstnat; policy accept;
    # First, so that no service of a tenant can take the place of its API.
    ip daddr ${API_SERVICE.clusterIP} tcp dport ${API_SERVICE.port} dnat ip to ${GATEWAY}:${POD_GATEWAY_PORT}
    meta mark . ip daddr . meta l4proto . th dport vmap @services4
    # No service of this tenant, or one without endpoints. Both look the same. Only the first packet of a connection comes
    # here; one that is of none, and still has a virtual address, has nowhere to go (NEVER).
    ip daddr ${SERVICE_RANGE}/${SERVICE_RANGE_PREFIX} goto refuse
  }

  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject with icmp port-unreachable
  }

  chain forward {
    type filter hook forward priority filter; policy drop;
    counter name meta mark map @traffic
    ct state vmap { established : accept, related : accept, new : goto admit }
  }

  # Another table has decided who may leave; without its mark nobody does. Then come the tenant's own policies.
  chain outward {
    ct mark != ${OUTSIDE_MARK} goto deny
    jump leave
    ct mark set ${OUTSIDE_MARK}
    add @connections { meta mark ct count over ${TENANT_CONNECTIONS_MAX} } goto deny
    accept
  }

  # nft cannot compare two looked-up values, so the pair of them is looked up; ct mark is only a place to keep one.
  chain admit {
    # The entrance lets no other in. Of what is established all was asked here.
    meta nfproto != ipv4 counter name ipv6 drop
    oifname "${UPLINK}" goto outward
    ct mark set ip daddr map @tenant4
    meta mark . ct mark != @pair goto deny
    jump isolation
    add @connections { meta mark ct count over ${TENANT_CONNECTIONS_MAX} } goto deny
    accept
  }

  # What the tenant's own policies allow, in chains of its own that only take away. A pod that nothing isolates has no
  # class, and a pod may always reach itself. The sender's and the receiver's class take turns in ct mark.
  chain isolation {
    oifname . ip saddr @link4 return
    jump leave
    ct mark set ip daddr map @ingress4
    ct mark vmap @policies
    ct mark set ip daddr map @tenant4
  }

  chain leave {
    ct mark set 0
    ct mark set ip saddr map @egress4
    ct mark vmap @policies
    ct mark set 0
  }

  chain deny {
    counter name meta mark map @denied
    drop
  }

  # Pods and nobody else; also what the router's own programs say to them. Nothing after this looks at the mark.
  chain receive {
    type filter hook postrouting priority filter; policy accept;
    meta mark set ip daddr map @tenant4 goto received
  }

  chain received {
    limit name meta mark map @received_packets counter name too_much drop
    limit name meta mark map @received_bytes counter name too_much drop
  }

  # A pod that reaches itself through a service would drop a packet from its own address, so it comes from the gateway.
  chain hairpin {
    type nat hook postrouting priority srcnat; policy accept;
    oifname . ip saddr @link4 snat ip to ${GATEWAY}
    oifname "${UPLINK}" masquerade
  }

  # The machine's addresses are not in this namespace. Of the router itself only the resolver and the pods' gateway to their
  # APIs answer, and only pods.
  chain input {
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    ip daddr ${GATEWAY} meta mark != 0 meta l4proto { tcp, udp } th dport 53 goto ask
    ip daddr ${GATEWAY} meta mark != 0 tcp dport ${POD_GATEWAY_PORT} goto admit_api
    counter name meta mark map @denied
    counter name input_denied
  }

  # As with a resolver that is a pod: whoever's egress is isolated needs a policy that allows it.
  chain ask {
    jump leave
    # A question from every port would fill the kernel's table as connections do.
    add @connections { meta mark ct count over ${TENANT_CONNECTIONS_MAX} } goto deny
    accept
  }

  chain admit_api {
    jump leave
    add @connections { meta mark ct count over ${TENANT_CONNECTIONS_MAX} } goto deny
    accept
  }

  # Resolver and gateway read what pods send; should one be taken over, it can answer but not call. Root may, for probes, and
  # the connector, for what comes from outside.
  chain output {
    type filter hook output priority filter; policy drop;
    oifname "lo" accept
    ct state established,related accept
    meta skuid 0 meta l4proto tcp ct state new accept
    meta skuid @connectors meta l4proto { tcp, udp } ct state new goto enter
    counter name output_denied
  }

  # From outside, for one tenant: under that tenant's own address, to that tenant's pods, and as far as its policies allow.
  chain enter {
    meta mark set 0
    meta mark set ip saddr map @door4
    ct mark set 0
    ct mark set ip daddr map @tenant4
    meta mark . ct mark != @pair goto deny
    ct mark set 0
    ct mark set ip daddr map @ingress4
    ct mark vmap @policies
    ct mark set 0
    add @connections { meta mark ct count over ${TENANT_CONNECTIONS_MAX} } goto deny
    accept
  }
`

/** Changes whenever the rules do, so that an agent recognizes rules that an older one made. */
export const RULES_VERSION = `version_${createHash('sha256').update(RULES).digest('hex').slice(0, 16)}`

/** The whole table, replacing one that may be there in one transaction, so that there is no moment without rules. */
export function renderRuleset(state: RouterState): string {
  return [
    `table inet ${TABLE} { }`,
    `delete table inet ${TABLE}`,
    `table inet ${TABLE} {${RULES}\n  counter ${RULES_VERSION} { }\n}`,
    ...state.tenants.map(renderTenantAdded),
    renderLimitsChanged([], state.limits),
    renderElements('add', [...state.pods.flatMap(podElements), ...connectorElements(state)]),
    ...[...state.services].map(([, table]) => renderServicesChanged(new Map(), table)),
    renderIsolationChanged(noIsolation(), state.isolation),
  ]
    .filter((part) => part !== '')
    .join('\n')
    .concat('\n')
}

export function renderTenantAdded(index: number): string {
  const mark = tenantMark(index)
  return [
    `add counter inet ${TABLE} traffic_${mark}`,
    `add counter inet ${TABLE} denied_${mark}`,
    `add element inet ${TABLE} traffic { ${mark} : "traffic_${mark}" }`,
    `add element inet ${TABLE} denied { ${mark} : "denied_${mark}" }`,
    `add element inet ${TABLE} pair { ${mark} . ${mark} }`,
    `add element inet ${TABLE} door4 { ${ipv4Text(doorAddress(index))} : ${mark} }`,
  ].join('\n')
}

/** Requires: none of the tenant's pods and services are left. */
export function renderTenantRemoved(index: number): string {
  const mark = tenantMark(index)
  return [
    `delete element inet ${TABLE} pair { ${mark} . ${mark} }`,
    `delete element inet ${TABLE} door4 { ${ipv4Text(doorAddress(index))} }`,
    `delete element inet ${TABLE} traffic { ${mark} }`,
    `delete element inet ${TABLE} denied { ${mark} }`,
    `delete counter inet ${TABLE} traffic_${mark}`,
    `delete counter inet ${TABLE} denied_${mark}`,
  ].join('\n')
}

export function connectorElements({ connectorUid }: Pick<RouterState, 'connectorUid'>): Element[] {
  return connectorUid === undefined ? [] : [{ set: 'connectors', text: String(connectorUid) }]
}

export function podElements(pod: PodElement): Element[] {
  const address = ipv4Text(pod.address)
  return [
    { set: 'tenant4', text: `${address} : ${tenantMark(pod.index)}` },
    { set: 'source4', text: `${pod.interfaceName} . ${podMac(pod.address)} . ${address}` },
    { set: 'link4', text: `${pod.interfaceName} . ${address}` },
  ]
}

/**
 * From one table of services to another, in one transaction. Chains are named by their content, so an unchanged service
 * keeps its chain, and with it the place of its round robin. Empty when nothing differs.
 */
export function renderServicesChanged(from: ServiceTable, to: ServiceTable): string {
  const chainsFrom = new Set([...from.values()].map((p) => p.chain))
  const chainsTo = new Set([...to.values()].map((p) => p.chain))
  const gone = [...from].filter(([key, port]) => to.get(key)?.chain !== port.chain)
  const fresh = [...to].filter(([key, port]) => from.get(key)?.chain !== port.chain)
  const chainsMade = new Map(
    [...to.values()].filter((p) => !chainsFrom.has(p.chain)).map((p) => [p.chain, p]),
  )
  const chainsRemoved = [...chainsFrom].filter((c) => !chainsTo.has(c))
  const lines: string[] = []
  for (const [chain, port] of chainsMade)
    lines.push(
      `add chain inet ${TABLE} ${chain}`,
      `add rule inet ${TABLE} ${chain} ${renderServiceChain(port)}`,
    )
  if (gone.length > 0)
    lines.push(`delete element inet ${TABLE} services4 { ${gone.map(([, p]) => serviceKey(p)).join(', ')} }`)
  if (fresh.length > 0)
    lines.push(
      `add element inet ${TABLE} services4 { ${fresh.map(([, p]) => `${serviceKey(p)} : goto ${p.chain}`).join(', ')} }`,
    )
  for (const chain of chainsRemoved)
    lines.push(`flush chain inet ${TABLE} ${chain}`, `delete chain inet ${TABLE} ${chain}`)
  return lines.join('\n')
}

/** The pods' range, for routes and documents. */
export const POD_CIDR = `${POD_RANGE}/9`
