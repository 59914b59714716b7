import { IDS_PER_TENANT } from '../../../../api/index.ts'
import type { Jail, JailContainer } from '../../../../jail/index.ts'
import type { TenantPlacement, UnpackedImage } from '../../parts.ts'
import { renderCapabilities } from './capabilities.ts'
import type { OciConfig, OciProcess } from './config-types.ts'
import { type MountSources, renderMounts } from './mounts.ts'
import { type Addresses, renderArgs, renderCwd, renderEnvironment } from './process.ts'
import { MASKED_PATHS, READONLY_PATHS } from './protected-paths.ts'
import { oomScoreAdj, PIDS_PER_TENANT_MAX, renderResources } from './resources.ts'
import { renderSeccomp } from './seccomp.ts'
import type { ResolvedUser } from './user.ts'

/** What the machine allows us; observed once at start. */
export type MachineFacts = {
  architecture: 'x64' | 'arm64'
  /** Our own hard limit of open files; more needs CAP_SYS_RESOURCE. */
  openFilesMax: number
  /** The same of tasks. */
  tasksMax: number
  ownOomScoreAdj: number
  memoryBytesTotal: number
  /** The memory controller accounts for swap. */
  swap: boolean
  /** The runtime can give the container a read-only view of its own cgroup. */
  cgroupMount: boolean
}

export type ConfigInput = {
  tool: 'crun' | 'runc' | 'runsc'
  jail: Jail
  container: JailContainer
  placement: TenantPlacement
  image: UnpackedImage['config']
  user: ResolvedUser
  addresses: Addresses
  namespaces: { user: string; net: string; ipc: string; uts: string }
  sources: MountSources
  rootfs: string
  cgroupsPath: string
  facts: MachineFacts
  /** crun takes the compiled filter and so is spared compiling it; it must come from `renderSeccomp`. */
  seccompProgramBase64?: string
  /** gVisor: the sandbox that this container joins. */
  sandboxId?: string
}

/** Most open files that a container gets; beyond it, programs that close all possible descriptors take seconds. */
const OPEN_FILES_MAX = 65_536

/**
 * The OCI configuration of one container: everything that the jail's narrow waist promises is added here. Pure.
 * @throws {ContainerError} when the jail asks for something that cannot be.
 */
export function renderConfig(input: ConfigInput): OciConfig {
  const { tool, jail, container, placement, sources, facts } = input
  const gvisor = tool === 'runsc'
  const mapping = [{ containerID: 0, hostID: placement.podUidBase, size: IDS_PER_TENANT }]
  return {
    ociVersion: '1.0.2',
    process: renderProcess(input),
    root: { path: input.rootfs, readonly: container.readOnlyRootFilesystem },
    // Elsewhere the uts namespace has its name already.
    ...(gvisor ? { hostname: jail.hostname } : {}),
    mounts: renderMounts(jail, container, sources, { gvisor, cgroup: !gvisor && facts.cgroupMount }),
    annotations: {
      ...(tool === 'crun' && input.seccompProgramBase64 !== undefined
        ? { 'run.oci.seccomp_bpf_data': input.seccompProgramBase64 }
        : {}),
      ...(gvisor && input.sandboxId !== undefined
        ? {
            'io.kubernetes.cri.container-type': 'container',
            'io.kubernetes.cri.sandbox-id': input.sandboxId,
          }
        : {}),
    },
    linux: {
      namespaces: [
        // runsc makes the user namespace itself and cannot join one.
        gvisor ? { type: 'user' } : { type: 'user', path: input.namespaces.user },
        { type: 'network', path: input.namespaces.net },
        gvisor ? { type: 'ipc' } : { type: 'ipc', path: input.namespaces.ipc },
        gvisor ? { type: 'uts' } : { type: 'uts', path: input.namespaces.uts },
        { type: 'pid' },
        { type: 'mount' },
        ...(gvisor ? [] : [{ type: 'cgroup' as const }]),
      ],
      uidMappings: mapping,
      gidMappings: mapping,
      cgroupsPath: input.cgroupsPath,
      // The sandbox is one cgroup, the pod's; the limits are on it.
      resources: gvisor ? {} : renderResources(container.resources, { swap: facts.swap }),
      rootfsPropagation: 'private',
      maskedPaths: Object.keys(MASKED_PATHS),
      readonlyPaths: Object.keys(READONLY_PATHS),
      ...(tool === 'crun' && input.seccompProgramBase64 !== undefined
        ? {}
        : { seccomp: renderSeccomp(facts.architecture, { sentry: gvisor }) }),
    },
  }
}

function renderProcess({ container, image, user, jail, addresses, facts }: ConfigInput): OciProcess {
  const env = renderEnvironment(container, image, { hostname: jail.hostname, user, addresses })
  const capabilities = renderCapabilities(container)
  return {
    terminal: container.tty,
    user: { uid: user.uid, gid: user.gid, additionalGids: [...user.additionalGids] },
    args: renderArgs(container, image, addresses),
    env: [...env].map(([name, value]) => `${name}=${value}`),
    cwd: renderCwd(container, image),
    // Nothing inheritable or ambient: a program of another user than root starts without any.
    capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    rlimits: renderRlimits(facts),
    noNewPrivileges: true,
    oomScoreAdj: oomScoreAdj(container.resources, {
      own: facts.ownOomScoreAdj,
      memoryBytesTotal: facts.memoryBytesTotal,
    }),
  }
}

function renderRlimits(facts: MachineFacts): OciProcess['rlimits'] {
  const files = Math.min(facts.openFilesMax, OPEN_FILES_MAX)
  const tasks = Math.min(facts.tasksMax, PIDS_PER_TENANT_MAX)
  return [
    { type: 'RLIMIT_NOFILE', hard: files, soft: files },
    // Counted by user and user namespace, and not by cgroup; only the machine's root may raise it.
    { type: 'RLIMIT_NPROC', hard: tasks, soft: tasks },
    // 1 and not 0: only 1 keeps the kernel from starting the machine's core dump handler (core(5)).
    { type: 'RLIMIT_CORE', hard: 1, soft: 1 },
  ]
}

/** The process of an exec: the container's own, with another command and maybe a terminal. */
export function renderExecProcess(
  process: OciProcess,
  command: readonly string[],
  { tty }: { tty: boolean },
): OciProcess {
  const env =
    tty && !process.env.some((e) => e.startsWith('TERM=')) ? [...process.env, 'TERM=xterm'] : process.env
  return { ...process, terminal: tty, args: [...command], env }
}

/** The empty process that holds a gVisor sandbox for several containers. */
export function renderSandboxConfig({
  placement,
  jail,
  rootfs,
  net,
  cgroupsPath,
  program,
}: {
  placement: TenantPlacement
  jail: Jail
  rootfs: string
  net: string
  cgroupsPath: string
  program: string
}): OciConfig {
  const mapping = [{ containerID: 0, hostID: placement.podUidBase, size: IDS_PER_TENANT }]
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: false,
      user: { uid: 65_535, gid: 65_535, additionalGids: [] },
      args: [program],
      env: [],
      cwd: '/',
      capabilities: { bounding: [], effective: [], permitted: [] },
      rlimits: [],
      noNewPrivileges: true,
      oomScoreAdj: 0,
    },
    root: { path: rootfs, readonly: true },
    hostname: jail.hostname,
    mounts: [{ destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] }],
    annotations: { 'io.kubernetes.cri.container-type': 'sandbox' },
    linux: {
      namespaces: [
        { type: 'user' },
        { type: 'network', path: net },
        { type: 'ipc' },
        { type: 'uts' },
        { type: 'pid' },
        { type: 'mount' },
      ],
      uidMappings: mapping,
      gidMappings: mapping,
      cgroupsPath,
      resources: {},
      rootfsPropagation: 'private',
      maskedPaths: Object.keys(MASKED_PATHS),
      readonlyPaths: Object.keys(READONLY_PATHS),
    },
  }
}
