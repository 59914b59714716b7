import { MiB } from '../stdx/index.ts'
import type { StructuralSchema } from './structural-schema.ts'
import { escapeName } from './values.ts'

// How large a value can be, as far as its schema says. Where the schema says nothing, what fits into one request bounds
// it. The numbers are upstream's, so that what may be written there may be written here.
// https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/2876-crd-validation-expression-language

/** What upstream takes of one request, whatever a server is set to. */
const REQUEST_BYTES_MAX = 3 * MiB
const TEXT_BYTES_MAX = REQUEST_BYTES_MAX - 2 // without the quotation marks
const BYTES_OF_CHARACTER_MAX = 4

export type DeclaredSize = {
  /** Bytes of a text, items of a list, entries of a map; 0 for what has no length. */
  readonly elementsMax: number
  /** The least that such a value takes as JSON. */
  readonly bytesMin: number
  /** Fields by the names that expressions use. */
  readonly fields?: ReadonlyMap<string, DeclaredSize>
  readonly items?: DeclaredSize
  readonly keys?: DeclaredSize
}

const fixed = (bytesMin: number, elementsMax = 0): DeclaredSize => ({ elementsMax, bytesMin })
const BOOLEAN = fixed(4)
const NUMBER = fixed(1)
const DATE = fixed(12, 12)
const DATE_TIME = fixed(21, 32)
const DURATION = fixed(3, 32)
const KEY = fixed(2)

/** The properties that every object with a type of its own has. */
const TEXT: StructuralSchema = { type: 'string' }
const ENVELOPE: Readonly<Record<string, StructuralSchema>> = {
  apiVersion: TEXT,
  kind: TEXT,
  metadata: { type: 'object', properties: { name: TEXT, generateName: TEXT } },
}

/**
 * @param options.root for a custom resource, which has a type and metadata.
 * @returns undefined for what expressions do not see, because nothing describes it.
 */
export function declaredSizeOf(
  schema: StructuralSchema,
  { root = false }: { root?: boolean } = {},
): DeclaredSize | undefined {
  if (root) return sizeOf(schema, root)
  // Rules may stand at every level, and each asks for all that is below.
  if (!sizes.has(schema)) sizes.set(schema, sizeOf(schema, false))
  return sizes.get(schema)
}

const sizes = new WeakMap<StructuralSchema, DeclaredSize | undefined>()

function sizeOf(schema: StructuralSchema, root: boolean): DeclaredSize | undefined {
  if (schema['x-kubernetes-int-or-string'])
    return fixed(1, schema.maxLength === undefined ? TEXT_BYTES_MAX : bytesOf(schema.maxLength))
  switch (schema.type) {
    case 'boolean':
      return BOOLEAN
    case 'integer':
    case 'number':
      return NUMBER
    case 'string':
      return textSize(schema)
    case 'array':
      return listSize(schema)
    case 'object':
      return objectSize(schema, root || schema['x-kubernetes-embedded-resource'] === true)
    default:
      return undefined
  }
}

function bytesOf(characters: number): number {
  return Math.max(0, characters) * BYTES_OF_CHARACTER_MAX
}

function textSize({ format, maxLength, enum: allowed }: StructuralSchema): DeclaredSize {
  switch (format) {
    case 'byte':
      return fixed(2, maxLength === undefined ? TEXT_BYTES_MAX : Math.max(0, maxLength))
    case 'date':
      return DATE
    case 'date-time':
      return DATE_TIME
    case 'duration':
      return DURATION
    default:
  }
  if (maxLength !== undefined) return fixed(2, bytesOf(maxLength))
  if (!allowed || allowed.length === 0) return fixed(2, TEXT_BYTES_MAX)
  const lengths = allowed.map((value) => (typeof value === 'string' ? Buffer.byteLength(value) : 0))
  return fixed(
    2,
    lengths.reduce((longest, length) => Math.max(longest, length), 0),
  )
}

function listSize({ items, maxItems }: StructuralSchema): DeclaredSize | undefined {
  const item = items && declaredSizeOf(items)
  if (!item) return undefined
  const most = Math.floor((REQUEST_BYTES_MAX - 2) / (item.bytesMin + 1))
  return { elementsMax: maxItems === undefined ? most : Math.max(0, maxItems), bytesMin: 2, items: item }
}

function objectSize(schema: StructuralSchema, hasType: boolean): DeclaredSize | undefined {
  const { additionalProperties, maxProperties, properties = {}, required = [] } = schema
  if (typeof additionalProperties === 'object') {
    const value = declaredSizeOf(additionalProperties)
    if (!value) return undefined
    // A key takes at least its quotation marks, two characters, a colon and a comma.
    const most = Math.floor((REQUEST_BYTES_MAX - 2) / (value.bytesMin + 6))
    const elementsMax = maxProperties === undefined ? most : Math.max(0, maxProperties)
    return { elementsMax, bytesMin: 2, keys: KEY, items: value }
  }
  const fields = new Map<string, DeclaredSize>()
  const needed = new Set(required)
  let bytesMin = 2
  for (const [name, property] of Object.entries(hasType ? { ...properties, ...ENVELOPE } : properties)) {
    const size = declaredSizeOf(property)
    if (!size) continue
    fields.set(name, size)
    fields.set(escapeName(name), size)
    // What has a default need not be sent.
    if (needed.has(name) && property.default === undefined)
      bytesMin += Buffer.byteLength(name) + size.bytesMin + 4
  }
  return { elementsMax: 0, bytesMin, fields }
}

/** How often a value of this size can be in one request at most. */
export function occurrencesMax({ bytesMin }: DeclaredSize): number {
  return Math.floor(REQUEST_BYTES_MAX / (bytesMin + 1))
}
