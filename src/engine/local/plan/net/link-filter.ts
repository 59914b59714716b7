import { assert } from '../../../../stdx/index.ts'
import { GATEWAY, SERVICE_BLOCK, ipv4FromText, podMac, tenantBlock, tenantIndexOf } from './addresses.ts'
import { NEVER } from './outside.ts'
import {
  LOAD_WORD,
  LOAD_HALF,
  LOAD_LENGTH,
  AND,
  IF_EQUAL,
  IF_AT_LEAST,
  RETURN,
  TC_ACT_UNSPEC,
  TC_ACT_SHOT,
  SENDER_MAC_AT,
  TYPE_AT,
  SOURCE_AT,
  TARGET_AT,
  HEADERS_BYTES,
  TYPE_IPV4,
  type FilterInstruction,
} from './classic-bpf.ts'
import type { PodElement } from './ruleset.ts'

/** The programs on the router's end of a pod's link: for what the pod sends, and for what is sent to it. */
export type LinkFilter = { fromPod: readonly FilterInstruction[]; toPod: readonly FilterInstruction[] }

type Verdict = 'pass' | 'drop'
type Step =
  | { code: typeof LOAD_WORD | typeof LOAD_HALF | typeof LOAD_LENGTH | typeof AND; k: number }
  /** `then` and `otherwise` go on with the next step when they say nothing. */
  | { code: typeof IF_EQUAL | typeof IF_AT_LEAST; k: number; then?: Verdict; otherwise?: Verdict }

/**
 * What keeps a pod's link within its tenant, by addresses alone and without the router's rules: only IPv4 passes, from
 * the pod only under its own addresses, and both ways only with addresses of its tenant, virtual ones of services, and
 * the router's own. Not even ARP passes, because both ends know each other from birth. With `outside`, addresses pass too
 * that are nobody's on this machine: which of them is for the router's rules to say.
 */
export function renderLinkFilter(pod: Pick<PodElement, 'address' | 'index' | 'outside'>): LinkFilter {
  assert(
    tenantIndexOf(pod.address) === pod.index,
    `The address ${pod.address} is no pod's of the tenant with index ${pod.index}`,
  )
  const mac = BigInt(`0x${podMac(pod.address).replaceAll(':', '')}`)
  return {
    fromPod: program([
      ...requireIpv4(),
      ...requireEqual(LOAD_WORD, SENDER_MAC_AT, Number(mac >> 16n)),
      ...requireEqual(LOAD_HALF, SENDER_MAC_AT + 4, Number(mac & 0xffffn)),
      ...requireEqual(LOAD_WORD, SOURCE_AT, pod.address),
      ...passWithin(TARGET_AT, pod.index),
      ...(pod.outside ? passOutside(TARGET_AT) : []),
    ]),
    toPod: program([
      ...requireIpv4(),
      ...passWithin(SOURCE_AT, pod.index),
      ...(pod.outside ? passOutside(SOURCE_AT) : []),
    ]),
  }
}

function requireIpv4(): Step[] {
  return [
    // A load beyond the frame would end the program with 0, which means pass.
    { code: LOAD_LENGTH, k: 0 },
    { code: IF_AT_LEAST, k: HEADERS_BYTES, otherwise: 'drop' },
    ...requireEqual(LOAD_HALF, TYPE_AT, TYPE_IPV4),
  ]
}

function requireEqual(code: typeof LOAD_WORD | typeof LOAD_HALF, at: number, value: number): Step[] {
  return [
    { code, k: at },
    { code: IF_EQUAL, k: value, otherwise: 'drop' },
  ]
}

function passWithin(at: number, index: number): Step[] {
  const gateway = ipv4FromText(GATEWAY)
  assert(gateway !== undefined, 'The gateway has no address')
  return [
    { code: LOAD_WORD, k: at },
    { code: IF_EQUAL, k: gateway, then: 'pass' },
    ...[tenantBlock(index), SERVICE_BLOCK].flatMap(({ base, mask }): Step[] => [
      { code: LOAD_WORD, k: at },
      { code: AND, k: mask },
      { code: IF_EQUAL, k: base, then: 'pass' },
    ]),
  ]
}

function passOutside(at: number): Step[] {
  return [
    ...NEVER.flatMap(({ base, bits }): Step[] => [
      { code: LOAD_WORD, k: at },
      { code: AND, k: 2 ** 32 - 2 ** (32 - bits) },
      { code: IF_EQUAL, k: base, then: 'drop' },
    ]),
    // Whatever it is, it is at least 0.
    { code: IF_AT_LEAST, k: 0, then: 'pass' },
  ]
}

/** Ends with dropping, so that whatever no step has decided does not pass. */
function program(steps: readonly Step[]): FilterInstruction[] {
  const distance = (from: number, to: Verdict | undefined) => {
    const jump = to === undefined ? 0 : steps.length + (to === 'pass' ? 1 : 0) - from - 1
    assert(jump < 256, 'A filter jumps farther than an instruction can say')
    return jump
  }
  return [
    ...steps.map((step, at) => ({
      code: step.code,
      jt: distance(at, 'then' in step ? step.then : undefined),
      jf: distance(at, 'otherwise' in step ? step.otherwise : undefined),
      k: step.k,
    })),
    { code: RETURN, jt: 0, jf: 0, k: TC_ACT_SHOT },
    // What passes may still have to wait, for which there is a filter behind this one.
    { code: RETURN, jt: 0, jf: 0, k: TC_ACT_UNSPEC },
  ]
}
