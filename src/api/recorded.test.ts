import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  applyDefaults,
  checkObject,
  invalid,
  type JsonValue,
  type KubeObject,
  tenantRegistry,
  validateObject,
} from './index.ts'

/** Creates that a real API server answered, given to ours: the same defaults, the same words. */

type Recorded = {
  name: string
  path: string
  request: Record<string, JsonValue>
  code: number
  answer: KubeObject
}

const { creates } = JSON.parse(
  readFileSync(join(import.meta.dirname, 'testdata/recorded-creates-1.32.json'), 'utf8'),
) as { creates: Recorded[] }

/** What a real server adds and we do not, with the reason. Paths end at the field. */
const ACCEPTED_DIFFERENCES: Record<string, string> = {
  'Pod.spec.tolerations': 'added for taints of nodes; our virtual node has none',
  'Pod.spec.priority': 'pods of a tenant are not ranked',
  'Pod.spec.preemptionPolicy': 'pods of a tenant are not ranked',
  'Service.spec.clusterIP': 'given by the API server when it stores the service',
  'Service.spec.clusterIPs': 'given by the API server when it stores the service',
  'Deployment.spec.template.metadata.creationTimestamp':
    'an empty time, which upstream 1.33 leaves out as well',
}

const context = { user: { kind: 'anonymous' }, nowMs: 0 } as const

function admit(
  kind: (typeof tenantRegistry.kinds)[number],
  request: JsonValue,
  server: KubeObject['metadata'],
) {
  const checked = checkObject(kind, request)
  const object = applyDefaults(kind, checked.object)
  object.metadata = { ...object.metadata, ...server }
  const prepared = kind.prepareForCreate?.(object, context) ?? object
  return {
    ...checked,
    object: prepared,
    problems: [...checked.refused, ...checked.errors, ...validateObject(kind, prepared, context)],
  }
}

function without(object: unknown, path: readonly string[]): void {
  const [first = '', ...rest] = path
  if (typeof object !== 'object' || object === null) return
  const fields = object as Record<string, unknown>
  if (rest.length > 0) without(fields[first], rest)
  else delete fields[first]
}

for (const { name, path, request, code, answer } of creates) {
  if (path.includes('dryRun=Foo')) continue
  const kind = tenantRegistry.kinds.find((k) => k.kind === request['kind'])
  if (!kind) continue

  if (code === 422) {
    test(`an invalid object is refused in a real server's words: ${name}`, () => {
      const { problems } = admit(kind, request, { namespace: 'golden' } as KubeObject['metadata'])
      const status = invalid(
        { group: kind.group, kind: kind.kind, name: String((request['metadata'] as { name: string }).name) },
        problems,
      )
      assert.deepEqual(status.toStatus(), answer)
    })
  } else if (name === 'svc-nodeport') {
    test('a service of type NodePort is refused, unlike at a real server', () => {
      const { problems } = admit(kind, request, answer.metadata)
      assert.deepEqual(
        problems.map(({ field, reason }) => [field, reason]),
        [['spec.type', 'FieldValueForbidden']],
      )
    })
  } else {
    test(`an object gets the defaults that a real server gives: ${name}`, () => {
      const { uid, resourceVersion, creationTimestamp, generation, namespace, name: given } = answer.metadata
      const server = Object.fromEntries(
        Object.entries({
          uid,
          resourceVersion,
          creationTimestamp,
          generation,
          namespace,
          name: given,
        }).filter(([, v]) => v !== undefined),
      ) as unknown as KubeObject['metadata']
      const { object, problems } = admit(kind, request, server)
      assert.deepEqual(problems, [])
      const [ours, theirs] = [structuredClone(object), structuredClone(answer)]
      for (const difference of Object.keys(ACCEPTED_DIFFERENCES)) {
        const [differentKind, ...fields] = difference.split('.')
        if (differentKind !== kind.kind) continue
        without(ours, fields)
        without(theirs, fields)
      }
      assert.deepEqual(ours, theirs)
    })
  }
}

test('unknown fields are pruned and named', () => {
  const recorded = creates.find(({ name }) => name === 'cm-warn-unknown')
  const kind = tenantRegistry.find({ group: '', resource: 'configmaps' })
  assert.ok(recorded && kind)
  const { unknownFields, object } = checkObject(kind, recorded.request)
  assert.deepEqual(unknownFields, ['bogus'])
  assert.ok(!('bogus' in object))
})
