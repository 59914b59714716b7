import type { KubeObject } from '../meta.ts'
import { ageColumn, column, nameColumn } from './columns.ts'
import { ALL_VERBS, defineKind, statusSubresource, type TypedKind } from './define-kind.ts'
import { validateAutoscaler } from './horizontal-pod-autoscaler-rules.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import {
  int32,
  int64,
  list,
  listByKey,
  object,
  oneOf,
  optional,
  quantity,
  required,
  string,
  time,
  type TypeOf,
} from './schema-builders.ts'

const V1 = 'io.k8s.api.autoscaling.v1'
const V2 = 'io.k8s.api.autoscaling.v2'

const targetRefFields = {
  apiVersion: optional(string, 'Its group and version.'),
  kind: required(string, 'Its kind.'),
  name: required(string, 'Its name.'),
} as const
const targetRef = object(`${V2}.CrossVersionObjectReference`, 'What is scaled.', targetRefFields)

const metricTarget = object(`${V2}.MetricTarget`, 'What the metric shall be.', {
  averageUtilization: optional(int32, 'Percent of what the pods request, on average.'),
  averageValue: optional(quantity, 'Amount per pod, on average.'),
  type: required(oneOf('Utilization', 'AverageValue'), 'Which of the two.'),
})
const metricSpec = object(`${V2}.MetricSpec`, 'A metric to follow.', {
  containerResource: optional(
    object(`${V2}.ContainerResourceMetricSource`, 'What one container of each pod uses.', {
      container: required(string, 'The container.'),
      name: required(string, 'cpu or memory.'),
      target: required(metricTarget, 'What it shall be.'),
    }),
    'For type ContainerResource.',
  ),
  resource: optional(
    object(`${V2}.ResourceMetricSource`, 'What the pods use.', {
      name: required(string, 'cpu or memory.'),
      target: required(metricTarget, 'What it shall be.'),
    }),
    'For type Resource.',
  ),
  type: required(oneOf('Resource', 'ContainerResource'), 'Which of the two.'),
})
const scalingRules = object(`${V2}.HPAScalingRules`, 'How fast the number of pods may change.', {
  policies: optional(
    list(
      object(`${V2}.HPAScalingPolicy`, 'At most so much in so many seconds.', {
        periodSeconds: required(int32, '1 to 1800.'),
        type: required(string, 'Pods or Percent.'),
        value: required(int32, 'How many, or how many percent.'),
      }),
    ),
    'Bounds, of which one counts.',
  ),
  selectPolicy: optional(string, 'Max: the bound that lets most change counts; Min; Disabled: no change.'),
  stabilizationWindowSeconds: optional(int32, 'The most cautious number of these seconds counts; 0 to 3600.'),
  tolerance: optional(quantity, 'So far from the target nothing changes; 0.1 when absent.'),
})
const metricValue = object(`${V2}.MetricValueStatus`, 'What a metric is.', {
  averageUtilization: optional(int32, 'Percent of what the pods request.'),
  averageValue: optional(quantity, 'Amount per pod.'),
  value: optional(quantity, 'Amount.'),
})
const metricStatus = object(`${V2}.MetricStatus`, 'A metric as it is.', {
  containerResource: optional(
    object(`${V2}.ContainerResourceMetricStatus`, 'What one container of each pod uses.', {
      container: required(string, 'The container.'),
      current: required(metricValue, 'How much.'),
      name: required(string, 'cpu or memory.'),
    }),
    'Of type ContainerResource.',
  ),
  resource: optional(
    object(`${V2}.ResourceMetricStatus`, 'What the pods use.', {
      current: required(metricValue, 'How much.'),
      name: required(string, 'cpu or memory.'),
    }),
    'Of type Resource.',
  ),
  type: required(string, 'Which of the two.'),
})
const condition = object(`${V2}.HorizontalPodAutoscalerCondition`, 'One thing known about it.', {
  lastTransitionTime: optional(time, 'When the status changed last.'),
  message: optional(string, 'A sentence for people.'),
  reason: optional(string, 'A word for programs.'),
  status: required(string, 'True, False or Unknown.'),
  type: required(string, 'AbleToScale, ScalingActive or ScalingLimited.'),
})

export const horizontalPodAutoscalerSchema = object(
  `${V2}.HorizontalPodAutoscaler`,
  'Changes the number of pods of a workload so that they use about as much as they shall.',
  {
    ...objectFields,
    spec: required(
      object(`${V2}.HorizontalPodAutoscalerSpec`, 'What is wanted.', {
        behavior: optional(
          object(`${V2}.HorizontalPodAutoscalerBehavior`, 'How fast.', {
            scaleDown: optional(scalingRules, 'Towards fewer pods.'),
            scaleUp: optional(scalingRules, 'Towards more pods.'),
          }),
          'How fast the number may change.',
        ),
        maxReplicas: required(int32, 'At most so many pods.'),
        metrics: optional(list(metricSpec), 'What to follow; 80 percent of the cpu requests when absent.'),
        minReplicas: optional(int32, 'At least so many pods.', { default: 1 }),
        scaleTargetRef: required(targetRef, 'What is scaled: anything with a scale sub-resource.'),
      }),
      'What is wanted.',
    ),
    status: optional(
      object(`${V2}.HorizontalPodAutoscalerStatus`, 'How it is.', {
        conditions: optional(
          listByKey(condition, ['type'], { patchMergeKey: 'type', patchStrategy: 'merge' }),
          'What is known about it.',
        ),
        currentMetrics: optional(list(metricStatus), 'The metrics as they are.'),
        currentReplicas: optional(int32, 'Pods that there are.'),
        desiredReplicas: required(int32, 'Pods that there shall be.'),
        lastScaleTime: optional(time, 'When the number was changed last.'),
        observedGeneration: optional(int64, 'The generation of spec that the status shows.'),
      }),
      'How it is. Kept by the platform.',
    ),
  },
)
type Fields = TypeOf<typeof horizontalPodAutoscalerSchema>
export type HorizontalPodAutoscaler = KubeObject & {
  apiVersion: 'autoscaling/v2'
  kind: 'HorizontalPodAutoscaler'
} & Pick<Fields, 'spec' | 'status'>
export type HorizontalPodAutoscalerStatus = NonNullable<Fields['status']>
export type MetricSpec = NonNullable<Fields['spec']['metrics']>[number]
export type MetricStatus = NonNullable<HorizontalPodAutoscalerStatus['currentMetrics']>[number]
export type HPAScalingRules = NonNullable<NonNullable<Fields['spec']['behavior']>['scaleUp']>

export const horizontalPodAutoscalerKind: TypedKind<HorizontalPodAutoscaler> = {
  group: 'autoscaling',
  version: 'v2',
  kind: 'HorizontalPodAutoscaler',
  plural: 'horizontalpodautoscalers',
  namespaced: true,
}

const CPU_UTILIZATION_DEFAULT = 80
const cpuMetric = (averageUtilization: number): MetricSpec => ({
  type: 'Resource',
  resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization } },
})

export const horizontalPodAutoscalerDefinition = defineKind(horizontalPodAutoscalerKind, {
  singular: 'horizontalpodautoscaler',
  shortNames: ['hpa'],
  categories: ['all'],
  verbs: ALL_VERBS,
  schema: horizontalPodAutoscalerSchema,
  subresources: [statusSubresource],
  hasGeneration: true,
  hasStatus: true,
  nameProblem: dnsSubdomainProblem,
  columns: [
    nameColumn,
    column(
      'Reference',
      'What is scaled.',
      ({
        spec: {
          scaleTargetRef: { kind, name },
        },
      }) => `${kind}/${name}`,
    ),
    column('Targets', 'What the metrics are, and shall be.', renderTargets),
    column('MinPods', 'At least so many.', ({ spec }) => String(spec.minReplicas ?? '<unset>')),
    column('MaxPods', 'At most so many.', ({ spec }) => spec.maxReplicas),
    column('Replicas', 'So many there are.', ({ status }) => status?.currentReplicas ?? 0),
    ageColumn,
  ],
  applyDefaults: (autoscaler) => {
    // Without a spec it is refused when it is validated, which comes after.
    if (autoscaler.spec && !autoscaler.spec.metrics?.length)
      autoscaler.spec.metrics = [cpuMetric(CPU_UTILIZATION_DEFAULT)]
    return autoscaler
  },
  validate: validateAutoscaler,
  prepareForCreate: (autoscaler) => ({ ...autoscaler, status: { desiredReplicas: 0 } }),
})

const TARGETS_SHOWN = 2

function renderTargets({ spec: { metrics = [] }, status }: HorizontalPodAutoscaler): string {
  if (metrics.length === 0) return '<none>'
  const shown = metrics.map((metric, index) => {
    const source = metric.resource ?? metric.containerResource
    const found = status?.currentMetrics?.[index]
    const current = (found?.resource ?? found?.containerResource)?.current
    const { averageValue, averageUtilization } = source?.target ?? {}
    return averageValue === undefined
      ? `${source?.name ?? ''}: ${current?.averageUtilization === undefined ? '<unknown>' : `${current.averageUtilization}%`}/${averageUtilization ?? 0}%`
      : `${source?.name ?? ''}: ${current?.averageValue ?? '<unknown>'}/${averageValue}`
  })
  const more = shown.length - TARGETS_SHOWN
  return more > 0 ? `${shown.slice(0, TARGETS_SHOWN).join(', ')} + ${more} more...` : shown.join(', ')
}

/** The older form, which knows cpu alone; `kubectl autoscale` sends it. */
export const oldAutoscalerSchema = object(
  `${V1}.HorizontalPodAutoscaler`,
  'The older form of autoscaling/v2, which knows cpu alone.',
  {
    ...objectFields,
    spec: required(
      object(`${V1}.HorizontalPodAutoscalerSpec`, 'What is wanted.', {
        maxReplicas: required(int32, 'At most so many pods.'),
        minReplicas: optional(int32, 'At least so many pods.', { default: 1 }),
        scaleTargetRef: required(
          object(`${V1}.CrossVersionObjectReference`, 'What is scaled.', targetRefFields, { atomic: true }),
          'What is scaled.',
        ),
        targetCPUUtilizationPercentage: optional(int32, 'Percent of what the pods request; 80 when absent.'),
      }),
      'What is wanted.',
    ),
    status: optional(
      object(`${V1}.HorizontalPodAutoscalerStatus`, 'How it is.', {
        currentCPUUtilizationPercentage: optional(int32, 'Percent of what the pods request.'),
        currentReplicas: required(int32, 'Pods that there are.'),
        desiredReplicas: required(int32, 'Pods that there shall be.'),
        lastScaleTime: optional(time, 'When the number was changed last.'),
        observedGeneration: optional(int64, 'The generation of spec that the status shows.'),
      }),
      'How it is.',
    ),
  },
)
type OldFields = TypeOf<typeof oldAutoscalerSchema>
type OldAutoscaler = KubeObject & { apiVersion: 'autoscaling/v1'; kind: 'HorizontalPodAutoscaler' } & Pick<
    OldFields,
    'spec' | 'status'
  >
const oldAutoscalerKind: TypedKind<OldAutoscaler> = {
  group: 'autoscaling',
  version: 'v1',
  kind: 'HorizontalPodAutoscaler',
  plural: 'horizontalpodautoscalers',
  namespaced: true,
}

const isCpu = ({ type, resource }: MetricSpec | MetricStatus): boolean =>
  type === 'Resource' && resource?.name === 'cpu'

function oldFormOf(stored: KubeObject): OldAutoscaler {
  const { spec, status, ...rest } = stored as HorizontalPodAutoscaler // what is stored under this resource
  const { behavior: _behavior, metrics = [], ...others } = spec
  const target = metrics
    .filter(isCpu)
    .map(targetOf)
    .find((each) => each !== undefined)
  const { conditions: _conditions, currentMetrics, ...otherStatus } = status ?? { desiredReplicas: 0 }
  const current = currentMetrics?.find(isCpu)?.resource?.current.averageUtilization
  return {
    ...rest,
    apiVersion: 'autoscaling/v1',
    kind: 'HorizontalPodAutoscaler',
    spec: { ...others, ...(target === undefined ? {} : { targetCPUUtilizationPercentage: target }) },
    status: {
      currentReplicas: 0,
      ...otherStatus,
      ...(current === undefined ? {} : { currentCPUUtilizationPercentage: current }),
    },
  }
}

/** `old` has what the older form cannot say: other metrics, behavior, conditions. */
function newFormOf(sent: KubeObject, old?: KubeObject): HorizontalPodAutoscaler {
  const { spec, status, ...rest } = sent as OldAutoscaler // it was checked by its schema
  const kept = old as HorizontalPodAutoscaler | undefined // what is stored under this resource
  const { targetCPUUtilizationPercentage: target, ...others } = spec ?? {}
  const { currentCPUUtilizationPercentage: _current, ...otherStatus } = status ?? { desiredReplicas: 0 }
  const { behavior, metrics = [] } = kept?.spec ?? {}
  const { conditions, currentMetrics } = kept?.status ?? {}
  return {
    ...rest,
    apiVersion: 'autoscaling/v2',
    kind: 'HorizontalPodAutoscaler',
    spec: { ...others, metrics: withTarget(metrics, target), ...(behavior ? { behavior } : {}) },
    status: {
      ...otherStatus,
      ...(conditions ? { conditions } : {}),
      ...(currentMetrics ? { currentMetrics } : {}),
    },
  } as HorizontalPodAutoscaler
}

/** The metrics with another target for cpu, which stands first when it is new. */
function withTarget(metrics: readonly MetricSpec[], target: number | undefined): MetricSpec[] {
  const at = metrics.findIndex((metric) => isCpu(metric) && targetOf(metric) !== undefined)
  const found = metrics[at]
  const others = metrics.filter((metric) => metric !== found)
  // Who names no metric at all means cpu.
  if (target === undefined) return others.length > 0 ? others : [cpuMetric(CPU_UTILIZATION_DEFAULT)]
  if (found && targetOf(found) === target) return [...metrics]
  return found ? metrics.with(at, cpuMetric(target)) : [cpuMetric(target), ...others]
}

function targetOf({ resource }: MetricSpec): number | undefined {
  return resource?.target.averageUtilization
}

/** Of what it cannot say, changes through it take nothing away. */
export const oldAutoscalerDefinition = defineKind(oldAutoscalerKind, {
  singular: 'horizontalpodautoscaler',
  shortNames: ['hpa'],
  categories: ['all'],
  verbs: ALL_VERBS,
  schema: oldAutoscalerSchema,
  subresources: [statusSubresource],
  nameProblem: dnsSubdomainProblem,
  hasGeneration: true,
  hasStatus: true,
  view: {
    of: { group: horizontalPodAutoscalerKind.group, resource: horizontalPodAutoscalerKind.plural },
    present: oldFormOf,
    store: newFormOf,
  },
  columns: horizontalPodAutoscalerDefinition.columns.map((each) => ({
    ...each,
    cell: (autoscaler: KubeObject, nowMs: number) => each.cell(newFormOf(autoscaler), nowMs),
  })),
  validate: (autoscaler, context, old) =>
    validateAutoscaler(newFormOf(autoscaler), context, old && newFormOf(old)),
  prepareForCreate: (autoscaler) => ({ ...autoscaler, status: { currentReplicas: 0, desiredReplicas: 0 } }),
})
