import type { Readable } from 'node:stream'
import type {
  KindDefinition,
  KubeObject,
  ListMeta,
  Status,
  Subresource,
  UserInfo,
  Verb,
  VirtualKind,
} from '../api/index.ts'
import type { PodAnswer } from './ask-pod.ts'
import type { Cost } from './cost.ts'
import type { ResourcePath } from './route.ts'

/** A body as it came in: bytes from the wire, or a value from a component in this process. */
export type RequestBody =
  | { kind: 'bytes'; bytes: Buffer; contentType: string | undefined; contentEncoding?: string | undefined }
  | { kind: 'value'; value: unknown; contentType: string }

/** One request about a resource, whichever way it came. Every one goes through `Dispatcher.execute`. */
export type ResourceRequest = {
  /** The last two at `proxy` only. */
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'HEAD' | 'OPTIONS'
  path: ResourcePath
  query: URLSearchParams
  user: UserInfo
  /** Writes without `fieldManager` are recorded under its first part. */
  userAgent: string
  /** What goes on to a pod at `proxy` besides the body: headers that it may see, and the query as it came. */
  forPod?: { headers: Readonly<Record<string, string>>; search: string }
  /** Read once, and only after the request has been authorized. */
  readBody: () => Promise<RequestBody | undefined>
  /** Throws NotAcceptable for who accepts no answer that we have; a component in this process takes any. */
  requireAcceptable?: () => void
  signal: AbortSignal
  /** Advice that ends up in `Warning:` headers. */
  warnings: string[]
  /** What policies note for the audit log. */
  auditNotes: string[]
  /** Whoever waits for something lets it stop meanwhile. */
  cost: Pick<Cost, 'go' | 'stop' | 'waiting'>
}

/** What a path means here: the kind that serves it. */
export type Target = {
  definition: KindDefinition
  subresource: Subresource | undefined
  namespace: string | undefined
  /** "" for a collection. */
  name: string
}

export type VirtualTarget = { virtual: VirtualKind; namespace: string | undefined }

export type RequestVerb = Verb | 'connect'

export type WatchItem =
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: KubeObject }
  | { type: 'BOOKMARK'; revision: number; initialEventsEnd: boolean }

/** An object of an answer. What is as it is stored has its text at hand, and may never be parsed. */
export type Shown = { readonly object: KubeObject; json?(): string; metadataJson?(): string }

export type ApiResult =
  | { kind: 'object'; code: 200 | 201; shown: Shown; definition?: KindDefinition }
  | { kind: 'list'; definition: KindDefinition; items: readonly Shown[]; metadata: ListMeta }
  | { kind: 'status'; status: Status }
  | { kind: 'watch'; definition: KindDefinition; items: AsyncIterable<WatchItem> }
  | { kind: 'text'; stream: Readable }
  /** What a pod answered. */
  | ({ kind: 'passed' } & PodAnswer)
