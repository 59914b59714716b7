import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deployment, NOW, object, podTemplate } from '../../controllers.testkit.ts'
import type { Deployment, ReplicaSet } from '../../kinds.ts'
import {
  type DeploymentStep,
  planDeployment,
  sameTemplate,
  TEMPLATE_HASH_LABEL,
  templateHash,
} from './plan.ts'

const NOW_MS = Date.parse(NOW)

function setOf(
  owner: Deployment,
  image: string,
  { replicas, available = replicas, revision }: { replicas: number; available?: number; revision: number },
): ReplicaSet {
  const template = podTemplate(owner.metadata.name, image)
  const labels = { ...template.metadata.labels, [TEMPLATE_HASH_LABEL]: `hash${revision}` }
  return object(
    'ReplicaSet',
    'apps/v1',
    `web-${revision}`,
    {
      spec: { replicas, selector: { matchLabels: labels }, template: { ...template, metadata: { labels } } },
      status: { replicas, availableReplicas: available, readyReplicas: available, observedGeneration: 1 },
    },
    {
      creationTimestamp: `2026-01-01T00:00:0${revision}Z`,
      annotations: {
        'deployment.kubernetes.io/revision': String(revision),
        'deployment.kubernetes.io/desired-replicas': String(owner.spec.replicas),
        'deployment.kubernetes.io/max-replicas': String((owner.spec.replicas ?? 1) + 1),
      },
    },
  )
}

function summary(steps: readonly DeploymentStep[]): string[] {
  return steps.map((step) => {
    switch (step.step) {
      case 'create':
        return `create ${step.replicas}`
      case 'update':
        return `${step.replicaSet.metadata.name} to ${step.replicas}`
      case 'delete':
        return `delete ${step.replicaSet.metadata.name}`
      case 'revision':
        return `revision ${step.revision}`
      default:
        step satisfies never
        return ''
    }
  })
}

test('the first ReplicaSet gets all replicas and revision 1', () => {
  const { steps, status } = planDeployment(deployment('web'), [], [], NOW_MS)
  assert.deepEqual(summary(steps), ['create 3', 'revision 1'])
  assert.equal(status.conditions?.find((c) => c.type === 'Progressing')?.reason, 'NewReplicaSetCreated')
})

test('a change of the template makes a ReplicaSet within the surge and takes nothing from the old one yet', () => {
  const web = deployment('web', { template: podTemplate('web', 'registry.test/web:2') })
  const old = setOf(web, 'registry.test/web:1', { replicas: 3, revision: 1 })
  const { steps } = planDeployment(web, [old], [], NOW_MS)
  assert.deepEqual(summary(steps), ['create 1', 'revision 2'])
})

test('a revision is a whole number of 64 bits: a ReplicaSet that is adopted may come with any', () => {
  const web = deployment('web', { template: podTemplate('web', 'registry.test/web:2') })
  const next = (revision: string) => {
    const old = setOf(web, 'registry.test/web:1', { replicas: 3, revision: 1 })
    old.metadata.annotations = { ...old.metadata.annotations, 'deployment.kubernetes.io/revision': revision }
    return summary(planDeployment(web, [old], [], NOW_MS).steps).at(-1)
  }
  assert.equal(next('3546343826724305832'), 'revision 3546343826724305833')
  assert.equal(next('9223372036854775807'), 'revision 9223372036854775807')
  for (const none of ['9223372036854775808', '99999999999999999999', '-1', '1e3', 'x', ''])
    assert.equal(next(none), 'revision 1', none)
})

test('old ReplicaSets beyond the history limit are deleted, oldest first, once the rollout is complete', () => {
  const web = deployment('web', { revisionHistoryLimit: 1 })
  web.metadata.annotations = { 'deployment.kubernetes.io/revision': '4' }
  const sets = [1, 2, 3].map((revision) =>
    setOf(web, `registry.test/web:old${revision}`, { replicas: 0, revision }),
  )
  const fresh = setOf(web, 'registry.test/web:1', { replicas: 3, revision: 4 })
  assert.deepEqual(summary(planDeployment(web, [...sets, fresh], [], NOW_MS).steps), [
    'delete web-1',
    'delete web-2',
  ])
  const unfinished = setOf(web, 'registry.test/web:1', { replicas: 3, available: 2, revision: 4 })
  assert.deepEqual(summary(planDeployment(web, [...sets, unfinished], [], NOW_MS).steps), [])
})

test('a rollout without progress for progressDeadlineSeconds is reported, and stays reported', () => {
  const web = deployment('web', { progressDeadlineSeconds: 60 })
  web.metadata.annotations = { 'deployment.kubernetes.io/revision': '1' }
  const stuck = setOf(web, 'registry.test/web:1', { replicas: 3, available: 0, revision: 1 })
  const first = planDeployment(web, [stuck], [], NOW_MS)
  assert.equal(first.status.conditions?.find((c) => c.type === 'Progressing')?.reason, 'ReplicaSetUpdated')
  assert.ok((first.deadlineInMs ?? 0) > 0)

  const later = planDeployment({ ...web, status: first.status }, [stuck], [], NOW_MS + 30_000)
  assert.deepEqual(later.status, first.status)
  assert.equal(later.deadlineInMs, 31_000)

  const late = planDeployment({ ...web, status: first.status }, [stuck], [], NOW_MS + 61_000)
  const condition = late.status.conditions?.find((c) => c.type === 'Progressing')
  assert.deepEqual([condition?.status, condition?.reason], ['False', 'ProgressDeadlineExceeded'])
  assert.equal(late.deadlineInMs, undefined, 'nothing more happens by time alone')

  const done = setOf(web, 'registry.test/web:1', { replicas: 3, revision: 1 })
  const recovered = planDeployment({ ...web, status: late.status }, [done], [], NOW_MS + 90_000)
  assert.equal(
    recovered.status.conditions?.find((c) => c.type === 'Progressing')?.reason,
    'NewReplicaSetAvailable',
  )
})

test('progressDeadlineSeconds of MaxInt32 means none', () => {
  const { status } = planDeployment(
    deployment('web', { progressDeadlineSeconds: 2 ** 31 - 1 }),
    [],
    [],
    NOW_MS,
  )
  assert.deepEqual(
    status.conditions?.map((c) => c.type),
    ['Available'],
  )
})

test('the same deployment planned twice plans nothing the second time', () => {
  const web = deployment('web')
  web.metadata.annotations = { 'deployment.kubernetes.io/revision': '1' }
  const set = setOf(web, 'registry.test/web:1', { replicas: 3, revision: 1 })
  const first = planDeployment(web, [set], [], NOW_MS)
  const second = planDeployment({ ...web, status: first.status }, [set], [], NOW_MS + 5_000)
  assert.deepEqual(second.steps, [])
  assert.deepEqual(second.status, first.status)
})

test('the hash of a template ignores the order of fields, empty maps and its own label, and changes with a collision', () => {
  const web = deployment('web')
  const { containers } = web.spec.template.spec
  const reordered = deployment('web', {
    template: { spec: { containers }, metadata: { labels: { app: 'web' } } },
  })
  assert.equal(templateHash(web), templateHash(reordered))
  assert.notEqual(templateHash(web), templateHash({ ...web, status: { collisionCount: 1 } }))
  const labelled = {
    metadata: { labels: { app: 'web', [TEMPLATE_HASH_LABEL]: 'x' }, annotations: {} },
    spec: { containers },
  }
  assert.ok(sameTemplate(web.spec.template, labelled))
})
