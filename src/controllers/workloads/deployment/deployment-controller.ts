import { type LabelSelector, matchesLabelSelector } from '../../../api/index.ts'
import {
  ensureDeleted,
  type EventRecorder,
  type Informer,
  isAlreadyExists,
  keyOf,
  type ReconcileResult,
} from '../../../client/index.ts'
import {
  controllerOf,
  controllerReference,
  findCondition,
  timestamp,
  withoutCondition,
} from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import {
  type Deployment,
  deploymentKind,
  type Pod,
  podKind,
  type ReplicaSet,
  replicaSetKind,
} from '../../kinds.ts'
import { mergePatch, messageOf, writeStatus } from '../../writes.ts'
import { ensureClaims } from '../pods.ts'
import { sameStatus } from '../replicaset/plan.ts'
import { type DeploymentStep, planDeployment, REVISION, sameTemplate, TEMPLATE_HASH_LABEL } from './plan.ts'

/** Rolls templates out by ReplicaSets. */
export class DeploymentController extends QueueController {
  private readonly deployments: Informer<Deployment>
  private readonly sets: Informer<ReplicaSet>
  private readonly pods: Informer<Pod>
  private readonly events: EventRecorder

  constructor(context: ControllerContext) {
    super('deployment', context)
    this.events = context.events('deployment-controller')
    this.deployments = this.follow(deploymentKind, ({ key }) => [key])
    this.sets = this.follow(replicaSetKind, ({ old, object }) => this.deploymentsOf([old, object]))
    // Recreate waits for the end of the old pods.
    this.pods = this.follow(podKind, ({ old, object }) => (object ? [] : this.deploymentsOfPod(old)))
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const deployment = this.deployments.get(key)
    if (!deployment) return undefined
    const { client, clock } = this.context
    const selector: LabelSelector = deployment.spec.selector
    const replicaSets = await ensureClaims({
      client,
      ownerKind: deploymentKind,
      owner: deployment,
      kind: replicaSetKind,
      selector,
      candidates: this.sets.list(deployment.metadata.namespace),
    })
    const living = replicaSets.filter((set) => !this.sets.isGoing(set))
    const pods =
      deployment.spec.strategy?.type === 'Recreate'
        ? living.flatMap((set) => this.pods.byOwner(set.metadata.uid))
        : []
    const plan = planDeployment(deployment, living, pods, clock.nowMs())
    let current = deployment
    for (const step of plan.steps) {
      const refused = await this.apply(step, current)
      if (refused) {
        await writeStatus(client, deploymentKind, refused.deployment, refused.status)
        throw refused.cause
      }
      if (step.step === 'revision') current = this.deployments.get(key) ?? current
    }
    if (!sameStatus(deployment.status, plan.status))
      await writeStatus(client, deploymentKind, current, plan.status)
    return plan.deadlineInMs === undefined ? undefined : { requeueAfterMs: plan.deadlineInMs }
  }

  /** Carries a step out; returns the status to leave behind when the API refuses it. */
  private async apply(step: DeploymentStep, deployment: Deployment): Promise<Refused | undefined> {
    const { client } = this.context
    switch (step.step) {
      case 'create':
        return this.create(step, deployment)
      case 'update': {
        const { replicaSet, replicas, annotations, minReadySeconds } = step
        const before = replicaSet.spec.replicas ?? 1
        // `replicaSet` may carry planned annotations; only its identity and version count here.
        await mergePatch(client, replicaSetKind, replicaSet, {
          metadata: { annotations },
          spec: { replicas, minReadySeconds },
        })
        if (step.told)
          this.tell(
            deployment,
            `Scaled ${replicas > before ? 'up' : 'down'} replica set ${replicaSet.metadata.name} from ${before} to ${replicas}`,
          )
        return undefined
      }
      case 'delete':
        await ensureDeleted(client, replicaSetKind, step.replicaSet, {
          preconditions: { resourceVersion: step.replicaSet.metadata.resourceVersion },
        })
        return undefined
      case 'revision':
        await mergePatch(client, deploymentKind, deployment, {
          metadata: { annotations: { [REVISION]: step.revision } },
        })
        return undefined
      default:
        step satisfies never
        return undefined
    }
  }

  private async create(
    { name, hash, replicas, annotations }: Extract<DeploymentStep, { step: 'create' }>,
    deployment: Deployment,
  ): Promise<Refused | undefined> {
    const { template, selector, minReadySeconds } = deployment.spec
    const labels = { ...template.metadata?.labels, [TEMPLATE_HASH_LABEL]: hash }
    const namespace = deployment.metadata.namespace ?? ''
    try {
      await this.context.client.create(replicaSetKind, {
        apiVersion: 'apps/v1',
        kind: 'ReplicaSet',
        metadata: {
          name,
          namespace,
          labels,
          annotations,
          ownerReferences: [controllerReference(deployment)],
        },
        spec: {
          replicas,
          ...(minReadySeconds === undefined ? {} : { minReadySeconds }),
          selector: { ...selector, matchLabels: { ...selector.matchLabels, [TEMPLATE_HASH_LABEL]: hash } },
          template: { ...template, metadata: { ...template.metadata, labels } },
        },
      })
    } catch (cause) {
      if (isAlreadyExists(cause)) return this.collided(name, deployment, cause)
      const message = `Failed to create new replica set "${name}": ${messageOf(cause)}`
      this.events.record(deployment, { type: 'Warning', reason: 'ReplicaSetCreateError', message })
      const nowMs = this.context.clock.nowMs()
      const current = findCondition(deployment.status?.conditions, 'Progressing')
      const conditions = [
        ...withoutCondition(deployment.status?.conditions, 'Progressing'),
        {
          type: 'Progressing',
          status: 'False',
          reason: 'ReplicaSetCreateError',
          message,
          lastUpdateTime: timestamp(nowMs),
          lastTransitionTime: (current?.status === 'False' && current.lastTransitionTime) || timestamp(nowMs),
        },
      ]
      return { deployment, status: { ...deployment.status, conditions }, cause }
    }
    if (replicas > 0) this.tell(deployment, `Scaled up replica set ${name} from 0 to ${replicas}`)
    return undefined
  }

  /** The name is taken: by our own ReplicaSet that we have not seen yet, or by a different template with the same hash. */
  private async collided(name: string, deployment: Deployment, cause: unknown): Promise<Refused | undefined> {
    const { namespace } = deployment.metadata
    const found = await this.context.client.get(replicaSetKind, {
      ...(namespace === undefined ? {} : { namespace }),
      name,
    })
    if (
      controllerOf(found)?.uid === deployment.metadata.uid &&
      sameTemplate(found.spec.template, deployment.spec.template)
    )
      return undefined
    const collisionCount = (deployment.status?.collisionCount ?? 0) + 1
    return { deployment, status: { ...deployment.status, collisionCount }, cause }
  }

  private tell(deployment: Deployment, message: string): void {
    this.events.record(deployment, { type: 'Normal', reason: 'ScalingReplicaSet', message })
  }

  private deploymentsOf(sets: readonly (ReplicaSet | undefined)[]): Set<string> {
    const keys = new Set<string>()
    for (const set of sets) {
      if (!set) continue
      const owner = controllerOf(set)
      const namespace = set.metadata.namespace ?? ''
      if (owner?.kind === 'Deployment') keys.add(keyOf({ metadata: { namespace, name: owner.name } }))
      else if (!owner)
        for (const deployment of this.context.informers.of(deploymentKind).list(namespace))
          if (matchesLabelSelector(deployment.spec.selector, set.metadata.labels)) keys.add(keyOf(deployment))
    }
    return keys
  }

  private deploymentsOfPod(pod: Pod | undefined): Set<string> {
    const owner = pod && controllerOf(pod)
    if (owner?.kind !== 'ReplicaSet') return new Set()
    return this.deploymentsOf([this.context.informers.of(replicaSetKind).byUid(owner.uid)])
  }
}

type Refused = { deployment: Deployment; status: object; cause: unknown }
