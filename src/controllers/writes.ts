import { ApiError, type JsonValue, type KubeObject, type ObjectRef } from '../api/index.ts'
import type { ApiClient, KindRef } from '../client/index.ts'

/** What went wrong, in words that a tenant may read: only refusals of its own API have any. */
export function messageOf(error: unknown): string {
  return error instanceof ApiError ? error.message : 'Internal error occurred'
}

export function refOfObject({ metadata: { namespace, name } }: KubeObject): ObjectRef {
  return namespace === undefined ? { name } : { namespace, name }
}

/** Replaces the status, if the object is still the one that the status was computed from. */
export async function writeStatus<T extends KubeObject>(
  client: ApiClient,
  kind: KindRef<T>,
  object: T,
  status: object,
): Promise<T> {
  return client.update(kind, { ...object, status }, { subresource: 'status' })
}

/** Changes fields, if the object is still the one that was looked at. */
export async function mergePatch<T extends KubeObject>(
  client: ApiClient,
  kind: KindRef<T>,
  object: T,
  patch: { [field: string]: JsonValue },
): Promise<T> {
  const { uid, resourceVersion } = object.metadata
  const metadata = { ...(patch['metadata'] as Record<string, JsonValue> | undefined), uid, resourceVersion }
  return client.patch(
    kind,
    refOfObject(object),
    { ...patch, metadata },
    { type: 'application/merge-patch+json' },
  )
}
