import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { renderFrame, runBpf } from '../../../../verifier/posture/classic-bpf.ts'
import {
  EVERYTHING,
  GATEWAY,
  SERVICE_BLOCK,
  bandwidthOf,
  doorAddress,
  ipv4Text,
  limitName,
  packetBytesMax,
  parseLimit,
  planLimits,
  planShare,
  planUplinkShare,
  planWaiting,
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
const MAC = '02:42:0a:80:00:01'
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

test('what waits: everything at one end of the way within a tenant, and only what leaves the tenant at the other', () => {
  const numbers = (program: readonly { code: number; jt: number; jf: number; k: number }[]) =>
    program.map(({ code, jt, jf, k }) => `${code} ${jt} ${jf} ${k}`)
  const whole = { ingressBitsPerSecond: 2e9, egressBitsPerSecond: 2e9 }
  const { fromPod, toPod } = planWaiting(1, whole, undefined)
  assert.deepEqual(numbers(fromPod), [
    '32 0 0 30',
    '21 6 0 176162816', // to 10.128.8.0, where the connector is: waits
    '21 5 0 174063617', // to 10.96.0.1, where the API is: waits
    '84 0 0 4294965248',
    '21 4 0 176162816', // to 10.128.8.0/21
    '32 0 0 30',
    '84 0 0 4294901760',
    '21 1 0 174063616', // to 10.96.0.0/16
    '6 0 0 4294967295',
    '6 0 0 0',
  ])
  assert.deepEqual(toPod, EVERYTHING)
  const slow = { ...whole, egressBitsPerSecond: 1e9 }
  assert.deepEqual(planWaiting(1, slow, undefined).fromPod, EVERYTHING)
  assert.equal(numbers(planWaiting(1, slow, undefined).toPod)[0], '32 0 0 26')
})

test('of any packet a pod sends or gets it is known where it waits, and a pod with a limit of its own waits for that', () => {
  const cap = fc.option(bits, { nil: undefined })
  const within = (tenant: number, at: number) => tenantPool(tenant).first + at
  const place = fc.integer({ min: 0, max: TENANT_PODS_MAX - 1 })
  const peer = fc.oneof(
    fc.tuple(fc.constant('within' as const), place),
    fc.tuple(fc.constant('virtual' as const), fc.integer({ min: 2, max: 0xffff })),
    fc.tuple(fc.constant('elsewhere' as const), fc.integer({ min: 0, max: 0xffff_ffff })),
    fc.tuple(fc.constant('elsewhere' as const), fc.constantFrom('door', 'api', 'gateway')),
  )
  fc.assert(
    fc.property(
      index,
      place,
      peer,
      bits,
      bits,
      cap,
      cap,
      (tenant, at, [where, which], down, up, ownDown, ownUp) => {
        const whole = bandwidthOf({ ingressBitsPerSecond: down, egressBitsPerSecond: up })
        const own = {
          ...(ownDown === undefined ? {} : { ingressBitsPerSecond: ownDown }),
          ...(ownUp === undefined ? {} : { egressBitsPerSecond: ownUp }),
        }
        const numbered = typeof which === 'number' ? which : 0
        const address =
          where === 'within'
            ? within(tenant, numbered)
            : where === 'virtual'
              ? SERVICE_BLOCK.base + numbered
              : which === 'door'
                ? doorAddress(tenant)
                : which === 'api'
                  ? SERVICE_BLOCK.base + 1
                  : numbered
        const text = which === 'gateway' ? GATEWAY : ipv4Text(address)
        const isOwn = tenantPool(tenant).first - 1 === address - (address % 2 ** 11)
        const isVirtual = address >= SERVICE_BLOCK.base && address < SERVICE_BLOCK.base + 0x1_0000
        // Numbers that happen to be the tenant's say nothing here.
        fc.pre(where !== 'elsewhere' || which === 'door' || which === 'api' || (!isOwn && !isVirtual))
        const pod = ipv4Text(within(tenant, at))
        const { fromPod, toPod } = planWaiting(tenant, whole, own)
        const waits = (program: typeof fromPod, saddr: string, daddr: string) =>
          runBpf(program, renderFrame({ sourceMac: MAC, targetMac: MAC, saddr, daddr, dport: 80 })) !== 0
        const sent = waits(fromPod, pod, text)
        const received = waits(toPod, text, pod)
        if (where === 'elsewhere') assert.ok(sent && received, text)
        else {
          // Whoever is at the other end has no limit of its own, or waits for it.
          const other = planWaiting(tenant, whole, undefined)
          assert.ok(sent || waits(other.toPod, pod, text))
          assert.ok(received || waits(other.fromPod, text, pod))
          if (ownUp !== undefined) assert.ok(sent)
          if (ownDown !== undefined) assert.ok(received)
          // Where it does not wait, it may not be faster at the other end than it may be here.
          if (!sent) assert.ok(whole.ingressBitsPerSecond <= whole.egressBitsPerSecond)
          if (!received) assert.ok(whole.egressBitsPerSecond <= whole.ingressBitsPerSecond)
        }
      },
    ),
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
