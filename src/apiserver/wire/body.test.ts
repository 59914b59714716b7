import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ApiError } from '../../api/index.ts'
import { decodeBody, decodePatchBody } from './body.ts'
import { BODY_BYTES_MAX } from './limits.ts'
import { encodeProtobuf } from './render-protobuf.ts'

function status(run: () => unknown): { code: number; message: string } {
  try {
    run()
  } catch (error) {
    assert.ok(error instanceof ApiError, String(error))
    return { code: error.code, message: error.message }
  }
  return { code: 200, message: '' }
}

const OBJECT = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c' }, data: { a: '1' } }

test('an object is the same whatever it is written in', () => {
  const bodies: [string | undefined, Uint8Array][] = [
    ['application/json', Buffer.from(JSON.stringify(OBJECT))],
    ['application/json; charset=UTF-8', Buffer.from(JSON.stringify(OBJECT))],
    [undefined, Buffer.from(JSON.stringify(OBJECT))],
    ['application/yaml', Buffer.from('apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: "1"}')],
    ['Application/VND.kubernetes.protobuf', encodeProtobuf(OBJECT) ?? new Uint8Array()],
  ]
  for (const [contentType, body] of bodies)
    assert.deepEqual(decodeBody({ contentType }, body), {
      value: OBJECT,
      duplicateFields: [],
      unknownFields: [],
    })
})

test('a body of another type is refused with the list of those we read', () => {
  assert.deepEqual(
    status(() => decodeBody({ contentType: 'text/plain' }, Buffer.from('x'))),
    {
      code: 415,
      message:
        'the body of the request was in an unknown format - accepted media types include: application/json, ' +
        'application/yaml, application/vnd.kubernetes.protobuf',
    },
  )
})

test('a body that is no object says what was expected, as upstream', () => {
  const read = (text: string) =>
    status(() =>
      decodeBody({ contentType: 'application/json' }, Buffer.from(text), { expectedKind: 'ConfigMap' }),
    )
  assert.deepEqual(read('{not json'), {
    code: 400,
    message:
      "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: " +
      "invalid character 'n' looking for beginning of object key string ({not json)",
  })
  assert.match(read('').message, /unexpected end of JSON input \(<empty>\)$/)
  assert.match(read('nope').message, /\(6e6f7065\)$/)
  assert.match(read(`{"a":${'x'.repeat(100)}`).message, /\(\{"a":x{25} \.\.\.\)$/)
})

test('compressed and oversized bodies are refused', () => {
  const json = { contentType: 'application/json' }
  assert.equal(status(() => decodeBody({ ...json, contentEncoding: 'gzip' }, Buffer.from('{}'))).code, 415)
  assert.equal(
    status(() => decodeBody({ ...json, contentEncoding: 'identity' }, Buffer.from('{}'))).code,
    200,
  )
  assert.equal(status(() => decodeBody(json, Buffer.alloc(BODY_BYTES_MAX + 1, ' '))).code, 413)
  assert.equal(status(() => decodePatchBody(json, Buffer.alloc(BODY_BYTES_MAX + 1, ' '))).code, 413)
})

test('an apply patch is YAML, every other patch is JSON', () => {
  const apply = { contentType: 'application/apply-patch+yaml' }
  assert.deepEqual(decodePatchBody(apply, Buffer.from('a: 1\na: 2\n')).duplicateFields, ['a'])
  assert.match(status(() => decodePatchBody(apply, Buffer.from('a: ['))).message, /^error decoding YAML/)
  const merge = { contentType: 'application/merge-patch+json' }
  assert.equal(status(() => decodePatchBody(merge, Buffer.from('a: 1'))).code, 400)
})
