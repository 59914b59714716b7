import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { MiB, until } from '../../src/stdx/index.ts'
import { Bystander } from '../testkit/bystander.ts'
import { gvisorMissing } from '../testkit/machine.ts'
import { pod } from '../testkit/manifests.ts'
import { TestPlatform } from '../testkit/platform.ts'
import { vectorsOf, verify } from '../testkit/proof.ts'
import { type Registry, startBusyboxRegistry } from '../testkit/registry.ts'

/** Attacks on the disk that all tenants share, by what pods may write without a volume of a claim. */

const QUOTA_MIB = 128
const ANSWERS = 3
const FULL = 'No space left on device'

describe('a disk under attack', { skip: gvisorMissing }, () => {
  let platform: TestPlatform
  let registry: Registry
  let bystander: Bystander
  const until90 = (condition: () => Promise<unknown>, what: string) =>
    until(condition, { timeoutMs: 90_000, everyMs: 200, what })
  const sh = async (tenant: string, name: string, script: string) =>
    (await platform.kubectl(tenant, 'exec', name, '--', 'sh', '-c', script)).stdout.trim()

  async function start(
    tenant: string,
    name: string,
    { volumes = [], limits }: { volumes?: readonly object[]; limits?: Record<string, string> } = {},
  ): Promise<void> {
    const made = pod({
      name,
      image: `${registry.host}/busybox:1`,
      script: 'exec sleep 86397',
      volumeMounts: volumes.map((_, at) => ({ name: `v${at}`, mountPath: `/v${at}` })),
      ...(limits ? { resources: { limits, requests: limits } } : {}),
    })
    const spec = {
      ...(made['spec'] as object),
      terminationGracePeriodSeconds: 0,
      volumes: volumes.map((emptyDir, at) => ({ name: `v${at}`, emptyDir })),
    }
    await platform.apply(tenant, [{ ...made, spec }])
  }
  const ready = (tenant: string, name: string) =>
    platform.mustKubectl(tenant, 'wait', '--for=condition=Ready', `pod/${name}`, '--timeout=90s')
  const remove = (tenant: string, ...names: string[]) =>
    platform.mustKubectl(tenant, 'delete', 'pod', ...names, '--wait', '--force', '--grace-period=0')
  const events = async (tenant: string, name: string) => {
    const { items } = await platform.getJson<{
      items: { reason: string; message: string; involvedObject: { name: string } }[]
    }>(tenant, 'events')
    return items.filter(({ involvedObject }) => involvedObject.name === name)
  }
  /** Of the tenant's file system, by the kernel. */
  const used = (tenant: string) => {
    const point = join(platform.layout.runDir, 'containers/.ephemeral', tenant)
    const { blocks, bfree, bsize, files, ffree } = statfsSync(point)
    return { bytes: (blocks - bfree) * bsize, files: files - ffree }
  }
  const taken = (tenant: string) => statSync(join(platform.layout.stateDir, 'ephemeral', tenant)).blocks * 512

  before(async () => {
    registry = await startBusyboxRegistry()
    const registries = [registry.host]
    const spec = { quota: { ephemeralStorage: `${QUOTA_MIB}Mi` } }
    platform = await TestPlatform.start({
      instance: 'epd',
      slot: 151,
      tenants: [
        { name: 'attacker', registries, spec },
        { name: 'wild', trust: 'untrusted', registries, spec },
        { name: 'victim', registries },
      ],
    })
    bystander = await Bystander.start(platform, 'victim', `${registry.host}/busybox:1`)
    await bystander.succeeds(ANSWERS)
  })
  after(async () => {
    await bystander?.[Symbol.asyncDispose]()
    await platform?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
    const backing = readdirSync('/sys/block').flatMap((name) => {
      const file = `/sys/block/${name}/loop/backing_file`
      return existsSync(file) ? [readFileSync(file, 'utf8')] : []
    })
    assert.deepEqual(
      backing.filter((file) => file.includes('bulkhead-epd')),
      [],
      'no device is left',
    )
  })

  for (const tenant of ['attacker', 'wild'])
    test(`several pods of "${tenant}" without limits write until nothing more fits, and take no byte from others`, async () => {
      for (const name of ['one', 'two']) await start(tenant, name, { volumes: [{}] })
      for (const name of ['one', 'two']) await ready(tenant, name)
      const wrote = await Promise.all(
        ['one', 'two'].map((name) =>
          sh(
            tenant,
            name,
            'dd if=/dev/zero of=/v0/x bs=64k count=4096 2>&1 | grep -o "No space left on device"',
          ),
        ),
      )
      assert.ok(wrote.includes(FULL), wrote.join())
      assert.ok(used(tenant).bytes <= (QUOTA_MIB + 1) * MiB)
      assert.ok(taken(tenant) <= (QUOTA_MIB + 24) * MiB, `${taken(tenant)} bytes of the machine's disk`)
      assert.equal(
        await sh('victim', 'server', 'dd if=/dev/zero of=/mine bs=1M count=64 2>/dev/null && echo written'),
        'written',
      )
      await bystander.succeeds(ANSWERS)
      const seen = vectorsOf(await verify(platform)).filter(({ vector }) => vector === 'disk')
      assert.ok(seen.length > 0)
      for (const { state, independent, attacker, layers } of seen)
        assert.deepEqual(
          { attacker, state, independent },
          { attacker, state: 'holds', independent: 2 },
          JSON.stringify(layers),
        )
      // The second layer: whoever has most goes, and there is room again.
      await until90(async () => {
        const told = [...(await events(tenant, 'one')), ...(await events(tenant, 'two'))]
        return told.some(
          ({ reason, message }) =>
            reason === 'Evicted' && message.includes('of ephemeral storage, and this is the largest'),
        )
      }, 'The eviction of the largest')
      await remove(tenant, 'one', 'two')
      await until90(async () => used(tenant).bytes < 8 * MiB, 'The end of what was written')
    })

  test('files that have no name any more and stay open count all the same', async () => {
    await start('attacker', 'nameless')
    await ready('attacker', 'nameless')
    const script = `exec 3>/hidden; rm /hidden; dd if=/dev/zero bs=64k count=4096 2>&1 >&3 | grep -o "${FULL}"; sleep 3 3>&3 &`
    assert.equal(await sh('attacker', 'nameless', script), FULL)
    assert.ok(used('attacker').bytes <= (QUOTA_MIB + 1) * MiB)
    await bystander.succeeds(ANSWERS)
    await remove('attacker', 'nameless')
  })

  test('holes, second names, reservations and copies write no more to a volume than its limit', async () => {
    await start('attacker', 'tricks', { volumes: [{ sizeLimit: '4Mi' }] })
    await ready('attacker', 'tricks')
    const script = [
      'cd /v0; truncate -s 1099511627776 hole; dd if=/dev/zero of=hole bs=64k seek=1048576 count=1024 conv=notrunc 2>/dev/null',
      'fallocate -l 8m reserved 2>/dev/null && echo RESERVED',
      'i=0; while [ $i -lt 200 ]; do ln hole name$i 2>/dev/null; cp hole copy$i 2>/dev/null & sleep 0; kill $! 2>/dev/null; i=$((i+1)); done',
      'mkdir -p a; while mkdir a/a 2>/dev/null && mv a b 2>/dev/null && mkdir a && mv b a/b 2>/dev/null; do :; done & sleep 1; kill $!',
      'df -k /v0 | tail -1 | tr -s " " | cut -d " " -f 3',
    ].join('\n')
    const told = (await sh('attacker', 'tricks', script)).split('\n')
    assert.ok(!told.includes('RESERVED'))
    assert.ok(Number(told.at(-1)) <= 4_096, told.join())
    await until90(
      async () =>
        (await events('attacker', 'tricks')).some(
          ({ reason }) => reason === 'EphemeralStorageFull' || reason === 'Evicted',
        ),
      'What the tenant is told',
    )
    await bystander.succeeds(ANSWERS)
    await remove('attacker', 'tricks')
  })

  test('a log flood into a full file system stops no pod and nobody else', async () => {
    await start('attacker', 'full', { limits: { 'ephemeral-storage': '2Mi' } })
    await ready('attacker', 'full')
    await sh(
      'attacker',
      'full',
      'dd if=/dev/zero of=/x bs=4k 2>/dev/null; i=0; while [ $i -lt 20000 ]; do echo flood $i; i=$((i+1)); done > /proc/1/fd/1',
    )
    assert.equal(await sh('attacker', 'full', 'echo alive'), 'alive')
    await bystander.succeeds(ANSWERS)
    await remove('attacker', 'full')
  })

  test('pods with more volumes with limits than a tenant may have wait, are told why, and others start', async () => {
    const volumes = Array.from({ length: 70 }, () => ({ sizeLimit: '1Mi' }))
    await start('attacker', 'many-1', { volumes })
    await ready('attacker', 'many-1')
    await start('attacker', 'many-2', { volumes })
    await until90(
      async () =>
        (await events('attacker', 'many-2')).some(({ message }) =>
          message.includes('no more pods and volumes with limits on disk can start now'),
        ),
      'A pod that waits',
    )
    await start('victim', 'late', { volumes: [{ sizeLimit: '1Mi' }] })
    await ready('victim', 'late')
    await bystander.succeeds(ANSWERS)
    await remove('attacker', 'many-1')
    await ready('attacker', 'many-2')
    await remove('attacker', 'many-2')
  })

  test('storage that cannot be removed keeps no key: what a removed tenant stored is noise at once', async () => {
    const { stateDir } = platform.layout
    const [key, image] = [join(stateDir, 'keys/attacker.wrapped'), join(stateDir, 'ephemeral/attacker')]
    await start('attacker', 'last', {})
    await ready('attacker', 'last')
    await remove('attacker', 'last')
    execFileSync('chattr', ['+i', image])
    try {
      assert.ok(existsSync(key))
      const removal = platform.cli('tenant', 'delete', 'attacker', '--yes')
      await until90(async () => !existsSync(key), 'A key that is destroyed')
      assert.ok(existsSync(image))
      execFileSync('chattr', ['-i', image])
      assert.equal((await removal).code, 0)
    } finally {
      if (existsSync(image)) execFileSync('chattr', ['-i', image])
    }
    assert.ok(!existsSync(image))
    await bystander.succeeds(ANSWERS)
  })
})
