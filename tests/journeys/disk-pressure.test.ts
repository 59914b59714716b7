import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { GiB, MiB, until } from '../../src/stdx/index.ts'
import { platformMissing } from '../testkit/machine.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** A platform on a small file system of its own, which the test fills: the machine's disk is not touched. */

const DIR = '/var/lib/bulkhead-ne4disk'
const IMAGE = join(DIR, 'disk.ext4')
const DISK = join(DIR, 'disk')

type Condition = { type: string; status: string }

describe('a disk that is full for real', { skip: platformMissing }, () => {
  let platform: TestPlatform
  let registry: Registry
  const until90 = (condition: () => Promise<unknown>) => until(condition, { timeoutMs: 90_000, everyMs: 200 })
  const pod = (name: string, mebibytes: number) =>
    `apiVersion: v1\nkind: Pod\nmetadata: {name: ${name}}\nspec:\n  terminationGracePeriodSeconds: 1\n  restartPolicy: Never\n` +
    `  volumes: [{name: scratch, emptyDir: {}}]\n` +
    `  containers: [{name: main, image: "${registry.host}/busybox:1", volumeMounts: [{name: scratch, mountPath: /scratch}],` +
    ` command: [sh, -c, 'trap exit TERM; head -c ${mebibytes}m /dev/urandom > /scratch/data; echo written; sleep 3600 & wait']}]\n`
  const written = async (tenant: string, name: string) =>
    (await platform.kubectl(tenant, 'logs', name)).stdout.includes('written')
  const phase = (tenant: string, name: string) =>
    platform.mustKubectl(tenant, 'get', 'pod', name, '-o', 'jsonpath={.status.phase}/{.status.reason}')
  const condition = async (tenant: string, of: string) => {
    const node = await platform.getJson<{ status: { conditions: Condition[] } }>(tenant, 'node', 'bulkhead')
    return node.status.conditions.find(({ type }) => type === of)?.status
  }
  const unmount = () => {
    try {
      execFileSync('umount', [DISK], { stdio: 'ignore' })
    } catch {
      // It is not mounted.
    }
    rmSync(DIR, { recursive: true, force: true })
  }

  before(async () => {
    unmount()
    mkdirSync(DISK, { recursive: true, mode: 0o711 })
    writeFileSync(IMAGE, '')
    truncateSync(IMAGE, 3 * GiB)
    execFileSync('mkfs.ext4', ['-q', '-m', '0', IMAGE])
    execFileSync('mount', ['-o', 'loop', IMAGE, DISK])
    registry = await startBusyboxRegistry()
    const registries = [registry.host]
    platform = await TestPlatform.start({
      instance: 'ne4',
      slot: 147,
      env: { BULKHEAD_STATE_DIR: join(DISK, 'state') },
      tenants: [
        { name: 'red', registries },
        { name: 'blue', registries },
      ],
    })
  })
  after(async () => {
    await platform?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
    unmount()
  })

  test('the largest pod of the tenant that has most goes, and that tenant alone is told', async () => {
    await platform.apply('red', pod('large', 200))
    await platform.apply('red', pod('small', 5))
    await platform.apply('blue', pod('other', 20))
    await until90(async () => (await written('red', 'large')) && (await written('red', 'small')))
    await until90(() => written('blue', 'other'))
    assert.equal(await condition('red', 'DiskPressure'), 'False')
    // Below a twenty-fifth, and above it again when the large one has gone.
    const { blocks, bfree, bsize } = statfsSync(DISK)
    const free = Math.floor((blocks * bsize) / 25) - 60 * MiB
    execFileSync('fallocate', ['-l', String(bfree * bsize - free), join(DISK, 'filler')])
    await until90(async () => (await phase('red', 'large')) === 'Failed/Evicted')
    assert.match(
      await platform.mustKubectl('red', 'describe', 'pod', 'large'),
      /The node was low on resource: ephemeral-storage\./,
    )
    await until90(async () => (await condition('red', 'DiskPressure')) === 'True')
    assert.equal(await condition('red', 'MemoryPressure'), 'False')
    assert.equal(await condition('blue', 'DiskPressure'), 'False')
    assert.equal(await phase('red', 'small'), 'Running/')
    assert.equal(await phase('blue', 'other'), 'Running/')
    // There is room again, so that it is over.
    await platform.apply('blue', pod('next', 1))
    await until90(() => written('blue', 'next'))
  })
})
