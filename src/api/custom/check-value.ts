import { CUSTOM_CHECK_STEPS_MAX, ITEMS_MAX, PROBLEMS_MAX } from '../limits.ts'
import {
  duplicateValue,
  invalidValue,
  requiredValue,
  tooLong,
  tooMany,
  unsupportedValue,
} from '../kinds/field-errors.ts'
import type { JsonValue } from '../meta.ts'
import type { FieldError, FieldErrorReason } from '../status.ts'
import { matchesFormat } from './formats.ts'
import { additionalSchema, isRecord, type JsonSchema, ownField } from './json-schema.ts'
import { parsePattern } from './patterns.ts'

/** What is not one field's, upstream reports without a path. */
const NO_PATH = '<nil>'

/**
 * What is wrong with a value, in upstream's words. What an update leaves as it was is not judged again, so that a schema
 * may become stricter than objects that are there.
 * https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-ratcheting
 */
export function valueErrors(
  schema: JsonSchema,
  value: JsonValue,
  path: string,
  old?: JsonValue,
): FieldError[] {
  const check = new Check(new Steps())
  try {
    check.value(schema, value, old, path)
  } catch (error) {
    if (!(error instanceof TooManySteps)) throw error
    check.note({
      reason: 'FieldValueTooLong',
      field: path || NO_PATH,
      message: 'Too long: the object is too large to be checked against so large a schema',
    })
  }
  return check.errors
}

/** After these nobody can rely on types and sizes, on which rules depend. */
const BLOCKING: ReadonlySet<FieldErrorReason> = new Set<FieldErrorReason>([
  'FieldValueNotSupported',
  'FieldValueRequired',
  'FieldValueTooLong',
  'FieldValueTooMany',
  'FieldValueTypeInvalid',
])

/** Says that rules were not asked, when they cannot be. */
export function rulesBlocked(errors: readonly FieldError[]): FieldError | undefined {
  if (errors.length < PROBLEMS_MAX && !errors.some(({ reason }) => BLOCKING.has(reason))) return undefined
  const why =
    'some validation rules were not checked because the object was invalid; correct the existing errors to complete validation'
  return invalidValue(NO_PATH, null, why)
}

class TooManySteps extends Error {}

/** Bounds what one object costs, whatever its schema: alternatives and patterns multiply with its size. */
class Steps {
  private left = CUSTOM_CHECK_STEPS_MAX
  take(count: number): void {
    this.left -= count
    if (this.left < 0) throw new TooManySteps()
  }
}

class Check {
  readonly errors: FieldError[] = []
  private readonly steps: Steps

  constructor(steps: Steps) {
    this.steps = steps
  }

  note(error: FieldError): void {
    if (this.errors.length < PROBLEMS_MAX) this.errors.push(error)
  }

  value(schema: JsonSchema, value: JsonValue, old: JsonValue | undefined, path: string): void {
    this.steps.take(1)
    if (old !== undefined && this.equal(value, old)) return
    if (value === null && schema.nullable) return
    if (!this.rightType(schema, value, path)) {
      // Upstream holds it against the values that are allowed as well.
      if (schema.enum) this.oneOfValues(schema.enum, value, path)
      return
    }
    if (schema.enum) this.oneOfValues(schema.enum, value, path)
    if (typeof value === 'string') this.text(schema, value, path)
    else if (typeof value === 'number') this.number(schema, value, path)
    else if (Array.isArray(value)) this.list(schema, value, old, path)
    else if (isRecord(value)) this.fields(schema, value as Json, old, path)
    this.alternatives(schema, value, path)
  }

  private rightType(schema: JsonSchema, value: JsonValue, path: string): boolean {
    const wanted = schema.type
    if (schema['x-kubernetes-int-or-string']) {
      if (typeof value === 'string' || Number.isInteger(value)) return true
      this.wrongType('integer,string', value, path)
      return false
    }
    if (wanted === undefined || wanted === '') return true
    const given = typeOf(value)
    if (given === wanted || (given === 'integer' && wanted === 'number')) return true
    // Upstream finds this twice.
    if (wanted === 'string' && schema.format && given !== 'null') {
      const shown = given === 'number' ? 'float64' : ''
      const message = `Invalid value: "${shown}": ${path} in body must be of type ${schema.format}: "${shown}"`
      this.note({ reason: 'FieldValueTypeInvalid', field: path || NO_PATH, message })
      return false
    }
    if (given === 'number' && wanted === 'integer')
      this.whole(`Checked value must be of type integer (default format) in ${path}`)
    this.wrongType(wanted, value, path)
    return false
  }

  private wrongType(wanted: string, value: JsonValue, path: string): void {
    const given = typeOf(value)
    this.note({
      reason: 'FieldValueTypeInvalid',
      field: path || NO_PATH,
      message: `Invalid value: "${given}": ${path} in body must be of type ${wanted}: "${given}"`,
    })
  }

  private oneOfValues(allowed: readonly JsonValue[], value: JsonValue, path: string): void {
    this.steps.take(allowed.length / 16)
    if (allowed.some((candidate) => this.equal(candidate, value))) return
    const list = allowed.slice(0, 100).map((v) => (typeof v === 'string' ? v : JSON.stringify(v)))
    this.note(unsupportedValue(path, value, list, { inOrder: true }))
  }

  private text(schema: JsonSchema, value: string, path: string): void {
    const { maxLength, minLength, pattern, format } = schema
    if (maxLength !== undefined || minLength !== undefined) {
      this.steps.take(value.length / 256)
      // Characters as Go counts them.
      const length = value.length > (maxLength ?? Infinity) || minLength !== undefined ? [...value].length : 0
      if (maxLength !== undefined && length > maxLength) this.note(tooLong(path, maxLength))
      if (minLength !== undefined && length < minLength)
        this.bad(path, value, `should be at least ${minLength} chars long`)
    }
    if (pattern !== undefined) {
      const expression = parsePattern(pattern)
      if (typeof expression === 'string') this.bad(path, value, `${expression}`)
      else {
        this.steps.take((value.length * expression.instructions) / 16)
        if (!expression.matches(value)) this.bad(path, value, `should match '${pattern}'`)
      }
    }
    if (format !== undefined) {
      this.steps.take(value.length / 256)
      if (!matchesFormat(format, value))
        this.note({
          ...invalidValue(
            path,
            value,
            `${path} in body must be of type ${format}: ${JSON.stringify(value.slice(0, 256))}`,
          ),
          reason: 'FieldValueTypeInvalid',
        })
    }
  }

  private number(
    { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf, format }: JsonSchema,
    value: number,
    path: string,
  ): void {
    if (maximum !== undefined && (exclusiveMaximum ? value >= maximum : value > maximum))
      this.bad(path, value, `should be less than ${exclusiveMaximum ? '' : 'or equal to '}${maximum}`)
    if (minimum !== undefined && (exclusiveMinimum ? value <= minimum : value < minimum))
      this.bad(path, value, `should be greater than ${exclusiveMinimum ? '' : 'or equal to '}${minimum}`)
    if (multipleOf !== undefined && multipleOf > 0) {
      const times = value / multipleOf
      if (Math.abs(times - Math.round(times)) > 1e-9 * Math.max(1, Math.abs(times)))
        this.bad(path, value, `should be a multiple of ${multipleOf}`)
    }
    if (format === 'int32' && (value > 2_147_483_647 || value < -2_147_483_648))
      this.bad(path, value, 'should be of type int32')
  }

  private list(schema: JsonSchema, value: JsonValue[], old: JsonValue | undefined, path: string): void {
    const { maxItems, minItems, items } = schema
    if (maxItems !== undefined && value.length > maxItems) this.note(tooMany(path, value.length, maxItems))
    else if (value.length > ITEMS_MAX) this.note(tooMany(path, value.length, ITEMS_MAX))
    if (value.length > ITEMS_MAX) return
    if (minItems !== undefined && value.length < minItems)
      this.bad(path, value.length, `should have at least ${minItems} items`)
    const keys = schema['x-kubernetes-list-type'] === 'map' ? schema['x-kubernetes-list-map-keys'] : undefined
    // Only items with a key of their own can be told to be the same as before.
    const before =
      keys && Array.isArray(old) ? new Map(old.map((item) => [identityOf(keys, item), item])) : undefined
    if (items)
      value.forEach((item, index) =>
        this.value(items, item, keys && before?.get(identityOf(keys, item)), `${path}[${index}]`),
      )
    if (keys || schema['x-kubernetes-list-type'] === 'set') this.duplicates(schema, value, keys, path)
  }

  private duplicates(
    schema: JsonSchema,
    value: readonly JsonValue[],
    keys: readonly string[] | undefined,
    path: string,
  ): void {
    this.steps.take(value.length)
    const seen = new Set<string>()
    value.forEach((item, index) => {
      if (keys && !isRecord(item)) {
        if (item !== null)
          this.note(
            invalidValue(`${path}[${index}]`, item, 'must be an object for an array of list-type map'),
          )
        return
      }
      const identity = keys ? identityOf(keys, item, schema.items) : canonical(item)
      if (seen.has(identity)) {
        const shown =
          keys && isRecord(item) ? Object.fromEntries(keys.map((k) => [k, ownField(item, k) ?? null])) : item
        this.note(duplicateValue(`${path}[${index}]`, shown))
      }
      seen.add(identity)
    })
  }

  private fields(schema: JsonSchema, value: Json, old: JsonValue | undefined, path: string): void {
    const keys = Object.keys(value)
    const { maxProperties, minProperties } = schema
    if (maxProperties !== undefined && keys.length > maxProperties)
      this.note({ ...tooMany(path, keys.length, maxProperties) })
    if (minProperties !== undefined && keys.length < minProperties)
      this.bad(path, keys.length, `should have at least ${minProperties} properties`)
    this.steps.take((keys.length + (schema.required?.length ?? 0)) / 4)
    for (const name of schema.required ?? [])
      if (!Object.hasOwn(value, name)) this.note(requiredValue(path === '' ? name : `${path}.${name}`))
    if (schema['x-kubernetes-embedded-resource'])
      for (const name of ['apiVersion', 'kind'])
        if (typeof ownField(value, name) !== 'string' || value[name] === '') {
          const isEmpty = ownField(value, name) === ''
          this.note(requiredValue(`${path}.${name}`, ...(isEmpty ? ['must not be empty'] : [])))
        }
    const before = isRecord(old) ? (old as Json) : undefined
    const additional = additionalSchema(schema)
    if (!schema.properties && !additional) return
    for (const key of keys) {
      const field = ownField(schema.properties, key) ?? additional
      if (field) this.value(field, value[key]!, ownField(before, key), path === '' ? key : `${path}.${key}`)
    }
  }

  private alternatives({ allOf, anyOf, oneOf, not }: JsonSchema, value: JsonValue, path: string): void {
    // A path can be long, with the keys that are in it, and most values have no alternatives.
    const named = () => JSON.stringify(path)
    if (allOf) {
      let failed = false
      for (const schema of allOf) {
        const errors = this.tried(schema, value, path)
        if (errors.length > 0) failed = true
        for (const error of errors) this.note(error)
      }
      if (failed) this.whole(`${named()} must validate all the schemas (allOf)`)
    }
    if (anyOf && anyOf.length > 0) {
      const tries = anyOf.map((schema) => this.tried(schema, value, path))
      if (tries.every((errors) => errors.length > 0)) {
        this.whole(`${named()} must validate at least one schema (anyOf)`)
        this.closest(tries)
      }
    }
    if (oneOf && oneOf.length > 0) {
      const tries = oneOf.map((schema) => this.tried(schema, value, path))
      const valid = tries.filter((errors) => errors.length === 0).length
      if (valid !== 1) {
        const found = valid === 0 ? 'Found none valid' : `Found ${valid} valid alternatives`
        this.whole(`${named()} must validate one and only one schema (oneOf). ${found}`)
        if (valid === 0) this.closest(tries)
      }
    }
    if (not && this.tried(not, value, path).length === 0)
      this.whole(`${named()} must not validate the schema (not)`)
  }

  /** Of alternatives that all fail, the one that comes closest tells what to do. */
  private closest(tries: readonly FieldError[][]): void {
    const [best = []] = [...tries].sort((a, b) => a.length - b.length)
    for (const error of best) this.note(error)
  }

  private tried(schema: JsonSchema, value: JsonValue, path: string): FieldError[] {
    const check = new Check(this.steps)
    check.value(schema, value, undefined, path)
    // What is wrong with an alternative is put into words, each with the path.
    this.steps.take(check.errors.length * (1 + path.length / 256))
    return check.errors
  }

  private whole(message: string): void {
    this.note({ reason: 'FieldValueInvalid', field: NO_PATH, message: `Invalid value: "": ${message}` })
  }

  private bad(path: string, value: JsonValue, problem: string): void {
    this.note(invalidValue(path, value, `${path} in body ${problem}`))
  }

  /** Equality of JSON, paid for by its size. */
  private equal(a: JsonValue, b: JsonValue): boolean {
    if (a === b) return true
    if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false
    this.steps.take(1)
    if (Array.isArray(a) || Array.isArray(b))
      return (
        Array.isArray(a) &&
        Array.isArray(b) &&
        a.length === b.length &&
        a.every((item, at) => this.equal(item, b[at]!))
      )
    const keys = Object.keys(a)
    return (
      keys.length === Object.keys(b).length &&
      keys.every((key) => Object.hasOwn(b, key) && this.equal(a[key]!, b[key]!))
    )
  }
}

type Json = { [key: string]: JsonValue }

function typeOf(value: JsonValue): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number'
  return typeof value
}

function identityOf(keys: readonly string[], item: JsonValue, items?: JsonSchema): string {
  if (!isRecord(item)) return canonical(item)
  return JSON.stringify(
    keys.map((key) => ownField(item, key) ?? ownField(items?.properties, key)?.default ?? null),
  )
}

/** The same text for equal JSON. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (!isRecord(value)) return JSON.stringify(value)
  return `{${Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`)
    .join(',')}}`
}
