import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { compile, STRING } from '../index.ts'

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
