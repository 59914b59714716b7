import type { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import {
  ApiError,
  type KindDefinition,
  type KindRegistry,
  groupVersion,
  internalError,
} from '../api/index.ts'
import type { Answering, Asked } from '../link/index.ts'
import { type Clock, type Logger, assert, SECOND_MS } from '../stdx/index.ts'
import {
  FORMATS,
  type Format,
  MEDIA_TYPES,
  type Offer,
  type Representation,
  TEXT_FORMATS,
  acceptsGzip,
  negotiate,
  notAcceptable,
} from './accept.ts'
import { ContinueExpired } from './continue-token.ts'
import {
  ANSWER_BYTES_HELD_MAX,
  GZIP_BODY_BYTES_MIN,
  LIST_ITEMS_RENDERED_AT_ONCE,
  QUERY_CHARS_MAX,
  REQUEST_BODY_BYTES_MAX,
  WARNING_CHARS_MAX,
  WARNINGS_CHARS_MAX,
  WATCH_STALLED_MS_MAX,
} from './limits.ts'
import type { PlainAnswer } from './plain-paths.ts'
import { parseBoolean } from './options.ts'
import { renderJson, renderJsonList, renderJsonObject, renderJsonTable, withoutType } from './render-json.ts'
import { renderYaml } from './render-yaml.ts'
import { RenderedEvents } from './rendered-events.ts'
import type { ApiResult, RequestBody, WatchItem } from './request.ts'
import type { ResourcePath } from './route.ts'
import {
  type IncludeObject,
  type MetaVersion,
  parseIncludeObject,
  renderPartialObjectMetadata,
  renderPartialObjectMetadataList,
  renderTable,
} from './table.ts'
import { encodeProtobuf, encodeProtobufList, frameWatchEvent, hasProtobuf } from './wire/index.ts'

const compress = promisify(gzip)

/** Everything about answers that HTTP knows and a component in this process does not need. */
export class HttpAnswers {
  private readonly clock: Clock
  private readonly log: Logger
  private readonly rendered = new RenderedEvents()
  /** Of answers that are written and not taken yet. */
  private heldBytes = 0

  constructor({ clock, log }: { clock: Clock; log: Logger }) {
    this.clock = clock
    this.log = log
  }

  /**
   * How the answer is to be written. Afterwards: nothing is done before the NotAcceptable that it may be, and that is told
   * to nobody who may not ask.
   */
  negotiate(
    request: Asked,
    path: ResourcePath,
    query: URLSearchParams,
    registry: Pick<KindRegistry, 'find' | 'virtualKinds'>,
  ): Representation | ApiError {
    // Logs are text whatever was asked for, what a pod answers is between it and the client, and streams negotiate in their own way.
    if (path.subresource === 'log' || path.rest !== undefined) return { format: 'json' }
    const at = ({ group, plural }: { group: string; plural: string }) =>
      group === path.group && plural === path.resource
    const kind = registry.find(path) ?? registry.virtualKinds.find(at)
    const watch =
      request.method === 'GET' && path.subresource === undefined && parseBoolean(query.get('watch')) === true
    // An answer that is computed and never stored has no metadata to show, and so no table.
    const virtual = registry.virtualKinds.some(at)
    const transforms = [
      'Table',
      // A watch of a metadata-only list asks for single objects.
      'PartialObjectMetadata',
      ...(path.name === undefined ? ['PartialObjectMetadataList'] : []),
    ]
    const offer: Offer = {
      // What nothing serves is told in any of them.
      formats: !kind || hasProtobuf(groupVersion(kind), kind.kind) ? FORMATS : TEXT_FORMATS,
      transforms: virtual ? [] : transforms,
      watch,
    }
    return negotiate(request.headers.accept, offer) ?? notAcceptable(offer)
  }

  async send(
    request: Asked,
    response: Answering,
    result: ApiResult,
    {
      wanted,
      query,
      warnings,
    }: { wanted: Representation; query: URLSearchParams; warnings: readonly string[] },
  ): Promise<void> {
    setWarnings(response, warnings)
    switch (result.kind) {
      case 'watch':
        return this.sendWatch(response, result, wanted, parseIncludeObject(query.get('includeObject')))
      case 'text': {
        response.writeHead(200, { 'content-type': 'text/plain', 'cache-control': 'no-cache, private' })
        response.flushHeaders()
        await pour(result.stream, response)
        return
      }
      case 'passed':
        response.writeHead(result.code, result.headers)
        response.flushHeaders()
        await pour(result.stream, response)
        return
      case 'status':
        return this.sendValue(request, response, result.status.code ?? 200, result.status, wanted)
      case 'object':
      case 'list': {
        // Before it is rendered. Only reading is refused: a write has been carried out already.
        if (result.kind === 'list' && this.heldBytes >= ANSWER_BYTES_HELD_MAX)
          throw new ApiError('TooManyRequests', 'Too many answers wait for clients that read slowly', {
            details: { retryAfterSeconds: 1 },
          })
        if (wanted.format === 'json' && !wanted.as) return this.sendJson(request, response, result)
        if (wanted.format === 'json' && wanted.as === 'Table' && result.kind === 'list')
          return this.sendPieces(request, response, 200, this.renderTable(result, wanted, query), 'json')
        const value = this.transform(result, wanted, query)
        const code = result.kind === 'object' ? result.code : 200
        return this.sendValue(request, response, code, value, wanted)
      }
      default:
        result satisfies never
    }
  }

  /** What a client asked to see instead of the object: a table of it, or its metadata only. */
  private transform(
    result: Extract<ApiResult, { kind: 'object' | 'list' }>,
    wanted: Representation,
    query: URLSearchParams,
  ): unknown {
    const { definition } = result
    const version = (wanted.version ?? 'v1') as MetaVersion
    const nowMs = this.clock.nowMs()
    if (result.kind === 'list') {
      const { metadata } = result
      const items = result.items.map(({ object }) => object)
      switch (wanted.as) {
        case 'Table':
          return renderTable(result.definition, items, {
            nowMs,
            includeObject: parseIncludeObject(query.get('includeObject')),
            metadata,
            version,
          })
        case 'PartialObjectMetadataList':
          return renderPartialObjectMetadataList(items, metadata, version)
        default:
          return {
            kind: `${result.definition.kind}List`,
            apiVersion: groupVersion(result.definition),
            metadata,
            items: items.map(withoutType),
          }
      }
    }
    const { object } = result.shown
    if (!definition) return object
    switch (wanted.as) {
      case 'Table':
        return renderTable(definition, [object], {
          nowMs,
          includeObject: parseIncludeObject(query.get('includeObject')),
          version,
        })
      case 'PartialObjectMetadata':
        return renderPartialObjectMetadata(object, version)
      default:
        return object
    }
  }

  /** The table of a list, which is what `kubectl get` asks for. */
  private renderTable(
    { definition, items, metadata }: Extract<ApiResult, { kind: 'list' }>,
    { version = 'v1' }: Representation,
    query: URLSearchParams,
  ): AsyncIterable<Buffer> {
    const includeObject = parseIncludeObject(query.get('includeObject'))
    const options = { nowMs: this.clock.nowMs(), includeObject, metadata, version: version as MetaVersion }
    return renderJsonTable(definition, items, options)
  }

  /** What is asked for most: objects and lists as they are, whose JSON the store has at hand. */
  private sendJson(
    request: Asked,
    response: Answering,
    result: Extract<ApiResult, { kind: 'object' | 'list' }>,
  ): Promise<void> {
    if (result.kind === 'list') {
      const { kind } = result.definition
      const apiVersion = groupVersion(result.definition)
      const shell = { kind: `${kind}List`, apiVersion, metadata: result.metadata }
      const pieces = renderJsonList(shell, result.items, { kind, apiVersion })
      return this.sendPieces(request, response, 200, pieces, 'json')
    }
    const { shown } = result
    const text = `${shown.json?.() ?? JSON.stringify(shown.object)}\n`
    if (text.length >= GZIP_BODY_BYTES_MIN)
      return this.sendPieces(request, response, result.code, [Buffer.from(text)], 'json')
    // Head and body become one write when both are text.
    const bytes = Buffer.byteLength(text)
    response.writeHead(result.code, { ...headersOf('json'), 'content-length': bytes })
    this.hold(response, bytes)
    response.end(text)
    return Promise.resolve()
  }

  private sendValue(
    request: Asked,
    response: Answering,
    code: number,
    value: unknown,
    { format }: Pick<Representation, 'format'>,
  ): Promise<void> {
    return this.sendPieces(request, response, code, render(value, format), format)
  }

  private async sendPieces(
    request: Asked,
    response: Answering,
    code: number,
    rendered: AsyncIterable<Buffer> | Iterable<Buffer>,
    format: Format,
  ): Promise<void> {
    const pieces: Buffer[] = []
    let bytes = 0
    try {
      for await (const piece of rendered) {
        if (response.destroyed) return
        pieces.push(piece)
        bytes += piece.length
        this.heldBytes += piece.length
      }
      if (format === 'protobuf') pieces.reverse()
      await this.sendBytes(request, response, code, pieces, headersOf(format))
    } finally {
      this.heldBytes -= bytes
    }
  }

  private async sendBytes(
    request: Asked,
    response: Answering,
    code: number,
    pieces: readonly Buffer[],
    headers: Record<string, string>,
  ): Promise<void> {
    const length = lengthOf(pieces)
    const compressed = length >= GZIP_BODY_BYTES_MIN && acceptsGzip(request.headers['accept-encoding'])
    const body = compressed ? [await compress(Buffer.concat(pieces), { level: 1 })] : pieces
    const bytes = compressed ? lengthOf(body) : length
    if (response.destroyed) return
    response.writeHead(code, {
      ...headers,
      ...(compressed ? { 'content-encoding': 'gzip', vary: withEncoding(headers['vary']) } : {}),
      'content-length': bytes,
    })
    this.hold(response, bytes)
    // Each as it is: joined they would all be copied.
    for (const piece of body.slice(0, -1)) response.write(piece)
    response.end(body.at(-1))
  }

  /** Counts what a client has not taken yet. */
  private hold(response: Answering, bytes: number): void {
    // Who has left holds nothing, and nothing would tell us again that they left.
    if (response.destroyed) return
    this.heldBytes += bytes
    response.once('close', () => (this.heldBytes -= bytes))
  }

  async sendPlain(request: Asked, response: Answering, answer: PlainAnswer): Promise<void> {
    switch (answer.kind) {
      case 'text':
        response.writeHead(answer.code, {
          'content-type': 'text/plain; charset=utf-8',
          'content-length': Buffer.byteLength(answer.body),
          'x-content-type-options': 'nosniff',
        })
        response.end(answer.body)
        return
      case 'unchanged':
        response.writeHead(304, { etag: answer.etag, vary: 'Accept' })
        response.end()
        return
      case 'document': {
        const { body, contentType, etag } = answer.document
        return this.sendBytes(request, response, 200, [body], {
          'content-type': contentType,
          'cache-control': 'no-cache, private',
          etag,
          vary: 'Accept',
        })
      }
      default:
        answer satisfies never
    }
  }

  /**
   * A Status for anything that went wrong; what it was stays in our log unless it was meant for the client.
   * @param accept as the client sent it: a Status comes in what it accepts, and as JSON when that is nothing we have.
   */
  sendError(
    response: Answering,
    error: unknown,
    { accept, warnings = [] }: { accept: string | undefined; warnings?: readonly string[] },
  ): void {
    const refusal = this.refusalOf(error)
    if (response.headersSent || response.destroyed) {
      response.destroy()
      return
    }
    setWarnings(response, warnings)
    const answer = refusal.toStatus()
    const status =
      refusal instanceof ContinueExpired
        ? { ...answer, metadata: { continue: refusal.continueToken } }
        : answer
    const { format } = negotiate(accept, { formats: FORMATS, transforms: [] }) ?? { format: 'json' }
    const body = renderStatus(status, format)
    const retryAfter = refusal.details?.retryAfterSeconds
    response.writeHead(refusal.code, {
      'content-type': MEDIA_TYPES[format],
      'cache-control': 'no-cache, private',
      'content-length': body.length,
      ...(retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) }),
      // What is left of the body is not read, so the connection cannot be used again.
      ...(refusal.reason === 'RequestEntityTooLarge' ? { connection: 'close' } : {}),
    })
    response.end(body)
  }

  private refusalOf(error: unknown): ApiError {
    if (error instanceof ApiError) {
      if (error.code >= 500 && error.reason === 'InternalError')
        this.log.error('request failed', { error, ...error.log })
      return error
    }
    this.log.error('request failed', { error })
    return internalError(error)
  }

  private async sendWatch(
    response: Answering,
    { definition, items }: Extract<ApiResult, { kind: 'watch' }>,
    wanted: Representation,
    includeObject: IncludeObject,
  ): Promise<void> {
    const iterator = items[Symbol.asyncIterator]()
    const { format } = wanted
    const form = [format, wanted.as, wanted.version, includeObject].join(' ')
    response.writeHead(200, {
      'content-type': format === 'json' ? MEDIA_TYPES.json : `${MEDIA_TYPES[format]};stream=watch`,
      'cache-control': 'no-cache, private',
    })
    response.flushHeaders()
    try {
      for (;;) {
        const next = await iterator.next()
        if (next.done || response.destroyed) break
        // While the client does not read, nothing is taken from the store either, so nothing piles up.
        const event = this.renderedEvent(next.value, form, definition, wanted, includeObject)
        if (!response.write(event)) await this.drained(response)
      }
      response.end()
    } catch (error) {
      if (!(error instanceof ApiError)) {
        this.log.info('watch closed', { error })
        response.destroy()
        return
      }
      response.end(renderEvent('ERROR', error.toStatus(), format))
    } finally {
      await iterator.return?.()
    }
  }

  /** Waits until the connection takes more, and cuts it off when all such connections together hold too much. */
  private async drained(response: Answering): Promise<void> {
    const bytes = response.writableLength
    this.heldBytes += bytes
    try {
      if (this.heldBytes > ANSWER_BYTES_HELD_MAX) response.destroy()
      await drained(response, this.clock)
    } finally {
      this.heldBytes -= bytes
    }
  }

  private renderedEvent(
    item: WatchItem,
    form: string,
    definition: KindDefinition,
    wanted: Representation,
    includeObject: IncludeObject,
  ): Buffer {
    if (item.type === 'BOOKMARK') return renderBookmark(item, definition, wanted)
    const { type, object } = item
    const nowMs = this.clock.nowMs()
    // A table tells ages, in seconds at the finest.
    const at = wanted.as === 'Table' ? Math.floor(nowMs / SECOND_MS) : 0
    const its = `${type} ${at} ${definition.version} ${form}`
    return (
      this.rendered.find(object, its) ??
      this.rendered.keep(
        object,
        its,
        renderObjectEvent({ type, object }, definition, wanted, { includeObject, nowMs }),
      )
    )
  }
}

function renderBookmark(
  item: Extract<WatchItem, { type: 'BOOKMARK' }>,
  definition: KindDefinition,
  { format, as, version: wantedVersion }: Representation,
): Buffer {
  const version = (wantedVersion ?? 'v1') as MetaVersion
  const metadata = {
    resourceVersion: String(item.revision),
    creationTimestamp: null,
    ...(item.initialEventsEnd ? { annotations: initialEventsEnd(definition) } : {}),
  }
  const object =
    as === 'Table'
      ? { ...renderTable(definition, [], { nowMs: 0, includeObject: 'None', version }), metadata }
      : as
        ? { kind: 'PartialObjectMetadata', apiVersion: `meta.k8s.io/${version}`, metadata }
        : { kind: definition.kind, apiVersion: groupVersion(definition), metadata }
  return renderEvent('BOOKMARK', object, format)
}

function renderObjectEvent(
  { type, object }: Exclude<WatchItem, { type: 'BOOKMARK' }>,
  definition: KindDefinition,
  { format, as, version: wantedVersion }: Representation,
  { includeObject, nowMs }: { includeObject: IncludeObject; nowMs: number },
): Buffer {
  const version = (wantedVersion ?? 'v1') as MetaVersion
  switch (as) {
    case 'Table':
      return renderEvent(type, renderTable(definition, [object], { nowMs, includeObject, version }), format)
    case 'PartialObjectMetadata':
    case 'PartialObjectMetadataList':
      return renderEvent(type, renderPartialObjectMetadata(object, version), format)
    default:
      return format === 'protobuf'
        ? frameWatchEvent(type, protobufOf(object))
        : Buffer.from(`{"type":"${type}","object":${renderJsonObject(object)}}\n`)
  }
}

/** What says that all there was has been told, with an empty list of the kind for who makes a list of what came. */
function initialEventsEnd(definition: KindDefinition): Record<string, string> {
  const list = {
    kind: `${definition.kind}List`,
    apiVersion: groupVersion(definition),
    metadata: {},
    items: null,
  }
  return {
    'k8s.io/initial-events-end': 'true',
    'kubernetes.io/initial-events-list-blueprint': Buffer.from(`${JSON.stringify(list)}\n`).toString(
      'base64',
    ),
  }
}

function renderEvent(type: string, object: { apiVersion: string; kind: string }, format: Format): Buffer {
  return format === 'protobuf'
    ? frameWatchEvent(type, protobufOf(object))
    : Buffer.from(`${JSON.stringify({ type, object })}\n`)
}

function lengthOf(pieces: readonly Buffer[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0)
}

function headersOf(format: Format): Record<string, string> {
  return { 'content-type': MEDIA_TYPES[format], 'cache-control': 'no-cache, private' }
}

function withEncoding(vary: string | undefined): string {
  return vary === undefined ? 'Accept-Encoding' : `${vary}, Accept-Encoding`
}

/** An answer in pieces; protobuf's last piece comes first. */
function render(value: unknown, format: Format): AsyncIterable<Buffer> | Iterable<Buffer> {
  switch (format) {
    case 'json':
      return renderJson(value)
    case 'yaml':
      return [Buffer.from(renderYaml(value))]
    case 'protobuf': {
      // Whatever is answered as protobuf has a type; `negotiate` has seen which.
      const typed = value as { apiVersion: string; kind: string; items?: unknown }
      return Array.isArray(typed.items)
        ? encodeProtobufList({ ...typed, items: typed.items }, LIST_ITEMS_RENDERED_AT_ONCE)
        : [protobufOf(typed)]
    }
    default:
      format satisfies never
      return []
  }
}

function renderStatus(status: { apiVersion: string; kind: string }, format: Format): Buffer {
  switch (format) {
    case 'json':
      return Buffer.from(`${JSON.stringify(status)}\n`)
    case 'yaml':
      return Buffer.from(renderYaml(status))
    case 'protobuf':
      return protobufOf(status)
    default:
      format satisfies never
      return Buffer.alloc(0)
  }
}

function protobufOf(object: { apiVersion: string; kind: string }): Buffer {
  const encoded = encodeProtobuf(object)
  assert(encoded, `${object.apiVersion} ${object.kind} has a protobuf encoding`)
  return encoded
}

/**
 * Sends what a stream holds, no faster than the client takes it, and ends with it. Piece by piece as they come: read as a whole,
 * crumbs would look like something larger to those who count them (`ask-pod.ts`).
 */
function pour(stream: Readable, response: Answering): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  stream.on('data', (piece: Buffer | string) => {
    if (response.write(piece)) return
    stream.pause()
    void roomIn(response).then(() => stream.resume())
  })
  stream.once('end', () => {
    response.end()
    resolve()
  })
  stream.once('error', reject)
  stream.once('close', () => reject(new Error('What was to be sent broke off')))
  if (response.destroyed) stream.destroy()
  else response.once('close', () => stream.destroy())
  stream.resume()
  return promise
}

/** Waits until the connection takes more, and cuts it off when it takes nothing for too long. */
async function drained(response: Answering, clock: Clock): Promise<void> {
  const cancel = clock.after(WATCH_STALLED_MS_MAX, () => response.destroy())
  await roomIn(response)
  cancel()
}

/** Waits until the connection takes more, or is gone. */
function roomIn(response: Answering): Promise<void> {
  if (response.destroyed) return Promise.resolve()
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done)
      response.off('close', done)
      resolve()
    }
    response.on('drain', done)
    response.on('close', done)
  })
}

function setWarnings(response: Answering, warnings: readonly string[]): void {
  if (warnings.length === 0 || response.headersSent) return
  response.setHeader('warning', renderWarnings(warnings))
}

/** Values of the header. RFC 9111, 5.5: quoted, and nothing in it can end the header. */
export function renderWarnings(warnings: readonly string[]): string[] {
  // Clients take headers up to a size only; beyond it they would lose the whole answer.
  let left = WARNINGS_CHARS_MAX
  return warnings
    .map((warning) => {
      const text = warning.slice(0, WARNING_CHARS_MAX).replace(/[^\x20-\x7e]/g, '?')
      return `299 - "${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
    })
    .filter((value) => (left -= value.length) >= 0)
}

/**
 * Reads a request's whole body, undefined when there is none.
 * @throws {ApiError} RequestEntityTooLarge
 */
export async function readBody(request: Asked): Promise<RequestBody | undefined> {
  const announced = Number(request.headers['content-length'] ?? 0)
  const tooLarge = () =>
    new ApiError('RequestEntityTooLarge', `Request entity too large: limit is ${REQUEST_BODY_BYTES_MAX}`)
  if (announced > REQUEST_BODY_BYTES_MAX) throw tooLarge()
  const bytes = await request.readBody(REQUEST_BODY_BYTES_MAX).catch((cause: unknown) => {
    throw new ApiError('BadRequest', 'The body of the request ended early', { cause })
  })
  if (!bytes) throw tooLarge()
  if (bytes.length === 0) return undefined
  return {
    kind: 'bytes',
    bytes,
    contentType: request.headers['content-type'],
    contentEncoding: request.headers['content-encoding'],
  }
}

/** Path and query of a request, or undefined when it has none that we would look at. */
export function splitUrl(url: string | undefined): { path: string; query: URLSearchParams } | undefined {
  if (url === undefined || !url.startsWith('/')) return undefined
  const mark = url.indexOf('?')
  const path = mark < 0 ? url : url.slice(0, mark)
  const search = mark < 0 ? '' : url.slice(mark + 1)
  if (search.length > QUERY_CHARS_MAX) return undefined
  return { path, query: new URLSearchParams(search) }
}

/** The query as it came, with its question mark. */
export function searchOf(url = ''): string {
  const mark = url.indexOf('?')
  return mark < 0 ? '' : url.slice(mark)
}
