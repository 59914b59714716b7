import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { packTar, type TarEntry } from 'modern-tar'
import { busyboxImage } from '../../../../../samples/images/build.ts'
import { pushImage, sha256 } from '../../../../../samples/images/push.ts'
import { startRegistry } from '../../../../../tests/testkit/registry.ts'
import { type Layout, parseLayout, parseTenantName } from '../../../../api/index.ts'
import { silentLogger } from '../../../../stdx/index.ts'
import { Puller, servePuller } from '../../images/puller.ts'
import { ImageError, type TenantPlacement } from '../../parts.ts'
import { createImages } from './images.ts'

const missing =
  process.getuid?.() !== 0
    ? 'needs root, to enter a layer as root directory'
    : existsSync('/usr/bin/docker-registry')
      ? false
      : 'needs docker-registry'
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
    images = createImages({ layout, log: silentLogger })
    await images.start()
  })
  after(async () => {
    server.close()
    server.closeAllConnections()
    await registry[Symbol.asyncDispose]()
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
})
