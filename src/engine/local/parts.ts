import type { Duplex, Readable } from 'node:stream'
import type { TenantName } from '../../api/index.ts'
import type {
  ClaimedVolume,
  ClaimId,
  ContainerUsage,
  BandwidthCaps,
  DiskRates,
  EgressPolicy,
  ExecOptions,
  Jail,
  JailContainer,
  JailHandler,
  JailId,
  JailProbe,
  JailVolume,
  LogOptions,
  IngressAnswer,
  IngressGrant,
  TenantEgress,
  TenantIngress,
  TenantNetwork,
  TenantPolicy,
  TenantQuota,
  TenantRank,
  TenantRegoPolicy,
} from '../../jail/index.ts'

/**
 * The parts that the local engine is put together from. `PodWorker` decides with these; each has a real implementation
 * under `host/` and a fake beside it.
 */

/** A tenant as the node agent placed it on this machine. Never built from anything a tenant sent. */
export type TenantPlacement = {
  tenant: TenantName
  /** From 0; gives the uid range, the packet mark and the addresses. Not reused while the platform exists. */
  index: number
  isolationClass: 'shared' | 'affinity' | 'sandboxed' | 'dedicated'
  /** The machine's uid that is root in the tenant's pods; 65,536 follow. */
  podUidBase: number
  /** Linux uid of its control plane: the only peer that may speak on its socket. */
  controlPlaneUid: number
  /** Registry host[:port] or host[:port]/path prefixes it may pull from. */
  registries: readonly string[]
  /** Of its Tenant object. Credentials of an earlier tenant of the same name carry another. */
  tenantUid?: string
  /** Of all its pods together; the kernel enforces it whatever its control plane lets in. */
  quota?: TenantQuota
  /** Whose pods go first on a full machine. */
  rank?: TenantRank
  /** The least level of the Pod Security Standards in its namespaces; its control plane enforces it. */
  podSecurity?: 'privileged' | 'baseline' | 'restricted'
  /** Admission policies of the operator; its control plane enforces them. */
  policies?: readonly TenantPolicy[]
  /** The same, in Rego. */
  regoPolicies?: readonly TenantRegoPolicy[]
  /** What its pods may reach outside; nothing when absent. */
  egress?: EgressPolicy
  /** Under which hosts and ports the outside reaches it; none when absent. */
  ingress?: IngressGrant
  /** What its pods together may send and receive in a second; the platform's own limit when absent. */
  bandwidth?: BandwidthCaps
  /** What its pods may read from and write to the disk in a second; the platform's own limit when absent. */
  diskRates?: DiskRates
}

export function isGvisorClass({ isolationClass }: Pick<TenantPlacement, 'isolationClass'>): boolean {
  return isolationClass === 'sandboxed' || isolationClass === 'dedicated'
}

/** An image that is on this machine, unpacked, immutable. */
export type UnpackedImage = {
  /** `repository@sha256:…` of the manifest for this machine's platform or of the index that names it, as it was pinned. */
  imageID: string
  /** Directories in overlay order, uppermost first; owned by root, readable, never written again. */
  layers: readonly string[]
  config: {
    entrypoint: readonly string[]
    cmd: readonly string[]
    env: readonly string[]
    user: string
    workingDir: string
    stopSignal?: string
    volumes: readonly string[]
  }
}

/** `reason` is the kubelet's: InvalidImageName, ErrImagePull, ErrImageNeverPull, ImageInspectError, ErrImageNotAllowed. */
export class ImageError extends Error {
  readonly reason: string
  constructor(reason: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.reason = reason
  }
}

export interface Images {
  /**
   * Makes the image be here for this tenant. A tenant that names an image which another tenant pulled must show that
   * it may pull it too: its own registry allowlist is asked, and the registry is asked again.
   * @throws {ImageError}
   */
  ensure(
    placement: TenantPlacement,
    reference: string,
    policy: JailContainer['imagePullPolicy'],
    signal: AbortSignal,
  ): Promise<UnpackedImage & { pulled: boolean }>
}

/** Namespaces of one pod, each a path that stays valid while no process is in it. */
export type PodNamespaces = { user: string; net: string; ipc: string; uts: string; podIP: string }

export interface PodNetwork {
  /** Makes the router namespace, its rules and its resolver be as they should; safe to repeat; disturbs no pod. */
  ensureNode(): Promise<void>
  ensureTenant(placement: TenantPlacement): Promise<void>
  removeTenant(tenant: TenantName): Promise<void>
  /** What the tenant's pods may reach outside from now on: what the placement says, or nothing. */
  setTenantEgress(placement: TenantPlacement): Promise<void>
  /** What the tenant may know of it. */
  tenantEgress(placement: TenantPlacement): TenantEgress
  /** How much the tenant's pods together send and receive from now on: what the placement says, or the platform's limit. */
  setTenantBandwidth(placement: TenantPlacement): Promise<void>
  ensurePod(
    placement: TenantPlacement,
    pod: {
      id: JailId
      /** Rules for single namespaces do not hold for a pod that has none. */
      namespace?: string
      /** Nor do rules for pods with labels. What is different from before holds from now on. */
      labels?: readonly string[]
      hostname: string
      hostnameRecords: readonly string[]
      /** Of its own, within its tenant's. */
      bandwidth?: BandwidthCaps
      /** Its runtime takes packets that are larger than the kernel's usual; see `packetBytesMax`. */
      largePackets?: boolean
    },
  ): Promise<PodNamespaces>
  /** A gVisor sandbox uses its network namespace up; this gives the pod a fresh one with the same address. */
  renewPod(placement: TenantPlacement, id: JailId): Promise<PodNamespaces>
  removePod(id: JailId): Promise<void>
  /** Service addresses, load balancing and names of one tenant; replaces what was there, atomically. */
  setTenantNetwork(placement: TenantPlacement, network: TenantNetwork): Promise<void>
  /** What the tenant may publish from now on: what the placement says, or nothing. */
  setTenantIngressGrant(placement: TenantPlacement): Promise<void>
  /** What the tenant publishes; replaces what was there. The answer names what cannot be. */
  setTenantIngress(placement: TenantPlacement, ingress: TenantIngress): Promise<IngressAnswer>
  /** Pods that exist here, for recovery after a restart of the agent. */
  pods(): Promise<ReadonlyMap<JailId, PodNamespaces>>
  /** A TCP connection made inside the pod's network namespace to the pod's own address. */
  connect(id: JailId, port: number, signal: AbortSignal): Promise<Duplex>
  /** What pods put into resolv.conf. */
  readonly resolver: string
  /** Removes everything that `ensureNode` and the others made. */
  reset(): Promise<void>
}

export type ContainerSpec = {
  jail: Jail
  placement: TenantPlacement
  container: JailContainer
  /** 0 for the first start, then one more per restart. */
  attempt: number
  image: UnpackedImage
  namespaces: PodNamespaces
}

export type ObservedContainer = {
  jail: JailId
  name: string
  attempt: number
  /** `crun://…`, `runc://…` or `runsc://…`. */
  containerID: string
  state:
    | { kind: 'running'; pid: number; startedAt: string }
    | { kind: 'exited'; exitCode: number; oomKilled: boolean; startedAt: string; finishedAt: string }
    /** The monitor died with its knowledge, or the creation was cut off. */
    | { kind: 'lost' }
}

/** Containers on this machine: OCI bundles, cgroups, the runtimes and their monitors. */
export interface ContainerHost {
  /** Which runtimes work here, found by trying. A missing one says why. */
  runtimes(): Promise<
    Record<'runc' | 'gvisor', { available: true; version: string } | { available: false; why: string }>
  >
  /** Directories, cgroup and volumes of a pod. */
  ensurePod(placement: TenantPlacement, jail: Jail): Promise<void>
  /** Makes the kernel hold all pods of the tenant together to its quota, now. Does nothing while it has no pods. */
  limitTenant(placement: TenantPlacement): Promise<void>
  /** Replaces the content of `files` volumes atomically, as the kubelet does (a `..data` link). */
  updateFiles(jail: Jail, volume: Extract<JailVolume, { kind: 'files' }>): Promise<void>
  start(spec: ContainerSpec, signal: AbortSignal): Promise<ObservedContainer>
  /** Does nothing when it is not running. */
  signal(jail: JailId, containerID: string, signal: string): Promise<void>
  /** Waits for the end of one container. */
  waitForExit(jail: JailId, containerID: string, signal: AbortSignal): Promise<ObservedContainer>
  /** Runs a command inside and collects at most 16 KiB of what it writes; -1 when it could not be run. */
  run(
    jail: JailId,
    containerID: string,
    command: readonly string[],
    timeoutMs: number,
  ): Promise<{ exitCode: number; output: string }>
  exec(jail: JailId, containerID: string, options: ExecOptions, signal: AbortSignal): Promise<Duplex>
  attach(
    jail: JailId,
    containerID: string,
    options: Omit<ExecOptions, 'command'>,
    signal: AbortSignal,
  ): Promise<Duplex>
  logs(
    jail: JailId,
    container: string,
    attempt: number,
    options: LogOptions,
    signal: AbortSignal,
  ): Promise<Readable>
  /** The file the container may have written its last words to; at most 4,096 bytes. */
  terminationMessage(jail: JailId, container: JailContainer, attempt: number): Promise<string>
  /** What its containers that run have used; the containers of one gVisor sandbox have equal parts of it. */
  usage(jail: JailId): Promise<ContainerUsage[]>
  /** Bytes of memory that pods can still get, all together. */
  memoryLeft(): Promise<number>
  removeContainer(jail: JailId, containerID: string): Promise<void>
  /** Everything of the pod: processes, mounts, cgroup, files, logs. */
  removePod(jail: JailId): Promise<void>
  /** What of the disk was the tenant's for its pods. Requires: none of them is left. Safe to repeat. */
  removeTenant(tenant: TenantName): Promise<void>
  observe(): Promise<{ jail: JailId; containers: ObservedContainer[] }[]>
  reset(): Promise<void>
}

/** Volumes that outlive pods, each of one tenant and with a hard end. The tenant is always that of a placement. */
export interface Claims {
  /** Removes what was cut off while it was made or destroyed, and unmounts what no pod holds. Comes after every `hold`. */
  start(): Promise<void>
  list(tenant: TenantName): ClaimedVolume[]
  /** @throws {ApiError} as `Engine.ensureVolume`. */
  ensure(placement: TenantPlacement, volume: ClaimedVolume): Promise<ClaimedVolume>
  /** @throws {ApiError} as `Engine.removeVolume`. */
  remove(tenant: TenantName, id: ClaimId): Promise<void>
  /** Requires: no pod of the tenant is left. */
  removeTenant(tenant: TenantName): Promise<void>
  /** Makes the volumes of a pod be mounted, and stay so until it lets go; safe to repeat. @throws {ContainerError} */
  hold(placement: TenantPlacement, jail: Jail): Promise<void>
  /** Requires: none of the pod's containers runs. Safe to repeat. */
  letGo(placement: TenantPlacement, jail: Jail): Promise<void>
}

export type ProbeTarget = {
  jail: JailId
  containerID: string
  /** For messages: connections go to the pod itself, whatever is written here. */
  podIP: string
}

/** Probes and lifecycle hooks that use the network, run from inside the pod's own network namespace. */
export interface Prober {
  /** `unknown` when it could not be found out, which counts neither for the pod nor against it. */
  probe(target: ProbeTarget, probe: JailProbe): Promise<{ ok: boolean; message: string; unknown?: true }>
  hook(
    target: ProbeTarget,
    handler: JailHandler,
    timeoutMs: number,
  ): Promise<{ ok: boolean; message: string }>
}
