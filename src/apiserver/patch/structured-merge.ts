import {
  type JsonValue,
  type ListSchema,
  type MapSchema,
  type ObjectSchema,
  type Schema,
  schemaOf,
} from '../../api/index.ts'
import { equalJson, isRecord } from '../json.ts'
import { type FieldSet, FieldSetBuilder, isEmpty } from './field-set.ts'

// What the schema says about values: which parts of two objects differ, which paths an object sets, and how an applied
// configuration merges into an object. The rules are those of structured-merge-diff.
// https://github.com/kubernetes-sigs/structured-merge-diff

type Json = { [key: string]: JsonValue }
/** undefined: the field is not there. */
type Value = JsonValue | undefined

type Composite =
  | { type: 'fields'; schemaOf: (key: string) => Schema | undefined }
  | { type: 'items'; list: ListSchema }

/** How a value is taken apart, or undefined when it is one whole: scalars and everything atomic. */
function compositeOf(schema: Schema | undefined): Composite | undefined {
  switch (schema?.type) {
    case 'object':
    case 'map':
      if (schema.atomic) return undefined
      return { type: 'fields', schemaOf: (key) => schemaAt(schema, key) }
    case 'list':
      return schema.listType === 'atomic' ? undefined : { type: 'items', list: schema }
    default:
      return undefined
  }
}

function schemaAt(schema: ObjectSchema | MapSchema, key: string): Schema | undefined {
  return schema.type === 'object' ? fieldSchema(schema, key) : schema.values
}

function fieldSchema(schema: ObjectSchema, key: string): Schema | undefined {
  if (!Object.hasOwn(schema.fields, key)) return schema.others
  const field = schema.fields[key]
  return field && schemaOf(field)
}

/** A tenant's key may be one that every object inherits, such as `constructor`. */
function own(object: Json, key: string): Value {
  return Object.hasOwn(object, key) ? object[key] : undefined
}

/** The path element of a list item: of one that is found by its keys, those in alphabetical order, as `keyElement`. */
export function itemElement(list: ListSchema, item: JsonValue): string {
  if (list.listType !== 'map' || !isRecord(item)) return `v:${JSON.stringify(item)}`
  let keys = ''
  for (const { key, written } of sortedKeys(list)) {
    const given = own(item, key)
    const value = given === undefined ? keyDefault(list, key) : given
    if (value !== undefined) keys += `${keys === '' ? '' : ','}${written}:${JSON.stringify(value)}`
  }
  return `k:{${keys}}`
}

/** As it is called, and as JSON. */
type ListKey = { key: string; written: string }
const sorted = new WeakMap<ListSchema, readonly ListKey[]>()
function sortedKeys(list: ListSchema): readonly ListKey[] {
  let keys = sorted.get(list)
  if (!keys) {
    keys = [...(list.listMapKeys ?? [])].sort().map((key) => ({ key, written: JSON.stringify(key) }))
    sorted.set(list, keys)
  }
  return keys
}

/** A port without a protocol is the TCP port. */
function keyDefault({ items }: ListSchema, key: string): Value {
  if (items.type !== 'object' || !Object.hasOwn(items.fields, key)) return undefined
  return items.fields[key]?.default as Value
}

export type Comparison = {
  /** Paths that are new or have another value. */
  changed: FieldSet
  removed: FieldSet
}

/**
 * Compares two objects path by path. A value that comes or goes as a whole counts with everything in it.
 */
export function compare(schema: ObjectSchema, before: Value, after: Value): Comparison {
  const walk = new CompareWalk(nullsOf(schema))
  walk.value(schema, before, after)
  return { changed: walk.changed.set, removed: walk.removed.set }
}

class CompareWalk {
  readonly changed = new FieldSetBuilder()
  readonly removed = new FieldSetBuilder()
  private readonly nulls: Nulls

  constructor(nulls: Nulls) {
    this.nulls = nulls
  }

  value(schema: Schema | undefined, before: Value, after: Value): void {
    if (before === after) return
    switch (schema?.type) {
      case 'object':
      case 'map':
        if (schema.atomic) break
        if (canBe(before, isRecord) && canBe(after, isRecord) && (hasKeys(before) || hasKeys(after))) {
          this.fields(schema, before, after)
          return this.presence(before, after)
        }
        // What was taken apart became one whole, or the other way round: where nothing says what it is, that can be.
        if (before !== undefined && after !== undefined && isRecord(before) !== isRecord(after))
          this.fields(schema, isRecord(before) ? before : undefined, isRecord(after) ? after : undefined)
        break
      case 'list':
        if (schema.listType === 'atomic') break
        if (
          canBe(before, Array.isArray) &&
          canBe(after, Array.isArray) &&
          (before?.length || after?.length)
        ) {
          this.items(schema, before ?? [], after ?? [])
          return this.presence(before, after)
        }
        break
      default:
    }
    if (before === undefined) this.changed.insert()
    else if (after === undefined) this.removed.insert()
    else if (
      !equalJson(before, after) &&
      !(this.nulls === 'left out' && isNothing(before) && isNothing(after))
    )
      this.changed.insert()
  }

  /** The path of something taken apart, when it came or went as a whole. */
  private presence(before: Value, after: Value): void {
    if (before === undefined) this.changed.insert()
    else if (after === undefined) this.removed.insert()
  }

  private fields(
    schema: ObjectSchema | MapSchema,
    before: Json | null | undefined,
    after: Json | null | undefined,
  ): void {
    for (const key in before) {
      const left = own(before, key)
      const right = after ? own(after, key) : undefined
      if (left !== right && left !== undefined) this.at(`f:${key}`, schemaAt(schema, key), left, right)
    }
    for (const key in after) {
      const right = own(after, key)
      if (right !== undefined && (!before || own(before, key) === undefined))
        this.at(`f:${key}`, schemaAt(schema, key), undefined, right)
    }
  }

  private items(list: ListSchema, before: JsonValue[], after: JsonValue[]): void {
    const left = groupItems(list, before)
    const right = groupItems(list, after)
    for (const [element, items] of left) this.group(list, element, items, right.get(element))
    for (const [element, items] of right) if (!left.has(element)) this.group(list, element, undefined, items)
  }

  private group(
    list: ListSchema,
    element: string,
    before: JsonValue[] | undefined,
    after: JsonValue[] | undefined,
  ): void {
    // Items with the same key cannot be told apart, so they are compared together.
    if ((before?.length ?? 0) > 1 || (after?.length ?? 0) > 1) this.at(element, undefined, before, after)
    else this.at(element, list.items, before?.[0], after?.[0])
  }

  private at(element: string, schema: Schema | undefined, before: Value, after: Value): void {
    this.changed.begin(element)
    this.removed.begin(element)
    this.value(schema, before, after)
    this.changed.end()
    this.removed.end()
  }
}

function groupItems(list: ListSchema, items: JsonValue[]): Map<string, JsonValue[]> {
  const groups = new Map<string, JsonValue[]>()
  for (const item of items) {
    const element = itemElement(list, item)
    const group = groups.get(element)
    if (group) group.push(item)
    else groups.set(element, [item])
  }
  return groups
}

function canBe<T extends JsonValue>(
  value: Value,
  is: (value: unknown) => value is T,
): value is T | null | undefined {
  return value === undefined || value === null || is(value)
}

function hasKeys(value: Json | null | undefined): boolean {
  for (const _key in value) return true
  return false
}

function isNothing(value: JsonValue): boolean {
  return value === null || (Array.isArray(value) ? value.length === 0 : isRecord(value) && !hasKeys(value))
}

/** The paths that a configuration sets, which its applier will own. */
export function fieldSetOf(schema: Schema, value: JsonValue): FieldSet {
  const set = new FieldSetBuilder()
  const visit = (of: Schema | undefined, node: JsonValue): void => {
    const composite = compositeOf(of)
    if (composite?.type === 'fields' && isRecord(node)) {
      for (const [key, item] of Object.entries(node)) {
        const fieldOf = composite.schemaOf(key)
        set.begin(`f:${key}`)
        visit(fieldOf, item)
        // Keys of a map are set by themselves; fields of a struct only through what is in them.
        const isKey = of?.type !== 'object' || !Object.hasOwn(of.fields, key)
        if (isKey || item === null || (isRecord(item) && !hasKeys(item))) set.insert()
        set.end()
      }
    } else if (composite?.type === 'items' && Array.isArray(node)) {
      for (const item of node) {
        set.begin(itemElement(composite.list, item))
        visit(composite.list.items, item)
        set.insert()
        set.end()
      }
    } else if (!composite || node !== null) set.insert()
  }
  visit(schema, value)
  return { member: false, children: set.set.children }
}

/** What becomes of null: built-in kinds have no place for it, and custom ones may. */
export type Nulls = 'kept' | 'left out'

/** How a kind treats null. */
export function nullsOf(schema: ObjectSchema): Nulls {
  return schema.openApi ? 'kept' : 'left out'
}

/**
 * Merges a configuration into an object: fields and items that the configuration has replace those of the object, and
 * everything else stays. Null takes a single value away, and leaves alone what is in an object or list.
 */
export function mergeApplied(
  schema: Schema | undefined,
  live: Value,
  applied: JsonValue,
  nulls: Nulls,
): JsonValue {
  const composite = compositeOf(schema)
  if (applied === null && composite && live !== undefined && !isNothing(live)) {
    const isWhole = composite.type === 'fields' ? isRecord(live) : Array.isArray(live)
    if (isWhole) return live
  }
  if (composite?.type === 'fields' && isRecord(applied)) {
    const before = isRecord(live) ? live : {}
    const merged: Json = { ...before }
    for (const [key, value] of Object.entries(applied)) {
      const item = mergeApplied(composite.schemaOf(key), own(before, key), value, nulls)
      if (item === null && nulls === 'left out') delete merged[key]
      else merged[key] = item
    }
    return merged
  }
  if (composite?.type === 'items' && Array.isArray(applied) && Array.isArray(live))
    return mergeItems(composite.list, live, applied, nulls)
  return nulls === 'kept' ? applied : withoutNulls(applied)
}

/** The applied items in their order; an item that only the object has stays behind the one it was behind. */
function mergeItems(list: ListSchema, live: JsonValue[], applied: JsonValue[], nulls: Nulls): JsonValue[] {
  const liveElements = live.map((item) => itemElement(list, item))
  const appliedElements = applied.map((item) => itemElement(list, item))
  const wanted = new Set(appliedElements)
  const liveItems = groupItems(list, live)
  const shared = appliedElements.filter((element) => liveItems.has(element))
  const merged: JsonValue[] = []
  let nextShared = 0
  let left = 0
  let right = 0
  while (left < live.length || right < applied.length) {
    const leftElement = liveElements[left]
    const rightElement = appliedElements[right]
    const leftItem = live[left]
    const rightItem = applied[right]
    if (leftElement !== undefined && leftItem !== undefined) {
      if (!wanted.has(leftElement)) {
        merged.push(leftItem)
        left++
        continue
      }
      // A shared item that is not the next one has been or will be merged where the configuration puts it.
      if (rightElement !== leftElement && shared[nextShared] !== leftElement) {
        left++
        continue
      }
    }
    if (rightElement === undefined || rightItem === undefined) {
      left++
      continue
    }
    merged.push(mergeApplied(list.items, liveItems.get(rightElement)?.[0], rightItem, nulls))
    if (shared[nextShared] === rightElement) nextShared++
    if (leftElement === rightElement) left++
    right++
  }
  return merged
}

function withoutNulls(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map((item) => withoutNulls(item))
  if (!isRecord(value)) return value
  const plain: Json = {}
  for (const [key, item] of Object.entries(value)) if (item !== null) plain[key] = withoutNulls(item)
  return plain
}

/**
 * A copy of `value` without the paths in `set`, each with everything below it.
 * @returns undefined when nothing is left of something that was taken apart.
 */
export function removePaths(
  schema: Schema | undefined,
  value: JsonValue,
  set: FieldSet,
  nulls: Nulls,
): Value {
  const composite = compositeOf(schema)
  if (composite?.type === 'fields' && isRecord(value) && hasKeys(value)) {
    const rest: Json = {}
    for (const [key, item] of Object.entries(value)) {
      const kept = removeOne(composite.schemaOf(key), item, set.children.get(`f:${key}`), nulls)
      if (kept !== undefined) rest[key] = kept
    }
    return hasKeys(rest) ? rest : undefined
  }
  if (composite?.type === 'items' && Array.isArray(value) && value.length > 0) {
    const rest = value.flatMap((item) => {
      const below = set.children.get(itemElement(composite.list, item))
      const kept = removeOne(composite.list.items, item, below, nulls)
      return kept === undefined ? [] : [kept]
    })
    return rest.length > 0 ? rest : undefined
  }
  return value
}

function removeOne(
  schema: Schema | undefined,
  value: JsonValue,
  below: FieldSet | undefined,
  nulls: Nulls,
): Value {
  if (!below) return value
  if (below.member) return undefined
  if (isEmpty(below)) return value
  const left = removePaths(schema, value, below, nulls)
  // What stays named although nothing is left in it becomes null, as upstream.
  return left === undefined && nulls === 'kept' ? null : left
}

/** Adds every field of a struct that has something of the set below it: owning `spec.replicas` is owning `spec`, too. */
export function withNamedFields(schema: Schema | undefined, set: FieldSet): FieldSet {
  if (set.children.size === 0) return set
  const children = new Map<string, FieldSet>()
  for (const [element, child] of set.children) {
    const below = withNamedFields(elementSchema(schema, element), child)
    const named =
      schema?.type === 'object' && element.startsWith('f:') && Object.hasOwn(schema.fields, element.slice(2))
    children.set(element, named && !below.member ? { member: true, children: below.children } : below)
  }
  return { member: set.member, children }
}

function elementSchema(schema: Schema | undefined, element: string): Schema | undefined {
  switch (schema?.type) {
    case 'object':
      return fieldSchema(schema, element.slice(2))
    case 'map':
      return schema.values
    case 'list':
      return schema.items
    default:
      return undefined
  }
}

/**
 * What upstream's Go types have before anybody sets a field: structs are there, empty. Only the `.` entries of the first
 * writer's managedFields depend on it, and clients show them.
 */
const STRUCT_FIELDS: Readonly<Record<string, readonly string[]>> = {
  'io.k8s.api.apps.v1.DaemonSetSpec': ['template', 'updateStrategy'],
  'io.k8s.api.apps.v1.DeploymentSpec': ['strategy', 'template'],
  'io.k8s.api.apps.v1.ReplicaSetSpec': ['template'],
  'io.k8s.api.apps.v1.StatefulSetSpec': ['template', 'updateStrategy'],
  'io.k8s.api.batch.v1.CronJobSpec': ['jobTemplate'],
  'io.k8s.api.batch.v1.JobSpec': ['template'],
  'io.k8s.api.batch.v1.JobTemplateSpec': ['metadata', 'spec'],
  'io.k8s.api.core.v1.PersistentVolumeClaimSpec': ['resources'],
  'io.k8s.api.core.v1.PodTemplate': ['template'],
  'io.k8s.api.core.v1.PodTemplateSpec': ['metadata', 'spec'],
  'io.k8s.api.core.v1.ServiceStatus': ['loadBalancer'],
  'io.k8s.api.networking.v1.IngressStatus': ['loadBalancer'],
  'io.k8s.api.networking.v1.NetworkPolicySpec': ['podSelector'],
  'io.k8s.api.rbac.v1.ClusterRole': ['rules'],
  'io.k8s.api.rbac.v1.Role': ['rules'],
}

/** Required lists that upstream's Go types leave out while they are empty, where others are null. */
const OMITTED_LISTS: Readonly<Record<string, readonly string[]>> = {
  'io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec': ['validationActions'],
}

const zeroObjects = new WeakMap<ObjectSchema, JsonValue>()

/** An object of the kind before anybody wrote to it. */
export function zeroObject(schema: ObjectSchema): JsonValue {
  let zero = zeroObjects.get(schema)
  // Custom kinds have no Go types, so nothing is there before it is set.
  if (zero === undefined)
    zeroObjects.set(schema, (zero = schema.openApi ? {} : zeroOf(schema, ['metadata', 'spec', 'status'])))
  return zero
}

function zeroOf(
  schema: ObjectSchema,
  structs: readonly string[] = STRUCT_FIELDS[schema.name] ?? [],
): JsonValue {
  const zero: Json = {}
  for (const [key, field] of Object.entries(schema.fields)) {
    if (!field.required && !structs.includes(key) && !STRUCT_FIELDS[schema.name]?.includes(key)) continue
    if (OMITTED_LISTS[schema.name]?.includes(key)) continue
    const of = schemaOf(field)
    if (of.type === 'object') zero[key] = of.atomic ? {} : zeroOf(of)
    else if (of.type === 'list' || of.type === 'map') zero[key] = null
  }
  return zero
}
