/**
 * What no configuration of a container may ever go beyond, written from the promises (GUARANTEES.md, ARCHITECTURE.md)
 * and not from the code that renders configurations: it shares nothing with it, not even the types.
 */

export type PostureExpected = {
  tool: 'crun' | 'runc' | 'runsc'
  podUidBase: number
  /** The namespaces that were made for the pod. */
  namespaces: { user: string; net: string; ipc: string; uts: string }
  /** The only places of the machine that may be seen inside. */
  sources: ReadonlySet<string>
  rootfs: string
  cgroupsPath: string
  openFilesMax: number
  /** crun's compiled filter; whoever has none must carry the profile. */
  filterProgram?: string | undefined
  terminationMessagePath: string
}

type Json = Record<string, unknown>

const IDS = 65_536
const HARMLESS = new Set(
  'CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP'
    .split(' ')
    .map((name) => `CAP_${name}`),
)
const MASKED = [
  '/proc/acpi',
  '/proc/kcore',
  '/proc/keys',
  '/proc/sched_debug',
  '/proc/timer_list',
  '/sys/firmware',
]
const READ_ONLY = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']
/** Type and options of what is mounted beside volumes and files of the pod's own; `size` may differ. */
const SYSTEM_MOUNTS: Readonly<Record<string, { type: string; options: readonly string[] }>> = {
  '/proc': { type: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  '/dev': { type: 'tmpfs', options: ['nosuid', 'noexec', 'strictatime', 'mode=755'] },
  '/dev/pts': {
    type: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  '/dev/mqueue': { type: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
  '/sys': { type: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  '/sys/fs/cgroup': { type: 'cgroup', options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'] },
  '/dev/shm': { type: 'tmpfs', options: ['nosuid', 'noexec', 'nodev', 'mode=1777'] },
}
const BIND_OPTIONS = new Set(['rbind', 'rprivate', 'nosuid', 'nodev', 'noexec', 'ro', 'rw'])
const PROFILE_ANNOTATION = 'run.oci.seccomp_bpf_data'
const SANDBOX_ANNOTATIONS = new Set(['io.kubernetes.cri.container-type', 'io.kubernetes.cri.sandbox-id'])
/** Never without a look at the arguments, by whatever name. */
const DANGEROUS = new Set(
  `mount umount2 pivot_root setns unshare clone clone3 bpf ptrace perf_event_open userfaultfd kexec_load kexec_file_load
   init_module finit_module delete_module io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key
   open_by_handle_at socket socketpair socketcall personality ioctl process_vm_readv process_vm_writev pidfd_getfd kcmp
   move_mount fsopen fsconfig fsmount fspick open_tree mount_setattr reboot swapon swapoff acct iopl ioperm modify_ldt
   syslog settimeofday clock_settime sethostname setdomainname quotactl fanotify_init vhangup`.split(/\s+/),
)
const FILTERED_BY_ARGUMENT = new Set(['clone', 'socket', 'socketpair', 'personality', 'ioctl'])

/** The first thing that is wrong with a configuration, or undefined. */
export function postureProblem(config: unknown, expected: PostureExpected): string | undefined {
  const top = config as Json
  const strangers = strangersIn(top, 'ociVersion process root hostname mounts annotations linux')
  if (strangers) return strangers
  return (
    processProblem(top['process'] as Json, expected) ??
    mountsProblem(top['mounts'] as Json[], expected) ??
    linuxProblem(top['linux'] as Json, expected) ??
    annotationsProblem(top['annotations'] as Json, expected) ??
    rootProblem(top['root'] as Json, expected)
  )
}

function processProblem(process: Json, { openFilesMax }: PostureExpected): string | undefined {
  const strangers = strangersIn(
    process,
    'terminal user args env cwd capabilities rlimits noNewPrivileges oomScoreAdj',
  )
  if (strangers) return strangers
  if (process['noNewPrivileges'] !== true) return 'no_new_privs is off'
  if (typeof process['terminal'] !== 'boolean') return 'terminal'
  const capabilities = process['capabilities'] as Record<string, string[]>
  if (Object.keys(capabilities).sort().join() !== 'bounding,effective,permitted')
    return 'other sets of capabilities'
  for (const [set, names] of Object.entries(capabilities))
    for (const name of names) if (!HARMLESS.has(name)) return `${name} is ${set}`
  const user = process['user'] as { uid: number; gid: number; additionalGids: number[] }
  if (Object.keys(user).sort().join() !== 'additionalGids,gid,uid') return 'fields of user'
  for (const id of [user.uid, user.gid, ...user.additionalGids])
    if (!Number.isInteger(id) || id < 0 || id >= IDS) return `id ${id}`
  const rlimits = process['rlimits'] as { type: string; hard: number; soft: number }[]
  const limitOf = (type: string) => rlimits.filter((limit) => limit.type === type)
  const [files, ...moreFiles] = limitOf('RLIMIT_NOFILE')
  const [core, ...moreCore] = limitOf('RLIMIT_CORE')
  if (!files || moreFiles.length > 0 || files.hard > openFilesMax || files.soft > files.hard)
    return 'open files'
  if (!core || moreCore.length > 0 || core.hard > 1 || core.soft > 1) return 'core files'
  const [tasks, ...moreTasks] = limitOf('RLIMIT_NPROC')
  if (!tasks || moreTasks.length > 0 || tasks.hard > 16_384 || tasks.soft > tasks.hard) return 'tasks'
  if (rlimits.length !== 3) return 'other limits'
  const score = process['oomScoreAdj'] as number
  if (!Number.isInteger(score) || score < 0 || score > 1_000) return `oom_score_adj ${score}`
  const cwd = process['cwd'] as string
  if (!isCleanPath(cwd)) return `cwd ${JSON.stringify(cwd)}`
  const args = process['args'] as string[]
  if (args.length === 0 || args.some((word) => typeof word !== 'string' || word.includes('\0'))) return 'args'
  for (const entry of process['env'] as string[])
    if (typeof entry !== 'string' || entry.includes('\0') || entry.indexOf('=') < 1)
      return `environment ${JSON.stringify(entry)}`
  return undefined
}

function mountsProblem(mounts: Json[], expected: PostureExpected): string | undefined {
  const seen = new Set<string>()
  for (const mount of mounts) {
    const { destination, type, source, options } = mount as {
      destination: string
      type: string
      source: string
      options: string[]
    }
    if (Object.keys(mount).length !== 4) return `fields of the mount at ${destination}`
    if (!isCleanPath(destination) || destination === '/') return `destination ${JSON.stringify(destination)}`
    if (seen.has(destination)) return `two mounts at ${destination}`
    seen.add(destination)
    const system = SYSTEM_MOUNTS[destination]
    if (system && type !== 'bind') {
      const known = options.filter((option) => !option.startsWith('size='))
      if (type !== system.type || source !== system.type || known.join() !== system.options.join())
        return `system mount at ${destination}: ${type} ${source} ${options.join()}`
      continue
    }
    if (type !== 'bind') return `${type} at ${destination}`
    if (!expected.sources.has(source)) return `source ${source}`
    const strange = options.find((option) => !BIND_OPTIONS.has(option))
    if (strange !== undefined) return `option ${strange} at ${destination}`
    if (!['rprivate', 'nosuid', 'nodev'].every((option) => options.includes(option)))
      return `options at ${destination}: ${options.join()}`
    const kernels = /^\/(proc|sys|dev)(\/|$)/.test(destination)
    const termination = clean(expected.terminationMessagePath)
    if (kernels && destination !== '/dev/shm' && destination !== termination)
      return `destination ${destination}`
    if (/^\/(proc|sys)(\/|$)/.test(destination)) return `destination ${destination}`
  }
  for (const path of ['/proc', '/dev', '/dev/pts', '/sys', '/dev/shm'])
    if (!seen.has(path)) return `nothing of ours at ${path}`
  return undefined
}

function linuxProblem(linux: Json, expected: PostureExpected): string | undefined {
  const { tool } = expected
  const strangers = strangersIn(
    linux,
    'namespaces uidMappings gidMappings cgroupsPath resources rootfsPropagation maskedPaths readonlyPaths seccomp',
  )
  if (strangers) return strangers
  const { user, net, ipc, uts } = expected.namespaces
  const joined = tool === 'runsc' ? { network: net } : { network: net, user, ipc, uts }
  const fresh = tool === 'runsc' ? ['user', 'ipc', 'uts', 'pid', 'mount'] : ['pid', 'mount', 'cgroup']
  const wanted = [...Object.entries(joined).map(([type, path]) => `${type} ${path}`), ...fresh].sort()
  const got = (linux['namespaces'] as { type: string; path?: string }[])
    .map(({ type, path }) => (path === undefined ? type : `${type} ${path}`))
    .sort()
  if (got.join('|') !== wanted.join('|')) return `namespaces ${got.join('|')}`
  for (const field of ['uidMappings', 'gidMappings']) {
    const [mapping, ...more] = linux[field] as { containerID: number; hostID: number; size: number }[]
    if (!mapping || more.length > 0) return field
    if (mapping.containerID !== 0 || mapping.hostID !== expected.podUidBase || mapping.size !== IDS)
      return `${field} ${JSON.stringify(mapping)}`
  }
  if (linux['cgroupsPath'] !== expected.cgroupsPath) return `cgroup ${String(linux['cgroupsPath'])}`
  if (linux['rootfsPropagation'] !== 'private') return 'propagation'
  const masked = linux['maskedPaths'] as string[]
  const readOnly = linux['readonlyPaths'] as string[]
  for (const path of MASKED) if (!masked.includes(path)) return `${path} is not masked`
  for (const path of READ_ONLY) if (!readOnly.includes(path)) return `${path} can be written`
  return resourcesProblem(linux['resources'] as Json, tool) ?? seccompProblem(linux['seccomp'], expected)
}

function resourcesProblem(resources: Json, tool: string): string | undefined {
  // The sandbox is one cgroup, which the engine limits itself.
  if (tool === 'runsc') return Object.keys(resources).length === 0 ? undefined : 'resources of a sandbox'
  const strangers = strangersIn(resources, 'devices memory cpu pids')
  if (strangers) return strangers
  if (JSON.stringify(resources['devices']) !== '[{"allow":false,"access":"rwm"}]') return 'devices'
  const { pids, cpu, memory } = resources as {
    pids?: { limit: number }
    cpu?: { shares: number; quota?: number; period?: number }
    memory?: { limit: number; swap?: number }
  }
  if (!pids || !(pids.limit > 0 && pids.limit <= 4_096)) return 'pids'
  if (!cpu || !(cpu.shares >= 2 && cpu.shares <= 262_144)) return 'cpu shares'
  if (cpu.quota !== undefined && !(Number.isSafeInteger(cpu.quota) && cpu.quota > 0)) return 'cpu quota'
  if (memory && !(Number.isSafeInteger(memory.limit) && memory.limit > 0)) return 'memory'
  if (memory?.swap !== undefined && memory.swap !== memory.limit) return 'swap'
  return undefined
}

function seccompProblem(seccomp: unknown, { tool, filterProgram }: PostureExpected): string | undefined {
  if (tool === 'crun' && filterProgram !== undefined) return seccomp === undefined ? undefined : 'two filters'
  const profile = seccomp as {
    defaultAction: string
    architectures: string[]
    syscalls: { names: string[]; action: string; args?: unknown[] }[]
  }
  if (profile === undefined) return 'no filter'
  if (!['SCMP_ACT_ERRNO', 'SCMP_ACT_TRACE'].includes(profile.defaultAction)) return profile.defaultAction
  if (profile.architectures.length !== 1) return 'architectures'
  let allowed = 0
  for (const { names, action, args } of profile.syscalls) {
    if (action === 'SCMP_ACT_ERRNO') continue
    if (action !== 'SCMP_ACT_ALLOW') return `action ${action}`
    allowed += names.length
    for (const name of names)
      if (DANGEROUS.has(name) && !(args && args.length > 0 && FILTERED_BY_ARGUMENT.has(name)))
        return `${name} is allowed`
  }
  return allowed > 100 && allowed < 400 ? undefined : `${allowed} calls are allowed`
}

function annotationsProblem(annotations: Json, { tool, filterProgram }: PostureExpected): string | undefined {
  if (tool === 'crun' && filterProgram !== undefined && annotations[PROFILE_ANNOTATION] !== filterProgram)
    return 'the compiled filter is missing'
  const known = (name: string) =>
    (tool === 'crun' && name === PROFILE_ANNOTATION) || (tool === 'runsc' && SANDBOX_ANNOTATIONS.has(name))
  const stranger = Object.keys(annotations).find((name) => !known(name))
  return stranger === undefined ? undefined : `annotation ${stranger}`
}

function rootProblem(root: Json, { rootfs }: PostureExpected): string | undefined {
  if (strangersIn(root, 'path readonly')) return 'fields of root'
  return root['path'] === rootfs && typeof root['readonly'] === 'boolean' ? undefined : 'root file system'
}

function strangersIn(object: Json, known: string): string | undefined {
  const names = known.split(' ')
  const stranger = Object.keys(object).find((key) => !names.includes(key))
  return stranger === undefined ? undefined : `a field ${JSON.stringify(stranger)}`
}

function isCleanPath(path: unknown): boolean {
  if (typeof path !== 'string' || !path.startsWith('/') || path.includes('\0')) return false
  return (
    path === '/' ||
    path
      .slice(1)
      .split('/')
      .every((segment) => !['', '.', '..'].includes(segment))
  )
}

function clean(path: string): string {
  return `/${path
    .split('/')
    .filter((segment) => segment !== '' && segment !== '.')
    .join('/')}`
}
