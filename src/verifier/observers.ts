import {
  applicationKernelLayer,
  ephemeralLayer,
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
  diskRatesLayer,
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
  watchedDiskLayer,
  watchedUseLayer,
} from './platform-layers.ts'
import { allBits, type Bits, bitsFrom, NO_BITS } from './bits.ts'
import { forgedSourceRulesRows, linkFilterRows, routerRulesRows } from './pair-rows.ts'
import type { IdRange, ProcessPosture } from './posture/processes.ts'
import { limitNamesOf, linkShareLayer, rateLimitsLayer, shareLinksOf } from './share-layers.ts'
import type { LayerName, Vector } from './vectors.ts'

/** What asking the gateway and the control planes showed; made before, because it takes connections. */
export type Probed = {
  gatewayBinding(attacker: string, victim: string): LayerResult
  controlPlane(attacker: string, victim: string): LayerResult
  signingKeys(attacker: string, victim: string): LayerResult
  gatewayShares(attacker: string): LayerResult
  gatewayBounds(attacker: string): LayerResult
  controlPlaneBounds(attacker: string): LayerResult
  /** The same of pairs, all at once. */
  rows: Record<'gatewayBinding' | 'controlPlane' | 'signingKeys', (attacker: TenantPosture) => Row>
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
  /** The same without words of all pairs at once: for an attacker, the victims against whom the layer holds. */
  rows?(world: World): (attacker: TenantPosture) => Row
}

/** Victims by their number. Whom the layer was not promised against is in `unpromised`. */
export type Row = { holds: Bits; unpromised?: Bits }

const isSandboxed = ({ isolationClass }: TenantPosture) =>
  isolationClass === 'sandboxed' || isolationClass === 'dedicated'
/** Stands for a victim without anything. */
const NOBODY: TenantPosture = { name: '', isolationClass: '', processes: [], links: [] }
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

const behind = new WeakMap<TenantPosture, boolean>()
const views = new WeakMap<TenantPosture, Set<string>>()

/** Nothing of it runs on the machine's kernel. */
function behindGvisor(tenant: TenantPosture): boolean {
  return onceFor(behind, tenant, () => tenant.processes.length > 0 && tenant.processes.every(isGvisor))
}

const viewsInto = ({ namespaces }: ProcessPosture) => [`pid ${namespaces.pid}`, `ipc ${namespaces.ipc}`]

/** The namespaces in which its programs can name processes. */
function viewsOf(tenant: TenantPosture): Set<string> {
  return onceFor(
    views,
    tenant,
    () => new Set(tenant.processes.filter((p) => !isGvisor(p)).flatMap(viewsInto)),
  )
}

/** For each tenant, those who have one of its ids too. */
function overlapping(tenants: readonly TenantPosture[]): (tenant: TenantPosture) => Bits {
  const ranges = tenants
    .flatMap((tenant, at) =>
      rangesOf(tenant).map((range) => ({ from: range.from, end: range.from + range.count, at })),
    )
    .sort((a, b) => a.from - b.from)
  /** The farthest end of all ranges up to each. */
  const farthest: number[] = []
  for (const [at, { end }] of ranges.entries()) farthest[at] = Math.max(end, farthest[at - 1] ?? -Infinity)
  return (tenant) => {
    const found: number[] = []
    for (const { from, count } of rangesOf(tenant)) {
      let [low, high] = [0, ranges.length]
      while (low < high) {
        const middle = (low + high) >> 1
        if ((ranges[middle]?.from ?? Infinity) < from + count) low = middle + 1
        else high = middle
      }
      for (let at = low - 1; at >= 0 && (farthest[at] ?? 0) > from; at--) {
        const range = ranges[at]
        if (range && range.end > from && tenants[range.at] !== tenant) found.push(range.at)
      }
    }
    return bitsFrom(found)
  }
}

/** Who has any of these, by what each has. */
function groupBy(
  tenants: readonly TenantPosture[],
  read: (tenant: TenantPosture) => Iterable<string>,
): (keys: Iterable<string>) => Bits {
  const members = new Map<string, number[]>()
  for (const [at, tenant] of tenants.entries())
    for (const key of new Set(read(tenant))) members.set(key, [...(members.get(key) ?? []), at])
  const groups = new Map([...members].map(([key, some]) => [key, bitsFrom(some)]))
  return (keys) => {
    let found = NO_BITS
    for (const key of keys) found |= groups.get(key) ?? NO_BITS
    return found
  }
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

/** The same for all. */
function trustedBeside(tenants: readonly TenantPosture[]): (tenant: TenantPosture) => Bits {
  const pidOf = (tenant: TenantPosture) =>
    isSandboxed(tenant) || !tenant.controlPlane ? [] : [String(tenant.controlPlane.process.pid)]
  const who = groupBy(tenants, pidOf)
  return (tenant) => who(pidOf(tenant))
}

const hasUplink = ({ router }: MachinePosture) => 'uplink' in router

const layers: Record<LayerName, Observer | ((vector: Vector) => Observer)> = {
  'user namespace': {
    of: 'pair',
    look: ({ machine }, a, v) => userNamespaceLayer(a, v, machine),
    rows({ tenants, machine }) {
      const sharing = overlapping(tenants)
      return (a) => ({
        holds: userNamespaceLayer(a, NOBODY, machine).holds ? allBits(tenants.length) & ~sharing(a) : NO_BITS,
      })
    },
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
    rows({ tenants, machine }) {
      const all = allBits(tenants.length)
      const who = groupBy(tenants, ({ processes }) => processes.flatMap(viewsInto))
      return (a) =>
        behindGvisor(a)
          ? { holds: NO_BITS, unpromised: all }
          : { holds: processViewLayer(a, NOBODY, machine).holds ? all & ~who(viewsOf(a)) : NO_BITS }
    },
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
          rows: routerRulesRows,
        }
      : vector === 'DNS'
        ? {
            of: 'pair',
            look: ({ machine }, a, v) => forgedSourceRulesLayer(a, v, machine),
            rows: forgedSourceRulesRows,
          }
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
        : { of: 'pair', look: (_, a, v) => linkFilterLayer(a, v), rows: linkFilterRows },
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
    rows: ({ probed }) => probed.rows.gatewayBinding,
  },
  'control plane refuses strangers': {
    of: 'pair',
    look: ({ probed }, a, v) => probed.controlPlane(a.name, v.name),
    rows: ({ probed }) => probed.rows.controlPlane,
  },
  'gateway shares': { of: 'attacker', look: ({ probed }, a) => probed.gatewayShares(a.name) },
  'gateway bounds requests': { of: 'attacker', look: ({ probed }, a) => probed.gatewayBounds(a.name) },
  'control plane bounds requests': {
    of: 'attacker',
    look: ({ probed }, a) => probed.controlPlaneBounds(a.name),
  },
  'partition cipher': { of: 'victim', look: (_, __, v) => partitionCipherLayer(v) },
  'signing keys': {
    of: 'pair',
    look: ({ probed }, a, v) => probed.signingKeys(a.name, v.name),
    rows: ({ probed }) => probed.rows.signingKeys,
  },
  'own control plane': {
    of: 'pair',
    look: (_, a, v) => (shareByTrust(a, v) ? undefined : ownControlPlaneLayer(a, v)),
    rows({ tenants }) {
      const all = allBits(tenants.length)
      const unpromised = trustedBeside(tenants)
      const uidOf = (tenant: TenantPosture) => controlPlaneUid(tenant)
      const who = groupBy(tenants, (tenant) => {
        const uid = uidOf(tenant)
        // Root, and what cannot be seen, is nobody's own.
        return [uid === undefined || uid === 0 ? 'none' : String(uid)]
      })
      return (a) => {
        const uid = uidOf(a)
        const own = uid !== undefined && uid !== 0
        return { holds: own ? all & ~who([String(uid), 'none']) : NO_BITS, unpromised: unpromised(a) }
      }
    },
  },
  'control plane limit': {
    of: 'pair',
    look: (_, a, v) => (shareByTrust(a, v) ? undefined : controlPlaneLimitLayer(a, v)),
    rows({ tenants }) {
      const all = allBits(tenants.length)
      const unpromised = trustedBeside(tenants)
      const pidOf = ({ controlPlane }: TenantPosture) =>
        controlPlane ? [String(controlPlane.process.pid)] : []
      const who = groupBy(tenants, pidOf)
      return (a) => ({
        holds: controlPlaneLimitLayer(a, NOBODY).holds ? all & ~who(pidOf(a)) : NO_BITS,
        unpromised: unpromised(a),
      })
    },
  },
  'confined control plane': {
    of: 'attacker',
    look: ({ machine }, a) => confinedControlPlaneLayer(a, machine),
  },
  'file system of its own': { of: 'attacker', look: ({ machine }, a) => ephemeralLayer(a, machine) },
  'watched disk': { of: 'attacker', look: ({ machine }, a) => watchedDiskLayer(a, machine) },
  'disk rates': { of: 'attacker', look: (_, a) => diskRatesLayer(a) },
  'share of the links': {
    of: 'pair',
    look: (_, a, v) => linkShareLayer(a, v),
    rows({ tenants }) {
      const all = allBits(tenants.length)
      const who = groupBy(tenants, shareLinksOf)
      return (a) => ({ holds: linkShareLayer(a, NOBODY).holds ? all & ~who(shareLinksOf(a)) : NO_BITS })
    },
  },
  'rate limits': {
    of: 'pair',
    look: ({ machine }, a, v) => rateLimitsLayer(a, v, machine),
    rows({ tenants, machine }) {
      const { router } = machine
      if ('problem' in router) return () => ({ holds: NO_BITS })
      const all = allBits(tenants.length)
      const namesOf = (tenant: TenantPosture) => limitNamesOf(tenant, router)
      const who = groupBy(tenants, namesOf)
      return (a) => ({ holds: rateLimitsLayer(a, NOBODY, machine).holds ? all & ~who(namesOf(a)) : NO_BITS })
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
