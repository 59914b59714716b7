import type { Ipv4Network } from '../../../../api/index.ts'
import { assert } from '../../../../stdx/index.ts'
import type { Ipv4 } from './addresses.ts'
import {
  LOAD_WORD,
  LOAD_HALF,
  LOAD_LENGTH,
  AND,
  IF_EQUAL,
  IF_AT_LEAST,
  RETURN,
  TC_ACT_OK,
  TC_ACT_SHOT,
  TYPE_AT,
  SOURCE_AT,
  TARGET_AT,
  HEADERS_BYTES,
  TYPE_IPV4,
  type FilterInstruction,
} from './classic-bpf.ts'
import type { LinkFilter } from './link-filter.ts'

/** BPF_MAXINSNS. */
const INSTRUCTIONS_MAX = 4_096

const step = (code: number, k: number, jt = 0, jf = 0): FilterInstruction => ({ code, jt, jf, k })
const drop = step(RETURN, TC_ACT_SHOT)
const pass = step(RETURN, TC_ACT_OK)

export type UplinkAddresses = {
  /** The router's address on the uplink: all that leaves is translated to it. */
  router: Ipv4
  /** Where nobody gets, first the machine's own addresses. */
  never: readonly Ipv4Network[]
  /** Where one gets although it lies within `inside`. */
  near: readonly Ipv4Network[]
  inside: readonly Ipv4Network[]
}

/**
 * What the router's end of the uplink lets through, by addresses alone and without any rules of nftables: out only IPv4
 * under the router's address to where somebody may go at all, and in only what is for that address from such a place.
 */
export function renderUplinkFilter(addresses: UplinkAddresses): LinkFilter {
  const { router, never, near, inside } = addresses
  const places = (at: number) => [
    ...never.flatMap((each) => within(at, each, drop)),
    ...near.flatMap((each) => within(at, each, pass)),
    ...inside.flatMap((each) => within(at, each, drop)),
    pass,
  ]
  const program = (ownAt: number, theirsAt: number) => {
    const steps = [
      step(LOAD_LENGTH, 0),
      step(IF_AT_LEAST, HEADERS_BYTES, 1, 0),
      drop,
      step(LOAD_HALF, TYPE_AT),
      step(IF_EQUAL, TYPE_IPV4, 1, 0),
      drop,
      step(LOAD_WORD, ownAt),
      step(IF_EQUAL, router, 1, 0),
      drop,
      ...places(theirsAt),
    ]
    assert(steps.length <= INSTRUCTIONS_MAX, 'The uplink has more networks than a filter can hold')
    return steps
  }
  return { fromPod: program(TARGET_AT, SOURCE_AT), toPod: program(SOURCE_AT, TARGET_AT) }
}

function within(at: number, { base, bits }: Ipv4Network, then: FilterInstruction): FilterInstruction[] {
  // A shift by 32 would be one by 0.
  const mask = bits === 0 ? 0 : 2 ** 32 - 2 ** (32 - bits)
  return [step(LOAD_WORD, at), step(AND, mask), step(IF_EQUAL, base, 0, 1), then]
}
