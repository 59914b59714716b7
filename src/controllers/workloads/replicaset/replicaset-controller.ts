import { type LabelSelector, matchesLabelSelector } from '../../../api/index.ts'
import {
  ensureDeleted,
  type EventRecorder,
  type Informer,
  type KindRef,
  keyOf,
  type ReconcileResult,
} from '../../../client/index.ts'
import { controllerOf } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import {
  type Pod,
  podKind,
  type ReplicaSet,
  replicaSetKind,
  type ReplicationController,
  replicationControllerKind,
} from '../../kinds.ts'
import { SLOW_START_PODS } from '../../limits.ts'
import { messageOf, writeStatus } from '../../writes.ts'
import { createInBatches, ensureClaims, podCandidates, podOf } from '../pods.ts'
import { planReplicas, planStatus, type ReplicaFailure, sameStatus } from './plan.ts'

/** A kind whose objects keep a number of equal pods. */
type ReplicaKind<T extends ReplicaSet | ReplicationController> = {
  name: string
  kind: KindRef<T>
  selectorOf: (set: T) => LabelSelector
}

export const REPLICA_SETS: ReplicaKind<ReplicaSet> = {
  name: 'replicaset',
  kind: replicaSetKind,
  selectorOf: ({ spec }) => spec.selector,
}
export const REPLICATION_CONTROLLERS: ReplicaKind<ReplicationController> = {
  name: 'replication',
  kind: replicationControllerKind,
  selectorOf: ({ spec }) => ({ matchLabels: spec.selector ?? {} }),
}

/** Keeps as many pods as each object of a kind wants. */
export class ReplicaSetController<T extends ReplicaSet | ReplicationController> extends QueueController {
  private readonly of: ReplicaKind<T>
  private readonly sets: Informer<T>
  private readonly pods: Informer<Pod>
  private readonly events: EventRecorder

  constructor(context: ControllerContext, of: ReplicaKind<T>) {
    super(of.name, context)
    this.of = of
    this.events = context.events(`${of.name}-controller`)
    this.sets = this.follow(of.kind, ({ key }) => [key])
    this.pods = this.follow(podKind, ({ old, object }) => this.setsOf([old, object]))
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const set = this.sets.get(key)
    // Pods of a set that is gone are the garbage collector's.
    if (!set) return undefined
    const { client, clock } = this.context
    const selector = this.of.selectorOf(set)
    const claimed = await ensureClaims({
      client,
      ownerKind: this.of.kind,
      owner: set,
      kind: podKind,
      selector,
      candidates: podCandidates(this.pods, set, selector),
    })
    const isGoing = (pod: Pod) => this.pods.isGoing(pod)
    const plan = planReplicas(set, claimed, { nowMs: clock.nowMs(), isGoing })
    const failure = (await this.create(set, plan.create)) ?? (await this.remove(set, plan.remove))

    const pods = this.pods
      .byOwner(set.metadata.uid)
      .filter((pod) => controllerOf(pod)?.uid === set.metadata.uid)
    const { status, availableInMs } = planStatus(set, pods, {
      nowMs: clock.nowMs(),
      isGoing,
      failure: failure?.condition,
    })
    if (!sameStatus(set.status, status)) await writeStatus(client, this.of.kind, set, status)
    if (failure) throw failure.cause
    return availableInMs === undefined ? undefined : { requeueAfterMs: availableInMs }
  }

  private async create(set: T, count: number): Promise<Failure | undefined> {
    const { error } = await createInBatches(count, SLOW_START_PODS, async () => {
      const pod = await this.context.client.create<Pod>(podKind, podOf(set.spec.template, set))
      this.events.record(set, {
        type: 'Normal',
        reason: 'SuccessfulCreate',
        message: `Created pod: ${pod.metadata.name}`,
      })
    })
    return error === undefined ? undefined : this.failed(set, 'FailedCreate', 'Error creating', error)
  }

  private async remove(set: T, pods: readonly Pod[]): Promise<Failure | undefined> {
    let failure: Failure | undefined
    for (const pod of pods) {
      try {
        await ensureDeleted(this.context.client, podKind, pod)
        this.events.record(set, {
          type: 'Normal',
          reason: 'SuccessfulDelete',
          message: `Deleted pod: ${pod.metadata.name}`,
        })
      } catch (error) {
        failure ??= this.failed(set, 'FailedDelete', 'Error deleting', error)
      }
    }
    return failure
  }

  private failed(set: T, reason: ReplicaFailure['reason'], what: string, cause: unknown): Failure {
    const message = messageOf(cause)
    this.events.record(set, { type: 'Warning', reason, message: `${what}: ${message}` })
    return { condition: { reason, message }, cause }
  }

  private setsOf(pods: readonly (Pod | undefined)[]): Set<string> {
    const keys = new Set<string>()
    for (const pod of pods) {
      if (!pod) continue
      const owner = controllerOf(pod)
      if (owner?.kind === this.of.kind.kind)
        keys.add(keyOf({ metadata: { namespace: pod.metadata.namespace ?? '', name: owner.name } }))
      else if (!owner) {
        // Nobody's pod: any set of its namespace may want it.
        for (const set of this.context.informers.of(this.of.kind).list(pod.metadata.namespace))
          if (matchesLabelSelector(this.of.selectorOf(set), pod.metadata.labels)) keys.add(keyOf(set))
      }
    }
    return keys
  }
}

type Failure = { condition: ReplicaFailure; cause: unknown }
