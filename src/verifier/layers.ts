import { type PodLink, type RouterPosture, UPLINK } from './posture/network.ts'
import { renderFrame, runBpf } from './posture/classic-bpf.ts'
import type { CgroupPosture, DiskRates } from './posture/cgroups.ts'
import type { ControlPlanePosture } from './posture/control-planes.ts'
import type { ObservedUses } from './posture/observed-use.ts'
import type { PlatformFiles } from './posture/files.ts'
import type { PartitionPosture } from './posture/partitions.ts'
import type { SourceChecks } from './posture/routing.ts'
import type { TaskCounter } from './posture/task-counters.ts'
import { type IdRange, overlaps, type ProcessPosture } from './posture/processes.ts'
import type { Packet } from './posture/ruleset.ts'
import type { EphemeralPosture, VolumePosture } from './posture/volumes.ts'
import type { LayerName } from './vectors.ts'

/** What was seen of one tenant. Everything here was read from the machine. */
export type TenantPosture = {
  name: string
  /** What the operator was promised; the only thing that is told and not seen. */
  isolationClass: string
  /** Processes in the tenant's cgroups, without the monitors. */
  processes: readonly ProcessPosture[]
  /** Links of pods whose network namespace one of those processes is in. */
  links: readonly PodLink[]
  /** What the operator said that it may use; undefined is without limit. */
  quota?: {
    cpus?: number | undefined
    memoryBytes?: number | undefined
    egressBitsPerSecond?: number | undefined
    ingressBitsPerSecond?: number | undefined
  }
  /** Of every cgroup that a process of its is in. */
  diskRates?: readonly DiskRates[]
  /** What limits writes through the cache to its own device for what is ephemeral, as the kernel says. */
  cachedWrites?: readonly { device: string; writeBytes: number | 'counted' | undefined }[]
  /** Networks outside that the operator opened for it. */
  openedNetworks?: readonly string[]
  /** The operator opened something outside for it, by network or by name. */
  opensOutside?: boolean
  cgroup?: CgroupPosture | undefined
  taskCounters?: readonly TaskCounter[]
  controlPlane?: ControlPlanePosture | undefined
  partition?: PartitionPosture | undefined
  /**
   * Its control plane has no socket, and no process where it would have one of its own: there is none to speak with.
   * `uid` owns its partition, and runs it when it wakes.
   */
  asleep?: { uid: number } | undefined
}

export type MachinePosture = {
  namespaces: ProcessPosture['namespaces']
  addresses: readonly string[]
  users: readonly { name: string; uid: number }[]
  /** What the node agent saw, and when we looked at that. */
  observedUses: ObservedUses | undefined
  observedAtMs: number
  /** As many tasks as it can have. */
  tasksMax: number
  router: RouterPosture | { problem: string }
  volumes: readonly VolumePosture[]
  /** File systems for what is ephemeral, one of each tenant with pods. */
  ephemeral: readonly EphemeralPosture[]
  diskFreeBytes: number
  /** The device that a path of the machine is on. */
  deviceOf(path: string): string | undefined
  sourceChecks: readonly SourceChecks[]
  processorLeaks: readonly { name: string; state: string }[] | undefined
  files: PlatformFiles
  /** Directories of the platform and of pods, and devices of volumes: `owner` is the tenant, or undefined for the platform's own. */
  ownerOfPath(path: string): { owner: string | undefined } | undefined
}

/** One layer between an attacker and a victim: whether it holds, and what shows it. */
export type LayerResult = { layer: LayerName; holds: boolean; evidence: string[] }

/** Capabilities that reach into the kernel or past the namespaces, by bit (capabilities(7)). */
const DANGEROUS_CAPABILITIES: Record<string, number> = {
  DAC_READ_SEARCH: 2,
  LINUX_IMMUTABLE: 9,
  NET_ADMIN: 12,
  NET_RAW: 13,
  SYS_MODULE: 16,
  SYS_RAWIO: 17,
  SYS_PTRACE: 19,
  SYS_ADMIN: 21,
  SYS_BOOT: 22,
  SYS_TIME: 25,
  MKNOD: 27,
  AUDIT_CONTROL: 30,
  MAC_OVERRIDE: 32,
  SYSLOG: 34,
  PERFMON: 38,
  BPF: 39,
}
/** Of a program on the machine's kernel: the one it inherits from whatever starts runtimes, and its container's own. */
const FILTERS = 2
const METADATA_ADDRESSES = ['169.254.169.254', '169.254.170.2']
const PROBED_PORTS = [22, 53, 80, 443, 2375, 6443, 7443, 10250]
const RUNSC = /^(?:\/usr(?:\/local)?)?\/s?bin\/runsc$/

export const isGvisor = (process: ProcessPosture) =>
  RUNSC.test(process.exe) || process.exe.startsWith('/memfd:runsc')

/** Root in a pod is nobody on the machine, and its ids are no other tenant's. */
export function userNamespaceLayer(
  attacker: TenantPosture,
  victim: TenantPosture,
  machine: MachinePosture,
): LayerResult {
  const problems: string[] = []
  const theirs = victim.processes.flatMap((p) =>
    p.uidMap.filter(() => p.namespaces.user !== machine.namespaces.user),
  )
  for (const p of attacker.processes) {
    const at = `process ${p.pid} (${p.command})`
    if (p.namespaces.user === machine.namespaces.user)
      problems.push(`${at} is in the machine's user namespace`)
    for (const range of [...p.uidMap, ...p.gidMap]) {
      const user = machine.users.find(({ uid }) => overlaps(range, { from: uid, count: 1 }))
      if (user) problems.push(`${at} maps the machine's uid ${user.uid} (${user.name})`)
      const shared = theirs.find((other) => overlaps(range, other))
      if (shared)
        problems.push(
          `${at} maps ids from ${range.from}, and so does tenant ${victim.name} from ${shared.from}`,
        )
    }
    if (!p.uidMap.some((range) => p.uid >= range.from && p.uid < range.from + range.count))
      problems.push(`${at} runs as uid ${p.uid}, outside its own map`)
  }
  const ranges = distinct(
    attacker.processes.flatMap((p) => p.uidMap.map((r: IdRange) => `${r.from}+${r.count}`)),
  )
  return result(
    'user namespace',
    problems,
    `${attacker.processes.length} processes in ${count(attacker, 'user')} user namespaces, ids ${ranges.join(', ')}`,
  )
}

export function systemCallFilterLayer(attacker: TenantPosture): LayerResult {
  const problems: string[] = []
  for (const p of attacker.processes) {
    const at = `process ${p.pid} (${p.command})`
    if (p.seccompMode !== 2 || p.seccompFilters < 1) problems.push(`${at} has no system call filter`)
    else if (p.seccompFilters < FILTERS && !isGvisor(p))
      problems.push(`${at} has only one system call filter: its own, or the one it inherits, is missing`)
    if (!p.noNewPrivs) problems.push(`${at} may gain privileges with execve`)
    // gVisor's own processes need some for their work; what a tenant's program does never reaches them.
    if (isGvisor(p)) continue
    const held = Object.entries(DANGEROUS_CAPABILITIES).flatMap(([name, bit]) =>
      ((p.capBnd | p.capEff) >> BigInt(bit)) & 1n ? [name] : [],
    )
    if (held.length > 0) problems.push(`${at} can have ${held.join(', ')}`)
  }
  return result(
    'system call filter',
    problems,
    `Seccomp 2 and NoNewPrivs 1 in all ${attacker.processes.length} processes, ${FILTERS} filters in each on the machine's kernel`,
  )
}

export function applicationKernelLayer(attacker: TenantPosture): LayerResult {
  const direct = attacker.processes.filter((p) => !isGvisor(p))
  const problems = direct
    .slice(0, 3)
    .map((p) => `process ${p.pid} (${p.command}) runs "${p.exe}" on the machine's kernel`)
  return result('application kernel', problems, `all ${attacker.processes.length} processes are gVisor's`)
}

export function mountViewLayer(attacker: TenantPosture, machine: MachinePosture): LayerResult {
  const problems: string[] = []
  let seen = 0
  for (const p of attacker.processes) {
    if (p.namespaces.mnt === machine.namespaces.mnt)
      problems.push(`process ${p.pid} (${p.command}) is in the machine's mount namespace`)
    for (const mount of p.mounts) {
      seen++
      const places = [
        mount.root,
        mount.source,
        ...mount.options
          .split(',')
          .flatMap((option) => /^(?:lowerdir|upperdir|workdir)=(.*)$/.exec(option)?.[1]?.split(':') ?? []),
      ]
      for (const place of places) {
        const owned = machine.ownerOfPath(place)
        if (owned && owned.owner !== attacker.name)
          problems.push(
            `process ${p.pid} (${p.command}) has "${place}" of ${owned.owner ?? 'the platform'} mounted at "${mount.mountPoint}"`,
          )
      }
    }
  }
  return result('mount view', problems, `${seen} mounts in ${count(attacker, 'mnt')} mount namespaces`)
}

/** What a process that is not the machine's root finds closed, wherever it may be mounted or run. */
export function volumeFilesLayer(victim: TenantPosture, machine: MachinePosture): LayerResult {
  const volumes = machine.volumes.filter(({ tenant }) => tenant === victim.name)
  const problems = [
    ...new Map(volumes.flatMap(({ paths }) => paths.map((path) => [path.path, path]))).values(),
  ].flatMap(({ path, uid, mode }) => [
    ...(uid === 0 ? [] : [`"${path}" belongs to uid ${uid}`]),
    // A device is its group's too, which nobody of a tenant is in.
    ...((mode & (path.startsWith('/dev/') ? 0o007 : 0o077)) === 0
      ? []
      : [`"${path}" is open to others (mode ${mode.toString(8)})`]),
  ])
  return result(
    'volume files',
    problems,
    `${volumes.length} volumes of ${victim.name}, ${volumes.filter((v) => v.device).length} mounted, all below directories of root`,
  )
}

/** In memory, where other limits hold, or the kernel's own. */
const DEVICE = /^\/(?:null|zero|full|tty|random|urandom)$/
const NOT_ON_DISK = ['tmpfs', 'proc', 'sysfs', 'devpts', 'mqueue', 'cgroup', 'cgroup2']

/** Where a process may write, and on which device that is. `deviceOf` tells it of a path of the machine. */
export function writableDevices(
  mounts: ProcessPosture['mounts'],
  deviceOf: (path: string) => string | undefined,
): { device: string; mountPoint: string }[] {
  return mounts.flatMap(({ root, type, options, source, mountPoint }) => {
    // One of the machine's devices: what is written goes to it, and to no disk.
    if (type === 'devtmpfs' && DEVICE.test(root)) return []
    // The options of the mount come before those of the file system: either of them closes it.
    if (NOT_ON_DISK.includes(type) || options.split(',').includes('ro')) return []
    const upper = /(?:^|,)upperdir=([^,]*)/.exec(options)?.[1]
    // What is laid over an image without a place to write to cannot be written.
    if (type === 'overlay' && upper === undefined) return []
    return [{ device: upper === undefined ? source : (deviceOf(upper) ?? upper), mountPoint }]
  })
}

/** Wherever the tenant's processes may write, the kernel has an end for it that is their tenant's own. */
export function ephemeralLayer(attacker: TenantPosture, machine: MachinePosture): LayerResult {
  const problems: string[] = []
  const devices = new Map<string, number>()
  for (const p of attacker.processes)
    for (const { device, mountPoint } of writableDevices(p.mounts, machine.deviceOf))
      if (machine.ownerOfPath(device)?.owner === attacker.name)
        devices.set(device, (devices.get(device) ?? 0) + 1)
      else
        problems.push(
          `process ${p.pid} (${p.command}) can write to ${device} at "${mountPoint}", which is no file system of its tenant's own`,
        )
  const own = machine.ephemeral.find(({ tenant }) => tenant === attacker.name)
  if (own && own.bytes > own.fileBytes)
    problems.push(`the file system of ${attacker.name} is larger than its file: ${own.bytes} bytes`)
  const promised = machine.ephemeral.reduce((sum, { canTakeBytes }) => sum + canTakeBytes, 0)
  if (promised > machine.diskFreeBytes)
    problems.push(
      `file systems of all tenants can still take ${promised} bytes from a disk that has ${machine.diskFreeBytes}`,
    )
  const writable = [...devices.values()].reduce((sum, mounts) => sum + mounts, 0)
  return result(
    'file system of its own',
    problems,
    own
      ? `${writable} writable mounts on ${[...devices.keys()].join(', ') || 'no disk'}; ${own.device} has ${own.usedBytes} of ${own.bytes} bytes and ${own.files} files`
      : `${attacker.name} has no file system for what is ephemeral, and ${writable} writable mounts`,
  )
}

/** The loaded rules, asked about every pod of one against every pod of the other. */
export function routerRulesLayer(
  attacker: TenantPosture,
  victim: TenantPosture,
  machine: MachinePosture,
): LayerResult {
  const { router } = machine
  if ('problem' in router) return result('router rules', [router.problem], '')
  const problems: string[] = []
  let asked = 0
  const by = new Set<string>()
  for (const from of attacker.links) {
    for (const to of victim.links) {
      for (const l4proto of ['tcp', 'udp', 'icmp'] as const) {
        for (const oifname of [to.interfaceName, ...(router.uplink ? [UPLINK] : [])]) {
          asked++
          const packet = packetFrom(from, { daddr: to.address, oifname, l4proto })
          const verdict = router.ruleset.evaluate(packet, ['prerouting', 'forward', 'postrouting'])
          if (verdict.verdict === 'drop') by.add(verdict.by)
          else
            problems.push(
              `${l4proto} from ${from.address} to ${to.address}: ${verdict.verdict} (${verdict.by})`,
            )
        }
      }
    }
  }
  return result('router rules', problems, `${asked} packets asked, dropped by ${[...by].join(', ')}`)
}

/** The filters on the victims' own links, run over frames from the attackers. */
export function linkFilterLayer(attacker: TenantPosture, victim: TenantPosture): LayerResult {
  const TC_ACT_SHOT = 2
  const problems: string[] = []
  let asked = 0
  for (const to of victim.links) {
    for (const from of attacker.links) {
      asked++
      const frame = renderFrame({
        sourceMac: from.mac,
        targetMac: to.mac,
        saddr: from.address,
        daddr: to.address,
        dport: 80,
      })
      const dropped = to.egressFilters.some((program) => runBpf(program, frame) === TC_ACT_SHOT)
      if (!dropped)
        problems.push(
          `the link ${to.interfaceName} of ${to.address} lets a frame from ${from.address} through`,
        )
    }
  }
  return result(
    'link filter',
    problems,
    `${asked} frames run through the filters of ${victim.links.length} links`,
  )
}

/** The filter on the attacker's own link, run over frames that its pods would send to these addresses. */
function ownLinkDrops(
  attacker: TenantPosture,
  frames: (from: PodLink) => { saddr: string; daddr: string }[],
  evidence: (asked: number) => string,
): LayerResult {
  const TC_ACT_SHOT = 2
  const problems: string[] = []
  let asked = 0
  for (const from of attacker.links) {
    for (const { saddr, daddr } of frames(from)) {
      asked++
      const frame = renderFrame({ sourceMac: from.mac, targetMac: NO_MAC, saddr, daddr, dport: 443 })
      if (!from.ingressFilters.some((program) => runBpf(program, frame) === TC_ACT_SHOT))
        problems.push(`the link ${from.interfaceName} lets a frame from ${saddr} to ${daddr} through`)
    }
  }
  return result('link filter', problems, evidence(asked))
}

export function outsideLinkFilterLayer(attacker: TenantPosture): LayerResult {
  return ownLinkDrops(
    attacker,
    ({ address }) => PUBLIC_ADDRESSES.map((daddr) => ({ saddr: address, daddr })),
    (asked) => `${asked} frames to addresses outside are dropped by the filters of the pods' own links`,
  )
}

export function machineLinkFilterLayer(attacker: TenantPosture, machine: MachinePosture): LayerResult {
  const targets = [...ipv4Of(machine.addresses), ...METADATA_ADDRESSES]
  return ownLinkDrops(
    attacker,
    ({ address }) => targets.map((daddr) => ({ saddr: address, daddr })),
    (asked) =>
      `${asked} frames to the machine and to metadata are dropped by the filters of the pods' own links`,
  )
}

export function noPathToMachineLayer(attacker: TenantPosture, machine: MachinePosture): LayerResult {
  const { router } = machine
  if ('problem' in router) return result('no path to the machine', [router.problem], '')
  return result(
    'no path to the machine',
    pathsToMachine(attacker, machine, router, { uplink: false }),
    `the router (namespace ${router.inode}) has ${router.pods.length} pod links, no other link and no other route`,
  )
}

/** Where there is a way outside: no other way, and a filter on this one, run over frames to the machine and metadata. */
export function uplinkFilterLayer(attacker: TenantPosture, machine: MachinePosture): LayerResult {
  const TC_ACT_SHOT = 2
  const { router } = machine
  if ('problem' in router) return result('uplink filter', [router.problem], '')
  const { uplink } = router
  if (!uplink) return result('uplink filter', ['there is no uplink'], '')
  const problems = pathsToMachine(attacker, machine, router, { uplink: true })
  const drops = (saddr: string, daddr: string) => {
    const frame = renderFrame({ sourceMac: NO_MAC, targetMac: NO_MAC, saddr, daddr, dport: 80 })
    return uplink.egressFilters.some((program) => runBpf(program, frame) === TC_ACT_SHOT)
  }
  const targets = [
    ...ipv4Of(machine.addresses),
    ...METADATA_ADDRESSES,
    ...router.pods.map((pod) => pod.address),
  ]
  for (const daddr of targets)
    if (!drops(uplink.address, daddr)) problems.push(`the uplink lets a frame to ${daddr} through`)
  for (const { address } of attacker.links)
    if (!drops(address, PUBLIC_ADDRESS))
      problems.push(`the uplink lets a frame under a pod's own address ${address} through`)
  return result(
    'uplink filter',
    problems,
    `the router has one link outside, whose filter drops frames to ${targets.length} addresses of the machine, of metadata and of pods`,
  )
}

export const NO_MAC = '02:00:00:00:00:00'
/** Of a documentation network: somebody's outside. */
export const PUBLIC_ADDRESS = '192.0.2.1'
/** One of each documentation network. */
export const PUBLIC_ADDRESSES = [PUBLIC_ADDRESS, '198.51.100.1', '203.0.113.1']
const ipv4Of = (addresses: readonly string[]) => addresses.filter((address) => address.includes('.'))

function pathsToMachine(
  attacker: TenantPosture,
  machine: MachinePosture,
  router: RouterPosture,
  { uplink }: { uplink: boolean },
): string[] {
  const problems: string[] = []
  if (router.inode === machine.namespaces.net)
    problems.push("the router is in the machine's network namespace")
  for (const p of attacker.processes)
    if (p.namespaces.net === machine.namespaces.net)
      problems.push(`process ${p.pid} (${p.command}) is in the machine's network namespace`)
  const podLinks = new Set(router.pods.map((pod) => pod.interfaceName))
  for (const link of router.links) {
    if (link.kind === 'loopback' || podLinks.has(link.name)) continue
    if (uplink && link.name === UPLINK && link.kind === 'veth') continue
    // A veth whose other end waits for its pod carries no route yet.
    // Packets of pods wait there, and go on from where they came.
    if (link.kind === 'ifb' && link.addresses.length === 0) continue
    if (link.kind === 'veth' && link.addresses.length === 0 && !link.toMachine) continue
    problems.push(`the router has a link "${link.name}" (${link.kind}) that is no pod's`)
  }
  for (const route of router.otherRoutes)
    if (!(uplink && route.dev === UPLINK)) problems.push(`the router knows a way to ${route.dst}`)
  const shared = machine.addresses.filter(
    (address) =>
      !address.startsWith('127.') &&
      address !== '::1' &&
      router.links.some((link) => link.addresses.includes(address)),
  )
  for (const address of shared) problems.push(`the router has the machine's address ${address}`)
  return problems
}

/** The loaded rules, asked about the machine's addresses and cloud metadata. */
export function machineRulesLayer(attacker: TenantPosture, machine: MachinePosture): LayerResult {
  const { router } = machine
  if ('problem' in router) return result('router rules', [router.problem], '')
  const problems: string[] = []
  let asked = 0
  const targets = [...ipv4Of(machine.addresses), ...METADATA_ADDRESSES]
  const ways = router.uplink ? ['', UPLINK] : ['']
  for (const from of attacker.links) {
    for (const daddr of targets) {
      for (const dport of PROBED_PORTS) {
        asked++
        const packet = packetFrom(from, { daddr, dport })
        const fates = [
          router.ruleset.evaluate(packet, ['prerouting', 'input']),
          ...ways.map((oifname) =>
            router.ruleset.evaluate({ ...packet, oifname }, ['prerouting', 'forward', 'postrouting']),
          ),
        ]
        for (const fate of fates)
          if (fate.verdict !== 'drop')
            problems.push(`tcp from ${from.address} to ${daddr}:${dport}: ${fate.verdict} (${fate.by})`)
      }
    }
    const v6 = router.ruleset.evaluate(
      packetFrom(from, { nfproto: 'ipv6', daddr: 'fd00:ec2::254', saddr: 'fe80::1' }),
      ['prerouting'],
    )
    if (v6.verdict !== 'drop') problems.push(`IPv6 from ${from.interfaceName}: ${v6.verdict} (${v6.by})`)
  }
  return result(
    'router rules',
    problems,
    `${asked} packets to ${targets.length} addresses asked, all dropped, IPv6 too`,
  )
}

export function packetFrom(from: PodLink, change: Partial<Packet>): Packet {
  return {
    iifname: from.interfaceName,
    oifname: '',
    etherSaddr: from.mac,
    saddr: from.address,
    daddr: '',
    l4proto: 'tcp',
    dport: 80,
    nfproto: 'ipv4',
    ctState: 'new',
    ...change,
  }
}

const PROBLEMS_SHOWN = 5

export function result(layer: LayerName, problems: readonly string[], evidence: string): LayerResult {
  if (problems.length === 0) return { layer, holds: true, evidence: [evidence] }
  const more = problems.length > PROBLEMS_SHOWN ? [`and ${problems.length - PROBLEMS_SHOWN} more`] : []
  return { layer, holds: false, evidence: [...problems.slice(0, PROBLEMS_SHOWN), ...more] }
}

function count(tenant: TenantPosture, type: keyof ProcessPosture['namespaces']): number {
  return distinct(tenant.processes.map((p) => p.namespaces[type])).length
}

export function distinct(values: readonly string[]): string[] {
  return [...new Set(values)]
}
