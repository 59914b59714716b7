import { parseQuantity } from '../../../api/index.ts'
import type { HorizontalPodAutoscaler, HPAScalingRules } from '../../kinds.ts'
import { TOLERANCE_DEFAULT } from '../../limits.ts'
import type { Tolerance } from './replicas.ts'

/** What an autoscaler remembers of what it did and what it would have done. */
export type Memory = {
  recommendations: { atMs: number; replicas: number }[]
  /** Pods added or, below zero, taken away. */
  changes: { atMs: number; by: number }[]
}

type Policy = NonNullable<HPAScalingRules['policies']>[number]
type Rules = { stabilizationMs: number; selectPolicy: string; policies: readonly Policy[] }

const UP: readonly Policy[] = [
  { type: 'Pods', value: 4, periodSeconds: 15 },
  { type: 'Percent', value: 100, periodSeconds: 15 },
]
const DOWN: readonly Policy[] = [{ type: 'Percent', value: 100, periodSeconds: 15 }]

function rulesOf(
  rules: HPAScalingRules | undefined,
  defaults: { policies: readonly Policy[]; seconds: number },
): Rules {
  return {
    stabilizationMs: (rules?.stabilizationWindowSeconds ?? defaults.seconds) * 1_000,
    selectPolicy: rules?.selectPolicy ?? 'Max',
    policies: rules?.policies ?? defaults.policies,
  }
}

export function toleranceOf({ spec: { behavior } }: HorizontalPodAutoscaler): Tolerance {
  const read = (rules: HPAScalingRules | undefined) =>
    rules?.tolerance === undefined
      ? TOLERANCE_DEFAULT
      : Number(parseQuantity(rules.tolerance).nanos) / 1_000_000_000
  return { up: read(behavior?.scaleUp), down: read(behavior?.scaleDown) }
}

export type Decision = {
  replicas: number
  able: { reason: string; message: string }
  limited: { status: 'True' | 'False'; reason: string; message: string }
}

/**
 * The number that a recommendation becomes, as upstream: first the most cautious one of the stabilization window, then no
 * faster than the policies allow, then within the bounds. Remembers the recommendation.
 */
export function planBehavior(
  { spec: { behavior, minReplicas = 1, maxReplicas } }: HorizontalPodAutoscaler,
  { current, wanted, memory, nowMs }: { current: number; wanted: number; memory: Memory; nowMs: number },
): Decision {
  const up = rulesOf(behavior?.scaleUp, { policies: UP, seconds: 0 })
  const down = rulesOf(behavior?.scaleDown, { policies: DOWN, seconds: 300 })
  if (memory.recommendations.length === 0) memory.recommendations.push({ atMs: nowMs, replicas: current })
  const within = (ms: number) =>
    memory.recommendations.filter(({ atMs }) => atMs > nowMs - ms).map(({ replicas }) => replicas)
  const least = Math.min(wanted, ...within(up.stabilizationMs))
  const most = Math.max(wanted, ...within(down.stabilizationMs))
  const stable = current < least ? least : current > most ? most : current
  memory.recommendations.push({ atMs: nowMs, replicas: wanted })
  const keptMs = Math.max(up.stabilizationMs, down.stabilizationMs)
  memory.recommendations = memory.recommendations.filter(({ atMs }) => atMs > nowMs - keptMs)
  const longestMs =
    Math.max(...[...up.policies, ...down.policies].map((policy) => policy.periodSeconds)) * 1_000
  memory.changes = memory.changes.filter(({ atMs }) => atMs > nowMs - longestMs)

  const able =
    stable === wanted
      ? { reason: 'ReadyForNewScale', message: 'recommended size matches current size' }
      : stable > wanted
        ? {
            reason: 'ScaleDownStabilized',
            message:
              'recent recommendations were higher than current one, applying the highest recent recommendation',
          }
        : {
            reason: 'ScaleUpStabilized',
            message:
              'recent recommendations were lower than current one, applying the lowest recent recommendation',
          }
  return { able, ...limit({ current, stable, minReplicas, maxReplicas, up, down, memory, nowMs }) }
}

function limit({
  current,
  stable,
  minReplicas,
  maxReplicas,
  up,
  down,
  memory,
  nowMs,
}: {
  current: number
  stable: number
  minReplicas: number
  maxReplicas: number
  up: Rules
  down: Rules
  memory: Memory
  nowMs: number
}): Pick<Decision, 'replicas' | 'limited'> {
  const limited = (replicas: number, reason: string, message: string) => ({
    replicas,
    limited: { status: 'True' as const, reason, message },
  })
  if (stable > current) {
    const bound = Math.max(current, upBound(current, up, memory, nowMs))
    if (stable > Math.min(bound, maxReplicas))
      return bound < maxReplicas
        ? limited(
            bound,
            'ScaleUpLimit',
            'the desired replica count is increasing faster than the maximum scale rate',
          )
        : limited(
            maxReplicas,
            'TooManyReplicas',
            'the desired replica count is more than the maximum replica count',
          )
  }
  if (stable < current) {
    const bound = Math.min(current, downBound(current, down, memory, nowMs))
    if (stable < Math.max(bound, minReplicas))
      return bound > minReplicas
        ? limited(
            bound,
            'ScaleDownLimit',
            'the desired replica count is decreasing faster than the maximum scale rate',
          )
        : limited(
            minReplicas,
            'TooFewReplicas',
            'the desired replica count is less than the minimum replica count',
          )
  }
  const message = 'the desired count is within the acceptable range'
  return { replicas: stable, limited: { status: 'False', reason: 'DesiredWithinRange', message } }
}

/** How many there were when the period of a policy began. */
function before(current: number, { periodSeconds }: Policy, memory: Memory, nowMs: number): number {
  return memory.changes
    .filter(({ atMs }) => atMs > nowMs - periodSeconds * 1_000)
    .reduce((count, { by }) => count - by, current)
}

function upBound(current: number, rules: Rules, memory: Memory, nowMs: number): number {
  if (rules.selectPolicy === 'Disabled') return current
  const bounds = rules.policies.map((policy) => {
    const start = before(current, policy, memory, nowMs)
    return policy.type === 'Pods' ? start + policy.value : Math.ceil((start * (100 + policy.value)) / 100)
  })
  return rules.selectPolicy === 'Min' ? Math.min(...bounds) : Math.max(...bounds)
}

function downBound(current: number, rules: Rules, memory: Memory, nowMs: number): number {
  if (rules.selectPolicy === 'Disabled') return current
  const bounds = rules.policies.map((policy) => {
    const start = before(current, policy, memory, nowMs)
    return policy.type === 'Pods' ? start - policy.value : Math.floor((start * (100 - policy.value)) / 100)
  })
  return Math.max(0, rules.selectPolicy === 'Min' ? Math.max(...bounds) : Math.min(...bounds))
}
