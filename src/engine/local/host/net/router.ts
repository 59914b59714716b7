import { closeSync, existsSync, openSync, writeFileSync } from 'node:fs'
import {
  type Element,
  GATEWAY,
  GATEWAY_MAC,
  NEVER,
  OUTSIDE_MARK,
  UPLINK,
  type LinkFilter,
  type LostBackend,
  type PodElement,
  doorAddress,
  ipv4FromText,
  podMac,
  renderLinkFilter,
  tenantMark,
} from '../../plan/net/index.ts'
import { type AskedConnection, ConnectionSocket } from './conntrack.ts'
import { RuleSocket } from './nf-tables.ts'
import type { Message } from './netlink.ts'
import {
  RouteSocket,
  addressMessage,
  deleteLinkMessage,
  isGone,
  linkDownMessage,
  linkUpMessage,
  neighbourMessage,
  packetSizeMessage,
  routeMessage,
  vethMessage,
} from './rtnetlink.ts'
import { Shares } from './shares.ts'
import {
  SyscallError,
  bindMount,
  inNamespace,
  inNewNetworkNamespace,
  setHostname,
  unmountAll,
} from './syscalls.ts'
import {
  type Detour,
  DIRECTIONS,
  filterMessages,
  isExactly,
  listFiltersMessage,
  unfilterMessage,
} from './traffic-control.ts'

const GATEWAY_NUMBER = ipv4FromText(GATEWAY) ?? 0
const POD_LINK = 'eth0'

/**
 * The router forwards, and is otherwise as strict as Linux can be: no redirects, no source routing, no answering of ARP
 * for others, no packet whose sender lives behind another link, no IPv6 at all.
 */
const ROUTER_SYSCTLS: readonly (readonly [string, string])[] = [
  ['ipv4/ip_forward', '1'],
  ...(['all', 'default'] as const).flatMap((which): (readonly [string, string])[] => [
    [`ipv4/conf/${which}/rp_filter`, '1'],
    [`ipv4/conf/${which}/accept_redirects`, '0'],
    [`ipv4/conf/${which}/secure_redirects`, '0'],
    [`ipv4/conf/${which}/send_redirects`, '0'],
    [`ipv4/conf/${which}/accept_source_route`, '0'],
    [`ipv4/conf/${which}/proxy_arp`, '0'],
    [`ipv4/conf/${which}/arp_accept`, '0'],
    [`ipv4/conf/${which}/route_localnet`, '0'],
    [`ipv4/conf/${which}/log_martians`, '0'],
    [`ipv6/conf/${which}/disable_ipv6`, '1'],
  ]),
  ['ipv4/icmp_echo_ignore_broadcasts', '1'],
  // The resolver is not root.
  ['ipv4/ip_unprivileged_port_start', '53'],
]

/** Requires: the thread is in the namespace meant. */
export function writeSysctls(sysctls: readonly (readonly [string, string])[]): void {
  for (const [name, value] of sysctls) {
    const path = `/proc/sys/net/${name}`
    // A kernel without IPv6 has no IPv6 to switch off.
    if (name.startsWith('ipv6/') && !existsSync('/proc/sys/net/ipv6')) continue
    writeFileSync(path, value)
  }
}

/** How large packets are that the pod makes, and that the router's own programs make for it. */
export type PacketSizes = { fromPod: number; toPod: number }

/**
 * The network namespace that every pod's link ends in. It has no link to the machine: the machine's own addresses cannot
 * be reached from it, whatever the rules say.
 */
export class Router {
  readonly pin: string
  /** Who may use how much of the network. */
  readonly shares = new Shares({ routes: () => this.open().routes })
  private routes: RouteSocket | undefined
  private rules: RuleSocket | undefined
  private connections: ConnectionSocket | undefined

  constructor(pin: string) {
    this.pin = pin
  }

  /** `pinned` tells whether a namespace is mounted on the pin already. */
  ensure(pinned: boolean): void {
    if (!pinned) {
      this.close()
      closeSync(openSync(this.pin, 'w', 0o400))
      inNewNetworkNamespace(() => bindMount('/proc/thread-self/ns/net', this.pin))
    }
    inNamespace('net', this.pin, () => {
      writeSysctls(ROUTER_SYSCTLS)
      this.routes ??= new RouteSocket()
      this.rules ??= new RuleSocket()
      this.connections ??= new ConnectionSocket()
      const lo = this.routes.link('lo')
      this.routes.request([
        linkUpMessage(lo),
        addressMessage(lo, GATEWAY_NUMBER),
        // Without these a packet to nobody would be answered by ICMP, one to another tenant's pod would not: a
        // difference. And what is the platform's never leaves by the default route.
        ...NEVER.map(({ base, bits }) => routeMessage({ to: base, bits, blackhole: true })),
        ...(this.routes.links().has(UPLINK) ? [] : [routeMessage({ blackhole: true })]),
      ])
    })
  }

  /** The address that the tenant's pods see the front door under. Safe to repeat. */
  ensureDoor(index: number): void {
    const { routes } = this.open()
    routes.request([addressMessage(routes.link('lo'), doorAddress(index))])
  }

  links(): Map<string, number> {
    return this.open().routes.links()
  }

  /**
   * Connects a fresh pod namespace, whose `dir` pins it, by a link that filters before it is up, and only then lets its
   * packets through. With a `detour` they wait there for their turn.
   * @throws {SyscallError} with the pod half connected.
   */
  attachPod(
    dir: string,
    pod: PodElement & { hostname: string; gidBase: number; idsCount: number },
    isolation: readonly Element[],
    detour: Detour | undefined,
  ): void {
    const { routes, rules } = this.open()
    const mac = podMac(pod.address)
    inNamespace('uts', `${dir}/uts`, () => setHostname(pod.hostname))
    const inside = inNamespace('net', `${dir}/net`, () => {
      writeSysctls(podSysctls(pod))
      return new RouteSocket()
    })
    try {
      const netnsFd = openSync(`${dir}/net`, 'r')
      try {
        routes.request([
          vethMessage({ name: pod.interfaceName, mac: GATEWAY_MAC }, { name: POD_LINK, mac, netnsFd }),
        ])
      } finally {
        closeSync(netnsFd)
      }
      const link = routes.link(pod.interfaceName)
      routes.request(filterMessages(link, renderLinkFilter(pod), detour))
      // Not in the same batch: the kernel carries out the rest of one when something in it fails.
      routes.request([linkUpMessage(link)])
      const [lo, eth0] = [inside.link('lo'), inside.link(POD_LINK)]
      inside.request([
        linkUpMessage(lo),
        linkUpMessage(eth0),
        addressMessage(eth0, pod.address),
        neighbourMessage(eth0, GATEWAY_NUMBER, GATEWAY_MAC),
        routeMessage({ to: GATEWAY_NUMBER, link: eth0 }),
        routeMessage({ link: eth0, via: GATEWAY_NUMBER }),
      ])
    } finally {
      inside.close()
    }
    routes.request(this.hostSide(routes.link(pod.interfaceName), pod))
    rules.addPod(pod, isolation)
  }

  /** Requires: `dir` pins the pod's namespaces. How fast it is changes nothing about who hears whom, so failing is no reason. */
  sizePackets(dir: string, { interfaceName }: PodElement, { fromPod, toPod }: PacketSizes): void {
    const { routes } = this.open()
    const outer = routes.links().get(interfaceName)
    if (outer !== undefined) routes.requestAll([packetSizeMessage(outer, toPod)])
    const inside = inNamespace('net', `${dir}/net`, () => new RouteSocket())
    try {
      const inner = inside.links().get(POD_LINK)
      if (inner !== undefined) inside.requestAll([packetSizeMessage(inner, fromPod)])
    } finally {
      inside.close()
    }
  }

  /**
   * Makes filter and routes of a pod whose link exists be as they should. A link whose filter is not exactly ours is
   * down until it is.
   * @returns whether the filter had to be repaired.
   * @throws {SyscallError} with the link down, if it is the filter that cannot be repaired.
   */
  repairPod(pod: PodElement, detour: Detour | undefined): boolean {
    const { routes } = this.open()
    const link = routes.link(pod.interfaceName)
    const filter = renderLinkFilter(pod)
    const whole = this.isFiltered(link, filter, detour)
    if (!whole) {
      routes.request([linkDownMessage(link)])
      const [error] = routes.requestAll([unfilterMessage(link)])
      if (error && error.code !== 'ENOENT') throw error
      routes.request(filterMessages(link, filter, detour))
      routes.request([linkUpMessage(link)])
    }
    routes.request(this.hostSide(link, pod))
    return !whole
  }

  private isFiltered(link: number, filter: LinkFilter, detour: Detour | undefined): boolean {
    const { routes } = this.open()
    return DIRECTIONS.every((direction) =>
      isExactly(routes.dump(listFiltersMessage(link, direction)), filter[direction], detour?.[direction]),
    )
  }

  /** From now on nothing passes to or from it; its link goes with its namespace. */
  shutOut(pod: PodElement, isolation: readonly Element[]): void {
    this.open().rules.removePod(pod, isolation)
  }

  /** What a tenant's clients still send to endpoints that are gone goes to others from now on. */
  forgetConnections(index: number, lost: readonly LostBackend[]): void {
    this.connections?.forget(tenantMark(index), lost)
  }

  /** Ends what `isLost` says of the connections that lead outside. */
  cutOutside(isLost: (connection: AskedConnection) => boolean): void {
    this.connections?.cut(OUTSIDE_MARK, isLost)
  }

  hasUplink(): boolean {
    return this.open().routes.links().has(UPLINK)
  }

  /** After the uplink is gone, what leads outside leads nowhere again. */
  closeOutside(): void {
    this.open().routes.request([routeMessage({ blackhole: true })])
  }

  /** Changes the router's rules without `nft`. */
  get ruleSocket(): RuleSocket {
    return this.open().rules
  }

  get sockets(): { routes: RouteSocket } {
    return this.open()
  }

  /** Deleting a link waits for the kernel some 15 ms, so this is not for the path of a pod. */
  deleteLink(name: string): void {
    const { routes } = this.open()
    const link = routes.links().get(name)
    if (link === undefined) return
    const [error] = routes.requestAll([deleteLinkMessage(link)])
    if (error && !isGone(error)) throw error
  }

  remove(): void {
    this.close()
    unmountAll(this.pin)
  }

  close(): void {
    this.routes?.close()
    this.rules?.close()
    this.connections?.close()
    this.routes = undefined
    this.rules = undefined
    this.connections = undefined
  }

  private hostSide(link: number, pod: PodElement): Message[] {
    return [
      neighbourMessage(link, pod.address, podMac(pod.address)),
      routeMessage({ to: pod.address, link, source: GATEWAY_NUMBER }),
    ]
  }

  private open(): { routes: RouteSocket; rules: RuleSocket } {
    if (!this.routes || !this.rules)
      throw new SyscallError(`The router's namespace "${this.pin}" is not there; ensureNode makes it`, 2)
    return { routes: this.routes, rules: this.rules }
  }
}

function podSysctls({
  gidBase,
  idsCount,
}: {
  gidBase: number
  idsCount: number
}): (readonly [string, string])[] {
  return [
    // `lo` keeps ::1, which many programs expect; eth0 is born without IPv6.
    ['ipv6/conf/default/disable_ipv6', '1'],
    ['ipv4/ip_unprivileged_port_start', '0'],
    // Lets every group of the pod use ping without a raw socket.
    ['ipv4/ping_group_range', `${gidBase} ${gidBase + idsCount - 1}`],
    ...(['all', 'default'] as const).flatMap((which): (readonly [string, string])[] => [
      [`ipv4/conf/${which}/accept_redirects`, '0'],
      [`ipv4/conf/${which}/send_redirects`, '0'],
      [`ipv4/conf/${which}/accept_source_route`, '0'],
    ]),
  ]
}
