import type { Readable } from 'node:stream'
import { Agent, buildConnector, request } from 'undici'
import type { ImageReference } from '../../../api/index.ts'
import { readBounded, TooLong } from '../../../stdx/index.ts'
import { agentForElsewhere, reachOf } from './elsewhere.ts'
import {
  MANIFEST_BYTES_MAX,
  REDIRECTS_MAX,
  REGISTRY_ANSWER_TIMEOUT_MS,
  REGISTRY_SILENCE_TIMEOUT_MS,
  TOKEN_BYTES_MAX,
} from './limits.ts'

const MANIFEST_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
]

/** What went wrong with a registry, in words that a tenant may read. */
export class RegistryError extends Error {}

/**
 * A client of one registry: the OCI distribution API, with anonymous bearer tokens where the registry asks for them.
 * https://github.com/opencontainers/distribution-spec/blob/main/spec.md
 */
export class RegistryClient {
  private readonly tokens = new Map<string, string>()
  /** Hosts of registries that answered from a private network or this machine, certificate and all. */
  private readonly inside = new Set<string>()
  private readonly agent = new Agent({
    headersTimeout: REGISTRY_ANSWER_TIMEOUT_MS,
    bodyTimeout: REGISTRY_SILENCE_TIMEOUT_MS,
    connect: this.connector(),
  })
  private readonly elsewhere = agentForElsewhere(false)
  private readonly elsewhereInside = agentForElsewhere(true)

  /** The bytes of a manifest or an index, and what type the registry says it is. */
  async manifest(
    reference: ImageReference,
    at: string,
    signal: AbortSignal,
  ): Promise<{ bytes: Buffer; mediaType: string }> {
    const { body, headers } = await this.get(
      reference,
      `manifests/${at}`,
      { accept: MANIFEST_TYPES.join(', ') },
      signal,
    )
    const bytes = await readAll(body, MANIFEST_BYTES_MAX, 'a manifest')
    return { bytes, mediaType: String(headers['content-type'] ?? '').split(';')[0] ?? '' }
  }

  async blob(reference: ImageReference, digest: string, signal: AbortSignal): Promise<Readable> {
    return (await this.get(reference, `blobs/${digest}`, {}, signal)).body
  }

  async close(): Promise<void> {
    await Promise.all([this.agent, this.elsewhere, this.elsewhereInside].map((agent) => agent.destroy()))
  }

  private connector(): ReturnType<typeof buildConnector> {
    const connect = buildConnector({ timeout: REGISTRY_ANSWER_TIMEOUT_MS })
    return (options, done) =>
      connect(options, (...connected) => {
        const [, socket] = connected
        const address = socket?.remoteAddress
        if (address !== undefined) {
          if (reachOf(address) === 'public') this.inside.delete(options.hostname)
          else this.inside.add(options.hostname)
        }
        done(...connected)
      })
  }

  /** For a request that a registry causes: to itself as ever, to others only where it may send us. */
  private dispatcher(registry: URL, to: URL): Agent {
    if (to.origin === registry.origin) return this.agent
    return this.inside.has(registry.hostname) ? this.elsewhereInside : this.elsewhere
  }

  private async get(
    reference: ImageReference,
    what: string,
    headers: Record<string, string>,
    signal: AbortSignal,
  ) {
    const scheme = isLoopbackRegistry(reference.registry) ? 'http' : 'https'
    const host = reference.registry === 'docker.io' ? 'registry-1.docker.io' : reference.registry
    const url = new URL(`${scheme}://${host}/v2/${reference.repository}/${what}`)
    const scope = `${reference.registry}/${reference.repository}`
    let answer = await this.follow(url, { ...headers, ...this.authorization(scope) }, signal)
    if (answer.statusCode === 401) {
      const challenge = String(answer.headers['www-authenticate'] ?? '')
      await answer.body.dump()
      this.tokens.set(scope, await this.fetchToken(challenge, reference, url, signal))
      answer = await this.follow(url, { ...headers, ...this.authorization(scope) }, signal)
    }
    if (answer.statusCode === 200) return answer
    await answer.body.dump()
    const name = `${reference.registry}/${reference.repository}`
    switch (answer.statusCode) {
      case 401:
      case 403:
        throw new RegistryError(`${name}: the registry refused access (${answer.statusCode})`)
      case 404:
        throw new RegistryError(`${name}: ${what} not found`)
      default:
        throw new RegistryError(`${name}: the registry answered ${answer.statusCode} for ${what}`)
    }
  }

  private authorization(scope: string): Record<string, string> {
    const token = this.tokens.get(scope)
    return token === undefined ? {} : { authorization: `Bearer ${token}` }
  }

  /** Follows redirects to where blobs really are. Credentials go to the registry only, and TLS is never left. */
  private async follow(start: URL, headers: Record<string, string>, signal: AbortSignal) {
    let url = start
    for (let hop = 0; hop <= REDIRECTS_MAX; hop++) {
      const { authorization, ...anonymous } = headers
      const sent = url.origin === start.origin && authorization !== undefined ? headers : anonymous
      const dispatcher = this.dispatcher(start, url)
      const answer = await request(url, { headers: sent, signal, dispatcher }).catch((cause: unknown) => {
        throw new RegistryError(`Cannot reach the registry at "${url.host}": ${reasonOf(cause)}`, { cause })
      })
      if (![301, 302, 303, 307, 308].includes(answer.statusCode)) return answer
      await answer.body.dump()
      const location = String(answer.headers.location ?? '')
      if (!URL.canParse(location, url.href))
        throw new RegistryError(`The registry at "${start.host}" redirects to what is no address`)
      const next = new URL(location, url)
      if (next.origin !== start.origin && next.protocol !== 'https:')
        throw new RegistryError(
          `The registry at "${start.host}" redirects to "${next.origin}", which has no TLS`,
        )
      url = next
    }
    throw new RegistryError(`The registry at "${start.host}" redirects more than ${REDIRECTS_MAX} times`)
  }

  /** https://distribution.github.io/distribution/spec/auth/token/ */
  private async fetchToken(
    challenge: string,
    reference: ImageReference,
    registry: URL,
    signal: AbortSignal,
  ): Promise<string> {
    const parameter = (name: string) => new RegExp(`${name}="([^"]{0,2000})"`).exec(challenge)?.[1]
    const realm = parameter('realm')
    if (!/^bearer /i.test(challenge) || realm === undefined || !URL.canParse(realm))
      throw new RegistryError(
        `${reference.registry}/${reference.repository}: the registry wants credentials that we do not have`,
      )
    const url = new URL(realm)
    if (url.origin !== registry.origin && url.protocol !== 'https:')
      throw new RegistryError(
        `The registry at "${reference.registry}" sends for tokens to "${url.origin}", which has no TLS`,
      )
    const service = parameter('service')
    if (service !== undefined) url.searchParams.set('service', service)
    url.searchParams.set('scope', `repository:${reference.repository}:pull`)
    const dispatcher = this.dispatcher(registry, url)
    const answer = await request(url, { signal, dispatcher }).catch((cause: unknown) => {
      throw new RegistryError(`Cannot reach the token service at "${url.host}": ${reasonOf(cause)}`, {
        cause,
      })
    })
    const text = (await readAll(answer.body, TOKEN_BYTES_MAX, 'a token')).toString()
    if (answer.statusCode !== 200)
      throw new RegistryError(`The token service at "${url.host}" answered ${answer.statusCode}`)
    const parsed = parseJsonObject(text)
    const token = parsed?.['token'] ?? parsed?.['access_token']
    if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token))
      throw new RegistryError(`The token service at "${url.host}" sent no token`)
    return token
  }
}

async function readAll(body: Readable, bytesMax: number, what: string): Promise<Buffer> {
  try {
    return await readBounded(body, bytesMax)
  } catch (cause) {
    if (!(cause instanceof TooLong)) throw cause
    throw new RegistryError(`The registry sent ${what} of more than ${bytesMax} bytes`, { cause })
  }
}

function parseJsonObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? ((error as { code?: string }).code ?? error.message) : String(error)
}

/** Plain HTTP is for a registry on this very machine; everything else has TLS. */
function isLoopbackRegistry(registry: string): boolean {
  const host = registry.replace(/:\d+$/, '')
  return host === 'localhost' || /^127(?:\.\d{1,3}){3}$/.test(host)
}
