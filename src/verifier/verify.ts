import { existsSync, statSync } from 'node:fs'
import type { Layout, TenantName } from '../api/index.ts'
import { DAEMON_USERS, parseTenantName, paths } from '../api/index.ts'
import { sleep } from '../stdx/index.ts'
import {
  applicationKernelLayer,
  isGvisor,
  type LayerResult,
  type MachinePosture,
  noPathToMachineLayer,
  type TenantPosture,
  uplinkFilterLayer,
} from './layers.ts'
import { bit, bitsFrom, NO_BITS } from './bits.ts'
import type { Probed, Row } from './observers.ts'
import { brokenQuotas } from './platform-layers.ts'
import { CgroupReader } from './posture/cgroups.ts'
import { observeControlPlane } from './posture/control-planes.ts'
import { mountOf, observePlatformFiles } from './posture/files.ts'
import {
  observeLinksOf,
  observeMachineAddresses,
  observeMachineUsers,
  observeOpenSockets,
  observeRouter,
  type OpenSocket,
  type RouterPosture,
} from './posture/network.ts'
import { observeUses } from './posture/observed-use.ts'
import { tryKeys } from './posture/partition-keys.ts'
import { observePartition } from './posture/partitions.ts'
import { observeProcess, observeProcesses, type ProcessPosture } from './posture/processes.ts'
import { observeProcessorLeaks, observeSourceChecks, withoutGoneLinks } from './posture/routing.ts'
import { observeTaskCounters, observeTasksMax } from './posture/task-counters.ts'
import {
  observeDiskFree,
  observeEphemeral,
  observeScheduler,
  observeVolumes,
  volumeOwners,
} from './posture/volumes.ts'
import { type PairGroup, prove } from './proof.ts'
import { waiverText } from './report/words.ts'
import type { Vector } from './vectors.ts'

/** A tenant as the operator knows it: who, and what was promised. */
export type ExpectedTenant = {
  name: string
  /** Of its Tenant object: which of all that had the name it is. */
  uid: string
  isolationClass: string
  /** What the operator allows it at most; without it there is no limit. */
  quota?: TenantPosture['quota']
  grants?: readonly Grant[]
}

/** Something that the operator opened on purpose. */
export type Grant = {
  kind: 'egress' | 'ingress'
  what: string
  /** An IPv4 network, if it is one. */
  network?: string
  until?: string
  reason?: string
}

/** Who answers for a vector that fails, why, and until when. Without a tenant it is for all. */
export type Waiver = {
  id: string
  vector: Vector
  tenant?: string
  until: string
  by: string
  reason: string
}

export type Report = {
  observedAt: string
  tenants: (ExpectedTenant & { pods: number; processes: number })[]
  /** Every pair of tenants is in exactly one. */
  groups: PairGroup[]
  findings: string[]
  /** Deliberate holes, with who may use them until when. */
  grants: (Grant & { tenant: string })[]
  /** Those in force. */
  waivers: Waiver[]
  /** What the tenants still have in common. */
  shared: string[]
  ok: boolean
}

/** A tenant, and which of all that had the name it is. */
export type KnownTenant = Pick<ExpectedTenant, 'name' | 'uid'>

/** Probes of the API: they need to speak, so they are handed in. */
export type ApiProbes = {
  gatewayBinding(attacker: string, victim: string): Promise<LayerResult>
  controlPlane(attacker: KnownTenant, victim: KnownTenant): Promise<LayerResult>
  gatewayBounds(attacker: string): Promise<LayerResult>
  /** Uses up what the verifier's user of one tenant has, and asks as that of another, who must still have some. */
  gatewayShares(attacker: string, other: string): Promise<LayerResult>
  controlPlaneBounds(attacker: KnownTenant): Promise<LayerResult>
  /** Thumbprints of the keys that a tenant's tokens are signed with, or why they cannot be had. */
  signingKeys(tenant: string): Promise<readonly string[] | { problem: string }>
}

const MONITOR = /\/conmon$/

/**
 * Looks at the machine and says which layers stand between any two tenants. Nothing is asked of the platform but who its
 * tenants are and which class each was promised.
 */
export async function verify({
  layout,
  tenants,
  waivers = [],
  probes,
  withKeys = false,
  nowMs,
}: {
  layout: Layout
  tenants: readonly ExpectedTenant[]
  waivers?: readonly Waiver[]
  probes: ApiProbes
  /** Whether to try tenants' keys on what they stored: nobody should who runs all the time. */
  withKeys?: boolean
  nowMs: number
}): Promise<Report> {
  const processes = observeProcesses()
  const self = observeProcess(process.pid)
  if (!self) throw new Error('Cannot read /proc/self: nothing can be observed')
  const seen = tryObserveRouter(layout)
  const sourceChecks = 'problem' in seen ? [] : observeSourceChecks(paths.routerNetns(layout))
  const router = 'problem' in seen ? seen : withoutGoneLinks(seen, sourceChecks)
  const machine: MachinePosture = {
    namespaces: self.namespaces,
    addresses: observeMachineAddresses(),
    users: observeMachineUsers(),
    tasksMax: observeTasksMax(),
    observedUses: observeUses(layout),
    observedAtMs: nowMs,
    router,
    volumes: observeVolumes(layout, self.mounts),
    ephemeral: observeEphemeral(layout, self.mounts),
    diskFreeBytes: observeDiskFree(layout),
    deviceOf: (path) => mountOf(path, self.mounts)?.source,
    sourceChecks,
    processorLeaks: observeProcessorLeaks(),
    files: observePlatformFiles(layout, self.mounts),
    ownerOfPath: pathOwners(layout, processes),
  }
  const cgroups = new CgroupReader(self.mounts)
  const postures = tenants.map((tenant, at) => {
    const posture = observeTenant(layout, tenant, processes, machine, cgroups)
    return withKeys ? withKeysTried(layout, posture, tenants.at(at - 1)?.name) : posture
  })
  const findings = strays(layout, tenants, processes, machine)
  const probed = await probeAll(tenants, probes)
  const inForce = waivers.filter(({ until }) => Date.parse(until) > nowMs)
  const groups = prove({ tenants: postures, machine, probed }).map((group) => withWaivers(group, inForce))
  findings.push(...foreignListeners(layout, machine), ...strayPaths(postures, machine))
  for (const posture of postures) findings.push(...brokenPromises(posture), ...brokenQuotas(posture))
  return {
    observedAt: new Date(nowMs).toISOString(),
    tenants: tenants.map((tenant, at) => ({
      ...tenant,
      pods: postures[at]?.links.length ?? 0,
      processes: postures[at]?.processes.length ?? 0,
    })),
    groups,
    findings,
    grants: tenants.flatMap(({ name, grants = [] }) => grants.map((grant) => ({ tenant: name, ...grant }))),
    waivers: inForce,
    shared: [
      ...sharedComponents(postures, machine, new Set(processes.map(({ uid }) => uid))),
      sharedDisk(mountOf(layout.stateDir, self.mounts)?.source ?? ''),
    ],
    ok:
      findings.length === 0 && groups.every(({ vectors }) => vectors.every(({ state }) => state !== 'fails')),
  }
}

function isSandboxed({ isolationClass }: { isolationClass: string }): boolean {
  return isolationClass === 'sandboxed' || isolationClass === 'dedicated'
}

function brokenPromises(posture: TenantPosture): string[] {
  if (!isSandboxed(posture) || posture.processes.length === 0) return []
  const kernel = applicationKernelLayer(posture)
  return kernel.holds ? [] : [`tenant ${posture.name} was promised gVisor: ${kernel.evidence.join('; ')}`]
}

function tryObserveRouter(layout: Layout): RouterPosture | { problem: string } {
  try {
    return observeRouter(paths.routerNetns(layout))
  } catch (error) {
    return {
      problem: `the router cannot be observed: ${error instanceof Error ? error.message : String(error)}`,
    }
  }
}

/** Only root can put a process into a cgroup, so the cgroup tells whose process it is. */
function observeTenant(
  layout: Layout,
  { name, isolationClass, quota, grants = [] }: ExpectedTenant,
  processes: readonly ProcessPosture[],
  { router, ephemeral }: Pick<MachinePosture, 'router' | 'ephemeral'>,
  cgroups: CgroupReader,
): TenantPosture {
  const own = processes.filter((p) => cgroupTenant(layout, p) === name && !MONITOR.test(p.exe))
  const oneOfEachNetwork = [...new Map(own.map((p) => [p.namespaces.net, p])).values()]
  const macs = new Set(
    oneOfEachNetwork
      .flatMap((p) => tryLinks(p.pid))
      .filter((link) => link.name !== 'lo')
      .map((link) => link.mac),
  )
  const links = 'problem' in router ? [] : router.pods.filter((pod) => macs.has(pod.mac))
  const tenant = parseTenantName(name)
  return {
    name,
    isolationClass,
    processes: own,
    links,
    ...(quota === undefined ? {} : { quota }),
    opensOutside: grants.some(({ kind }) => kind === 'egress'),
    openedNetworks: grants.flatMap(({ network }) => network ?? []),
    cgroup: cgroups.observe(`${layout.cgroup}/${name}`, 1),
    diskRates: diskRatesOf(layout, own, cgroups),
    cachedWrites: ephemeral
      .filter((each) => each.tenant === name)
      .map(({ device }) => ({ device, writeBytes: cgroups.cachedWrites(device) })),
    taskCounters: observeTaskCounters(own),
    controlPlane: observeControlPlane(layout, tenant, processes, cgroups),
    partition: observePartition(paths.partition(layout, tenant)),
    asleep: observeSleep(layout, { tenant, isolationClass }, processes),
  }
}

/** `other` may be the tenant itself, where it is the only one. */
function withKeysTried(layout: Layout, posture: TenantPosture, other: string | undefined): TenantPosture {
  const { name, partition } = posture
  if (!partition) return posture
  const keys = tryKeys(layout, {
    tenant: name,
    partition: partition.path,
    ...(other === undefined || other === name ? {} : { other }),
  })
  return { ...posture, partition: { ...partition, keys } }
}

function diskRatesOf(
  layout: Layout,
  own: readonly ProcessPosture[],
  cgroups: CgroupReader,
): NonNullable<TenantPosture['diskRates']> {
  const prefix = `/${layout.cgroup}/`
  const paths = own.flatMap((p) => p.cgroups.filter((path) => path.startsWith(prefix)))
  return [...new Set(paths)].map((path) => cgroups.diskRates(path))
}

function observeSleep(
  layout: Layout,
  { tenant, isolationClass }: { tenant: TenantName; isolationClass: string },
  processes: readonly ProcessPosture[],
): { uid: number } | undefined {
  const { uid } = statSync(paths.partition(layout, tenant), { throwIfNoEntry: false }) ?? {}
  if (uid === undefined || existsSync(paths.apiSocket(layout, tenant))) return undefined
  return isSandboxed({ isolationClass }) && processes.some((p) => p.uid === uid) ? undefined : { uid }
}

/** A waiver covers a vector of a kind of pair only where it covers every tenant that could attack there. */
function withWaivers(group: PairGroup, waivers: readonly Waiver[]): PairGroup {
  return {
    ...group,
    vectors: group.vectors.map((report) => {
      const covering = waivers.filter(({ vector }) => vector === report.vector)
      const covers = (attacker: string) =>
        covering.some(({ tenant }) => tenant === undefined || tenant === attacker)
      return report.state === 'fails' && group.attackers.every(covers)
        ? { ...report, waiver: covering.map(waiverText).join('; ') }
        : report
    }),
  }
}

/** Up to so many tenants each is set against each other; of more, each against the next one only. */
const TENANTS_PROBED_IN_PAIRS_MAX = 12
const PROBES_AT_ONCE = 8
/** After so long the verifier's user has some of its share again. */
const SHARE_BACK_MS = 1_000

/** Speaks to the gateway and to control planes, as many as a platform can bear. */
export async function probeAll(
  tenants: readonly KnownTenant[],
  probes: ApiProbes,
  { restMs = SHARE_BACK_MS } = {},
): Promise<Probed> {
  const names = tenants.map(({ name }) => name)
  const uids = new Map(tenants.map(({ name, uid }) => [name, uid]))
  const known = (name: string): KnownTenant => ({ name, uid: uids.get(name) ?? '' })
  const pairs = names.flatMap((attacker, at) =>
    names.length <= TENANTS_PROBED_IN_PAIRS_MAX
      ? names.filter((victim) => victim !== attacker).map((victim) => [attacker, victim] as const)
      : [[attacker, names[(at + 1) % names.length] ?? attacker] as const],
  )
  const key = (attacker: string, victim: string) => `${attacker} ${victim}`
  const ask = <T>(over: readonly (readonly string[])[], question: (...who: string[]) => Promise<T>) =>
    mapAtMost(PROBES_AT_ONCE, over, async (who) => [who.join(' '), await question(...who)] as const).then(
      (answers) => new Map(answers),
    )
  const alone = names.map((name) => [name])
  const [binding, refusing, gatewayBounds, controlPlaneBounds, keys] = [
    await ask(pairs, (a = '', v = '') => probes.gatewayBinding(a, v)),
    await ask(pairs, (a = '', v = '') => probes.controlPlane(known(a), known(v))),
    await ask(alone, (a = '') => probes.gatewayBounds(a)),
    await ask(alone, (a = '') => probes.controlPlaneBounds(known(a))),
    await ask(alone, (a = '') => probes.signingKeys(a)),
  ]
  // One after the other: each asks as the next, who must not have used up its own. The first has, by the last one's turn.
  const shares: LayerResult[] = []
  const step = Math.ceil(names.length / TENANTS_PROBED_IN_PAIRS_MAX)
  const asked = names.filter((_, at) => at % step === 0)
  for (const [at, name] of asked.entries()) {
    if (at > 0 && at === asked.length - 1) await sleep(restMs)
    shares.push(await probes.gatewayShares(name, asked[(at + 1) % asked.length] ?? name))
  }
  // The gateway has one way of counting for all; who was not asked is as good as the worst of those who were.
  const worst = shares.find(({ holds }) => !holds) ?? shares[0]
  const nextOf = new Map(names.map((name, at) => [name, names[(at + 1) % names.length] ?? name]))
  const beforeOf = new Map([...nextOf].map(([name, next]) => [next, name]))
  /** A pair that was not tried is as good as the attacker's own try, and the one on its victim. */
  const found = (answers: Map<string, LayerResult>, a: string, v: string, layer: LayerResult['layer']) => {
    const tried = answers.get(key(a, v))
    if (tried) return tried
    const byAttacker = answers.get(key(a, nextOf.get(a) ?? ''))
    const onVictim = answers.get(key(beforeOf.get(v) ?? '', v))
    return byAttacker?.holds === false ? byAttacker : (onVictim ?? untried(layer))
  }
  return {
    gatewayBinding: (a, v) => found(binding, a, v, 'gateway binds to one tenant'),
    controlPlane: (a, v) => found(refusing, a, v, 'control plane refuses strangers'),
    gatewayShares: (a) => shares[asked.indexOf(a)] ?? worst ?? untried('gateway shares'),
    gatewayBounds: (a) => gatewayBounds.get(a) ?? untried('gateway bounds requests'),
    controlPlaneBounds: (a) => controlPlaneBounds.get(a) ?? untried('control plane bounds requests'),
    signingKeys: (a, v) => compareKeys(a, keys.get(a), v, keys.get(v)),
    rows: {
      gatewayBinding: rowsOf(binding, (a, v) => found(binding, a, v, 'gateway binds to one tenant').holds),
      controlPlane: rowsOf(
        refusing,
        (a, v) => found(refusing, a, v, 'control plane refuses strangers').holds,
      ),
      signingKeys: keyRows(names, keys),
    },
  }
  /** As `found`, for all victims at once. */
  function rowsOf(answers: Map<string, LayerResult>, holds: (a: string, v: string) => boolean) {
    const numbers = new Map(names.map((name, at) => [name, at]))
    const tried = Map.groupBy(answers.keys(), (pair) => pair.split(' ')[0] ?? '')
    const onVictims = bitsFrom(
      names.flatMap((v, at) => (answers.get(key(beforeOf.get(v) ?? '', v))?.holds ? [at] : [])),
    )
    return ({ name }: { name: string }) => {
      const byAttacker = answers.get(key(name, nextOf.get(name) ?? ''))
      let row = byAttacker?.holds === false ? NO_BITS : onVictims
      for (const pair of tried.get(name) ?? []) {
        const victim = pair.slice(name.length + 1)
        const own = bit(numbers.get(victim) ?? 0)
        row = holds(name, victim) ? row | own : row & ~own
      }
      return { holds: row }
    }
  }
}

function untried(layer: LayerResult['layer']): LayerResult {
  return { layer, holds: false, evidence: ['nobody was asked'] }
}

type Keys = readonly string[] | { problem: string } | undefined

function compareKeys(a: string, own: Keys, v: string, theirs: Keys): LayerResult {
  const layer = 'signing keys'
  const problem = (name: string, keys: Keys) =>
    keys === undefined ? `${name} was not asked` : 'problem' in keys ? `${name}: ${keys.problem}` : undefined
  const problems = [problem(a, own), problem(v, theirs)].filter((text) => text !== undefined)
  if (problems.length > 0 || !Array.isArray(own) || !Array.isArray(theirs))
    return { layer, holds: false, evidence: problems }
  const common = own.filter((key) => theirs.includes(key))
  return {
    layer,
    holds: common.length === 0 && own.length > 0 && theirs.length > 0,
    evidence: [
      common.length === 0
        ? `${own.length} keys of ${a} and ${theirs.length} of ${v}, none in common`
        : `${a} and ${v} publish the same key ${common[0]}`,
    ],
  }
}

/** As `compareKeys`, for all victims at once. */
function keyRows(
  names: readonly string[],
  keys: ReadonlyMap<string, Keys>,
): (attacker: { name: string }) => Row {
  const known = names.map((name) => keys.get(name))
  const numbers = new Map<string, number[]>()
  for (const [at, own] of known.entries())
    if (Array.isArray(own))
      for (const each of own as string[]) numbers.set(each, [...(numbers.get(each) ?? []), at])
  const who = new Map([...numbers].map(([each, some]) => [each, bitsFrom(some)]))
  const shown = bitsFrom(known.flatMap((own, at) => (Array.isArray(own) && own.length > 0 ? [at] : [])))
  return ({ name }) => {
    const own = keys.get(name)
    if (!Array.isArray(own) || own.length === 0) return { holds: NO_BITS }
    let holds = shown
    for (const each of own as string[]) holds &= ~(who.get(each) ?? NO_BITS)
    return { holds }
  }
}

async function mapAtMost<T, R>(
  atOnce: number,
  items: readonly T[],
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  let next = 0
  const worker = async () => {
    while (next < items.length) {
      const at = next++
      const item = items[at]
      if (item !== undefined) results[at] = await work(item)
    }
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker))
  return results
}

function tryLinks(pid: number): { name: string; mac: string }[] {
  try {
    return observeLinksOf(pid)
  } catch {
    return [] // It ended while we looked.
  }
}

export function cgroupTenant(layout: Layout, { cgroups }: ProcessPosture): string | undefined {
  for (const path of cgroups) {
    const parts = path.split('/').filter((part) => part !== '')
    const at = parts.indexOf(layout.cgroup)
    if (at >= 0 && parts[at + 1] !== undefined) return parts[at + 1]
  }
  return undefined
}

/** Processes that are where nobody should be. */
function strays(
  layout: Layout,
  tenants: readonly ExpectedTenant[],
  processes: readonly ProcessPosture[],
  machine: MachinePosture,
): string[] {
  const known = new Set(tenants.map(({ name }) => name))
  const findings: string[] = []
  for (const p of processes) {
    const at = `process ${p.pid} (${p.command})`
    const tenant = cgroupTenant(layout, p)
    if (tenant !== undefined && !known.has(tenant))
      findings.push(`${at} is in a cgroup of "${tenant}", which is no tenant`)
    const inRange = p.uid >= layout.podUidBase && p.uid < layout.podUidBase + layout.tenantsMax * 65_536
    if (inRange && tenant === undefined)
      findings.push(`${at} runs as uid ${p.uid} of a tenant's range but is in no tenant's cgroup`)
    if (
      tenant !== undefined &&
      p.namespaces.user === machine.namespaces.user &&
      !MONITOR.test(p.exe) &&
      p.uid === 0
    )
      findings.push(`${at} is root of the machine in a cgroup of tenant "${tenant}"`)
  }
  return findings
}

/** What pods can reach at the router itself, and which of our users holds it. All else there is somebody else's. */
const ROUTER_SOCKETS: Readonly<Record<string, string>> = {
  'tcp 169.254.1.1:53': DAEMON_USERS.dns,
  'udp 169.254.1.1:53': DAEMON_USERS.dns,
  'tcp 169.254.1.1:6443': DAEMON_USERS.podGateway,
}

/** A way from the router to the machine is told also where other layers stand in it. */
function strayPaths(postures: readonly TenantPosture[], machine: MachinePosture): string[] {
  if ('problem' in machine.router) return []
  const layer = machine.router.uplink ? uplinkFilterLayer : noPathToMachineLayer
  const problems = postures.flatMap((posture) => {
    const { holds, evidence } = layer(posture, machine)
    return holds ? [] : evidence
  })
  return [...new Set(problems)]
}

function foreignListeners(layout: Layout, { users }: MachinePosture): string[] {
  let open: OpenSocket[]
  try {
    open = observeOpenSockets(paths.routerNetns(layout))
  } catch (error) {
    return [
      `the sockets in the router's namespace cannot be seen: ${error instanceof Error ? error.message : String(error)}`,
    ]
  }
  return open.flatMap(({ protocol, local, uid }) => {
    const owner = ROUTER_SOCKETS[`${protocol} ${local}`]
    if (owner !== undefined && users.some((user) => user.name === owner && user.uid === uid)) return []
    return [
      `a process of uid ${uid} has ${protocol} ${local} open in the router's namespace, where pods can reach it`,
    ]
  })
}

/** Directories below the platform's own belong to the tenant in whose pod's mounts they are supposed to be. */
function pathOwners(layout: Layout, processes: readonly ProcessPosture[]): MachinePosture['ownerOfPath'] {
  const podOwners = new Map<string, string>()
  for (const p of processes) {
    const tenant = cgroupTenant(layout, p)
    for (const path of tenant === undefined ? [] : p.cgroups) {
      const pod = /\/([0-9a-f]{8}-[0-9a-f-]{27})(?:\/|$)/.exec(path)?.[1]
      if (pod !== undefined && tenant !== undefined) podOwners.set(pod, tenant)
    }
  }
  const ownerOfVolume = volumeOwners(layout)
  return (path) => {
    const volume = ownerOfVolume(path)
    if (volume !== undefined) return { owner: volume }
    const pod = /([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/.exec(path)?.[1]
    if (pod !== undefined && podOwners.has(pod)) return { owner: podOwners.get(pod) }
    const tenant = new RegExp(`^${layout.stateDir}/tenants/([^/]+)`).exec(path)?.[1]
    if (tenant !== undefined) return { owner: tenant === '' ? undefined : `the control plane of ${tenant}` }
    if (
      path === layout.stateDir ||
      path.startsWith(`${layout.stateDir}/pki`) ||
      path.startsWith(`${layout.stateDir}/keys`)
    )
      return { owner: undefined }
    return undefined
  }
}

/** By the Linux user whose processes are the component. */
const COMPONENTS: Readonly<Record<string, string>> = {
  [DAEMON_USERS.gateway]: 'gateway',
  [DAEMON_USERS.podGateway]: "the pods' gateway to their APIs",
  [DAEMON_USERS.ingress]: 'front door, with the keys of certificates',
  [DAEMON_USERS.connector]: 'connector of the front door',
  [DAEMON_USERS.platform]: "the platform's control plane, which signs certificates",
  [DAEMON_USERS.dns]: 'resolver',
  [DAEMON_USERS.forwarder]: 'forwarder of names',
  [DAEMON_USERS.images]: 'image puller',
  [DAEMON_USERS.prober]: 'prober, which reads what pods answer to probes',
  [DAEMON_USERS.verifier]: 'verifier, which may read the whole machine',
}

/** What tenants have in common: our components whose processes were seen, and the kernel. */
export function sharedComponents(
  postures: readonly TenantPosture[],
  { users, router }: Pick<MachinePosture, 'users' | 'router'>,
  running: ReadonlySet<number>,
): string[] {
  const shared = ['node agent, as root']
  for (const [name, words] of Object.entries(COMPONENTS))
    if (users.some((user) => user.name === name && running.has(user.uid))) shared.push(words)
  if (!('problem' in router)) shared.push("the router's network namespace and its rules")
  const planes = new Map<number, string[]>()
  for (const { name, controlPlane } of postures)
    if (controlPlane)
      planes.set(controlPlane.process.pid, [...(planes.get(controlPlane.process.pid) ?? []), name])
  for (const [pid, names] of planes)
    if (names.length > 1) shared.push(`process ${pid}, with the control planes of ${listed(names)}`)
  const direct = postures.filter(({ processes }) => processes.some((p) => !isGvisor(p)))
  if (direct.length > 0)
    shared.push(`the machine's kernel, directly, for pods of ${listed(direct.map(({ name }) => name))}`)
  if (postures.some(({ processes }) => processes.some(isGvisor)))
    shared.push("the machine's kernel, behind gVisor, for all other pods")
  return shared
}

/** Cgroups limit what a tenant reads and writes in a second; what is left is divided by the disk's scheduler. */
function sharedDisk(device: string): string {
  const { name, scheduler } = observeScheduler(device)
  return scheduler === 'bfq'
    ? `the disk ${name}, divided by weights (bfq) where it is short`
    : `the disk ${name}, whose scheduler (${scheduler}) divides it among whoever asks, without weights`
}

const NAMES_LISTED = 6
const listed = (names: readonly string[]) =>
  names.length <= NAMES_LISTED ? names.join(', ') : `${names.length} tenants`
