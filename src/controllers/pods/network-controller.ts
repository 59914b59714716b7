import { createHash } from 'node:crypto'
import { API_SERVICE, ApiError } from '../../api/index.ts'
import type { Change, EventRecorder, Informer, ReconcileResult } from '../../client/index.ts'
import { isDeepStrictEqual } from 'node:util'
import type { Engine, TenantNetwork } from '../../jail/index.ts'
import { type ControllerContext, QueueController } from '../controller.ts'
import {
  type EgressPolicy,
  egressPolicyKind,
  type EndpointSlice,
  endpointSliceKind,
  type Namespace,
  namespaceKind,
  type NetworkPolicy,
  networkPolicyKind,
  type Pod,
  podKind,
  type Service,
  serviceKind,
} from '../kinds.ts'
import { NETWORK_DEBOUNCE_MS, NETWORK_POLICIES_TOLD_MAX } from '../limits.ts'
import { messageOf } from '../writes.ts'
import { factsOf, planIsolation } from './plan-isolation.ts'
import { planNarrowings } from './plan-narrowings.ts'
import { isByAddress, type KnownPods, planNetwork } from './plan-network.ts'

/** There is one network, so there is one key. */
const NETWORK = 'network'

const FAULT = 'the node could not load them, and tries again'

/**
 * Tells the engine the tenant's services, which pods carry them out, what network policies allow and egress policies leave, as one whole and
 * only when it changed.
 */
export class NetworkController extends QueueController {
  private readonly engine: Engine
  private readonly services: Informer<Service>
  private readonly slices: Informer<EndpointSlice>
  private readonly pods: Informer<Pod>
  private readonly policies: Informer<NetworkPolicy>
  private readonly egressPolicies: Informer<EgressPolicy>
  private readonly namespaces: Informer<Namespace>
  private readonly events: EventRecorder
  private readonly onPodsReady: (uids: readonly string[]) => void
  /** Pods that the engine knows the policies of. */
  private covered: ReadonlySet<string> = new Set()
  /** How often egress policies have changed, and up to which of these changes the engine knows them. */
  private narrowings = 0
  private narrowingsKnown = 0
  private readonly waiting = new Set<string>()
  private refusal: string | undefined
  /** True when endpoints of some service are known by their addresses only. */
  private namesAddresses = false
  private told: string | undefined

  constructor(
    context: ControllerContext,
    { engine, onPodsReady }: { engine: Engine; onPodsReady: (uids: readonly string[]) => void },
  ) {
    super('network', context, { concurrency: 1 })
    this.engine = engine
    this.onPodsReady = onPodsReady
    this.events = context.events('network-policies')
    this.policies = this.follow(networkPolicyKind, () => this.soon())
    this.egressPolicies = this.follow(egressPolicyKind, () => {
      this.narrowings++
      return this.soon()
    })
    this.namespaces = this.follow(namespaceKind, ({ old, object }) =>
      isDeepStrictEqual(old?.metadata.labels, object?.metadata.labels) ? [] : this.soonIfIsolating(),
    )
    this.pods = this.follow(podKind, (change) => {
      if (this.namesAddresses && addressOf(change.old) !== addressOf(change.object)) return this.soon()
      return isolatesSame(change) ? [] : this.soonIfIsolating()
    })
    this.services = this.follow(serviceKind, () => this.soon())
    this.slices = this.follow(endpointSliceKind, () => this.soon())
  }

  override start(): void {
    super.start()
    this.tellAgain()
  }

  /** Tells even what was told: the engine may have been away, or know the services of before we were. */
  tellAgain(): void {
    this.told = undefined
    this.queue.add(NETWORK)
  }

  /**
   * Whether the engine knows the policies of a pod, so that it may start: a pod that starts sooner would be shut off
   * until it is told, or reach more outside than egress policies leave. Whoever has to wait is named to `onPodsReady` later. A text says why there is no end to it yet.
   */
  ready(uid: string): true | { refusal: string | undefined } {
    const isCovered = this.policies.size === 0 || this.covered.has(uid)
    if (isCovered && this.narrowingsKnown === this.narrowings) return true
    this.waiting.add(uid)
    // What was refused stays refused until something changes, and then we are called anyway.
    if (this.refusal === undefined) this.queue.add(NETWORK)
    return { refusal: this.refusal }
  }

  protected async reconcile(): Promise<ReconcileResult> {
    const { narrowings } = this
    const isolation = planIsolation(
      this.policies.list(),
      this.pods.list().filter((pod) => !isOver(pod)),
      this.namespaces.list(),
    )
    const network = planNetwork(
      this.services.list(),
      this.slices.list(),
      this.knownPods(),
      isolation,
      planNarrowings(this.egressPolicies.list()),
    )
    const digest = createHash('sha256').update(JSON.stringify(network)).digest('base64')
    const isNew = digest !== this.told
    if (isNew) await this.tell(network)
    this.told = digest
    if (this.refusal === undefined) {
      this.covered = new Set(isolation?.pods)
      this.narrowingsKnown = narrowings
    } else if (!isNew) return undefined
    const waiting = [...this.waiting]
    if (this.refusal === undefined) this.waiting.clear()
    if (waiting.length > 0) this.onPodsReady(waiting)
    return undefined
  }

  /** Addresses are looked up only when somebody wrote some down. */
  private knownPods(): KnownPods {
    this.namesAddresses = this.slices
      .list()
      .some(
        ({ metadata, endpoints }) =>
          (metadata.name !== API_SERVICE.name || metadata.namespace !== API_SERVICE.namespace) &&
          endpoints?.some(isByAddress),
      )
    const byAddress = new Map<string, string>()
    if (this.namesAddresses)
      for (const pod of this.pods.list())
        if (pod.status?.podIP && !isOver(pod)) byAddress.set(pod.status.podIP, pod.metadata.uid)
    return {
      has: (uid) => this.pods.byUid(uid) !== undefined,
      at: (address) => byAddress.get(address),
    }
  }

  private async tell(network: TenantNetwork): Promise<void> {
    try {
      await this.engine.setNetwork(network, this.stopping.signal)
      this.refusal = undefined
    } catch (error) {
      const isRefusal = error instanceof ApiError && error.code < 500 && error.code !== 429
      // Its own failure to load them, as opposed to an engine that is away for a moment.
      const isFault = error instanceof ApiError && error.code === 500
      if (isRefusal || isFault) this.refuse(isRefusal ? messageOf(error) : FAULT, error)
      // What it refuses now it refuses again, until something changes; the network of before stays.
      if (!isRefusal) throw error
    }
  }

  private refuse(why: string, error: unknown): void {
    const isNew = this.refusal !== why
    this.refusal = why
    if (!isNew && why === FAULT) return
    this.context.log.error('the engine does not take the network', { error })
    const policies = [...this.policies.list(), ...this.egressPolicies.list()]
    for (const policy of policies.slice(0, NETWORK_POLICIES_TOLD_MAX))
      this.events.record(policy, {
        type: 'Warning',
        reason: 'NetworkNotApplied',
        message: `Services and network policies stay as they were, and no new pod starts: ${why}`,
      })
  }

  private soonIfIsolating(): string[] {
    return this.policies.size === 0 ? [] : this.soon()
  }

  /** Many changes come at once, and each telling replaces everything. */
  private soon(): string[] {
    this.queue.addAfter(NETWORK, NETWORK_DEBOUNCE_MS)
    return []
  }
}

function isOver({ status }: Pod): boolean {
  return status?.phase === 'Succeeded' || status?.phase === 'Failed'
}

function addressOf(pod: Pod | undefined): string | undefined {
  return pod && !isOver(pod) ? pod.status?.podIP : undefined
}

/** True when no policy can tell the pod before and after apart. */
function isolatesSame({ old, object }: Change<Pod>): boolean {
  return (
    old !== undefined &&
    object !== undefined &&
    old.metadata.uid === object.metadata.uid &&
    isOver(old) === isOver(object) &&
    isDeepStrictEqual(factsOf(old), factsOf(object))
  )
}
