import type { JsonValue, KubeObject, ListMeta, ObjectRef, WatchEvent } from '../api/index.ts'

/** Names a kind for a client; `T` is the type of its objects. */
export type KindRef<T extends KubeObject = KubeObject> = {
  group: string
  version: string
  kind: string
  plural: string
  namespaced: boolean
  /** Never set; carries the type. */
  readonly __object?: T
}

export type ListOptions = { namespace?: string; labelSelector?: string; fieldSelector?: string }

export type DeleteOptions = {
  gracePeriodSeconds?: number
  propagationPolicy?: 'Orphan' | 'Background' | 'Foreground'
  preconditions?: { uid?: string; resourceVersion?: string }
}

export type PatchType =
  | 'application/json-patch+json'
  | 'application/merge-patch+json'
  | 'application/strategic-merge-patch+json'
  | 'application/apply-patch+yaml'

/**
 * The verbs of Kubernetes. Every method throws `ApiError`. Objects that come back are shared: copy before changing.
 * Within a control plane it is wired straight to the API server, through the same path as a request from outside.
 */
export interface ApiClient {
  get<T extends KubeObject>(kind: KindRef<T>, ref: ObjectRef, options?: { subresource?: string }): Promise<T>
  list<T extends KubeObject>(
    kind: KindRef<T>,
    options?: ListOptions,
  ): Promise<{ items: T[]; metadata: ListMeta }>
  /** Changes after `resourceVersion`, with bookmarks. Throws ApiError `Expired` when that is too long ago. */
  watch<T extends KubeObject>(
    kind: KindRef<T>,
    options: ListOptions & { resourceVersion: string; signal: AbortSignal },
  ): AsyncIterable<WatchEvent<T>>
  create<T extends KubeObject>(
    kind: KindRef<T>,
    object: unknown,
    options?: { subresource?: string; ref?: ObjectRef },
  ): Promise<T>
  update<T extends KubeObject>(kind: KindRef<T>, object: T, options?: { subresource?: string }): Promise<T>
  patch<T extends KubeObject>(
    kind: KindRef<T>,
    ref: ObjectRef,
    patch: JsonValue,
    options: { type: PatchType; subresource?: string; fieldManager?: string; force?: boolean },
  ): Promise<T>
  delete(kind: KindRef, ref: ObjectRef, options?: DeleteOptions): Promise<void>
}
