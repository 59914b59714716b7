import type { Jail, JailContainer, JailContainerState } from '../../../jail/index.ts'
import type { Backoff } from './backoff.ts'

export type Terminated = Extract<JailContainerState, { kind: 'terminated' }>

/** What the engine remembers of one container; everything here survives the engine's own death. */
export type ContainerMemory = {
  name: string
  /** Of the latest start, counted from 0; -1 before the first. */
  attempt: number
  process:
    | { kind: 'none' }
    | { kind: 'starting' }
    | { kind: 'running'; containerID: string; startedAt: string }
    | { kind: 'exited' }
  /** The latest end, and the one before. */
  exit?: Terminated
  /** The start that `exit` ended. */
  exitAttempt?: number
  exitBefore?: Terminated
  /** Why it has not been started, such as ErrImagePull; gone once it runs. */
  waiting?: { reason: string; message: string }
  /** A failure before the start is tried again then. */
  retryAtMs?: number
  retryDelayMs?: number
  backoff?: Backoff
  imageID: string
  /** Of the image that runs. */
  stopSignal?: string
  /** The startup probe has succeeded, or there is none; the postStart hook has ended. */
  started: boolean
  ready: boolean
  /** Its image was changed: start it again whatever the restart policy says. */
  replaced: boolean
}

export type PodMemory = {
  acceptedAtMs: number
  containers: ContainerMemory[]
  podIP?: string
  /** What stands for the machine in the pods' network. */
  hostIP?: string
  /** All init containers were through once; they do not run again. */
  initialized: boolean
  /** A container has been started with the network namespace that the pod has now. */
  networkUsed: boolean
  /** The pod has failed as a whole and its containers must not run, such as DeadlineExceeded. */
  failed?: {
    reason: string
    message: string
    /** For what runs, instead of the pod's own grace period. */
    graceSeconds?: number
  }
  /** Nothing of it will run again; its network is gone. */
  finished: boolean
  /** Removal was asked for. The containers' grace ends at `deadlineMs`. */
  terminating?: { deadlineMs: number }
}

export function emptyMemory(jail: Jail, nowMs: number): PodMemory {
  return {
    acceptedAtMs: nowMs,
    containers: allContainers(jail).map(({ name }) => ({
      name,
      attempt: -1,
      process: { kind: 'none' },
      imageID: '',
      started: false,
      ready: false,
      replaced: false,
    })),
    initialized: false,
    networkUsed: false,
    finished: false,
  }
}

export function allContainers(jail: Jail): readonly JailContainer[] {
  return [...jail.initContainers, ...jail.containers]
}

export function isSidecar(container: JailContainer): boolean {
  return container.restartPolicy === 'Always'
}

/** `name_namespace(uid)`, as the kubelet writes a pod into its messages. */
export function podInMessages({ pod, namespace, id }: Jail): string {
  return `${pod}_${namespace}(${id})`
}
