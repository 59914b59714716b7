import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { packTar, type TarEntry } from 'modern-tar'
import { busyboxImage } from '../../../../../samples/images/build.ts'
import { pushImage, sha256 } from '../../../../../samples/images/push.ts'
import { startRegistry } from '../../../../../tests/testkit/registry.ts'
import { type Layout, parseLayout, parseTenantName, paths } from '../../../../api/index.ts'
import { FakeClock, silentLogger, systemClock } from '../../../../stdx/index.ts'
import { Puller, servePuller } from '../../images/puller.ts'
import { ImageError, type TenantPlacement } from '../../parts.ts'
import { createCgroups } from '../cgroups.ts'
import { createImages } from './images.ts'

const missing =
  process.getuid?.() !== 0
    ? 'needs root, to enter a layer as root directory'
    : existsSync('/usr/bin/docker-registry')
      ? false
      : 'needs docker-registry'
const NOBODY = { uid: 65_534, gid: 65_534 }
const AS_TESTED = { decompressor: NOBODY, clock: systemClock, layersInUse: () => new Set<string>() }
const signal = AbortSignal.timeout(60_000)

describe('images', { skip: missing }, () => {
  let work: string
  let registry: Awaited<ReturnType<typeof startRegistry>>
  let images: ReturnType<typeof createImages>
  let layout: Layout
  let server: Awaited<ReturnType<typeof servePuller>>

  const placement = (tenant: string, registries = [registry.host]): TenantPlacement => ({
    tenant: parseTenantName(tenant),
    index: 0,
    isolationClass: 'shared',
    podUidBase: 0x1000_0000,
    controlPlaneUid: 0,
    registries,
  })
  const push = (repository: string, entries: TarEntry[]) =>
    packTar(entries).then((layer) =>
      pushImage(registry.host, repository, '1', { layers: [Buffer.from(layer)], config: {} }),
    )
  const ensure = (image: string, tenant = 'red') =>
    images.ensure(placement(tenant), `${registry.host}/${image}`, 'IfNotPresent', signal)
  const refused = (image: string, words: RegExp) =>
    assert.rejects(ensure(image), (error) => error instanceof ImageError && words.test(error.message))

  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'bh-img-'))
    layout = { ...parseLayout({ BULKHEAD_INSTANCE: 'timg' }), stateDir: work, runDir: work }
    registry = await startRegistry()
    const puller = new Puller({
      blobsDir: join(work, 'images/blobs'),
      architecture: 'amd64',
      log: silentLogger,
    })
    await puller.start()
    await mkdir(join(work, 'images'), { recursive: true })
    server = await servePuller({ puller, socketPath: join(work, 'images/images.sock'), log: silentLogger })
    images = createImages({ layout, log: silentLogger, ...AS_TESTED })
    await images.start()
  })
  after(async () => {
    server.close()
    server.closeAllConnections()
    await registry[Symbol.asyncDispose]()
    await createCgroups().remove(paths.daemonCgroups(layout))
    await rm(work, { recursive: true, force: true })
  })

  test('an image is pulled by tag, pinned to its digest and unpacked', async () => {
    const digest = await pushImage(registry.host, 'busybox', '1', await busyboxImage(join(work, 'rootfs')))
    const image = await ensure('busybox:1')
    assert.equal(image.imageID, `${registry.host}/busybox@${digest}`)
    assert.equal(image.pulled, true)
    assert.equal(await readlink(join(image.layers[0]!, 'bin/ls')), 'busybox')
    assert.equal((await ensure('busybox:1')).pulled, false)
    assert.deepEqual(
      (await images.ensure(placement('red'), `${registry.host}/busybox@${digest}`, 'Always', signal)).layers,
      image.layers,
    )
  })

  test('an image that another tenant pulled is asked of the registry again', async () => {
    await push('shared', [{ header: { name: 'a', size: 1, type: 'file' }, body: 'x' }])
    await ensure('shared:1', 'red')
    assert.equal((await ensure('shared:1', 'blue')).pulled, true)
    await assert.rejects(
      images.ensure(placement('green'), `${registry.host}/shared:1`, 'Never', signal),
      (error) => error instanceof ImageError && error.reason === 'ErrImageNeverPull',
    )
  })

  test('whoever knows a layer of another tenant by its digest or diff id is not given it', async () => {
    await push('private', [{ header: { name: 'secret', size: 1, type: 'file' }, body: 'x' }])
    const theirs = await ensure('private:1', 'red')
    const pins = JSON.parse(await readFile(join(work, 'images/pins/red.json'), 'utf8')) as Record<
      string,
      { layers: { digest: string; diffId: string; size: number }[] }
    >
    const [layer] = pins[`${registry.host}/private:1`]?.layers ?? []
    assert.ok(layer)
    const own = Buffer.from(await packTar([{ header: { name: 'own', size: 1, type: 'file' }, body: 'x' }]))
    const ownLayer = { digest: sha256(own), diffId: layer.diffId, size: own.length }
    for (const [claimed, blobs, words] of [
      [layer, {}, /not found/],
      [ownLayer, { [ownLayer.digest]: own }, /unpacks to/],
    ] as const) {
      await using thief = await startThief(claimed, blobs)
      await assert.rejects(
        images.ensure(placement('blue', [thief.host]), `${thief.host}/thief:1`, 'Always', signal),
        (error) => error instanceof ImageError && words.test(error.message),
      )
    }
    // The one who has it goes on as before, without a download.
    assert.deepEqual((await ensure('private:1', 'red')).layers, theirs.layers)
  })

  test('slow registries of one tenant keep no other from its images', async () => {
    const silent = createServer((_req, res) => void res.writeHead(200))
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    const host = `127.0.0.1:${(silent.address() as { port: number }).port}` // it listens on TCP
    const stop = new AbortController()
    const slow = Array.from({ length: 60 }, (_, i) =>
      images
        .ensure(placement('slow', [host]), `${host}/endless:${i}`, 'Always', stop.signal)
        .catch(() => undefined),
    )
    await push('quick', [{ header: { name: 'a', size: 1, type: 'file' }, body: 'q' }])
    assert.equal((await ensure('quick:1', 'green')).pulled, true)
    stop.abort()
    await Promise.all(slow)
    silent.closeAllConnections()
    silent.close()
  })

  test('a registry outside the allowlist is not asked', async () => {
    await assert.rejects(
      images.ensure(placement('red', ['r.example']), `${registry.host}/busybox:1`, 'Always', signal),
      (error) => error instanceof ImageError && error.reason === 'ErrImageNotAllowed',
    )
  })

  test('an image that does not exist, a wrong digest and a malformed name are told apart', async () => {
    await refused('nothing:1', /not found/)
    await refused(`busybox@sha256:${'0'.repeat(64)}`, /not found|digest/)
    await assert.rejects(
      ensure('UPPER'),
      (error) => error instanceof ImageError && error.reason === 'InvalidImageName',
    )
  })

  test('tar entries that climb out of the root are refused and nothing is kept', async () => {
    const outside = join(work, 'outside')
    await push('climb', [
      { header: { name: `../../../../../../../../..${outside}`, size: 1, type: 'file' }, body: 'x' },
    ])
    await refused('climb:1', /climbs out/)
    assert.equal(existsSync(outside), false)
    assert.deepEqual(
      (await readdir(join(work, 'images/layers'))).filter((name) => name.startsWith('.')),
      [],
    )
  })

  test('a file written through a symbolic link to the machine stays below the image root', async () => {
    const outside = join(work, 'target')
    await mkdir(outside)
    await push('link', [
      { header: { name: 'esc', size: 0, type: 'symlink', linkname: outside } },
      { header: { name: 'esc/file', size: 1, type: 'file' }, body: 'x' },
    ])
    await ensure('link:1').catch(() => {})
    assert.deepEqual(await readdir(outside), [])
  })

  test('a hard link to a file of the machine is refused', async () => {
    await push('hard', [{ header: { name: 'shadow', size: 0, type: 'link', linkname: '/etc/shadow' } }])
    await refused('hard:1', /hard link/)
  })

  test('device nodes are left out, whiteouts become what overlayfs expects', async () => {
    await push('special', [
      { header: { name: 'dev/mem', size: 0, type: 'character-device' } },
      { header: { name: 'etc/.wh.passwd', size: 0, type: 'file' } },
      { header: { name: 'data/.wh..wh..opq', size: 0, type: 'file' } },
      { header: { name: 'data/x', size: 1, type: 'file', mode: 0o4755, uid: 33, gid: 70_000 }, body: 'x' },
    ])
    const [layer = ''] = (await ensure('special:1')).layers
    assert.equal(existsSync(join(layer, 'dev/mem')), false)
    const whiteout = await stat(join(layer, 'etc/passwd'))
    assert.deepEqual([whiteout.isCharacterDevice(), whiteout.rdev], [true, 0])
    const file = await stat(join(layer, 'data/x'))
    assert.deepEqual([file.uid, file.gid, file.mode & 0o7777], [33, 65_534, 0o4755])
  })

  test('a blob that was changed after the download is noticed', async () => {
    const layer = Buffer.from(await packTar([{ header: { name: 'a', size: 4, type: 'file' }, body: 'good' }]))
    const manifest = await pushImage(registry.host, 'evil', '1', { layers: [layer], config: {} })
    assert.match(manifest, /^sha256:/)
    // Pull for real, then spoil the blob as a puller that was taken over would.
    const before = new Set(await readdir(join(work, 'images/blobs')))
    await ensure('evil:1')
    await rm(join(work, 'images/layers', sha256(layer).slice(7)), { recursive: true })
    for (const name of await readdir(join(work, 'images/blobs'))) {
      if (before.has(name)) continue
      const bytes = await readFile(join(work, 'images/blobs', name))
      if (bytes[0] === 0x1f)
        await writeFile(join(work, 'images/blobs', name), Buffer.concat([bytes, Buffer.from('x')]))
    }
    await refused('evil:1', /has the digest/)
  })

  test('a truncated or damaged layer is a clear error', async () => {
    await pushImage(registry.host, 'broken', '1', {
      layers: [Buffer.from('this is not a tar archive'.repeat(100))],
      config: {},
    })
    await refused('broken:1', /failed to unpack/)
  })

  test('directories that an image nests too deep for a path are removed when it is refused, and at a start', async () => {
    const segments = 'd/'.repeat(1_100)
    const entries: TarEntry[] = [0, 1].flatMap((hop): TarEntry[] => {
      const below = `${hop === 0 ? '' : `hop${hop}/`}${segments}end`
      return [
        { header: { name: below, size: 0, type: 'directory' } },
        { header: { name: `hop${hop + 1}`, size: 0, type: 'symlink', linkname: `/${below}` } },
      ]
    })
    await push('deep', [...entries, { header: { name: '../out', size: 0, type: 'file' } }])
    await refused('deep:1', /climbs out/)
    const scratch = join(work, 'images/layers', `.${'0'.repeat(64)}`)
    // What an agent that was killed in the middle leaves behind.
    execFileSync('python3', ['-c', DEEP_DIRECTORY, scratch])
    await createImages({ layout, log: silentLogger, ...AS_TESTED }).start()
    const left = await readdir(join(work, 'images/layers'))
    assert.deepEqual(
      left.filter((name) => name.startsWith('.')),
      [],
    )
  })

  test('no thread of the unpacker has a capability that it does not need, and who decompresses has none', async () => {
    await push('slow', [{ header: { name: 'a', size: 1, type: 'file' }, body: 'x' }])
    const unpacker = new Set<string>()
    const decompressor = new Set<string>()
    const users = new Set<string>()
    const done = ensure('slow:1')
    const state = { over: false }
    void done.finally(() => (state.over = true))
    while (!state.over) {
      for (const pid of children(process.pid)) {
        const command = commandOf(pid)
        // Before, it is the shell and the tools that take the rest away.
        if (!command.startsWith(process.execPath)) continue
        const seen = command.includes('unpack-main.ts') ? unpacker : decompressor
        for (const set of capabilitySets(pid)) seen.add(set)
        if (command.includes('decompress-main.ts')) users.add(userOf(pid))
      }
      await new Promise((resolve) => setImmediate(resolve))
    }
    await done
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SYS_CHROOT, SYS_ADMIN, MKNOD.
    const needed = [0, 1, 3, 4, 18, 21, 27].reduce((bits, bit) => bits | (1n << BigInt(bit)), 0n)
    assert.ok(unpacker.size > 0)
    for (const set of unpacker) assert.equal(BigInt(`0x${set}`) & ~needed, 0n, set)
    assert.deepEqual([...decompressor], ['0'.repeat(16)])
    assert.deepEqual([...users], [String(NOBODY.uid)])
  })

  test('a layer whose compression is broken in the middle is a clear error', async () => {
    const noise = randomBytes(200_000)
    const tar = Buffer.from(
      await packTar([{ header: { name: 'a', size: noise.length, type: 'file' }, body: noise }]),
    )
    await pushImage(registry.host, 'torn', '1', { layers: [tar], config: {} })
    await ensure('torn:1')
    await rm(join(work, 'images/layers', sha256(tar).slice(7)), { recursive: true })
    for (const name of await readdir(join(work, 'images/blobs'))) {
      const path = join(work, 'images/blobs', name)
      const bytes = await readFile(path)
      if (bytes[0] === 0x1f && bytes.length > noise.length) await writeFile(path, bytes.subarray(0, 100_000))
    }
    await refused('torn:1', /has the digest|failed to unpack/)
  })

  test('images that nobody uses go when there are too many, others stay', async () => {
    const [used, unused, fresh] = await Promise.all(
      ['used', 'unused', 'fresh'].map(async (name) => {
        await push(name, [{ header: { name, size: name.length, type: 'file' }, body: name }])
        return `${registry.host}/${name}:1`
      }),
    )
    const clock = new FakeClock(Date.now())
    const inUse = new Set<string>()
    const collecting = createImages({
      ...{ layout, log: silentLogger, decompressor: NOBODY, clock },
      layersInUse: () => inUse,
      collectAboveBytes: 0,
    })
    await collecting.start()
    const get = (image = '') => collecting.ensure(placement('green'), image, 'IfNotPresent', signal)
    const layers = await Promise.all([get(used), get(unused)])
    for (const layer of layers[0].layers) inUse.add(layer)
    assert.ok(layers.flatMap((image) => image.layers).every((layer) => existsSync(layer)))
    clock.advance(24 * 60 * 60_000)
    const { layers: added } = await get(fresh)
    const here = (paths: readonly string[]) => paths.map((path) => existsSync(path))
    assert.deepEqual([here(layers[0].layers), here(layers[1].layers), here(added)], [[true], [false], [true]])
    assert.equal((await get(used)).pulled, false)
    const again = await get(unused)
    assert.deepEqual([again.pulled, here(again.layers)], [true, [true]])
  })

  describe('a puller that was taken over', () => {
    const digest = 'a'.repeat(64)
    const image = {
      digest: `sha256:${digest}`,
      config: { entrypoint: [], cmd: [], env: [], volumes: [], user: '', workingDir: '' },
      layers: [{ digest: `sha256:${digest}`, diffId: `sha256:${digest}`, mediaType: 'x', size: 1 }],
    }
    let directory: string
    let hostile: Server
    let answer: (write: (text: string) => boolean) => boolean
    const pull = () =>
      createImages({
        layout: { ...layout, stateDir: directory, runDir: directory },
        log: silentLogger,
        ...AS_TESTED,
      }).ensure(placement('red', ['r.example']), 'r.example/x:1', 'Always', signal)

    before(async () => {
      directory = await mkdtemp(join(tmpdir(), 'bh-img-'))
      await mkdir(join(directory, 'images/blobs'), { recursive: true })
      await mkdir(join(directory, 'images/layers'))
      await mkdir(join(directory, 'images/pins'))
      hostile = createServer((_request, response) => {
        const more = () => {
          while (answer((text) => response.write(text))) continue
        }
        response.on('drain', more).on('error', () => {})
        more()
        response.end()
      })
      const listening = Promise.withResolvers<void>()
      hostile.listen(join(directory, 'images/images.sock'), listening.resolve)
      await listening.promise
    })
    after(async () => {
      hostile.close()
      hostile.closeAllConnections()
      await rm(directory, { recursive: true, force: true })
    })
    const say = (text: string) => {
      let said = false
      answer = (write) => !said && (said = true) && write(text) && false
    }

    for (const [what, make] of [
      ['a directory', ['mkdir']],
      ['a FIFO', ['mkfifo']],
      ['a link to a file of the machine', ['ln', '-s', '/etc/passwd']],
    ] as const)
      test(`is refused when a blob is ${what}, and the agent lives on`, async () => {
        const blob = join(directory, 'images/blobs', digest)
        execFileSync(make[0], [...make.slice(1), blob])
        say(JSON.stringify(image))
        await assert.rejects(pull())
        await rm(blob, { recursive: true })
      })

    test('cannot fill the memory with its answer', async () => {
      const megabyte = 'x'.repeat(1024 * 1024)
      let megabytes = 0
      answer = (write) => megabytes++ < 64 && (write(megabyte), true)
      await assert.rejects(pull(), (error) => error instanceof ImageError)
    })

    test('cannot name more layers than there can be', async () => {
      say(JSON.stringify({ ...image, layers: Array.from({ length: 200 }, () => image.layers[0]) }))
      await assert.rejects(pull(), /something else than an image/)
    })
  })
})

/** Makes directories whose path is longer than PATH_MAX. */
const DEEP_DIRECTORY = `
import os, sys
os.mkdir(sys.argv[1])
os.chdir(sys.argv[1])
for _ in range(3000):
    os.mkdir('d')
    os.chdir('d')
`

function children(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
}

function userOf(pid: number): string {
  try {
    return /^Uid:\t\d+\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? ''
  } catch {
    return ''
  }
}

function commandOf(pid: number): string {
  try {
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
    // Before it is the unpacker, it is the program that takes its capabilities away.
    return command.startsWith('setpriv') ? '' : command
  } catch {
    return ''
  }
}

/** Of every thread that is there when one looks. */
function capabilitySets(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(
      (thread) =>
        /^CapPrm:\s*(\S+)$/m.exec(readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8'))?.[1] ?? '',
    )
  } catch {
    return []
  }
}

/** A registry whose only image, `thief:1`, says of its layer what it likes. */
async function startThief(
  { digest, diffId, size }: { digest: string; diffId: string; size: number },
  blobs: Record<string, Buffer>,
) {
  const config = Buffer.from(
    JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [diffId] } }),
  )
  const all: Record<string, Buffer> = { ...blobs, [sha256(config)]: config }
  const manifest = JSON.stringify({
    schemaVersion: 2,
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: sha256(config),
      size: config.length,
    },
    layers: [
      {
        mediaType: `application/vnd.oci.image.layer.v1.tar${Object.hasOwn(blobs, digest) ? '' : '+gzip'}`,
        digest,
        size,
      },
    ],
  })
  const thief = createServer((req, res) => {
    const [, blob] = /\/blobs\/(.*)$/.exec(req.url ?? '') ?? []
    if (blob === undefined) return void res.end(manifest)
    const bytes = all[blob]
    if (bytes === undefined) res.writeHead(404)
    res.end(bytes)
  })
  await new Promise<void>((resolve) => thief.listen(0, '127.0.0.1', resolve))
  return {
    host: `127.0.0.1:${(thief.address() as { port: number }).port}`, // it listens on TCP
    async [Symbol.asyncDispose]() {
      thief.closeAllConnections()
      await new Promise((resolve) => thief.close(resolve))
    },
  }
}
