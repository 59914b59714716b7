import {
  ApiError,
  forbidden,
  type KubeObject,
  matchesLabelSelector,
  type Pod,
  type PodDisruptionBudget,
  podDisruptionBudgetKind,
} from '../api/index.ts'
import { RevisionConflict, type StoredObject } from '../store/index.ts'
import { type Context, keyPrefix, renderTime } from './context.ts'
import { cloneJson } from './json.ts'
import { DISRUPTED_PODS_MAX, EVICTION_RETRY_SECONDS, WRITE_ATTEMPTS_MAX } from './limits.ts'
import { writeStored } from './storing.ts'

const BUDGETS = { group: podDisruptionBudgetKind.group, resource: podDisruptionBudgetKind.plural }

/**
 * Takes one eviction of the pod from the budget that is about it, durably, before the pod goes: two evictions at the same
 * time cannot both have the last one.
 * @throws {ApiError} TooManyRequests when the budget does not allow it.
 */
export async function takeDisruption(
  context: Context,
  pod: KubeObject,
  { dryRun }: { dryRun: boolean },
): Promise<void> {
  const { phase, conditions } = (pod as Pod).status ?? {}
  // Nobody is served by a pod that has not begun, has ended or is ending.
  if (phase !== 'Running' || pod.metadata.deletionTimestamp !== undefined) return
  const isReady = conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false
  for (let attempt = 1; ; attempt++) {
    const stored = budgetOf(context, pod)
    if (!stored) return
    const budget = stored.object as PodDisruptionBudget // it was found among the budgets
    if (!isReady && ignoresUnhealthy(budget)) return
    const taken = taking(budget, pod.metadata.name, context.clock.nowMs())
    if (dryRun) return
    const definition = context.registry.find(BUDGETS)
    if (!definition) return
    try {
      await writeStored(context, definition, taken, stored)
      return
    } catch (error) {
      if (!(error instanceof RevisionConflict) || attempt >= WRITE_ATTEMPTS_MAX) throw error
      await context.store.settled(stored.key)
    }
  }
}

/** @throws {ApiError} Conflict when there is more than one; it would be arbitrary which one counts. */
function budgetOf({ store }: Context, pod: KubeObject): StoredObject | undefined {
  const { namespace, name, labels } = pod.metadata
  const found = store.list(keyPrefix(BUDGETS, namespace)).items.filter(({ object }) => {
    const { selector } = (object as PodDisruptionBudget).spec
    return selector !== undefined && matchesLabelSelector(selector, labels)
  })
  if (found.length > 1)
    throw new ApiError(
      'Conflict',
      'This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.',
      { details: { name, kind: 'pods' } },
    )
  return found[0]
}

function ignoresUnhealthy({ spec, status = {} }: PodDisruptionBudget): boolean {
  if (spec.unhealthyPodEvictionPolicy === 'AlwaysAllow') return true
  const { currentHealthy = 0, desiredHealthy = 0 } = status
  return desiredHealthy > 0 && currentHealthy >= desiredHealthy
}

/** The budget with one eviction less. */
function taking(budget: PodDisruptionBudget, pod: string, nowMs: number): PodDisruptionBudget {
  const { status = {}, metadata } = budget
  const { name, generation = 0 } = metadata
  const ref = { group: BUDGETS.group, resource: BUDGETS.resource, name }
  if ((status.observedGeneration ?? 0) < generation)
    throw refusal(
      `The disruption budget ${name} is still being processed by the server.`,
      EVICTION_RETRY_SECONDS,
    )
  const allowed = status.disruptionsAllowed ?? 0
  if (allowed < 0) throw forbidden(ref, { tell: 'pdb disruptions allowed is negative' })
  const disruptedPods = status.disruptedPods ?? {}
  if (Object.keys(disruptedPods).length > DISRUPTED_PODS_MAX)
    throw forbidden(ref, {
      tell: 'DisruptedPods map too big - too many evictions not confirmed by PDB controller',
    })
  const failed = status.conditions?.find(
    ({ type, reason }) => type === 'DisruptionAllowed' && reason === 'SyncFailed',
  )
  if (failed)
    throw refusal(
      `The disruption budget ${name} does not allow evicting pods currently because it failed sync: ${failed.message}`,
    )
  if (allowed === 0)
    throw refusal(
      `The disruption budget ${name} needs ${status.desiredHealthy ?? 0} healthy pods and has ${status.currentHealthy ?? 0} currently`,
    )
  const now = renderTime(nowMs)
  return {
    // What is stored is never changed in place, and the store fills the new version in.
    ...cloneJson(budget),
    status: {
      ...status,
      disruptionsAllowed: allowed - 1,
      disruptedPods: { ...disruptedPods, [pod]: now },
      ...(allowed === 1 && status.conditions
        ? { conditions: status.conditions.map((condition) => withdrawn(condition, now)) }
        : {}),
    },
  }
}

type BudgetCondition = NonNullable<NonNullable<PodDisruptionBudget['status']>['conditions']>[number]

function withdrawn(condition: BudgetCondition, now: string): BudgetCondition {
  return condition.type === 'DisruptionAllowed'
    ? { ...condition, status: 'False', reason: 'InsufficientPods', lastTransitionTime: now }
    : condition
}

function refusal(why: string, retryAfterSeconds?: number): ApiError {
  return new ApiError(
    'TooManyRequests',
    "Cannot evict pod as it would violate the pod's disruption budget.",
    {
      details: {
        causes: [{ reason: 'DisruptionBudget', message: why }],
        ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
      },
    },
  )
}
