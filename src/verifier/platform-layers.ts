import {
  distinct,
  isGvisor,
  type LayerResult,
  type MachinePosture,
  packetFrom,
  PUBLIC_ADDRESSES,
  result,
  type TenantPosture,
} from './layers.ts'
import { type PodLink, UPLINK } from './posture/network.ts'
import type { Packet } from './posture/ruleset.ts'
import type { FilePosture } from './posture/files.ts'
import type { KeyTrials } from './posture/partition-keys.ts'
import { overlaps } from './posture/processes.ts'

/** Layers on the vectors besides pods and their network: names, files, control planes, shares of the machine. */

export const RESOLVER = '169.254.1.1'
const DNS_PORT = 53

/** A question to the resolver, under an address that may be stolen. */
export function resolverPacket(from: PodLink, saddr: string): Packet {
  return packetFrom(from, { saddr, daddr: RESOLVER, l4proto: 'udp', dport: DNS_PORT })
}

/** A pod that claims to be the resolver, or a pod of the victim, is refused by the loaded rules. */
export function forgedSourceRulesLayer(
  attacker: TenantPosture,
  victim: TenantPosture,
  { router }: MachinePosture,
): LayerResult {
  if ('problem' in router) return result('router rules', [router.problem], '')
  const problems: string[] = []
  let asked = 0
  for (const from of attacker.links) {
    for (const saddr of [RESOLVER, ...victim.links.map(({ address }) => address)]) {
      asked++
      const packet = resolverPacket(from, saddr)
      const { verdict, by } = router.ruleset.evaluate(packet, ['prerouting', 'input'])
      if (verdict !== 'drop') problems.push(`${from.interfaceName} may send as ${saddr}: ${verdict} (${by})`)
    }
  }
  return result('router rules', problems, `${asked} packets under a stolen address asked, all dropped`)
}

/** The same by the kernel's own routing, without any rule. */
export function reversePathLayer(
  attacker: TenantPosture,
  { router, sourceChecks }: MachinePosture,
): LayerResult {
  if ('problem' in router) return result('reverse path', [router.problem], '')
  const problems: string[] = []
  const all = sourceChecks.find(({ interfaceName }) => interfaceName === 'all')
  if (!all) problems.push('the source checks of the router cannot be read')
  for (const { interfaceName } of attacker.links) {
    const own = sourceChecks.find((checks) => checks.interfaceName === interfaceName)
    // Of rp_filter the larger counts, of accept_local either (ip-sysctl.rst).
    if (Math.max(own?.rpFilter ?? 0, all?.rpFilter ?? 0) !== 1)
      problems.push(`${interfaceName} does not check the way back to a source (rp_filter)`)
    if (own?.acceptLocal !== false || all?.acceptLocal !== false)
      problems.push(`${interfaceName} takes packets under the router's own address (accept_local)`)
  }
  return result(
    'reverse path',
    problems,
    `rp_filter is strict and accept_local off on ${attacker.links.length} links of ${attacker.name}`,
  )
}

/** The loaded rules, asked about an address outside that nobody opened for the tenant. */
export function egressRulesLayer(attacker: TenantPosture, { router }: MachinePosture): LayerResult {
  if ('problem' in router) return result('router rules', [router.problem], '')
  const opened = attacker.openedNetworks ?? []
  const target = PUBLIC_ADDRESSES.find((address) => !opened.some((network) => within(address, network)))
  if (target === undefined)
    return result('router rules', [`the operator opened everything outside for ${attacker.name}`], '')
  const problems: string[] = []
  for (const from of attacker.links) {
    for (const oifname of router.uplink ? ['', UPLINK] : ['']) {
      const packet = packetFrom(from, { daddr: target, oifname, dport: 443 })
      const { verdict, by } = router.ruleset.evaluate(packet, ['prerouting', 'forward', 'postrouting'])
      if (verdict !== 'drop') problems.push(`tcp from ${from.address} to ${target}:443: ${verdict} (${by})`)
    }
  }
  return result(
    'router rules',
    problems,
    `packets of ${attacker.links.length} pods to ${target}, which nobody opened, are dropped`,
  )
}

/** Whether an IPv4 address is in a network such as `192.0.2.0/24`. What cannot be read counts as everything. */
export function within(address: string, network: string): boolean {
  const [base = '', bits = '32'] = network.split('/')
  const number = (text: string) => text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
  const size = 2 ** (32 - Number(bits))
  const [a, b] = [number(address), number(base)]
  if (![a, b, size].every(Number.isFinite)) return true
  return Math.floor(a / size) === Math.floor(b / size)
}

/** Programs of pods see processes and shared memory of their own pod only; gVisor's see only what gVisor shows them. */
export function processViewLayer(
  attacker: TenantPosture,
  victim: TenantPosture,
  machine: MachinePosture,
): LayerResult {
  const problems: string[] = []
  const direct = attacker.processes.filter((p) => !isGvisor(p))
  const theirs = { pid: new Set<string>(), ipc: new Set<string>() }
  for (const p of victim.processes)
    for (const type of ['pid', 'ipc'] as const) theirs[type].add(p.namespaces[type])
  for (const p of direct) {
    for (const type of ['pid', 'ipc', 'uts'] as const)
      if (p.namespaces[type] === machine.namespaces[type])
        problems.push(`process ${p.pid} (${p.command}) is in the machine's ${type} namespace`)
    for (const type of ['pid', 'ipc'] as const)
      if (theirs[type].has(p.namespaces[type]))
        problems.push(`process ${p.pid} (${p.command}) shares a ${type} namespace with tenant ${victim.name}`)
  }
  const behind = attacker.processes.length - direct.length
  return result(
    'process view',
    problems,
    `${direct.length} processes in ${distinct(direct.map((p) => p.namespaces.pid)).length} process namespaces of their own${behind === 0 ? '' : `, ${behind} of gVisor, whose programs see gVisor's`}`,
  )
}

export function processorLayer({ processorLeaks }: MachinePosture): LayerResult {
  if (!processorLeaks)
    return result('processor mitigations', ['the kernel does not tell how the processor leaks'], '')
  const open = processorLeaks.filter(({ state }) => /^Vulnerable|^Unknown/.test(state))
  return result(
    'processor mitigations',
    open.map(({ name, state }) => `${name}: ${state}`),
    `${processorLeaks.length} known leaks, each closed or not there`,
  )
}

/** Nobody but the platform's own users may read these, and none of a tenant's users owns one. */
export function keyFilesLayer(machine: MachinePosture, tenants: readonly TenantPosture[]): LayerResult {
  return closedFiles(machine.files.keys, machine, tenants, 'files with keys and credentials')
}

export function imageFilesLayer(machine: MachinePosture, tenants: readonly TenantPosture[]): LayerResult {
  return closedFiles(machine.files.images, machine, tenants, 'directories of images')
}

/** Logs of the platform; those of pods are in the pods' directories. */
export function logFilesLayer(
  victim: TenantPosture,
  machine: MachinePosture,
  tenants: readonly TenantPosture[],
): LayerResult {
  const own = closedFiles(machine.files.logs, machine, tenants, "directories with the platform's logs")
  const pods = podDirectories(victim, machine)
  return result(
    'platform files',
    [...(own.holds ? [] : own.evidence), ...pods.problems],
    `${own.evidence.join('; ')}; ${pods.evidence}`,
  )
}

/** Where a tenant's Secrets are: its partition, and in memory below the directories of its pods. */
export function secretFilesLayer(victim: TenantPosture, machine: MachinePosture): LayerResult {
  const { problems, evidence } = podDirectories(victim, machine)
  const partition = machine.files.partitions.filter(({ tenant }) => tenant === victim.name)
  for (const { path, mode, uid } of partition) {
    if ((mode & 0o077) !== 0) problems.push(`"${path}" is open to others (mode ${mode.toString(8)})`)
    if (uid !== controlPlaneUid(victim))
      problems.push(`"${path}" belongs to uid ${uid}, which is not the user of the tenant's control plane`)
  }
  if (partition.length === 0) problems.push(`there is no partition of ${victim.name}`)
  const { secretsIn } = machine.files
  if (secretsIn !== 'tmpfs' && secretsIn !== 'ramfs')
    problems.push(`files of Secrets are kept on ${secretsIn}, which may write them to a disk`)
  return result(
    'platform files',
    problems,
    `the partition is its control plane's alone, files of Secrets are kept in memory (${secretsIn}); ${evidence}`,
  )
}

function podDirectories(
  victim: TenantPosture,
  { files }: MachinePosture,
): { problems: string[]; evidence: string } {
  const pods = new Set(victim.cgroup?.children.map(({ path }) => path.slice(path.lastIndexOf('/') + 1)))
  const own = files.pods.filter(({ pod }) => pods.has(pod))
  const ranges = victim.processes.flatMap(({ gidMap }) => gidMap)
  const problems = own.flatMap(({ path, uid, gid, mode }) => [
    ...((mode & 0o007) === 0 ? [] : [`"${path}" is open to others (mode ${mode.toString(8)})`]),
    ...(uid === 0 ? [] : [`"${path}" belongs to uid ${uid}`]),
    ...(gid === 0 || ranges.some((range) => overlaps(range, { from: gid, count: 1 }))
      ? []
      : [`"${path}" belongs to group ${gid}, which is none of the tenant's`]),
  ])
  return { problems, evidence: `${own.length} directories of pods are closed to everybody else` }
}

function closedFiles(
  files: readonly FilePosture[],
  { users }: MachinePosture,
  tenants: readonly TenantPosture[],
  what: string,
): LayerResult {
  const controlPlanes = new Map(
    tenants.flatMap((tenant) => {
      const uid = controlPlaneUid(tenant)
      return uid === undefined ? [] : [[uid, tenant.name] as const]
    }),
  )
  const problems = files.flatMap(({ path, uid, mode }) => [
    ...((mode & 0o077) === 0 ? [] : [`"${path}" is open to others (mode ${mode.toString(8)})`]),
    ...(uid === 0 || users.some((user) => user.uid === uid)
      ? []
      : [`"${path}" belongs to uid ${uid}, which is no user of the platform`]),
    ...(controlPlanes.has(uid)
      ? [`"${path}" belongs to the user of the control plane of ${controlPlanes.get(uid)}`]
      : []),
  ])
  if (files.length === 0) problems.push(`there are no ${what} to be seen`)
  return result('platform files', problems, `${files.length} ${what}, each open to its owner only`)
}

const ENTROPY_MIN = 7.5

export function partitionCipherLayer(victim: TenantPosture): LayerResult {
  const { partition } = victim
  if (!partition) return result('partition cipher', [`the partition of ${victim.name} cannot be read`], '')
  const problems = partition.words.map((word) => `the partition shows the word ${JSON.stringify(word)}`)
  if (partition.pagesLookedAt === 0) problems.push('the partition has no full page that could be looked at')
  else if (partition.entropyMin < ENTROPY_MIN)
    problems.push(`a page of the partition has ${partition.entropyMin.toFixed(2)} bits per byte only`)
  const { keys } = partition
  if (keys) problems.push(...keyProblems(victim.name, keys))
  const bytes = `${partition.pagesLookedAt} pages have at least ${partition.entropyMin.toFixed(2)} bits of entropy per byte, and none shows a word of any object`
  return result(
    'partition cipher',
    problems,
    keys && 'own' in keys ? `${bytes}; ${keyEvidence(victim.name, keys)}` : bytes,
  )
}

function keyProblems(tenant: string, keys: KeyTrials): string[] {
  if ('problem' in keys) return [`the key of ${tenant} cannot be tried: ${keys.problem}`]
  const { own, other } = keys
  return [
    ...(own.opened < own.tried
      ? [
          `${own.tried - own.opened} of ${own.tried} pieces of the partition do not open with the key of ${tenant}`,
        ]
      : []),
    ...(other && other.opened > 0 ? [`pieces of the partition open with the key of ${other.tenant}`] : []),
  ]
}

function keyEvidence(tenant: string, { own, other }: Exclude<KeyTrials, { problem: string }>): string {
  const ours = `${own.opened} pieces tried open with the key of ${tenant}`
  return other ? `${ours}, and none with the key of ${other.tenant}` : ours
}

/** The user that runs a tenant's control plane, or will when it wakes. */
export function controlPlaneUid({ controlPlane, asleep }: TenantPosture): number | undefined {
  return controlPlane?.process.uid ?? asleep?.uid
}

/** Between two tenants whose control planes are not the same process. */
export function ownControlPlaneLayer(attacker: TenantPosture, victim: TenantPosture): LayerResult {
  const layer = 'own control plane'
  const [ours, theirs] = [attacker.controlPlane?.process, victim.controlPlane?.process]
  if (!ours || !theirs) {
    const [own, other] = [controlPlaneUid(attacker), controlPlaneUid(victim)]
    const sleeper = ours ? victim.name : attacker.name
    if (own === undefined || other === undefined)
      return result(
        layer,
        [`no process holds the socket of ${own === undefined ? attacker.name : victim.name}`],
        '',
      )
    return result(
      layer,
      own === other
        ? [`${sleeper} sleeps, and when it wakes uid ${own} serves both ${attacker.name} and ${victim.name}`]
        : [],
      `${sleeper} sleeps; uid ${own} serves ${attacker.name}, uid ${other} ${victim.name}`,
    )
  }
  const problems: string[] = []
  if (ours.pid === theirs.pid)
    problems.push(`process ${ours.pid} serves both ${attacker.name} and ${victim.name}`)
  else if (ours.uid === theirs.uid)
    problems.push(`processes ${ours.pid} and ${theirs.pid} run as uid ${ours.uid}`)
  for (const { uid } of [ours, theirs]) if (uid === 0) problems.push('a control plane runs as root')
  return result(
    layer,
    problems,
    `${attacker.name} is served by process ${ours.pid} of uid ${ours.uid}, ${victim.name} by ${theirs.pid} of uid ${theirs.uid}`,
  )
}

/** What a layer on the process of a control plane is worth where there is none: who sleeps needs none. */
function withoutControlPlane(layer: LayerResult['layer'], { name, asleep }: TenantPosture): LayerResult {
  return asleep
    ? result(layer, [], `the control plane of ${name} sleeps: there is no process`)
    : result(layer, [`no process holds the socket of ${name}`], '')
}

export function confinedControlPlaneLayer(attacker: TenantPosture, machine: MachinePosture): LayerResult {
  const layer = 'confined control plane'
  const { controlPlane } = attacker
  if (!controlPlane) return withoutControlPlane(layer, attacker)
  const { process: p, interfaces } = controlPlane
  const at = `the control plane (process ${p.pid})`
  const problems: string[] = []
  if (p.uid === 0) problems.push(`${at} runs as root`)
  if (p.capEff !== 0n || p.capBnd !== 0n) problems.push(`${at} has capabilities, or can get some`)
  if (!p.noNewPrivs) problems.push(`${at} may gain privileges with execve`)
  if (p.namespaces.net === machine.namespaces.net)
    problems.push(`${at} is in the machine's network namespace`)
  const links = interfaces.filter((name) => name !== 'lo')
  if (links.length > 0) problems.push(`${at} has the interfaces ${links.join(', ')}`)
  return result(
    layer,
    problems,
    `process ${p.pid} runs as uid ${p.uid} without capabilities, in network namespace ${p.namespaces.net} with nothing but its own loopback`,
  )
}

export function controlPlaneLimitLayer(attacker: TenantPosture, victim: TenantPosture): LayerResult {
  const layer = 'control plane limit'
  const { controlPlane } = attacker
  if (!controlPlane) return withoutControlPlane(layer, attacker)
  const { process: p, cgroup } = controlPlane
  const problems: string[] = []
  if (p.pid === victim.controlPlane?.process.pid)
    problems.push(`process ${p.pid} serves both ${attacker.name} and ${victim.name}`)
  if (!cgroup) problems.push(`process ${p.pid} is in no cgroup of the platform`)
  else
    for (const [what, limit] of Object.entries({ memory: cgroup.memoryBytes, tasks: cgroup.pids }))
      if (limit === undefined) problems.push(`nothing limits the ${what} of the cgroup "${cgroup.path}"`)
  return result(
    layer,
    problems,
    `process ${p.pid} of ${attacker.name} is in "${cgroup?.path}" with ${cgroup?.memoryBytes} bytes, ${cgroup?.pids} tasks${cgroup?.cpus === undefined ? '' : ` and ${cgroup.cpus} processors`}`,
  )
}

export type Resource = 'cpu' | 'memory' | 'pids'

/** The kernel holds the tenant as a whole to something. */
export function tenantLimitLayer(attacker: TenantPosture, resource: Resource): LayerResult {
  const layer = 'tenant limit'
  const { cgroup, processes } = attacker
  if (!cgroup)
    return processes.length === 0
      ? result(layer, [], `${attacker.name} has no processes`)
      : result(layer, [`the cgroup of ${attacker.name} cannot be read`], '')
  const limits: Record<Resource, string | undefined> = {
    cpu:
      cgroup.cpus !== undefined
        ? `${cgroup.cpus} processors`
        : // Without a limit the kernel still shares by weight, whoever wants how much.
          (cgroup.cpuWeight !== undefined && `weight ${cgroup.cpuWeight} against the other tenants'`) ||
          undefined,
    memory: cgroup.memoryBytes === undefined ? undefined : `${cgroup.memoryBytes} bytes`,
    pids: cgroup.pids === undefined ? undefined : `${cgroup.pids} processes`,
  }
  const limit = limits[resource]
  return result(
    layer,
    limit === undefined ? [`nothing limits the ${resource} of ${attacker.name} altogether`] : [],
    `${limit ?? ''} for ${attacker.name} altogether`,
  )
}

/** The node agent looks every few seconds, and less often on a machine that is short of processors. */
const LOOKED_MS_MAX = 60_000
/** Two looks at different moments see different things; what differs by more was not seen. */
const LIKE = 3
const LIKE_TASKS = 256
const LIKE_BYTES = 256 * 1024 * 1024

export function watchedUseLayer(
  attacker: TenantPosture,
  { observedUses, observedAtMs }: MachinePosture,
): LayerResult {
  const layer = 'watched use'
  if (!observedUses) return result(layer, ['the node agent does not say what it sees tenants use'], '')
  const use = observedUses.tenants.get(attacker.name)
  const ageMs = observedAtMs - observedUses.atMs
  if (!use)
    return attacker.processes.every((p) => p.ageMs < ageMs && ageMs <= LOOKED_MS_MAX)
      ? result(layer, [], `all processes of ${attacker.name} are younger than the node agent's last look`)
      : result(layer, [`the node agent does not watch what ${attacker.name} uses`], '')
  const problems: string[] = []
  if (!(ageMs <= LOOKED_MS_MAX))
    problems.push(`the node agent last looked ${Math.round(ageMs / 1_000)} s ago`)
  const own = {
    tasks: attacker.processes.reduce((sum, { tasks }) => sum + tasks, 0),
    memoryBytes: attacker.processes.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0),
  }
  const alike = (a: number, b: number, room: number) => a <= b * LIKE + room && b <= a * LIKE + room
  if (!alike(use.tasks, own.tasks, LIKE_TASKS))
    problems.push(`the node agent saw ${use.tasks} tasks of ${attacker.name}, and there are ${own.tasks}`)
  if (!alike(use.memoryBytes, own.memoryBytes, LIKE_BYTES))
    problems.push(
      `the node agent saw ${use.memoryBytes} bytes of ${attacker.name}, and there are ${own.memoryBytes}`,
    )
  return result(
    layer,
    problems,
    `the node agent saw ${use.tasks} of ${use.limits.tasks} tasks, ${use.memoryBytes} of ${use.limits.memoryBytes} bytes and ${use.cpus.toFixed(2)} processors ${Math.round(ageMs / 1_000)} s before`,
  )
}

/** Pods are measured every ten seconds, and less often where that takes long. */
const MEASURED_MS_MAX = 180_000
const LIKE_DISK_BYTES = 512 * 1024 * 1024

/** Somebody measures what the pods have written, file by file, and comes to about what the kernel says. */
export function watchedDiskLayer(
  attacker: TenantPosture,
  { observedUses, observedAtMs, ephemeral }: MachinePosture,
): LayerResult {
  const layer = 'watched disk'
  if (!observedUses) return result(layer, ['the node agent does not say what it sees tenants write'], '')
  const disk = observedUses.tenants.get(attacker.name)?.disk
  if (!disk)
    return attacker.processes.every((p) => p.ageMs < MEASURED_MS_MAX)
      ? result(layer, [], `all processes of ${attacker.name} are younger than the node agent's last look`)
      : result(layer, [`the node agent does not measure what ${attacker.name} writes`], '')
  const ageMs = observedAtMs - disk.atMs
  const own = ephemeral.find(({ tenant }) => tenant === attacker.name)
  const problems: string[] = []
  if (attacker.processes.length > 0 && !(ageMs <= MEASURED_MS_MAX))
    problems.push(
      `the node agent last measured the pods of ${attacker.name} ${Math.round(ageMs / 1_000)} s ago`,
    )
  const like = (a: number, b: number) => a <= b * LIKE + LIKE_DISK_BYTES
  if (own && !(like(disk.bytes, own.usedBytes) && like(own.usedBytes, disk.bytes)))
    problems.push(
      `the node agent measured ${disk.bytes} bytes of ${attacker.name}, and the kernel has ${own.usedBytes}`,
    )
  return result(
    layer,
    problems,
    `the node agent measured ${disk.bytes} bytes and ${disk.files} files of ${disk.pods} pods ${Math.round(ageMs / 1_000)} s before`,
  )
}

const PART_OF_TASKS = 2

/**
 * Counted by user and not by cgroup. What runs in a namespace that root made counts for its own user only, and so gVisor's
 * sandboxes, which cannot change theirs, are added up; when there are too many of them nobody promised anything.
 */
export function taskLimitLayer(
  attacker: TenantPosture,
  owners: (uid: number) => readonly string[],
  machine: MachinePosture,
): LayerResult | undefined {
  const layer = 'task limit'
  const problems: string[] = []
  const behindGvisor = new Map<string, boolean>()
  for (const p of attacker.processes)
    behindGvisor.set(p.namespaces.user, (behindGvisor.get(p.namespaces.user) ?? true) && isGvisor(p))
  const byOwner = new Map<number, number>()
  let [sandboxes, apart] = [0, 0]
  for (const { namespace, owner, tasksMax } of attacker.taskCounters ?? []) {
    if (!Number.isFinite(tasksMax)) problems.push(`user namespace ${namespace} has no limit of tasks`)
    if (owner === undefined) problems.push(`the owner of user namespace ${namespace} cannot be seen`)
    else if (owner === 0 && behindGvisor.get(namespace)) {
      sandboxes++
      apart += tasksMax
    } else {
      const user = machine.users.find(({ uid }) => uid === owner)
      if (user) problems.push(`user namespace ${namespace} is owned by ${user.name}, who is no tenant's`)
      for (const other of owners(owner))
        if (other !== attacker.name)
          problems.push(`user namespace ${namespace} has the same owner as one of tenant ${other}`)
      byOwner.set(owner, Math.max(byOwner.get(owner) ?? 0, tasksMax))
    }
  }
  const together = [...byOwner.values()].reduce((sum, most) => sum + most, 0)
  const allowed = machine.tasksMax / PART_OF_TASKS
  if (together > allowed)
    problems.push(`its users may have ${together} tasks, of ${machine.tasksMax} of the machine`)
  if (problems.length === 0 && together + apart > allowed) return undefined
  return result(
    layer,
    problems,
    `${together} tasks for the owners ${[...byOwner.keys()].join(', ') || 'of no namespace'}, and ${apart} for users of ${sandboxes} namespaces of sandboxes, of ${machine.tasksMax} of the machine`,
  )
}

/** Every process of the tenant is in a group that the kernel slows down. */
export function diskRatesLayer({
  name,
  processes,
  diskRates = [],
  cachedWrites = [],
}: TenantPosture): LayerResult {
  const problems = diskRates
    .filter((rates) => Object.values(rates).includes(undefined))
    .map(({ path }) => `nothing limits how fast the group "${path}" reads and writes`)
  if (processes.length > 0 && diskRates.length === 0)
    problems.push(`the processes of ${name} are in no group of a tenant`)
  for (const { device, writeBytes } of cachedWrites)
    if (writeBytes === undefined)
      problems.push(`nothing limits how fast what ${name} wrote to the cache reaches ${device}`)
  const writes = diskRates.map(({ writeBytes = 0 }) => writeBytes)
  const cached = cachedWrites.map(({ device, writeBytes }) =>
    writeBytes === 'counted'
      ? 'so do writes through the cache'
      : `${writeBytes} reach ${device} by way of the cache`,
  )
  return result(
    'disk rates',
    problems,
    [
      `${diskRates.length} groups, each may write ${Math.max(0, ...writes)} bytes in a second at most`,
      ...new Set(cached),
    ].join('; '),
  )
}

/** The sum of what was admitted stays within what the operator allowed. */
export function podLimitsLayer(attacker: TenantPosture, resource: 'cpu' | 'memory'): LayerResult {
  const layer = 'pod limits'
  const allowed = resource === 'cpu' ? attacker.quota?.cpus : attacker.quota?.memoryBytes
  if (allowed === undefined)
    return result(layer, [`the operator allows ${attacker.name} any amount of ${resource}`], '')
  const pods = attacker.cgroup?.children ?? []
  const amounts = pods.map((pod) => (resource === 'cpu' ? pod.cpus : pod.memoryBytes))
  const problems = pods
    .filter((_, at) => amounts[at] === undefined)
    .map(({ path }) => `the pod "${path}" has no limit of its own`)
  const sum = amounts.reduce<number>((total, amount) => total + (amount ?? 0), 0)
  if (sum > allowed * 1.001) problems.push(`the pods' limits add up to ${sum}, and ${allowed} is allowed`)
  return result(layer, problems, `the limits of ${pods.length} pods add up to ${sum} of ${allowed}`)
}

/** What the operator wrote into the quota must be what the kernel enforces. */
export function brokenQuotas({ name, quota, cgroup, processes, links }: TenantPosture): string[] {
  if (processes.length === 0) return []
  const findings: string[] = []
  const { memoryBytes, cpus } = quota ?? {}
  if (memoryBytes !== undefined && !((cgroup?.memoryBytes ?? Infinity) <= memoryBytes * 1.001))
    findings.push(
      `tenant ${name} may use ${memoryBytes} bytes of memory, and the kernel lets it use ${cgroup?.memoryBytes ?? 'any amount'}`,
    )
  if (cpus !== undefined && !((cgroup?.cpus ?? Infinity) <= cpus * 1.001))
    findings.push(
      `tenant ${name} may use ${cpus} processors, and the kernel lets it use ${cgroup?.cpus ?? 'all'}`,
    )
  for (const [way, allowed] of [
    ['sent', quota?.egressBitsPerSecond],
    ['received', quota?.ingressBitsPerSecond],
  ] as const)
    for (const { shares, interfaceName } of links)
      if (allowed !== undefined && !((shares?.[way]?.bitsPerSecond ?? 0) <= allowed * 1.001))
        findings.push(
          `tenant ${name} may have ${allowed} bits ${way} in a second, and over ${interfaceName} the kernel allows ${shares?.[way]?.bitsPerSecond}`,
        )
  return findings
}
