import type { JailContainerState, JailContainerStatus, JailStatus } from '../../jail/index.ts'
import { findCondition, semanticEqual, timestamp } from '../conditions.ts'
import type { Container, ContainerState, ContainerStatus, Pod, PodCondition, PodStatus } from '../kinds.ts'
import type { JailWaiting } from './plan-jail.ts'

/** What is known of a pod besides its object: how its jail is, or why there is none yet. */
export type Seen =
  | { jail: JailStatus; waiting?: undefined }
  | { jail?: undefined; waiting: Waiting | undefined }

export type Waiting = Pick<JailWaiting, 'reason' | 'message' | 'container'>

/** Reasons of pods that had to go for somebody else's sake, and upstream's names for them. */
const DISRUPTIONS: ReadonlyMap<string, string> = new Map([
  ['Evicted', 'TerminationByKubelet'],
  ['Preempted', 'PreemptionByScheduler'],
])

/** The status as it should be. Only what was seen is said; times of conditions move only with their status. Pure. */
export function planPodStatus(pod: Pod, seen: Seen, nowMs: number): PodStatus {
  const current: PodStatus = pod.status ?? {}
  // What has ended has ended, whatever comes later.
  if (current.phase === 'Succeeded' || current.phase === 'Failed') return current
  const { jail } = seen
  const initContainers = pod.spec.initContainers ?? []
  const initContainerStatuses = initContainers.map((container, index) =>
    statusOf(container, jail?.initContainers, waitingOf(container, seen, index > 0)),
  )
  const containerStatuses = pod.spec.containers.map((container) =>
    statusOf(container, jail?.containers, waitingOf(container, seen, initContainers.length > 0)),
  )
  const phase = jail?.phase ?? 'Pending'
  const status: PodStatus = {
    ...current,
    phase,
    ...(pod.metadata.generation === undefined ? {} : { observedGeneration: pod.metadata.generation }),
    startTime: current.startTime ?? jail?.startTime ?? timestamp(nowMs),
    containerStatuses,
  }
  if (initContainers.length > 0) status.initContainerStatuses = initContainerStatuses
  assign(status, 'reason', jail?.reason)
  assign(status, 'message', jail?.message)
  if (jail?.podIP) {
    status.podIP = jail.podIP
    status.podIPs = [{ ip: jail.podIP }]
  }
  if (jail?.hostIP) {
    status.hostIP = jail.hostIP
    status.hostIPs = [{ ip: jail.hostIP }]
  }
  status.conditions = conditionsOf(pod, status, jail, nowMs)
  return status
}

/** True when writing would change something. */
export function podStatusChanged(pod: Pod, status: PodStatus): boolean {
  return !semanticEqual(pod.status, status)
}

function assign(status: PodStatus, field: 'reason' | 'message', value: string | undefined): void {
  if (value === undefined) delete status[field]
  else status[field] = value
}

function waitingOf(container: Container, seen: Seen, afterOthers: boolean): ContainerState {
  const { waiting } = seen
  if (
    waiting?.reason === 'CreateContainerConfigError' &&
    (waiting.container ?? container.name) === container.name
  )
    return { waiting: { reason: waiting.reason, message: waiting.message } }
  return { waiting: { reason: afterOthers ? 'PodInitializing' : 'ContainerCreating' } }
}

function statusOf(
  container: Container,
  statuses: readonly JailContainerStatus[] | undefined,
  waiting: ContainerState,
): ContainerStatus {
  const seen = statuses?.find((status) => status.name === container.name)
  if (!seen)
    return {
      name: container.name,
      image: container.image ?? '',
      imageID: '',
      ready: false,
      started: false,
      restartCount: 0,
      state: waiting,
    }
  return {
    name: seen.name,
    image: seen.image,
    imageID: seen.imageID,
    ...(seen.containerID ? { containerID: seen.containerID } : {}),
    ready: seen.ready,
    started: seen.started,
    restartCount: seen.restartCount,
    state: stateOf(seen.state),
    ...(seen.lastState ? { lastState: stateOf(seen.lastState) } : {}),
  }
}

function stateOf(state: JailContainerState): ContainerState {
  switch (state.kind) {
    case 'waiting':
      return {
        waiting: { reason: state.reason, ...(state.message === undefined ? {} : { message: state.message }) },
      }
    case 'running':
      return { running: { startedAt: wholeSeconds(state.startedAt) } }
    case 'terminated':
      return {
        terminated: {
          exitCode: state.exitCode,
          ...(state.signal === undefined ? {} : { signal: state.signal }),
          reason: state.reason,
          ...(state.message === undefined ? {} : { message: state.message }),
          startedAt: wholeSeconds(state.startedAt),
          finishedAt: wholeSeconds(state.finishedAt),
          containerID: state.containerID,
        },
      }
    default:
      state satisfies never
      throw new Error('An unknown state of a container')
  }
}

/** metav1.Time has no fractions. */
function wholeSeconds(time: string): string {
  const ms = Date.parse(time)
  return Number.isFinite(ms) ? timestamp(ms) : time
}

function conditionsOf(
  pod: Pod,
  status: PodStatus,
  jail: JailStatus | undefined,
  nowMs: number,
): PodCondition[] {
  const ended = status.phase === 'Succeeded' || status.phase === 'Failed'
  const succeeded = status.phase === 'Succeeded'
  const inits = status.initContainerStatuses ?? []
  const initialized = jail?.initialized ?? inits.length === 0
  const sidecars = new Set(
    (pod.spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always').map((c) => c.name),
  )
  const unready = [...inits.filter((c) => sidecars.has(c.name)), ...(status.containerStatuses ?? [])]
    .filter((container) => !container.ready)
    .map((c) => c.name)
  const incomplete = inits
    .filter((c) => (sidecars.has(c.name) ? !c.started : c.state?.terminated?.exitCode !== 0))
    .map((c) => c.name)

  const notReady = succeeded
    ? { reason: 'PodCompleted' }
    : status.phase === 'Failed'
      ? { reason: 'PodFailed' }
      : unready.length > 0
        ? { reason: 'ContainersNotReady', message: `containers with unready status: [${unready.join(' ')}]` }
        : undefined
  const disruption = DISRUPTIONS.get(jail?.reason ?? '')
  const wanted: PodCondition[] = [
    condition('PodReadyToStartContainers', jail !== undefined && Boolean(jail.podIP) && !ended),
    initialized || succeeded
      ? condition('Initialized', true, succeeded ? { reason: 'PodCompleted' } : {})
      : condition('Initialized', false, {
          reason: 'ContainersNotInitialized',
          message: `containers with incomplete status: [${incomplete.join(' ')}]`,
        }),
    condition('Ready', notReady === undefined, notReady),
    condition('ContainersReady', notReady === undefined, notReady),
    condition('PodScheduled', true),
    // What policies of jobs tell from failures of the program.
    ...(disruption === undefined
      ? []
      : [condition('DisruptionTarget', true, { reason: disruption, message: jail?.message ?? '' })]),
  ]
  const types = new Set(wanted.map(({ type }) => type))
  const others = (pod.status?.conditions ?? []).filter(({ type }) => !types.has(type))
  return [
    ...wanted.map((next) => {
      const known = findCondition(pod.status?.conditions, next.type)
      const since = known?.status === next.status ? known.lastTransitionTime : undefined
      return { ...next, lastTransitionTime: since ?? timestamp(nowMs) }
    }),
    ...others,
  ]
}

function condition(
  type: string,
  holds: boolean,
  why: { reason?: string; message?: string } = {},
): PodCondition {
  return { type, status: holds ? 'True' : 'False', ...why }
}
