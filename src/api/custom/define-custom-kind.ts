import { ageColumn, nameColumn, renderSince } from '../kinds/columns.ts'
import type { CustomResourceDefinition, CustomResourceVersion } from '../kinds/custom-resource-definition.ts'
import { ALL_VERBS, statusSubresource } from '../kinds/define-kind.ts'
import { objectFields } from '../kinds/meta.ts'
import { invalidValue } from '../kinds/field-errors.ts'
import { dns1035LabelProblem } from '../kinds/names.ts'
import { scaleSubresource } from '../kinds/templated.ts'
import type { CustomKind, CustomScale, KindDefinition, TableColumn, WriteContext } from '../kind.ts'
import { groupVersion } from '../kind.ts'
import { isStandardFinalizer } from '../object-meta-rules.ts'
import { CUSTOM_CELL_CHARS_MAX, CUSTOM_DEFAULTED_BYTES_MAX } from '../limits.ts'
import type { JsonValue, KubeObject } from '../meta.ts'
import type { Field, ListSchema, MapSchema, ObjectSchema, Schema } from '../schema.ts'
import type { FieldError } from '../status.ts'
import { type CheckOptions, type CheckResult, checkObject } from '../validation.ts'
import { compareVersions } from '../versions.ts'
import { rulesBlocked, valueErrors } from './check-value.ts'
import { DefaultBudget, dropNulls, fillDefaults, prune } from './fill-in.ts'
import { findByPath, parseFieldPath, parseJsonPath, valueAt } from './json-path.ts'
import { additionalSchema, isRecord, type JsonSchema } from './json-schema.ts'

/** Judges an object by the CEL rules of its schema. */
export type CheckRules = (object: KubeObject, old: KubeObject | undefined) => FieldError[]

/**
 * The kinds of a definition, one per version that is served, the one that clients prefer first.
 * Requires: `definition` was validated, and its names have been accepted.
 */
export function defineCustomKinds(
  definition: CustomResourceDefinition,
  rulesOf: (schema: JsonSchema) => CheckRules | undefined = () => undefined,
): KindDefinition[] {
  const { spec, metadata } = definition
  const storage = spec.versions.find((version) => version.storage)
  const { names } = spec
  // The status says which names were accepted, but whoever may write it must not choose what objects are stored under.
  const accepted = definition.status?.acceptedNames
  if (!storage || accepted?.plural !== names.plural || accepted.kind !== names.kind) return []
  const isLabel = (name: string) => dns1035LabelProblem(name) === undefined
  return (
    spec.versions
      // Who is to empty it must reach objects that clients no longer do.
      .filter(({ served, storage: stored }) => served || (stored && metadata.deletionTimestamp !== undefined))
      .sort((a, b) => compareVersions(b.name, a.name))
      .map((version) => {
        const schema = schemaIn(version.schema)
        const gv = { group: spec.group, version: version.name }
        // Few kinds of many are asked for, so the parts that take work are made when somebody does.
        const rules = once(() => rulesOf(schema))
        const objectSchema = once(() => renderObjectSchema(version, { ...gv, kind: names.kind }))
        const custom: CustomKind = {
          storedVersion: groupVersion({ group: spec.group, version: storage.name }),
          present: presenter(schema, groupVersion(gv)),
          terminating: metadata.deletionTimestamp !== undefined,
          ...deprecationOf(version, gv, names.kind, spec.versions),
          ...scaleOf(version),
        }
        return {
          ...gv,
          kind: names.kind,
          plural: names.plural,
          singular: accepted.singular && isLabel(accepted.singular) ? accepted.singular : '',
          shortNames: (accepted.shortNames ?? []).filter(isLabel),
          categories: names.categories ?? [],
          namespaced: spec.scope === 'Namespaced',
          verbs: ALL_VERBS,
          get schema() {
            return objectSchema()
          },
          custom,
          check: (value: unknown, options: CheckOptions) => checkCustom(schema, value, options),
          hasGeneration: true,
          hasStatus: version.subresources?.status !== undefined,
          subresources: [
            ...(version.subresources?.status === undefined ? [] : [statusSubresource]),
            ...(version.subresources?.scale ? [scaleSubresource] : []),
          ],
          columns: columnsOf(version),
          warnings: finalizerWarnings,
          ...selectorsOf(version),
          applyDefaults: (object: KubeObject) => withDefaults(schema, object).object,
          validate: (object: KubeObject, _context: WriteContext, old?: KubeObject) => {
            // Rules read what the schema promises, so that they are asked only when it holds.
            const budgetError = withDefaults(schema, object).problem
            const errors = budgetError
              ? [budgetError]
              : valueErrors(
                  schema,
                  object as unknown as JsonValue,
                  '',
                  old as unknown as JsonValue | undefined,
                )
            errors.push(...replicasErrors(custom, object))
            const check = rules()
            if (!check) return errors
            const blocked = rulesBlocked(errors)
            return [...errors, ...(blocked ? [blocked] : check(object, old))]
          },
        }
      })
  )
}

/** Many operators have finalizers of one word, which every other kind refuses. */
function finalizerWarnings({ metadata }: KubeObject, old: KubeObject | undefined): string[] {
  return (metadata.finalizers ?? [])
    .filter((name) => !isStandardFinalizer(name) && !old?.metadata.finalizers?.includes(name))
    .sort()
    .map((name) => {
      const path = name.includes('.') ? ' including a path (/)' : ''
      return `metadata.finalizers: ${JSON.stringify(name)}: prefer a domain-qualified finalizer name${path} to avoid accidental conflicts with other finalizer writers`
    })
}

/** What a scale counts is never negative. */
function replicasErrors({ scale }: CustomKind, object: KubeObject): FieldError[] {
  return [scale?.specReplicas, scale?.statusReplicas].flatMap((path) => {
    const count = path && valueAt(object, path)
    if (!path || typeof count !== 'number' || (count >= 0 && count <= INT32_MAX)) return []
    const problem =
      count < 0 ? 'should be a non-negative integer' : `should be less than or equal to ${INT32_MAX}`
    return [invalidValue(`.${path.join('.')}`, count, problem)]
  })
}

const INT32_MAX = 2 ** 31 - 1

function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined
  return () => (made ??= { value: make() }).value
}

/** The metadata as every kind has it, and the rest without what the schema does not know. */
function checkCustom(schema: JsonSchema, value: unknown, { keepNulls }: CheckOptions): CheckResult {
  if (!isRecord(value)) return checkObject(ENVELOPE, value)
  const { apiVersion, kind, metadata, ...rest } = value
  const envelope: Record<string, unknown> = {}
  for (const [key, given] of Object.entries({ apiVersion, kind, metadata }))
    if (given !== undefined) envelope[key] = given
  const result = checkObject(ENVELOPE, envelope)
  const unknownFields: string[] = []
  const pruned = prune(schema, rest as JsonValue, '', unknownFields) as Record<string, JsonValue> // an object stays one
  result.unknownFields.push(...unknownFields.slice(0, 100))
  const read = keepNulls ? pruned : (dropNulls(schema, pruned) as Record<string, JsonValue>) // the same
  return { ...result, object: { ...result.object, ...structuredClone(read) } }
}

const ENVELOPE: ObjectSchema = { type: 'object', name: 'CustomResource', fields: objectFields }

function withDefaults(
  schema: JsonSchema,
  object: KubeObject,
): { object: KubeObject; problem: FieldError | undefined } {
  const budget = new DefaultBudget(CUSTOM_DEFAULTED_BYTES_MAX)
  const filled = fillDefaults(schema, object as unknown as JsonValue, budget) as unknown as KubeObject // an object stays one
  if (budget.left >= 0) return { object: filled, problem: undefined }
  return {
    object: filled,
    problem: {
      reason: 'FieldValueTooLong',
      field: '<nil>',
      message: `Too long: the defaults of the schema would add more than ${CUSTOM_DEFAULTED_BYTES_MAX} bytes to this object`,
    },
  }
}

/** Objects that are stored are shared and never change, so each is presented once. */
function presenter(schema: JsonSchema, apiVersion: string): (stored: KubeObject) => KubeObject {
  const presented = new WeakMap<KubeObject, KubeObject>()
  return (stored) => {
    let shown = presented.get(stored)
    if (!shown) {
      const { metadata, ...rest } = stored
      const body = rest as unknown as JsonValue
      const pruned = dropNulls(schema, prune(withEnvelope(schema), body, ''))
      const filled = fillDefaults(schema, pruned, new DefaultBudget(CUSTOM_DEFAULTED_BYTES_MAX))
      shown =
        filled === body && stored.apiVersion === apiVersion
          ? stored
          : ({ ...(filled as object), apiVersion, metadata } as KubeObject)
      presented.set(stored, shown)
    }
    return shown
  }
}

const rooted = new WeakMap<JsonSchema, JsonSchema>()
/** Type and metadata are there whether a schema mentions them or not. */
function withEnvelope(schema: JsonSchema): JsonSchema {
  let root = rooted.get(schema)
  if (!root) rooted.set(schema, (root = { ...schema, 'x-kubernetes-embedded-resource': true }))
  return root
}

function deprecationOf(
  version: CustomResourceVersion,
  { group, version: name }: { group: string; version: string },
  kind: string,
  versions: readonly CustomResourceVersion[],
): { deprecation?: string } {
  if (!version.deprecated) return {}
  if (version.deprecationWarning !== undefined) return { deprecation: version.deprecationWarning }
  const newer = versions
    .filter((v) => v.served && !v.deprecated && compareVersions(v.name, name) > 0)
    .sort((a, b) => compareVersions(b.name, a.name))[0]
  const instead = newer ? `; use ${group}/${newer.name} ${kind}` : ''
  return { deprecation: `${group}/${name} ${kind} is deprecated${instead}` }
}

function scaleOf({ subresources }: CustomResourceVersion): { scale?: CustomScale } {
  const scale = subresources?.scale
  const specReplicas = scale && parseFieldPath(scale.specReplicasPath)
  const statusReplicas = scale && parseFieldPath(scale.statusReplicasPath)
  if (!specReplicas || !statusReplicas) return {}
  const labelSelector = scale.labelSelectorPath ? parseFieldPath(scale.labelSelectorPath) : undefined
  return { scale: { specReplicas, statusReplicas, ...(labelSelector ? { labelSelector } : {}) } }
}

function selectorsOf({
  selectableFields = [],
}: CustomResourceVersion): Pick<KindDefinition, 'fieldSelectors'> {
  if (selectableFields.length === 0) return {}
  return {
    fieldSelectors: Object.fromEntries(
      selectableFields.flatMap(({ jsonPath }) => {
        const path = parseFieldPath(jsonPath)
        if (!path) return []
        const read = (object: KubeObject) => {
          const value = valueAt(object, path)
          return value === undefined || value === null || typeof value === 'object'
            ? ''
            : String(value as string)
        }
        return [[jsonPath.slice(1), read]]
      }),
    ),
  }
}

function columnsOf({ additionalPrinterColumns }: CustomResourceVersion): TableColumn[] {
  if (!additionalPrinterColumns?.length) return [nameColumn, { ...ageColumn, type: 'date' as const }]
  return [
    nameColumn,
    ...additionalPrinterColumns.map(
      ({ name, type, format, description, jsonPath, priority }): TableColumn => {
        const path = parseJsonPath(jsonPath) ?? []
        return {
          name,
          type: type as TableColumn['type'], // one of the same five, as was validated
          ...(format ? { format } : {}),
          description: description || `Custom resource definition column (in JSONPath format): ${jsonPath}`,
          ...(priority === undefined ? {} : { priority }),
          cell: (object, nowMs) => cellOf(type, findByPath(path, object)[0], nowMs),
        }
      },
    ),
  ]
}

function cellOf(type: string, value: unknown, nowMs: number): string | number | boolean | null {
  if (value === undefined || value === null) return null
  switch (type) {
    case 'integer':
      return typeof value === 'number' ? Math.trunc(value) : null
    case 'number':
      return typeof value === 'number' ? value : null
    case 'boolean':
      return typeof value === 'boolean' ? value : null
    case 'date':
      return typeof value === 'string'
        ? Number.isNaN(Date.parse(value))
          ? '<invalid>'
          : renderSince(value, nowMs)
        : null
    default:
      return (typeof value === 'string' ? value : JSON.stringify(value)).slice(0, CUSTOM_CELL_CHARS_MAX)
  }
}

// --- the schema in our own notation, for merging and for clients -----------------------------------------------------

/** Whatever a client puts where nothing is described: objects merge field by field, lists are one whole. */
const DEDUCED: MapSchema = {
  type: 'map',
  get values() {
    return DEDUCED
  },
}

function renderObjectSchema(
  { schema: written, selectableFields = [] }: CustomResourceVersion,
  { group, version, kind }: { group: string; version: string; kind: string },
): ObjectSchema {
  const schema = schemaIn(written)
  const name = [...group.split('.').reverse(), version, kind].join('.')
  const body = renderObject(schema, name)
  return {
    ...body,
    description: schema.description ?? `A ${kind}.`,
    fields: { ...body.fields, ...objectFields },
    openApi:
      selectableFields.length === 0
        ? schema
        : {
            ...schema,
            'x-kubernetes-selectable-fields': selectableFields.map(({ jsonPath }) => ({
              fieldPath: jsonPath.slice(1),
            })),
          },
  }
}

function schemaIn(written: CustomResourceVersion['schema']): JsonSchema {
  return written?.openAPIV3Schema ?? { type: 'object' }
}

/** @param free whether what is around lets unknown fields in, which is for everything below it as well. */
function renderObject(schema: JsonSchema, name: string, free = false): ObjectSchema {
  const isFree = free || schema['x-kubernetes-preserve-unknown-fields'] === true
  const fields: Record<string, Field> = schema['x-kubernetes-embedded-resource'] ? { ...objectFields } : {}
  for (const [key, field] of Object.entries(schema.properties ?? {}))
    if (!Object.hasOwn(fields, key))
      fields[key] = {
        schema: once(() => renderSchema(field, `${name}.${key}`, isFree)),
        ...(field.default === undefined ? {} : { default: field.default }),
      }
  return {
    type: 'object',
    name,
    fields,
    ...(schema['x-kubernetes-map-type'] === 'atomic' ? { atomic: true as const } : {}),
    ...(isFree || !schema.properties ? { others: DEDUCED } : {}),
  }
}

function renderSchema(schema: JsonSchema, name: string, free: boolean): Schema {
  const isFree = free || schema['x-kubernetes-preserve-unknown-fields'] === true
  const atomicMap = schema['x-kubernetes-map-type'] === 'atomic'
  switch (schema.type) {
    case 'object': {
      const values = additionalSchema(schema)
      if (values)
        return {
          type: 'map',
          values: renderSchema(values, `${name}.*`, isFree),
          ...(atomicMap ? { atomic: true as const } : {}),
        }
      return renderObject(schema, name, free)
    }
    case 'array': {
      const listType = schema['x-kubernetes-list-type'] ?? 'atomic'
      return {
        type: 'list',
        items: schema.items ? renderSchema(schema.items, `${name}.items`, isFree) : DEDUCED,
        listType: listType as ListSchema['listType'], // one of the three, as was validated
        ...(schema['x-kubernetes-list-map-keys']
          ? { listMapKeys: schema['x-kubernetes-list-map-keys'] }
          : {}),
      }
    }
    case 'string':
      return { type: 'string' }
    case 'integer':
      return { type: 'integer', format: 'int64' }
    case 'number':
      return { type: 'number' }
    case 'boolean':
      return { type: 'boolean' }
    default:
      return schema['x-kubernetes-int-or-string'] ? { type: 'string', format: 'int-or-string' } : DEDUCED
  }
}
