import type { KubeObject } from '../meta.ts'
import { ageColumn, nameColumn } from './columns.ts'
import { defineKind, type TypedKind } from './define-kind.ts'
import { objectFields } from './meta.ts'
import { dnsSubdomainProblem } from './names.ts'
import {
  list,
  map,
  object,
  optional,
  quantity,
  required,
  string,
  time,
  type TypeOf,
} from './schema-builders.ts'

/** What pods use now. Never stored: the machine is asked when somebody wants to know. */

const METRICS = 'io.k8s.metrics.pkg.apis.metrics.v1beta1'
const GROUP = 'metrics.k8s.io'

const measured = {
  ...objectFields,
  timestamp: required(time, 'When it was measured.'),
  window: required(string, 'For cpu, the time that it is an average of.'),
} as const
const usage = map(quantity)

export const podMetricsSchema = object(`${METRICS}.PodMetrics`, 'What the containers of a pod use.', {
  ...measured,
  containers: required(
    list(
      object(`${METRICS}.ContainerMetrics`, 'What one container uses.', {
        name: required(string, 'Which container.'),
        usage: required(usage, 'cpu in cores, memory in bytes that cannot be reclaimed at once.'),
      }),
    ),
    'Containers that run.',
  ),
})
export const nodeMetricsSchema = object(
  `${METRICS}.NodeMetrics`,
  'What all pods of the tenant use together. Nothing of other tenants is in it.',
  { ...measured, usage: optional(usage, 'cpu in cores, memory in bytes.') },
)
export type PodMetrics = KubeObject & { apiVersion: 'metrics.k8s.io/v1beta1'; kind: 'PodMetrics' } & Pick<
    TypeOf<typeof podMetricsSchema>,
    'timestamp' | 'window' | 'containers'
  >
export type NodeMetrics = KubeObject & { apiVersion: 'metrics.k8s.io/v1beta1'; kind: 'NodeMetrics' } & Pick<
    TypeOf<typeof nodeMetricsSchema>,
    'timestamp' | 'window' | 'usage'
  >
export const podMetricsKind: TypedKind<PodMetrics> = {
  group: GROUP,
  version: 'v1beta1',
  kind: 'PodMetrics',
  plural: 'pods',
  namespaced: true,
}
export const nodeMetricsKind: TypedKind<NodeMetrics> = {
  group: GROUP,
  version: 'v1beta1',
  kind: 'NodeMetrics',
  plural: 'nodes',
  namespaced: false,
}

const readOnly = {
  verbs: ['get', 'list'],
  measured: true,
  nameProblem: dnsSubdomainProblem,
  columns: [nameColumn, ageColumn],
} as const

export const podMetricsDefinition = defineKind(podMetricsKind, {
  ...readOnly,
  singular: 'pod',
  schema: podMetricsSchema,
})
export const nodeMetricsDefinition = defineKind(nodeMetricsKind, {
  ...readOnly,
  singular: 'node',
  schema: nodeMetricsSchema,
})
