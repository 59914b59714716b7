import {
  ensureDeleted,
  type Informer,
  isNotFound,
  type KindRef,
  keyOf,
  type ReconcileResult,
} from '../../../client/index.ts'
import { semanticEqual } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import {
  compareVersions,
  CUSTOM_CLEANUP_FINALIZER,
  type CustomResourceDefinition,
  customResourceDefinitionKind,
} from '../../kinds.ts'
import { CUSTOM_CLEANUP_RETRY_MS, CUSTOM_KIND_LINGER_MS, NAMESPACE_DELETIONS_AT_ONCE } from '../../limits.ts'
import { mergePatch, writeStatus } from '../../writes.ts'
import { planStatus, type TakenKind } from './plan.ts'

/** Who works with objects of any kind, and so with kinds that come and go. */
export interface KindFollower {
  addKind(kind: KindRef): void
  removeKind(kind: KindRef): void
}

/**
 * Gives CustomResourceDefinitions their names, so that they are served; empties them before they go; and tells who
 * follows all kinds which there are.
 */
export class CustomResourceDefinitionController extends QueueController {
  private readonly definitions: Informer<CustomResourceDefinition>
  private readonly builtIn: readonly TakenKind[]
  private readonly followers: readonly KindFollower[]
  private readonly served = new Map<string, KindRef>()
  private readonly leaving = new Map<string, () => void>()

  constructor(
    context: ControllerContext,
    { builtIn, followers }: { builtIn: readonly TakenKind[]; followers: readonly KindFollower[] },
  ) {
    // One at a time: two definitions that ask for the same name must not both find it free.
    super('customresourcedefinition', context, { concurrency: 1 })
    this.builtIn = builtIn
    this.followers = followers
    this.definitions = this.follow(customResourceDefinitionKind, ({ key, old, object }) => {
      this.followKind(key, object)
      // A name that has become free may be what another one waits for.
      return object
        ? [key]
        : this.definitions.list().flatMap((d) => (d.spec.group === old.spec.group ? [keyOf(d)] : []))
    })
  }

  override async stop(): Promise<void> {
    for (const cancel of this.leaving.values()) cancel()
    await super.stop()
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const definition = this.definitions.get(key)
    if (!definition) return undefined
    if (definition.metadata.deletionTimestamp) return this.empty(definition)
    const status = planStatus(definition, this.definitions.list(), this.builtIn, this.context.clock.nowMs())
    if (!semanticEqual(definition.status, status))
      await writeStatus(this.context.client, customResourceDefinitionKind, definition, status)
    return undefined
  }

  /** Deletes the objects of a definition that is to go, then lets it go. */
  private async empty(definition: CustomResourceDefinition): Promise<ReconcileResult> {
    const { client } = this.context
    if (!definition.metadata.finalizers?.includes(CUSTOM_CLEANUP_FINALIZER)) return undefined
    const kind = servedKind(definition)
    if (kind)
      try {
        const { items } = await client.list(kind)
        for (let at = 0; at < items.length; at += NAMESPACE_DELETIONS_AT_ONCE)
          await Promise.all(
            items
              .slice(at, at + NAMESPACE_DELETIONS_AT_ONCE)
              .filter((item) => !item.metadata.deletionTimestamp)
              .map((item) => ensureDeleted(client, kind, item)),
          )
        // Finalizers of objects are for others to take away.
        if ((await client.list(kind)).items.length > 0) return { requeueAfterMs: CUSTOM_CLEANUP_RETRY_MS }
      } catch (error) {
        // Never served, so there is nothing of it.
        if (!isNotFound(error)) throw error
      }
    const finalizers = definition.metadata.finalizers.filter((name) => name !== CUSTOM_CLEANUP_FINALIZER)
    try {
      await mergePatch(client, customResourceDefinitionKind, definition, { metadata: { finalizers } })
    } catch (error) {
      if (!isNotFound(error)) throw error
    }
    return undefined
  }

  private followKind(key: string, definition: CustomResourceDefinition | undefined): void {
    const known = this.served.get(key)
    const kind = definition && isEstablished(definition) ? servedKind(definition) : undefined
    if (kind) {
      this.leaving.get(key)?.()
      this.leaving.delete(key)
    }
    if (known?.version === kind?.version && known?.kind === kind?.kind) return
    if (known && kind) this.forget(key, known)
    if (kind) {
      this.served.set(key, kind)
      for (const follower of this.followers) follower.addKind(kind)
    } else if (known && !this.leaving.has(key)) {
      // What belonged to its last objects is still to be collected, which takes knowing the kind.
      const cancel = this.context.clock.after(CUSTOM_KIND_LINGER_MS, () => this.forget(key, known))
      this.leaving.set(key, cancel)
    }
  }

  private forget(key: string, kind: KindRef): void {
    this.leaving.delete(key)
    this.served.delete(key)
    for (const follower of this.followers) follower.removeKind(kind)
    void this.context.informers.drop(kind)
  }
}

function isEstablished({ status }: CustomResourceDefinition): boolean {
  return (
    status?.conditions?.some(({ type, status: state }) => type === 'Established' && state === 'True') ?? false
  )
}

/** The version to work with; while a definition goes, also one that clients do not see. */
function servedKind({ spec, metadata }: CustomResourceDefinition): KindRef | undefined {
  const { names } = spec
  const [version] = spec.versions
    .filter(({ served, storage }) => served || (storage && metadata.deletionTimestamp !== undefined))
    .sort((a, b) => compareVersions(b.name, a.name))
  if (!version) return undefined
  return {
    group: spec.group,
    version: version.name,
    kind: names.kind,
    plural: names.plural,
    namespaced: spec.scope === 'Namespaced',
  }
}
