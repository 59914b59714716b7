import type { KindDefinition, KindRegistry, KubeObject, TenantName } from '../api/index.ts'
import type { TokenIssuer } from '../identity/index.ts'
import type { Engine } from '../jail/index.ts'
import type { AdmissionPlugin, Authorizer, ClusterView, ResourceName } from '../policy/index.ts'
import type { Clock, Logger } from '../stdx/index.ts'
import type { Store, StoreKey } from '../store/index.ts'
import type { ContinueTokens } from './continue-token.ts'
import type { ServiceAddresses } from './service-addresses.ts'
import type { SubresourceHandler } from './subresource-handler.ts'

/** What the parts of one API server share. */
export type Context = {
  tenant: TenantName
  registry: KindRegistry
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
  subresources: Readonly<Record<string, SubresourceHandler>>
}

/** Randomness, so that tests can decide it. */
export type Entropy = { uuid(): string; bytes(count: number): Buffer; fraction(): number }

/** All keys of a kind in a namespace, or of a kind in all of them, begin with this. */
export function keyPrefix(of: ResourceName, namespace?: string): string {
  return namespace === undefined ? `${of.resource}.${of.group}/` : `${of.resource}.${of.group}/${namespace}/`
}

export function objectKey(definition: KindDefinition, namespace: string | undefined, name: string): StoreKey {
  return `${definition.plural}.${definition.group}/${namespace ?? ''}/${name}`
}

export function viewOf(store: Store): ClusterView {
  return {
    get: ({ group, resource, namespace, name }) =>
      store.get(`${resource}.${group}/${namespace ?? ''}/${name}`)?.object,
    list: ({ namespace, ...of }) => store.list(keyPrefix(of, namespace)).items.map((i) => i.object),
    count: ({ namespace, ...of }) => store.count(keyPrefix(of, namespace)),
    get objectCount() {
      return store.objectCount
    },
    get bytes() {
      return store.bytes
    },
  }
}

/**
 * Creations that have passed admission and are not durable yet, per namespace. A namespace must not be finalized while
 * there are any, because its emptiness was looked at without them.
 */
export class InFlight {
  private readonly counts = new Map<string, number>()

  async during<T>(namespace: string | undefined, work: () => Promise<T>): Promise<T> {
    if (namespace === undefined) return work()
    this.counts.set(namespace, (this.counts.get(namespace) ?? 0) + 1)
    try {
      return await work()
    } finally {
      const left = (this.counts.get(namespace) ?? 1) - 1
      if (left === 0) this.counts.delete(namespace)
      else this.counts.set(namespace, left)
    }
  }

  has(namespace: string): boolean {
    return this.counts.has(namespace)
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
