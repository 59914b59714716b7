import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sampleContainer, sampleJail } from '../fakes/sample-jail.ts'
import { type DiskUsage, planEviction, planTenantEviction, tellOfFull } from './disk.ts'

const MiB = 2 ** 20

function limited(name: string, ephemeralStorageBytesLimit?: number) {
  const resources = { cpuMillisRequest: 0, memoryBytesRequest: 0 }
  return sampleContainer({
    name,
    resources:
      ephemeralStorageBytesLimit === undefined ? resources : { ...resources, ephemeralStorageBytesLimit },
  })
}

function usage(over: Partial<DiskUsage> = {}): DiskUsage {
  return { total: 0, files: 0, volumes: new Map(), layers: new Map(), logs: new Map(), full: [], ...over }
}

const ids = new Map([
  ['app', 'a1'],
  ['side', 'b2'],
])

test('a volume, then the pod, then each container has its limit, in the kubelet’s words', () => {
  const jail = sampleJail({
    containers: [limited('app', 4 * MiB), limited('side')],
    volumes: [
      { name: 'cache', kind: 'scratch', medium: 'disk', sizeBytesMax: 3_000_000 },
      { name: 'fast', kind: 'scratch', medium: 'memory', sizeBytesMax: 1 },
      { name: 'config', kind: 'files', files: [] },
    ],
  })
  const volumes = new Map([
    ['cache', 3_000_001],
    ['fast', 2],
    ['config', 2],
  ])
  assert.equal(
    planEviction(jail, usage({ volumes, total: 9 * MiB }), ids),
    'Usage of EmptyDir volume "cache" exceeds the limit "3M". ',
  )
  volumes.set('cache', 3_000_000)
  assert.equal(
    planEviction(jail, usage({ volumes, total: 4 * MiB + 1 }), ids),
    'Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ',
  )
  const two = sampleJail({ containers: [limited('app', 4 * MiB), limited('side', 4 * MiB)] })
  const layers = new Map([
    ['a1', 3 * MiB],
    ['b2', 3 * MiB],
    ['gone', 2 ** 50],
  ])
  const logs = new Map([['side', MiB + 1]])
  assert.equal(
    planEviction(two, usage({ layers, logs, total: 8 * MiB }), ids),
    'Container side exceeded its local ephemeral storage limit "4Mi". ',
  )
  logs.set('side', MiB)
  assert.equal(planEviction(two, usage({ layers, logs, total: 8 * MiB }), ids), undefined)
})

test('a pod without limits has one all the same, and the larger init container counts', () => {
  assert.equal(planEviction(sampleJail(), usage({ total: 10 * 2 ** 30 }), ids), undefined)
  assert.equal(
    planEviction(sampleJail(), usage({ total: 10 * 2 ** 30 + 1 }), ids),
    'Pod ephemeral local storage usage exceeds the total limit of containers 10Gi. ',
  )
  const jail = sampleJail({
    initContainers: [limited('init', 8 * MiB)],
    containers: [limited('app', 2 * MiB)],
  })
  assert.equal(planEviction(jail, usage({ total: 8 * MiB }), ids), undefined)
  assert.ok(planEviction(jail, usage({ total: 8 * MiB + 1 }), ids))
})

test('of a tenant whose file system is nearly full the pod with the most goes', () => {
  const room = { bytes: 1_000, bytesFree: 1_000, files: 100, filesFree: 100 }
  const pod = (total: number, files: number) => ({ total, files })
  assert.equal(planTenantEviction([], { ...room, bytesFree: 0 }), undefined)
  assert.equal(planTenantEviction([pod(450, 45), pod(450, 45)], room), undefined)
  assert.equal(planTenantEviction([pod(300, 0), pod(500, 0), pod(101, 0)], room)?.index, 1)
  assert.equal(planTenantEviction([pod(0, 10), pod(0, 31), pod(0, 60)], room)?.index, 2)
  assert.equal(planTenantEviction([pod(0, 10 ** 6)], { ...room, files: 0, filesFree: 0 }), undefined)
  // Of files without names, nothing is measured.
  assert.equal(planTenantEviction([pod(1, 0), pod(2, 0)], { ...room, bytesFree: 99 })?.index, 1)
  assert.equal(planTenantEviction([pod(1, 2), pod(2, 1)], { ...room, filesFree: 9 })?.index, 0)
})

test('a file system that is full is told in words that say whose it is', () => {
  assert.deepEqual(
    [
      tellOfFull({ of: { kind: 'volume', name: 'cache' }, what: 'bytes' }),
      tellOfFull({ of: { kind: 'pod' }, what: 'files' }),
      tellOfFull({ of: { kind: 'tenant' }, what: 'bytes' }),
    ],
    [
      'The volume "cache" has all the ephemeral storage it may have: writes fail with "no space left on device".',
      'The pod has as many files in ephemeral storage as it may have: writes fail with "no space left on device".',
      'All pods of the tenant together have all the ephemeral storage they may have: writes fail with "no space left on device".',
    ],
  )
})
