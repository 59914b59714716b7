import { ApiError, type JsonValue, type KubeObject, type ObjectRef } from '../api/index.ts'
import type { Clock, Logger } from '../stdx/index.ts'
import type { ApiClient, DeleteOptions, KindRef, PatchType } from './api-client.ts'
import { Informer } from './informer.ts'

/** `plural.group` names a kind whatever its version. */
export function resourceOf(kind: KindRef): string {
  return `${kind.plural}.${kind.group}`
}

/** One informer per kind for all controllers of a control plane, and a client whose writes they see at once. */
export class Informers {
  /** Like the client given, and tells the informers what it wrote. */
  readonly client: ApiClient
  private readonly inner: ApiClient
  private readonly clock: Clock
  private readonly log: Logger
  private readonly informers = new Map<string, Informer<KubeObject>>()

  constructor({ client, clock, log }: { client: ApiClient; clock: Clock; log: Logger }) {
    this.inner = client
    this.clock = clock
    this.log = log
    this.client = this.observing(client)
  }

  /** The kind's informer, started when it is asked for the first time. */
  of<T extends KubeObject>(kind: KindRef<T>): Informer<T> {
    const resource = resourceOf(kind)
    let informer = this.informers.get(resource)
    if (!informer) {
      informer = new Informer<KubeObject>({ client: this.inner, kind, clock: this.clock, log: this.log })
      this.informers.set(resource, informer)
      informer.start()
    }
    // One informer per resource: whoever names the kind also names the type of its objects.
    return informer as unknown as Informer<T>
  }

  /** Stops following a kind that is no longer served. */
  async drop(kind: KindRef): Promise<void> {
    const informer = this.informers.get(resourceOf(kind))
    this.informers.delete(resourceOf(kind))
    await informer?.stop()
  }

  async synced(): Promise<void> {
    await Promise.all([...this.informers.values()].map((informer) => informer.synced))
  }

  async stop(): Promise<void> {
    await Promise.all([...this.informers.values()].map((informer) => informer.stop()))
  }

  private observing(client: ApiClient): ApiClient {
    const observe = <T extends KubeObject>(kind: KindRef<T>, object: T): T => {
      // Some sub-resources answer with another kind (Scale, Eviction), which is not of this informer.
      if (object.kind === kind.kind) this.informers.get(resourceOf(kind))?.observe(object)
      return object
    }
    return {
      get: (kind, ref, options) => client.get(kind, ref, options),
      list: (kind, options) => client.list(kind, options),
      watch: (kind, options) => client.watch(kind, options),
      create: async (kind, object, options) => observe(kind, await client.create(kind, object, options)),
      update: async (kind, object, options) => observe(kind, await client.update(kind, object, options)),
      patch: async <T extends KubeObject>(
        kind: KindRef<T>,
        ref: ObjectRef,
        patch: JsonValue,
        options: { type: PatchType; subresource?: string; fieldManager?: string; force?: boolean },
      ) => observe(kind, await client.patch(kind, ref, patch, options)),
      delete: async (kind, ref, options) => {
        const informer = this.informers.get(resourceOf(kind))
        const object = informer?.find(ref)
        await client.delete(kind, ref, options)
        if (object && (!options?.preconditions?.uid || options.preconditions.uid === object.metadata.uid))
          informer?.expectGone(object)
      },
    }
  }
}

/** Creates, and is content when somebody else just has. */
export async function ensureCreated(create: () => Promise<unknown>): Promise<void> {
  try {
    await create()
  } catch (error) {
    if (!isAlreadyExists(error)) throw error
  }
}

/** Deletes, and is content when it is gone or has been replaced by another of its name. */
export async function ensureDeleted(
  client: ApiClient,
  kind: KindRef,
  object: KubeObject,
  options: DeleteOptions = {},
): Promise<void> {
  const { name, namespace, uid } = object.metadata
  try {
    await client.delete(kind, namespace === undefined ? { name } : { namespace, name }, {
      ...options,
      preconditions: { ...options.preconditions, uid },
    })
  } catch (error) {
    if (isNotFound(error) || (isConflict(error) && !options.preconditions?.resourceVersion)) return
    throw error
  }
}

export function isNotFound(error: unknown): boolean {
  return error instanceof ApiError && error.reason === 'NotFound'
}

export function isConflict(error: unknown): boolean {
  return error instanceof ApiError && error.reason === 'Conflict'
}

export function isAlreadyExists(error: unknown): boolean {
  return error instanceof ApiError && error.reason === 'AlreadyExists'
}
