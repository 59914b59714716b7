import type { Duplex, Readable } from 'node:stream'
import type { ClaimedVolume } from './claimed-volume.ts'
import type { TenantEgress } from './egress.ts'
import type { Jail } from './jail.ts'
import type { EngineEvent, JailStatus } from './jail-status.ts'
import type { JailUsage } from './jail-usage.ts'
import type { RoomRequest, RoomAnswer } from './room.ts'
import type { IngressAnswer, TenantIngress } from './ingress.ts'
import type { TenantNetwork } from './tenant-network.ts'
import type { ClaimId, JailId } from './uid.ts'

/**
 * What a control plane can ask of the machines below it, for one tenant: the channel decides which. Implemented over
 * a unix socket by `RemoteEngine`, by `engine/local` and, later, by `engine/kubernetes`.
 */
export interface Engine {
  list(signal?: AbortSignal): Promise<JailStatus[]>
  watch(signal: AbortSignal): AsyncIterable<EngineEvent>
  /**
   * Makes the jail exist and converge; safe to repeat. A jail that exists already takes over, from one that differs:
   * - at once: the files of `files` volumes, `activeDeadlineSeconds`, labels, and images, which restart their containers;
   * - when a container starts the next time: its `env`, `command` and `args`, because the kubelet, too, looks up what an
   *   environment refers to at every start.
   * All else stays as it was when the pod started, and the engine logs that it does: what a pod was made from may change
   * (limits of the platform, its version) while the pod itself cannot.
   * @throws {ApiError} Invalid for what is never one and the same pod: another name, other containers, a volume of another kind.
   */
  ensure(jail: Jail, signal?: AbortSignal): Promise<JailStatus>
  /** Stops it with its grace period and removes everything of it; safe to repeat. A REMOVED event tells when it is gone. */
  remove(id: JailId, options: { gracePeriodSeconds?: number }, signal?: AbortSignal): Promise<void>
  /** Plain bytes of the container's output, already filtered by the options. */
  logs(id: JailId, container: string, options: LogOptions, signal?: AbortSignal): Promise<Readable>
  /** See `stream-frames.ts` for what travels on the returned stream. */
  exec(id: JailId, container: string, options: ExecOptions, signal?: AbortSignal): Promise<Duplex>
  attach(
    id: JailId,
    container: string,
    options: Omit<ExecOptions, 'command'>,
    signal?: AbortSignal,
  ): Promise<Duplex>
  /** A byte stream to a TCP port of the pod. */
  portForward(id: JailId, port: number, signal?: AbortSignal): Promise<Duplex>
  /** Replaces the tenant's whole network. */
  setNetwork(network: TenantNetwork, signal?: AbortSignal): Promise<void>
  /** Replaces what the tenant publishes to the outside; the answer names what cannot be. */
  setIngress(ingress: TenantIngress, signal?: AbortSignal): Promise<IngressAnswer>
  /** What its pods may reach outside, what they did and what they wanted. */
  egress(signal?: AbortSignal): Promise<TenantEgress>
  /** The tenant's volumes that outlive pods. */
  volumes(signal?: AbortSignal): Promise<ClaimedVolume[]>
  /**
   * Makes a volume of at least this size exist, empty at first, or grow to it; safe to repeat. Never makes one smaller.
   * Answers with the size that it has: a volume that pods use grows when the next one starts after them.
   * @throws {ApiError} Forbidden when the tenant may not have so much, TooManyRequests when the machine has no room now.
   */
  ensureVolume(volume: ClaimedVolume, signal?: AbortSignal): Promise<ClaimedVolume>
  /**
   * Removes a volume with everything in it, for good; safe to repeat.
   * @throws {ApiError} Conflict while a pod uses it.
   */
  removeVolume(id: ClaimId, signal?: AbortSignal): Promise<void>
  /**
   * Keeps room for a pod that is about to come, for as long as it takes to bring it; safe to repeat. What does not fit
   * into the tenant's share, or onto the machine, gets none. A jail that comes without is measured just the same.
   */
  reserve(id: JailId, requests: RoomRequest, signal?: AbortSignal): Promise<RoomAnswer>
  /** What the tenant's containers that run have used. */
  usage(signal?: AbortSignal): Promise<JailUsage[]>
  node(signal?: AbortSignal): Promise<NodeFacts>
}

export type LogOptions = {
  follow?: boolean
  previous?: boolean
  timestamps?: boolean
  tailLines?: number
  sinceSeconds?: number
  sinceTime?: string
  limitBytes?: number
}

export type ExecOptions = {
  command: readonly string[]
  stdin: boolean
  stdout: boolean
  stderr: boolean
  tty: boolean
}

/** What a tenant may know of the machine it runs on: its own share, and enough for a virtual Node. */
export type NodeFacts = {
  allocatable: { cpuMillis: number; memoryBytes: number; ephemeralStorageBytes: number; pods: number }
  architecture: 'amd64' | 'arm64'
  /** Of what the machine was so short a while ago that one of this tenant's pods had to go. */
  pressures: readonly { what: 'memory' | 'disk'; endsInMs: number }[]
  runtimes: Partial<Record<'runc' | 'gvisor', string>>
}
