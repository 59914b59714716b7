import { API_SERVICE } from '../../../../api/index.ts'
import type { BandwidthCaps } from '../../../../jail/index.ts'
import { assert } from '../../../../stdx/index.ts'
import {
  SERVICE_BLOCK,
  doorAddress,
  ipv4FromText,
  tenantBlock,
  tenantIndexOf,
  tenantMark,
  type Ipv4,
} from './addresses.ts'
import {
  AND,
  type FilterInstruction,
  IF_EQUAL,
  LOAD_MARK,
  LOAD_WORD,
  ADD,
  OR,
  RETURN,
  RETURN_A,
  SOURCE_AT,
  TARGET_AT,
} from './classic-bpf.ts'
import {
  BITS_PER_SECOND_MAX,
  BITS_PER_SECOND_MIN,
  GUARANTEED_BITS_PER_SECOND,
  PACKET_BYTES_CHARGED_MIN,
  PACKET_BYTES_MAX,
  PACKET_BYTES_USUAL,
  QUEUE_BYTES_MAX,
  QUEUE_BYTES_MIN,
  QUEUE_MS,
  RULES_SLACK_PERCENT,
  TENANT_BITS,
  TENANT_BITS_PER_SECOND,
} from './limits.ts'
import { TABLE } from './table.ts'

/** What pods may receive and send in a second, within the platform and outside together. */
export type Bandwidth = { ingressBitsPerSecond: number; egressBitsPerSecond: number }

/** Nobody is without a limit. */
export function bandwidthOf(caps: BandwidthCaps | undefined): Bandwidth {
  const within = (bits: number | undefined) =>
    Math.min(BITS_PER_SECOND_MAX, Math.max(BITS_PER_SECOND_MIN, bits ?? TENANT_BITS_PER_SECOND))
  return {
    ingressBitsPerSecond: within(caps?.ingressBitsPerSecond),
    egressBitsPerSecond: within(caps?.egressBitsPerSecond),
  }
}

/**
 * How large packets are that a pod makes: what its link carries in a millisecond, so that none keeps others waiting for long.
 * What a packet costs on its way, with all rules, is then spread over more bytes. What leaves the machine would have to be
 * cut by the processor, so whoever may reach outside makes none that are larger than usual.
 */
export function packetBytesMax(bitsPerSecond: number, outside: boolean): number {
  const inMillisecond = Math.floor(bitsPerSecond / 8 / 1_000)
  return outside
    ? PACKET_BYTES_USUAL
    : Math.min(PACKET_BYTES_MAX, Math.max(PACKET_BYTES_USUAL, inMillisecond))
}

/** A named limit of the router's rules: how much a tenant may send or receive, whatever its links let through. */
export type RuleLimit = { set: LimitSet; mark: number; rate: number }
export const LIMIT_SETS = ['sent_bytes', 'sent_packets', 'received_bytes', 'received_packets'] as const
export type LimitSet = (typeof LIMIT_SETS)[number]

/**
 * A little above what the links let through, so that in peace only the links are felt: they make senders wait, the rules
 * can only drop.
 */
export function planLimits(index: number, bandwidth: Bandwidth): RuleLimit[] {
  const mark = tenantMark(index)
  const slack = (rate: number) => Math.ceil((rate * (100 + RULES_SLACK_PERCENT)) / 100)
  return (
    [
      ['sent', bandwidth.egressBitsPerSecond],
      ['received', bandwidth.ingressBitsPerSecond],
    ] as const
  ).flatMap(([way, bits]): RuleLimit[] => [
    { set: `${way}_bytes`, mark, rate: slack(bits / 8) },
    { set: `${way}_packets`, mark, rate: slack(bits / 8 / PACKET_BYTES_CHARGED_MIN) },
  ])
}

/** A limit is named by what it says, because the kernel does not change one that is there. */
export function limitName({ set, mark, rate }: RuleLimit): string {
  return `${set}_${mark}_${rate}`
}

/** What an element of one of the maps of limits says; undefined when we would not have made it. */
export function parseLimit(set: string, mark: unknown, name: unknown): RuleLimit | undefined {
  const known = LIMIT_SETS.find((each) => each === set)
  if (known === undefined || typeof mark !== 'number' || typeof name !== 'string') return undefined
  const limit = { set: known, mark, rate: Number(name.slice(`${known}_${mark}_`.length)) }
  return Number.isSafeInteger(limit.rate) && limitName(limit) === name ? limit : undefined
}

/** From one list of limits to another, in one transaction. Empty when nothing differs. */
export function renderLimitsChanged(from: readonly RuleLimit[], to: readonly RuleLimit[]): string {
  const [before, after] = [from, to].map((limits) => new Set(limits.map(limitName)))
  const gone = from.filter((limit) => !after?.has(limitName(limit)))
  const fresh = to.filter((limit) => !before?.has(limitName(limit)))
  return [
    ...gone.map(({ set, mark }) => `delete element inet ${TABLE} ${set} { ${mark} }`),
    ...gone.map((limit) => `delete limit inet ${TABLE} ${limitName(limit)}`),
    ...fresh.map(
      (limit) =>
        `add limit inet ${TABLE} ${limitName(limit)} { rate over ${limit.rate}${
          limit.set.endsWith('_bytes')
            ? ` bytes/second burst ${QUEUE_BYTES_MIN} bytes`
            : `/second burst ${Math.max(100, Math.ceil(limit.rate / 10))} packets`
        } }`,
    ),
    ...fresh.map(
      (limit) => `add element inet ${TABLE} ${limit.set} { ${limit.mark} : "${limitName(limit)}" }`,
    ),
  ].join('\n')
}

/** The links through which all that a tenant's pods send, or receive, passes one after the other. */
export function shareLinks(index: number): { send: string; receive: string } {
  tenantMark(index) // refuses an index that no tenant has
  return { send: `send-${index}`, receive: `receive-${index}` }
}

const SHARE_LINK = /^(?:send|receive)-(0|[1-9]\d{0,3})$/

/** Whose share a link is; undefined for every other link. */
export function shareOwner(name: string): number | undefined {
  const index = SHARE_LINK.exec(name)?.[1]
  return index === undefined ? undefined : Number(index)
}

/** A class of a hierarchical token bucket, see tc-htb(8). It has its guarantee, and borrows up to the ceiling. */
export type ShareClass = {
  id: number
  bytesPerSecond: number
  ceilingBytesPerSecond: number
  /** Bytes that wait at most; only where packets wait. */
  queueBytesMax?: number
}
export type SharePlan = {
  /** All that passes, together. */
  whole: ShareClass
  /** For whatever has no class of its own. */
  rest: ShareClass
  /** Names the class of a packet. */
  classify: readonly FilterInstruction[]
}

/** Number 1 of every queue; the second half of a class's number is its place in there. */
const MAJOR = 0x1_0000
const WHOLE = 0x1
export const REST = 0xffff
const PODS = 0x1000
const TENANTS = 0x2000

/** One tenant's share in one direction: its pods' caps within its own. */
export function planShare(direction: 'send' | 'receive', bitsPerSecond: number): SharePlan {
  return {
    whole: shareClass(WHOLE, bitsPerSecond, bitsPerSecond),
    rest: waitingClass(REST, bitsPerSecond),
    classify: [
      { code: LOAD_WORD, jt: 0, jf: 0, k: direction === 'send' ? SOURCE_AT : TARGET_AT },
      { code: AND, jt: 0, jf: 0, k: 2 ** TENANT_BITS - 1 },
      { code: OR, jt: 0, jf: 0, k: MAJOR | PODS },
      { code: RETURN_A, jt: 0, jf: 0, k: 0 },
    ],
  }
}

/** Whether a tenant's link has a class of that number. */
export function isClassOf({ whole, rest }: SharePlan, id: number): boolean {
  return id === whole.id || id === rest.id || id >>> TENANT_BITS === PODS >>> TENANT_BITS
}

/** The class of a pod with a cap of its own, the same in both of its tenant's links. */
export function podClass(address: Ipv4, bitsPerSecond: number): ShareClass {
  return waitingClass(podClassId(address), bitsPerSecond)
}

export function podClassId(address: Ipv4): number {
  assert(tenantIndexOf(address) !== undefined, `The address ${address} is no pod's`)
  return PODS | (address & (2 ** TENANT_BITS - 1))
}

/**
 * The way outside: every tenant that sends has an equal part of it while it is full, and more while it is not. Which
 * tenant a packet is from is what the router's rules have marked it with.
 */
export function planUplinkShare(bitsPerSecond: number): SharePlan {
  return {
    whole: shareClass(WHOLE, bitsPerSecond, bitsPerSecond),
    rest: waitingClass(REST, bitsPerSecond),
    classify: [
      { code: LOAD_WORD, jt: 0, jf: 0, k: LOAD_MARK },
      { code: ADD, jt: 0, jf: 0, k: MAJOR + TENANTS },
      { code: RETURN_A, jt: 0, jf: 0, k: 0 },
    ],
  }
}

export function tenantClass(index: number, bitsPerSecond: number): ShareClass {
  return waitingClass(TENANTS + tenantMark(index), bitsPerSecond)
}

/** Of any frame: goes on with what comes after the filter. */
export const EVERYTHING: readonly FilterInstruction[] = [{ code: RETURN, jt: 0, jf: 0, k: 0xffff_ffff }]

/** Which packets wait on the tenant's links: of those that a pod sends, and of those that are sent to it. */
export type Waiting = { fromPod: readonly FilterInstruction[]; toPod: readonly FilterInstruction[] }

/**
 * What stays within a tenant waits once, because waiting is what costs a packet most: where the tenant may have less of it,
 * and so no more than it may have at the other end either. A pod with a limit of its own waits for that in any case.
 */
export function planWaiting(index: number, whole: Bandwidth, own: BandwidthCaps | undefined): Waiting {
  const isReceivedSlower = whole.ingressBitsPerSecond <= whole.egressBitsPerSecond
  return isReceivedSlower
    ? {
        fromPod: own?.egressBitsPerSecond === undefined ? exceptWithin(TARGET_AT, index) : EVERYTHING,
        toPod: EVERYTHING,
      }
    : {
        fromPod: EVERYTHING,
        toPod: own?.ingressBitsPerSecond === undefined ? exceptWithin(SOURCE_AT, index) : EVERYTHING,
      }
}

/** All but what other pods of the tenant are at the other end of, also behind a service; programs of the router's are not. */
function exceptWithin(at: number, index: number): FilterInstruction[] {
  const api = ipv4FromText(API_SERVICE.clusterIP)
  assert(api !== undefined, 'The service of the API has no address')
  const [own, services] = [tenantBlock(index), SERVICE_BLOCK]
  return [
    { code: LOAD_WORD, jt: 0, jf: 0, k: at },
    { code: IF_EQUAL, jt: 6, jf: 0, k: doorAddress(index) },
    { code: IF_EQUAL, jt: 5, jf: 0, k: api },
    { code: AND, jt: 0, jf: 0, k: own.mask },
    { code: IF_EQUAL, jt: 4, jf: 0, k: own.base },
    { code: LOAD_WORD, jt: 0, jf: 0, k: at },
    { code: AND, jt: 0, jf: 0, k: services.mask },
    { code: IF_EQUAL, jt: 1, jf: 0, k: services.base },
    ...EVERYTHING,
    { code: RETURN, jt: 0, jf: 0, k: 0 },
  ]
}

function shareClass(id: number, bits: number, ceilingBits: number): ShareClass {
  const bytes = (each: number) => Math.max(1, Math.floor(each / 8))
  return { id, bytesPerSecond: bytes(bits), ceilingBytesPerSecond: bytes(ceilingBits) }
}

function waitingClass(id: number, bits: number): ShareClass {
  const wait = Math.ceil(((bits / 8) * QUEUE_MS) / 1_000)
  return {
    // What is guaranteed is next to nothing: above it all borrow in turn, which is what makes the parts equal.
    ...shareClass(id, Math.min(bits, GUARANTEED_BITS_PER_SECOND), bits),
    queueBytesMax: Math.min(QUEUE_BYTES_MAX, Math.max(QUEUE_BYTES_MIN, wait)),
  }
}
