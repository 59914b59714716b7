import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseQuantity, quantityMillis, quantityNumber, quantityValue, renderQuantity } from './index.ts'

test('quantities are rendered in canonical form', () => {
  const canonical: Record<string, string> = {
    '0': '0',
    '0.5': '500m',
    '.5': '500m',
    '1.': '1',
    '1000m': '1',
    '1500m': '1500m',
    '1000': '1k',
    '1200': '1200',
    '1000000': '1M',
    '1024': '1024',
    '1024Ki': '1Mi',
    '1000k': '1M',
    '1.5Gi': '1536Mi',
    '512Ki': '512Ki',
    '0.5Ki': '512',
    '0.1Ki': '102400m',
    '1e3': '1e3',
    '1500e3': '1500e3',
    '1E3': '1e3',
    '1E': '1E',
    '12e-3': '12e-3',
    '-1.5': '-1500m',
    '+2': '2',
    '0.0000000001': '1n',
    '1n': '1n',
    '9223372036854775808': '9223372036854775807',
    '1e99': '9223372036854775807',
    '100Ei': '9223372036854775807',
  }
  const rendered = Object.fromEntries(
    Object.keys(canonical).map((text) => [text, renderQuantity(parseQuantity(text))]),
  )
  assert.deepEqual(rendered, canonical)
})

test('amounts are rounded up, so that nobody gets less than they asked for', () => {
  assert.equal(quantityMillis(parseQuantity('0.0001')), 1n)
  assert.equal(quantityValue(parseQuantity('1.1')), 2n)
  assert.equal(quantityNumber(parseQuantity('128Mi')), 134_217_728)
  assert.equal(quantityNumber(parseQuantity('8Ei')), Number.MAX_SAFE_INTEGER)
})

test('what is not a quantity is refused', () => {
  for (const text of [
    '',
    ' ',
    'abc',
    '1.2.3',
    '1 Gi',
    '1gi',
    '1KiB',
    '--1',
    '1e',
    '1e1.5',
    '1ee3',
    '0x10',
    '1_000',
    '1'.repeat(65),
  ])
    assert.throws(() => parseQuantity(text), TypeError, text)
})

const quantities = fc
  .tuple(
    fc.constantFrom('', '-', '+'),
    fc.bigInt({ min: 0n, max: 10n ** 15n }),
    fc.option(fc.stringMatching(/^\d{0,12}$/)),
    fc.constantFrom(
      '',
      'n',
      'u',
      'm',
      'k',
      'M',
      'G',
      'T',
      'P',
      'E',
      'Ki',
      'Mi',
      'Gi',
      'Ti',
      'Pi',
      'Ei',
      'e3',
      'E-3',
      'e12',
    ),
  )
  .map(
    ([sign, whole, fraction, suffix]) => `${sign}${whole}${fraction === null ? '' : `.${fraction}`}${suffix}`,
  )

test('the canonical form is the same amount, and its own canonical form', () => {
  fc.assert(
    fc.property(quantities, (text) => {
      const quantity = parseQuantity(text)
      const rendered = renderQuantity(quantity)
      // What was cut off at 2^63 - 1 cannot be written more shortly in powers of ten.
      assert.equal(parseQuantity(rendered).nanos, quantity.nanos)
      assert.equal(renderQuantity(parseQuantity(rendered)), rendered)
    }),
  )
})

test('no text makes parsing throw anything but a TypeError', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[+\-.\deEinumkKMGTP]{0,70}$/)), (text) => {
      try {
        parseQuantity(text)
      } catch (error) {
        assert.ok(error instanceof TypeError)
      }
    }),
  )
})
