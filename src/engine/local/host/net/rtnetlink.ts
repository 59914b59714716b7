import {
  NETLINK_ROUTE,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  type Message,
  NetlinkSocket,
  attribute,
  cstring,
  mac,
  nested,
  parseAttributes,
  u32,
  u32be,
} from './netlink.ts'
import { AF_INET, SyscallError } from './syscalls.ts'
import { type Ipv4, ipv4Text } from '../../plan/net/index.ts'

const RTM_NEWLINK = 16
const RTM_DELLINK = 17
const RTM_GETLINK = 18
const RTM_NEWADDR = 20
const RTM_NEWROUTE = 24
const RTM_NEWNEIGH = 28
const IFLA_ADDRESS = 1
const IFLA_IFNAME = 3
const IFLA_MTU = 4
const IFLA_LINKINFO = 18
const IFLA_NET_NS_FD = 28
const IFLA_GSO_IPV4_MAX_SIZE = 63
const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2
const VETH_INFO_PEER = 1
const IFF_UP = 1
const IFA_ADDRESS = 1
const IFA_LOCAL = 2
const RTA_DST = 1
const RTA_OIF = 4
const RTA_GATEWAY = 5
const RTA_PREFSRC = 7
const NDA_DST = 1
const NDA_LLADDR = 2
const NUD_PERMANENT = 0x80
const RT_TABLE_MAIN = 254
const RTPROT_STATIC = 4
const RT_SCOPE_UNIVERSE = 0
const RT_SCOPE_LINK = 253
const RTN_UNICAST = 1
const RTN_BLACKHOLE = 6
const CREATE = NLM_F_ACK | NLM_F_CREATE

/** rtnetlink(7) in the namespace that the thread is in when this is made. */
export class RouteSocket extends NetlinkSocket {
  constructor() {
    super(NETLINK_ROUTE)
  }

  /** @throws {SyscallError} ENODEV when there is none of that name. */
  link(name: string): number {
    return this.get(linkMessage(name)).payload.readInt32LE(4)
  }

  mtu(name: string): number {
    const { payload } = this.get(linkMessage(name))
    return parseAttributes(payload.subarray(16)).get(IFLA_MTU)?.readUInt32LE(0) ?? 1_500
  }

  /** How large packets of TCP over IPv4 may be that are sent over the link; undefined where the kernel does not say. */
  packetBytesMax(name: string): number | undefined {
    const { payload } = this.get(linkMessage(name))
    return parseAttributes(payload.subarray(16)).get(IFLA_GSO_IPV4_MAX_SIZE)?.readUInt32LE(0)
  }

  /** Index by name of every link of the namespace. */
  links(): Map<string, number> {
    const dump = this.dump({
      type: RTM_GETLINK,
      flags: 0,
      payload: ifinfo({}),
      what: 'Cannot list the links',
    })
    return new Map(
      dump.map(({ payload }) => {
        const name = parseAttributes(payload.subarray(16)).get(IFLA_IFNAME) ?? Buffer.alloc(1)
        return [name.toString('utf8').replace(/\0.*$/, ''), payload.readInt32LE(4)] as const
      }),
    )
  }
}

/** Asks for one link by its name, which does not take longer the more there are. */
function linkMessage(name: string): Message {
  return {
    type: RTM_GETLINK,
    flags: 0,
    payload: Buffer.concat([ifinfo({}), attribute(IFLA_IFNAME, cstring(name))]),
    what: `Cannot find the link "${name}"`,
  }
}

/** A pair of virtual links, both down; the peer is born in another namespace, so it never shows in this one. */
export function vethMessage(
  link: { name: string; mac: string; mtu?: number },
  peer: { name: string; mac: string; mtu?: number; netnsFd: number },
): Message {
  return {
    type: RTM_NEWLINK,
    flags: CREATE | NLM_F_EXCL,
    what: `Cannot make the link "${link.name}"`,
    payload: Buffer.concat([
      ifinfo({}),
      attribute(IFLA_IFNAME, cstring(link.name)),
      attribute(IFLA_ADDRESS, mac(link.mac)),
      ...mtuAttribute(link.mtu),
      nested(
        IFLA_LINKINFO,
        attribute(IFLA_INFO_KIND, Buffer.from('veth')),
        nested(
          IFLA_INFO_DATA,
          nested(
            VETH_INFO_PEER,
            ifinfo({}),
            attribute(IFLA_IFNAME, cstring(peer.name)),
            attribute(IFLA_ADDRESS, mac(peer.mac)),
            ...mtuAttribute(peer.mtu),
            attribute(IFLA_NET_NS_FD, u32(peer.netnsFd)),
          ),
        ),
      ),
    ]),
  }
}

/** A link on which packets of other links wait, down. See ip-link(8), "ifb". */
export function waitingLinkMessage(name: string): Message {
  return {
    type: RTM_NEWLINK,
    flags: CREATE | NLM_F_EXCL,
    what: `Cannot make the link "${name}"`,
    payload: Buffer.concat([
      ifinfo({}),
      attribute(IFLA_IFNAME, cstring(name)),
      nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, Buffer.from('ifb'))),
    ]),
  }
}

function mtuAttribute(mtu: number | undefined): Buffer[] {
  return mtu === undefined ? [] : [attribute(IFLA_MTU, u32(mtu))]
}

export function linkUpMessage(index: number): Message {
  return {
    type: RTM_NEWLINK,
    flags: NLM_F_ACK,
    payload: ifinfo({ index, up: true }),
    what: `Cannot bring link ${index} up`,
  }
}

/** How large packets on the link may be before they are cut. A kernel that has never heard of it goes on as before. */
export function packetSizeMessage(index: number, bytes: number): Message {
  return {
    type: RTM_NEWLINK,
    flags: NLM_F_ACK,
    payload: Buffer.concat([ifinfo({ index }), attribute(IFLA_GSO_IPV4_MAX_SIZE, u32(bytes))]),
    what: `Cannot set the size of packets on link ${index}`,
  }
}

/** From the answer on nothing passes; routes and neighbours that lead there are forgotten. */
export function linkDownMessage(index: number): Message {
  return {
    type: RTM_NEWLINK,
    flags: NLM_F_ACK,
    payload: ifinfo({ index, up: false }),
    what: `Cannot bring link ${index} down`,
  }
}

export function deleteLinkMessage(index: number): Message {
  return {
    type: RTM_DELLINK,
    flags: NLM_F_ACK,
    payload: ifinfo({ index }),
    what: `Cannot delete link ${index}`,
  }
}

/** A host address (/32) of a link. */
export function addressMessage(link: number, address: Ipv4): Message {
  const header = Buffer.from([AF_INET, 32, 0, RT_SCOPE_UNIVERSE])
  const bytes = u32be(address)
  return {
    type: RTM_NEWADDR,
    flags: CREATE | NLM_F_REPLACE,
    what: `Cannot give link ${link} the address ${ipv4Text(address)}`,
    payload: Buffer.concat([header, u32(link), attribute(IFA_LOCAL, bytes), attribute(IFA_ADDRESS, bytes)]),
  }
}

/** Replaces the route to the same destination, if there is one. No `to` is the default route; `bits` is 32 otherwise. */
export function routeMessage(
  route: { to?: Ipv4; bits?: number } & ({ link: number; via?: Ipv4; source?: Ipv4 } | { blackhole: true }),
): Message {
  const blackhole = 'blackhole' in route
  const direct = !blackhole && route.via === undefined
  const header = Buffer.from([
    AF_INET,
    route.to === undefined ? 0 : (route.bits ?? 32),
    0,
    0,
    RT_TABLE_MAIN,
    RTPROT_STATIC,
    direct ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
    blackhole ? RTN_BLACKHOLE : RTN_UNICAST,
  ])
  const attributes: Buffer[] = [u32(0)]
  if (route.to !== undefined) attributes.push(attribute(RTA_DST, u32be(route.to)))
  if (!blackhole) {
    attributes.push(attribute(RTA_OIF, u32(route.link)))
    if (route.via !== undefined) attributes.push(attribute(RTA_GATEWAY, u32be(route.via)))
    if (route.source !== undefined) attributes.push(attribute(RTA_PREFSRC, u32be(route.source)))
  }
  return {
    type: RTM_NEWROUTE,
    flags: CREATE | NLM_F_REPLACE,
    what: `Cannot set the route to ${route.to === undefined ? 'everywhere' : ipv4Text(route.to)}`,
    payload: Buffer.concat([header, ...attributes]),
  }
}

/** A neighbour that no ARP message can change. */
export function neighbourMessage(link: number, address: Ipv4, lladdr: string): Message {
  const header = Buffer.alloc(12)
  header.writeUInt8(AF_INET, 0)
  header.writeInt32LE(link, 4)
  header.writeUInt16LE(NUD_PERMANENT, 8)
  return {
    type: RTM_NEWNEIGH,
    flags: CREATE | NLM_F_REPLACE,
    what: `Cannot set the neighbour ${ipv4Text(address)}`,
    payload: Buffer.concat([header, attribute(NDA_DST, u32be(address)), attribute(NDA_LLADDR, mac(lladdr))]),
  }
}

export function isGone(error: SyscallError): boolean {
  return error.code === 'ENODEV' || error.code === 'ENOENT'
}

/** Without `up` a link stays as it is. */
function ifinfo({ index = 0, up }: { index?: number; up?: boolean }): Buffer {
  const bytes = Buffer.alloc(16)
  bytes.writeInt32LE(index, 4)
  bytes.writeUInt32LE(up === true ? IFF_UP : 0, 8)
  bytes.writeUInt32LE(up === undefined ? 0 : IFF_UP, 12)
  return bytes
}
