import type {
  Jail,
  JailContainer,
  JailContainerState,
  JailContainerStatus,
  JailStatus,
} from '../../../jail/index.ts'
import { containerMemory, crashLoop } from './plan-pod.ts'
import { isSidecar, type ContainerMemory, type PodMemory } from './pod-memory.ts'

/** What the tenant sees of a pod. Pure. */
export function renderStatus(jail: Jail, memory: PodMemory, nowMs: number): JailStatus {
  const render = (container: JailContainer) =>
    renderContainer(jail, container, containerMemory(memory, container.name), memory, nowMs)
  const initContainers = jail.initContainers.map(render)
  const containers = jail.containers.map(render)
  const idle = memory.containers.every((c) => c.process.kind === 'none' || c.process.kind === 'exited')
  const phase = podPhase(jail, initContainers, containers, {
    terminal: memory.finished || memory.terminating !== undefined || memory.failed !== undefined,
    initialized: memory.initialized,
  })
  return {
    id: jail.id,
    phase: memory.failed && idle ? 'Failed' : phase,
    ...(memory.failed ? { reason: memory.failed.reason, message: memory.failed.message } : {}),
    ...(memory.podIP === undefined ? {} : { podIP: memory.podIP }),
    ...(memory.hostIP === undefined ? {} : { hostIP: memory.hostIP }),
    startTime: new Date(memory.acceptedAtMs).toISOString(),
    initContainers,
    containers,
    initialized: memory.initialized,
    terminating: memory.terminating !== undefined,
  }
}

function renderContainer(
  jail: Jail,
  container: JailContainer,
  seen: ContainerMemory,
  pod: PodMemory,
  nowMs: number,
): JailContainerStatus {
  const { state, lastState } = renderState(jail, container, seen, pod, nowMs)
  const runsToCompletion = jail.initContainers.includes(container) && !isSidecar(container)
  return {
    name: container.name,
    image: container.image,
    imageID: seen.imageID,
    containerID: seen.process.kind === 'running' ? seen.process.containerID : (seen.exit?.containerID ?? ''),
    state,
    ...(lastState ? { lastState } : {}),
    ready: runsToCompletion
      ? state.kind === 'terminated' && state.exitCode === 0
      : state.kind === 'running' && seen.ready,
    started: state.kind === 'running' && (runsToCompletion || seen.started),
    restartCount: Math.max(0, seen.attempt),
  }
}

function renderState(
  jail: Jail,
  container: JailContainer,
  seen: ContainerMemory,
  pod: PodMemory,
  nowMs: number,
): { state: JailContainerState; lastState?: ContainerMemory['exit'] } {
  if (seen.process.kind === 'running')
    return { state: { kind: 'running', startedAt: seen.process.startedAt }, lastState: seen.exit }
  const over = pod.finished || pod.failed !== undefined || pod.terminating !== undefined
  const waiting = seen.waiting ?? (over ? undefined : crashLoop(jail, container, seen, nowMs))
  if (waiting && !(over && seen.exit)) return { state: { kind: 'waiting', ...waiting }, lastState: seen.exit }
  if (seen.exit) return { state: seen.exit, lastState: seen.exitBefore }
  const reason = jail.initContainers.length > 0 && !pod.initialized ? 'PodInitializing' : 'ContainerCreating'
  return { state: { kind: 'waiting', reason } }
}

/** The kubelet's getPhase: what the states of the containers say about the pod. */
export function podPhase(
  jail: Jail,
  initContainers: readonly JailContainerStatus[],
  containers: readonly JailContainerStatus[],
  { terminal, initialized }: { terminal: boolean; initialized: boolean },
): JailStatus['phase'] {
  let pendingInit = 0
  let pendingSidecars = 0
  let failedInit = 0
  let running = 0
  let waiting = 0
  let stopped = 0
  let succeeded = 0
  for (const [index, { state, lastState, started }] of initContainers.entries()) {
    if (jail.initContainers[index]?.restartPolicy === 'Always') {
      if (state.kind === 'running') {
        running++
        if (!started) pendingSidecars++
      } else if (state.kind === 'waiting' && !lastState) {
        pendingSidecars++
        waiting++
      }
      continue
    }
    const end = state.kind === 'terminated' ? state : state.kind === 'waiting' ? lastState : undefined
    if (!end) pendingInit++
    else if (end.exitCode !== 0) failedInit++
  }
  for (const { state, lastState } of containers) {
    if (state.kind === 'running') running++
    else if (state.kind === 'terminated') {
      stopped++
      if (state.exitCode === 0) succeeded++
    } else if (lastState) stopped++
    else waiting++
  }
  if (failedInit > 0 && jail.restartPolicy === 'Never') return 'Failed'
  // A sidecar that restarts does not put a pod back to Pending once its containers have run.
  if (pendingInit > 0 || (pendingSidecars > 0 && !initialized) || waiting > 0) return 'Pending'
  if (running > 0) return 'Running'
  if (terminal) return stopped === succeeded ? 'Succeeded' : 'Failed'
  if (jail.restartPolicy === 'Always') return 'Running'
  if (stopped === succeeded) return 'Succeeded'
  return jail.restartPolicy === 'Never' ? 'Failed' : 'Running'
}
