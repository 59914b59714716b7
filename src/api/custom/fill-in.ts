import type { JsonValue } from '../meta.ts'
import { additionalSchema, isRecord, type JsonSchema, ownField } from './json-schema.ts'

// How an object becomes what its schema says: unknown fields go, defaults come. Both give back what they got when there
// is nothing to do, and never change it: stored objects are shared.

type Json = { [key: string]: JsonValue }

/**
 * The value without the fields that the schema does not have.
 * @param unknown takes their paths.
 */
export function prune(schema: JsonSchema, value: JsonValue, path: string, unknown: string[] = []): JsonValue {
  if (Array.isArray(value)) {
    const { items } = schema
    if (!items) return value
    return mapped(value, (item, index) => prune(items, item, `${path}[${index}]`, unknown))
  }
  if (!isRecord(value)) return value
  const keepsUnknown = schema['x-kubernetes-preserve-unknown-fields'] === true
  const embedded = schema['x-kubernetes-embedded-resource'] === true
  const additional = additionalSchema(schema)
  const keepsAll = keepsUnknown || schema.additionalProperties === true
  const object = value as Json // JSON has no other objects
  let copy: Json | undefined
  for (const key of Object.keys(object)) {
    if (embedded && (key === 'apiVersion' || key === 'kind' || key === 'metadata')) continue
    const field = ownField(schema.properties, key) ?? additional
    const at = path === '' ? key : `${path}.${key}`
    if (!field) {
      if (keepsAll) continue
      unknown.push(at)
      copy ??= { ...object }
      delete copy[key]
      continue
    }
    const before = object[key]!
    const after = prune(field, before, at, unknown)
    if (after !== before) (copy ??= { ...object })[key] = after
  }
  return copy ?? object
}

/**
 * The value without nulls where none may be and no default takes their place: to whom writes Go, null and absent are one.
 */
export function dropNulls(schema: JsonSchema | undefined, value: JsonValue): JsonValue {
  if (Array.isArray(value)) return mapped(value, (item) => dropNulls(schema?.items, item))
  if (!isRecord(value)) return value
  const object = value as Json
  let copy: Json | undefined
  for (const key of Object.keys(object)) {
    const field = schema && (ownField(schema.properties, key) ?? additionalSchema(schema))
    const before = object[key]!
    if (before === null && field && !field.nullable && field.default === undefined) {
      copy ??= { ...object }
      delete copy[key]
      continue
    }
    const after = dropNulls(field, before)
    if (after !== before) (copy ??= { ...object })[key] = after
  }
  return copy ?? object
}

/** Counts what defaults add, because each of them may be added once per item of a list. */
export class DefaultBudget {
  left: number
  constructor(bytes: number) {
    this.left = bytes
  }
}

const sizes = new WeakMap<JsonSchema, number>()
function sizeOfDefault(schema: JsonSchema): number {
  let size = sizes.get(schema)
  if (size === undefined) sizes.set(schema, (size = JSON.stringify(schema.default)?.length ?? 0))
  return size
}

const withDefaults = new WeakMap<JsonSchema, boolean>()
function hasDefaults(schema: JsonSchema): boolean {
  let has = withDefaults.get(schema)
  if (has === undefined) {
    const additional = additionalSchema(schema)
    const inner = [schema.items ?? [], Object.values(schema.properties ?? {}), additional ?? []].flat()
    has = inner.some((each) => each.default !== undefined || hasDefaults(each))
    withDefaults.set(schema, has)
  }
  return has
}

/**
 * The value with the defaults of absent fields; a null where none may be counts as absent. What is added is shared with
 * the schema. Afterwards: a budget below 0 means that not everything was filled in.
 */
export function fillDefaults(schema: JsonSchema, value: JsonValue, budget: DefaultBudget): JsonValue {
  if (!hasDefaults(schema)) return value
  if (Array.isArray(value)) {
    const { items } = schema
    return items ? mapped(value, (item) => fillInner(items, item, budget)) : value
  }
  if (!isRecord(value)) return value
  const object = value as Json
  let copy: Json | undefined
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    let present = ownField(object, name)
    if (field.default !== undefined && (present === undefined || (present === null && !field.nullable))) {
      budget.left -= sizeOfDefault(field)
      if (budget.left < 0) return copy ?? object
      ;(copy ??= { ...object })[name] = present = field.default
    }
    if (present === undefined) continue
    const filled = fillDefaults(field, present, budget)
    if (filled !== present) (copy ??= { ...object })[name] = filled
  }
  const additional = additionalSchema(schema)
  if (additional)
    for (const key of Object.keys(object)) {
      if (ownField(schema.properties, key)) continue
      const before = object[key]!
      const after = fillInner(additional, before, budget)
      if (after !== before) (copy ??= { ...object })[key] = after
    }
  return copy ?? object
}

/** An item of a list or a map is always there, so its default only takes the place of a null that may not be. */
function fillInner(schema: JsonSchema, value: JsonValue, budget: DefaultBudget): JsonValue {
  if (value !== null || schema.nullable || schema.default === undefined)
    return fillDefaults(schema, value, budget)
  budget.left -= sizeOfDefault(schema)
  return budget.left < 0 ? value : fillDefaults(schema, schema.default, budget)
}

function mapped(list: JsonValue[], change: (item: JsonValue, index: number) => JsonValue): JsonValue[] {
  let copy: JsonValue[] | undefined
  list.forEach((item, index) => {
    const after = change(item, index)
    if (after !== item) (copy ??= [...list])[index] = after
  })
  return copy ?? list
}
