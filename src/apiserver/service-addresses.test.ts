import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError, type KubeObject } from '../api/index.ts'
import { ServiceAddresses } from './service-addresses.ts'

let uids = 0
const service = (spec: Record<string, unknown> = {}): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 's', namespace: 'a', uid: String(++uids), resourceVersion: '', creationTimestamp: '' },
  spec,
})
const addressOf = (s: KubeObject) => (s['spec'] as { clusterIP?: string }).clusterIP
const addresses = (range = '10.96.0.0/28') => new ServiceAddresses({ range, random: () => 0 })

test('no two services get one address, and a full range says so', () => {
  const all = addresses()
  const taken = new Set<string>()
  for (let n = 0; n < 12; n++) {
    const s = service()
    all.take(s)
    taken.add(addressOf(s)!)
  }
  assert.equal(taken.size, 12)
  assert.ok(
    !taken.has('10.96.0.0') &&
      !taken.has('10.96.0.1') &&
      !taken.has('10.96.0.10') &&
      !taken.has('10.96.0.15'),
  )
  assert.throws(() => all.take(service()), /the range 10\.96\.0\.0\/28 is full/)
})

test('an address asked for is given if it is free and in range, and refused with the reason otherwise', () => {
  const all = addresses('10.96.0.0/16')
  const first = service({ clusterIP: '10.96.3.4' })
  all.take(first)
  assert.deepEqual(first['spec'], { clusterIP: '10.96.3.4', clusterIPs: ['10.96.3.4'] })
  assert.throws(() => all.take(service({ clusterIP: '10.96.3.4' })), /provided IP is already allocated/)
  assert.throws(() => all.take(service({ clusterIP: '10.97.0.1' })), /not in the valid range/)
  assert.throws(() => all.take(service({ clusterIP: 'nonsense' })), ApiError)
  all.release(first)
  all.take(service({ clusterIP: '10.96.3.4' }))
})

test('headless services and other names take none', () => {
  const all = addresses()
  const headless = service({ clusterIP: 'None' })
  const named = service({ type: 'ExternalName', clusterIP: '10.96.0.3' })
  all.take(headless)
  all.take(named)
  assert.deepEqual(headless['spec'], { clusterIP: 'None', clusterIPs: ['None'] })
  assert.deepEqual(named['spec'], { type: 'ExternalName' })
})

test('an update keeps the address, and giving back takes it from nobody else', () => {
  const all = addresses()
  const old = service()
  const giveBack = all.take(old)
  const next = { ...service(), metadata: old.metadata }
  all.keep(next, old)
  all.take(next, old)()
  assert.equal(addressOf(next), addressOf(old))
  const other = service()
  all.take(other)
  giveBack()
  giveBack()
  const again = service({ clusterIP: addressOf(old)! })
  all.take(again)
  giveBack()
  assert.throws(() => all.take(service({ clusterIP: addressOf(again)! })), /already allocated/)
})

test('no address makes it throw anything but a refusal', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.ipV4()), (clusterIP) => {
      try {
        addresses('10.96.0.0/16').take(service({ clusterIP }))
      } catch (error) {
        assert.ok(error instanceof ApiError)
      }
    }),
  )
})

test("the API server's address is its own service's, and of no other", () => {
  const all = addresses('10.96.0.0/16')
  const own = service()
  own.metadata = { ...own.metadata, namespace: 'default', name: 'kubernetes' }
  for (const spec of [{ clusterIP: 'None' }, { clusterIP: '10.96.0.2' }, { type: 'ExternalName' }])
    assert.throws(() => all.take({ ...own, spec }), /give yours another name/)
  all.take(own)
  assert.equal(addressOf(own), '10.96.0.1')
  for (const name of ['kubernetes', 's']) {
    const other = service({ clusterIP: '10.96.0.1' })
    other.metadata = { ...other.metadata, namespace: 'a', name }
    assert.throws(() => all.take(other), /provided IP is already allocated/)
  }
})
