import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sampleContainer, sampleJail } from '../fakes/sample-jail.ts'
import { type DiskUsage, planEviction, planTenantEviction } from './disk.ts'

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
  return { total: 0, files: 0, volumes: new Map(), layers: new Map(), logs: new Map(), ...over }
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

test('of a tenant that has more than its share, the pod with the most goes', () => {
  const disk = { bytes: 4_000, files: 400 }
  const pod = (total: number, files: number) => ({ total, files })
  assert.equal(planTenantEviction([], disk), undefined)
  assert.equal(planTenantEviction([pod(500, 50), pod(500, 50)], disk), undefined)
  assert.equal(planTenantEviction([pod(300, 0), pod(500, 0), pod(201, 0)], disk)?.index, 1)
  assert.equal(planTenantEviction([pod(0, 10), pod(0, 31), pod(0, 60)], disk)?.index, 2)
  assert.equal(planTenantEviction([pod(0, 10 ** 6)], { bytes: 4_000, files: 0 }), undefined)
})
