import { ApiError, matchesLabelSelector } from '../../../api/index.ts'
import {
  ensureDeleted,
  type EventRecorder,
  type Informer,
  isAlreadyExists,
  keyOf,
  type ReconcileResult,
} from '../../../client/index.ts'
import { controllerOf } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import {
  type ControllerRevision,
  controllerRevisionKind,
  type PersistentVolumeClaim,
  persistentVolumeClaimKind,
  type Pod,
  podKind,
  type StatefulSet,
  statefulSetKind,
} from '../../kinds.ts'
import { SLOW_START_PODS } from '../../limits.ts'
import { mergePatch, messageOf, writeStatus } from '../../writes.ts'
import { ensureHistory, forgetRevisions, planTruncation, REVISION_LABEL, templateOf } from '../history.ts'
import { createInBatches, ensureClaims, podCandidates } from '../pods.ts'
import { sameStatus } from '../replicaset/plan.ts'
import { type ClaimPlace, claimsOfPod, planClaimOwners } from './claims.ts'
import {
  missingLabels,
  ordinalOf,
  planPods,
  planStatus,
  podName,
  podOfSet,
  type StatefulSetPlan,
} from './plan.ts'

const HASH_LABEL = 'controller.kubernetes.io/hash'

/** Keeps pods with names and an order. */
export class StatefulSetController extends QueueController {
  private readonly sets: Informer<StatefulSet>
  private readonly pods: Informer<Pod>
  private readonly claims: Informer<PersistentVolumeClaim>
  private readonly revisions: Informer<ControllerRevision>
  private readonly events: EventRecorder

  constructor(context: ControllerContext) {
    super('statefulset', context)
    this.events = context.events('statefulset-controller')
    this.sets = this.follow(statefulSetKind, ({ key }) => [key])
    this.pods = this.follow(podKind, ({ old, object }) => this.setsOf([old, object]))
    this.claims = context.informers.of(persistentVolumeClaimKind)
    this.revisions = context.informers.of(controllerRevisionKind)
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const set = this.sets.get(key)
    // What belongs to a set that is gone is the garbage collector's.
    if (!set) return undefined
    const { client, clock } = this.context
    const candidates = podCandidates(this.pods, set, set.spec.selector)
    const claimed = await ensureClaims({
      client,
      ownerKind: statefulSetKind,
      owner: set,
      kind: podKind,
      selector: set.spec.selector,
      // A pod with another name can never be one of them.
      candidates: candidates.filter((pod) => ordinalOf(set, pod) !== undefined),
    })
    if (set.metadata.deletionTimestamp) return undefined
    const history = await ensureHistory({
      client,
      informer: this.revisions,
      ownerKind: statefulSetKind,
      owner: set,
      hashLabel: HASH_LABEL,
    })
    const { update } = history
    const current =
      history.revisions.find(({ metadata }) => metadata.name === set.status?.currentRevision) ?? update
    const names = { current: current.metadata.name, update: update.metadata.name }
    const isGoing = (pod: Pod) => this.pods.isGoing(pod)
    const plan = planPods(set, claimed, names, { nowMs: clock.nowMs(), isGoing })
    await this.ensureRetention(set, claimed)
    const failure = await this.apply(plan, set, { current, update })

    const pods = this.pods
      .byOwner(set.metadata.uid)
      .filter((pod) => controllerOf(pod)?.uid === set.metadata.uid)
    const { status, availableInMs } = planStatus(set, pods, names, {
      nowMs: clock.nowMs(),
      isGoing,
      collisionCount: history.collisionCount,
    })
    if (!sameStatus(set.status, status)) await writeStatus(client, statefulSetKind, set, status)
    if (failure) throw failure.cause
    const live = new Set([
      status.currentRevision,
      status.updateRevision,
      ...pods.map((pod) => pod.metadata.labels?.[REVISION_LABEL]),
    ])
    await forgetRevisions(
      client,
      planTruncation(
        history.revisions,
        ({ metadata }) => live.has(metadata.name),
        set.spec.revisionHistoryLimit ?? 10,
      ),
    )
    return availableInMs === undefined ? undefined : { requeueAfterMs: availableInMs }
  }

  private async apply(
    plan: StatefulSetPlan,
    set: StatefulSet,
    revisions: { current: ControllerRevision; update: ControllerRevision },
  ): Promise<{ cause: unknown } | undefined> {
    const { client } = this.context
    const creations = plan.create.values()
    const { error } = await createInBatches(plan.create.length, SLOW_START_PODS, async () => {
      const { value } = creations.next()
      if (!value) return
      const { ordinal, revision } = value
      const template =
        revision === 'update' ? set.spec.template : (templateOf(revisions.current) ?? set.spec.template)
      await this.ensureClaims(set, ordinal)
      const pod = podOfSet(set, template, ordinal, revisions[revision].metadata.name)
      await this.told('create', set, podName(set, ordinal), () => client.create<Pod>(podKind, pod))
    })
    if (error !== undefined) return { cause: error }
    for (const pod of plan.relabel)
      await mergePatch(client, podKind, pod, { metadata: { labels: missingLabels(set, pod) } })
    for (const pod of plan.remove) {
      this.tellOfEnd(set, pod)
      try {
        await this.told('delete', set, pod.metadata.name, () => ensureDeleted(client, podKind, pod))
      } catch (cause) {
        return { cause }
      }
    }
    return undefined
  }

  /** A pod whose claims are not there would wait for them, and somebody else could make them first. */
  private async ensureClaims(set: StatefulSet, ordinal: number): Promise<void> {
    for (const wanted of claimsOfPod(set, ordinal)) {
      const { name, namespace } = wanted.metadata
      const found = this.claims.find({ namespace, name })
      const what = `Claim ${name} Pod ${podName(set, ordinal)} in StatefulSet ${set.metadata.name}`
      const fail = (why: string) =>
        this.events.record(set, {
          type: 'Warning',
          reason: 'FailedCreate',
          message: `create ${what} failed error: ${why}`,
        })
      if (found?.metadata.deletionTimestamp) {
        fail(`pvc ${name} is being deleted`)
        throw new ApiError('Conflict', `The claim "${name}" is being deleted`)
      }
      if (found) continue
      try {
        const made = await this.context.client.create<PersistentVolumeClaim>(
          persistentVolumeClaimKind,
          wanted,
        )
        await this.ensureOwners(set, made, { ordinal, pod: undefined, isCondemned: false })
      } catch (error) {
        if (isAlreadyExists(error)) continue
        fail(messageOf(error))
        throw error
      }
      this.events.record(set, {
        type: 'Normal',
        reason: 'SuccessfulCreate',
        message: `create ${what} success`,
      })
    }
  }

  /** Before pods go, so that a claim which shall go with its pod does. */
  private async ensureRetention(set: StatefulSet, pods: readonly Pod[]): Promise<void> {
    if ((set.spec.volumeClaimTemplates ?? []).length === 0) return
    const start = set.spec.ordinals?.start ?? 0
    const byOrdinal = new Map(pods.map((pod) => [ordinalOf(set, pod) ?? -1, pod]))
    const ordinals = new Set([
      ...byOrdinal.keys(),
      ...Array.from({ length: set.spec.replicas ?? 1 }, (_, i) => start + i),
    ])
    for (const ordinal of ordinals) {
      const isCondemned = ordinal < start || ordinal >= start + (set.spec.replicas ?? 1)
      for (const { metadata } of claimsOfPod(set, ordinal)) {
        const claim = this.claims.find({ namespace: metadata.namespace, name: metadata.name })
        if (claim && !claim.metadata.deletionTimestamp)
          await this.ensureOwners(set, claim, { ordinal, pod: byOrdinal.get(ordinal), isCondemned })
      }
    }
  }

  private async ensureOwners(
    set: StatefulSet,
    claim: PersistentVolumeClaim,
    place: ClaimPlace,
  ): Promise<void> {
    const owners = planClaimOwners(set, claim, place)
    if (owners)
      await mergePatch(this.context.client, persistentVolumeClaimKind, claim, {
        metadata: { ownerReferences: owners.map((owner) => ({ ...owner })) },
      })
  }

  /** Does something with a pod and records how it went. */
  private async told(
    verb: 'create' | 'delete',
    set: StatefulSet,
    pod: string,
    work: () => Promise<unknown>,
  ): Promise<void> {
    const what = `${verb} Pod ${pod} in StatefulSet ${set.metadata.name}`
    const reason = verb === 'create' ? 'Create' : 'Delete'
    try {
      await work()
    } catch (error) {
      const message = `${what} failed error: ${messageOf(error)}`
      this.events.record(set, { type: 'Warning', reason: `Failed${reason}`, message })
      throw error
    }
    this.events.record(set, { type: 'Normal', reason: `Successful${reason}`, message: `${what} successful` })
  }

  private tellOfEnd(set: StatefulSet, pod: Pod): void {
    const { phase } = pod.status ?? {}
    if (phase !== 'Failed' && phase !== 'Succeeded') return
    const how = phase === 'Failed' ? 'failed' : 'terminated'
    this.events.record(set, {
      type: phase === 'Failed' ? 'Warning' : 'Normal',
      reason: phase === 'Failed' ? 'RecreatingFailedPod' : 'RecreatingTerminatedPod',
      message: `StatefulSet ${keyOf(set)} is recreating ${how} Pod ${pod.metadata.name}`,
    })
  }

  private setsOf(pods: readonly (Pod | undefined)[]): Set<string> {
    const keys = new Set<string>()
    for (const pod of pods) {
      if (!pod) continue
      const { namespace = '' } = pod.metadata
      const owner = controllerOf(pod)
      if (owner?.kind === 'StatefulSet') keys.add(keyOf({ metadata: { namespace, name: owner.name } }))
      else if (!owner) {
        // Nobody's pod: any set of its namespace may want it.
        for (const set of this.context.informers.of(statefulSetKind).list(namespace))
          if (matchesLabelSelector(set.spec.selector, pod.metadata.labels)) keys.add(keyOf(set))
      }
    }
    return keys
  }
}
