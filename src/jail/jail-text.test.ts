import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { expandVariables, literalText, renderJailText } from './jail-text.ts'

test('expansion is that of upstream', () => {
  const known = new Map([
    ['A', '1'],
    ['B', '$(A)'],
    ['', 'empty'],
  ])
  const expand = (text: string) => expandVariables(text, (name) => known.get(name))
  for (const [text, expected] of [
    ['$(A)', '1'],
    ['x$(A)y$(A)', 'x1y1'],
    ['$$(A)', '$(A)'],
    ['$$$(A)', '$1'],
    ['$(NO)', '$(NO)'],
    ['$(B)', '$(A)'],
    ['$A', '$A'],
    ['$', '$'],
    ['a$', 'a$'],
    ['$(A', '$(A'],
    ['$$', '$'],
    ['$()', 'empty'],
    ['', ''],
  ] as const)
    assert.equal(expand(text), expected, text)
  fc.assert(
    fc.property(fc.string(), (text) => {
      const without = expandVariables(text, () => undefined)
      if (!text.includes('$')) assert.equal(without, text)
      assert.ok(without.length <= text.length)
    }),
  )
})

test('only addresses are put into a text, and what was written as literal comes out as it was', () => {
  const addresses = { podIP: '10.0.0.1', hostIP: '10.0.0.254' }
  assert.equal(
    renderJailText('$(podIP) $(podIPs) $(hostIP) $$(podIP) $(NAME) $x $', addresses),
    '10.0.0.1 10.0.0.1 10.0.0.254 $(podIP) $(NAME) $x $',
  )
  assert.equal(renderJailText('$('.repeat(50_000), addresses).length, 100_000)
  const text = fc.string({ unit: fc.constantFrom('$', '(', ')', 'podIP', 'a', '$$', '$(') })
  fc.assert(
    fc.property(text, text, (before, after) => {
      assert.equal(renderJailText(literalText(before), addresses), before)
      const whole = `${literalText(before)}$(hostIP)${literalText(after)}`
      assert.equal(renderJailText(whole, addresses), `${before}10.0.0.254${after}`)
    }),
  )
})
