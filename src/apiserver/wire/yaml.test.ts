import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError } from '../../api/index.ts'
import { YAML_BYTES_MAX } from './limits.ts'
import { parseYaml } from './yaml.ts'

function refusal(text: string): string {
  try {
    parseYaml(text)
  } catch (error) {
    assert.ok(error instanceof ApiError, String(error))
    assert.equal(error.code, 400)
    return error.message
  }
  return 'accepted'
}

test('a manifest means the same in YAML as in JSON', () => {
  assert.deepEqual(
    parseYaml('apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y1}\ndata:\n  a: "1"\n  b: |\n    x\n'),
    {
      value: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'y1' }, data: { a: '1', b: 'x\n' } },
      duplicateFields: [],
    },
  )
})

test('scalars are read as YAML 1.1, as Go reads them', () => {
  assert.deepEqual(parseYaml('a: yes\nb: 012\nc: 2026-01-01T00:00:00Z\ny: n\n1: x\nd: off\ne: ~\n').value, {
    a: true,
    b: 10,
    c: '2026-01-01T00:00:00Z',
    y: 'n',
    1: 'x',
    d: false,
    e: null,
  })
})

test('a key given twice is reported with its path', () => {
  assert.deepEqual(parseYaml('spec:\n  a: 1\n  l:\n  - b: 1\n    b: 2\n  a: 2\n'), {
    value: { spec: { a: 2, l: [{ b: 2 }] } },
    duplicateFields: ['spec.l[0].b', 'spec.a'],
  })
})

test('JSON that calls itself YAML has the limits of JSON', () => {
  assert.deepEqual(parseYaml(' {"a":1,"a":2}'), { value: { a: 2 }, duplicateFields: ['a'] })
  const large = JSON.stringify({ data: 'x'.repeat(YAML_BYTES_MAX) })
  assert.equal(refusal(large), 'accepted')
  assert.match(refusal(`data: ${'x'.repeat(YAML_BYTES_MAX)}`), /at most 262144 bytes/)
})

test('an alias bomb does not go off', () => {
  const levels = ['a: &a [x,x,x,x,x,x,x,x,x]']
  for (const [from, to] of ['ab', 'bc', 'cd', 'de', 'ef', 'fg', 'gh'].map((pair) => [...pair]))
    levels.push(`${to}: &${to} [${Array.from({ length: 9 }, () => `*${from}`).join(',')}]`)
  assert.match(refusal(levels.join('\n')), /alias/i)
  const many = Array.from({ length: 2_000 }, (_, at) => `k${at}: &k${at} 1\nl${at}: *k${at}`)
  assert.match(refusal(many.join('\n')), /at most 50 aliases/)
  assert.match(refusal('a: &x\n  b: *x\n'), /nested deeper|alias/i)
})

test('what JSON cannot say is refused', () => {
  assert.match(refusal('a: 1\n---\nb: 2\n'), /one document is expected/)
  assert.match(refusal('? [a]\n: b\n'), /a key must be a scalar/)
  assert.match(refusal('a: !!binary aGk=\n'), /Unresolved tag/)
  assert.match(refusal('a: !!js/function x\n'), /Unresolved tag/)
  assert.match(refusal('a: .inf\n'), /whole numbers/)
  assert.match(refusal('__proto__: {a: 1}\n'), /__proto__/)
  assert.match(refusal('<<: {__proto__: {a: 1}}\n'), /__proto__/)
})

test('nesting ends before the stack does', () => {
  for (const text of ['['.repeat(100_000), '{a: '.repeat(50_000), '- '.repeat(20_000), '? '.repeat(20_000)])
    assert.notEqual(refusal(text), 'accepted')
})

test('any text is parsed or refused with a reason', () => {
  const pieces = fc.constantFrom(
    'a',
    ': ',
    '- ',
    '\n',
    '  ',
    '{',
    '}',
    '[',
    ']',
    '&a ',
    '*a',
    '!!',
    '|',
    '>',
    '"',
    "'",
    '#',
    '%',
    '---',
    '?',
    '<<: ',
    '\t',
    ',',
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(pieces, { maxLength: 40 }).map((list) => list.join('')),
      ),
      (text) => {
        refusal(text)
      },
    ),
    { numRuns: 500 },
  )
})
