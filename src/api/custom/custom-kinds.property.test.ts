import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { JsonValue, KubeObject } from '../meta.ts'
import {
  customResourceDefinitionDefinition,
  type CustomResourceDefinition,
} from '../kinds/custom-resource-definition.ts'
import { checkObject, validateObject } from '../validation.ts'
import { applyDefaults } from '../defaults.ts'
import { valueErrors } from './check-value.ts'
import { defineCustomKinds } from './define-custom-kind.ts'
import { DefaultBudget, fillDefaults, prune } from './fill-in.ts'
import { findByPath, parseFieldPath, parseJsonPath } from './json-path.ts'
import { type JsonSchema, readJsonSchema } from './json-schema.ts'
import { parsePattern } from './patterns.ts'
import { structuralErrors } from './structural.ts'

/** No fast-check key may change a prototype; the wire lets none in. */
const key = fc.oneof(
  fc.constantFrom('a', 'b', 'spec', 'constructor', 'toString', 'hasOwnProperty', ''),
  fc.string({ maxLength: 5 }).filter((k) => k !== '__proto__'),
)
const scalar = fc.oneof(
  fc.constantFrom(null, true, false, 0, 1, -1, 1.5, '', 'a', '2020-01-01', '1h'),
  fc.string({ maxLength: 8 }),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
)
function values(depth: number): fc.Arbitrary<JsonValue> {
  if (depth === 0) return scalar
  const inner = values(depth - 1)
  return fc.oneof(scalar, fc.array(inner, { maxLength: 4 }), fc.dictionary(key, inner, { maxKeys: 4 }))
}
const anything = values(3)

/** Schemas that are nearly right, so that the walk gets deep into them. */
function schemas(depth: number): fc.Arbitrary<JsonValue> {
  const inner: fc.Arbitrary<JsonValue> = depth === 0 ? fc.constant({ type: 'string' }) : schemas(depth - 1)
  const sometimes = <T>(arbitrary: fc.Arbitrary<T>, freq = 6) =>
    fc.oneof({ arbitrary, weight: 1 }, { arbitrary: fc.constant(undefined), weight: freq })
  return fc
    .record({
      type: fc.constantFrom(
        'object',
        'object',
        'array',
        'string',
        'integer',
        'number',
        'boolean',
        'null',
        '',
      ),
      properties: sometimes(fc.dictionary(key, inner, { maxKeys: 3 }), 2),
      items: sometimes(inner, 3),
      additionalProperties: sometimes(fc.oneof(fc.boolean(), inner)),
      allOf: sometimes(fc.array(inner, { maxLength: 2 })),
      anyOf: sometimes(fc.array(inner, { maxLength: 2 })),
      oneOf: sometimes(fc.array(inner, { maxLength: 2 })),
      not: sometimes(inner),
      required: sometimes(fc.array(key, { maxLength: 2 })),
      enum: sometimes(fc.array(anything, { maxLength: 3 })),
      default: sometimes(anything),
      nullable: sometimes(fc.boolean()),
      format: sometimes(
        fc.constantFrom('date-time', 'uuid', 'cidr', 'duration', 'email', 'nonsense', 'int32'),
      ),
      pattern: sometimes(
        fc.oneof(fc.string({ maxLength: 6 }), fc.constantFrom('^(a+)+$', '(', '(?=a)', 'a{1000}', '\\d')),
      ),
      minimum: sometimes(fc.integer()),
      multipleOf: sometimes(fc.double({ noNaN: true })),
      maxLength: sometimes(fc.integer({ min: -1, max: 5 })),
      maxItems: sometimes(fc.integer({ min: -1, max: 5 })),
      uniqueItems: sometimes(fc.boolean(), 20),
      $ref: sometimes(fc.constant('#'), 50),
      'x-kubernetes-preserve-unknown-fields': sometimes(fc.boolean()),
      'x-kubernetes-embedded-resource': sometimes(fc.boolean(), 20),
      'x-kubernetes-int-or-string': sometimes(fc.boolean(), 10),
      'x-kubernetes-list-type': sometimes(fc.constantFrom('set', 'map', 'atomic', 'x')),
      'x-kubernetes-list-map-keys': sometimes(fc.array(key, { maxLength: 2 }), 10),
      'x-kubernetes-map-type': sometimes(fc.constantFrom('atomic', 'granular', 'x'), 10),
      strange: sometimes(fc.constant(1), 20),
    })
    .map((made) => JSON.parse(JSON.stringify(made)) as JsonValue)
}
const schema = schemas(2)

test('any JSON is read as a schema, judged and used without failing', () => {
  fc.assert(
    fc.property(fc.oneof(schema, anything), anything, anything, (given, value, old) => {
      const { schema: read } = readJsonSchema(structuredClone(given), 'schema')
      structuralErrors(read, 'schema')
      const before = JSON.stringify(value)
      const pruned = prune(read, value, '')
      const filled = fillDefaults(read, pruned, new DefaultBudget(10_000))
      valueErrors(read, filled, '')
      valueErrors(read, filled, '', old)
      assert.equal(JSON.stringify(value), before, 'what is stored is shared and must stay as it is')
    }),
    { numRuns: 3_000 },
  )
})

test('what was pruned and filled in stays the same when it is done again', () => {
  fc.assert(
    fc.property(schema, anything, (given, value) => {
      const { schema: read } = readJsonSchema(given, 'schema')
      if (structuralErrors(read, 'schema').length > 0) return
      const once = fillDefaults(read, prune(read, value, ''), new DefaultBudget(10_000))
      const unknown: string[] = []
      const again = fillDefaults(read, prune(read, once, '', unknown), new DefaultBudget(10_000))
      assert.deepEqual(unknown, [])
      assert.deepEqual(again, once)
      assert.deepEqual(valueErrors(read, once, '', once), [], 'what did not change is not judged again')
    }),
    { numRuns: 3_000 },
  )
})

test('any text is a path or not, and any path finds something or nothing', () => {
  const part = fc.constantFrom(
    '.',
    '[',
    ']',
    "'",
    '"',
    '?(',
    ')',
    '@',
    '==',
    '*',
    'a',
    '0',
    '-1',
    '\\',
    '$',
    ' ',
  )
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), fc.string(), anything, (parts, text, value) => {
      for (const candidate of [parts.join(''), text, `.a${parts.join('')}`]) {
        const path = parseJsonPath(candidate)
        if (path) assert.ok(Array.isArray(findByPath(path, value)))
        parseFieldPath(candidate)
      }
    }),
    { numRuns: 5_000 },
  )
})

const definitionOf = (openAPIV3Schema: unknown): CustomResourceDefinition =>
  ({
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: 'things.example.com' },
    spec: {
      group: 'example.com',
      scope: 'Namespaced',
      names: { plural: 'things', kind: 'Thing' },
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema } }],
    },
    status: { acceptedNames: { plural: 'things', kind: 'Thing' } },
  }) as unknown as CustomResourceDefinition

/** What the API server does with a definition before it stores it. */
function problemsOf(definition: CustomResourceDefinition): string[] {
  const kind = customResourceDefinitionDefinition
  const check = checkObject(kind, structuredClone(definition))
  if (check.errors.length > 0) return check.errors.map(({ message }) => message)
  const object = kind.prepareForCreate!(applyDefaults(kind, check.object), {
    user: { kind: 'anonymous' },
    nowMs: 0,
  })
  return validateObject(kind, object, { user: { kind: 'anonymous' }, nowMs: 0 }).map(
    (e) => `${e.field}: ${e.message}`,
  )
}

test('an object of any accepted kind is checked in bounded steps, whatever it holds', () => {
  fc.assert(
    fc.property(schema, anything, (given, value) => {
      const root = { ...(given as object), type: 'object' }
      const definition = definitionOf(root)
      if (problemsOf(definition).length > 0) return
      const [kind] = defineCustomKinds(definition)
      assert.ok(kind)
      const { object } = checkObject(kind, { metadata: { name: 'x', namespace: 'y' }, spec: value })
      const filled = applyDefaults(kind, object) as KubeObject
      validateObject(kind, filled, { user: { kind: 'anonymous' }, nowMs: 0 })
      for (const column of kind.columns) column.cell(filled, 0)
      assert.ok(kind.schema.openApi)
    }),
    { numRuns: 2_000 },
  )
})

test('alternatives within alternatives do not multiply', () => {
  // Every level tries both ways, and every item again.
  let nested: JsonSchema = { minLength: 5 }
  for (let level = 0; level < 18; level++) nested = { anyOf: [nested, nested] }
  const problems = valueErrors(
    { type: 'array', items: { type: 'string', ...nested } },
    Array(4_000).fill('x') as string[],
    'list',
  )
  assert.match(problems.at(-1)?.message ?? '', /too large to be checked/)
})

test('long keys, lists of allowed values and of required fields do not multiply with the object', () => {
  const key = 'k'.repeat(500_000)
  const lists = (items: JsonSchema): JsonSchema => ({
    type: 'object',
    additionalProperties: { type: 'array', items },
  })
  const many = (name: string, item: JsonValue) => ({ [name]: Array<JsonValue>(5_000).fill(item) })
  // Each value has the key in its path: put into words for all of them that is gigabytes.
  assert.deepEqual(valueErrors(lists({ type: 'integer' }), many(key, 1), ''), [])
  const tooLarge = (schema: JsonSchema, value: JsonValue) =>
    assert.match(valueErrors(schema, value, '').at(-1)?.message ?? '', /too large to be checked/)
  const alternatives = Array.from({ length: 20 }, (_, minLength): JsonSchema => ({
    type: 'string',
    minLength,
  }))
  tooLarge(lists({ anyOf: alternatives }), many(key, 1))
  const names = Array.from({ length: 5_000 }, (_, index) => `n${index}`)
  assert.equal(valueErrors(lists({ type: 'string', enum: names }), many('a', 'x'), '').length, 100)
  assert.equal(valueErrors(lists({ type: 'object', required: names }), many('a', {}), '').length, 100)
})

test('an object as large as can be stored is checked against a schema as rich as those of real operators', () => {
  const amount =
    '^(\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))))?$'
  const container: JsonSchema = {
    type: 'object',
    required: ['name'],
    properties: {
      name: { type: 'string', minLength: 1, maxLength: 253 },
      args: { type: 'array', items: { type: 'string' } },
      policy: { type: 'string', enum: ['Always', 'IfNotPresent', 'Never'] },
      limits: {
        type: 'object',
        additionalProperties: {
          anyOf: [{ type: 'integer' }, { type: 'string' }],
          pattern: amount,
          'x-kubernetes-int-or-string': true,
        },
      },
    },
  }
  const schema: JsonSchema = {
    type: 'object',
    properties: {
      containers: {
        type: 'array',
        items: container,
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': ['name'],
      },
    },
  }
  const containers = Array.from({ length: 1_500 }, (_, index) => ({
    name: `container-${index}`,
    args: Array<string>(10).fill(`--an-argument-of-usual-length=${index}`),
    policy: 'IfNotPresent',
    limits: { cpu: '100m', memory: '128Mi', 'ephemeral-storage': '1.5Gi' },
  }))
  assert.ok(JSON.stringify(containers).length > 700_000)
  assert.deepEqual(valueErrors(schema, { containers }, ''), [])
})

test('an evil pattern takes no longer than a tame one, and one that unfolds is refused', () => {
  const evil = parsePattern('^(a+)+$')
  assert.ok(typeof evil !== 'string')
  assert.equal(evil.matches(`${'a'.repeat(50_000)}!`), false)
  for (const bomb of [
    '((a{100}){100}){100}',
    `${'(a?){900}'.repeat(50)}`,
    'x'.repeat(5_000),
    '(?=a)',
    '\\1',
    '(',
  ])
    assert.equal(typeof parsePattern(bomb), 'string', bomb.slice(0, 20))
  assert.match(
    valueErrors({ type: 'string', pattern: 'a.{900}b' }, 'a'.repeat(1_000_000), 'x')[0]?.message ?? '',
    /too large to be checked/,
  )
})

test('defaults that multiply are cut off', () => {
  const item: JsonSchema = {
    type: 'object',
    properties: { big: { type: 'string', default: 'x'.repeat(60_000) } },
  }
  const list: JsonSchema = { type: 'object', properties: { list: { type: 'array', items: item } } }
  const [kind] = defineCustomKinds(definitionOf(list))
  assert.ok(kind)
  const object = {
    apiVersion: 'example.com/v1',
    kind: 'Thing',
    metadata: { name: 'x', namespace: 'y' },
    list: Array.from({ length: 1_000 }, () => ({})),
  }
  const { object: checked } = checkObject(kind, object)
  const problems = validateObject(kind, applyDefaults(kind, checked), {
    user: { kind: 'anonymous' },
    nowMs: 0,
  })
  assert.match(problems[0]?.message ?? '', /defaults of the schema would add more/)
  // What is there already can be read, whatever a later default says.
  assert.ok(JSON.stringify(kind.custom?.present(object as unknown as KubeObject)).length < 400_000)
})

test('schemas that are too deep, too many or refer to others are refused with a reason', () => {
  let deep: object = { type: 'string' }
  for (let level = 0; level < 30; level++) deep = { type: 'object', properties: { a: deep } }
  assert.deepEqual(problemsOf(definitionOf(deep)), [])
  for (let level = 0; level < 40; level++) deep = { type: 'object', properties: { a: deep } }
  assert.notDeepEqual(problemsOf(definitionOf(deep)), [])
  const wide = {
    type: 'object',
    properties: Object.fromEntries(Array.from({ length: 4_900 }, (_, i) => [`p${i}`, { type: 'string' }])),
  }
  assert.deepEqual(problemsOf(definitionOf(wide)), [])
  const wider = {
    type: 'object',
    properties: {
      a: wide,
      b: wide,
      c: wide,
      d: wide,
      e: wide,
      f: wide,
      g: wide,
      h: wide,
      i: wide,
      j: wide,
      k: wide,
    },
  }
  assert.match(problemsOf(definitionOf(wider)).join(), /a version may have 50000 schemas/)
  assert.match(
    problemsOf(definitionOf({ type: 'object', properties: { a: { $ref: '#/a' } } })).join(),
    /\$ref is not supported/,
  )
})
