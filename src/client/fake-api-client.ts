import { randomUUID } from 'node:crypto'
import {
  ApiError,
  alreadyExists,
  conflict,
  expired,
  forbidden,
  type JsonValue,
  type KubeObject,
  type ListMeta,
  notFound,
  type ObjectRef,
  type WatchEvent,
} from '../api/index.ts'
import { type Clock, systemClock } from '../stdx/index.ts'
import type { ApiClient, DeleteOptions, KindRef, ListOptions, PatchType } from './api-client.ts'
import { resourceOf } from './informers.ts'

type Change = {
  resource: string
  revision: number
  type: 'ADDED' | 'MODIFIED' | 'DELETED'
  object: KubeObject
}

export type FakeRequest = {
  verb: 'get' | 'list' | 'create' | 'update' | 'patch' | 'delete'
  kind: KindRef
  name: string
  body?: unknown
}

const DEFAULT_GRACE_SECONDS = 30

/**
 * An API server in memory for tests of controllers: revisions and conflicts, watches with history, finalizers,
 * propagation policies, graceful deletion of pods, the status sub-resource, generations, and namespaces that end.
 */
export class FakeApiClient implements ApiClient {
  private readonly clock: Clock
  private readonly objects = new Map<string, KubeObject>()
  private history: Change[] = []
  private oldest = 0
  private revision = 1
  private wake: PromiseWithResolvers<void> = Promise.withResolvers()
  /** Called before every request; what it throws is the answer. */
  intercept: ((request: FakeRequest) => void) | undefined
  /** Every write that changed something, in order, as `verb plural[/subresource] namespace/name`. */
  readonly writes: string[] = []

  constructor({ clock = systemClock }: { clock?: Clock } = {}) {
    this.clock = clock
  }

  get<T extends KubeObject>(
    kind: KindRef<T>,
    ref: ObjectRef,
    { subresource }: { subresource?: string } = {},
  ): Promise<T> {
    if (subresource !== undefined)
      return Promise.reject(new ApiError('MethodNotAllowed', `The fake knows no ${subresource}`))
    return this.request({ verb: 'get', kind, name: ref.name }, () => this.must(kind, ref))
  }

  list<T extends KubeObject>(
    kind: KindRef<T>,
    options: ListOptions = {},
  ): Promise<{ items: T[]; metadata: ListMeta }> {
    return this.request({ verb: 'list', kind, name: '' }, () => ({
      items: this.all(kind).filter(
        (o) => options.namespace === undefined || o.metadata.namespace === options.namespace,
      ),
      metadata: { resourceVersion: String(this.revision) },
    }))
  }

  async *watch<T extends KubeObject>(
    kind: KindRef<T>,
    { resourceVersion, signal, namespace }: ListOptions & { resourceVersion: string; signal: AbortSignal },
  ): AsyncIterable<WatchEvent<T>> {
    let after = Number(resourceVersion)
    if (after < this.oldest) throw expired()
    const aborted = new Promise<void>((resolve) =>
      signal.addEventListener('abort', () => resolve(), { once: true }),
    )
    while (!signal.aborted) {
      if (after < this.oldest) throw expired()
      const changes = this.history.filter((c) => c.revision > after && c.resource === resourceOf(kind))
      for (const { type, object, revision } of changes) {
        after = revision
        if (namespace !== undefined && object.metadata.namespace !== namespace) continue
        // The kind named by the caller is the kind of every object kept under its resource.
        yield { type, object: object as T }
      }
      if (changes.length === 0) await Promise.race([this.wake.promise, aborted])
    }
  }

  create<T extends KubeObject>(
    kind: KindRef<T>,
    object: unknown,
    options: { subresource?: string; ref?: ObjectRef } = {},
  ): Promise<T> {
    // Tests hand in objects as they would be on the wire.
    const body = structuredClone(object) as KubeObject
    return this.request(
      { verb: 'create', kind, name: options.ref?.name ?? body.metadata.name ?? '', body },
      () => {
        if (options.subresource === 'binding' && options.ref) return this.bind(kind, options.ref, body)
        const { metadata } = body
        if (!metadata.name && metadata.generateName)
          metadata.name = `${metadata.generateName}${randomUUID().replaceAll('-', '').slice(0, 5)}`
        const key = this.key(kind, metadata)
        if (this.objects.has(key))
          throw alreadyExists({ group: kind.group, resource: kind.plural, name: metadata.name })
        this.checkNamespace(kind, metadata)
        delete metadata.deletionTimestamp
        const created = {
          ...body,
          apiVersion: kind.group ? `${kind.group}/${kind.version}` : kind.version,
          kind: kind.kind,
          metadata: {
            ...metadata,
            uid: randomUUID(),
            creationTimestamp: this.now(),
            ...(body['spec'] === undefined ? {} : { generation: 1 }),
          },
        } as KubeObject
        if (kind.kind === 'Namespace') created['spec'] = { finalizers: ['kubernetes'] }
        if (kind.kind === 'Pod') created['status'] ??= { phase: 'Pending' }
        return this.store<T>('create', kind, 'ADDED', created)
      },
    )
  }

  update<T extends KubeObject>(
    kind: KindRef<T>,
    object: T,
    options: { subresource?: string } = {},
  ): Promise<T> {
    const body = structuredClone(object)
    return this.request({ verb: 'update', kind, name: object.metadata.name, body }, () => {
      const current = this.must(kind, object.metadata)
      return this.replace(kind, current, body, 'update', options.subresource)
    })
  }

  patch<T extends KubeObject>(
    kind: KindRef<T>,
    ref: ObjectRef,
    patch: JsonValue,
    { type, subresource }: { type: PatchType; subresource?: string },
  ): Promise<T> {
    return this.request({ verb: 'patch', kind, name: ref.name, body: patch }, () => {
      const current = this.must(kind, ref)
      if (type !== 'application/merge-patch+json')
        throw new ApiError('UnsupportedMediaType', `The fake knows no ${type}`)
      return this.replace(kind, current, mergePatch(current, patch) as T, 'patch', subresource)
    })
  }

  delete(kind: KindRef, ref: ObjectRef, options: DeleteOptions = {}): Promise<void> {
    return this.request({ verb: 'delete', kind, name: ref.name, body: options }, () => {
      const current = this.must(kind, ref)
      const { preconditions } = options
      const named = { group: kind.group, resource: kind.plural, name: ref.name }
      if (preconditions?.uid !== undefined && preconditions.uid !== current.metadata.uid)
        throw conflict(named, 'Precondition failed: UID')
      if (
        preconditions?.resourceVersion !== undefined &&
        preconditions.resourceVersion !== current.metadata.resourceVersion
      )
        throw conflict(named, 'Precondition failed: ResourceVersion')
      this.remove(kind, current, options)
    })
  }

  /** Forgets the history, as a compaction does: a watch from before then gets 410 Expired. */
  compact(): void {
    this.history = []
    this.oldest = this.revision
    this.wakeWatchers()
  }

  /** Changes an object behind everybody's back, as some other client would. */
  async change<T extends KubeObject>(
    kind: KindRef<T>,
    ref: ObjectRef,
    change: (object: T) => void,
  ): Promise<T> {
    const current = this.must(kind, ref)
    const next = structuredClone(current)
    change(next)
    return this.store<T>('change', kind, 'MODIFIED', next)
  }

  all<T extends KubeObject>(kind: KindRef<T>): T[] {
    const prefix = `${resourceOf(kind)}/`
    return [...this.objects].filter(([key]) => key.startsWith(prefix)).map(([, object]) => object as T)
  }

  find<T extends KubeObject>(kind: KindRef<T>, ref: ObjectRef): T | undefined {
    return this.objects.get(this.key(kind, ref)) as T | undefined
  }

  private must<T extends KubeObject>(kind: KindRef<T>, ref: ObjectRef): T {
    const found = this.find(kind, ref)
    if (!found) throw notFound({ group: kind.group, resource: kind.plural, name: ref.name })
    return found
  }

  private async request<R>(request: FakeRequest, answer: () => R): Promise<R> {
    // Even the nearest server answers later, never within the call.
    await Promise.resolve()
    this.intercept?.(request)
    return answer()
  }

  private replace<T extends KubeObject>(
    kind: KindRef<T>,
    current: T,
    body: T,
    verb: string,
    subresource?: string,
  ): T {
    if (body.metadata.resourceVersion && body.metadata.resourceVersion !== current.metadata.resourceVersion)
      throw conflict({ group: kind.group, resource: kind.plural, name: current.metadata.name })
    if (body.metadata.uid && body.metadata.uid !== current.metadata.uid)
      throw conflict(
        { group: kind.group, resource: kind.plural, name: current.metadata.name },
        'Precondition failed: UID',
      )
    let next: KubeObject
    if (subresource === 'status') next = { ...current, status: body['status'] }
    else if (subresource === 'finalize') next = { ...current, spec: body['spec'] }
    else if (subresource !== undefined)
      throw new ApiError('NotFound', `The fake knows no sub-resource ${subresource}`)
    else
      next = {
        ...body,
        ...(current['status'] === undefined ? {} : { status: current['status'] }),
        metadata: {
          ...body.metadata,
          uid: current.metadata.uid,
          creationTimestamp: current.metadata.creationTimestamp,
          ...deletionOf(current),
        },
      }
    const specChanged = JSON.stringify(next['spec']) !== JSON.stringify(current['spec'])
    next = {
      ...next,
      metadata: {
        ...next.metadata,
        resourceVersion: current.metadata.resourceVersion,
        ...(next.metadata.generation === undefined
          ? {}
          : { generation: (current.metadata.generation ?? 1) + (specChanged ? 1 : 0) }),
      },
    }
    if (JSON.stringify(next) === JSON.stringify(current)) return current
    const stored = this.store<T>(subresource ? `${verb} ${subresource}` : verb, kind, 'MODIFIED', next)
    if (stored.metadata.deletionTimestamp && isFree(kind, stored)) this.drop(kind, stored)
    return stored
  }

  private bind<T extends KubeObject>(kind: KindRef<T>, ref: ObjectRef, body: KubeObject): T {
    const pod = this.must(kind, ref)
    const target = body['target'] as { name: string }
    const spec = { ...(pod['spec'] as object), nodeName: target.name }
    return this.store<T>('bind', kind, 'MODIFIED', { ...pod, spec })
  }

  private remove(kind: KindRef, current: KubeObject, options: DeleteOptions): void {
    const metadata = { ...current.metadata }
    const finalizers = new Set(metadata.finalizers)
    if (options.propagationPolicy === 'Foreground') finalizers.add('foregroundDeletion').delete('orphan')
    if (options.propagationPolicy === 'Orphan') finalizers.add('orphan').delete('foregroundDeletion')
    if (options.propagationPolicy === 'Background') {
      finalizers.delete('orphan')
      finalizers.delete('foregroundDeletion')
    }
    const pod = current['spec'] as { nodeName?: string; terminationGracePeriodSeconds?: number } | undefined
    let grace = 0
    if (kind.kind === 'Pod' && pod?.nodeName)
      grace = options.gracePeriodSeconds ?? pod.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS
    if (metadata.deletionTimestamp) grace = Math.min(grace, metadata.deletionGracePeriodSeconds ?? grace)
    const dying = {
      ...current,
      metadata: {
        ...metadata,
        ...(finalizers.size > 0 ? { finalizers: [...finalizers] } : {}),
        deletionTimestamp: metadata.deletionTimestamp ?? this.now(),
        deletionGracePeriodSeconds: grace,
      },
    }
    if (finalizers.size === 0) delete (dying.metadata as { finalizers?: string[] }).finalizers
    if (kind.kind === 'Namespace') (dying as KubeObject)['status'] = { phase: 'Terminating' }
    if (isFree(kind, dying) && grace === 0) this.drop(kind, dying)
    else if (JSON.stringify(dying) !== JSON.stringify(current)) this.store('delete', kind, 'MODIFIED', dying)
  }

  private drop(kind: KindRef, object: KubeObject): void {
    this.objects.delete(this.key(kind, object.metadata))
    this.append(kind, 'DELETED', object)
    this.writes.push(`drop ${kind.plural} ${object.metadata.namespace ?? ''}/${object.metadata.name}`)
  }

  private store<T extends KubeObject>(
    verb: string,
    kind: KindRef<T>,
    type: Change['type'],
    object: KubeObject,
  ): T {
    const [name, subresource] = verb.split(' ')
    const path = subresource ? `${kind.plural}/${subresource}` : kind.plural
    this.writes.push(`${name} ${path} ${object.metadata.namespace ?? ''}/${object.metadata.name}`)
    const stored = this.append(kind, type, object)
    this.objects.set(this.key(kind, stored.metadata), stored)
    return stored as T
  }

  private append(kind: KindRef, type: Change['type'], object: KubeObject): KubeObject {
    this.revision += 1
    const revised = { ...object, metadata: { ...object.metadata, resourceVersion: String(this.revision) } }
    this.history.push({
      resource: resourceOf(kind),
      revision: this.revision,
      type,
      object: deepFreeze(revised),
    })
    this.wakeWatchers()
    return revised
  }

  private wakeWatchers(): void {
    this.wake.resolve()
    this.wake = Promise.withResolvers()
  }

  private checkNamespace(kind: KindRef, { namespace, name }: { namespace?: string; name: string }): void {
    if (!kind.namespaced || namespace === undefined) return
    const found = this.objects.get(`namespaces.//${namespace}`)
    if (found?.metadata.deletionTimestamp)
      throw forbidden(
        { group: kind.group, resource: kind.plural, name },
        { tell: `unable to create new content in namespace ${namespace} because it is being terminated` },
      )
  }

  private key(kind: KindRef, { namespace, name }: { namespace?: string; name: string }): string {
    return `${resourceOf(kind)}/${kind.namespaced ? (namespace ?? '') : ''}/${name}`
  }

  private now(): string {
    return new Date(this.clock.nowMs()).toISOString().replace(/\.\d+Z$/, 'Z')
  }
}

function isFree(kind: KindRef, object: KubeObject): boolean {
  if (object.metadata.finalizers?.length) return false
  if (kind.kind === 'Pod' && (object.metadata.deletionGracePeriodSeconds ?? 0) > 0) return false
  const finalizers = (object['spec'] as { finalizers?: string[] } | undefined)?.finalizers
  return !(kind.kind === 'Namespace' && finalizers?.length)
}

function deletionOf({ metadata }: KubeObject): Partial<KubeObject['metadata']> {
  return {
    ...(metadata.deletionTimestamp === undefined ? {} : { deletionTimestamp: metadata.deletionTimestamp }),
    ...(metadata.deletionGracePeriodSeconds === undefined
      ? {}
      : { deletionGracePeriodSeconds: metadata.deletionGracePeriodSeconds }),
  }
}

function mergePatch(target: unknown, patch: JsonValue): unknown {
  if (patch === null || typeof patch !== 'object' || Array.isArray(patch)) return structuredClone(patch)
  const merged: Record<string, unknown> =
    target !== null && typeof target === 'object' && !Array.isArray(target) ? { ...target } : {}
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) delete merged[field]
    else if (value !== undefined) merged[field] = mergePatch(merged[field], value)
  }
  return merged
}

function deepFreeze<T>(value: T): T {
  if (value !== null && typeof value === 'object' && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const inner of Object.values(value)) deepFreeze(inner)
  }
  return value
}
