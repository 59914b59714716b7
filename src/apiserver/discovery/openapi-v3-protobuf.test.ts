import assert from 'node:assert/strict'
import { test } from 'node:test'
import { platformRegistry, tenantRegistry } from '../../api/index.ts'
import { renderOpenApiIndex, renderOpenApiV3 } from './index.ts'
import { encodeOpenApiV3 } from './openapi-v3-protobuf.ts'

// Tests look into documents freely.
// oxlint-disable-next-line typescript/no-explicit-any
type Json = any

/** Words that a tenant's schema of a custom kind may use beside those that ours do. */
const WORDS_OF_TENANTS: Json = {
  nullable: true,
  externalDocs: { description: 'd', url: 'u' },
  example: { a: 1 },
  title: 't',
  multipleOf: 2.5,
  maximum: 9,
  exclusiveMaximum: true,
  minimum: 1,
  exclusiveMinimum: true,
  maxLength: 5,
  minLength: 1,
  pattern: '^a',
  maxItems: 3,
  minItems: 1,
  uniqueItems: true,
  maxProperties: 4,
  minProperties: 1,
  required: ['a'],
  enum: ['a', { b: 1 }],
  type: 'object',
  allOf: [{ $ref: '#/x' }],
  oneOf: [{ type: 'string' }],
  anyOf: [{ type: 'string' }],
  not: { type: 'string' },
  items: { type: 'string' },
  properties: { constructor: { type: 'string' } },
  additionalProperties: true,
  default: 'x',
  description: 'd',
  format: 'f',
  'x-kubernetes-validations': [{ rule: 'true' }],
}
const withSchema = (schema: Json): Json => ({
  openapi: '3.0.0',
  info: { title: 't', version: 'v' },
  paths: {},
  components: { schemas: { Boat: schema } },
})

test('a document loses nothing as protobuf: whatever is taken out of it, its bytes are others', () => {
  const documents: Json[] = [withSchema(WORDS_OF_TENANTS)]
  for (const registry of [tenantRegistry, platformRegistry]) {
    const { paths } = JSON.parse(renderOpenApiIndex(registry).body.toString()) as Json
    for (const path of Object.keys(paths as Json)) {
      const [root, ...rest] = path.split('/')
      const [group = '', version = ''] = root === 'api' ? ['', rest[0]] : rest
      documents.push(JSON.parse(String(renderOpenApiV3(registry, { group, version }, 'json')?.body)))
    }
  }
  /** Of each word of a document in each place once is enough. */
  const seen = new Set<string>()
  for (const document of documents) {
    const whole = encodeOpenApiV3(document)
    const without = (of: Json, word: string | number, place: string) => {
      const value: Json = of[word]
      // Names are any word, and only the first of them is looked at.
      const at = `${place}.${Array.isArray(of) || /(properties|schemas|paths|content|responses)$/.test(place) ? '*' : word}`
      if (!seen.has(at) && at.split('.').length < 12) {
        seen.add(at)
        const isEmpty = JSON.stringify(value) === '{}'
        const isLost =
          isEmpty ||
          place.endsWith('info') ||
          word === 'components' ||
          word === 'schemas' ||
          word === 'content'
        const isUnsaid = word === 'default' && typeof value === 'object'
        if (!Array.isArray(of) && !isLost && !isUnsaid) {
          delete of[word]
          if (needed(word)) of[word] = empty(word)
          assert.notDeepEqual(encodeOpenApiV3(document), whole, at)
          of[word] = value
        }
      }
      if (typeof value !== 'object' || value === null) return
      if (String(word).startsWith('x-') || ['default', 'example', 'enum'].includes(String(word))) return
      for (const next of Object.keys(value as object)) without(value, next, at)
    }
    for (const word of Object.keys(document as object)) without(document, word, '')
  }
  assert.ok(seen.has('.components.schemas.*.x-kubernetes-validations'))
})

/** Without these a document is none. */
const needed = (word: string | number) => ['paths', 'responses', 'schema'].includes(String(word))
const empty = (word: string | number) => (word === 'schema' ? { title: 'another' } : {})

test('a default that is an object or a list has no word in protobuf', () => {
  const plain = encodeOpenApiV3(withSchema({ type: 'object' }))
  for (const value of [{}, [], null])
    assert.deepEqual(encodeOpenApiV3(withSchema({ type: 'object', default: value })), plain)
})

test('messages have the numbers that gnostic gives their fields', () => {
  const document = withSchema({
    type: 'object',
    description: 'd',
    default: 'x',
    required: ['a'],
    properties: { a: { $ref: '#/a' } },
    additionalProperties: { type: 'string' },
    items: { nullable: true },
    'x-y': 1,
  })
  document.paths = {
    '/p': {
      patch: {
        description: 'o',
        parameters: [{ name: 'q', in: 'query', schema: { type: 'string' } }],
        requestBody: { required: true, content: { 'a/b': { schema: { $ref: '#/a' } } } },
        responses: { 200: { description: 'OK', content: { 'a/b': { schema: { $ref: '#/a' } } } } },
        'x-y': 1,
      },
    },
  }
  const tag = (number: number, type: 0 | 2) => {
    const value = (number << 3) | type
    return value < 128 ? [value] : [(value & 127) | 128, value >> 7]
  }
  /** A message, or text, of less than 128 bytes times 128. */
  const of = (number: number, ...parts: (string | Buffer)[]) => {
    const inside = Buffer.concat(parts.map((part) => Buffer.from(part)))
    const { length } = inside
    const size = length < 128 ? [length] : [(length & 127) | 128, length >> 7]
    return Buffer.concat([Buffer.from([...tag(number, 2), ...size]), inside])
  }
  const yes = (number: number) => Buffer.from([...tag(number, 0), 1])
  const text = of(1, of(25, 'string'))
  const reference = of(2, of(1, '#/a'))
  const content = (number: number) => of(number, of(1, of(1, 'a/b'), of(2, of(1, reference))))
  const extension = (number: number) => of(number, of(1, 'x-y'), of(2, of(2, '1\n')))
  const operation = [
    of(3, 'o'),
    of(6, of(1, of(1, 'q'), of(2, 'query'), of(10, text))),
    of(7, of(1, content(2), yes(3))),
    of(8, of(2, of(1, '200'), of(2, of(1, of(1, 'OK'), content(3))))),
    extension(13),
  ]
  const schema = [
    of(23, 'a'),
    of(25, 'object'),
    of(30, of(1, of(1, yes(1)))),
    of(31, of(1, of(1, 'a'), of(2, reference))),
    of(32, of(1, text)),
    of(33, of(3, 'x')),
    of(34, 'd'),
    extension(36),
  ]
  const expected = Buffer.concat([
    of(1, '3.0.0'),
    of(2, of(1, 't'), of(6, 'v')),
    of(4, of(1, of(1, '/p'), of(2, of(10, ...operation)))),
    of(5, of(1, of(1, of(1, 'Boat'), of(2, of(1, ...schema))))),
  ])
  assert.equal(encodeOpenApiV3(document).toString('hex'), expected.toString('hex'))
})
