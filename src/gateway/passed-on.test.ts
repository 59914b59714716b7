import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { isPassedOn, staysWithin } from './passed-on.ts'

const ROOT = '/api/v1/namespaces/n/pods/web/proxy'

test('what goes on to a pod or service is known by its path', () => {
  for (const rest of [
    ROOT,
    `${ROOT}/`,
    `${ROOT}/a?b`,
    `${ROOT}?b`,
    '/api/v1/namespaces/n/services/s:80/proxy/x',
  ])
    assert.equal(isPassedOn(rest), true, rest)
  for (const rest of [
    '/api/v1/namespaces/n/pods/web',
    `${ROOT}x`,
    `/x${ROOT}`,
    '/api/v1/namespaces/n/pods?/web/proxy',
    '/api/v1/pods/web/proxy',
    '/api/v1/namespaces/n/nodes/web/proxy',
    '/api/v1/namespaces/n/pods/web?x=/proxy',
  ])
    assert.equal(isPassedOn(rest), false, rest)
})

test('a redirect within the same pod may pass, and none that leaves it', () => {
  const within: [string, string][] = [
    [ROOT, './proxy/'],
    [`${ROOT}?a=b`, './proxy/?a=b'],
    [`${ROOT}/`, './'],
    [`${ROOT}/`, './login?next=/x'],
    [`${ROOT}/a/b`, '../c'],
    [`${ROOT}/a/b?x=/y/z`, '../c#d'],
    [`${ROOT}/a/`, '../?q=../../..'],
  ]
  for (const [rest, location] of within)
    assert.equal(staysWithin(rest, location), true, `${rest} ${location}`)
  const beyond: [string, string][] = [
    [ROOT, './exec'],
    [ROOT, './proxy'],
    [ROOT, './proxyx/'],
    [ROOT, '../web2/proxy/'],
    [`${ROOT}/`, '../'],
    [`${ROOT}/a/b?x=/y/z`, '../../c'],
    [`${ROOT}/a`, './../../x'],
    [`${ROOT}/a`, './x/../../../y'],
    [`${ROOT}/a/b`, '../%2e%2e/%2E./x'],
    [`${ROOT}/a`, '/api/v1/namespaces/n/pods/web/proxy/'],
    [`${ROOT}/a`, 'b'],
    [`${ROOT}/a`, ''],
    [`${ROOT}/a`, '//evil.example/'],
    [`${ROOT}/a`, 'https://evil.example/'],
    [`${ROOT}/a`, './\\evil.example'],
    [`${ROOT}/a`, '.\\..\\x'],
    [`${ROOT}/a`, './a\tb'],
    [`${ROOT}/a`, './a\r\nset-cookie: a=b'],
    [`${ROOT}/a`, './é'],
    [`${ROOT}/a`, `./${'a'.repeat(9_000)}`],
    ['/api/v1/namespaces/n/pods/web', './proxy/'],
  ]
  for (const [rest, location] of beyond)
    assert.equal(staysWithin(rest, location), false, `${rest} ${location}`)
})

test('whatever may pass is, to a reader of URLs, below proxy, whatever stands before the path', () => {
  const piece = fc.constantFrom(
    './',
    '../',
    '..',
    '.',
    '/',
    'a',
    'proxy',
    '%2e',
    '%2e%2e',
    ';',
    '?',
    '#',
    ':',
    '@',
    '//',
    '\\',
  )
  const text = fc.array(piece, { maxLength: 8 }).map((parts) => parts.join(''))
  const place = fc.array(fc.constantFrom('a', 'b', 'c;d'), { maxLength: 4 })
  fc.assert(
    fc.property(
      place,
      fc.boolean(),
      fc.constantFrom('', '/tenants/red', '/deep/er/still'),
      text,
      (parts, slash, before, location) => {
        const rest =
          parts.length === 0 && !slash
            ? ROOT
            : `${ROOT}/${parts.join('/')}${slash && parts.length > 0 ? '/' : ''}`
        if (!staysWithin(rest, location)) return
        const { origin, pathname } = new URL(location, `https://gateway${before}${rest}`)
        assert.equal(origin, 'https://gateway')
        assert.ok(pathname.startsWith(`${before}${ROOT}/`), `${rest} ${location}: ${pathname}`)
      },
    ),
    { numRuns: 5_000 },
  )
})
