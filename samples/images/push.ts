import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { request } from 'undici'

/** Enough of the OCI image and distribution formats to build an image from tar layers and push it to a local registry. */
export type ImageSource = {
  /** Uncompressed tar archives, lowest first. */
  layers: readonly Buffer[]
  config: {
    Entrypoint?: string[]
    Cmd?: string[]
    Env?: string[]
    User?: string
    WorkingDir?: string
    StopSignal?: string
    ExposedPorts?: Record<string, object>
  }
}

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

/** Pushes and returns the manifest's digest. The same content gives the same digest. */
export async function pushImage(
  registry: string,
  repository: string,
  tag: string,
  source: ImageSource,
): Promise<string> {
  const base = `http://${registry}/v2/${repository}`
  const layers = source.layers.map((tar) => ({ diffId: sha256(tar), blob: gzipSync(tar, { level: 6 }) }))
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: source.config,
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
    }),
  )
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: {
        mediaType: 'application/vnd.oci.image.config.v1+json',
        digest: sha256(config),
        size: config.length,
      },
      layers: layers.map(({ blob }) => ({
        mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
        digest: sha256(blob),
        size: blob.length,
      })),
    }),
  )
  for (const blob of [config, ...layers.map((layer) => layer.blob)]) await pushBlob(base, blob)
  const answer = await request(`${base}/manifests/${tag}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/vnd.oci.image.manifest.v1+json' },
    body: manifest,
  })
  const text = await answer.body.text()
  if (answer.statusCode !== 201)
    throw new Error(`Cannot push "${repository}:${tag}": ${answer.statusCode} ${text}`)
  return sha256(manifest)
}

async function pushBlob(base: string, blob: Buffer): Promise<void> {
  const digest = sha256(blob)
  const there = await request(`${base}/blobs/${digest}`, { method: 'HEAD' })
  await there.body.dump()
  if (there.statusCode === 200) return
  const begun = await request(`${base}/blobs/uploads/`, { method: 'POST' })
  await begun.body.dump()
  const location = new URL(String(begun.headers.location), base)
  location.searchParams.set('digest', digest)
  const done = await request(location, {
    method: 'PUT',
    headers: { 'content-type': 'application/octet-stream' },
    body: blob,
  })
  const text = await done.body.text()
  if (done.statusCode !== 201) throw new Error(`Cannot push the blob ${digest}: ${done.statusCode} ${text}`)
}
