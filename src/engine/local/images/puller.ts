import { createHash, randomUUID } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { access, appendFile, mkdir, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type ImageReference, parseReference } from '../../../api/index.ts'
import { listenUnix, type Logger, peerCredentials, readRequest } from '../../../stdx/index.ts'
import {
  BLOB_BYTES_PER_SECOND_MIN,
  BLOB_DOWNLOAD_MS_MAX,
  BLOB_RATE_FROM_MS,
  BLOB_SOURCES_MAX,
  IMAGE_CONFIG_BYTES_MAX,
  PULL_REQUEST_BYTES_MAX,
  PULLS_AT_ONCE_MAX,
  PULLS_WAITING_MAX,
  STORE_BYTES_MAX,
} from './limits.ts'
import { type Descriptor, type ImageConfig, parseImageConfig, parseManifestOrIndex } from './manifest.ts'
import { RegistryClient, RegistryError } from './registry.ts'

/** What the puller tells the agent. The agent believes none of it: it checks every blob against its digest again. */
export type PulledImage = {
  /** Of what the reference named: an index or a manifest. */
  digest: string
  config: ImageConfig & { digest: string }
  layers: { digest: string; diffId: string; mediaType: string; size: number }[]
}

/**
 * The only process that speaks with registries. It has no privilege: it downloads blobs into its own directory under
 * the name of their digest, and answers on a unix socket that only root may use.
 */
export class Puller {
  private readonly blobsDir: string
  private readonly architecture: string
  private readonly log: Logger
  private readonly registry = new RegistryClient()
  private readonly running = new Map<string, Promise<void>>()
  private active = 0
  private readonly waiting: (() => void)[] = []

  constructor({ blobsDir, architecture, log }: { blobsDir: string; architecture: string; log: Logger }) {
    this.blobsDir = blobsDir
    this.architecture = architecture
    this.log = log
  }

  /** Forgets half-finished downloads of an earlier life. */
  async start(): Promise<void> {
    await mkdir(this.blobsDir, { recursive: true, mode: 0o700 })
    for (const name of await readdir(this.blobsDir))
      if (name.startsWith('.')) await rm(join(this.blobsDir, name), { force: true })
  }

  async pull(text: string, signal: AbortSignal): Promise<PulledImage> {
    const reference = parseReference(text)
    await this.slot(signal)
    try {
      return await this.pullNow(reference, signal)
    } finally {
      this.active--
      this.waiting.shift()?.()
    }
  }

  async close(): Promise<void> {
    await this.registry.close()
  }

  private async slot(signal: AbortSignal): Promise<void> {
    if (this.waiting.length >= PULLS_WAITING_MAX)
      throw new RegistryError('Too many images are waiting to be pulled')
    while (this.active >= PULLS_AT_ONCE_MAX) {
      signal.throwIfAborted()
      const turn = Promise.withResolvers<void>()
      this.waiting.push(turn.resolve)
      await turn.promise
    }
    this.active++
  }

  private async pullNow(reference: ImageReference, signal: AbortSignal): Promise<PulledImage> {
    const named = reference.digest ?? reference.tag ?? 'latest'
    let { bytes, digest } = await this.manifest(reference, named, reference.digest, signal)
    const top = digest
    let parsed = parseManifestOrIndex(bytes, this.architecture)
    if ('index' in parsed) {
      ;({ bytes, digest } = await this.manifest(reference, parsed.index.digest, parsed.index.digest, signal))
      parsed = parseManifestOrIndex(bytes, this.architecture)
      if ('index' in parsed) throw new RegistryError("The image's index points to another index")
    }
    const { manifest } = parsed
    await this.ensureRoom(manifest.layers)
    if (manifest.config.size > IMAGE_CONFIG_BYTES_MAX)
      throw new RegistryError(`The image's config has more than ${IMAGE_CONFIG_BYTES_MAX} bytes`)
    await this.blob(reference, manifest.config, signal)
    const config = parseImageConfig(await readFile(this.path(manifest.config.digest)), manifest.layers.length)
    await Promise.all(manifest.layers.map((layer) => this.blob(reference, layer, signal)))
    return {
      digest: top,
      config: { ...config, digest: manifest.config.digest },
      // parseImageConfig has made sure that there is one diff id per layer.
      layers: manifest.layers.map((layer, i) => ({ ...layer, diffId: config.diffIds[i]! })),
    }
  }

  private async manifest(
    reference: ImageReference,
    at: string,
    expected: string | undefined,
    signal: AbortSignal,
  ) {
    const { bytes } = await this.registry.manifest(reference, at, signal)
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    if (expected !== undefined && digest !== expected)
      throw new RegistryError(
        `${reference.registry}/${reference.repository}: the registry sent a manifest with the digest ${digest} for ${expected}`,
      )
    await writeFile(this.path(digest), bytes, { mode: 0o600 })
    return { bytes, digest }
  }

  private async ensureRoom(layers: readonly Descriptor[]): Promise<void> {
    let bytes = layers.reduce((sum, layer) => sum + layer.size, 0)
    for (const name of await readdir(this.blobsDir))
      bytes += (await stat(join(this.blobsDir, name)).catch(() => ({ size: 0 }))).size
    if (bytes > STORE_BYTES_MAX) throw new RegistryError(`The image store is full (${STORE_BYTES_MAX} bytes)`)
  }

  /**
   * One download per digest and repository, however many ask for it. That a blob is here already proves nothing: who only
   * knows its digest would be given what another tenant's registry has sent. So it is used for those repositories that
   * have delivered it themselves, and downloaded again for the others.
   */
  private async blob(reference: ImageReference, wanted: Descriptor, signal: AbortSignal): Promise<void> {
    const path = this.path(wanted.digest)
    const source = sourceOf(reference)
    if ((await exists(path)) && (await sources(path)).includes(source)) return
    const key = `${source} ${wanted.digest}`
    const running = this.running.get(key)
    // A download that another request began can fail because that request was cut off: then we try ourselves.
    if (running) return running.catch(() => this.blob(reference, wanted, signal))
    const download = this.download(reference, wanted, path, signal)
      .then(() => addSource(path, source))
      .finally(() => this.running.delete(key))
    this.running.set(key, download)
    return download
  }

  private async download(
    reference: ImageReference,
    wanted: Descriptor,
    path: string,
    signal: AbortSignal,
  ): Promise<void> {
    const partial = join(this.blobsDir, `.${randomUUID()}`)
    const hash = createHash('sha256')
    let bytes = 0
    const beganMs = performance.now()
    const check = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        bytes += chunk.length
        const tookMs = performance.now() - beganMs
        if (tookMs > BLOB_RATE_FROM_MS && (bytes * 1_000) / tookMs < BLOB_BYTES_PER_SECOND_MIN)
          return done(new RegistryError(`The registry sends the blob ${wanted.digest} too slowly`))
        if (bytes > wanted.size)
          return done(
            new RegistryError(
              `The blob ${wanted.digest} is larger than the ${wanted.size} bytes that its manifest says`,
            ),
          )
        hash.update(chunk)
        done(null, chunk)
      },
    })
    try {
      await pipeline(
        await this.registry.blob(reference, wanted.digest, signal),
        check,
        createWriteStream(partial, { mode: 0o600, flags: 'wx' }),
        { signal: AbortSignal.any([signal, AbortSignal.timeout(BLOB_DOWNLOAD_MS_MAX)]) },
      )
      const digest = `sha256:${hash.digest('hex')}`
      if (digest !== wanted.digest)
        throw new RegistryError(`The registry sent a blob with the digest ${digest} for ${wanted.digest}`)
      await rename(partial, path)
      this.log.info('blob downloaded', { digest, bytes, registry: reference.registry })
    } finally {
      await rm(partial, { force: true })
    }
  }

  private path(digest: string): string {
    return join(this.blobsDir, digest.replace('sha256:', ''))
  }
}

/** Beside a blob: a line for each repository that has delivered it. */
export const SOURCES_SUFFIX = '.from'

function sourceOf({ registry, repository }: ImageReference): string {
  return createHash('sha256').update(`${registry}/${repository}`).digest('hex')
}

async function sources(path: string): Promise<string[]> {
  const text = await readFile(path + SOURCES_SUFFIX, 'utf8').catch(() => '')
  return text.split('\n').filter(Boolean)
}

async function addSource(path: string, source: string): Promise<void> {
  const known = await sources(path)
  if (known.includes(source)) return
  if (known.length < BLOB_SOURCES_MAX) await appendFile(path + SOURCES_SUFFIX, `${source}\n`, { mode: 0o600 })
  // Whoever is forgotten delivers it once more.
  else
    await writeFile(
      path + SOURCES_SUFFIX,
      [...known.slice(-BLOB_SOURCES_MAX / 2), source].map((line) => `${line}\n`).join(''),
      { mode: 0o600 },
    )
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** Serves `POST /v1/pull {"reference": …}` to root and to nobody else. */
export async function servePuller({
  puller,
  socketPath,
  mode,
  gid,
  log,
}: {
  puller: Puller
  socketPath: string
  mode?: number
  gid?: number
  log: Logger
}) {
  const server = createServer((req, res) => {
    void answer(puller, req, res).catch((error: unknown) => {
      log.error('pull request failed', { error })
      res.destroy()
    })
  })
  server.on('connection', (socket) => {
    if (peerCredentials(socket).uid !== 0) socket.destroy()
  })
  await listenUnix(server, {
    path: socketPath,
    ...(mode === undefined ? {} : { mode }),
    ...(gid === undefined ? {} : { gid }),
  })
  return server
}

async function answer(puller: Puller, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const send = (code: number, body: unknown) => {
    res.writeHead(code, { 'content-type': 'application/json' })
    res.end(JSON.stringify(body))
  }
  if (req.method !== 'POST' || req.url !== '/v1/pull') return send(404, { message: 'not found' })
  const wish = await readRequest(req, PULL_REQUEST_BYTES_MAX)
  if (!wish) return send(413, { message: 'The request is too large' })
  const aborted = new AbortController()
  res.on('close', () => aborted.abort())
  try {
    const { reference } = JSON.parse(wish.toString()) as { reference: string }
    send(200, await puller.pull(String(reference), aborted.signal))
  } catch (error) {
    const known = error instanceof RegistryError || error instanceof TypeError
    send(known ? 422 : 500, {
      message: known ? error.message : 'The puller failed',
      kind: error instanceof TypeError ? 'name' : 'registry',
    })
    if (!known) throw error
  }
}
