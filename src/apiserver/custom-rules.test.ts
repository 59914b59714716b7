import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { JsonSchema, KubeObject, ValidationRule } from '../api/index.ts'
import { compileRules, ruleProblems } from './custom-rules.ts'

const SPEC: JsonSchema = {
  type: 'object',
  properties: {
    replicas: { type: 'integer' },
    max: { type: 'integer' },
    name: { type: 'string', maxLength: 64 },
    sizes: { type: 'array', items: { type: 'integer' } },
    ports: {
      type: 'array',
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['name'],
      items: {
        type: 'object',
        required: ['name'],
        properties: { name: { type: 'string' }, port: { type: 'integer' } },
      },
    },
  },
}
const withRules = (...rules: ValidationRule[]): JsonSchema => ({
  type: 'object',
  properties: { spec: { ...SPEC, 'x-kubernetes-validations': rules } },
})
const objectOf = (spec: unknown): KubeObject =>
  ({ apiVersion: 'example.com/v1', kind: 'Thing', metadata: { name: 'x' }, spec }) as unknown as KubeObject
const judge = (schema: JsonSchema, spec: unknown, old?: unknown) => {
  assert.deepEqual(ruleProblems(schema, 'schema'), [])
  return judgeAnyhow(schema, spec, old)
}
/** By rules that nobody could write any more, because they may cost too much. */
const judgeAnyhow = (schema: JsonSchema, spec: unknown, old?: unknown) => {
  const check = compileRules(schema)
  assert.ok(check)
  return check(objectOf(spec), old === undefined ? undefined : objectOf(old)).map(
    ({ reason, field, message }) => `${reason} ${field}: ${message}`,
  )
}
const problems = (...rules: ValidationRule[]) =>
  ruleProblems(withRules(...rules), 'schema').map(({ field, message }) => `${field}: ${message}`)

test('a rule that fails says so in the words of its author', () => {
  const rule = 'self.replicas <= self.max'
  assert.deepEqual(judge(withRules({ rule }), { replicas: 1, max: 2 }), [])
  assert.deepEqual(judge(withRules({ rule }), { replicas: 3, max: 2 }), [
    `FieldValueInvalid spec: Invalid value: "object": failed rule: ${rule}`,
  ])
  assert.deepEqual(judge(withRules({ rule, message: 'too many' }), { replicas: 3, max: 2 }), [
    'FieldValueInvalid spec: Invalid value: "object": too many',
  ])
  const spoken = {
    rule,
    messageExpression: '"too many for " + self.name',
    reason: 'FieldValueForbidden',
    fieldPath: '.replicas',
  }
  assert.deepEqual(judge(withRules(spoken), { replicas: 3, max: 2, name: 'x' }), [
    'FieldValueForbidden spec.replicas: Forbidden: too many for x',
  ])
})

test('a rule about a change is asked only when there was something before', () => {
  const fixed = withRules({ rule: 'self.name == oldSelf.name', message: 'fixed' })
  assert.deepEqual(judge(fixed, { name: 'a' }), [])
  assert.deepEqual(judge(fixed, { name: 'b' }, { name: 'a' }), [
    'FieldValueInvalid spec: Invalid value: "object": fixed',
  ])
  const first = withRules({
    rule: 'oldSelf.hasValue() || self.name == "first"',
    optionalOldSelf: true,
    message: 'not first',
  })
  assert.deepEqual(judge(first, { name: 'other' }), [
    'FieldValueInvalid spec: Invalid value: "object": not first',
  ])
  assert.deepEqual(judge(first, { name: 'other' }, { name: 'x' }), [])
})

test('what an update leaves as it was is not judged again', () => {
  const schema = withRules({ rule: 'self.replicas < 3' })
  assert.deepEqual(judge(schema, { replicas: 9 }, { replicas: 9 }), [])
  assert.equal(judge(schema, { replicas: 9 }, { replicas: 8 }).length, 1)
})

test('items are followed by their keys, and where they have none, nothing can be said about what was', () => {
  const ports = SPEC.properties!['ports']!
  const schema: JsonSchema = {
    type: 'object',
    properties: {
      spec: {
        type: 'object',
        properties: {
          ports: {
            ...ports,
            items: { ...ports.items, 'x-kubernetes-validations': [{ rule: 'self.port >= oldSelf.port' }] },
          },
        },
      },
    },
  }
  const before = {
    ports: [
      { name: 'a', port: 1 },
      { name: 'b', port: 5 },
    ],
  }
  assert.deepEqual(
    judge(
      schema,
      {
        ports: [
          { name: 'b', port: 5 },
          { name: 'a', port: 2 },
        ],
      },
      before,
    ),
    [],
  )
  assert.match(judge(schema, { ports: [{ name: 'b', port: 4 }] }, before).join(), /spec\.ports\[0\]/)
  const atomic: JsonSchema = {
    type: 'object',
    properties: {
      list: {
        type: 'array',
        items: { type: 'integer', 'x-kubernetes-validations': [{ rule: 'self == oldSelf' }] },
      },
    },
  }
  assert.match(ruleProblems(atomic, 'schema')[0]?.message ?? '', /uncorrelatable/)
})

test('a rule is checked against the schema when it is written', () => {
  assert.match(
    problems({ rule: 'self.nope == 1' }).join(),
    /rule: Invalid value: "self.nope == 1": compilation failed.*undefined field 'nope'/s,
  )
  assert.match(problems({ rule: 'self.replicas' }).join(), /must evaluate to bool/)
  assert.match(problems({ rule: 'self.replicas + "x" == 1' }).join(), /compilation failed/)
  assert.match(problems({ rule: ' ' }).join(), /Required value: rule is not specified/)
  assert.match(problems({ rule: 'true', message: 'a\nb' }).join(), /must not contain line breaks/)
  assert.match(problems({ rule: 'true', reason: 'Whatever' }).join(), /Unsupported value: "Whatever"/)
  assert.match(problems({ rule: 'true', fieldPath: 'x[' }).join(), /fieldPath must be a valid path/)
  assert.match(problems({ rule: 'true', messageExpression: '1' }).join(), /must evaluate to string/)
  assert.match(problems({ rule: 'true', optionalOldSelf: true }).join(), /may not be set/)
  assert.match(
    problems(...Array.from({ length: 40 }, () => ({ rule: `"${'x'.repeat(8_000)}" == ""` }))).join(),
    /together may have/,
  )
})

test('rules that take too long are stopped, and a rule that fails to run refuses', () => {
  const sizes = Array.from({ length: 2_000 }, (_, i) => i)
  const bomb = withRules({ rule: 'self.sizes.all(a, self.sizes.all(b, self.sizes.all(c, a + b + c >= 0)))' })
  assert.match(judgeAnyhow(bomb, { sizes }).join(), /cost limit exceeded/)
  const many = withRules(
    ...Array.from({ length: 40 }, () => ({ rule: 'self.sizes.all(a, self.sizes.all(b, a + b >= 0))' })),
  )
  assert.match(judgeAnyhow(many, { sizes }).join(), /running out of cost budget/)
  assert.match(
    judge(withRules({ rule: '1 / self.max == 1' }), { max: 0 }).join(),
    /division by zero evaluating rule/,
  )
})

test('a rule that may cost too much is refused when it is written, with what to limit', () => {
  const limited = (maxItems?: number): JsonSchema => ({
    type: 'object',
    properties: {
      names: {
        type: 'array',
        items: { type: 'string', maxLength: 100 },
        ...(maxItems === undefined ? {} : { maxItems }),
        'x-kubernetes-validations': [{ rule: 'self.all(a, self.exists_one(b, a == b))' }],
      },
    },
  })
  const refusals = (schema: JsonSchema) =>
    ruleProblems(schema, 'schema').map(({ field, message }) => `${field}: ${message}`)
  const rule = 'schema.properties[names].x-kubernetes-validations[0].rule'
  const advice =
    '(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)'
  assert.deepEqual(refusals(limited(400)), [])
  assert.deepEqual(refusals(limited(500)), [
    `${rule}: Forbidden: estimated rule cost exceeds budget by factor of 1.100300x ${advice}`,
  ])
  assert.deepEqual(refusals(limited()), [
    `${rule}: Forbidden: estimated rule cost exceeds budget by factor of more than 100x ${advice}`,
    `${rule}: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema`,
    `schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x ${advice}`,
  ])
  // What is stored already stays possible, as long as all rules together do.
  assert.deepEqual(ruleProblems(limited(500), 'schema', { unchanged: true }), [])
  assert.notDeepEqual(ruleProblems(limited(), 'schema', { unchanged: true }), [])
})

test('where a rule stands counts: below lists and maps it is asked for every item', () => {
  const rule = { rule: 'self.contains("abc")' }
  const nested = (maxItems?: number): JsonSchema => ({
    type: 'object',
    properties: {
      list: {
        type: 'array',
        ...(maxItems === undefined ? {} : { maxItems }),
        items: { type: 'string', maxLength: 1_000, 'x-kubernetes-validations': [rule] },
      },
    },
  })
  assert.deepEqual(ruleProblems(nested(10_000), 'schema'), [])
  assert.match(
    ruleProblems(nested(100_000), 'schema')[0]?.message ?? '',
    /estimated rule cost exceeds budget/,
  )
  assert.match(ruleProblems(nested(), 'schema')[0]?.message ?? '', /factor of 42.0x/)
})

test('a schema whose rules are not understood refuses every object', () => {
  assert.match(judgeAnyhow(withRules({ rule: 'self.nope == 1' }), { replicas: 1 }).join(), /undefined field/)
})

test('patterns that unfold are not made ready again and again', () => {
  const unfolding = withRules({
    rule: `self.sizes.exists(s, self.name.matches('(${'a'.repeat(900)}){1000}' + string(s)))`,
  })
  const sizes = Array.from({ length: 5_000 }, (_, i) => i)
  assert.match(
    judgeAnyhow(unfolding, { name: 'a', sizes }).join(),
    /too complex|cost limit exceeded|cost budget/,
  )
  const large = withRules({
    rule: `self.sizes.exists(s, self.name.matches('(a?){1000}(b?){999}' + string(s)))`,
  })
  assert.match(judgeAnyhow(large, { name: 'a', sizes }).join(), /too complex|cost limit exceeded|cost budget/)
})

test('any text as a rule is compiled or refused, and any object judged, without failing', () => {
  const word = fc.constantFrom(
    'self',
    'oldSelf',
    '.',
    'replicas',
    'sizes',
    'all',
    '(',
    ')',
    'x',
    ',',
    '==',
    '1',
    '"a"',
    '&&',
    '!',
    '[',
    ']',
    '?',
    ':',
    'ports',
    'has',
  )
  const value = fc.oneof(
    fc.integer(),
    fc.constant(null),
    fc.string(),
    fc.array(fc.integer(), { maxLength: 3 }),
  )
  fc.assert(
    fc.property(
      fc.array(word, { maxLength: 12 }),
      fc.record({ replicas: value, sizes: value, ports: value }, { requiredKeys: [] }),
      (words, spec) => {
        const schema = withRules({ rule: words.join('') })
        if (ruleProblems(schema, 's').length === 0)
          compileRules(schema)?.(objectOf(spec), objectOf({ replicas: 1 }))
      },
    ),
    { numRuns: 2_000 },
  )
})
