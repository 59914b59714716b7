import assert from 'node:assert/strict'
import { isIP, isIPv4 } from 'node:net'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseIpBlock } from '../../../api/index.ts'
import { PROXY_HEADER_BYTES_MAX } from './limits.ts'
import { parseProxyHeader, renderProxyHeader } from './proxy-header.ts'

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]
const binary = (command: number, family: number, body: readonly number[], length = body.length) =>
  Buffer.from([...SIGNATURE, 0x20 | command, family, length >> 8, length & 255, ...body])
const V4 = [203, 0, 113, 7, 192, 0, 2, 1, 0x30, 0x39, 0x01, 0xbb]
const V6 = [
  0x20,
  0x01,
  0x0d,
  0xb8,
  ...Array.from({ length: 11 }, () => 0),
  1,
  ...Array.from({ length: 20 }, () => 2),
]

test('both versions tell the client, and where the header ends', () => {
  const line = 'PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n'
  assert.deepEqual(parseProxyHeader(Buffer.from(`${line}GET /`)), {
    bytes: line.length,
    client: '203.0.113.7',
  })
  const six = 'PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n'
  assert.deepEqual(parseProxyHeader(Buffer.from(six)), { bytes: six.length, client: '2001:db8::1' })
  assert.deepEqual(parseProxyHeader(Buffer.from('PROXY UNKNOWN anything\r\nx')), { bytes: 24 })
  assert.deepEqual(parseProxyHeader(binary(1, 0x11, V4)), { bytes: 28, client: '203.0.113.7' })
  assert.deepEqual(parseProxyHeader(binary(1, 0x21, V6)), { bytes: 52, client: '2001:db8:0:0:0:0:0:1' })
  assert.deepEqual(parseProxyHeader(binary(1, 0x11, [...V4, 4, 0, 1, 9])), {
    bytes: 32,
    client: '203.0.113.7',
  })
  // Its own checks, and what has no address.
  assert.deepEqual(parseProxyHeader(binary(0, 0x11, V4)), { bytes: 28 })
  assert.deepEqual(parseProxyHeader(binary(1, 0, [])), { bytes: 16 })
})

test('what is no header is refused, and a part of one waits for the rest', () => {
  for (const bad of [
    'GET / HTTP/1.1\r\n',
    'proxy TCP4 203.0.113.7 192.0.2.1 1 2\r\n',
    'PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n',
    'PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n',
    'PROXY TCP4 203.0.113.07 192.0.2.1 1 2\r\n',
    'PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n',
    'PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2\r\n',
    'PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n',
    'PROXY TCP4  203.0.113.7 192.0.2.1 1 2\r\n',
    `PROXY TCP4 ${' '.repeat(200)}`,
  ])
    assert.equal(parseProxyHeader(Buffer.from(bad)), 'bad', bad)
  for (const bad of [
    binary(1, 0x11, V4.slice(1)),
    binary(1, 0x12, V4),
    binary(2, 0x11, V4),
    binary(1, 0x21, V4),
    binary(1, 0x11, V4, PROXY_HEADER_BYTES_MAX),
  ])
    assert.equal(parseProxyHeader(bad), 'bad')
  for (const whole of [Buffer.from('PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n'), binary(1, 0x21, V6)])
    for (let length = 0; length < whole.length; length++)
      assert.equal(parseProxyHeader(whole.subarray(0, length)), 'more', `${length}`)
})

test('whatever comes, the client is an address, and nobody waits for more than a header can have', () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((each) => Buffer.from(each)),
    fc.string({ maxLength: 200 }).map((each) => Buffer.from(`PROXY ${each}`)),
    fc.uint8Array({ maxLength: 600 }).map((each) => Buffer.from([...SIGNATURE, ...each])),
  )
  fc.assert(
    fc.property(bytes, (each) => {
      const header = parseProxyHeader(each)
      if (header === 'more') assert.ok(each.length < PROXY_HEADER_BYTES_MAX)
      else if (header !== 'bad') {
        assert.ok(header.bytes <= each.length)
        assert.ok(header.client === undefined || isIP(header.client) > 0, header.client)
      }
    }),
    { numRuns: 2_000 },
  )
})

test('what we tell a service is what we would read ourselves, and nothing that is not a whole header', () => {
  const someAddress = fc.oneof(
    fc.ipV4(),
    fc.ipV6().filter((text) => !text.includes('.')),
  )
  fc.assert(
    fc.property(
      someAddress,
      someAddress,
      fc.integer({ min: 0, max: 65_535 }),
      (client, address, clientPort) => {
        const header = renderProxyHeader({ client, clientPort, address, port: 9_000 })
        const read = parseProxyHeader(Buffer.concat([header, Buffer.from('after')]))
        assert.ok(typeof read === 'object')
        assert.equal(read.bytes, header.length)
        assert.ok(read.client !== undefined)
        const number = (text: string) => parseIpBlock(`${text}/${isIPv4(text) ? 32 : 128}`)?.base ?? -1n
        const mapped = isIPv4(client) && !isIPv4(read.client) ? 0xffff_0000_0000n : 0n
        assert.equal(number(read.client), number(client) + mapped)
        assert.equal(header.readUInt16BE(header.length - 4), clientPort)
      },
    ),
  )
  const unknown = renderProxyHeader({ client: 'unknown', clientPort: 1, address: '127.0.0.1', port: 1 })
  assert.deepEqual(parseProxyHeader(unknown), { bytes: unknown.length })
})
