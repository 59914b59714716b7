import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isRegistryAllowed, parseReference, renderReference } from './image-reference.ts'

const digest = `sha256:${'ab'.repeat(32)}`

test('short names get the registry, the library and the tag that everybody means', () => {
  assert.deepEqual(parseReference('nginx'), {
    registry: 'docker.io',
    repository: 'library/nginx',
    tag: 'latest',
  })
  assert.deepEqual(parseReference('a/b:1'), { registry: 'docker.io', repository: 'a/b', tag: '1' })
  assert.deepEqual(parseReference('127.0.0.1:5000/web'), {
    registry: '127.0.0.1:5000',
    repository: 'web',
    tag: 'latest',
  })
  assert.deepEqual(parseReference(`r.example/x@${digest}`), {
    registry: 'r.example',
    repository: 'x',
    digest,
  })
  assert.deepEqual(parseReference(`r.example/x:2@${digest}`), {
    registry: 'r.example',
    repository: 'x',
    tag: '2',
    digest,
  })
})

test('what is no reference is refused with the text in the message', () => {
  for (const text of [
    '',
    'UPPER',
    'a//b',
    '../etc',
    'a/../b',
    'x:',
    'x@sha256:12',
    'x@md5:aa',
    'a b',
    'x\n',
    'x:y:z',
    'h.example/',
    'a@b@c',
    'x'.repeat(600),
    // In lower case the Kelvin sign is a k.
    'registry.\u212A8s.example/app',
    'r.example:70000/app',
    'r.example/app:1\n',
    'r.example/app\u00a0',
    'r.example/\u0430pp',
  ])
    assert.throws(() => parseReference(text), /couldn't parse image name/, JSON.stringify(text))
})

test('rendering and parsing a reference again gives the same', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 80 }), (text) => {
      let reference
      try {
        reference = parseReference(text)
      } catch (error) {
        assert.ok(error instanceof TypeError)
        return
      }
      assert.deepEqual(parseReference(renderReference(reference)), reference)
    }),
    { numRuns: 2_000 },
  )
})

test('what is accepted is printable ASCII, as a jail wants it', () => {
  const near = fc
    .tuple(
      fc.constantFrom('r.example/app:1', 'r.example:5000/a', 'nginx'),
      fc.nat(15),
      fc.string({ unit: 'binary', maxLength: 1 }),
    )
    .map(([text, at, odd]) => text.slice(0, at) + odd + text.slice(at))
  fc.assert(
    fc.property(near, (text) => {
      try {
        parseReference(text)
      } catch {
        return
      }
      assert.match(text, /^[!-~]+$/)
    }),
    { numRuns: 20_000 },
  )
})

test('an allowed prefix ends at a path segment and does not cover its look-alikes', () => {
  const allowed = ['r.example/team', '127.0.0.1:5000']
  const may = (text: string) => isRegistryAllowed(parseReference(text), allowed)
  assert.deepEqual(
    [
      'r.example/team/app',
      'r.example/team',
      'r.example/teamx',
      'r.example.evil.example/team/app',
      '127.0.0.1:5000/x',
      '127.0.0.1:50001/x',
      'nginx',
    ].map(may),
    [true, true, false, false, true, false, false],
  )
})
