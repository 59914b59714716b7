import { CUSTOM_SCHEMA_DEPTH_MAX, CUSTOM_SCHEMA_NODES_MAX, PROBLEMS_MAX } from '../limits.ts'
import type { JsonValue } from '../meta.ts'
import type { FieldError } from '../status.ts'

/** A rule in CEL, as `x-kubernetes-validations` has them. */
export type ValidationRule = {
  rule: string
  message?: string
  messageExpression?: string
  reason?: string
  fieldPath?: string
  optionalOldSelf?: boolean
}

/** A schema in the notation of OpenAPI v3, as a CustomResourceDefinition holds it. */
export type JsonSchema = {
  readonly type?: string
  readonly format?: string
  readonly title?: string
  readonly description?: string
  readonly nullable?: boolean
  readonly default?: JsonValue
  readonly example?: JsonValue
  readonly externalDocs?: JsonValue
  readonly enum?: readonly JsonValue[]
  readonly maximum?: number
  readonly exclusiveMaximum?: boolean
  readonly minimum?: number
  readonly exclusiveMinimum?: boolean
  readonly multipleOf?: number
  readonly maxLength?: number
  readonly minLength?: number
  readonly pattern?: string
  readonly maxItems?: number
  readonly minItems?: number
  readonly uniqueItems?: boolean
  readonly maxProperties?: number
  readonly minProperties?: number
  readonly required?: readonly string[]
  readonly properties?: { readonly [name: string]: JsonSchema }
  readonly additionalProperties?: JsonSchema | boolean
  readonly items?: JsonSchema
  readonly allOf?: readonly JsonSchema[]
  readonly anyOf?: readonly JsonSchema[]
  readonly oneOf?: readonly JsonSchema[]
  readonly not?: JsonSchema
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean
  readonly 'x-kubernetes-embedded-resource'?: boolean
  readonly 'x-kubernetes-int-or-string'?: boolean
  readonly 'x-kubernetes-list-type'?: string
  readonly 'x-kubernetes-list-map-keys'?: readonly string[]
  readonly 'x-kubernetes-map-type'?: string
  readonly 'x-kubernetes-validations'?: readonly ValidationRule[]
  /** Known, and refused wherever they stand. */
  readonly $ref?: string
  readonly $schema?: string
  readonly id?: string
  readonly additionalItems?: JsonValue
  readonly definitions?: JsonValue
  readonly dependencies?: JsonValue
  readonly patternProperties?: JsonValue
}

type Shape =
  | 'text'
  | 'number'
  | 'count'
  | 'flag'
  | 'any'
  | 'list'
  | 'texts'
  | 'schema'
  | 'schema or flag'
  | 'schemas'
  | 'schema map'
  | 'rules'

const SHAPES: ReadonlyMap<string, Shape> = new Map<keyof JsonSchema, Shape>([
  ['type', 'text'],
  ['format', 'text'],
  ['title', 'text'],
  ['description', 'text'],
  ['nullable', 'flag'],
  ['default', 'any'],
  ['example', 'any'],
  ['externalDocs', 'any'],
  ['enum', 'list'],
  ['maximum', 'number'],
  ['exclusiveMaximum', 'flag'],
  ['minimum', 'number'],
  ['exclusiveMinimum', 'flag'],
  ['multipleOf', 'number'],
  ['maxLength', 'count'],
  ['minLength', 'count'],
  ['pattern', 'text'],
  ['maxItems', 'count'],
  ['minItems', 'count'],
  ['uniqueItems', 'flag'],
  ['maxProperties', 'count'],
  ['minProperties', 'count'],
  ['required', 'texts'],
  ['properties', 'schema map'],
  ['additionalProperties', 'schema or flag'],
  ['items', 'schema'],
  ['allOf', 'schemas'],
  ['anyOf', 'schemas'],
  ['oneOf', 'schemas'],
  ['not', 'schema'],
  ['x-kubernetes-preserve-unknown-fields', 'flag'],
  ['x-kubernetes-embedded-resource', 'flag'],
  ['x-kubernetes-int-or-string', 'flag'],
  ['x-kubernetes-list-type', 'text'],
  ['x-kubernetes-list-map-keys', 'texts'],
  ['x-kubernetes-map-type', 'text'],
  ['x-kubernetes-validations', 'rules'],
  ['$ref', 'text'],
  ['$schema', 'text'],
  ['id', 'text'],
  ['additionalItems', 'any'],
  ['definitions', 'any'],
  ['dependencies', 'any'],
  ['patternProperties', 'any'],
])
const RULE_SHAPES: ReadonlyMap<string, Shape> = new Map<keyof ValidationRule, Shape>([
  ['rule', 'text'],
  ['message', 'text'],
  ['messageExpression', 'text'],
  ['reason', 'text'],
  ['fieldPath', 'text'],
  ['optionalOldSelf', 'flag'],
])

export type SchemaReading = {
  /** A fresh copy with known keywords of the right type only. */
  schema: JsonSchema
  errors: FieldError[]
  /** Paths of keywords that exist nowhere. */
  unknownFields: string[]
}

/** Reads the schema in a CustomResourceDefinition. Never throws, whatever `value` is: its JSON has been bounded before. */
export function readJsonSchema(value: unknown, path: string): SchemaReading {
  const reader = new Reader()
  const schema = reader.schema(value, path, 0) ?? {}
  return { schema, errors: reader.errors, unknownFields: reader.unknownFields }
}

type Json = Record<string, unknown>

class Reader {
  readonly errors: FieldError[] = []
  readonly unknownFields: string[] = []
  private nodes = 0

  schema(value: unknown, path: string, depth: number): JsonSchema | undefined {
    if (!isRecord(value)) return this.wrong(path, value, 'JSONSchemaProps')
    if (++this.nodes > CUSTOM_SCHEMA_NODES_MAX || depth > CUSTOM_SCHEMA_DEPTH_MAX) {
      if (this.nodes === CUSTOM_SCHEMA_NODES_MAX + 1 || depth > CUSTOM_SCHEMA_DEPTH_MAX)
        this.note({
          reason: 'FieldValueTooMany',
          field: path,
          message: `Too many: a version may have ${CUSTOM_SCHEMA_NODES_MAX} schemas, nested ${CUSTOM_SCHEMA_DEPTH_MAX} deep`,
        })
      return undefined
    }
    return this.fields(value, path, depth, SHAPES) as JsonSchema
  }

  private fields(value: Json, path: string, depth: number, shapes: ReadonlyMap<string, Shape>): Json {
    const copy: Json = {}
    for (const key of Object.keys(value)) {
      const given = value[key]
      const shape = shapes.get(key)
      const at = `${path}.${key}`
      if (!shape) {
        if (this.unknownFields.length < PROBLEMS_MAX) this.unknownFields.push(at)
      } else if (given !== null && given !== undefined) {
        const read = this.value(shape, given, at, depth)
        if (read !== undefined) copy[key] = read
      }
    }
    return copy
  }

  private value(shape: Shape, value: unknown, path: string, depth: number): unknown {
    switch (shape) {
      case 'any':
        return value
      case 'text':
        return typeof value === 'string' ? value : this.wrong(path, value, 'string')
      case 'number':
        return typeof value === 'number' ? value : this.wrong(path, value, 'float64')
      case 'count':
        return Number.isSafeInteger(value) ? value : this.wrong(path, value, 'int64')
      case 'flag':
        return typeof value === 'boolean' ? value : this.wrong(path, value, 'bool')
      case 'list':
        return Array.isArray(value) ? value : this.wrong(path, value, '[]JSON')
      case 'texts':
        return Array.isArray(value) && value.every((item) => typeof item === 'string')
          ? value
          : this.wrong(path, value, '[]string')
      case 'schema':
        return this.schema(value, path, depth + 1)
      case 'schema or flag':
        return typeof value === 'boolean' ? value : this.schema(value, path, depth + 1)
      case 'schemas':
        if (!Array.isArray(value)) return this.wrong(path, value, '[]JSONSchemaProps')
        return value.flatMap((item, index) => this.schema(item, `${path}[${index}]`, depth + 1) ?? [])
      case 'schema map': {
        if (!isRecord(value)) return this.wrong(path, value, 'map[string]JSONSchemaProps')
        const copy: Json = {}
        for (const key of Object.keys(value)) {
          const schema =
            key === '__proto__'
              ? undefined
              : this.schema(value[key], `${path}[${key.slice(0, 256)}]`, depth + 1)
          if (schema) copy[key] = schema
        }
        return copy
      }
      case 'rules':
        if (!Array.isArray(value)) return this.wrong(path, value, 'ValidationRules')
        return value.flatMap((item, index) => {
          const at = `${path}[${index}]`
          if (!isRecord(item)) return this.wrong(at, item, 'ValidationRule') ?? []
          return [{ rule: '', ...this.fields(item, at, depth, RULE_SHAPES) }]
        })
      default:
        shape satisfies never
        return undefined
    }
  }

  private wrong(path: string, value: unknown, expected: string): undefined {
    const given = Array.isArray(value) ? 'array' : typeof value === 'boolean' ? 'bool' : typeof value
    this.note({
      reason: 'FieldValueTypeInvalid',
      field: path,
      message: `json: cannot unmarshal ${given} into Go value of type ${expected}`,
    })
    return undefined
  }

  private note(error: FieldError): void {
    if (this.errors.length < PROBLEMS_MAX) this.errors.push(error)
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A tenant's name of a field may be one that every object inherits, such as `constructor`. */
export function ownField<T>(fields: { readonly [name: string]: T } | undefined, name: string): T | undefined {
  return fields && Object.hasOwn(fields, name) ? fields[name] : undefined
}

/** The schema of what a map holds besides its named properties. */
export function additionalSchema({ additionalProperties }: JsonSchema): JsonSchema | undefined {
  return typeof additionalProperties === 'object' ? additionalProperties : undefined
}
