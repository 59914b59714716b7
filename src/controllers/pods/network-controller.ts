import { createHash } from 'node:crypto'
import { ApiError } from '../../api/index.ts'
import type { Informer, ReconcileResult } from '../../client/index.ts'
import type { Engine } from '../../jail/index.ts'
import { type ControllerContext, QueueController } from '../controller.ts'
import {
  type EndpointSlice,
  endpointSliceKind,
  type Pod,
  podKind,
  type Service,
  serviceKind,
} from '../kinds.ts'
import { NETWORK_DEBOUNCE_MS } from '../limits.ts'
import { planNetwork } from './plan-network.ts'

/** There is one network, so there is one key. */
const NETWORK = 'network'

/** Tells the engine the tenant's services and which pods carry them out, as one whole and only when it changed. */
export class NetworkController extends QueueController {
  private readonly engine: Engine
  private readonly services: Informer<Service>
  private readonly slices: Informer<EndpointSlice>
  private readonly pods: Informer<Pod>
  private readonly stopping = new AbortController()
  private told: string | undefined

  constructor(context: ControllerContext, { engine }: { engine: Engine }) {
    super('network', context, { concurrency: 1 })
    this.engine = engine
    this.pods = context.informers.of(podKind)
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

  override async stop(): Promise<void> {
    this.stopping.abort()
    await super.stop()
  }

  protected async reconcile(): Promise<ReconcileResult> {
    const network = planNetwork(
      this.services.list(),
      this.slices.list(),
      (uid) => this.pods.byUid(uid) !== undefined,
    )
    const digest = createHash('sha256').update(JSON.stringify(network)).digest('base64')
    if (digest === this.told) return undefined
    try {
      await this.engine.setNetwork(network, this.stopping.signal)
    } catch (error) {
      // What it refuses now it refuses again, until something changes; the network of before stays.
      if (!(error instanceof ApiError) || error.code >= 500 || error.code === 429) throw error
      this.context.log.error('the engine refuses the network', { error })
    }
    this.told = digest
    return undefined
  }

  /** Many changes come at once, and each telling replaces everything. */
  private soon(): string[] {
    this.queue.addAfter(NETWORK, NETWORK_DEBOUNCE_MS)
    return []
  }
}
