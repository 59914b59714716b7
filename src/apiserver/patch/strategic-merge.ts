import {
  type JsonValue,
  type ListSchema,
  type ObjectSchema,
  type Schema,
  badRequest,
  schemaOf,
} from '../../api/index.ts'
import { cloneJson, isRecord } from '../json.ts'

type Json = { [key: string]: JsonValue }

const DIRECTIVE = '$patch'
const RETAIN_KEYS = '$retainKeys'
const ELEMENT_ORDER = '$setElementOrder/'
const DELETE_PRIMITIVES = '$deleteFromPrimitiveList/'

/**
 * Applies a strategic merge patch to a copy of `document`. Which lists merge, and by which key, comes from the schema; a
 * field that the schema does not have merges as in a merge patch, so that its refusal is found in the result.
 * https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
 * @throws {ApiError} BadRequest
 */
export function applyStrategicMergePatch(
  document: JsonValue,
  patch: JsonValue,
  schema: ObjectSchema,
): JsonValue {
  if (!isRecord(patch)) throw badRequest('error decoding patch: a strategic merge patch is an object')
  return mergeObject(isRecord(document) ? document : {}, patch, schema)
}

function mergeObject(original: Json, patch: Json, schema: Schema | undefined): Json {
  switch (patch[DIRECTIVE]) {
    case undefined:
    case 'merge':
      break
    case 'replace':
      return withoutDirectives(patch)
    case 'delete':
      return {}
    default:
      throw badRequest(
        `unknown patch directive ${JSON.stringify(patch[DIRECTIVE])}: use replace, delete or merge`,
      )
  }
  const merged: Json = {}
  const retained = retainedKeys(patch)
  for (const [key, value] of Object.entries(original))
    if (!retained || retained.has(key)) merged[key] = cloneJson(value)
  const lists = listDirectives(patch)
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith('$') && isDirective(key)) continue
    if (value === null) {
      delete merged[key]
      continue
    }
    const before = Object.hasOwn(merged, key) ? merged[key] : undefined
    const of = fieldSchema(schema, key)
    if (isRecord(value)) merged[key] = mergeObject(isRecord(before) ? before : {}, value, of)
    else if (Array.isArray(value) && of?.type === 'list' && merges(of))
      merged[key] = mergeList(Array.isArray(before) ? before : [], value, of, key, lists.get(key))
    else merged[key] = withoutDirectives(value)
  }
  for (const [key, directives] of lists) {
    const before = Object.hasOwn(merged, key) ? merged[key] : undefined
    if (Object.hasOwn(patch, key) || !Array.isArray(before)) continue
    const of = fieldSchema(schema, key)
    if (of?.type === 'list' && merges(of)) merged[key] = mergeList(before, [], of, key, directives)
  }
  return merged
}

type ListDirectives = { order?: JsonValue[]; deleted?: JsonValue[] }

function listDirectives(patch: Json): Map<string, ListDirectives> {
  const lists = new Map<string, ListDirectives>()
  for (const [key, value] of Object.entries(patch)) {
    const kind = key.startsWith(ELEMENT_ORDER)
      ? 'order'
      : key.startsWith(DELETE_PRIMITIVES)
        ? 'deleted'
        : undefined
    if (!kind) continue
    if (!Array.isArray(value)) throw badRequest(`the patch directive ${JSON.stringify(key)} must be a list`)
    const field = key.slice(key.indexOf('/') + 1)
    lists.set(field, { ...lists.get(field), [kind]: value })
  }
  return lists
}

function isDirective(key: string): boolean {
  return (
    key === DIRECTIVE ||
    key === RETAIN_KEYS ||
    key.startsWith(ELEMENT_ORDER) ||
    key.startsWith(DELETE_PRIMITIVES)
  )
}

function retainedKeys(patch: Json): Set<JsonValue> | undefined {
  const keys = patch[RETAIN_KEYS]
  if (keys === undefined) return undefined
  if (!Array.isArray(keys) || !keys.every((key) => typeof key === 'string'))
    throw badRequest('the patch directive "$retainKeys" must be a list of field names')
  const retained = new Set<JsonValue>(keys)
  const extra = Object.keys(patch).find(
    (key) => !isDirective(key) && patch[key] !== null && !retained.has(key),
  )
  if (extra !== undefined)
    throw badRequest(`the patch sets ${JSON.stringify(extra)}, which its "$retainKeys" does not list`)
  return retained
}

function fieldSchema(schema: Schema | undefined, key: string): Schema | undefined {
  if (schema?.type === 'map') return schema.values
  if (schema?.type !== 'object' || !Object.hasOwn(schema.fields, key)) return undefined
  const field = schema.fields[key]
  return field && schemaOf(field)
}

function merges(schema: ListSchema): boolean {
  return schema.patchStrategy?.split(',').includes('merge') ?? false
}

function mergeList(
  original: JsonValue[],
  patch: JsonValue[],
  schema: ListSchema,
  field: string,
  directives: ListDirectives = {},
): JsonValue[] {
  const { patchMergeKey: mergeKey } = schema
  return mergeKey === undefined
    ? mergeScalars(original, patch, directives)
    : mergeByKey(original, patch, schema.items, mergeKey, field, directives)
}

function mergeScalars(
  original: JsonValue[],
  patch: JsonValue[],
  { order, deleted }: ListDirectives,
): JsonValue[] {
  for (const list of [patch, order, deleted])
    if (list?.some((item) => typeof item === 'object'))
      throw badRequest('a strategic merge patch of a list of plain values can hold nothing but plain values')
  const gone = new Set(deleted).difference(new Set(patch))
  const merged = [...new Set([...original.filter((item) => !gone.has(item)), ...patch])]
  return ordered(merged, order ?? patch, original, (item) => item)
}

function mergeByKey(
  original: JsonValue[],
  patch: JsonValue[],
  items: Schema,
  mergeKey: string,
  field: string,
  { order }: ListDirectives,
): JsonValue[] {
  const keyOf = (item: JsonValue): JsonValue => {
    const key = isRecord(item) && Object.hasOwn(item, mergeKey) ? item[mergeKey] : undefined
    if (key === undefined || key === null || typeof key === 'object')
      throw badRequest(`an item of "${field}" does not contain declared merge key: ${mergeKey}`)
    return key
  }
  const gone = new Set<JsonValue>()
  const changes: Json[] = []
  for (const item of patch) {
    if (!isRecord(item)) throw badRequest(`an item of "${field}" in a strategic merge patch is not an object`)
    if (item[DIRECTIVE] === 'replace') {
      // Anywhere in the list it means the whole list: what stands beside it is the new content.
      const rest = patch.filter(
        (other) => !(isRecord(other) && other[DIRECTIVE] === 'replace' && isOnlyDirective(other)),
      )
      return rest.map((other) => withoutDirectives(other))
    }
    if (item[DIRECTIVE] === 'delete') gone.add(keyOf(item))
    else changes.push(item)
  }
  const kept = original.filter((item) => !(isRecord(item) && gone.has(item[mergeKey] ?? null)))
  const merged = kept.map((item) => cloneJson(item))
  const positions = new Map(merged.map((item, at) => [isRecord(item) ? item[mergeKey] : undefined, at]))
  for (const change of changes) {
    const key = keyOf(change)
    const at = positions.get(key)
    const existing = at === undefined ? undefined : merged[at]
    if (at !== undefined && isRecord(existing)) merged[at] = mergeObject(existing, change, items)
    else {
      positions.set(key, merged.length)
      merged.push(mergeObject({}, change, items))
    }
  }
  const key = (item: JsonValue): JsonValue => (isRecord(item) ? (item[mergeKey] ?? null) : item)
  return ordered(merged, order ?? changes, original, key)
}

/**
 * Upstream's order: items the patch names come in the patch's order; the others keep theirs, before the first item of
 * the patch that was behind them.
 */
function ordered(
  merged: JsonValue[],
  patchOrder: readonly JsonValue[],
  serverOrder: readonly JsonValue[],
  keyOf: (item: JsonValue) => JsonValue,
): JsonValue[] {
  const inPatch = new Map(patchOrder.map((item, at) => [keyOf(item), at]))
  const onServer = new Map(serverOrder.map((item, at) => [keyOf(item), at]))
  const byOrder = (order: Map<JsonValue, number>) => (a: JsonValue, b: JsonValue) =>
    (order.get(keyOf(a)) ?? order.size) - (order.get(keyOf(b)) ?? order.size)
  const left = merged.filter((item) => !inPatch.has(keyOf(item))).sort(byOrder(onServer))
  const right = merged.filter((item) => inPatch.has(keyOf(item))).sort(byOrder(inPatch))
  const result: JsonValue[] = []
  let at = 0
  for (const item of right) {
    const position = onServer.get(keyOf(item)) ?? -1
    for (let next = left[at]; next !== undefined; next = left[at]) {
      if ((onServer.get(keyOf(next)) ?? Infinity) > position) break
      result.push(next)
      at++
    }
    result.push(item)
  }
  return [...result, ...left.slice(at)]
}

function isOnlyDirective(item: Json): boolean {
  return Object.keys(item).length === 1
}

/** What a patch puts where nothing was: without nulls and directives, at any depth of objects. */
function withoutDirectives(value: JsonValue): JsonValue & Json
function withoutDirectives(value: JsonValue): JsonValue
function withoutDirectives(value: JsonValue): JsonValue {
  if (Array.isArray(value)) {
    return value
      .filter((item) => !(isRecord(item) && item[DIRECTIVE] !== undefined && isOnlyDirective(item)))
      .map((item) => withoutDirectives(item))
  }
  if (!isRecord(value)) return value
  const plain: Json = {}
  for (const [key, item] of Object.entries(value))
    if (!isDirective(key) && item !== null) plain[key] = withoutDirectives(item)
  return plain
}
