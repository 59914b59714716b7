import type { KubeObject } from '../meta.ts'
import { parseQuantity } from '../quantity.ts'
import { ageColumn, column, nameColumn, renderDuration } from './columns.ts'
import { ALL_VERBS, defineKind, PROXY_VERBS, statusSubresource, type TypedKind } from './define-kind.ts'
import { dnsSubdomainProblem } from './names.ts'
import { applyPodDefaults } from './pod-defaults.ts'
import { validatePod } from './pod-rules.ts'
import { type ContainerStatus, podSchema, type PodSpec, type PodStatus } from './pod-schema.ts'
import { NO_SCTP } from './rules.ts'
import { evictionSchema } from './scale.ts'

export type Pod = KubeObject & { apiVersion: 'v1'; kind: 'Pod'; spec: PodSpec; status?: PodStatus }

export const podKind: TypedKind<Pod> = {
  group: '',
  version: 'v1',
  kind: 'Pod',
  plural: 'pods',
  namespaced: true,
}

export const podDefinition = defineKind(podKind, {
  singular: 'pod',
  shortNames: ['po'],
  categories: ['all'],
  verbs: ALL_VERBS,
  schema: podSchema,
  subresources: [
    { name: 'attach', verbs: ['connect'], kind: { group: '', version: 'v1', kind: 'PodAttachOptions' } },
    {
      name: 'eviction',
      verbs: ['create'],
      kind: { group: 'policy', version: 'v1', kind: 'Eviction' },
      schema: evictionSchema,
    },
    { name: 'exec', verbs: ['connect'], kind: { group: '', version: 'v1', kind: 'PodExecOptions' } },
    { name: 'log', verbs: ['get'] },
    {
      name: 'portforward',
      verbs: ['connect'],
      kind: { group: '', version: 'v1', kind: 'PodPortForwardOptions' },
    },
    { name: 'proxy', verbs: PROXY_VERBS, kind: { group: '', version: 'v1', kind: 'PodProxyOptions' } },
    statusSubresource,
  ],
  hasGeneration: true,
  filledIn: ['nodeName'],
  hasStatus: true,
  nameProblem: dnsSubdomainProblem,
  fieldSelectors: {
    'spec.nodeName': (pod) => pod.spec.nodeName ?? '',
    'spec.restartPolicy': (pod) => pod.spec.restartPolicy ?? '',
    'spec.schedulerName': (pod) => pod.spec.schedulerName ?? '',
    'spec.serviceAccountName': (pod) => pod.spec.serviceAccountName ?? '',
    'spec.hostNetwork': () => 'false',
    'status.phase': (pod) => pod.status?.phase ?? '',
    'status.podIP': (pod) => pod.status?.podIP ?? '',
    'status.nominatedNodeName': (pod) => pod.status?.nominatedNodeName ?? '',
  },
  columns: [
    nameColumn,
    column('Ready', 'Ready containers of all.', (pod) => renderReady(pod)),
    column('Status', 'How it is, in a word.', renderPodStatus),
    column('Restarts', 'How often containers were restarted, and when last.', renderRestarts),
    ageColumn,
    column('IP', 'Its address in the tenant’s network.', (pod) => pod.status?.podIP || '<none>', {
      priority: 1,
    }),
    column('Node', 'Where it runs.', (pod) => pod.spec.nodeName || '<none>', { priority: 1 }),
    column(
      'Nominated Node',
      'Where it will run once others have gone.',
      (pod) => pod.status?.nominatedNodeName || '<none>',
      {
        priority: 1,
      },
    ),
    column('Readiness Gates', 'There are none here.', () => '<none>', { priority: 1 }),
  ],
  applyDefaults: applyPodDefaults,
  validate: validatePod,
  warnings: ({ spec }) =>
    spec.containers.flatMap(({ ports = [] }, container) =>
      ports.flatMap(({ protocol }, at) =>
        protocol === 'SCTP' ? [`spec.containers[${container}].ports[${at}].protocol: ${NO_SCTP}`] : [],
      ),
    ),
  prepareForCreate: (pod) => ({
    ...pod,
    status: { phase: 'Pending' as const, qosClass: qosClass(pod.spec) },
  }),
  prepareForUpdate: (pod, old, { subresource }) =>
    // The class follows from the spec and never changes; a status that leaves it out means no harm.
    subresource === 'status' && old.status?.qosClass
      ? { ...pod, status: { ...pod.status, qosClass: old.status.qosClass } }
      : pod,
  gracePeriodSeconds: (pod) => pod.spec.terminationGracePeriodSeconds ?? 30,
})

/** How strongly a pod's resources are promised to it. https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/ */
export function qosClass(spec: PodSpec): 'Guaranteed' | 'Burstable' | 'BestEffort' {
  const containers = [...(spec.initContainers ?? []), ...(spec.containers ?? [])]
  const amount = (amounts: Readonly<Record<string, string>> | undefined, resource: string) => {
    const text = amounts?.[resource]
    return text === undefined ? 0n : parseQuantity(text).nanos
  }
  const each = containers.flatMap(({ resources }) =>
    ['cpu', 'memory'].map((resource) => ({
      limit: amount(resources?.limits, resource),
      request: amount(resources?.requests, resource) || amount(resources?.limits, resource),
    })),
  )
  if (each.every(({ limit, request }) => limit === 0n && request === 0n)) return 'BestEffort'
  return each.every(({ limit, request }) => limit > 0n && limit === request) ? 'Guaranteed' : 'Burstable'
}

function isSidecar(pod: Pod, name: string): boolean {
  return pod.spec.initContainers?.some((c) => c.name === name && c.restartPolicy === 'Always') ?? false
}

function renderReady(pod: Pod): string {
  const sidecars = (pod.spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always')
  const statuses = [
    ...(pod.status?.containerStatuses ?? []),
    ...(pod.status?.initContainerStatuses ?? []).filter((status) => isSidecar(pod, status.name)),
  ]
  const ready = statuses.filter((status) => status.ready && status.state?.running).length
  return `${ready}/${pod.spec.containers.length + sidecars.length}`
}

/** One word for a pod: what its init containers do, else its last container with something to tell, else its phase. */
export function renderPodStatus(pod: Pod): string {
  const { status } = pod
  let reason: string = status?.reason || status?.phase || 'Unknown'
  const initReason = initializingReason(pod)
  if (initReason) reason = initReason
  if (!initReason || isInitialized(pod)) {
    let running = false
    for (const container of [...(status?.containerStatuses ?? [])].reverse()) {
      const { waiting, terminated } = container.state ?? {}
      if (waiting?.reason) reason = waiting.reason
      else if (terminated) reason = terminated.reason || exitReason(terminated)
      else if (container.ready && container.state?.running) running = true
    }
    if (reason === 'Completed' && running)
      reason = status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True')
        ? 'Running'
        : 'NotReady'
  }
  if (pod.metadata.deletionTimestamp) {
    if (status?.reason === 'NodeLost') return 'Unknown'
    if (status?.phase !== 'Succeeded' && status?.phase !== 'Failed') return 'Terminating'
  }
  return reason
}

function isInitialized(pod: Pod): boolean {
  return pod.status?.conditions?.some((c) => c.type === 'Initialized' && c.status === 'True') ?? false
}

function exitReason({ signal, exitCode }: { signal?: number; exitCode: number }): string {
  return signal ? `Signal:${signal}` : `ExitCode:${exitCode}`
}

function initializingReason(pod: Pod): string | undefined {
  const statuses = pod.status?.initContainerStatuses ?? []
  for (const [index, container] of statuses.entries()) {
    const { waiting, terminated } = container.state ?? {}
    if (terminated?.exitCode === 0) continue
    if (isSidecar(pod, container.name) && container.started) continue
    if (terminated) return `Init:${terminated.reason || exitReason(terminated)}`
    if (waiting?.reason && waiting.reason !== 'PodInitializing') return `Init:${waiting.reason}`
    return `Init:${index}/${pod.spec.initContainers?.length ?? statuses.length}`
  }
  return undefined
}

function renderRestarts(pod: Pod, nowMs: number): string {
  const initializing = initializingReason(pod) !== undefined && !isInitialized(pod)
  const inits = pod.status?.initContainerStatuses ?? []
  const counted: readonly ContainerStatus[] = initializing
    ? inits
    : [...(pod.status?.containerStatuses ?? []), ...inits.filter((status) => isSidecar(pod, status.name))]
  let restarts = 0
  let lastMs = 0
  for (const { restartCount, lastState } of counted) {
    restarts += restartCount
    const finishedMs = lastState?.terminated?.finishedAt ? Date.parse(lastState.terminated.finishedAt) : 0
    if (finishedMs > lastMs) lastMs = finishedMs
  }
  return restarts > 0 && lastMs > 0 ? `${restarts} (${renderDuration(nowMs - lastMs)} ago)` : String(restarts)
}
