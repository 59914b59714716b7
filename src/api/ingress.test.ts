import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { findPath, hostsOverlap, isHostGranted, parseRequestHost, parseRequestPath } from './index.ts'

const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?$/)
const name = fc.array(label, { minLength: 2, maxLength: 4 }).map((labels) => labels.join('.'))
const pattern = fc.oneof(
  name,
  name.map((each) => `*.${each}`),
)

test('a wildcard stands for one label, and overlaps with what it covers', () => {
  assert.ok(hostsOverlap('*.a.example', 'b.a.example'))
  assert.ok(hostsOverlap('b.a.example', '*.a.example'))
  assert.ok(hostsOverlap('a.example', 'a.example'))
  assert.ok(!hostsOverlap('*.a.example', 'a.example'))
  assert.ok(!hostsOverlap('*.a.example', 'c.b.a.example'))
  assert.ok(!hostsOverlap('*.a.example', '*.b.a.example'))
})

test('a host is granted by itself or by a wildcard over it, and a wildcard only by itself', () => {
  assert.ok(isHostGranted(['*.a.example'], 'b.a.example'))
  assert.ok(isHostGranted(['*.a.example'], '*.a.example'))
  assert.ok(!isHostGranted(['b.a.example'], '*.a.example'))
  assert.ok(!isHostGranted(['*.example.com'], '*.a.example.com'))
  assert.ok(!isHostGranted([], 'a.example'))
})

test('of patterns that do not overlap, no host is in both', () => {
  fc.assert(
    fc.property(pattern, pattern, name, (one, other, host) => {
      const covered = [host, `x.${one.replace('*.', '')}`, `x.${other.replace('*.', '')}`, one, other]
      for (const each of covered)
        if (isHostGranted([one], each) && isHostGranted([other], each)) assert.ok(hostsOverlap(one, other))
    }),
  )
})

test('a request’s host is one name in one form, or none', () => {
  const same = ['a.example.com', 'A.Example.COM', 'a.example.com.', 'a.example.com:80', 'a.example.com.:443']
  for (const each of same) assert.equal(parseRequestHost(each), 'a.example.com', each)
  const none = [
    '',
    '.',
    'a..b',
    '.a.b',
    'a.b..',
    'a b',
    'a,b',
    'a/b',
    'u@a.b',
    'a.b:',
    'a.b:x',
    'a.b:65536',
    'a.b:80:80',
    '[::1]',
    'a.b\0',
    'a.b\n',
    'bücher.example',
    'a%2eb',
    '*.a.b',
    '-a.b',
    `${'a'.repeat(64)}.b`,
    'a.'.repeat(200),
  ]
  for (const each of none) assert.equal(parseRequestHost(each), undefined, each)
  fc.assert(
    fc.property(fc.string({ unit: 'binary-ascii', maxLength: 300 }), (text) => {
      const host = parseRequestHost(text)
      if (host === undefined) return
      assert.equal(host, host.toLowerCase())
      assert.equal(parseRequestHost(host), host)
    }),
  )
})

test('a request’s path goes nowhere but down, however it is written', () => {
  for (const each of [
    '/',
    '/a',
    '/a/b/',
    '/a//b',
    '/a;x=1/b',
    '/a%20b',
    '/@scope%2fname',
    '/...',
    '/a..b',
    '/.well-known/x',
  ])
    assert.equal(parseRequestPath(each), each)
  assert.equal(parseRequestPath('/a?../b'), '/a')
  for (const each of [
    '',
    'a',
    '*',
    'http://x/',
    '/..',
    '/a/../b',
    '/./a',
    '/%2e%2e',
    '/a/.%2e/b',
    '/..;a',
    '/..%3bx',
    '/a%2f..',
    '/a\\b',
    '/%5c',
    '/%00',
    '/a%',
    '/%zz',
    '/%252e',
    '/a b',
    '/ü',
    '/a#b',
  ])
    assert.equal(parseRequestPath(each), undefined, each)
  fc.assert(
    fc.property(fc.string({ unit: 'binary-ascii', maxLength: 40 }), (text) => {
      const path = parseRequestPath(`/${text}`)
      if (path === undefined) return
      // A server that decodes and resolves it stays below where it began.
      let decoded: string
      try {
        decoded = decodeURIComponent(path)
      } catch {
        return
      }
      assert.ok(!decoded.split(/[/\\]/).some((part) => part === '..' || part === '.'))
    }),
    { numRuns: 2_000 },
  )
})

test('paths are found as upstream orders them', () => {
  const prefix = (path: string) => ({ path, exact: false })
  const exact = (path: string) => ({ path, exact: true })
  const rules = [prefix('/'), prefix('/aaa'), prefix('/aaa/bbb/'), exact('/aaa/bbb'), exact('/foo')]
  const found = (path: string) => findPath(rules, path)
  assert.deepEqual(found('/'), prefix('/'))
  assert.deepEqual(found('/aaab'), prefix('/'))
  assert.deepEqual(found('/aaa'), prefix('/aaa'))
  assert.deepEqual(found('/aaa/'), prefix('/aaa'))
  assert.deepEqual(found('/aaa/bbb'), exact('/aaa/bbb'))
  assert.deepEqual(found('/aaa/bbb/'), prefix('/aaa/bbb/'))
  assert.deepEqual(found('/aaa/bbb/ccc'), prefix('/aaa/bbb/'))
  assert.deepEqual(found('/aaa/bbbccc'), prefix('/aaa'))
  assert.deepEqual(found('/foo/'), prefix('/'))
  assert.deepEqual(found('//aaa'), prefix('/'))
  assert.equal(findPath([prefix('/aaa')], '/'), undefined)
})
