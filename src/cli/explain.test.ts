import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { tenantRegistry } from '../api/index.ts'
import { type Explanation, explainField, renderExplanation, UnknownField } from './explain.ts'

/** What people ask about; the answers are a file that people read and change by hand. */
const ASKED = [
  'pod.spec.hostNetwork',
  'deployment.spec.template.spec.containers[].securityContext.privileged',
  'cronjob.spec.jobTemplate.spec.template.spec.volumes[0].hostPath.path',
  'pod.spec.containers.securityContext.capabilities.add',
  'pods.spec.containers[*].securityContext',
  'svc.spec.type',
  'pod.spec.containers.resources.limits.cpu',
  'pod.spec.affinity.podAffinity',
  'Deployment.spec.strategy',
  'pod.spec.hostNetwrk',
  'pod.spec.containers.image.tag',
  'deploymnet.spec',
  'pod.spec.somethingElseEntirely',
  '',
]

function answer(field: string): string {
  try {
    return renderExplanation(explainField(field))
  } catch (error) {
    assert.ok(error instanceof UnknownField, String(error))
    return error.message
  }
}

test('a field is explained as people expect it', () => {
  const text = ASKED.map((field) => `$ bulkhead explain ${field}\n${answer(field)}\n`).join('\n')
  assert.equal(text, readFileSync(new URL('testdata/explain.txt', import.meta.url), 'utf8'))
})

/** Every field below a path that can be reached without going in circles. */
function everyField(path: string, depth = 0): Explanation[] {
  const explanation = explainField(path)
  if (depth > 7) return [explanation]
  const names = [...(explanation.fields?.allowed ?? []), ...(explanation.fields?.refused ?? [])]
  return [explanation, ...names.flatMap(({ name }) => everyField(`${path}.${name}`, depth + 1))]
}

test('every field of every kind is explained, in 80 columns, with and without colours alike', () => {
  // oxlint-disable-next-line no-control-regex -- it removes what the terminal does not show
  const colours = /\u001b\[\d+m/g
  for (const { singular } of tenantRegistry.kinds) {
    for (const explanation of everyField(singular)) {
      const { field, verdict, description, why, vector, instead } = explanation
      const dynamic = verdict === 'allowed' && description !== undefined
      assert.ok(dynamic || (why && vector && instead), field)
      const plain = renderExplanation(explanation)
      assert.equal(renderExplanation(explanation, { colour: true }).replaceAll(colours, ''), plain)
      const [, ...rest] = plain.split('\n')
      for (const line of rest) assert.ok(line.length <= 80, line)
    }
  }
})

test('what nobody knows is told in a sentence, whatever was asked', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.array(fc.constantFrom('pod', 'spec', '__proto__', 'constructor', '[]', '.'))),
      (asked) => {
        answer(typeof asked === 'string' ? asked : asked.join('.'))
      },
    ),
  )
  answer('pod.'.repeat(1_000))
})
