import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { runBpf } from '../../../../verifier/posture/classic-bpf.ts'
import { GATEWAY, ipv4FromText, podMac, renderLinkFilter, tenantPool } from './index.ts'
import { TENANTS_MAX, TENANT_PODS_MAX } from './limits.ts'

/** The next filter says, and without one it passes. */
const PASS = 0xffff_ffff
const DROP = 2

test("the filter of a pod's link, instruction by instruction", () => {
  const address = ipv4FromText('10.128.8.1') ?? 0
  const filter = renderLinkFilter({ address, index: 1 })
  const lines = (direction: keyof typeof filter) =>
    filter[direction].map(({ code, jt, jf, k }) => `${code} ${jt} ${jf} ${k}`)
  assert.deepEqual(lines('fromPod'), [
    '128 0 0 0', // at least both headers
    '53 0 16 34',
    '40 0 0 12', // IPv4
    '21 0 14 2048',
    '32 0 0 6', // by 02:42:0a:80:08:01
    '21 0 12 37882496',
    '40 0 0 10',
    '21 0 10 2049',
    '32 0 0 26', // from 10.128.8.1
    '21 0 8 176162817',
    '32 0 0 30', // to 169.254.1.1
    '21 7 0 2851995905',
    '32 0 0 30', // or 10.128.8.0/21
    '84 0 0 4294965248',
    '21 4 0 176162816',
    '32 0 0 30', // or 10.96.0.0/16
    '84 0 0 4294901760',
    '21 1 0 174063616',
    '6 0 0 2',
    '6 0 0 4294967295',
  ])
  assert.deepEqual(lines('toPod'), [
    '128 0 0 0',
    '53 0 10 34',
    '40 0 0 12',
    '21 0 8 2048',
    '32 0 0 26', // from 169.254.1.1
    '21 7 0 2851995905',
    '32 0 0 26', // or 10.128.8.0/21
    '84 0 0 4294965248',
    '21 4 0 176162816',
    '32 0 0 26', // or 10.96.0.0/16
    '84 0 0 4294901760',
    '21 1 0 174063616',
    '6 0 0 2',
    '6 0 0 4294967295',
  ])
})

const tenant = fc.integer({ min: 0, max: TENANTS_MAX - 1 })
const pod = fc
  .tuple(tenant, fc.nat(TENANT_PODS_MAX - 1))
  .map(([index, offset]) => ({ index, address: tenantPool(index).first + offset }))

/** Mostly addresses near a border, on either side of it. */
const addressNear = ({ index, address }: { index: number; address: number }) =>
  fc.oneof(
    fc.constantFrom(
      address,
      ipv4FromText(GATEWAY) ?? 0,
      address ^ 1,
      address ^ (2 ** 11),
      address ^ (2 ** 31),
    ),
    fc.integer({ min: -3, max: 2 ** 11 + 1 }).map((n) => tenantPool(index).first + n),
    fc
      .constantFrom('10.95.255.255', '10.96.0.0', '10.96.255.255', '10.97.0.0', '169.254.1.0')
      .map((text) => ipv4FromText(text) ?? 0),
    fc
      .constantFrom('169.254.169.254', '127.0.0.1', '0.0.0.0', '255.255.255.255', '224.0.0.1')
      .map((text) => ipv4FromText(text) ?? 0),
    fc.nat(2 ** 32 - 1),
  )

const frame = pod.chain((of) =>
  fc.record({
    of: fc.constant(of),
    source: addressNear(of),
    target: addressNear(of),
    mac: fc.oneof(
      { weight: 4, arbitrary: fc.constant(podMac(of.address)) },
      fc.constantFrom(
        podMac(of.address ^ 1),
        podMac(of.address ^ (2 ** 31)),
        '02:43' + podMac(of.address).slice(5),
      ),
    ),
    type: fc.oneof(
      { weight: 6, arbitrary: fc.constant(0x0800) },
      fc.constantFrom(0x0806, 0x86dd, 0x8100, 0x88a8, 0x0801),
    ),
    rest: fc.uint8Array({ maxLength: 40 }),
    length: fc.oneof({ weight: 4, arbitrary: fc.constant(Infinity) }, fc.nat(40)),
  }),
)

function bytesOf({
  source,
  target,
  mac,
  type,
  rest,
  length,
}: typeof frame extends fc.Arbitrary<infer F> ? F : never) {
  const bytes = Buffer.alloc(34 + rest.length)
  bytes.fill(0xee, 0, 6)
  bytes.write(mac.replaceAll(':', ''), 6, 'hex')
  bytes.writeUInt16BE(type, 12)
  bytes.writeUInt8(0x45, 14)
  bytes.writeUInt32BE(source >>> 0, 26)
  bytes.writeUInt32BE(target >>> 0, 30)
  bytes.set(rest, 34)
  return bytes.subarray(0, length)
}

test('exactly the frames of a tenant pass its links, whatever else is in them and wherever they are cut off', () => {
  let passed = 0
  fc.assert(
    fc.property(frame, (each) => {
      const bytes = bytesOf(each)
      const filter = renderLinkFilter(each.of)
      const { first, size } = tenantPool(each.of.index)
      // The whole /21: its first and last address belong to nobody.
      const ours = (address: number) =>
        (address >= first - 1 && address <= first + size) ||
        (address >= 0x0a60_0000 && address <= 0x0a60_ffff) ||
        address === 0xa9fe_0101
      const ipv4 = bytes.length >= 34 && each.type === 0x0800
      const own = each.source >>> 0 === each.of.address && each.mac === podMac(each.of.address)
      const wanted = {
        fromPod: ipv4 && own && ours(each.target >>> 0) ? PASS : DROP,
        toPod: ipv4 && ours(each.source >>> 0) ? PASS : DROP,
      }
      passed += Object.values(wanted).filter((verdict) => verdict === PASS).length
      assert.deepEqual({ fromPod: runBpf(filter.fromPod, bytes), toPod: runBpf(filter.toPod, bytes) }, wanted)
    }),
    { numRuns: 2_000 },
  )
  assert.ok(passed > 200, `the generator makes frames that pass: ${passed}`)
})

test('no frame that leaves a pod of one tenant by its filter enters a pod of another by its own', () => {
  fc.assert(
    fc.property(frame, pod, (sent, other) => {
      fc.pre(sent.of.index !== other.index)
      const bytes = bytesOf(sent)
      // The gateway and the virtual addresses are everybody's, but no pod may send under them.
      const leaves = runBpf(renderLinkFilter(sent.of).fromPod, bytes) === PASS
      assert.ok(!leaves || runBpf(renderLinkFilter(other).toPod, bytes) === DROP)
    }),
    { numRuns: 1_000 },
  )
})

test('an address that is no pod of the tenant has no filter', () => {
  const { first, size } = tenantPool(7)
  for (const address of [0, -1, Number.NaN, first - 1, first + size, tenantPool(8).first])
    assert.throws(() => renderLinkFilter({ address, index: 7 }), /is no pod's of the tenant with index 7/)
})
