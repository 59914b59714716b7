import { VIRTUAL_NODE_NAME } from '../../../api/index.ts'
import { type Informer, keyOf, type ReconcileResult } from '../../../client/index.ts'
import type { Engine, JailRuntime } from '../../../jail/index.ts'
import { semanticEqual } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import { type Node, nodeKind, type Pod, podKind } from '../../kinds.ts'
import { mergePatch, writeStatus } from '../../writes.ts'
import { planLabels, planNodeStatus } from './plan.ts'

/** Keeps the one node as large as the tenant's share. */
export class NodeController extends QueueController {
  private readonly nodes: Informer<Node>
  private readonly engine: Engine
  private readonly runtime: JailRuntime

  constructor(context: ControllerContext, { engine, runtime }: { engine: Engine; runtime: JailRuntime }) {
    super('node', context)
    this.engine = engine
    this.runtime = runtime
    this.nodes = this.follow(nodeKind, ({ key }) => [key])
    // The machine was short of something.
    this.follow(podKind, ({ old, object }) => (isEvicted(object) && !isEvicted(old) ? [KEY] : []))
  }

  /** The share may have changed. */
  lookAgain(): void {
    this.queue.add(KEY)
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const node = this.nodes.get(key)
    if (!node || node.metadata.name !== VIRTUAL_NODE_NAME) return undefined
    const { client, clock } = this.context
    const facts = await this.engine.node(this.stopping.signal)
    const labels = planLabels(node, facts)
    const labelled = semanticEqual(labels, node.metadata.labels)
      ? node
      : await mergePatch(client, nodeKind, node, { metadata: { labels } })
    const status = planNodeStatus(labelled, facts, { runtime: this.runtime, nowMs: clock.nowMs() })
    if (!semanticEqual(status, labelled.status)) await writeStatus(client, nodeKind, labelled, status)
    if (facts.pressures.length === 0) return undefined
    return { requeueAfterMs: Math.min(...facts.pressures.map(({ endsInMs }) => endsInMs)) }
  }
}

const KEY = keyOf({ metadata: { name: VIRTUAL_NODE_NAME } })

function isEvicted(pod: Pod | undefined): boolean {
  return pod?.status?.reason === 'Evicted'
}
