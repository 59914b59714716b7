import { assert, MiB } from '../stdx/index.ts'
import { BANDWIDTH_PROBLEM, parseBandwidth } from './bandwidth.ts'
import { type IpBlock, parseIpBlock } from './ip-block.ts'
import { PLATFORM_TENANT, type TenantName } from './names.ts'
import { parseQuantity } from './quantity.ts'

/**
 * Where one platform keeps its things on a machine. Everything that it makes has a name derived from `instance`, so
 * that platforms (a real one and those of tests) live side by side and `bulkhead reset` knows what is its own.
 */
export type Layout = {
  /** 1 to 4 lower-case letters or digits; `main` unless a test says otherwise. */
  instance: string
  /** Durable: stores, keys, images. */
  stateDir: string
  /** Gone after a reboot: sockets, pods, namespaces. Short, because unix socket paths are limited to 107 bytes. */
  runDir: string
  /** The parent of all pods' cgroups, relative to the cgroup root. */
  cgroup: string
  /** Every network interface of the instance in any namespace begins with this. */
  interfacePrefix: string
  /** First uid of the pods' ranges; tenant n (from 0) has 65,536 uids from `podUidBase + n * 65536`. */
  podUidBase: number
  tenantsMax: number
  /** Linux user of the control plane of tenant n where it has one of its own. */
  controlPlaneUidBase: number
  /** Owner of the user namespaces of tenant n's pods, by whom the kernel counts what they use; no process runs as it. */
  namespaceOwnerUidBase: number
  gatewayAddress: string
  gatewayPort: number
  /** Where the front door to what tenants publish listens. */
  ingress: {
    address: string
    httpPort: number
    httpsPort: number
    /** Who stands in front of it and says whom a connection is for (PROXY protocol). */
    proxies?: readonly IpBlock[]
  }
  /** The link that leads outside; that of the machine's default route when absent. */
  uplinkDevice?: string
  /** What pods of all tenants may use together; most of the machine's memory when absent. */
  podMemoryBytes?: number
  /** What that link carries in a second; what the kernel says of it when absent. */
  uplinkBitsPerSecond?: number
  /** The two ends of the link between the pods' router and the machine, and the name of the second. */
  uplink: { router: string; machine: string; link: string }
}

export const IDS_PER_TENANT = 65_536

/** Linux users of the daemons; made by the set-up as system users without shell or home. */
export const DAEMON_USERS = {
  gateway: 'bulkhead-gateway',
  podGateway: 'bulkhead-pod-gateway',
  platform: 'bulkhead-platform',
  worker: 'bulkhead-worker',
  images: 'bulkhead-images',
  verifier: 'bulkhead-verifier',
  dns: 'bulkhead-dns',
  forwarder: 'bulkhead-names',
  decompressor: 'bulkhead-decompressor',
  ingress: 'bulkhead-ingress',
  connector: 'bulkhead-conn',
  prober: 'bulkhead-prober',
} as const

// Above any ordinary user, and below 2^32 - 2 for the last slot.
const FIRST_POD_UID = 0x1000_0000
const TENANTS_OF_MAIN = 4_096
const UIDS_OF_MAIN = TENANTS_OF_MAIN * IDS_PER_TENANT
const UIDS_OF_SLOT = 256 * IDS_PER_TENANT
const SLOTS_MAX = 200
assert(
  FIRST_POD_UID + UIDS_OF_MAIN + SLOTS_MAX * UIDS_OF_SLOT < 2 ** 32 - 2,
  'the pods of every slot have uids',
)

const POD_MEMORY_BYTES_MIN = 256 * MiB
const LINK_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$/
const INSTANCE = /^[a-z][a-z0-9]{0,3}$/

/**
 * The layout of `BULKHEAD_INSTANCE` (default `main`). Other instances get uid ranges of their own: `BULKHEAD_SLOT`
 * 1 to 200 shifts them apart, with room for fewer tenants.
 * @throws {TypeError} when the environment says something that cannot be.
 */
export function parseLayout(env: Readonly<Record<string, string | undefined>>): Layout {
  const instance = env['BULKHEAD_INSTANCE'] ?? 'main'
  if (!INSTANCE.test(instance))
    throw new TypeError(
      `BULKHEAD_INSTANCE "${instance}" must be a letter and up to 3 more letters or digits, all lower-case`,
    )
  const slot = integer(
    env['BULKHEAD_SLOT'] ?? (instance === 'main' ? '0' : '1'),
    'BULKHEAD_SLOT',
    0,
    SLOTS_MAX,
  )
  const main = instance === 'main'
  const proxies = env['BULKHEAD_INGRESS_PROXIES']
  const podMemory = env['BULKHEAD_POD_MEMORY']
  const device = env['BULKHEAD_UPLINK']
  if (device !== undefined && !LINK_NAME.test(device))
    throw new TypeError(`BULKHEAD_UPLINK "${device}" must be the name of a network link`)
  const rate = env['BULKHEAD_UPLINK_RATE']
  const uplinkBitsPerSecond = rate === undefined ? undefined : parseBandwidth(rate)
  if (rate !== undefined && uplinkBitsPerSecond === undefined)
    throw new TypeError(`BULKHEAD_UPLINK_RATE "${rate}" ${BANDWIDTH_PROBLEM}`)
  return {
    instance,
    stateDir: env['BULKHEAD_STATE_DIR'] ?? (main ? '/var/lib/bulkhead' : `/var/lib/bulkhead-${instance}`),
    runDir: main ? '/run/bulkhead' : `/run/bulkhead-${instance}`,
    cgroup: main ? 'bulkhead' : `bulkhead-${instance}`,
    interfacePrefix: main ? 'bh' : `b${instance}`.slice(0, 5),
    podUidBase: FIRST_POD_UID + (slot === 0 ? 0 : UIDS_OF_MAIN + (slot - 1) * UIDS_OF_SLOT),
    tenantsMax: (slot === 0 ? UIDS_OF_MAIN : UIDS_OF_SLOT) / IDS_PER_TENANT,
    controlPlaneUidBase: 600_000 + slot * TENANTS_OF_MAIN,
    namespaceOwnerUidBase: 2_000_000 + slot * TENANTS_OF_MAIN,
    gatewayAddress: env['BULKHEAD_ADDRESS'] ?? '127.0.0.1',
    gatewayPort: integer(env['BULKHEAD_PORT'] ?? String(7443 + slot), 'BULKHEAD_PORT', 1, 65_535),
    ingress: {
      address: env['BULKHEAD_INGRESS_ADDRESS'] ?? env['BULKHEAD_ADDRESS'] ?? '127.0.0.1',
      httpPort: integer(
        env['BULKHEAD_INGRESS_HTTP_PORT'] ?? String(8080 + slot),
        'BULKHEAD_INGRESS_HTTP_PORT',
        1,
        65_535,
      ),
      httpsPort: integer(
        env['BULKHEAD_INGRESS_HTTPS_PORT'] ?? String(8443 + slot),
        'BULKHEAD_INGRESS_HTTPS_PORT',
        1,
        65_535,
      ),
      ...(proxies === undefined ? {} : { proxies: blocks(proxies, 'BULKHEAD_INGRESS_PROXIES') }),
    },
    ...(device === undefined ? {} : { uplinkDevice: device }),
    ...(podMemory === undefined ? {} : { podMemoryBytes: bytes(podMemory, 'BULKHEAD_POD_MEMORY') }),
    ...(uplinkBitsPerSecond === undefined ? {} : { uplinkBitsPerSecond }),
    uplink: {
      router: `169.254.${64 + (slot >> 7)}.${(slot & 127) * 2}`,
      machine: `169.254.${64 + (slot >> 7)}.${(slot & 127) * 2 + 1}`,
      link: `${main ? 'bh' : `b${instance}`}-up`,
    },
  }
}

function blocks(text: string, what: string): IpBlock[] {
  return text.split(',').map((each) => {
    const block = parseIpBlock(each.trim())
    if (!block)
      throw new TypeError(`${what} "${text}" must be networks such as 192.0.2.0/24, with commas between`)
    return block
  })
}

function bytes(text: string, what: string): number {
  let amount = 0
  try {
    amount = Number(parseQuantity(text).nanos / 1_000_000_000n)
  } catch (cause) {
    throw new TypeError(`${what} "${text}" must be an amount such as 12Gi`, { cause })
  }
  if (amount < POD_MEMORY_BYTES_MIN || !Number.isSafeInteger(amount))
    throw new TypeError(`${what} "${text}" must be at least ${POD_MEMORY_BYTES_MIN} bytes`)
  return amount
}

function integer(text: string, what: string, minimum: number, maximum: number): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < minimum || value > maximum)
    throw new TypeError(`${what} "${text}" must be a whole number from ${minimum} to ${maximum}`)
  return value
}

/** Sockets and files, all derived from the layout so that no two programs can disagree about one. */
export const paths = {
  /** The node agent's socket for one tenant: whoever can open it speaks for that tenant. */
  nodeTenantSocket: (l: Layout, tenant: TenantName) => `${l.runDir}/node/${tenant}.sock`,
  /** The node agent's socket for the platform's control plane: tenants come and go here. */
  nodePlatformSocket: (l: Layout) => `${l.runDir}/node/${PLATFORM_TENANT}.sock`,
  /**
   * The uid of the Tenant object whose control plane is hosted here, for the gateway: a certificate of an earlier
   * tenant of the same name carries another. Absent when there is no such tenant.
   */
  tenantUid: (l: Layout, tenant: TenantName) => `${l.runDir}/node/${tenant}.uid`,
  /** The name of the tenant whose pods have the addresses of this index, for the pods' gateway. */
  tenantOfIndex: (l: Layout, index: number) => `${l.runDir}/node/${index}.tenant`,
  /** What stands in for a control plane that sleeps, for the gateways. Absent while it is awake. */
  asleep: (l: Layout, tenant: TenantName) => `${l.runDir}/node/${tenant}.asleep`,
  /** Compiled code of our own programs, for processes with control planes. */
  codeCache: (l: Layout) => `${l.runDir}/code`,
  /** Where the gateways have a control plane woken. */
  wakeSocket: (l: Layout) => `${l.runDir}/wake.sock`,
  /** What the node agent saw tenants use, without their cgroups, and when. */
  observedUse: (l: Layout) => `${l.runDir}/node/use.json`,
  /** A control plane's API, for the gateways. */
  apiSocket: (l: Layout, tenant: TenantName) => `${l.runDir}/cp/${tenant}/api.sock`,
  /** Where the node agent tells a worker which tenants to host; `worker` is `shared` or a tenant's name. */
  workerControlSocket: (l: Layout, worker: string) => `${l.runDir}/worker/${worker}/control.sock`,
  /** Where the node agent asks the puller for an image's blobs. */
  imagesSocket: (l: Layout) => `${l.runDir}/images/images.sock`,
  /** Where the node agent tells the resolver each tenant's names. */
  dnsSocket: (l: Layout) => `${l.runDir}/dns/dns.sock`,
  /** Where the resolver asks the node agent for names outside. */
  outsideSocket: (l: Layout) => `${l.runDir}/outside.sock`,
  /** Where the node agent has names outside looked up. */
  forwarderSocket: (l: Layout) => `${l.runDir}/forwarder/forwarder.sock`,
  /** Where the node agent tells the front door whose hosts are whose, and what tenants publish. */
  ingressSocket: (l: Layout) => `${l.runDir}/ingress/ingress.sock`,
  /** Where the node agent tells the connector where services are. */
  connectorSocket: (l: Layout) => `${l.runDir}/connector/connector.sock`,
  /** Where the front door reaches the services of the tenant with this index, and of no other. */
  connectorTenantSocket: (l: Layout, index: number) => `${l.runDir}/connector/to/${index}.sock`,
  /** Where the node agent has probes asked and their answers read. */
  proberSocket: (l: Layout) => `${l.runDir}/prober/prober.sock`,
  /** A tenant's store; its directory belongs to the user of its control plane. */
  partition: (l: Layout, tenant: TenantName) => `${l.stateDir}/tenants/${tenant}/store.sqlite`,
  /** The parent of the daemons' cgroups, relative to the cgroup root; beside that of the pods, not above it. */
  daemonCgroups: (l: Layout) => `${l.cgroup}-daemons`,
  daemonRecord: (l: Layout, daemon: string) => `${l.runDir}/daemons/${daemon}.json`,
  /** Holds the process id of an agent that has taken over everything. */
  agentReady: (l: Layout) => `${l.runDir}/node/ready`,
  daemonLog: (l: Layout, daemon: string) => `${l.stateDir}/logs/${daemon}.log`,
  /** What of the network's rules could not be loaded; absent when all of them are as they are wanted. */
  failedLoads: (l: Layout) => `${l.runDir}/net/failed.json`,
  /** The network namespace that all pods are routed through. */
  routerNetns: (l: Layout) => `${l.runDir}/router.netns`,
  pki: (l: Layout) => `${l.stateDir}/pki`,
  /** With it the platform signs what it says of itself; root's alone. */
  reportKey: (l: Layout) => `${l.stateDir}/report.key`,
  reportPublicKey: (l: Layout) => `${l.stateDir}/report.pub`,
  /** What the watching verifier found, for the node agent and the command. */
  watchState: (l: Layout) => `${l.runDir}/verifier/state.json`,
  /** The same as numbers, for monitoring: Prometheus' text format. */
  watchMetrics: (l: Layout) => `${l.runDir}/verifier/metrics.prom`,
  /** What the operator decided about alarms and missing layers. */
  watchDecisions: (l: Layout) => `${l.stateDir}/verifier`,
  /** A file for each tenant in quarantine. */
  quarantine: (l: Layout) => `${l.stateDir}/quarantine`,
  operatorKubeconfig: (l: Layout) => `${l.stateDir}/operator.kubeconfig`,
} as const
