import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { runBpf } from '../../../../verifier/posture/classic-bpf.ts'
import { INHERITED_REFUSALS, renderInheritedFilter } from './inherited-filter.ts'
import { ALLOWED_GROUPS, FILTERED_CALLS } from './seccomp.ts'

const ARCHITECTURES = { x64: 0xc000_003e, arm64: 0xc000_00b7 } as const
const ALLOW = 0x7fff_0000
const ENOSYS = 0x0005_0026
const EPERM = 0x0005_0001

/** struct seccomp_data as words: the interpreter reads frames, whose bytes are the other way round. */
function call(number: number, args: readonly number[] = [], audit: number = ARCHITECTURES.x64): Buffer {
  const data = Buffer.alloc(64)
  data.writeUInt32BE(number, 0)
  data.writeUInt32BE(audit, 4)
  for (const [index, value] of args.entries()) data.writeUInt32BE(value >>> 0, 16 + 8 * index)
  return data
}

const filter = renderInheritedFilter('x64', { deviceFilters: false })

test('the inherited filter refuses nothing that the filter of the configuration allows', () => {
  const refused = new Set(INHERITED_REFUSALS.flatMap(({ calls }) => Object.keys(calls)))
  const allowed = [...ALLOWED_GROUPS.flatMap(({ names }) => names), ...FILTERED_CALLS.map(({ name }) => name)]
  assert.deepEqual(
    allowed.filter((name) => refused.has(name)),
    [],
  )
  for (const domain of [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff])
    assert.equal(runBpf(filter, call(135, [domain])), ALLOW, `personality ${domain}`)
})

test('calls of another calling convention are refused, whatever they are', () => {
  fc.assert(
    fc.property(fc.nat(0xffff_ffff), fc.nat(500), (audit, number) => {
      const answer = runBpf(filter, call(number, [], audit))
      assert.ok(audit === ARCHITECTURES.x64 || answer === ENOSYS)
    }),
  )
  fc.assert(
    fc.property(fc.integer({ min: 0x4000_0000, max: 0xffff_ffff }), (number) => {
      assert.equal(runBpf(filter, call(number)), ENOSYS)
    }),
  )
})

test('of all sockets only UNIX, streams and datagrams of IP, and two kinds of netlink are allowed', () => {
  const protocols = [0, 1, 6, 17, 58, 136, 262]
  fc.assert(
    fc.property(
      fc.constantFrom(41, 53),
      fc.oneof(fc.constantFrom(1, 2, 10, 16, 17, 38, 40), fc.nat(0xffff_ffff)),
      fc.oneof(fc.nat(0xf), fc.nat(0xffff_ffff)),
      fc.oneof(fc.constantFrom(...protocols, 4, 12, 132), fc.nat(0xffff_ffff)),
      (number, family, type, protocol) => {
        const may =
          family === 1 ||
          (family === 16 && (protocol === 0 || protocol === 4)) ||
          ((family === 2 || family === 10) && [1, 2].includes(type & 0xf) && protocols.includes(protocol))
        assert.equal(runBpf(filter, call(number, [family, type, protocol])) === ALLOW, may)
      },
    ),
    { numRuns: 2_000 },
  )
  assert.equal(runBpf(filter, call(41, [2, 3, 1])), EPERM)
})

test('programs about devices may be loaded only where runtimes need them for that', () => {
  assert.equal(runBpf(filter, call(321)), ENOSYS)
  assert.equal(runBpf(renderInheritedFilter('x64', { deviceFilters: true }), call(321)), ALLOW)
})

test('both architectures refuse the same calls', () => {
  for (const { calls } of INHERITED_REFUSALS)
    for (const [name, [x64, arm64]] of Object.entries(calls)) {
      if (x64 !== undefined) assert.equal(runBpf(filter, call(x64)), ENOSYS, name)
      if (arm64 !== undefined)
        assert.equal(
          runBpf(
            renderInheritedFilter('arm64', { deviceFilters: false }),
            call(arm64, [], ARCHITECTURES.arm64),
          ),
          ENOSYS,
          name,
        )
    }
})
