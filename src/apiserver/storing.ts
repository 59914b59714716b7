import { ApiError, type KindDefinition, type KubeObject, customResourceDefinitionKind } from '../api/index.ts'
import { RBAC_GROUP } from '../policy/index.ts'
import { StoredTooLarge, StoreFull, type StoredObject } from '../store/index.ts'
import { type Context, objectKey } from './context.ts'
import { OBJECT_BYTES_MAX } from './limits.ts'

export function isNamespace({ group, plural }: KindDefinition): boolean {
  return group === '' && plural === 'namespaces'
}

export function isService({ group, plural }: KindDefinition): boolean {
  return group === '' && plural === 'services'
}

export function isCustomResourceDefinition({ group, plural }: KindDefinition): boolean {
  return group === customResourceDefinitionKind.group && plural === customResourceDefinitionKind.plural
}

/** Objects of a custom kind are stored as one version, whichever a client writes. */
export function storedForm(
  { custom, view }: KindDefinition,
  object: KubeObject,
  old: KubeObject | undefined,
): KubeObject {
  if (view) return view.store(object, old)
  return custom && object.apiVersion !== custom.storedVersion
    ? { ...object, apiVersion: custom.storedVersion }
    : object
}

/**
 * Writes an object in place of `old` (nothing, when undefined) and lets those who keep an index of the store know,
 * before anybody is told that it is written.
 * @throws {RevisionConflict} when somebody came in between.
 * @throws {ApiError} when the object or the partition is too large.
 */
export async function writeStored(
  context: Context,
  definition: KindDefinition,
  object: KubeObject,
  old: StoredObject | undefined,
): Promise<StoredObject> {
  const { store, addresses, authorizer } = context
  const key = objectKey(definition, object.metadata.namespace, object.metadata.name)
  const service = isService(definition)
  const giveBack = service ? addresses.take(object, old?.object) : undefined
  let stored: StoredObject
  try {
    stored = await store.put(key, storedForm(definition, object, old?.object), old?.revision ?? 0)
  } catch (error) {
    giveBack?.()
    throw refusalOfStore(error, definition, object.metadata.name)
  }
  if (service && old && addressOf(old.object) !== addressOf(stored.object)) addresses.release(old.object)
  if (definition.group === RBAC_GROUP) {
    authorizer.observe(stored.object)
    context.standing.changed()
  }
  if (isCustomResourceDefinition(definition)) context.customKinds.observe(stored.object)
  return stored
}

/** What a service would get, for a dry run: taken, written into `object`, and given back. */
export function tryAddresses(
  context: Context,
  definition: KindDefinition,
  object: KubeObject,
  old?: KubeObject,
): void {
  if (isService(definition)) context.addresses.take(object, old)()
}

/** @throws {RevisionConflict} when somebody came in between. */
export async function removeStored(
  context: Context,
  definition: KindDefinition,
  stored: StoredObject,
): Promise<{ revision: number }> {
  try {
    const { revision, previous } = await context.store.delete(stored.key, stored.revision)
    if (isService(definition)) context.addresses.release(previous)
    if (definition.group === RBAC_GROUP) context.authorizer.observe(previous, true)
    if (isWhatRightsFollowFrom(definition)) context.standing.changed()
    if (isCustomResourceDefinition(definition)) context.customKinds.observe(previous, true)
    return { revision }
  } catch (error) {
    throw refusalOfStore(error, definition, stored.object.metadata.name)
  }
}

/** Roles and bindings; accounts, and the pods and secrets that tokens are bound to. */
function isWhatRightsFollowFrom({ group, plural }: KindDefinition): boolean {
  return group === RBAC_GROUP || (group === '' && ['serviceaccounts', 'pods', 'secrets'].includes(plural))
}

function refusalOfStore(error: unknown, { group, plural }: KindDefinition, name: string): unknown {
  if (error instanceof StoredTooLarge) return tooLarge(name, error.bytes, error.bytesMax)
  if (!(error instanceof StoreFull)) return error
  return new ApiError(
    'Forbidden',
    `${group ? `${plural}.${group}` : plural} ${JSON.stringify(name)} is forbidden: exceeded quota: ${error.message}`,
    { details: { name, ...(group ? { group } : {}), kind: plural } },
  )
}

function addressOf(service: KubeObject): string | undefined {
  return (service['spec'] as { clusterIP?: string } | undefined)?.clusterIP
}

/** What the store would say to an object that it is not given. @throws {ApiError} RequestEntityTooLarge */
export function checkSize(object: KubeObject): void {
  const bytes = Buffer.byteLength(JSON.stringify(object))
  if (bytes > OBJECT_BYTES_MAX) throw tooLarge(object.metadata.name, bytes, OBJECT_BYTES_MAX)
}

function tooLarge(name: string, bytes: number, bytesMax: number): ApiError {
  return new ApiError(
    'RequestEntityTooLarge',
    `The object ${JSON.stringify(name)} takes ${bytes} bytes, more than ${bytesMax}`,
  )
}
