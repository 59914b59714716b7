import { invalid } from '../api/index.ts'
import { BYTES_MAX, CPU_MILLIS_MAX, ROOM_WITHOUT_MAX } from './limits.ts'
import { integer, list, object, optional, Problems, required, type Shape, text } from './shape.ts'
import { isJailId, type JailId } from './uid.ts'

/** What a pod asks to have for itself. */
export type RoomRequest = {
  cpuMillis: number
  memoryBytes: number
  /** Only a question, nothing is kept: would there be room if these were gone? Ids of others' pods mean nothing. */
  without?: readonly JailId[]
}

/** Of what there is not enough for a pod: in the tenant's share or on the machine, which is not told apart. */
export type Shortage = 'cpu' | 'memory' | 'pods'

/** An empty list means that there is room. */
export type RoomAnswer = { missing: readonly Shortage[] }

/** More than any machine has: what is asked for beyond this fits nowhere all the same. */
export const ROOM_REQUESTS_MAX = { cpuMillis: CPU_MILLIS_MAX * 64, memoryBytes: BYTES_MAX * 4 } as const

const jailId = text({
  max: 36,
  problem: (value) => (isJailId(value) ? undefined : 'is not a lower-case RFC 9562 UUID'),
}) as Shape<JailId>

const shape = object<RoomRequest>({
  cpuMillis: required(integer(0, ROOM_REQUESTS_MAX.cpuMillis)),
  memoryBytes: required(integer(0, ROOM_REQUESTS_MAX.memoryBytes)),
  without: optional(list(jailId, { max: ROOM_WITHOUT_MAX })),
})

/**
 * Reads what a control plane wants room for as hostile input.
 * @throws {ApiError} Invalid (422), listing the problems.
 */
export function parseRoomRequest(value: unknown): RoomRequest {
  const problems = new Problems()
  const request = shape(value, '', problems)
  if (!request || problems.list.length > 0)
    throw invalid({ group: '', kind: 'RoomRequest', name: '' }, problems.list)
  return request
}
