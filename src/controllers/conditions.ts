import type { KubeObject, OwnerReference } from '../api/index.ts'

/** What conditions of all kinds have in common. */
type AnyCondition = {
  type: string
  status: string
  reason?: string
  message?: string
  lastTransitionTime?: string
}

/** RFC 3339 in UTC to the second, as all times of Kubernetes but micro-times are. */
export function timestamp(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z')
}

export function findCondition<C extends AnyCondition>(
  conditions: readonly C[] | undefined,
  type: string,
): C | undefined {
  return conditions?.find((condition) => condition.type === type)
}

/** The conditions with `wanted` among them; its transition time moves only when its status does. */
export function withCondition<C extends AnyCondition>(
  conditions: readonly C[] | undefined,
  wanted: C,
  nowMs: number,
): C[] {
  const current = findCondition(conditions, wanted.type)
  const since = current?.status === wanted.status ? current.lastTransitionTime : undefined
  const next = { ...wanted, lastTransitionTime: since ?? timestamp(nowMs) }
  if (!current) return [...(conditions ?? []), next]
  return (conditions ?? []).map((condition) => (condition.type === wanted.type ? next : condition))
}

export function withoutCondition<C extends AnyCondition>(
  conditions: readonly C[] | undefined,
  type: string,
): C[] {
  return (conditions ?? []).filter((condition) => condition.type !== type)
}

export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((owner) => owner.controller)
}

/** The reference by which `owner` manages an object, with everything that foreground deletion needs. */
export function controllerReference(owner: KubeObject): OwnerReference {
  return {
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid,
    controller: true,
    blockOwnerDeletion: true,
  }
}

/** Equal as JSON values, where an absent field, an empty list and an empty map are the same (as upstream's Semantic.DeepEqual). */
export function semanticEqual(a: unknown, b: unknown): boolean {
  if (isEmpty(a) && isEmpty(b)) return true
  if (Object.is(a, b)) return true
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false
    return a.every((item, index) => semanticEqual(item, b[index]))
  }
  const left = a as Record<string, unknown>
  const right = b as Record<string, unknown>
  for (const field of new Set([...Object.keys(left), ...Object.keys(right)])) {
    const own = Object.hasOwn(left, field) ? left[field] : undefined
    const other = Object.hasOwn(right, field) ? right[field] : undefined
    if (!semanticEqual(own, other)) return false
  }
  return true
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null) return true
  if (Array.isArray(value)) return value.length === 0
  return typeof value === 'object' && Object.keys(value).length === 0
}
