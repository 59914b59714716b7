import { matchesLabelSelector } from '../../../api/index.ts'
import {
  ensureDeleted,
  type EventRecorder,
  type Informer,
  keyOf,
  type ReconcileResult,
} from '../../../client/index.ts'
import { controllerOf } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import {
  type ControllerRevision,
  controllerRevisionKind,
  type DaemonSet,
  daemonSetKind,
  type Node,
  nodeKind,
  type Pod,
  podKind,
} from '../../kinds.ts'
import { DAEMON_BACKOFF_FIRST_MS, DAEMON_BACKOFF_LAST_MS } from '../../limits.ts'
import { messageOf, writeStatus } from '../../writes.ts'
import { fitsNode } from '../node/plan.ts'
import { ensureHistory, forgetRevisions, planTruncation, REVISION_LABEL } from '../history.ts'
import { ensureClaims, podCandidates, podOf } from '../pods.ts'
import { sameStatus } from '../replicaset/plan.ts'
import { planNode, planStatus, planTolerations } from './plan.ts'

/** Keeps one pod on the virtual node. */
export class DaemonSetController extends QueueController {
  private readonly sets: Informer<DaemonSet>
  private readonly pods: Informer<Pod>
  private readonly revisions: Informer<ControllerRevision>
  private readonly nodes: Informer<Node>
  private readonly events: EventRecorder
  private readonly nodeName: string
  /** By uid of a set: pods that ended one after another, and when the next may be replaced. */
  private readonly backoffs = new Map<string, { delayMs: number; untilMs: number }>()

  constructor(context: ControllerContext, { nodeName }: { nodeName: string }) {
    super('daemonset', context)
    this.nodeName = nodeName
    this.events = context.events('daemonset-controller')
    this.sets = this.follow(daemonSetKind, ({ key, old, object }) => {
      if (!object && old) this.backoffs.delete(old.metadata.uid)
      return [key]
    })
    this.pods = this.follow(podKind, ({ old, object }) => this.setsOf([old, object]))
    this.nodes = this.follow(nodeKind, () => this.sets.list().map(keyOf))
    this.revisions = context.informers.of(controllerRevisionKind)
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const set = this.sets.get(key)
    // What belongs to a set that is gone is the garbage collector's.
    if (!set) return undefined
    const { client, clock } = this.context
    const claimed = await ensureClaims({
      client,
      ownerKind: daemonSetKind,
      owner: set,
      kind: podKind,
      selector: set.spec.selector,
      candidates: podCandidates(this.pods, set, set.spec.selector),
    })
    if (set.metadata.deletionTimestamp) return undefined
    const { revisions, update, collisionCount } = await ensureHistory({
      client,
      informer: this.revisions,
      ownerKind: daemonSetKind,
      owner: set,
      hashLabel: REVISION_LABEL,
    })
    const hash = update.metadata.labels?.[REVISION_LABEL] ?? update.metadata.name
    const isGoing = (pod: Pod) => this.pods.isGoing(pod)
    const node = this.nodes.find({ name: this.nodeName })
    const fits = node === undefined || fitsNode(set.spec.template.spec, node)
    const plan = planNode(set, claimed, { nowMs: clock.nowMs(), isGoing, hash, fits })
    const waitMs = plan.ended.length > 0 ? this.backoff(set, plan.ended) : 0
    const ending = new Set(waitMs > 0 ? plan.ended : [])
    for (const pod of plan.remove) if (!ending.has(pod)) await this.remove(set, pod)
    const failure = plan.create ? await this.create(set, hash) : undefined

    const pods = this.pods
      .byOwner(set.metadata.uid)
      .filter((pod) => controllerOf(pod)?.uid === set.metadata.uid)
    const { status, availableInMs = Infinity } = planStatus(set, pods, {
      nowMs: clock.nowMs(),
      hash,
      fits,
      collisionCount,
    })
    if (!sameStatus(set.status, status)) await writeStatus(client, daemonSetKind, set, status)
    if (failure) throw failure.cause
    const live = new Set([hash, ...pods.map((pod) => pod.metadata.labels?.[REVISION_LABEL])])
    const isLive = ({ metadata }: ControllerRevision) => live.has(metadata.labels?.[REVISION_LABEL])
    await forgetRevisions(client, planTruncation(revisions, isLive, set.spec.revisionHistoryLimit ?? 10))
    const nextMs = Math.min(waitMs || Infinity, availableInMs)
    return Number.isFinite(nextMs) ? { requeueAfterMs: nextMs } : undefined
  }

  /** How long pods that have ended stay, so that one that always fails is not replaced without pause. */
  private backoff(set: DaemonSet, ended: readonly Pod[]): number {
    const { uid } = set.metadata
    const nowMs = this.context.clock.nowMs()
    const known = this.backoffs.get(uid)
    if (known && known.untilMs > nowMs) return known.untilMs - nowMs
    // As upstream: forgotten after twice the longest wait without a failure.
    const lastMs = known && nowMs - known.untilMs < 2 * DAEMON_BACKOFF_LAST_MS ? known.delayMs * 2 : 0
    const delayMs = Math.min(Math.max(lastMs, DAEMON_BACKOFF_FIRST_MS), DAEMON_BACKOFF_LAST_MS)
    this.backoffs.set(uid, { delayMs, untilMs: nowMs + delayMs })
    for (const pod of ended) this.tellOfEnd(set, pod)
    return 0
  }

  private tellOfEnd(set: DaemonSet, pod: Pod): void {
    const failed = pod.status?.phase === 'Failed'
    const name = `${pod.metadata.namespace ?? ''}/${pod.metadata.name} on node ${this.nodeName}`
    this.events.record(set, {
      type: failed ? 'Warning' : 'Normal',
      reason: failed ? 'FailedDaemonPod' : 'SucceededDaemonPod',
      message: failed
        ? `Found failed daemon pod ${name}, will try to kill it`
        : `Found succeeded daemon pod ${name}, will try to delete it`,
    })
  }

  private async create(set: DaemonSet, hash: string): Promise<{ cause: unknown } | undefined> {
    const { template } = set.spec
    const labels = { ...template.metadata?.labels, [REVISION_LABEL]: hash }
    const spec = { ...template.spec, tolerations: planTolerations(template.spec.tolerations) }
    try {
      const pod = await this.context.client.create<Pod>(
        podKind,
        podOf({ metadata: { ...template.metadata, labels }, spec }, set),
      )
      const message = `Created pod: ${pod.metadata.name}`
      this.events.record(set, { type: 'Normal', reason: 'SuccessfulCreate', message })
      return undefined
    } catch (cause) {
      const message = `Error creating: ${messageOf(cause)}`
      this.events.record(set, { type: 'Warning', reason: 'FailedCreate', message })
      return { cause }
    }
  }

  private async remove(set: DaemonSet, pod: Pod): Promise<void> {
    await ensureDeleted(this.context.client, podKind, pod)
    const message = `Deleted pod: ${pod.metadata.name}`
    this.events.record(set, { type: 'Normal', reason: 'SuccessfulDelete', message })
  }

  private setsOf(pods: readonly (Pod | undefined)[]): Set<string> {
    const keys = new Set<string>()
    for (const pod of pods) {
      if (!pod) continue
      const { namespace = '' } = pod.metadata
      const owner = controllerOf(pod)
      if (owner?.kind === 'DaemonSet') keys.add(keyOf({ metadata: { namespace, name: owner.name } }))
      else if (!owner) {
        // Nobody's pod: any set of its namespace may want it.
        for (const set of this.context.informers.of(daemonSetKind).list(namespace))
          if (matchesLabelSelector(set.spec.selector, pod.metadata.labels)) keys.add(keyOf(set))
      }
    }
    return keys
  }
}
