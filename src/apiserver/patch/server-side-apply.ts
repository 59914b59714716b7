import {
  ApiError,
  type JsonValue,
  type KubeObject,
  type ObjectSchema,
  type StatusCause,
  badRequest,
  invalid,
} from '../../api/index.ts'
import { equalJson, isRecord } from '../json.ts'
import { checkJson } from '../wire/strict-json.ts'
import { type FieldSet, difference, intersection, isEmpty, pathsOf, renderPath, union } from './field-set.ts'
import { APPLY_MANAGERS_MAX, CONFLICTS_MAX } from './limits.ts'
import {
  type Manager,
  type Managers,
  type WriteOrigin,
  compareObjects,
  managerKey,
  ownable,
  parseManagers,
  renderManagers,
  renderTime,
  takeFields,
  withoutManagedFields,
} from './managed-fields.ts'
import {
  compare,
  fieldSetOf,
  mergeApplied,
  nullsOf,
  removePaths,
  withNamedFields,
  zeroObject,
} from './structured-merge.ts'

export type ApplyOrigin = WriteOrigin & {
  /** The object as it is stored, absent when the apply creates it. */
  live: KubeObject | undefined
  /** The configuration: the fields that `manager` wants, and no others. */
  applied: KubeObject
  /** Take over fields that others own with other values. */
  force: boolean
}

const KUBECTL = 'kubectl'
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration'
/** As upstream's limit on all annotations of an object. */
const LAST_APPLIED_BYTES_MAX = 256 * 1024

/**
 * Server-side apply: merges `applied` into `live`, takes away what `manager` applied before and no longer does, and
 * records who owns what. The result has not been checked: it must pass everything that an update must pass. It is `live`
 * itself when nothing changes.
 * https://kubernetes.io/docs/reference/using-api/server-side-apply/
 * @throws {ApiError} Conflict with every path that another manager owns with another value, unless `force`;
 *   BadRequest when the configuration has managedFields; Invalid for too many appliers.
 */
export function serverSideApply(origin: ApplyOrigin): KubeObject {
  const { applied, live, manager, force } = origin
  const sent: unknown = applied.metadata.managedFields
  if (sent !== undefined && sent !== null && !(Array.isArray(sent) && sent.length === 0))
    throw badRequest('metadata.managedFields must be nil')
  const first = attempt(origin, force)
  if (!('conflicts' in first)) return withLastApplied(origin, first.object)
  // What client-side apply set, kubectl may set by server-side apply: both are the same person.
  const excused = manager === KUBECTL ? lastAppliedSet(origin.schema, live) : undefined
  const conflicts = excused
    ? first.conflicts
        .map(({ manager, set }) => ({ manager, set: difference(set, excused) }))
        .filter(({ set }) => !isEmpty(set))
    : first.conflicts
  if (conflicts.length > 0) throw applyConflict(conflicts)
  const forced = attempt(origin, true)
  if ('conflicts' in forced) throw applyConflict(forced.conflicts)
  return withLastApplied(origin, forced.object)
}

type Conflict = { manager: Manager; set: FieldSet }

function attempt(origin: ApplyOrigin, force: boolean): { object: KubeObject } | { conflicts: Conflict[] } {
  const { schema, live, applied, manager, apiVersion, subresource = '', nowMs } = origin
  const managers = managersBefore(origin)
  const key = managerKey({ name: manager, operation: 'Apply', apiVersion, subresource })
  const previous = managers.get(key)
  const before: JsonValue = live ? withoutManagedFields(live) : emptyObject(applied)
  const configuration = withoutManagedFields(applied)
  const wanted = fieldSetOf(schema, configuration)
  const set = ownable(wanted, origin)
  const self: Manager = {
    name: manager,
    operation: 'Apply',
    apiVersion,
    subresource,
    time: previous?.time,
    set,
  }
  managers.set(key, self)

  const merged = mergeApplied(schema, before, configuration, nullsOf(schema))
  const pruned = previous ? prune(schema, merged, managers, { previous: previous.set, wanted }) : merged
  // Pruning can leave a field as null where a struct has lost everything; metadata it never takes away.
  const next = pruned as unknown as KubeObject
  const { changed, removed } = compareObjects(origin, live ?? (before as unknown as KubeObject), next)

  if (!force) {
    const conflicts = [...managers]
      .filter(([other]) => other !== key)
      .map(([, owner]) => ({ manager: owner, set: intersection(owner.set, changed) }))
      .filter((conflict) => !isEmpty(conflict.set))
    if (conflicts.length > 0) return { conflicts }
  }
  takeFields(managers, changed, removed, key)
  const isSame = live !== undefined && equalJson(before, next)
  if (isEmpty(set)) managers.delete(key)
  else if (isSame && previous?.apiVersion === apiVersion && same(previous.set, set))
    managers.set(key, previous)
  // As upstream: the time is when an object last became another, not when somebody else wanted the same.
  else if (!isSame) managers.set(key, { ...self, time: renderTime(nowMs) })
  limitAppliers(managers, origin)
  const managedFields = renderManagers(managers)
  if (live && isSame && equalJson(live.metadata.managedFields, managedFields)) return { object: live }
  const { managedFields: _old, ...metadata } = next.metadata
  return { object: { ...next, metadata: { ...metadata, ...(managedFields ? { managedFields } : {}) } } }
}

/** Who owns what before the apply. An object that nobody tracked belongs to `before-first-apply` as it stands. */
function managersBefore(origin: ApplyOrigin): Managers {
  const { schema, live, apiVersion, subresource = '', nowMs } = origin
  const managers = parseManagers(live?.metadata.managedFields) ?? new Map<string, Manager>()
  if (!live || managers.size > 0) return managers
  const everything = compare(schema, zeroObject(schema), withoutManagedFields(live)).changed
  const unknown = { name: 'before-first-apply', operation: 'Update', apiVersion, subresource } as const
  const set = ownable(everything, origin)
  if (!isEmpty(set)) managers.set(managerKey(unknown), { ...unknown, time: renderTime(nowMs), set })
  return managers
}

function emptyObject({ apiVersion, kind, metadata: { name, namespace } }: KubeObject): JsonValue {
  return {
    apiVersion,
    kind,
    metadata: { ...(name === undefined ? {} : { name }), ...(namespace === undefined ? {} : { namespace }) },
  }
}

/**
 * Takes away what the applier owned before and no longer applies, but nothing that anybody else owns and nothing that
 * nobody applied.
 * @param sets.wanted all that is applied now, with what nobody can own: without its name nothing would keep the metadata
 *   of an object whose labels go.
 */
function prune(
  schema: ObjectSchema,
  merged: JsonValue,
  managers: Managers,
  { previous, wanted }: { previous: FieldSet; wanted: FieldSet },
): JsonValue {
  if (isEmpty(previous)) return merged
  const named = (set: FieldSet) => withNamedFields(schema, set)
  const last = named(previous)
  const remove = (value: JsonValue, set: FieldSet) => removePaths(schema, value, set, nullsOf(schema)) ?? {}
  const without = remove(merged, last)
  const owned = named([...managers.values()].reduce<FieldSet>((all, { set }) => union(all, set), wanted))
  const mergedSet = named(fieldSetOf(schema, merged))
  const unowned = difference(mergedSet, union(named(fieldSetOf(schema, without)), owned))
  const withOwned = remove(merged, unowned)
  const dangling = difference(mergedSet, named(fieldSetOf(schema, withOwned)))
  return remove(merged, intersection(dangling, last))
}

function same(a: FieldSet, b: FieldSet): boolean {
  return isEmpty(difference(a, b)) && isEmpty(difference(b, a))
}

function limitAppliers(managers: Managers, { applied, live, apiVersion, manager }: ApplyOrigin): void {
  const appliers = [...managers.values()].filter(({ operation }) => operation === 'Apply').length
  if (appliers <= APPLY_MANAGERS_MAX) return
  const slash = apiVersion.lastIndexOf('/')
  throw invalid(
    {
      group: slash < 0 ? '' : apiVersion.slice(0, slash),
      kind: applied.kind,
      name: (live ?? applied).metadata.name,
    },
    [
      {
        reason: 'FieldValueTooMany',
        field: 'metadata.managedFields',
        message: `Too many: ${JSON.stringify(manager)} would be one more than the ${APPLY_MANAGERS_MAX} managers that can apply to one object`,
      },
    ],
  )
}

/** 409 in upstream's words, with a cause for each path. */
function applyConflict(conflicts: readonly Conflict[]): ApiError {
  const found = conflicts.flatMap(({ manager, set }) =>
    [...pathsOf(set)].map((path) => ({ manager: renderManagerName(manager), path: renderPath(path) })),
  )
  const [only] = found
  const causes: StatusCause[] = found.slice(0, CONFLICTS_MAX).map(({ manager, path }) => ({
    reason: 'FieldManagerConflict',
    message: `conflict with ${manager}`,
    field: path,
  }))
  const byManager = Map.groupBy(found.slice(0, CONFLICTS_MAX), ({ manager }) => manager)
  const list = [...byManager]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(
      ([manager, paths]) => `conflicts with ${manager}:\n${paths.map(({ path }) => `- ${path}`).join('\n')}`,
    )
  const message =
    found.length === 1 && only
      ? `Apply failed with 1 conflict: conflict with ${only.manager}: ${only.path}`
      : `Apply failed with ${found.length} conflicts: ${list.join('\n')}`
  return new ApiError('Conflict', message, { details: { causes } })
}

function renderManagerName({ name, operation, apiVersion, subresource }: Manager): string {
  const named = `${JSON.stringify(name)}${subresource === '' ? '' : ` with subresource ${JSON.stringify(subresource)}`}`
  return operation === 'Update' ? `${named} using ${apiVersion}` : named
}

/** Paths whose values are still as `kubectl apply` left them on the client side. */
function lastAppliedSet(schema: ObjectSchema, live: KubeObject | undefined): FieldSet | undefined {
  const text = live?.metadata.annotations?.[LAST_APPLIED]
  if (!live || text === undefined || text.length > LAST_APPLIED_BYTES_MAX) return undefined
  let applied: JsonValue
  try {
    applied = JSON.parse(text) as JsonValue
    checkJson(applied)
  } catch {
    return undefined
  }
  if (!isRecord(applied)) return undefined
  const { changed, removed } = compare(schema, applied, withoutManagedFields(live))
  return difference(fieldSetOf(schema, applied), union(changed, removed))
}

/** Keeps the annotation of client-side apply true, for people who mix both. */
function withLastApplied({ manager, applied }: ApplyOrigin, object: KubeObject): KubeObject {
  if (manager !== KUBECTL || !object.metadata.annotations?.[LAST_APPLIED]) return object
  const { annotations, managedFields: _none, ...metadata } = applied.metadata
  const { [LAST_APPLIED]: _itself, ...others } = annotations ?? {}
  const configuration = {
    ...applied,
    metadata: { ...metadata, ...(annotations ? { annotations: others } : {}) },
  }
  const text = `${JSON.stringify(withSortedKeys(configuration as unknown as JsonValue))}\n`
  const value = Buffer.byteLength(text) > LAST_APPLIED_BYTES_MAX ? '' : text
  if (object.metadata.annotations?.[LAST_APPLIED] === value) return object
  return {
    ...object,
    metadata: { ...object.metadata, annotations: { ...object.metadata.annotations, [LAST_APPLIED]: value } },
  }
}

/** As Go writes maps. */
function withSortedKeys(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(withSortedKeys)
  if (!isRecord(value)) return value
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, withSortedKeys(value[key] ?? null)]),
  )
}
