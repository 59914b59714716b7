import { allBits } from './bits.ts'
import type { LayerResult, MachinePosture, TenantPosture } from './layers.ts'
import type { World } from './observers.ts'
import type { BpfInstruction } from './posture/classic-bpf.ts'
import type { PodLink } from './posture/network.ts'
import type { ProcessPosture } from './posture/processes.ts'
import { Ruleset } from './posture/ruleset.ts'

/** A platform that never was, for tests and measurements of what is concluded from what was seen. */
export type SyntheticTenant = {
  sandboxed?: boolean
  /** Its root is the machine's. */
  mapsMachine?: boolean
  /** Whether its pod's link drops what comes from elsewhere. */
  filtered?: boolean
  /** It has the ids of the tenant with this number, besides its own. */
  idsOf?: number
  /** The rules take its packets for those of the tenant with this number. */
  markOf?: number
  /** The rules believe its link when it sends under the address of the tenant with this number. */
  addressSeenAs?: number
  /** The process of the tenant with this number serves it too. */
  controlPlaneOf?: number
  /** Its processes are in the namespaces of those of the tenant with this number. */
  namespacesOf?: number
}

const MACHINE = { user: 'u', net: 'n', pid: 'p', mnt: 'm', ipc: 'i', uts: 't', cgroup: 'c' }
const FIRST_ID = 0x1000_0000
const IDS = 65_536

const DROP_ALL: BpfInstruction[] = [{ code: 0x06, jt: 0, jf: 0, k: 2 }]

export function syntheticWorld(kinds: readonly SyntheticTenant[], { uplink = false } = {}): World {
  const tenants = kinds.map((kind, at): TenantPosture => {
    const name = `t${at}`
    const {
      sandboxed = false,
      mapsMachine = false,
      filtered = true,
      idsOf,
      controlPlaneOf,
      namespacesOf,
    } = kind
    const from = mapsMachine ? 0 : FIRST_ID + at * IDS
    const ranges = [from, ...(idsOf === undefined ? [] : [FIRST_ID + idsOf * IDS])]
    const uidMap = ranges.map((first, range) => ({ from: first, count: IDS, inside: range * IDS }))
    const link: PodLink = {
      interfaceName: `l${at}`,
      mac: `02:00:00:00:${hex(at >> 8)}:${hex(at)}`,
      address: addressOf(at),
      egressFilters: filtered ? [DROP_ALL] : [],
      ingressFilters: [DROP_ALL],
    }
    const own: ProcessPosture = {
      pid: 1_000 + at,
      command: 'sleep',
      exe: sandboxed ? '/usr/bin/runsc' : '/bin/sleep',
      uid: from,
      gid: from,
      uidMap,
      gidMap: uidMap,
      ageMs: 100_000,
      tasks: 1,
      memoryBytes: 0,
      tasksMax: 1_000,
      noNewPrivs: true,
      seccompMode: 2,
      seccompFilters: 2,
      capEff: 0n,
      capBnd: 0n,
      namespaces: Object.fromEntries(
        Object.keys(MACHINE).map((type) => [type, `${type}${type === 'user' ? at : (namespacesOf ?? at)}`]),
      ) as ProcessPosture['namespaces'], // the types of the table
      cgroups: [],
      mounts: [],
    }
    const plane = controlPlaneOf ?? (sandboxed ? at : 0)
    const controlPlane = { ...own, pid: 5 + plane, uid: 900 + plane }
    return {
      name,
      isolationClass: sandboxed ? 'sandboxed' : 'shared',
      processes: [own],
      links: [link],
      taskCounters: [{ namespace: `user${at}`, owner: sandboxed ? 0 : 2_000_000 + at, tasksMax: 1_000 }],
      controlPlane: {
        process: controlPlane,
        socketUid: controlPlane.uid,
        interfaces: ['lo'],
        cgroup: { path: 'daemons', cpus: 1, memoryBytes: 1e9, pids: 128, cpuWeight: 256, children: [] },
      },
    }
  })
  const holds = (layer: LayerResult['layer']): LayerResult => ({
    layer,
    holds: true,
    evidence: ['synthetic'],
  })
  const everybody = () => ({ holds: allBits(tenants.length) })
  const answers = {
    binding: holds('gateway binds to one tenant'),
    refusing: holds('control plane refuses strangers'),
    keys: holds('signing keys'),
    shares: holds('gateway shares'),
    gateway: holds('gateway bounds requests'),
    controlPlane: holds('control plane bounds requests'),
  }
  return {
    tenants,
    machine: syntheticMachine(tenants, kinds, uplink),
    probed: {
      gatewayBinding: () => answers.binding,
      controlPlane: () => answers.refusing,
      signingKeys: () => answers.keys,
      gatewayShares: () => answers.shares,
      gatewayBounds: () => answers.gateway,
      controlPlaneBounds: () => answers.controlPlane,
      rows: { gatewayBinding: everybody, controlPlane: everybody, signingKeys: everybody },
    },
  }
}

function syntheticMachine(
  tenants: readonly TenantPosture[],
  kinds: readonly SyntheticTenant[],
  uplink: boolean,
): MachinePosture {
  return {
    namespaces: MACHINE,
    addresses: ['192.168.1.1'],
    users: [{ name: 'root', uid: 0 }],
    tasksMax: 4_194_304,
    observedAtMs: 1_000,
    observedUses: {
      atMs: 0,
      tenants: new Map(
        tenants.map(({ name }) => [
          name,
          { cpus: 0, memoryBytes: 0, tasks: 1, limits: { memoryBytes: 1e9, tasks: 1_000 }, yields: false },
        ]),
      ),
    },
    router: {
      inode: 'router',
      links: [],
      pods: tenants.flatMap(({ links }) => links),
      ruleset: new Ruleset(renderRuleset(tenants, kinds)),
      ...(uplink ? { uplink: { address: '169.254.64.0', egressFilters: [DROP_ALL] } } : {}),
      otherRoutes: [],
    },
    volumes: [],
    ephemeral: [],
    diskFreeBytes: 1e9,
    deviceOf: () => undefined,
    sourceChecks: ['all', ...tenants.flatMap(({ links }) => links.map((link) => link.interfaceName))].map(
      (interfaceName) => ({ interfaceName, rpFilter: 1, acceptLocal: false, forwarding: true }),
    ),
    processorLeaks: [],
    files: { keys: [], images: [], logs: [], pods: [], partitions: [], secretsIn: 'tmpfs' },
    ownerOfPath: () => undefined,
  }
}

/** Marks by address, and packets between equal marks only: the shape of the router's rules. */
function renderRuleset(tenants: readonly TenantPosture[], kinds: readonly SyntheticTenant[]): string {
  const table = { family: 'inet', table: 'bulkhead' }
  const payload = (protocol: string, field: string) => ({ payload: { protocol, field } })
  const meta = (key: string) => ({ meta: { key } })
  const mark = meta('mark')
  const ctMark = { ct: { key: 'mark' } }
  const rule = (chain: string, handle: number, expr: object[]) => ({
    rule: { ...table, chain, handle, expr },
  })
  const marks = tenants.flatMap(({ links }, at) =>
    links.map(({ address }) => [address, (kinds[at]?.markOf ?? at) + 1]),
  )
  const stolen = tenants.flatMap(({ links }, at) => {
    const { addressSeenAs } = kinds[at] ?? {}
    return addressSeenAs === undefined
      ? []
      : links.map(({ interfaceName, mac }) => ({ concat: [interfaceName, mac, addressOf(addressSeenAs)] }))
  })
  return JSON.stringify({
    nftables: [
      { table: { family: 'inet', name: 'bulkhead' } },
      { chain: { ...table, name: 'origin', hook: 'prerouting', prio: -300, type: 'filter', policy: 'drop' } },
      { chain: { ...table, name: 'forward', hook: 'forward', prio: 0, type: 'filter', policy: 'drop' } },
      { chain: { ...table, name: 'input', hook: 'input', prio: 0, type: 'filter', policy: 'drop' } },
      { map: { ...table, name: 'tenant', elem: marks } },
      {
        set: {
          ...table,
          name: 'source',
          elem: tenants
            .flatMap(({ links }) =>
              links.map(({ interfaceName, mac, address }): object => ({
                concat: [interfaceName, mac, address],
              })),
            )
            .concat(stolen),
        },
      },
      { set: { ...table, name: 'pair', elem: tenants.map((_, at) => ({ concat: [at + 1, at + 1] })) } },
      rule('origin', 1, [
        {
          match: {
            op: '!=',
            left: { concat: [meta('iifname'), payload('ether', 'saddr'), payload('ip', 'saddr')] },
            right: '@source',
          },
        },
        { drop: null },
      ]),
      rule('origin', 2, [
        { mangle: { key: mark, value: { map: { key: payload('ip', 'saddr'), data: '@tenant' } } } },
      ]),
      rule('origin', 3, [
        {
          match: {
            op: '==',
            left: payload('ip', 'daddr'),
            right: { prefix: { addr: '169.254.0.0', len: 16 } },
          },
        },
        { drop: null },
      ]),
      rule('origin', 4, [{ accept: null }]),
      rule('forward', 5, [
        { mangle: { key: ctMark, value: { map: { key: payload('ip', 'daddr'), data: '@tenant' } } } },
      ]),
      rule('forward', 6, [
        { match: { op: '==', left: { concat: [mark, ctMark] }, right: '@pair' } },
        { accept: null },
      ]),
    ],
  })
}

function addressOf(at: number): string {
  return `10.${128 + (at >> 13)}.${(at >> 5) & 0xff}.${(at & 31) * 8 + 1}`
}

function hex(value: number): string {
  return (value & 0xff).toString(16).padStart(2, '0')
}
