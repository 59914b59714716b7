import type { KubeObject, LabelSelector } from '../../api/index.ts'
import {
  type ApiClient,
  ensureDeleted,
  type Informer,
  isAlreadyExists,
  type KindRef,
} from '../../client/index.ts'
import { controllerOf, controllerReference, semanticEqual } from '../conditions.ts'
import { type ControllerRevision, controllerRevisionKind, type PodTemplateSpec } from '../kinds.ts'
import { mergePatch } from '../writes.ts'
import { contentHash } from './content-hash.ts'
import { ensureClaims } from './pods.ts'

/** Templates of StatefulSets and DaemonSets as they were, kept as ControllerRevisions. */

/** Tells on a pod which revision it was made from. */
export const REVISION_LABEL = 'controller-revision-hash'

/**
 * What a revision keeps: a strategic merge patch that brings the template back, which `kubectl rollout undo` sends. Clients
 * compare it byte by byte with what they would write themselves, so fields are in order, and a time that was never set is null.
 */
export function revisionData(template: PodTemplateSpec): object {
  const metadata = { ...template.metadata, creationTimestamp: null }
  return inOrder({ spec: { template: { ...template, metadata, $patch: 'replace' } } }) as object
}

function inOrder(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(inOrder)
  if (!isObject(value)) return value
  return Object.fromEntries(
    Object.keys(value)
      .toSorted()
      .map((field) => [field, inOrder(value[field])]),
  )
}

/** The template that a revision keeps, or undefined when somebody wrote something else into it. */
export function templateOf(revision: ControllerRevision): PodTemplateSpec | undefined {
  const spec = fieldOf(revision.data, 'spec')
  const template = fieldOf(spec, 'template')
  if (!isObject(template) || !isObject(template['spec'])) return undefined
  const { $patch: _directive, metadata, ...rest } = template
  // The API server checks what is made of it like anything else.
  return {
    ...rest,
    ...(isObject(metadata) ? { metadata: timeless(metadata) } : {}),
  } as unknown as PodTemplateSpec
}

function timeless({ creationTimestamp: _time, ...metadata }: Record<string, unknown>): object {
  return metadata
}

function fieldOf(value: unknown, field: string): unknown {
  return isObject(value) && Object.hasOwn(value, field) ? value[field] : undefined
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** From the oldest to the newest. */
export function sortRevisions(revisions: readonly ControllerRevision[]): ControllerRevision[] {
  return revisions.toSorted(
    (a, b) =>
      a.revision - b.revision ||
      Date.parse(a.metadata.creationTimestamp) - Date.parse(b.metadata.creationTimestamp) ||
      (a.metadata.name < b.metadata.name ? -1 : 1),
  )
}

export type RevisionStep =
  | { step: 'use'; revision: ControllerRevision }
  /** An old template is wanted again: its revision becomes the newest. */
  | { step: 'renumber'; revision: ControllerRevision; to: number }
  | { step: 'create'; number: number }

/** How the newest revision comes to hold `data`. Pure. */
export function planRevision(revisions: readonly ControllerRevision[], data: object): RevisionStep {
  const sorted = sortRevisions(revisions)
  const newest = sorted.at(-1)
  const next = (newest?.revision ?? 0) + 1
  const equal = sorted.filter((revision) => semanticEqual(revision.data, data)).at(-1)
  if (!equal) return { step: 'create', number: next }
  return equal === newest ? { step: 'use', revision: equal } : { step: 'renumber', revision: equal, to: next }
}

/** Which revisions to forget: the oldest beyond `limit` of those that nothing needs. Pure. */
export function planTruncation(
  revisions: readonly ControllerRevision[],
  isLive: (revision: ControllerRevision) => boolean,
  limit: number,
): ControllerRevision[] {
  const idle = sortRevisions(revisions).filter((revision) => !isLive(revision))
  return idle.slice(0, Math.max(0, idle.length - limit))
}

type Owner = KubeObject & {
  spec: { selector: LabelSelector; template: PodTemplateSpec }
  status?: { collisionCount?: number }
}

export type History = {
  /** All revisions of the owner, oldest first. */
  revisions: ControllerRevision[]
  /** The one that holds the owner's template. */
  update: ControllerRevision
  collisionCount: number | undefined
}

/** Claims the owner's revisions and makes sure that one holds its template. */
export async function ensureHistory<T extends Owner>({
  client,
  informer,
  ownerKind,
  owner,
  hashLabel,
}: {
  client: ApiClient
  informer: Informer<ControllerRevision>
  ownerKind: KindRef<T>
  owner: T
  /** The label of a revision that holds its hash. */
  hashLabel: string
}): Promise<History> {
  const claimed = await ensureClaims({
    client,
    ownerKind,
    owner,
    kind: controllerRevisionKind,
    selector: owner.spec.selector,
    candidates: informer.list(owner.metadata.namespace).filter((revision) => !informer.isGoing(revision)),
  })
  const data = revisionData(owner.spec.template)
  const plan = planRevision(claimed, data)
  let { collisionCount } = owner.status ?? {}
  let update: ControllerRevision
  switch (plan.step) {
    case 'use':
      update = plan.revision
      break
    case 'renumber':
      update = await mergePatch(client, controllerRevisionKind, plan.revision, { revision: plan.to })
      break
    case 'create':
      ;({ revision: update, collisionCount } = await create(client, owner, data, plan.number, hashLabel))
      break
    default:
      plan satisfies never
      throw new Error('There is no such step')
  }
  const others = claimed.filter((revision) => revision.metadata.uid !== update.metadata.uid)
  return { revisions: sortRevisions([...others, update]), update, collisionCount }
}

async function create(
  client: ApiClient,
  owner: Owner,
  data: object,
  number: number,
  hashLabel: string,
): Promise<{ revision: ControllerRevision; collisionCount: number | undefined }> {
  let { collisionCount } = owner.status ?? {}
  const { namespace = '' } = owner.metadata
  for (;;) {
    const hash = contentHash(data, collisionCount)
    // As upstream: what a name may be long, less a hash.
    const name = `${owner.metadata.name.slice(0, 223)}-${hash}`
    const { annotations } = owner.metadata
    try {
      const revision = await client.create<ControllerRevision>(controllerRevisionKind, {
        apiVersion: 'apps/v1',
        kind: 'ControllerRevision',
        metadata: {
          name,
          namespace,
          labels: { ...owner.spec.template.metadata?.labels, [hashLabel]: hash },
          ...(annotations ? { annotations } : {}),
          ownerReferences: [controllerReference(owner)],
        },
        data,
        revision: number,
      })
      return { revision, collisionCount }
    } catch (error) {
      if (!isAlreadyExists(error)) throw error
      const found = await client.get(controllerRevisionKind, { namespace, name })
      if (controllerOf(found)?.uid === owner.metadata.uid && semanticEqual(found.data, data))
        return { revision: found, collisionCount }
      collisionCount = (collisionCount ?? 0) + 1
    }
  }
}

export async function forgetRevisions(
  client: ApiClient,
  revisions: readonly ControllerRevision[],
): Promise<void> {
  for (const revision of revisions) await ensureDeleted(client, controllerRevisionKind, revision)
}
