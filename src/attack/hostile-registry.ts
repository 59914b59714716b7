import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { REGISTRY_ASKED_MAX, REGISTRY_ANSWER_MS_MAX } from './limits.ts'

/** `what` is the path behind the repository, such as `manifests/1`. */
export type RegistryAnswer = (what: string, answer: ServerResponse, request: IncomingMessage) => void

/** What a registry has to say about one image. */
export type RegistryImage = { manifest: Buffer; digest: string; blobs: ReadonlyMap<string, Buffer> }

export const sha256 = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

/**
 * A registry of the attackers' own, which says whatever an attack wants. It listens on the loopback interface, is known to
 * the tenants of the attack only, and ends with this process.
 */
export class HostileRegistry implements AsyncDisposable {
  readonly host: string
  private readonly server: Server
  private readonly answers = new Map<string, RegistryAnswer>()
  private readonly asked: string[] = []

  private constructor(server: Server) {
    this.server = server
    this.host = `127.0.0.1:${(server.address() as AddressInfo).port}` // it listens on TCP
    server.on('request', (request: IncomingMessage, answer: ServerResponse) => this.answer(request, answer))
  }

  static async start(): Promise<HostileRegistry> {
    const server = createServer()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
    await promise
    return new HostileRegistry(server)
  }

  serve(repository: string, answer: RegistryAnswer): void {
    this.answers.set(repository, answer)
  }

  /** An ordinary image, but for what `changed` says of a path. */
  serveImage(repository: string, image: RegistryImage, changed: Record<string, RegistryAnswer> = {}): void {
    this.serve(repository, (what, answer, request) => {
      const other = changed[what]
      if (other !== undefined) return other(what, answer, request)
      const [kind, name = ''] = what.split('/')
      const bytes = kind === 'manifests' ? image.manifest : image.blobs.get(name)
      if (bytes === undefined) answer.writeHead(404)
      answer.end(bytes)
    })
  }

  /** Paths that were asked for in a repository, in order. */
  askedOf(repository: string): string[] {
    const prefix = `/v2/${repository}/`
    return this.asked.filter((path) => path.startsWith(prefix)).map((path) => path.slice(prefix.length))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections()
    await new Promise((resolve) => this.server.close(resolve))
  }

  private answer(request: IncomingMessage, answer: ServerResponse): void {
    const path = request.url ?? ''
    if (this.asked.push(path) > REGISTRY_ASKED_MAX) this.asked.shift()
    // Even an answer without end has one.
    answer.setTimeout(REGISTRY_ANSWER_MS_MAX, () => answer.destroy())
    answer.on('error', () => {})
    const [, repository = '', what = ''] = /^\/v2\/(.+?)\/((?:manifests|blobs|token)\b.*)$/.exec(path) ?? []
    const own = this.answers.get(repository)
    if (own !== undefined) return own(what, answer, request)
    answer.writeHead(path === '/v2/' ? 200 : 404).end()
  }
}

export type LayerSource = {
  /** An uncompressed archive; what is served is its gzip unless `blob` says otherwise. */
  tar: Buffer
  blob?: Buffer
  mediaType?: string
  /** What the manifest and the config claim instead of the truth. */
  claims?: { digest?: string; size?: number; diffId?: string }
}

/** Puts an image together as it should be, or as its layers' claims want it. */
export function assembleImage(layers: readonly LayerSource[], config: object = {}): RegistryImage {
  const blobs = new Map<string, Buffer>()
  const parts = layers.map(({ tar, blob = gzipSync(tar), mediaType, claims = {} }) => {
    const digest = claims.digest ?? sha256(blob)
    blobs.set(digest, blob)
    return {
      diffId: claims.diffId ?? sha256(tar),
      descriptor: {
        mediaType: mediaType ?? 'application/vnd.oci.image.layer.v1.tar+gzip',
        digest,
        size: claims.size ?? blob.length,
      },
    }
  })
  const configBytes = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config,
      rootfs: { type: 'layers', diff_ids: parts.map(({ diffId }) => diffId) },
    }),
  )
  blobs.set(sha256(configBytes), configBytes)
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: {
        mediaType: 'application/vnd.oci.image.config.v1+json',
        digest: sha256(configBytes),
        size: configBytes.length,
      },
      layers: parts.map(({ descriptor }) => descriptor),
    }),
  )
  return { manifest, digest: sha256(manifest), blobs }
}
