import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { comparableAnswer, DEFINITIONS, ourAnswers } from './compare-custom-kinds.ts'
import { ControlPlane, type Json } from './control-plane.ts'
import { refusalsOf, ruleDefinition } from './rule-refusals.ts'

/** Custom kinds, requests and the answers that kube-apiserver 1.36.3 gave; `record-custom-kinds.ts` says how. */
const LINES: Json[] = readFileSync(join(import.meta.dirname, 'testdata/custom-kinds.jsonl'), 'utf8')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => JSON.parse(line) as Json)

test('applies, updates and patches of custom kinds are answered as kube-apiserver answered them', async () => {
  await using plane = await ControlPlane.start()
  const cases = LINES.filter(({ kind }) => kind !== undefined)
  assert.ok(cases.length >= 30)
  for (const { kind, definition, requests, answers } of cases) {
    const ours = await ourAnswers(plane, { definition, requests })
    for (const [at, answer] of (answers as Json[]).entries())
      assert.deepEqual(
        comparableAnswer(ours[at]),
        answer,
        `kind ${kind}, request ${at}: ${JSON.stringify(requests[at])}`,
      )
  }
})

test('rules of custom kinds are taken, and refused as too expensive, as kube-apiserver did', async () => {
  await using plane = await ControlPlane.start()
  const cases = LINES.filter(({ rules }) => rules !== undefined)
  assert.ok(cases.length >= 50)
  for (const { rules, schema, code, refusals } of cases) {
    const ours = await plane.ask('POST', `${DEFINITIONS}?dryRun=All`, { body: ruleDefinition(schema) })
    assert.deepEqual(
      { code: ours.code, refusals: refusalsOf(ours.body) },
      { code, refusals },
      `rules ${rules}`,
    )
  }
})
