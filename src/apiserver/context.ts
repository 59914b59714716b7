import type { KindDefinition, KindRegistry, KubeObject, TenantName } from '../api/index.ts'
import type { TokenIssuer } from '../identity/index.ts'
import type { Engine } from '../jail/index.ts'
import type { AdmissionPlugin, Authorizer, ClusterView, ResourceName } from '../policy/index.ts'
import type { Clock, Logger } from '../stdx/index.ts'
import type { Store, StoredObject, StoreKey } from '../store/index.ts'
import type { CustomKinds } from './custom-kinds.ts'
import type { Measurements } from './measurements.ts'
import type { Shown } from './request.ts'
import type { ContinueTokens } from './continue-token.ts'
import type { Standing } from './standing.ts'
import type { ServiceAddresses } from './service-addresses.ts'
import type { SubresourceHandler } from './subresource-handler.ts'

/** What the parts of one API server share. */
export type Context = {
  tenant: TenantName
  /** The kinds as they are now: those of CustomResourceDefinitions come and go. */
  readonly registry: KindRegistry
  customKinds: CustomKinds
  store: Store
  authorizer: Authorizer
  plugins: readonly AdmissionPlugin[]
  cluster: ClusterView
  clock: Clock
  log: Logger
  engine: Engine | undefined
  tokenIssuer: TokenIssuer | undefined
  addresses: ServiceAddresses
  continueTokens: ContinueTokens
  entropy: Entropy
  inFlight: InFlight
  measurements: Measurements
  standing: Standing
  subresources: Readonly<Record<string, SubresourceHandler>>
}

/** Randomness, so that tests can decide it. */
export type Entropy = { uuid(): string; bytes(count: number): Buffer; fraction(): number }

/** All keys of a kind in a namespace, or of a kind in all of them, begin with this. */
export function keyPrefix(of: ResourceName, namespace?: string): string {
  return namespace === undefined ? `${of.resource}.${of.group}/` : `${of.resource}.${of.group}/${namespace}/`
}

/** The name under which the objects of a kind are stored. */
export function storedAs({ view, group, plural }: KindDefinition): ResourceName {
  return view ? view.of : { group, resource: plural }
}

export function objectKey(definition: KindDefinition, namespace: string | undefined, name: string): StoreKey {
  const { group, resource } = storedAs(definition)
  return `${resource}.${group}/${namespace ?? ''}/${name}`
}

/** A stored object as a kind's version shows it. */
export function presented({ custom, view }: KindDefinition, object: KubeObject): KubeObject {
  return (custom ?? view)?.present(object) ?? object
}

/** The same for an answer; most kinds are shown as they are stored. */
export function shownAs({ custom, view }: KindDefinition, stored: StoredObject): Shown {
  const form = custom ?? view
  return form ? { object: form.present(stored.object) } : stored
}

/** What plugins may see. Creations on their way count already, or many at once would slip past a limit. */
export function viewOf(store: Store, inFlight: InFlight): ClusterView {
  return {
    get: ({ group, resource, namespace, name }) =>
      store.get(`${resource}.${group}/${namespace ?? ''}/${name}`)?.object,
    list: (of) => store.list(keyPrefix(of, of.namespace)).items.map((i) => i.object),
    count: (of) => {
      const prefix = keyPrefix(of, of.namespace)
      return store.count(prefix) + inFlight.count(prefix)
    },
    creating: (of) => inFlight.objects(keyPrefix(of)),
    get objectCount() {
      return store.objectCount + inFlight.count('')
    },
    get bytes() {
      return store.bytes
    },
  }
}

/** Creations that have passed admission and are not durable yet. */
export class InFlight {
  private readonly counts = new Map<string, number>()
  private readonly creations = new Map<string, Set<KubeObject>>()

  async during<T>(
    of: ResourceName & { namespace: string | undefined; object: KubeObject },
    work: () => Promise<T>,
  ): Promise<T> {
    const kind = keyPrefix(of)
    const prefixes = ['', kind, ...(of.namespace === undefined ? [] : [keyPrefix(of, of.namespace)])]
    for (const prefix of prefixes) this.counts.set(prefix, this.count(prefix) + 1)
    const creations = this.creations.get(kind) ?? new Set()
    this.creations.set(kind, creations.add(of.object))
    try {
      return await work()
    } finally {
      creations.delete(of.object)
      if (creations.size === 0) this.creations.delete(kind)
      for (const prefix of prefixes) {
        const left = this.count(prefix) - 1
        if (left === 0) this.counts.delete(prefix)
        else this.counts.set(prefix, left)
      }
    }
  }

  /** `prefix` is one of `keyPrefix`, or "" for everything. */
  count(prefix: string): number {
    return this.counts.get(prefix) ?? 0
  }

  /** `kind` is one of `keyPrefix` without a namespace. */
  objects(kind: string): readonly KubeObject[] {
    return [...(this.creations.get(kind) ?? [])]
  }
}

/** RFC 3339 in UTC with seconds, as `metav1.Time`. */
export function renderTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`
}

/** `kind` and `apiVersion` first, and the metadata in the order in which everybody knows it. */
export function inOrder(object: KubeObject): KubeObject {
  const { kind, apiVersion, metadata, ...rest } = object
  const ordered: Record<string, unknown> = {}
  for (const field of METADATA_ORDER) if (metadata[field] !== undefined) ordered[field] = metadata[field]
  // Every field that metadata can have is in the list.
  return { kind, apiVersion, metadata: ordered as unknown as KubeObject['metadata'], ...rest }
}

const METADATA_ORDER = [
  'name',
  'generateName',
  'namespace',
  'selfLink',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'labels',
  'annotations',
  'ownerReferences',
  'finalizers',
  'managedFields',
] as const satisfies (keyof KubeObject['metadata'])[]

/** What is wrong with an object is said of the group that it is stored in, as upstream. */
export function storedKind({ group, kind, view }: KindDefinition): { group: string; kind: string } {
  return { group: view?.of.group ?? group, kind }
}
