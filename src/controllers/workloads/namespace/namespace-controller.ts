import type { KubeObject } from '../../../api/index.ts'
import {
  ensureDeleted,
  type Informer,
  isNotFound,
  type KindRef,
  type ReconcileResult,
  resourceOf,
} from '../../../client/index.ts'
import { semanticEqual, withCondition } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import { eventKind, type Namespace, namespaceKind, podKind } from '../../kinds.ts'
import { NAMESPACE_DELETIONS_AT_ONCE } from '../../limits.ts'
import { messageOf, writeStatus } from '../../writes.ts'
import type { KindFollower } from '../customresourcedefinition/customresourcedefinition-controller.ts'

const FINALIZER = 'kubernetes'

type Remaining = { resource: string; count: number; finalizers: Map<string, number> }

/**
 * Empties a namespace that is to go, then lets it go. Pods first, so that nothing they rely on is taken from under
 * them (KEP-5080).
 */
export class NamespaceController extends QueueController implements KindFollower {
  private readonly namespaces: Informer<Namespace>
  private readonly kinds: KindRef[] = []

  constructor(context: ControllerContext, { kinds }: { kinds: readonly KindRef[] }) {
    super('namespace', context)
    this.namespaces = this.follow(namespaceKind, ({ key, object }) =>
      object?.metadata.deletionTimestamp ? [key] : [],
    )
    for (const kind of kinds) this.addKind(kind)
  }

  addKind(kind: KindRef): void {
    if (!kind.namespaced) return
    this.kinds.push(kind)
    // Events go at once and in numbers; nobody waits for one of them.
    if (resourceOf(kind) === resourceOf(eventKind)) return
    this.follow(kind, ({ old, object }) => {
      const key = `/${(object ?? old)?.metadata.namespace ?? ''}`
      return !object && this.namespaces.get(key)?.metadata.deletionTimestamp ? [key] : []
    })
  }

  removeKind(kind: KindRef): void {
    const at = this.kinds.findIndex((each) => resourceOf(each) === resourceOf(kind))
    if (at >= 0) this.kinds.splice(at, 1)
    this.unfollow(kind)
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const namespace = this.namespaces.get(key)
    if (!namespace?.metadata.deletionTimestamp) return undefined
    if (!namespace.spec?.finalizers?.includes(FINALIZER)) return undefined

    const failures: unknown[] = []
    const pods = await this.empty(namespace, podKind, failures)
    const remaining = [pods]
    if (pods.count === 0)
      for (const kind of [...this.kinds])
        if (resourceOf(kind) !== resourceOf(podKind))
          remaining.push(await this.empty(namespace, kind, failures))
    const left = remaining.filter(({ count }) => count > 0)
    const current = await this.tell(namespace, left, failures)
    if (failures.length > 0) throw failures[0]
    // What is left tells us by its deletion.
    if (left.length > 0) return undefined
    const finalizers = namespace.spec.finalizers.filter((finalizer) => finalizer !== FINALIZER)
    try {
      await this.context.client.update(
        namespaceKind,
        { ...current, spec: { ...current.spec, finalizers } },
        { subresource: 'finalize' },
      )
    } catch (error) {
      if (!isNotFound(error)) throw error
    }
    return undefined
  }

  /** Deletes what there is of one kind and says what stays for now. */
  private async empty(namespace: Namespace, kind: KindRef, failures: unknown[]): Promise<Remaining> {
    const { client } = this.context
    const remaining: Remaining = {
      resource: `${kind.plural}${kind.group ? `.${kind.group}` : ''}`,
      count: 0,
      finalizers: new Map(),
    }
    try {
      const inNamespace = { namespace: namespace.metadata.name }
      // Asked of the server and not of our caches: the answer decides that the namespace is empty.
      const { items } = await client.list(kind, inNamespace)
      await inParts(
        items.filter((item) => !item.metadata.deletionTimestamp),
        (item) => ensureDeleted(client, kind, item, { propagationPolicy: 'Background' }),
      )
      if (items.length === 0) return remaining
      for (const item of (await client.list(kind, inNamespace)).items) {
        remaining.count += 1
        for (const finalizer of item.metadata.finalizers ?? [])
          remaining.finalizers.set(finalizer, (remaining.finalizers.get(finalizer) ?? 0) + 1)
      }
    } catch (error) {
      // A custom kind that has gone meanwhile has left nothing.
      if (isNotFound(error)) return remaining
      failures.push(error)
      remaining.count += 1
    }
    return remaining
  }

  private async tell(
    namespace: Namespace,
    left: readonly Remaining[],
    failures: readonly unknown[],
  ): Promise<Namespace> {
    const nowMs = this.context.clock.nowMs()
    const finalizers = new Map<string, number>()
    for (const remaining of left)
      for (const [finalizer, count] of remaining.finalizers)
        finalizers.set(finalizer, (finalizers.get(finalizer) ?? 0) + count)
    let conditions = namespace.status?.conditions
    const say = (
      type: string,
      problem: string | undefined,
      reasons: [bad: string, good: string],
      good: string,
    ) => {
      conditions = withCondition(
        conditions,
        {
          type,
          status: problem === undefined ? 'False' : 'True',
          reason: problem === undefined ? reasons[1] : reasons[0],
          message: problem ?? good,
        },
        nowMs,
      )
    }
    say(
      'NamespaceDeletionContentFailure',
      failures.length > 0
        ? `Failed to delete all resource types, ${failures.length} remaining: ${messageOf(failures[0])}`
        : undefined,
      ['ContentDeletionFailed', 'ContentDeleted'],
      'All content successfully deleted, may be waiting on finalization',
    )
    say(
      'NamespaceContentRemaining',
      left.length > 0
        ? `Some resources are remaining: ${left.map(({ resource, count }) => `${resource} has ${count} resource instances`).join(', ')}`
        : undefined,
      ['SomeResourcesRemain', 'ContentRemoved'],
      'All content successfully removed',
    )
    say(
      'NamespaceFinalizersRemaining',
      finalizers.size > 0
        ? `Some content in the namespace has finalizers remaining: ${[...finalizers]
            .map(([finalizer, count]) => `${finalizer} in ${count} resource instances`)
            .join(', ')}`
        : undefined,
      ['SomeFinalizersRemain', 'ContentHasNoFinalizers'],
      'All content-preserving finalizers finished',
    )
    const status = { ...namespace.status, phase: 'Terminating' as const, conditions }
    if (semanticEqual(namespace.status, status)) return namespace
    return writeStatus(this.context.client, namespaceKind, namespace, status)
  }
}

async function inParts<T extends KubeObject>(
  items: readonly T[],
  act: (item: T) => Promise<void>,
): Promise<void> {
  for (let from = 0; from < items.length; from += NAMESPACE_DELETIONS_AT_ONCE)
    await Promise.all(items.slice(from, from + NAMESPACE_DELETIONS_AT_ONCE).map((item) => act(item)))
}
