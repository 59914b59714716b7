import { CATALOGUE } from '../../src/attack/index.ts'
import {
  ALL_CAPABILITIES,
  ANY_PEER,
  ANY_SENDER,
  CONTROL_PLANE_TAKES_ANY_TENANT,
  EVERYBODY_MAY_DO_EVERYTHING,
  GATEWAY_BINDS_NOBODY,
  NAMES_OF_ALL,
  NO_CIPHER,
  NO_FAIR_SHARE,
  NO_FILTER,
  NO_GVISOR,
  NO_INHERITED_FILTER,
  NO_INHERITED_NO_NEW_PRIVILEGES,
  NO_LINK_FILTER,
  NO_MASKS,
  NO_NO_NEW_PRIVILEGES,
  NO_POD_LIMITS,
  NO_REVERSE_PATH,
  NO_ROUTER_RULES,
  NO_RULES_OUTSIDE,
  NO_TENANT_LIMIT,
  NO_UPLINK_FILTER,
  ONE_RANGE_OF_IDS,
  ONE_SIGNING_KEY,
  ONE_USER_FOR_CONTROL_PLANES,
  PLATFORM_MOUNTED,
  PROCESSES_OF_THE_MACHINE,
  SOCKETS_OPEN_TO_ALL,
  TAKEN_OVER,
  TOKENS_FOR_ANYBODY,
  UNSAFE_PODS,
  WAY_OUTSIDE,
  WAY_TO_THE_MACHINE,
} from './edits.ts'
import type { Edit } from './without.ts'

/** One run: a copy of the platform that lacks a layer, and the attacks that the layer stands against. */
export type Ablation = {
  /** Of the verifier, where it knows the layer. */
  off: string
  how: string
  edits: readonly Edit[]
  /** Isolation classes of the two tenants. */
  classes: 'shared,shared' | 'shared,sandboxed' | 'sandboxed,sandboxed'
  families?: readonly string[]
  ids?: readonly string[]
  /** All layers are gone, which shows that the attacks are real: these must come through. */
  comesThrough?: readonly string[]
  /** What a single layer stands against, and why that is accepted. Everything else must still be blocked. */
  accepted?: Readonly<Record<string, string>>
}

const KERNEL = ['kernel', 'mounts', 'devices', 'processes', 'volumes']
const API = ['paths', 'headers', 'identity']
/** Those that show whether a pod on another runtime is in its own network: the others only take longer. */
const PLACED_IDS = ['network-reach-pod', 'network-spoofed-source', 'network-node-addresses']
const NETWORK_IDS = [
  'network-reach-pod',
  'network-victim-pod',
  'network-victim-udp',
  'network-fragments',
  'network-spoofed-source',
  'network-multicast-broadcast',
  'network-metadata',
  'network-node-addresses',
]
const MACHINE_IDS = [
  'network-node-addresses',
  'network-metadata',
  'network-outside',
  'network-gateway-ports',
  'network-victim-pod',
]
const TOKEN_IDS = [
  'token-of-victim-account',
  'token-stolen',
  'token-changed-claims',
  'token-review-of-stranger',
]
const SOCKET_IDS = ['socket-control-plane', 'socket-taken-gateway', 'socket-taken-pod-gateway']
const DISK_IDS = ['secret-bytes-at-rest', 'secret-other-key', 'secret-wrapped-key', 'secret-after-deletion']

/** What neither filter keeps a pod of the class `shared` from then; no step of it leaves the pod. */
const STEPS =
  "it reaches code of the machine's kernel, as an unprivileged user there; ids, mounts and namespaces are as before"
/** The same `why` for several attacks. */
const all = (why: string, ...ids: string[]) => Object.fromEntries(ids.map((id) => [id, why]))

const OWN_NODES = "it is the tenant's own list of nodes, which is served, and not another's"
const OWN_TOKEN =
  'its own API takes a token of its own that names another audience; the victim’s refuses it all the same'
const WITHIN_NAMESPACE = 'they hold within the user namespace of the pod only'

const LAYERS_OFF: readonly Ablation[] = [
  // kernel
  {
    off: 'application kernel',
    how: 'pods of the class sandboxed run on crun; the rest of the class is as it is',
    edits: NO_GVISOR,
    classes: 'sandboxed,sandboxed',
    families: KERNEL,
    ids: PLACED_IDS,
  },
  {
    off: 'system call filter',
    how: 'the filter in the configuration of containers allows every call',
    edits: NO_FILTER,
    classes: 'shared,shared',
    families: KERNEL,
  },
  {
    off: 'inherited filter',
    how: 'the filter that runtimes start under allows every call',
    edits: NO_INHERITED_FILTER,
    classes: 'shared,shared',
    families: KERNEL,
  },
  {
    off: 'system call filter and inherited filter',
    how: 'both at once',
    edits: [...NO_FILTER, ...NO_INHERITED_FILTER],
    classes: 'shared,shared',
    families: KERNEL,
    comesThrough: ['pod-ptrace', 'pod-keyrings', 'pod-io-uring', 'pod-netlink'],
    accepted: all(
      STEPS,
      'pod-pidfd-getfd',
      'pod-kcmp',
      'pod-odd-socket-families',
      'pod-old-and-odd-calls',
      'pod-old-calling-convention',
    ),
  },
  {
    off: 'no_new_privs',
    how: 'the configuration of containers lets programs gain rights with execve',
    edits: NO_NO_NEW_PRIVILEGES,
    classes: 'shared,shared',
    families: KERNEL,
  },
  {
    off: 'inherited no_new_privs',
    how: 'runtimes start without giving up new privileges',
    edits: NO_INHERITED_NO_NEW_PRIVILEGES,
    classes: 'shared,shared',
    ids: ['pod-setuid-program', 'pod-file-capabilities', 'pod-raise-capabilities'],
  },
  {
    off: 'no_new_privs and inherited no_new_privs',
    how: 'both at once',
    edits: [...NO_NO_NEW_PRIVILEGES, ...NO_INHERITED_NO_NEW_PRIVILEGES],
    classes: 'shared,shared',
    ids: ['pod-setuid-program', 'pod-file-capabilities', 'pod-raise-capabilities'],
    comesThrough: ['pod-setuid-program'],
  },
  {
    off: 'dropped capabilities',
    how: 'root of a container has all capabilities in its user namespace',
    edits: ALL_CAPABILITIES,
    classes: 'shared,shared',
    families: KERNEL,
    ids: ['pod-raw-sockets', 'pod-packet-sockets', 'pod-configure-network'],
    accepted: {
      ...all(WITHIN_NAMESPACE, 'pod-raise-capabilities', 'pod-file-capabilities'),
      'pod-configure-network':
        "it changes the pod's own end of its link; what leaves it is checked at the other end",
    },
  },
  {
    off: 'dropped capabilities, in the network',
    how: 'root of a container may do with its own end of the link what it likes',
    edits: ALL_CAPABILITIES,
    classes: 'shared,shared',
    ids: [...NETWORK_IDS, 'network-ipv6', 'network-path-options'],
  },
  {
    off: 'dropped capabilities, system call filter and inherited filter',
    how: 'all at once: only the user namespace is left',
    edits: [...ALL_CAPABILITIES, ...NO_FILTER, ...NO_INHERITED_FILTER],
    classes: 'shared,shared',
    ids: ['pod-raw-sockets', 'pod-packet-sockets', 'pod-core-pattern', 'pod-mknod', 'pod-kernel-module'],
    comesThrough: ['pod-raw-sockets', 'pod-packet-sockets'],
  },
  {
    off: 'masked and read-only paths',
    how: 'nothing lies over files of /proc and /sys',
    edits: NO_MASKS,
    classes: 'shared,shared',
    families: KERNEL,
    accepted: {
      'pod-masked-files': 'what everybody of the machine may read; none of it is content of another tenant',
      'pod-masked-by-other-paths': 'what everybody of the machine may read',
    },
  },
  {
    off: 'refused fields',
    how: 'the API takes pods that ask for privileged mode, host namespaces and capabilities, and the attacks run in such pods',
    edits: UNSAFE_PODS,
    classes: 'shared,sandboxed',
    families: KERNEL,
    ids: PLACED_IDS,
  },
  // storage
  {
    off: 'own range of ids',
    how: 'all tenants have the same uids',
    edits: ONE_RANGE_OF_IDS,
    classes: 'shared,shared',
    families: ['processes', 'volumes', 'mounts'],
  },
  {
    off: 'mount view',
    how: "the platform's state and run directories are mounted into every container, writable",
    edits: PLATFORM_MOUNTED,
    classes: 'shared,shared',
    families: ['volumes'],
  },
  {
    off: 'mount view and own range of ids',
    how: 'both at once',
    edits: [...PLATFORM_MOUNTED, ...ONE_RANGE_OF_IDS],
    classes: 'shared,shared',
    families: ['volumes'],
    comesThrough: ['pod-platform-files'],
  },
  {
    off: 'process view',
    how: "the machine's own /proc is mounted into containers",
    edits: PROCESSES_OF_THE_MACHINE,
    classes: 'shared,shared',
    families: ['processes'],
    accepted: {
      'pod-init-environment':
        'it sees the names of all processes and their arguments, which hold no secrets; no environment, memory or file of theirs',
    },
  },
  // pod network
  {
    off: 'router rules',
    how: 'the rules let one tenant through to another, under any address, and to metadata',
    edits: NO_ROUTER_RULES,
    classes: 'shared,sandboxed',
    ids: NETWORK_IDS,
  },
  {
    off: 'link filter',
    how: 'the filters of links let everything through',
    edits: NO_LINK_FILTER,
    classes: 'shared,sandboxed',
    ids: NETWORK_IDS,
  },
  {
    off: 'reverse path',
    how: "the router's kernel takes senders from behind any link, and its own address too",
    edits: NO_REVERSE_PATH,
    classes: 'shared,sandboxed',
    ids: [...NETWORK_IDS, 'network-dns-victim-names'],
  },
  {
    off: 'router rules and link filter',
    how: 'both at once',
    edits: [...NO_ROUTER_RULES, ...NO_LINK_FILTER],
    classes: 'shared,shared',
    ids: ['network-victim-pod', 'network-victim-udp'],
    comesThrough: ['network-victim-pod'],
  },
  {
    off: 'no path to the machine',
    how: 'a link, a route and translated addresses lead from the router to the machine, as if there were no namespace between',
    edits: WAY_TO_THE_MACHINE,
    classes: 'shared,sandboxed',
    ids: MACHINE_IDS,
  },
  {
    off: 'no path to the machine and router rules',
    how: 'both at once',
    edits: [...WAY_TO_THE_MACHINE, ...NO_ROUTER_RULES, ...ANY_SENDER],
    classes: 'shared,shared',
    ids: MACHINE_IDS,
  },
  {
    off: 'no path to the machine, router rules and link filter',
    how: 'all at once',
    edits: [...WAY_TO_THE_MACHINE, ...NO_ROUTER_RULES, ...ANY_SENDER, ...NO_LINK_FILTER],
    classes: 'shared,shared',
    ids: ['network-node-addresses'],
    comesThrough: ['network-node-addresses'],
  },
  {
    off: 'uplink filter',
    how: 'the operator has opened a way outside, and the filter on it lets everything through',
    edits: [...WAY_OUTSIDE, ...NO_UPLINK_FILTER],
    classes: 'shared,sandboxed',
    ids: MACHINE_IDS,
  },
  {
    off: 'router rules, with a way outside',
    how: 'the operator has opened a way outside, and neither rules nor routes of the router keep anything from it',
    edits: [...WAY_OUTSIDE, ...NO_RULES_OUTSIDE],
    classes: 'shared,sandboxed',
    ids: MACHINE_IDS.filter((id) => id !== 'network-outside'),
  },
  // DNS
  {
    off: 'the resolver answers each tenant its own names',
    how: 'the resolver answers everybody from the names of all tenants',
    edits: NAMES_OF_ALL,
    classes: 'shared,sandboxed',
    ids: ['network-dns-victim-names', 'network-reach-pod', 'network-victim-pod'],
    accepted: {
      'network-dns-victim-names':
        'it learns an address of a service or pod, which stays out of its reach; the resolver is a component that all share',
    },
  },
  // tenant API
  {
    off: 'gateway binds to one tenant',
    how: 'the gateway passes every identity on to the tenant of the path',
    edits: GATEWAY_BINDS_NOBODY,
    classes: 'shared,sandboxed',
    families: API,
    accepted: {
      'certificate-of-deleted-tenant':
        'a tenant that has gone has no control plane that could refuse; that of the next of its name does',
      'path-debug-endpoints': OWN_NODES,
    },
  },
  {
    off: 'control plane refuses strangers',
    how: 'a control plane takes identities of every tenant',
    edits: CONTROL_PLANE_TAKES_ANY_TENANT,
    classes: 'shared,sandboxed',
    families: API,
    accepted: { 'path-debug-endpoints': OWN_NODES },
  },
  {
    off: 'gateway binds to one tenant and control plane refuses strangers',
    how: 'both at once',
    edits: [...GATEWAY_BINDS_NOBODY, ...CONTROL_PLANE_TAKES_ANY_TENANT],
    classes: 'shared,shared',
    ids: ['path-direct'],
    comesThrough: ['path-direct'],
  },
  {
    off: 'RBAC',
    how: 'every user of a tenant may do everything in its own control plane',
    edits: EVERYBODY_MAY_DO_EVERYTHING,
    classes: 'shared,shared',
    families: API,
    accepted: {
      'path-debug-endpoints': OWN_NODES,
      ...all(
        'within one tenant, where RBAC alone decides what its users may do',
        'header-identity',
        'header-hop-by-hop',
        'header-remote-user',
        'header-forwarded',
        'header-method-override',
        'header-odd-spelling',
      ),
    },
  },
  // control-plane saturation
  {
    off: 'fair share',
    how: 'the gateway lets every request in, however many there are',
    edits: NO_FAIR_SHARE,
    classes: 'shared,sandboxed',
    families: ['floods'],
  },
  // identities and tokens
  {
    off: 'audience and issuer of tokens',
    how: 'whom a token is from and for is not compared with the tenant',
    edits: TOKENS_FOR_ANYBODY,
    classes: 'shared,shared',
    ids: TOKEN_IDS,
    accepted: { 'token-of-victim-account': OWN_TOKEN },
  },
  {
    off: 'signing keys',
    how: 'all tenants sign their tokens with the same key',
    edits: ONE_SIGNING_KEY,
    classes: 'shared,shared',
    ids: TOKEN_IDS,
  },
  {
    off: 'signing keys, audience and issuer of tokens',
    how: 'both at once; the gateway still binds everybody to one tenant',
    edits: [...ONE_SIGNING_KEY, ...TOKENS_FOR_ANYBODY],
    classes: 'shared,shared',
    ids: TOKEN_IDS,
    accepted: { 'token-of-victim-account': OWN_TOKEN },
  },
  // platform components
  {
    off: "peer check of the control planes' sockets",
    how: 'a control plane takes connections of every user of the machine that its socket lets in',
    edits: ANY_PEER,
    classes: 'shared,sandboxed',
    ids: SOCKET_IDS,
    accepted: {
      'socket-control-plane':
        "of all users only one who is in the gateways' group gets so far, and nobody but the gateways is",
    },
  },
  {
    off: "mode of the control planes' sockets",
    how: 'every user of the machine may connect to them',
    edits: SOCKETS_OPEN_TO_ALL,
    classes: 'shared,sandboxed',
    ids: SOCKET_IDS,
  },
  {
    off: "peer check and mode of the control planes' sockets",
    how: 'both at once',
    edits: [...ANY_PEER, ...SOCKETS_OPEN_TO_ALL],
    classes: 'shared,sandboxed',
    ids: SOCKET_IDS,
    comesThrough: ['socket-control-plane'],
  },
  {
    off: 'own users of control planes',
    how: 'all control planes run as one user',
    edits: ONE_USER_FOR_CONTROL_PLANES,
    classes: 'sandboxed,sandboxed',
    families: ['paths', 'sockets'],
    accepted: { 'path-debug-endpoints': OWN_NODES },
  },
  {
    off: 'own users of control planes, and a control plane that is taken over',
    how: 'all control planes run as one user, and the attacker speaks as that user',
    edits: [...ONE_USER_FOR_CONTROL_PLANES, ...TAKEN_OVER],
    classes: 'sandboxed,sandboxed',
    ids: ['socket-node-agent'],
    comesThrough: ['socket-node-agent'],
  },
  // secrets
  {
    off: 'partition cipher',
    how: 'partitions are written as they are',
    edits: NO_CIPHER,
    classes: 'shared,sandboxed',
    families: ['volumes', 'paths'],
    accepted: { 'path-debug-endpoints': OWN_NODES },
  },
  {
    off: 'platform files',
    how: 'the attacker reads the disk as root of the machine',
    edits: [],
    classes: 'shared,sandboxed',
    ids: DISK_IDS,
  },
  {
    off: 'partition cipher and platform files',
    how: 'partitions are written as they are, and the attacker reads the disk as root of the machine',
    edits: NO_CIPHER,
    classes: 'shared,sandboxed',
    ids: DISK_IDS,
    comesThrough: ['secret-bytes-at-rest', 'secret-other-key'],
  },
  // pids
  {
    off: 'tenant limit',
    how: 'the cgroup of a tenant has any number of processes',
    edits: NO_TENANT_LIMIT,
    classes: 'shared,shared',
    families: ['exhaustion'],
  },
  {
    off: 'pod limits',
    how: 'a container and a pod may have any number of processes',
    edits: NO_POD_LIMITS,
    classes: 'shared,shared',
    ids: ['exhaustion-processes', 'exhaustion-forks'],
    accepted: all(
      'one pod may have as many then as all of its tenant, whose limit the attack does not reach; the victim answers all the while',
      'exhaustion-processes',
      'exhaustion-forks',
    ),
  },
]

/** Layers that are taken away one at a time elsewhere, or nowhere. */
export const ELSEWHERE: readonly { layer: string; where: string }[] = [
  { layer: 'user namespace', where: 'nowhere: root of a pod would be root of the machine that runs this' },
  {
    layer: "router rules, uplink filter and the machine's table, with real connections to the outside",
    where: '`tests/isolation/egress.test.ts`',
  },
  {
    layer: 'router rules and link filter, with forged frames',
    where: '`tests/isolation/network.test.ts`',
  },
  {
    layer: 'share of the links and rate limits, with real floods',
    where: '`tests/isolation/bandwidth.test.ts`',
  },
  {
    layer: "the API's list of registries, and the engine's",
    where: '`src/apiserver/pod-policies.test.ts`, `src/engine/local/host/images/images.test.ts`',
  },
  {
    layer: 'encryption of volumes, and the directories that they lie in',
    where: '`tests/isolation/storage.test.ts`, `src/engine/local/host/claims.test.ts`',
  },
  {
    layer: 'file systems of hard size, and the measuring of pods',
    where: '`tests/isolation/disk.test.ts`, `src/engine/local/local-engine.test.ts`',
  },
  { layer: "the prober's own process", where: '`src/engine/local/host/exchange.test.ts`' },
  {
    layer: 'jails that no API has looked at',
    where: '`tools/fuzz/fuzz.test.ts`, `src/engine/local/local-engine.test.ts`',
  },
]

/** The ids that an ablation tries, in the order of the catalogue. */
export function attacksOf({ ids, families }: Pick<Ablation, 'ids' | 'families'>): string[] {
  return CATALOGUE.filter(({ id, family }) => ids?.includes(id) || families?.includes(family)).map(
    ({ id }) => id,
  )
}

/** Everything that is tried without a layer is tried with all of them, too. */
export const ABLATIONS: readonly Ablation[] = [
  {
    off: 'nothing',
    how: 'the platform as it is',
    edits: [],
    classes: 'shared,sandboxed',
    ids: [...new Set(LAYERS_OFF.flatMap(attacksOf))],
  },
  ...LAYERS_OFF,
]

/** What is tried on every change: layers of different vectors off at the same time, each with a few attacks. */
export const SHARE: readonly Ablation[] = [
  {
    off: 'system call filter, router rules and gateway binds to one tenant',
    how: 'one layer of each of three vectors',
    edits: [...NO_FILTER, ...NO_ROUTER_RULES, ...GATEWAY_BINDS_NOBODY],
    classes: 'shared,shared',
    ids: [
      'path-direct',
      'network-reach-pod',
      'network-victim-udp',
      'pod-unshare-user',
      'pod-clone3-hidden-flags',
      'pod-mount-proc-fresh',
      'pod-bpf',
      'pod-io-uring',
      'pod-keyrings',
      'pod-mknod',
      'pod-file-handles',
      'pod-find-canary',
    ],
  },
  {
    off: 'router rules and link filter, gateway binds to one tenant and control plane refuses strangers',
    how: 'both layers of two vectors',
    edits: [
      ...NO_ROUTER_RULES,
      ...NO_LINK_FILTER,
      ...GATEWAY_BINDS_NOBODY,
      ...CONTROL_PLANE_TAKES_ANY_TENANT,
    ],
    classes: 'shared,shared',
    ids: ['path-direct', 'network-victim-pod'],
    comesThrough: ['path-direct', 'network-victim-pod'],
  },
]
