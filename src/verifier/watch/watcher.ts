import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import type { Layout } from '../../api/index.ts'
import { paths } from '../../api/index.ts'
import { MiB } from '../../stdx/index.ts'
import {
  linkFilterLayer,
  machineLinkFilterLayer,
  machineRulesLayer,
  type MachinePosture,
  routerRulesLayer,
  type TenantPosture,
  writableDevices,
} from '../layers.ts'
import { forgedSourceRulesLayer, reversePathLayer } from '../platform-layers.ts'
import {
  observeLinksOf,
  observeMachineAddresses,
  observeMachineUsers,
  observeRouter,
} from '../posture/network.ts'
import { mountOf } from '../posture/files.ts'
import { parseMountInfo } from '../posture/processes.ts'
import { observeSourceChecks, withoutGoneLinks } from '../posture/routing.ts'
import { observeEphemeral, volumeOwners } from '../posture/volumes.ts'

/** Something that is not as it was, or not as it must be. `tenant` is whom it concerns, where it is one. */
export type Drift = { kind: DriftKind; tenant?: string; what: string }
export type DriftKind =
  | 'ruleset'
  | 'sysctl'
  | 'namespace'
  | 'cgroup'
  | 'filter'
  | 'mount'
  | 'disk'
  | 'binary'
  | 'load'
  | 'blind'

/** Switches of the whole machine on which the layers rest, or which an escape would turn. */
const MACHINE_SWITCHES = [
  'kernel/core_pattern',
  'kernel/modprobe',
  'kernel/unprivileged_bpf_disabled',
  'kernel/yama/ptrace_scope',
  'kernel/randomize_va_space',
  'fs/protected_symlinks',
  'fs/protected_hardlinks',
  'vm/overcommit_memory',
]
/** A runtime is among a tenant's processes for a moment while it starts one. */
const RUNTIME = /^\/usr\/(?:local\/)?s?bin\/(?:crun|runc|runsc|conmon)$|^\/memfd:/
const RUNTIME_MS_MAX = 15_000
const FAILED_LOADS_BYTES_MAX = 4 * MiB
/** What was seen for so long is no passing moment of the platform's own work. */
const PASSING_MS = 900

/** What the scan reads of every process there is. */
type Seen = {
  pid: number
  cgroups: string[]
  namespaces: Record<'net' | 'mnt' | 'pid' | 'ipc' | 'user', string>
}

/**
 * Looks at the machine again and again, cheaply, and says what drifted. It only reads; what it remembers is how things
 * were when it began.
 */
export class Watcher {
  private readonly layout: Layout
  private readonly files: readonly string[]
  private readonly fileBaseline = new Map<string, { print: string; hash: string }>()
  private readonly switchBaseline = new Map<string, string>()
  private readonly mounts = new Map<
    string,
    { hash: string; sinceMs: number; settled: boolean; stray: string | undefined }
  >()
  /** Of tenants' file systems, in bytes. */
  private readonly sizes = new Map<string, number>()
  private readonly links = new Map<string, readonly string[]>()
  /** Since when a process has been where it should not be. */
  private readonly suspects = new Map<string, number>()

  constructor({ layout, files }: { layout: Layout; files: readonly string[] }) {
    this.layout = layout
    this.files = files
    for (const file of files) this.fileBaseline.set(file, { print: printOf(file), hash: hashOf(file) })
    for (const name of MACHINE_SWITCHES) this.switchBaseline.set(name, read(`/proc/sys/${name}`))
  }

  look(tenants: readonly { name: string; isolationClass: string }[], nowMs: number): Drift[] {
    return [
      ...this.lookAtFiles(),
      ...this.lookAtSwitches(),
      ...observeFailedLoads(paths.failedLoads(this.layout)),
      ...this.lookAtProcesses(tenants, nowMs),
      ...this.lookAtDisks(),
    ]
  }

  /** The binaries that start and hold every container. */
  private lookAtFiles(): Drift[] {
    return this.files.flatMap((file): Drift[] => {
      const baseline = this.fileBaseline.get(file)
      const print = printOf(file)
      if (!baseline || baseline.print === print) return []
      const hash = hashOf(file)
      // The same bytes again, as after a copy over itself.
      if (hash === baseline.hash) {
        this.fileBaseline.set(file, { print, hash })
        return []
      }
      return [
        {
          kind: 'binary',
          what: `"${file}" is not the file that it was: SHA-256 ${hash.slice(0, 16)}… instead of ${baseline.hash.slice(0, 16)}…`,
        },
      ]
    })
  }

  private lookAtSwitches(): Drift[] {
    return MACHINE_SWITCHES.flatMap((name): Drift[] => {
      const [was, is] = [this.switchBaseline.get(name), read(`/proc/sys/${name}`)]
      return was === is
        ? []
        : [{ kind: 'sysctl', what: `${name} is ${JSON.stringify(is)} and was ${JSON.stringify(was)}` }]
    })
  }

  private lookAtProcesses(
    tenants: readonly { name: string; isolationClass: string }[],
    nowMs: number,
  ): Drift[] {
    const own = namespacesOf('self')
    if (!own) return [{ kind: 'blind', what: 'the namespaces of this process cannot be read' }]
    const names = new Set(tenants.map(({ name }) => name))
    const processes = scan()
    const tenantOf = (process: Seen) => tenantIn(this.layout, process.cgroups)
    /** Whose pod a namespace is. */
    const pods = new Map<string, string>()
    for (const process of processes) {
      const tenant = tenantOf(process)
      if (tenant === undefined || process.namespaces.user === own.user) continue
      for (const type of ['net', 'mnt', 'pid', 'ipc'] as const)
        if (process.namespaces[type] !== own[type]) pods.set(`${type} ${process.namespaces[type]}`, tenant)
    }
    const agent = Number(read(paths.agentReady(this.layout)))
    const parents = new Map<number, number>()
    const suspects = new Set<string>()
    const drifts: Drift[] = []
    const suspect = (process: Seen, patienceMs: number, drift: Drift) => {
      const key = `${drift.kind} ${process.pid} ${startOf(process.pid)}`
      suspects.add(key)
      const since = this.suspects.get(key) ?? nowMs
      this.suspects.set(key, since)
      if (nowMs - since >= patienceMs) drifts.push(drift)
    }
    for (const process of processes) {
      const tenant = tenantOf(process)
      const at = `process ${process.pid} (${read(`/proc/${process.pid}/comm`)})`
      if (tenant === undefined) {
        const entered = (['net', 'mnt', 'pid', 'ipc'] as const).find((type) =>
          pods.has(`${type} ${process.namespaces[type]}`),
        )
        if (entered === undefined || descendsFrom(process.pid, agent, parents)) continue
        const whose = pods.get(`${entered} ${process.namespaces[entered]}`)
        suspect(process, PASSING_MS, {
          kind: 'namespace',
          ...(whose === undefined ? {} : { tenant: whose }),
          what: `${at} is in the ${entered} namespace of a pod of ${whose} and not among its processes`,
        })
      } else if (process.namespaces.user === own.user) {
        const exe = link(`/proc/${process.pid}/exe`)
        suspect(process, RUNTIME.test(exe) ? RUNTIME_MS_MAX : PASSING_MS, {
          kind: 'cgroup',
          tenant,
          what: `${at} of the machine runs in the cgroup of ${names.has(tenant) ? `tenant ${tenant}` : `"${tenant}", which is no tenant`}`,
        })
      } else {
        const status = read(`/proc/${process.pid}/status`)
        // Gone meanwhile, or only its end is left.
        if (status === '' || /^State:\s*[ZX]/m.test(status)) continue
        const filters = Number(/^Seccomp_filters:\s*(\d+)$/m.exec(status)?.[1] ?? 0)
        const confined = filters >= (isGvisorAt(process.pid) ? 1 : 2)
        if (!confined || !/^Seccomp:\s*2$/m.test(status) || !/^NoNewPrivs:\s*1$/m.test(status))
          suspect(process, PASSING_MS, {
            kind: 'filter',
            tenant,
            what: `${at} of ${tenant} runs without its system call filters`,
          })
      }
    }
    for (const key of this.suspects.keys()) if (!suspects.has(key)) this.suspects.delete(key)
    const inPods = processes.filter(
      (process) => process.namespaces.user !== own.user && tenantOf(process) !== undefined,
    )
    drifts.push(
      ...this.lookAtMounts(inPods, tenantOf, own.mnt, nowMs),
      ...this.lookAtNetwork(tenants, inPods, tenantOf),
    )
    return drifts
  }

  /** What a pod has mounted does not change once its processes run. */
  private lookAtMounts(
    processes: readonly Seen[],
    tenantOf: (process: Seen) => string | undefined,
    machine: string,
    nowMs: number,
  ): Drift[] {
    const first = firstOf(
      processes.filter(({ namespaces }) => namespaces.mnt !== machine),
      'mnt',
    )
    for (const namespace of this.mounts.keys()) if (!first.has(namespace)) this.mounts.delete(namespace)
    return [...first].flatMap(([namespace, process]): Drift[] => {
      const text = read(`/proc/${process.pid}/mountinfo`)
      if (text === '' || (RUNTIME.test(link(`/proc/${process.pid}/exe`)) && !isGvisorAt(process.pid)))
        return []
      const hash = createHash('sha256').update(text).digest('hex')
      const known = this.mounts.get(namespace)
      if (!known || (!known.settled && known.hash !== hash)) {
        const stray = this.strayWrite(text, tenantOf(process))
        this.mounts.set(namespace, { hash, sinceMs: nowMs, settled: false, stray })
        return []
      }
      if (!known.settled && nowMs - known.sinceMs >= PASSING_MS) known.settled = true
      const tenant = tenantOf(process)
      if (known.settled && known.stray !== undefined)
        return [
          {
            kind: 'disk',
            ...(tenant === undefined ? {} : { tenant }),
            what: `process ${process.pid} of ${tenant} can write to ${known.stray}, which is no file system of its tenant's own`,
          },
        ]
      if (!known.settled || known.hash === hash) return []
      return [
        {
          kind: 'mount',
          ...(tenant === undefined ? {} : { tenant }),
          what: `the mounts of process ${process.pid} of ${tenant} are not what they were`,
        },
      ]
    })
  }

  /** A device that a pod can write to and that has no end which is its tenant's alone. */
  private strayWrite(mountInfo: string, tenant: string | undefined): string | undefined {
    const machine = parseMountInfo(read('/proc/self/mountinfo'))
    const ownerOf = volumeOwners(this.layout)
    return writableDevices(parseMountInfo(mountInfo), (path) => mountOf(path, machine)?.source).find(
      ({ device }) => ownerOf(device) !== tenant,
    )?.device
  }

  /** File systems of tenants that have been let grow, or promised more than there is. */
  private lookAtDisks(): Drift[] {
    const all = observeEphemeral(this.layout, parseMountInfo(read('/proc/self/mountinfo')))
    const grown = all.filter(({ tenant, device, fileBytes }) => {
      const key = `${tenant} ${device}`
      const was = this.sizes.get(key) ?? fileBytes
      this.sizes.set(key, was)
      return fileBytes > was
    })
    const known = new Set(all.map(({ tenant, device }) => `${tenant} ${device}`))
    for (const key of this.sizes.keys()) if (!known.has(key)) this.sizes.delete(key)
    return grown.map(({ tenant, fileBytes }) => ({
      kind: 'disk',
      tenant,
      what: `the file system of tenant ${tenant} has ${fileBytes} bytes, which is more than it had`,
    }))
  }

  /** The loaded rules, filters and switches, asked as the whole proof asks them. */
  private lookAtNetwork(
    tenants: readonly { name: string; isolationClass: string }[],
    processes: readonly Seen[],
    tenantOf: (process: Seen) => string | undefined,
  ): Drift[] {
    let machine: MachinePosture
    try {
      const seen = observeRouter(paths.routerNetns(this.layout))
      const sourceChecks = observeSourceChecks(paths.routerNetns(this.layout))
      machine = {
        namespaces: { user: '', net: '', mnt: '', pid: '', ipc: '', uts: '', cgroup: '' },
        addresses: observeMachineAddresses(),
        users: observeMachineUsers(),
        tasksMax: 0,
        observedUses: undefined,
        observedAtMs: 0,
        router: withoutGoneLinks(seen, sourceChecks),
        volumes: [],
        ephemeral: [],
        diskFreeBytes: 0,
        deviceOf: () => undefined,
        sourceChecks,
        processorLeaks: undefined,
        files: { keys: [], images: [], logs: [], pods: [], partitions: [], secretsIn: '' },
        ownerOfPath: () => undefined,
      }
    } catch (error) {
      return [
        {
          kind: 'blind',
          what: `the router cannot be looked at: ${error instanceof Error ? error.message.split('\n', 1)[0] : String(error)}`,
        },
      ]
    }
    const pods = 'problem' in machine.router ? [] : machine.router.pods
    const namespaces = firstOf(processes, 'net')
    for (const inode of this.links.keys()) if (!namespaces.has(inode)) this.links.delete(inode)
    const macs = new Map<string, Set<string>>()
    for (const [inode, process] of namespaces) {
      if (!this.links.has(inode)) {
        try {
          this.links.set(
            inode,
            observeLinksOf(process.pid).flatMap(({ name, mac }) => (name === 'lo' ? [] : [mac])),
          )
        } catch {
          continue // It ended while we looked.
        }
      }
      const tenant = tenantOf(process) ?? ''
      const known = macs.get(tenant) ?? new Set<string>()
      macs.set(tenant, known)
      for (const mac of this.links.get(inode) ?? []) known.add(mac)
    }
    const postures = tenants.map(({ name, isolationClass }): TenantPosture => ({
      name,
      isolationClass,
      processes: [],
      links: pods.filter(({ mac }) => macs.get(name)?.has(mac)),
    }))
    return postures.flatMap((attacker, at): Drift[] => {
      if (attacker.links.length === 0) return []
      // Each against the next; the whole proof asks about every pair.
      const victim = postures[(at + 1) % postures.length]
      const results = [
        machineRulesLayer(attacker, machine),
        machineLinkFilterLayer(attacker, machine),
        reversePathLayer(attacker, machine),
        ...(victim && victim !== attacker
          ? [
              routerRulesLayer(attacker, victim, machine),
              forgedSourceRulesLayer(attacker, victim, machine),
              linkFilterLayer(attacker, victim),
            ]
          : []),
      ]
      return results.flatMap(({ layer, holds, evidence }): Drift[] =>
        holds
          ? []
          : [
              {
                kind: layer === 'reverse path' ? 'sysctl' : 'ruleset',
                tenant: attacker.name,
                what: `${layer}: ${evidence[0] ?? ''}`,
              },
            ],
      )
    })
  }
}

/**
 * The node agent knows alone what it could not load; that the rules of before hold is seen by asking the rules. A file
 * that is no list of such says that nobody knows.
 */
export function observeFailedLoads(path: string): Drift[] {
  const unreadable: Drift = { kind: 'blind', what: 'which rules were refused cannot be read' }
  try {
    // Not existsSync: access(2) asks without our capabilities, and the directory is root's.
    if (statSync(path).size > FAILED_LOADS_BYTES_MAX) return [unreadable]
    const all: unknown = JSON.parse(readFileSync(path, 'utf8'))
    if (typeof all !== 'object' || all === null) return [unreadable]
    return Object.values(all).map((each: unknown): Drift => {
      const { what, tenant, why } = (each ?? {}) as Record<string, unknown> // only read, and each part checked
      if (typeof what !== 'string' || typeof why !== 'string') return unreadable
      return {
        kind: 'load',
        ...(typeof tenant === 'string' ? { tenant } : {}),
        what: `the rules could not be loaded, and those of before hold: ${what} (${why})`,
      }
    })
  } catch (error) {
    // No file: everything is loaded.
    return error instanceof Error && 'code' in error && error.code === 'ENOENT' ? [] : [unreadable]
  }
}

/**
 * The first process of each namespace, under a name that no later namespace has: the kernel gives their numbers again as
 * soon as they are free.
 */
function firstOf(processes: readonly Seen[], type: 'mnt' | 'net'): Map<string, Seen> {
  const first = new Map<string, Seen>()
  for (const process of processes) {
    const known = first.get(process.namespaces[type])
    if (!known || process.pid < known.pid) first.set(process.namespaces[type], process)
  }
  return new Map(
    [...first].map(([inode, process]) => [`${inode} ${process.pid} ${startOf(process.pid)}`, process]),
  )
}

function scan(): Seen[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    const namespaces = namespacesOf(name)
    const cgroup = read(`/proc/${name}/cgroup`)
    if (!namespaces || cgroup === '') return []
    return [
      {
        pid: Number(name),
        namespaces,
        cgroups: cgroup.split('\n').map((line) => line.split(':').slice(2).join(':')),
      },
    ]
  })
}

/** Undefined for kernel threads that show none, and for what has ended. */
function namespacesOf(pid: string): Seen['namespaces'] | undefined {
  const [user, net, mnt, pidNs, ipc] = ['user', 'net', 'mnt', 'pid', 'ipc'].map((type) =>
    link(`/proc/${pid}/ns/${type}`),
  )
  return user && net && mnt && pidNs && ipc ? { user, net, mnt, pid: pidNs, ipc } : undefined
}

function tenantIn(layout: Layout, cgroups: readonly string[]): string | undefined {
  for (const path of cgroups) {
    const parts = path.split('/')
    if (parts[1] === layout.cgroup && parts[2] !== undefined && parts[2] !== '') return parts[2]
  }
  return undefined
}

function descendsFrom(pid: number, ancestor: number, parents: Map<number, number>): boolean {
  for (let at = pid, steps = 0; at > 1 && steps < 64; steps++) {
    if (at === ancestor) return true
    const known = parents.get(at)
    const parent = known ?? Number(/^PPid:\s*(\d+)$/m.exec(read(`/proc/${at}/status`))?.[1] ?? 0)
    parents.set(at, parent)
    at = parent
  }
  return false
}

function isGvisorAt(pid: number): boolean {
  const exe = link(`/proc/${pid}/exe`)
  return exe.endsWith('/runsc') || exe.startsWith('/memfd:runsc')
}

/** Field 22 of stat(5): a recycled id is another process. */
function startOf(pid: number): string {
  const text = read(`/proc/${pid}/stat`)
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? ''
}

function printOf(path: string): string {
  try {
    const { ino, size, mtimeMs, ctimeMs } = statSync(path)
    return `${ino} ${size} ${mtimeMs} ${ctimeMs}`
  } catch {
    return 'gone'
  }
}

function hashOf(path: string): string {
  try {
    return createHash('sha256').update(readFileSync(path)).digest('hex')
  } catch {
    return 'gone'
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8').trimEnd()
  } catch {
    return ''
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}
