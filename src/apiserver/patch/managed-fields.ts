import type { JsonValue, KubeObject, ManagedFieldsEntry, ObjectSchema } from '../../api/index.ts'
import { isRecord } from '../json.ts'
import {
  EMPTY_FIELD_SET,
  type FieldSet,
  difference,
  filterFirst,
  intersection,
  isEmpty,
  parseFieldSet,
  renderFieldSet,
  union,
} from './field-set.ts'
import { UPDATE_MANAGERS_MAX } from './limits.ts'
import { compare, zeroObject } from './structured-merge.ts'

/** One writer and the fields it set. */
export type Manager = {
  readonly name: string
  readonly operation: 'Apply' | 'Update'
  readonly apiVersion: string
  readonly subresource: string
  readonly time: string | undefined
  readonly set: FieldSet
  /** The entry as it is stored, as long as it says the same. */
  readonly entry?: ManagedFieldsEntry
}

/** Managers by who they are: the same name is another manager for another operation or sub-resource. */
export type Managers = Map<string, Manager>

export type WriteOrigin = {
  schema: ObjectSchema
  /** The field manager, or what stands for it: the first part of the User-Agent. */
  manager: string
  apiVersion: string
  subresource?: string | undefined
  nowMs: number
  /** True when `status` can be set at `/status` only: no other write owns anything in it. */
  hasStatus?: boolean | undefined
}

/**
 * What `metadata.managedFields` becomes after a write that is not an apply: fields that it changed now belong to
 * `manager` alone. A write that changes nothing changes no entry and no time.
 * @param write.live the object before, absent for a create.
 * @param write.next the object as it will be stored; its own managedFields are what the client sent.
 * @returns undefined when there are none.
 */
export function trackUpdate(
  write: WriteOrigin & { live: KubeObject | undefined; next: KubeObject },
): ManagedFieldsEntry[] | undefined {
  const { live, next, manager, apiVersion, subresource = '', nowMs } = write
  const managers = knownManagers(live, next, subresource)
  // As upstream: who has wiped an object's managedFields does not want them back with the next update.
  if (live && managers.size === 0) return undefined
  const { changed, removed } = compareObjects(write, live, next)
  // As upstream: a scale is followed when somebody has said before how many there are to be.
  const isOwned = [...managers.values()].some(({ set }) => !isEmpty(intersection(set, changed)))
  if (live && subresource === 'scale' && !isOwned) return renderManagers(managers)
  takeFields(managers, changed, removed, undefined)
  if (!isEmpty(changed)) {
    const key = managerKey({ name: manager, operation: 'Update', apiVersion, subresource })
    const set = union(managers.get(key)?.set ?? EMPTY_FIELD_SET, changed)
    managers.set(key, {
      name: manager,
      operation: 'Update',
      apiVersion,
      subresource,
      time: renderTime(nowMs),
      set,
    })
  }
  joinOldUpdates(managers)
  return renderManagers(managers)
}

/** Objects as compared: without what the server keeps itself, and only the part that this write can own. */
export function compareObjects(
  origin: Pick<WriteOrigin, 'schema' | 'subresource' | 'hasStatus'>,
  live: KubeObject | undefined,
  next: KubeObject,
): { changed: FieldSet; removed: FieldSet } {
  const before = live ? withoutManagedFields(live) : zeroObject(origin.schema)
  const { changed, removed } = compare(origin.schema, before, withoutManagedFields(next))
  return { changed: ownable(changed, origin), removed: ownable(removed, origin) }
}

/** Fields that nobody owns, because a server sets them or because they are what the object is called. */
const UNOWNED_METADATA: readonly string[] = [
  'f:name',
  'f:namespace',
  'f:creationTimestamp',
  'f:selfLink',
  'f:uid',
  'f:generation',
  'f:managedFields',
  'f:resourceVersion',
]

/** The part of a set that a write there can own. */
export function ownable(
  set: FieldSet,
  { schema, subresource, hasStatus }: Pick<WriteOrigin, 'schema' | 'subresource' | 'hasStatus'>,
): FieldSet {
  const owned = filterFirst(set, (element) => {
    // Annotations can be written with a status, but not those of custom kinds.
    if (subresource === 'status')
      return element === 'f:status' || (element === 'f:metadata' && !schema.openApi)
    return (
      element !== 'f:apiVersion' &&
      element !== 'f:kind' &&
      !(element === 'f:status' && hasStatus && !subresource)
    )
  })
  const metadata = owned.children.get('f:metadata')
  if (!metadata) return owned.member ? { ...owned, member: false } : owned
  const rest = filterFirst(metadata, (element) =>
    subresource === 'status' ? element === 'f:annotations' : !UNOWNED_METADATA.includes(element),
  )
  const children = new Map(owned.children)
  if (rest.children.size === 0) children.delete('f:metadata')
  else children.set('f:metadata', { member: false, children: rest.children })
  return { member: false, children }
}

/** Takes what a write changed or removed from everybody but `except`. */
export function takeFields(
  managers: Managers,
  changed: FieldSet,
  removed: FieldSet,
  except: string | undefined,
): void {
  if (isEmpty(changed) && isEmpty(removed)) return
  for (const [key, manager] of managers) {
    if (key === except) continue
    const set = difference(difference(manager.set, changed), removed)
    if (set === manager.set) continue
    if (isEmpty(set)) managers.delete(key)
    else managers.set(key, changedManager(manager, { set }))
  }
}

export function changedManager(manager: Manager, change: Partial<Manager>): Manager {
  const { entry: _said, ...rest } = manager
  return { ...rest, ...change }
}

export function withoutManagedFields(object: KubeObject): JsonValue {
  const { managedFields: _left, ...metadata } = object.metadata
  // Objects are JSON; only their type says less.
  return { ...object, metadata } as unknown as JsonValue
}

/**
 * Whose word counts: what the client sent if it makes sense, because clients may edit managedFields, else what is
 * stored. A list of one empty entry wipes them; an empty list comes from clients that do not know the field.
 */
function knownManagers(live: KubeObject | undefined, next: KubeObject, subresource: string): Managers {
  const stored = () => parseManagers(live?.metadata.managedFields) ?? new Map<string, Manager>()
  if (subresource !== '') return stored()
  const sent: unknown = next.metadata.managedFields
  if (Array.isArray(sent) && sent.length === 1 && isRecord(sent[0]) && Object.keys(sent[0]).length === 0)
    return new Map()
  const managers = parseManagers(sent)
  return managers && managers.size > 0 ? managers : stored()
}

/** @returns undefined when it is not a list of entries as they are stored. */
export function parseManagers(entries: unknown): Managers | undefined {
  if (entries === undefined || entries === null) return new Map()
  if (!Array.isArray(entries)) return undefined
  const managers: Managers = new Map()
  for (const entry of entries as unknown[]) {
    if (!isRecord(entry)) return undefined
    const { manager = '', operation, apiVersion = '', subresource = '', time, fieldsType, fieldsV1 } = entry
    if (operation !== 'Apply' && operation !== 'Update') return undefined
    if (typeof manager !== 'string' || typeof apiVersion !== 'string' || typeof subresource !== 'string')
      return undefined
    if (fieldsType !== 'FieldsV1' || (time !== undefined && time !== null && typeof time !== 'string'))
      return undefined
    const set = parseFieldSet(fieldsV1 ?? {})
    if (!set) return undefined
    const parsed: Manager = {
      name: manager,
      operation,
      apiVersion,
      subresource,
      time: time ?? undefined,
      set,
    }
    const key = managerKey(parsed)
    const twin = managers.get(key)
    // The checks above are those of an entry; `fieldsV1` has its own.
    if (twin) managers.set(key, { ...parsed, set: union(twin.set, set) })
    else managers.set(key, { ...parsed, entry: entry as ManagedFieldsEntry })
  }
  return managers
}

/** An applier stays the same when it moves to another version; an updater does not. */
export function managerKey({
  name,
  operation,
  apiVersion,
  subresource,
}: Pick<Manager, 'name' | 'operation' | 'apiVersion' | 'subresource'>): string {
  return JSON.stringify([operation, name, subresource, operation === 'Apply' ? '' : apiVersion])
}

/** Joins the oldest Update entries of a version, so that writers under ever new names cannot grow an object. */
function joinOldUpdates(managers: Managers): void {
  const updates = [...managers].filter(([, manager]) => manager.operation === 'Update')
  let excess = updates.length - UPDATE_MANAGERS_MAX
  if (excess <= 0) return
  updates.sort(([, a], [, b]) => compareManagers(a, b))
  for (const [key, manager] of updates) {
    if (excess <= 0) return
    const bucket = {
      name: 'ancient-changes',
      operation: 'Update',
      apiVersion: manager.apiVersion,
      subresource: '',
    } as const
    const bucketKey = managerKey(bucket)
    if (key === bucketKey) continue
    const existing = managers.get(bucketKey)
    managers.delete(key)
    managers.set(bucketKey, {
      ...bucket,
      time: manager.time,
      set: union(existing?.set ?? EMPTY_FIELD_SET, manager.set),
    })
    // The first of a version only changes its name.
    if (existing) excess--
  }
}

export function renderManagers(managers: Managers): ManagedFieldsEntry[] | undefined {
  if (managers.size === 0) return undefined
  return [...managers.values()].sort(compareManagers).map(renderManager)
}

function renderManager({
  name,
  operation,
  apiVersion,
  subresource,
  time,
  set,
  entry,
}: Manager): ManagedFieldsEntry {
  if (entry) return entry
  return {
    manager: name,
    operation,
    apiVersion,
    ...(time === undefined ? {} : { time }),
    fieldsType: 'FieldsV1',
    fieldsV1: renderFieldSet(set),
    ...(subresource === '' ? {} : { subresource }),
  }
}

function compareManagers(a: Manager, b: Manager): number {
  return (
    compareText(a.operation, b.operation) ||
    compareText(a.time ?? '', b.time ?? '') ||
    compareText(a.name, b.name) ||
    compareText(a.apiVersion, b.apiVersion) ||
    compareText(a.subresource, b.subresource)
  )
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

export function renderTime(nowMs: number): string {
  return `${new Date(nowMs).toISOString().slice(0, 19)}Z`
}
