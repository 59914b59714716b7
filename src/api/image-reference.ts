import { IMAGE_REFERENCE_CHARS_MAX } from './limits.ts'

/**
 * An image reference, normalized: `nginx` is `docker.io/library/nginx:latest`.
 * https://github.com/distribution/reference describes the grammar.
 */
export type ImageReference = {
  registry: string
  repository: string
  tag?: string
  /** `sha256:` and 64 hexadecimal digits. */
  digest?: string
}

const DOMAIN =
  /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*(?::[0-9]{1,5})?$/
const PORT_MAX = 65_535
const PATH_COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-{1,8})[a-z0-9]+)*$/
const TAG = /^\w[\w.-]{0,127}$/
const DIGEST = /^sha256:[0-9a-f]{64}$/

/** @throws {TypeError} with the kubelet's words when the text cannot be an image reference. */
export function parseReference(text: string): ImageReference {
  const bad = (why: string) => new TypeError(`couldn't parse image name "${text.slice(0, 200)}": ${why}`)
  if (text.length === 0 || text.length > IMAGE_REFERENCE_CHARS_MAX) throw bad('invalid reference format')
  // Some letters of other scripts become ASCII in lower case, the Kelvin sign for one.
  if (!/^[!-~]*$/.test(text)) throw bad('it must be printable ASCII without spaces')
  const [beforeDigest = '', digest, ...tooMany] = text.split('@')
  if (tooMany.length > 0) throw bad('invalid reference format')
  if (digest !== undefined && !DIGEST.test(digest))
    throw bad('only sha256 digests of 64 hexadecimal digits are supported')
  const slash = beforeDigest.indexOf('/')
  const first = slash < 0 ? '' : beforeDigest.slice(0, slash)
  const hasDomain = first.includes('.') || first.includes(':') || first === 'localhost'
  const registry = hasDomain ? first.toLowerCase() : 'docker.io'
  const rest = hasDomain ? beforeDigest.slice(slash + 1) : beforeDigest
  const colon = rest.lastIndexOf(':')
  const path = colon < 0 ? rest : rest.slice(0, colon)
  const tag = colon < 0 ? undefined : rest.slice(colon + 1)
  if (!DOMAIN.test(registry) || Number(registry.split(':')[1] ?? 0) > PORT_MAX)
    throw bad('invalid registry host')
  if (/[A-Z]/.test(path)) throw bad('repository name must be lowercase')
  if (!path.split('/').every((component) => PATH_COMPONENT.test(component)))
    throw bad('invalid reference format')
  if (tag !== undefined && !TAG.test(tag)) throw bad('invalid tag')
  const repository = registry === 'docker.io' && !path.includes('/') ? `library/${path}` : path
  return {
    registry,
    repository,
    ...(tag !== undefined ? { tag } : digest === undefined ? { tag: 'latest' } : {}),
    ...(digest === undefined ? {} : { digest }),
  }
}

export function renderReference({ registry, repository, tag, digest }: ImageReference): string {
  return `${registry}/${repository}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`
}

/** Whether an allowlist of `HOST[:PORT]` or `HOST[:PORT]/PATH` prefixes covers an image; prefixes end at a `/`. */
export function isRegistryAllowed(reference: ImageReference, allowed: readonly string[]): boolean {
  const name = `${reference.registry}/${reference.repository}`
  return allowed.some(
    (prefix) => name === prefix || name.startsWith(prefix.endsWith('/') ? prefix : `${prefix}/`),
  )
}
