import { parseQuantity, type PodMetrics } from '../../../api/index.ts'
import type { MetricSpec, Pod } from '../../kinds.ts'
import { findCondition } from '../../conditions.ts'
import { CPU_INITIALIZATION_MS, INITIAL_READINESS_MS } from '../../limits.ts'

/** So far from a target nothing changes, unless the autoscaler says otherwise. */
export type Tolerance = { up: number; down: number }

/** What a metric asks for, and what it is. */
export type MetricProposal = {
  replicas: number
  averageUtilization?: number
  averageNanos: bigint
}
export type MetricFailure = { failure: string }

type Source = { resource: string; container: string | undefined; target: MetricSpec }

/** In billionths of a core or of a byte. */
type Values = Map<string, bigint>

/**
 * How many pods a metric asks for, by upstream's rules: pods that are missing or not ready are taken to be such that they
 * do not make a change larger. https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/#algorithm-details
 */
export function planReplicas({
  metric,
  pods,
  usage,
  currentReplicas,
  statusReplicas,
  tolerance,
  nowMs,
}: {
  metric: MetricSpec
  pods: readonly Pod[]
  usage: ReadonlyMap<string, PodMetrics>
  currentReplicas: number
  statusReplicas: number
  tolerance: Tolerance
  nowMs: number
}): MetricProposal | MetricFailure {
  const source = sourceOf(metric)
  if (!source) return { failure: 'the metric has no source' }
  const { resource } = source
  if (pods.length === 0) return { failure: 'no pods returned by selector while calculating replica count' }
  const values = valuesOf(usage, source)
  const groups = groupPods(pods, values, usage, { resource, nowMs })
  for (const name of [...groups.ignored, ...groups.unready]) values.delete(name)
  if (values.size === 0)
    return {
      failure: `unable to get metrics for resource ${resource}: no metrics returned from resource metrics API`,
    }
  const { averageUtilization, averageValue } = (metric.resource ?? metric.containerResource)?.target ?? {}
  if (averageUtilization === undefined) {
    const goal = averageValue === undefined ? 0n : parseQuantity(averageValue).nanos
    if (goal <= 0n) return { failure: 'the target is not positive' }
    const ratio = (of: Values) => ratioOf(total(of), goal * BigInt(of.size))
    const averageNanos = total(values) / BigInt(values.size)
    // As upstream: the sum over what there is, and the pods that the scale counts.
    const replicas = proposal({
      ratio,
      values,
      groups,
      currentReplicas,
      tolerance,
      whenMissing: () => goal,
    })
    return {
      replicas: replicas ?? Math.min(currentReplicas, statusReplicas || currentReplicas),
      averageNanos,
    }
  }
  const requests = requestsOf(pods, source)
  if ('failure' in requests) return requests
  const known = (of: Values) => [...of].filter(([name]) => requests.values.has(name))
  const utilization = (of: Values): number => {
    const asked = known(of).reduce((sum, [name]) => sum + (requests.values.get(name) ?? 0n), 0n)
    const used = known(of).reduce((sum, [, value]) => sum + value, 0n)
    return asked === 0n ? 0 : Number((used * 100n) / asked)
  }
  const ratio = (of: Values) => utilization(of) / averageUtilization
  const used = utilization(values)
  const averageNanos = total(values) / BigInt(values.size)
  const fallback = BigInt(Math.max(100, averageUtilization))
  const replicas = proposal({
    ratio,
    values,
    groups,
    currentReplicas,
    tolerance,
    whenMissing: (name) => ((requests.values.get(name) ?? 0n) * fallback) / 100n,
  })
  return { replicas: replicas ?? currentReplicas, averageUtilization: used, averageNanos }
}

export function sourceOf(metric: MetricSpec): Source | undefined {
  const source = metric.resource ?? metric.containerResource
  if (!source) return undefined
  return {
    resource: source.name,
    container: metric.containerResource?.container,
    target: metric,
  }
}

function isTolerable(ratio: number, { up, down }: Tolerance): boolean {
  // What is left of a quantity's decimal notation must not decide at the very edge.
  return ratio >= 1 - down - Number.EPSILON * 4 && ratio <= 1 + up + Number.EPSILON * 4
}

/** undefined: as it is. */
function proposal({
  ratio,
  values,
  groups,
  currentReplicas,
  tolerance,
  whenMissing,
}: {
  ratio: (values: Values) => number
  values: Values
  groups: Groups
  currentReplicas: number
  tolerance: Tolerance
  /** What a pod without a metric is taken to use when there shall be fewer pods. */
  whenMissing: (name: string) => bigint
}): number | undefined {
  const first = ratio(values)
  const upWithUnready = groups.unready.size > 0 && first > 1
  if (!upWithUnready && groups.missing.size === 0)
    return isTolerable(first, tolerance) ? undefined : roundUp(first * groups.readyCount)
  const all = new Map(values)
  for (const name of groups.missing)
    if (first < 1) all.set(name, whenMissing(name))
    else if (first > 1) all.set(name, 0n)
  if (upWithUnready) for (const name of groups.unready) all.set(name, 0n)
  const second = ratio(all)
  if (isTolerable(second, tolerance) || first < 1 !== second < 1) return undefined
  const replicas = roundUp(second * all.size)
  // Never the other way than the metric points.
  if ((second < 1 && replicas > currentReplicas) || (second > 1 && replicas < currentReplicas))
    return undefined
  return replicas
}

function roundUp(value: number): number {
  // 3 * 1.1 is not quite 3.3: what is within the error of a float is that number.
  return Math.ceil(value - value * Number.EPSILON * 4)
}

function ratioOf(used: bigint, goal: bigint): number {
  return goal === 0n ? 0 : Number(used) / Number(goal)
}

function total(values: Values): bigint {
  return [...values.values()].reduce((sum, value) => sum + value, 0n)
}

function valuesOf(usage: ReadonlyMap<string, PodMetrics>, { resource, container }: Source): Values {
  const values: Values = new Map()
  for (const [name, { containers }] of usage) {
    const counted =
      container === undefined ? containers : containers.filter((each) => each.name === container)
    const amounts = counted.flatMap((each) => {
      const text = Object.hasOwn(each.usage, resource) ? each.usage[resource] : undefined
      return text === undefined ? [] : [parseQuantity(text).nanos]
    })
    // A pod of which a part is not known is not known.
    if (amounts.length === counted.length && amounts.length > 0)
      values.set(
        name,
        amounts.reduce((sum, each) => sum + each, 0n),
      )
  }
  return values
}

function requestsOf(
  pods: readonly Pod[],
  { resource, container }: Source,
): { values: Values } | MetricFailure {
  const values: Values = new Map()
  for (const { metadata, spec } of pods) {
    const sidecars = (spec.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === 'Always')
    let sum = 0n
    for (const each of [...spec.containers, ...sidecars]) {
      if (container !== undefined && each.name !== container) continue
      const text = each.resources?.requests?.[resource] ?? each.resources?.limits?.[resource]
      if (text === undefined)
        return {
          failure: `failed to get ${resource} utilization: missing request for ${resource} in container ${each.name} of Pod ${metadata.name}`,
        }
      sum += parseQuantity(text).nanos
    }
    values.set(metadata.name, sum)
  }
  return { values }
}

type Groups = {
  readyCount: number
  unready: ReadonlySet<string>
  missing: ReadonlySet<string>
  ignored: ReadonlySet<string>
}

function groupPods(
  pods: readonly Pod[],
  values: Values,
  usage: ReadonlyMap<string, PodMetrics>,
  { resource, nowMs }: { resource: string; nowMs: number },
): Groups {
  const unready = new Set<string>()
  const missing = new Set<string>()
  const ignored = new Set<string>()
  let readyCount = 0
  for (const pod of pods) {
    const { name } = pod.metadata
    if (pod.metadata.deletionTimestamp || pod.status?.phase === 'Failed') ignored.add(name)
    else if (pod.status?.phase === 'Pending') unready.add(name)
    else if (!values.has(name)) missing.add(name)
    else if (resource === 'cpu' && isStarting(pod, usage.get(name), nowMs)) unready.add(name)
    else readyCount++
  }
  return { readyCount, unready, missing, ignored }
}

/** A pod that has just started works more than it will, so its cpu says nothing yet. */
function isStarting(pod: Pod, metrics: PodMetrics | undefined, nowMs: number): boolean {
  const ready = findCondition(pod.status?.conditions, 'Ready')
  const startedMs = Date.parse(pod.status?.startTime ?? '')
  if (!ready || Number.isNaN(startedMs)) return true
  const changedMs = Date.parse(ready.lastTransitionTime ?? '')
  if (startedMs + CPU_INITIALIZATION_MS > nowMs) {
    const measuredMs = Date.parse(metrics?.timestamp ?? '')
    const windowMs = Number.parseFloat(metrics?.window ?? '0') * 1_000
    return ready.status === 'False' || measuredMs < changedMs + windowMs
  }
  return ready.status === 'False' && startedMs + INITIAL_READINESS_MS > changedMs
}
