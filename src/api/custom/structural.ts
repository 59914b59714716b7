import { CUSTOM_DEFAULTS_BYTES_MAX, PROBLEMS_MAX } from '../limits.ts'
import {
  duplicateValue,
  forbiddenField,
  invalidValue,
  requiredValue,
  tooLong,
  unsupportedValue,
} from '../kinds/field-errors.ts'
import type { FieldError } from '../status.ts'
import { valueErrors } from './check-value.ts'
import { prune } from './fill-in.ts'
import { additionalSchema, type JsonSchema, ownField } from './json-schema.ts'
import { parsePattern } from './patterns.ts'

const TYPES: readonly string[] = ['array', 'boolean', 'integer', 'number', 'object', 'string']

/**
 * What keeps a schema from being structural: each field has one type, and alternatives only narrow what is described
 * outside of them.
 * https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
 */
export function structuralErrors(schema: JsonSchema, path: string): FieldError[] {
  const check = new StructuralCheck()
  check.root(schema, path)
  return check.errors
}

class StructuralCheck {
  readonly errors: FieldError[] = []
  private defaultBytes = 0

  root(schema: JsonSchema, path: string): void {
    if (schema.type === undefined || schema.type === '')
      this.note(requiredValue(`${path}.type`, 'must not be empty at the root'))
    else if (schema.type !== 'object')
      this.note(invalidValue(`${path}.type`, schema.type, 'must be object at the root'))
    if (schema.nullable) this.note(forbiddenField(`${path}.nullable`, 'nullable cannot be true at the root'))
    if (schema.default !== undefined)
      this.note(forbiddenField(`${path}.default`, 'must not be set at the root'))
    const metadata = ownField(schema.properties, 'metadata')
    if (metadata) {
      const { type: _type, description: _text, properties = {}, ...others } = metadata
      const names = Object.keys(properties).filter((name) => name !== 'name' && name !== 'generateName')
      if (Object.keys(others).length > 0 || names.length > 0)
        this.note(
          forbiddenField(
            `${path}.properties[metadata]`,
            'must not specify anything other than name and generateName, but metadata is implicitly specified',
          ),
        )
    }
    this.schema(schema, path, { root: true })
    if (this.defaultBytes > CUSTOM_DEFAULTS_BYTES_MAX)
      this.note(tooLong(`${path}: all defaults together`, CUSTOM_DEFAULTS_BYTES_MAX))
  }

  private schema(schema: JsonSchema, path: string, { root = false, item = false } = {}): void {
    const preserve = schema['x-kubernetes-preserve-unknown-fields']
    const intOrString = schema['x-kubernetes-int-or-string']
    const type = schema.type ?? ''
    if (!root && type === '' && !preserve && !intOrString)
      this.note(
        requiredValue(
          `${path}.type`,
          item
            ? 'must not be empty for specified array items'
            : 'must not be empty for specified object fields',
        ),
      )
    if (intOrString && type !== '')
      this.note(forbiddenField(`${path}.type`, 'must be empty if x-kubernetes-int-or-string is true'))
    if (intOrString && preserve)
      this.note(
        forbiddenField(
          `${path}.x-kubernetes-preserve-unknown-fields`,
          'must be false if x-kubernetes-int-or-string is true',
        ),
      )
    if (preserve === false)
      this.note(
        invalidValue(`${path}.x-kubernetes-preserve-unknown-fields`, false, 'must be true or undefined'),
      )
    this.typeItself(schema, path)
    this.unsupported(schema, path)
    if (schema['x-kubernetes-embedded-resource']) this.embedded(schema, path)
    this.shape(schema, path)
    this.listType(schema, path)
    this.values(schema, path)
    this.defaultValue(schema, path)
    for (const [name, field] of Object.entries(schema.properties ?? {}))
      this.schema(field, `${path}.properties[${name}]`)
    const additional = additionalSchema(schema)
    if (additional) this.schema(additional, `${path}.additionalProperties`)
    if (schema.items) this.schema(schema.items, `${path}.items`, { item: true })
    const inAlternatives = intOrString === true
    this.alternatives(schema, schema, path, inAlternatives)
  }

  private typeItself({ type }: JsonSchema, path: string): void {
    if (type === undefined || type === '' || TYPES.includes(type)) return
    if (type === 'null')
      this.note(forbiddenField(`${path}.type`, 'type cannot be set to null, use nullable as an alternative'))
    else this.note(unsupportedValue(`${path}.type`, type, TYPES))
  }

  private unsupported(schema: JsonSchema, path: string): void {
    for (const keyword of [
      '$ref',
      'definitions',
      'dependencies',
      'patternProperties',
      'additionalItems',
      'id',
    ] as const)
      if (schema[keyword] !== undefined)
        this.note(forbiddenField(`${path}.${keyword}`, `${keyword} is not supported`))
    if (schema.uniqueItems)
      this.note(
        forbiddenField(
          `${path}.uniqueItems`,
          'uniqueItems cannot be set to true since the runtime complexity becomes quadratic; use x-kubernetes-list-type: set',
        ),
      )
    if (schema.additionalProperties === false)
      this.note(
        forbiddenField(
          `${path}.additionalProperties`,
          'additionalProperties cannot be set to false; fields that are not listed are dropped anyway',
        ),
      )
  }

  private embedded(schema: JsonSchema, path: string): void {
    if (schema.type !== 'object')
      this.note(
        invalidValue(
          `${path}.type`,
          schema.type ?? '',
          'must be object if x-kubernetes-embedded-resource is true',
        ),
      )
    if (!schema['x-kubernetes-preserve-unknown-fields'] && !schema.properties)
      this.note(
        requiredValue(
          `${path}.properties`,
          'must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields',
        ),
      )
  }

  /** Keywords that only make sense for one type. */
  private shape(schema: JsonSchema, path: string): void {
    const { type, properties, items } = schema
    if (properties && Object.keys(properties).length > 0 && schema.additionalProperties)
      this.note(
        forbiddenField(
          `${path}.additionalProperties`,
          'additionalProperties and properties are mutual exclusive',
        ),
      )
    if (properties && type !== 'object' && type)
      this.note(forbiddenField(`${path}.properties`, 'must be empty if type is not object'))
    if (schema.additionalProperties && type !== 'object' && type)
      this.note(forbiddenField(`${path}.additionalProperties`, 'must be undefined if type is not object'))
    if (type === 'array' && !items) this.note(requiredValue(`${path}.items`, 'must be specified'))
    if (items && type !== 'array' && type)
      this.note(forbiddenField(`${path}.items`, 'must be undefined if type is not array'))
  }

  private listType(schema: JsonSchema, path: string): void {
    const listType = schema['x-kubernetes-list-type']
    const keys = schema['x-kubernetes-list-map-keys']
    const { items } = schema
    const mapType = schema['x-kubernetes-map-type']
    if (mapType !== undefined) {
      if (!['atomic', 'granular'].includes(mapType))
        this.note(unsupportedValue(`${path}.x-kubernetes-map-type`, mapType, ['atomic', 'granular']))
      if (schema.type !== 'object')
        this.note(
          invalidValue(
            `${path}.type`,
            schema.type ?? '',
            'must be object if x-kubernetes-map-type is specified',
          ),
        )
    }
    if (listType === undefined) {
      if (keys?.length)
        this.note(
          requiredValue(
            `${path}.x-kubernetes-list-type`,
            'must be map if x-kubernetes-list-map-keys is non-empty',
          ),
        )
      return
    }
    if (schema.type !== 'array')
      this.note(
        invalidValue(
          `${path}.type`,
          schema.type ?? '',
          'must be array if x-kubernetes-list-type is specified',
        ),
      )
    if (!['atomic', 'set', 'map'].includes(listType))
      this.note(unsupportedValue(`${path}.x-kubernetes-list-type`, listType, ['atomic', 'set', 'map']))
    if (listType === 'set' && items && !isWhole(items))
      this.note(
        invalidValue(
          `${path}.items.x-kubernetes-${items.type === 'array' ? 'list' : 'map'}-type`,
          null,
          `must be atomic as item of a list with x-kubernetes-list-type=set`,
        ),
      )
    if (listType !== 'map') {
      if (keys?.length)
        this.note(
          forbiddenField(
            `${path}.x-kubernetes-list-map-keys`,
            'must be empty if x-kubernetes-list-type is not map',
          ),
        )
      return
    }
    if (!keys?.length)
      this.note(
        requiredValue(
          `${path}.x-kubernetes-list-map-keys`,
          'must not be empty if x-kubernetes-list-type is map',
        ),
      )
    if (items && items.type !== 'object')
      this.note(
        invalidValue(
          `${path}.items.type`,
          items.type ?? '',
          "must be object if parent array's x-kubernetes-list-type is map",
        ),
      )
    const seen = new Set<string>()
    keys?.forEach((key, index) => {
      const at = `${path}.x-kubernetes-list-map-keys[${index}]`
      if (seen.has(key)) this.note(duplicateValue(at, key))
      seen.add(key)
      const field = ownField(items?.properties, key)
      if (!field) {
        this.note(invalidValue(at, key, 'entries must all be names of item properties'))
        return
      }
      if (field.type === 'array' || field.type === 'object')
        this.note(
          invalidValue(
            `${path}.items.properties[${key}].type`,
            field.type,
            "must be a scalar type if parent array's x-kubernetes-list-type is map",
          ),
        )
      if (field.nullable)
        this.note(
          forbiddenField(
            `${path}.items.properties[${key}].nullable`,
            'this property is in x-kubernetes-list-map-keys, so it cannot be nullable',
          ),
        )
      if (field.default === undefined && !items?.required?.includes(key))
        this.note(
          requiredValue(
            `${path}.items.properties[${key}].default`,
            'this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property',
          ),
        )
    })
  }

  /** What stands in the schema for values to be compared with. */
  private values(schema: JsonSchema, path: string): void {
    if (schema.pattern !== undefined) {
      const pattern = parsePattern(schema.pattern)
      if (typeof pattern === 'string') this.note(invalidValue(`${path}.pattern`, schema.pattern, pattern))
    }
    if (schema.multipleOf !== undefined && schema.multipleOf <= 0)
      this.note(invalidValue(`${path}.multipleOf`, schema.multipleOf, 'must be greater than 0'))
    for (const keyword of [
      'maxLength',
      'minLength',
      'maxItems',
      'minItems',
      'maxProperties',
      'minProperties',
    ] as const)
      if ((schema[keyword] ?? 0) < 0)
        this.note(invalidValue(`${path}.${keyword}`, schema[keyword], 'must be greater than or equal to 0'))
    if (schema.enum?.length === 0) this.note(requiredValue(`${path}.enum`, 'must have at least one value'))
  }

  private defaultValue(schema: JsonSchema, path: string): void {
    const { default: value } = schema
    if (value === undefined) return
    this.defaultBytes += JSON.stringify(value).length
    if (this.defaultBytes > CUSTOM_DEFAULTS_BYTES_MAX) return
    const unknown: string[] = []
    prune(schema, value, '', unknown)
    if (unknown.length > 0)
      this.note(
        invalidValue(
          `${path}.default`,
          value,
          `must not have unknown fields: ${unknown.slice(0, 10).join(', ')}`,
        ),
      )
    for (const error of valueErrors(schema, value, `${path}.default`).slice(0, 10)) this.note(error)
  }

  /**
   * Everything within `allOf`, `anyOf`, `oneOf` and `not` speaks about fields that are described outside, and says nothing
   * but what values are allowed.
   */
  private alternatives(
    around: JsonSchema,
    { allOf, anyOf, oneOf, not }: JsonSchema,
    path: string,
    intOrString: boolean,
  ): void {
    const lists = { allOf, anyOf, oneOf } as const
    for (const [keyword, list] of Object.entries(lists))
      list?.forEach((schema, index) =>
        this.nested(around, schema, `${path}.${keyword}[${index}]`, intOrString && keyword !== 'oneOf'),
      )
    if (not) this.nested(around, not, `${path}.not`, false)
  }

  private nested(around: JsonSchema, schema: JsonSchema, path: string, intOrString: boolean): void {
    // Upstream's tools write int-or-string as anyOf of the two types.
    if (schema.type && !(intOrString && (schema.type === 'integer' || schema.type === 'string')))
      this.note(forbiddenField(`${path}.type`, 'must be empty to be structural'))
    for (const keyword of ['title', 'description'] as const)
      if (schema[keyword]) this.note(forbiddenField(`${path}.${keyword}`, 'must be empty to be structural'))
    for (const keyword of ['default', 'additionalProperties'] as const)
      if (schema[keyword] !== undefined)
        this.note(forbiddenField(`${path}.${keyword}`, 'must be undefined to be structural'))
    for (const keyword of [
      'nullable',
      'x-kubernetes-preserve-unknown-fields',
      'x-kubernetes-embedded-resource',
      'x-kubernetes-int-or-string',
    ] as const)
      if (schema[keyword]) this.note(forbiddenField(`${path}.${keyword}`, 'must be false to be structural'))
    for (const keyword of [
      'x-kubernetes-list-type',
      'x-kubernetes-list-map-keys',
      'x-kubernetes-map-type',
      'x-kubernetes-validations',
    ] as const)
      if (schema[keyword] !== undefined)
        this.note(forbiddenField(`${path}.${keyword}`, 'must be undefined to be structural'))
    this.unsupported(schema, path)
    this.values(schema, path)
    for (const [name, field] of Object.entries(schema.properties ?? {})) {
      const described = ownField(around.properties, name) ?? additionalSchema(around)
      const at = `${path}.properties[${name}]`
      if (described) this.nested(described, field, at, described['x-kubernetes-int-or-string'] === true)
      else this.note(requiredValue(outside(at), `because it is defined in ${at}`))
    }
    if (schema.items) {
      if (around.items)
        this.nested(
          around.items,
          schema.items,
          `${path}.items`,
          around.items['x-kubernetes-int-or-string'] === true,
        )
      else this.note(requiredValue(outside(`${path}.items`), `because it is defined in ${path}.items`))
    }
    this.alternatives(around, schema, path, intOrString)
  }

  private note(error: FieldError): void {
    if (this.errors.length < PROBLEMS_MAX) this.errors.push(error)
  }
}

/** Where a field would have to be described: the same path without the alternatives in it. */
function outside(path: string): string {
  return path.replace(/\.(allOf|anyOf|oneOf)\[\d+\]/g, '').replace(/\.not(?=\.|$)/g, '')
}

/** True for what a set can compare: scalars, and what is one whole. */
function isWhole(items: JsonSchema): boolean {
  if (items.type === 'array') return (items['x-kubernetes-list-type'] ?? 'atomic') === 'atomic'
  return items.type === 'object' ? items['x-kubernetes-map-type'] === 'atomic' : true
}

/** The schema at a path of fields, for what columns and scales point to. */
export function schemaAt(schema: JsonSchema, path: readonly string[]): JsonSchema | undefined {
  let at: JsonSchema | undefined = schema
  for (const name of path) at = at && (ownField(at.properties, name) ?? additionalSchema(at))
  return at
}
