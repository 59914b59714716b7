import type { JailId } from './uid.ts'

/** What an engine sees of a jail. The shapes follow v1.PodStatus so that the control plane only copies. */
export type JailStatus = {
  id: JailId
  phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown'
  reason?: string
  message?: string
  podIP?: string
  hostIP?: string
  startTime?: string
  initContainers: JailContainerStatus[]
  containers: JailContainerStatus[]
  /** All init containers have succeeded. */
  initialized: boolean
  /** DELETE was asked for and is being carried out. */
  terminating: boolean
}

export type JailContainerStatus = {
  name: string
  image: string
  /** `repository@sha256:…` once pinned, "" before. */
  imageID: string
  /** `runc://ID`, `crun://ID` or `runsc://ID`, "" before the first start. */
  containerID: string
  state: JailContainerState
  lastState?: Extract<JailContainerState, { kind: 'terminated' }>
  ready: boolean
  started: boolean
  restartCount: number
}

export type JailContainerState =
  | { kind: 'waiting'; reason: string; message?: string }
  | { kind: 'running'; startedAt: string }
  | {
      kind: 'terminated'
      exitCode: number
      signal?: number
      /** Completed, Error, OOMKilled, ContainerStatusUnknown, StartError, DeadlineExceeded … */
      reason: string
      message?: string
      startedAt: string
      finishedAt: string
      containerID: string
    }

/** Something that happened, for `kubectl describe`. Reasons are the kubelet's: Pulled, Created, Started, BackOff, … */
export type JailEvent = {
  id: JailId
  /** Grows by one per engine start and event, so that a reader can drop what it has seen. */
  sequence: number
  type: 'Normal' | 'Warning'
  reason: string
  message: string
  container?: string
  at: string
}

/** What a watch of an engine delivers: every current status, SYNCED once, then changes as they happen. */
export type EngineEvent =
  | { type: 'STATUS'; status: JailStatus }
  | { type: 'REMOVED'; id: JailId }
  | { type: 'EVENT'; event: JailEvent }
  | { type: 'SYNCED' }
