import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  deleteOptionsSchema,
  listMetaSchema,
  NETWORK_GROUP,
  type ObjectSchema,
  partialObjectMetadataSchema,
  platformRegistry,
  refusedFields,
  refusedValues,
  type Schema,
  schemaOf,
  statusSchema,
  tenantRegistry,
} from './index.ts'

/** Holds our schemas and the table of refusals against the document that a real API server serves. */

type Upstream = {
  type?: string
  format?: string
  $ref?: string
  allOf?: Upstream[]
  oneOf?: Upstream[]
  items?: Upstream
  additionalProperties?: Upstream
  properties?: Record<string, Upstream>
  required?: string[]
  enum?: string[]
  'x-kubernetes-list-type'?: string
  'x-kubernetes-list-map-keys'?: string[]
  'x-kubernetes-map-type'?: string
  'x-kubernetes-patch-merge-key'?: string
  'x-kubernetes-patch-strategy'?: string
}

const document = JSON.parse(
  readFileSync(join(import.meta.dirname, 'testdata/openapi-schemas-1.36.json'), 'utf8'),
) as { schemas: Record<string, Upstream> }

/** Values that upstream checks in code and does not list in its document. */
const CLOSED_IN_CODE = ['io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement.operator']
/** In Go, but not in upstream's document. */
const NOT_IN_DOCUMENT = ['io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata']

const OURS = 'dev.bulkhead.'
/** Served by a server of its own upstream, whose schemas the document leaves out. */
const APIEXTENSIONS = 'io.k8s.apiextensions-apiserver.'
const METRICS = 'io.k8s.metrics.'

/** Every object schema that a served kind reaches. */
function reachable(): Map<string, ObjectSchema> {
  const found = new Map<string, ObjectSchema>()
  const visit = (schema: Schema): void => {
    if (schema.type === 'list') visit(schema.items)
    else if (schema.type === 'map') visit(schema.values)
    else if (schema.type === 'object') {
      const known = found.get(schema.name)
      if (known) {
        assert.deepEqual(
          Object.keys(known.fields),
          Object.keys(schema.fields),
          `two schemas named ${schema.name}`,
        )
        if (known === schema) return
      }
      found.set(schema.name, schema)
      for (const field of Object.values(schema.fields)) visit(schemaOf(field))
    }
  }
  for (const registry of [tenantRegistry, platformRegistry]) {
    for (const kind of registry.kinds) {
      visit(kind.schema)
      for (const { schema } of kind.subresources ?? []) if (schema) visit(schema)
    }
    for (const kind of registry.virtualKinds) visit(kind.schema)
  }
  for (const schema of [deleteOptionsSchema, listMetaSchema, statusSchema, partialObjectMetadataSchema])
    visit(schema)
  return found
}

const schemas = reachable()
const shared = [...schemas.values()].filter(
  ({ name }) =>
    !name.startsWith(OURS) &&
    !name.startsWith(APIEXTENSIONS) &&
    !name.startsWith(METRICS) &&
    !NOT_IN_DOCUMENT.includes(name),
)

function resolved(upstream: Upstream): { name?: string; schema: Upstream } {
  const ref = upstream.$ref ?? upstream.allOf?.[0]?.$ref
  if (!ref) return { schema: upstream }
  const name = ref.slice('#/components/schemas/'.length)
  const schema = document.schemas[name]
  assert.ok(schema, `upstream's document lacks ${name}`)
  return { name, schema }
}

/** Our schema and upstream's in one notation, one level deep: lists, maps and names of objects. */
function ourShape(schema: Schema): unknown {
  switch (schema.type) {
    case 'object':
      return schema.name
    case 'list':
      return [ourShape(schema.items)]
    case 'map':
      return { values: ourShape(schema.values) }
    case 'integer':
      return schema.format
    case 'string':
      return schema.format ?? 'string'
    default:
      return schema.type
  }
}

const NAMED_SCALARS: Record<string, string> = {
  'io.k8s.apimachinery.pkg.api.resource.Quantity': 'quantity',
  'io.k8s.apimachinery.pkg.apis.meta.v1.Time': 'date-time',
  'io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime': 'micro-time',
  'io.k8s.apimachinery.pkg.util.intstr.IntOrString': 'int-or-string',
  'io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1': 'any',
  'io.k8s.apimachinery.pkg.runtime.RawExtension': 'any',
}

function upstreamShape(upstream: Upstream): unknown {
  const { name, schema } = resolved(upstream)
  if (name) return NAMED_SCALARS[name] ?? name
  if (schema.type === 'array') return [upstreamShape(schema.items ?? {})]
  if (schema.type === 'object' && schema.additionalProperties)
    return { values: upstreamShape(schema.additionalProperties) }
  return schema.format ?? schema.type
}

test('every field of a served kind is either in its schema or refused with a reason', () => {
  const undecided = shared.flatMap(({ name, fields }) =>
    Object.keys(document.schemas[name]?.properties ?? {})
      .filter((field) => !Object.hasOwn(fields, field) && !refusedFields[name]?.[field])
      .map((field) => `${name}.${field}`),
  )
  assert.deepEqual(undecided, [])
})

test('no field is both in a schema and refused', () => {
  const both = shared.flatMap(({ name, fields }) =>
    Object.keys(refusedFields[name] ?? {})
      .filter((field) => Object.hasOwn(fields, field))
      .map((field) => `${name}.${field}`),
  )
  assert.deepEqual(both, [])
})

test('every schema and field of ours is upstream’s', () => {
  const invented = shared.flatMap(({ name, fields }) => {
    const upstream = document.schemas[name]
    if (!upstream) return [name]
    return Object.keys(fields)
      .filter((field) => !Object.hasOwn(upstream.properties ?? {}, field))
      .map((field) => `${name}.${field}`)
  })
  assert.deepEqual(invented, [])
})

test('every entry of the table of refusals matches a field of a served kind', () => {
  const idle = Object.entries(refusedFields).flatMap(([name, fields]) =>
    Object.keys(fields)
      .filter(
        (field) =>
          !schemas.has(name) ||
          (!name.startsWith(APIEXTENSIONS) && !document.schemas[name]?.properties?.[field]),
      )
      .map((field) => `${name}.${field}`),
  )
  assert.deepEqual(idle, [])
})

/** What can be used against other tenants; `unsupported` is safe and merely not built. */
const VECTORS = [
  'unsupported',
  'tenant API',
  'control-plane saturation',
  'kernel',
  'pod network',
  'DNS',
  'metadata and host services',
  'egress',
  'storage',
  'secrets',
  'images and image cache',
  'node identity',
  'co-location',
  'cpu/memory/pids/disk/bandwidth',
  'object floods',
  'identities and tokens',
  'data bus',
  'logs and metrics',
  'platform components that tenants share',
]

test('every refusal says why, what it would open and what to write instead', () => {
  for (const [name, fields] of Object.entries(refusedFields)) {
    for (const [field, { why, instead, vector }] of Object.entries(fields))
      assert.ok(why && instead && VECTORS.includes(vector), `${name}.${field}`)
  }
})

test('types and formats are upstream’s', () => {
  for (const { name, fields } of shared) {
    for (const [field, definition] of Object.entries(fields)) {
      const upstream = document.schemas[name]?.properties?.[field]
      assert.ok(upstream)
      assert.deepEqual(ourShape(schemaOf(definition)), upstreamShape(upstream), `${name}.${field}`)
    }
  }
})

test('list types, map keys, merge keys and patch strategies are upstream’s', () => {
  for (const { name, fields, atomic } of shared) {
    assert.equal(atomic ? 'atomic' : undefined, document.schemas[name]?.['x-kubernetes-map-type'], name)
    for (const [field, definition] of Object.entries(fields)) {
      const schema = schemaOf(definition)
      const upstream = document.schemas[name]?.properties?.[field] ?? {}
      const list = schema.type === 'list' ? schema : undefined
      assert.deepEqual(
        {
          listType: list?.listType,
          keys: list?.listMapKeys,
          mergeKey: list?.patchMergeKey,
          strategy: list?.patchStrategy ?? definition.patchStrategy,
          map: schema.type === 'map' && schema.atomic ? 'atomic' : undefined,
        },
        {
          listType: upstream['x-kubernetes-list-type'] ?? (list ? 'atomic' : undefined),
          keys: upstream['x-kubernetes-list-map-keys'],
          mergeKey: upstream['x-kubernetes-patch-merge-key'],
          strategy: upstream['x-kubernetes-patch-strategy'],
          // Granular is what a map is that says nothing.
          map: granularIsPlain(upstream['x-kubernetes-map-type']),
        },
        `${name}.${field}`,
      )
    }
  }
})

function granularIsPlain(mapType: string | undefined): string | undefined {
  return mapType === 'granular' ? undefined : mapType
}

test('what is required is upstream’s', () => {
  for (const { name, fields } of shared) {
    const required = Object.entries(fields).flatMap(([field, { required }]) => (required ? [field] : []))
    assert.deepEqual(required.sort(), [...(document.schemas[name]?.required ?? [])].sort(), name)
  }
})

test('every value that upstream lists is either allowed or refused with a reason, and no other is allowed', () => {
  for (const { name, fields } of shared) {
    for (const [field, definition] of Object.entries(fields)) {
      const schema = schemaOf(definition)
      const scalar = schema.type === 'list' ? schema.items : schema
      if (scalar.type !== 'string') continue
      const upstream = document.schemas[name]?.properties?.[field] ?? {}
      // The empty value is what others call absent; it is read as such everywhere.
      const theirs = (upstream.enum ?? upstream.items?.enum)?.filter((value) => value !== '')
      const refused = refusedValues[name]?.[field] ?? {}
      const at = `${name}.${field}`
      if (theirs) {
        const ours = scalar.enum ?? theirs
        assert.deepEqual([...ours, ...Object.keys(refused)].sort(), [...theirs].sort(), at)
      } else if (scalar.enum && !CLOSED_IN_CODE.includes(at)) {
        assert.ok(refused['*'], `${at} allows fewer values than upstream and does not say why`)
      }
    }
  }
})

test('every refusal of a value says why, what it would open and what to write instead', () => {
  for (const [name, fields] of Object.entries(refusedValues))
    for (const [field, values] of Object.entries(fields))
      for (const [value, { why, instead, vector }] of Object.entries(values))
        assert.ok(why && instead && VECTORS.includes(vector), `${name}.${field}=${value}`)
})

test('every entry of the table of refused values matches a field that has such values', () => {
  for (const [name, fields] of Object.entries(refusedValues)) {
    for (const [field, values] of Object.entries(fields)) {
      const definition = schemas.get(name)?.fields[field]
      assert.ok(definition, `${name}.${field}`)
      const schema = schemaOf(definition)
      const scalar = schema.type === 'list' ? schema.items : schema
      const restricted = scalar.type === 'boolean' || (scalar.type === 'string' && scalar.enum)
      assert.ok(restricted, `${name}.${field}`)
      if (scalar.type === 'string')
        for (const value of Object.keys(values))
          assert.ok(!scalar.enum?.includes(value), `${name}.${field}=${value}`)
    }
  }
})

test('kinds and their fields are described', () => {
  for (const schema of schemas.values()) {
    assert.ok(schema.description, schema.name)
    for (const [field, { description }] of Object.entries(schema.fields))
      assert.ok(description, `${schema.name}.${field}`)
  }
})

test('columns have the names, types and priorities of upstream’s', () => {
  const columns = JSON.parse(
    readFileSync(join(import.meta.dirname, 'testdata/table-columns-1.36.json'), 'utf8'),
  ) as Record<string, { name: string; type: string; format?: string; priority?: number }[]>
  for (const kind of tenantRegistry.kinds) {
    if (kind.measured || kind.group === NETWORK_GROUP) continue
    const path = kind.group
      ? `${kind.group}/${kind.version}/${kind.plural}`
      : `/${kind.version}/${kind.plural}`
    const expected = columns[path]
    assert.ok(expected, path)
    const plain = (list: readonly { name: string; type: string; format?: string; priority?: number }[]) =>
      list.map(({ name, type, format = '', priority = 0 }) => ({ name, type, format, priority }))
    assert.deepEqual(plain(kind.columns), plain(expected), path)
  }
})
