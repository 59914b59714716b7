import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeClock } from '../stdx/index.ts'
import { Standing } from './standing.ts'

test('what was opened ends when it is not allowed any more, once, and the rest goes on', () => {
  const clock = new FakeClock()
  const standing = new Standing(clock)
  const ended: string[] = []
  const allowed = new Set(['a', 'b', 'c'])
  let asked = 0
  const open = (name: string) =>
    standing.add({ isAllowed: () => (asked++, allowed.has(name)), end: () => void ended.push(name) })
  open('a')
  open('b')
  const over = open('c')
  standing.changed()
  clock.advance(10_000)
  assert.deepEqual(ended, [])
  over()
  allowed.clear()
  allowed.add('b')
  asked = 0
  for (let i = 0; i < 1_000; i++) standing.changed()
  clock.advance(10_000)
  assert.deepEqual({ ended, asked }, { ended: ['a'], asked: 2 })
  standing.changed()
  clock.advance(10_000)
  assert.deepEqual(ended, ['a'])
})
