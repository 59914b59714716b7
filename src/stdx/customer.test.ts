import assert from 'node:assert/strict'
import { SocketAddress } from 'node:net'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { customerOf } from './customer.ts'

test('strangers are told apart by IPv4 address, or by the network of their IPv6 address', () => {
  for (const [address, customer] of [
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['', ''],
  ] as const)
    assert.equal(customerOf(address), customer)
})

test('whoever has a network of 64 bits is one stranger, whichever address they use and however it is written', () => {
  const group = fc.nat(0xffff).map((n) => n.toString(16))
  const half = fc.array(group, { minLength: 4, maxLength: 4 })
  fc.assert(
    fc.property(half, half, half, (network, one, other) => {
      const customers = [one, other].map((host) => {
        const { address } = new SocketAddress({ family: 'ipv6', address: [...network, ...host].join(':') })
        return customerOf(address)
      })
      if (network.slice(0, 3).join(':') === '0:0:0') return
      assert.equal(customers[0], customers[1])
      assert.equal(customers[0], `${network.join(':')}::/64`)
    }),
  )
})
