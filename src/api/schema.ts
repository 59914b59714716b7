/**
 * How a kind's allowed fields are written down. One schema is at once validation, TypeScript type, OpenAPI,
 * defaults, protobuf mapping and merge keys; a field that is not in it does not exist for a tenant.
 */

type Common = { readonly description?: string }

export type StringSchema = Common & {
  readonly type: 'string'
  /** `quantity`, `int-or-string`, `date-time` (seconds), `micro-time` and `byte` (base64) are as in Kubernetes' OpenAPI. */
  readonly format?: 'quantity' | 'int-or-string' | 'date-time' | 'micro-time' | 'byte' | 'duration'
  readonly enum?: readonly string[]
  readonly maxLength?: number
  readonly minLength?: number
}
export type IntegerSchema = Common & {
  readonly type: 'integer'
  readonly format: 'int32' | 'int64'
  readonly minimum?: number
  readonly maximum?: number
}
export type NumberSchema = Common & { readonly type: 'number' }
export type BooleanSchema = Common & { readonly type: 'boolean' }
/** A JSON value that we carry but do not look into, such as `managedFields[].fieldsV1`. */
export type AnySchema = Common & { readonly type: 'any' }
export type MapSchema = Common & { readonly type: 'map'; readonly values: Schema; readonly atomic?: true }
export type ListSchema = Common & {
  readonly type: 'list'
  readonly items: Schema
  /** x-kubernetes-list-type; `atomic` where upstream says nothing. */
  readonly listType: 'atomic' | 'set' | 'map'
  readonly listMapKeys?: readonly string[]
  readonly patchMergeKey?: string
  readonly patchStrategy?: 'merge' | 'replace' | 'merge,retainKeys' | 'retainKeys'
  readonly minItems?: number
  readonly maxItems?: number
}
export type Field = {
  readonly schema: Schema | (() => Schema)
  readonly required?: true
  /** Applied when the field is absent. Defaults that depend on other fields live in the kind's `applyDefaults`. */
  readonly default?: unknown
  /** x-kubernetes-patch-strategy of an object field, such as `retainKeys`. */
  readonly patchStrategy?: 'retainKeys' | 'merge' | 'replace'
  readonly description?: string
  /** Allowed, but without effect here: becomes a `Warning:` header. */
  readonly warning?: string
}
export type ObjectSchema = Common & {
  readonly type: 'object'
  /** Upstream's OpenAPI name, such as `io.k8s.api.core.v1.PodSpec`; also finds the protobuf message. */
  readonly name: string
  readonly fields: { readonly [field: string]: Field }
  /** x-kubernetes-map-type: atomic. */
  readonly atomic?: true
  /** Schema of the fields that are not listed, where they are kept. */
  readonly others?: Schema
  /** Of a custom kind: the OpenAPI document of its author, which says more than `fields`. */
  readonly openApi?: { readonly [key: string]: unknown }
}
export type Schema =
  | StringSchema
  | IntegerSchema
  | NumberSchema
  | BooleanSchema
  | AnySchema
  | MapSchema
  | ListSchema
  | ObjectSchema

/** Why a field of upstream Kubernetes is not in our schema, and what to write instead. */
export type Refusal = {
  readonly why: string
  /** One of DESIGN's vectors, such as `kernel` or `pod network`; `unsupported` when it is safe and merely not built. */
  readonly vector: string
  readonly instead: string
  /** Values that upstream means as "off" and that we therefore accept and drop, such as `hostNetwork: false`. */
  readonly harmless?: readonly unknown[]
}

/** schema name → field → refusal */
export type RefusedFields = { readonly [schemaName: string]: { readonly [field: string]: Refusal } }

/** The schema of a field, whether written directly or behind a function (for types that contain themselves). */
export function schemaOf(field: Field): Schema {
  return typeof field.schema === 'function' ? field.schema() : field.schema
}
