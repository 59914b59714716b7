import { REST, type ShareClass, type SharePlan, netLimits } from '../../plan/net/index.ts'
import {
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  type Message,
  type Reply,
  attribute,
  cstring,
  nested,
  parseAttributes,
  u16,
  u32,
} from './netlink.ts'
import {
  RTM_NEWQDISC,
  TCA_KIND,
  TCA_OPTIONS,
  TCMSG_BYTES,
  classifierMessage,
  tcmsg,
} from './traffic-control.ts'

const RTM_GETQDISC = 38
const RTM_NEWTCLASS = 40
const RTM_DELTCLASS = 41
const RTM_GETTCLASS = 42
const TC_H_ROOT = 0xffff_ffff
/** The number of every queue of ours. */
export const QUEUE_HANDLE = 0x1_0000
const TCA_HTB_PARMS = 1
const TCA_HTB_INIT = 2
const TCA_HTB_RATE64 = 6
const TCA_HTB_CEIL64 = 7
const HTB_VERSION = 3
const TC_LINKLAYER_ETHERNET = 1
/** The kernel measures time here in units of 64 ns (PSCHED_SHIFT). */
const TICK_NS = 64
/** What a class may send at once: what comes of HZ ticks of 10 ms, and of the largest packets that the kernel makes. */
const BURST_MS = 10
/** How much each class sends before it is the next one's turn. */
const QUANTUM_BYTES = 60_000

/** Puts a queue on a link that has none but the kernel's own. */
export function queueMessages(link: number, plan: SharePlan): Message[] {
  return [
    {
      type: RTM_NEWQDISC,
      flags: NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
      what: `Cannot give the link ${link} a queue`,
      payload: Buffer.concat([
        tcmsg(link, { handle: QUEUE_HANDLE, parent: TC_H_ROOT }),
        attribute(TCA_KIND, cstring('htb')),
        nested(TCA_OPTIONS, attribute(TCA_HTB_INIT, Buffer.concat([HTB_VERSION, 10, REST, 0, 0].map(u32)))),
      ]),
    },
    ...rateMessages(link, plan),
    classifierMessage(link, QUEUE_HANDLE, plan.classify),
  ]
}

/** What is guaranteed and allowed at most; also changes what is there. */
export function rateMessages(link: number, { whole, rest }: Pick<SharePlan, 'whole' | 'rest'>): Message[] {
  return [classMessage(link, QUEUE_HANDLE, whole), ...waitingMessages(link, whole, rest)]
}

/** A class below the whole, with its queue; also changes one that is there. */
export function waitingMessages(link: number, whole: Pick<ShareClass, 'id'>, each: ShareClass): Message[] {
  const minor = QUEUE_HANDLE | each.id
  return [
    classMessage(link, QUEUE_HANDLE | whole.id, each),
    {
      type: RTM_NEWQDISC,
      flags: NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
      what: `Cannot give a class of the link ${link} its queue`,
      payload: Buffer.concat([
        // A number of its own, so that saying it again changes the queue that is there.
        tcmsg(link, { handle: ((each.id ^ 0x8000) << 16) >>> 0, parent: minor }),
        attribute(TCA_KIND, cstring('bfifo')),
        attribute(TCA_OPTIONS, u32(each.queueBytesMax ?? netLimits.QUEUE_BYTES_MIN)),
      ]),
    },
  ]
}

export function removeClassMessage(link: number, id: number): Message {
  return {
    type: RTM_DELTCLASS,
    flags: NLM_F_ACK,
    what: `Cannot remove a class of the link ${link}`,
    payload: tcmsg(link, { handle: QUEUE_HANDLE | id, parent: 0 }),
  }
}

export function listQueuesMessage(link: number): Message {
  return {
    type: RTM_GETQDISC,
    flags: 0,
    what: `Cannot list the queues of the link ${link}`,
    payload: tcmsg(link, { handle: 0, parent: 0 }),
  }
}

export function listClassesMessage(link: number): Message {
  return {
    type: RTM_GETTCLASS,
    flags: 0,
    what: `Cannot list the classes of the link ${link}`,
    payload: tcmsg(link, { handle: 0, parent: 0 }),
  }
}

/** Whether the first thing that a link's packets come to is a queue of ours. */
export function hasQueue(replies: readonly Reply[], link: number): boolean {
  return replies.some(({ payload }) => {
    const attributes = parseAttributes(payload.subarray(TCMSG_BYTES))
    const init = parseAttributes(attributes.get(TCA_OPTIONS) ?? Buffer.alloc(0)).get(TCA_HTB_INIT)
    return (
      payload.readInt32LE(4) === link &&
      payload.readUInt32LE(8) === QUEUE_HANDLE &&
      payload.readUInt32LE(12) === TC_H_ROOT &&
      attributes.get(TCA_KIND)?.equals(cstring('htb')) === true &&
      init?.readUInt32LE(8) === REST
    )
  })
}

/** The second halves of the classes' numbers. */
export function classIds(replies: readonly Reply[], link: number): number[] {
  return replies
    .filter(({ payload }) => payload.readInt32LE(4) === link)
    .map(({ payload }) => payload.readUInt32LE(8) & 0xffff)
}

function classMessage(
  link: number,
  parent: number,
  { id, bytesPerSecond, ceilingBytesPerSecond }: ShareClass,
): Message {
  return {
    type: RTM_NEWTCLASS,
    flags: NLM_F_ACK | NLM_F_CREATE,
    what: `Cannot make a class of the link ${link}`,
    payload: Buffer.concat([
      tcmsg(link, { handle: QUEUE_HANDLE | id, parent }),
      attribute(TCA_KIND, cstring('htb')),
      nested(
        TCA_OPTIONS,
        attribute(
          TCA_HTB_PARMS,
          Buffer.concat([
            rateSpec(bytesPerSecond),
            rateSpec(ceilingBytesPerSecond),
            ...[burst(bytesPerSecond), burst(ceilingBytesPerSecond), QUANTUM_BYTES, 0, 0].map(u32),
          ]),
        ),
        attribute(TCA_HTB_RATE64, u64(bytesPerSecond)),
        attribute(TCA_HTB_CEIL64, u64(ceilingBytesPerSecond)),
      ),
    ]),
  }
}

/** `struct tc_ratespec`. */
function rateSpec(bytesPerSecond: number): Buffer {
  return Buffer.concat([
    Buffer.from([0, TC_LINKLAYER_ETHERNET]),
    u16(0),
    u16(0),
    u16(netLimits.PACKET_BYTES_CHARGED_MIN),
    u32(Math.min(bytesPerSecond, 0xffff_ffff)),
  ])
}

/** How long the burst takes at that rate. */
function burst(bytesPerSecond: number): number {
  const bytes = Math.max(netLimits.QUEUE_BYTES_MIN / 2, (bytesPerSecond * BURST_MS) / 1_000)
  return Math.min(0xffff_ffff, Math.ceil((bytes / bytesPerSecond) * (1e9 / TICK_NS)))
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
