import { type Informer, keyOf, type ReconcileResult } from '../../client/index.ts'
import type { NodeClient, SleepEvent } from '../../jail/index.ts'
import { type ControllerContext, QueueController } from '../controller.ts'
import { type Tenant, tenantKind } from '../kinds.ts'
import { writeStatus } from '../writes.ts'

/** Writes into each Tenant whether its control plane sleeps. */
export class SleepController extends QueueController {
  private readonly tenants: Informer<Tenant>
  private asleep: ReadonlySet<string> | undefined

  constructor(context: ControllerContext, { node }: { node: NodeClient }) {
    super('sleep', context)
    this.tenants = this.follow(tenantKind, ({ key, old, object }) =>
      old?.status?.phase === object?.status?.phase ? [] : [key],
    )
    // The node agent begins with everybody who sleeps; until it has said so, a name that is missing means nothing.
    let asleep = new Set<string>()
    this.hear<SleepEvent>({
      what: 'who sleeps',
      open: (signal) => node.watchSleep(signal),
      onOpen: () => (asleep = new Set()),
      onEvent: (event) => this.heardOf(event, asleep),
      onLost: () => (this.asleep = undefined),
    })
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const tenant = this.tenants.get(key)
    if (!this.asleep || tenant?.status?.phase !== 'Ready') return undefined
    const controlPlane = this.asleep.has(tenant.metadata.name) ? 'Asleep' : 'Awake'
    if (tenant.status.controlPlane !== controlPlane)
      await writeStatus(this.context.client, tenantKind, tenant, { ...tenant.status, controlPlane })
    return undefined
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
}
