import type { EventRecorder, Informer, ReconcileResult } from '../../../client/index.ts'
import { keyOf } from '../../../client/index.ts'
import { controllerOf, semanticEqual } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import {
  type Deployment,
  deploymentKind,
  type Pod,
  type PodDisruptionBudget,
  podDisruptionBudgetKind,
  podKind,
  type ReplicaSet,
  replicaSetKind,
  type StatefulSet,
  statefulSetKind,
} from '../../kinds.ts'
import { writeStatus } from '../../writes.ts'
import { planBudget, type ScaleOf, selects } from './plan.ts'

/** Counts for each PodDisruptionBudget how many pods may be evicted. */
export class DisruptionController extends QueueController {
  private readonly budgets: Informer<PodDisruptionBudget>
  private readonly pods: Informer<Pod>
  private readonly deployments: Informer<Deployment>
  private readonly replicaSets: Informer<ReplicaSet>
  private readonly statefulSets: Informer<StatefulSet>
  private readonly events: EventRecorder

  constructor(context: ControllerContext) {
    super('disruption', context)
    this.events = context.events('controllermanager')
    this.budgets = this.follow(podDisruptionBudgetKind, ({ key }) => [key])
    this.pods = this.follow(podKind, ({ old, object }) =>
      this.budgetsWhere((budget) => [old, object].some((pod) => pod && selects(budget, pod)), object ?? old),
    )
    type Scaled = { metadata: { namespace?: string }; spec: { replicas?: number } }
    const rescaled = ({ old, object }: { old?: Scaled | undefined; object?: Scaled | undefined }) =>
      old?.spec.replicas === object?.spec.replicas ? [] : this.budgetsWhere(() => true, object ?? old)
    this.deployments = this.follow(deploymentKind, rescaled)
    this.replicaSets = this.follow(replicaSetKind, rescaled)
    this.statefulSets = this.follow(statefulSetKind, rescaled)
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const budget = this.budgets.get(key)
    if (!budget || budget.metadata.deletionTimestamp) return undefined
    const { client, clock } = this.context
    const pods = this.pods.list(budget.metadata.namespace).filter((pod) => selects(budget, pod))
    const plan = planBudget(budget, pods, { nowMs: clock.nowMs(), scaleOf: this.scaleOf })
    if (!semanticEqual(budget.status, plan.status)) {
      await writeStatus(client, podDisruptionBudgetKind, budget, plan.status)
      if (plan.told) this.events.record(budget, plan.told)
    }
    return plan.recheckInMs === undefined ? undefined : { requeueAfterMs: plan.recheckInMs }
  }

  private readonly scaleOf: ScaleOf = ({ kind, uid }) => {
    if (kind === 'StatefulSet') return scaled(this.statefulSets.byUid(uid))
    if (kind !== 'ReplicaSet') return undefined
    const set = this.replicaSets.byUid(uid)
    const owner = set && controllerOf(set)
    // During a rollout two ReplicaSets share the pods of one Deployment.
    return owner?.kind === 'Deployment' ? scaled(this.deployments.byUid(owner.uid)) : scaled(set)
  }

  private budgetsWhere(
    fits: (budget: PodDisruptionBudget) => boolean,
    near: { metadata: { namespace?: string } } | undefined,
  ): string[] {
    return this.context.informers
      .of(podDisruptionBudgetKind)
      .list(near?.metadata.namespace)
      .filter(fits)
      .map(keyOf)
  }
}

function scaled(
  owner: { metadata: { uid: string }; spec: { replicas?: number } } | undefined,
): { uid: string; replicas: number } | undefined {
  return owner && { uid: owner.metadata.uid, replicas: owner.spec.replicas ?? 1 }
}
