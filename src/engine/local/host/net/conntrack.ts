import {
  NETLINK_NETFILTER,
  NLM_F_ACK,
  type Message,
  NetlinkSocket,
  attribute,
  nested,
  parseAttributes,
  u32be,
} from './netlink.ts'
import { AF_INET } from './syscalls.ts'
import { type Ipv4, type LostBackend, lostBackendKey } from '../../plan/net/index.ts'

const NFNL_SUBSYS_CTNETLINK = 1
const IPCTNL_MSG_CT_GET = 1
const IPCTNL_MSG_CT_DELETE = 2
const CTA_TUPLE_ORIG = 1
const CTA_TUPLE_REPLY = 2
const CTA_MARK = 8
const CTA_ID = 12
const CTA_MARK_MASK = 21
const CTA_TUPLE_IP = 1
const CTA_TUPLE_PROTO = 2
const CTA_IP_V4_SRC = 1
const CTA_IP_V4_DST = 2
const CTA_PROTO_NUM = 1
const CTA_PROTO_SRC_PORT = 2
const CTA_PROTO_DST_PORT = 3
export const IPPROTO_TCP = 6
export const IPPROTO_UDP = 17
const HEADER = Buffer.from([AF_INET, 0, 0, 0])
const EMPTY = Buffer.alloc(0)

export type AskedConnection = {
  protocol: number
  source: Ipv4
  target: Ipv4
  sourcePort: number
  targetPort: number
}

/** The connections that the kernel tracks in the namespace that the thread is in when this is made. */
export class ConnectionSocket extends NetlinkSocket {
  constructor() {
    super(NETLINK_NETFILTER)
  }

  /**
   * UDP has no end, so a client that goes on sending from the same port would be led to an endpoint that is gone for as
   * long as it does. The kernel's list is asked for once, and only for connections to pods with this mark.
   */
  forget(mark: number, lost: readonly LostBackend[]): void {
    if (lost.length === 0) return
    const keys = new Set(lost.map(lostBackendKey))
    this.end(mark, (connection) => {
      const asked = parseTuple(connection.get(CTA_TUPLE_ORIG))
      const answering = parseTuple(connection.get(CTA_TUPLE_REPLY))
      if (asked?.protocol !== IPPROTO_UDP || !answering) return false
      const key = lostBackendKey({
        address: asked.target,
        port: asked.targetPort,
        backend: { address: answering.source, port: answering.sourcePort },
      })
      return keys.has(key)
    })
  }

  /** Ends the connections with this mark that `isLost` names: the next packet of one is a new one's first. */
  cut(mark: number, isLost: (asked: AskedConnection) => boolean): void {
    this.end(mark, (connection) => {
      const asked = parseTuple(connection.get(CTA_TUPLE_ORIG))
      return asked !== undefined && isLost(asked)
    })
  }

  private end(mark: number, isLost: (connection: ReadonlyMap<number, Buffer>) => boolean): void {
    const tracked = this.dump({
      type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET,
      flags: 0,
      what: 'Cannot list connections',
      payload: Buffer.concat([
        HEADER,
        attribute(CTA_MARK, u32be(mark)),
        attribute(CTA_MARK_MASK, u32be(0xffff_ffff)),
      ]),
    })
    const messages = tracked.flatMap(({ payload }): Message[] => {
      const connection = parseAttributes(payload.subarray(HEADER.length))
      return isLost(connection) ? [deleteMessage(connection)] : []
    })
    // The same connection, by its id, or none: it may have ended meanwhile.
    const error = this.requestAll(messages).find((e) => e !== undefined && e.code !== 'ENOENT')
    if (error) throw error
  }
}

function deleteMessage(connection: ReadonlyMap<number, Buffer>): Message {
  return {
    type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE,
    flags: NLM_F_ACK,
    what: 'Cannot forget a connection',
    payload: Buffer.concat([
      HEADER,
      nested(CTA_TUPLE_ORIG, connection.get(CTA_TUPLE_ORIG) ?? EMPTY),
      attribute(CTA_ID, connection.get(CTA_ID) ?? EMPTY),
    ]),
  }
}

/** Undefined for what is neither TCP nor UDP over IPv4. */
function parseTuple(bytes: Buffer = EMPTY): AskedConnection | undefined {
  const tuple = parseAttributes(bytes)
  const addresses = parseAttributes(tuple.get(CTA_TUPLE_IP) ?? EMPTY)
  const ends = parseAttributes(tuple.get(CTA_TUPLE_PROTO) ?? EMPTY)
  const [source, target] = [addresses.get(CTA_IP_V4_SRC), addresses.get(CTA_IP_V4_DST)]
  const [sourcePort, targetPort] = [ends.get(CTA_PROTO_SRC_PORT), ends.get(CTA_PROTO_DST_PORT)]
  const protocol = ends.get(CTA_PROTO_NUM)?.[0]
  if (protocol !== IPPROTO_UDP && protocol !== IPPROTO_TCP) return undefined
  if (source?.length !== 4 || target?.length !== 4 || sourcePort?.length !== 2 || targetPort?.length !== 2)
    return undefined
  return {
    protocol,
    source: source.readUInt32BE(0),
    target: target.readUInt32BE(0),
    sourcePort: sourcePort.readUInt16BE(0),
    targetPort: targetPort.readUInt16BE(0),
  }
}
