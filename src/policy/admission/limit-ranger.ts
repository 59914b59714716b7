import {
  type Container,
  forbidden,
  type LimitRange,
  type LimitRangeItem,
  parseQuantity,
  type PersistentVolumeClaim,
  type Pod,
  qosClass,
  renderQuantity,
} from '../../api/index.ts'
import { QUOTAS_PER_NAMESPACE_MAX } from '../limits.ts'
import { amountOf, podAmount, type Side } from '../pod-amounts.ts'
import type { AdmissionPlugin, AdmissionRequest, ClusterView, ResourceName } from './admission.ts'

const RANGES: ResourceName = { group: '', resource: 'limitranges' }
const ANNOTATION = 'kubernetes.io/limit-ranger'

/**
 * The tenant's own defaults and bounds for the resources of pods and containers. That a pod shows other resources than
 * its manifest is what the tenant asked for with the LimitRange, and an annotation says so.
 */
export const limitRanger: AdmissionPlugin = {
  name: 'LimitRanger',
  mutate(request, cluster) {
    if (!isNewPod(request)) return
    const pod = request.object as Pod // of that kind
    // A pod without a spec is refused when it is validated, which comes after.
    if (!pod.spec?.containers) return
    const items = itemsOf(request, cluster).filter(({ type }) => type === 'Container')
    const told: string[] = []
    for (const [what, container] of containersOf(pod))
      for (const [side, field, word] of [
        ['requests', 'defaultRequest', 'request'],
        ['limits', 'default', 'limit'],
      ] as const) {
        const given = fillIn(
          container,
          side,
          new Map(items.flatMap((item) => Object.entries(item[field] ?? {}))),
        )
        if (given.length > 0) told.push(`${given.join(', ')} ${word} for ${what} ${container.name}`)
      }
    if (told.length === 0) return
    pod.metadata.annotations = {
      ...pod.metadata.annotations,
      [ANNOTATION]: `LimitRanger plugin set: ${told.join('; ')}`,
    }
    // It follows from the resources, which have just changed.
    pod.status = { ...pod.status, qosClass: qosClass(pod.spec) }
  },
  refuse(request, cluster) {
    const { operation, group, resource, subresource, name, namespace, object } = request
    const refuse = (tell: string) => forbidden({ group, resource, name }, { tell })
    if (subresource !== undefined || namespace === undefined || operation === 'DELETE') return undefined
    if (group === '' && resource === 'persistentvolumeclaims') {
      const claim = object as PersistentVolumeClaim // of that kind
      const items = itemsOf(request, cluster).filter(({ type }) => type === 'PersistentVolumeClaim')
      const why = items.flatMap((item) => claimOutOfBounds(item, claim))
      return why.length === 0 ? undefined : refuse(why.join(', '))
    }
    if (operation !== 'CREATE') return undefined
    if (group === RANGES.group && resource === RANGES.resource)
      return cluster.count({ ...RANGES, namespace }) >= QUOTAS_PER_NAMESPACE_MAX
        ? refuse(`a namespace has at most ${QUOTAS_PER_NAMESPACE_MAX} of them`)
        : undefined
    if (!isNewPod(request)) return undefined
    const pod = object as Pod // of that kind
    const problems = itemsOf(request, cluster).flatMap((item) =>
      item.type === 'PersistentVolumeClaim'
        ? []
        : item.type === 'Pod'
          ? outOfBounds(item, (side, of) => podAmountIfAny(pod, side, of))
          : containersOf(pod).flatMap(([, { resources }]) =>
              outOfBounds(item, (side, of) => amountOf(resources, side, of)),
            ),
    )
    if (problems.length === 0) return undefined
    return refuse(problems.length === 1 ? (problems[0] ?? '') : `[${problems.join(', ')}]`)
  },
}

function isNewPod({ operation, group, resource, subresource }: AdmissionRequest): boolean {
  return operation === 'CREATE' && group === '' && resource === 'pods' && subresource === undefined
}

function itemsOf({ namespace }: AdmissionRequest, cluster: ClusterView): LimitRangeItem[] {
  if (namespace === undefined) return []
  const ranges = cluster.list({ ...RANGES, namespace }) as readonly LimitRange[] // of that kind
  return ranges.flatMap(({ spec }) => spec.limits)
}

function containersOf({ spec }: Pod): (readonly ['container' | 'init container', Container])[] {
  return [
    ...spec.containers.map((container) => ['container', container] as const),
    ...(spec.initContainers ?? []).map((container) => ['init container', container] as const),
  ]
}

/** Gives a container the amounts that it leaves open; returns which. */
function fillIn(container: Container, side: Side, defaults: ReadonlyMap<string, string>): string[] {
  const known = container.resources?.[side] ?? {}
  const given = [...defaults].filter(([resource]) => !Object.hasOwn(known, resource))
  if (given.length === 0) return []
  container.resources = { ...container.resources, [side]: { ...known, ...Object.fromEntries(given) } }
  return given.map(([resource]) => resource).sort()
}

function podAmountIfAny(pod: Pod, side: Side, resource: string): bigint | undefined {
  const says = containersOf(pod).some(
    ([, { resources }]) => amountOf(resources, side, resource) !== undefined,
  )
  return says ? podAmount(pod, side, resource) : undefined
}

function claimOutOfBounds({ type, min, max }: LimitRangeItem, { spec }: PersistentVolumeClaim): string[] {
  const request = parseQuantity(spec.resources?.requests?.['storage'] ?? '0').nanos
  const [least, most] = [min?.['storage'], max?.['storage']]
  const problems: string[] = []
  if (least !== undefined && request < parseQuantity(least).nanos)
    problems.push(`minimum storage usage per ${type} is ${least}, but request is ${shown(request, least)}`)
  if (most !== undefined && request > parseQuantity(most).nanos)
    problems.push(`maximum storage usage per ${type} is ${most}, but request is ${shown(request, most)}`)
  return problems
}

function outOfBounds(
  { type, min, max, maxLimitRequestRatio }: LimitRangeItem,
  amount: (side: Side, resource: string) => bigint | undefined,
): string[] {
  const problems: string[] = []
  const nanos = (text: string) => parseQuantity(text).nanos
  for (const [resource, text] of Object.entries(min ?? {})) {
    const what = `minimum ${resource} usage per ${type} is ${text}`
    const [request, limit] = [amount('requests', resource), amount('limits', resource)]
    if (request === undefined) problems.push(`${what}.  No request is specified`)
    else if (request < nanos(text)) problems.push(`${what}, but request is ${shown(request, text)}`)
    if (limit !== undefined && limit < nanos(text))
      problems.push(`${what}, but limit is ${shown(limit, text)}`)
  }
  for (const [resource, text] of Object.entries(max ?? {})) {
    const what = `maximum ${resource} usage per ${type} is ${text}`
    const [request, limit] = [amount('requests', resource), amount('limits', resource)]
    if (limit === undefined) problems.push(`${what}.  No limit is specified`)
    else if (limit > nanos(text)) problems.push(`${what}, but limit is ${shown(limit, text)}`)
    if (request !== undefined && request > nanos(text))
      problems.push(`${what}, but request is ${shown(request, text)}`)
  }
  for (const [resource, text] of Object.entries(maxLimitRequestRatio ?? {})) {
    const what = `${resource} max limit to request ratio per ${type} is ${text}`
    const [request, limit] = [amount('requests', resource) ?? 0n, amount('limits', resource) ?? 0n]
    if (request === 0n) problems.push(`${what}, but no request is specified or request is 0`)
    else if (limit === 0n) problems.push(`${what}, but no limit is specified or limit is 0`)
    else if (limit * 1_000_000_000n > nanos(text) * request)
      problems.push(`${what}, but provided ratio is ${(Number(limit) / Number(request)).toFixed(6)}`)
  }
  return problems
}

/** An amount in the notation of its bound. */
function shown(nanos: bigint, bound: string): string {
  return renderQuantity({ nanos, notation: parseQuantity(bound).notation })
}
