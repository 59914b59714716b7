import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError } from '../api/index.ts'
import { parseRoomRequest, ROOM_REQUESTS_MAX } from './room.ts'

const ID = '0b5b7c1e-6d0f-4c39-9d1e-2f8f6f3c9a10'

test('a request for room is read, and everything else is refused with a reason', () => {
  assert.deepEqual(parseRoomRequest({ cpuMillis: 1, memoryBytes: 2, without: [ID] }), {
    cpuMillis: 1,
    memoryBytes: 2,
    without: [ID],
  })
  for (const wrong of [
    { cpuMillis: -1, memoryBytes: 0 },
    { cpuMillis: 0.5, memoryBytes: 0 },
    { cpuMillis: ROOM_REQUESTS_MAX.cpuMillis + 1, memoryBytes: 0 },
    { memoryBytes: 0 },
    { cpuMillis: 0, memoryBytes: 0, without: ['../red'] },
    { cpuMillis: 0, memoryBytes: 0, without: Array.from({ length: 251 }, () => ID) },
    { cpuMillis: 0, memoryBytes: 0, tenant: 'blue' },
  ])
    assert.throws(() => parseRoomRequest(wrong), { reason: 'Invalid' }, JSON.stringify(wrong))
})

test('whatever is sent as a request for room is read or refused', () => {
  const some = fc.record(
    { cpuMillis: fc.anything(), memoryBytes: fc.anything(), without: fc.anything() },
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(fc.oneof(fc.anything(), some), (value) => {
      try {
        const { cpuMillis, memoryBytes } = parseRoomRequest(value)
        assert(Number.isSafeInteger(cpuMillis) && Number.isSafeInteger(memoryBytes))
        assert(cpuMillis >= 0 && memoryBytes >= 0)
      } catch (error) {
        assert(error instanceof ApiError)
      }
    }),
  )
})
