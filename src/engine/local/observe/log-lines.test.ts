import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { LogFormatter, parseLogLine } from './log-lines.ts'

const NOW = Date.parse('2026-11-21T12:00:10Z')
const at = (second: number) => `2026-11-21T12:00:0${second}.123456789+00:00`
const LOG = Buffer.from(
  `${at(1)} stdout F one\n${at(2)} stderr P two \n${at(3)} stderr F halves\nbroken\n${at(4)} stdout F \n${at(5)} stdout F five\n`,
)

function format(options: ConstructorParameters<typeof LogFormatter>[0], log = LOG): string {
  return new LogFormatter(options, NOW).format(log).text.toString()
}

test('lines lose their heads, parts become one line again, and what is no line is left out', () => {
  assert.equal(format({}), 'one\ntwo halves\n\nfive\n')
})

test('timestamps stand before lines, once, with a Z', () => {
  assert.equal(
    format({ timestamps: true }),
    `2026-11-21T12:00:01.123456789Z one\n2026-11-21T12:00:02.123456789Z two halves\n2026-11-21T12:00:04.123456789Z \n2026-11-21T12:00:05.123456789Z five\n`,
  )
})

test('since selects by time', () => {
  assert.equal(format({ sinceSeconds: 6 }), '\nfive\n')
  assert.equal(format({ sinceTime: '2026-11-21T12:00:05Z' }), 'five\n')
  assert.equal(format({ sinceTime: 'nonsense' }), format({}))
})

test('an unfinished line waits for its end', () => {
  const formatter = new LogFormatter({}, NOW)
  const cut = LOG.length - 10
  const { text, rest } = formatter.format(LOG.subarray(0, cut))
  const second = formatter.format(Buffer.concat([rest, LOG.subarray(cut)]))
  assert.equal(text.toString() + second.text.toString(), 'one\ntwo halves\n\nfive\n')
  assert.equal(second.rest.length, 0)
})

test('what a container wrote comes back byte for byte, however the file is cut', () => {
  const content = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes).filter((b) => b !== 10))
  fc.assert(
    fc.property(
      fc.array(fc.tuple(content, fc.boolean()), { maxLength: 10 }),
      fc.integer({ min: 1, max: 50 }),
      (lines, step) => {
        const log = Buffer.concat(
          lines.map(([bytes, full]) =>
            Buffer.concat([Buffer.from(`${at(1)} stdout ${full ? 'F' : 'P'} `), bytes, Buffer.from('\n')]),
          ),
        )
        const formatter = new LogFormatter({}, NOW)
        const out: Buffer[] = []
        let rest: Buffer = Buffer.alloc(0)
        for (let start = 0; start < log.length; start += step) {
          const result = formatter.format(Buffer.concat([rest, log.subarray(start, start + step)]))
          out.push(result.text)
          rest = result.rest
        }
        assert.deepEqual(
          Buffer.concat(out),
          Buffer.concat(lines.map(([bytes, full]) => Buffer.concat([bytes, Buffer.from(full ? '\n' : '')]))),
        )
      },
    ),
  )
})

test('no bytes make the parser fail', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => void parseLogLine(Buffer.from(bytes))))
})
