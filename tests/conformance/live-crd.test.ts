import assert from 'node:assert/strict'
import { test } from 'node:test'
import { differingPaths } from './compare-answers.ts'
import { comparableAnswer, ourAnswers, theirAnswers } from './compare-custom-kinds.ts'
import { ControlPlane, type Json } from './control-plane.ts'
import { Dice } from './dice.ts'
import { ASSETS, KubeApiServer, upstreamMissing } from './kube-apiserver.ts'
import { randomKindCase } from './random-kinds.ts'
import { randomRuleSchema } from './random-rules.ts'
import { refusalsOf, ruleDefinition } from './rule-refusals.ts'

/** Asks ours and a real kube-apiserver the same about custom kinds. Set KUBEBUILDER_ASSETS as for envtest. */

const SEED = Number(process.env['BULKHEAD_SEED'] ?? 1)
const RULE_CASES = 200

test(
  'rules of custom kinds are taken, and refused as too expensive, as by a real kube-apiserver',
  { skip: upstreamMissing, timeout: 300_000 },
  async (t) => {
    await using upstream = await KubeApiServer.start(ASSETS ?? '')
    await using plane = await ControlPlane.start()
    t.diagnostic(`seeds from ${SEED}`)
    for (let seed = SEED; seed < SEED + RULE_CASES; seed++) {
      const body = ruleDefinition(randomRuleSchema(new Dice(seed)))
      const path = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All'
      const theirs = await upstream.ask({ method: 'POST', path, body })
      const ours = await plane.ask('POST', path, { body })
      assert.deepEqual(
        { code: ours.code, refusals: refusalsOf(ours.body) },
        { code: theirs.code, refusals: refusalsOf(JSON.parse(theirs.text) as Json) },
        `seed ${seed}`,
      )
    }
  },
)

const KIND_CASES = 60
/** Of a hundred answers to random requests. Where ours differs on purpose, docs/limits.md says so. */
const SAME_PERCENT_MIN = 97

test(
  'applies, updates and patches of custom kinds are answered as by a real kube-apiserver',
  { skip: upstreamMissing, timeout: 600_000 },
  async (t) => {
    await using upstream = await KubeApiServer.start(ASSETS ?? '')
    await using plane = await ControlPlane.start()
    const cases = Array.from({ length: KIND_CASES }, (_, at) =>
      randomKindCase(new Dice(SEED + at), `k${SEED + at}`),
    )
    const answers = await theirAnswers(upstream, cases)
    let asked = 0
    let same = 0
    for (const [at, kind] of cases.entries()) {
      const theirs = answers[at]
      if (!theirs) continue
      const ours = await ourAnswers(plane, kind)
      for (const [request, answer] of theirs.entries()) {
        const paths = differingPaths(comparableAnswer(answer), comparableAnswer(ours[request]))
        asked++
        if (paths.length === 0) same++
        else
          t.diagnostic(
            `seed ${SEED + at}, request ${request}: ${answer.code}, ours ${ours[request]?.code}: ${paths.slice(0, 5).join(', ')}`,
          )
        // What comes after is about another object.
        if (paths.length > 0) break
      }
    }
    t.diagnostic(`${same} of ${asked} answers are the same`)
    assert.ok(asked > 300 && same * 100 >= asked * SAME_PERCENT_MIN)
  },
)
