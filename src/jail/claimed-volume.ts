import { invalid } from '../api/index.ts'
import { BYTES_MAX } from './limits.ts'
import { integer, object, Problems, required, text, type Shape } from './shape.ts'
import { type ClaimId, isClaimId } from './uid.ts'

/** A volume that outlives pods. It has a size and nothing else: no path, no image, no file system, no owner. */
export type ClaimedVolume = { id: ClaimId; sizeBytes: number }

export const claimId = text({
  max: 36,
  problem: (value) => (isClaimId(value) ? undefined : 'is not a lower-case RFC 9562 UUID'),
}) as Shape<ClaimId>

const shape = object<ClaimedVolume>({
  id: required(claimId),
  sizeBytes: required(integer(1, BYTES_MAX)),
})

/**
 * Reads what a control plane wants of a volume as hostile input.
 * @throws {ApiError} Invalid (422), listing the problems.
 */
export function parseClaimedVolume(value: unknown): ClaimedVolume {
  const problems = new Problems()
  const volume = shape(value, '', problems)
  if (!volume || problems.list.length > 0)
    throw invalid({ group: '', kind: 'ClaimedVolume', name: '' }, problems.list)
  return volume
}
