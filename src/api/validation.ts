import { isDeepStrictEqual } from 'node:util'
import { applyDefaults } from './defaults.ts'
import {
  forbiddenField,
  invalidValue,
  requiredValue,
  tooMany,
  unsupportedValue,
} from './kinds/field-errors.ts'
import { objectMetaSchema } from './kinds/meta.ts'
import type { KindDefinition, WriteContext } from './kind.ts'
import { ANY_DEPTH_MAX, ITEMS_MAX, PROBLEMS_MAX } from './limits.ts'
import type { JsonValue, KubeObject } from './meta.ts'
import { metadataErrors, NAME_MISSING } from './object-meta-rules.ts'
import { parseQuantity, renderQuantity } from './quantity.ts'
import { refusedFields, refusedValues, renderRefusal } from './refused-fields.ts'
import { type Field, type ObjectSchema, type Refusal, type Schema, schemaOf } from './schema.ts'
import { type ApiError, badRequest, type FieldError } from './status.ts'

export type CheckResult = {
  /**
   * What is wrong with the JSON itself. A `FieldValueTypeInvalid` means that it could not be read (`decodingError`
   * makes the 400 of it); every other reason belongs into a 422.
   */
  errors: FieldError[]
  /** Fields and values that the platform refuses, each with why and what to write instead; for a 422. */
  refused: FieldError[]
  /** Paths of fields that exist nowhere, for `fieldValidation`. */
  unknownFields: string[]
  /** Texts for `Warning:` headers: what is allowed, but has no effect. */
  warnings: string[]
  /** A fresh copy with known fields only, in canonical notation: quantities, times, base64. */
  object: KubeObject
}

export type CheckOptions = {
  /** The sub-resource that is written. Unless it is `status`, a kind's status is read but not judged. */
  subresource?: string
  /** Puts an empty value where a value is missing or unreadable, so that rules can still read what is around it. */
  fillGaps?: boolean
  /** Leaves nulls of a custom kind where they are, also where none may be: for what server-side apply makes. */
  keepNulls?: boolean
}

/**
 * Reads untrusted JSON by a schema. `null` means absent, as everywhere in Kubernetes. Never throws, whatever the value;
 * reports all problems at once, up to a bound.
 */
export function checkObject(
  kind: Pick<KindDefinition, 'schema' | 'hasStatus' | 'check'> | ObjectSchema,
  value: unknown,
  options: CheckOptions = {},
): CheckResult {
  if ('check' in kind && kind.check) return kind.check(value, options)
  const schema = 'schema' in kind ? kind.schema : kind
  const hasStatus = 'schema' in kind && kind.hasStatus === true
  const walk = new Walk(hasStatus && options.subresource !== 'status', options.fillGaps === true)
  const node = nodeOf(schema) as ObjectNode
  const checked = walk.object(node, value) ?? (options.fillGaps ? walk.gap(node) : undefined)
  // Every rule reads the metadata, so that it is there even when the user wrote none.
  const meta = schema.fields['metadata']
  if (checked && checked['metadata'] === undefined && meta && schemaOf(meta) === objectMetaSchema)
    checked['metadata'] = {}
  return {
    errors: walk.errors,
    refused: walk.refused,
    unknownFields: walk.unknownFields,
    warnings: walk.warnings,
    // The schema has the fields of an object; what it lacks is reported in `errors`.
    object: (checked ?? {}) as unknown as KubeObject,
  }
}

/**
 * Everything that is wrong with an object that `checkObject` found fault with: what it found, and what the kind's own
 * rules say about the rest. So that nobody has to mend one problem to be told the next. `filled` is the same object,
 * read with `fillGaps`.
 */
export function collectProblems(
  kind: KindDefinition,
  { errors, refused, filled }: Pick<CheckResult, 'errors' | 'refused'> & { filled: KubeObject },
  context: WriteContext,
  old?: KubeObject,
): FieldError[] {
  const found = [...refused, ...errors]
  const gaps = [
    ...refused,
    ...errors.filter(({ reason }) => reason === 'FieldValueTypeInvalid' || reason === 'FieldValueRequired'),
  ]
  const { metadata } = filled
  const object = applyDefaults(kind, {
    ...structuredClone(filled),
    metadata: { ...structuredClone(metadata), name: metadata.name || GENERATED, uid: metadata.uid ?? '' },
  })
  const prepared = old
    ? (kind.prepareForUpdate?.(object, old, context) ?? object)
    : (kind.prepareForCreate?.(object, context) ?? object)
  // A gap is no value of the user: what a rule says about it, or about what surrounds it, is not meant for them.
  const rules = validateObject(kind, prepared, context, old).filter(
    ({ field }) => !gaps.some((known) => isWithin(field, known.field) || isWithin(known.field, field)),
  )
  if (!metadata.name && !metadata.generateName && !old) rules.unshift(NAME_MISSING)
  const told = new Set<string>()
  return [...found, ...rules]
    .filter(({ field, reason }) => {
      const key = `${reason} ${field}`
      return !told.has(key) && told.add(key)
    })
    .slice(0, PROBLEMS_MAX)
}

/** Stands for a name that the server will make. */
const GENERATED = 'generated'

function isWithin(field: string, around: string): boolean {
  return (
    field === around ||
    (field.startsWith(around) && (field[around.length] === '.' || field[around.length] === '['))
  )
}

/** The 400 for JSON that could not be read, in upstream's words; undefined when everything could. */
export function decodingError(
  { version, kind }: { version: string; kind: string },
  { errors }: Pick<CheckResult, 'errors'>,
): ApiError | undefined {
  const unreadable = errors.filter((error) => error.reason === 'FieldValueTypeInvalid')
  if (unreadable.length === 0) return undefined
  const details = unreadable
    .map(({ field, message }) => (field ? `${message} (at ${field})` : message))
    .join(', ')
  return badRequest(`${kind} in version "${version}" cannot be handled as a ${kind}: ${details}`)
}

/** The 400 for unknown fields under `fieldValidation=Strict`. */
export function strictDecodingError(
  { version, kind }: { version: string; kind: string },
  problems: readonly string[],
): ApiError {
  return badRequest(
    `${kind} in version "${version}" cannot be handled as a ${kind}: strict decoding error: ${problems.join(', ')}`,
  )
}

/**
 * Problems of a whole object that a schema cannot express, its metadata included.
 * Requires: `object` went through `checkObject`, `applyDefaults` and, on create, the kind's `prepareForCreate`.
 */
export function validateObject(
  kind: KindDefinition,
  object: KubeObject,
  context: WriteContext,
  old?: KubeObject,
): FieldError[] {
  const errors = metadataErrors(kind, object, old)
  const all = kind.validate ? errors.concat(kind.validate(object, context, old)) : errors
  return all.length > PROBLEMS_MAX ? all.slice(0, PROBLEMS_MAX) : all
}

// --- schemas, prepared for reading ---------------------------------------------------------------------------------

type ScalarNode = {
  type:
    | 'string'
    | 'quantity'
    | 'int-or-string'
    | 'date-time'
    | 'micro-time'
    | 'byte'
    | 'integer'
    | 'number'
    | 'boolean'
    | 'any'
  schema: Schema
}
type ListNode = { type: 'list'; schema: Schema; items: Node }
type MapNode = { type: 'map'; schema: Schema; values: Node }
type ObjectNode = {
  type: 'object'
  schema: ObjectSchema
  fields: ReadonlyMap<string, FieldNode>
  required: readonly FieldNode[]
  refusals: ReadonlyMap<string, Refusal>
}
type Node = ScalarNode | ListNode | MapNode | ObjectNode
type FieldNode = {
  name: string
  node: Node
  warning: string | undefined
  /** Values of this field, or of its items, that are refused with a reason. */
  refusedValues: ReadonlyMap<string, Refusal> | undefined
}

const nodes = new WeakMap<Schema, Node>()

function nodeOf(schema: Schema): Node {
  const known = nodes.get(schema)
  if (known) return known
  switch (schema.type) {
    case 'object': {
      const fields = new Map<string, FieldNode>()
      const required: FieldNode[] = []
      const refusals = new Map(Object.entries(refusedFields[schema.name] ?? {}))
      const node: ObjectNode = { type: 'object', schema, fields, required, refusals }
      // Known before its fields are, so that a schema may contain itself.
      nodes.set(schema, node)
      for (const [name, field] of Object.entries(schema.fields)) {
        const fieldNode = fieldNodeOf(schema.name, name, field)
        fields.set(name, fieldNode)
        if (field.required) required.push(fieldNode)
      }
      return node
    }
    case 'list':
      return remember(schema, { type: 'list', schema, items: nodeOf(schema.items) })
    case 'map':
      return remember(schema, { type: 'map', schema, values: nodeOf(schema.values) })
    case 'string':
      return remember(schema, {
        type: schema.format === 'duration' ? 'string' : (schema.format ?? 'string'),
        schema,
      })
    case 'integer':
    case 'number':
    case 'boolean':
    case 'any':
      return remember(schema, { type: schema.type, schema })
    default:
      schema satisfies never
      throw new Error('An unknown type of schema')
  }
}

function fieldNodeOf(schemaName: string, name: string, field: Field): FieldNode {
  const refused = refusedValues[schemaName]?.[name]
  return {
    name,
    node: nodeOf(schemaOf(field)),
    warning: field.warning,
    refusedValues: refused ? new Map(Object.entries(refused)) : undefined,
  }
}

function remember(schema: Schema, node: Node): Node {
  nodes.set(schema, node)
  return node
}

// --- the walk --------------------------------------------------------------------------------------------------------

const INT32_MAX = 2_147_483_647
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/
const RFC_3339 = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[-+]\d\d:\d\d)$/
/** JSON.parse makes a field of it; a plain assignment would change the prototype of our copy. */
const PROTO = '__proto__'

class Walk {
  readonly errors: FieldError[] = []
  readonly refused: FieldError[] = []
  readonly unknownFields: string[] = []
  readonly warnings: string[] = []
  /** Where the walk is. Joined to text only when there is something to say. */
  private readonly path: (string | number)[] = []
  /** The schema of the object around, for messages. */
  private struct = ''
  private readonly ignoresStatus: boolean
  private readonly fillsGaps: boolean
  private insideStatus = false

  constructor(ignoresStatus: boolean, fillsGaps: boolean) {
    this.ignoresStatus = ignoresStatus
    this.fillsGaps = fillsGaps
  }

  object(node: ObjectNode, value: unknown): { [key: string]: JsonValue } | undefined {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      this.wrongType(value, shortName(node.schema.name))
      return undefined
    }
    const outer = this.struct
    this.struct = node.schema.name
    const copy: { [key: string]: JsonValue } = {}
    for (const key of Object.keys(value)) {
      const given = (value as Record<string, unknown>)[key]
      const field = node.fields.get(key)
      this.path.push(key)
      if (!field) this.strange(node, key, given)
      else if (given !== null && given !== undefined) {
        const top = this.path.length === 1 && key === 'status'
        if (top) this.insideStatus = true
        const checked = this.field(field, given)
        if (top) this.insideStatus = false
        if (checked !== undefined) copy[key] = checked
      }
      this.path.pop()
    }
    for (const field of node.required) {
      if (copy[field.name] !== undefined) continue
      this.missing(copy, field)
      if (this.fillsGaps && copy[field.name] === undefined) copy[field.name] = this.gapOf(field.node)
    }
    this.struct = outer
    return copy
  }

  private field(field: FieldNode, value: unknown): JsonValue | undefined {
    if (field.warning !== undefined && !isEmpty(value) && !this.judgesNot())
      this.note(this.warnings, () => `${this.where()}: ${field.warning}`)
    return this.value(field.node, value, field.refusedValues)
  }

  private value(
    node: Node,
    value: unknown,
    refusals: ReadonlyMap<string, Refusal> | undefined,
  ): JsonValue | undefined {
    switch (node.type) {
      case 'object':
        return this.object(node, value)
      case 'list':
        return this.list(node, value, refusals)
      case 'map':
        return this.map(node, value)
      case 'any':
        return this.anything(value, 0)
      default:
        return this.scalar(node, value, refusals)
    }
  }

  private list(
    node: ListNode,
    value: unknown,
    refusals: ReadonlyMap<string, Refusal> | undefined,
  ): JsonValue | undefined {
    if (!Array.isArray(value)) {
      this.wrongType(value, 'a list')
      return undefined
    }
    if (this.tooMany(value.length)) return undefined
    const copy: JsonValue[] = []
    for (let index = 0; index < value.length; index++) {
      const item: unknown = value[index]
      this.path.push(index)
      // Upstream reads null in a list as an empty item.
      const checked = this.value(node.items, item ?? zeroOf(node.items), refusals)
      if (checked !== undefined) copy.push(checked)
      // So that the items after it keep the places that the user sees.
      else if (this.fillsGaps) copy.push(this.gapOf(node.items))
      this.path.pop()
    }
    const { schema } = node
    if (
      schema.type === 'list' &&
      schema.listType !== 'atomic' &&
      copy.length === value.length &&
      !this.judgesNot()
    )
      this.duplicates(copy, schema.listMapKeys)
    return copy
  }

  private tooMany(count: number): boolean {
    if (count <= ITEMS_MAX) return false
    this.note(this.errors, () => tooMany(this.where(), count, ITEMS_MAX))
    return true
  }

  /** Items that cannot be told apart would make every patch ambiguous. */
  private duplicates(items: readonly JsonValue[], keys: readonly string[] | undefined): void {
    if (items.length < 2) return
    const seen = new Set<string>()
    items.forEach((item, index) => {
      const identity = keys
        ? keys.map((key) => (item as Record<string, JsonValue>)[key] ?? LIST_KEY_DEFAULTS.get(key) ?? '')
        : [item]
      const text = identity.length === 1 ? String(identity[0]) : JSON.stringify(identity)
      if (seen.has(text)) {
        this.path.push(index)
        const shown = keys ? Object.fromEntries(keys.map((key, at) => [key, identity[at]])) : item
        this.note(this.errors, () => ({
          reason: 'FieldValueDuplicate',
          field: this.where(),
          message: `Duplicate value: ${JSON.stringify(shown)}`,
        }))
        this.path.pop()
      }
      seen.add(text)
    })
  }

  private map(node: MapNode, value: unknown): JsonValue | undefined {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      this.wrongType(value, 'an object')
      return undefined
    }
    const keys = Object.keys(value)
    if (this.tooMany(keys.length)) return undefined
    const copy: { [key: string]: JsonValue } = {}
    for (const key of keys) {
      if (key === PROTO) {
        this.note(this.errors, () => invalidValue(this.where(), PROTO, 'this key is not allowed'))
        continue
      }
      const given = (value as Record<string, unknown>)[key]
      this.path.push(key)
      const checked = this.value(node.values, given ?? zeroOf(node.values), undefined)
      if (checked !== undefined) copy[key] = checked
      this.path.pop()
    }
    return copy
  }

  private anything(value: unknown, depth: number): JsonValue | undefined {
    if (depth > ANY_DEPTH_MAX) {
      this.note(this.errors, () =>
        invalidValue(this.where(), '…', `must not be nested more than ${ANY_DEPTH_MAX} levels deep`),
      )
      return undefined
    }
    if (Array.isArray(value)) return value.map((item) => this.anything(item, depth + 1) ?? null)
    if (typeof value === 'object' && value !== null) {
      const copy: { [key: string]: JsonValue } = {}
      for (const key of Object.keys(value)) {
        if (key === PROTO) continue
        copy[key] = this.anything((value as Record<string, unknown>)[key], depth + 1) ?? null
      }
      return copy
    }
    return value as JsonValue // JSON has nothing else
  }

  private scalar(
    node: ScalarNode,
    value: unknown,
    refusals: ReadonlyMap<string, Refusal> | undefined,
  ): JsonValue | undefined {
    const { schema } = node
    switch (node.type) {
      case 'boolean':
        if (typeof value !== 'boolean') return this.wrongType(value, 'bool')
        if (refusals && this.refuse(refusals.get(String(value)))) return undefined
        return value
      case 'integer':
        return this.integer(schema as Extract<Schema, { type: 'integer' }>, value)
      case 'number':
        return typeof value === 'number' ? value : this.wrongType(value, 'float64')
      case 'quantity':
        if (typeof value !== 'string' && typeof value !== 'number') return this.wrongType(value, 'quantity')
        try {
          return renderQuantity(parseQuantity(value))
        } catch (error) {
          return this.unreadable(error instanceof TypeError ? error.message : 'not a quantity')
        }
      case 'int-or-string':
        if (typeof value === 'string') return value
        if (typeof value !== 'number' || !Number.isInteger(value) || Math.abs(value) > INT32_MAX)
          return this.wrongType(value, 'intstr.IntOrString')
        return value
      case 'date-time':
      case 'micro-time':
        return this.time(value, node.type)
      case 'byte':
        return this.base64(value)
      case 'string':
        return this.string(schema as Extract<Schema, { type: 'string' }>, value, refusals)
      case 'any':
        return this.anything(value, 0)
      default:
        node.type satisfies never
        return undefined
    }
  }

  private string(
    schema: Extract<Schema, { type: 'string' }>,
    value: unknown,
    refusals: ReadonlyMap<string, Refusal> | undefined,
  ): string | undefined {
    if (typeof value !== 'string') return this.wrongType(value, 'string')
    if (schema.enum && !schema.enum.includes(value)) {
      // Upstream's empty string is what others call absent.
      if (value === '') return undefined
      if (this.refuse(refusals?.get(value) ?? refusals?.get('*'))) return undefined
      if (!this.judgesNot())
        this.note(this.errors, () => unsupportedValue(this.where(), value, schema.enum ?? []))
      return undefined
    }
    if (schema.minLength !== undefined && value.length < schema.minLength)
      this.note(this.errors, () =>
        invalidValue(this.where(), value, `must have at least ${schema.minLength} characters`),
      )
    if (schema.maxLength !== undefined && value.length > schema.maxLength)
      this.note(this.errors, () =>
        invalidValue(this.where(), value, `must be no more than ${schema.maxLength} characters`),
      )
    return value
  }

  private integer(
    { format, minimum, maximum }: Extract<Schema, { type: 'integer' }>,
    value: unknown,
  ): number | undefined {
    if (typeof value !== 'number') return this.wrongType(value, format)
    const bound = format === 'int32' ? INT32_MAX : Number.MAX_SAFE_INTEGER
    if (!Number.isInteger(value) || value > bound || value < -bound - 1)
      return this.unreadable(
        `json: cannot unmarshal number ${value} into Go ${this.structField()} of type ${format}`,
      )
    if ((minimum !== undefined && value < minimum) || (maximum !== undefined && value > maximum)) {
      const range =
        minimum !== undefined && maximum !== undefined
          ? `must be between ${minimum} and ${maximum}, inclusive`
          : minimum !== undefined
            ? `must be greater than or equal to ${minimum}`
            : `must be less than or equal to ${maximum}`
      this.note(this.errors, () => invalidValue(this.where(), value, range))
    }
    return value
  }

  private time(value: unknown, format: 'date-time' | 'micro-time'): string | undefined {
    if (typeof value !== 'string') return this.wrongType(value, format === 'date-time' ? 'Time' : 'MicroTime')
    if (value === '') return undefined
    const match = RFC_3339.exec(value)
    const ms = match ? Date.parse(value) : Number.NaN
    if (!match || Number.isNaN(ms))
      return this.unreadable(`parsing time ${JSON.stringify(value.slice(0, 64))}: not an RFC 3339 time`)
    const iso = new Date(ms).toISOString()
    // An offset can lead out of the four-digit years, and what we write must be read again.
    if (!/^\d{4}-/.test(iso))
      return this.unreadable(`parsing time ${JSON.stringify(value.slice(0, 64))}: not of the years 0 to 9999`)
    if (format === 'date-time') return `${iso.slice(0, 19)}Z`
    const micros = (match[1] ?? '.').slice(1, 7).padEnd(6, '0')
    return `${iso.slice(0, 19)}.${micros}Z`
  }

  private base64(value: unknown): string | undefined {
    if (typeof value !== 'string') return this.wrongType(value, '[]uint8')
    const text = value.includes('\n') || value.includes('\r') ? value.replace(/[\r\n]/g, '') : value
    if (text.length % 4 !== 0 || !BASE64.test(text)) return this.unreadable('illegal base64 data')
    return text
  }

  /** A field that the schema lacks: refused with a reason, or known to nobody. */
  private strange(node: ObjectNode, key: string, value: unknown): void {
    const refusal = node.refusals.get(key)
    if (!refusal) {
      this.note(this.unknownFields, () => this.where())
      return
    }
    if (value === null || value === undefined || this.judgesNot()) return
    if (refusal.harmless?.some((harmless) => isDeepStrictEqual(harmless, value))) return
    this.refuse(refusal)
  }

  private refuse(refusal: Refusal | undefined): boolean {
    if (!refusal) return false
    if (!this.judgesNot()) this.note(this.refused, () => forbiddenField(this.where(), renderRefusal(refusal)))
    return true
  }

  private missing(copy: { [key: string]: JsonValue }, field: FieldNode): void {
    const { node } = field
    // Upstream cannot tell an absent flag, count or word from false, 0 or nothing.
    if (node.type === 'boolean') copy[field.name] = false
    else if (this.insideStatus && node.type === 'integer') copy[field.name] = 0
    else if (this.insideStatus && node.type === 'string' && !('enum' in node.schema)) copy[field.name] = ''
    else if (!this.judgesNot() && this.errors.length < PROBLEMS_MAX) {
      this.path.push(field.name)
      const at = this.where()
      // A wrong or refused value has been reported already; it is not missing as well.
      const reported = [...this.errors, ...this.refused].some(
        (error) => error.field === at || error.field.startsWith(`${at}.`) || error.field.startsWith(`${at}[`),
      )
      if (!reported) this.note(this.errors, () => requiredValue(at))
      this.path.pop()
    }
  }

  /** An empty value of the right shape. No required field of a schema leads back to the schema, so this ends. */
  gap(node: ObjectNode): { [key: string]: JsonValue } {
    return Object.fromEntries(node.required.map((field) => [field.name, this.gapOf(field.node)]))
  }

  private gapOf(node: Node): JsonValue {
    return node.type === 'object' ? this.gap(node) : zeroOf(node)
  }

  private judgesNot(): boolean {
    return this.ignoresStatus && this.insideStatus
  }

  private wrongType(value: unknown, expected: string): undefined {
    return this.unreadable(
      `json: cannot unmarshal ${jsonType(value)} into Go ${this.structField()} of type ${expected}`,
    )
  }

  private unreadable(message: string): undefined {
    this.note(this.errors, () => ({ reason: 'FieldValueTypeInvalid', field: this.where(), message }))
    return undefined
  }

  /** Adds to a list of problems, as long as anybody would read it. */
  private note<T>(list: T[], make: () => T): void {
    if (list.length < PROBLEMS_MAX) list.push(make())
  }

  /** The path as the user wrote it: `spec.containers[0].image`, `metadata.labels[app]`. */
  private where(): string {
    let text = ''
    for (const part of this.path) {
      if (typeof part === 'number') text += `[${part}]`
      else if (FIELD_NAME.test(part)) text += text ? `.${part}` : part
      else text += `[${visible(part.slice(0, 256))}]`
    }
    return text
  }

  /** `struct field Container.spec.containers.image`, as Go names it. */
  private structField(): string {
    const names = this.path.filter((part) => typeof part === 'string')
    return names.length === 0
      ? 'value'
      : `struct field ${shortName(this.struct)}.${names.join('.').slice(0, 512)}`
  }
}

/** A look-alike of a letter, or a letter that nobody sees, must not pass for the name that it imitates. */
function visible(text: string): string {
  return text.replace(
    /[^\x20-\x7e]/gu,
    (letter) => `(U+${(letter.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')})`,
  )
}

const FIELD_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/

/** What a key of a list is when an item leaves it out. */
const LIST_KEY_DEFAULTS: ReadonlyMap<string, string> = new Map([['protocol', 'TCP']])

function shortName(schemaName: string): string {
  return schemaName.slice(schemaName.lastIndexOf('.') + 1)
}

function jsonType(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  return typeof value === 'boolean' ? 'bool' : typeof value
}

function zeroOf(node: Node): JsonValue {
  switch (node.type) {
    case 'object':
    case 'map':
      return {}
    case 'list':
      return []
    case 'boolean':
      return false
    case 'integer':
    case 'number':
    case 'int-or-string':
      return 0
    case 'quantity':
      return '0'
    case 'any':
      return null
    case 'string':
    case 'date-time':
    case 'micro-time':
    case 'byte':
      return ''
    default:
      node satisfies never
      return null
  }
}

function isEmpty(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0
  if (typeof value === 'object' && value !== null) return Object.keys(value).length === 0
  return value === '' || value === false || value === 0
}
