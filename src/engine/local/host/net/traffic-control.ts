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

export const RTM_NEWQDISC = 36
const RTM_DELQDISC = 37
export const RTM_NEWTFILTER = 44
export const RTM_GETTFILTER = 46
export const TCA_KIND = 1
export const TCA_OPTIONS = 2
const TCA_CHAIN = 11
const TCA_BPF_ACT = 1
const TCA_BPF_OPS_LEN = 4
const TCA_BPF_OPS = 5
const TCA_BPF_FLAGS = 8
const TCA_BPF_FLAGS_GEN = 9
/** The program's answer is what happens to the packet (direct-action). */
const TCA_BPF_FLAG_ACT_DIRECT = 1
const TCA_CLS_FLAGS_SKIP_SW = 2
const TCA_ACT_KIND = 1
const TCA_ACT_OPTIONS = 2
const TCA_MIRRED_PARMS = 2
const TCA_EGRESS_REDIR = 1
const TC_ACT_STOLEN = 4
/** The place of the only action of a filter. */
const FIRST_ACTION = 1
const CLSACT_HANDLE = 0xffff_0000
const CLSACT_PARENT = 0xffff_fff1
const PARENTS = { fromPod: 0xffff_fff2, toPod: 0xffff_fff3 } as const
const ETH_P_ALL = 3
const HANDLE = 1
export const TCMSG_BYTES = 20
/** Priority and protocol of a filter; the protocol is big-endian in the low half. */
export const filterInfo = (priority: number) => ((priority << 16) | (ETH_P_ALL << 8)) >>> 0
/** First what may pass at all, then where it waits. */
const MAY_PASS = filterInfo(1)
const WAITS = filterInfo(2)

export const DIRECTIONS = ['fromPod', 'toPod'] as const
export type Direction = (typeof DIRECTIONS)[number]

/** Links, by index, through which what passes goes first if its program says so. */
export type Detour = Readonly<Record<Direction, { link: number; waits: readonly FilterInstruction[] }>>

/**
 * Puts the filter on a link that has none; it works from the moment of the answer. See tc-bpf(8) and tc-mirred(8): what
 * is to take a way through a link that is gone is dropped.
 */
export function filterMessages(link: number, filter: LinkFilter, detour?: Detour): Message[] {
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
    // Waiting before passing, so that nothing passes in between without.
    ...(detour === undefined
      ? []
      : DIRECTIONS.map((direction) =>
          filterMessage(
            link,
            { parent: PARENTS[direction], info: WAITS },
            attribute(TCA_BPF_OPS_LEN, u16(detour[direction].waits.length)),
            attribute(TCA_BPF_OPS, encode(detour[direction].waits)),
            nested(
              TCA_BPF_ACT,
              nested(
                FIRST_ACTION,
                attribute(TCA_ACT_KIND, cstring('mirred')),
                nested(TCA_ACT_OPTIONS, attribute(TCA_MIRRED_PARMS, mirred(detour[direction].link))),
              ),
            ),
          ),
        )),
    ...DIRECTIONS.map((direction) =>
      filterMessage(
        link,
        { parent: PARENTS[direction], info: MAY_PASS },
        attribute(TCA_BPF_OPS_LEN, u16(filter[direction].length)),
        attribute(TCA_BPF_OPS, encode(filter[direction])),
        attribute(TCA_BPF_FLAGS, u32(TCA_BPF_FLAG_ACT_DIRECT)),
      ),
    ),
  ]
}

export function filterMessage(
  link: number,
  { parent, info }: { parent: number; info: number },
  ...options: Buffer[]
): Message {
  return {
    type: RTM_NEWTFILTER,
    flags: NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
    what: `Cannot filter the link ${link}`,
    payload: Buffer.concat([
      tcmsg(link, { handle: HANDLE, parent, info }),
      attribute(TCA_KIND, cstring('bpf')),
      nested(TCA_OPTIONS, ...options),
    ]),
  }
}

/** A filter that names the class of what it looks at. */
export function classifierMessage(
  link: number,
  parent: number,
  program: readonly FilterInstruction[],
): Message {
  return filterMessage(
    link,
    { parent, info: MAY_PASS },
    attribute(TCA_BPF_OPS_LEN, u16(program.length)),
    attribute(TCA_BPF_OPS, encode(program)),
  )
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

/** Asks for the filters that name classes. */
export function listClassifiersMessage(link: number, parent: number): Message {
  return {
    type: RTM_GETTFILTER,
    flags: 0,
    what: `Cannot list the filters of the link ${link}`,
    payload: tcmsg(link, { handle: 0, parent }),
  }
}

type ListedFilter = { handle: number; info: number; options: Map<number, Buffer> }

/** The filters of a list; undefined where there is something in it that we would not have made. */
function parseList(replies: readonly Reply[]): ListedFilter[] | undefined {
  const all = replies.map(({ type, payload }) => ({
    type,
    handle: payload.readUInt32LE(8),
    info: payload.readUInt32LE(16),
    attributes: parseAttributes(payload.subarray(TCMSG_BYTES)),
  }))
  const ours = all.every(
    ({ type, attributes }) =>
      type === RTM_NEWTFILTER &&
      attributes.get(TCA_KIND)?.equals(cstring('bpf')) === true &&
      number(attributes.get(TCA_CHAIN)) === 0,
  )
  if (!ours) return undefined
  // One entry stands for the list of each priority, without a handle, and one for each filter on it.
  return all
    .filter(({ handle }) => handle !== 0)
    .map(({ handle, info, attributes }) => ({
      handle,
      info,
      options: parseAttributes(attributes.get(TCA_OPTIONS) ?? Buffer.alloc(0)),
    }))
}

/** Whether the kernel's list has these filters and nothing else: another could decide before them. */
export function isExactly(
  replies: readonly Reply[],
  program: readonly FilterInstruction[],
  detour?: Detour[Direction],
): boolean {
  const [first, second, ...more] = parseList(replies) ?? []
  return (
    first !== undefined &&
    more.length === 0 &&
    isFilter(first, MAY_PASS, program, TCA_BPF_FLAG_ACT_DIRECT) &&
    (detour === undefined
      ? second === undefined
      : second !== undefined &&
        isFilter(second, WAITS, detour.waits, 0) &&
        leadsTo(second.options.get(TCA_BPF_ACT)) === detour.link)
  )
}

/** Whether the only filter in the list is one that names classes by this program. */
export function isClassifier(replies: readonly Reply[], program: readonly FilterInstruction[]): boolean {
  const [only, ...more] = parseList(replies) ?? []
  return only !== undefined && more.length === 0 && isFilter(only, MAY_PASS, program, 0)
}

function isFilter(
  { handle, info, options }: ListedFilter,
  wanted: number,
  program: readonly FilterInstruction[],
  flags: number,
): boolean {
  return (
    handle === HANDLE &&
    info === wanted &&
    options.get(TCA_BPF_OPS)?.equals(encode(program)) === true &&
    number(options.get(TCA_BPF_FLAGS)) === flags &&
    (number(options.get(TCA_BPF_FLAGS_GEN)) & TCA_CLS_FLAGS_SKIP_SW) === 0
  )
}

/** The link that the only action of a filter redirects to. */
function leadsTo(actions: Buffer | undefined): number | undefined {
  const listed = parseAttributes(actions ?? Buffer.alloc(0))
  const action = parseAttributes(listed.get(FIRST_ACTION) ?? Buffer.alloc(0))
  if (listed.size !== 1 || !action.get(TCA_ACT_KIND)?.equals(cstring('mirred'))) return undefined
  const parameters = parseAttributes(action.get(TCA_ACT_OPTIONS) ?? Buffer.alloc(0)).get(TCA_MIRRED_PARMS)
  if (parameters?.length !== MIRRED_BYTES || parameters.readUInt32LE(20) !== TCA_EGRESS_REDIR)
    return undefined
  return parameters.readUInt32LE(24)
}

const MIRRED_BYTES = 28

/** `struct tc_mirred`: as if the link had sent it. */
function mirred(link: number): Buffer {
  return Buffer.concat([0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, link].map(u32))
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

export function tcmsg(
  link: number,
  { handle, parent, info = 0 }: { handle: number; parent: number; info?: number },
) {
  return Buffer.concat([u32(0), u32(link), u32(handle), u32(parent), u32(info)])
}
