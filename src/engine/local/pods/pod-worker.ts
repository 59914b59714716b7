import { text } from 'node:stream/consumers'
import { ApiError, badRequest } from '../../../api/index.ts'
import type { Jail, JailContainer, JailEvent, JailId, JailProbe, JailStatus } from '../../../jail/index.ts'
import { SECOND_MS, type Clock, type Logger } from '../../../stdx/index.ts'
import * as limits from '../limits.ts'
import {
  type Claims,
  ImageError,
  type ContainerHost,
  type ContainerSpec,
  type Images,
  type ObservedContainer,
  type PodNamespaces,
  type PodNetwork,
  type Prober,
  type ProbeTarget,
  type TenantPlacement,
  type UnpackedImage,
} from '../parts.ts'
import type { PodDisk } from '../host/pod-disk.ts'
import { type DiskUsage, planEviction, tellOfFull } from '../plan/disk.ts'
import { podNames } from '../plan/net/names.ts'
import { ContainerError } from '../plan/oci/container-error.ts'
import { doubled, nextBackoff, renderDuration } from './backoff.ts'
import { ContainerProbes } from './container-probes.ts'
import { Gate } from './gate.ts'
import { containerMemory, crashLoop, planPod } from './plan-pod.ts'
import {
  allContainers,
  isSidecar,
  podInMessages,
  type ContainerMemory,
  type PodMemory,
  type Terminated,
} from './pod-memory.ts'
import type { PodRecords } from './pod-records.ts'
import { renderStatus } from './pod-status.ts'
import type { TenantEvents } from './tenant-events.ts'
import { at, timeoutSignal } from './timers.ts'

/** What several pods share. */
export type PodParts = {
  images: Images
  network: PodNetwork
  containers: ContainerHost
  claims: Claims
  prober: Prober
  disk: PodDisk
  records: PodRecords
  clock: Clock
  log: Logger
  events: TenantEvents
  /** Bounds on what runs at once: on the machine, and of one tenant. */
  gates: { machineStarts: Gate; starts: Gate; pulls: Gate; probes: Gate }
}

const PROBE_NAMES = { startup: 'Startup', liveness: 'Liveness', readiness: 'Readiness' } as const
/** For how long ErrImagePull is shown before it turns into ImagePullBackOff. */
const PULL_ERROR_SHOWN_MS = 1 * SECOND_MS
/** A pull that takes longer than this is told while it runs. */
const PULLING_TOLD_AFTER_MS = 500
const KILL_AGAIN_MS = 10 * SECOND_MS
const WATCH_AGAIN_MS = 1 * SECOND_MS

type Running = {
  containerID: string
  exited: PromiseWithResolvers<void>
  hasExited: boolean
  probes?: ContainerProbes
  stopping?: { deadlineMs: number; poke: () => void }
}

/**
 * One pod's life. Everything that must survive us is in `memory`, and `planPod` decides by it; this class only carries
 * out: it starts what the plan starts, stops what it stops, and looks again after whatever happened.
 */
export class PodWorker {
  readonly id: JailId
  /** Resolves when nothing of the pod is left. */
  readonly gone: Promise<void>
  private jail: Jail
  private readonly placement: TenantPlacement
  private readonly memory: PodMemory
  private readonly parts: PodParts
  private readonly log: Logger
  private readonly running = new Map<string, Running>()
  private namespaces: PodNamespaces | undefined
  private sandbox: 'absent' | 'creating' | 'waiting' | 'ready' = 'absent'
  private sandboxDelayMs: number | undefined
  private readonly starting = new AbortController()
  private readonly closing = new AbortController()
  private readonly closed: Promise<void>
  private readonly removed = Promise.withResolvers<void>()
  private removing = false
  private releasing: Promise<void> = Promise.resolve()
  /** gVisor: whoever starts first renews the network for all, so starts come one after the other. */
  private readonly sandboxGate = new Gate(1)
  private cancelWake: () => void = () => {}
  /** What was said to be full when the disk was last looked at. */
  private toldFull: ReadonlySet<string> = new Set()
  private readonly cancels = new Set<() => void>()

  constructor(jail: Jail, placement: TenantPlacement, memory: PodMemory, parts: PodParts) {
    this.id = jail.id
    this.jail = jail
    this.placement = placement
    this.memory = memory
    this.parts = parts
    this.log = parts.log.with({ jail: jail.id, tenant: placement.tenant })
    this.gone = this.removed.promise
    const closed = Promise.withResolvers<void>()
    this.closing.signal.addEventListener('abort', () => closed.resolve(), { once: true })
    this.closed = closed.promise
    if (memory.terminating || memory.failed) this.starting.abort()
  }

  status(): JailStatus {
    return renderStatus(this.jail, this.memory, this.parts.clock.nowMs())
  }

  /** Begins, or goes on after a change. */
  sync(): void {
    if (this.closing.signal.aborted) return
    const { clock } = this.parts
    const nowMs = clock.nowMs()
    const plan = planPod(this.jail, this.memory, nowMs)
    if (plan.expire) {
      this.memory.failed = {
        reason: 'DeadlineExceeded',
        message: 'Pod was active on the node longer than the specified deadline',
      }
      this.starting.abort(new Error('The deadline of the pod has passed'))
      this.event('Normal', 'DeadlineExceeded', this.memory.failed.message)
      this.save()
      return this.sync()
    }
    if (plan.initialized !== this.memory.initialized) {
      this.memory.initialized = plan.initialized
      this.save()
    }
    const graceSeconds = this.memory.failed?.graceSeconds ?? this.jail.terminationGracePeriodSeconds
    const graceMs = this.memory.terminating
      ? this.memory.terminating.deadlineMs - nowMs
      : graceSeconds * SECOND_MS
    for (const name of plan.stop) this.stop(name, graceMs, `Stopping container ${name}`)
    if (plan.start.length > 0)
      if (this.sandbox === 'ready') for (const name of plan.start) this.launch(name)
      else if (this.sandbox === 'absent') void this.ensureSandbox()
    if (plan.finish) this.finish()
    if (plan.remove && this.sandbox !== 'creating') void this.removeAll()
    this.cancelWake()
    this.cancelWake = plan.wakeAtMs === undefined ? () => {} : at(clock, plan.wakeAtMs, () => this.sync())
    this.publish()
  }

  /** What may change of a pod that exists. Requires: the rest is the same. */
  update(jail: Jail): void {
    const before = this.jail
    this.jail = jail
    for (const container of allContainers(jail)) {
      const old = allContainers(before).find((c) => c.name === container.name)
      if (!old || old.image === container.image) continue
      const seen = containerMemory(this.memory, container.name)
      const runsToCompletion = jail.initContainers.includes(container) && !isSidecar(container)
      if (runsToCompletion && this.memory.initialized) continue
      delete seen.retryAtMs
      delete seen.retryDelayMs
      if (seen.process.kind === 'none') continue
      seen.replaced = true
      this.stop(
        container.name,
        jail.terminationGracePeriodSeconds * SECOND_MS,
        `Container ${container.name} definition changed, will be restarted`,
      )
    }
    this.save()
    if (this.sandbox === 'ready' && JSON.stringify(before.labels) !== JSON.stringify(jail.labels))
      void this.relabel()
    for (const volume of jail.volumes) {
      const old = before.volumes.find((v) => v.name === volume.name)
      if (volume.kind === 'files' && JSON.stringify(old) !== JSON.stringify(volume))
        void this.updateFiles(volume)
    }
    this.sync()
  }

  /** Requires: called again after a restart of the engine only when the marker was not saved. */
  terminate(gracePeriodSeconds: number | undefined): void {
    const nowMs = this.parts.clock.nowMs()
    const graceMs = (gracePeriodSeconds ?? this.jail.terminationGracePeriodSeconds) * SECOND_MS
    const deadlineMs = Math.min(this.memory.terminating?.deadlineMs ?? Infinity, nowMs + graceMs)
    this.memory.terminating = { deadlineMs }
    this.parts.records.saveMemory(this.id, this.memory)
    this.starting.abort(new Error('The pod is being removed'))
    this.sync()
  }

  /** What it was promised is its own until nothing of it will run again. */
  get holdsRoom(): boolean {
    return !this.memory.finished
  }

  /** Its room is free in a moment, whatever its tenant wants. */
  get leavesSoon(): boolean {
    const { terminating, failed } = this.memory
    if (terminating) {
      const leftMs = terminating.deadlineMs - this.parts.clock.nowMs()
      return leftMs <= limits.PREEMPTION_GRACE_SECONDS_MAX * SECOND_MS
    }
    if (!failed) return false
    const { graceSeconds = this.jail.terminationGracePeriodSeconds } = failed
    return graceSeconds <= limits.PREEMPTION_GRACE_SECONDS_MAX
  }

  get acceptedAtMs(): number {
    return this.memory.acceptedAtMs
  }

  /** Something of it may grow on disk. */
  get occupiesDisk(): boolean {
    const { finished, failed, terminating } = this.memory
    return this.sandbox === 'ready' && !finished && !failed && !terminating
  }

  /** Ends the pod when it occupies more than it may. */
  checkDisk(usage: DiskUsage): void {
    if (!this.occupiesDisk) return
    const ids = new Map(
      this.memory.containers.map((c) => {
        const containerID = c.process.kind === 'running' ? c.process.containerID : c.exit?.containerID
        return [c.name, containerID?.split('://')[1] ?? '']
      }),
    )
    const message = planEviction(this.jail, usage, ids)
    if (message !== undefined) return this.evict(message)
    const full = usage.full.map(tellOfFull)
    for (const each of full) if (!this.toldFull.has(each)) this.event('Warning', 'EphemeralStorageFull', each)
    this.toldFull = new Set(full)
  }

  /** As the kubelet does: the pod fails for good, and what made it is asked to make another. */
  evict(message: string): void {
    if (!this.occupiesDisk) return
    this.memory.failed = { reason: 'Evicted', message, graceSeconds: limits.EVICTION_GRACE_SECONDS }
    this.starting.abort(new Error('The pod is being evicted'))
    this.event('Warning', 'Evicted', message)
    this.save()
    this.sync()
  }

  /** It has to make room for a more important pod, and may end as it would when it is deleted. */
  preempt(): void {
    const { finished, failed, terminating } = this.memory
    if (finished) return
    const graceSeconds = Math.min(
      failed?.graceSeconds ?? this.jail.terminationGracePeriodSeconds,
      limits.PREEMPTION_GRACE_SECONDS_MAX,
    )
    if (terminating) return this.terminate(graceSeconds)
    const message = 'Preempted in order to admit a more important pod. '
    this.memory.failed = { reason: 'Preempted', message, ...failed, graceSeconds }
    this.starting.abort(new Error('The pod makes room for another'))
    if (!failed) this.event('Warning', 'Preempted', message)
    this.save()
    this.sync()
  }

  /** Leaves the pod as it is: another engine takes it over. */
  close(): void {
    this.closing.abort(new Error('The engine is shutting down'))
    this.starting.abort(this.closing.signal.reason)
    this.cancelWake()
    for (const cancel of this.cancels) cancel()
    for (const running of this.running.values()) running.probes?.stop()
  }

  /** Takes over what runs since before the engine's own restart. */
  async recover(
    observed: readonly ObservedContainer[],
    namespaces: PodNamespaces | undefined,
  ): Promise<void> {
    if (observed.length > 0) this.memory.networkUsed = true
    // Without a container the making of the sandbox may have been cut off, so it is made again.
    if (namespaces && observed.length > 0) {
      this.namespaces = namespaces
      this.sandbox = 'ready'
      await this.holdAgain()
    }
    await Promise.all(allContainers(this.jail).map((container) => this.recoverContainer(container, observed)))
    this.save()
    for (const volume of this.jail.volumes) if (volume.kind === 'files') void this.updateFiles(volume)
    // It may have been cut off.
    if (this.memory.finished && !this.memory.terminating) this.releasing = this.release()
    this.sync()
  }

  /** Its containers have their mounts whatever happens here; only the next one's start depends on it. */
  private async holdAgain(): Promise<void> {
    if (this.memory.finished) return
    try {
      await this.parts.claims.hold(this.placement, this.jail)
    } catch (error) {
      this.log.error('cannot take over the volumes of a pod', { error })
    }
  }

  private async recoverContainer(
    container: JailContainer,
    observed: readonly ObservedContainer[],
  ): Promise<void> {
    const seen = containerMemory(this.memory, container.name)
    const latest = observed
      .filter((o) => o.name === container.name)
      .reduce<ObservedContainer | undefined>((a, b) => (a && a.attempt > b.attempt ? a : b), undefined)
    const recordedEnd =
      seen.exitAttempt !== undefined && latest !== undefined && seen.exitAttempt >= latest.attempt
    if (latest && !recordedEnd) {
      seen.attempt = latest.attempt
      if (latest.state.kind === 'running') {
        const { containerID } = latest
        seen.process = { kind: 'running', containerID, startedAt: latest.state.startedAt }
        this.adopt(container, seen)
        return
      }
      const startedAt = latest.state.kind === 'exited' ? latest.state.startedAt : ''
      await this.recordEnd(container, seen, latest, startedAt)
      return
    }
    if (seen.process.kind === 'running')
      await this.recordEnd(
        container,
        seen,
        {
          jail: this.id,
          name: container.name,
          attempt: seen.attempt,
          containerID: seen.process.containerID,
          state: { kind: 'lost' },
        },
        seen.process.startedAt,
      )
    // A start that left nothing behind is made again, with a number of its own.
    else if (seen.process.kind === 'starting')
      seen.process = seen.exit ? { kind: 'exited' } : { kind: 'none' }
  }

  /** The running container, for exec and attach. @throws {ApiError} when there is none. */
  containerID(name: string): string {
    const running = this.running.get(name)
    if (running && !running.hasExited) return running.containerID
    if (!allContainers(this.jail).some((c) => c.name === name))
      throw badRequest(`container ${name} is not valid for pod ${this.jail.pod}`)
    throw badRequest(`container "${name}" in pod "${this.jail.pod}" is not running`)
  }

  /** Which start's log to read, by the kubelet's rules. @throws {ApiError} when there is none. */
  logAttempt(name: string, previous: boolean): number {
    const { pod } = this.jail
    const status = this.status()
    const shown = [...status.initContainers, ...status.containers].find((c) => c.name === name)
    if (!shown) throw badRequest(`container ${name} is not valid for pod ${pod}`)
    const seen = containerMemory(this.memory, name)
    const { state, lastState } = shown
    if (previous) {
      if (!lastState) throw badRequest(`previous terminated container "${name}" in pod "${pod}" not found`)
      const attempt = (seen.exitAttempt ?? 0) - (lastState === seen.exit ? 0 : 1)
      if (attempt >= 0) return attempt
    }
    if (state.kind === 'running') return seen.attempt
    if (seen.exitAttempt !== undefined) return seen.exitAttempt
    const why =
      state.kind !== 'waiting'
        ? 'no logs yet'
        : state.reason === 'ErrImagePull'
          ? "image can't be pulled"
          : state.reason === 'ImagePullBackOff'
            ? 'trying and failing to pull image'
            : state.reason
    throw badRequest(`container "${name}" in pod "${pod}" is waiting to start: ${why}`)
  }

  /** @throws {ApiError} when nothing of the pod could answer. */
  requireNetwork(): void {
    if (this.running.size === 0 || this.sandbox !== 'ready')
      throw badRequest(`pod "${this.jail.pod}" is not running`)
  }

  private event(type: JailEvent['type'], reason: string, message: string, container?: string): void {
    this.parts.events.event({
      id: this.id,
      type,
      reason,
      message,
      ...(container === undefined ? {} : { container }),
    })
  }

  private publish(): void {
    if (!this.closing.signal.aborted) this.parts.events.publish(this.status())
  }

  /** A record that cannot be written is written with the next change; the pod itself goes on. */
  private save(): void {
    try {
      this.parts.records.saveMemory(this.id, this.memory)
    } catch (error) {
      this.log.error('cannot save what is known of a pod', { error })
    }
  }

  private later(delayMs: number, run: () => void): void {
    const { clock } = this.parts
    const cancel = at(clock, clock.nowMs() + delayMs, () => {
      this.cancels.delete(cancel)
      run()
    })
    this.cancels.add(cancel)
  }

  /** The pod as its network knows it. */
  private inNetwork() {
    const { hostname, namespace, labels, bandwidth } = this.jail
    return {
      id: this.id,
      namespace,
      ...(labels === undefined ? {} : { labels }),
      hostname,
      hostnameRecords: podNames(this.jail),
      ...(bandwidth === undefined ? {} : { bandwidth }),
      ...(this.jail.runtime === 'runc' ? { largePackets: true } : {}),
    }
  }

  private async relabel(): Promise<void> {
    try {
      await this.parts.network.ensurePod(this.placement, this.inNetwork())
    } catch (error) {
      this.log.error('cannot tell the network the labels of a pod', { error })
      this.later(limits.SANDBOX_BACKOFF_MIN_MS, () => {
        if (this.sandbox === 'ready' && !this.memory.finished) void this.relabel()
      })
    }
  }

  private async ensureSandbox(): Promise<void> {
    this.sandbox = 'creating'
    const { network, containers, claims } = this.parts
    try {
      await network.ensureTenant(this.placement)
      this.namespaces = await network.ensurePod(this.placement, this.inNetwork())
      this.memory.podIP = this.namespaces.podIP
      this.memory.hostIP = network.resolver
      await claims.hold(this.placement, this.jail)
      await containers.ensurePod(this.placement, this.jail)
      this.sandbox = 'ready'
      this.sandboxDelayMs = undefined
      this.save()
    } catch (error) {
      this.log.error('cannot make the sandbox of a pod', { error })
      const tell =
        error instanceof ContainerError
          ? error.message
          : 'the machine could not make the network or volumes of the pod'
      this.event('Warning', 'FailedCreatePodSandBox', `Failed to create pod sandbox: ${tell}`)
      this.sandbox = 'waiting'
      this.sandboxDelayMs = doubled(this.sandboxDelayMs, limits.SANDBOX_BACKOFF_MIN_MS)
      this.later(this.sandboxDelayMs, () => {
        this.sandbox = 'absent'
        this.sync()
      })
    }
    this.sync()
  }

  private async updateFiles(volume: Extract<Jail['volumes'][number], { kind: 'files' }>): Promise<void> {
    // Before the sandbox is there, its making writes the files as they are by then.
    if (this.sandbox !== 'ready' || this.memory.finished) return
    let delayMs: number | undefined
    for (;;) {
      const current = this.jail.volumes.find((v) => v.name === volume.name)
      if (current !== volume || this.memory.terminating || this.closing.signal.aborted) return
      try {
        return await this.parts.containers.updateFiles(this.jail, volume)
      } catch (error) {
        this.log.error('cannot update the files of a volume', { volume: volume.name, error })
        this.event('Warning', 'FailedMount', `The files of volume "${volume.name}" could not be updated`)
        delayMs = doubled(delayMs)
        await this.pause(delayMs)
      }
    }
  }

  private launch(name: string): void {
    const container = allContainers(this.jail).find((c) => c.name === name)
    if (!container) return
    const seen = containerMemory(this.memory, name)
    const before = seen.process
    seen.process = { kind: 'starting' }
    delete seen.retryAtMs
    void this.startContainer(container, seen)
      .catch((error: unknown) => {
        seen.process = before
        if (!this.starting.signal.aborted) this.notStarted(container, seen, error)
      })
      .finally(() => this.sync())
  }

  private async startContainer(container: JailContainer, seen: ContainerMemory): Promise<void> {
    const image = await this.pull(container, seen)
    const run = () => this.run(container, seen, image)
    if (this.jail.runtime === 'gvisor') await this.sandboxGate.run(run, this.starting.signal)
    else await run()
  }

  private async pull(container: JailContainer, seen: ContainerMemory): Promise<UnpackedImage> {
    const { clock, images, gates } = this.parts
    const { image: reference, name } = container
    return await gates.pulls.run(async () => {
      const startedMs = clock.nowMs()
      let told = false
      const tell = () => {
        if (!told) this.event('Normal', 'Pulling', `Pulling image "${reference}"`, name)
        told = true
      }
      const cancelTell = clock.after(container.imagePullPolicy === 'Always' ? 0 : PULLING_TOLD_AFTER_MS, tell)
      const { signal, cancel } = timeoutSignal(
        clock,
        limits.PULL_TIMEOUT_MS,
        `Pulling image "${reference}"`,
        this.starting.signal,
      )
      try {
        const image = await images.ensure(this.placement, reference, container.imagePullPolicy, signal)
        const took = renderDuration(clock.nowMs() - startedMs)
        this.event(
          'Normal',
          'Pulled',
          image.pulled
            ? `Successfully pulled image "${reference}" in ${took}`
            : `Container image "${reference}" already present on machine`,
          name,
        )
        seen.imageID = image.imageID
        return image
      } catch (error) {
        // What follows tells of a pull that failed.
        if (!this.starting.signal.aborted) tell()
        throw error
      } finally {
        cancel()
        cancelTell()
      }
    }, this.starting.signal)
  }

  private async run(container: JailContainer, seen: ContainerMemory, image: UnpackedImage): Promise<void> {
    const { clock, containers, network, gates } = this.parts
    const { name } = container
    const before = { attempt: seen.attempt, backoff: seen.backoff }
    const fresh = this.jail.runtime === 'gvisor' && this.memory.networkUsed && this.running.size === 0
    const namespaces = fresh ? await network.renewPod(this.placement, this.id) : this.namespaces
    if (!namespaces) throw new Error('A container is started before its pod has namespaces')
    this.namespaces = namespaces
    if (fresh) this.memory.networkUsed = false

    seen.attempt++
    if (seen.exit && !seen.replaced)
      seen.backoff = nextBackoff(seen.backoff, Date.parse(seen.exit.finishedAt), clock.nowMs())
    // Saved before anything is made, so that no number is ever used for two containers.
    this.parts.records.saveMemory(this.id, this.memory)
    let observed: ObservedContainer
    try {
      const spec = {
        jail: this.jail,
        placement: this.placement,
        container,
        attempt: seen.attempt,
        image,
        namespaces,
      }
      observed = await gates.starts.run(
        () => gates.machineStarts.run(() => this.startWithin(spec), this.starting.signal),
        this.starting.signal,
      )
    } catch (error) {
      if (error instanceof ContainerError && error.reason === 'RunContainerError') {
        this.endedBeforeStart(container, seen, error)
        return
      }
      // Nothing ran, so this was not a restart.
      seen.attempt = before.attempt
      if (before.backoff) seen.backoff = before.backoff
      else delete seen.backoff
      throw error
    }
    const old = seen.exit?.containerID
    const startedAt =
      observed.state.kind === 'lost' ? new Date(clock.nowMs()).toISOString() : observed.state.startedAt
    seen.process = { kind: 'running', containerID: observed.containerID, startedAt }
    seen.started = false
    seen.ready = false
    seen.replaced = false
    delete seen.waiting
    delete seen.retryDelayMs
    if (image.config.stopSignal === undefined) delete seen.stopSignal
    else seen.stopSignal = image.config.stopSignal
    this.memory.networkUsed = true
    this.save()
    this.event('Normal', 'Created', `Created container: ${name}`, name)
    this.event('Normal', 'Started', `Started container ${name}`, name)
    this.adopt(container, seen, { justStarted: true })
    if (old)
      void containers.removeContainer(this.id, old).catch((error: unknown) => {
        this.log.warn('cannot remove an old container; it goes with its pod', { containerID: old, error })
      })
  }

  private async startWithin(spec: ContainerSpec): Promise<ObservedContainer> {
    const { clock, containers } = this.parts
    const what = `Starting container ${spec.container.name}`
    const { signal, cancel } = timeoutSignal(clock, limits.START_TIMEOUT_MS, what, this.starting.signal)
    try {
      return await containers.start(spec, signal)
    } finally {
      cancel()
    }
  }

  /** The runtime could not execute the command: this counts as a run that ended at once. */
  private endedBeforeStart(container: JailContainer, seen: ContainerMemory, error: ContainerError): void {
    const now = new Date(this.parts.clock.nowMs()).toISOString()
    this.event('Warning', 'Failed', `Error: ${error.message}`, container.name)
    delete seen.waiting
    this.setEnd(container, seen, {
      kind: 'terminated',
      exitCode: 128,
      reason: 'StartError',
      message: error.message,
      startedAt: now,
      finishedAt: now,
      containerID: '',
    })
  }

  private notStarted(container: JailContainer, seen: ContainerMemory, error: unknown): void {
    const { clock } = this.parts
    const { name, image } = container
    seen.retryDelayMs = doubled(seen.retryDelayMs)
    seen.retryAtMs = clock.nowMs() + seen.retryDelayMs
    if (error instanceof ImageError) {
      this.event('Warning', 'Failed', `Failed to pull image "${image}": ${error.message}`, name)
      this.event('Warning', 'Failed', `Error: ${error.reason}`, name)
      const failure = { reason: error.reason, message: error.message }
      seen.waiting = failure
      if (error.reason === 'ErrImagePull')
        this.later(PULL_ERROR_SHOWN_MS, () => {
          if (seen.waiting !== failure) return
          seen.waiting = {
            reason: 'ImagePullBackOff',
            message: `Back-off pulling image "${image}": ErrImagePull: ${error.message}`,
          }
          this.event('Normal', 'BackOff', `Back-off pulling image "${image}"`, name)
          this.event('Warning', 'Failed', 'Error: ImagePullBackOff', name)
          this.publish()
        })
    } else if (error instanceof ContainerError) {
      this.log.warn('a container cannot be created', { container: name, error })
      seen.waiting = { reason: error.reason, message: error.message }
      this.event('Warning', 'Failed', `Error: ${error.message}`, name)
    } else {
      // What went wrong may name paths of ours, so the tenant is told only that it did.
      this.log.error('a container cannot be created', { container: name, error })
      seen.waiting = { reason: 'CreateContainerError', message: 'the machine could not create the container' }
      this.event('Warning', 'Failed', `Error: ${seen.waiting.message}`, name)
    }
    this.save()
  }

  /** From here on the container is watched, probed and stopped by us. */
  private adopt(container: JailContainer, seen: ContainerMemory, { justStarted = false } = {}): void {
    if (seen.process.kind !== 'running') return
    const { containerID, startedAt } = seen.process
    const running: Running = { containerID, exited: Promise.withResolvers<void>(), hasExited: false }
    this.running.set(container.name, running)
    void this.watch(container, seen, running, startedAt)
    const runsToCompletion = this.jail.initContainers.includes(container) && !isSidecar(container)
    if (runsToCompletion) return
    const { postStart } = container.lifecycle
    if (postStart && justStarted) void this.afterStart(container, seen, running, startedAt, postStart)
    else this.probe(container, seen, running, startedAt)
  }

  private async afterStart(
    container: JailContainer,
    seen: ContainerMemory,
    running: Running,
    startedAt: string,
    handler: NonNullable<JailContainer['lifecycle']['postStart']>,
  ): Promise<void> {
    const target = this.probeTarget(running)
    const result = await this.parts.prober
      .hook(target, handler, limits.HOOK_TIMEOUT_MS)
      .catch(() => ({ ok: false, message: 'the hook could not be run' }))
    if (running.hasExited || this.closing.signal.aborted) return
    if (result.ok) {
      this.probe(container, seen, running, startedAt)
      this.sync()
      return
    }
    this.event('Warning', 'FailedPostStartHook', `PostStartHook failed: ${result.message}`, container.name)
    this.stop(container.name, this.jail.terminationGracePeriodSeconds * SECOND_MS, 'FailedPostStartHook')
  }

  private probeTarget({ containerID }: Running): ProbeTarget {
    return { jail: this.id, containerID, podIP: this.memory.podIP ?? '' }
  }

  private probe(container: JailContainer, seen: ContainerMemory, running: Running, startedAt: string): void {
    const { clock, prober, gates } = this.parts
    const { name } = container
    const target = this.probeTarget(running)
    const change = (apply: () => void) => {
      if (running.hasExited) return
      apply()
      this.save()
      // Not within `adopt`, whose caller has not finished yet.
      queueMicrotask(() => this.sync())
    }
    const probes = new ContainerProbes(clock, container, Date.parse(startedAt), {
      probe: (probe: JailProbe) => gates.probes.run(() => prober.probe(target, probe), this.closing.signal),
      started: () => change(() => (seen.started = true)),
      ready: (ready) => {
        if (seen.ready !== ready) change(() => (seen.ready = ready))
      },
      failed: (kind, message) =>
        this.event('Warning', 'Unhealthy', `${PROBE_NAMES[kind]} probe failed: ${message}`, name),
      unhealthy: (kind, probe) =>
        this.stop(
          name,
          (probe.terminationGracePeriodSeconds ?? this.jail.terminationGracePeriodSeconds) * SECOND_MS,
          `Container ${name} failed ${kind} probe, will be restarted`,
        ),
    })
    running.probes = probes
    probes.start({ started: seen.started })
    if (running.stopping) probes.stopLiveness()
  }

  private async watch(
    container: JailContainer,
    seen: ContainerMemory,
    running: Running,
    startedAt: string,
  ): Promise<void> {
    const { signal } = this.closing
    for (;;) {
      try {
        const observed = await this.parts.containers.waitForExit(this.id, running.containerID, signal)
        if (signal.aborted) return
        if (observed.state.kind === 'running') continue
        running.probes?.stop()
        await this.recordEnd(container, seen, observed, startedAt)
        break
      } catch (error) {
        if (signal.aborted) return
        this.log.error('cannot wait for the end of a container', { container: container.name, error })
        await this.pause(WATCH_AGAIN_MS)
        if (signal.aborted) return
      }
    }
    running.hasExited = true
    this.running.delete(container.name)
    running.exited.resolve()
    this.sync()
  }

  private async recordEnd(
    container: JailContainer,
    seen: ContainerMemory,
    observed: ObservedContainer,
    startedAt: string,
  ): Promise<void> {
    const now = new Date(this.parts.clock.nowMs()).toISOString()
    const { state, containerID } = observed
    if (state.kind !== 'exited') {
      this.setEnd(container, seen, {
        kind: 'terminated',
        exitCode: 137,
        reason: 'ContainerStatusUnknown',
        message: 'The container could not be located when its end was to be told',
        startedAt: startedAt || now,
        finishedAt: now,
        containerID,
      })
      return
    }
    const { exitCode, oomKilled, finishedAt } = state
    const message = await this.lastWords(container, seen.attempt, exitCode)
    this.setEnd(container, seen, {
      kind: 'terminated',
      exitCode,
      reason: oomKilled ? 'OOMKilled' : exitCode === 0 ? 'Completed' : 'Error',
      ...(message === '' ? {} : { message }),
      startedAt: state.startedAt,
      finishedAt,
      containerID,
    })
  }

  private setEnd(container: JailContainer, seen: ContainerMemory, end: Terminated): void {
    if (seen.exit) seen.exitBefore = seen.exit
    seen.exit = end
    seen.exitAttempt = seen.attempt
    seen.process = { kind: 'exited' }
    seen.started = false
    seen.ready = false
    this.save()
    const over = this.memory.terminating ?? this.memory.failed
    if (!over && crashLoop(this.jail, container, seen, this.parts.clock.nowMs()))
      this.event(
        'Warning',
        'BackOff',
        `Back-off restarting failed container ${container.name} in pod ${podInMessages(this.jail)}`,
        container.name,
      )
  }

  private async lastWords(container: JailContainer, attempt: number, exitCode: number): Promise<string> {
    const { containers } = this.parts
    try {
      const told = await containers.terminationMessage(this.id, container, attempt)
      if (told !== '' || exitCode === 0 || container.terminationMessagePolicy !== 'FallbackToLogsOnError')
        return clipBytes(told, limits.TERMINATION_MESSAGE_BYTES_MAX)
      const options = { tailLines: limits.TERMINATION_MESSAGE_FROM_LOG_LINES_MAX }
      const tail = await text(
        await containers.logs(this.id, container.name, attempt, options, this.closing.signal),
      )
      return clipBytes(tail, limits.TERMINATION_MESSAGE_FROM_LOG_BYTES_MAX)
    } catch (error) {
      this.log.warn('cannot read the last words of a container', { container: container.name, error })
      return ''
    }
  }

  /** Stops a container unless it is being stopped already; then it only makes its grace shorter, never longer. */
  private stop(name: string, graceMs: number, message: string): void {
    const running = this.running.get(name)
    const container = allContainers(this.jail).find((c) => c.name === name)
    if (!running || !container) return
    const deadlineMs = this.parts.clock.nowMs() + Math.max(0, graceMs)
    if (running.stopping) {
      if (deadlineMs >= running.stopping.deadlineMs) return
      running.stopping.deadlineMs = deadlineMs
      running.stopping.poke()
      return
    }
    running.stopping = { deadlineMs, poke: () => {} }
    running.probes?.stopLiveness()
    this.event('Normal', 'Killing', message, name)
    void this.stopContainer(container, running, running.stopping)
  }

  private async stopContainer(
    container: JailContainer,
    running: Running,
    stopping: NonNullable<Running['stopping']>,
  ): Promise<void> {
    const { clock, prober } = this.parts
    const seen = containerMemory(this.memory, container.name)
    const { preStop } = container.lifecycle
    const over = () => running.hasExited || this.closing.signal.aborted
    if (preStop && clock.nowMs() < stopping.deadlineMs) {
      const timeoutMs = stopping.deadlineMs - clock.nowMs()
      const hook = prober
        .hook(this.probeTarget(running), preStop, timeoutMs)
        .catch(() => ({ ok: false, message: 'the hook could not be run' }))
      const result = await Promise.race([hook, this.exitOrDeadline(running, stopping)])
      if (over()) return
      const failure = result ?? { ok: false, message: 'the grace period was over first' }
      if (!failure.ok)
        this.event('Warning', 'FailedPreStopHook', `PreStopHook failed: ${failure.message}`, container.name)
      // Whoever was told to die at once gets no more time; everybody else a moment after their hook.
      const soonMs = clock.nowMs() + limits.GRACE_AFTER_HOOK_MIN_MS
      const forced =
        this.memory.terminating !== undefined && this.memory.terminating.deadlineMs < clock.nowMs()
      if (!forced) stopping.deadlineMs = Math.max(stopping.deadlineMs, soonMs)
    }
    if (clock.nowMs() < stopping.deadlineMs) {
      await this.signal(running, seen.stopSignal ?? 'SIGTERM', 'SIGTERM')
      await this.exitOrDeadline(running, stopping)
    }
    while (!over()) {
      await this.signal(running, 'SIGKILL', 'SIGKILL')
      stopping.deadlineMs = clock.nowMs() + KILL_AGAIN_MS
      await this.exitOrDeadline(running, stopping)
      if (!over()) this.log.error('a container did not end after SIGKILL', { container: container.name })
    }
  }

  private async signal(running: Running, signal: string, otherwise: string): Promise<void> {
    try {
      await this.parts.containers.signal(this.id, running.containerID, signal)
    } catch (error) {
      this.log.warn('cannot send a signal to a container', {
        containerID: running.containerID,
        signal,
        error,
      })
      // The image may ask for a signal that does not exist here.
      if (signal !== otherwise) await this.signal(running, otherwise, otherwise)
    }
  }

  /** Resolves when the container has ended, its grace is over, or we are shutting down. */
  private async exitOrDeadline(
    running: Running,
    stopping: NonNullable<Running['stopping']>,
  ): Promise<undefined> {
    const { clock } = this.parts
    while (!running.hasExited && !this.closing.signal.aborted && clock.nowMs() < stopping.deadlineMs) {
      const poked = Promise.withResolvers<void>()
      stopping.poke = poked.resolve
      const cancel = at(clock, stopping.deadlineMs, poked.resolve)
      await Promise.race([running.exited.promise, poked.promise, this.closed])
      cancel()
    }
    return undefined
  }

  /** The pod has come to its end by itself: its network goes, its containers' logs and exit codes stay. */
  private finish(): void {
    if (this.memory.finished) return
    this.memory.finished = true
    this.namespaces = undefined
    this.sandbox = 'absent'
    this.save()
    this.parts.network.removePod(this.id).catch((error: unknown) => {
      this.log.error('cannot remove the network of a finished pod; it goes with its pod', { error })
    })
    this.releasing = this.release()
  }

  /** As with the kubelet, of a pod that has ended only logs and exit codes stay: its data would count as nobody's. */
  private async release(): Promise<void> {
    try {
      for (const { exit } of this.memory.containers)
        if (exit && exit.containerID !== '')
          await this.parts.containers.removeContainer(this.id, exit.containerID)
      await this.parts.claims.letGo(this.placement, this.jail)
      await this.parts.disk.release(this.id)
    } catch (error) {
      this.log.error('cannot remove the data of a finished pod; it goes with its pod', { error })
    }
  }

  private async removeAll(): Promise<void> {
    if (this.removing) return
    this.removing = true
    await this.releasing
    let delayMs: number | undefined
    for (;;) {
      try {
        await this.parts.containers.removePod(this.id)
        await this.parts.claims.letGo(this.placement, this.jail)
        await this.parts.network.removePod(this.id)
        this.parts.records.remove(this.id)
        break
      } catch (error) {
        this.log.error('cannot remove a pod', { error })
        delayMs = doubled(delayMs, limits.REMOVE_BACKOFF_MIN_MS)
        await this.pause(delayMs)
        if (this.closing.signal.aborted) return
      }
    }
    this.close()
    this.parts.events.removed(this.id)
    this.removed.resolve()
  }

  /** Waits, or ends early when we are shutting down. */
  private async pause(delayMs: number): Promise<void> {
    const over = Promise.withResolvers<void>()
    this.later(delayMs, over.resolve)
    await Promise.race([over.promise, this.closed])
  }
}

/** The end of a text, cut to bytes without cutting a character. */
function clipBytes(value: string, bytesMax: number): string {
  const bytes = Buffer.from(value)
  if (bytes.length <= bytesMax) return value
  let from = bytes.length - bytesMax
  while (from < bytes.length && ((bytes[from] ?? 0) & 0xc0) === 0x80) from++
  return bytes.subarray(from).toString('utf8')
}

/** For what only a running engine can do. */
export function shuttingDown(): ApiError {
  return new ApiError('ServiceUnavailable', 'The engine is shutting down')
}
