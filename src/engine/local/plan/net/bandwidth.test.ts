import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  bandwidthOf,
  limitName,
  packetBytesMax,
  parseLimit,
  planLimits,
  planShare,
  planUplinkShare,
  podClass,
  podClassId,
  renderLimitsChanged,
  shareLinks,
  shareOwner,
  tenantClass,
  tenantPool,
} from './index.ts'
import {
  BITS_PER_SECOND_MAX,
  PACKET_BYTES_CHARGED_MIN,
  PACKET_BYTES_MAX,
  PACKET_BYTES_USUAL,
  QUEUE_BYTES_MAX,
  QUEUE_BYTES_MIN,
  TENANTS_MAX,
  TENANT_BITS_PER_SECOND,
  TENANT_PODS_MAX,
} from './limits.ts'

const RUNS = { numRuns: 200 }
const index = fc.integer({ min: 0, max: TENANTS_MAX - 1 })
const bits = fc.oneof(
  fc.integer({ min: 1_000, max: 1e15 }),
  fc.constantFrom(1_000, 1_000_000_000, BITS_PER_SECOND_MAX),
)

test('packets are as large as a link carries in a millisecond, and have room in every queue', () => {
  fc.assert(
    fc.property(bits, fc.boolean(), index, (some, outside, tenant) => {
      const rate = Math.min(BITS_PER_SECOND_MAX, some)
      const bytes = packetBytesMax(rate, outside)
      assert.ok(bytes >= PACKET_BYTES_USUAL && bytes <= PACKET_BYTES_MAX)
      assert.ok(bytes === PACKET_BYTES_USUAL || (!outside && bytes <= rate / 8 / 1_000))
      assert.ok(bytes <= (tenantClass(tenant, rate).queueBytesMax ?? 0))
    }),
    RUNS,
  )
  assert.equal(packetBytesMax(TENANT_BITS_PER_SECOND, false), 125_000)
})

test('who says nothing has a limit, and nobody has one beyond what a link can do', () => {
  assert.deepEqual(bandwidthOf(undefined), {
    ingressBitsPerSecond: TENANT_BITS_PER_SECOND,
    egressBitsPerSecond: TENANT_BITS_PER_SECOND,
  })
  assert.deepEqual(bandwidthOf({ egressBitsPerSecond: 1e15, ingressBitsPerSecond: 1 }), {
    ingressBitsPerSecond: 1_000,
    egressBitsPerSecond: BITS_PER_SECOND_MAX,
  })
})

test('limits of the rules are above those of the links, for bytes and for packets, and are named by what they say', () => {
  fc.assert(
    fc.property(index, bits, bits, (tenant, ingressBitsPerSecond, egressBitsPerSecond) => {
      const bandwidth = bandwidthOf({ ingressBitsPerSecond, egressBitsPerSecond })
      const limits = planLimits(tenant, bandwidth)
      assert.equal(limits.length, 4)
      for (const limit of limits) {
        const wanted =
          (limit.set.startsWith('sent') ? bandwidth.egressBitsPerSecond : bandwidth.ingressBitsPerSecond) /
          (limit.set.endsWith('_bytes') ? 8 : 8 * PACKET_BYTES_CHARGED_MIN)
        assert.ok(limit.rate >= wanted && limit.rate <= wanted * 1.25 + 1, limitName(limit))
        assert.deepEqual(parseLimit(limit.set, limit.mark, limitName(limit)), limit)
        assert.equal(parseLimit(limit.set, limit.mark + 1, limitName(limit)), undefined)
      }
      const [first] = limits
      assert.ok(first)
      const faster = { ...first, rate: first.rate + 1 }
      assert.deepEqual(renderLimitsChanged(limits, [faster, ...limits.slice(1)]).split('\n'), [
        `delete element inet bulkhead sent_bytes { ${tenant + 1} }`,
        `delete limit inet bulkhead ${limitName(first)}`,
        `add limit inet bulkhead ${limitName(faster)} { rate over ${faster.rate} bytes/second burst ${QUEUE_BYTES_MIN} bytes }`,
        `add element inet bulkhead sent_bytes { ${tenant + 1} : "${limitName(faster)}" }`,
      ])
      assert.equal(renderLimitsChanged(limits, limits), '')
    }),
    RUNS,
  )
})

test('no two classes of one queue have the same number, and every queue is bounded', () => {
  const { whole, rest } = planShare('send', 1_000_000)
  const taken = new Set([whole.id, rest.id])
  const { first } = tenantPool(7)
  for (let at = 0; at < TENANT_PODS_MAX; at++) taken.add(podClassId(first + at))
  assert.equal(taken.size, TENANT_PODS_MAX + 2)
  const tenants = new Set([whole.id, rest.id])
  for (let at = 0; at < TENANTS_MAX; at++) tenants.add(tenantClass(at, 1_000_000).id)
  assert.equal(tenants.size, TENANTS_MAX + 2)
  fc.assert(
    fc.property(index, bits, (tenant, amount) => {
      for (const each of [
        podClass(tenantPool(tenant).first, amount),
        tenantClass(tenant, amount),
        planShare('receive', amount).rest,
        planUplinkShare(amount).rest,
      ]) {
        assert.ok(
          (each.queueBytesMax ?? 0) >= QUEUE_BYTES_MIN && (each.queueBytesMax ?? 0) <= QUEUE_BYTES_MAX,
        )
        assert.ok(each.bytesPerSecond >= 1 && each.bytesPerSecond <= each.ceilingBytesPerSecond)
        assert.equal(each.ceilingBytesPerSecond, Math.floor(amount / 8))
      }
    }),
    RUNS,
  )
})

test('a link of shares names its tenant, and no other link does', () => {
  fc.assert(
    fc.property(index, (tenant) => {
      for (const name of Object.values(shareLinks(tenant))) {
        assert.ok(name.length <= 15)
        assert.equal(shareOwner(name), tenant)
      }
    }),
    RUNS,
  )
  for (const name of ['uplink', 'lo', 'bh000001', 'send-', 'send-01', 'send-1x', 'receive--1'])
    assert.equal(shareOwner(name), undefined)
})
