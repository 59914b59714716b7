import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, beforeEach, describe, test } from 'node:test'
import { type ApiError, parseTenantName } from '../../../api/index.ts'
import type { ClaimId, JailVolume } from '../../../jail/index.ts'
import { MiB, silentLogger, systemClock } from '../../../stdx/index.ts'
import type { Claims, TenantPlacement } from '../parts.ts'
import { createClaims } from './claims.ts'
import { makeContainer, TestHost, type TestPod, whyNoContainers } from './container-host.testkit.ts'
import { Places } from './places.ts'

let signal: AbortSignal
beforeEach(() => {
  signal = AbortSignal.timeout(60_000)
})

const why = whyNoContainers()
const GVISOR = existsSync('/usr/bin/runsc')
const newId = () => randomUUID() as ClaimId // random UUIDs are lower-case RFC 9562 text
const t0 = parseTenantName('t0')
const t1 = parseTenantName('t1')

describe('volumes that outlive pods', { skip: why ?? false }, () => {
  let machine: TestHost
  let claims: Claims
  let places: Places
  const keys = new Map<string, Uint8Array>()

  const open = (): Claims =>
    createClaims({
      layout: machine.layout,
      clock: systemClock,
      log: silentLogger,
      dataKey(tenant) {
        const key = keys.get(tenant) ?? new Uint8Array(32).fill(keys.size + 1)
        keys.set(tenant, key)
        return key
      },
    })
  before(async () => {
    machine = new TestHost('pvcl', 45)
    await machine.host.runtimes()
    claims = open()
    places = new Places(machine.layout)
  })
  after(async () => {
    await machine[Symbol.asyncDispose]()
    assert.deepEqual(loopsOf(machine.layout.stateDir), [], 'no loop device is left')
  })

  function placement(tenant = t0, storageBytes?: number): TenantPlacement {
    return {
      tenant,
      index: 0,
      isolationClass: 'shared',
      podUidBase: machine.layout.podUidBase,
      controlPlaneUid: 0,
      registries: [],
      ...(storageBytes === undefined ? {} : { quota: { storageBytes } }),
    }
  }

  type Run = {
    claim: ClaimId
    tenant?: number
    gvisor?: boolean
    fsGroup?: number
    readOnly?: boolean
    subPath?: string
    user?: number
  }
  /** Runs a script in a pod that has the volume at /data, and lets go of it. */
  async function run(script: string, options: Run): Promise<{ exitCode: number; output: string }> {
    const { pod, end } = await start(script, options)
    try {
      const [container] = pod.jail.containers
      assert.ok(container)
      const { containerID } = await machine.host.start(pod.spec(container), signal)
      const { state } = await machine.host.waitForExit(pod.jail.id, containerID, signal)
      const output = await text(await machine.host.logs(pod.jail.id, 'main', 0, {}, signal))
      return { exitCode: state.kind === 'exited' ? state.exitCode : -1, output }
    } finally {
      await end()
    }
  }

  async function start(
    script: string,
    { claim, tenant = 0, gvisor = false, fsGroup, readOnly = false, subPath, user }: Run,
  ) {
    const container = makeContainer('main', script, {
      mounts: [
        {
          volume: 'data',
          mountPath: '/data',
          readOnly: false,
          ...(subPath === undefined ? {} : { subPath }),
        },
      ],
      ...(user === undefined ? {} : { runAsUser: user, runAsGroup: user }),
    })
    const volumes: JailVolume[] = [{ name: 'data', kind: 'claim', claim, readOnly }]
    const pod: TestPod = await machine.pod([container], {
      tenant,
      volumes,
      isolationClass: gvisor ? 'sandboxed' : 'shared',
      ...(fsGroup === undefined ? {} : { fsGroup }),
    })
    await claims.hold(pod.placement, pod.jail)
    const end = async () => {
      await machine.host.removePod(pod.jail.id)
      await claims.letGo(pod.placement, pod.jail)
    }
    return { pod, end }
  }

  async function make(sizeBytes = 16 * MiB, tenant = t0): Promise<ClaimId> {
    const id = newId()
    assert.deepEqual(await claims.ensure(placement(tenant), { id, sizeBytes }), { id, sizeBytes })
    return id
  }

  for (const gvisor of GVISOR ? [false, true] : [false])
    test(`what a pod writes is there for the next one, ${gvisor ? 'in a sandbox' : 'in a container'}`, async () => {
      const claim = await make()
      const first = await run('id -u; echo kept >/data/file; chown 7:8 /data/file; ls -a /data', {
        claim,
        gvisor,
      })
      assert.deepEqual(first, { exitCode: 0, output: '0\n.\n..\nfile\n' })
      // The other runtime sees the same owners: what is on the disk are ids as in a pod.
      const second = await run('stat -c "%u %g" /data/file; cat /data/file', {
        claim,
        gvisor: GVISOR && !gvisor,
      })
      assert.deepEqual(second, { exitCode: 0, output: '7 8\nkept\n' })
      // And so does a tenant with another range of uids, had it the volume.
      await claims.remove(t0, claim)
      assert.deepEqual(claims.list(t0), [])
    })

  test('filling the disk of a volume ends with the volume, and so does filling its inodes', async () => {
    const claim = await make()
    const { output } = await run(
      'dd if=/dev/zero of=/data/big bs=1M count=64 2>&1 | grep -c "No space"; rm /data/big; i=0; while touch /data/$i 2>/dev/null; do i=$((i+1)); done; [ $i -gt 100 ] && [ $i -lt 10000 ] && echo bounded',
      { claim },
    )
    assert.equal(output, '1\nbounded\n')
    assert.ok(statSync(join(places.claim(t0, claim), 'image')).blocks * 512 <= 17 * MiB)
    await claims.remove(t0, claim)
  })

  test('set-id programs and devices on a volume are without effect', async () => {
    const claim = await make()
    const { output } = await run(
      'cp /bin/busybox /data/id; chmod 4755 /data/id; mknod /data/dev c 1 3 2>/dev/null && echo made; grep " /data " /proc/mounts',
      { claim },
    )
    assert.match(output, /^\S+ \/data ext4 \S*nosuid\S* /)
    assert.match(output, /nodev/)
    await claims.remove(t0, claim)
  })

  test('another tenant’s volume cannot be had by its id', async () => {
    const claim = await make(16 * MiB, t1)
    await assert.rejects(run('true', { claim, tenant: 0 }), /volume "data" does not exist/)
    await claims.remove(t0, claim)
    assert.equal(claims.list(t1).length, 1, 'nor removed by it')
    await claims.removeTenant(t1)
    assert.ok(!existsSync(places.claimsOf(t1)))
  })

  test('a volume that cannot be destroyed keeps no other, and goes with the next attempt', async () => {
    const [stuck, other] = [await make(16 * MiB, t1), await make(16 * MiB, t1)]
    const inTheWay = join(places.claim(t1, stuck), 'in-the-way')
    mkdirSync(inTheWay)
    execFileSync('mount', ['-t', 'tmpfs', 'none', inTheWay])
    try {
      await assert.rejects(claims.removeTenant(t1), (error: Error) => error.message.includes(stuck))
      assert.ok(!existsSync(places.claim(t1, other)))
      assert.ok(existsSync(places.claim(t1, stuck)))
    } finally {
      execFileSync('umount', [inTheWay])
    }
    await claims.removeTenant(t1)
    assert.ok(!existsSync(places.claimsOf(t1)))
  })

  test('another tenant’s file system under a volume’s mount point reaches no pod, as after a race for a device', async () => {
    const [claim, theirs] = [await make(), await make(16 * MiB, t1)]
    const { end } = await start('true', { claim: theirs, tenant: 1 })
    try {
      const device = execFileSync('findmnt', ['-no', 'SOURCE', places.claimMount(t1, theirs)], {
        encoding: 'utf8',
      }).trim()
      const mountPoint = places.claimMount(t0, claim)
      mkdirSync(mountPoint, { recursive: true })
      execFileSync('mount', [device, mountPoint])
      await assert.rejects(run('ls -la /data', { claim }), /volume "data" cannot be mounted/)
      assert.ok(!existsSync(mountPoint), 'and it does not stay there')
      assert.equal((await run('echo mine >/data/file && cat /data/file', { claim })).output, 'mine\n')
    } finally {
      await end()
    }
    await claims.remove(t0, claim)
    await claims.removeTenant(t1)
  })

  test('a sub-path that links out of the volume stays in it', async () => {
    const claim = await make()
    await run('ln -s / /data/out; ln -s ../../../../etc /data/up', { claim })
    const { output } = await run('ls -a /data; echo mine >/data/passwd', { claim, subPath: 'out' })
    assert.deepEqual(output.split('\n').filter(Boolean).sort(), ['.', '..', 'out', 'up'])
    await assert.rejects(run('true', { claim, subPath: 'up/shadow/../..' }), /sub[pP]ath/)
    const made = await run('echo deep >/data/file; stat -c "%u %g %a" /data', {
      claim,
      subPath: 'a/b',
      fsGroup: 5,
    })
    assert.equal(made.output, '0 5 2777\n')
    await claims.remove(t0, claim)
  })

  test('fsGroup gives files to a group without following links', async () => {
    const claim = await make()
    await run('mkdir /data/d; echo x >/data/d/f; chmod 600 /data/d/f; ln -s /bin/busybox /data/l', { claim })
    const { output } = await run(
      'cat /data/d/f; stat -c %g:%a /data /data/d /data/d/f; echo y >/data/d/g && echo wrote',
      {
        claim,
        fsGroup: 70,
        user: 1_000,
      },
    )
    assert.equal(output, 'x\n70:2777\n70:2775\n70:660\nwrote\n')
    assert.equal(statSync('/bin/busybox').gid, 0)
    await claims.remove(t0, claim)
  })

  test('a volume that is mounted read-only cannot be written to', async () => {
    const claim = await make()
    assert.match((await run('touch /data/f 2>&1', { claim, readOnly: true })).output, /Read-only/)
    await claims.remove(t0, claim)
  })

  test('a volume that nobody uses grows at once, and one that is used when its last pod has gone', async () => {
    const claim = await make()
    const sizeOf = async () =>
      Number((await run('df -m /data | tail -n1', { claim })).output.trim().split(/\s+/)[1])
    await run('echo kept >/data/file', { claim })
    assert.equal((await claims.ensure(placement(), { id: claim, sizeBytes: 64 * MiB })).sizeBytes, 64 * MiB)
    assert.ok((await sizeOf()) > 40)
    const { end } = await start('true', { claim })
    assert.equal((await claims.ensure(placement(), { id: claim, sizeBytes: 128 * MiB })).sizeBytes, 64 * MiB)
    assert.equal((await claims.ensure(placement(), { id: claim, sizeBytes: 96 * MiB })).sizeBytes, 64 * MiB)
    await end()
    assert.ok((await sizeOf()) > 100)
    assert.deepEqual(claims.list(t0), [{ id: claim, sizeBytes: 128 * MiB }])
    assert.equal((await claims.ensure(placement(), { id: claim, sizeBytes: 16 * MiB })).sizeBytes, 128 * MiB)
    assert.equal((await run('cat /data/file', { claim })).output, 'kept\n')
    await claims.remove(t0, claim)
  })

  test('a volume that a pod uses is not removed', async () => {
    const claim = await make()
    const { end } = await start('true', { claim })
    await assert.rejects(claims.remove(t0, claim), (error: ApiError) => error.reason === 'Conflict')
    await end()
    await claims.remove(t0, claim)
  })

  test('what was written cannot be read from the disk, nor after the volume is gone', async () => {
    const claim = await make()
    await run(
      'i=0; while [ $i -lt 200 ]; do echo THE-SECRET-OF-T0-$i >>/data/THE-NAME-OF-T0; i=$((i+1)); done; sleep 0',
      { claim },
    )
    const image = join(places.claim(t0, claim), 'image')
    const bytes = readFileSync(image)
    assert.equal(bytes.indexOf('THE-SECRET-OF-T0'), -1)
    assert.equal(bytes.indexOf('THE-NAME-OF-T0'), -1)
    const held = openSync(join(places.claim(t0, claim), 'key'), 'r')
    await claims.remove(t0, claim)
    const key = Buffer.alloc(64)
    readSync(held, key, 0, key.length, 0)
    closeSync(held)
    assert.ok(
      key.every((byte) => byte === 0),
      'the wrapped key is overwritten',
    )
    const next = await make()
    const { output } = await run('ls -A /data; cat /data/* 2>/dev/null', { claim: next })
    assert.equal(output, '')
    await claims.remove(t0, next)
  })

  test('more than the tenant or the machine can have is refused, and nothing is left of the try', async () => {
    const reason = (name: string) => (error: ApiError) => error.reason === name
    const id = newId()
    await assert.rejects(claims.ensure(placement(t0, 10 * MiB), { id, sizeBytes: MiB }), reason('Forbidden'))
    await assert.rejects(
      claims.ensure(placement(t0, 2 ** 50), { id, sizeBytes: 2 ** 49 }),
      reason('TooManyRequests'),
    )
    await assert.rejects(claims.ensure(placement(), { id, sizeBytes: 2 ** 49 }), reason('Forbidden'))
    assert.deepEqual(readdirSync(places.claimsOf(t0)), [])
    const small = await make()
    await assert.rejects(
      claims.ensure(placement(t0, 2 ** 50), { id: small, sizeBytes: 2 ** 49 }),
      reason('TooManyRequests'),
    )
    assert.equal(claims.list(t0)[0]?.sizeBytes, 16 * MiB)
    await claims.remove(t0, small)
  })

  test('a start is not kept from its work by what is no tenant’s, and a removal not by one that was cut off', async () => {
    const claim = await make()
    mkdirSync(join(places.claims, 'lost+found'))
    const doomed = `${places.claimsOf(t0)}/${claim}.gone`
    mkdirSync(doomed)
    writeFileSync(join(doomed, 'image'), '')
    await claims.remove(t0, claim)
    assert.deepEqual(readdirSync(places.claimsOf(t0)), [])
    await claims.start()
    assert.ok(existsSync(join(places.claims, 'lost+found')), 'which is left alone')
    rmdirSync(join(places.claims, 'lost+found'))
  })

  test('a start clears up after makings, removals and mounts that were cut off, and keeps what is whole', async () => {
    const claim = await make()
    await run('echo kept >/data/file', { claim })
    const [cut, gone] = [newId(), newId()]
    // Cut off while it was made: a file system that is mounted, without its last step.
    const root = places.claimsOf(t0)
    execFileSync('cp', ['-a', join(root, claim), join(root, `${cut}.new`)])
    execFileSync('cp', ['-a', join(root, claim), join(root, `${gone}.gone`)])
    const mountPoint = `${places.claimMount(t0, cut)}.new`
    execFileSync('mkdir', ['-p', mountPoint])
    execFileSync('mount', ['-o', 'loop', join(root, `${cut}.new`, 'image'), mountPoint])
    const { pod } = await start('true', { claim })
    // An agent that was killed does not let go; the next one knows of no pod.
    claims = open()
    await claims.start()
    assert.deepEqual(readdirSync(root), [claim])
    assert.deepEqual(loopsOf(root), [])
    await machine.host.removePod(pod.jail.id)
    assert.equal((await run('cat /data/file', { claim })).output, 'kept\n')
    await claims.remove(t0, claim)
  })
})

function loopsOf(directory: string): string[] {
  return execFileSync('losetup', ['--list', '--noheadings', '--output', 'BACK-FILE'], { encoding: 'utf8' })
    .split('\n')
    .filter((file) => file.startsWith(directory))
}
