import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, beforeEach, describe, test } from 'node:test'
import { GiB, KiB, MiB } from '../../../stdx/index.ts'
import type { JailContainer, JailVolume } from '../../../jail/index.ts'
import type { ContainerHost, TenantPlacement } from '../parts.ts'
import { makeContainer, makeJail, openHost, TestHost, whyNoContainers } from './container-host.testkit.ts'
import { promisedBytes } from './ephemeral.ts'
import { mountedAt } from './mounts.ts'
import { Places } from './places.ts'
import { createPodDisk } from './pod-disk.ts'
import { ioctl } from './syscalls.ts'

let signal: AbortSignal
beforeEach(() => {
  signal = AbortSignal.timeout(60_000)
})

describe('what is ephemeral', { skip: whyNoContainers() ?? false }, () => {
  let machine: TestHost
  let host: ContainerHost
  let places: Places
  const scratch = (sizeBytesMax: number): JailVolume[] => [
    { name: 'data', kind: 'scratch', medium: 'disk', sizeBytesMax },
  ]
  const mounts = [{ volume: 'data', mountPath: '/data', readOnly: false }]
  const limited = (ephemeralStorageBytesLimit: number): Partial<JailContainer> => ({
    resources: { cpuMillisRequest: 0, memoryBytesRequest: 0, ephemeralStorageBytesLimit },
  })
  const fill = (path: string) =>
    `dd if=/dev/zero of=${path} bs=4k 2>&1 | grep -o "No space left on device"; stat -c %s ${path}`
  const many = (path: string) =>
    `i=0; while echo -n > ${path}/$i; do i=$((i+1)); done 2>/dev/null; echo $i; (echo -n > ${path}/x) 2>&1 | grep -o "No space left on device"`

  before(() => {
    machine = new TestHost('teph', 155, ['crun'])
    host = machine.host
    places = new Places(machine.layout)
  })
  after(async () => {
    await machine?.[Symbol.asyncDispose]()
    assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes('bulkhead-teph'))
  })

  async function run(
    container: JailContainer,
    more: Parameters<TestHost['pod']>[1] = {},
  ): Promise<{ id: Awaited<ReturnType<TestHost['pod']>>['jail']['id']; output: string[] }> {
    const pod = await machine.pod([container], more)
    const { containerID } = await host.start(pod.spec(container), signal)
    await host.waitForExit(pod.jail.id, containerID, signal)
    const output = await text(await host.logs(pod.jail.id, container.name, 0, {}, signal))
    return { id: pod.jail.id, output: output.trimEnd().split('\n') }
  }

  for (const sizeBytesMax of [256 * KiB, 1 * MiB, 40 * MiB, 200 * MiB])
    test(`a volume of ${sizeBytesMax} bytes takes so many and no more, at once`, async () => {
      const { id, output } = await run(makeContainer('main', fill('/data/x'), { mounts }), {
        volumes: scratch(sizeBytesMax),
      })
      assert.equal(output[0], 'No space left on device')
      const written = Number(output[1])
      assert.ok(written <= sizeBytesMax && written > sizeBytesMax * 0.7, String(written))
      const { volumes, full } = await createPodDisk(machine.layout).measure(id)
      assert.ok(
        (volumes.get('data') ?? Infinity) <= sizeBytesMax,
        'nobody is evicted for what is within its limit',
      )
      assert.deepEqual(full, [{ of: { kind: 'volume', name: 'data' }, what: 'bytes' }])
      await host.removePod(id)
    })

  test('a container with a limit writes that much to its root, and holes, links and reservations help nobody', async () => {
    const script = [
      'truncate -s 1000000000000 /hole 2>/dev/null || dd if=/dev/zero of=/hole bs=1 count=1 seek=100000000000 2>/dev/null',
      'ls -l /hole >/dev/null && echo sparse',
      fill('/x'),
      'ln /x /y && dd if=/dev/zero of=/y bs=64k count=2 conv=notrunc oflag=append 2>&1 | grep -o "No space left on device"',
      'dd if=/dev/zero of=/hole bs=4k count=64 conv=notrunc 2>&1 | grep -o "No space left on device"',
    ].join('\n')
    const { id, output } = await run(makeContainer('main', script, limited(8 * MiB)))
    assert.deepEqual(
      output.filter((line) => !/^\d+$/.test(line)),
      ['sparse', 'No space left on device', 'No space left on device', 'No space left on device'],
    )
    const written = Number(output.find((line) => /^\d+$/.test(line)))
    assert.ok(written > 6 * MiB && written <= 8 * MiB, String(written))
    const { total, full } = await createPodDisk(machine.layout).measure(id)
    assert.ok(total <= 8 * MiB, String(total))
    assert.deepEqual(full[0], { of: { kind: 'pod' }, what: 'bytes' })
    await host.removePod(id)
  })

  test('files without content come to an end too', async () => {
    const { id, output } = await run(makeContainer('main', many('/data'), { mounts }), {
      volumes: scratch(64 * MiB),
    })
    assert.ok(Number(output[0]) >= 9_000 && Number(output[0]) <= 10_100, output[0])
    assert.equal(output[1], 'No space left on device')
    await host.removePod(id)
  })

  test('a tenant that has filled its file system fills nobody else’s, and has it back when the pod goes', async () => {
    const fresh = { tenant: 3, quota: { ephemeralStorageBytes: 64 * MiB } }
    const placement: TenantPlacement = {
      ...(await machine.pod([makeContainer('x', 'true')])).placement,
      ...place(3),
      quota: fresh.quota,
    }
    const jail = { ...makeJail([makeContainer('main', fill('/x'))]), tenant: placement.tenant }
    await host.ensurePod(placement, jail)
    const before = statfsSync(machine.layout.stateDir)
    const mount = places.ephemeralMount(placement.tenant)
    writeFileSync(join(mount, 'by-us'), '')
    assert.throws(() => writeFileSync(join(mount, 'by-us'), Buffer.alloc(80 * MiB)), { code: 'ENOSPC' })
    const second = { ...makeJail([makeContainer('main', 'true')]), tenant: placement.tenant }
    await assert.rejects(host.ensurePod(placement, second), {
      reason: 'CreateContainerError',
      message: /no space left on device/,
    })
    const other = await run(makeContainer('main', fill('/data/x'), { mounts }), {
      tenant: 4,
      volumes: scratch(MiB),
    })
    assert.equal(other.output[0], 'No space left on device')
    const room = await createPodDisk(machine.layout).tenantRoom(placement.tenant)
    assert.ok(room && room.bytes <= 66 * MiB && room.bytesFree <= 16 * KiB, JSON.stringify(room))
    truncateSync(join(mount, 'by-us'), 0)
    await host.removePod(jail.id)
    await host.removePod(second.id)
    await host.removeTenant(placement.tenant)
    assert.ok(!existsSync(places.ephemeralImage(placement.tenant)))
    assert.ok(before.bavail > 0)
  })

  function place(tenant: number): Pick<TenantPlacement, 'tenant' | 'index' | 'podUidBase'> {
    const base = machine.layout.podUidBase
    return {
      tenant: `t${tenant}` as TenantPlacement['tenant'],
      index: tenant,
      podUidBase: base + tenant * 65_536,
    }
  }

  test('more than the disk has is not promised, and the pod is told so', async () => {
    const placement: TenantPlacement = {
      ...(await machine.pod([makeContainer('x', 'true')])).placement,
      ...place(5),
      quota: { ephemeralStorageBytes: 2 ** 50 },
    }
    const jail = { ...makeJail([makeContainer('main', 'true')]), tenant: placement.tenant }
    await assert.rejects(host.ensurePod(placement, jail), {
      reason: 'CreatePodSandboxError',
      message: /the machine has no room on its disk/,
    })
    const { bsize, bavail } = statfsSync(machine.layout.stateDir)
    assert.ok(promisedBytes(places) < bsize * bavail)
    await host.removePod(jail.id)
  })

  test('what runs is found again by the next agent, and what a crash left unmounted is made anew', async () => {
    const container = makeContainer('main', 'echo kept > /data/file; sleep 600', { mounts })
    const pod = await machine.pod([container], { tenant: 6, volumes: scratch(MiB) })
    await host.start(pod.spec(container), signal)
    const inode = statSync(places.ephemeralImage(pod.placement.tenant)).ino
    writeFileSync(join(places.ephemeral, 't7'), 'left over')
    const again = openHost(machine.layout, ['crun'])
    await again.ensurePod(pod.placement, pod.jail)
    assert.equal(statSync(places.ephemeralImage(pod.placement.tenant)).ino, inode)
    assert.ok(!existsSync(join(places.ephemeral, 't7')))
    const { output } = await again.run(
      pod.jail.id,
      (await ids(again, pod.jail.id))[0] ?? '',
      ['cat', '/data/file'],
      10_000,
    )
    assert.equal(output, 'kept\n')
    await again.removePod(pod.jail.id)
    assert.deepEqual(readdirSync(places.ephemeralMount(pod.placement.tenant)), [])
  })

  async function ids(of: ContainerHost, jail: string): Promise<string[]> {
    const seen = (await of.observe()).find((each) => each.jail === jail)
    return (seen?.containers ?? []).map(({ containerID }) => containerID)
  }

  const endings: Record<string, (mount: string) => void> = {
    'that an agent had begun to take away when it died': (mount) => {
      const fd = openSync(mount, 'r')
      const withoutWriting = Buffer.from([2, 0, 0, 0])
      ioctl(fd, 0x8004_587d, withoutWriting, 'Cannot end it')
      closeSync(fd)
    },
    'that the kernel has shut after an error': (mount) =>
      void execFileSync('mount', ['-o', 'remount,ro', mount]),
  }
  for (const [what, end] of Object.entries(endings))
    test(`a file system ${what} is made anew for the next pod, and keeps no other tenant waiting`, async () => {
      const container = makeContainer('main', 'echo works > /data/file; cat /data/file', { mounts })
      const old = await machine.pod([makeContainer('x', 'true')], { tenant: 10 })
      end(places.ephemeralMount(old.placement.tenant))
      const other: TenantPlacement = {
        ...old.placement,
        ...place(11),
        quota: { ephemeralStorageBytes: 2 ** 50 },
      }
      const unwanted = { ...makeJail([container]), tenant: other.tenant }
      await assert.rejects(host.ensurePod(other, unwanted), {
        message: /the machine has no room on its disk/,
      })
      const again = openHost(machine.layout, ['crun'])
      const jail = { ...makeJail([container]), volumes: scratch(MiB), tenant: old.placement.tenant }
      await again.ensurePod(old.placement, jail)
      writeFileSync(join(places.podDisk(jail.id), 'by-us'), 'works')
      assert.deepEqual(readdirSync(places.ephemeralMount(old.placement.tenant)), [jail.id])
      for (const id of [old.jail.id, jail.id, unwanted.id]) await again.removePod(id)
      await again.removeTenant(old.placement.tenant)
      assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(old.jail.id))
    })

  test('what is written through the cache is limited for the tenant’s own device, until the tenant goes', async () => {
    const pod = await machine.pod([makeContainer('x', 'true')], { tenant: 9 })
    const placement = { ...pod.placement, diskRates: { writeBytes: 7 * MiB, writeOperations: 70 } }
    await host.limitTenant(placement)
    const device = mountedAt(places.ephemeralMount(placement.tenant))?.device ?? ''
    assert.match(device, /^7:/)
    const limitOf = (file: string) => {
      const path = `/sys/fs/cgroup/blkio/blkio.throttle.${file}_device`
      const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n') : []
      return lines.find((line) => line.startsWith(`${device} `))
    }
    const isVersion1 = existsSync('/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device')
    assert.equal(limitOf('write_bps'), isVersion1 ? `${device} ${7 * MiB}` : undefined)
    assert.equal(limitOf('write_iops'), isVersion1 ? `${device} 70` : undefined)
    const unwritten = `/sys/class/bdi/${device}`
    if (existsSync(`${unwritten}/max_bytes`)) {
      assert.equal(readFileSync(`${unwritten}/strict_limit`, 'utf8').trim(), '1')
      assert.ok(Number(readFileSync(`${unwritten}/max_bytes`, 'utf8')) <= 129 * MiB)
    }
    await host.removePod(pod.jail.id)
    await host.removeTenant(placement.tenant)
    assert.equal(limitOf('write_bps'), undefined)
  })

  test('whoever gets the device of a pod that has gone is held to nothing of that pod’s', async () => {
    const { jail } = await machine.pod([makeContainer('x', 'true')], { tenant: 9, volumes: scratch(MiB) })
    const device = mountedAt(places.diskVolume(jail.id, 'data'))?.device ?? ''
    assert.match(device, /^7:/)
    const limit = `/sys/class/bdi/${device}/strict_limit`
    const isLimited = () => existsSync(limit) && readFileSync(limit, 'utf8').trim() === '1'
    assert.equal(isLimited(), existsSync(`/sys/class/bdi/${device}/max_bytes`))
    const backing = `/sys/dev/block/${device}/loop/backing_file`
    const owner = () => (existsSync(backing) ? readFileSync(backing, 'utf8') : 'nobody')
    const before = owner()
    await host.removePod(jail.id)
    // Other pods of the machine may have it already, with limits of their own.
    assert.ok(!isLimited() || !['nobody', before].includes(owner()), owner())
  })

  test('what a pod wrote is gone from the disk when it has gone', async () => {
    const { id } = await run(
      makeContainer(
        'main',
        'dd if=/dev/zero of=/data/x bs=1M count=32; dd if=/dev/zero of=/y bs=1M count=32; sync',
        { mounts },
      ),
      {
        tenant: 8,
        volumes: scratch(GiB),
      },
    )
    const image = join(places.ephemeral, 't8')
    const taken = () => statSync(image).blocks * 512
    assert.ok(taken() >= 60 * MiB, String(taken()))
    await host.removePod(id)
    assert.ok(taken() < 8 * MiB, String(taken()))
  })
})
