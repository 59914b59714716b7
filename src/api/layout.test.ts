import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseLayout } from './layout.ts'

test('networks in front of the door and the memory of pods are read, or refused', () => {
  const read = (name: string, value: string) => parseLayout({ [name]: value })
  const { proxies } = read('BULKHEAD_INGRESS_PROXIES', '192.0.2.0/24, 2001:db8::/32').ingress
  assert.deepEqual(
    proxies?.map(({ family, bits }) => [family, bits]),
    [
      [4, 24],
      [6, 32],
    ],
  )
  assert.equal(parseLayout({}).ingress.proxies, undefined)
  assert.equal(read('BULKHEAD_POD_MEMORY', '1Gi').podMemoryBytes, 2 ** 30)
  for (const [name, value] of [
    ['BULKHEAD_INGRESS_PROXIES', ''],
    ['BULKHEAD_INGRESS_PROXIES', '192.0.2.1'],
    ['BULKHEAD_INGRESS_PROXIES', '192.0.2.0/24,all'],
    ['BULKHEAD_POD_MEMORY', '1'],
    ['BULKHEAD_POD_MEMORY', '-1Gi'],
    ['BULKHEAD_POD_MEMORY', 'much'],
  ] as const)
    assert.throws(() => read(name, value), TypeError, `${name}=${value}`)
})
