import {
  type KubeObject,
  type LabelSelector,
  type OwnerReference,
  matchesLabelSelector,
} from '../../api/index.ts'
import { type ApiClient, isConflict, isNotFound, type KindRef, type Informer } from '../../client/index.ts'
import { controllerOf, controllerReference, findCondition } from '../conditions.ts'
import type { Pod, PodTemplateSpec } from '../kinds.ts'

/** What controllers that make pods know about pods. */

export function isFinished(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed'
}

export function isReady(pod: Pod): boolean {
  return findCondition(pod.status?.conditions, 'Ready')?.status === 'True'
}

/** When the pod became or becomes available: ready for `minReadySeconds`. Undefined while it is not ready. */
export function availableAtMs(pod: Pod, minReadySeconds: number): number | undefined {
  const ready = findCondition(pod.status?.conditions, 'Ready')
  if (ready?.status !== 'True') return undefined
  if (minReadySeconds === 0) return 0
  return ready.lastTransitionTime === undefined
    ? undefined
    : Date.parse(ready.lastTransitionTime) + minReadySeconds * 1_000
}

/** A pod as a template wants it, owned by `owner`, without a name. */
export function podOf(template: PodTemplateSpec, owner: KubeObject): Record<string, unknown> {
  const { labels, annotations, finalizers } = template.metadata ?? {}
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      // A pod's name is its hostname too, so upstream cuts the prefix here as well.
      generateName: `${owner.metadata.name.slice(0, 57)}-`,
      namespace: owner.metadata.namespace,
      ...(labels ? { labels } : {}),
      ...(annotations ? { annotations } : {}),
      ...(finalizers ? { finalizers } : {}),
      ownerReferences: [controllerReference(owner)],
    },
    spec: template.spec,
  }
}

/** Which objects become an owner's, which stop to be. Pure. */
export function planClaims<T extends KubeObject>(
  owner: KubeObject,
  selector: LabelSelector | undefined,
  candidates: readonly T[],
): { own: T[]; adopt: T[]; release: T[] } {
  const claims = { own: [] as T[], adopt: [] as T[], release: [] as T[] }
  for (const candidate of candidates) {
    const controller = controllerOf(candidate)
    const matches = matchesLabelSelector(selector, candidate.metadata.labels)
    if (controller?.uid === owner.metadata.uid) {
      if (matches) claims.own.push(candidate)
      else if (!owner.metadata.deletionTimestamp) claims.release.push(candidate)
    } else if (
      !controller &&
      matches &&
      !owner.metadata.deletionTimestamp &&
      !candidate.metadata.deletionTimestamp
    )
      claims.adopt.push(candidate)
  }
  return claims
}

/**
 * Adopts and releases as `planClaims` says and returns what the owner then has. An owner is asked for once more
 * before it adopts, because the one we know may have been deleted and replaced.
 */
export async function ensureClaims<T extends KubeObject>({
  client,
  ownerKind,
  owner,
  kind,
  selector,
  candidates,
  finalizer,
}: {
  client: ApiClient
  ownerKind: KindRef
  owner: KubeObject
  kind: KindRef<T>
  selector: LabelSelector | undefined
  candidates: readonly T[]
  /** What the owner's objects have so that none vanishes unseen: it comes and goes with the owner. */
  finalizer?: string
}): Promise<T[]> {
  const { own, adopt, release } = planClaims(owner, selector, candidates)
  const claimed = [...own]
  if (adopt.length > 0) {
    const fresh = await client.get(ownerKind, owner.metadata)
    if (fresh.metadata.uid === owner.metadata.uid && !fresh.metadata.deletionTimestamp) {
      for (const object of adopt) {
        const owners = [...(object.metadata.ownerReferences ?? []), controllerReference(owner)]
        const finalizers = finalizer === undefined ? undefined : withFinalizer(object, finalizer)
        const adopted = await setOwners(client, kind, object, owners, finalizers)
        if (adopted) claimed.push(adopted)
      }
    }
  }
  for (const object of release) {
    const owners = (object.metadata.ownerReferences ?? []).filter((o) => o.uid !== owner.metadata.uid)
    const finalizers = object.metadata.finalizers?.filter((name) => name !== finalizer)
    await setOwners(client, kind, object, owners, finalizers)
  }
  return claimed
}

function withFinalizer({ metadata: { finalizers = [] } }: KubeObject, finalizer: string): string[] {
  return finalizers.includes(finalizer) ? finalizers : [...finalizers, finalizer]
}

async function setOwners<T extends KubeObject>(
  client: ApiClient,
  kind: KindRef<T>,
  object: T,
  owners: OwnerReference[],
  finalizers: string[] | undefined,
): Promise<T | undefined> {
  const { name, namespace, uid, resourceVersion } = object.metadata
  try {
    return await client.patch(
      kind,
      namespace === undefined ? { name } : { namespace, name },
      // The version makes sure that nobody else adopted it meanwhile.
      {
        metadata: {
          uid,
          resourceVersion,
          ownerReferences: owners.map((owner) => ({ ...owner })),
          ...(finalizers ? { finalizers } : {}),
        },
      },
      { type: 'application/merge-patch+json' },
    )
  } catch (error) {
    // Somebody else was faster, or it is gone: its next event brings us back.
    if (isConflict(error) || isNotFound(error)) return undefined
    throw error
  }
}

/** The pods that one controller may claim: its own and those of its namespace that nobody controls. */
export function podCandidates(
  pods: Informer<Pod>,
  owner: KubeObject,
  selector: LabelSelector | undefined,
): Pod[] {
  const candidates = new Map(pods.byOwner(owner.metadata.uid).map((pod) => [pod.metadata.uid, pod]))
  for (const pod of pods.list(owner.metadata.namespace))
    if (!controllerOf(pod) && matchesLabelSelector(selector, pod.metadata.labels))
      candidates.set(pod.metadata.uid, pod)
  return [...candidates.values()].filter((pod) => pod.metadata.namespace === owner.metadata.namespace)
}

const PHASE_RANK: Record<string, number> = { Pending: 0, Unknown: 1, Running: 2 }

/**
 * Negative when `a` is to be deleted before `b`: unassigned, then pending, then not ready, then the cheaper by
 * `controller.kubernetes.io/pod-deletion-cost`, then the one ready for less time, then the one restarted more
 * often, then the younger. Upstream compares times of readiness by powers of two, so that noise does not decide.
 */
export function compareForDeletion(a: Pod, b: Pod, nowMs: number): number {
  return (
    Number(Boolean(a.spec.nodeName)) - Number(Boolean(b.spec.nodeName)) ||
    (PHASE_RANK[a.status?.phase ?? 'Pending'] ?? 0) - (PHASE_RANK[b.status?.phase ?? 'Pending'] ?? 0) ||
    Number(isReady(a)) - Number(isReady(b)) ||
    deletionCost(a) - deletionCost(b) ||
    ageRank(readySinceMs(a), nowMs) - ageRank(readySinceMs(b), nowMs) ||
    restarts(b) - restarts(a) ||
    ageRank(Date.parse(a.metadata.creationTimestamp), nowMs) -
      ageRank(Date.parse(b.metadata.creationTimestamp), nowMs) ||
    // Two controllers, or one after a restart, must choose alike.
    (a.metadata.uid < b.metadata.uid ? -1 : 1)
  )
}

function deletionCost(pod: Pod): number {
  const cost = pod.metadata.annotations?.['controller.kubernetes.io/pod-deletion-cost'] ?? '0'
  return /^-?\d{1,10}$/.test(cost) ? Number(cost) : 0
}

function readySinceMs(pod: Pod): number {
  const ready = findCondition(pod.status?.conditions, 'Ready')
  return ready?.status === 'True' && ready.lastTransitionTime
    ? Date.parse(ready.lastTransitionTime)
    : Infinity
}

function ageRank(sinceMs: number, nowMs: number): number {
  const seconds = (nowMs - sinceMs) / 1_000
  return Number.isFinite(seconds) && seconds >= 1 ? Math.floor(Math.log2(seconds)) + 1 : 0
}

function restarts(pod: Pod): number {
  return Math.max(0, ...(pod.status?.containerStatuses ?? []).map((status) => status.restartCount))
}

/**
 * Calls `create` `count` times in batches that double as long as all succeed, so that a quota refusal costs one
 * request and not hundreds. Resolves with how many succeeded and the first error.
 */
export async function createInBatches(
  count: number,
  firstBatch: number,
  create: () => Promise<unknown>,
): Promise<{ created: number; error?: unknown }> {
  let created = 0
  for (let batch = firstBatch; created < count; batch *= 2) {
    const size = Math.min(batch, count - created)
    const results = await Promise.allSettled(Array.from({ length: size }, () => create()))
    created += results.filter((result) => result.status === 'fulfilled').length
    const failed = results.find((result) => result.status === 'rejected')
    if (failed) return { created, error: failed.reason }
  }
  return { created }
}
