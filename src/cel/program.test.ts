import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  BOOL,
  Budget,
  type CelType,
  compile,
  DYN,
  EXPRESSION_CHARS_MAX,
  INT,
  listOf,
  STRING,
  typeOfStructuralSchema,
} from './index.ts'

const ANYTHING: Record<string, CelType> = { self: DYN }

function evaluate(expression: string, self: unknown = {}, variables = ANYTHING): unknown {
  const compiled = compile(expression, { variables })
  assert.ok(compiled.ok, compiled.ok ? '' : compiled.message)
  const answer = compiled.program.evaluate({ self })
  return answer.ok ? answer.value : answer.message
}

function problems(expression: string, self: CelType): string[] {
  const compiled = compile(expression, { variables: { self }, resultTypes: [BOOL] })
  return compiled.ok ? [] : compiled.problems.map(({ message }) => message)
}

const widget =
  typeOfStructuralSchema(
    {
      type: 'object',
      properties: {
        spec: {
          type: 'object',
          properties: {
            replicas: { type: 'integer' },
            ratio: { type: 'number' },
            names: { type: 'array', items: { type: 'string' }, 'x-kubernetes-list-type': 'set' },
            'max-size': { type: 'string' },
            namespace: { type: 'string' },
            port: { 'x-kubernetes-int-or-string': true },
            labels: { type: 'object', additionalProperties: { type: 'string' } },
            until: { type: 'string', format: 'date-time' },
            free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
          },
        },
      },
    },
    { root: true, name: 'widget' },
  ) ?? assert.fail()

test('an expression that does not fit the schema is refused when it is written', () => {
  assert.deepEqual(problems('self.spec.replicas <= 3', widget), [])
  assert.deepEqual(problems('self.spec.replica <= 3', widget), ["undefined field 'replica'"])
  assert.deepEqual(problems("self.spec.replicas == 'three'", widget), [
    "found no matching overload for '_==_' applied to '(int, string)'",
  ])
  assert.deepEqual(problems('self.spec.replicas', widget), ['must evaluate to bool'])
  assert.deepEqual(problems('self.spec.names.all(n, n > 1)', widget), [
    "found no matching overload for '_>_' applied to '(string, int)'",
  ])
  assert.deepEqual(problems('self.spec.replicas <', widget), ["Syntax error: mismatched input '<EOF>'"])
  assert.deepEqual(problems("self.metadata.labels['a'] == ''", widget), ["undefined field 'labels'"])
  assert.deepEqual(problems("self.metadata.name == 'x' && self.kind == 'Widget'", widget), [])
  assert.deepEqual(problems('self.spec.free.anything.goes == 1', widget), ["undefined field 'anything'"])
  assert.deepEqual(problems("'a'.matches('(')", widget).length, 1)
})

test('a problem is shown with its line and a caret', () => {
  const compiled = compile('true &&\n  self.spec.nothing', { variables: { self: widget } })
  assert.equal(
    compiled.ok ? '' : compiled.message,
    "ERROR: <input>:2:12: undefined field 'nothing'\n |   self.spec.nothing\n | ...........^",
  )
})

test('values are read as their schema says', () => {
  const self = {
    spec: {
      replicas: 3,
      ratio: 2,
      names: ['b', 'a'],
      'max-size': 'x',
      namespace: 'y',
      port: 'http',
      until: '2026-01-01T00:00:00Z',
    },
  }
  const holds = (expression: string) => evaluate(expression, self, { self: widget })
  assert.equal(holds('self.spec.replicas + 1 == 4 && self.spec.ratio / 4.0 == 0.5'), true)
  assert.equal(holds("self.spec.names == ['a', 'b']"), true)
  assert.equal(holds("self.spec.names + ['a', 'c'] == ['c', 'b', 'a']"), true)
  assert.equal(holds("self.spec.max__dash__size == 'x' && self.spec.__namespace__ == 'y'"), true)
  assert.equal(holds("type(self.spec.port) == string && self.spec.port == 'http'"), true)
  assert.equal(holds("self.spec.until < timestamp('2027-01-01T00:00:00Z')"), true)
  assert.equal(holds('has(self.spec.labels) || self.spec.replicas == 3'), true)
  assert.equal(holds('self.spec.labels.x'), 'no such key: labels')
})

test('what objects inherit is not in them', () => {
  assert.equal(evaluate("has(self.constructor) || 'toString' in self || has(self.__proto__)", {}), false)
  assert.equal(evaluate('self.constructor', {}), 'no such key: constructor')
})

test('null is a value and not a missing field', () => {
  assert.equal(evaluate('has(self.a) && self.a == null && self.?a.hasValue()', { a: null }), true)
})

test('optionals find what may not be there', () => {
  assert.equal(evaluate("self.?a.?b.orValue('none')", {}), 'none')
  assert.equal(evaluate("self.?a.?b.orValue('none')", { a: { b: 'x' } }), 'x')
  assert.equal(evaluate('self.?a.optMap(x, x + 1).orValue(0) == 3', { a: 2 }), true)
  assert.equal(evaluate('[1, 2][?5].hasValue()'), false)
  assert.equal(evaluate('{?"a": self.?a, "b": 1}.size() == 1'), true)
})

/** Each tries to take time or memory out of proportion to its length. */
const BOMBS: readonly string[] = [
  '[0,1,2,3,4,5,6,7,8,9].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, [0,1,2,3,4,5,6,7,8,9].all(c, [0,1,2,3,4,5,6,7,8,9].all(d, [0,1,2,3,4,5,6,7,8,9].all(e, [0,1,2,3,4,5,6,7,8,9].all(f, true))))))',
  Array.from({ length: 40 }, (_, i) => `cel.bind(v${i + 1}, v${i} + v${i}, `).join('') +
    'v40' +
    ')'.repeat(40),
  'self.items.all(x, self.items.all(y, x == y || x != y))',
  'self.items.map(x, self.items.map(y, self.items))',
  "self.text.replace('', self.text)",
  "self.text.replace('a', self.text)",
  'self.items.map(x, self.text).join(self.text)',
  "self.items.all(x, self.text.matches('(a*)*b') || true)",
  "self.items.all(x, !self.text.matches('(((a{1,30}){1,30}))' + string(x)))",
  'self.items.all(x, self.text.contains(self.text.substring(1) + "b") || true)',
  "self.items.all(x, self.text.findAll('').size() > 0)",
  "self.items.all(x, self.text.findAll('.*b|a').size() > 0)",
  'self.items.all(x, self.map.size() > 0 && self.map == self.map)',
  'self.items.map(x, {x: self.items}).isSorted() || sets.equivalent(self.items, self.items.map(x, x + 1))',
  "self.items.all(x, self.text.split('').size() > 0)",
  "self.items.all(x, '%s'.format([self.items]) != '')",
  Array.from({ length: 30 }, (_, i) => `cel.bind(v${i + 1}, [v${i}, v${i}], `).join('') +
    'v30 == v30' +
    ')'.repeat(30),
  Array.from({ length: 30 }, (_, i) => `cel.bind(v${i + 1}, [v${i}, v${i}], `).join('') +
    "'%s'.format([v30])" +
    ')'.repeat(30),
]
const BIG = {
  items: Array.from({ length: 5_000 }, (_, index) => index),
  text: 'a'.repeat(100_000),
  map: Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`key${index}`, index])),
}

for (const [index, bomb] of BOMBS.entries())
  test(`an expression that would take for ever is stopped (${index + 1})`, () => {
    const variables = { self: DYN, v0: DYN }
    const compiled = compile(bomb, { variables })
    assert.ok(compiled.ok, compiled.ok ? '' : compiled.message)
    const answer = compiled.program.evaluate({ self: BIG, v0: 'x' })
    assert.deepEqual([answer.ok, 'why' in answer && answer.why], [false, 'budget'])
  })

test('a budget holds for all evaluations together', () => {
  const compiled = compile('self.all(x, x >= 0)', { variables: { self: listOf(INT) } })
  assert.ok(compiled.ok)
  const budget = new Budget(30_000)
  const one = () => compiled.program.evaluate({ self: BIG.items }, { budget })
  assert.equal(one().ok, true)
  const answers = [one(), one(), one()]
  assert.equal(answers.at(-1)?.ok, false)
})

test('an expression is not too long, too deep or too wide', () => {
  const refused = (expression: string) => {
    const compiled = compile(expression, { variables: ANYTHING })
    return compiled.ok ? 'accepted' : (compiled.problems[0]?.message ?? '')
  }
  assert.match(refused('1'.repeat(EXPRESSION_CHARS_MAX + 1)), /at most 16384 characters/)
  assert.match(refused('('.repeat(5_000) + '1' + ')'.repeat(5_000)), /levels deep/)
  assert.match(refused('['.repeat(5_000) + ']'.repeat(5_000)), /levels deep/)
  assert.match(refused('!'.repeat(10_000) + 'true'), /levels deep/)
  assert.match(refused('self' + '.a'.repeat(5_000)), /levels deep/)
  assert.match(refused(`1${'+1'.repeat(5_000)}`), /levels deep/)
  assert.match(refused('true?1:'.repeat(2_000) + '1'), /levels deep/)
  assert.match(refused(`[${'!x,'.repeat(5_000)}]`), /at most 8192 parts/)
  assert.equal(refused(`true${'&&true'.repeat(2_000)}`), 'accepted')
})

const fragment = fc.constantFrom(
  ...[
    'self',
    'a',
    '.',
    '?.',
    '.?',
    '[',
    '[?',
    ']',
    '(',
    ')',
    '{',
    '}',
    ':',
    ',',
    '?',
    '+',
    '-',
    '*',
    '/',
    '%',
    '!',
  ],
  ...[
    '==',
    '!=',
    '<',
    '>',
    '&&',
    '||',
    'in',
    'has',
    'all',
    'map',
    'filter',
    'exists',
    '1',
    '2u',
    '1.5',
    "'x'",
    'b"y"',
  ],
  ...[
    'size',
    'matches',
    'format',
    'null',
    'true',
    'cel.bind',
    'optional.of',
    'duration',
    'timestamp',
    'x',
    'int',
    'string',
  ],
  ...[
    'replace',
    'split',
    'join',
    'sum',
    'quantity',
    'url',
    'ip',
    'cidr',
    '"""',
    '\\',
    '`',
    '\n',
    '//',
    '\u0000',
    '😀',
  ],
)

test('whatever is written as an expression is answered', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(fragment, { maxLength: 40 }).map((parts) => parts.join('')),
        fc.string({ unit: 'binary', maxLength: 60 }),
      ),
      fc.jsonValue(),
      (expression, self) => {
        const compiled = compile(expression, { variables: { self: DYN } })
        if (compiled.ok) compiled.program.evaluate({ self })
        else assert.ok(compiled.message.length > 0 && compiled.problems.length > 0)
      },
    ),
    { numRuns: 3_000 },
  )
})

/** Expressions that have a meaning, so that more than the reader is tried. */
const meaningful = fc.letrec<{ any: string }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 6, withCrossShrink: true },
    fc.constantFrom(
      'self',
      'self.a',
      "self['b']",
      '1',
      '-3',
      '2u',
      '0.5',
      "'text'",
      "b'x'",
      'null',
      'true',
      '[]',
      '{}',
      'int',
    ),
    fc
      .tuple(
        tie('any'),
        fc.constantFrom('+', '-', '*', '/', '%', '==', '!=', '<', '>=', '&&', '||', 'in'),
        tie('any'),
      )
      .map(([a, op, b]) => `(${a} ${op} ${b})`),
    fc
      .tuple(
        fc.constantFrom(
          'size',
          'string',
          'int',
          'uint',
          'double',
          'bytes',
          'type',
          'dyn',
          'optional.of',
          'timestamp',
          'duration',
          '!',
          '-',
        ),
        tie('any'),
      )
      .map(([f, a]) => `${f}(${a})`),
    fc
      .tuple(tie('any'), fc.constantFrom('all', 'exists', 'exists_one', 'map', 'filter'), tie('any'))
      .map(([a, m, b]) => `${a}.${m}(self, ${b})`),
    fc
      .tuple(tie('any'), fc.constantFrom('transformList', 'transformMap', 'transformMapEntry'), tie('any'))
      .map(([a, m, b]) => `${a}.${m}(k, self, ${b})`),
    fc
      .tuple(
        tie('any'),
        fc.constantFrom(
          'contains',
          'matches',
          'split',
          'join',
          'indexOf',
          'format',
          'orValue',
          'findAll',
          'charAt',
        ),
        tie('any'),
      )
      .map(([a, m, b]) => `${a}.${m}(${b})`),
    fc.tuple(tie('any'), tie('any'), tie('any')).map(([a, b, c]) => `(${a} ? ${b} : ${c})`),
    fc.tuple(tie('any'), tie('any')).map(([a, b]) => `[${a}, ?optional.of(${b})]`),
    fc.tuple(tie('any'), tie('any')).map(([a, b]) => `dyn(${a})[?${b}]`),
    fc.tuple(tie('any'), tie('any')).map(([a, b]) => `{${a}: ${b}}`),
    fc.tuple(tie('any'), tie('any')).map(([a, b]) => `cel.bind(self, ${a}, ${b})`),
  ),
})).any

test('expressions that mean something give a value or say why not', () => {
  let evaluated = 0
  fc.assert(
    fc.property(meaningful, fc.jsonValue(), (expression, self) => {
      const compiled = compile(expression, { variables: { self: DYN } })
      if (!compiled.ok) return
      evaluated++
      const answer = compiled.program.evaluate({ self })
      if (!answer.ok) assert.equal(typeof answer.message, 'string')
    }),
    { numRuns: 3_000 },
  )
  assert.ok(evaluated > 300, `only ${evaluated} were evaluated`)
})

test('declared types of variables are known to the checker', () => {
  const compiled = compile('self', { variables: { self: STRING } })
  assert.ok(compiled.ok && compiled.program.resultType.type === 'string')
})
