import type { KubeObject, Verb } from './meta.ts'
import type { ObjectSchema } from './schema.ts'
import type { FieldError } from './status.ts'
import type { UserInfo } from './user-info.ts'
import type { CheckOptions, CheckResult } from './validation.ts'

/** A column of `kubectl get`, as metav1.TableColumnDefinition, with how to compute its cell. */
export type TableColumn = {
  name: string
  type: 'string' | 'integer' | 'date' | 'boolean' | 'number'
  format?: string
  description: string
  /** 0 is always shown, 1 only with `-o wide`. */
  priority?: number
  cell(object: KubeObject, nowMs: number): string | number | boolean | null
}

export type Subresource = {
  /** Path segment after the object's name: `status`, `scale`, `log`, … */
  name: string
  verbs: readonly (Verb | 'connect')[]
  /** The kind a client sends and receives there, when it is not the object's own: Scale, TokenRequest, Eviction. */
  kind?: { group: string; version: string; kind: string }
  /** Its schema, when it is not the object's own. */
  schema?: ObjectSchema
}

/** What a write is about, for the hooks of a kind. */
export type WriteContext = { user: UserInfo; nowMs: number; subresource?: string }

/**
 * What is particular to a kind that a tenant's CustomResourceDefinition describes. Objects of all its versions are stored
 * as one of them, and are read as the version that is asked for.
 */
export type CustomKind = {
  /** `apiVersion` of what is stored. */
  storedVersion: string
  /** A stored object as this version shows it: type, fields that the schema knows, defaults. */
  present(stored: KubeObject): KubeObject
  /** Warning for whoever uses a version that goes away. */
  deprecation?: string
  /** While its definition is being deleted, nothing new comes to be. */
  terminating: boolean
  scale?: CustomScale
}

/** Where `/scale` finds and writes its numbers: names of fields, from the top. */
export type CustomScale = {
  specReplicas: readonly string[]
  statusReplicas: readonly string[]
  labelSelector?: readonly string[]
}

/** Another form of the objects of another kind, which are stored once: Event of events.k8s.io is the Event of v1. */
export type KindView = {
  /** Whose objects. */
  of: { group: string; resource: string }
  present(stored: KubeObject): KubeObject
  /** `old` is what is stored so far: what this form cannot say stays as it is there. */
  store(object: KubeObject, old?: KubeObject): KubeObject
}

/** Everything the API server knows of a kind. Adding a kind is adding one of these. */
export type KindDefinition = {
  group: string
  version: string
  kind: string
  /** Path segment. */
  plural: string
  singular: string
  shortNames?: readonly string[]
  categories?: readonly string[]
  namespaced: boolean
  verbs: readonly Verb[]
  schema: ObjectSchema
  /** Reads what a client sent, where more than `schema` says what may be in it. */
  check?: (value: unknown, options: CheckOptions) => CheckResult
  custom?: CustomKind
  view?: KindView
  /** Never stored: the machine is asked whenever somebody reads. Can be read only. */
  measured?: true
  subresources?: readonly Subresource[]
  columns: readonly TableColumn[]
  /** Field selectors besides metadata.name and metadata.namespace: label → value of an object. */
  fieldSelectors?: Readonly<Record<string, (object: KubeObject) => string>>
  /** What must name an object: most kinds a DNS subdomain. Returns a problem or undefined. */
  nameProblem?: (name: string) => string | undefined
  /** True when `metadata.generation` counts changes of spec. */
  hasGeneration?: boolean
  /** Fields of spec that the platform fills in once; that is no change which somebody asked for. */
  filledIn?: readonly string[]
  /** True when a plain update must not change `status`, and `/status` must change only that. */
  hasStatus?: boolean
  /** Defaults that depend on other fields; runs after the schema's own. Changes and returns `object`, which is a fresh copy. */
  applyDefaults?: (object: KubeObject) => KubeObject
  /** Problems that a schema cannot express. `old` is there for updates. */
  validate?: (object: KubeObject, context: WriteContext, old?: KubeObject) => FieldError[]
  /** Fills in what the server owns (cluster IPs are given elsewhere): initial status, fields a client may not set. */
  prepareForCreate?: (object: KubeObject, context: WriteContext) => KubeObject
  prepareForUpdate?: (object: KubeObject, old: KubeObject, context: WriteContext) => KubeObject
  /** What else changes when somebody asks for its deletion. Changes and returns `object`, which is a fresh copy. */
  prepareForDelete?: (object: KubeObject, nowMs: number) => KubeObject
  /** What it owns stays when a client deletes it without saying what should become of that. */
  orphansByDefault?: true
  /** Who deletes one is answered with what it was, and not with a Status. */
  showsDeleted?: true
  /** Seconds a delete waits unless the client says otherwise; only pods have one. */
  gracePeriodSeconds?: (object: KubeObject) => number
  /** Non-fatal advice for the client, sent as `Warning:` headers. */
  warnings?: (object: KubeObject, old?: KubeObject) => string[]
}

/** Never stored: the server computes the answer (SelfSubjectAccessReview, …). Create only. */
export type VirtualKind = Pick<
  KindDefinition,
  'group' | 'version' | 'kind' | 'plural' | 'singular' | 'namespaced' | 'schema'
>

/** The kinds a control plane serves. */
export type KindRegistry = {
  kinds: readonly KindDefinition[]
  virtualKinds: readonly VirtualKind[]
  find(gvr: { group: string; version?: string; resource: string }): KindDefinition | undefined
  findKind(gvk: { group: string; version?: string; kind: string }): KindDefinition | undefined
}

export function groupVersion({ group, version }: { group: string; version: string }): string {
  return group ? `${group}/${version}` : version
}
