import { type Informer, keyOf, type ReconcileResult } from '../../client/index.ts'
import type { NodeClient, SleepEvent } from '../../jail/index.ts'
import { type ControllerContext, QueueController } from '../controller.ts'
import { type Tenant, tenantKind } from '../kinds.ts'
import { ENGINE_RETRY_FIRST_MS, ENGINE_RETRY_LAST_MS } from '../limits.ts'
import { writeStatus } from '../writes.ts'

/** Writes into each Tenant whether its control plane sleeps. */
export class SleepController extends QueueController {
  private readonly node: NodeClient
  private readonly tenants: Informer<Tenant>
  private asleep: Set<string> | undefined
  private readonly stopping = new AbortController()
  private following: Promise<void> | undefined

  constructor(context: ControllerContext, { node }: { node: NodeClient }) {
    super('sleep', context)
    this.node = node
    this.tenants = this.follow(tenantKind, ({ key, old, object }) =>
      old?.status?.phase === object?.status?.phase ? [] : [key],
    )
  }

  override start(): void {
    super.start()
    this.following ??= this.followNode()
  }

  override async stop(): Promise<void> {
    this.stopping.abort()
    await Promise.all([super.stop(), this.following])
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const tenant = this.tenants.get(key)
    if (!this.asleep || tenant?.status?.phase !== 'Ready') return undefined
    const controlPlane = this.asleep.has(tenant.metadata.name) ? 'Asleep' : 'Awake'
    if (tenant.status.controlPlane !== controlPlane)
      await writeStatus(this.context.client, tenantKind, tenant, { ...tenant.status, controlPlane })
    return undefined
  }

  private async followNode(): Promise<void> {
    const { signal } = this.stopping
    let retryMs = ENGINE_RETRY_FIRST_MS
    while (!signal.aborted) {
      // The node agent begins with everybody who sleeps; until it has said so, a name that is missing means nothing.
      const asleep = new Set<string>()
      try {
        for await (const event of this.node.watchSleep(signal)) {
          this.heardOf(event, asleep)
          retryMs = ENGINE_RETRY_FIRST_MS
        }
      } catch (error) {
        if (!signal.aborted) this.context.log.debug('cannot hear who sleeps', { error, retryMs })
      }
      this.asleep = undefined
      await this.pause(retryMs)
      retryMs = Math.min(retryMs * 2, ENGINE_RETRY_LAST_MS)
    }
  }

  private heardOf(event: SleepEvent, asleep: Set<string>): void {
    if (event.type === 'SYNCED') {
      this.asleep = asleep
      for (const tenant of this.tenants.list()) this.queue.add(keyOf(tenant))
      return
    }
    if (event.type === 'ASLEEP') asleep.add(event.tenant)
    else asleep.delete(event.tenant)
    this.queue.add(keyOf({ metadata: { name: event.tenant } }))
  }

  private async pause(delayMs: number): Promise<void> {
    const { signal } = this.stopping
    if (signal.aborted) return
    const paused = Promise.withResolvers<void>()
    const cancel = this.context.clock.after(delayMs, paused.resolve)
    signal.addEventListener('abort', () => paused.resolve(), { once: true })
    await paused.promise
    cancel()
  }
}
