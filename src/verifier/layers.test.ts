import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  ephemeralLayer,
  isGvisor,
  type MachinePosture,
  systemCallFilterLayer,
  type TenantPosture,
} from './layers.ts'
import { watchedDiskLayer } from './platform-layers.ts'
import { syntheticWorld } from './synthetic-world.testkit.ts'

const { tenants } = syntheticWorld([{}, { sandboxed: true }])
const [direct, sandboxed] = tenants as [TenantPosture, TenantPosture]

const withFilters = (tenant: TenantPosture, seccompFilters: number): TenantPosture => ({
  ...tenant,
  processes: tenant.processes.map((process) => ({ ...process, seccompFilters })),
})

test("a process on the machine's kernel has a filter of its own and one that it inherits; one of them is not enough", () => {
  assert.ok(!direct.processes.some(isGvisor) && direct.processes.length > 0)
  assert.equal(systemCallFilterLayer(withFilters(direct, 2)).holds, true)
  assert.equal(systemCallFilterLayer(withFilters(direct, 3)).holds, true)
  const one = systemCallFilterLayer(withFilters(direct, 1))
  assert.equal(one.holds, false)
  assert.match(one.evidence.join(), /only one system call filter/)
  assert.match(systemCallFilterLayer(withFilters(direct, 0)).evidence.join(), /no system call filter/)
})

test("gVisor's processes bring filters of their own, and have to have one", () => {
  assert.ok(sandboxed.processes.every(isGvisor) && sandboxed.processes.length > 0)
  assert.equal(systemCallFilterLayer(withFilters(sandboxed, 1)).holds, true)
  assert.equal(systemCallFilterLayer(withFilters(sandboxed, 0)).holds, false)
})

test('a pod may write to file systems of its tenant, to memory and to nothing else', () => {
  const { tenants, machine } = syntheticWorld([{}, {}])
  const [red] = tenants
  assert.ok(red)
  const own: Record<string, string> = { '/dev/loop1': 't0', '/dev/loop2': 't1' }
  const seen: MachinePosture = {
    ...machine,
    ephemeral: [
      {
        tenant: 't0',
        device: '/dev/loop1',
        fileBytes: 1_000,
        bytes: 900,
        usedBytes: 1,
        files: 9,
        canTakeBytes: 900,
      },
    ],
    diskFreeBytes: 900,
    deviceOf: (path) => (path.startsWith('/run/') ? '/dev/loop1' : '/dev/vda'),
    ownerOfPath: (path) => (own[path] === undefined ? undefined : { owner: own[path] }),
  }
  const look = (type: string, options: string, source = 'overlay', machineSeen = seen) => {
    const mounts = [{ root: '/', mountPoint: '/x', type, source, options }]
    const processes = red.processes.map((p) => ({ ...p, mounts }))
    return ephemeralLayer({ ...red, processes }, machineSeen)
  }
  for (const [type, options, source] of [
    ['overlay', 'rw,nosuid,rw,lowerdir=/a:/b,upperdir=/run/p/upper,workdir=/run/p/work'],
    ['overlay', 'ro,nosuid,rw,lowerdir=/a:/b,upperdir=/var/upper,workdir=/var/work'],
    ['overlay', 'rw,rw,lowerdir=/a:/b'],
    ['ext4', 'rw,nosuid,rw', '/dev/loop1'],
    ['ext4', 'ro,relatime,rw', '/dev/vda'],
    ['tmpfs', 'rw,rw,size=1m'],
  ] as const)
    assert.deepEqual(look(type, options, source).evidence.length, 1, `${type} ${options}`)
  for (const [type, options, source] of [
    ['overlay', 'rw,nosuid,rw,lowerdir=/a:/b,upperdir=/var/upper,workdir=/var/work'],
    ['ext4', 'rw,nosuid,rw', '/dev/vda'],
    ['ext4', 'rw,nosuid,rw', '/dev/loop2'],
    ['btrfs', 'rw', 'anything'],
  ] as const) {
    const { holds, evidence } = look(type, options, source)
    assert.equal(holds, false, `${type} ${options}`)
    assert.match(evidence.join(), /which is no file system of its tenant's own/)
  }
  assert.equal(look('devtmpfs', 'rw', 'devtmpfs').holds, false, 'all of the devices')
  const shortOf = look('tmpfs', 'rw', 'tmpfs', { ...seen, diskFreeBytes: 899 })
  assert.match(shortOf.evidence.join(), /can still take 900 bytes from a disk that has 899/)
  const [first] = seen.ephemeral
  assert.ok(first)
  assert.equal(
    look('tmpfs', 'rw', 'tmpfs', { ...seen, ephemeral: [{ ...first, bytes: 1_001 }] }).holds,
    false,
  )
})

test('what is said to have been measured must be recent and near to what the kernel has', () => {
  const { tenants, machine } = syntheticWorld([{}])
  const [red] = tenants
  const use = machine.observedUses?.tenants.get('t0')
  assert.ok(red && use)
  const look = (disk: { bytes: number; atMs: number } | undefined, usedBytes: number) =>
    watchedDiskLayer(red, {
      ...machine,
      observedAtMs: 1e9,
      ephemeral: [
        {
          tenant: 't0',
          device: '/dev/loop1',
          fileBytes: 1e12,
          bytes: 1e12,
          usedBytes,
          files: 9,
          canTakeBytes: 0,
        },
      ],
      observedUses: {
        atMs: 1e9,
        tenants: new Map([['t0', { ...use, ...(disk ? { disk: { files: 1, pods: 1, ...disk } } : {}) }]]),
      },
    })
  assert.equal(look({ bytes: 5e9, atMs: 1e9 - 20_000 }, 5e9).holds, true)
  assert.equal(look({ bytes: 5e9, atMs: 1e9 - 600_000 }, 5e9).holds, false)
  assert.equal(look({ bytes: 0, atMs: 1e9 }, 5e9).holds, false)
  assert.equal(look({ bytes: 50e9, atMs: 1e9 }, 5e9).holds, false)
  assert.equal(look(undefined, 0).holds, true, 'its pods may be younger than a look')
})
