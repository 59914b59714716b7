import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import type { Duplex, Readable } from 'node:stream'
import { ApiError, badRequest, type Layout, type TenantName } from '../../../api/index.ts'
import {
  CHANNEL,
  type ExecOptions,
  type Jail,
  type JailContainer,
  type JailId,
  type JailVolume,
  type LogOptions,
  type ContainerUsage,
} from '../../../jail/index.ts'
import { type Clock, type Logger, sleep, UndoStack } from '../../../stdx/index.ts'
import {
  type ContainerRecord,
  observeBundles,
  observeContainer,
  readPidFile,
  readRecord,
  RECORD_FILE,
} from '../observe/containers.ts'
import { observeDisk } from '../observe/disk-device.ts'
import { observeMachineSize } from '../observe/machine-facts.ts'
import { isAlive, observeProcess, type ProcessIdentity } from '../observe/processes.ts'
import {
  type ContainerHost,
  type ContainerSpec,
  type ObservedContainer,
  type PodNamespaces,
  type TenantPlacement,
  isGvisorClass,
} from '../parts.ts'
import { monitorLimits, podsMemoryBytes, tenantMemoryBytes } from '../plan/daemon-limits.ts'
import { diskRatesOf } from '../plan/disk-rates.ts'
import type { OciConfig } from '../plan/oci/config-types.ts'
import { ContainerError } from '../plan/oci/container-error.ts'
import { renderHostname, renderHosts, renderResolvConf } from '../plan/oci/pod-files.ts'
import { type ConfigInput, renderConfig, renderSandboxConfig } from '../plan/oci/render-config.ts'
import { podLimits, tenantLimits } from '../plan/oci/resources.ts'
import { tellOfRuntime } from '../plan/oci/runtime-message.ts'
import { resolveUser } from '../plan/oci/user.ts'
import { attach } from './attach.ts'
import { type Cgroups, enterCgroup } from './cgroups.ts'
import { CreateRefused, startMonitor } from './conmon.ts'
import { limitDevice } from './device-limits.ts'
import { devicesOf, Ephemeral, removeTree, tellingOfSpace } from './ephemeral.ts'
import { Exec } from './exec.ts'
import { ExitWatcher } from './exit-watcher.ts'
import * as limits from './limits.ts'
import { LogFiles } from './log-files.ts'
import { type Found, type Machine, setUpMachine } from './machine-setup.ts'
import { isMountPoint } from './machine.ts'
import { mountMemory, mountRootfs, mountsBelow, unmountBelow } from './mounts.ts'
import { ALL_TOOLS, checkName, containerIdOf, parseContainerID, Places, type Tool } from './places.ts'
import { signalNumber, signalProcess } from './processes.ts'
import { RemoteStream, renderExitStatus, renderFailureStatus } from './remote-stream.ts'
import type { Runtime, SandboxRuntime } from './runtime.ts'
import { ensureDirectoryInside, readFileInside } from './safe-path.ts'
import { renderPauseProgram } from './tiny-program.ts'
import { umount } from './syscalls.ts'
import { Volumes } from './volumes.ts'

const SIGKILL = 9
/** Mounts in a bundle that hold sub-paths and claimed volumes while the container is made. */
const SUB_PATH = 'sub-path-'
/** Exit code of runsc when it could not do what it was told. */
const RUNSC_FAILED = 128
/** System call filters of every process in a container: the inherited one, and that of its OCI configuration. */
const FILTERS = 2
/** In a bundle: the directories of the image's layers. */
const LAYERS_FILE = 'layers.json'
const KILL_POLL_MS_MAX = 32

export type ContainerHostOptions = {
  layout: Layout
  clock: Clock
  log: Logger
  /** The address of the tenants' resolver, for resolv.conf; `PodNetwork.resolver`. */
  resolver: string
  /** What pods are told as their machine's address. */
  hostIP: string
  /** Runtimes to try, all by default; of crun and runc the first that works is used. */
  tools?: readonly Tool[]
}

/** What must be known of a pod to remove it without its jail. */
type PodRecord = { jail: JailId; tenant: TenantName; podUidBase: number }

/** For whoever wants to remove layers of images. */
export type LayerUse = { layersInUse(): ReadonlySet<string> | undefined }

export function createContainerHost(options: ContainerHostOptions): ContainerHost & LayerUse {
  return new LocalContainerHost(options)
}

/** Containers of this machine. All knowledge is in files and processes, so a new instance knows what the last one knew. */
class LocalContainerHost implements ContainerHost, LayerUse {
  private readonly layout: Layout
  private readonly log: Logger
  private readonly clock: Clock
  private readonly resolver: string
  private readonly tools: readonly Tool[]
  private readonly hostIP: string
  private readonly places: Places
  private readonly volumes: Volumes
  private readonly ephemeral: Ephemeral
  private readonly exits: ExitWatcher
  private readonly logFiles: LogFiles
  /** What the groups of each tenant were last told. */
  private readonly diskRates = new Map<TenantName, string>()
  private toldOfDisk = false
  private machinePromise: Promise<Machine> | undefined
  private cancelRotation: () => void = () => {}
  /** One change at a time per pod. */
  private readonly queues = new Map<JailId, Promise<unknown>>()
  private readonly sessions = new Sessions()

  constructor({ layout, clock, log, resolver, hostIP, tools = ALL_TOOLS }: ContainerHostOptions) {
    this.tools = tools
    this.layout = layout
    this.log = log
    this.clock = clock
    this.resolver = resolver
    this.hostIP = hostIP
    this.places = new Places(layout)
    this.volumes = new Volumes(this.places)
    this.ephemeral = new Ephemeral(this.places, log)
    this.exits = new ExitWatcher(this.places.exits, clock)
    this.logFiles = new LogFiles(this.places, clock)
  }

  async runtimes(): ReturnType<ContainerHost['runtimes']> {
    const { runc, gvisor } = await this.machine()
    return {
      runc: runc.available ? { available: true, version: runc.runtime.version } : runc,
      gvisor: gvisor.available ? { available: true, version: gvisor.runtime.version } : gvisor,
    }
  }

  async ensurePod(placement: TenantPlacement, jail: Jail): Promise<void> {
    const { cgroups } = await this.machine()
    await this.oneAtATime(jail.id, () => tellingOfSpace(() => this.ensurePodNow(cgroups, placement, jail)))
  }

  private async ensurePodNow(cgroups: Cgroups, placement: TenantPlacement, jail: Jail): Promise<void> {
    const { podUidBase, tenant } = placement
    const gvisor = usesGvisor(placement, jail)
    const { cpuQuotaUs, ...withoutQuota } = podLimits(jail, { gvisor })
    const directory = this.places.pod(jail.id)
    for (const path of [directory, join(directory, 'volumes')]) ensureShared(path, podUidBase)
    for (const path of [this.places.bundles(jail.id), this.places.etc(jail.id)])
      ensureShared(path, podUidBase)
    const disk = this.places.podDisk(jail.id)
    await this.ephemeral.ensurePod(placement, jail)
    ensureShared(disk, podUidBase)
    for (const name of ['volumes', 'layers', 'termination', 'logs'])
      ensureShared(join(disk, name), podUidBase)
    const record: PodRecord = { jail: jail.id, tenant, podUidBase }
    writeAtomically(this.places.podRecord(jail.id), JSON.stringify(record))

    cgroups.ensure(this.places.tenantCgroup(tenant), {})
    cgroups.ensure(this.places.monitorCgroup(tenant), {})
    this.limitTenantNow(cgroups, placement)
    // A quota slows a sandbox's start down, so it follows the start.
    const atOnce = gvisor || cpuQuotaUs === undefined ? {} : { cpuQuotaUs }
    cgroups.ensure(this.places.podCgroup(tenant, jail.id), { ...withoutQuota, ...atOnce })

    const shm = this.places.shm(jail.id)
    mkdirSync(shm, { recursive: true })
    if (!gvisor && !isMountPoint(shm))
      mountMemory(shm, {
        bytesMax: limits.SHM_BYTES_MAX,
        inodesMax: limits.MEMORY_VOLUME_INODES_MAX,
        mode: '1777',
        uid: podUidBase,
        gid: podUidBase,
        noexec: true,
      })
    for (const volume of jail.volumes) {
      await this.ephemeral.ensureVolume(tenant, jail, volume)
      this.volumes.ensure(jail, volume, podUidBase)
    }
  }

  async limitTenant(placement: TenantPlacement): Promise<void> {
    const { cgroups } = await this.machine()
    if (cgroups.exists(this.places.tenantCgroup(placement.tenant))) this.limitTenantNow(cgroups, placement)
  }

  private limitTenantNow(cgroups: Cgroups, placement: TenantPlacement): void {
    const { tenant, quota = {} } = placement
    const path = this.places.tenantCgroup(tenant)
    // One more than there are, because the one that is coming up needs its room first.
    const pods = cgroups.children(path) + 1
    const gvisor = isGvisorClass(placement)
    const size = observeMachineSize()
    const { cpuQuotaUs, memoryBytesMax, pidsMax } = tenantLimits(quota, {
      gvisor,
      pods,
      memoryBytesDefault: tenantMemoryBytes(size.memoryBytes, this.layout.podMemoryBytes),
    })
    cgroups.ensure(path, { pidsMax })
    const monitors = this.places.monitorCgroup(tenant)
    const set = (what: string, change: () => void) => {
      try {
        change()
      } catch (error) {
        // Less than what pods use or may use now: they keep it, no more are let in, and the next pod tries again.
        this.log.warn('the quota of a tenant cannot be lowered yet', { tenant, what, error })
      }
    }
    set('huge pages', () => cgroups.forbidHugePages(path))
    set('cpu', () => cgroups.setCpuQuota(path, cpuQuotaUs))
    set('memory', () => cgroups.setMemoryMax(path, memoryBytesMax))
    const devices = devicesOf(this.places, tenant)
    const rates = JSON.stringify([placement.diskRates ?? null, devices])
    // All that is there already, when it is to change; what comes is limited as it comes.
    if (this.diskRates.get(tenant) !== rates && this.limitDiskNow(cgroups, placement, path)) {
      this.diskRates.set(tenant, rates)
      for (const device of devices)
        set('cached writes', () => limitDevice(device, diskRatesOf(placement.diskRates), cgroups))
    }
    set('monitors', () => cgroups.ensure(monitors, monitorLimits({ gvisor, pods }, size)))
  }

  /** How fast the tenant's containers may read and write. A pod that cannot be held to it is better than none. */
  private limitDiskNow(cgroups: Cgroups, { tenant, diskRates }: TenantPlacement, path: string): boolean {
    try {
      const device = observeDisk(this.layout.stateDir)
      const holds = device === undefined ? 'none' : cgroups.setDiskRates(path, device, diskRatesOf(diskRates))
      if (holds === 'none' && !this.toldOfDisk)
        this.log.warn('this machine cannot limit how fast tenants read and write', { device })
      this.toldOfDisk ||= holds === 'none'
      return true
    } catch (error) {
      this.log.warn('the disk rates of a tenant cannot be limited', { tenant, error })
      return false
    }
  }

  async updateFiles(jail: Jail, volume: Extract<JailVolume, { kind: 'files' }>): Promise<void> {
    await this.oneAtATime(jail.id, async () => {
      const pod = this.podRecord(jail.id)
      if (!pod) throw new Error(`The pod ${jail.id} does not exist`)
      this.volumes.writeFiles(jail, volume, pod.podUidBase)
    })
  }

  async start(spec: ContainerSpec, signal: AbortSignal): Promise<ObservedContainer> {
    const machine = await this.machine()
    return this.oneAtATime(spec.jail.id, () => tellingOfSpace(() => this.startNow(machine, spec, signal)))
  }

  private async startNow(
    machine: Machine,
    spec: ContainerSpec,
    signal: AbortSignal,
  ): Promise<ObservedContainer> {
    const { jail, placement, container, attempt } = spec
    const id = containerIdOf(jail.id, checkName(container.name), attempt)
    const existing = this.observeOne(machine, jail.id, id)
    if (existing && existing.state.kind !== 'lost') return existing
    if (existing || existsSync(this.places.bundle(jail.id, id))) await this.removeNow(machine, jail.id, id)

    await using undo = new UndoStack()
    undo.add(() => this.removeNow(machine, jail.id, id))
    const started = usesGvisor(placement, jail)
      ? await this.startInSandbox(machine, available(machine.gvisor), spec, id, signal)
      : await this.create(machine, available(machine.runc), spec, { id, role: 'container' }, signal)
    undo.release()
    return started
  }

  /**
   * gVisor runs a pod's containers in one sandbox. A container that is always alone in its pod is the sandbox itself;
   * otherwise an empty process holds the sandbox, and every container is a member that can come and go.
   */
  private async startInSandbox(
    machine: Machine,
    runtime: SandboxRuntime,
    spec: ContainerSpec,
    id: string,
    signal: AbortSignal,
  ): Promise<ObservedContainer> {
    const { jail, placement, namespaces } = spec
    const pod = this.places.podCgroup(placement.tenant, jail.id)
    // Without a quota a sandbox starts in half the time.
    const { cpuQuotaUs } = podLimits(jail, { gvisor: true })
    const network = String(statSync(namespaces.net).ino)
    const sandbox = isAlone(jail) ? undefined : this.liveSandbox(jail.id, network)
    if (!sandbox) machine.cgroups.setCpuQuota(pod, undefined)
    try {
      if (isAlone(jail)) return await this.create(machine, runtime, spec, { id, role: 'container' }, signal)
      const joined = sandbox ?? (await this.createSandbox(machine, runtime, spec, network, signal))
      return await this.create(machine, runtime, spec, { id, role: 'member', sandbox: joined }, signal)
    } finally {
      if (cpuQuotaUs !== undefined) machine.cgroups.setCpuQuota(pod, cpuQuotaUs)
    }
  }

  /** The sandbox that runs in this network namespace. One in another cannot be joined: the pod has got a fresh one. */
  private liveSandbox(jail: JailId, network: string): ContainerRecord | undefined {
    return this.sandboxes(jail).find(
      ({ started, network: used }) => used === network && started !== undefined && isAlive(started.process),
    )
  }

  private sandboxes(jail: JailId): ContainerRecord[] {
    return (observeBundles(this.places.run).get(jail) ?? []).flatMap((id) => {
      const record = readRecord(this.places.bundle(jail, id))
      return record?.role === 'sandbox' ? [record] : []
    })
  }

  private async createSandbox(
    machine: Machine,
    runtime: SandboxRuntime,
    { jail, placement, namespaces }: ContainerSpec,
    network: string,
    signal: AbortSignal,
  ): Promise<ContainerRecord> {
    for (const old of this.sandboxes(jail.id)) await this.removeNow(machine, jail.id, old.id)
    const id = randomBytes(12).toString('hex')
    const bundle = this.places.bundle(jail.id, id)
    const cgroup = `${this.places.podCgroup(placement.tenant, jail.id)}/${id}`
    await using undo = new UndoStack()
    undo.add(() => this.removeNow(machine, jail.id, id))
    ensureShared(bundle, placement.podUidBase)
    const record: ContainerRecord = {
      jail: jail.id,
      name: '',
      attempt: 0,
      id,
      tool: runtime.tool,
      role: 'sandbox',
      cgroup,
      oomCgroup: cgroup,
      createdAt: new Date(this.clock.nowMs()).toISOString(),
      network,
    }
    writeAtomically(join(bundle, RECORD_FILE), JSON.stringify(record))
    const rootfs = join(bundle, 'rootfs')
    mkdirSync(rootfs, { mode: 0o755 })
    chownSync(rootfs, placement.podUidBase, placement.podUidBase)
    writeFileSync(join(rootfs, 'pause'), renderPauseProgram(machine.facts.architecture), { mode: 0o755 })
    using held = new HeldNamespaces(namespaces)
    const config = renderSandboxConfig({
      placement,
      jail,
      rootfs,
      net: held.paths.net,
      cgroupsPath: `/${cgroup}`,
      program: '/pause',
    })
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(config), { mode: 0o600 })
    await this.monitor(runtime, { jail: jail.id, id, bundle, log: join(bundle, 'log') }, signal)
    this.limitDiskNow(machine.cgroups, placement, this.places.podCgroup(placement.tenant, jail.id))
    const started = this.recordStart(bundle, record)
    undo.release()
    return started
  }

  private async create(
    machine: Machine,
    runtime: Runtime,
    spec: ContainerSpec,
    place: { id: string; role: 'container' } | { id: string; role: 'member'; sandbox: ContainerRecord },
    signal: AbortSignal,
  ): Promise<ObservedContainer> {
    const { jail, placement, container, attempt, namespaces } = spec
    const { id, role } = place
    const bundle = this.places.bundle(jail.id, id)
    const cgroup = `${this.places.podCgroup(placement.tenant, jail.id)}/${id}`
    const record: ContainerRecord = {
      jail: jail.id,
      name: container.name,
      attempt,
      id,
      tool: runtime.tool,
      role,
      cgroup,
      oomCgroup: place.role === 'member' ? place.sandbox.cgroup : cgroup,
      createdAt: new Date(this.clock.nowMs()).toISOString(),
    }
    ensureShared(bundle, placement.podUidBase)
    writeAtomically(join(bundle, RECORD_FILE), JSON.stringify(record))

    const rootfs = join(bundle, 'rootfs')
    this.makeRootfs(spec, id, rootfs)
    {
      // The runtime opens these in a mount namespace of its own, where pins made later are not; a descriptor of ours is.
      using held = new HeldNamespaces(namespaces)
      const sandboxId = place.role === 'member' ? place.sandbox.id : undefined
      const config = this.renderBundle(machine, runtime, spec, {
        id,
        bundle,
        rootfs,
        cgroup,
        held,
        sandboxId,
      })
      writeFileSync(join(bundle, 'config.json'), JSON.stringify(config), { mode: 0o600 })
      this.logFiles.prepare(jail.id, container.name, attempt)
      const log = this.places.log(jail.id, container.name, attempt)
      const program = place.role === 'member' ? available(machine.gvisor).memberProgram : runtime.program
      await this.monitor(runtime, { jail: jail.id, id, bundle, log, program, container }, signal)
    }
    // Of a group that the runtime has just made, before the program in it begins.
    this.limitDiskNow(machine.cgroups, placement, this.places.podCgroup(placement.tenant, jail.id))
    // Where the first process still waits to begin: afterwards it can end, and its pid become a stranger's.
    const first = runtime.tool === 'runsc' ? undefined : readPidFile(join(bundle, 'pid'))
    await runtime.begin(id, signal)
    const { started } = this.recordStart(bundle, record, first)
    if (started && runtime.tool !== 'runsc') {
      const soon = AbortSignal.any([signal, AbortSignal.timeout(limits.BEGIN_TIMEOUT_MS)])
      await confined(started.process, soon)
    }
    if (role === 'member') await this.checkMember(machine, spec, id, signal)
    // The container has mounts of its own by now. The machine has only so many for all tenants together.
    if (container.mounts.length > 0)
      for (const point of mountsBelow(bundle)) if (basename(point).startsWith(SUB_PATH)) umount(point)
    const observed = this.observeOne(machine, jail.id, id)
    if (!observed || observed.state.kind === 'lost')
      throw new ContainerError('RunContainerError', 'the container was lost while it was being started')
    return observed
  }

  /** A member that could not be started looks like one that ended, except for what runsc says about it. */
  private async checkMember(
    machine: Machine,
    { jail, container, attempt }: ContainerSpec,
    id: string,
    signal: AbortSignal,
  ): Promise<void> {
    const running = () => this.observeOne(machine, jail.id, id)?.state
    if (available(machine.gvisor).exists(id)) return
    const state = await this.exits.wait(
      id,
      () => (running()?.kind === 'running' ? undefined : running()),
      signal,
    )
    if (state.kind !== 'exited' || state.exitCode !== RUNSC_FAILED) return
    const output = readStart(this.places.log(jail.id, container.name, attempt), limits.TOOL_OUTPUT_BYTES_MAX)
    if (!output.includes('running container: ')) return
    throw new ContainerError('RunContainerError', tellOfRuntime(output), { cause: new Error(output) })
  }

  /** From here on the container counts as started; whatever was cut off before is found to be lost, and removed. */
  private recordStart(
    bundle: string,
    record: ContainerRecord,
    first = readPidFile(join(bundle, 'pid')),
  ): ContainerRecord {
    const gone: ProcessIdentity = { pid: 0, startTicks: '' }
    const started: ContainerRecord = {
      ...record,
      started: {
        process: first ?? gone,
        monitor: readPidFile(join(bundle, 'conmon.pid')) ?? gone,
        startedAt: new Date(this.clock.nowMs()).toISOString(),
      },
    }
    writeAtomically(join(bundle, RECORD_FILE), JSON.stringify(started))
    return started
  }

  private makeRootfs(
    { jail, placement, image, namespaces }: ContainerSpec,
    id: string,
    rootfs: string,
  ): void {
    const layer = this.places.layer(jail.id, id)
    // Before the first of them is mounted, so that nobody takes one away meanwhile.
    writeAtomically(join(this.places.bundle(jail.id, id), LAYERS_FILE), JSON.stringify(image.layers))
    mkdirSync(layer, { mode: 0o700 })
    for (const name of ['upper', 'work']) {
      mkdirSync(join(layer, name), { mode: 0o755 })
      chownSync(join(layer, name), placement.podUidBase, placement.podUidBase)
    }
    mkdirSync(rootfs)
    mountRootfs({
      layers: image.layers,
      usernsPath: namespaces.user,
      upper: join(layer, 'upper'),
      work: join(layer, 'work'),
      target: rootfs,
      workshop: this.places.workshop,
    })
  }

  private renderBundle(
    machine: Machine,
    runtime: Runtime,
    { jail, placement, container, image, namespaces }: ContainerSpec,
    {
      id,
      bundle,
      rootfs,
      cgroup,
      held,
      sandboxId,
    }: {
      id: string
      bundle: string
      rootfs: string
      cgroup: string
      held: HeldNamespaces
      sandboxId: string | undefined
    },
  ): OciConfig {
    const { podUidBase } = placement
    const root = openSync(rootfs, constants.O_RDONLY | constants.O_DIRECTORY)
    let input: ConfigInput
    try {
      const user = resolveUser(
        {
          imageUser: image.config.user,
          runAsUser: container.runAsUser,
          runAsGroup: container.runAsGroup,
          runAsNonRoot: container.runAsNonRoot,
          supplementalGroups: container.supplementalGroups,
          fsGroup: jail.fsGroup,
        },
        readFileInside(root, '/etc/passwd', limits.USER_FILE_BYTES_MAX),
        readFileInside(root, '/etc/group', limits.USER_FILE_BYTES_MAX),
      )
      input = {
        tool: runtime.tool,
        jail,
        container,
        placement,
        image: image.config,
        user,
        addresses: { podIP: namespaces.podIP, hostIP: this.hostIP },
        namespaces: held.paths,
        sources: {
          ...this.etcFiles(jail, podUidBase, namespaces.podIP),
          terminationLog: this.terminationLog(jail.id, id, podUidBase),
          shm: this.places.shm(jail.id),
          volumes: container.mounts.map((mount, index) =>
            this.volumes.source(jail, mount, {
              podUidBase,
              usernsPath: namespaces.user,
              pin: join(bundle, `${SUB_PATH}${index}`),
            }),
          ),
        },
        rootfs,
        cgroupsPath: `/${cgroup}`,
        facts: machine.facts,
        ...(sandboxId === undefined ? {} : { sandboxId }),
        ...(machine.seccompProgramBase64 === undefined
          ? {}
          : { seccompProgramBase64: machine.seccompProgramBase64 }),
      }
      const config = renderConfig(input)
      try {
        closeSync(
          ensureDirectoryInside(root, config.process.cwd, {
            mode: 0o755,
            owner: { uid: podUidBase, gid: podUidBase },
          }),
        )
      } catch (cause) {
        throw new ContainerError(
          'CreateContainerError',
          `the working directory ${JSON.stringify(config.process.cwd)} cannot be made`,
          { cause },
        )
      }
      return config
    } finally {
      closeSync(root)
    }
  }

  private etcFiles(
    jail: Jail,
    podUidBase: number,
    podIP: string,
  ): { hosts: string; hostname: string; resolvConf: string } {
    const directory = this.places.etc(jail.id)
    const files = {
      hosts: renderHosts(jail, podIP),
      hostname: renderHostname(jail),
      resolvConf: renderResolvConf(jail, this.resolver),
    }
    for (const [name, text] of Object.entries(files)) {
      const path = join(directory, name)
      if (existsSync(path)) continue
      writeFileSync(path, text)
      chownSync(path, podUidBase, podUidBase)
      chmodSync(path, 0o644)
    }
    return {
      hosts: join(directory, 'hosts'),
      hostname: join(directory, 'hostname'),
      resolvConf: join(directory, 'resolvConf'),
    }
  }

  /** On disk, where it counts as the pod's: a file in memory that a tenant writes to would have no limit. */
  private terminationLog(jail: JailId, id: string, podUidBase: number): string {
    const path = this.places.terminationLog(jail, id)
    writeFileSync(path, '')
    chownSync(path, podUidBase, podUidBase)
    chmodSync(path, 0o666)
    return path
  }

  private async monitor(
    runtime: Runtime,
    {
      jail,
      id,
      bundle,
      log,
      program = runtime.program,
      container,
    }: {
      jail: JailId
      id: string
      bundle: string
      log: string
      program?: string
      container?: JailContainer
    },
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await startMonitor(
        {
          id,
          bundle,
          prefix: [...(await this.enterMonitors(jail)), ...runtime.prefix],
          runtime: program,
          runtimeArgs: runtime.programArgs,
          exits: this.places.exits,
          log,
          tty: container?.tty ?? false,
          stdin: container?.stdin ?? false,
          stdinStaysOpen: !container?.stdinOnce,
        },
        signal,
      )
    } catch (cause) {
      if (!(cause instanceof CreateRefused)) throw cause
      throw new ContainerError('RunContainerError', tellOfRuntime(cause.message), { cause })
    }
  }

  /** What goes before a command of ours whose number and size the pod's tenant decides. */
  private async enterMonitors(jail: JailId): Promise<string[]> {
    const { cgroups } = await this.machine()
    const pod = this.podRecord(jail)
    if (!pod) throw new Error(`The pod ${jail} does not exist`)
    const group = this.places.monitorCgroup(pod.tenant)
    // Pods that an older version has started have none yet.
    cgroups.ensure(group, {})
    return enterCgroup(cgroups.entrances(group))
  }

  async signal(jail: JailId, containerID: string, signal: string): Promise<void> {
    const machine = await this.machine()
    const number = signalNumber(signal)
    if (number === undefined) throw new Error(`${JSON.stringify(signal)} is not a signal`)
    const record = readRecord(this.places.bundle(jail, parseContainerID(containerID)))
    if (!record?.started) return
    if (record.tool !== 'runsc' || !machine.gvisor.available) {
      signalProcess(record.started.process, number)
      return
    }
    if (!isAlive(record.started.process)) return
    await machine.gvisor.runtime.signal(record.id, String(number)).catch((error: unknown) => {
      if (record.started && isAlive(record.started.process)) throw error
    })
  }

  async waitForExit(jail: JailId, containerID: string, signal: AbortSignal): Promise<ObservedContainer> {
    const machine = await this.machine()
    const id = parseContainerID(containerID)
    return this.exits.wait(
      id,
      () => {
        const observed = this.observeOne(machine, jail, id)
        if (!observed) throw new Error(`The container "${containerID}" does not exist`)
        return observed.state.kind === 'running' ? undefined : observed
      },
      signal,
    )
  }

  async run(
    jail: JailId,
    containerID: string,
    command: readonly string[],
    timeoutMs: number,
  ): Promise<{ exitCode: number; output: string }> {
    const chunks: Buffer[] = []
    let left = limits.RUN_OUTPUT_BYTES_MAX
    const keep = async (_stream: string, chunk: Buffer) => {
      chunks.push(chunk.subarray(0, left))
      left -= Math.min(left, chunk.length)
    }
    const machine = await this.machine()
    let exec: Exec
    try {
      exec = await this.startExec(machine, jail, containerID, { command, tty: false, stdin: false }, keep)
    } catch (error) {
      return {
        exitCode: -1,
        output: error instanceof ApiError ? error.message : 'the command could not be started',
      }
    }
    let late = false
    const cancel = this.clock.after(timeoutMs, () => {
      late = true
      void exec.kill()
    })
    try {
      const end = await exec.ended
      const output = Buffer.concat(chunks).toString('utf8')
      if (late) return { exitCode: -1, output: `command timed out after ${timeoutMs} ms` }
      return end.kind === 'refused'
        ? { exitCode: -1, output: end.message }
        : { exitCode: end.exitCode, output }
    } finally {
      cancel()
    }
  }

  async exec(jail: JailId, containerID: string, options: ExecOptions, signal: AbortSignal): Promise<Duplex> {
    const machine = await this.machine()
    const { command, tty, stdin } = options
    signal.throwIfAborted()
    const opened = Promise.withResolvers<RemoteStream>()
    const exec = await this.startExec(
      machine,
      jail,
      containerID,
      { command, tty, stdin },
      async (from, chunk) => {
        if (from === 'stderr' ? options.stderr : options.stdout)
          await (await opened.promise).send(CHANNEL[from], chunk)
      },
    )
    const stream = new RemoteStream({
      stdin: stdin ? exec.stdin : undefined,
      halfCloses: !tty,
      resize: (size) => exec.resize(size),
      closed: () => void exec.kill(),
    })
    opened.resolve(stream)
    if (signal.aborted) stream.destroy()
    const onAbort = () => stream.destroy()
    signal.addEventListener('abort', onAbort, { once: true })
    exec.ended
      .then(
        (end) =>
          end.kind === 'exited'
            ? renderExitStatus(end.exitCode)
            : renderFailureStatus(`error executing command in container: ${end.message}`),
        (error: unknown) => {
          this.log.error('exec failed', { jail, containerID, error })
          return renderFailureStatus('error executing command in container')
        },
      )
      .then((status) => stream.finish(status))
      .finally(() => signal.removeEventListener('abort', onAbort))
      .catch(() => {})
    return stream
  }

  private async startExec(
    machine: Machine,
    jail: JailId,
    containerID: string,
    wish: { command: readonly string[]; tty: boolean; stdin: boolean },
    output: (stream: 'stdout' | 'stderr', chunk: Buffer) => Promise<void>,
  ): Promise<Exec> {
    const { record, bundle } = this.runningContainer(machine, jail, containerID)
    const pod = this.podRecord(jail)
    const found = record.tool === 'runsc' ? machine.gvisor : machine.runc
    if (!pod || !found.available || found.runtime.tool !== record.tool)
      throw badRequest(`The runtime of the container "${record.name}" is not available any more`)
    if (wish.command.length === 0) throw badRequest('exec needs a command')
    const release = this.sessions.take(jail, limits.SESSIONS_PER_POD_MAX)
    try {
      const exec = await Exec.start(
        {
          ...wish,
          enter: await this.enterMonitors(jail),
          runtime: found.runtime,
          id: record.id,
          bundle,
          podUidBase: pod.podUidBase,
          terminals: this.places.terminals,
          clock: this.clock,
        },
        output,
      )
      void exec.ended.then(release, release)
      return exec
    } catch (error) {
      release()
      throw error
    }
  }

  async attach(
    jail: JailId,
    containerID: string,
    options: Omit<ExecOptions, 'command'>,
    signal: AbortSignal,
  ): Promise<Duplex> {
    const machine = await this.machine()
    const { bundle } = this.runningContainer(machine, jail, containerID)
    const { stdin, stdout, stderr } = options
    const release = this.sessions.take(jail, limits.SESSIONS_PER_POD_MAX)
    try {
      const stream = attach({ bundle, stdin, stdout, stderr, clock: this.clock, signal })
      stream.once('close', release)
      return stream
    } catch (error) {
      release()
      throw error
    }
  }

  private runningContainer(
    machine: Machine,
    jail: JailId,
    containerID: string,
  ): { record: ContainerRecord; bundle: string } {
    const id = parseContainerID(containerID)
    const bundle = this.places.bundle(jail, id)
    const record = readRecord(bundle)
    if (!record || this.observeOne(machine, jail, id)?.state.kind !== 'running')
      throw badRequest(`The container "${record?.name ?? id}" is not running`)
    return { record, bundle }
  }

  async logs(
    jail: JailId,
    container: string,
    attempt: number,
    options: LogOptions,
    signal: AbortSignal,
  ): Promise<Readable> {
    const machine = await this.machine()
    const id = containerIdOf(jail, checkName(container), attempt)
    const ended = () => this.observeOne(machine, jail, id)?.state.kind !== 'running'
    return this.logFiles.read(jail, container, attempt, options, ended, signal)
  }

  async terminationMessage(jail: JailId, container: JailContainer, attempt: number): Promise<string> {
    const id = containerIdOf(jail, checkName(container.name), attempt)
    return readStart(this.places.terminationLog(jail, id), limits.TERMINATION_MESSAGE_BYTES_MAX)
  }

  async removeContainer(jail: JailId, containerID: string): Promise<void> {
    const machine = await this.machine()
    const id = parseContainerID(containerID)
    await this.oneAtATime(jail, () => this.removeNow(machine, jail, id))
  }

  /** Works on whatever is there: each step does nothing when its part is missing. The log stays until the pod goes. */
  private async removeNow(machine: Machine, jail: JailId, id: string): Promise<void> {
    const bundle = this.places.bundle(jail, id)
    const record = readRecord(bundle)
    await this.end(machine, bundle, id, record)
    for (const found of [machine.runc, machine.gvisor])
      if (found.available && (record === undefined || found.runtime.tool === record.tool))
        await found.runtime.forget(id)
    if (record) await machine.cgroups.remove(record.cgroup)
    unmountBelow(bundle)
    await removeTree(this.places.layer(jail, id))
    rmSync(this.places.terminationLog(jail, id), { force: true })
    rmSync(bundle, { recursive: true, force: true })
    rmSync(this.places.exit(id), { force: true })
  }

  /** Kills everything that belongs to a container and waits until it is gone. */
  private async end(
    machine: Machine,
    bundle: string,
    id: string,
    record: ContainerRecord | undefined,
  ): Promise<void> {
    const monitor = record?.started?.monitor ?? namedProcess(join(bundle, 'conmon.pid'), id)
    const first = record?.started?.process ?? namedProcess(join(bundle, 'pid'), id)
    const started = performance.now()
    for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, KILL_POLL_MS_MAX)) {
      const inGroup = record ? machine.cgroups.processes(record.cgroup).map(observeProcess) : []
      const left = [first, ...inGroup].filter((p) => p !== undefined).filter(isAlive)
      // While something forks, each look may find more.
      for (const process of left) signalProcess(process, SIGKILL)
      const told = !monitor || !isAlive(monitor) || existsSync(this.places.exit(id))
      if (left.length === 0 && told) return
      if (performance.now() - started > limits.KILL_TIMEOUT_MS) {
        if (left.length > 0)
          throw new Error(`Processes ${left.map((p) => p.pid).join(', ')} of the container ${id} do not end`)
        // A monitor that outlives its container by this much waits for something that will not come.
        if (monitor) signalProcess(monitor, SIGKILL)
        return
      }
      await sleep(pauseMs)
    }
  }

  async removePod(jail: JailId): Promise<void> {
    const machine = await this.machine()
    await this.oneAtATime(jail, async () => {
      // The sandbox first: its members end with it, and runsc is slow to take a member out of one that lives.
      for (const sandbox of this.sandboxes(jail)) await this.removeNow(machine, jail, sandbox.id)
      for (const id of observeBundles(this.places.run).get(jail) ?? [])
        await this.removeNow(machine, jail, id)
      const pod = this.places.pod(jail)
      const tenant = this.podRecord(jail)?.tenant
      await this.ephemeral.removePod(jail)
      unmountBelow(pod)
      if (tenant !== undefined) {
        await machine.cgroups.remove(this.places.podCgroup(tenant, jail))
        // Another pod of the tenant may be coming up at this moment, so nothing is taken by force.
        machine.cgroups.removeEmpty(this.places.tenantCgroup(tenant))
        // The last monitor may still be on its way out. A group that is in use again stays.
        if (!machine.cgroups.exists(this.places.tenantCgroup(tenant))) {
          this.diskRates.delete(tenant)
          await machine.cgroups.remove(this.places.monitorCgroup(tenant)).catch(() => {})
        }
      }
      // Last, because its record is what a second attempt starts from.
      rmSync(pod, { recursive: true, force: true })
    })
  }

  async removeTenant(tenant: TenantName): Promise<void> {
    await this.machine()
    await this.ephemeral.removeTenant(tenant)
  }

  layersInUse(): ReadonlySet<string> | undefined {
    const layers = new Set<string>()
    for (const [jail, ids] of observeBundles(this.places.run))
      for (const id of ids) {
        const bundle = this.places.bundle(jail, id)
        const record = readRecord(bundle)
        // One that holds a sandbox has no image; one without a record is being made, and was asked for just now.
        if (record === undefined || record.role === 'sandbox') continue
        try {
          // Written by us into a directory that only root may change.
          for (const layer of JSON.parse(readFileSync(join(bundle, LAYERS_FILE), 'utf8')) as string[])
            layers.add(layer)
        } catch {
          return undefined
        }
      }
    return layers
  }

  async observe(): Promise<{ jail: JailId; containers: ObservedContainer[] }[]> {
    const machine = await this.machine()
    return [...observeBundles(this.places.run)].map(([jail, ids]) => ({
      jail,
      containers: ids.flatMap((id) => {
        const observed = this.observeOne(machine, jail, id)
        return observed ? [observed] : []
      }),
    }))
  }

  async usage(jail: JailId): Promise<ContainerUsage[]> {
    const { cgroups } = await this.machine()
    const running = (observeBundles(this.places.run).get(jail) ?? []).flatMap((id) => {
      const record = readRecord(this.places.bundle(jail, id))
      return record?.started && isAlive(record.started.process) ? [record] : []
    })
    const members = running.filter(({ role }) => role === 'member')
    const pod = this.podRecord(jail)
    // One kernel of gVisor's runs all of them, and the machine's kernel cannot tell whose work it does.
    if (members.length > 0 && pod) {
      const together = cgroups.usage(this.places.podCgroup(pod.tenant, jail))
      if (!together) return []
      return members.map(({ name, id }) => ({
        name,
        run: `${id}/${members.length}`,
        cpuNanos: Math.floor(together.cpuNanos / members.length),
        workingSetBytes: Math.floor(together.workingSetBytes / members.length),
      }))
    }
    return running.flatMap(({ name, id, role, cgroup }) => {
      const used = role === 'sandbox' ? undefined : cgroups.usage(cgroup)
      return used ? [{ name, run: id, ...used }] : []
    })
  }

  async memoryLeft(): Promise<number> {
    const { cgroups } = await this.machine()
    const most = podsMemoryBytes(observeMachineSize().memoryBytes, this.layout.podMemoryBytes)
    return most - (cgroups.usage(this.places.cgroup)?.workingSetBytes ?? 0)
  }

  private observeOne(machine: Machine, jail: JailId, id: string): ObservedContainer | undefined {
    return observeContainer(this.places.bundle(jail, id), this.places.exit(id), {
      oomKills: (cgroup) => machine.cgroups.oomKills(cgroup),
    })
  }

  async reset(): Promise<void> {
    const machine = await this.machine()
    for (const jail of observeBundles(this.places.run).keys()) await this.removePod(jail)
    await machine.cgroups.remove(this.places.cgroup)
    await machine.cgroups.remove(this.places.monitorCgroups)
    machine.cgroups.removeEmpty(this.places.daemonCgroups)
    this.machinePromise = undefined
    this.cancelRotation()
    await this.ephemeral.reset()
    unmountBelow(this.places.run)
    rmSync(this.places.run, { recursive: true, force: true })
  }

  private machine(): Promise<Machine> {
    if (!this.machinePromise) {
      this.machinePromise = this.setUp()
      this.rotateLater()
    }
    this.machinePromise.catch(() => {
      this.machinePromise = undefined
    })
    return this.machinePromise
  }

  private async setUp(): Promise<Machine> {
    const machine = await setUpMachine(this.layout, this.places, this.exits, this.tools, this.log)
    await this.ephemeral.start()
    return machine
  }

  private rotateLater(): void {
    this.cancelRotation()
    this.cancelRotation = this.clock.after(limits.LOG_ROTATE_EVERY_MS, () => {
      for (const [jail, ids] of observeBundles(this.places.run))
        for (const id of ids) {
          const record = readRecord(this.places.bundle(jail, id))
          if (!record || record.role === 'sandbox') continue
          try {
            this.logFiles.rotate(
              this.places.log(jail, record.name, record.attempt),
              this.places.bundle(jail, id),
            )
          } catch (error) {
            this.log.error('cannot rotate a log', { jail, container: record.name, error })
          }
        }
      this.rotateLater()
    })
  }

  private podRecord(jail: JailId): PodRecord | undefined {
    try {
      // Written by us into a directory that only root may change.
      return JSON.parse(readFileSync(this.places.podRecord(jail), 'utf8')) as PodRecord
    } catch {
      return undefined
    }
  }

  private async oneAtATime<T>(jail: JailId, work: () => Promise<T>): Promise<T> {
    const before = this.queues.get(jail) ?? Promise.resolve()
    const mine = before.then(work, work)
    const settled = Promise.allSettled([mine])
    this.queues.set(jail, settled)
    try {
      return await mine
    } finally {
      if (this.queues.get(jail) === settled) this.queues.delete(jail)
    }
  }
}

function available<T>(found: Found<T>): T {
  if (found.available) return found.runtime
  throw new ContainerError(
    'CreatePodSandboxError',
    'this machine cannot run containers with the required isolation',
    { cause: new Error(found.why) },
  )
}

/** No two containers of the pod ever run at the same time. */
function isAlone(jail: Jail): boolean {
  const sidecars = jail.initContainers.filter((c) => c.restartPolicy === 'Always')
  return jail.containers.length + sidecars.length === 1
}

export function usesGvisor(placement: TenantPlacement, jail: Jail): boolean {
  // The class decides; a jail can only ask for more.
  return jail.runtime === 'gvisor' || isGvisorClass(placement)
}

/**
 * Waits until the first process has become the container's own program: whoever looks at a container that runs must
 * not find the runtime's last steps, in which its filter is not yet there beside the inherited one.
 */
async function confined(first: ProcessIdentity, signal: AbortSignal): Promise<void> {
  const wanted = filtersOf('self') + FILTERS
  while (isAlive(first) && filtersOf(first.pid) < wanted) await sleep(1, signal)
}

function filtersOf(pid: number | 'self'): number {
  return Number(/^Seccomp_filters:\s(\d+)$/m.exec(readStart(`/proc/${pid}/status`, 4_096))?.[1] ?? 0)
}

/**
 * The process in a pid file, if its command line has the container's id in it: without a record of when it started, the
 * pid may have become somebody else's.
 */
function namedProcess(pidFile: string, id: string): ProcessIdentity | undefined {
  const found = readPidFile(pidFile)
  if (!found) return undefined
  try {
    return readFileSync(`/proc/${found.pid}/cmdline`, 'utf8').split('\0').includes(id) ? found : undefined
  } catch {
    return undefined
  }
}

/** How many execs and attaches each pod has open. */
class Sessions {
  private readonly counts = new Map<JailId, number>()

  /** @returns what to call, once or more often, at the session's end. */
  take(jail: JailId, max: number): () => void {
    const count = this.counts.get(jail) ?? 0
    if (count >= max)
      throw new ApiError('TooManyRequests', `The pod has ${count} exec and attach sessions already`)
    this.counts.set(jail, count + 1)
    let open = true
    return () => {
      if (!open) return
      open = false
      const left = (this.counts.get(jail) ?? 1) - 1
      if (left > 0) this.counts.set(jail, left)
      else this.counts.delete(jail)
    }
  }
}

/** Namespaces held open, as paths that work in any mount namespace with this /proc for as long as they are held. */
class HeldNamespaces implements Disposable {
  readonly paths: { user: string; net: string; ipc: string; uts: string }
  private readonly descriptors: number[] = []

  constructor({ user, net, ipc, uts }: PodNamespaces) {
    const hold = (path: string) => {
      const fd = openSync(path, 'r')
      this.descriptors.push(fd)
      return `/proc/${process.pid}/fd/${fd}`
    }
    this.paths = { user: hold(user), net: hold(net), ipc: hold(ipc), uts: hold(uts) }
  }

  [Symbol.dispose](): void {
    for (const fd of this.descriptors.splice(0)) closeSync(fd)
  }
}

/** A directory that root of the tenant's pods may pass through, and nobody else. */
function ensureShared(path: string, podUidBase: number): void {
  mkdirSync(path, { recursive: true })
  chownSync(path, 0, podUidBase)
  chmodSync(path, 0o710)
}

function writeAtomically(path: string, text: string): void {
  const next = `${path}.next`
  writeFileSync(next, text, { mode: 0o600 })
  renameSync(next, path)
}

function readStart(path: string, bytesMax: number): string {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const buffer = Buffer.alloc(bytesMax)
      let length = 0
      for (;;) {
        const read = readSync(fd, buffer, length, bytesMax - length, length)
        length += read
        if (read === 0 || length === bytesMax) return buffer.toString('utf8', 0, length)
      }
    } finally {
      closeSync(fd)
    }
  } catch {
    return ''
  }
}
