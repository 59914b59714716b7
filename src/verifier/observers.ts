import {
  applicationKernelLayer,
  isGvisor,
  type LayerResult,
  linkFilterLayer,
  machineLinkFilterLayer,
  machineRulesLayer,
  type MachinePosture,
  mountViewLayer,
  noPathToMachineLayer,
  outsideLinkFilterLayer,
  routerRulesLayer,
  systemCallFilterLayer,
  type TenantPosture,
  uplinkFilterLayer,
  userNamespaceLayer,
  volumeFilesLayer,
} from './layers.ts'
import {
  confinedControlPlaneLayer,
  controlPlaneLimitLayer,
  controlPlaneUid,
  egressRulesLayer,
  forgedSourceRulesLayer,
  imageFilesLayer,
  keyFilesLayer,
  logFilesLayer,
  ownControlPlaneLayer,
  partitionCipherLayer,
  podLimitsLayer,
  processorLayer,
  processViewLayer,
  reversePathLayer,
  secretFilesLayer,
  taskLimitLayer,
  tenantLimitLayer,
  watchedUseLayer,
} from './platform-layers.ts'
import { limitNamesOf, linkShareLayer, rateLimitsLayer, shareLinksOf } from './share-layers.ts'
import { type IdRange, overlaps } from './posture/processes.ts'
import type { LayerName, Vector } from './vectors.ts'

/** What asking the gateway and the control planes showed; made before, because it takes connections. */
export type Probed = {
  gatewayBinding(attacker: string, victim: string): LayerResult
  controlPlane(attacker: string, victim: string): LayerResult
  signingKeys(attacker: string, victim: string): LayerResult
  gatewayShares(attacker: string): LayerResult
  gatewayBounds(attacker: string): LayerResult
  controlPlaneBounds(attacker: string): LayerResult
}

export type World = {
  tenants: readonly TenantPosture[]
  machine: MachinePosture
  probed: Probed
}

/** Of whom a layer speaks. What concerns one tenant only is looked at once, and so is what concerns the machine. */
export type Observer = {
  of: 'machine' | 'attacker' | 'victim' | 'pair'
  /** Undefined when nobody promised the layer to this attacker. */
  look(world: World, attacker: TenantPosture, victim: TenantPosture): LayerResult | undefined
  /** The same without words, for many pairs. */
  holds?(world: World, attacker: TenantPosture, victim: TenantPosture): boolean | undefined
}

const isSandboxed = ({ isolationClass }: TenantPosture) =>
  isolationClass === 'sandboxed' || isolationClass === 'dedicated'
/** Stands for a victim without anything. */
const NOBODY: TenantPosture = { name: '', isolationClass: '', processes: [], links: [] }
const ownNamespace = new WeakMap<TenantPosture, boolean>()
const idRanges = new WeakMap<TenantPosture, IdRange[]>()

function onceFor<T>(known: WeakMap<TenantPosture, T>, tenant: TenantPosture, look: () => T): T {
  const before = known.get(tenant)
  if (before !== undefined) return before
  const value = look()
  known.set(tenant, value)
  return value
}

/** Every range of ids of a tenant, each once. */
function rangesOf(tenant: TenantPosture): IdRange[] {
  return onceFor(idRanges, tenant, () => [
    ...new Map(
      tenant.processes
        .flatMap(({ uidMap, gidMap }) => [...uidMap, ...gidMap])
        .map((range) => [`${range.from} ${range.count}`, range]),
    ).values(),
  ])
}

const limited = new WeakMap<TenantPosture, boolean>()
const ownShare = new WeakMap<TenantPosture, boolean>()
const shareLinks = new WeakMap<TenantPosture, Set<string>>()
const ownLimits = new WeakMap<TenantPosture, boolean>()
const limitNames = new WeakMap<TenantPosture, Set<string>>()

/** Whether two tenants use none of the same. */
function disjoint(
  known: WeakMap<TenantPosture, Set<string>>,
  used: (tenant: TenantPosture) => Set<string>,
  a: TenantPosture,
  v: TenantPosture,
): boolean {
  return onceFor(known, a, () => used(a)).isDisjointFrom(onceFor(known, v, () => used(v)))
}

const behind = new WeakMap<TenantPosture, boolean>()
const ownView = new WeakMap<TenantPosture, boolean>()
const views = new WeakMap<TenantPosture, Set<string>>()

/** Nothing of it runs on the machine's kernel. */
function behindGvisor(tenant: TenantPosture): boolean {
  return onceFor(behind, tenant, () => tenant.processes.length > 0 && tenant.processes.every(isGvisor))
}

/** The namespaces in which its processes can be named. */
function viewsOf(tenant: TenantPosture): Set<string> {
  return onceFor(
    views,
    tenant,
    () =>
      new Set(
        tenant.processes
          .filter((p) => !isGvisor(p))
          .flatMap(({ namespaces }) => [`pid ${namespaces.pid}`, `ipc ${namespaces.ipc}`]),
      ),
  )
}

function apart(a: TenantPosture, v: TenantPosture): boolean {
  const theirs = rangesOf(v)
  return !rangesOf(a).some((range) => theirs.some((other) => overlaps(range, other)))
}

const ownersOf = new WeakMap<readonly TenantPosture[], Map<number, string[]>>()

/** Tenants with a user namespace of this owner. */
function ownersAmong(tenants: readonly TenantPosture[]): (uid: number) => readonly string[] {
  let owners = ownersOf.get(tenants)
  if (!owners) {
    owners = new Map()
    for (const { name, taskCounters = [] } of tenants)
      for (const owner of new Set(taskCounters.map((counter) => counter.owner)))
        if (owner !== undefined) owners.set(owner, [...(owners.get(owner) ?? []), name])
    ownersOf.set(tenants, owners)
  }
  return (uid) => owners.get(uid) ?? []
}

/** Nobody promised two trusted tenants that their control planes are apart. */
function shareByTrust(a: TenantPosture, v: TenantPosture): boolean {
  const [ours, theirs] = [a.controlPlane?.process.pid, v.controlPlane?.process.pid]
  return !isSandboxed(a) && !isSandboxed(v) && ours !== undefined && ours === theirs
}

const hasUplink = ({ router }: MachinePosture) => 'uplink' in router

const layers: Record<LayerName, Observer | ((vector: Vector) => Observer)> = {
  'user namespace': {
    of: 'pair',
    look: ({ machine }, a, v) => userNamespaceLayer(a, v, machine),
    holds: ({ machine }, a, v) =>
      apart(a, v) && onceFor(ownNamespace, a, () => userNamespaceLayer(a, NOBODY, machine).holds),
  },
  'system call filter': { of: 'attacker', look: (_, a) => systemCallFilterLayer(a) },
  'application kernel': {
    of: 'attacker',
    look(_, a) {
      const kernel = applicationKernelLayer(a)
      // Only where it was promised is its absence worth telling; where it is there, it counts.
      return kernel.holds || isSandboxed(a) ? kernel : undefined
    },
  },
  'mount view': { of: 'attacker', look: ({ machine }, a) => mountViewLayer(a, machine) },
  'process view': {
    of: 'pair',
    // gVisor's processes have only gVisor's view to give, which is another layer.
    look: ({ machine }, a, v) => (behindGvisor(a) ? undefined : processViewLayer(a, v, machine)),
    holds: ({ machine }, a, v) =>
      behindGvisor(a)
        ? undefined
        : viewsOf(v).isDisjointFrom(viewsOf(a)) &&
          onceFor(ownView, a, () => processViewLayer(a, NOBODY, machine).holds),
  },
  'volume files': { of: 'victim', look: ({ machine }, _, v) => volumeFilesLayer(v, machine) },
  'platform files': (vector) =>
    vector === 'secrets'
      ? { of: 'victim', look: ({ machine }, _, v) => secretFilesLayer(v, machine) }
      : vector === 'logs and metrics'
        ? { of: 'victim', look: ({ machine, tenants }, _, v) => logFilesLayer(v, machine, tenants) }
        : vector === 'images and image cache'
          ? { of: 'machine', look: ({ machine, tenants }) => imageFilesLayer(machine, tenants) }
          : { of: 'machine', look: ({ machine, tenants }) => keyFilesLayer(machine, tenants) },
  'router rules': (vector) =>
    vector === 'pod network'
      ? {
          of: 'pair',
          look: ({ machine }, a, v) => routerRulesLayer(a, v, machine),
        }
      : vector === 'DNS'
        ? { of: 'pair', look: ({ machine }, a, v) => forgedSourceRulesLayer(a, v, machine) }
        : vector === 'egress'
          ? { of: 'attacker', look: ({ machine }, a) => egressRulesLayer(a, machine) }
          : { of: 'attacker', look: ({ machine }, a) => machineRulesLayer(a, machine) },
  'link filter': (vector) =>
    vector === 'egress'
      ? {
          of: 'attacker',
          // Where the operator opened something, the filter lets all addresses outside through to the rules.
          look: (_, a) => (a.opensOutside ? undefined : outsideLinkFilterLayer(a)),
        }
      : vector === 'metadata and host services'
        ? { of: 'attacker', look: ({ machine }, a) => machineLinkFilterLayer(a, machine) }
        : { of: 'pair', look: (_, a, v) => linkFilterLayer(a, v) },
  'reverse path': { of: 'attacker', look: ({ machine }, a) => reversePathLayer(a, machine) },
  // A way outside stands in for no way at all, and must be filtered then.
  'no path to the machine': {
    of: 'attacker',
    look: ({ machine }, a) => (hasUplink(machine) ? undefined : noPathToMachineLayer(a, machine)),
  },
  'uplink filter': {
    of: 'attacker',
    look: ({ machine }, a) => (hasUplink(machine) ? uplinkFilterLayer(a, machine) : undefined),
  },
  'gateway binds to one tenant': {
    of: 'pair',
    look: ({ probed }, a, v) => probed.gatewayBinding(a.name, v.name),
  },
  'control plane refuses strangers': {
    of: 'pair',
    look: ({ probed }, a, v) => probed.controlPlane(a.name, v.name),
  },
  'gateway shares': { of: 'attacker', look: ({ probed }, a) => probed.gatewayShares(a.name) },
  'gateway bounds requests': { of: 'attacker', look: ({ probed }, a) => probed.gatewayBounds(a.name) },
  'control plane bounds requests': {
    of: 'attacker',
    look: ({ probed }, a) => probed.controlPlaneBounds(a.name),
  },
  'partition cipher': { of: 'victim', look: (_, __, v) => partitionCipherLayer(v) },
  'signing keys': { of: 'pair', look: ({ probed }, a, v) => probed.signingKeys(a.name, v.name) },
  'own control plane': {
    of: 'pair',
    look: (_, a, v) => (shareByTrust(a, v) ? undefined : ownControlPlaneLayer(a, v)),
    holds(_, a, v) {
      if (shareByTrust(a, v)) return undefined
      const [ours, theirs] = [controlPlaneUid(a), controlPlaneUid(v)]
      return ours !== undefined && theirs !== undefined && ours !== theirs && ours !== 0 && theirs !== 0
    },
  },
  'control plane limit': {
    of: 'pair',
    look: (_, a, v) => (shareByTrust(a, v) ? undefined : controlPlaneLimitLayer(a, v)),
    holds(_, a, v) {
      if (shareByTrust(a, v)) return undefined
      const [ours, theirs] = [a.controlPlane?.process.pid, v.controlPlane?.process.pid]
      const another = ours === undefined || ours !== theirs
      return another && onceFor(limited, a, () => controlPlaneLimitLayer(a, NOBODY).holds)
    },
  },
  'confined control plane': {
    of: 'attacker',
    look: ({ machine }, a) => confinedControlPlaneLayer(a, machine),
  },
  'share of the links': {
    of: 'pair',
    look: (_, a, v) => linkShareLayer(a, v),
    holds: (_, a, v) =>
      onceFor(ownShare, a, () => linkShareLayer(a, NOBODY).holds) && disjoint(shareLinks, shareLinksOf, a, v),
  },
  'rate limits': {
    of: 'pair',
    look: ({ machine }, a, v) => rateLimitsLayer(a, v, machine),
    holds({ machine }, a, v) {
      const { router } = machine
      if ('problem' in router) return false
      return (
        onceFor(ownLimits, a, () => rateLimitsLayer(a, NOBODY, machine).holds) &&
        disjoint(limitNames, (tenant) => limitNamesOf(tenant, router), a, v)
      )
    },
  },
  'tenant limit': (vector) => ({
    of: 'attacker',
    look: (_, a) => tenantLimitLayer(a, vector === 'memory' ? 'memory' : vector === 'pids' ? 'pids' : 'cpu'),
  }),
  'task limit': {
    of: 'attacker',
    look: ({ tenants, machine }, a) => taskLimitLayer(a, ownersAmong(tenants), machine),
  },
  'watched use': { of: 'attacker', look: ({ machine }, a) => watchedUseLayer(a, machine) },
  'pod limits': (vector) => ({
    of: 'attacker',
    look(_, a) {
      const resource = vector === 'memory' ? 'memory' : 'cpu'
      const promised = resource === 'memory' ? a.quota?.memoryBytes : a.quota?.cpus
      // The operator who sets no quota has not asked for it.
      return promised === undefined ? undefined : podLimitsLayer(a, resource)
    },
  }),
  'processor mitigations': { of: 'machine', look: ({ machine }) => processorLayer(machine) },
}

/** The same observer for vectors that look at the same. */
export function observerOf(vector: Vector, layer: LayerName): Observer {
  const observer = layers[layer]
  return typeof observer === 'function' ? observer(vector) : observer
}
