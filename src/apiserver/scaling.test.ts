import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ControlPlane, type Json } from '../../tests/conformance/control-plane.ts'

const WEB = '/apis/apps/v1/namespaces/default/deployments/web'
const APPLY = 'application/apply-patch+yaml'
const scale = (replicas: number | undefined, more: Json = {}): Json => ({
  apiVersion: 'autoscaling/v1',
  kind: 'Scale',
  spec: replicas === undefined ? {} : { replicas },
  ...more,
})

async function start(): Promise<ControlPlane> {
  const plane = await ControlPlane.start()
  const template = { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'x' }] } }
  const { code, text } = await plane.ask('POST', WEB.replace('/web', '?fieldManager=maker'), {
    body: {
      metadata: { name: 'web' },
      spec: { replicas: 2, selector: { matchLabels: { a: 'b' } }, template },
    },
  })
  assert.equal(code, 201, text)
  return plane
}

const apply = async (plane: ControlPlane, manager: string, body: Json, query = '') =>
  plane.ask('PATCH', `${WEB}/scale?fieldManager=${manager}${query}`, { body, type: APPLY })

test('who applies a scale owns the replicas of the object, and conflicts with whoever wants another number', async () => {
  await using plane = await start()
  const conflict = await apply(plane, 'scaler', scale(3))
  assert.equal(conflict.code, 409)
  assert.deepEqual(conflict.body.details.causes, [
    {
      reason: 'FieldManagerConflict',
      message: 'conflict with "maker" using apps/v1',
      field: '.spec.replicas',
    },
  ])
  const forced = await apply(plane, 'scaler', scale(3), '&force=true')
  assert.deepEqual([forced.code, forced.body.kind, forced.body.spec], [200, 'Scale', { replicas: 3 }])
  const { body } = await plane.ask('GET', WEB)
  assert.equal(body.spec.replicas, 3)
  const owners = body.metadata.managedFields.filter((entry: Json) => entry.fieldsV1['f:spec']?.['f:replicas'])
  assert.deepEqual(
    owners.map(({ manager, operation, subresource, apiVersion }: Json) => [
      manager,
      operation,
      subresource,
      apiVersion,
    ]),
    [['scaler', 'Apply', 'scale', 'apps/v1']],
  )
  const again = await apply(plane, 'scaler', scale(3))
  assert.equal(again.body.metadata.resourceVersion, forced.body.metadata.resourceVersion)
  const other = await apply(plane, 'other', scale(4))
  assert.equal(other.code, 409)
  // Who wants the same shares it.
  assert.equal((await apply(plane, 'other', scale(3))).code, 200)
})

test('what is no scale of this object is refused', async () => {
  await using plane = await start()
  for (const [body, code] of [
    [{ ...scale(1), kind: 'Deployment' }, 400],
    [{ ...scale(1), apiVersion: 'apps/v1' }, 400],
    [scale(1, { metadata: { name: 'other' } }), 400],
    [scale(1, { metadata: { managedFields: [{ manager: 'x' }] } }), 400],
    [scale(undefined), 422],
    [scale(-1), 422],
    ['x', 400],
  ] as const)
    assert.equal((await apply(plane, 'scaler', body, '&force=true')).code, code, JSON.stringify(body))
  const nameless = await plane.ask('PATCH', `${WEB}/scale`, { body: scale(1), type: APPLY })
  assert.equal(nameless.code, 422)
  assert.equal((await apply(plane, 'scaler', scale(5), '&force=true&dryRun=All')).body.spec.replicas, 5)
  assert.equal((await plane.ask('GET', WEB)).body.spec.replicas, 2)
  const gone = await plane.ask('PATCH', `${WEB}x/scale?fieldManager=m`, { body: scale(1), type: APPLY })
  assert.equal(gone.code, 404)
})
