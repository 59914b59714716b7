import { LAYER_COMPRESSED_BYTES_MAX, LAYERS_MAX } from './limits.ts'
import { RegistryError } from './registry.ts'

/**
 * Manifests, indexes and configs as a registry sends them, parsed as hostile input.
 * https://github.com/opencontainers/image-spec
 */
export type Descriptor = { mediaType: string; digest: string; size: number }
export type Manifest = { config: Descriptor; layers: Descriptor[] }

export type ImageConfig = {
  diffIds: string[]
  entrypoint: string[]
  cmd: string[]
  env: string[]
  user: string
  workingDir: string
  stopSignal?: string
  volumes: string[]
}

const DIGEST = /^sha256:[0-9a-f]{64}$/
const LAYER_TYPES = [
  'application/vnd.oci.image.layer.v1.tar',
  'application/vnd.oci.image.layer.v1.tar+gzip',
  'application/vnd.oci.image.layer.v1.tar+zstd',
  'application/vnd.docker.image.rootfs.diff.tar',
  'application/vnd.docker.image.rootfs.diff.tar.gzip',
]

type Json = Record<string, unknown>

function object(value: unknown, what: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new RegistryError(`The image's ${what} is not a JSON object`)
  return value as Json
}

function json(bytes: Buffer, what: string): Json {
  try {
    return object(JSON.parse(bytes.toString('utf8')), what)
  } catch (cause) {
    throw new RegistryError(`The image's ${what} is not JSON`, { cause })
  }
}

function descriptor(value: unknown, what: string): Descriptor {
  const { mediaType, digest, size } = object(value, what)
  if (
    typeof mediaType !== 'string' ||
    typeof digest !== 'string' ||
    !DIGEST.test(digest) ||
    typeof size !== 'number' ||
    !Number.isSafeInteger(size) ||
    size < 0
  )
    throw new RegistryError(`The image's ${what} is not a descriptor with a sha256 digest and a size`)
  return { mediaType, digest, size }
}

function strings(value: unknown, what: string): string[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string' && !item.includes('\0')))
    throw new RegistryError(`The image's ${what} is not a list of strings`)
  return value as string[]
}

/** An index is resolved to the manifest for `architecture`; a manifest is returned. */
export function parseManifestOrIndex(
  bytes: Buffer,
  architecture: string,
): { index: Descriptor } | { manifest: Manifest } {
  const document = json(bytes, 'manifest')
  if (Array.isArray(document['manifests'])) {
    const found = document['manifests'].find((entry: unknown) => {
      const platform = object(object(entry, 'index entry')['platform'] ?? {}, 'platform')
      return platform['os'] === 'linux' && platform['architecture'] === architecture
    })
    if (found === undefined)
      throw new RegistryError(`no match for platform linux/${architecture} in the image's index`)
    return { index: descriptor(found, 'index entry') }
  }
  if (!Array.isArray(document['layers']))
    throw new RegistryError(
      "The image's manifest has no layers; only OCI and Docker v2 schema 2 are supported",
    )
  if (document['layers'].length > LAYERS_MAX)
    throw new RegistryError(`The image has more than ${LAYERS_MAX} layers`)
  const layers = document['layers'].map((layer, i) => descriptor(layer, `layer ${i}`))
  for (const layer of layers) {
    if (!LAYER_TYPES.includes(layer.mediaType))
      throw new RegistryError(
        `The image has a layer of the unsupported type "${layer.mediaType.slice(0, 100)}"`,
      )
    if (layer.size > LAYER_COMPRESSED_BYTES_MAX)
      throw new RegistryError(
        `The image has a layer of ${layer.size} bytes, more than ${LAYER_COMPRESSED_BYTES_MAX}`,
      )
  }
  return { manifest: { config: descriptor(document['config'], 'config'), layers } }
}

export function parseImageConfig(bytes: Buffer, layers: number): ImageConfig {
  const document = json(bytes, 'config')
  const diffIds = strings(object(document['rootfs'], 'rootfs')['diff_ids'], 'rootfs.diff_ids')
  if (diffIds.length !== layers || !diffIds.every((id) => DIGEST.test(id)))
    throw new RegistryError(`The image's config names ${diffIds.length} layers and its manifest ${layers}`)
  const config = object(document['config'] ?? {}, 'config')
  const text = (key: string) => {
    const value = config[key] ?? ''
    if (typeof value !== 'string' || value.includes('\0') || value.length > 4096)
      throw new RegistryError(`The image's config has a bad ${key}`)
    return value
  }
  const stopSignal = text('StopSignal')
  if (stopSignal !== '' && !/^(?:SIG)?[A-Z0-9+]{1,12}$/.test(stopSignal))
    throw new RegistryError("The image's config has a bad StopSignal")
  return {
    diffIds,
    entrypoint: strings(config['Entrypoint'], 'Entrypoint'),
    cmd: strings(config['Cmd'], 'Cmd'),
    env: strings(config['Env'], 'Env'),
    user: text('User'),
    workingDir: text('WorkingDir'),
    ...(stopSignal === '' ? {} : { stopSignal }),
    volumes: Object.keys(object(config['Volumes'] ?? {}, 'Volumes')).slice(0, LAYERS_MAX),
  }
}
