import type { ApiError, FieldError, KubeObject, UserInfo } from '../../api/index.ts'

/** One write, after decoding, merging and defaults, as the plugins see it. */
export type AdmissionRequest = {
  /** CONNECT opens exec, attach or port-forward, and is asked about with `connect` only. */
  operation: 'CREATE' | 'UPDATE' | 'DELETE' | 'CONNECT'
  user: UserInfo
  group: string
  version: string
  kind: string
  /** Plural path segment. */
  resource: string
  subresource?: string | undefined
  namespace?: string | undefined
  name: string
  /** The object as it would be stored; for DELETE the one that goes. A `mutate` may change it, a `refuse` must not. */
  object: KubeObject
  old?: KubeObject | undefined
  /** What the client sees at a sub-resource that has a kind of its own, such as a Scale. */
  seen?: { group: string; version: string; kind: string; object: KubeObject; old: KubeObject }
  dryRun: boolean
}

export type ResourceName = { group: string; resource: string }

/** The control plane's objects as plugins may read them: synchronous, so that nothing changes between check and write. */
export interface ClusterView {
  get(of: ResourceName & { namespace?: string; name: string }): KubeObject | undefined
  list(of: ResourceName & { namespace?: string }): readonly KubeObject[]
  count(of: ResourceName & { namespace?: string }): number
  /** Objects that have been let in and are not stored yet, so not in `list`. */
  creating(of: ResourceName): readonly KubeObject[]
  readonly objectCount: number
  readonly bytes: number
}

/** Plugins run in the order of their list: every `mutate` before validation, every `refuse` after it. */
export type AdmissionPlugin = {
  name: string
  /** Fills in what Kubernetes promises to fill in. Never changes what the client wrote. */
  mutate?(request: AdmissionRequest, cluster: ClusterView): void
  /** The reason why not, or undefined. */
  refuse?(request: AdmissionRequest, cluster: ClusterView): ApiError | undefined
  /**
   * The same for what cannot be answered at once; undefined when there is nothing to ask. It is asked after every `refuse` and
   * they are asked again after it, because the world may have changed meanwhile. Never rejects.
   */
  review?(request: AdmissionRequest, cluster: ClusterView): Promise<ApiError | undefined> | undefined
  /** The reason why not to open a connection; `object` is what the client asks for, such as PodExecOptions, without metadata. */
  connect?(
    request: AdmissionRequest,
    cluster: ClusterView,
  ): ApiError | undefined | Promise<ApiError | undefined>
  /** The same for an object that is refused anyway, so that people are told everything at once. */
  problems?(request: AdmissionRequest, cluster: ClusterView): FieldError[]
  /** What the audit log shall say about a valid write, whether or not it is let in. Asked after the refusals. */
  auditNotes?(request: AdmissionRequest, cluster: ClusterView): string[]
  /** Advice about what is let in, for `Warning:` headers. */
  warnings?(request: AdmissionRequest, cluster: ClusterView): string[]
}
