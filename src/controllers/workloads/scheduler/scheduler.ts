import { matchesLabelSelector } from '../../../api/index.ts'
import {
  ensureDeleted,
  type EventRecorder,
  type Informer,
  isNotFound,
  type ReconcileResult,
} from '../../../client/index.ts'
import type { Engine, JailId } from '../../../jail/index.ts'
import { findCondition, withCondition } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import {
  type Node,
  nodeKind,
  type PersistentVolumeClaim,
  persistentVolumeClaimKind,
  type Pod,
  type PodDisruptionBudget,
  podDisruptionBudgetKind,
  podKind,
  type PodStatus,
} from '../../kinds.ts'
import { NO_ROOM_RETRY_MS } from '../../limits.ts'
import { mergePatch, writeStatus } from '../../writes.ts'
import {
  byImportance,
  hasPlace,
  isOver,
  lackingIn,
  type Missing,
  noRoom,
  planVictims,
  priorityOf,
  roomFor,
  whyUnschedulable,
} from './plan.ts'

/** All that wait are looked at together, because the more important ones come first. */
const EVERYBODY = ''

/**
 * Puts pods onto the virtual node: into the tenant's share first, then the machine is asked. Which machine that is, only
 * the engine knows, and how full it is with other tenants' pods nobody here learns but by not fitting.
 */
export class Scheduler extends QueueController {
  private readonly pods: Informer<Pod>
  private readonly claims: Informer<PersistentVolumeClaim>
  private readonly nodes: Informer<Node>
  private readonly budgets: Informer<PodDisruptionBudget>
  private readonly events: EventRecorder
  private readonly nodeName: string
  private readonly engine: Engine
  /** What this process has given a place and the informer may not show yet, by uid. */
  private readonly bound = new Map<string, Pod>()

  constructor(context: ControllerContext, { nodeName, engine }: { nodeName: string; engine: Engine }) {
    // One after the other: what one pod takes, the next cannot have.
    super('scheduler', context, { concurrency: 1 })
    this.nodeName = nodeName
    this.engine = engine
    this.events = context.events('default-scheduler')
    this.pods = this.follow(podKind, ({ old, object }) => {
      if (object?.spec.nodeName || !object) this.bound.delete((object ?? old).metadata.uid)
      // It waits itself, or what it had may be free now.
      const waits = object !== undefined && needsNode(object)
      const left = old?.spec.nodeName && (!object || (isOver(object) && !isOver(old)))
      return waits || left ? [EVERYBODY] : []
    })
    this.claims = this.follow(persistentVolumeClaimKind, () => [EVERYBODY])
    this.nodes = this.follow(nodeKind, () => [EVERYBODY])
    this.budgets = context.informers.of(podDisruptionBudgetKind)
  }

  protected async reconcile(): Promise<ReconcileResult> {
    let wait = false
    let failure: { error: unknown } | undefined
    for (const { metadata } of this.pods.list().filter(needsNode).sort(byImportance)) {
      if (this.stopping.signal.aborted) return undefined
      // As it is by now: others were placed meanwhile, and that took time.
      const pod = this.pods.byUid(metadata.uid)
      if (!pod || !needsNode(pod)) continue
      try {
        if (!(await this.place(pod))) wait = true
      } catch (error) {
        // One that cannot be written keeps nobody else waiting.
        if (!isNotFound(error)) failure = { error }
      }
    }
    if (failure) throw failure.error
    // The machine tells nobody when another tenant's pod has gone.
    return wait ? { requeueAfterMs: NO_ROOM_RETRY_MS } : undefined
  }

  /** False when there is no room for it now, which changes without anybody telling. */
  private async place(pod: Pod): Promise<boolean> {
    if (pod.spec.nodeName) {
      await this.confirm(pod)
      return true
    }
    const { namespace = '', name } = pod.metadata
    const node = this.nodes.find({ name: this.nodeName })
    const why = whyUnschedulable(
      pod,
      node,
      (claim) => this.claims.find({ namespace, name: claim }),
      this.pods.list(namespace),
    )
    if (why !== undefined || !node) {
      await this.tellWhy(pod, why ?? '')
      return true
    }
    const placed = this.placedBeside(pod)
    const missing = await this.missingFor(pod, node, placed)
    if (missing.length > 0) {
      const nominated = await this.preempt(pod, node, placed)
      await this.tellWhy(pod, noRoom(pod, missing), nominated)
      return false
    }
    const bound = await mergePatch(this.context.client, podKind, pod, { spec: { nodeName: this.nodeName } })
    this.bound.set(bound.metadata.uid, bound)
    this.events.record(bound, {
      type: 'Normal',
      reason: 'Scheduled',
      message: `Successfully assigned ${namespace}/${name} to ${this.nodeName}`,
    })
    await this.confirm(bound)
    return true
  }

  private async confirm(pod: Pod): Promise<void> {
    const conditions = withCondition(
      pod.status?.conditions,
      { type: 'PodScheduled', status: 'True' },
      this.context.clock.nowMs(),
    )
    const { nominatedNodeName: _taken, ...status } = pod.status ?? {}
    await this.writePending(pod, { ...status, conditions })
  }

  private placedBeside(pod: Pod): Pod[] {
    const known = new Map(this.pods.list().map((other) => [other.metadata.uid, other]))
    for (const [uid, other] of this.bound) if (known.has(uid)) known.set(uid, other)
    return [...known.values()].filter((other) => hasPlace(other, pod))
  }

  private async missingFor(pod: Pod, node: Node, placed: readonly Pod[]): Promise<readonly Missing[]> {
    const own = lackingIn(node, pod, placed)
    if (own.length > 0) return own
    return (await this.engine.reserve(idOf(pod), roomFor(pod), this.stopping.signal)).missing
  }

  /** Makes less important pods of this tenant go when that gives room. The node's name when the pod is to wait for it. */
  private async preempt(pod: Pod, node: Node, placed: readonly Pod[]): Promise<string | undefined> {
    if (pod.spec.preemptionPolicy === 'Never') return undefined
    const going = placed.some(
      (other) => other.metadata.deletionTimestamp && priorityOf(other) < priorityOf(pod),
    )
    // Whoever had to go for it is still going.
    if (pod.status?.nominatedNodeName && going) return pod.status.nominatedNodeName
    const room = roomFor(pod)
    const victims = await planVictims(pod, placed, {
      protectedByBudget: (candidates) => this.protectedByBudget(candidates),
      fits: async (without) => {
        const rest = placed.filter((other) => !without.includes(other))
        if (lackingIn(node, pod, rest).length > 0) return false
        const question = { ...room, without: without.map(idOf) }
        return (await this.engine.reserve(idOf(pod), question, this.stopping.signal)).missing.length === 0
      },
    })
    if (!victims) return undefined
    for (const victim of victims) await this.makeGo(victim, pod)
    return this.nodeName
  }

  private async makeGo(victim: Pod, pod: Pod): Promise<void> {
    const { client, clock } = this.context
    if (victim.metadata.deletionTimestamp) return
    try {
      const conditions = withCondition(
        victim.status?.conditions,
        {
          type: 'DisruptionTarget',
          status: 'True',
          reason: 'PreemptionByScheduler',
          message: 'default-scheduler: preempting to accommodate a higher priority pod',
        },
        clock.nowMs(),
      )
      const told = await writeStatus(client, podKind, victim, { ...victim.status, conditions })
      await ensureDeleted(client, podKind, told)
      this.events.record(victim, {
        type: 'Normal',
        reason: 'Preempted',
        message: `Preempted by pod ${pod.metadata.uid} on node ${this.nodeName}`,
      })
    } catch (error) {
      if (!isNotFound(error)) throw error
    }
  }

  /** Those whose going their budgets do not allow, when the others of them go as well. */
  private protectedByBudget(candidates: readonly Pod[]): ReadonlySet<Pod> {
    const left = new Map(
      this.budgets.list().map((budget) => [budget, budget.status?.disruptionsAllowed ?? 0] as const),
    )
    const kept = new Set<Pod>()
    for (const pod of candidates)
      for (const [budget, allowed] of left) {
        const { selector } = budget.spec
        if (budget.metadata.namespace !== pod.metadata.namespace || !selector) continue
        if (!matchesLabelSelector(selector, pod.metadata.labels)) continue
        if (allowed <= 0) kept.add(pod)
        left.set(budget, allowed - 1)
      }
    return kept
  }

  private async tellWhy(pod: Pod, message: string, nominatedNodeName?: string): Promise<void> {
    const before = findCondition(pod.status?.conditions, 'PodScheduled')
    if (before?.message === message && pod.status?.nominatedNodeName === nominatedNodeName) return
    if (before?.message !== message)
      this.events.record(pod, { type: 'Warning', reason: 'FailedScheduling', message })
    const wanted = { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }
    const conditions = withCondition(pod.status?.conditions, wanted, this.context.clock.nowMs())
    const { nominatedNodeName: _earlier, ...status } = pod.status ?? {}
    await this.writePending(pod, {
      ...status,
      conditions,
      ...(nominatedNodeName === undefined ? {} : { nominatedNodeName }),
    })
  }

  private async writePending(pod: Pod, status: PodStatus): Promise<void> {
    await writeStatus(this.context.client, podKind, pod, { ...status, phase: status.phase ?? 'Pending' })
  }
}

function idOf(pod: Pod): JailId {
  return pod.metadata.uid as JailId // the API server makes uids of that form
}

function needsNode(pod: Pod): boolean {
  if (pod.metadata.deletionTimestamp || isOver(pod)) return false
  return !pod.spec.nodeName || findCondition(pod.status?.conditions, 'PodScheduled')?.status !== 'True'
}
