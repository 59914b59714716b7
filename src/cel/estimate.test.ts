import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Dice } from '../../tests/conformance/dice.ts'
import { randomRuleSchema } from '../../tests/conformance/random-rules.ts'
import { declaredSizeOf, occurrencesMax } from './declared-size.ts'
import { Budget } from './meter.ts'
import { compile } from './program.ts'
import { type StructuralSchema, typeOfStructuralSchema } from './structural-schema.ts'

const SPEC: StructuralSchema = {
  type: 'object',
  properties: {
    count: { type: 'integer' },
    name: { type: 'string', maxLength: 10 },
    text: { type: 'string' },
    color: { type: 'string', enum: ['red', 'green'] },
    names: { type: 'array', maxItems: 10, items: { type: 'string', maxLength: 10 } },
    numbers: { type: 'array', items: { type: 'integer' } },
    labels: { type: 'object', maxProperties: 5, additionalProperties: { type: 'string', maxLength: 20 } },
  },
}

function estimate(rule: string, schema = SPEC): number | undefined {
  const compiled = compile(rule, {
    variables: { self: typeOfStructuralSchema(schema) ?? assert.fail() },
    size: declaredSizeOf(schema) ?? assert.fail(),
  })
  assert.ok(compiled.ok, compiled.ok ? '' : compiled.message)
  return compiled.estimatedCost
}

test('what a schema bounds, bounds the estimate', () => {
  // A name, a field: 1 each. Texts: a tenth of a unit per byte, four bytes per character.
  assert.equal(estimate('self.count == 1'), 2)
  assert.equal(estimate('has(self.count)'), 1)
  assert.equal(estimate('self.name == self.text'), 4 + 4)
  assert.equal(estimate('self.color == self.text'), 4 + 1)
  assert.equal(estimate('self.name == self.name && self.count < 3'), 4 + 4 + 3)
  assert.equal(estimate('self.names.all(n, n == "a")'), 2 + 10 * (3 + 1 + 1) + 1)
  assert.equal(estimate('self.labels.all(k, self.labels[k] == "a")'), 2 + 5 * (3 + 5) + 1)
  assert.equal(estimate('self.names.map(n, n + "b").size() == 1'), 2 + 10 * (1 + 5 + 12) + 10 + 1 + 1 + 1)
  assert.equal(estimate('self.name.matches("^ab$")'), 2 + 5 * 1)
})

test('lists that are made cost what may be in them, and sorting the square of it', () => {
  assert.equal(estimate('self.names.reverse().size() == 1'), 2 + (10 + 11) + 1 + 1)
  assert.equal(estimate('self.names.slice(1, 3).size() == 1'), 2 + (2 + 11) + 1 + 1)
  assert.equal(estimate('self.names.slice(self.count, 3).size() == 1'), 2 + 2 + (3 + 11) + 1 + 1)
  assert.equal(estimate('self.names.slice(3, 1).size() == 1'), Infinity)
  assert.equal(estimate('self.names.distinct().size() == 1'), 2 + (2 * 100 + 11) + 1 + 1)
  assert.equal(estimate('self.names.sort().size() == 1'), 2 + (2.1 * 100 + 11) + 1 + 1)
  assert.equal(
    estimate('self.names.sortBy(n, n.size()).size() == 1'),
    10 + 2 + (1 + 1 + 10 * (2 + 12) + 10) + 1 + (2 * 100 + 11) + 1 + 1,
  )
  assert.equal(estimate('[self.names].flatten().size() == 1'), 10 + 2 + (1 + 11) + 1 + 1)
  assert.equal(estimate('[self.names].flatten(3).size() == 1'), 10 + 2 + (3 + 11) + 1 + 1)
  assert.equal(estimate('lists.range(100).size() == 1'), 100 + 11 + 1 + 1)
  assert.equal(estimate('lists.range(self.count).size() == 1'), Infinity)
  assert.equal(estimate('self.names.first().hasValue()'), 2 + 1 + 1)
})

test('without a bound, what fits into a request bounds it', () => {
  assert.equal(estimate('self.text.startsWith(self.text)'), 2 + 2 + Math.ceil((3 * 2 ** 20 - 2) / 10))
  assert.equal(estimate('self.numbers.all(n, n < 1)'), 2 + ((3 * 2 ** 20 - 2) / 2) * (3 + 2) + 1)
  // Nothing says how long a number is as text.
  assert.equal(estimate('self.name == "a" + string(self.count)'), Infinity)
})

test('values that take more room are in an object less often', () => {
  const small = declaredSizeOf({ type: 'boolean' })
  const large = declaredSizeOf({
    type: 'object',
    required: ['name', 'defaulted'],
    properties: { name: { type: 'string' }, defaulted: { type: 'string', default: 'x' }, more: SPEC },
  })
  assert.deepEqual(
    [small, large].map((size) => size && occurrencesMax(size)),
    [629_145, 241_979],
  )
})

test('any rule has an estimate that is a number, and what is not described has none', () => {
  for (let seed = 1; seed <= 300; seed++) {
    const schema = randomRuleSchema(new Dice(seed)) as StructuralSchema & {
      properties: { spec: StructuralSchema }
    }
    const { spec } = schema.properties
    const rules =
      (spec as { 'x-kubernetes-validations'?: { rule: string }[] })['x-kubernetes-validations'] ?? []
    for (const { rule } of rules) {
      const cost = estimate(rule, spec)
      assert.ok(cost !== undefined && cost >= 0, `${seed}: ${rule}`)
    }
  }
  assert.equal(declaredSizeOf({ 'x-kubernetes-preserve-unknown-fields': true }), undefined)
})

test('what was estimated is kept by no program, and runs are counted all the same', () => {
  const compiled = compile('self.numbers.all(n, n < 1)', {
    variables: { self: typeOfStructuralSchema(SPEC) ?? assert.fail() },
  })
  assert.ok(compiled.ok)
  assert.equal(compiled.estimatedCost, undefined)
  const numbers = Array.from({ length: 1_000 }, () => 0)
  const answer = compiled.program.evaluate({ self: { numbers } }, { budget: new Budget(100) })
  assert.deepEqual([answer.ok, answer.ok ? '' : answer.why], [false, 'budget'])
})
