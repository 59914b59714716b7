import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ApiError, type JsonValue } from '../../api/index.ts'
import { BODY_DEPTH_MAX, BODY_VALUES_MAX } from './limits.ts'
import { parseJson } from './strict-json.ts'

function refusal(text: string | Uint8Array): string {
  try {
    parseJson(text)
  } catch (error) {
    assert.ok(error instanceof ApiError, String(error))
    assert.equal(error.code, 400)
    return error.message
  }
  return 'accepted'
}

test('every JSON value comes back as it was written, and nothing in it is a duplicate', () => {
  const json = fc
    .jsonValue({ noUnicodeString: false })
    .filter((value) => refusal(JSON.stringify(value)) === 'accepted')
  fc.assert(
    fc.property(json, (value) => {
      const parsed = parseJson(JSON.stringify(value, null, 1))
      assert.deepEqual(parsed, { value: JSON.parse(JSON.stringify(value)) as JsonValue, duplicateFields: [] })
    }),
  )
})

test('any text is parsed or refused with a reason', () => {
  const pieces = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"',
    '"a"',
    '\\',
    '1',
    '-',
    '.5',
    'e9',
    'true',
    'nul',
    ' ',
    '\u0001',
  )
  const text = fc.oneof(
    fc.string(),
    fc.array(pieces).map((list) => list.join('')),
  )
  fc.assert(
    fc.property(text, (body) => {
      let parses = true
      try {
        JSON.parse(body)
      } catch {
        parses = false
      }
      const said = refusal(body)
      if (!parses) assert.match(said, /^json parse error: (?!invalid JSON)/, `for ${JSON.stringify(body)}`)
    }),
    { numRuns: 500 },
  )
})

test('a key given twice is reported with its path, and the last one counts', () => {
  assert.deepEqual(parseJson('{"spec":{"x":1,"c":[{"n":1},{"n":2,"n":3}],"x":2},"a:b":"c:\\"d"}'), {
    value: { spec: { x: 2, c: [{ n: 1 }, { n: 3 }] }, 'a:b': 'c:"d' },
    duplicateFields: ['spec.c[1].n', 'spec.x'],
  })
  assert.deepEqual(parseJson(String.raw`{"a":1,"\u0061":2}`).duplicateFields, ['a'])
})

test('malformed bodies are refused in the words of Go', () => {
  const said: Record<string, string> = {
    '{not json': "invalid character 'n' looking for beginning of object key string",
    '{"a":': 'unexpected end of JSON input',
    '': 'unexpected end of JSON input',
    '{"a" 1}': "invalid character '1' after object key",
    '{"a":1 "b"}': `invalid character '"' after object key:value pair`,
    '[1 2]': "invalid character '2' after array element",
    '{}x': "invalid character 'x' after top-level value",
    truX: "invalid character 'X' in literal true (expecting 'e')",
    '"\\q"': "invalid character 'q' in string escape code",
    '-': 'unexpected end of JSON input',
    '<': "invalid character '<' looking for beginning of value",
  }
  for (const [body, message] of Object.entries(said))
    assert.equal(refusal(body), `json parse error: ${message}`)
})

test('a body cannot be nested without end', () => {
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
  assert.equal(refusal(nested(BODY_DEPTH_MAX)), 'accepted')
  assert.match(refusal(nested(BODY_DEPTH_MAX + 1)), /nested deeper than 100 levels/)
  assert.match(refusal(nested(500_000)), /nested deeper/)
  assert.match(refusal('{"a":'.repeat(400_000)), /exceeded max depth/)
})

test('a body cannot have more values than fit in memory', () => {
  assert.match(refusal(`[${'{},'.repeat(BODY_VALUES_MAX)}1]`), /more than 200000 values/)
})

test('a key cannot become a prototype', () => {
  assert.match(refusal('{"metadata":{"__proto__":{"admin":true}}}'), /"__proto__" is not accepted/)
  assert.match(refusal(String.raw`{"\u005f_proto__":1}`), /"__proto__" is not accepted/)
  const { value } = parseJson('{"constructor":{"prototype":1}}')
  assert.deepEqual(Object.keys(value as object), ['constructor'])
})

test('a number that would lose digits is refused', () => {
  assert.match(refusal('{"a":9007199254740993}'), /whole numbers beyond 9007199254740991/)
  assert.match(refusal('[-9223372036854775808]'), /whole numbers beyond/)
  assert.match(refusal('[1e400]'), /whole numbers beyond/)
  assert.equal(refusal('[9007199254740991, 0.1, -0, 1.5e10]'), 'accepted')
})

test('a body that is not UTF-8 is refused', () => {
  assert.equal(refusal(Uint8Array.of(0x22, 0xc3, 0x28, 0x22)), 'the request body is not valid UTF-8')
})
