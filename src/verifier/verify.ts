import type { Layout } from '../api/index.ts'
import { DAEMON_USERS, paths } from '../api/index.ts'
import {
  applicationKernelLayer,
  type LayerResult,
  linkFilterLayer,
  machineRulesLayer,
  type MachinePosture,
  mountViewLayer,
  noPathToMachineLayer,
  routerRulesLayer,
  systemCallFilterLayer,
  type TenantPosture,
  uplinkFilterLayer,
  userNamespaceLayer,
  volumeFilesLayer,
} from './layers.ts'
import {
  observeLinksOf,
  observeMachineAddresses,
  observeMachineUsers,
  observeOpenSockets,
  observeRouter,
  type OpenSocket,
  type RouterPosture,
} from './posture/network.ts'
import { observeProcess, observeProcesses, type ProcessPosture } from './posture/processes.ts'
import { observeVolumes, volumeOwners } from './posture/volumes.ts'
import {
  type FailureDomain,
  type LayerName,
  LAYERS,
  LAYERS_REQUIRED,
  type Vector,
  VECTOR_NAMES,
  VECTORS,
} from './vectors.ts'

/** A tenant as the operator knows it: who, and what was promised. */
export type ExpectedTenant = { name: string; isolationClass: string }

export type VectorReport = {
  attacker: string
  victim: string
  vector: Vector
  layers: LayerResult[]
  /** How many of the layers that hold are independent of each other. */
  independent: number
  state: VectorState
  /** Why a vector is open or absent. */
  note?: string
}

/**
 * `holds`: enough independent layers were seen. `fails`: fewer, where there should be enough. `open`: fewer are known to
 * be there, which is said and not hidden. `absent`: there is nothing to cross.
 */
export type VectorState = 'holds' | 'fails' | 'open' | 'absent'

export type Report = {
  observedAt: string
  tenants: (ExpectedTenant & { pods: number; processes: number })[]
  vectors: VectorReport[]
  findings: string[]
  /** What the tenants still have in common. */
  shared: string[]
  ok: boolean
}

/** Probes of the API: they need to speak, so they are handed in. */
export type ApiProbes = {
  gatewayBinding(attacker: string, victim: string): Promise<LayerResult>
  controlPlane(attacker: string, victim: string): Promise<LayerResult>
}

const MONITOR = /\/conmon$/

/**
 * Looks at the machine and says which layers stand between any two tenants. Nothing is asked of the platform but who its
 * tenants are and which class each was promised.
 */
export async function verify({
  layout,
  tenants,
  probes,
  nowMs,
}: {
  layout: Layout
  tenants: readonly ExpectedTenant[]
  probes: ApiProbes
  nowMs: number
}): Promise<Report> {
  const processes = observeProcesses()
  const self = observeProcess(process.pid)
  if (!self) throw new Error('Cannot read /proc/self: nothing can be observed')
  const router = tryObserveRouter(layout)
  const machine: MachinePosture = {
    namespaces: self.namespaces,
    addresses: observeMachineAddresses(),
    users: observeMachineUsers(),
    router,
    volumes: observeVolumes(layout, self.mounts),
    ownerOfPath: pathOwners(layout, processes),
  }
  const postures = tenants.map((tenant) => observeTenant(layout, tenant, processes, router))
  const findings = strays(layout, tenants, processes, machine)
  const vectors: VectorReport[] = []
  for (const attacker of postures) {
    for (const victim of postures) {
      if (attacker === victim) continue
      for (const vector of VECTOR_NAMES) vectors.push(await lookAt(vector, attacker, victim, machine, probes))
    }
  }
  findings.push(...foreignListeners(layout, machine))
  for (const posture of postures) findings.push(...brokenPromises(posture))
  return {
    observedAt: new Date(nowMs).toISOString(),
    tenants: postures.map((p) => ({
      name: p.name,
      isolationClass: p.isolationClass,
      pods: p.links.length,
      processes: p.processes.length,
    })),
    vectors,
    findings,
    shared: sharedComponents(postures),
    ok: findings.length === 0 && vectors.every(({ state }) => state !== 'fails'),
  }
}

async function lookAt(
  vector: Vector,
  attacker: TenantPosture,
  victim: TenantPosture,
  machine: MachinePosture,
  probes: ApiProbes,
): Promise<VectorReport> {
  const { open, absent, layers: possible } = VECTORS[vector]
  const seen = await Promise.all(
    possible.map((layer) => layerOf(vector, layer, { attacker, victim, machine, probes })),
  )
  const layers = seen.filter((layer) => layer !== undefined && layer !== 'unseen')
  const domains = new Set<FailureDomain>(
    layers.filter((layer) => layer.holds).map((layer) => LAYERS[layer.layer].domain),
  )
  const note =
    absent ?? open?.why ?? (seen.includes('unseen') ? 'not every layer is looked at yet' : undefined)
  const state =
    absent !== undefined
      ? 'absent'
      : domains.size >= LAYERS_REQUIRED
        ? 'holds'
        : note === undefined || domains.size < (open?.layersKnown ?? 0)
          ? 'fails'
          : 'open'
  return {
    attacker: attacker.name,
    victim: victim.name,
    vector,
    layers,
    independent: domains.size,
    state,
    ...(note === undefined || state === 'holds' ? {} : { note }),
  }
}

type Between = { attacker: TenantPosture; victim: TenantPosture; machine: MachinePosture; probes: ApiProbes }

/** What was seen of a layer; undefined when nobody promised it. */
async function layerOf(
  vector: Vector,
  layer: LayerName,
  { attacker, victim, machine, probes }: Between,
): Promise<LayerResult | 'unseen' | undefined> {
  switch (layer) {
    case 'user namespace':
      return userNamespaceLayer(attacker, victim, machine)
    case 'system call filter':
      return systemCallFilterLayer(attacker)
    case 'application kernel': {
      const kernel = applicationKernelLayer(attacker)
      // Only where it was promised is its absence worth telling; where it is there, it counts.
      return kernel.holds || isSandboxed(attacker) ? kernel : undefined
    }
    case 'mount view':
      return mountViewLayer(attacker, machine)
    case 'volume files':
      return volumeFilesLayer(victim, machine)
    case 'router rules':
      return vector === 'pod network'
        ? routerRulesLayer(attacker, victim, machine)
        : vector === 'metadata and host services'
          ? machineRulesLayer(attacker, machine)
          : 'unseen'
    case 'link filter':
      return linkFilterLayer(attacker, victim)
    // A way outside stands in for no way at all, and must be filtered then.
    case 'no path to the machine':
      return hasUplink(machine) ? undefined : noPathToMachineLayer(attacker, machine)
    case 'uplink filter':
      return hasUplink(machine) ? uplinkFilterLayer(attacker, machine) : undefined
    case 'gateway binds to one tenant':
      return probes.gatewayBinding(attacker.name, victim.name)
    case 'control plane refuses strangers':
      return probes.controlPlane(attacker.name, victim.name)
    default:
      return 'unseen'
  }
}

function hasUplink({ router }: MachinePosture): boolean {
  return 'uplink' in router
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
  { name, isolationClass }: ExpectedTenant,
  processes: readonly ProcessPosture[],
  router: RouterPosture | { problem: string },
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
  return { name, isolationClass, processes: own, links }
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

function sharedComponents(postures: readonly TenantPosture[]): string[] {
  const shared = [
    'gateway',
    "the pods' gateway to their APIs",
    'node agent',
    'resolver',
    'image puller',
    'forwarder of names',
    "the router's network namespace and its rules",
  ]
  if (postures.filter((p) => !isSandboxed(p)).length > 1) shared.push('the worker process of trusted tenants')
  if (postures.some((p) => !isSandboxed(p)))
    shared.push("the machine's kernel, directly, for tenants of the classes shared and affinity")
  return shared
}
