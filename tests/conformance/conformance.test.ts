import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { NEEDED, VERDICTS } from './conformance-verdicts.ts'
import { API_ONLY, hasPassed, NAMES, renderConformance, RESULTS, verdictOf } from './render-conformance.ts'
import { reasonOf, REASONS } from './upstream/reasons.ts'

const ROOT = join(import.meta.dirname, '../..')

test('every conformance test of upstream has a verdict, and every verdict is about one', () => {
  assert.deepEqual(
    [...NAMES, ...API_ONLY].filter((name) => !verdictOf(name)),
    [],
  )
  const used = new Set(NAMES.map(verdictOf))
  assert.deepEqual(
    VERDICTS.filter((verdict) => !used.has(verdict)).map(({ names }) => names),
    [],
  )
})

test('what tests need is said of supported ones that there are', () => {
  for (const { names } of NEEDED)
    for (const words of names) {
      const found = NAMES.filter((name) => name.includes(words))
      assert.ok(found.length > 0, words)
      for (const name of found) assert.ok('supported' in (verdictOf(name) ?? {}), name)
    }
})

test('what is called supported is shown by tests that there are', () => {
  const texts = new Map<string, string>()
  for (const verdict of VERDICTS) {
    if (!('supported' in verdict)) continue
    assert.ok(verdict.supported.length > 0)
    for (const [file, name] of verdict.supported) {
      const text = texts.get(file) ?? readFileSync(join(ROOT, file), 'utf8')
      texts.set(file, text)
      assert.ok(text.includes(name), `${file} has no test “${name}”`)
    }
  }
})

test('why a test of upstream did not pass here is said, and of no other', () => {
  const failed = RESULTS.filter(({ outcome }) => outcome === 'failed')
  assert.deepEqual(
    failed.filter(({ name }) => !reasonOf(name)).map(({ name }) => name),
    [],
  )
  for (const reason of REASONS) {
    const outcomes = RESULTS.filter(({ name }) => reasonOf(name) === reason).map(({ outcome }) => outcome)
    assert.deepEqual(
      new Set(outcomes),
      new Set(['hollow' in reason ? 'passed' : 'failed']),
      reason.names.join(),
    )
  }
  assert.equal(new Set(RESULTS.map(({ name }) => name)).size, RESULTS.length)
})

test('upstream’s own test passes of nothing that is called refused or missing', () => {
  assert.deepEqual(
    NAMES.filter((name) => hasPassed(name) && !('supported' in (verdictOf(name) ?? {}))),
    [],
  )
})

test('docs/conformance.md tells what the verdicts are', () => {
  assert.equal(readFileSync(join(ROOT, 'docs/conformance.md'), 'utf8'), renderConformance())
})
