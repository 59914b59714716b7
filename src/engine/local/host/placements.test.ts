import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import * as fc from 'fast-check'
import { type EgressPort, parseLayout, parseTenantName } from '../../../api/index.ts'
import { parsePlacementRequest, type PlacementRequest, Placements } from './placements.ts'

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-placements-'))
after(() => rmSync(directory, { recursive: true, force: true }))

const red = parseTenantName('red')
const blue = parseTenantName('blue')
const UID_A = '00000000-0000-4000-8000-00000000000a'
const UID_B = '00000000-0000-4000-8000-00000000000b'

function request(changes: Partial<PlacementRequest> = {}): PlacementRequest {
  return { isolationClass: 'shared', registries: [], tenantUid: UID_A, quota: {}, ...changes }
}

let machines = 0
/** A machine; called again with the same state directory, it is the agent after a restart. */
function open(
  stateDir = join(directory, String(machines++)),
  room?: { cpuMillis: number; memoryBytes: number },
): { placements: Placements; stateDir: string } {
  mkdirSync(join(stateDir, 'keys'), { recursive: true })
  const layout = parseLayout({ BULKHEAD_INSTANCE: 'tlif', BULKHEAD_SLOT: '9', BULKHEAD_STATE_DIR: stateDir })
  return {
    placements: new Placements({ layout, platformUid: 900, workerUid: 901, ...(room ? { room } : {}) }),
    stateDir,
  }
}

test('a tenant keeps its place over a change of class and a restart, and nobody else ever gets it', () => {
  const { placements, stateDir } = open()
  const first = placements.ensure(red, request())
  assert.equal(first.controlPlaneUid, 901)
  const moved = placements.ensure(red, request({ isolationClass: 'sandboxed' }))
  assert.deepEqual([moved.index, moved.podUidBase], [first.index, first.podUidBase])
  assert.equal(moved.controlPlaneUid, placements.ownUid(red))
  assert.deepEqual(open(stateDir).placements.get(red), moved)
  assert.deepEqual(open(stateDir).placements.at(first.index), moved)
  placements.destroyKey(red)
  placements.forget(red)
  assert.equal(placements.at(first.index), undefined)
  const other = open(stateDir).placements.ensure(blue, request({ tenantUid: UID_B }))
  assert.notEqual(other.index, first.index)
})

test('a move that was cut off is known after a restart, until it has ended', () => {
  const { placements, stateDir } = open()
  placements.ensure(red, request())
  assert.equal(placements.isMoving(red), false)
  placements.ensure(red, request({ isolationClass: 'sandboxed' }))
  // Changed back before the first move ended: it may still be in both places.
  placements.ensure(red, request())
  const { placements: restarted } = open(stateDir)
  assert.equal(restarted.isMoving(red), true)
  restarted.moved(red)
  assert.equal(open(stateDir).placements.isMoving(red), false)
  placements.ensure(red, request({ quota: { pods: 1 }, registries: ['r'] }))
})

test('a quota can change, and is the same after a restart', () => {
  const { placements, stateDir } = open()
  placements.ensure(red, request({ quota: { pods: 1 } }))
  const quota = { pods: 2, memoryBytes: 5 }
  const bandwidth = { egressBitsPerSecond: 1_000_000 }
  assert.deepEqual(placements.ensure(red, request({ quota, bandwidth })).quota, quota)
  assert.deepEqual(open(stateDir).placements.get(red)?.bandwidth, bandwidth)
  assert.deepEqual(open(stateDir).placements.get(red)?.quota, quota)
  assert.equal(placements.isMoving(red), false)
})

test('a bundle that several tenants have is kept once, is there after a restart, and goes with its last tenant', () => {
  const { placements, stateDir } = open()
  const policy = { name: 'p', bundle: 'QUJD', entrypoint: 'a/deny', matchConstraints: {} }
  const kept = () => readdirSync(join(stateDir, 'rego')).length
  placements.ensure(red, request({ regoPolicies: [policy] }))
  placements.ensure(blue, request({ tenantUid: UID_B, regoPolicies: [policy, { ...policy, name: 'q' }] }))
  assert.equal(kept(), 1)
  assert.equal(readFileSync(join(stateDir, 'placements.json'), 'utf8').includes(policy.bundle), false)
  const again = open(stateDir).placements
  assert.deepEqual(again.get(red)?.regoPolicies, [policy])
  assert.deepEqual(again.get(blue)?.regoPolicies, [policy, { ...policy, name: 'q' }])
  again.ensure(red, request())
  assert.equal(again.get(red)?.regoPolicies, undefined)
  assert.equal(kept(), 1)
  again.destroyKey(blue)
  again.forget(blue)
  assert.equal(kept(), 0)
})

test('the next tenant of a name gets nothing of one that is still here', () => {
  const { placements } = open()
  const { index } = placements.ensure(red, request())
  const key = placements.dataKey(red)
  assert.throws(
    () => placements.ensure(red, request({ tenantUid: UID_B })),
    /An earlier tenant "red" is still/,
  )
  assert.deepEqual(placements.dataKey(red), key)
  placements.destroyKey(red)
  placements.forget(red)
  const next = placements.ensure(red, request({ tenantUid: UID_B }))
  assert.notEqual(next.index, index)
  assert.notDeepEqual(placements.dataKey(red), key)
})

test('a destroyed key is gone from the disk, and destroying it again does nothing', () => {
  const { placements, stateDir } = open()
  placements.ensure(red, request())
  const file = join(stateDir, 'keys/red.wrapped')
  assert.ok(readFileSync(file).length > 0)
  placements.destroyKey(red)
  assert.equal(existsSync(file), false)
  assert.throws(() => placements.dataKey(red))
  placements.destroyKey(red)
  // Cut off here, it is still to be removed.
  assert.ok(open(stateDir).placements.get(red))
})

test('names that an object has by nature are tenants like others', () => {
  const { placements } = open()
  const name = parseTenantName('constructor')
  assert.equal(placements.get(name), undefined)
  assert.equal(placements.isMoving(name), false)
  assert.equal(placements.ensure(name, request()).tenant, 'constructor')
})

test('a placement request is read as it was meant or refused', () => {
  const good = {
    class: 'shared',
    registries: ['r.test:5000/a'],
    uid: UID_A,
    quota: { pods: 0, cpuMillis: 500 },
  }
  assert.deepEqual(parsePlacementRequest(good), {
    isolationClass: 'shared',
    registries: ['r.test:5000/a'],
    tenantUid: UID_A,
    quota: { pods: 0, cpuMillis: 500 },
  })
  const bandwidth = { ingressBitsPerSecond: 1_000_000 }
  assert.deepEqual(parsePlacementRequest({ ...good, bandwidth }).bandwidth, bandwidth)
  assert.equal(parsePlacementRequest({ ...good, podSecurity: 'baseline' }).podSecurity, 'baseline')
  const bad: [object, RegExp][] = [
    [{ class: 'none' }, /isolation class "none"/],
    [{ registries: 'r' }, /"registries"/],
    [{ registries: ['a b'] }, /"registries"/],
    [{ uid: undefined }, /"uid"/],
    [{ uid: '../../etc' }, /"uid"/],
    [{ quota: [] }, /"quota" must be an object/],
    [{ quota: null }, /"quota" must be an object/],
    [{ quota: { pods: -1 } }, /"quota\.pods" -1/],
    [{ quota: { pods: 1.5 } }, /"quota\.pods" 1\.5/],
    [{ quota: { memoryBytes: '1Gi' } }, /"quota\.memoryBytes" "1Gi"/],
    [{ quota: { gpus: 1 } }, /no field "gpus"/],
    [{ podSecurity: 'none' }, /"podSecurity" "none" is none of privileged, baseline, restricted/],
    [{ podSecurity: null }, /"podSecurity"/],
    [{ bandwidth: { egressBitsPerSecond: 10 } }, /"bandwidth\.egressBitsPerSecond" must be from 1000/],
    [{ diskRates: { readBytes: 0 } }, /"diskRates\.readBytes" must be from 1/],
    [{ bandwidth: { speed: 1 } }, /"bandwidth\.speed"/],
    [{ surprise: 1 }, /no field "surprise"/],
  ]
  for (const [change, message] of bad)
    assert.throws(
      () => parsePlacementRequest({ ...good, ...change }),
      (error) => {
        assert.ok(error instanceof TypeError)
        assert.match(error.message, message)
        return true
      },
    )
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom('class', 'registries', 'uid', 'quota'), (value, field) => {
      for (const document of [value, { ...good, [field]: value }])
        try {
          parsePlacementRequest(document)
        } catch (error) {
          assert.ok(error instanceof TypeError)
        }
    }),
  )
})

test('who had a host or port first keeps it until it is taken away there', () => {
  const { placements, stateDir } = open()
  const range = (port: number, endPort = port): EgressPort => ({ protocol: 'TCP', port, endPort })
  const grant = (hosts: string[], ...ports: EgressPort[]) => ({ ingress: { hosts, ports } })
  const first = grant(['shop.example.com', '*.red.example.com'], range(9_000, 9_010))
  placements.ensure(red, request(first))
  const other = (changes: Partial<PlacementRequest>) =>
    open(stateDir).placements.ensure(blue, request({ tenantUid: UID_B, ...changes }))
  for (const hosts of [
    ['shop.example.com'],
    ['*.example.com'],
    ['a.red.example.com'],
    ['own.example.org', '*.red.example.com'],
  ])
    assert.throws(() => other(grant(hosts)), /belongs to the tenant "red"/, hosts.join())
  assert.throws(() => other(grant([], range(8_990, 9_000))), /The port 9000 .* belongs to the tenant "red"/)
  assert.throws(() => other(grant([], range(7_452))), /is that of the gateway/)
  for (const port of [8_089, 8_452])
    assert.throws(() => other(grant([], range(port))), /is that of the front door/)
  assert.equal(open(stateDir).placements.get(blue), undefined)
  other(grant(['blue.example.com', '*.b.red.example.com'], range(9_011)))
  // Its own grants are no reason against it, and what it gives back can be another's.
  open(stateDir).placements.ensure(red, request(grant(['*.red.example.com'])))
  assert.deepEqual(other(grant(['shop.example.com'], range(9_000))).ingress?.hosts, ['shop.example.com'])
  // The same number of the other protocol is another port.
  const udp = { ...range(9_000), protocol: 'UDP' as const }
  assert.deepEqual(other(grant([], udp)).ingress?.ports, [udp])
  assert.throws(
    () => open(stateDir).placements.ensure(red, request(grant([], udp))),
    /The port 9000\/UDP .* belongs to the tenant "blue"/,
  )
})

test('nobody is guaranteed what the machine does not have, or what another tenant was promised', () => {
  const { placements } = open(undefined, { cpuMillis: 1_000, memoryBytes: 1_000 })
  const asks = (cpuMillis: number, tenantUid = UID_A) =>
    request({ tenantUid, rank: { priority: 3, guaranteed: { cpuMillis } } })
  assert.throws(() => placements.ensure(red, asks(1_001)), /1001 cannot be guaranteed/)
  assert.deepEqual(placements.ensure(red, asks(700)).rank, { priority: 3, guaranteed: { cpuMillis: 700 } })
  assert.throws(() => placements.ensure(blue, asks(301, UID_B)), TypeError)
  placements.ensure(blue, asks(300, UID_B))
  placements.ensure(red, asks(700))
  assert.throws(() => placements.ensure(red, asks(701)), TypeError)
  assert.equal(placements.get(red)?.rank?.guaranteed?.cpuMillis, 700)
})

test('a rank that is none is refused', () => {
  const read = (rank: unknown) =>
    parsePlacementRequest({ class: 'shared', registries: [], uid: UID_A, rank }).rank
  assert.deepEqual(read({ priority: 4, guaranteed: { memoryBytes: 7 } }), {
    priority: 4,
    guaranteed: { memoryBytes: 7 },
  })
  for (const bad of [
    'high',
    { priority: -1 },
    { priority: 1.5 },
    { guaranteed: { pods: 1 } },
    { weight: 1 },
    { guaranteed: { cpuMillis: '1' } },
  ])
    assert.throws(() => read(bad), TypeError, JSON.stringify(bad))
})

test('a grant that is none is refused', () => {
  const base = { class: 'shared', registries: [], uid: UID_A }
  const parse = (ingress: unknown) => parsePlacementRequest({ ...base, ingress })
  for (const odd of [
    { hosts: ['A.example.com'], ports: [] },
    { hosts: ['*'], ports: [] },
    { hosts: ['*.com'], ports: [] },
    { hosts: ['a.example.com.'], ports: [] },
    { hosts: [], ports: [{ protocol: 'SCTP', port: 53, endPort: 53 }] },
    { hosts: [], ports: [{ protocol: 'TCP', port: 10, endPort: 9 }] },
    { hosts: [], ports: [{ protocol: 'TCP', port: 1, endPort: 60_000 }] },
    { hosts: [] },
    [],
    null,
  ])
    assert.throws(() => parse(odd), TypeError, JSON.stringify(odd))
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      if (JSON.stringify(value).includes('__proto__')) return
      try {
        parse(value)
      } catch (error) {
        assert.ok(error instanceof TypeError)
      }
    }),
  )
})
