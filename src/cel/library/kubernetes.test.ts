import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type BindingValues, compile, DYN, INT, listOf, type ListValue, STRING } from '../index.ts'

function evaluate(expression: string, text = ''): unknown {
  const compiled = compile(expression, { variables: { text: STRING } })
  assert.ok(compiled.ok, compiled.ok ? '' : `${expression}: ${compiled.message}`)
  const answer = compiled.program.evaluate({ text })
  return answer.ok ? answer.value : answer.message
}

const TRUE: readonly string[] = [
  // Lists
  '[1, 2, 3].isSorted() && ![2, 1].isSorted() && [1, 2, 3].sum() == 6 && [1.5, 2.5].sum() == 4.0 && [3, 1].min() == 1',
  "['a', 'b', 'a'].indexOf('a') == 0 && ['a', 'b', 'a'].lastIndexOf('a') == 2 && ['a'].indexOf('z') == -1",
  "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1, 1]) && !sets.intersects([1], ['a'].map(x, 2))",
  "[1, 2, 2, 3].distinct() == [1, 2, 3] && ['b', 'a', 'b'].distinct() == ['b', 'a'] && [1, 1u, 1.0, 'a'].distinct().size() == 2",
  'lists.range(4) == [0, 1, 2, 3] && lists.range(0) == [] && [1, 2, 3].reverse() == [3, 2, 1] && [].reverse() == []',
  '[1, 2, 3, 4].slice(1, 3) == [2, 3] && [1].slice(1, 1) == [] && [1, 2].slice(0, 2) == [1, 2]',
  '[[1, 2], [], [3]].flatten() == [1, 2, 3] && dyn([1, [2, [3]]]).flatten() == [1, 2, [3]] && [1, [2, [3, [4]]]].flatten(2) == [1, 2, 3, [4]]',
  '[1, [2]].flatten(0) == [1, [2]] && [1, [2, [3]]].flatten(9223372036854775807) == [1, 2, 3]',
  "[3, 1, 2].sort() == [1, 2, 3] && ['b', 'A', 'a'].sort() == ['A', 'a', 'b'] && [true, false].sort() == [false, true] && dyn([]).sort() == []",
  "[duration('2h'), duration('1m')].sort()[0] == duration('1m') && [b'b', b'a'].sort()[0] == b'a' && [2u, 1u].sort() == [1u, 2u]",
  "[{'n': 'x', 'i': 2}, {'n': 'y', 'i': 1}].sortBy(o, o.i).map(o, o.n) == ['y', 'x'] && ['aa', 'b'].sortBy(s, -s.size()) == ['aa', 'b']",
  '[[2, 1], [0]].sortBy(l, l.sortBy(x, x)[0]) == [[0], [2, 1]]',
  '[1, 2].first() == optional.of(1) && [1, 2].last().value() == 2 && ![].first().hasValue() && [].last().orValue(3) == 3',
  'optional.unwrap([optional.of(1), optional.none(), optional.of(2)]) == [1, 2] && [optional.of(1)].unwrapOpt() == [1]',
  // Regular expressions
  "'abc 123'.find('[0-9]+') == '123' && '1 2 3'.findAll('[0-9]') == ['1', '2', '3'] && '1 2 3'.findAll('[0-9]', 2) == ['1', '2']",
  // Addresses
  "isIP('10.0.0.1') && isIP('::1') && !isIP('10.0.0.01') && !isIP('::ffff:1.2.3.4') && !isIP('fe80::1%eth0')",
  "ip('2001:db8:0:0::1') == ip('2001:db8::1') && string(ip('2001:DB8::1')) == '2001:db8::1' && !ip.isCanonical('2001:DB8::1')",
  "ip('127.0.0.1').isLoopback() && ip('169.254.1.1').isLinkLocalUnicast() && ip('224.0.0.9').isLinkLocalMulticast()",
  "ip('10.0.0.1').isGlobalUnicast() && ip('0.0.0.0').isUnspecified() && ip('ff02::1').isLinkLocalMulticast() && ip('::1').family() == 6",
  "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1')) && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')",
  "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.1.2.3/8').ip() == ip('10.1.2.3') && cidr('::/0').prefixLength() == 0",
  "!isCIDR('10.0.0.0/33') && !isCIDR('10.0.0.0') && isCIDR('fd00::/8')",
  // Quantities
  "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('500m').add(quantity('500m')) == quantity('1') && quantity('2').sub(1).asInteger() == 1",
  "quantity('1500m').asApproximateFloat() == 1.5 && !quantity('1500m').isInteger() && quantity('-1').sign() == -1 && !isQuantity('1 G')",
  "quantity('1k').compareTo(quantity('1000')) == 0",
  // URLs
  "url('https://user@example.com:80/a b').getHost() == 'example.com:80' || !isURL('https://example.com/a b')",
  "url('https://[::1]:443/p?q=1&q=2#f').getHostname() == '::1' && url('https://[::1]:443/p').getPort() == '443'",
  "url('https://example.com/p?a=1&a=2&b=').getQuery() == {'a': ['1', '2'], 'b': ['']} && url('/path').getScheme() == ''",
  "!isURL('relative/path') && !isURL('') && !isURL('http://exa mple') && url('HTTP://x/%20').getEscapedPath() == '/%20'",
  // Semver
  "semver('1.10.0').isGreaterThan(semver('1.9.9')) && semver('1.0.0-alpha.1').isLessThan(semver('1.0.0-alpha.beta')) && semver('1.0.0-rc').isLessThan(semver('1.0.0'))",
  "semver('v1.2', true).patch() == 0 && !isSemver('v1.2') && isSemver('01.2', true) && semver('1.2.3+a') == semver('1.2.3+b') && semver('3.2.1').major() == 3",
  // Formats
  "!format.dns1123Label().validate('abc').hasValue() && format.dns1123Label().validate('A_').value().size() == 1",
  "format.named('labelValue').hasValue() && !format.named('nothing').hasValue() && format.uuid().validate('x').hasValue()",
  "!format.named('date').value().validate('2026-02-28').hasValue() && format.named('date').value().validate('2026-02-30').hasValue()",
]

for (const expression of TRUE)
  test(`Kubernetes' functions: ${expression.slice(0, 60)}`, () => {
    assert.equal(evaluate(expression), true)
  })

const FAULTS: readonly (readonly [string, RegExp])[] = [
  ['lists.range(-1)', /non-negative, got -1/],
  ['lists.range(10000001)', /exceeds maximum allowed/],
  ['lists.range(9000000)', /cost limit|too much data/],
  ['lists.range(200000).map(x, lists.range(200000)).size()', /cost limit|too much data/],
  ['lists.range(3000).reverse().distinct().size()', /cost limit/],
  ['[1, 2].slice(2, 1)', /start index must be less than or equal to end index/],
  ['[1, 2].slice(-1, 1)', /negative indexes/],
  ['[1, 2].slice(0, 3)', /list is length 2/],
  ['[1].flatten(-1)', /must be non-negative/],
  ["dyn([1, 'a']).sort()", /must have the same type/],
  ['dyn([1, 1u]).sort()', /must have the same type/],
  ['dyn([{}]).sort()', /must be comparable/],
  ['[1, 2].sortBy(x, 1 / 0)', /division by zero/],
  ['dyn([1]).unwrapOpt()', /unwrap needs optionals/],
]
for (const [expression, why] of FAULTS)
  test(`Kubernetes' functions give no value: ${expression}`, () => {
    assert.match(String(evaluate(expression)), why)
  })

const REFUSED = [
  '[{}].sort()',
  '[1].flatten()',
  "['a'].sortBy('a', 1)",
  '[1].sortBy(x, [x])',
  '[1].unwrapOpt()',
  '@sortByInput',
  '[1].@sortByAssociatedKeys([1])',
  "[1].slice('a', 1)",
]
for (const expression of REFUSED)
  test(`Kubernetes' functions are refused when they are written: ${expression}`, () => {
    assert.equal(compile(expression, { variables: {} }).ok, false)
  })

test('lists of whatever there is are sorted, cut and taken apart as arrays are', () => {
  const variables = { ints: listOf(INT), texts: listOf(STRING), some: DYN, at: INT, end: INT }
  const ask = (expression: string) => {
    const compiled = compile(expression, { variables })
    assert.ok(compiled.ok, expression)
    return (values: BindingValues) => compiled.program.evaluate(values)
  }
  const sorted = ask(
    'ints.sort() == ints.sortBy(i, i) && ints.sort().isSorted() && ints.sort().size() == ints.size()',
  )
  const texts = ask('texts.sort().isSorted() && texts.sort().reverse().reverse() == texts.sort()')
  const once = ask(
    'sets.equivalent(ints.distinct(), ints) && ints.distinct().all(i, ints.distinct().filter(j, i == j).size() == 1)',
  )
  const cut = ask('ints.slice(at, end)')
  const anything = [
    'sort()',
    'distinct()',
    'reverse()',
    'flatten()',
    'flatten(at)',
    'sortBy(x, x)',
    'slice(at, end)',
    'first()',
    'unwrapOpt()',
  ].map((call) => ask(`[some.${call}].size() == 1`))
  const int = fc.integer({ min: -5, max: 5 })
  fc.assert(
    fc.property(
      fc.array(int, { maxLength: 12 }),
      fc.array(fc.string({ unit: 'binary' }), { maxLength: 8 }),
      fc.jsonValue({ noUnicodeString: false }),
      fc.integer({ min: -2, max: 13 }),
      fc.integer({ min: -2, max: 13 }),
      (ints, words, some, at, end) => {
        for (const holds of [sorted({ ints }), texts({ texts: words }), once({ ints })])
          assert.ok(holds.ok && holds.value === true)
        const part = cut({ ints, at, end })
        const isFine = at >= 0 && at <= end && end <= ints.length
        assert.equal(part.ok, isFine)
        if (part.ok) assert.deepEqual([...(part.value as ListValue)].map(Number), ints.slice(at, end))
        for (const each of anything) {
          const answer = each({ some, at, end })
          assert.ok(answer.ok ? answer.value === true : answer.why === 'fault')
        }
      },
    ),
  )
})

test('whatever text they are given, they answer', () => {
  const asks = [
    "isIP(text) ? string(ip(text)) : ''",
    "isCIDR(text) ? string(cidr(text).masked()) : ''",
    'isQuantity(text) ? quantity(text).asApproximateFloat() : 0.0',
    "isURL(text) ? url(text).getEscapedPath() + url(text).getHostname() + url(text).getPort() : ''",
    'isURL(text) ? url(text).getQuery().size() : 0',
    'isSemver(text, true) ? semver(text, true).compareTo(semver(text, true)) : 0',
    "format.named('uri').value().validate(text).hasValue()",
    "format.named('byte').value().validate(text).hasValue()",
  ]
  const programs = asks.map((ask) => {
    const compiled = compile(ask, { variables: { text: STRING } })
    assert.ok(compiled.ok)
    return compiled.program
  })
  const part = fc.constantFrom(
    '1',
    '10',
    '.',
    ':',
    '::',
    '/',
    '%',
    'ff',
    'v',
    '-',
    '+',
    'Gi',
    'e9',
    'http://',
    '?',
    '=',
    '@',
    '[',
    ']',
    '256',
    '0x1',
    ' ',
    '😀',
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(part, { maxLength: 12 }).map((parts) => parts.join('')),
        fc.string({ unit: 'binary' }),
      ),
      (text) => {
        for (const program of programs) {
          const answer = program.evaluate({ text })
          assert.ok(answer.ok, answer.ok ? '' : answer.message)
        }
      },
    ),
    { numRuns: 2_000 },
  )
})
