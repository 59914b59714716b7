import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { NAMES, renderConformance, RESULTS } from './render-conformance.ts'
import { reasonOf, REASONS } from './upstream/reasons.ts'

const ROOT = join(import.meta.dirname, '../..')
const TRUSTS = ['trusted', 'untrusted'] as const

test('each result is about one of upstream’s tests, and there is one of each', () => {
  const known = new Set(NAMES)
  for (const trust of TRUSTS) {
    const names = RESULTS[trust].map(({ name }) => name)
    assert.deepEqual(
      names.filter((name) => !known.has(name)),
      [],
    )
    assert.equal(new Set(names).size, names.length)
  }
})

test('why a test of upstream did not pass here is said, and of no other', () => {
  for (const trust of TRUSTS)
    for (const { name, outcome } of RESULTS[trust]) {
      const reason = reasonOf(trust, name)
      if (outcome === 'passed') assert.ok(reason === undefined || 'hollow' in reason, `${trust}: ${name}`)
      else assert.ok(reason !== undefined && !('hollow' in reason), `${trust}: ${name}`)
    }
  const used = new Set(TRUSTS.flatMap((trust) => NAMES.map((name) => reasonOf(trust, name))))
  assert.deepEqual(
    REASONS.filter((reason) => !used.has(reason)).map(({ names }) => names),
    [],
  )
})

test('what is shown by tests of ours is shown by tests that there are', () => {
  for (const reason of REASONS) {
    if (!('refused' in reason)) continue
    for (const [file, name] of reason.shown ?? [])
      assert.ok(readFileSync(join(ROOT, file), 'utf8').includes(name), `${file} has no test “${name}”`)
  }
})

test('docs/conformance.md tells what was seen', () => {
  assert.equal(readFileSync(join(ROOT, 'docs/conformance.md'), 'utf8'), renderConformance())
})
