import type { JsonValue, KubeObject, ListMeta, ObjectRef, UserInfo, WatchEvent } from '../api/index.ts'
import type { ApiClient, DeleteOptions, KindRef, ListOptions, PatchType } from '../client/index.ts'
import { NO_COST } from './cost.ts'
import type { Dispatcher } from './dispatcher.ts'
import { methodNotAllowed } from './refusals.ts'
import type { ApiResult, RequestBody, ResourceRequest } from './request.ts'

/** The verbs for a component in this process: the same path as a request from outside, without HTTP around it. */
export class InProcessClient implements ApiClient {
  private readonly dispatcher: Dispatcher
  private readonly user: UserInfo
  private readonly signal: AbortSignal

  constructor({
    dispatcher,
    component,
    signal,
  }: {
    dispatcher: Dispatcher
    component: string
    signal: AbortSignal
  }) {
    this.dispatcher = dispatcher
    this.user = { kind: 'component', name: component }
    this.signal = signal
  }

  async get<T extends KubeObject>(
    kind: KindRef<T>,
    ref: ObjectRef,
    { subresource }: { subresource?: string } = {},
  ): Promise<T> {
    return objectOf(await this.execute('GET', kind, ref, subresource ? { subresource } : {}))
  }

  async list<T extends KubeObject>(
    kind: KindRef<T>,
    options: ListOptions = {},
  ): Promise<{ items: T[]; metadata: ListMeta }> {
    const result = await this.execute('GET', kind, placeOf(options), { query: selectorsOf(options) })
    if (result.kind !== 'list') throw methodNotAllowed()
    const items = result.items.map(({ object }) => object as T) // the kind says what its objects are
    return { items, metadata: result.metadata }
  }

  async *watch<T extends KubeObject>(
    kind: KindRef<T>,
    options: ListOptions & { resourceVersion: string; signal: AbortSignal },
  ): AsyncIterable<WatchEvent<T>> {
    const query = selectorsOf(options)
    query.set('watch', 'true')
    query.set('resourceVersion', options.resourceVersion)
    query.set('allowWatchBookmarks', 'true')
    const signal = AbortSignal.any([this.signal, options.signal])
    const result = await this.execute('GET', kind, placeOf(options), { query, signal })
    if (result.kind !== 'watch') throw methodNotAllowed()
    for await (const item of result.items)
      if (item.type === 'BOOKMARK')
        yield { type: 'BOOKMARK', object: { metadata: { resourceVersion: String(item.revision) } } }
      else yield { type: item.type, object: item.object as T }
  }

  async create<T extends KubeObject>(
    kind: KindRef<T>,
    object: unknown,
    { subresource, ref }: { subresource?: string; ref?: ObjectRef } = {},
  ): Promise<T> {
    const metadata = (object as { metadata?: { namespace?: string } }).metadata
    const place = ref ?? (metadata?.namespace === undefined ? {} : { namespace: metadata.namespace })
    return objectOf(
      await this.execute('POST', kind, place, {
        body: valueBody(object),
        ...(subresource ? { subresource } : {}),
      }),
    )
  }

  async update<T extends KubeObject>(
    kind: KindRef<T>,
    object: T,
    { subresource }: { subresource?: string } = {},
  ): Promise<T> {
    const { name, namespace } = object.metadata
    const ref = { name, ...(namespace === undefined ? {} : { namespace }) }
    return objectOf(
      await this.execute('PUT', kind, ref, {
        body: valueBody(object),
        ...(subresource ? { subresource } : {}),
      }),
    )
  }

  async patch<T extends KubeObject>(
    kind: KindRef<T>,
    ref: ObjectRef,
    patch: JsonValue,
    options: { type: PatchType; subresource?: string; fieldManager?: string; force?: boolean },
  ): Promise<T> {
    const query = new URLSearchParams()
    if (options.fieldManager !== undefined) query.set('fieldManager', options.fieldManager)
    if (options.force !== undefined) query.set('force', String(options.force))
    const { subresource } = options
    const body: RequestBody = { kind: 'value', value: patch, contentType: options.type }
    return objectOf(
      await this.execute('PATCH', kind, ref, { query, body, ...(subresource ? { subresource } : {}) }),
    )
  }

  async delete(kind: KindRef, ref: ObjectRef, options?: DeleteOptions): Promise<void> {
    await this.execute('DELETE', kind, ref, options ? { body: valueBody(options) } : {})
  }

  private execute(
    method: ResourceRequest['method'],
    { group, version, plural, namespaced }: KindRef,
    { namespace, name }: Partial<ObjectRef>,
    {
      query = new URLSearchParams(),
      body,
      subresource,
      signal = this.signal,
    }: { query?: URLSearchParams; body?: RequestBody; subresource?: string; signal?: AbortSignal } = {},
  ): Promise<ApiResult> {
    return this.dispatcher.execute({
      method,
      path: {
        kind: 'resource',
        group,
        version,
        resource: plural,
        ...(namespaced && namespace !== undefined ? { namespace } : {}),
        ...(name === undefined ? {} : { name }),
        ...(subresource === undefined ? {} : { subresource }),
      },
      query,
      user: this.user,
      userAgent: '',
      readBody: () => Promise.resolve(body),
      signal,
      warnings: [],
      auditNotes: [],
      cost: NO_COST,
    })
  }
}

function objectOf<T extends KubeObject>(result: ApiResult): T {
  switch (result.kind) {
    case 'object':
      return result.shown.object as T // the kind says what its objects are
    case 'status':
      return result.status as unknown as T // eviction and its like answer with a Status
    case 'list':
    case 'watch':
    case 'text':
    case 'passed':
      throw methodNotAllowed()
    default:
      result satisfies never
      throw methodNotAllowed()
  }
}

function placeOf({ namespace }: ListOptions): Partial<ObjectRef> {
  return namespace === undefined ? {} : { namespace }
}

function selectorsOf({ labelSelector, fieldSelector }: ListOptions): URLSearchParams {
  const query = new URLSearchParams()
  if (labelSelector) query.set('labelSelector', labelSelector)
  if (fieldSelector) query.set('fieldSelector', fieldSelector)
  return query
}

function valueBody(value: unknown): RequestBody {
  return { kind: 'value', value, contentType: 'application/json' }
}
