import assert from 'node:assert/strict'
import { test } from 'node:test'
import { object, podTemplate } from '../../controllers.testkit.ts'
import type { Node, PersistentVolumeClaim, Pod, StatefulSet } from '../../kinds.ts'
import { whyUnschedulable } from '../scheduler/plan.ts'
import { claimsOfPod, planClaimOwners, volumesWithClaims } from './claims.ts'

function set(whenDeleted = 'Retain', whenScaled = 'Retain'): StatefulSet {
  return object('StatefulSet', 'apps/v1', 'db', {
    spec: {
      selector: { matchLabels: { app: 'db' } },
      template: podTemplate('db'),
      persistentVolumeClaimRetentionPolicy: { whenDeleted, whenScaled },
      volumeClaimTemplates: [
        { metadata: { name: 'data', labels: { tier: 'x' } }, spec: { accessModes: ['ReadWriteOnce'] } },
      ],
    },
  })
}
const pod: Pod = object('Pod', 'v1', 'db-1', { spec: { containers: [] } }, { uid: 'pod-1' })
const claim = (changes: object = {}, metadata: object = {}): PersistentVolumeClaim =>
  object(
    'PersistentVolumeClaim',
    'v1',
    'data-db-1',
    { spec: {}, status: { phase: 'Bound' }, ...changes },
    { ...metadata },
  )

test('a pod’s claims carry its number, and take the place of volumes of their name', () => {
  const [wanted] = claimsOfPod(set(), 1)
  assert.equal(wanted?.metadata.name, 'data-db-1')
  assert.deepEqual(wanted.metadata.labels, { tier: 'x', app: 'db' })
  assert.deepEqual(
    volumesWithClaims(set(), 1, [
      { name: 'data', emptyDir: {} },
      { name: 'tmp', emptyDir: {} },
    ]),
    [
      { name: 'data', persistentVolumeClaim: { claimName: 'data-db-1', readOnly: false } },
      { name: 'tmp', emptyDir: {} },
    ],
  )
})

test('a claim goes with whom the retention policy says, and references of others stay', () => {
  const stranger = { apiVersion: 'v1', kind: 'ConfigMap', name: 'c', uid: 'u' }
  const kinds = (policy: StatefulSet, isCondemned: boolean, ownerReferences: object[] = [stranger]) =>
    planClaimOwners(policy, claim({}, { ownerReferences }), { ordinal: 1, pod, isCondemned })?.map(
      ({ kind }) => kind,
    )
  assert.equal(kinds(set(), false), undefined)
  assert.equal(kinds(set(), true), undefined)
  assert.deepEqual(kinds(set('Delete'), true), ['ConfigMap', 'StatefulSet'])
  assert.deepEqual(kinds(set('Retain', 'Delete'), true), ['ConfigMap', 'Pod'])
  assert.equal(kinds(set('Retain', 'Delete'), false), undefined)
  assert.deepEqual(kinds(set('Delete', 'Delete'), true), ['ConfigMap', 'Pod'])
  assert.deepEqual(kinds(set('Delete', 'Delete'), false), ['ConfigMap', 'StatefulSet'])
  const earlier = { apiVersion: 'v1', kind: 'Pod', name: 'db-1', uid: 'earlier' }
  assert.deepEqual(kinds(set('Retain', 'Delete'), false, [stranger, earlier]), ['ConfigMap'])
})

test('a pod is placed when all its claims are bound and free', () => {
  const node: Node = object('Node', 'v1', 'bulkhead', {}, { namespace: undefined })
  const user = (name: string, nodeName?: string): Pod =>
    object(
      'Pod',
      'v1',
      name,
      {
        spec: {
          containers: [],
          volumes: [{ name: 'v', persistentVolumeClaim: { claimName: 'data-db-1' } }],
          ...(nodeName ? { nodeName } : {}),
        },
      },
      { uid: name },
    )
  const why = (found: PersistentVolumeClaim | undefined, others: Pod[] = []) =>
    whyUnschedulable(user('a'), node, () => found, others)
  assert.equal(why(claim()), undefined)
  assert.match(
    why(undefined) ?? '',
    /^0\/1 nodes are available: persistentvolumeclaim "data-db-1" not found\. /,
  )
  assert.match(why(claim({ status: { phase: 'Pending' } })) ?? '', /unbound immediate PersistentVolumeClaims/)
  assert.match(why(claim({}, { deletionTimestamp: '2026-01-01T00:00:00Z' })) ?? '', /is being deleted/)
  const exclusive = claim({ spec: { accessModes: ['ReadWriteOncePod'] } })
  assert.match(why(exclusive, [user('b', 'bulkhead')]) ?? '', /ReadWriteOncePod access mode/)
  assert.equal(why(exclusive, [user('b')]), undefined, 'one that has no node has no volume either')
})
