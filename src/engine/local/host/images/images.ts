import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { closeSync, constants, existsSync } from 'node:fs'
import { lstat, mkdir, open, readdir, readFile, rename, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  type ImageReference,
  isRegistryAllowed,
  type Layout,
  parseReference,
  paths,
  renderReference,
} from '../../../../api/index.ts'
import { askUnix, type Clock, type Logger, TooLong } from '../../../../stdx/index.ts'
import {
  COLLECT_FREE_PARTS_MIN,
  IMAGE_KEEP_MS,
  LAYERS_MAX,
  PULLED_ANSWER_BYTES_MAX,
  PULLS_PER_TENANT_AT_ONCE_MAX,
  STATE_FREE_PARTS_MIN,
  STORE_COLLECT_ABOVE_BYTES,
  STORE_COLLECT_BYTES,
  UNPACK_TIMEOUT_MS,
  UNPACKS_CONCURRENT_MAX,
  UNPACKS_PER_TENANT_CONCURRENT_MAX,
} from '../../images/limits.ts'
import { type PinnedImage, planCollection } from '../../images/collection.ts'
import { type PulledImage, SOURCES_SUFFIX } from '../../images/puller.ts'
import { ImageError, type Images, type TenantPlacement, type UnpackedImage } from '../../parts.ts'
import { observeMachineSize } from '../../observe/machine-facts.ts'
import { daemonLimits } from '../../plan/daemon-limits.ts'
import { Gate } from '../../pods/gate.ts'
import { createCgroups, enterCgroup } from '../cgroups.ts'
import { pipe } from '../syscalls.ts'
import { runTool } from '../tool.ts'

const PINS_PER_TENANT_MAX = 2_000
/** CHOWN to SYS_ADMIN are those that it keeps (see there); SYS_CHROOT it gives up once it has entered the layer. */
const UNPACKER_CAPABILITIES = '+chown,+dac_override,+fowner,+fsetid,+sys_admin,+mknod,+sys_chroot'
const DECOMPRESS_PROGRAM = fileURLToPath(new URL('decompress-main.ts', import.meta.url))
const UNPACK_PROGRAM = fileURLToPath(new URL('unpack-main.ts', import.meta.url))

/** What a tenant's reference was pinned to, kept so that `IfNotPresent` means the same image after a restart. */
type Pins = Record<string, PulledImage>

/** Images with what the agent needs besides: a start, and an end per tenant. */
export type TenantImages = Images & { start(): Promise<void>; removeTenant(tenant: string): Promise<void> }

/**
 * Images on this machine: asks the unprivileged puller for blobs, checks each against its digest while it goes into the
 * unpacker, and keeps layers as root-owned directories. Pins belong to a tenant: that another tenant pulled an image
 * proves nothing, so a tenant's first use always asks the registry.
 */
export function createImages({
  layout,
  log,
  decompressor,
  clock,
  layersInUse,
  collectAboveBytes = STORE_COLLECT_ABOVE_BYTES,
}: {
  layout: Layout
  log: Logger
  /** Who decompresses layers; nothing belongs to it. */
  decompressor: { uid: number; gid: number }
  clock: Clock
  /** The layers that containers have as their root; undefined when that cannot be known. */
  layersInUse: () => ReadonlySet<string> | undefined
  collectAboveBytes?: number
}): TenantImages {
  const blobsDir = join(layout.stateDir, 'images/blobs')
  const layersDir = join(layout.stateDir, 'images/layers')
  const pinsDir = join(layout.stateDir, 'images/pins')
  /** A file per blob that was unpacked, with the diff id that it truly has: what an image's config says of it proves nothing. */
  const diffsDir = join(layout.stateDir, 'images/diffs')
  const unpacking = new Map<string, Promise<void>>()
  const unpackers = new Gate(UNPACKS_CONCURRENT_MAX)
  const tenantUnpackers = new Map<string, Gate>()
  const tenantPulls = new Map<string, Gate>()
  const cgroups = createCgroups()
  const pinsCache = new Map<string, Promise<Pins>>()

  const pinsOf = (tenant: string): Promise<Pins> => {
    const cached = pinsCache.get(tenant)
    if (cached) return cached
    const loaded = readFile(join(pinsDir, `${tenant}.json`), 'utf8').then(
      (text) => JSON.parse(text) as Pins, // our own file, root only
      () => ({}),
    )
    pinsCache.set(tenant, loaded)
    return loaded
  }

  const savePins = async (tenant: string, pins: Pins): Promise<void> => {
    const temporary = join(pinsDir, `.${tenant}.${randomUUID()}`)
    await writeFile(temporary, JSON.stringify(pins), { mode: 0o600 })
    await rename(temporary, join(pinsDir, `${tenant}.json`))
  }

  /** A tenant with many large layers, or with slow registries, waits for itself. */
  const gateOf = (gates: Map<string, Gate>, tenant: string, max: number): Gate => {
    const gate = gates.get(tenant) ?? new Gate(max)
    gates.set(tenant, gate)
    return gate
  }

  const enterUnpackers = (): string[] => {
    const group = `${paths.daemonCgroups(layout)}/unpackers`
    const { oomScoreAdj, ...limits } = daemonLimits('unpackers', observeMachineSize())
    cgroups.ensure(group, limits)
    return enterCgroup(cgroups.entrances(group), oomScoreAdj)
  }

  const ensureLayer = async (layer: PulledImage['layers'][number], tenant: string): Promise<void> => {
    const target = join(layersDir, hex(layer.diffId))
    const diffFile = join(diffsDir, hex(layer.digest))
    // Without the first, whoever knows the diff id of another tenant's layer has it mounted.
    if ((await readFile(diffFile, 'utf8').catch(() => '')) === layer.diffId && existsSync(target)) return
    const key = `${layer.digest} ${layer.diffId}`
    const running = unpacking.get(key)
    if (running) return running
    const work = gateOf(tenantUnpackers, tenant, UNPACKS_PER_TENANT_CONCURRENT_MAX)
      .run(() => unpackers.run(() => unpackLayer(layer, target)))
      .then(() => writeFile(diffFile, layer.diffId, { mode: 0o600 }))
      .finally(() => unpacking.delete(key))
    unpacking.set(key, work)
    return work
  }

  const unpackLayer = async (layer: PulledImage['layers'][number], target: string): Promise<void> => {
    const scratch = join(layersDir, `.${hex(layer.digest)}-${hex(layer.diffId)}`)
    await removeTree(scratch)
    await requireRoom(layersDir)
    await mkdir(scratch, { mode: 0o755 })
    try {
      const { digest, output } = await runUnpacker(
        join(blobsDir, hex(layer.digest)),
        scratch,
        compressionOf(layer.mediaType),
        { enter: enterUnpackers(), decompressor },
      )
      // The blob lies in the puller's directory, so only the digest of what we read ourselves counts.
      if (digest !== layer.digest) {
        await rm(join(blobsDir, hex(layer.digest)), { force: true })
        throw new ImageError('ErrImagePull', `the blob ${layer.digest} has the digest ${digest}`)
      }
      if ('problem' in output)
        throw new ImageError('ErrImagePull', `failed to unpack layer ${layer.digest}: ${output.problem}`)
      if (output.diffId !== layer.diffId)
        throw new ImageError(
          'ErrImagePull',
          `layer ${layer.digest} unpacks to ${output.diffId}, but the image's config says ${layer.diffId}`,
        )
      log.info('layer unpacked', {
        digest: layer.digest,
        entries: output.entries,
        bytes: output.bytes,
        skippedDevices: output.skippedDevices,
      })
      // Of another compression of the same; nobody who uses that one may find it changed.
      if (!existsSync(target))
        await rename(scratch, target).catch((error: unknown) => {
          if (!existsSync(target)) throw error
        })
    } finally {
      await removeTree(scratch)
    }
  }

  const pull = (reference: ImageReference, tenant: string, signal: AbortSignal): Promise<PulledImage> => {
    return gateOf(tenantPulls, tenant, PULLS_PER_TENANT_AT_ONCE_MAX).run(
      async () =>
        parsePulled(await askPuller(paths.imagesSocket(layout), renderReference(reference), signal)),
      signal,
    )
  }

  /** When each image of each tenant was last asked for, and each layer. */
  const usedAtMs = new Map<string, number>()
  const layerAskedAtMs = new Map<string, number>()
  const isHeld = (diffId: string, inUse: ReadonlySet<string>): boolean =>
    inUse.has(join(layersDir, hex(diffId))) ||
    [...unpacking.keys()].some((key) => key.endsWith(diffId)) ||
    clock.nowMs() - (layerAskedAtMs.get(diffId) ?? -Infinity) < IMAGE_KEEP_MS

  let collecting: Promise<void> = Promise.resolve()
  /** Makes room where there is too little; one after the other. What fails is tried again at the next pull. */
  const collect = (): Promise<void> => {
    collecting = collecting
      .then(collectNow)
      .catch((error: unknown) => log.warn('cannot collect images', { error }))
    return collecting
  }

  const collectNow = async (): Promise<void> => {
    const blobs = await sizesIn(blobsDir)
    const stored = [...blobs.values()].reduce((sum, { bytes }) => sum + bytes, 0)
    const { bsize, blocks, bavail, files, ffree } = await statfs(layersDir)
    const isShort =
      bavail * COLLECT_FREE_PARTS_MIN < blocks || (files > 0 && ffree * COLLECT_FREE_PARTS_MIN < files)
    if (stored <= collectAboveBytes && !isShort) return
    const inUse = layersInUse()
    if (!inUse) return
    const tenants = (await readdir(pinsDir)).flatMap((file) =>
      file.endsWith('.json') ? [file.slice(0, -5)] : [],
    )
    const images: PinnedImage[] = []
    for (const tenant of tenants)
      for (const [name, image] of Object.entries(await pinsOf(tenant)))
        images.push({
          tenant,
          name,
          parts: new Map(image.layers.map(({ digest, size }) => [digest, size])),
          usedAtMs: usedAtMs.get(`${tenant} ${name}`) ?? 0,
          inUse: image.layers.some(({ diffId }) => isHeld(diffId, inUse)),
        })
    const wanted = Math.max(
      STORE_COLLECT_BYTES,
      Math.ceil((blocks / COLLECT_FREE_PARTS_MIN - bavail) * bsize),
    )
    const gone = planCollection(images, wanted)
    for (const { tenant, name } of gone) {
      const pins = await pinsOf(tenant)
      delete pins[name]
      usedAtMs.delete(`${tenant} ${name}`)
      await savePins(tenant, pins)
    }
    await sweep(tenants, inUse, blobs)
    log.info('images collected', { images: gone.length, stored })
  }

  /** Removes what no tenant's image consists of any more. Safe to be cut off: what is half gone has another name. */
  const sweep = async (
    tenants: readonly string[],
    inUse: ReadonlySet<string>,
    blobs: ReadonlyMap<string, { changedAtMs: number }>,
  ): Promise<void> => {
    const wanted = new Set<string>()
    for (const tenant of tenants)
      for (const image of Object.values(await pinsOf(tenant))) {
        wanted.add(hex(image.config.digest)).add(hex(image.digest))
        for (const { digest, diffId } of image.layers) wanted.add(hex(digest)).add(hex(diffId))
      }
    for (const name of await readdir(layersDir)) {
      if (!HEX.test(name) || wanted.has(name) || isHeld(`sha256:${name}`, inUse)) continue
      await rename(join(layersDir, name), join(layersDir, `.gone-${name}`))
      await removeTree(join(layersDir, `.gone-${name}`))
    }
    for (const [name, { changedAtMs }] of blobs)
      if (HEX.test(name) && !wanted.has(name) && clock.nowMs() - changedAtMs > IMAGE_KEEP_MS)
        for (const file of [
          join(blobsDir, name),
          join(blobsDir, name + SOURCES_SUFFIX),
          join(diffsDir, name),
        ])
          await rm(file, { force: true })
  }

  return {
    async start() {
      await Promise.all(
        [layersDir, pinsDir, diffsDir].map((dir) => mkdir(dir, { recursive: true, mode: 0o700 })),
      )
      for (const name of await readdir(layersDir))
        if (name.startsWith('.'))
          // What an image has left must not keep the whole machine from starting.
          await removeTree(join(layersDir, name)).catch((error: unknown) =>
            log.error('cannot remove what is left of a layer', { name, error }),
          )
    },

    async ensure(placement: TenantPlacement, text, policy, signal) {
      const reference = parse(text)
      const name = renderReference(reference)
      if (!isRegistryAllowed(reference, placement.registries))
        throw new ImageError(
          'ErrImageNotAllowed',
          `image "${name}" comes from a registry that this tenant may not use; allowed: ${placement.registries.join(', ') || 'none'}`,
        )
      const pins = await pinsOf(placement.tenant)
      let image = Object.hasOwn(pins, name) ? pins[name] : undefined
      const isPinned = image !== undefined
      if (policy === 'Never' && !image)
        throw new ImageError(
          'ErrImageNeverPull',
          `Container image "${text}" is not present with pull policy of Never`,
        )
      const pulled = policy === 'Always' || !isPinned
      if (pulled) {
        await collect()
        image = await pull(reference, placement.tenant, signal)
      }
      if (!image) throw new ImageError('ImageInspectError', `image "${name}" is not known`)
      if (reference.digest !== undefined && image.digest !== reference.digest)
        throw new ImageError('ErrImagePull', `"${name}" was answered with the digest ${image.digest}`)
      usedAtMs.set(`${placement.tenant} ${name}`, clock.nowMs())
      for (const { diffId } of image.layers) layerAskedAtMs.set(diffId, clock.nowMs())
      for (const layer of image.layers) await ensureLayer(layer, placement.tenant)
      if (pulled && pins[name]?.digest !== image.digest) {
        if (Object.keys(pins).length >= PINS_PER_TENANT_MAX)
          throw new ImageError(
            'ErrImagePull',
            `this tenant has pulled ${PINS_PER_TENANT_MAX} images, the most that are kept`,
          )
        pins[name] = image
        await savePins(placement.tenant, pins)
      }
      return { ...unpacked(reference, image, layersDir), pulled }
    },

    async removeTenant(tenant) {
      // Not while somebody saves what is left of them: the next tenant of the name must not find it.
      const forget = async () => {
        pinsCache.delete(tenant)
        tenantUnpackers.delete(tenant)
        tenantPulls.delete(tenant)
        await rm(join(pinsDir, `${tenant}.json`), { force: true })
      }
      const removal = collecting.then(forget)
      collecting = removal.catch(() => {})
      await removal
    },
  }
}

const HEX = /^[0-9a-f]{64}$/

async function sizesIn(directory: string): Promise<Map<string, { bytes: number; changedAtMs: number }>> {
  const sizes = new Map<string, { bytes: number; changedAtMs: number }>()
  for (const name of await readdir(directory))
    try {
      const { size, mtimeMs } = await lstat(join(directory, name))
      sizes.set(name, { bytes: size, changedAtMs: mtimeMs })
    } catch {
      // It has gone since we looked.
    }
  return sizes
}

function parse(text: string): ImageReference {
  try {
    return parseReference(text)
  } catch (cause) {
    throw new ImageError(
      'InvalidImageName',
      cause instanceof Error ? cause.message : 'invalid reference format',
      { cause },
    )
  }
}

function unpacked(reference: ImageReference, image: PulledImage, layersDir: string): UnpackedImage {
  const { config } = image
  return {
    imageID: `${reference.registry}/${reference.repository}@${image.digest}`,
    layers: image.layers.map((layer) => join(layersDir, hex(layer.diffId))).reverse(),
    config: {
      entrypoint: config.entrypoint,
      cmd: config.cmd,
      env: config.env,
      user: config.user,
      workingDir: config.workingDir,
      ...(config.stopSignal === undefined ? {} : { stopSignal: config.stopSignal }),
      volumes: config.volumes,
    },
  }
}

function hex(digest: string): string {
  if (!/^sha256:[0-9a-f]{64}$/.test(digest)) throw new ImageError('ErrImagePull', 'a digest is not of sha256')
  return digest.slice('sha256:'.length)
}

function compressionOf(mediaType: string): 'gzip' | 'zstd' | 'none' {
  if (mediaType.endsWith('gzip')) return 'gzip'
  return mediaType.endsWith('zstd') ? 'zstd' : 'none'
}

type UnpackerOutput =
  | { diffId: string; entries: number; bytes: number; skippedDevices: number }
  | { problem: string }

/**
 * Feeds a blob through the decompressor to the unpacker, and computes the digest of exactly the bytes that were fed.
 * The decompressor has no privilege at all; the unpacker has few, and never sees a compressed byte.
 */
async function runUnpacker(
  blob: string,
  target: string,
  compression: 'gzip' | 'zstd' | 'none',
  { enter, decompressor }: { enter: readonly string[]; decompressor: { uid: number; gid: number } },
): Promise<{ digest: string; output: UnpackerOutput }> {
  const hash = createHash('sha256')
  // The blob's directory is the puller's: a FIFO must not hold one of our few threads for ever.
  const file = await open(blob, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  const stat = await file.stat()
  if (!stat.isFile() || stat.size === 0) {
    await file.close()
    throw new ImageError('ErrImagePull', 'The puller has left no file where the layer should be')
  }
  const { unpacker, first } = startUnpacker(target, compression, enter, decompressor)
  let stdout = ''
  let stderr = ''
  unpacker.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout = (stdout + text).slice(-64_000)))
  const complaints = (program: ChildProcess) => {
    let text = ''
    program.stderr?.setEncoding('utf8').on('data', (more: string) => (text = (text + more).slice(-4_000)))
    return () => text
  }
  const [unpackerSays, firstSays] = [complaints(unpacker), complaints(first)]
  const ended = Promise.all([unpacker, first].map(end))
  // Without its reader a decompressor has nothing left to do, and one that was taken over might go on all the same.
  void end(unpacker).then(() => first.kill('SIGKILL'))
  // No further than its size now: a puller could go on writing for ever.
  const stream = file.createReadStream({ highWaterMark: 1024 * 1024, end: stat.size - 1 })
  stream.on('error', (error) => {
    stderr = error.message
    first.stdin?.destroy()
  })
  // The unpacker stops reading at the first problem; then the rest need not be fed.
  first.stdin?.on('error', () => stream.destroy())
  stream.on('data', (chunk) => hash.update(chunk))
  if (first.stdin) stream.pipe(first.stdin)
  await ended
  stream.destroy()
  try {
    const output = JSON.parse(stdout) as UnpackerOutput // our own program's words
    // What ended early was not a short layer but a broken one, and the decompressor knows why.
    const why = first === unpacker ? '' : (firstSays().trim().split('\n').at(-1) ?? '')
    const isBroken = 'problem' in output && why !== '' && first.exitCode === 1
    return {
      digest: `sha256:${hash.digest('hex')}`,
      output: isBroken ? { problem: `${why} (${output.problem})` } : output,
    }
  } catch (cause) {
    const why = `${stderr}${unpackerSays()}${firstSays()}`.split('\n')[0] ?? ''
    throw new ImageError('ErrImagePull', `The unpacker failed: ${why}`, { cause })
  }
}

/** `first` is what takes the blob. Each is bounded before it begins, so that every thread of it is born so. */
function startUnpacker(
  target: string,
  compression: 'gzip' | 'zstd' | 'none',
  enter: readonly string[],
  { uid, gid }: { uid: number; gid: number },
): { unpacker: ChildProcess; first: ChildProcess } {
  const start = (command: readonly string[], stdio: ('pipe' | number)[]) => {
    const [program = 'false', ...args] = [...enter, ...command]
    return spawn(program, args, {
      stdio,
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      cwd: '/',
      timeout: UNPACK_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    })
  }
  const unpack = [
    ...['setpriv', '--no-new-privs', '--inh-caps=-all', `--bounding-set=-all,${UNPACKER_CAPABILITIES}`, '--'],
    ...[process.execPath, UNPACK_PROGRAM, target],
  ]
  if (compression === 'none') {
    const unpacker = start(unpack, ['pipe', 'pipe', 'pipe'])
    return { unpacker, first: unpacker }
  }
  const decompress = [
    ...['unshare', '--net', '--ipc', '--'],
    // It writes to a pipe and nowhere else.
    ...['prlimit', '--core=1', '--fsize=0', '--'],
    ...['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--no-new-privs', '--inh-caps=-all'],
    ...['--bounding-set=-all', '--', process.execPath, DECOMPRESS_PROGRAM, compression],
  ]
  // A pipe of the kernel's: one of Node's would be read by us as well.
  const between = pipe()
  try {
    const first = start(decompress, ['pipe', between.write, 'pipe'])
    return { unpacker: start(unpack, [between.read, 'pipe', 'pipe']), first }
  } finally {
    closeSync(between.read)
    closeSync(between.write)
  }
}

function end(program: ChildProcess): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  program.on('close', () => resolve())
  program.on('error', () => resolve())
  return promise
}

async function askPuller(socketPath: string, reference: string, signal: AbortSignal): Promise<unknown> {
  const failed = (why: string, cause?: unknown) =>
    new ImageError('ErrImagePull', `failed to pull image "${reference}": ${why}`, { cause })
  const answer = await askUnix({
    socketPath,
    method: 'POST',
    path: '/v1/pull',
    body: JSON.stringify({ reference }),
    signal,
    answerBytesMax: PULLED_ANSWER_BYTES_MAX,
  }).catch((cause: unknown) => {
    throw failed(
      cause instanceof TooLong ? 'the puller answers without end' : 'the puller cannot be reached',
      cause,
    )
  })
  let body: { message?: string; kind?: string }
  try {
    body = JSON.parse(answer.body.toString('utf8')) as typeof body
  } catch (cause) {
    throw failed('the puller answered with something else than JSON', cause)
  }
  if (answer.code === 200) return body
  if (body.kind !== 'name') throw failed(body.message ?? 'unknown')
  throw new ImageError(
    'InvalidImageName',
    `failed to pull image "${reference}": ${body.message ?? 'unknown'}`,
  )
}

/** The puller has no privilege and may have been taken over: what it says must at least have the right shape. */
function parsePulled(value: unknown): PulledImage {
  const image = value as PulledImage
  const isDigest = (digest: unknown) => typeof digest === 'string' && /^sha256:[0-9a-f]{64}$/.test(digest)
  const isStrings = (list: unknown) =>
    Array.isArray(list) && list.every((item) => typeof item === 'string' && !item.includes('\0'))
  const ok =
    isDigest(image?.digest) &&
    Array.isArray(image.layers) &&
    image.layers.length <= LAYERS_MAX &&
    image.layers.every((l) => isDigest(l?.digest) && isDigest(l.diffId) && typeof l.mediaType === 'string') &&
    typeof image.config === 'object' &&
    image.config !== null &&
    [image.config.entrypoint, image.config.cmd, image.config.env, image.config.volumes].every(isStrings) &&
    typeof image.config.user === 'string' &&
    typeof image.config.workingDir === 'string' &&
    ['string', 'undefined'].includes(typeof image.config.stopSignal)
  if (!ok) throw new ImageError('ErrImagePull', 'The puller answered with something else than an image')
  return image
}

/** Images of tenants may not take the last of the disk that the tenants' stores are on. */
async function requireRoom(directory: string): Promise<void> {
  const { blocks, bavail, files, ffree } = await statfs(directory)
  if (bavail * STATE_FREE_PARTS_MIN < blocks || (files > 0 && ffree * STATE_FREE_PARTS_MIN < files))
    throw new ImageError('ErrImagePull', 'the machine has no room for another image')
}

/** `rm` walks with descriptors, so that an image cannot nest directories deeper than we can delete. */
async function removeTree(path: string): Promise<void> {
  if (existsSync(path))
    await runTool(['rm', '-rf', '--one-file-system', '--', path], { timeoutMs: UNPACK_TIMEOUT_MS })
}
