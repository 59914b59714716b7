import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ControlPlane, type Json } from './control-plane.ts'
import { Dice } from './dice.ts'
import { ASSETS, KubeApiServer, upstreamMissing } from './kube-apiserver.ts'
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
