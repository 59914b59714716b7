import { ApiError, type UserInfo, groupVersion } from '../api/index.ts'
import { TOKEN_ISSUER } from '../identity/index.ts'
import { describeDenial } from '../policy/index.ts'
import { assert } from '../stdx/index.ts'
import {
  FORMATS,
  type Format,
  MEDIA_TYPES,
  type Offer,
  fits,
  negotiate,
  notAcceptable,
  parseAccept,
} from './accept.ts'
import type { Context } from './context.ts'
import {
  type Document,
  isUnchanged,
  renderAggregatedDiscovery,
  renderApiGroup,
  renderApiGroupList,
  renderApiResourceList,
  renderApiVersions,
  renderDocument,
  renderOpenApiIndex,
  renderOpenApiV2,
  renderOpenApiV3,
} from './discovery/index.ts'
import { methodNotAllowed } from './refusals.ts'
import { renderYaml } from './render-yaml.ts'
import { encodeProtobuf } from './wire/index.ts'

/** What `/version` says. */
export type VersionFacts = {
  /** Kubernetes' version whose API we speak, such as `1.36`. */
  kubernetes: string
  /** `v1.36.0+bulkhead`: clients parse it, and read our build in it. */
  gitVersion: string
  gitCommit: string
  /** RFC 3339. */
  buildDate: string
}

/** An answer to a path that is no resource. */
export type PlainAnswer =
  | { kind: 'document'; document: Document }
  | { kind: 'text'; code: number; body: string }
  | { kind: 'unchanged'; etag: string }

export type PlainRequest = {
  method: string
  path: string
  accept: string | undefined
  ifNoneMatch: string | undefined
  user: UserInfo
}

/**
 * Answers `/version`, `/healthz`, discovery, OpenAPI and the keys of service accounts.
 * @throws {ApiError} Forbidden, NotAcceptable; unknown paths are plain text 404, as upstream.
 */
export function answerPath(
  context: Context,
  version: VersionFacts,
  serverAddress: string,
  request: PlainRequest,
): PlainAnswer {
  const { method, path, user } = request
  const attributes = { kind: 'path', verb: method.toLowerCase(), path } as const
  if (!context.authorizer.authorize(user, attributes).allowed)
    throw new ApiError('Forbidden', `forbidden: ${describeDenial(user, attributes)}`, { details: {} })
  const answer = find(context, version, serverAddress, request)
  if (answer === undefined) return { kind: 'text', code: 404, body: '404 page not found\n' }
  if (method !== 'GET') throw methodNotAllowed()
  if (answer.kind === 'document' && isUnchanged(answer.document, request.ifNoneMatch))
    return { kind: 'unchanged', etag: answer.document.etag }
  return answer
}

function find(
  { registry, tokenIssuer }: Context,
  version: VersionFacts,
  serverAddress: string,
  request: PlainRequest,
): PlainAnswer | undefined {
  const { path } = request
  switch (path) {
    case '/healthz':
    case '/livez':
    case '/readyz':
      return { kind: 'text', code: 200, body: 'ok' }
    // These two are JSON for everyone, as upstream.
    case '/version':
      return { kind: 'document', document: renderVersion(version) }
    case '/':
      return { kind: 'document', document: renderDocument({ paths: pathsOf(registry) }) }
    case '/api':
    case '/apis': {
      const offer: Offer = { formats: FORMATS, transforms: ['APIGroupDiscoveryList'] }
      const wanted = negotiate(request.accept, offer)
      if (!wanted) throw notAcceptable(offer)
      const document = wanted.as
        ? renderAggregatedDiscovery(
            registry,
            path === '/api' ? 'api' : 'apis',
            wanted.version === 'v2beta1' ? 'v2beta1' : 'v2',
          )
        : path === '/api'
          ? renderApiVersions(registry, serverAddress)
          : renderApiGroupList(registry)
      return { kind: 'document', document: inFormat(document, wanted.format) }
    }
    case '/openapi/v2':
      return { kind: 'document', document: renderOpenApiV2(registry, openApiFormat('v2', request.accept)) }
    case '/openapi/v3':
      return { kind: 'document', document: renderOpenApiIndex(registry) }
    case '/openid/v1/jwks':
      return (
        tokenIssuer && {
          kind: 'document',
          document: renderDocument(tokenIssuer.jwks(), 'application/jwk-set+json'),
        }
      )
    case '/.well-known/openid-configuration':
      return tokenIssuer && { kind: 'document', document: renderDocument(openIdConfiguration(TOKEN_ISSUER)) }
    default:
      break
  }
  const segments = path.split('/').slice(1)
  const [first, second, third, fourth] = segments
  if (first === 'openapi' && second === 'v3') {
    const gv =
      third === 'api' && segments.length === 4
        ? { group: '', version: fourth ?? '' }
        : third === 'apis' && segments.length === 5
          ? { group: fourth ?? '', version: segments[4] ?? '' }
          : undefined
    const document = gv && renderOpenApiV3(registry, gv, openApiFormat('v3', request.accept))
    return document && { kind: 'document', document }
  }
  if (first === 'api' && segments.length === 2)
    return maybe(request, renderApiResourceList(registry, { group: '', version: second ?? '' }))
  if (first === 'apis' && segments.length === 2) return maybe(request, renderApiGroup(registry, second ?? ''))
  if (first === 'apis' && segments.length === 3)
    return maybe(request, renderApiResourceList(registry, { group: second ?? '', version: third ?? '' }))
  return undefined
}

function maybe(request: PlainRequest, document: Document | undefined): PlainAnswer | undefined {
  return document && acceptable(request, document)
}

/** @throws {ApiError} NotAcceptable */
function acceptable({ accept }: PlainRequest, document: Document): PlainAnswer {
  const offer: Offer = { formats: FORMATS, transforms: [] }
  const wanted = negotiate(accept, offer)
  if (!wanted) throw notAcceptable(offer)
  return { kind: 'document', document: inFormat(document, wanted.format) }
}

/** @throws {ApiError} NotAcceptable */
function openApiFormat(version: 'v2' | 'v3', accept: string | undefined): 'json' | 'protobuf' {
  // Both spellings are in use, one of them in the answer.
  const protobuf = ['@', '.'].map(
    (sign) => `application/com.github.proto-openapi.spec.${version}${sign}v1.0+protobuf`,
  )
  if (accept === undefined || accept.trim() === '') return 'json'
  for (const { type } of parseAccept(accept)) {
    if (protobuf.includes(type)) return 'protobuf'
    if (fits(type, MEDIA_TYPES.json)) return 'json'
  }
  throw new ApiError(
    'NotAcceptable',
    `406: Not Acceptable\n\nAvailable representations: ${[MEDIA_TYPES.json, ...protobuf].join(', ')}`,
    { details: {} },
  )
}

/** The same documents in other formats, made when somebody asks for one. */
const otherFormats = new WeakMap<Document, Map<Format, Document>>()

function inFormat(document: Document, format: Format): Document {
  if (format === 'json') return document
  const known = otherFormats.get(document) ?? new Map<Format, Document>()
  otherFormats.set(document, known)
  let other = known.get(format)
  if (!other) {
    const value = JSON.parse(document.body.toString()) as { apiVersion?: string; kind: string }
    const body =
      format === 'yaml'
        ? Buffer.from(renderYaml(value))
        : // What belongs to no group may say no version in JSON.
          encodeProtobuf({ apiVersion: 'v1', ...value })
    assert(body, `${value.kind} has a protobuf encoding`)
    known.set(
      format,
      (other = {
        body,
        contentType: document.contentType.replace(MEDIA_TYPES.json, MEDIA_TYPES[format]),
        etag: document.etag.replace(/"$/, `-${format}"`),
      }),
    )
  }
  return other
}

function renderVersion({ kubernetes, gitVersion, gitCommit, buildDate }: VersionFacts): Document {
  const [major, minor] = kubernetes.split('.')
  return renderDocument({
    major,
    minor,
    gitVersion,
    gitCommit,
    gitTreeState: 'clean',
    buildDate,
    goVersion: 'none',
    compiler: 'none',
    platform: `linux/${process.arch === 'arm64' ? 'arm64' : 'amd64'}`,
  })
}

function openIdConfiguration(issuer: string) {
  return {
    issuer,
    jwks_uri: `${issuer}/openid/v1/jwks`,
    response_types_supported: ['id_token'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['ES256'],
  }
}

function pathsOf({ kinds, virtualKinds }: Context['registry']): string[] {
  const paths = new Set([
    '/.well-known/openid-configuration',
    '/api',
    '/apis',
    '/healthz',
    '/livez',
    '/openapi/v2',
    '/openapi/v3',
  ])
  for (const { group, version } of [...kinds, ...virtualKinds])
    paths.add(group ? `/apis/${groupVersion({ group, version })}` : `/api/${version}`)
  for (const path of ['/openid/v1/jwks', '/readyz', '/version']) paths.add(path)
  return [...paths].sort()
}
