import {
  ApiError,
  groupVersion,
  type PodMetrics,
  podMetricsKind,
  renderQuantity,
  type Scale,
} from '../../../api/index.ts'
import {
  type EventRecorder,
  type Informer,
  isConflict,
  type KindRef,
  type ReconcileResult,
} from '../../../client/index.ts'
import { semanticEqual, timestamp, withCondition } from '../../conditions.ts'
import { type ControllerContext, QueueController } from '../../controller.ts'
import {
  type CustomResourceDefinition,
  customResourceDefinitionKind,
  type HorizontalPodAutoscaler,
  horizontalPodAutoscalerKind,
  type HorizontalPodAutoscalerStatus,
  type MetricSpec,
  type MetricStatus,
  type Pod,
  podKind,
} from '../../kinds.ts'
import { AUTOSCALE_EVERY_MS } from '../../limits.ts'
import { messageOf, writeStatus } from '../../writes.ts'
import { type Memory, planBehavior, toleranceOf } from './behavior.ts'
import { type MetricProposal, planReplicas, sourceOf } from './replicas.ts'

type Target = { kind: KindRef; name: string; namespace: string }
type Condition = { type: string; status: 'True' | 'False'; reason: string; message: string }
/** What a look at one autoscaler comes to. */
type Outcome = {
  conditions: Condition[]
  currentReplicas?: number
  desiredReplicas?: number
  metrics?: MetricStatus[]
  rescaled?: true
  /** What pods use does not matter to it. */
  unmeasured?: true
}

/** Looks every quarter of a minute at what the pods of an autoscaler's target use, and changes how many there are. */
export class AutoscalerController extends QueueController {
  private readonly autoscalers: Informer<HorizontalPodAutoscaler>
  private readonly definitions: Informer<CustomResourceDefinition>
  private readonly pods: Informer<Pod>
  private readonly events: EventRecorder
  private readonly builtIn: readonly KindRef[]
  /** By uid. */
  private readonly memories = new Map<string, Memory>()

  constructor(context: ControllerContext, { builtIn }: { builtIn: readonly KindRef[] }) {
    super('horizontalpodautoscaler', context)
    this.builtIn = builtIn
    this.events = context.events('horizontal-pod-autoscaler')
    this.autoscalers = this.follow(horizontalPodAutoscalerKind, ({ key, old, object }) => {
      if (!object && old) this.memories.delete(old.metadata.uid)
      // Its own writing of the status is no reason to look again before the time.
      return object && old && old.metadata.generation === object.metadata.generation ? [] : [key]
    })
    this.definitions = context.informers.of(customResourceDefinitionKind)
    this.pods = context.informers.of(podKind)
  }

  protected async reconcile(key: string): Promise<ReconcileResult> {
    const autoscaler = this.autoscalers.get(key)
    if (!autoscaler || autoscaler.metadata.deletionTimestamp) return undefined
    const outcome = await this.look(autoscaler)
    await this.write(this.autoscalers.get(key) ?? autoscaler, outcome)
    // Without pods there is nothing to measure, and whoever gives the target some asks the API, which wakes who sleeps.
    return { requeueAfterMs: AUTOSCALE_EVERY_MS, patient: outcome.unmeasured ?? false }
  }

  private async look(autoscaler: HorizontalPodAutoscaler): Promise<Outcome> {
    const target = this.targetOf(autoscaler)
    let scale: Scale
    try {
      if (!target)
        throw new ApiError('NotFound', `no matches for kind "${autoscaler.spec.scaleTargetRef.kind}"`)
      scale = await this.context.client.get(target.kind as KindRef<Scale>, target, { subresource: 'scale' })
    } catch (error) {
      const message = messageOf(error)
      this.warn(autoscaler, 'FailedGetScale', message)
      return {
        conditions: [
          able(
            'False',
            'FailedGetScale',
            `the HPA controller was unable to get the target's current scale: ${message}`,
          ),
        ],
      }
    }
    const got = able(
      'True',
      'SucceededGetScale',
      "the HPA controller was able to get the target's current scale",
    )
    const current = scale.spec?.replicas ?? 0
    const seen = { currentReplicas: scale.status?.replicas ?? 0 }
    const { minReplicas = 1, maxReplicas } = autoscaler.spec
    if (current === 0)
      return {
        ...seen,
        unmeasured: true,
        desiredReplicas: 0,
        conditions: [
          got,
          active(
            'False',
            'ScalingDisabled',
            'scaling is disabled since the replica count of the target is zero',
          ),
        ],
      }
    if (current > maxReplicas || current < minReplicas) {
      const wanted = current > maxReplicas ? maxReplicas : minReplicas
      const reason =
        current > maxReplicas
          ? 'Current number of replicas above Spec.MaxReplicas'
          : 'Current number of replicas below Spec.MinReplicas'
      return {
        ...seen,
        ...(await this.rescale(autoscaler, target, { current, wanted, reason, before: [got] })),
      }
    }
    const measured = await this.measure(autoscaler, scale, current)
    if ('failure' in measured) {
      const { reason, message } = measured.failure
      this.warn(autoscaler, reason, message)
      this.warn(
        autoscaler,
        'FailedComputeMetricsReplicas',
        `invalid metrics (${measured.invalid} invalid out of ${measured.of}), first error is: ${message}`,
      )
      return {
        ...seen,
        metrics: measured.metrics,
        desiredReplicas: autoscaler.status?.desiredReplicas ?? current,
        conditions: [got, active('False', reason, message)],
      }
    }
    const memory = this.memoryOf(autoscaler)
    const decision = planBehavior(autoscaler, {
      current,
      wanted: measured.replicas,
      memory,
      nowMs: this.context.clock.nowMs(),
    })
    const before = [
      able('True', decision.able.reason, decision.able.message),
      active(
        'True',
        'ValidMetricFound',
        `the HPA was able to successfully calculate a replica count from ${measured.by}`,
      ),
      { type: 'ScalingLimited', ...decision.limited },
    ]
    const more = { ...seen, metrics: measured.metrics }
    if (decision.replicas === current) return { ...more, desiredReplicas: current, conditions: before }
    const reason = decision.replicas > current ? `${measured.by} above target` : 'All metrics below target'
    return {
      ...more,
      ...(await this.rescale(autoscaler, target, { current, wanted: decision.replicas, reason, before })),
    }
  }

  /** The largest number that a metric asks for. Fewer pods only when all of them are known. */
  private async measure(autoscaler: HorizontalPodAutoscaler, scale: Scale, current: number) {
    const { namespace = '' } = autoscaler.metadata
    const { metrics: specs = [] } = autoscaler.spec
    const selector = scale.status?.selector ?? ''
    const invalid = (reason: string, message: string, metrics: MetricStatus[], count: number) => ({
      failure: { reason, message },
      metrics,
      invalid: count,
      of: specs.length,
    })
    if (selector === '')
      return invalid('InvalidSelector', "the HPA target's scale is missing a selector", [], specs.length)
    const { client, clock } = this.context
    const listed = await client.list(podKind, { namespace, labelSelector: selector })
    let measured: readonly PodMetrics[]
    try {
      measured = (await client.list(podMetricsKind, { namespace, labelSelector: selector })).items
    } catch (error) {
      const message = `the HPA was unable to compute the replica count: unable to fetch metrics from resource metrics API: ${messageOf(error)}`
      return invalid('FailedGetResourceMetric', message, [], specs.length)
    }
    const usage = new Map(measured.map((each) => [each.metadata.name, each]))
    const tolerance = toleranceOf(autoscaler)
    const statuses: MetricStatus[] = []
    let best: { replicas: number; by: string } | undefined
    let failed: { reason: string; message: string } | undefined
    let failures = 0
    for (const metric of specs) {
      const proposed = planReplicas({
        metric,
        pods: listed.items,
        usage,
        currentReplicas: current,
        statusReplicas: scale.status?.replicas ?? current,
        tolerance,
        nowMs: clock.nowMs(),
      })
      if ('failure' in proposed) {
        failures++
        const reason = metric.containerResource
          ? 'FailedGetContainerResourceMetric'
          : 'FailedGetResourceMetric'
        failed ??= {
          reason,
          message: `the HPA was unable to compute the replica count: ${proposed.failure}`,
        }
        continue
      }
      statuses.push(statusOf(metric, proposed))
      if (!best || proposed.replicas > best.replicas)
        best = { replicas: proposed.replicas, by: nameOf(metric, proposed) }
    }
    if (!best || (failed && best.replicas < current))
      return invalid(
        failed?.reason ?? 'FailedGetResourceMetric',
        failed?.message ?? 'there are no metrics',
        statuses,
        failures,
      )
    return { ...best, metrics: statuses }
  }

  private async rescale(
    autoscaler: HorizontalPodAutoscaler,
    target: Target | undefined,
    {
      current,
      wanted,
      reason,
      before,
    }: { current: number; wanted: number; reason: string; before: Condition[] },
  ): Promise<Outcome> {
    if (!target) return { conditions: before }
    try {
      await this.context.client.patch(
        target.kind,
        { namespace: target.namespace, name: target.name },
        { spec: { replicas: wanted } },
        { type: 'application/merge-patch+json', subresource: 'scale' },
      )
    } catch (error) {
      if (isConflict(error)) throw error
      const message = messageOf(error)
      this.warn(autoscaler, 'FailedRescale', `New size: ${wanted}; reason: ${reason}; error: ${message}`)
      return {
        desiredReplicas: current,
        conditions: [
          ...before.filter(({ type }) => type !== 'AbleToScale'),
          able(
            'False',
            'FailedUpdateScale',
            `the HPA controller was unable to update the target scale: ${message}`,
          ),
        ],
      }
    }
    this.memoryOf(autoscaler).changes.push({ atMs: this.context.clock.nowMs(), by: wanted - current })
    this.events.record(autoscaler, {
      type: 'Normal',
      reason: 'SuccessfulRescale',
      message: `New size: ${wanted}; reason: ${reason}`,
    })
    return {
      desiredReplicas: wanted,
      rescaled: true,
      conditions: [
        ...before.filter(({ type }) => type !== 'AbleToScale'),
        able(
          'True',
          'SucceededRescale',
          `the HPA controller was able to update the target scale to ${wanted}`,
        ),
      ],
    }
  }

  private async write(autoscaler: HorizontalPodAutoscaler, outcome: Outcome): Promise<void> {
    const nowMs = this.context.clock.nowMs()
    const before = autoscaler.status
    let conditions = before?.conditions
    for (const condition of outcome.conditions) conditions = withCondition(conditions, condition, nowMs)
    const currentReplicas = outcome.currentReplicas ?? before?.currentReplicas
    const currentMetrics = outcome.metrics ?? before?.currentMetrics
    const lastScaleTime = outcome.rescaled ? timestamp(nowMs) : before?.lastScaleTime
    const observedGeneration = autoscaler.metadata.generation
    const status: HorizontalPodAutoscalerStatus = {
      desiredReplicas: outcome.desiredReplicas ?? before?.desiredReplicas ?? 0,
      ...(conditions ? { conditions } : {}),
      ...(currentReplicas === undefined ? {} : { currentReplicas }),
      ...(currentMetrics ? { currentMetrics } : {}),
      ...(lastScaleTime === undefined ? {} : { lastScaleTime }),
      ...(observedGeneration === undefined ? {} : { observedGeneration }),
    }
    if (!semanticEqual(status, before))
      await writeStatus(this.context.client, horizontalPodAutoscalerKind, autoscaler, status)
  }

  private targetOf({ metadata, spec }: HorizontalPodAutoscaler): Target | undefined {
    const { apiVersion = 'v1', kind, name } = spec.scaleTargetRef
    const { namespace = '' } = metadata
    const builtIn = this.builtIn.find((each) => each.kind === kind && groupVersion(each) === apiVersion)
    if (builtIn) return builtIn.namespaced ? { kind: builtIn, name, namespace } : undefined
    const [group = '', version = ''] = apiVersion.split('/', 2)
    const definition = this.definitions
      .list()
      .find((each) => each.spec.group === group && each.spec.names.kind === kind)
    if (definition?.spec.scope !== 'Namespaced') return undefined
    const found = { group, version, kind, plural: definition.spec.names.plural, namespaced: true }
    return { kind: found, name, namespace }
  }

  private memoryOf({ metadata: { uid } }: HorizontalPodAutoscaler): Memory {
    const known = this.memories.get(uid) ?? { recommendations: [], changes: [] }
    this.memories.set(uid, known)
    return known
  }

  private warn(autoscaler: HorizontalPodAutoscaler, reason: string, message: string): void {
    this.events.record(autoscaler, { type: 'Warning', reason, message })
  }
}

function able(status: Condition['status'], reason: string, message: string): Condition {
  return { type: 'AbleToScale', status, reason, message }
}

function active(status: Condition['status'], reason: string, message: string): Condition {
  return { type: 'ScalingActive', status, reason, message }
}

function nameOf(metric: MetricSpec, { averageUtilization }: MetricProposal): string {
  const source = sourceOf(metric)
  const resource = `${source?.resource ?? ''} ${source?.container === undefined ? '' : 'container '}resource`
  return averageUtilization === undefined ? resource : `${resource} utilization (percentage of request)`
}

function statusOf(metric: MetricSpec, { averageUtilization, averageNanos }: MetricProposal): MetricStatus {
  const isMemory = sourceOf(metric)?.resource === 'memory'
  // Bytes have no fractions, and millicores are what people read.
  const unit = isMemory ? 1_000_000_000n : 1_000_000n
  const current = {
    averageValue: renderQuantity({
      nanos: (averageNanos / unit) * unit,
      notation: isMemory ? 'binary' : 'decimal',
    }),
    ...(averageUtilization === undefined ? {} : { averageUtilization }),
  }
  return metric.containerResource
    ? {
        type: metric.type,
        containerResource: {
          name: metric.containerResource.name,
          container: metric.containerResource.container,
          current,
        },
      }
    : { type: metric.type, resource: { name: metric.resource?.name ?? '', current } }
}
