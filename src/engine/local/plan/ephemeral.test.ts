import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { GiB, KiB, MiB } from '../../../stdx/index.ts'
import { imageOf, shareOfDisk } from './ephemeral.ts'

test('a file has room for what is to be written, and hardly more', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 256 * KiB, max: 10 * GiB }),
      fc.integer({ min: 1, max: 1_048_576 }),
      (bytes, files) => {
        const { imageBytes, inodes } = imageOf({ bytes, files })
        assert.ok(inodes > files)
        assert.equal(imageBytes % 4_096, 0)
        const beside = imageBytes - bytes
        assert.ok(beside >= inodes * 256)
        assert.ok(beside < inodes * 256 + 64 * KiB + bytes / 1_000 + (bytes / (128 * MiB) + 1) * 4 * KiB)
      },
    ),
  )
})

test('tenants that come one after the other get a part of what is left, and none more than there is', () => {
  const diskBytes = 100 * GiB
  let freeBytes = 90 * GiB
  const shares: number[] = []
  for (let share; (share = shareOfDisk({ diskBytes, freeBytes })) !== undefined; freeBytes -= share)
    shares.push(share)
  assert.equal(shares[0], 6.25 * GiB)
  assert.ok(shares.length >= 35, String(shares.length))
  assert.ok(freeBytes >= 0 && freeBytes < 256 * MiB)
  assert.deepEqual(
    [...shares].sort((a, b) => b - a),
    shares,
  )
})
