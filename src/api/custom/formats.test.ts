import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { matchesFormat } from './formats.ts'

const EXAMPLES: Readonly<Record<string, { good: readonly string[]; bad: readonly string[] }>> = {
  bsonobjectid: {
    good: ['507f1f77bcf86cd799439011'],
    bad: ['507f1f77bcf86cd79943901', 'x07f1f77bcf86cd799439011'],
  },
  creditcard: {
    good: [
      '4111 1111 1111 1111',
      '378282246310005',
      '6011-1111-1111-1117',
      '5555555555554444',
      '30569309025904',
    ],
    bad: ['4111111111111112', '9111111111111111', '', '41111', 'four'],
  },
  isbn: {
    good: ['0-306-40615-2', '978-3-16-148410-0', '097522980X'],
    bad: ['0-306-40615-3', '978-3-16-148410-1', ''],
  },
  isbn10: { good: ['0306406152'], bad: ['9783161484100', '03064061X2'] },
  isbn13: { good: ['9783161484100'], bad: ['0306406152', '9773161484100'] },
  password: { good: ['', 'anything'], bad: [] },
  rgbcolor: {
    good: ['rgb(0,128,255)', 'rgb( 1 , 2 , 3 )'],
    bad: ['rgb(0,0,256)', 'rgb(00,0,0)', 'rgb(1,2)', '#fff'],
  },
  ssn: { good: ['123-45-6789', '123 45 6789', '123456789'], bad: ['123-456-789', '12345678'] },
}

for (const [format, { good, bad }] of Object.entries(EXAMPLES))
  test(`${format} is checked`, () => {
    for (const text of good) assert.ok(matchesFormat(format, text), text)
    for (const text of bad) assert.ok(!matchesFormat(format, text), text)
  })

test('a changed digit makes a card number another one', () => {
  fc.assert(
    fc.property(fc.nat(15), fc.integer({ min: 1, max: 9 }), (at, change) => {
      const digits = [...'4111111111111111'].map(Number)
      digits[at] = ((digits[at] ?? 0) + change) % 10
      assert.equal(matchesFormat('creditcard', digits.join('')), false)
    }),
  )
})
