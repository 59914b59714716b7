import { BANDWIDTH_BITS_MAX, BANDWIDTH_BITS_MIN } from '../api/index.ts'
import { integer, object, optional, Problems } from './shape.ts'

/** What pods may receive and send in a second, everything together; what is absent is limited by who has the pods. */
export type BandwidthCaps = { ingressBitsPerSecond?: number; egressBitsPerSecond?: number }

const bits = integer(BANDWIDTH_BITS_MIN, BANDWIDTH_BITS_MAX)
export const bandwidthShape = object<BandwidthCaps>({
  ingressBitsPerSecond: optional(bits),
  egressBitsPerSecond: optional(bits),
})

/** @throws {TypeError} that names the first problem. */
export function parseBandwidthCaps(value: unknown): BandwidthCaps {
  const problems = new Problems()
  const caps = bandwidthShape(value, 'bandwidth', problems)
  const [first] = problems.list
  if (!caps || first)
    throw new TypeError(`"${first?.field ?? 'bandwidth'}" ${first?.message ?? 'is not valid'}`)
  return caps
}
