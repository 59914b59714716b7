import { type ObjectSchema, type Schema, schemaOf } from '../api/index.ts'
import {
  BOOL,
  BYTES,
  type CelType,
  DOUBLE,
  DURATION,
  DYN,
  INT,
  listOf,
  mapOf,
  type ObjectFields,
  STRING,
  TIMESTAMP,
} from './types.ts'
import { escapeName } from './values.ts'

/** The parts of a structural OpenAPI v3 schema that say what an expression may do with a value. */
export type StructuralSchema = {
  readonly type?: string | undefined
  readonly format?: string | undefined
  readonly nullable?: boolean | undefined
  readonly properties?: { readonly [property: string]: StructuralSchema } | undefined
  readonly additionalProperties?: boolean | StructuralSchema | undefined
  readonly items?: StructuralSchema | undefined
  readonly maxLength?: number | undefined
  readonly maxItems?: number | undefined
  readonly maxProperties?: number | undefined
  readonly enum?: readonly unknown[] | undefined
  readonly required?: readonly string[] | undefined
  readonly default?: unknown
  readonly 'x-kubernetes-int-or-string'?: boolean | undefined
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean | undefined
  readonly 'x-kubernetes-embedded-resource'?: boolean | undefined
  readonly 'x-kubernetes-list-type'?: string | undefined
  readonly 'x-kubernetes-list-map-keys'?: readonly string[] | undefined
}

/** What an expression sees of `metadata`: what nothing else may decide about. */
const METADATA: StructuralSchema = {
  type: 'object',
  properties: { name: { type: 'string' }, generateName: { type: 'string' } },
}
const OBJECT_PROPERTIES: Readonly<Record<string, StructuralSchema>> = {
  apiVersion: { type: 'string' },
  kind: { type: 'string' },
  metadata: METADATA,
}

/**
 * The type of values that a structural schema describes. `root` (a custom resource) always has apiVersion, kind, metadata.
 * Null is not told apart: an expression asks with `has` whether a field is there.
 * @returns undefined for what expressions do not see, because nothing says what it is.
 */
export function typeOfStructuralSchema(
  schema: StructuralSchema,
  { root = false, name = 'object' } = {},
): CelType | undefined {
  if (schema['x-kubernetes-int-or-string']) return DYN
  switch (schema.type) {
    case 'boolean':
      return BOOL
    case 'integer':
      return INT
    case 'number':
      return DOUBLE
    case 'string':
      return textType(schema.format)
    case 'array':
      return listType(schema, name)
    case 'object':
      return objectType(schema, root, name)
    default:
      return undefined
  }
}

function listType(schema: StructuralSchema, name: string): CelType | undefined {
  const items = schema.items && typeOfStructuralSchema(schema.items, { name: `${name}.@idx` })
  if (!items) return undefined
  const kind = schema['x-kubernetes-list-type']
  if (kind === 'set') return { type: 'list', items, identity: { list: 'set' } }
  const keys = schema['x-kubernetes-list-map-keys'] ?? []
  return kind === 'map' ? { type: 'list', items, identity: { list: 'map', keys } } : listOf(items)
}

function textType(format: string | undefined): CelType {
  switch (format) {
    case 'byte':
      return BYTES
    case 'date':
    case 'date-time':
      return TIMESTAMP
    case 'duration':
      return DURATION
    default:
      return STRING
  }
}

function objectType(schema: StructuralSchema, root: boolean, name: string): CelType | undefined {
  const { additionalProperties } = schema
  if (typeof additionalProperties === 'object') {
    const values = typeOfStructuralSchema(additionalProperties, { name: `${name}.@elem` })
    return values && mapOf(STRING, values)
  }
  const isObject = root || schema['x-kubernetes-embedded-resource'] === true
  const properties = { ...schema.properties, ...(isObject ? OBJECT_PROPERTIES : {}) }
  return {
    type: 'object',
    name,
    fields: lazily(() =>
      Object.entries(properties).flatMap(([property, inner]): [string, CelType][] => {
        const type = typeOfStructuralSchema(inner, { name: `${name}.${property}` })
        return type ? [[property, type]] : []
      }),
    ),
  }
}

/** The type of values of one of our own kinds. */
export function typeOfSchema(schema: Schema): CelType {
  switch (schema.type) {
    case 'string':
      if (schema.format === 'int-or-string' || schema.format === 'quantity') return DYN
      return textType(schema.format === 'micro-time' ? 'date-time' : schema.format)
    case 'integer':
      return INT
    case 'number':
      return DOUBLE
    case 'boolean':
      return BOOL
    case 'any':
      return DYN
    case 'map':
      return mapOf(STRING, typeOfSchema(schema.values))
    case 'list':
      return listOf(typeOfSchema(schema.items))
    case 'object':
      return typeOfObject(schema)
    default:
      return schema satisfies never
  }
}

const known = new WeakMap<ObjectSchema, CelType>()

function typeOfObject(schema: ObjectSchema): CelType {
  const before = known.get(schema)
  if (before) return before
  const type: CelType = {
    type: 'object',
    name: schema.name,
    fields: lazily(() =>
      Object.entries(schema.fields).map(([property, field]) => [property, typeOfSchema(schemaOf(field))]),
    ),
  }
  known.set(schema, type)
  return type
}

/** A record of declared fields, such as `variables` of a policy. */
export function objectTypeOf(name: string, fields: Readonly<Record<string, CelType>>): CelType {
  return { type: 'object', name, fields: lazily(() => Object.entries(fields)) }
}

/** Schemas may contain themselves, so fields are looked at when somebody asks for one. */
function lazily(entries: () => [string, CelType][]): () => ObjectFields {
  let fields: ObjectFields | undefined
  return () => {
    fields ??= new Map(
      entries().flatMap(([property, type]): [string, { property: string; type: CelType }][] => {
        const field = { property, type }
        // A reserved word may stand after a dot, so both spellings find it.
        return [
          [escapeName(property), field],
          [property, field],
        ]
      }),
    )
    return fields
  }
}
