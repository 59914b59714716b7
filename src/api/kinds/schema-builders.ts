import type { Field, ListSchema, MapSchema, ObjectSchema, Schema } from '../schema.ts'

/** How the kinds write their schemas down: short, and with the literal types that `TypeOf` needs. */

export const string = { type: 'string' } as const
export const boolean = { type: 'boolean' } as const
export const int32 = { type: 'integer', format: 'int32' } as const
export const int64 = { type: 'integer', format: 'int64' } as const
export const quantity = { type: 'string', format: 'quantity' } as const
export const intOrString = { type: 'string', format: 'int-or-string' } as const
export const time = { type: 'string', format: 'date-time' } as const
export const microTime = { type: 'string', format: 'micro-time' } as const
export const bytes = { type: 'string', format: 'byte' } as const
export const anything = { type: 'any' } as const

export function oneOf<const E extends readonly string[]>(...values: E) {
  return { type: 'string', enum: values } as const
}

/** A list that is replaced as a whole. */
export function list<const S extends Schema>(items: S) {
  return { type: 'list', items, listType: 'atomic' } as const
}

/** A list of scalars without duplicates. */
export function setOf<const S extends Schema>(items: S, options: Pick<ListSchema, 'patchStrategy'> = {}) {
  return { type: 'list', items, listType: 'set', ...options } as const
}

/** A list whose items are found by `keys`; strategic merge finds them by `mergeKey`. */
export function listByKey<const S extends Schema>(
  items: S,
  keys: readonly string[],
  options: Pick<ListSchema, 'patchMergeKey' | 'patchStrategy'> = {
    patchMergeKey: keys[0] as string, // every list by key has at least one
    patchStrategy: 'merge',
  },
) {
  return { type: 'list', items, listType: 'map', listMapKeys: keys, ...options } as const
}

export function map<const S extends Schema>(values: S, options: Pick<MapSchema, 'atomic'> = {}) {
  return { type: 'map', values, ...options } as const
}

type FieldOptions = Omit<Field, 'schema' | 'required' | 'description'>

export function optional<const S extends Schema>(schema: S, description?: string, options?: FieldOptions) {
  return { schema, ...(description === undefined ? {} : { description }), ...options } as {
    readonly schema: S
    readonly description?: string
    readonly required?: never
  }
}

export function required<const S extends Schema>(schema: S, description?: string, options?: FieldOptions) {
  return {
    schema,
    required: true,
    ...(description === undefined ? {} : { description }),
    ...options,
  } as { readonly schema: S; readonly description?: string; readonly required: true }
}

type AnyFields = { readonly [field: string]: Field | { readonly schema: Schema; readonly required?: never } }

/** An object's schema that remembers the literal type of its fields. */
export type ObjectOf<F> = ObjectSchema & {
  readonly description: string
  /** Carries the type; never set. */
  readonly __fields?: F
}

export function object<const F extends AnyFields>(
  name: string,
  description: string,
  fields: F,
  options: Pick<ObjectSchema, 'atomic'> = {},
): ObjectOf<F> {
  return { type: 'object', name, description, fields, ...options }
}

type Simplify<T> = { [K in keyof T]: T[K] }

type FieldsOf<F> = Simplify<
  { -readonly [K in keyof F as F[K] extends { required: true } ? K : never]: FieldType<F[K]> } & {
    -readonly [K in keyof F as F[K] extends { required: true } ? never : K]?: FieldType<F[K]>
  }
>
type FieldType<F> = F extends { schema: infer S } ? TypeOf<S> : never

/** The TypeScript type of what a schema accepts. */
export type TypeOf<S> =
  S extends ObjectOf<infer F>
    ? FieldsOf<F>
    : S extends { type: 'list'; items: infer I }
      ? TypeOf<I>[]
      : S extends { type: 'map'; values: infer V }
        ? { [key: string]: TypeOf<V> }
        : S extends { type: 'string'; enum: infer E extends readonly string[] }
          ? E[number]
          : S extends { type: 'string'; format: 'int-or-string' }
            ? number | string
            : S extends { type: 'string' }
              ? string
              : S extends { type: 'integer' | 'number' }
                ? number
                : S extends { type: 'boolean' }
                  ? boolean
                  : unknown
