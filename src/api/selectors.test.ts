import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  ApiError,
  fieldMatcher,
  type LabelRequirement,
  matchesLabels,
  matchesLabelSelector,
  parseFieldSelector,
  parseLabelSelector,
  podDefinition,
  renderLabelSelector,
} from './index.ts'

test('label selectors are read as upstream reads them', () => {
  assert.deepEqual(parseLabelSelector('app=web, tier in (b,a),!old,x!=y,z==1,k,n>3,m<4,q notin (r),e='), [
    { key: 'app', operator: 'In', values: ['web'] },
    { key: 'tier', operator: 'In', values: ['a', 'b'] },
    { key: 'old', operator: 'DoesNotExist', values: [] },
    { key: 'x', operator: 'NotIn', values: ['y'] },
    { key: 'z', operator: 'In', values: ['1'] },
    { key: 'k', operator: 'Exists', values: [] },
    { key: 'n', operator: 'Gt', values: ['3'] },
    { key: 'm', operator: 'Lt', values: ['4'] },
    { key: 'q', operator: 'NotIn', values: ['r'] },
    { key: 'e', operator: 'In', values: [''] },
  ] satisfies LabelRequirement[])
  assert.deepEqual(parseLabelSelector(''), [])
  assert.deepEqual(parseLabelSelector('a in (,b)'), [{ key: 'a', operator: 'In', values: ['', 'b'] }])
})

test('what is not a label selector is a bad request', () => {
  for (const text of [
    'a=b,',
    ',',
    '=b',
    'a in b',
    'a in (b',
    'a b',
    '!',
    'a=b=c',
    'a>x',
    '-a',
    'a=-',
    'a,,b',
    'a=b c',
    '()',
    'in (a)',
  ])
    assert.throws(
      () => parseLabelSelector(text),
      (error) => error instanceof ApiError && error.code === 400,
      text,
    )
})

test('an absent selector selects nothing and an empty one everything', () => {
  assert.equal(matchesLabelSelector(undefined, { a: 'b' }), false)
  assert.equal(matchesLabelSelector({}, undefined), true)
})

test('!= and notin also select objects without the label', () => {
  assert.equal(matchesLabels(parseLabelSelector('a!=b'), {}), true)
  assert.equal(matchesLabels(parseLabelSelector('a notin (b)'), undefined), true)
  assert.equal(matchesLabels(parseLabelSelector('a in (b)'), {}), false)
})

test('labels named like methods of objects are only there when set', () => {
  assert.equal(matchesLabels(parseLabelSelector('constructor'), {}), false)
  assert.equal(matchesLabels(parseLabelSelector('toString'), { toString: 'x' }), true)
})

const names = fc.stringMatching(/^[a-z][a-z0-9]{0,8}$/).filter((name) => name !== 'in' && name !== 'notin')
const requirements: fc.Arbitrary<LabelRequirement> = fc.oneof(
  fc.record({
    key: names,
    operator: fc.constantFrom('In', 'NotIn'),
    values: fc.uniqueArray(names, { minLength: 1, maxLength: 4 }).map((values) => values.sort()),
  }),
  fc.record({ key: names, operator: fc.constantFrom('Exists', 'DoesNotExist'), values: fc.constant([]) }),
  fc.record({
    key: names,
    operator: fc.constantFrom('Gt', 'Lt'),
    values: fc.integer().map((value) => [String(value)]),
  }),
)

test('a rendered label selector is read back the same', () => {
  fc.assert(
    fc.property(fc.array(requirements, { maxLength: 6 }), (records) => {
      const list = records.map((record) => ({ ...record }))
      assert.deepEqual(parseLabelSelector(renderLabelSelector(list)), list)
    }),
  )
})

test('every condition and its opposite divide all objects', () => {
  const opposite = { In: 'NotIn', NotIn: 'In', Exists: 'DoesNotExist', DoesNotExist: 'Exists' } as const
  fc.assert(
    fc.property(requirements, fc.dictionary(names, names), (requirement, labels) => {
      const { operator } = requirement
      if (operator === 'Gt' || operator === 'Lt') return
      const other = { ...requirement, operator: opposite[operator] }
      assert.notEqual(matchesLabels([requirement], labels), matchesLabels([other], labels))
    }),
  )
})

test('no text makes reading a selector throw anything but a bad request', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[a-c=!,()<> \\]{0,40}$/)), (text) => {
      for (const parse of [parseLabelSelector, parseFieldSelector]) {
        try {
          parse(text)
        } catch (error) {
          assert.ok(error instanceof ApiError && error.code === 400)
        }
      }
    }),
  )
})

test('field selectors find objects by the fields of their kind, and refuse others', () => {
  const pod = { metadata: { name: 'a,b', namespace: 'n' }, spec: {}, status: { phase: 'Running' } } as never
  const matches = (text: string) => fieldMatcher(podDefinition, parseFieldSelector(text))(pod)
  assert.equal(matches('metadata.name=a\\,b,status.phase!=Failed,metadata.namespace==n'), true)
  assert.equal(matches('status.phase=Failed'), false)
  assert.equal(matches(''), true)
  for (const text of ['spec.image=x', 'constructor=x', 'toString=x', 'nonsense', 'a=b=c', 'a=\\x'])
    assert.throws(
      () => matches(text),
      (error) => error instanceof ApiError && error.code === 400,
      text,
    )
})
