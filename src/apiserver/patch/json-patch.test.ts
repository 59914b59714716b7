import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import oracle from 'fast-json-patch'
import { ApiError, type JsonValue } from '../../api/index.ts'
import { applyJsonPatch } from './json-patch.ts'

const DOCUMENT = { metadata: { labels: { 'a/b': '1', 'c~d': '2' } }, list: [1, 2, 3] }

function status(document: JsonValue, patch: JsonValue): { code: number; message: string } {
  try {
    applyJsonPatch(document, patch)
  } catch (error) {
    assert.ok(error instanceof ApiError, String(error))
    return { code: error.code, message: error.details?.causes?.[0]?.message ?? error.message }
  }
  return { code: 200, message: '' }
}

test('every operation does what RFC 6902 says and leaves the document alone', () => {
  const before = JSON.stringify(DOCUMENT)
  const patched = applyJsonPatch(DOCUMENT, [
    { op: 'test', path: '/metadata/labels/a~1b', value: '1' },
    { op: 'test', path: '/nothing', value: null },
    { op: 'replace', path: '/metadata/labels/c~0d', value: '3' },
    { op: 'add', path: '/list/0', value: 0 },
    { op: 'add', path: '/list/-', value: 4 },
    { op: 'remove', path: '/list/1' },
    { op: 'copy', from: '/list', path: '/copy' },
    { op: 'move', from: '/copy/0', path: '/first' },
  ])
  assert.deepEqual(patched, {
    metadata: { labels: { 'a/b': '1', 'c~d': '3' } },
    list: [0, 2, 3, 4],
    copy: [2, 3, 4],
    first: 0,
  })
  assert.equal(JSON.stringify(DOCUMENT), before)
})

test('an operation that does not fit is unprocessable and says which one', () => {
  for (const [operation, message] of [
    [{ op: 'test', path: '/list/0', value: 9 }, 'testing path "/list/0" failed'],
    [{ op: 'remove', path: '/metadata/zz' }, 'the document has nothing at "/metadata/zz"'],
    [{ op: 'replace', path: '/zz/a', value: 1 }, 'the document has nothing at "/zz"'],
    [{ op: 'test', path: '/zz/a', value: null }, 'the document has nothing at "/zz"'],
    [{ op: 'add', path: '/list/9', value: 1 }, 'there is no item "9" in a list'],
    [{ op: 'add', path: '/list/-1', value: 1 }, 'there is no item "-1" in a list'],
    [{ op: 'add', path: '/list/01', value: 1 }, 'there is no item "01" in a list'],
    [{ op: 'remove', path: '/constructor' }, 'the document has nothing at "/constructor"'],
    [{ op: 'move', from: '/metadata', path: '/metadata/x' }, 'a value cannot be moved into itself'],
    [{ op: 'remove', path: '' }, 'the whole document cannot be removed'],
  ] as const)
    assert.deepEqual(status(DOCUMENT, [operation]), {
      code: 422,
      message: `operation 0 of the JSON patch: ${message}`,
    })
})

test('what is not a list of objects is a bad request', () => {
  for (const patch of [{ op: 'remove' }, [1], 'remove', null])
    assert.equal(status(DOCUMENT, patch).code, 400, JSON.stringify(patch))
})

test('what is no operation is unprocessable, as upstream, and says why', () => {
  for (const operation of [
    { op: 'remove' },
    { op: 'jump', path: '/a' },
    { path: '/a' },
    { op: 'add', path: '/a' },
    { op: 'add', path: 'a', value: 1 },
    { op: 'add', path: '/~2', value: 1 },
    { op: 'add', path: '/__proto__/x', value: 1 },
    { op: 'copy', from: '/__proto__', path: '/a' },
    { op: 'move', path: '/a' },
  ]) {
    const { code, message } = status(DOCUMENT, [operation])
    assert.equal(code, 422, JSON.stringify(operation))
    assert.match(message, /^operation 0 of the JSON patch has /)
  }
})

test('a patch cannot make us work or grow without end', () => {
  const many = Array.from({ length: 10_001 }, () => ({ op: 'test', path: '', value: null }))
  assert.match(status({}, many).message, /maximum operations in a JSON patch is 10000, got 10001/)
  const growing = Array.from({ length: 64 }, (_, at) => ({ op: 'copy', from: '/a', path: `/b${at}` }))
  assert.match(status({ a: 'x'.repeat(100_000) }, growing).message, /accumulated size increase of copy/)
  const nesting = Array.from({ length: 10_000 }, () => ({ op: 'copy', from: '', path: '/a' }))
  assert.match(status({}, nesting).message, /deeper than 100 levels/)
  const sinking = Array.from({ length: 5_000 }, (_, at) => [
    { op: 'add', path: `/k${at + 1}`, value: {} },
    { op: 'move', from: `/k${at}`, path: `/k${at + 1}/x` },
  ])
  assert.match(status({ k0: {} }, sinking.flat()).message, /deeper than 100 levels/)
  const list = Array.from({ length: 50_000 }, () => 0)
  const shifting = Array.from({ length: 9_000 }, () => ({ op: 'add', path: '/0', value: 0 }))
  assert.match(status(list, shifting).message, /too much work/)
})

test('patches that fast-json-patch makes are applied as it applies them', () => {
  const json = fc.object({
    maxDepth: 3,
    key: fc.constantFrom('a', 'b', 'c/d', 'e~f', 'constructor'),
    values: [fc.integer(), fc.string(), fc.boolean()],
  })
  fc.assert(
    fc.property(json, json, (before, after) => {
      const plain = (value: unknown) => JSON.parse(JSON.stringify(value)) as JsonValue
      const patch = oracle.compare(plain(before) as object, plain(after) as object)
      assert.deepEqual(applyJsonPatch(plain(before), plain(patch)), plain(after))
    }),
  )
})

test('any list of operations is applied or refused', () => {
  const path = fc
    .array(fc.constantFrom('', 'a', 'list', '0', '-', '1', '~0', '__proto__'))
    .map((s) => s.map((e) => `/${e}`).join(''))
  const operation = fc.record({
    op: fc.constantFrom('add', 'remove', 'replace', 'move', 'copy', 'test'),
    path,
    from: path,
    value: fc.jsonValue(),
  })
  fc.assert(
    fc.property(fc.array(operation), (patch) => {
      status(DOCUMENT, JSON.parse(JSON.stringify(patch)) as JsonValue)
      assert.equal(({} as Record<string, unknown>)['a'], undefined)
    }),
  )
})
