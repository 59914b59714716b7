import {
  ApiError,
  egressKind,
  type KindDefinition,
  type KubeObject,
  nodeKind,
  notFound,
  type NodeMetrics,
  nodeMetricsKind,
  type Pod,
  type PodMetrics,
  podKind,
  renderQuantity,
  VIRTUAL_NODE_NAME,
} from '../api/index.ts'
import type { ContainerUsage, JailUsage } from '../jail/index.ts'
import { type Context, keyPrefix, renderTime } from './context.ts'
import { MEASURE_AGAIN_AFTER_MS, MEASURE_FRESH_MS, MEASURE_STALE_MS } from './limits.ts'
import { allEgress } from './egress-view.ts'
import type { ListOptions } from './options.ts'
import type { ListPage } from './read.ts'
import type { Target } from './request.ts'
import { parseSelection } from './selection.ts'

type Rate = { name: string; cpuNanosPerSecond: number; memoryBytes: number }
type Measured = { atMs: number; windowMs: number; containers: readonly Rate[] }

/**
 * What the tenant's pods use, for metrics.k8s.io. Nothing is measured while nobody asks: cpu needs two readings, and when
 * the one before is missing or old, the second is taken a moment after the first.
 */
export class Measurements {
  private last: { atMs: number; readings: Map<string, JailUsage> } | undefined
  private latest: { atMs: number; pods: ReadonlyMap<string, Measured> } | undefined
  private measuring: Promise<ReadonlyMap<string, Measured>> | undefined

  /** By uid of the pod. One measurement at a time, however many ask. */
  async read(context: Context): Promise<ReadonlyMap<string, Measured>> {
    const { latest } = this
    if (latest && context.clock.nowMs() - latest.atMs < MEASURE_FRESH_MS) return latest.pods
    this.measuring ??= this.measure(context).finally(() => {
      this.measuring = undefined
    })
    return this.measuring
  }

  private async measure({ engine, clock }: Context): Promise<ReadonlyMap<string, Measured>> {
    if (!engine) return new Map()
    let before = this.last
    if (before && clock.nowMs() - before.atMs > MEASURE_STALE_MS) before = undefined
    let now = await engine.usage()
    if (now.some((usage) => !isComparable(before?.readings.get(usage.id), usage))) {
      // Pods are new, or nobody has asked for long: an average over a moment is better than none.
      const first = new Map(
        now.map((usage) => {
          const old = before?.readings.get(usage.id)
          return [usage.id, old && isComparable(old, usage) ? old : usage]
        }),
      )
      const { promise, resolve } = Promise.withResolvers<void>()
      clock.after(MEASURE_AGAIN_AFTER_MS, resolve)
      await promise
      now = await engine.usage()
      before = { atMs: clock.nowMs(), readings: first }
    }
    const pods = new Map<string, Measured>()
    for (const usage of now) {
      const old = before?.readings.get(usage.id)
      const measured = old && measuredBetween(old, usage)
      if (measured) pods.set(usage.id, measured)
    }
    const atMs = clock.nowMs()
    this.last = { atMs, readings: new Map(now.map((usage) => [usage.id, usage])) }
    this.latest = { atMs, pods }
    return pods
  }
}

function isComparable(old: JailUsage | undefined, now: JailUsage): boolean {
  return (
    old !== undefined &&
    old.atMs < now.atMs &&
    now.containers.every(({ run }) => old.containers.some((container) => container.run === run))
  )
}

function measuredBetween(old: JailUsage, now: JailUsage): Measured | undefined {
  const windowMs = now.atMs - old.atMs
  if (windowMs <= 0 || !isComparable(old, now) || now.containers.length === 0) return undefined
  const usedBefore = new Map(old.containers.map(({ run, cpuNanos }) => [run, cpuNanos]))
  const rate = ({ name, run, cpuNanos, workingSetBytes }: ContainerUsage): Rate => ({
    name,
    cpuNanosPerSecond: Math.max(
      0,
      Math.round(((cpuNanos - (usedBefore.get(run) ?? cpuNanos)) * 1_000) / windowMs),
    ),
    memoryBytes: workingSetBytes,
  })
  return { atMs: now.atMs, windowMs, containers: now.containers.map(rate) }
}

/** GET of one measured object. @throws {ApiError} NotFound, also for a pod that has not been measured yet. */
export async function getMeasured(
  context: Context,
  { definition, namespace, name }: Target,
): Promise<KubeObject> {
  const found = (await allMeasured(context, definition, namespace)).find(
    (object) => object.metadata.name === name,
  )
  if (!found) throw notFound({ group: definition.group, resource: definition.plural, name })
  return found
}

export async function listMeasured(
  context: Context,
  { definition, namespace }: Target,
  options: ListOptions,
): Promise<ListPage> {
  const selection = parseSelection(definition, options)
  if (options.continue !== '')
    throw new ApiError('BadRequest', 'measurements are listed as a whole; leave "continue" out')
  const items = (await allMeasured(context, definition, namespace)).filter((object) =>
    selection.matches(object),
  )
  return { items: items.map((object) => ({ object })), metadata: { resourceVersion: '' } }
}

async function allMeasured(
  context: Context,
  definition: KindDefinition,
  namespace: string | undefined,
): Promise<KubeObject[]> {
  if (definition.kind === egressKind.kind) return await allEgress(context, namespace)
  const measured = await context.measurements.read(context)
  return definition.kind === nodeMetricsKind.kind
    ? [nodeMetrics(context, [...measured.values()])]
    : podMetrics(context, namespace, measured)
}

function podMetrics(
  { store }: Context,
  namespace: string | undefined,
  measured: ReadonlyMap<string, Measured>,
): PodMetrics[] {
  const prefix = keyPrefix({ group: podKind.group, resource: podKind.plural }, namespace)
  return store.list(prefix).items.flatMap(({ object }) => {
    const { metadata, status } = object as Pod // of that kind
    const found = measured.get(metadata.uid)
    if (!found || status?.phase !== 'Running') return []
    return {
      kind: 'PodMetrics' as const,
      apiVersion: 'metrics.k8s.io/v1beta1' as const,
      metadata: {
        name: metadata.name,
        ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
        ...(metadata.labels ? { labels: metadata.labels } : {}),
        ...measuredAt(found),
      },
      ...window(found),
      containers: found.containers.map(({ name, ...rate }) => ({ name, usage: renderUsage(rate) })),
    } as unknown as PodMetrics // without the uid and version of what is stored
  })
}

function nodeMetrics({ clock, cluster }: Context, all: readonly Measured[]): NodeMetrics {
  const node = cluster.get({ group: nodeKind.group, resource: nodeKind.plural, name: VIRTUAL_NODE_NAME })
  const containers = all.flatMap((each) => each.containers)
  const newest = all.reduce<Omit<Measured, 'containers'>>((a, b) => (a.atMs > b.atMs ? a : b), {
    atMs: 0,
    windowMs: 0,
  })
  const at = newest.atMs === 0 ? { atMs: clock.nowMs(), windowMs: MEASURE_AGAIN_AFTER_MS } : newest
  return {
    kind: 'NodeMetrics',
    apiVersion: 'metrics.k8s.io/v1beta1',
    metadata: {
      name: VIRTUAL_NODE_NAME,
      ...(node?.metadata.labels ? { labels: node.metadata.labels } : {}),
      ...measuredAt(at),
    },
    ...window(at),
    usage: renderUsage({
      cpuNanosPerSecond: containers.reduce((sum, each) => sum + each.cpuNanosPerSecond, 0),
      memoryBytes: containers.reduce((sum, each) => sum + each.memoryBytes, 0),
    }),
  } as unknown as NodeMetrics // without the uid and version of what is stored
}

function measuredAt({ atMs }: { atMs: number }) {
  return { creationTimestamp: renderTime(atMs) }
}

function window({ atMs, windowMs }: { atMs: number; windowMs: number }) {
  return { timestamp: renderTime(atMs), window: `${(windowMs / 1_000).toFixed(3)}s` }
}

function renderUsage({ cpuNanosPerSecond, memoryBytes }: Omit<Rate, 'name'>) {
  return {
    cpu: renderQuantity({ nanos: BigInt(cpuNanosPerSecond), notation: 'decimal' }),
    memory: `${Math.floor(memoryBytes / 1_024)}Ki`,
  }
}
