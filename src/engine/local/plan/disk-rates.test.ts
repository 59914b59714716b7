import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseDiskRates } from '../../../jail/index.ts'
import { diskRatesOf } from './disk-rates.ts'

test('nobody reads or writes without a limit, and none is so low that no container could start', () => {
  assert.deepEqual(diskRatesOf(undefined), diskRatesOf({}))
  fc.assert(
    fc.property(fc.anything(), (value) => {
      let given
      try {
        given = parseDiskRates(value)
      } catch (error) {
        assert.ok(error instanceof TypeError)
        return
      }
      for (const rate of Object.values(diskRatesOf(given)))
        assert.ok(Number.isSafeInteger(rate) && rate >= 50)
    }),
  )
  assert.deepEqual(
    diskRatesOf({ readBytes: 1, writeBytes: 2 ** 50, readOperations: 1, writeOperations: 2 ** 50 }),
    {
      readBytes: 2 ** 20,
      writeBytes: 2 ** 50,
      readOperations: 50,
      writeOperations: 2 ** 31,
    },
  )
})
