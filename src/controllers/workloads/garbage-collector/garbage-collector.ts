import type { KubeObject, OwnerReference } from '../../../api/index.ts'
import {
  type Change,
  type DeleteOptions,
  ensureDeleted,
  type Informer,
  isNotFound,
  type KindRef,
  keyOf,
  type ReconcileResult,
  resourceOf,
} from '../../../client/index.ts'
import { semanticEqual } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import { eventKind } from '../../kinds.ts'
import { mergePatch } from '../../writes.ts'
import type { KindFollower } from '../customresourcedefinition/customresourcedefinition-controller.ts'

const FOREGROUND = 'foregroundDeletion'
const ORPHAN = 'orphan'

type Node = { kind: KindRef; informer: Informer<KubeObject> }

/**
 * Deletes what no longer has an owner, and carries out foreground deletion and orphaning.
 * https://kubernetes.io/docs/concepts/architecture/garbage-collection/
 */
export class GarbageCollector extends QueueController implements KindFollower {
  private readonly nodes = new Map<string, Node>()

  constructor(context: ControllerContext, { kinds }: { kinds: readonly KindRef[] }) {
    super('garbage-collector', context)
    for (const kind of kinds) this.addKind(kind)
  }

  addKind(kind: KindRef): void {
    if (resourceOf(kind) === resourceOf(eventKind)) return
    const informer = this.context.informers.of(kind)
    this.nodes.set(resourceOf(kind), { kind, informer })
    // Made before the first object comes, so that it is not built in the middle of something.
    informer.byOwner('')
    informer.byUid('')
    this.follow(kind, (change) => this.concerned(kind, change))
  }

  removeKind(kind: KindRef): void {
    this.nodes.delete(resourceOf(kind))
    this.unfollow(kind)
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const space = key.indexOf(' ')
    const node = this.nodes.get(key.slice(0, space))
    const object = node?.informer.get(key.slice(space + 1))
    if (!node || !object) return undefined
    const { deletionTimestamp, finalizers = [], ownerReferences = [] } = object.metadata
    if (deletionTimestamp && finalizers.includes(ORPHAN)) await this.orphan(node, object)
    else if (deletionTimestamp && finalizers.includes(FOREGROUND)) await this.deleteInForeground(node, object)
    else if (ownerReferences.length > 0 && !node.informer.isGoing(object)) await this.collect(node, object)
    return undefined
  }

  /** Deletes an object whose owners are all gone or on their way, or forgets those of several that are. */
  private async collect(node: Node, object: KubeObject): Promise<void> {
    const owners = object.metadata.ownerReferences ?? []
    const states = await Promise.all(owners.map((owner) => this.stateOf(owner, node, object)))
    const kept = owners.filter((_, index) => states[index] === 'there' || states[index] === 'unknown')
    if (kept.length === owners.length) return
    if (kept.length > 0) {
      await mergePatch(this.context.client, node.kind, object, {
        metadata: { ownerReferences: kept.map((owner) => ({ ...owner })) },
      })
      return
    }
    const dependents = states.includes('waiting') ? this.dependentsOf(object) : []
    if (dependents.length === 0) {
      await this.remove(node, object, policyOf(object))
      return
    }
    // Owners in a circle would wait for each other for ever, so one that closes it keeps nobody waiting.
    const closesCircle = dependents.some((dependent) => waitsForDependents(dependent.object))
    await this.remove(node, closesCircle ? await this.unblock(node, object) : object, 'Foreground')
  }

  private async unblock(node: Node, object: KubeObject): Promise<KubeObject> {
    const owners = object.metadata.ownerReferences ?? []
    if (!owners.some((owner) => owner.blockOwnerDeletion)) return object
    const ownerReferences = owners.map((owner) => ({ ...owner, blockOwnerDeletion: false }))
    return mergePatch(this.context.client, node.kind, object, { metadata: { ownerReferences } })
  }

  private async remove(
    node: Node,
    object: KubeObject,
    propagationPolicy: DeleteOptions['propagationPolicy'],
  ): Promise<void> {
    const { resourceVersion } = object.metadata
    await ensureDeleted(this.context.client, node.kind, object, {
      ...(propagationPolicy ? { propagationPolicy } : {}),
      // Somebody may just have given it an owner that exists.
      preconditions: { resourceVersion },
    })
  }

  /** `unknown` when we cannot tell, and so must not delete. */
  private async stateOf(
    owner: OwnerReference,
    dependent: Node,
    object: KubeObject,
  ): Promise<'there' | 'gone' | 'waiting' | 'unknown'> {
    const node = this.nodeOf(owner)
    if (!node) return 'unknown'
    // A cluster-scoped object cannot have an owner in a namespace; nobody can say which namespace is meant.
    if (node.kind.namespaced && !dependent.kind.namespaced) return 'unknown'
    const namespace = node.kind.namespaced ? object.metadata.namespace : undefined
    const known = node.informer.byUid(owner.uid)
    let found: KubeObject | undefined =
      known?.metadata.name === owner.name && known.metadata.namespace === namespace ? known : undefined
    if (!found)
      try {
        // Our cache of the owner's kind may lag behind that of the dependent's, so absence is asked for.
        found = await this.context.client.get(node.kind, {
          ...(namespace === undefined ? {} : { namespace }),
          name: owner.name,
        })
      } catch (error) {
        if (!isNotFound(error)) throw error
      }
    if (!found || found.metadata.uid !== owner.uid) return 'gone'
    return waitsForDependents(found) ? 'waiting' : 'there'
  }

  private async deleteInForeground(node: Node, object: KubeObject): Promise<void> {
    const { uid } = object.metadata
    const blocking = this.dependentsOf(object).filter(({ object: dependent }) =>
      dependent.metadata.ownerReferences?.some((owner) => owner.uid === uid && owner.blockOwnerDeletion),
    )
    if (blocking.length === 0) {
      await this.dropFinalizer(node, object, FOREGROUND)
      return
    }
    for (const dependent of blocking) this.queue.add(keyIn(dependent.node.kind, dependent.object))
  }

  private async orphan(node: Node, object: KubeObject): Promise<void> {
    for (const dependent of this.dependentsOf(object)) {
      const owners = dependent.object.metadata.ownerReferences ?? []
      const ownerReferences = owners
        .filter((owner) => owner.uid !== object.metadata.uid)
        .map((owner) => ({ ...owner }))
      try {
        await mergePatch(this.context.client, dependent.node.kind, dependent.object, {
          metadata: { ownerReferences },
        })
      } catch (error) {
        if (!isNotFound(error)) throw error
      }
    }
    await this.dropFinalizer(node, object, ORPHAN)
  }

  private async dropFinalizer(node: Node, object: KubeObject, finalizer: string): Promise<void> {
    const finalizers = (object.metadata.finalizers ?? []).filter((name) => name !== finalizer)
    try {
      await mergePatch(this.context.client, node.kind, object, { metadata: { finalizers } })
    } catch (error) {
      if (!isNotFound(error)) throw error
    }
  }

  private dependentsOf(object: KubeObject): { node: Node; object: KubeObject }[] {
    return [...this.nodes.values()].flatMap((node) =>
      node.informer
        .byOwner(object.metadata.uid)
        // An owner in one namespace has no say in another.
        .filter(
          ({ metadata: { namespace } }) =>
            object.metadata.namespace === undefined || namespace === object.metadata.namespace,
        )
        .map((dependent) => ({ node, object: dependent })),
    )
  }

  private nodeOf({ apiVersion, kind }: OwnerReference): Node | undefined {
    const slash = apiVersion.indexOf('/')
    const group = slash === -1 ? '' : apiVersion.slice(0, slash)
    for (const node of this.nodes.values())
      if (node.kind.kind === kind && node.kind.group === group) return node
    return undefined
  }

  /** Which objects a change makes us look at again. Most changes of most objects concern nobody. */
  private concerned(kind: KindRef, { old, object }: Change<KubeObject>): string[] {
    if (object) {
      const same =
        old !== undefined &&
        old.metadata.uid === object.metadata.uid &&
        old.metadata.deletionTimestamp === object.metadata.deletionTimestamp &&
        semanticEqual(old.metadata.finalizers, object.metadata.finalizers) &&
        semanticEqual(old.metadata.ownerReferences, object.metadata.ownerReferences)
      if (same) return []
      const { deletionTimestamp, finalizers, ownerReferences } = object.metadata
      const ending = deletionTimestamp && (finalizers?.includes(FOREGROUND) || finalizers?.includes(ORPHAN))
      const keys = ownerReferences?.length || ending ? [keyIn(kind, object)] : []
      // Who no longer has this owner may have been what the owner waits for.
      return old ? [...keys, ...this.ownersOf(old)] : keys
    }
    return [...this.dependentsOf(old).map((d) => keyIn(d.node.kind, d.object)), ...this.ownersOf(old)]
  }

  /** Owners that are waiting for their dependents. */
  private ownersOf(object: KubeObject): string[] {
    return (object.metadata.ownerReferences ?? []).flatMap((owner) => {
      const node = this.nodeOf(owner)
      const found = node?.informer.byUid(owner.uid)
      return node && found?.metadata.finalizers?.includes(FOREGROUND) ? [keyIn(node.kind, found)] : []
    })
  }
}

function waitsForDependents({ metadata: { deletionTimestamp, finalizers } }: KubeObject): boolean {
  return deletionTimestamp !== undefined && (finalizers?.includes(FOREGROUND) ?? false)
}

/** How its own dependents are to be treated, as whoever asked for its deletion said. */
function policyOf({ metadata: { finalizers } }: KubeObject): 'Orphan' | 'Foreground' | 'Background' {
  if (finalizers?.includes(ORPHAN)) return 'Orphan'
  return finalizers?.includes(FOREGROUND) ? 'Foreground' : 'Background'
}

function keyIn(kind: KindRef, object: KubeObject): string {
  return `${resourceOf(kind)} ${keyOf(object)}`
}
