import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { CATALOGUE, FAMILIES } from '../../src/attack/index.ts'
import { ABLATIONS, attacksOf, ELSEWHERE, SHARE } from './ablations.ts'
import { problemsOf } from './run.ts'
import { applyEdit } from './without.ts'

const REPOSITORY = new URL('../../', import.meta.url)

test('every layer that is switched off is still where the change of the source looks for it', async () => {
  for (const { off, edits } of [...ABLATIONS, ...SHARE])
    for (const edit of edits) {
      const source = await readFile(new URL(edit.file, REPOSITORY), 'utf8')
      assert.notEqual(applyEdit(source, edit), source, off)
    }
})

test('attacks and families of ablations are ones that there are', () => {
  const ids = new Set(CATALOGUE.map(({ id }) => id))
  for (const { off, ids: chosen = [], families = [], accepted = {}, comesThrough = [] } of [
    ...ABLATIONS,
    ...SHARE,
  ]) {
    for (const id of [...chosen, ...Object.keys(accepted), ...comesThrough])
      assert.ok(ids.has(id), `${off}: ${id}`)
    for (const family of families)
      assert.ok(
        FAMILIES.some((known) => known === family),
        `${off}: ${family}`,
      )
    assert.ok(chosen.length + families.length > 0, off)
  }
})

test('whatever comes through is among what was tried, and what is tried without a layer is tried with all', () => {
  const [whole, ...others] = ABLATIONS
  const tried = new Set(whole === undefined ? [] : attacksOf(whole))
  for (const ablation of others) {
    const mine = attacksOf(ablation)
    for (const id of [...(ablation.comesThrough ?? []), ...Object.keys(ablation.accepted ?? {})])
      assert.ok(mine.includes(id), `${ablation.off}: ${id}`)
    assert.deepEqual(
      mine.filter((id) => !tried.has(id)),
      [],
      ablation.off,
    )
  }
  assert.equal(new Set(ABLATIONS.map(({ off }) => off)).size, ABLATIONS.length)
})

test('the page in the documents is about every layer that is switched off', async () => {
  const page = await readFile(new URL('docs/ablation.md', REPOSITORY), 'utf8')
  for (const { off } of ABLATIONS.slice(1)) assert.ok(page.includes(`## Without: ${off}\n`), off)
  assert.doesNotMatch(page, /\*\*(?:not tried|it is not|nothing)\*\*/i)
})

test('tests that switch layers off elsewhere are there', () => {
  const files = ELSEWHERE.flatMap(({ where }) => [...where.matchAll(/`([^`]+)`/g)].map(([, file]) => file))
  assert.ok(files.length > 5)
  for (const file of files) assert.ok(existsSync(new URL(file ?? '', REPOSITORY)), file)
})

test('a change that does not fit, or fits twice, is not taken for a layer that is off', () => {
  const edit = { file: 'x.ts', find: 'deny()', replace: '' }
  assert.throws(() => applyEdit('allow()', edit), /is 0 times/)
  assert.throws(() => applyEdit('deny(); deny()', edit), /is 2 times/)
  assert.equal(applyEdit('a; deny(); b', { ...edit, replace: '$&' }), 'a; $&; b')
})

test('what comes through against expectation is a problem, and so is what does not come through', () => {
  const ablation = { off: 'x', how: '', edits: [], classes: 'shared,shared' as const }
  const result = (id: string, kind: 'blocked' | 'escaped') => ({
    id,
    title: '',
    family: '',
    vector: '',
    standards: [],
    attacker: { name: 'a', isolationClass: 'shared' },
    victim: { name: 'b', isolationClass: 'shared' },
    outcome: { kind, by: 'y', evidence: 'z' },
    tookMs: 1,
  })
  const run = (kind: 'blocked' | 'escaped', more: object = {}) =>
    problemsOf({ ablation: { ...ablation, ...more }, results: [result('one', kind)] })
  assert.deepEqual(run('blocked'), [])
  assert.deepEqual(run('escaped'), ['without x, one comes through'])
  assert.deepEqual(run('escaped', { accepted: { one: 'why' } }), [])
  assert.deepEqual(run('escaped', { comesThrough: ['one'] }), [])
  assert.deepEqual(run('blocked', { comesThrough: ['one'] }), ['without x, one should come through'])
  assert.deepEqual(problemsOf({ ablation, results: [] }), ['without x, nothing was tried'])
})
