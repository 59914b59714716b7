import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { type Layout, networkContains } from '../../../../api/index.ts'
import {
  type MachineNetworks,
  NEVER,
  type OutsideState,
  PRIVATE,
  UPLINK,
  ipv4FromText,
  nearNetworks,
  netLimits,
  renderMachineTable,
  renderUplinkFilter,
} from '../../plan/net/index.ts'
import type { Nft } from './nft.ts'
import { writeSysctls, type Router } from './router.ts'
import {
  RouteSocket,
  addressMessage,
  deleteLinkMessage,
  isGone,
  linkDownMessage,
  linkUpMessage,
  neighbourMessage,
  routeMessage,
  vethMessage,
} from './rtnetlink.ts'
import { inNamespace } from './syscalls.ts'
import {
  DIRECTIONS,
  filterMessages,
  isExactly,
  listFiltersMessage,
  unfilterMessage,
} from './traffic-control.ts'

const ROUTER_MAC = '02:75:70:00:00:01'
const MACHINE_MAC = '02:75:70:00:00:02'
const WAS_OFF = 'forwarding_was_off'
const FORWARDING = (link: string) => `/proc/sys/net/ipv4/conf/${link}/forwarding`

export type UplinkOptions = {
  layout: Layout
  router: Router
  /** Runs nft in the machine's own namespace. */
  nft: Nft
  machineNetns: string
}

/**
 * The way out: a pair of links between the router and the machine. Of the machine's own settings it changes the
 * forwarding of the one link that leads outside, and it adds one nftables table; both are taken back.
 */
export class Uplink {
  private readonly layout: Layout
  private readonly router: Router
  private readonly nft: Nft
  private readonly machineNetns: string
  private readonly table: string
  private readonly memory: string
  private loaded = ''
  /** Of the link that leads outside, in bits per second. */
  private speed: number | undefined

  constructor({ layout, router, nft, machineNetns }: UplinkOptions) {
    this.layout = layout
    this.router = router
    this.nft = nft
    this.machineNetns = machineNetns
    this.table = `bulkhead_${layout.instance}`
    this.memory = `${layout.runDir}/net/forwarding-was-off`
  }

  /** The machine's addresses and networks as they are now. */
  observeMachine(): MachineNetworks {
    const own = inNamespace('net', this.machineNetns, () => networkInterfaces())
    const ipv4 = Object.entries(own).flatMap(([name, all]) =>
      name === this.layout.uplink.link ? [] : (all ?? []).filter((each) => each.family === 'IPv4'),
    )
    return {
      addresses: [...new Set(ipv4.flatMap(({ address }) => ipv4FromText(address) ?? []))].sort(
        (a, b) => a - b,
      ),
      networks: ipv4.flatMap(({ address, cidr }) => {
        const bits = Number(cidr?.split('/')[1] ?? 32)
        const base = ipv4FromText(address) ?? 0
        const network = { base: base - (base % 2 ** (32 - bits)), bits }
        // A link that claims half of the internet is no network that the machine is a part of.
        return bits < 8 || [...NEVER, ...PRIVATE].some((each) => networkContains(each, network))
          ? []
          : [network]
      }),
    }
  }

  /** What leads outside can carry; as good as without end where neither the operator nor the link says. */
  get bitsPerSecond(): number {
    return this.layout.uplinkBitsPerSecond ?? this.speed ?? netLimits.BITS_PER_SECOND_MAX
  }

  /** Makes the way out be there; safe to repeat. Closed, and then opened, on the machine's side first. */
  async ensure(state: OutsideState): Promise<void> {
    const device = this.layout.uplinkDevice ?? this.defaultDevice()
    if (device === undefined)
      throw new Error(
        'The machine has no default route, so nothing leads outside; set BULKHEAD_UPLINK to a link',
      )
    const mtu = inNamespace('net', this.machineNetns, () => mtuOf(device))
    this.speed = speedOf(device)
    await this.ensureTable(device, state)
    const { link, router: routerText, machine: machineText } = this.layout.uplink
    const routerAddress = ipv4FromText(routerText) ?? 0
    const machineAddress = ipv4FromText(machineText) ?? 0
    const { routes } = this.router.sockets
    const machine = inNamespace('net', this.machineNetns, () => new RouteSocket())
    try {
      if (!routes.links().has(UPLINK) || !machine.links().has(link)) {
        this.deleteLink(routes, UPLINK)
        this.deleteLink(machine, link)
        const netnsFd = openSync(this.machineNetns, 'r')
        try {
          routes.request([
            vethMessage(
              { name: UPLINK, mac: ROUTER_MAC, mtu },
              { name: link, mac: MACHINE_MAC, mtu, netnsFd },
            ),
          ])
        } finally {
          closeSync(netnsFd)
        }
      }
      inNamespace('net', this.machineNetns, () => {
        writeSysctls([
          [`ipv6/conf/${link}/disable_ipv6`, '1'],
          [`ipv4/conf/${link}/rp_filter`, '1'],
          [`ipv4/conf/${link}/accept_redirects`, '0'],
          [`ipv4/conf/${link}/send_redirects`, '0'],
          [`ipv4/conf/${link}/accept_source_route`, '0'],
          [`ipv4/conf/${link}/proxy_arp`, '0'],
          [`ipv4/conf/${link}/route_localnet`, '0'],
          [`ipv4/conf/${link}/forwarding`, '1'],
          [`ipv4/conf/${device}/forwarding`, '1'],
        ])
      })
      const [inside, outside] = [routes.link(UPLINK), machine.link(link)]
      const { machine: own } = state
      const filter = renderUplinkFilter({
        router: routerAddress,
        never: [...own.addresses.map((base) => ({ base, bits: 32 })), ...NEVER],
        near: nearNetworks(state),
        inside: [...PRIVATE, ...own.networks],
      })
      const filtered = DIRECTIONS.every((direction) =>
        isExactly(routes.dump(listFiltersMessage(inside, direction)), filter[direction]),
      )
      if (!filtered) {
        routes.request([linkDownMessage(inside)])
        const [error] = routes.requestAll([unfilterMessage(inside)])
        if (error && error.code !== 'ENOENT' && error.code !== 'EINVAL') throw error
        routes.request(filterMessages(inside, filter))
      }
      machine.request([
        addressMessage(outside, machineAddress),
        linkUpMessage(outside),
        neighbourMessage(outside, routerAddress, ROUTER_MAC),
        routeMessage({ to: routerAddress, link: outside }),
      ])
      routes.request([
        addressMessage(inside, routerAddress),
        linkUpMessage(inside),
        neighbourMessage(inside, machineAddress, MACHINE_MAC),
        routeMessage({ to: machineAddress, link: inside }),
        routeMessage({ link: inside, via: machineAddress }),
      ])
    } finally {
      machine.close()
    }
  }

  /** Takes everything back; safe to repeat, and when nothing is there. */
  async remove(): Promise<void> {
    const machine = inNamespace('net', this.machineNetns, () => new RouteSocket())
    try {
      this.deleteLink(machine, this.layout.uplink.link)
    } finally {
      machine.close()
    }
    this.loaded = ''
    const tables = await this.tables()
    const device = this.remembered() ?? tables.get(this.table)
    const others = [...tables].some(([name, other]) => name !== this.table && other === device)
    // Another platform of this machine still needs it, and knows that it was off.
    if (device !== undefined && !others)
      inNamespace('net', this.machineNetns, () => {
        if (existsSync(FORWARDING(device))) writeFileSync(FORWARDING(device), '0')
      })
    rmSync(this.memory, { force: true })
    if (tables.has(this.table)) await this.nft.apply(`delete table inet ${this.table}\n`)
  }

  /** The link whose forwarding we have switched on. */
  private remembered(): string | undefined {
    return existsSync(this.memory) ? readFileSync(this.memory, 'utf8') : undefined
  }

  private deleteLink(routes: RouteSocket, name: string): void {
    const link = routes.links().get(name)
    if (link === undefined) return
    const [error] = routes.requestAll([deleteLinkMessage(link)])
    if (error && !isGone(error)) throw error
  }

  /** Before the link is there at all, so that nothing that comes from it is ever judged by the machine's rules alone. */
  private async ensureTable(device: string, state: OutsideState): Promise<void> {
    const tables = await this.tables()
    // Should somebody flush the machine's rules, the file still knows.
    const wasClosed =
      this.remembered() === device ||
      (tables.has(this.table)
        ? tables.get(this.table) === device
        : !this.isForwarding(device) || [...tables.values()].includes(device))
    if (wasClosed) writeFileSync(this.memory, device, { mode: 0o600 })
    const { link, router } = this.layout.uplink
    const text = renderMachineTable({ table: this.table, link, device, router, wasClosed, state })
    if (text === this.loaded && tables.has(this.table)) return
    await this.nft.apply(text)
    this.loaded = text
  }

  /** Our tables on this machine, each with the link whose forwarding was off before, if it was. */
  private async tables(): Promise<Map<string, string | undefined>> {
    const tables = new Map<string, string | undefined>()
    const all = (await this.nft.list('tables')).flatMap((each) => nameOf(each, 'table'))
    for (const { name } of all) if (name.startsWith('bulkhead_')) tables.set(name, undefined)
    if (tables.size === 0) return tables
    for (const each of await this.nft.list('counters')) {
      for (const { name, table = '' } of nameOf(each, 'counter'))
        if (name.startsWith(`${WAS_OFF}_`) && tables.has(table))
          tables.set(table, name.slice(WAS_OFF.length + 1))
    }
    return tables
  }

  /** The link of the default route with the lowest metric (proc_pid_net(5), route). */
  private defaultDevice(): string | undefined {
    const text = inNamespace('net', this.machineNetns, () =>
      readFileSync('/proc/thread-self/net/route', 'utf8'),
    )
    const defaults = text
      .split('\n')
      .slice(1)
      .map((line) => line.split('\t'))
      .filter(([, to, , , , , , mask]) => to === '00000000' && mask === '00000000')
    return defaults.sort((a, b) => Number(a[6]) - Number(b[6]))[0]?.[0]
  }

  private isForwarding(device: string): boolean {
    return inNamespace(
      'net',
      this.machineNetns,
      () => readFileSync(FORWARDING(device), 'utf8').trim() === '1',
    )
  }
}

/** From netlink, because /sys shows the links of the namespace it was mounted in. */
function mtuOf(device: string): number {
  const routes = new RouteSocket()
  try {
    return routes.mtu(device)
  } finally {
    routes.close()
  }
}

/** As the driver says it; many virtual ones do not. See "speed" in sysfs-class-net. */
function speedOf(device: string): number | undefined {
  try {
    const megabits = Number(readFileSync(`/sys/class/net/${device}/speed`, 'utf8'))
    return megabits > 0 ? megabits * 1_000_000 : undefined
  } catch {
    return undefined
  }
}

function nameOf(entry: unknown, kind: string): { name: string; table?: string }[] {
  const found =
    typeof entry === 'object' && entry !== null ? (entry as Record<string, unknown>)[kind] : undefined
  return typeof found === 'object' && found !== null && typeof (found as { name?: unknown }).name === 'string'
    ? [found as { name: string; table?: string }]
    : []
}
