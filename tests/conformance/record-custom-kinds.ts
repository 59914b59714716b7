import { isDeepStrictEqual } from 'node:util'
import { comparableAnswer, DEFINITIONS, ourAnswers, theirAnswers } from './compare-custom-kinds.ts'
import { ControlPlane, type Json } from './control-plane.ts'
import { Dice } from './dice.ts'
import { ASSETS, KubeApiServer, upstreamMissing } from './kube-apiserver.ts'
import { randomKindCase } from './random-kinds.ts'
import { randomRuleSchema } from './random-rules.ts'
import { refusalsOf, ruleDefinition } from './rule-refusals.ts'

// Prints what a real kube-apiserver answers about custom kinds, for tests that run without one:
//   KUBEBUILDER_ASSETS=... node tests/conformance/record-custom-kinds.ts > tests/conformance/testdata/custom-kinds.jsonl
// Cases in which ours is known to answer otherwise are left out, and named in the first line.

const KIND_CASES = 34
const RULE_CASES = 70

if (upstreamMissing) throw new Error(upstreamMissing)
await using upstream = await KubeApiServer.start(ASSETS ?? '')
await using plane = await ControlPlane.start()
const version = JSON.parse((await upstream.ask({ method: 'GET', path: '/version' })).text) as Json
const lines: Json[] = []
const leftOut: string[] = []
const kinds = Array.from({ length: KIND_CASES }, (_, at) => randomKindCase(new Dice(at + 1), `k${at + 1}`))
const answers = await theirAnswers(upstream, kinds)
for (const [at, kind] of kinds.entries()) {
  const theirs = answers[at]?.map(comparableAnswer)
  // Some random definitions are refused.
  if (!theirs) continue
  const ours = (await ourAnswers(plane, kind)).map(comparableAnswer)
  if (isDeepStrictEqual(theirs, ours)) lines.push({ kind: at + 1, ...kind, answers: theirs })
  else leftOut.push(`kind ${at + 1}`)
}
for (let seed = 1; seed <= RULE_CASES; seed++) {
  const schema = randomRuleSchema(new Dice(seed))
  const path = `${DEFINITIONS}?dryRun=All`
  const { code, text } = await upstream.ask({ method: 'POST', path, body: ruleDefinition(schema) })
  lines.push({ rules: seed, schema, code, refusals: refusalsOf(JSON.parse(text) as Json) })
}
const from = { server: `kube-apiserver ${version.gitVersion}`, by: 'record-custom-kinds.ts', leftOut }
for (const line of [{ from }, ...lines]) process.stdout.write(`${JSON.stringify(line)}\n`)
