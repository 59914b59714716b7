import {
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_EXCL,
  type Message,
  type Reply,
  attribute,
  cstring,
  nested,
  parseAttributes,
  u16,
  u32,
} from './netlink.ts'
import type { FilterInstruction, LinkFilter } from '../../plan/net/index.ts'

const RTM_NEWQDISC = 36
const RTM_DELQDISC = 37
const RTM_NEWTFILTER = 44
const RTM_GETTFILTER = 46
const TCA_KIND = 1
const TCA_OPTIONS = 2
const TCA_CHAIN = 11
const TCA_BPF_OPS_LEN = 4
const TCA_BPF_OPS = 5
const TCA_BPF_FLAGS = 8
const TCA_BPF_FLAGS_GEN = 9
/** The program's answer is what happens to the packet (direct-action). */
const TCA_BPF_FLAG_ACT_DIRECT = 1
const TCA_CLS_FLAGS_SKIP_SW = 2
const CLSACT_HANDLE = 0xffff_0000
const CLSACT_PARENT = 0xffff_fff1
const PARENTS = { fromPod: 0xffff_fff2, toPod: 0xffff_fff3 } as const
const ETH_P_ALL = 3
const PRIORITY = 1
const HANDLE = 1
const TCMSG_BYTES = 20
// The protocol is big-endian in the low half.
const INFO = ((PRIORITY << 16) | (ETH_P_ALL << 8)) >>> 0

export const DIRECTIONS = ['fromPod', 'toPod'] as const
export type Direction = (typeof DIRECTIONS)[number]

/** Puts the filter on a link that has none; it works from the moment of the answer. See tc-bpf(8). */
export function filterMessages(link: number, filter: LinkFilter): Message[] {
  return [
    {
      type: RTM_NEWQDISC,
      flags: NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
      what: `Cannot make the link ${link} able to filter`,
      payload: Buffer.concat([
        tcmsg(link, { handle: CLSACT_HANDLE, parent: CLSACT_PARENT }),
        attribute(TCA_KIND, cstring('clsact')),
      ]),
    },
    ...DIRECTIONS.map((direction) => ({
      type: RTM_NEWTFILTER,
      flags: NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
      what: `Cannot filter the link ${link}`,
      payload: Buffer.concat([
        tcmsg(link, { handle: HANDLE, parent: PARENTS[direction], info: INFO }),
        attribute(TCA_KIND, cstring('bpf')),
        nested(
          TCA_OPTIONS,
          attribute(TCA_BPF_OPS_LEN, u16(filter[direction].length)),
          attribute(TCA_BPF_OPS, encode(filter[direction])),
          attribute(TCA_BPF_FLAGS, u32(TCA_BPF_FLAG_ACT_DIRECT)),
        ),
      ]),
    })),
  ]
}

/** Takes every filter off a link; fails with ENOENT when there is none. */
export function unfilterMessage(link: number): Message {
  return {
    type: RTM_DELQDISC,
    flags: NLM_F_ACK,
    what: `Cannot take the filters off the link ${link}`,
    payload: tcmsg(link, { handle: 0, parent: CLSACT_PARENT }),
  }
}

/** Asks for every filter of a link in one direction. */
export function listFiltersMessage(link: number, direction: Direction): Message {
  return {
    type: RTM_GETTFILTER,
    flags: 0,
    what: `Cannot list the filters of the link ${link}`,
    payload: tcmsg(link, { handle: 0, parent: PARENTS[direction] }),
  }
}

/** Whether the kernel's list has the program and nothing else: another filter could decide before it. */
export function isExactly(replies: readonly Reply[], program: readonly FilterInstruction[]): boolean {
  const all = replies.map(({ type, payload }) => ({
    type,
    handle: payload.readUInt32LE(8),
    info: payload.readUInt32LE(16),
    attributes: parseAttributes(payload.subarray(TCMSG_BYTES)),
  }))
  // One entry stands for the list of this priority, without a handle, and one for each filter on it.
  const filters = all.filter((each) => each.handle !== 0)
  const [only] = filters
  if (!only || filters.length !== 1) return false
  if (
    all.some(
      ({ type, info, attributes }) =>
        type !== RTM_NEWTFILTER ||
        info !== INFO ||
        !attributes.get(TCA_KIND)?.equals(cstring('bpf')) ||
        number(attributes.get(TCA_CHAIN)) !== 0,
    )
  )
    return false
  const options = parseAttributes(only.attributes.get(TCA_OPTIONS) ?? Buffer.alloc(0))
  return (
    only.handle === HANDLE &&
    options.get(TCA_BPF_OPS)?.equals(encode(program)) === true &&
    number(options.get(TCA_BPF_FLAGS)) === TCA_BPF_FLAG_ACT_DIRECT &&
    (number(options.get(TCA_BPF_FLAGS_GEN)) & TCA_CLS_FLAGS_SKIP_SW) === 0
  )
}

function number(value: Buffer | undefined): number {
  return value?.length === 4 ? value.readUInt32LE(0) : 0
}

/** `struct sock_filter`, in the byte order of the machine. */
function encode(program: readonly FilterInstruction[]): Buffer {
  return Buffer.concat(
    program.map(({ code, jt, jf, k }) => Buffer.concat([u16(code), Buffer.from([jt, jf]), u32(k)])),
  )
}

function tcmsg(
  link: number,
  { handle, parent, info = 0 }: { handle: number; parent: number; info?: number },
) {
  return Buffer.concat([u32(0), u32(link), u32(handle), u32(parent), u32(info)])
}
