import { parseQuantity, quantityNumber } from './quantity.ts'

/** How fast pods may send and receive, as operators and tenants write it: quantities of bits per second, as upstream. */

/** As upstream; nobody has a link for the largest. */
export const BANDWIDTH_BITS_MIN = 1_000
export const BANDWIDTH_BITS_MAX = 1e15

/** Annotations of a pod, each with the direction that it is about. */
export const BANDWIDTH_ANNOTATIONS = {
  ingress: 'kubernetes.io/ingress-bandwidth',
  egress: 'kubernetes.io/egress-bandwidth',
} as const

/** Bits per second, such as "10M"; undefined for what is no quantity, too little or too much. */
export function parseBandwidth(text: string): number | undefined {
  try {
    const bits = quantityNumber(parseQuantity(text))
    return bits >= BANDWIDTH_BITS_MIN && bits <= BANDWIDTH_BITS_MAX ? bits : undefined
  } catch {
    return undefined
  }
}

export const BANDWIDTH_PROBLEM = 'must be a quantity of bits per second from 1k to 1P, such as 100M'
