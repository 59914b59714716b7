import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  applyDefaults,
  checkObject,
  collectProblems,
  decodingError,
  type KindDefinition,
  platformRegistry,
  type Schema,
  schemaOf,
  tenantRegistry,
  validateObject,
} from './index.ts'

const kinds: readonly KindDefinition[] = [
  ...tenantRegistry.kinds,
  ...platformRegistry.kinds.filter((kind) => !tenantRegistry.kinds.includes(kind)),
]
const context = { user: { kind: 'tenantUser', tenant: 'red', name: 'a', groups: [] }, nowMs: 0 } as never

const words = fc.constantFrom(
  'a',
  'web',
  'default',
  'x-1',
  '',
  'Bad_Name',
  '..',
  '__proto__',
  'constructor',
  '127.0.0.1',
  'None',
)

/** Values that fit a schema in shape, though seldom in sense; `rarely` gives the chance of something else entirely. */
function valuesOf(schema: Schema, depth = 0): fc.Arbitrary<unknown> {
  switch (schema.type) {
    case 'object': {
      const fields = Object.entries(schema.fields).map(
        ([name, field]) => [name, valuesOf(schemaOf(field), depth + 1)] as const,
      )
      const required = Object.entries(schema.fields).flatMap(([name, { required: r }]) => (r ? [name] : []))
      return fc.record(Object.fromEntries(fields), { requiredKeys: required })
    }
    case 'list':
      return fc.array(valuesOf(schema.items, depth + 1), { maxLength: depth > 4 ? 1 : 2 })
    case 'map':
      return fc.dictionary(
        fc.constantFrom('app', 'cpu', 'memory', 'x.y/z', 'tls.crt'),
        valuesOf(schema.values, depth + 1),
        {
          maxKeys: 2,
        },
      )
    case 'boolean':
      return fc.boolean()
    case 'integer':
      return fc.oneof(
        fc.integer({ min: schema.minimum ?? 0, max: schema.maximum ?? 3 }),
        fc.integer({ min: -3, max: 70_000 }),
      )
    case 'number':
      return fc.double({ noNaN: true, noDefaultInfinity: true })
    case 'any':
      return fc.jsonValue({ maxDepth: 2 })
    case 'string':
      if (schema.enum) return fc.constantFrom(...schema.enum)
      switch (schema.format) {
        case 'quantity':
          return fc.constantFrom('1', '500m', '1.5Gi', '0.1', '-1', '1e3', 5)
        case 'int-or-string':
          return fc.oneof(fc.integer({ min: 0, max: 70_000 }), fc.constantFrom('http', '25%', '0%'))
        case 'date-time':
        case 'micro-time':
          return fc.constantFrom('2026-01-01T00:00:00Z', '2026-01-01T02:00:00.5+02:00')
        case 'byte':
          return fc.constantFrom('', 'YQ==', 'e30=')
        default:
          return words
      }
    default:
      schema satisfies never
      return fc.constant(null)
  }
}

/** Breaks a value somewhere: another type, null, a strange key. */
function broken(value: unknown, where: readonly number[], what: unknown): unknown {
  const [first = 0, ...rest] = where
  if (typeof value !== 'object' || value === null || where.length === 0) return what
  const keys = Object.keys(value)
  if (keys.length === 0) return what
  const key = keys[first % keys.length] as string // not empty
  const copy = Array.isArray(value) ? [...value] : { ...value }
  const fields = copy as Record<string, unknown>
  fields[key] = broken(fields[key], rest, what)
  return copy
}

const runs = { numRuns: 60 }

for (const kind of kinds) {
  const values = valuesOf(kind.schema)

  const filled = (sent: unknown) => checkObject(kind, sent, { fillGaps: true }).object

  test(`no ${kind.kind} makes checking, defaults or rules throw`, () => {
    fc.assert(
      fc.property(
        values,
        fc.array(fc.nat(), { maxLength: 7 }),
        fc.oneof(fc.constant('keep'), fc.jsonValue({ maxDepth: 2 })),
        (value, where, what) => {
          const sent = what === 'keep' ? value : broken(value, where, what)
          const checked = checkObject(kind, sent)
          decodingError(kind, checked)
          collectProblems(kind, { ...checked, filled: filled(sent) }, context)
          const old = filled(value)
          collectProblems(kind, { ...checked, filled: filled(sent) }, context, applyDefaults(kind, old))
          if (checked.errors.length > 0 || checked.refused.length > 0) return
          const object = applyDefaults(kind, checked.object)
          object.metadata = { ...object.metadata, name: object.metadata.name ?? 'x', uid: 'u' }
          const prepared = kind.prepareForCreate?.(object, context) ?? object
          const problems = validateObject(kind, prepared, context)
          validateObject(kind, prepared, context, structuredClone(prepared))
          if (problems.length > 0) return
          for (const column of kind.columns) column.cell(prepared, 0)
          for (const read of Object.values(kind.fieldSelectors ?? {}))
            assert.equal(typeof read(prepared), 'string')
        },
      ),
      runs,
    )
  })

  test(`checking a ${kind.kind} twice and giving its defaults twice changes nothing more`, () => {
    fc.assert(
      fc.property(values, (value) => {
        const once = checkObject(kind, value, { subresource: 'status' })
        const twice = checkObject(kind, once.object, { subresource: 'status' })
        assert.deepEqual(twice.object, once.object)
        const filled = applyDefaults(kind, once.object)
        assert.deepEqual(applyDefaults(kind, structuredClone(filled)), filled)
        assert.deepEqual(checkObject(kind, filled, { subresource: 'status' }).object, filled)
      }),
      runs,
    )
  })
}

test('whatever JSON comes in, the result is plain data without a changed prototype', () => {
  const kind = tenantRegistry.find({ group: '', resource: 'configmaps' })
  assert.ok(kind)
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), (data) => {
      const text = `{"__proto__":{"polluted":true},"metadata":{"labels":{"__proto__":"x"}},"data":${JSON.stringify(data)}}`
      const { object } = checkObject(kind, JSON.parse(text))
      assert.equal(Object.getPrototypeOf(object), Object.prototype)
      assert.equal(Object.getPrototypeOf(object.metadata.labels), Object.prototype)
      assert.equal(({} as Record<string, unknown>)['polluted'], undefined)
      JSON.stringify(object)
    }),
  )
})
